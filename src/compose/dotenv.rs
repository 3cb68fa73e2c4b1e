//! Files of variables: `.env`, `env_file`, `label_file`.

use super::interpolate::Variables;
use crate::config::{Diagnostic, Place};

/// One line that sets a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) place: Place,
}

/// Reads a file of variables. Values may refer to variables that are set before them, or in `known`.
pub(super) fn parse(
    name: &str,
    text: &str,
    known: &Variables,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Line> {
    let mut known = known.clone();
    let mut lines: Vec<Line> = Vec::new();
    let mut rest = text;
    let mut number = 0;
    while !rest.is_empty() {
        let before = newlines(rest);
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        let place = Place::File {
            path: name.into(),
            line: number + 1,
            column: 1,
        };
        match statement(line.trim(), &mut rest, &mut known, &place) {
            Ok(Some((name, value))) => lines.push(Line { name, value, place }),
            Ok(None) => {}
            Err(wrong) => findings.push(*wrong),
        }
        let taken = before.saturating_sub(newlines(rest)).max(1);
        number += u32::try_from(taken).unwrap_or(u32::MAX);
    }
    lines
}

/// What one line sets; a quoted value may take more of the `rest`.
fn statement(
    line: &str,
    rest: &mut &str,
    known: &mut Variables,
    place: &Place,
) -> Result<Option<(String, String)>, Box<Diagnostic>> {
    let wrong = |message: &str| Box::new(Diagnostic::error(place.clone(), "", message));
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let Some(end) = line.find(['=', ':']) else {
        // A name alone takes its value from the environment.
        let value = known.get(line);
        return Ok(value.map(|value| (line.to_owned(), value.to_owned())));
    };
    let (key, value) = (line[..end].trim(), line[end + 1..].trim_start());
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(wrong("`NAME=value` was expected"));
    }
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, after) = quoted(&value[1..], rest, quote)
                .ok_or_else(|| wrong("a quoted value does not end"))?;
            *rest = after;
            value
        }
        _ => Raw::Open(bare(value).to_owned()),
    };
    let value = match value {
        Raw::Open(text) => known
            .replaced(&text, place)
            .map_err(|wrong| Box::new(wrong.at(place)))?,
        Raw::Literal(text) => text,
    };
    known.set(key, &value);
    Ok(Some((key.to_owned(), value)))
}

/// A value before its variables are replaced.
enum Raw {
    /// Variables count.
    Open(String),
    /// They do not.
    Literal(String),
}

/// A quoted value, which may go on over lines, and what comes after its last line.
fn quoted<'a>(start: &str, rest: &'a str, quote: char) -> Option<(Raw, &'a str)> {
    let start = start.split('\n').next().unwrap_or_default();
    let mut text = String::new();
    let mut line = start;
    let mut after = rest;
    loop {
        let mut escaped = false;
        for letter in line.chars() {
            if escaped {
                text.push_str(&unescaped(letter, quote));
                escaped = false;
            } else if letter == '\\' {
                escaped = true;
            } else if letter == quote {
                let value = match quote {
                    '"' => Raw::Open(text),
                    _ => Raw::Literal(text),
                };
                return Some((value, after));
            } else {
                text.push(letter);
            }
        }
        if after.is_empty() {
            return None;
        }
        text.push('\n');
        (line, after) = after.split_once('\n').unwrap_or((after, ""));
    }
}

/// What a backslash before a letter makes of it.
fn unescaped(letter: char, quote: char) -> String {
    match (letter, quote) {
        ('n', '"') => "\n".to_owned(),
        ('r', '"') => "\r".to_owned(),
        ('t', '"') => "\t".to_owned(),
        // A dollar sign that shall stay one.
        ('$', '"') => "$$".to_owned(),
        ('"' | '\\', '"') | ('\'', '\'') => letter.to_string(),
        _ => format!("\\{letter}"),
    }
}

/// A value without quotes ends at a comment.
fn bare(value: &str) -> &str {
    let comment = value
        .match_indices('#')
        .find(|(at, _)| value[..*at].ends_with(char::is_whitespace));
    value[..comment.map_or(value.len(), |(at, _)| at)].trim_end()
}

fn newlines(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let mut found = Vec::new();
        let lines = parse(".env", text, &Variables::default(), &mut found);
        (
            lines
                .into_iter()
                .map(|line| (line.name, line.value))
                .collect(),
            found.iter().map(ToString::to_string).collect(),
        )
    }

    /// Compared with what `docker compose config` (v5.6.1) reads.
    #[test]
    fn values_are_read_as_compose_does() {
        for (text, expected) in [
            ("# c\nA=1\n", "1"),
            ("A = 2 ", "2"),
            ("B=1\nA=\"q $B ${B}\"  # com", "q 1 1"),
            ("B=1\nA='s $B'", "s $B"),
            ("export A=f # comment", "f"),
            ("A=a#b", "a#b"),
            ("A=\"multi\nline\"", "multi\nline"),
            ("A: yaml", "yaml"),
            ("A=", ""),
            ("B=1\nA=$B-${NOPE:-d}", "1-d"),
            (r#"A="esc\n\"q\" \$A""#, "esc\n\"q\" $A"),
            (r"A='it\'s'", "it's"),
            ("A=a b c", "a b c"),
            ("A=$$B", "$B"),
        ] {
            let (lines, found) = read(text);
            assert_eq!(found, [""; 0], "{text}");
            assert_eq!(
                lines.last().map(|(name, value)| (&**name, &**value)),
                Some(("A", expected)),
                "{text}"
            );
        }
        assert_eq!(read("L\n").0, []);
    }

    #[test]
    fn mistakes_have_their_line() {
        let (lines, found) = read("A=\"x\ny\"\nB=1\nb c=2\nC=${X:?no}\nD='open\n");
        assert_eq!(lines.len(), 2);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with(".env:4:1: error: `NAME=value`"));
        assert!(found[1].starts_with(".env:5:1: error: the variable `X`"));
        assert!(found[2].starts_with(".env:6:1: error: a quoted value"));
    }
}
