//! JSON as Go writes it: `<`, `>` and `&` escaped, no space, so that what reads Traefik's output reads ours byte for byte.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// `value` as JSON.
pub(crate) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    // Values of this program have string keys and memory never refuses a write, so there is no error to report.
    drop(value.serialize(&mut Serializer::with_formatter(&mut out, GoFormatter)));
    out
}

/// Writes a JSON string; bytes that are no UTF-8 become U+FFFD.
pub(super) fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    drop((*text).serialize(&mut Serializer::with_formatter(&mut *out, GoFormatter)));
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_escaped) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut tail = rest[at..].chars();
            if let Some(character) = tail.next() {
                write!(writer, "\\u{:04x}", u32::from(character))?;
            }
            rest = tail.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let escape = match escape {
            CharEscape::Quote => "\\\"",
            CharEscape::ReverseSolidus => "\\\\",
            CharEscape::Solidus => "/",
            CharEscape::Backspace => "\\b",
            CharEscape::FormFeed => "\\f",
            CharEscape::LineFeed => "\\n",
            CharEscape::CarriageReturn => "\\r",
            CharEscape::Tab => "\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(escape.as_bytes())
    }
}

/// What Go escapes besides what JSON demands (U+FFFD where it stands for bytes that were no text). U+2028 and U+2029 end a line in JavaScript. DEL and the C1 controls are left alone by
/// Go, but a terminal that shows a log obeys them.
fn is_escaped(character: char) -> bool {
    matches!(
        character,
        '<' | '>' | '&' | '\u{fffd}' | '\u{2028}' | '\u{2029}' | '\u{7f}'..='\u{9f}'
    )
}

#[cfg(test)]
mod tests {
    use super::write_string;

    type Case = (&'static [u8], &'static str);

    #[test]
    fn strings_are_escaped_as_go_does() {
        let cases: [Case; 6] = [
            (b"plain", r#""plain""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"<a&b>", r#""\u003ca\u0026b\u003e""#),
            (b"\r\n\t\x08\x0c\x1b\x00", r#""\r\n\t\b\f\u001b\u0000""#),
            (b"\xff\xc3\xa9", r#""\ufffdé""#),
            (
                "\u{2028}\u{7f}\u{9b}1m".as_bytes(),
                r#""\u2028\u007f\u009b1m""#,
            ),
        ];
        for (text, expected) in cases {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
