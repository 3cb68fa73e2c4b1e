//! HTTP/2 to a server: many exchanges share a connection.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderValue, Request, Uri, Version, header};
use http_body::{Body as _, Frame, SizeHint};

use super::{Answer, Failure, Outgoing};
use crate::{
    exchange::{Body, Fault, FaultKind, Response},
    observe::OpenConnection,
    service::Transport,
    wire::{Deadline, Stream},
};

/// Flow-control window of a stream: enough for a fast server, bounded for a slow client.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Flow-control window of a connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Streams on one connection before another is opened, if the server does not say.
const MAX_STREAMS: usize = 250;

/// A shared connection to a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    closed: Cell<bool>,
    streams: Cell<usize>,
    last_used: Cell<Instant>,
}

impl Connection {
    /// Opens HTTP/2 on `stream`; a task of this worker drives it.
    pub async fn open(
        stream: Stream,
        transport: &Transport,
        open: OpenConnection,
    ) -> Result<Self, Fault> {
        let handshake = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .max_header_list_size(1024 * 1024)
            .handshake::<_, Bytes>(stream);
        let (requests, mut connection) = handshake
            .await
            .map_err(|_| Fault::server(FaultKind::Reset))?;
        let state = Rc::new(State {
            closed: Cell::new(false),
            streams: Cell::new(0),
            last_used: Cell::new(Instant::now()),
        });
        let pings = transport.read_idle_timeout.zip(connection.ping_pong());
        let ping_timeout = transport.ping_timeout;
        let driven = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            match pings {
                Some((idle, pings)) => tokio::select! {
                    outcome = connection => log_end(outcome),
                    () = watch_over(pings, idle, ping_timeout) => tracing::debug!("server does not answer HTTP/2 pings"),
                },
                None => log_end(connection.await),
            }
            driven.closed.set(true);
            drop(open);
        });
        Ok(Self { requests, state })
    }

    /// Whether the connection ended.
    pub fn is_closed(&self) -> bool {
        self.state.closed.get()
    }

    /// Whether another stream may be opened.
    pub fn has_room(&self) -> bool {
        self.state.streams.get() < self.requests.current_max_send_streams().min(MAX_STREAMS)
    }

    /// Whether nothing has used the connection for `timeout`.
    pub fn idle_longer_than(&self, timeout: Option<Duration>) -> bool {
        self.state.streams.get() == 0
            && timeout.is_some_and(|timeout| self.state.last_used.get().elapsed() >= timeout)
    }

    /// Sends a request and awaits the head of the answer.
    pub async fn send(self, outgoing: Outgoing<'_>, body: Body) -> Result<Answer, Failure> {
        let guard = StreamGuard::new(Rc::clone(&self.state));
        let Some(request) = request(&outgoing, &body) else {
            return Err(Failure::before_sending(
                Fault::ours(FaultKind::Internal),
                body,
            ));
        };
        let stale = Fault::server(FaultKind::StaleConnection);
        let Ok(mut ready) = self.requests.ready().await else {
            self.state.closed.set(true);
            return Err(Failure::before_sending(stale, body));
        };
        let ends = body.is_empty();
        let Ok((mut answer, stream)) = ready.send_request(request, ends) else {
            return Err(Failure::before_sending(stale, body));
        };
        let request = Rc::new(Sending {
            body: RefCell::new(Some(body)),
            blame: Cell::new(None),
            deadline: Deadline::new(),
            response_timeout: outgoing.response_timeout,
        });
        let upload = if ends {
            request.sent();
            None
        } else {
            let upload = upload(Rc::clone(&request), stream, outgoing.patience);
            Some(UploadTask(tokio::task::spawn_local(upload)))
        };
        let head = await_head(&mut answer, &outgoing, &request.deadline).await;
        match head {
            Ok(Ok(head)) => Ok(Answer::Response(response(head, guard, upload))),
            Ok(Err(error)) => {
                let left_out = error.is_go_away()
                    && error.is_remote()
                    && error.reason() == Some(h2::Reason::NO_ERROR);
                let refused = left_out || error.reason() == Some(h2::Reason::REFUSED_STREAM);
                let fault = if refused {
                    Fault::server(FaultKind::StaleConnection)
                } else {
                    // If the client's body broke off, it was we who reset the stream.
                    let reset = Fault::server(FaultKind::Reset);
                    request.blame.get().unwrap_or(reset)
                };
                drop(upload);
                Err(Failure {
                    fault,
                    body: request.body.take(),
                    answered: false,
                    unprocessed: refused,
                })
            }
            Err(fault) => Err(Failure {
                fault,
                body: None,
                answered: false,
                unprocessed: false,
            }),
        }
    }
}

