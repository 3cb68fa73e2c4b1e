//! Keeps what a body says while it is sent on, so that it can be sent again: nothing waits for a body to be whole.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::{Body, Fault, FaultKind};

/// What was read of a body so far. The body goes on being read by whoever sends it.
#[derive(Debug)]
pub struct Transcript(Rc<RefCell<Shared>>);

/// Why a body cannot be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It is larger than allowed.
    Larger,
    /// The transcripts of the worker take all the room they may.
    NoRoom,
    /// It was not read to its end.
    Unread,
}

/// Room for the transcripts of a worker, in bytes.
#[derive(Debug, Clone)]
pub struct TranscriptRoom(Rc<Cell<u64>>);

impl TranscriptRoom {
    pub fn new(bytes: u64) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    fn take(&self, bytes: u64) -> bool {
        let left = self.0.get().checked_sub(bytes);
        left.map(|left| self.0.set(left)).is_some()
    }

    fn give_back(&self, bytes: u64) {
        self.0.set(self.0.get() + bytes);
    }
}

impl Transcript {
    /// The body to be sent on in place of `body`, and the transcript that it leaves; of at most `limit` bytes.
    pub fn of(body: Body, limit: u64, room: &TranscriptRoom) -> (Body, Self) {
        let length = body.length();
        let shared = Rc::new(RefCell::new(Shared {
            lost: length
                .filter(|length| *length > limit)
                .map(|_| Lost::Larger),
            source: body,
            pieces: Vec::new(),
            tail: BytesMut::new(),
            size: 0,
            limit,
            room: room.clone(),
            trailers: None,
            length,
            ended: false,
            reader: 0,
        }));
        let reader = Reader {
            shared: Rc::clone(&shared),
            number: 0,
            at: 0,
            end: 0,
        };
        (Body::stream(reader), Self(shared))
    }

    /// A body as it was, if it was read to its end. May be asked for again.
    pub fn whole(&self) -> Result<Body, Lost> {
        let mut shared = self.0.borrow_mut();
        match shared.lost {
            Some(lost) => return Err(lost),
            None if !shared.ended => return Err(Lost::Unread),
            None => shared.close_tail(),
        }
        Ok(Body::stream(Replay {
            shared: Rc::clone(&self.0),
            at: 0,
            left: shared.size,
            trailers: shared.trailers.clone(),
        }))
    }

    /// The body from its beginning on, read to its end by whoever sends it now; whoever did so before is cut off.
    pub fn again(self) -> Result<Body, Lost> {
        let mut shared = self.0.borrow_mut();
        if let Some(lost) = shared.lost {
            return Err(lost);
        }
        shared.close_tail();
        shared.reader += 1;
        // What comes is not needed once more.
        shared.limit = 0;
        let reader = Reader {
            shared: Rc::clone(&self.0),
            number: shared.reader,
            at: 0,
            end: shared.pieces.len(),
        };
        drop(shared);
        Ok(Body::stream(reader))
    }
}

#[derive(Debug)]
struct Shared {
    source: Body,
    pieces: Vec<Bytes>,
    /// The last piece, while it has room.
    tail: BytesMut,
    size: u64,
    limit: u64,
    room: TranscriptRoom,
    trailers: Option<HeaderMap>,
    /// The length that was announced.
    length: Option<u64>,
    ended: bool,
    lost: Option<Lost>,
    /// The reader that may go on.
    reader: u32,
}

