//! HTTP/1 with a client: one request after the other on one connection.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use tokio::io::AsyncWrite;

use super::{EntryPoint, LAST_CALL, PROGRESS, tunnel};
use crate::{
    exchange::{Body, Connection, Exchange, Fault, FaultKind, Response, fault, forwarded},
    http1::{
        Framing,
        chunked::{Decoder, Piece},
        give_map,
        request::{self, Parsed, Refusal},
        write::{self, BodyFrame},
    },
    proxy::{Journey, Sent, Worker},
    upstream::Interim,
    wire::{self, Deadline, Input, Output, Stream},
};

/// How long and how much is read after the last answer, so that the client gets to read it.
const LINGER: std::time::Duration = std::time::Duration::from_millis(500);
const LINGER_BYTES: usize = 256 * 1024;

/// How often we look whether a client has left whose body nobody reads at the moment.
const DEPARTURE: std::time::Duration = std::time::Duration::from_secs(1);

/// One client connection.
pub(super) struct Server {
    wire: Rc<RefCell<Wire>>,
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    opened: Instant,
}

/// The socket and its buffers; shared with the body of the request under way.
#[derive(Debug)]
struct Wire {
    stream: Stream,
    input: Input,
    output: Output,
    upload: Upload,
    deadline: Deadline,
    /// Body bytes of the request under way.
    received: u64,
    /// What `received` was when the progress timeout was set.
    mark: u64,
    /// The answer has begun: the deadline is its own now, and a slow body no longer delays anything.
    answering: bool,
    /// The answer was cut short, and the client must notice.
    abort: bool,
}

/// The body of the request under way.
#[derive(Debug)]
enum Upload {
    Length(u64),
    Chunked(Decoder),
    Done,
    Failed,
}

/// What came instead of an answer.
enum Next {
    Request(Box<Parsed>),
    Refused(Refusal),
    Timeout,
    Closed,
}

impl Server {
    pub(super) fn new(
        stream: Stream,
        early: BytesMut,
        entry: Rc<EntryPoint>,
        worker: Rc<Worker>,
        connection: Rc<Connection>,
    ) -> Self {
        let wire = Wire {
            stream,
            input: Input::new(early),
            output: Output::default(),
            upload: Upload::Done,
            deadline: Deadline::new(),
            received: 0,
            mark: 0,
            answering: false,
            abort: false,
        };
        Self {
            wire: Rc::new(RefCell::new(wire)),
            entry,
            worker,
            connection,
            opened: Instant::now(),
        }
    }

    /// Serves requests until the connection ends.
    pub(super) async fn serve(mut self) {
        let mut requests = 0;
        loop {
            match self.next(requests == 0).await {
                Next::Request(parsed) => {
                    requests += 1;
                    let last = self.entry.max_requests > 0 && requests >= self.entry.max_requests;
                    // Boxed, so that a connection without a request does not hold the room for one.
                    if !Box::pin(self.exchange(*parsed, last)).await {
                        break;
                    }
                }
                Next::Refused(refusal) => {
                    self.refuse(refusal).await;
                    break;
                }
                Next::Timeout => {
                    let option = self.entry.timeouts.header_option();
                    self.worker.timed_out(
                        self.entry.index,
                        "header",
                        option,
                        &self.connection.peer,
                    );
                    break;
                }
                Next::Closed => break,
            }
        }
        self.linger().await;
    }

