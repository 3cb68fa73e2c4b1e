//! The one body type of requests and responses.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Fault;

/// A message body: absent, in memory, or streamed.
///
/// A streamed body costs one box; a body that arrived together with its head (most small answers) costs none.
#[derive(Default)]
pub enum Body {
    /// No body.
    #[default]
    Empty,
    /// A body in memory. Empty bytes count as a body of length zero.
    Full(Bytes),
    /// A body that arrives piece by piece.
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = Fault>>>),
}

impl Body {
    /// Wraps a streamed body.
    pub fn stream(inner: impl http_body::Body<Data = Bytes, Error = Fault> + 'static) -> Self {
        Self::Stream(Box::pin(inner))
    }

    /// The exact length in bytes, if it is known before the body is read.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(inner) => inner.size_hint().exact(),
        }
    }

    /// Whether nothing is left to read.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(inner) => inner.is_end_stream(),
        }
    }

    /// Takes the body, leaving none.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => match self.take() {
                Self::Full(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Self::Stream(inner) => inner.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(inner) => inner.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Full(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Full(Bytes::from(text))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}
