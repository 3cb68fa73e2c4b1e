//! HTTP/1.1 to a server: one connection, one exchange at a time, upload and download side by side.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use socket2::SockRef;

use super::{Answer, Failure, Outgoing, Tunnel, early::Early, pool::Home};
use crate::{
    exchange::{Body, Fault, FaultKind, Response},
    http1::{
        Framing,
        chunked::{Decoder, Piece},
        response,
        write::{self, BodyFrame},
    },
    observe::OpenConnection,
    wire::{self, Deadline, Input, Output, Stream},
};

/// How long a body waits for the server's `100 Continue` (as Go's transport does).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// Interim responses to one request at most; more is a flood.
const MAX_INTERIM: usize = 64;
/// Bodies up to this size are awaited whole if they did not arrive with the head.
const WHOLE: u64 = 16 * 1024;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    input: Input,
    output: Output,
    upload: Upload,
    download: Download,
    deadline: Deadline,
    /// Time for the head of the answer, once the request has been sent.
    response_timeout: Option<Duration>,
    /// How long the server may take nothing of the request.
    patience: Option<Duration>,
    /// How much waited in the output when the server last stopped reading.
    stalled: Option<usize>,
    /// How much of the input was searched for the end of a head.
    scanned: usize,
    /// Whether an exchange was completed on it before.
    reused: bool,
    idle_since: Instant,
    open: OpenConnection,
}

#[derive(Debug)]
enum Upload {
    /// The body waits for `100 Continue`.
    Held(Body, BodyFrame),
    /// The body is being sent.
    Running {
        body: Body,
        chunked: bool,
        left: Option<u64>,
        touched: bool,
    },
    /// Everything was handed to the output buffer.
    Flushing,
    Done,
    /// The body could not be sent whole; the answer may still come.
    Broken,
}

#[derive(Debug)]
enum Download {
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl Connection {
    /// A fresh connection over `stream`.
    pub fn new(stream: Stream, open: OpenConnection) -> Box<Self> {
        Box::new(Self {
            stream,
            input: Input::default(),
            output: Output::default(),
            upload: Upload::Done,
            download: Download::Length(0),
            deadline: Deadline::new(),
            response_timeout: None,
            patience: None,
            stalled: None,
            scanned: 0,
            reused: false,
            idle_since: Instant::now(),
            open,
        })
    }

    /// Whether the idle connection can take a request: open, and no byte came that nobody asked for.
    pub fn is_fit(&mut self, idle_timeout: Option<Duration>) -> bool {
        if idle_timeout.is_some_and(|timeout| self.idle_since.elapsed() >= timeout)
            || !self.input.bytes.is_empty()
        {
            return false;
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if self.stream.poll_readable(&mut cx).is_pending() {
            return true;
        }
        self.input.poll_fill(&mut self.stream, &mut cx).is_pending()
    }

    /// Whether the server has not closed the idle connection, as far as the system knows this moment. [`Self::is_fit`] knows what the
    /// last events told, which may be a moment older; this asks, which costs a system call.
    pub fn is_open(&self) -> bool {
        let socket = SockRef::from(self.stream.tcp());
        let outcome = socket.peek(&mut [MaybeUninit::uninit()]);
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// How long the connection has been idle.
    pub fn idle_for(&self) -> Duration {
        self.idle_since.elapsed()
    }

    /// Sends a request and reads the head of the answer; the body of the answer brings the connection home.
    pub async fn send(
        mut self: Box<Self>,
        request: Outgoing<'_>,
        body: Body,
        home: &Rc<Home>,
    ) -> Result<Answer, Failure> {
        self.start(&request, body);
        // The streams of an HTTP/2 connection are read together anyway.
        if request.head.version != Version::HTTP_2 {
            wire::after_the_others().await;
        }
        let mut interims = 0;
        let mut heard = false;
        let outcome = poll_fn(|cx| self.poll_answer(cx, &request, &mut interims, &mut heard)).await;
        self.deadline.clear();
        match outcome {
            Ok(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(&request, head)
            }
            Ok(head) => {
                let mut response =
                    Response::new(self.body(head.framing, head.keep_alive, home).await);
                *response.status_mut() = head.status;
                *response.headers_mut() = head.headers;
                Ok(Answer::Response(response))
            }
            Err(fault) => Err(self.fail(fault, heard)),
        }
    }

    fn start(&mut self, request: &Outgoing<'_>, body: Body) {
        let frame = match (&body, body.length()) {
            (Body::Empty, _) => request.empty_frame(),
            (_, Some(length)) => BodyFrame::Length(length),
            (_, None) => BodyFrame::Chunked,
        };
        let out = self.output.buffer();
        write::request_head(out, request.head, request.host, request.target, frame);
        out.extend_from_slice(b"\r\n");
        self.upload = match body {
            Body::Empty => Upload::Flushing,
            Body::Full(bytes) if !request.head.expects_continue => {
                self.output.push(bytes);
                Upload::Flushing
            }
            body if request.head.expects_continue => Upload::Held(body, frame),
            body => running(body, frame),
        };
        self.response_timeout = request.response_timeout;
        self.patience = request.patience;
        self.stalled = None;
        self.scanned = 0;
        self.deadline.set(match self.upload {
            Upload::Held(..) => Some(CONTINUE_WAIT),
            _ => request.response_timeout,
        });
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        request: &Outgoing<'_>,
        interims: &mut usize,
        heard: &mut bool,
    ) -> Poll<Result<response::Parsed, Fault>> {
        loop {
            self.poll_upload(cx)?;
            *heard |= !self.input.bytes.is_empty();
            let parsed = if self.input.bytes.is_empty() {
                None
            } else {
                self.parse(&request.head.method)?
            };
            let Some(head) = parsed else {
                match self.input.poll_fill(&mut self.stream, cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.closed(*heard))),
                    Poll::Ready(Ok(_)) => continue,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(self.closed(*heard))),
                    Poll::Pending => {
                        ready!(self.deadline.poll_expired(cx));
                        self.expired()?;
                        continue;
                    }
                }
            };
            match head.status.as_u16() {
                100 => self.release_body(),
                101 if request.head.upgrade.is_some() => return Poll::Ready(Ok(head)),
                101 => return Poll::Ready(Err(Fault::server(FaultKind::BadResponse))),
                102..=199 => {
                    if let Some(interim) = request.interim {
                        interim.send(head.status, &head.headers);
                    }
                }
                _ => return Poll::Ready(Ok(head)),
            }
            *interims += 1;
            if *interims > MAX_INTERIM {
                return Poll::Ready(Err(Fault::server(FaultKind::BadResponse)));
            }
        }
    }

