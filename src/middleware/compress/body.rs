//! A body that is compressed while it streams.
//!
//! Whatever has come in goes out as soon as nothing more comes: an event stream is not held back, and a download is not cut into a
//! compressed block per read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_compression::{
    Level,
    codecs::{
        BrotliEncoder, EncodeV2, GzipEncoder, ZstdEncoder,
        brotli::params::EncoderParams,
        core::util::{PartialBuffer, WriteBuffer},
        flate::params::FlateEncoderParams,
        zstd::params::CParameter,
    },
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::coding::Coding;
use crate::exchange::{Body, Fault, FaultKind};

/// Compresses a body: at once if it is small and in memory, so that its length is known again, else as it streams.
pub(super) fn compressed(body: Body, coding: Coding) -> Body {
    match body {
        Body::Full(bytes) if bytes.len() <= SLICE => match whole(&bytes, coding) {
            Ok(compressed) => Body::Full(compressed),
            Err(_) => Body::stream(Compressed::new(Body::Full(bytes), coding)),
        },
        body => Body::stream(Compressed::new(body, coding)),
    }
}

fn whole(bytes: &[u8], coding: Coding) -> io::Result<Bytes> {
    let mut output = Output::new(coding);
    output.encode(bytes)?;
    output.finish()?;
    Ok(output.take())
}

struct Compressed {
    inner: Body,
    output: Output,
    /// What has come in and was not compressed yet.
    input: Bytes,
    trailers: Option<HeaderMap>,
    finished: bool,
}

impl Compressed {
    fn new(inner: Body, coding: Coding) -> Self {
        Self {
            inner,
            output: Output::new(coding),
            input: Bytes::new(),
            trailers: None,
            finished: false,
        }
    }

    /// Compresses until there is enough to send, nothing more to read, or too much was done at once; true if something can be sent.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        let mut budget = BUDGET;
        while self.output.bytes.len() < ENOUGH {
            if self.input.is_empty() {
                if self.finished {
                    break;
                }
                match Pin::new(&mut self.inner).poll_frame(cx) {
                    Poll::Pending => {
                        self.output.flush().map_err(defect)?;
                        if self.output.bytes.is_empty() {
                            return Poll::Pending;
                        }
                        break;
                    }
                    Poll::Ready(Some(frame)) => self.accept(frame?)?,
                    Poll::Ready(None) => self.finish()?,
                }
            }
            if budget == 0 {
                // Other requests share this core.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let length = self.input.len().min(SLICE).min(budget);
            let slice = self.input.split_to(length);
            self.output.encode(&slice).map_err(defect)?;
            budget -= length;
        }
        Poll::Ready(Ok(!self.output.bytes.is_empty()))
    }

    fn accept(&mut self, frame: Frame<Bytes>) -> Result<(), Fault> {
        match frame.into_data() {
            Ok(data) => self.input = data,
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                self.finish()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        if !self.finished {
            self.finished = true;
            self.output.finish().map_err(defect)?;
        }
        Ok(())
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if ready!(self.fill(cx))? {
            return Poll::Ready(Some(Ok(Frame::data(self.output.take()))));
        }
        let trailers = self.trailers.take().map(|it| Ok(Frame::trailers(it)));
        Poll::Ready(trailers)
    }

    fn is_end_stream(&self) -> bool {
        self.finished && self.output.bytes.is_empty() && self.trailers.is_none()
    }
}

/// An encoder and what it has put out.
struct Output {
    encoder: Box<dyn EncodeV2>,
    bytes: Vec<u8>,
    /// Whether the encoder may hold something back.
    dirty: bool,
}

impl Output {
    fn new(coding: Coding) -> Self {
        // Levels at which a core compresses some 50 MB/s and up, and windows that many streams at once can afford.
        let encoder: Box<dyn EncodeV2> = match coding {
            Coding::Gzip => Box::new(GzipEncoder::new(FlateEncoderParams::from(Level::Precise(
                5,
            )))),
            Coding::Brotli => Box::new(BrotliEncoder::new(
                EncoderParams::default()
                    .quality(Level::Precise(4))
                    .window_size(18),
            )),
            Coding::Zstd => Box::new(ZstdEncoder::new_with_params(
                3,
                &[CParameter::window_log(18)],
            )),
        };
        Self {
            encoder,
            bytes: Vec::new(),
            dirty: false,
        }
    }

    fn encode(&mut self, input: &[u8]) -> io::Result<()> {
        let mut input = PartialBuffer::new(input);
        while !input.unwritten().is_empty() {
            self.dirty = true;
            self.grow(|encoder, buffer| encoder.encode(&mut input, buffer))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.dirty {
            let done = self.grow(|encoder, buffer| encoder.flush(buffer))?;
            self.dirty = !done;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.dirty = false;
        while !self.grow(|encoder, buffer| encoder.finish(buffer))? {}
        Ok(())
    }

    /// Lets the encoder write into fresh space at the end.
    fn grow<T>(
        &mut self,
        step: impl FnOnce(&mut dyn EncodeV2, &mut WriteBuffer<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let start = self.bytes.len();
        self.bytes.resize(start + ROOM, 0);
        let mut buffer = WriteBuffer::new_initialized(&mut self.bytes[start..]);
        let result = step(&mut *self.encoder, &mut buffer);
        let written = buffer.written_len();
        self.bytes.truncate(start + written);
        result
    }

    fn take(&mut self) -> Bytes {
        // A copy of exactly the bytes, so that what waits to be sent holds no spare room.
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.shrink_to_fit();
        Bytes::from(bytes)
    }
}

fn defect(_: io::Error) -> Fault {
    Fault::ours(FaultKind::Internal)
}

/// Bytes compressed in one go.
const SLICE: usize = 64 * 1024;
/// Bytes compressed before other requests get their turn.
const BUDGET: usize = 256 * 1024;
/// Compressed bytes worth sending.
const ENOUGH: usize = 16 * 1024;
/// Space offered to an encoder at a time.
const ROOM: usize = 8 * 1024;
