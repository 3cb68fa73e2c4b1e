//! What the first bytes of a body say about its type (https://mimesniff.spec.whatwg.org/, as far as Go's servers follow it).

/// The type of a body that begins with `data`; `application/octet-stream` if nothing tells.
pub(super) fn detect(data: &[u8]) -> &'static str {
    let data = &data[..data.len().min(LOOK_AT)];
    let blank = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ');
    let start = data.iter().position(|byte| !blank(byte));
    let text = &data[start.unwrap_or(data.len())..];
    if TAGS.iter().any(|tag| is_tag(text, tag)) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, _, named)) = SIGNATURES
        .iter()
        .find(|(pattern, mask, _)| fits(data, pattern, mask))
    {
        return named;
    }
    if is_mp4(data) {
        return "video/mp4";
    }
    if let Some((_, _, named)) = LATE_SIGNATURES
        .iter()
        .find(|(pattern, mask, _)| fits(data, pattern, mask))
    {
        return named;
    }
    let binary = |byte: &u8| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    match text.iter().any(binary) {
        true => "application/octet-stream",
        false => "text/plain; charset=utf-8",
    }
}

/// The tag in any case, and after it a blank or its end.
fn is_tag(text: &[u8], tag: &str) -> bool {
    text.get(..tag.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()))
        && matches!(text.get(tag.len()), Some(b' ' | b'>'))
}

/// Whether `data` begins with the pattern; where there is a mask, a blank in it stands for any byte.
fn fits(data: &[u8], pattern: &[u8], mask: &[u8]) -> bool {
    let Some(start) = data.get(..pattern.len()) else {
        return false;
    };
    start
        .iter()
        .zip(pattern)
        .enumerate()
        .all(|(at, (byte, wanted))| byte == wanted || mask.get(at) == Some(&b' '))
}

/// A box of type `ftyp` with a brand that begins with `mp4`.
fn is_mp4(data: &[u8]) -> bool {
    let Some(size) = data.first_chunk::<4>() else {
        return false;
    };
    let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
    if data.len() < 12 || size % 4 != 0 || data.len() < size || data.get(4..8) != Some(b"ftyp") {
        return false;
    }
    // The second word is the minor version.
    (8..size)
        .step_by(4)
        .filter(|at| *at != 12)
        .any(|at| data.get(at..at + 3) == Some(b"mp4"))
}

type Signature = (&'static [u8], &'static [u8], &'static str);

/// Bytes that are looked at.
const LOOK_AT: usize = 512;

const TAGS: [&str; 17] = [
    "<!doctype html",
    "<html",
    "<head",
    "<script",
    "<iframe",
    "<h1",
    "<div",
    "<font",
    "<table",
    "<a",
    "<style",
    "<title",
    "<b",
    "<body",
    "<br",
    "<p",
    "<!--",
];

/// Pattern, mask and type.
const SIGNATURES: [Signature; 19] = [
    (b"%PDF-", b"", "application/pdf"),
    (b"%!PS-Adobe-", b"", "application/postscript"),
    (b"\xfe\xff\0\0", b"xx  ", "text/plain; charset=utf-16be"),
    (b"\xff\xfe\0\0", b"xx  ", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf\0", b"xxx ", "text/plain; charset=utf-8"),
    (b"\0\0\x01\0", b"", "image/x-icon"),
    (b"\0\0\x02\0", b"", "image/x-icon"),
    (b"BM", b"", "image/bmp"),
    (b"GIF87a", b"", "image/gif"),
    (b"GIF89a", b"", "image/gif"),
    (b"RIFF\0\0\0\0WEBPVP", b"xxxx    xxxxxx", "image/webp"),
    (b"\x89PNG\r\n\x1a\n", b"", "image/png"),
    (b"\xff\xd8\xff", b"", "image/jpeg"),
    (b"FORM\0\0\0\0AIFF", b"xxxx    xxxx", "audio/aiff"),
    (b"ID3", b"", "audio/mpeg"),
    (b"OggS\0", b"", "application/ogg"),
    (b"MThd\0\0\0\x06", b"", "audio/midi"),
    (b"RIFF\0\0\0\0AVI ", b"xxxx    xxxx", "video/avi"),
    (b"RIFF\0\0\0\0WAVE", b"xxxx    xxxx", "audio/wave"),
];

/// Those that come after the films that have no fixed pattern.
const LATE_SIGNATURES: [Signature; 12] = [
    (b"\x1a\x45\xdf\xa3", b"", "video/webm"),
    (
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0LP",
        b"                                  xx",
        "application/vnd.ms-fontobject",
    ),
    (b"\0\x01\0\0", b"", "font/ttf"),
    (b"OTTO", b"", "font/otf"),
    (b"ttcf", b"", "font/collection"),
    (b"wOFF", b"", "font/woff"),
    (b"wOF2", b"", "font/woff2"),
    (b"\x1f\x8b\x08", b"", "application/x-gzip"),
    (b"PK\x03\x04", b"", "application/zip"),
    (b"Rar!\x1a\x07\0", b"", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\0", b"", "application/x-rar-compressed"),
    (b"\0asm", b"", "application/wasm"),
];

#[cfg(test)]
mod tests {
    use super::detect;

    #[test]
    fn types_by_their_first_bytes() {
        for (data, expected) in [
            (&b"  <!DocType HTML>"[..], "text/html; charset=utf-8"),
            (b"\n<P class", "text/html; charset=utf-8"),
            (b"<pre>", "text/plain; charset=utf-8"),
            (b"<html", "text/plain; charset=utf-8"),
            (b" <?xml version", "text/xml; charset=utf-8"),
            (b"%PDF-1.7", "application/pdf"),
            (b" %PDF-1.7", "text/plain; charset=utf-8"),
            (b"\xfe\xffab", "text/plain; charset=utf-16be"),
            (b"\xff\xfeab", "text/plain; charset=utf-16le"),
            (b"\xef\xbb\xbfa", "text/plain; charset=utf-8"),
            (b"GIF89a..", "image/gif"),
            (b"RIFF1234WEBPVP8", "image/webp"),
            (b"RIFF1234WAVE", "audio/wave"),
            (b"RIFF1234AVI ", "video/avi"),
            (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "video/mp4"),
            (
                b"\0\0\0\x14ftypisom\0\0\0\0isom",
                "application/octet-stream",
            ),
            (b"\x1f\x8b\x08\0", "application/x-gzip"),
            (b"PK\x03\x04", "application/zip"),
            (b"{\"a\":1}", "text/plain; charset=utf-8"),
            (b"\x1b[0m colour", "text/plain; charset=utf-8"),
            (b"a\0b", "application/octet-stream"),
            (b"\x80\xff", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(detect(data), expected, "{:?}", data.escape_ascii());
        }
    }

    #[test]
    fn only_the_beginning_counts() {
        let mut long = vec![b'a'; 512];
        long.push(0);
        assert_eq!(detect(&long), "text/plain; charset=utf-8");
        assert_eq!(detect(&long[1..]), "application/octet-stream");
    }
}
