//! What a client answers to a challenge.

use std::borrow::Cow;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderValue, Method};
use md5::{Digest, Md5};

use crate::{exchange::RequestHead, middleware::escape::unescape};

/// The parameters of an `Authorization: Digest` field. Of several with one name the last counts.
pub(super) struct Answer<'h>(Vec<(Cow<'h, str>, Cow<'h, str>)>);

impl<'h> Answer<'h> {
    /// Reads the field; the name of the scheme is compared exactly.
    pub(super) fn read(header: &'h HeaderValue) -> Option<Self> {
        let text = std::str::from_utf8(header.as_bytes()).ok()?;
        let (scheme, list) = text.split_once(' ')?;
        (scheme == "Digest").then(|| Self(parameters(list)))
    }

    /// The value of a parameter, empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        let mut found = self.0.iter().rev().filter(|(key, _)| key == name);
        found.next().map_or("", |(_, value)| value)
    }

    /// Whether it belongs to our challenge and to this request.
    pub(super) fn is_for(&self, opaque: &str, request: &RequestHead) -> bool {
        let algorithm = self.0.iter().any(|(key, _)| key == "algorithm");
        self.get("opaque") == opaque
            && (!algorithm || self.get("algorithm") == "MD5")
            && self.get("qop") == "auth"
            && covers(self.get("uri"), request)
    }

    /// Whether it was made by someone who knows the password behind `hash`.
    pub(super) fn proves(&self, hash: &str, method: &Method) -> bool {
        let request = digest(&[method.as_str(), self.get("uri")]);
        let expected = digest(&[
            hash,
            self.get("nonce"),
            self.get("nc"),
            self.get("cnonce"),
            self.get("qop"),
            &request,
        ]);
        verify_slices_are_equal(expected.as_bytes(), self.get("response").as_bytes()).is_ok()
    }

    /// How often its nonce was used, as it says.
    pub(super) fn count(&self) -> Option<u64> {
        let digits = self.get("nc");
        // A sign would be taken for part of a number.
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
    }
}

/// Whether `uri` is the target of the request, or a path that the request's path begins with.
fn covers(uri: &str, request: &RequestHead) -> bool {
    if uri == request.target.as_str() {
        return true;
    }
    let path = unescape(path_of(uri).as_bytes());
    let requested = unescape(request.target.path().as_bytes());
    path.zip(requested)
        .is_some_and(|(path, requested)| requested.starts_with(&path))
}

/// The escaped path of a URL, absolute or not.
fn path_of(uri: &str) -> &str {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let rest = match uri.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest,
        _ => match uri.strip_prefix("//") {
            Some(rest) => rest,
            None => return uri,
        },
    };
    rest.find('/').map_or("", |at| &rest[at..])
}

fn digest(parts: &[&str]) -> String {
    use std::fmt::Write as _;
    let mut md5 = Md5::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            md5.update(b":");
        }
        md5.update(part);
    }
    md5.finalize()
        .iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

/// Splits `a="b, c", d=e` at the commas outside of quotes, and every item at its equals sign.
fn parameters(list: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    items(list)
        .map(|item| {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let inner = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'));
            (Cow::Borrowed(name), unquoted(inner.unwrap_or(value)))
        })
        .collect()
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |character: char| {
        let split = character == ',' && !quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        split
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}

/// Takes the backslashes of a quoted text away.
fn unquoted(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_with_quotes() {
        let header = HeaderValue::from_static(
            r#"Digest username="a \"b\", c", nc=00000001 , qop=auth,, empty="", none=, x, qop=last"#,
        );
        let answer = Answer::read(&header).unwrap();
        for (name, expected) in [
            ("username", r#"a "b", c"#),
            ("nc", "00000001"),
            ("qop", "last"),
            ("empty", ""),
            ("none", ""),
            ("x", ""),
            ("missing", ""),
        ] {
            assert_eq!(answer.get(name), expected, "{name}");
        }
        for other in ["digest a=b", "Basic a=b", "Digest", ""] {
            assert!(Answer::read(&HeaderValue::from_static(other)).is_none());
        }
    }

    #[test]
    fn paths_of_urls() {
        for (uri, path) in [
            ("/a/b?c", "/a/b"),
            ("http://host/a?b", "/a"),
            ("http://host", ""),
            ("//host/a", "/a"),
            ("", ""),
            ("/a://b/c", "/a://b/c"),
        ] {
            assert_eq!(path_of(uri), path, "{uri}");
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 7616 section 3.9.1.
        let header = HeaderValue::from_static(concat!(
            r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5, "#,
            r#"nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, "#,
            r#"cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, "#,
            r#"response="8ca523f5e9506fed4657c9700eebdbec", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
        ));
        let answer = Answer::read(&header).unwrap();
        let hash = digest(&["Mufasa", "http-auth@example.org", "Circle of Life"]);
        assert!(answer.proves(&hash, &Method::GET));
        assert!(!answer.proves(&hash, &Method::POST));
        let other = digest(&["Mufasa", "http-auth@example.org", "Circle of life"]);
        assert!(!answer.proves(&other, &Method::GET));
    }
}
