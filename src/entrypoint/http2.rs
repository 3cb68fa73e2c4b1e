//! HTTP/2 with a client: every stream is a task of the worker.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use bytestring::ByteString;
use h2::{
    RecvStream, SendStream,
    ext::Protocol,
    server::{self, SendResponse},
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body::{Frame, SizeHint};

use super::{EntryPoint, LAST_CALL, connection::within, tunnel};
use crate::{
    exchange::{
        Body, Connection, Exchange, Fault, FaultKind, RequestHead, Response, Target, fault,
    },
    http1::request::{is_host, normal_form},
    proxy::{Journey, Sent, Worker},
    upstream::{
        Interim, Tunnel,
        http2::{Broken, poll_stream, send_body},
    },
    wire::{Deadline, Stream},
};

/// Flow-control window of a request body.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Flow-control window of all request bodies of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Response bytes buffered per stream.
const SEND_BUFFER: usize = 128 * 1024;

/// What the streams of a connection share.
struct Shared {
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    open: Cell<usize>,
}

/// Serves the streams of one connection until it ends.
pub(super) async fn serve(
    stream: Stream,
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
) {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(entry.max_streams)
        .max_header_list_size(u32::try_from(entry.limits.max_head).unwrap_or(u32::MAX))
        .header_table_size(entry.header_table)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    let deadline = Deadline::new();
    deadline.set(entry.timeouts.header);
    let mut handshake = pin!(builder.handshake::<_, Bytes>(stream));
    let opened = within(&deadline, (&worker, entry.index), handshake.as_mut()).await;
    let Some(Ok(mut h2)) = opened else { return };
    let shared = Rc::new(Shared {
        entry,
        worker,
        connection,
        open: Cell::new(0),
    });
    accept(&mut h2, &shared, &deadline).await;
}

/// Counts a stream down when it is over, however it ends.
struct OpenStream(Rc<Shared>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

async fn accept(
    h2: &mut server::Connection<Stream, Bytes>,
    shared: &Rc<Shared>,
    deadline: &Deadline,
) {
    let (opened, mut requests, mut ending) = (Instant::now(), 0u64, false);
    let timeouts = shared.entry.timeouts;
    deadline.set(timeouts.idle);
    let (mut idle, mut hurried) = (true, false);
    loop {
        let next = poll_fn(|cx| {
            let busy = shared.open.get() > 0;
            if busy == idle {
                idle = !busy;
                hurried = false;
                deadline.set(if idle { timeouts.idle } else { None });
            }
            let draining = shared.worker.is_draining(shared.entry.index);
            if draining && idle && !std::mem::replace(&mut hurried, true) {
                deadline.set(Some(LAST_CALL));
            }
            if !ending
                && (draining
                    || timeouts
                        .connection
                        .is_some_and(|age| opened.elapsed() >= age))
            {
                ending = true;
                h2.graceful_shutdown();
            }
            match h2.poll_accept(cx) {
                Poll::Ready(next) => Poll::Ready(next),
                Poll::Pending => {
                    if deadline.poll_expired(cx).is_ready() && !busy {
                        // A peer that does not answer our farewell is not waited for.
                        if ending {
                            return Poll::Ready(None);
                        }
                        ending = true;
                        deadline.set(timeouts.header);
                        h2.graceful_shutdown();
                        return h2.poll_accept(cx);
                    }
                    Poll::Pending
                }
            }
        });
        let Some(Ok((request, respond))) = next.await else {
            return;
        };
        requests += 1;
        if shared.entry.max_requests > 0 && requests >= shared.entry.max_requests && !ending {
            ending = true;
            h2.graceful_shutdown();
        }
        shared.open.set(shared.open.get() + 1);
        let shared = Rc::clone(shared);
        tokio::task::spawn_local(async move {
            let _open = OpenStream(Rc::clone(&shared));
            serve_stream(&shared, request, respond).await;
        });
    }
}

async fn serve_stream(
    shared: &Rc<Shared>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let respond = Rc::new(RefCell::new(respond));
    let (parts, stream) = request.into_parts();
    let (method, received) = (parts.method.clone(), Rc::new(Cell::new(0)));
    let answering = Rc::new(Cell::new(false));
    let protocol = parts
        .extensions
        .get::<Protocol>()
        .map(|protocol| ByteString::from(protocol.as_str()));
    let head = match head(parts, protocol.as_ref(), shared) {
        Ok(head) => head,
        Err(status) => return refuse(&respond, status),
    };
    let (body, tunnel_in) = if protocol.is_some() {
        (Body::Empty, Some(stream))
    } else {
        let length = content_length(&head.headers);
        let patience = Patience::new(shared, &head.headers, &answering);
        (body(stream, length, &received, patience), None)
    };
    let exchange = Exchange::new(head, body, Rc::clone(&shared.connection));
    let mut journey = Journey::new(&shared.worker, shared.entry.index, exchange);
    let response = answer(&mut journey, &respond).await;
    answering.set(true);
    let (status, outcome) = match (response, journey.tunnel.take(), tunnel_in) {
        (None, ..) => (fault::CLIENT_CLOSED_REQUEST, Err((0, 0))),
        (Some(response), Some(server), Some(client)) => (
            StatusCode::OK,
            Ok(switch(shared, response, server, (client, &respond)).await),
        ),
        (Some(response), ..) => {
            let status = response.status();
            let sent = send(shared, response, &method, &respond).await;
            (
                status,
                sent.map(|sent| (received.get(), sent))
                    .map_err(|sent| (received.get(), sent)),
            )
        }
    };
    let complete = outcome.is_ok();
    let (Ok((received, bytes)) | Err((received, bytes))) = outcome;
    journey.finish(Sent {
        status,
        received,
        bytes,
        complete,
    });
}

fn refuse(respond: &RefCell<SendResponse<Bytes>>, status: StatusCode) {
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    if respond.borrow_mut().send_response(response, true).is_err() {
        tracing::debug!("stream was reset before its refusal");
    }
}

/// The request head in the form of every protocol (RFC 9113 section 8.3).
fn head(
    parts: http::request::Parts,
    protocol: Option<&ByteString>,
    shared: &Shared,
) -> Result<RequestHead, StatusCode> {
    let mut headers = parts.headers;
    let upgrade = match (&parts.method, protocol) {
        // Any other protocol would be a tunnel past everything that rules and middlewares look at.
        (&Method::CONNECT, Some(protocol)) if !protocol.eq_ignore_ascii_case("websocket") => {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        (&Method::CONNECT, Some(protocol)) => {
            Some(HeaderValue::from_str(protocol).map_err(|_| StatusCode::BAD_REQUEST)?)
        }
        (&Method::CONNECT, None) => return Err(StatusCode::NOT_IMPLEMENTED),
        _ => None,
    };
    let host = host(parts.uri.authority(), &mut headers)?;
    let target = match parts.uri.path_and_query() {
        Some(target) if target.as_str() == "*" && parts.method == Method::OPTIONS => {
            Target::new("*".into())
        }
        Some(target) => normal_form(ByteString::from(target.as_str()), shared.entry.limits.path)
            .map_err(|refusal| refusal.status)?,
        None => Target::new("/".into()),
    };
    join_cookies(&mut headers);
    if upgrade.is_some() && !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        // RFC 8441 leaves the key out; an HTTP/1.1 server insists on one.
        headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key());
    }
    Ok(RequestHead {
        method: if upgrade.is_some() {
            Method::GET
        } else {
            parts.method
        },
        version: Version::HTTP_2,
        host,
        target,
        headers,
        upgrade,
        accepts_trailers: false,
        expects_continue: false,
    })
}

fn host(
    authority: Option<&http::uri::Authority>,
    headers: &mut HeaderMap,
) -> Result<ByteString, StatusCode> {
    let field = headers.remove(header::HOST);
    let host = match (authority, &field) {
        (Some(authority), Some(field))
            if !field
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            return Err(StatusCode::BAD_REQUEST);
        }
        (Some(authority), _) => ByteString::from(authority.as_str()),
        (None, Some(field)) => {
            ByteString::from(field.to_str().map_err(|_| StatusCode::BAD_REQUEST)?)
        }
        (None, None) => ByteString::new(),
    };
    if is_host(&host) {
        Ok(host)
    } else {
        Err(StatusCode::BAD_REQUEST)
    }
}

