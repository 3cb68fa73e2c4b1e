//! The one normal form of a request path: what the rule matches is what is sent on.
//!
//! Escapes of unreserved characters are decoded, other escapes upper-cased, characters that may not stand in a path escaped
//! (RFC 3986 section 6.2.2); with `sanitizePath` dot segments and duplicate slashes are removed as well.

use std::borrow::Cow;

/// How an entry point treats paths and queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathOptions {
    /// Remove `.`, `..` and duplicate slashes (`http.sanitizePath`).
    pub sanitize: bool,
    /// Send `;` in a query on as `%3B`; otherwise it becomes `&` (`http.encodeQuerySemicolons`).
    pub encode_semicolons: bool,
}

/// The path has a malformed escape or a character that no path may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPath;

/// Brings `path` (as received) into normal form; borrowed when it already is.
pub fn normalise(path: &[u8], sanitize: bool) -> Result<Cow<'_, str>, BadPath> {
    let (mut escape, mut segments, mut previous) = (false, false, 0u8);
    for &byte in path {
        match CLASS[byte as usize] {
            Class::Plain => {}
            Class::Separator => segments |= previous == b'/',
            Class::Dot => segments |= previous == b'/',
            Class::Escape => escape = true,
            Class::Refused => return Err(BadPath),
        }
        previous = byte;
    }
    let dirty = escape || (segments && sanitize);
    if !dirty {
        return std::str::from_utf8(path)
            .map(Cow::Borrowed)
            .map_err(|_| BadPath);
    }
    let escaped = re_escape(path)?;
    Ok(Cow::Owned(if sanitize {
        remove_dot_segments(&escaped)
    } else {
        escaped
    }))
}

/// Whether `path` has a `.` or `..` segment.
pub fn has_dot_segments(path: &str) -> bool {
    path.split('/')
        .any(|segment| segment == "." || segment == "..")
}

/// The query in the form that is matched and sent on.
pub fn normalise_query(query: &str, encode_semicolons: bool) -> Cow<'_, str> {
    if memchr::memchr(b';', query.as_bytes()).is_none() {
        return Cow::Borrowed(query);
    }
    Cow::Owned(query.replace(';', if encode_semicolons { "%3B" } else { "&" }))
}

fn re_escape(path: &[u8]) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len() + 8);
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte == b'%' {
            let [high, low, tail @ ..] = rest else {
                return Err(BadPath);
            };
            let value = hex(*high)? << 4 | hex(*low)?;
            rest = tail;
            if is_unreserved(value) {
                out.push(char::from(value));
            } else {
                push_escape(&mut out, value);
            }
        } else if CLASS[*byte as usize] == Class::Escape {
            push_escape(&mut out, *byte);
        } else {
            out.push(char::from(*byte));
        }
    }
    Ok(out)
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// RFC 3986 section 5.2.4, plus duplicate slashes; a trailing slash stays only if the path ended in one.
pub fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

fn hex(digit: u8) -> Result<u8, BadPath> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadPath),
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    /// `/`: two in a row need sanitising.
    Separator,
    /// `.`: at the start of a segment it may be a dot segment.
    Dot,
    /// `%`, or a byte that must be escaped.
    Escape,
    /// Control characters, space and `#` make the request malformed.
    Refused,
}

const CLASS: [Class; 256] = {
    let mut table = [Class::Escape; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = match b {
            b'/' => Class::Separator,
            b'.' => Class::Dot,
            0..=b' ' | 0x7f | b'#' => Class::Refused,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':'
            | b'@' | b'[' | b']' => Class::Plain,
            _ if is_unreserved(b) => Class::Plain,
            _ => Class::Escape,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, sanitized: &str, literal: &str) {
        assert_eq!(
            normalise(raw.as_bytes(), true).as_deref(),
            Ok(sanitized),
            "{raw} sanitized"
        );
        assert_eq!(
            normalise(raw.as_bytes(), false).as_deref(),
            Ok(literal),
            "{raw} literal"
        );
    }

    #[test]
    fn one_normal_form() {
        check("/a/b", "/a/b", "/a/b");
        check("/a/b/..", "/a", "/a/b/..");
        check("/a/.", "/a", "/a/.");
        check("/a/b/../", "/a/", "/a/b/../");
        check("//", "/", "//");
        check("/../x", "/x", "/../x");
        check("/a%2Fb/../c", "/c", "/a%2Fb/../c");
        check("/a%2fb", "/a%2Fb", "/a%2Fb");
        check("/%61%2e%2E/x", "/a../x", "/a../x");
        check("/a/%2e%2e/x", "/x", "/a/../x");
        check(
            "/a|b\"{}^\\",
            "/a%7Cb%22%7B%7D%5E%5C",
            "/a%7Cb%22%7B%7D%5E%5C",
        );
        check("/é", "/%C3%A9", "/%C3%A9");
        check("/[;]+:@!$&'()*,=", "/[;]+:@!$&'()*,=", "/[;]+:@!$&'()*,=");
        check("/.hidden/a..b", "/.hidden/a..b", "/.hidden/a..b");
        check("/%252e", "/%252e", "/%252e");
    }

    #[test]
    fn malformed_paths_are_refused() {
        for raw in ["/%zz", "/%2", "/%", "/a b", "/a#b", "/a\u{7f}", "/a\tb"] {
            assert_eq!(normalise(raw.as_bytes(), true), Err(BadPath), "{raw}");
        }
    }

    #[test]
    fn clean_paths_are_not_copied() {
        assert!(matches!(
            normalise(b"/api/v1/users.json", true),
            Ok(Cow::Borrowed(_))
        ));
    }

    #[test]
    fn semicolons_in_queries() {
        assert_eq!(normalise_query("a=1;b=2", false), "a=1&b=2");
        assert_eq!(normalise_query("a=1;b=2", true), "a=1%3Bb=2");
    }
}