    /// Waits for the next request head.
    async fn next(&mut self, first: bool) -> Next {
        let timeouts = self.entry.timeouts;
        let mut started = !self.wire.borrow().input.bytes.is_empty();
        let mut hurried = false;
        let idle = if first {
            timeouts.header
        } else {
            timeouts.idle
        };
        self.wire
            .borrow_mut()
            .deadline
            .set(if started { timeouts.header } else { idle });
        let mut scanned = 0;
        poll_fn(|cx| {
            let wire = &mut *self.wire.borrow_mut();
            loop {
                if !wire.input.bytes.is_empty() {
                    match request::parse(&mut wire.input.bytes, &self.entry.limits, &mut scanned) {
                        Ok(Some(parsed)) => return Poll::Ready(Next::Request(Box::new(parsed))),
                        Ok(None) => {}
                        Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
                    }
                    if !std::mem::replace(&mut started, true) {
                        wire.deadline.set(timeouts.header);
                    }
                }
                match wire.input.poll_fill(&mut wire.stream, cx) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Next::Closed),
                    Poll::Pending => {
                        // A request that had arrived before the drain has been read by now, and is served.
                        if !started && self.worker.is_draining(self.entry.index) {
                            if !first {
                                return Poll::Ready(Next::Closed);
                            }
                            // That of a new connection is most likely on its way, and no client expects to have to repeat it.
                            if !std::mem::replace(&mut hurried, true) {
                                wire.deadline.set(Some(LAST_CALL));
                            }
                        }
                        ready!(wire.deadline.poll_expired(cx));
                        return Poll::Ready(if started || (first && !hurried) {
                            Next::Timeout
                        } else {
                            Next::Closed
                        });
                    }
                }
            }
        })
        .await
    }

    /// Carries out one exchange; whether the connection may be used for another.
    async fn exchange(&mut self, parsed: Parsed, last: bool) -> bool {
        let Parsed {
            head,
            framing,
            keep_alive,
        } = parsed;
        let (version, method) = (head.version, head.method.clone());
        let body = self.begin_body(&head, framing);
        let exchange = Exchange::new(head, body, Rc::clone(&self.connection));
        let mut journey = Journey::new(&self.worker, self.entry.index, exchange);
        let answered = self.respond(&mut journey, version).await;
        let Some(response) = answered else {
            journey.finish(self.sent(fault::CLIENT_CLOSED_REQUEST, 0, false));
            return false;
        };
        if let Some(server) = journey.tunnel.take() {
            self.switch(journey, response, server).await;
            return false;
        }
        // A middleware that answered has left the body where it was.
        drop(journey.exchange.body.take());
        self.discard_rest();
        let reusable = keep_alive
            && !last
            && version == Version::HTTP_11
            && !self.worker.is_draining(self.entry.index)
            && matches!(self.wire.borrow().upload, Upload::Done)
            && self
                .entry
                .timeouts
                .connection
                .is_none_or(|age| self.opened.elapsed() < age);
        let status = response.status();
        let (bytes, complete, reusable) = self.send(response, &method, version, reusable).await;
        give_map(std::mem::take(&mut journey.exchange.request.headers));
        journey.finish(self.sent(status, bytes, complete));
        // Whoever still holds this request's body must not read the next one's.
        complete && reusable && Rc::strong_count(&self.wire) == 1
    }

    fn sent(&self, status: StatusCode, bytes: u64, complete: bool) -> Sent {
        Sent {
            status,
            received: self.wire.borrow().received,
            bytes,
            complete,
        }
    }

    fn begin_body(&self, head: &crate::exchange::RequestHead, framing: Framing) -> Body {
        let wire = &mut *self.wire.borrow_mut();
        wire.received = 0;
        wire.mark = 0;
        wire.answering = false;
        wire.upload = match framing {
            Framing::Length(length) => Upload::Length(length),
            Framing::Chunked => Upload::Chunked(Decoder::default()),
            Framing::None | Framing::UntilClose => Upload::Done,
        };
        wire.deadline.set(self.entry.timeouts.read);
        if matches!(wire.upload, Upload::Done) {
            return Body::Empty;
        }
        if let Upload::Length(length) = wire.upload
            && length <= wire.input.bytes.len() as u64
        {
            // A body that came with its head can be sent again to another server.
            let bytes = wire
                .input
                .bytes
                .split_to(usize::try_from(length).unwrap_or(0))
                .freeze();
            wire.received = length;
            wire.upload = Upload::Done;
            return Body::Full(bytes);
        }
        Body::stream(Incoming {
            wire: Rc::clone(&self.wire),
            entry: Rc::clone(&self.entry),
            expects_continue: Cell::new(head.expects_continue),
            ended: false,
        })
    }

    /// The answer, or none if the client went away first.
    async fn respond(&self, journey: &mut Journey, version: Version) -> Option<Response> {
        let interim = Hints {
            wire: &self.wire,
            takes: version == Version::HTTP_11,
        };
        let mut respond = pin!(journey.respond(Some(&interim)));
        let mut departure = Departure::default();
        poll_fn(|cx| {
            if let Poll::Ready(response) = respond.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            let wire = &mut *self.wire.borrow_mut();
            ready!(wire.poll_gone(&mut departure, cx));
            Poll::Ready(None)
        })
        .await
    }

    /// What is left of a request body that is here already needs no new connection.
    fn discard_rest(&self) {
        if Rc::strong_count(&self.wire) > 1 {
            // The answer came early, and the server goes on reading the body.
            return;
        }
        let wire = &mut *self.wire.borrow_mut();
        match &mut wire.upload {
            Upload::Length(left) if *left <= wire.input.bytes.len() as u64 => {
                let left = usize::try_from(*left).unwrap_or(0);
                drop(wire.input.bytes.split_to(left));
                wire.upload = Upload::Done;
            }
            Upload::Chunked(decoder) => {
                while let Ok(Piece::Data(_)) = decoder.next(&mut wire.input.bytes) {}
                if decoder.is_done() {
                    wire.upload = Upload::Done;
                }
            }
            _ => {}
        }
    }

    /// Sends the answer: the body bytes that went out, whether all did, and whether the connection can be used again.
    async fn send(
        &self,
        mut response: Response,
        method: &Method,
        version: Version,
        reusable: bool,
    ) -> (u64, bool, bool) {
        let body = std::mem::take(response.body_mut());
        let (frame, bodiless, reusable) = frame_of(&response, &body, method, version, reusable);
        {
            let wire = &mut *self.wire.borrow_mut();
            wire.answering = true;
            wire.deadline.set(self.entry.timeouts.write);
            let out = wire.output.buffer();
            write_head(out, &response, version, frame, reusable);
        }
        give_map(std::mem::take(response.headers_mut()));
        let mut sending = Sending {
            body: if bodiless { Body::Empty } else { body },
            chunked: frame == BodyFrame::Chunked,
            left: match frame {
                BodyFrame::Length(length) if !bodiless => Some(length),
                _ => None,
            },
            bytes: 0,
            ended: false,
            stalled: None,
            departure: Departure::default(),
        };
        wire::after_the_others().await;
        let outcome = poll_fn(|cx| sending.poll(&self.wire, &self.entry, cx)).await;
        match outcome {
            Ok(()) => (sending.bytes, true, reusable),
            Err(fault) => {
                tracing::debug!(entryPointName = %self.entry.name, %fault, "answer was cut short");
                if fault == Fault::client(FaultKind::BodyTimeout) {
                    let option = match self.entry.timeouts.write {
                        Some(_) => "writeTimeout",
                        None => "bodyProgressTimeout",
                    };
                    self.worker.timed_out(
                        self.entry.index,
                        "answer",
                        option,
                        &self.connection.peer,
                    );
                }
                // The client must see that the answer is not whole: no last chunk, no orderly TLS end.
                let wire = &mut *self.wire.borrow_mut();
                wire.output = Output::default();
                wire.abort = true;
                (sending.bytes, false, false)
            }
        }
    }

    async fn switch(&self, journey: Journey, response: Response, server: crate::upstream::Tunnel) {
        let early = {
            let wire = &mut *self.wire.borrow_mut();
            let out = wire.output.buffer();
            write::status_line(out, Version::HTTP_11, response.status());
            write::fields(out, response.headers(), BodyFrame::Unsaid);
            if let Some(protocol) = journey.switched_to() {
                out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
                out.extend_from_slice(protocol.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
            wire.deadline.clear();
            wire.input.bytes.split().freeze()
        };
        let flushed = poll_fn(|cx| {
            let wire = &mut *self.wire.borrow_mut();
            wire.output.poll_flush(&mut wire.stream, cx)
        })
        .await;
        let mut sent = Sent {
            status: response.status(),
            received: 0,
            bytes: 0,
            complete: flushed.is_ok(),
        };
        if flushed.is_ok() {
            let client = SharedStream(Rc::clone(&self.wire));
            let patience = self.entry.timeouts.half_closed;
            (sent.received, sent.bytes) = tunnel::join(&client, server, early, patience).await;
        }
        journey.finish(sent);
    }

    /// Answers a request that could not be read. The connection ends after it.
    async fn refuse(&self, refusal: Refusal) {
        tracing::debug!(entryPointName = %self.entry.name, peer = %self.connection.peer, reason = refusal.reason, "request refused");
        let response = match refusal.status {
            StatusCode::NOT_IMPLEMENTED => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = refusal.status;
                response
            }
            status => refusal_text(status),
        };
        self.wire.borrow_mut().upload = Upload::Failed;
        self.send(response, &Method::GET, Version::HTTP_11, false)
            .await;
    }

    /// Ends the connection so that the last answer is not lost: closing a socket with unread input resets it.
    async fn linger(self) {
        let unread = {
            let wire = &mut *self.wire.borrow_mut();
            if wire.abort {
                // A reset tells even a client that reads until the end of the connection. If it fails, the socket is gone anyway.
                drop(wire.stream.tcp().set_zero_linger());
                return;
            }
            wire.deadline.set(Some(LINGER));
            !matches!(wire.upload, Upload::Done) || !wire.input.bytes.is_empty()
        };
        let mut read = 0;
        poll_fn(|cx| self.wire.borrow_mut().poll_linger(unread, &mut read, cx)).await;
    }
}