/// HTTP/2 may split a cookie into crumbs; HTTP/1.1 knows only one field (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in [second].into_iter().chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, value);
    }
}

fn websocket_key() -> HeaderValue {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(key))
        .unwrap_or(HeaderValue::from_static("cG9ydHdheSBoMiB0byBoMQ=="))
}

/// How long the client says its body is; with trailers to come that cannot be said to an HTTP/1 server.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::TRAILER) {
        return None;
    }
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn body(
    stream: RecvStream,
    length: Option<u64>,
    received: &Rc<Cell<u64>>,
    patience: Option<Patience>,
) -> Body {
    if stream.is_end_stream() {
        return Body::Empty;
    }
    Body::stream(Incoming {
        stream,
        length,
        trailers: false,
        received: Rc::clone(received),
        patience,
        failed: false,
    })
}

/// How long a slow upload is waited for.
struct Patience {
    /// For each [`super::PROGRESS`] bytes, or for the whole body.
    every: Duration,
    /// `every` is for the whole body: the user has set `readTimeout`.
    total: bool,
    deadline: Deadline,
    /// What must have come when the deadline is reached; none before the first look.
    wanted: Option<u64>,
    /// The answer has begun: a slow body no longer delays anything.
    answering: Rc<Cell<bool>>,
}