async fn watch_over(mut pings: h2::PingPong, idle: Duration, timeout: Duration) {
    loop {
        tokio::time::sleep(idle).await;
        match tokio::time::timeout(timeout, pings.ping(h2::Ping::opaque())).await {
            Ok(Ok(_)) => {}
            _ => return,
        }
    }
}

fn log_end(outcome: Result<(), h2::Error>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "HTTP/2 connection to a server ended");
    }
}

fn request(outgoing: &Outgoing<'_>, body: &Body) -> Option<Request<()>> {
    let head = outgoing.head;
    let host = std::str::from_utf8(outgoing.host).ok()?;
    let uri = Uri::builder()
        .scheme("http")
        .authority(host)
        .path_and_query(outgoing.target)
        .build()
        .ok()?;
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    let headers = request.headers_mut();
    match body.length() {
        Some(length) if length > 0 => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length))
        }
        Some(_) => None,
        None => headers.remove(header::CONTENT_LENGTH),
    };
    if head.accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Some(request)
}

fn response(
    head: http::Response<RecvStream>,
    guard: StreamGuard,
    upload: Option<UploadTask>,
) -> Response {
    let (parts, stream) = head.into_parts();
    let body = if stream.is_end_stream() && upload.is_none() {
        Body::Empty
    } else {
        let length = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Body::stream(Incoming {
            stream,
            trailers: false,
            length,
            _guard: guard,
            _upload: upload,
        })
    };
    Response::from_parts(parts, body)
}

/// Counts a stream of a connection.
#[derive(Debug)]
struct StreamGuard(Rc<State>);

impl StreamGuard {
    fn new(state: Rc<State>) -> Self {
        state.streams.set(state.streams.get() + 1);
        Self(state)
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.last_used.set(Instant::now());
    }
}

/// What the exchange and the task that sends its request body share.
struct Sending {
    /// Until the first of it was read.
    body: RefCell<Option<Body>>,
    /// Why the body broke off.
    blame: Cell<Option<Fault>>,
    /// The server has its time once it has the whole request.
    deadline: Deadline,
    response_timeout: Option<Duration>,
}

impl Sending {
    fn sent(&self) {
        self.deadline.set(self.response_timeout);
    }
}

/// The head of the answer; interim answers before it go to whoever takes them.
async fn await_head(
    answer: &mut h2::client::ResponseFuture,
    outgoing: &Outgoing<'_>,
    deadline: &Deadline,
) -> Result<Result<http::Response<RecvStream>, h2::Error>, Fault> {
    poll_fn(|cx| {
        // An error is told by the answer too, and is repeated here for as long as it is asked for.
        while let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
            if let Some(taker) = outgoing.interim
                && interim.status() != http::StatusCode::CONTINUE
            {
                taker.send(interim.status(), interim.headers());
            }
        }
        match Pin::new(&mut *answer).poll(cx) {
            Poll::Ready(head) => Poll::Ready(Ok(head)),
            Poll::Pending => deadline
                .poll_expired(cx)
                .map(|()| Err(Fault::server(FaultKind::ResponseTimeout))),
        }
    })
    .await
}

/// The task that sends a request body; ends with the exchange.
#[derive(Debug)]
struct UploadTask(tokio::task::JoinHandle<()>);

impl Drop for UploadTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn upload(request: Rc<Sending>, mut stream: SendStream<Bytes>, patience: Option<Duration>) {
    // The body stays where it is until there is something to send: a server that refuses the stream before that leaves it whole.
    let first = poll_fn(|cx| match &mut *request.body.borrow_mut() {
        Some(body) => poll_body(Pin::new(body), &mut stream, cx),
        None => Poll::Ready(Ok(None)),
    });
    let outcome = match first.await {
        Ok(first) => {
            let body = request.body.take().unwrap_or_default();
            let patience = Patience::OfAnother(&request.deadline, patience);
            send_frames(first, body, &mut stream, patience).await
        }
        Err(Broken::PeerGone | Broken::PeerStalled) => return,
        Err(broken) => Err(broken),
    };
    match outcome {
        Ok(_) => request.sent(),
        Err(broken) => {
            request.blame.set(match broken {
                Broken::Body(fault) => Some(fault),
                // What the server says itself tells more.
                Broken::PeerGone | Broken::PeerStalled => None,
            });
            stream.send_reset(h2::Reason::CANCEL);
        }
    }
}

