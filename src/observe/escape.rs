//! Text from outside made fit for a line.

use super::clock::append;

/// Appends `text` with everything escaped that would end a line or that a terminal obeys, and bytes that are no UTF-8; with `quote`
/// also what would end a quoted value.
pub(super) fn escape(out: &mut Vec<u8>, text: &[u8], quote: bool) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' if quote => out.extend(b"\\\""),
                '\\' if quote => out.extend(b"\\\\"),
                '\t' => out.extend(b"\\t"),
                '\n' => out.extend(b"\\n"),
                '\r' => out.extend(b"\\r"),
                '\0'..='\x1f' | '\x7f' => {
                    append(out, format_args!("\\x{:02x}", u32::from(character)))
                }
                '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    append(out, format_args!("\\u{:04x}", u32::from(character)))
                }
                _ => out.extend(character.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        for byte in chunk.invalid() {
            append(out, format_args!("\\x{byte:02x}"));
        }
    }
}
