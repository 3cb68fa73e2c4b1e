//! A text and the way back from positions in it to what the user wrote, also when a template made the text.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, Place};

/// A text with its name.
#[derive(Debug)]
pub(in crate::config) struct Source<'a> {
    name: Arc<str>,
    /// What the parser reads.
    pub(in crate::config) text: &'a str,
    lines: Vec<usize>,
    written: Option<Written<'a>>,
}

/// The text before the template ran.
#[derive(Debug)]
struct Written<'a> {
    text: &'a str,
    lines: Vec<usize>,
    segments: &'a [Segment],
}

/// A run of output of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Segment {
    /// Byte offset in the output where it starts.
    pub(in crate::config) output: usize,
    /// Byte offset in the template it comes from.
    pub(in crate::config) origin: usize,
    /// Copied as it is, so that offsets inside map one to one; else all of it comes from one action.
    pub(in crate::config) copied: bool,
}

impl<'a> Source<'a> {
    /// A text as the user wrote it.
    pub(in crate::config) fn new(name: impl Into<Arc<str>>, text: &'a str) -> Self {
        Self {
            name: name.into(),
            text,
            lines: line_starts(text),
            written: None,
        }
    }

    /// A text that a template made of what the user wrote.
    pub(in crate::config) fn rendered(
        name: impl Into<Arc<str>>,
        text: &'a str,
        template: &'a str,
        segments: &'a [Segment],
    ) -> Self {
        let mut source = Self::new(name, text);
        source.written = Some(Written {
            text: template,
            lines: line_starts(template),
            segments,
        });
        source
    }

    /// The text as a whole.
    pub(in crate::config) fn whole(&self) -> Place {
        Place::whole_file(Arc::clone(&self.name))
    }

    /// The place of a byte offset in the text.
    pub(in crate::config) fn at_byte(&self, offset: usize) -> Place {
        match &self.written {
            None => self.place(line_column(self.text, &self.lines, offset)),
            Some(written) => {
                let offset = origin(written.segments, offset);
                self.place(line_column(written.text, &written.lines, offset))
            }
        }
    }

    /// The place of a line (from 1) and column (from 0, in characters) of the text.
    pub(in crate::config) fn at_line(&self, line: usize, column: usize) -> Place {
        if self.written.is_none() {
            return self.place((line, column + 1));
        }
        let start = line.checked_sub(1).and_then(|line| self.lines.get(line));
        let start = start.copied().unwrap_or(self.text.len());
        let rest = &self.text[start..];
        if column > LONG_LINE {
            return self.at_byte(start + column);
        }
        let inside = rest.char_indices().nth(column);
        self.at_byte(start + inside.map_or(rest.len(), |(offset, _)| offset))
    }

    fn place(&self, (line, column): (usize, usize)) -> Place {
        Place::File {
            path: Arc::clone(&self.name),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

/// Reads a configuration file; too large or unreadable files give one diagnostic.
pub fn read_text(path: &Path, name: &str) -> Result<String, Diagnostic> {
    let failed = |why: String| Diagnostic::error(Place::whole_file(name), "", why);
    let unreadable = |error: std::io::Error| failed(format!("cannot be read: {error}"));
    let too_large = || {
        failed(format!(
            "is larger than {} MiB",
            MAX_FILE_BYTES / (1024 * 1024)
        ))
        .with_hint("split it into several files")
    };
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    let mut file = file.take(MAX_FILE_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good]
            .iter()
            .filter(|&&b| b == b'\n')
            .count();
        failed(format!("is not UTF-8 text (line {line})"))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn line_starts(text: &str) -> Vec<usize> {
    let ends = memchr::memchr_iter(b'\n', text.as_bytes());
    std::iter::once(0).chain(ends.map(|end| end + 1)).collect()
}

/// Line and column, both from 1, the column in characters.
fn line_column(text: &str, lines: &[usize], offset: usize) -> (usize, usize) {
    let offset = offset.min(text.len());
    let line = lines.partition_point(|&start| start <= offset);
    let start = lines[line - 1];
    if offset - start > LONG_LINE {
        return (line, 1 + offset - start);
    }
    let before = text.get(start..offset).unwrap_or_default();
    (line, 1 + before.chars().count())
}

/// Where an offset of a template's output comes from.
fn origin(segments: &[Segment], offset: usize) -> usize {
    let after = segments.partition_point(|segment| segment.output <= offset);
    let Some(segment) = after.checked_sub(1).and_then(|index| segments.get(index)) else {
        return 0;
    };
    let inside = if segment.copied {
        offset - segment.output
    } else {
        0
    };
    segment.origin + inside
}

/// Beyond this a column is counted in bytes: counting characters from the line's start for each of a million values on one line would
/// take minutes.
const LONG_LINE: usize = 4096;

/// The largest configuration file read.
pub const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let source = Source::new("a.yml", "é: b\nx: ü y");
        assert_eq!(source.at_byte(0).to_string(), "a.yml:1:1");
        assert_eq!(source.at_byte(4).to_string(), "a.yml:1:4");
        assert_eq!(source.at_byte(6).to_string(), "a.yml:2:1");
        assert_eq!(source.at_byte(12).to_string(), "a.yml:2:6");
        assert_eq!(source.at_byte(999).to_string(), "a.yml:2:7");
    }

    #[test]
    fn rendered_positions_point_into_the_template() {
        // `a: {{ env "X" }}\nb: 1` rendered with X=hello.
        let template = "a: {{ env \"X\" }}\nb: 1";
        let output = "a: hello\nb: 1";
        let segments = [
            Segment {
                output: 0,
                origin: 0,
                copied: true,
            },
            Segment {
                output: 3,
                origin: 3,
                copied: false,
            },
            Segment {
                output: 8,
                origin: 16,
                copied: true,
            },
        ];
        let source = Source::rendered("t.yml", output, template, &segments);
        assert_eq!(source.at_byte(0).to_string(), "t.yml:1:1");
        assert_eq!(source.at_byte(6).to_string(), "t.yml:1:4");
        assert_eq!(source.at_line(2, 3).to_string(), "t.yml:2:4");
    }

    #[test]
    fn large_and_broken_files_give_one_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.yml");
        let file = File::create(&path).unwrap();
        file.set_len(100 * 1024 * 1024).unwrap();
        let error = read_text(&path, "big.yml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "big.yml: error: is larger than 32 MiB (split it into several files)"
        );
        std::fs::write(&path, b"a: 1\nb: \xff").unwrap();
        let error = read_text(&path, "big.yml").unwrap_err();
        assert_eq!(error.message, "is not UTF-8 text (line 2)");
        std::fs::write(&path, "\u{feff}a: 1").unwrap();
        assert_eq!(read_text(&path, "big.yml").unwrap(), "a: 1");
    }
}
