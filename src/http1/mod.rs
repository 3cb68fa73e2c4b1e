//! The HTTP/1 wire format, both sides: head parsing, message framing, serialising (RFC 9112).
//!
//! Everything here works on byte buffers and knows no sockets. The rule for doubtful input: refuse it, close, and never let two
//! parsers disagree about where a message ends.

pub mod chunked;
pub mod request;
pub mod response;
pub mod write;

use std::cell::RefCell;

use http::{HeaderMap, HeaderValue};

/// Where a message body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Everything until the connection closes (responses only).
    UntilClose,
}

/// Bytes of trailers or chunk extensions that are read at most.
pub const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// Header maps that a thread keeps for their allocations.
const SPARE_MAPS: usize = 256;
/// A map that grew beyond this is not kept.
const SPARE_MAP_SIZE: usize = 128;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty header map, with the allocation of an earlier one if there is any.
pub fn take_map() -> HeaderMap {
    MAPS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps the allocation of a header map that is no longer needed.
pub fn give_map(mut map: HeaderMap) {
    map.clear();
    if map.capacity() > 0 && map.capacity() <= SPARE_MAP_SIZE {
        MAPS.with_borrow_mut(|maps| {
            if maps.len() < SPARE_MAPS {
                maps.push(map);
            }
        });
    }
}

/// Header fields in one head at most.
pub const MAX_FIELDS: usize = 256;

/// Reads a `Content-Length`: digits only, no sign, no list (RFC 9112 section 6.3).
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0u64, |length, digit| {
        digit
            .is_ascii_digit()
            .then(|| length * 10 + u64::from(digit - b'0'))
    })
}

/// Whether a comma list holds `token`, ignoring case.
pub fn has_token(value: &[u8], token: &str) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// What the `Transfer-Encoding` and `Content-Length` fields of a head said, before they are judged.
#[derive(Debug, Default)]
struct FramingFields {
    length: Option<u64>,
    chunked: bool,
    doubtful: bool,
}

impl FramingFields {
    fn content_length(&mut self, value: &[u8]) {
        // A repeated Content-Length could be merged when the values agree; no honest client sends one.
        match content_length(value) {
            Some(length) if self.length.is_none() => self.length = Some(length),
            _ => self.doubtful = true,
        }
    }

    /// [`Self::content_length`] of an answer: some servers and the frameworks in them both set it, to the same value (RFC 9110 section 8.6).
    fn content_length_of_answer(&mut self, value: &[u8]) {
        match content_length(value) {
            Some(length) if self.length.is_none_or(|known| known == length) => {
                self.length = Some(length);
            }
            _ => self.doubtful = true,
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        // Only the one coding everybody understands alike; a list or a second field is doubt.
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            self.doubtful = true;
        }
        self.chunked = true;
    }

    fn ambiguous(&self) -> bool {
        self.doubtful || (self.chunked && self.length.is_some())
    }
}

/// A header value that shares the bytes of the head it was read from.
fn shared_value(head: &bytes::Bytes, value: &[u8]) -> Option<HeaderValue> {
    if value.is_empty() {
        return Some(HeaderValue::from_static(""));
    }
    HeaderValue::from_maybe_shared(head.slice_ref(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_digits_only() {
        for (text, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("", None),
            ("+5", None),
            ("-0", None),
            ("0x5", None),
            ("5_0", None),
            ("5 ", None),
            ("5, 5", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(content_length(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn tokens_in_lists() {
        assert!(has_token(b"keep-alive, Upgrade", "upgrade"));
        assert!(!has_token(b"upgraded", "upgrade"));
    }
}
