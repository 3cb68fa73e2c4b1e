//! The socket of a client connection with its buffers: request bodies as they come in, and whether the client is still there.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::io::AsyncWrite;

use crate::{
    entrypoint::{EntryPoint, PROGRESS},
    exchange::{Fault, FaultKind},
    http1::chunked::{Decoder, Piece},
    wire::{Deadline, Input, Output, Stream},
};

/// How much is read after the last answer.
const LINGER_BYTES: usize = 256 * 1024;

/// How often we look whether a client has left whose body nobody reads at the moment.
const DEPARTURE: std::time::Duration = std::time::Duration::from_secs(1);

/// The socket and its buffers; shared with the body of the request under way.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) upload: Upload,
    pub(super) deadline: Deadline,
    /// Body bytes of the request under way.
    pub(super) received: u64,
    /// What `received` was when the progress timeout was set.
    pub(super) mark: u64,
    /// The answer has begun: the deadline is its own now, and a slow body no longer delays anything.
    pub(super) answering: bool,
    /// The answer was cut short, and the client must notice.
    pub(super) abort: bool,
}

/// The body of the request under way.
#[derive(Debug)]
pub(super) enum Upload {
    Length(u64),
    Chunked(Decoder),
    Done,
    Failed,
}

impl Wire {
    pub(super) fn poll_linger(
        &mut self,
        unread: bool,
        read: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
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
    pub(super) fn poll_gone(
        &mut self,
        departure: &mut Departure,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
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

    pub(super) fn poll_upload(
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
pub(super) struct Departure {
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
