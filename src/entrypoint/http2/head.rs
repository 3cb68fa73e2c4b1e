//! The head of a request in the form of every protocol.

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::Shared;
use crate::{
    exchange::{RequestHead, Target},
    http1::request::{is_host, normal_form},
};

/// The request head in the form of every protocol (RFC 9113 section 8.3).
pub(super) fn head(
    parts: http::request::Parts,
    protocol: Option<&ByteString>,
    shared: &Shared,
) -> Result<RequestHead, StatusCode> {
    let mut headers = parts.headers;
    let upgrade = match (&parts.method, protocol) {
        // Any other protocol would be a tunnel past everything that rules and middlewares look at.
        (&Method::CONNECT, Some(protocol)) if !protocol.eq_ignore_ascii_case("websocket") => {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        (&Method::CONNECT, Some(protocol)) => {
            Some(HeaderValue::from_str(protocol).map_err(|_| StatusCode::BAD_REQUEST)?)
        }
        (&Method::CONNECT, None) => return Err(StatusCode::NOT_IMPLEMENTED),
        _ => None,
    };
    let host = host(parts.uri.authority(), &mut headers)?;
    let target = match parts.uri.path_and_query() {
        Some(target) if target.as_str() == "*" && parts.method == Method::OPTIONS => {
            Target::new("*".into())
        }
        Some(target) => normal_form(ByteString::from(target.as_str()), shared.entry.limits.path)
            .map_err(|refusal| refusal.status)?,
        None => Target::new("/".into()),
    };
    join_cookies(&mut headers);
    if upgrade.is_some() && !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        // RFC 8441 leaves the key out; an HTTP/1.1 server insists on one.
        headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key());
    }
    Ok(RequestHead {
        method: if upgrade.is_some() {
            Method::GET
        } else {
            parts.method
        },
        version: Version::HTTP_2,
        host,
        target,
        headers,
        upgrade,
        accepts_trailers: false,
        expects_continue: false,
    })
}

fn host(
    authority: Option<&http::uri::Authority>,
    headers: &mut HeaderMap,
) -> Result<ByteString, StatusCode> {
    let field = headers.remove(header::HOST);
    let host = match (authority, &field) {
        (Some(authority), Some(field))
            if !field
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            return Err(StatusCode::BAD_REQUEST);
        }
        (Some(authority), _) => ByteString::from(authority.as_str()),
        (None, Some(field)) => {
            ByteString::from(field.to_str().map_err(|_| StatusCode::BAD_REQUEST)?)
        }
        (None, None) => ByteString::new(),
    };
    if is_host(&host) {
        Ok(host)
    } else {
        Err(StatusCode::BAD_REQUEST)
    }
}

/// HTTP/2 may split a cookie into crumbs; HTTP/1.1 knows only one field (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in [second].into_iter().chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, value);
    }
}

fn websocket_key() -> HeaderValue {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(key))
        .unwrap_or(HeaderValue::from_static("cG9ydHdheSBoMiB0byBoMQ=="))
}

/// How long the client says its body is; with trailers to come that cannot be said to an HTTP/1 server.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::TRAILER) {
        return None;
    }
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