impl Wire {
    fn poll_linger(&mut self, unread: bool, read: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline.poll_expired(cx).is_ready() {
            return Poll::Ready(());
        }
        if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() || !unread {
            return Poll::Ready(());
        }
        loop {
            self.input.bytes.clear();
            match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(count) if count > 0 && *read < LINGER_BYTES => *read += count,
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Ready when the client has gone while its answer is awaited. Sends out what waits (interim answers) on the way.
    fn poll_gone(&mut self, departure: &mut Departure, cx: &mut Context<'_>) -> Poll<()> {
        if !self.output.is_empty()
            && let Poll::Ready(Err(_)) = self.output.poll_flush(&mut self.stream, cx)
        {
            return Poll::Ready(());
        }
        // A client that broke off its upload does not wait for the end of the answer.
        if self.answering && matches!(self.upload, Upload::Failed) {
            return Poll::Ready(());
        }
        if !matches!(self.upload, Upload::Done) {
            return departure.poll(self, cx);
        }
        // No more than one buffer of pipelined requests is taken in.
        if self.input.bytes.len() >= 4096 {
            return Poll::Pending;
        }
        loop {
            // Asked first, because reading would need a buffer of its own while the head's is in use.
            ready!(self.stream.poll_readable(cx));
            match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(count) if count > 0 => {
                    if self.input.bytes.len() >= 4096 {
                        return Poll::Pending;
                    }
                }
                // Pipelined requests are answered even if the client sends no more.
                Ok(_) if !self.input.bytes.is_empty() => return Poll::Pending,
                _ => return Poll::Ready(()),
            }
        }
    }

    fn poll_upload(
        &mut self,
        entry: &EntryPoint,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            match &mut self.upload {
                Upload::Done => return Poll::Ready(None),
                Upload::Failed => return Poll::Ready(Some(Err(Fault::client(FaultKind::BadBody)))),
                Upload::Length(left) => {
                    if !self.input.bytes.is_empty() {
                        let count = self
                            .input
                            .bytes
                            .len()
                            .min(usize::try_from(*left).unwrap_or(usize::MAX));
                        *left -= count as u64;
                        self.received += count as u64;
                        if *left == 0 {
                            self.upload = Upload::Done;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(
                            self.input.bytes.split_to(count).freeze(),
                        ))));
                    }
                }
                Upload::Chunked(decoder) => match decoder.next(&mut self.input.bytes) {
                    Ok(Piece::Data(data)) => {
                        self.received += data.len() as u64;
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(Piece::End(trailers)) => {
                        self.upload = Upload::Done;
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Ok(Piece::Incomplete) => {}
                    Err(_) => self.upload = Upload::Failed,
                },
            }
            if matches!(self.upload, Upload::Failed) {
                continue;
            }
            match self.input.poll_fill(&mut self.stream, cx) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => {
                    self.upload = Upload::Failed;
                    return Poll::Ready(Some(Err(Fault::client(FaultKind::ClientGone))));
                }
                Poll::Pending if self.answering => return Poll::Pending,
                Poll::Pending => {
                    ready!(self.deadline.poll_expired(cx));
                    if entry.timeouts.read.is_some() || self.received < self.mark + PROGRESS {
                        self.upload = Upload::Failed;
                        return Poll::Ready(Some(Err(Fault::client(FaultKind::BodyTimeout))));
                    }
                    self.mark = self.received;
                    self.deadline.set(entry.timeouts.progress);
                }
            }
        }
    }
}

