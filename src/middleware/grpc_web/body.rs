//! Bodies that are translated while they stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::Coding;
use crate::exchange::{Body, Fault, FaultKind};

/// The body of a call, as servers take it.
pub(super) fn request(body: Body, coding: Coding) -> Body {
    match (coding, body) {
        (Coding::Text, body) if !body.is_empty() => Body::stream(Decoded {
            inner: body,
            rest: Vec::new(),
        }),
        // The length of a call is not announced, as it is none of the messages'.
        (_, Body::Empty) => Body::Empty,
        (_, body) => Body::stream(Unmeasured(body)),
    }
}

/// The body of an answer, with its trailers at the end.
pub(super) fn answer(body: Body, coding: Coding) -> Body {
    Body::stream(WithTrailers {
        inner: body,
        coding,
        ended: false,
    })
}

/// A body whose length is not told.
struct Unmeasured(Body);

impl http_body::Body for Unmeasured {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// Base64 that is read.
struct Decoded {
    inner: Body,
    /// Characters that are no whole group of four yet.
    rest: Vec<u8>,
}

impl Decoded {
    fn decode(&mut self, text: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
        let mut text = text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n'));
        loop {
            self.rest
                .extend(text.by_ref().take(GROUPS - self.rest.len()));
            let whole = self.rest.len() / 4 * 4;
            // Pieces that were each brought to full groups may follow each other: every one ends with its padding.
            for group in pieces(&self.rest[..whole]) {
                STANDARD
                    .decode_vec(group, &mut bytes)
                    .map_err(|_| Fault::client(FaultKind::BadBody))?;
            }
            let filled = self.rest.len() == GROUPS;
            self.rest.drain(..whole);
            if !filled {
                return Ok(bytes);
            }
        }
    }
}

/// Cuts whole groups after each that is padded.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let padded = rest.chunks(4).position(|group| group.ends_with(b"="));
        let length = padded.map_or(rest.len(), |group| (group + 1) * 4);
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(piece)
    })
}

impl http_body::Body for Decoded {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
                // Half a group cannot be read, and must not pass for the end of a whole body.
                let cut = std::mem::take(&mut self.rest);
                let end = (!cut.is_empty()).then(|| Err(Fault::client(FaultKind::BadBody)));
                return Poll::Ready(end);
            };
            let decoded = match frame?.into_data() {
                Ok(text) => self.decode(&text)?,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            };
            if !decoded.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(decoded.into()))));
            }
        }
    }
}

/// A body whose trailers are its last part.
struct WithTrailers {
    inner: Body,
    coding: Coding,
    ended: bool,
}

impl WithTrailers {
    fn written(&self, bytes: Bytes) -> Bytes {
        match self.coding {
            Coding::Binary => bytes,
            Coding::Text => STANDARD.encode(bytes).into(),
        }
    }
}

impl http_body::Body for WithTrailers {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let data = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => Err(HeaderMap::new()),
            Some(frame) => frame?
                .into_data()
                .map_err(|frame| frame.into_trailers().unwrap_or_default()),
        };
        let bytes = match data {
            Ok(bytes) => bytes,
            Err(trailers) => {
                self.ended = true;
                message(&trailers)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(self.written(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// Trailers as a message: a flag, the length, and a line for each, sorted.
fn message(trailers: &HeaderMap) -> Bytes {
    let mut fields: Vec<(&str, &[u8])> = trailers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    fields.sort_by_key(|(name, _)| *name);
    let mut lines = BytesMut::new();
    for (name, value) in fields {
        lines.put_slice(name.as_bytes());
        lines.put_slice(b": ");
        lines.put_slice(value);
        lines.put_slice(b"\r\n");
    }
    let mut message = BytesMut::with_capacity(lines.len() + 5);
    message.put_u8(TRAILERS);
    // No head may be as long as a length can say.
    message.put_u32(u32::try_from(lines.len()).unwrap_or_default());
    message.put(lines);
    message.freeze()
}

/// Says that a message holds trailers.
const TRAILERS: u8 = 0x80;
/// Characters that are decoded in one go.
const GROUPS: usize = 4096;