    fn parse(&mut self, method: &Method) -> Result<Option<response::Parsed>, Fault> {
        let head = response::parse(&mut self.input.bytes, method, &mut self.scanned)
            .map_err(Fault::server)?;
        if head.is_some() {
            self.scanned = 0;
        }
        Ok(head)
    }

    /// The deadline passed: the server kept us waiting for its `100 Continue`, for its answer, or stands still in the middle of the
    /// request.
    fn expired(&mut self) -> Result<(), Fault> {
        match self.upload {
            Upload::Held(..) => self.release_body(),
            // A server has its time once it has the whole request, and a slow client is dealt with elsewhere.
            Upload::Running { .. } if self.stalled.is_none() => self.deadline.clear(),
            _ => return Err(Fault::server(FaultKind::ResponseTimeout)),
        }
        Ok(())
    }

    /// The server takes nothing for now: it may take its time, but not stand still.
    fn stall(&mut self) {
        let left = self.output.waiting();
        if self.stalled != Some(left) && self.patience.is_some() {
            self.stalled = Some(left);
            self.deadline.set(self.patience);
        }
    }

    fn release_body(&mut self) {
        if let Upload::Held(..) = self.upload
            && let Upload::Held(body, frame) = std::mem::replace(&mut self.upload, Upload::Done)
        {
            self.upload = running(body, frame);
            self.deadline.clear();
        }
    }

    fn closed(&self, heard: bool) -> Fault {
        if self.reused && !heard {
            Fault::server(FaultKind::StaleConnection)
        } else {
            Fault::server(FaultKind::Reset)
        }
    }