/// Looks now and then whether a client has left in the middle of its body. Who reads the body sees its end, but a server that takes
/// nothing keeps us from reading.
#[derive(Default)]
struct Departure {
    next_look: Option<Deadline>,
    received: u64,
}

impl Departure {
    /// Ready when the client has left, and nothing of what it sent before was read for a while.
    fn poll(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<()> {
        let next_look = self.next_look.get_or_insert_with(|| {
            let deadline = Deadline::new();
            deadline.set(Some(DEPARTURE));
            deadline
        });
        while next_look.poll_expired(cx).is_ready() {
            if wire.received == self.received && wire.stream.is_read_closed() {
                return Poll::Ready(());
            }
            self.received = wire.received;
            next_look.set(Some(DEPARTURE));
        }
        Poll::Pending
    }
}

fn refusal_text(status: StatusCode) -> Response {
    let text = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "431 Request Header Fields Too Large",
        StatusCode::EXPECTATION_FAILED => "417 Expectation Failed",
        _ => "400 Bad Request",
    };
    let mut response = fault::text_response(status, text);
    response
        .headers_mut()
        .remove(header::X_CONTENT_TYPE_OPTIONS);
    response
}

/// How the body will be framed, whether it is left out, and whether the connection survives it.
fn frame_of(
    response: &Response,
    body: &Body,
    method: &Method,
    version: Version,
    reusable: bool,
) -> (BodyFrame, bool, bool) {
    let status = response.status();
    if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        // An answer of our own says how long it would be; a server's has said so itself, or not.
        let frame = match body.length() {
            Some(length) if length > 0 => BodyFrame::Length(length),
            _ => BodyFrame::Unsaid,
        };
        return (frame, true, reusable);
    }
    if status == StatusCode::NO_CONTENT || status.is_informational() {
        return (BodyFrame::Chunked, true, reusable);
    }
    match body.length() {
        Some(length) => (BodyFrame::Length(length), false, reusable),
        None if version == Version::HTTP_10 => (BodyFrame::Unsaid, false, false),
        None => (BodyFrame::Chunked, false, reusable),
    }
}

