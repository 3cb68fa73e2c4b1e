//! A URL as a user's replacement made it, in the form that goes into `Location`: what Go's `net/url` makes of it.

use crate::middleware::escape::{escape_where, escaped_form, may_stand_in_path, unescape};

/// Escapes what must be escaped; `None` if it is no URL.
pub(super) fn normal_form(url: &str) -> Option<String> {
    if url.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (url, fragment) = split(url, '#');
    let (scheme, rest) = scheme_of(url)?;
    let (rest, query) = split(rest, '?');
    let mut out = String::with_capacity(url.len() + 16);
    if !scheme.is_empty() {
        out.push_str(&scheme.to_ascii_lowercase());
        out.push(':');
    }
    if scheme.is_empty() || rest.starts_with('/') {
        push_hierarchy(&mut out, scheme, rest)?;
    } else {
        out.push_str(rest);
    }
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) {
        out.push('#');
        out.push_str(&escaped_fragment(fragment)?);
    }
    Some(out)
}

/// Authority and path.
fn push_hierarchy(out: &mut String, scheme: &str, rest: &str) -> Option<()> {
    let with_authority = rest.starts_with("//") && !(scheme.is_empty() && rest.starts_with("///"));
    if !with_authority {
        let first = rest.split('/').next().unwrap_or_default();
        if first.contains(':') {
            return None;
        }
        out.push_str(&escaped_path(rest)?);
        return Some(());
    }
    let rest = &rest[2..];
    let end = rest.find('/').unwrap_or(rest.len());
    out.push_str("//");
    out.push_str(&authority(&rest[..end])?);
    out.push_str(&escaped_path(&rest[end..])?);
    Some(())
}

/// The scheme, which may be missing, and what follows it.
fn scheme_of(url: &str) -> Option<(&str, &str)> {
    for (at, byte) in url.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return None,
            b':' => return Some((&url[..at], &url[at + 1..])),
            _ => break,
        }
    }
    Some(("", url))
}

fn authority(text: &str) -> Option<String> {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    let port = match host.strip_prefix('[') {
        Some(literal) => literal.rsplit_once(']')?.1,
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let in_host =
        |byte: u8| !byte.is_ascii() || byte.is_ascii_alphanumeric() || HOST.contains(&byte);
    let in_user = |byte: u8| byte.is_ascii_alphanumeric() || USER.contains(&byte);
    if !is_port || !host.bytes().all(in_host) || !user.unwrap_or_default().bytes().all(in_user) {
        return None;
    }
    let host = escape_where(host.as_bytes(), |byte| !byte.is_ascii());
    Some(match user {
        Some(user) => format!("{user}@{host}"),
        None => host,
    })
}

fn escaped_path(path: &str) -> Option<String> {
    Some(escaped_form(&unescape(path.as_bytes())?, path))
}

fn escaped_fragment(fragment: &str) -> Option<String> {
    let in_fragment = |byte: u8| may_stand_in_path(byte) || byte == b'?';
    unescape(fragment.as_bytes())?;
    Some(escape_where(fragment.as_bytes(), |byte| !in_fragment(byte)))
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

const HOST: &[u8] = b"-_.~!$&'()*+,;=:[]<>\"";
const USER: &[u8] = b"-._:~!$&'()*+,;=%";

#[cfg(test)]
mod tests {
    use super::normal_form;

    #[test]
    fn urls_come_out_escaped() {
        for (url, expected) in [
            ("http://a.test/x", Some("http://a.test/x")),
            ("HTTP://A.test/X y", Some("http://A.test/X%20y")),
            ("//a.test/x", Some("//a.test/x")),
            ("/x?a=b c#d e", Some("/x?a=b c#d%20e")),
            ("x/y", Some("x/y")),
            ("mailto:a@b", Some("mailto:a@b")),
            ("https://[::1]:80/x", Some("https://[::1]:80/x")),
            ("https://a:b/x", None),
            ("https://a b/x", None),
            ("https://[::1/x", None),
            (":x", None),
            ("1:x", None),
            ("/%zz", None),
            ("/a\nb", None),
        ] {
            assert_eq!(normal_form(url).as_deref(), expected, "{url}");
        }
    }
}