impl Shared {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        match &frame {
            None => self.ended = true,
            Some(Err(_)) => self.lose(Lost::Unread),
            Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => self.keep(data),
                (None, trailers) => self.trailers = trailers.cloned(),
            },
        }
        self.ended |= self.source.is_empty();
        Poll::Ready(frame)
    }

    fn keep(&mut self, data: &[u8]) {
        if self.lost.is_some() || self.reader > 0 {
            return;
        }
        let length = data.len() as u64;
        if self.size + length > self.limit {
            return self.lose(Lost::Larger);
        }
        if !self.room.take(length) {
            return self.lose(Lost::NoRoom);
        }
        self.size += length;
        // Copied, because a small piece may be all that is left of a large buffer.
        let mut rest = data;
        while !rest.is_empty() {
            if self.tail.len() == PIECE {
                self.close_tail();
            }
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.tail.len()));
            self.tail.extend_from_slice(now);
            rest = later;
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    fn lose(&mut self, lost: Lost) {
        self.lost = Some(lost);
        self.forget();
    }

    fn forget(&mut self) {
        self.room.give_back(self.size);
        (self.size, self.pieces, self.tail) = (0, Vec::new(), BytesMut::new());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The body while it is sent on: first what was kept of it, if it is not the first time, then what comes.
struct Reader {
    shared: Rc<RefCell<Shared>>,
    number: u32,
    at: usize,
    end: usize,
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let shared = Rc::clone(&self.shared);
        let mut shared = shared.borrow_mut();
        if shared.reader != self.number {
            return Poll::Ready(Some(Err(Fault::ours(FaultKind::Internal))));
        }
        if self.at < self.end {
            let piece = std::mem::take(&mut shared.pieces[self.at]);
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if shared.ended && self.number > 0 {
            let trailers = shared.trailers.take();
            return Poll::Ready(trailers.map(Frame::trailers).map(Ok));
        }
        shared.poll_source(cx)
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        let trailers = self.number > 0 && shared.trailers.is_some();
        self.at == self.end && !trailers && (shared.ended || shared.source.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        match (shared.length, self.number, self.at) {
            // What is announced again is the whole.
            (Some(length), 1.., 0) => SizeHint::with_exact(length),
            (Some(_), ..) => shared.source.size_hint(),
            (None, ..) => SizeHint::new(),
        }
    }
}

/// A body out of a transcript that is complete.
struct Replay {
    shared: Rc<RefCell<Shared>>,
    at: usize,
    left: u64,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let piece = self.shared.borrow().pieces.get(self.at).cloned();
        let Some(piece) = piece else {
            return Poll::Ready(self.trailers.take().map(Frame::trailers).map(Ok));
        };
        self.at += 1;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.shared.borrow().length {
            Some(_) => SizeHint::with_exact(self.left),
            None => SizeHint::new(),
        }
    }
}

/// Bytes that are kept in one piece.
const PIECE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    struct Pieces(VecDeque<Frame<Bytes>>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Fault;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn body(pieces: &[&'static str], trailer: Option<&'static str>) -> Body {
        let frames = pieces
            .iter()
            .map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        let trailers = trailer.map(|value| {
            let mut headers = HeaderMap::new();
            headers.insert("x-sum", value.parse().unwrap());
            Frame::trailers(headers)
        });
        Body::stream(Pieces(frames.chain(trailers).collect()))
    }

    fn read(body: Body) -> (String, Option<HeaderMap>) {
        let collected = body.collect().now_or_never().unwrap().unwrap();
        let trailers = collected.trailers().cloned();
        let text = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
        (text, trailers)
    }

    fn read_one(body: &mut Body) -> Bytes {
        let frame = body.frame().now_or_never().unwrap().unwrap().unwrap();
        frame.into_data().unwrap()
    }

    #[test]
    fn what_was_read_can_be_sent_again_and_again() {
        let room = TranscriptRoom::new(100);
        for trailer in [None, Some("7")] {
            let (sent, transcript) = Transcript::of(body(&["ab", "", "cd"], trailer), 4, &room);
            assert_eq!(transcript.whole().unwrap_err(), Lost::Unread);
            let (text, trailers) = read(sent);
            assert_eq!(
                (text.as_str(), trailers.is_some()),
                ("abcd", trailer.is_some())
            );
            for _ in 0..2 {
                let again = read(transcript.whole().unwrap());
                assert_eq!(again, ("abcd".to_owned(), trailers.clone()));
            }
            assert_eq!(read(transcript.again().unwrap()).0, "abcd");
        }
        assert_eq!(room.0.get(), 100, "the room is given back");
    }

    #[test]
    fn a_body_half_read_is_read_on_from_its_beginning() {
        let room = TranscriptRoom::new(100);
        let (mut first, transcript) = Transcript::of(body(&["ab", "cd", "e"], Some("5")), 9, &room);
        assert_eq!(read_one(&mut first), "ab");
        assert_eq!(read_one(&mut first), "cd");
        let again = transcript.again().unwrap();
        assert!(
            first.frame().now_or_never().unwrap().unwrap().is_err(),
            "cut off"
        );
        let (text, trailers) = read(again);
        assert_eq!((text.as_str(), trailers.is_some()), ("abcde", true));
    }

    #[test]
    fn a_known_length_stays_known() {
        let room = TranscriptRoom::new(100);
        let (mut sent, transcript) = Transcript::of(Body::from("abc"), 3, &room);
        assert_eq!(sent.length(), Some(3));
        assert_eq!(read_one(&mut sent), "abc");
        assert!(sent.is_empty());
        assert_eq!(transcript.whole().unwrap().length(), Some(3));
        let again = transcript.again().unwrap();
        assert_eq!(again.length(), Some(3));
        assert_eq!(read(again).0, "abc");
        let (sent, _) = Transcript::of(body(&["abc"], None), 3, &room);
        assert_eq!(sent.length(), None);
    }

    #[test]
    fn what_is_too_much_is_not_kept_and_still_sent() {
        let room = TranscriptRoom::new(5);
        let (sent, transcript) = Transcript::of(body(&["ab", "cd"], None), 3, &room);
        assert_eq!(read(sent).0, "abcd");
        assert_eq!(transcript.whole().unwrap_err(), Lost::Larger);
        assert_eq!(room.0.get(), 5);
        let (_sent, transcript) = Transcript::of(Body::from("abcd"), 3, &room);
        assert_eq!(
            transcript.again().unwrap_err(),
            Lost::Larger,
            "said in advance"
        );
        let (mut one, kept) = Transcript::of(body(&["abcd", "e"], None), 9, &room);
        assert_eq!(read_one(&mut one), "abcd");
        let (other, transcript) = Transcript::of(body(&["ab"], None), 9, &room);
        assert_eq!(read(other).0, "ab");
        assert_eq!(transcript.whole().unwrap_err(), Lost::NoRoom);
        drop((one, kept));
        assert_eq!(room.0.get(), 5);
    }

    #[test]
    fn large_bodies_are_kept_in_pieces() {
        let room = TranscriptRoom::new(1 << 20);
        let text = "x".repeat(3 * PIECE + 7).leak();
        let (sent, transcript) = Transcript::of(body(&[&*text, "y"], None), u64::MAX, &room);
        read(sent);
        assert_eq!(read(transcript.whole().unwrap()).0.len(), text.len() + 1);
        assert_eq!(transcript.0.borrow().pieces.len(), 4);
    }
}
