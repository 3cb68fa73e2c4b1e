//! The body of a request, and how long a slow one is waited for.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};

use super::Shared;
use crate::{
    entrypoint::PROGRESS,
    exchange::{Body, Fault, FaultKind},
    upstream::http2::poll_stream,
    wire::Deadline,
};

pub(super) fn body(
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
pub(super) struct Patience {
    /// For each [`PROGRESS`] bytes, or for the whole body.
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
    pub(super) fn new(
        shared: &Shared,
        headers: &HeaderMap,
        answering: &Rc<Cell<bool>>,
    ) -> Option<Self> {
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
            self.wanted = Some(received + PROGRESS);
            self.deadline.set(Some(self.every));
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
