//! The target of a request line, in the one form that is matched and sent on.

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderValue, Method};

use super::{Refusal, bad, is_host};
use crate::exchange::{
    Target,
    path::{PathOptions, normalise, normalise_query},
};

pub(super) fn target(
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
