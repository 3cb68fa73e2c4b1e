//! HTTP/1 with a client: one request after the other on one connection.

mod answer;
mod body;
mod socket;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, ready},
    time::Instant,
};

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Version, header};

use self::{
    answer::{Sending, frame_of, refusal_text, write_head},
    body::{Incoming, SharedStream},
    socket::{Departure, Upload, Wire},
};
use super::{EntryPoint, LAST_CALL, tunnel};
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

/// One client connection.
pub(super) struct Server {
    wire: Rc<RefCell<Wire>>,
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    opened: Instant,
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
                            // The next one may be on its way, and few clients expect to have to repeat it.
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
            Box::pin(self.switch(journey, response, server)).await;
            return false;
        }
        // A middleware that answered has left the body where it was.
        drop(journey.exchange.body.take());
        self.discard_rest();
        let reusable = keep_alive
            && !last
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
