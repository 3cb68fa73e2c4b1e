//! Reads response heads of servers.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::{Framing, FramingFields, MAX_FIELDS, has_token, shared_value, take_map};
use crate::exchange::FaultKind;

/// Bytes of a response head at most.
pub const MAX_HEAD: usize = 1024 * 1024;

/// A response head and what it says about the message.
#[derive(Debug)]
pub struct Parsed {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keep_alive: bool,
}

/// Takes one response head out of `buffer`; `None` if it is not complete yet. `method` is the request's, because the answer to HEAD
/// has no body whatever its fields say.
///
/// `scanned` says how much of the buffer was looked at before; it starts at 0 with every head, so that a head that comes byte by byte
/// is not searched from its start each time.
pub fn parse(
    buffer: &mut BytesMut,
    method: &Method,
    scanned: &mut usize,
) -> Result<Option<Parsed>, FaultKind> {
    let known = scanned.saturating_sub(3).min(buffer.len());
    let Some(end) = memchr::memmem::find(&buffer[known..], b"\r\n\r\n") else {
        let bare = super::request::has_bare_line_feed_after(buffer, known);
        *scanned = buffer.len();
        return if buffer.len() > MAX_HEAD {
            Err(FaultKind::ResponseTooLarge)
        } else if bare || !could_be_status_line(buffer) {
            Err(FaultKind::BadResponse)
        } else {
            Ok(None)
        };
    };
    let end = known + end + 4;
    if end > MAX_HEAD {
        return Err(FaultKind::ResponseTooLarge);
    }
    let head = buffer.split_to(end).freeze();
    if super::request::has_bare_line_feed(&head) {
        return Err(FaultKind::BadResponse);
    }
    let mut few = [const { MaybeUninit::uninit() }; 40];
    match parse_fields(&head, &mut few, method) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = [const { MaybeUninit::uninit() }; MAX_FIELDS];
            parse_fields(&head, &mut many, method)
        }
        other => other,
    }
    .map(Some)
    .map_err(|_| FaultKind::BadResponse)
}

/// Whether the bytes so far can become a status line; garbage is refused at once instead of waited for.
fn could_be_status_line(bytes: &[u8]) -> bool {
    let known = b"HTTP/1.";
    let length = bytes.len().min(known.len());
    bytes[..length] == known[..length]
}

fn parse_fields<'b>(
    head: &'b Bytes,
    storage: &mut [MaybeUninit<httparse::Header<'b>>],
    method: &Method,
) -> Result<Parsed, httparse::Error> {
    let mut response = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        head,
        storage,
    )? {
        httparse::Status::Complete(_) => {}
        httparse::Status::Partial => return Err(httparse::Error::Status),
    }
    let status = StatusCode::from_u16(response.code.unwrap_or_default())
        .map_err(|_| httparse::Error::Status)?;
    let is_11 = response.version == Some(1);
    let (mut framing, mut keep_alive, mut close) = (FramingFields::default(), is_11, false);
    let mut headers = take_map();
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| httparse::Error::HeaderName)?;
        match name {
            header::CONTENT_LENGTH => {
                framing.content_length_of_answer(field.value);
                if headers.contains_key(header::CONTENT_LENGTH) {
                    continue;
                }
            }
            header::TRANSFER_ENCODING => {
                framing.transfer_encoding(field.value);
                continue;
            }
            header::CONNECTION => {
                close |= has_token(field.value, "close");
                keep_alive |= has_token(field.value, "keep-alive");
            }
            _ => {}
        }
        headers.append(
            name,
            shared_value(head, field.value).ok_or(httparse::Error::HeaderValue)?,
        );
    }
    // A server that answers with both fields, or chunks to an HTTP/1.0 client, cannot be trusted about where its answer ends.
    if framing.ambiguous() || (framing.chunked && !is_11) {
        return Err(httparse::Error::Token);
    }
    let framing = body_of(status, method, &framing);
    Ok(Parsed {
        status,
        headers,
        framing,
        keep_alive: keep_alive && !close && framing != Framing::UntilClose,
    })
}

/// RFC 9112 section 6.3.
fn body_of(status: StatusCode, method: &Method, fields: &FramingFields) -> Framing {
    let bodiless = method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if bodiless {
        Framing::None
    } else if fields.chunked {
        Framing::Chunked
    } else {
        match fields.length {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, method: &Method) -> Result<Option<(u16, Framing, bool)>, FaultKind> {
        let parsed = parse(&mut BytesMut::from(text), method, &mut 0)?;
        Ok(parsed.map(|parsed| (parsed.status.as_u16(), parsed.framing, parsed.keep_alive)))
    }

    #[test]
    fn framing_of_answers() {
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                (200, Framing::Length(5), true),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                (200, Framing::Length(5), true),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                (200, Framing::Chunked, true),
            ),
            ("HTTP/1.1 200\r\n\r\n", (200, Framing::UntilClose, false)),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
                (204, Framing::None, true),
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                (304, Framing::None, true),
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
                (103, Framing::None, true),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                (200, Framing::Length(5), false),
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
                (200, Framing::Length(5), true),
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
                (200, Framing::Length(5), false),
            ),
        ] {
            assert_eq!(read(text, &Method::GET), Ok(Some(expected)), "{text:?}");
        }
        assert_eq!(
            read(
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                &Method::HEAD
            ),
            Ok(Some((200, Framing::None, true)))
        );
    }

    #[test]
    fn doubtful_answers_are_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
            "HTTP/1.1 200 OK\r\nX: 1\nY: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
            "HTTP/1.1 99 OK\r\n\r\n",
            "garbage",
            "SSH-2.0-OpenSSH\r\n",
        ] {
            assert_eq!(
                read(text, &Method::GET),
                Err(FaultKind::BadResponse),
                "{text:?}"
            );
        }
        assert_eq!(read("HTTP/1.1 20", &Method::GET), Ok(None));
    }

    #[test]
    fn heads_in_drops_are_read_once_and_judged_the_same() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", Ok(true)),
            (
                "HTTP/1.1 200 OK\r\nX: 1\nY: 2\r\n\r\n",
                Err(FaultKind::BadResponse),
            ),
            ("HTTP/1.1 200 OK\r\n\nX", Err(FaultKind::BadResponse)),
        ] {
            let (mut buffer, mut scanned) = (BytesMut::new(), 0);
            let outcome = text.bytes().find_map(|byte| {
                buffer.extend_from_slice(&[byte]);
                let before = buffer.len();
                match parse(&mut buffer, &Method::GET, &mut scanned) {
                    Ok(None) => {
                        assert_eq!(scanned, before, "what was looked at is remembered");
                        None
                    }
                    other => Some(other.map(|head| head.is_some())),
                }
            });
            assert_eq!(outcome, Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_was_scanned_is_not_searched_again() {
        // The end of the head lies where it was said to have been looked for already.
        let mut buffer = BytesMut::from("HTTP/1.1 200 OK\r\n\r\nbody of some length");
        let mut scanned = buffer.len();
        assert!(
            parse(&mut buffer, &Method::GET, &mut scanned)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn heads_are_bounded() {
        let text = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(MAX_HEAD));
        assert_eq!(read(&text, &Method::GET), Err(FaultKind::ResponseTooLarge));
    }
}
