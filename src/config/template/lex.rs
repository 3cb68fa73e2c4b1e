//! Template text to pieces, and the inside of an action to tokens.

use super::Wrong;

/// A run of text or an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it is, by byte range.
    Text(usize, usize),
    /// The inside of `{{ … }}`, by byte range, without trim marks.
    Action(usize, usize),
}

/// A token with its byte offset.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) offset: usize,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// `if`, `env`, `true`.
    Word(String),
    /// `.`, `.Name`, `.A.B`: the names.
    Field(Vec<String>),
    /// `$`, `$x`, `$x.A`: the variable's name and the fields.
    Variable(String, Vec<String>),
    Text(String),
    Int(i64),
    Pipe,
    Open,
    Close,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    Comma,
}

/// Splits a template at its actions; trim marks are applied to the text around them.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Wrong> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    while let Some(open) = text[at..].find("{{").map(|found| at + found) {
        let close = action_end(text, open)?;
        let (mut start, mut end) = (open + 2, close);
        let trim_before = trims(text[start..end].strip_prefix('-'), char::is_whitespace);
        push_text(&mut pieces, text, (at, open), (trim_next, trim_before));
        if trim_before {
            start += 1;
        }
        trim_next = end > start && ends_with_trim(&text[start..end]);
        if trim_next {
            end -= 1;
        }
        pieces.push(Piece::Action(start, end));
        at = close + 2;
    }
    push_text(&mut pieces, text, (at, text.len()), (trim_next, false));
    Ok(pieces)
}

/// The tokens of an action.
pub(super) fn tokens(text: &str, start: usize, end: usize) -> Result<Vec<Token>, Wrong> {
    let inside = &text[start..end];
    if let Some(comment) = inside.trim_start().strip_prefix("/*") {
        return match comment.trim_end().ends_with("*/") {
            true => Ok(Vec::new()),
            false => Err(Wrong::new(
                start,
                "a comment must end with `*/` before `}}`",
            )),
        };
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = inside[at..].chars().next() {
        let offset = start + at;
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (kind, length) = token(&inside[at..]).map_err(|message| Wrong::new(offset, message))?;
        tokens.push(Token { offset, kind });
        at += length;
    }
    Ok(tokens)
}

/// The first token and its length in bytes.
fn token(text: &str) -> Result<(TokenKind, usize), String> {
    let first = text.chars().next().unwrap_or_default();
    match first {
        '|' => Ok((TokenKind::Pipe, 1)),
        '(' => Ok((TokenKind::Open, 1)),
        ')' => Ok((TokenKind::Close, 1)),
        ',' => Ok((TokenKind::Comma, 1)),
        '=' => Ok((TokenKind::Assign, 1)),
        ':' if text.starts_with(":=") => Ok((TokenKind::Declare, 2)),
        '"' => quoted(text),
        '`' => {
            let end = text[1..]
                .find('`')
                .ok_or("a raw string must end with a backtick")?;
            Ok((TokenKind::Text(text[1..=end].to_owned()), end + 2))
        }
        '.' => {
            let (names, length) = fields(text);
            Ok((TokenKind::Field(names), length.max(1)))
        }
        '$' => {
            let name = word(&text[1..]);
            let (names, length) = fields(&text[1 + name.len()..]);
            let length = 1 + name.len() + length;
            Ok((TokenKind::Variable(name.to_owned(), names), length))
        }
        '-' | '0'..='9' => number(text),
        c if c.is_alphabetic() || c == '_' => {
            let name = word(text);
            Ok((TokenKind::Word(name.to_owned()), name.len()))
        }
        c => Err(format!("unexpected `{c}`")),
    }
}

/// `.A.B` from the front: the names and the length.
fn fields(text: &str) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    let mut length = 0;
    while let Some(rest) = text[length..].strip_prefix('.') {
        let name = word(rest);
        if name.is_empty() {
            break;
        }
        names.push(name.to_owned());
        length += 1 + name.len();
    }
    (names, length)
}

fn number(text: &str) -> Result<(TokenKind, usize), String> {
    let digits = text[1..]
        .find(|c: char| !c.is_ascii_digit())
        .map_or(text.len(), |end| end + 1);
    let number = text[..digits].parse();
    number
        .map(|number| (TokenKind::Int(number), digits))
        .map_err(|_| format!("expected a whole number, found `{}`", &text[..digits]))
}

fn quoted(text: &str) -> Result<(TokenKind, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((TokenKind::Text(value), at + 1)),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, 'r')) => '\r',
                Some((_, escaped @ ('"' | '\\' | '\''))) => escaped,
                _ => return Err("an unknown escape in a string".to_owned()),
            }),
            '\n' => break,
            c => value.push(c),
        }
    }
    Err("a string must end with `\"`".to_owned())
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The offset of the `}}` that ends the action opened at `open`; strings and comments may hold braces.
fn action_end(text: &str, open: usize) -> Result<usize, Wrong> {
    let unclosed = || Wrong::new(open, "`{{` without `}}`");
    let bytes = text.as_bytes();
    let mut at = open + 2;
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let skip = match rest[0] {
            b'}' if rest.starts_with(b"}}") => return Ok(at),
            b'/' if rest.starts_with(b"/*") => find(rest, b"*/").ok_or_else(unclosed)? + 2,
            b'`' => find(&rest[1..], b"`").ok_or_else(unclosed)? + 2,
            b'"' => string_length(rest).ok_or_else(unclosed)?,
            _ => 1,
        };
        at += skip;
    }
    Err(unclosed())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// Length of a quoted string with its quotes.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// `{{- ` trims, `{{-3` is a number.
fn trims(after_mark: Option<&str>, is_space: fn(char) -> bool) -> bool {
    after_mark.is_some_and(|rest| rest.starts_with(is_space) || rest.is_empty())
}

fn ends_with_trim(inside: &str) -> bool {
    inside
        .strip_suffix('-')
        .is_some_and(|rest| rest.ends_with(char::is_whitespace))
}

fn push_text(
    pieces: &mut Vec<Piece>,
    text: &str,
    (start, end): (usize, usize),
    (trim_start, trim_end): (bool, bool),
) {
    let run = &text[start..end];
    let start = if trim_start {
        end - run.trim_start().len()
    } else {
        start
    };
    let run = &text[start..end];
    let end = if trim_end {
        start + run.trim_end().len()
    } else {
        end
    };
    if start < end {
        pieces.push(Piece::Text(start, end));
    }
}