fn write_head(
    out: &mut Vec<u8>,
    response: &Response,
    version: Version,
    frame: BodyFrame,
    reusable: bool,
) {
    write::status_line(out, version, response.status());
    // A 204 has no framing at all: not even a length of zero (RFC 9110 section 8.6).
    if response.status() == StatusCode::NO_CONTENT {
        let mut headers = response.headers().clone();
        headers.remove(header::CONTENT_LENGTH);
        write::fields(out, &headers, BodyFrame::Unsaid);
    } else {
        write::fields(out, response.headers(), frame);
    }
    if !response.headers().contains_key(header::DATE) {
        super::connection::write_date(out);
    }
    if !reusable {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// An answer's body on its way to the client.
struct Sending {
    body: Body,
    chunked: bool,
    /// What must still come, if a length was announced.
    left: Option<u64>,
    bytes: u64,
    ended: bool,
    /// How much waited in the output when the client last stopped reading.
    stalled: Option<usize>,
    departure: Departure,
}

impl Sending {
    fn poll(
        &mut self,
        wire: &RefCell<Wire>,
        entry: &EntryPoint,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let gone = Fault::client(FaultKind::ClientGone);
        loop {
            let mut waiting = false;
            while !self.ended && !waiting && !wire.borrow().output.is_full() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(frame) => self.take(frame, &mut wire.borrow_mut().output)?,
                    Poll::Pending => waiting = true,
                }
            }
            let wire = &mut *wire.borrow_mut();
            match wire.output.poll_flush(&mut wire.stream, cx) {
                Poll::Ready(Ok(())) if self.ended => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.stalled = None,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(gone)),
                Poll::Pending => return self.poll_stalled(wire, entry, cx),
            }
            if waiting {
                return wire.poll_gone(&mut self.departure, cx).map(|()| Err(gone));
            }
        }
    }

    /// The client does not read: it may take its time, but not stand still.
    fn poll_stalled(
        &mut self,
        wire: &Wire,
        entry: &EntryPoint,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let left = wire.output.waiting();
        if entry.timeouts.write.is_none() && self.stalled != Some(left) {
            wire.deadline.set(entry.timeouts.progress);
        }
        self.stalled = Some(left);
        ready!(wire.deadline.poll_expired(cx));
        Poll::Ready(Err(Fault::client(FaultKind::BodyTimeout)))
    }

    fn take(
        &mut self,
        frame: Option<Result<Frame<Bytes>, Fault>>,
        output: &mut Output,
    ) -> Result<(), Fault> {
        // A body of another length than announced would shift every answer behind it on this connection.
        let wrong = Fault::server(FaultKind::BadResponse);
        let Some(frame) = frame.transpose()? else {
            if self.left.is_some_and(|left| left > 0) {
                return Err(wrong);
            }
            self.end(output, None);
            return Ok(());
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                let count = data.len() as u64;
                self.bytes += count;
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(count).ok_or(wrong)?;
                }
                if self.chunked {
                    write::chunk_size(output.buffer(), data.len());
                    output.push_chunk(data);
                } else {
                    output.push(data);
                    // A body of known length says when it is over, which saves asking it once more.
                    if self.left.unwrap_or_default() == 0 && self.body.is_end_stream() {
                        self.ended = true;
                    }
                }
            }
            Err(frame) => self.end(output, frame.trailers_ref()),
        }
        Ok(())
    }

    fn end(&mut self, output: &mut Output, trailers: Option<&HeaderMap>) {
        self.ended = true;
        if self.chunked {
            write::last_chunk(output.buffer(), trailers);
        }
    }
}

