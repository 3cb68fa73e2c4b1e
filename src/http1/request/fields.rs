//! The fields of a request head that decide about the message itself.

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderName, StatusCode, Version, header};

use super::{Refusal, bad};
use crate::http1::{Framing, FramingFields, content_length, has_token, shared_value};

/// The fields that decide about the message itself.
pub(super) struct Fields {
    pub(super) version: Version,
    pub(super) framing: FramingFields,
    pub(super) host: Option<ByteString>,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

impl Fields {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version,
            framing: FramingFields::default(),
            host: None,
            keep_alive: version == Version::HTTP_11,
            expects_continue: false,
        }
    }

    pub(super) fn add(
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

    pub(super) fn host(&mut self, authority: Option<ByteString>) -> Result<ByteString, Refusal> {
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

    pub(super) fn framing(&self) -> Result<Framing, Refusal> {
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