    /// Moves the request body on. Only a fault of the client's body is an error here: when the server stops reading, its answer may
    /// already be on the way.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        loop {
            if !self.output.is_empty()
                && (self.output.is_full() || !matches!(self.upload, Upload::Running { .. }))
            {
                match self.output.poll_flush(&mut self.stream, cx) {
                    Poll::Ready(Ok(())) => self.stalled = None,
                    Poll::Ready(Err(_)) => {
                        self.broken();
                        return Ok(());
                    }
                    Poll::Pending => {
                        self.stall();
                        return Ok(());
                    }
                }
            }
            match &mut self.upload {
                Upload::Running {
                    body,
                    chunked,
                    left,
                    touched,
                } => {
                    match Pin::new(body).poll_frame(cx) {
                        Poll::Pending => {
                            // Nothing more for now: what is buffered must not wait for it.
                            if self.output.is_empty() {
                                return Ok(());
                            }
                            match self.output.poll_flush(&mut self.stream, cx) {
                                Poll::Ready(Ok(())) => self.stalled = None,
                                Poll::Ready(Err(_)) => self.broken(),
                                Poll::Pending => self.stall(),
                            }
                            return Ok(());
                        }
                        Poll::Ready(frame) => {
                            *touched = true;
                            match next_upload(frame, *chunked, left, &mut self.output) {
                                Ok(true) => {}
                                Ok(false) => self.upload = Upload::Flushing,
                                Err(fault) => {
                                    self.upload = Upload::Broken;
                                    return Err(fault);
                                }
                            }
                        }
                    }
                }
                Upload::Flushing if self.output.is_empty() => {
                    self.upload = Upload::Done;
                    // The server has its time once it has the whole request.
                    self.deadline.set(self.response_timeout);
                }
                _ => return Ok(()),
            }
        }
    }

    /// The server takes no more. Its answer may still come, in its own time.
    fn broken(&mut self) {
        self.upload = Upload::Broken;
        self.output = Output::default();
        self.stalled = None;
        self.deadline.set(self.response_timeout);
    }

    async fn body(
        mut self: Box<Self>,
        framing: Framing,
        keep_alive: bool,
        home: &Rc<Home>,
    ) -> Body {
        self.download = match framing {
            Framing::None => {
                self.go_home(keep_alive, home);
                return Body::Empty;
            }
            Framing::Length(length) => {
                if length <= WHOLE && self.whole(length).await {
                    let bytes = self
                        .input
                        .bytes
                        .split_to(usize::try_from(length).unwrap_or(0))
                        .freeze();
                    self.go_home(keep_alive, home);
                    return Body::Full(bytes);
                }
                Download::Length(length)
            }
            Framing::Chunked => Download::Chunked(Decoder::default()),
            Framing::UntilClose => Download::UntilClose,
        };
        if self.is_uploading() {
            return Body::stream(Early::new(self, keep_alive, home));
        }
        Body::stream(Incoming(Answering::new(self, keep_alive, home)))
    }

    /// Whether something of the request must still be sent.
    fn is_uploading(&self) -> bool {
        match self.upload {
            Upload::Done | Upload::Broken => false,
            Upload::Flushing => !self.output.is_empty(),
            Upload::Held(..) | Upload::Running { .. } => true,
        }
    }

    /// Moves the request body on beside the answer; ready when there is nothing left to do.
    fn poll_uploaded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An upload that fails while the answer streams ends with the answer.
        if self.poll_upload(cx).is_err() {
            self.upload = Upload::Broken;
        }
        match self.upload {
            Upload::Done | Upload::Broken => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Whether a small body is there already, or arrives without waiting.
    async fn whole(&mut self, length: u64) -> bool {
        poll_fn(|cx| {
            while (self.input.bytes.len() as u64) < length {
                match self.input.poll_fill(&mut self.stream, cx) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    _ => return Poll::Ready(false),
                }
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Puts the connection back into its pool if both directions ended cleanly.
    fn go_home(mut self: Box<Self>, keep_alive: bool, home: &Home) {
        if matches!(self.upload, Upload::Flushing) && self.output.is_empty() {
            self.upload = Upload::Done;
        }
        if keep_alive && matches!(self.upload, Upload::Done) && self.input.bytes.is_empty() {
            self.input.release();
            self.deadline.clear();
            self.reused = true;
            self.idle_since = Instant::now();
            home.put(self);
        }
    }

    fn switch(
        self: Box<Self>,
        request: &Outgoing<'_>,
        head: response::Parsed,
    ) -> Result<Answer, Failure> {
        debug_assert!(
            request.head.upgrade.is_some(),
            "a switch nobody asked for was refused before"
        );
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        let mut this = *self;
        let early = std::mem::take(&mut this.input.bytes).freeze();
        Ok(Answer::Switched(
            response,
            Tunnel {
                stream: this.stream,
                early,
                open: this.open,
            },
        ))
    }

    fn fail(self: Box<Self>, fault: Fault, heard: bool) -> Failure {
        let body = match self.upload {
            Upload::Held(body, _)
            | Upload::Running {
                body,
                touched: false,
                ..
            } => Some(body),
            _ => None,
        };
        Failure {
            fault,
            body,
            answered: heard,
            unprocessed: false,
        }
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            match &mut self.download {
                Download::Length(0) => return Poll::Ready(None),
                Download::Length(left) if !self.input.bytes.is_empty() => {
                    let count = self
                        .input
                        .bytes
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= count as u64;
                    return Poll::Ready(Some(Ok(Frame::data(
                        self.input.bytes.split_to(count).freeze(),
                    ))));
                }
                Download::Chunked(decoder) => match decoder.next(&mut self.input.bytes) {
                    Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Piece::End(None)) => return Poll::Ready(None),
                    Ok(Piece::End(Some(trailers))) => {
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Ok(Piece::Incomplete) => {}
                    Err(_) => return Poll::Ready(Some(Err(Fault::server(FaultKind::BadResponse)))),
                },
                Download::UntilClose if !self.input.bytes.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(self.input.bytes.split().freeze()))));
                }
                _ => {}
            }
            match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(0) if matches!(self.download, Download::UntilClose) => return Poll::Ready(None),
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Fault::server(FaultKind::Reset)))),
                Ok(_) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        match &self.download {
            Download::Length(left) => *left == 0,
            Download::Chunked(decoder) => decoder.is_done(),
            Download::UntilClose => false,
        }
    }
}

