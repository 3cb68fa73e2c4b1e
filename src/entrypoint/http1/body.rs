//! What the connection is to others: the body of a request, and the client's side of a tunnel.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::AsyncWrite;

use super::socket::{Upload, Wire};
use crate::{
    entrypoint::{EntryPoint, tunnel},
    exchange::{Fault, FaultKind},
};

/// The body of a request, read from the connection as it is asked for.
pub(super) struct Incoming {
    pub(super) wire: Rc<RefCell<Wire>>,
    pub(super) entry: Rc<EntryPoint>,
    pub(super) expects_continue: Cell<bool>,
    pub(super) ended: bool,
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
pub(super) struct SharedStream(pub(super) Rc<RefCell<Wire>>);

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
