//! Splits a rule into tokens the way Go splits an expression, because rules are Go expressions: raw and
//! interpreted strings, comments, and newlines that end the expression wherever Go would insert a semicolon.

use std::borrow::Cow;

use super::RuleError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Name(&'t str),
    Text(Cow<'t, str>),
    Open,
    Close,
    Comma,
    And,
    Or,
    Not,
    /// A newline after something that can end an expression.
    Newline,
    /// Something the language knows nothing of: an operator, a number, a stray character.
    Other(&'t str),
    End,
}

impl Token<'_> {
    /// How an error message calls the token.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Text(_) => "a string".to_owned(),
            Self::Open => "`(`".to_owned(),
            Self::Close => "`)`".to_owned(),
            Self::Comma => "`,`".to_owned(),
            Self::And => "`&&`".to_owned(),
            Self::Or => "`||`".to_owned(),
            Self::Not => "`!`".to_owned(),
            Self::Newline => "a line break".to_owned(),
            Self::Other(text) => format!("`{text}`"),
            Self::End => "the end of the rule".to_owned(),
        }
    }

    fn can_end_expression(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Text(_) | Self::Close)
    }
}

#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    ends_at_newline: bool,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let at = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Self {
            text,
            at,
            ends_at_newline: false,
        }
    }

    /// The next token and the offset at which it starts.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'t>), RuleError> {
        if let Some(newline) = self.skip_blank()? {
            self.ends_at_newline = false;
            return Ok((newline, Token::Newline));
        }
        let start = self.at;
        let token = self.scan()?;
        self.ends_at_newline = token.can_end_expression();
        Ok((start, token))
    }

    /// Skips blanks and comments; gives the place of a newline that ends the expression.
    fn skip_blank(&mut self) -> Result<Option<usize>, RuleError> {
        loop {
            let rest = &self.text[self.at..];
            let newline = match rest.as_bytes() {
                [b'\n', ..] => {
                    self.at += 1;
                    true
                }
                [b' ' | b'\t' | b'\r', ..] => {
                    self.at += 1;
                    false
                }
                [b'/', b'/', ..] => {
                    self.at += rest.find('\n').unwrap_or(rest.len());
                    false
                }
                [b'/', b'*', ..] => {
                    let length = rest
                        .find("*/")
                        .ok_or_else(|| self.error(self.at, "comment not closed, expected `*/`"))?;
                    self.at += length + 2;
                    rest[..length].contains('\n')
                }
                _ => return Ok(None),
            };
            if newline && self.ends_at_newline {
                return Ok(Some(self.at - 1));
            }
        }
    }

    fn scan(&mut self) -> Result<Token<'t>, RuleError> {
        let rest = &self.text[self.at..];
        let (length, token) = match rest.as_bytes() {
            [] => (0, Token::End),
            [b'(', ..] => (1, Token::Open),
            [b')', ..] => (1, Token::Close),
            [b',', ..] => (1, Token::Comma),
            [b'&', b'&', ..] => (2, Token::And),
            [b'|', b'|', ..] => (2, Token::Or),
            [b'!', b'=', ..] => (2, Token::Other("!=")),
            [b'!', ..] => (1, Token::Not),
            [b'`', ..] => return self.raw_string(),
            [b'"', ..] => return self.quoted_string(),
            [b'\'', ..] => {
                return Err(self
                    .error(self.at, "single quotes do not make a string")
                    .hint("write `…` or \"…\""));
            }
            _ => word(rest),
        };
        self.at += length;
        Ok(token)
    }

    fn raw_string(&mut self) -> Result<Token<'t>, RuleError> {
        let body = &self.text[self.at + 1..];
        let end = body.find('`').ok_or_else(|| {
            self.error(self.at, "string not closed, expected another backtick (`)")
        })?;
        self.at += end + 2;
        let body = &body[..end];
        // Go drops carriage returns from raw strings, so that a rule means the same with DOS line ends.
        Ok(Token::Text(if body.contains('\r') {
            Cow::Owned(body.replace('\r', ""))
        } else {
            Cow::Borrowed(body)
        }))
    }

    fn quoted_string(&mut self) -> Result<Token<'t>, RuleError> {
        let start = self.at;
        let body = &self.text[start + 1..];
        let plain = body.find(['"', '\\', '\n']).unwrap_or(body.len());
        if body.as_bytes().get(plain) == Some(&b'"') {
            self.at += plain + 2;
            return Ok(Token::Text(Cow::Borrowed(&body[..plain])));
        }
        let mut value = Vec::from(&body[..plain]);
        self.at += plain + 1;
        loop {
            match self.text.as_bytes()[self.at..] {
                [] | [b'\n', ..] => {
                    return Err(self.error(
                        start,
                        "string not closed, expected another double quote (\")",
                    ));
                }
                [b'"', ..] => break,
                [b'\\', ..] => self.escape(&mut value)?,
                [byte, ..] => {
                    value.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        let value = String::from_utf8(value)
            .map_err(|_| self.error(start, "the escapes of this string do not make valid UTF-8"))?;
        Ok(Token::Text(Cow::Owned(value)))
    }

    /// Appends what the backslash escape at the current position stands for, and steps over it.
    fn escape(&mut self, value: &mut Vec<u8>) -> Result<(), RuleError> {
        let start = self.at;
        let rest = &self.text[start + 1..];
        let simple = match rest.bytes().next() {
            Some(b'a') => b'\x07',
            Some(b'b') => b'\x08',
            Some(b'f') => b'\x0c',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => b'\x0b',
            Some(b'\\') => b'\\',
            Some(b'"') => b'"',
            _ => return self.numeric_escape(start, rest, value),
        };
        value.push(simple);
        self.at += 2;
        Ok(())
    }

    fn numeric_escape(
        &mut self,
        start: usize,
        rest: &str,
        value: &mut Vec<u8>,
    ) -> Result<(), RuleError> {
        let (prefix, digits, radix) = match rest.bytes().next() {
            Some(b'x') => (1, 2, 16),
            Some(b'u') => (1, 4, 16),
            Some(b'U') => (1, 8, 16),
            Some(b'0'..=b'7') => (0, 3, 8),
            _ => {
                return Err(self
                    .error(start, "unknown escape in a double-quoted string")
                    .hint("write \\\\ for a backslash, or quote the string with backticks"));
            }
        };
        let invalid = || {
            self.error(
                start,
                format!("this escape needs {digits} digits of base {radix} and a valid value"),
            )
        };
        let number = rest.get(prefix..prefix + digits).ok_or_else(invalid)?;
        let number = if number.starts_with('+') {
            None
        } else {
            u32::from_str_radix(number, radix).ok()
        }
        .ok_or_else(invalid)?;
        if digits < 4 {
            value.push(u8::try_from(number).map_err(|_| invalid())?);
        } else {
            let character = char::from_u32(number).ok_or_else(invalid)?;
            value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.at += 1 + prefix + digits;
        Ok(())
    }

    fn error(&self, offset: usize, message: impl Into<String>) -> RuleError {
        RuleError::at(self.text, offset, message)
    }
}

/// A name, a number, or one stray character.
fn word(rest: &str) -> (usize, Token<'_>) {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let length = rest
        .find(|character: char| !is_word(character))
        .unwrap_or(rest.len());
    match rest.chars().next() {
        Some(first) if length == 0 => (first.len_utf8(), Token::Other(&rest[..first.len_utf8()])),
        Some(first) if first.is_numeric() => (length, Token::Other(&rest[..length])),
        _ => (length, Token::Name(&rest[..length])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, RuleError> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        loop {
            match lexer.next()?.1 {
                Token::End => return Ok(tokens),
                token => tokens.push(token),
            }
        }
    }

    #[test]
    fn strings_follow_go() {
        for (text, value) in [
            ("`a\\x2d`", "a\\x2d"),
            ("\"a\\x2db\"", "a-b"),
            ("\"\\\\\\\"\"", "\\\""),
            ("\"\\101\\u00e9\\U0001F600\"", "Aé😀"),
            ("\"\\xc3\\xa9\"", "é"),
            ("\"\\a\\b\\f\\n\\r\\t\\v\"", "\x07\x08\x0c\n\r\t\x0b"),
            ("`a\r\nb`", "a\nb"),
            ("\"é\"", "é"),
            ("``", ""),
        ] {
            assert_eq!(tokens(text).unwrap(), [Token::Text(value.into())], "{text}");
        }
    }

    #[test]
    fn broken_strings_are_refused_at_their_place() {
        for (text, column) in [
            ("  `a", 3),
            ("\"a", 1),
            ("\"a\nb\"", 1),
            ("\"a\\", 3),
            ("\"\\q\"", 2),
            ("\"\\'\"", 2),
            ("\"\\x4\"", 2),
            ("\"\\400\"", 2),
            ("\"\\ud800\"", 2),
            ("\"\\xff\"", 1),
            ("\"\\x+1\"", 2),
            ("'a'", 1),
            ("é /* x", 3),
        ] {
            assert_eq!(tokens(text).unwrap_err().column, column, "{text}");
        }
    }

    #[test]
    fn newlines_count_only_after_what_can_end_an_expression() {
        assert_eq!(
            tokens("a\nb").unwrap(),
            [Token::Name("a"), Token::Newline, Token::Name("b")]
        );
        assert_eq!(
            tokens("a // x\nb").unwrap(),
            [Token::Name("a"), Token::Newline, Token::Name("b")]
        );
        assert_eq!(
            tokens("a /*\n*/ b").unwrap(),
            [Token::Name("a"), Token::Newline, Token::Name("b")]
        );
        assert_eq!(
            tokens("a &&\n\n b").unwrap(),
            [Token::Name("a"), Token::And, Token::Name("b")]
        );
        assert_eq!(tokens("\n(\n!\n").unwrap(), [Token::Open, Token::Not]);
        assert_eq!(tokens("/* x */ // y").unwrap(), []);
    }
}
