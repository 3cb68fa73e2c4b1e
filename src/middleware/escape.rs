//! Percent-escapes in paths, as Go's `net/url` reads and writes them: middlewares see the decoded path, servers get an escaped one.

/// Decodes every escape; `None` if one is malformed.
pub(super) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte == b'%' {
            let [high, low, tail @ ..] = rest else {
                return None;
            };
            out.push(hex(*high)? << 4 | hex(*low)?);
            rest = tail;
        } else {
            out.push(*byte);
        }
    }
    Some(out)
}

/// Escapes a decoded path.
pub(super) fn escape(path: &[u8]) -> String {
    escape_where(path, |byte| !stands_for_itself(byte))
}

/// The escaped form to send for a decoded path and the text it was decoded from: that text if it can stand in a URL and still says the
/// same, else the path escaped anew.
pub(super) fn escaped_form(path: &[u8], text: &str) -> String {
    let usable = !text.is_empty()
        && text.bytes().all(may_stand_in_path)
        && unescape(text.as_bytes()).as_deref() == Some(path);
    if usable {
        text.to_owned()
    } else {
        escape(path)
    }
}

/// Escapes the bytes that `must` be.
pub(super) fn escape_where(text: &[u8], must: impl Fn(u8) -> bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len() + 8);
    for &byte in text {
        if must(byte) || !byte.is_ascii() {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

/// Whether Go's path encoding leaves the byte alone.
pub(super) fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte)
}

/// Whether the byte may stand in an escaped path.
pub(super) fn may_stand_in_path(byte: u8) -> bool {
    stands_for_itself(byte) || b"!'()*[]%".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_and_encodes_like_go() {
        for (escaped, decoded) in [("/a%20b", "/a b"), ("/%C3%A9", "/é"), ("/%2541", "/%41")] {
            assert_eq!(unescape(escaped.as_bytes()).unwrap(), decoded.as_bytes());
            assert_eq!(escape(decoded.as_bytes()), escaped);
        }
        assert_eq!(escape(b"/(x)?[y]"), "/%28x%29%3F%5By%5D");
        assert_eq!(unescape(b"/%zz"), None);
        assert_eq!(unescape(b"/%2"), None);
    }

    #[test]
    fn keeps_the_text_when_it_still_fits() {
        assert_eq!(escaped_form(b"/a/b", "/a%2Fb"), "/a%2Fb");
        assert_eq!(escaped_form(b"/(x)", "/(x)"), "/(x)");
        assert_eq!(escaped_form(b"/a b", "/a b"), "/a%20b");
        assert_eq!(escaped_form(b"/a/b", "/c"), "/a/b");
    }
}
