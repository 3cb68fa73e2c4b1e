//! Reads request heads: strict where parsers are known to disagree, so that no request can be seen as two.

mod fields;
mod target;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};

use self::{fields::Fields, target::target};
use super::{Framing, MAX_FIELDS, take_map};
use crate::exchange::{RequestHead, path::PathOptions};

pub use self::{
    fields::is_host,
    target::{normal_form, value_of},
};

/// A request head and what it says about the message.
#[derive(Debug)]
pub struct Parsed {
    pub head: RequestHead,
    pub framing: Framing,
    /// Whether the client wants to use the connection again.
    pub keep_alive: bool,
}

/// Why a request was refused; the connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// For the log.
    pub reason: &'static str,
}

/// Bounds and options of an entry point.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a head at most (`http.maxHeaderBytes`).
    pub max_head: usize,
    pub path: PathOptions,
}

/// Empty lines before a request line that are forgiven (RFC 9112 section 2.2 asks for at least one).
const MAX_LEADING_LINES: usize = 4;

/// Takes one request head out of `buffer`; `None` if it is not complete yet.
///
/// `scanned` says how much of the buffer was looked at before; it starts at 0 with every head, so that a head that comes byte by byte
/// is not searched from its start each time.
pub fn parse(
    buffer: &mut BytesMut,
    limits: &Limits,
    scanned: &mut usize,
) -> Result<Option<Parsed>, Refusal> {
    if *scanned == 0 {
        skip_leading_lines(buffer)?;
    }
    let known = scanned.saturating_sub(3).min(buffer.len());
    let Some(end) = memchr::memmem::find(&buffer[known..], b"\r\n\r\n") else {
        if buffer.len() > limits.max_head {
            return Err(too_large());
        }
        // A head that ends in bare line feeds would otherwise be waited for until the timeout.
        let bare = has_bare_line_feed_after(buffer, known);
        *scanned = buffer.len();
        return if bare {
            Err(bad("bare line feed in head"))
        } else {
            Ok(None)
        };
    };
    let end = known + end + 4;
    if end > limits.max_head {
        return Err(too_large());
    }
    let head = buffer.split_to(end).freeze();
    if has_bare_line_feed(&head) {
        return Err(bad("bare line feed in head"));
    }
    let mut few = [const { MaybeUninit::uninit() }; 40];
    match parse_fields(&head, &mut few, take_map(), limits) {
        Err(Failed::TooManyFields(headers)) => {
            let mut many = [const { MaybeUninit::uninit() }; MAX_FIELDS];
            parse_fields(&head, &mut many, headers, limits)
        }
        other => other,
    }
    .map(Some)
    .map_err(Failed::into_refusal)
}

/// Whether a line feed stands without its carriage return behind the first `known` bytes, in which none did.
pub(crate) fn has_bare_line_feed_after(bytes: &[u8], known: usize) -> bool {
    // The last byte known may be the carriage return of the first line feed behind it.
    memchr::memchr_iter(b'\n', &bytes[known..])
        .map(|at| known + at)
        .any(|at| at == 0 || bytes[at - 1] != b'\r')
}

/// Whether a line feed stands without its carriage return.
pub(crate) fn has_bare_line_feed(bytes: &[u8]) -> bool {
    has_bare_line_feed_after(bytes, 0)
}

const fn bad(reason: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        reason,
    }
}

const fn too_large() -> Refusal {
    Refusal {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        reason: "request head exceeds http.maxHeaderBytes",
    }
}

fn skip_leading_lines(buffer: &mut BytesMut) -> Result<(), Refusal> {
    let mut skipped = 0;
    while buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        skipped += 1;
        if skipped > MAX_LEADING_LINES {
            return Err(bad("empty lines instead of a request line"));
        }
    }
    Ok(())
}

enum Failed {
    Refused(Refusal),
    TooManyFields(HeaderMap),
}

impl Failed {
    fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::TooManyFields(_) => Refusal {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "too many header fields",
            },
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn parse_fields<'b>(
    head: &'b Bytes,
    storage: &mut [MaybeUninit<httparse::Header<'b>>],
    mut headers: HeaderMap,
    limits: &Limits,
) -> Result<Parsed, Failed> {
    let mut request = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        head,
        storage,
    ) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Failed::TooManyFields(headers)),
        Ok(httparse::Status::Partial) => return Err(bad("malformed head").into()),
        Err(error) => return Err(bad(reason_of(error)).into()),
    }
    let version = if request.version == Some(1) {
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| bad("malformed method"))?;
    if method == Method::CONNECT {
        return Err(Refusal {
            status: StatusCode::NOT_IMPLEMENTED,
            reason: "CONNECT is refused",
        }
        .into());
    }
    let mut fields = Fields::new(version);
    for field in request.headers.iter() {
        fields.add(head, field, &mut headers)?;
    }
    let (target, authority) = target(head, request.path.unwrap_or_default(), &method, limits.path)?;
    let host = fields.host(authority)?;
    let framing = fields.framing()?;
    Ok(Parsed {
        keep_alive: fields.keep_alive,
        framing,
        head: RequestHead {
            method,
            version,
            host,
            target,
            headers,
            upgrade: None,
            accepts_trailers: false,
            expects_continue: fields.expects_continue
                && version == Version::HTTP_11
                && framing != Framing::None,
        },
    })
}

const fn reason_of(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "malformed header name",
        httparse::Error::HeaderValue => "malformed header value",
        httparse::Error::NewLine => "malformed line end",
        httparse::Error::Token => "malformed request line",
        httparse::Error::Version => "unknown HTTP version",
        _ => "malformed head",
    }
}
