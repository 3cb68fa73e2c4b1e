//! The words of the language of conditions; blanks and comments are those of Go.

use super::expression::{Order, Wrong};

/// One word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    Float(f64),
    /// A text, which nothing can be compared with.
    Text,
    Open,
    Close,
    Comma,
    And,
    Or,
    Compare(Order),
    End,
}

/// Looks at one word after the other.
pub(super) struct Lexer<'t> {
    text: &'t str,
    /// Where the current word begins and ends, in bytes.
    start: usize,
    end: usize,
    token: Token,
}

impl<'t> Lexer<'t> {
    /// Looks at the first word.
    pub(super) fn new(text: &'t str) -> Result<Self, Wrong> {
        let mut lexer = Self {
            text,
            start: 0,
            end: 0,
            token: Token::End,
        };
        lexer.advance()?;
        Ok(lexer)
    }

    /// The current word.
    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// Where it stands: from 1, in characters.
    pub(super) fn column(&self) -> usize {
        self.text[..self.start].chars().count() + 1
    }

    /// Something is wrong at the current word.
    pub(super) fn wrong(&self, message: String) -> Wrong {
        Wrong {
            column: self.column(),
            message,
        }
    }

    /// The current word should be another.
    pub(super) fn unexpected(&self, expected: &str) -> Wrong {
        let found = match self.token {
            Token::End => "the end".to_owned(),
            _ => format!("`{}`", &self.text[self.start..self.end]),
        };
        self.wrong(format!("expected {expected}, found {found}"))
    }

    /// Goes on to the next word.
    pub(super) fn advance(&mut self) -> Result<(), Wrong> {
        self.skip()?;
        let rest = &self.text[self.start..];
        let (token, length) = match rest.as_bytes() {
            [] => (Token::End, 0),
            [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] => {
                let name = leading(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
                (Token::Name(name.to_owned()), name.len())
            }
            [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => return self.number(),
            [b'"', ..] => match rest[1..].find('"') {
                Some(length) => (Token::Text, length + 2),
                None => return Err(self.wrong("the text is not closed".to_owned())),
            },
            bytes => match SIGNS.iter().find(|(sign, _)| bytes.starts_with(sign)) {
                Some((sign, token)) => (token.clone(), sign.len()),
                None => return Err(self.stray()),
            },
        };
        (self.token, self.end) = (token, self.start + length);
        Ok(())
    }

    fn stray(&self) -> Wrong {
        let stray = self.text[self.start..].chars().next().unwrap_or_default();
        self.wrong(match stray {
            '!' => "`!` is not supported: turn the comparison round".to_owned(),
            stray => format!("`{stray}` means nothing here"),
        })
    }

    fn number(&mut self) -> Result<(), Wrong> {
        let bytes = &self.text.as_bytes()[self.start..];
        let mut length = 0;
        while let Some(byte) = bytes.get(length) {
            let sign = matches!(byte, b'+' | b'-');
            let after_exponent = length > 0 && matches!(bytes[length - 1], b'e' | b'E');
            if !(byte.is_ascii_alphanumeric()
                || matches!(byte, b'.' | b'_')
                || sign && after_exponent)
            {
                break;
            }
            length += 1;
        }
        self.end = self.start + length;
        let digits = &self.text[self.start..self.end];
        self.token = if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = digits.parse();
            Token::Int(number.map_err(|_| self.wrong(format!("{digits} is too large")))?)
        } else {
            let decimal = digits
                .bytes()
                .any(|byte| matches!(byte, b'.' | b'e' | b'E'));
            let number = digits.replace('_', "").parse().ok().filter(|_| decimal);
            Token::Float(
                number.ok_or_else(|| self.wrong(format!("{digits} is not a decimal number")))?,
            )
        };
        Ok(())
    }

    /// Skips blanks and comments.
    fn skip(&mut self) -> Result<(), Wrong> {
        self.start = self.end;
        loop {
            let rest = &self.text[self.start..];
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            if blanks > 0 {
                self.start += blanks;
            } else if rest.starts_with("//") {
                self.start += rest.find('\n').unwrap_or(rest.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let Some(length) = comment.find("*/") else {
                    return Err(self.wrong("the comment is not closed".to_owned()));
                };
                self.start += length + 4;
            } else {
                return Ok(());
            }
        }
    }
}

fn leading(text: &str, is_part: impl Fn(u8) -> bool) -> &str {
    let length = text.bytes().take_while(|byte| is_part(*byte)).count();
    &text[..length]
}

const SIGNS: [(&[u8], Token); 11] = [
    (b"&&", Token::And),
    (b"||", Token::Or),
    (b"<=", Token::Compare(Order::LessOrEqual)),
    (b">=", Token::Compare(Order::GreaterOrEqual)),
    (b"==", Token::Compare(Order::Equal)),
    (b"!=", Token::Compare(Order::NotEqual)),
    (b"<", Token::Compare(Order::Less)),
    (b">", Token::Compare(Order::Greater)),
    (b"(", Token::Open),
    (b")", Token::Close),
    (b",", Token::Comma),
];
