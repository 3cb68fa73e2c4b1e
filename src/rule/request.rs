//! How the host and the path of a request are brought into the form that rules are written in.

use std::borrow::Cow;
use std::fmt::Write;

/// The host part of a `Host` header, `:authority` or absolute URI: without surrounding blanks, port and the brackets
/// of an IPv6 address, in lower case. A trailing dot is kept.
pub fn normalise_host(host: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if host.bytes().all(is_plain) {
        return Cow::Borrowed(host);
    }
    let host = without_port(host.trim_ascii());
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// `host` less one trailing dot: `example.com.` and `example.com` are the same name.
pub fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The path that rules are matched with: every escape of `escaped` decoded, except those of reserved characters and
/// of the percent sign, whose decoding would change the meaning of the path; they stay, in upper case. Bytes
/// that are no UTF-8 stay encoded too. A malformed escape (which a server refuses before routing) stays as it is.
pub fn routing_path(escaped: &str) -> Cow<'_, str> {
    if !escaped.contains('%') {
        return Cow::Borrowed(escaped);
    }
    let mut decoded = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match escape(rest) {
            Some(value) if RESERVED.contains(&value) => {
                decoded.extend([
                    b'%',
                    rest[1].to_ascii_uppercase(),
                    rest[2].to_ascii_uppercase(),
                ]);
                rest = &rest[3..];
            }
            Some(value) => {
                decoded.push(value);
                rest = &rest[3..];
            }
            None => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8(decoded).unwrap_or_else(|error| keep_encoded(error.as_bytes())))
}

/// The byte that a percent escape at the start of `text` stands for.
pub(super) fn escape(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        }
        _ => None,
    }
}

fn keep_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    text
}

fn without_port(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return match inner.split_once(']') {
            Some((address, "")) => address,
            Some((address, port))
                if port.starts_with(':') && !port[1..].contains([':', '[', ']']) =>
            {
                address
            }
            _ => host,
        };
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

const RESERVED: &[u8] = b":/?#[]@!$&'()*+,;=%";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_brackets_and_case() {
        for (given, expected) in [
            ("a", "a"),
            ("A.Example.COM", "a.example.com"),
            ("a:80", "a"),
            ("a:", "a"),
            (" a ", "a"),
            ("a.:80", "a."),
            ("[::1]", "::1"),
            ("[::1]:80", "::1"),
            ("[FE80::1]", "fe80::1"),
            ("::1", "::1"),
            ("a:b:c", "a:b:c"),
            ("[a", "[a"),
            ("[a]b", "[a]b"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(normalise_host(given), expected, "{given}");
        }
        assert!(matches!(normalise_host("a.b:443"), Cow::Borrowed("a.b")));
    }

    #[test]
    fn paths_are_decoded_except_for_reserved_characters() {
        for (given, expected) in [
            ("/", "/"),
            ("/a%20b", "/a b"),
            ("/%C3%A9", "/é"),
            ("/%c3%a9", "/é"),
            ("/enc%2Fx", "/enc%2Fx"),
            ("/enc%2fx", "/enc%2Fx"),
            ("/%25", "/%25"),
            ("/%2541", "/%2541"),
            ("/%7E", "/~"),
            ("/%22%5C", "/\"\\"),
            (
                "/%3a%3F%23%5b%5D%40%21%24%26%27%28%29%2a%2B%2c%3B%3d",
                "/%3A%3F%23%5B%5D%40%21%24%26%27%28%29%2A%2B%2C%3B%3D",
            ),
            ("/%ff", "/%FF"),
            ("/é%C3%28%A9", "/é%C3%28%A9"),
            ("/%", "/%"),
            ("/%2", "/%2"),
            ("/%zz", "/%zz"),
            ("/x;y", "/x;y"),
            ("/%00", "/\0"),
        ] {
            assert_eq!(routing_path(given), expected, "{given}");
        }
        assert!(matches!(routing_path("/plain"), Cow::Borrowed(_)));
    }
}
