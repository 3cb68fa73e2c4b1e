//! The chunked transfer coding (RFC 9112 section 7.1): a decoder that trusts nothing.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{MAX_FIELDS, MAX_TRAILER_BYTES};

/// Decodes a chunked body from a growing buffer.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of chunk extensions and trailers seen; bounded over the whole body.
    overhead: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What the decoder found.
#[derive(Debug)]
pub enum Piece {
    /// More bytes are needed.
    Incomplete,
    /// Body bytes.
    Data(Bytes),
    /// The end, with trailers if there were any.
    End(Option<HeaderMap>),
}

/// The coding is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Default for Decoder {
    fn default() -> Self {
        Self {
            state: State::Size,
            overhead: 0,
        }
    }
}

impl Decoder {
    /// Takes the next piece out of `buffer`.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self.state {
                State::Size => match self.size_line(buffer)? {
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                    None => return Ok(Piece::Incomplete),
                },
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Piece::Incomplete);
                    }
                    let taken = usize::try_from(left)
                        .unwrap_or(usize::MAX)
                        .min(buffer.len());
                    let left = left - taken as u64;
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data(left)
                    };
                    return Ok(Piece::Data(buffer.split_to(taken).freeze()));
                }
                State::DataEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::Incomplete),
                    _ => return Err(Malformed),
                },
                State::Trailers => return self.trailers(buffer),
                State::Done => return Ok(Piece::End(None)),
            }
        }
    }

    /// Whether the whole body was read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn size_line(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let Some(end) = memchr::memchr(b'\n', buffer) else {
            if buffer.len() > MAX_TRAILER_BYTES {
                return Err(Malformed);
            }
            return Ok(None);
        };
        let line = buffer.split_to(end + 1);
        let line = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        // Sixteen digits fill a u64; more is either overflow or padding meant to confuse.
        if digits == 0 || digits > 16 {
            return Err(Malformed);
        }
        let (size, extension) = line.split_at(digits);
        self.extension(extension)?;
        let text = std::str::from_utf8(size).map_err(|_| Malformed)?;
        // Half of what fits is still absurd, and leaves room to add.
        u64::from_str_radix(text, 16)
            .ok()
            .filter(|size| *size <= u64::MAX / 2)
            .map(Some)
            .ok_or(Malformed)
    }

    fn extension(&mut self, extension: &[u8]) -> Result<(), Malformed> {
        self.overhead += extension.len();
        let starts_right = matches!(extension.trim_ascii_start(), [] | [b';', ..]);
        let clean = extension
            .iter()
            .all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
        // Blanks before the line's end are what older servers send; anything else that is not an extension is refused.
        if !starts_right || !clean || self.overhead > MAX_TRAILER_BYTES {
            return Err(Malformed);
        }
        Ok(())
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = State::Done;
            return Ok(Piece::End(None));
        }
        let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else {
            let too_long = buffer.len() > MAX_TRAILER_BYTES;
            return if too_long || super::request::has_bare_line_feed(buffer) {
                Err(Malformed)
            } else {
                Ok(Piece::Incomplete)
            };
        };
        if end + 4 > MAX_TRAILER_BYTES {
            return Err(Malformed);
        }
        let block = buffer.split_to(end + 4);
        self.state = State::Done;
        Ok(Piece::End(parse_trailers(&block)?))
    }
}

/// Fields that a trailer must never carry: framing, routing, trust, authentication (RFC 9110 section 6.5.1).
pub fn forbidden_in_trailers(name: &HeaderName) -> bool {
    let text = name.as_str();
    matches!(
        *name,
        header::TRANSFER_ENCODING
            | header::CONTENT_LENGTH
            | header::HOST
            | header::CONNECTION
            | header::TE
            | header::TRAILER
            | header::UPGRADE
            | header::AUTHORIZATION
            | header::COOKIE
            | header::SET_COOKIE
            | header::CONTENT_ENCODING
            | header::CONTENT_TYPE
            | header::CONTENT_RANGE
            | header::LOCATION
            | header::FORWARDED
            | header::PROXY_AUTHORIZATION
            | header::PROXY_AUTHENTICATE
            | header::WWW_AUTHENTICATE
            | header::EXPECT
            | header::RANGE
    ) || text.starts_with("x-forwarded-")
        || text.starts_with("x-real-")
        || text.contains('_')
        || matches!(text, "keep-alive" | "proxy-connection" | "http2-settings")
}

fn parse_trailers(block: &[u8]) -> Result<Option<HeaderMap>, Malformed> {
    if super::request::has_bare_line_feed(block) {
        return Err(Malformed);
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let parsed = match httparse::parse_headers(block, &mut fields) {
        Ok(httparse::Status::Complete((_, parsed))) if parsed.len() <= MAX_FIELDS => parsed,
        _ => return Err(Malformed),
    };
    let mut trailers = HeaderMap::new();
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        if !forbidden_in_trailers(&name) {
            trailers.append(
                name,
                HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?,
            );
        }
    }
    Ok((!trailers.is_empty()).then_some(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` fed in pieces of `step` bytes; the result is the body, the trailers' number and what was left over.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, usize), Malformed> {
        let (mut decoder, mut buffer, mut fed, mut body) =
            (Decoder::default(), BytesMut::new(), 0, Vec::new());
        loop {
            match decoder.next(&mut buffer)? {
                Piece::Incomplete if fed == input.len() => {
                    panic!("incomplete: {:?}", String::from_utf8_lossy(input))
                }
                Piece::Incomplete => {
                    let end = (fed + step).min(input.len());
                    buffer.extend_from_slice(&input[fed..end]);
                    fed = end;
                }
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::End(trailers) => {
                    return Ok((
                        body,
                        trailers.map_or(0, |map| map.len()),
                        buffer.len() + input.len() - fed,
                    ));
                }
            }
        }
    }

    #[test]
    fn decodes_whole_and_byte_by_byte() {
        for step in [1, 2, 3, 1000] {
            assert_eq!(
                decode(b"5\r\nhello\r\n0\r\n\r\n", step),
                Ok((b"hello".to_vec(), 0, 0))
            );
            assert_eq!(
                decode(
                    b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET",
                    step
                )
                .unwrap()
                .1,
                1
            );
        }
        assert_eq!(decode(b"0\r\n\r\nGET /", 100), Ok((vec![], 0, 5)));
    }

    #[test]
    fn doubtful_coding_is_refused() {
        for input in [
            &b"0x5\r\nhello\r\n0\r\n\r\n"[..],
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"5_0\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"00000000000000005\r\nhello\r\n0\r\n\r\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"0\r\nX: 1\n\r\n\r\n",
            b"0\r\nX : 1\r\n\r\n",
        ] {
            assert_eq!(
                decode(input, 1000),
                Err(Malformed),
                "{:?}",
                String::from_utf8_lossy(input)
            );
        }
    }

    #[test]
    fn trailers_cannot_carry_trust_or_framing() {
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
        buffer.extend_from_slice(
            b"0\r\nContent-Length: 5\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_Proto: https\r\nHost: x\r\nGrpc-Status: 0\r\n\r\n",
        );
        let Ok(Piece::End(Some(trailers))) = decoder.next(&mut buffer) else {
            panic!("no trailers")
        };
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["grpc-status"], "0");
    }

    #[test]
    fn extensions_are_bounded() {
        let mut input = Vec::new();
        for _ in 0..20 {
            input.extend_from_slice(b"1;");
            input.extend(std::iter::repeat_n(b'a', 1000));
            input.extend_from_slice(b"\r\nx\r\n");
        }
        assert_eq!(decode(&input, 100_000), Err(Malformed));
    }
}
