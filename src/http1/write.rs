//! Serialises heads and chunks. Header names go out in canonical case (`X-Forwarded-For`), as Go servers have taught their peers.

use http::{HeaderMap, HeaderName, StatusCode, Version, header};

use crate::exchange::{RequestHead, fault::reason_phrase};

/// How the body that follows a head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFrame {
    /// Nothing is said about a body.
    Unsaid,
    /// `Content-Length`, unless the headers hold one already.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Appends a request head for a server: origin-form target, HTTP/1.1, `Host` first.
pub fn request_head(
    out: &mut Vec<u8>,
    head: &RequestHead,
    host: &[u8],
    target: &str,
    body: BodyFrame,
) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    fields(out, &head.headers, body);
    if let Some(upgrade) = &head.upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(upgrade.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if head.accepts_trailers {
        out.extend_from_slice(b"Te: trailers\r\n");
    }
    if head.expects_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
}

/// Appends the status line of a response; HTTP/1.0 clients get HTTP/1.0.
pub fn status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    out.extend_from_slice(if version == Version::HTTP_10 {
        b"HTTP/1.0 "
    } else {
        b"HTTP/1.1 "
    });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends header fields and the framing field, without the final empty line.
pub fn fields(out: &mut Vec<u8>, headers: &HeaderMap, body: BodyFrame) {
    let mut said = false;
    for (name, value) in headers {
        if *name == header::CONTENT_LENGTH {
            // Only the framing we use is announced; a length beside chunks would be the doubt we refuse from others.
            if body == BodyFrame::Chunked || said {
                continue;
            }
            if let BodyFrame::Length(length) = body {
                said = true;
                content_length(out, length);
                continue;
            }
        }
        field(out, name, value.as_bytes());
    }
    match body {
        BodyFrame::Unsaid => {}
        BodyFrame::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFrame::Length(length) if !said => content_length(out, length),
        BodyFrame::Length(_) => {}
    }
}

/// Appends one field with its name in canonical case.
pub fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let text = name.as_str().as_bytes();
    if text.starts_with(b"sec-websocket-") {
        out.extend_from_slice(b"Sec-WebSocket-");
        canonical(out, &text[14..]);
    } else {
        canonical(out, text);
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn canonical(out: &mut Vec<u8>, name: &[u8]) {
    let start = out.len();
    out.extend_from_slice(name);
    let mut upper = true;
    for byte in &mut out[start..] {
        if upper {
            byte.make_ascii_uppercase();
        }
        upper = *byte == b'-';
    }
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the line that starts a chunk of `length` bytes.
pub fn chunk_size(out: &mut Vec<u8>, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0u8; 16];
    let (mut at, mut rest) = (digits.len(), length);
    loop {
        at -= 1;
        digits[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailers.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        field(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_canonical() {
        for (name, expected) in [
            ("x-forwarded-for", "X-Forwarded-For: v\r\n"),
            ("x_y", "X_y: v\r\n"),
            ("sec-websocket-key", "Sec-WebSocket-Key: v\r\n"),
            ("etag", "Etag: v\r\n"),
        ] {
            assert_eq!(
                text(|out| field(out, &HeaderName::from_bytes(name.as_bytes()).unwrap(), b"v")),
                expected
            );
        }
    }

    #[test]
    fn only_one_framing_is_announced() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("9"));
        assert_eq!(
            text(|out| fields(out, &headers, BodyFrame::Length(5))),
            "Content-Length: 5\r\n"
        );
        assert_eq!(
            text(|out| fields(out, &headers, BodyFrame::Chunked)),
            "Transfer-Encoding: chunked\r\n"
        );
        assert_eq!(
            text(|out| fields(out, &headers, BodyFrame::Unsaid)),
            "Content-Length: 9\r\n"
        );
        assert_eq!(
            text(|out| fields(out, &HeaderMap::new(), BodyFrame::Length(0))),
            "Content-Length: 0\r\n"
        );
    }

    #[test]
    fn numbers_and_chunks() {
        assert_eq!(text(|out| decimal(out, 0)), "0");
        assert_eq!(text(|out| decimal(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(text(|out| chunk_size(out, 0x1a2b)), "1a2b\r\n");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(
            text(|out| last_chunk(out, Some(&trailers))),
            "0\r\nGrpc-Status: 0\r\n\r\n"
        );
    }
}