impl Patience {
    /// None for gRPC, whose streams may rest as long as both sides like.
    fn new(shared: &Shared, headers: &HeaderMap, answering: &Rc<Cell<bool>>) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return None;
        }
        let timeouts = &shared.entry.timeouts;
        Some(Self {
            every: timeouts.read.or(timeouts.progress)?,
            total: timeouts.read.is_some(),
            deadline: Deadline::new(),
            wanted: None,
            answering: Rc::clone(answering),
        })
    }

    /// Ready when it has run out, `received` bytes into the body.
    fn poll(&mut self, received: u64, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.wanted {
                Some(_) if self.answering.get() => return Poll::Pending,
                Some(wanted) => {
                    ready!(self.deadline.poll_expired(cx));
                    if self.total || received < wanted {
                        return Poll::Ready(());
                    }
                }
                None => {}
            }
            self.wanted = Some(received + super::PROGRESS);
            self.deadline.set(Some(self.every));
        }
    }
}

/// The answer, or none if the client reset the stream first.
async fn answer(
    journey: &mut Journey,
    respond: &Rc<RefCell<SendResponse<Bytes>>>,
) -> Option<Response> {
    let interim = Hints(respond);
    let mut answering = pin!(journey.respond(Some(&interim)));
    poll_fn(|cx| {
        if let Poll::Ready(response) = answering.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        respond.borrow_mut().poll_reset(cx).map(|_| None)
    })
    .await
}

/// Sends the answer: the body bytes that went out, as an error if not all did.
async fn send(
    shared: &Shared,
    mut response: Response,
    method: &Method,
    respond: &RefCell<SendResponse<Bytes>>,
) -> Result<u64, u64> {
    let body = std::mem::take(response.body_mut());
    let status = response.status();
    let bodiless = method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    match body.length() {
        Some(0) | None if bodiless => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    headers.remove(header::TRANSFER_ENCODING);
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, super::connection::date());
    }
    let ends = bodiless || body.is_empty();
    let (parts, _) = response.into_parts();
    let mut head = http::Response::new(());
    (*head.status_mut(), *head.headers_mut()) = (parts.status, parts.headers);
    let mut stream = respond
        .borrow_mut()
        .send_response(head, ends)
        .map_err(|_| 0u64)?;
    if ends {
        return Ok(0);
    }
    let timeouts = &shared.entry.timeouts;
    match send_body(body, &mut stream, timeouts.write.or(timeouts.progress)).await {
        Ok(sent) => Ok(sent),
        Err(broken) => {
            if broken == Broken::PeerStalled {
                let peer = &shared.connection.peer;
                let worker = &shared.worker;
                worker.timed_out(shared.entry.index, "answer", "bodyProgressTimeout", peer);
            }
            // The client must not take what it has for the whole.
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
            Err(0)
        }
    }
}