fn running(body: Body, frame: BodyFrame) -> Upload {
    let left = match frame {
        BodyFrame::Length(length) => Some(length),
        _ => None,
    };
    Upload::Running {
        body,
        chunked: frame == BodyFrame::Chunked,
        left,
        touched: false,
    }
}

/// Adds the next frame of a request body to the output; false when it was the last.
fn next_upload(
    frame: Option<Result<Frame<Bytes>, Fault>>,
    chunked: bool,
    left: &mut Option<u64>,
    output: &mut Output,
) -> Result<bool, Fault> {
    let Some(frame) = frame.transpose()? else {
        if chunked {
            write::last_chunk(output.buffer(), None);
        } else if left.is_some_and(|left| left > 0) {
            return Err(Fault::client(FaultKind::BadBody));
        }
        return Ok(false);
    };
    match frame.into_data() {
        Ok(data) if data.is_empty() => {}
        Ok(data) if chunked => {
            let out = output.buffer();
            write::chunk_size(out, data.len());
            // Chunks are copied: a request body is read in small pieces, and one write beats three.
            out.extend_from_slice(&data);
            out.extend_from_slice(b"\r\n");
        }
        Ok(data) => {
            let count = data.len() as u64;
            match left {
                Some(left) if *left < count => return Err(Fault::client(FaultKind::BadBody)),
                Some(left) => *left -= count,
                None => {}
            }
            output.push(data);
        }
        Err(frame) => {
            if chunked {
                write::last_chunk(output.buffer(), frame.trailers_ref());
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// The body of an answer that did not arrive with its head.
struct Incoming(Answering);

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.0.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A connection until its answer is over.
pub(super) struct Answering {
    connection: Option<Box<Connection>>,
    keep_alive: bool,
    home: Rc<Home>,
}

impl Answering {
    pub(super) fn new(connection: Box<Connection>, keep_alive: bool, home: &Rc<Home>) -> Self {
        Self {
            connection: Some(connection),
            keep_alive,
            home: Rc::clone(home),
        }
    }

    /// Moves the request body on; ready when there is nothing left to do.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.connection {
            Some(connection) => connection.poll_uploaded(cx),
            None => Poll::Ready(()),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        let frame = ready!(connection.poll_download(cx));
        let finished = match &frame {
            None => true,
            Some(Ok(frame)) => {
                frame.is_trailers() || matches!(connection.download, Download::Length(0))
            }
            Some(Err(_)) => {
                self.connection = None;
                false
            }
        };
        if finished && let Some(connection) = self.connection.take() {
            let keep_alive = self.keep_alive && connection.is_done();
            connection.go_home(keep_alive, &self.home);
        }
        Poll::Ready(frame)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.connection.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.connection.as_deref() {
            None => SizeHint::with_exact(0),
            Some(Connection {
                download: Download::Length(left),
                ..
            }) => SizeHint::with_exact(*left),
            Some(_) => SizeHint::default(),
        }
    }
}