/// Why a body was not sent whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The body ended in a fault.
    Body(Fault),
    /// The peer reset the stream, or the connection is gone.
    PeerGone,
    /// The peer took nothing for too long.
    PeerStalled,
}

/// How long a peer may take nothing.
#[derive(Debug, Clone, Copy)]
enum Patience<'a> {
    Own(Option<Duration>),
    /// Somebody else watches the deadline, which is only set here.
    OfAnother(&'a Deadline, Option<Duration>),
}

/// Sends `body` on an HTTP/2 stream as fast as flow control lets it.
///
/// A peer that takes nothing for as long as `patience` is given up.
pub async fn send_body(
    mut body: Body,
    stream: &mut SendStream<Bytes>,
    patience: Option<Duration>,
) -> Result<u64, Broken> {
    let first = poll_fn(|cx| poll_body(Pin::new(&mut body), stream, cx)).await?;
    send_frames(first, body, stream, Patience::Own(patience)).await
}

/// Sends `next` and what follows it in `body`.
async fn send_frames(
    mut next: Option<Frame<Bytes>>,
    mut body: Body,
    stream: &mut SendStream<Bytes>,
    patience: Patience<'_>,
) -> Result<u64, Broken> {
    let mut sent = 0;
    while let Some(frame) = next {
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                sent += send_data(stream, data, last, patience).await?;
                if last {
                    return Ok(sent);
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                stream
                    .send_trailers(trailers)
                    .map_err(|_| Broken::PeerGone)?;
                return Ok(sent);
            }
        }
        next = poll_fn(|cx| poll_body(Pin::new(&mut body), stream, cx)).await?;
    }
    stream
        .send_data(Bytes::new(), true)
        .map_err(|_| Broken::PeerGone)?;
    Ok(sent)
}

/// The next frame, unless the peer resets the stream while we wait for it.
fn poll_body(
    body: Pin<&mut Body>,
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
    if let Poll::Ready(frame) = body.poll_frame(cx) {
        return Poll::Ready(frame.transpose().map_err(Broken::Body));
    }
    ready!(stream.poll_reset(cx)).ok();
    Poll::Ready(Err(Broken::PeerGone))
}

/// Waits until the peer takes more.
async fn await_capacity(
    stream: &mut SendStream<Bytes>,
    patience: Patience<'_>,
) -> Result<usize, Broken> {
    let own = Deadline::new();
    match patience {
        Patience::Own(time) => own.set(time),
        Patience::OfAnother(deadline, time) => deadline.set(time),
    }
    let room = poll_fn(|cx| match stream.poll_capacity(cx) {
        Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
        Poll::Ready(_) => Poll::Ready(Err(Broken::PeerGone)),
        Poll::Pending => own.poll_expired(cx).map(|()| Err(Broken::PeerStalled)),
    })
    .await;
    if let Patience::OfAnother(deadline, _) = patience {
        deadline.clear();
    }
    room
}

async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
    patience: Patience<'_>,
) -> Result<u64, Broken> {
    let total = data.len() as u64;
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => await_capacity(stream, patience).await?,
            room => room,
        };
        let piece = data.split_to(room.min(data.len()));
        let end = last && data.is_empty();
        stream.send_data(piece, end).map_err(|_| Broken::PeerGone)?;
    }
    if last && total == 0 {
        stream
            .send_data(Bytes::new(), true)
            .map_err(|_| Broken::PeerGone)?;
    }
    Ok(total)
}

/// The body of an answer.
struct Incoming {
    stream: RecvStream,
    trailers: bool,
    length: Option<u64>,
    _guard: StreamGuard,
    _upload: Option<UploadTask>,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let reset = Fault::server(FaultKind::Reset);
        let this = &mut *self;
        poll_stream(&mut this.stream, &mut this.trailers, reset, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Reads the next frame of an HTTP/2 stream and gives its flow-control window back.
pub fn poll_stream(
    stream: &mut RecvStream,
    at_trailers: &mut bool,
    fault: Fault,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
    if !*at_trailers {
        match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // A stream that is closed already needs no window.
                drop(stream.flow_control().release_capacity(data.len()));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Some(Err(_)) => return Poll::Ready(Some(Err(fault))),
            None => *at_trailers = true,
        }
    }
    match ready!(stream.poll_trailers(cx)) {
        Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
        Ok(None) => Poll::Ready(None),
        Err(_) => Poll::Ready(Some(Err(fault))),
    }
}
