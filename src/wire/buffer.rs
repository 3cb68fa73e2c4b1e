//! Read and write buffers of a connection. An idle connection owns none: they come from a pool of the worker thread and go back to it.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::Stream;

/// A fresh read buffer; most heads fit.
const READ: usize = 8 * 1024;
/// A read buffer once a body has filled a smaller one: fewer system calls for large bodies.
const READ_LARGE: usize = 128 * 1024;
/// Less room than this is not worth a system call.
const READ_LEAST: usize = 2 * 1024;
/// Data up to this size is copied behind the head and goes out in one write.
const COPY: usize = 16 * 1024;
/// Spare buffers a worker keeps.
const SPARE: usize = 256;

thread_local! {
    static READ_BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static WRITE_BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet consumed.
#[derive(Debug, Default)]
pub struct Input {
    pub bytes: BytesMut,
    /// Whether the last read filled its buffer, so that a larger one pays.
    large: bool,
}

impl Input {
    /// Starts with bytes that were read elsewhere.
    pub fn new(bytes: BytesMut) -> Self {
        Self {
            bytes,
            large: false,
        }
    }

    /// Reads once; `Ok(0)` is the end of the stream.
    pub fn poll_fill(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let room = self.bytes.capacity() - self.bytes.len();
        let read = pin!(stream.read_buf(&mut self.bytes)).poll(cx);
        match &read {
            Poll::Ready(Ok(count)) => self.large = *count == room && room >= READ_LEAST,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.release(),
        }
        read
    }

    /// Gives the buffer back if nothing is in it.
    pub fn release(&mut self) {
        if !self.bytes.is_empty() || self.bytes.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(&mut self.bytes);
        if buffer.try_reclaim(READ) && buffer.capacity() <= 2 * READ {
            READ_BUFFERS.with_borrow_mut(|spare| {
                if spare.len() < SPARE {
                    spare.push(buffer);
                }
            });
        }
    }

    fn make_room(&mut self) {
        let wanted = if self.large { READ_LARGE } else { READ_LEAST };
        if self.bytes.capacity() - self.bytes.len() >= wanted || self.bytes.try_reclaim(wanted) {
            return;
        }
        if self.large {
            self.bytes.reserve(READ_LARGE);
        } else if self.bytes.is_empty() {
            self.bytes = READ_BUFFERS
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| BytesMut::with_capacity(READ));
        } else {
            self.bytes.reserve(READ);
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.bytes.clear();
        self.release();
    }
}

/// Bytes that wait to be written: a buffer of small pieces, then at most one large piece and what closes it.
#[derive(Debug, Default)]
pub struct Output {
    small: Vec<u8>,
    sent: usize,
    large: Bytes,
    tail: &'static [u8],
    /// TLS data was handed to the stream and must be flushed.
    dirty: bool,
}

impl Output {
    /// The buffer to append small pieces to. Only while [`Self::is_full`] is false.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(
            self.large.is_empty(),
            "a small piece would overtake the large one"
        );
        if self.small.capacity() == 0 {
            self.small = WRITE_BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        &mut self.small
    }

    /// Appends body bytes; copies them if they are few. Only while [`Self::is_full`] is false.
    pub fn push(&mut self, data: Bytes) {
        if self.small.len() - self.sent + data.len() <= COPY {
            self.buffer().extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Appends the data of a chunk and the line end that closes it.
    pub fn push_chunk(&mut self, data: Bytes) {
        self.push(data);
        if self.large.is_empty() {
            self.small.extend_from_slice(b"\r\n");
        } else {
            self.tail = b"\r\n";
        }
    }

    /// Whether the buffered bytes must be written before more is added.
    pub fn is_full(&self) -> bool {
        !self.large.is_empty() || !self.tail.is_empty() || self.small.len() - self.sent >= COPY
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.small.len() - self.sent + self.large.len() + self.tail.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0 && !self.dirty
    }

    /// Writes everything out.
    pub fn poll_flush(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let count = ready!(self.poll_write(stream, cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(count);
        }
        self.large = Bytes::new();
        self.release();
        if self.dirty {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, count: usize) {
        let small = count.min(self.small.len() - self.sent);
        let large = (count - small).min(self.large.len());
        self.sent += small;
        self.large.advance(large);
        self.tail = &self.tail[count - small - large..];
    }

    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.dirty = !matches!(stream, Stream::Tcp(_) | Stream::Rewound(_));
        let small = &self.small[self.sent..];
        let stream = Pin::new(stream);
        if self.large.is_empty() && self.tail.is_empty() {
            return stream.poll_write(cx, small);
        }
        if small.is_empty() && self.tail.is_empty() {
            return stream.poll_write(cx, &self.large);
        }
        let pieces = [
            io::IoSlice::new(small),
            io::IoSlice::new(&self.large),
            io::IoSlice::new(self.tail),
        ];
        stream.poll_write_vectored(cx, &pieces)
    }

    fn release(&mut self) {
        self.sent = 0;
        if self.small.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(&mut self.small);
        buffer.clear();
        if buffer.capacity() <= 2 * COPY {
            WRITE_BUFFERS.with_borrow_mut(|spare| {
                if spare.len() < SPARE {
                    spare.push(buffer);
                }
            });
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.release();
    }
}