/// Takes interim answers to the client.
struct Hints<'a> {
    wire: &'a Rc<RefCell<Wire>>,
    takes: bool,
}

impl Interim for Hints<'_> {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let wire = &mut *self.wire.borrow_mut();
        if self.takes && !wire.output.is_full() {
            let mut headers = headers.clone();
            forwarded::strip_response_hop_by_hop(&mut headers);
            headers.remove(header::CONTENT_LENGTH);
            let out = wire.output.buffer();
            write::status_line(out, Version::HTTP_11, status);
            write::fields(out, &headers, BodyFrame::Unsaid);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The body of a request, read from the connection as it is asked for.
struct Incoming {
    wire: Rc<RefCell<Wire>>,
    entry: Rc<EntryPoint>,
    expects_continue: Cell<bool>,
    ended: bool,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = {
            let wire = &mut *self.wire.borrow_mut();
            if self.expects_continue.take()
                && !wire.answering
                && wire.received == 0
                && wire.input.bytes.is_empty()
            {
                wire.output
                    .buffer()
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                if let Poll::Ready(Err(_)) = wire.output.poll_flush(&mut wire.stream, cx) {
                    return Poll::Ready(Some(Err(Fault::client(FaultKind::ClientGone))));
                }
            }
            if wire.mark == 0 && wire.received == 0 && self.entry.timeouts.read.is_none() {
                wire.mark = 1;
                wire.deadline.set(self.entry.timeouts.progress);
            }
            ready!(wire.poll_upload(&self.entry, cx))
        };
        self.ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || matches!(self.wire.borrow().upload, Upload::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match self.wire.borrow().upload {
            Upload::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}

/// The client's side of a tunnel.
pub(super) struct SharedStream(Rc<RefCell<Wire>>);

impl tunnel::Side for SharedStream {
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let wire = &mut *self.0.borrow_mut();
        if wire.input.bytes.is_empty() {
            ready!(wire.input.poll_fill(&mut wire.stream, cx))?;
        }
        Poll::Ready(Ok(wire.input.bytes.split().freeze()))
    }

    fn poll_write(&self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.0.borrow_mut();
        if !data.is_empty() && !wire.output.is_full() {
            wire.output.push(std::mem::take(data));
        }
        wire.output.poll_flush(&mut wire.stream, cx)
    }

    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn framing_follows_method_status_and_version() {
        let response = |status: u16| {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        let full = Body::from("hello");
        for (status, method, version, expected) in [
            (
                200,
                Method::GET,
                Version::HTTP_11,
                (BodyFrame::Length(5), false, true),
            ),
            (
                200,
                Method::HEAD,
                Version::HTTP_11,
                (BodyFrame::Length(5), true, true),
            ),
            (
                304,
                Method::GET,
                Version::HTTP_11,
                (BodyFrame::Length(5), true, true),
            ),
            (
                204,
                Method::GET,
                Version::HTTP_11,
                (BodyFrame::Chunked, true, true),
            ),
        ] {
            assert_eq!(
                frame_of(&response(status), &full, &method, version, true),
                expected,
                "{status} {method}"
            );
        }
    }

    #[test]
    fn heads_say_when_the_connection_ends() {
        let mut response = Response::new(Body::Empty);
        response
            .headers_mut()
            .insert(header::DATE, HeaderValue::from_static("today"));
        let mut out = Vec::new();
        write_head(
            &mut out,
            &response,
            Version::HTTP_11,
            BodyFrame::Length(0),
            false,
        );
        assert_eq!(
            out,
            b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
}
