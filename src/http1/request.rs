//! Reads request heads: strict where parsers are known to disagree, so that no request can be seen as two.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::{
    Framing, FramingFields, MAX_FIELDS, content_length, has_token, shared_value, take_map,
};
use crate::exchange::{
    RequestHead, Target,
    path::{PathOptions, normalise, normalise_query},
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

/// The fields that decide about the message itself.
struct Fields {
    version: Version,
    framing: FramingFields,
    host: Option<ByteString>,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn new(version: Version) -> Self {
        Self {
            version,
            framing: FramingFields::default(),
            host: None,
            keep_alive: version == Version::HTTP_11,
            expects_continue: false,
        }
    }

    fn add(
        &mut self,
        head: &Bytes,
        field: &httparse::Header<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Refusal> {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| bad("malformed header name"))?;
        match name {
            header::HOST => {
                if self.host.is_some() {
                    return Err(bad("more than one Host"));
                }
                let value = head.slice_ref(field.value);
                self.host = Some(ByteString::try_from(value).map_err(|_| bad("malformed Host"))?);
                return Ok(());
            }
            header::CONTENT_LENGTH => self.framing.content_length(field.value),
            header::TRANSFER_ENCODING => {
                self.framing.transfer_encoding(field.value);
                return Ok(());
            }
            header::CONNECTION if self.connection(field.value) => return Ok(()),
            header::EXPECT => {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal {
                        status: StatusCode::EXPECTATION_FAILED,
                        reason: "unknown expectation",
                    });
                }
                self.expects_continue = true;
                return Ok(());
            }
            _ => {}
        }
        let value = shared_value(head, field.value).ok_or_else(|| bad("malformed header value"))?;
        headers.append(name, value);
        Ok(())
    }

    /// Reads a `Connection` field; true if it says nothing beyond keep-alive or close, so that nobody else needs it.
    fn connection(&mut self, value: &[u8]) -> bool {
        if has_token(value, "close") {
            self.keep_alive = false;
            value.eq_ignore_ascii_case(b"close")
        } else {
            self.keep_alive |= self.version == Version::HTTP_10 && has_token(value, "keep-alive");
            value.eq_ignore_ascii_case(b"keep-alive")
        }
    }

    fn host(&mut self, authority: Option<ByteString>) -> Result<ByteString, Refusal> {
        let host = match (self.host.take(), authority) {
            // The target's authority wins over Host (RFC 9112 section 3.2.2), but HTTP/1.1 must send Host all the same.
            (Some(_), Some(authority)) => authority,
            (Some(host), None) => host,
            (None, _) if self.version == Version::HTTP_11 => return Err(bad("no Host")),
            (None, authority) => authority.unwrap_or_default(),
        };
        if is_host(&host) {
            Ok(host)
        } else {
            Err(bad("malformed Host"))
        }
    }

    fn framing(&self) -> Result<Framing, Refusal> {
        if self.framing.ambiguous() {
            return Err(bad("ambiguous message length"));
        }
        match (self.framing.chunked, self.framing.length) {
            (true, _) if self.version == Version::HTTP_10 => {
                Err(bad("Transfer-Encoding in HTTP/1.0"))
            }
            (true, _) => Ok(Framing::Chunked),
            (false, Some(0) | None) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// Whether `host` is `name[:port]`, `[v6][:port]` or empty. Anything with a path, userinfo or blank in it is not.
pub fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            // A zone would be meaningless on another machine (RFC 6874).
            Some((address, tail)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (
                "",
                tail.strip_prefix(':')
                    .or_else(|| tail.is_empty().then_some("")),
            ),
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("")),
        },
    };
    let named = name.bytes().all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'.' | b'-'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'*'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            )
            || byte >= 0x80
    });
    let ported = port.is_some_and(|port| {
        port.is_empty() || (content_length(port.as_bytes()).is_some_and(|port| port <= 65_535))
    });
    named && ported
}