/// RFC 8441: the tunnel is the stream; its success is a 200.
async fn switch(
    shared: &Shared,
    response: Response,
    server: Tunnel,
    (client, respond): (RecvStream, &RefCell<SendResponse<Bytes>>),
) -> (u64, u64) {
    let mut head = http::Response::new(());
    *head.headers_mut() = response.headers().clone();
    head.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    let Ok(stream) = respond.borrow_mut().send_response(head, false) else {
        return (0, 0);
    };
    let side = Streams {
        input: RefCell::new(client),
        output: RefCell::new(stream),
    };
    let patience = shared.entry.timeouts.half_closed;
    tunnel::join(&side, server, Bytes::new(), patience).await
}

/// Takes interim answers to the client.
struct Hints<'a>(&'a Rc<RefCell<SendResponse<Bytes>>>);

impl Interim for Hints<'_> {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut head = http::Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers.clone();
        if self.0.borrow_mut().send_informational(head).is_err() {
            tracing::debug!("stream was reset before an interim answer");
        }
    }
}

/// The body of a request.
struct Incoming {
    stream: RecvStream,
    /// What the client said is still to come. h2 resets the stream if that is not true.
    length: Option<u64>,
    trailers: bool,
    received: Rc<Cell<u64>>,
    patience: Option<Patience>,
    /// It came too slowly and was given up.
    failed: bool,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(Some(Err(Fault::client(FaultKind::BodyTimeout))));
        }
        let gone = Fault::client(FaultKind::ClientGone);
        let polled = poll_stream(&mut this.stream, &mut this.trailers, gone, cx);
        let Poll::Ready(mut frame) = polled else {
            let Some(patience) = &mut this.patience else {
                return Poll::Pending;
            };
            ready!(patience.poll(this.received.get(), cx));
            this.failed = true;
            return Poll::Ready(Some(Err(Fault::client(FaultKind::BodyTimeout))));
        };
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                let count = data.len() as u64;
                this.received.set(this.received.get() + count);
                this.length = this.length.map(|left| left.saturating_sub(count));
            } else if let Some(trailers) = frame.trailers_mut() {
                drop_forbidden(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn drop_forbidden(trailers: &mut HeaderMap) {
    let forbidden: Vec<_> = trailers
        .keys()
        .filter(|name| crate::http1::chunked::forbidden_in_trailers(name))
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// The client's side of a tunnel.
struct Streams {
    input: RefCell<RecvStream>,
    output: RefCell<SendStream<Bytes>>,
}

impl tunnel::Side for Streams {
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut input = self.input.borrow_mut();
        match ready!(input.poll_data(cx)) {
            None => Poll::Ready(Ok(Bytes::new())),
            Some(Ok(data)) => {
                // A stream that is closed already needs no window.
                drop(input.flow_control().release_capacity(data.len()));
                Poll::Ready(Ok(data))
            }
            Some(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        }
    }

    fn poll_write(&self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.output.borrow_mut();
        while !data.is_empty() {
            output.reserve_capacity(data.len());
            let room = match output.capacity() {
                0 => match ready!(output.poll_capacity(cx)) {
                    Some(room) => room.map_err(io::Error::other)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => room,
            };
            let piece = data.split_to(room.min(data.len()));
            output.send_data(piece, false).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.output
                .borrow_mut()
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other),
        )
    }
}
