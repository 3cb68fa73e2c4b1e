//! HTTP/2 to a server: many exchanges share a connection.

use std::{
    cell::Cell,
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
        let blame = Rc::new(Cell::new(None));
        let upload = (!ends).then(|| {
            let upload = upload(body, stream, Rc::clone(&blame));
            UploadTask(tokio::task::spawn_local(upload))
        });
        let head = await_head(&mut answer, &outgoing).await;
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
                    blame.get().unwrap_or(Fault::server(FaultKind::Reset))
                };
                Err(Failure {
                    fault,
                    body: ends.then_some(Body::Empty),
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

/// The head of the answer; interim answers before it go to whoever takes them.
async fn await_head(
    answer: &mut h2::client::ResponseFuture,
    outgoing: &Outgoing<'_>,
) -> Result<Result<http::Response<RecvStream>, h2::Error>, Fault> {
    let head = poll_fn(|cx| {
        while let Poll::Ready(Some(interim)) = answer.poll_informational(cx) {
            if let (Ok(interim), Some(taker)) = (interim, outgoing.interim)
                && interim.status() != http::StatusCode::CONTINUE
            {
                taker.send(interim.status(), interim.headers());
            }
        }
        Pin::new(&mut *answer).poll(cx)
    });
    match outgoing.response_timeout {
        Some(timeout) => tokio::time::timeout(timeout, head)
            .await
            .map_err(|_| Fault::server(FaultKind::ResponseTimeout)),
        None => Ok(head.await),
    }
}

/// The task that sends a request body; ends with the exchange.
#[derive(Debug)]
struct UploadTask(tokio::task::JoinHandle<()>);

impl Drop for UploadTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn upload(body: Body, mut stream: SendStream<Bytes>, blame: Rc<Cell<Option<Fault>>>) {
    if let Err(fault) = send_body(body, &mut stream, None).await {
        // A peer that is gone is here the server, and its reset says more.
        blame.set(Some(fault).filter(|fault| fault.kind != FaultKind::ClientGone));
        stream.send_reset(h2::Reason::CANCEL);
    }
}

/// Sends `body` on an HTTP/2 stream as fast as flow control lets it; the same for requests and responses.
///
/// A peer that takes nothing for as long as `patience` is given up.
pub async fn send_body(
    body: Body,
    stream: &mut SendStream<Bytes>,
    patience: Option<Duration>,
) -> Result<u64, Fault> {
    let mut body = std::pin::pin!(body);
    let mut sent = 0;
    while let Some(frame) = poll_fn(|cx| poll_body(body.as_mut(), stream, cx))
        .await
        .transpose()?
    {
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
                    .map_err(|_| Fault::client(FaultKind::ClientGone))?;
                return Ok(sent);
            }
        }
    }
    stream
        .send_data(Bytes::new(), true)
        .map_err(|_| Fault::client(FaultKind::ClientGone))?;
    Ok(sent)
}

/// The next frame, unless the peer resets the stream while we wait for it.
fn poll_body(
    body: Pin<&mut Body>,
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
    if let Poll::Ready(frame) = body.poll_frame(cx) {
        return Poll::Ready(frame);
    }
    ready!(stream.poll_reset(cx)).ok();
    Poll::Ready(Some(Err(Fault::client(FaultKind::ClientGone))))
}

/// Waits until the peer takes more.
async fn await_capacity(
    stream: &mut SendStream<Bytes>,
    patience: Option<Duration>,
) -> Result<usize, Fault> {
    let gone = Fault::client(FaultKind::ClientGone);
    let deadline = Deadline::new();
    deadline.set(patience);
    poll_fn(|cx| match stream.poll_capacity(cx) {
        Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
        Poll::Ready(_) => Poll::Ready(Err(gone)),
        Poll::Pending => deadline
            .poll_expired(cx)
            .map(|()| Err(Fault::client(FaultKind::BodyTimeout))),
    })
    .await
}

async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
    patience: Option<Duration>,
) -> Result<u64, Fault> {
    let gone = Fault::client(FaultKind::ClientGone);
    let total = data.len() as u64;
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => await_capacity(stream, patience).await?,
            room => room,
        };
        let piece = data.split_to(room.min(data.len()));
        let end = last && data.is_empty();
        stream.send_data(piece, end).map_err(|_| gone)?;
    }
    if last && total == 0 {
        stream.send_data(Bytes::new(), true).map_err(|_| gone)?;
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