fn target(
    head: &Bytes,
    raw: &str,
    method: &Method,
    options: PathOptions,
) -> Result<(Target, Option<ByteString>), Refusal> {
    if raw == "*" {
        return if method == Method::OPTIONS {
            Ok((Target::new("*".into()), None))
        } else {
            Err(bad("target * without OPTIONS"))
        };
    }
    if raw.starts_with('/') {
        return Ok((normal_target(head, raw, options)?, None));
    }
    let Some((scheme, rest)) = raw.split_once("://") else {
        return Err(bad("malformed target"));
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(bad("unknown scheme in target"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !is_host(authority) {
        return Err(bad("malformed authority in target"));
    }
    let target = if path.starts_with('/') {
        normal_target(head, path, options)?
    } else {
        normal_form(format!("/{path}").into(), options)?
    };
    let authority = ByteString::try_from(head.slice_ref(authority.as_bytes()))
        .map_err(|_| bad("malformed authority in target"))?;
    Ok((target, Some(authority)))
}

fn normal_target(head: &Bytes, raw: &str, options: PathOptions) -> Result<Target, Refusal> {
    let text = ByteString::try_from(head.slice_ref(raw.as_bytes()))
        .map_err(|_| bad("malformed target"))?;
    normal_form(text, options)
}

/// Brings an origin-form target into the form that is matched and sent on.
pub fn normal_form(text: ByteString, options: PathOptions) -> Result<Target, Refusal> {
    let target = Target::new(text);
    let path =
        normalise(target.path().as_bytes(), options.sanitize).map_err(|_| bad("malformed path"))?;
    if let Some(query) = target.query() {
        if query
            .bytes()
            .any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#')
        {
            return Err(bad("malformed query"));
        }
        let query = normalise_query(query, options.encode_semicolons);
        if matches!(
            (&path, &query),
            (std::borrow::Cow::Borrowed(_), std::borrow::Cow::Borrowed(_))
        ) {
            return Ok(target);
        }
        return Ok(Target::new(format!("{path}?{query}").into()));
    }
    match path {
        std::borrow::Cow::Borrowed(_) => Ok(target),
        std::borrow::Cow::Owned(path) => Ok(Target::new(path.into())),
    }
}

/// A header value from text that was checked already.
pub fn value_of(text: &ByteString) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(text.as_bytes().clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_head: 4096,
        path: PathOptions {
            sanitize: true,
            encode_semicolons: false,
        },
    };

    fn read(text: &str) -> Result<Option<Parsed>, Refusal> {
        parse(&mut BytesMut::from(text), &LIMITS, &mut 0)
    }

    fn status(text: &str) -> u16 {
        match read(text) {
            Ok(Some(_)) => 200,
            Ok(None) => 0,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    fn with(fields: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")
    }

    #[test]
    fn reads_a_plain_request() {
        let parsed = read(
            "GET /a/../b?c;d HTTP/1.1\r\nHost: Example.org:80\r\nX-One: 1\r\nX-One: 2\r\n\r\n",
        )
        .unwrap()
        .unwrap();
        assert_eq!(parsed.head.target.as_str(), "/b?c&d");
        assert_eq!(&*parsed.head.host, "Example.org:80");
        assert_eq!(parsed.head.headers.get_all("x-one").iter().count(), 2);
        assert!(parsed.keep_alive);
        assert_eq!(parsed.framing, Framing::None);
    }

    #[test]
    fn what_follows_a_head_stays_in_the_buffer() {
        let mut buffer = BytesMut::from("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\n");
        assert!(parse(&mut buffer, &LIMITS, &mut 0).unwrap().is_some());
        assert_eq!(&buffer[..], b"GET /2 HTTP/1.1\r\n");
        assert!(parse(&mut buffer, &LIMITS, &mut 0).unwrap().is_none());
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_the_same() {
        let text = "\r\nGET /a HTTP/1.1\r\nHost: x\r\nX: 1\r\n\r\n";
        let (mut buffer, mut scanned) = (BytesMut::new(), 0);
        for (at, byte) in text.bytes().enumerate() {
            buffer.extend_from_slice(&[byte]);
            let parsed = parse(&mut buffer, &LIMITS, &mut scanned).unwrap();
            assert_eq!(parsed.is_some(), at + 1 == text.len(), "byte {at}");
        }
        for text in ["GET / HTTP/1.1\nHost: x\n", "GET / HTTP/1.1\r\nHost: x\n"] {
            let (mut buffer, mut scanned) = (BytesMut::new(), 0);
            let refused = text.bytes().any(|byte| {
                buffer.extend_from_slice(&[byte]);
                parse(&mut buffer, &LIMITS, &mut scanned).is_err()
            });
            assert!(refused, "{text:?}");
        }
    }

    #[test]
    fn doubtful_length_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length:",
            "Content-Length: +5",
            "Content-Length: -0",
            "Content-Length: 0x5",
            "Content-Length: 5_0",
            "Content-Length: 5 5",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding: chunked, xchunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding:",
        ] {
            assert_eq!(status(&with(fields)), 400, "{fields:?}");
        }
        assert_eq!(
            status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
        assert_eq!(
            read(&with("Transfer-Encoding: Chunked"))
                .unwrap()
                .unwrap()
                .framing,
            Framing::Chunked
        );
        assert_eq!(
            read(&with("Content-Length:  7 ")).unwrap().unwrap().framing,
            Framing::Length(7)
        );
    }

    #[test]
    fn malformed_fields_are_refused() {
        for fields in [
            "X : 1",
            "X",
            ": 1",
            " X: 1",
            "X: 1\r\n folded",
            "X: a\0b",
            "X: a\rb",
            "X: 1\nY: 2",
            "X\u{e9}: 1",
            "X: a\u{7f}b",
            "Host: y",
        ] {
            assert_eq!(status(&with(fields)), 400, "{fields:?}");
        }
    }

    #[test]
    fn malformed_request_lines_are_refused() {
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.10",
            "GET / http/1.1",
            "GET / HTTP/2.0",
            "GET /",
            "GET / HTTP/1.1 x",
            "GET\t/ HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET a HTTP/1.1",
            "GET * HTTP/1.1",
            "GET ftp://x/ HTTP/1.1",
            "GET /%zz HTTP/1.1",
            "GET http://a@b/ HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET http://x:99999/ HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
        ] {
            assert_eq!(
                status(&format!("{line}\r\nHost: x\r\n\r\n")),
                400,
                "{line:?}"
            );
        }
        assert_eq!(status("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"), 501);
        assert_eq!(
            status("\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            400
        );
        assert_eq!(status("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
        assert_eq!(status("GET / HTTP/1.1\nHost: x\n\n"), 400);
    }

    #[test]
    fn hosts() {
        for host in [
            "a",
            "a:80",
            "a.b-c_d",
            "[::1]",
            "[::1]:80",
            "1.2.3.4:5",
            "",
            "a:",
        ] {
            assert!(is_host(host), "{host:?}");
        }
        for host in [
            "a/b",
            "a@b",
            "a b",
            "[::1",
            "[::1%eth0]",
            "a:b",
            "a:99999",
            "[::1]x",
            "a:1:2",
            "a#b",
            "a?b",
            "a\\b",
            "<a>",
        ] {
            assert!(!is_host(host), "{host:?}");
        }
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
        let absolute = read("GET http://Other:81/x HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(
            (&*absolute.head.host, absolute.head.target.as_str()),
            ("Other:81", "/x")
        );
    }

    #[test]
    fn heads_are_bounded() {
        assert_eq!(status(&with(&format!("X: {}", "a".repeat(5000)))), 431);
        assert_eq!(status(&format!("GET /{}", "a".repeat(5000))), 431);
        let many: String = (0..300).map(|n| format!("X{n}: 1\r\n")).collect();
        assert_eq!(status(&with(many.trim_end())), 431);
        let some: String = (0..100).map(|n| format!("X{n}: 1\r\n")).collect();
        assert_eq!(status(&with(some.trim_end())), 200);
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let keep = |text: &str| read(text).unwrap().unwrap().keep_alive;
        assert!(!keep("GET / HTTP/1.0\r\nHost: x\r\n\r\n"));
        assert!(keep(
            "GET / HTTP/1.0\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n"
        ));
        assert!(!keep(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"
        ));
        assert!(!keep(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: x, close\r\n\r\n"
        ));
    }
}
