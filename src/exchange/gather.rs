//! Reads a body whole, within a bound.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::{Body, Fault};

/// A body that was read to its end, and can be sent as often as is wanted.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    pub bytes: Bytes,
    trailers: Option<HeaderMap>,
}

/// What came of reading a body.
#[derive(Debug)]
pub enum Gathered {
    Whole(Whole),
    /// It is longer than was allowed; what was read of it stands before the rest again.
    Larger(Body),
    Failed(Fault),
}

impl Body {
    /// Reads the body, at most `limit` bytes of it.
    pub async fn gather(mut self, limit: usize) -> Gathered {
        if self.length().is_some_and(|length| length > limit as u64) {
            return Gathered::Larger(self);
        }
        if let Self::Full(bytes) = self {
            return Gathered::Whole(Whole {
                bytes,
                trailers: None,
            });
        }
        let mut read = BytesMut::new();
        let mut trailers = None;
        while let Some(frame) = self.frame().await {
            match frame.map(Frame::into_data) {
                Err(fault) => return Gathered::Failed(fault),
                Ok(Ok(data)) => {
                    read.extend_from_slice(&data);
                    if read.len() > limit {
                        return Gathered::Larger(Self::stream(Resumed {
                            first: read.freeze(),
                            rest: self,
                        }));
                    }
                }
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            }
        }
        Gathered::Whole(Whole {
            bytes: read.freeze(),
            trailers,
        })
    }
}

impl Whole {
    pub(super) fn new(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { bytes, trailers }
    }

    /// A body to send, of the bytes alone.
    pub fn without_trailers(self) -> Body {
        match self.bytes.is_empty() {
            true => Body::Empty,
            false => Body::Full(self.bytes),
        }
    }

    /// A body to send.
    pub fn body(&self) -> Body {
        match &self.trailers {
            None if self.bytes.is_empty() => Body::Empty,
            None => Body::Full(self.bytes.clone()),
            Some(trailers) => Body::stream(Repeated {
                bytes: self.bytes.clone(),
                trailers: Some(trailers.clone()),
            }),
        }
    }
}

/// A body whose beginning was read already.
struct Resumed {
    first: Bytes,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(cx);
        }
        let first = std::mem::take(&mut self.first);
        Poll::Ready(Some(Ok(Frame::data(first))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = http_body::Body::size_hint(&self.rest);
        let first = self.first.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint
    }
}

/// A body in memory that has trailers.
struct Repeated {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Repeated {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        Poll::Ready(self.trailers.take().map(Frame::trailers).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::FutureExt;

    use super::*;
    use crate::exchange::FaultKind;

    struct Pieces(VecDeque<Result<Frame<Bytes>, Fault>>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Fault;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn pieces(pieces: &[&'static str]) -> Vec<Result<Frame<Bytes>, Fault>> {
        let frame = |piece: &&'static str| Ok(Frame::data(Bytes::from_static(piece.as_bytes())));
        pieces.iter().map(frame).collect()
    }

    fn streamed(pieces: Vec<Result<Frame<Bytes>, Fault>>) -> Body {
        Body::stream(Pieces(pieces.into()))
    }

    fn gather(body: Body, limit: usize) -> Gathered {
        body.gather(limit).now_or_never().unwrap()
    }

    fn read(body: Body) -> (Bytes, Option<HeaderMap>) {
        let collected = body.collect().now_or_never().unwrap().unwrap();
        let trailers = collected.trailers().cloned();
        (collected.to_bytes(), trailers)
    }

    #[test]
    fn a_body_within_the_bound_can_be_sent_again_and_again() {
        let mut headers = HeaderMap::new();
        headers.insert("x-sum", "7".parse().unwrap());
        let mut with_trailers = pieces(&["ab", "c"]);
        with_trailers.push(Ok(Frame::trailers(headers.clone())));
        for (body, bytes, trailers) in [
            (Body::Empty, "", None),
            (Body::from("abc"), "abc", None),
            (streamed(pieces(&["a", "bc"])), "abc", None),
            (streamed(with_trailers), "abc", Some(headers)),
        ] {
            let Gathered::Whole(whole) = gather(body, 3) else {
                panic!("{bytes} is not whole");
            };
            for _ in 0..2 {
                assert_eq!(read(whole.body()), (bytes.into(), trailers.clone()));
            }
        }
    }

    #[test]
    fn a_longer_body_is_handed_back_whole() {
        for body in [
            Body::from("abcd"),
            streamed(pieces(&["ab", "c", "d"])),
            streamed(pieces(&["abcd"])),
        ] {
            let Gathered::Larger(body) = gather(body, 2) else {
                panic!("larger than two bytes");
            };
            assert_eq!(read(body).0, "abcd");
        }
    }

    #[test]
    fn what_ends_a_body_early_is_told() {
        let mut broken = pieces(&["a"]);
        broken.push(Err(Fault::client(FaultKind::ClientGone)));
        assert!(matches!(
            gather(streamed(broken), 9),
            Gathered::Failed(fault) if fault.kind == FaultKind::ClientGone
        ));
    }
}
