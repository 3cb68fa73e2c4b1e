//! Go's regular expressions (RE2 syntax) on the `regex` crate. The two languages are nearly the same; this room knows the
//! differences: Go's `\d \s \w \b` are ASCII, it takes stray braces and brackets literally, has `\Q…\E` and octal
//! escapes, and has no set operations in classes.

use std::borrow::Cow;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::CharIndices;

use regex::bytes::{Regex, RegexBuilder};

/// Compiles a Go regular expression, unanchored unless it anchors itself.
pub fn compile(pattern: &str) -> Result<Regex, RegexpError> {
    let translated = translate(pattern)?;
    RegexBuilder::new(&translated)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(CACHE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => RegexpError(format!(
                "it needs more than {limit} bytes when compiled; use shorter repetitions"
            )),
            other => RegexpError(
                other
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned(),
            ),
        })
}

/// Rewrites a Go regular expression in the syntax of the `regex` crate.
pub fn translate(pattern: &str) -> Result<Cow<'_, str>, RegexpError> {
    if !pattern.contains(['\\', '[', '{', '}', '(']) {
        return Ok(Cow::Borrowed(pattern));
    }
    let mut translator = Translator {
        pattern,
        rest: pattern.char_indices().peekable(),
        out: String::with_capacity(pattern.len() + 16),
    };
    translator.run()?;
    Ok(Cow::Owned(translator.out))
}

/// What is wrong with a regular expression, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegexpError(String);

struct Translator<'p> {
    pattern: &'p str,
    rest: Peekable<CharIndices<'p>>,
    out: String,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), RegexpError> {
        while let Some((at, character)) = self.rest.next() {
            match character {
                '\\' => self.escape(at)?,
                '[' => self.class(at)?,
                '{' => match repetition(&self.pattern[at..]) {
                    Some(length) => self.copy(at, length),
                    None => self.out.push_str("\\{"),
                },
                '}' => self.out.push_str("\\}"),
                '(' => self.group(at)?,
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    /// Copies `length` bytes of the pattern from `at`, of which the first character has been read.
    fn copy(&mut self, at: usize, length: usize) {
        self.out.push_str(&self.pattern[at..at + length]);
        self.skip_to(at + length);
    }

    fn skip_to(&mut self, end: usize) {
        while self.rest.next_if(|(at, _)| *at < end).is_some() {}
    }

    /// Groups are the same, but the crate knows flags that Go does not.
    fn group(&mut self, at: usize) -> Result<(), RegexpError> {
        self.out.push('(');
        let Some(flags) = self.pattern[at..].strip_prefix("(?") else {
            return Ok(());
        };
        let end = flags
            .find([')', ':', '<'])
            .ok_or_else(|| fault("missing closing )", &self.pattern[at..]))?;
        let known = match flags.as_bytes()[end] {
            b'<' => {
                matches!(&flags[..end], "" | "P")
                    && !flags[end..].starts_with("<=")
                    && !flags[end..].starts_with("<!")
            }
            _ => flags[..end].chars().all(|flag| "imsU-".contains(flag)),
        };
        if known {
            Ok(())
        } else {
            Err(fault(
                "unsupported group",
                &self.pattern[at..at + 2 + end + 1],
            ))
        }
    }

    /// An escape outside a class; `at` is the place of the backslash.
    fn escape(&mut self, at: usize) -> Result<(), RegexpError> {
        let Some(&(_, next)) = self.rest.peek() else {
            return Err(fault("trailing backslash at end of expression", ""));
        };
        match next {
            'b' => self.replace("(?-u:\\b)"),
            'B' | 'A' | 'z' => self.copy(at, 2),
            'Q' => {
                let quoted = &self.pattern[at + 2..];
                let length = quoted.find("\\E").unwrap_or(quoted.len());
                self.out.push_str(&regex::escape(&quoted[..length]));
                self.skip_to((at + 2 + length + 2).min(self.pattern.len()));
            }
            _ => match self.set(at)? {
                true => {}
                false => {
                    let character = self.character(at)?;
                    self.push_literal(character);
                }
            },
        }
        Ok(())
    }

    /// Reads an escape that stands for a set of characters, and says whether there was one.
    fn set(&mut self, at: usize) -> Result<bool, RegexpError> {
        let Some(&(_, next)) = self.rest.peek() else {
            return Ok(false);
        };
        match next {
            'd' => self.replace("[0-9]"),
            'D' => self.replace("[^0-9]"),
            'w' => self.replace("[0-9A-Za-z_]"),
            'W' => self.replace("[^0-9A-Za-z_]"),
            's' => self.replace("[\\t\\n\\x0C\\r ]"),
            'S' => self.replace("[^\\t\\n\\x0C\\r ]"),
            'p' | 'P' => self.property(at)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `\pL`, `\p{Greek}`, `\P…`, and Go's `\p{^Greek}` for the latter.
    fn property(&mut self, at: usize) -> Result<(), RegexpError> {
        let body = &self.pattern[at + 2..];
        let name = match body.strip_prefix('{') {
            Some(braced) => braced
                .split_once('}')
                .map(|(name, _)| name)
                .ok_or_else(|| fault("invalid character class range", &self.pattern[at..]))?,
            None => body
                .chars()
                .next()
                .map(|one| &body[..one.len_utf8()])
                .ok_or_else(|| fault("invalid character class range", &self.pattern[at..]))?,
        };
        let braces = if body.starts_with('{') { 2 } else { 0 };
        let (negated, class) = name
            .strip_prefix('^')
            .map_or((false, name), |class| (true, class));
        let upper = self.pattern[at + 1..].starts_with('P');
        let letter = if negated != upper { 'P' } else { 'p' };
        write!(self.out, "\\{letter}{{{class}}}").expect(INFALLIBLE);
        self.skip_to(at + 2 + name.len() + braces);
        Ok(())
    }

    /// Reads an escape that stands for one character.
    fn character(&mut self, at: usize) -> Result<char, RegexpError> {
        let invalid = || {
            fault(
                "invalid escape sequence",
                &self.pattern[at..(at + 2).min(self.pattern.len())],
            )
        };
        let (_, next) = self
            .rest
            .next()
            .ok_or_else(|| fault("trailing backslash at end of expression", ""))?;
        match next {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            't' => Ok('\t'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            'v' => Ok('\x0b'),
            'x' => self.hexadecimal(at + 2),
            '0'..='7' => self.octal(at + 1),
            punctuation if punctuation.is_ascii() && !punctuation.is_ascii_alphanumeric() => {
                Ok(punctuation)
            }
            other if !other.is_ascii() => {
                Err(fault("invalid escape sequence", &format!("\\{other}")))
            }
            _ => Err(invalid()),
        }
    }

    fn hexadecimal(&mut self, at: usize) -> Result<char, RegexpError> {
        let body = &self.pattern[at..];
        let (digits, length) = match body.strip_prefix('{') {
            Some(braced) => braced
                .split_once('}')
                .map(|(digits, _)| (digits, digits.len() + 2)),
            None => body.get(..2).map(|digits| (digits, 2)),
        }
        .filter(|(digits, _)| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .ok_or_else(|| fault("invalid escape sequence", "\\x"))?;
        let character = u32::from_str_radix(digits, 16)
            .ok()
            .and_then(char::from_u32);
        self.skip_to(at + length);
        character.ok_or_else(|| fault("invalid escape sequence", &format!("\\x{body}")))
    }

    /// Up to three octal digits; a single one other than zero would be a backreference, which RE2 lacks.
    fn octal(&mut self, at: usize) -> Result<char, RegexpError> {
        let digits: String = self.pattern[at..]
            .chars()
            .take(3)
            .take_while(|digit| digit.is_digit(8))
            .collect();
        if digits.len() == 1 && digits != "0" {
            return Err(fault(
                "invalid escape sequence (there are no backreferences)",
                &format!("\\{digits}"),
            ));
        }
        self.skip_to(at + digits.len());
        u32::from_str_radix(&digits, 8)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| fault("invalid escape sequence", &digits))
    }

    /// A bracketed class; `at` is the place of its bracket. Inside, only `]`, `\`, `-` and `[:name:]` are special.
    fn class(&mut self, at: usize) -> Result<(), RegexpError> {
        self.out.push('[');
        if self.rest.next_if(|(_, next)| *next == '^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let (place, next) = self
                .rest
                .next()
                .ok_or_else(|| fault("missing closing ]", &self.pattern[at..]))?;
            match next {
                ']' if !first => break,
                '[' if self.pattern[place..].starts_with("[:")
                    && self.pattern[place..].contains(":]") =>
                {
                    let length = self.pattern[place..].find(":]").map_or(0, |end| end + 2);
                    self.copy(place, length);
                }
                '\\' if self.set(place)? => {}
                _ => self.range(place, next)?,
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// One character of a class, or a range that starts with it.
    fn range(&mut self, at: usize, next: char) -> Result<(), RegexpError> {
        let low = if next == '\\' {
            self.character(at)?
        } else {
            next
        };
        self.push_code(low);
        let Some(&(dash, '-')) = self.rest.peek() else {
            return Ok(());
        };
        if self.pattern[dash + 1..].starts_with(']') || dash + 1 == self.pattern.len() {
            return Ok(());
        }
        self.rest.next();
        let (place, next) = self
            .rest
            .next()
            .ok_or_else(|| fault("missing closing ]", &self.pattern[at..]))?;
        let high = if next == '\\' {
            self.character(place)?
        } else {
            next
        };
        if high < low {
            return Err(fault(
                "invalid character class range",
                &format!("{low}-{high}"),
            ));
        }
        self.out.push('-');
        self.push_code(high);
        Ok(())
    }

    /// Writes `text` in place of the escape letter that comes next.
    fn replace(&mut self, text: &str) {
        self.rest.next();
        self.out.push_str(text);
    }

    fn push_literal(&mut self, character: char) {
        self.out
            .push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
    }

    /// Writes a character of a class such that it means only itself.
    fn push_code(&mut self, character: char) {
        if character.is_ascii_alphanumeric() {
            self.out.push(character);
        } else {
            write!(self.out, "\\x{{{:X}}}", u32::from(character)).expect(INFALLIBLE);
        }
    }
}

/// The length of the `{n}`, `{n,}` or `{n,m}` at the start of `text`; any other brace is an ordinary character.
fn repetition(text: &str) -> Option<usize> {
    let body = &text[1..text.find('}')?];
    let (least, most) = body.split_once(',').unwrap_or((body, "0"));
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    (!least.is_empty() && is_number(least) && is_number(most)).then_some(body.len() + 2)
}

fn fault(what: &str, place: &str) -> RegexpError {
    if place.is_empty() {
        RegexpError(what.to_owned())
    } else {
        RegexpError(format!("{what}: `{place}`"))
    }
}

const INFALLIBLE: &str = "writing to a String cannot fail";
/// Bytes a compiled expression may take.
const SIZE_LIMIT: usize = 1 << 20;
/// Bytes of lazily built automaton kept per expression and thread.
const CACHE_LIMIT: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_go_says() {
        for (pattern, text, expected) in [
            ("^a$", "a", true),
            ("b", "abc", true),
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^\w$", "é", false),
            (r"^\W$", "é", true),
            (r"^[\w.]+$", "a_1.", true),
            (r"^[^\d]$", "x", true),
            (r"^[^\d]$", "1", false),
            (r"^\S\s$", "x\u{a0}", false),
            (r"\bcat\b", "écat", true),
            (r"^a{2}$", "aa", true),
            (r"^a{1,}$", "aaa", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^{x}$", "{x}", true),
            (r"^a}$", "a}", true),
            (r"^[a[]$", "[", true),
            (r"^[[:alpha:]-]+$", "a-b", true),
            (r"^[a&&b]$", "&", true),
            (r"^[a~~b]$", "~", true),
            (r"^[--/]$", ".", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]+$", "b", true),
            (r"^[a-]$", "-", true),
            (r"^[\x41-\x{43}]$", "B", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\Qa.b", "a.bc", true),
            (r"^\101\0$", "A\0", true),
            (r"^\<\>\_\-\/\ $", "<>_-/ ", true),
            (r"^\p{Greek}\pL\P{Greek}\p{^Greek}$", "αβab", true),
            (r"(?i)^ABC$", "aBc", true),
            (r"^(?P<n>a)(?<m>b)(?:c)(?i:D)$", "abcd", true),
            (r"^(?U)a+$", "aa", true),
            ("", "x", true),
        ] {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(
                regex.is_match(text.as_bytes()),
                expected,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn invalid_expressions_are_refused_in_one_line() {
        for (pattern, message) in [
            ("(a", "unclosed group"),
            ("a)", "unopened group"),
            ("[a", "missing closing ]"),
            ("*a", "repetition operator missing expression"),
            (r"\1", "no backreferences"),
            (r"a\", "trailing backslash"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"[\b]", r"invalid escape sequence"),
            (r"\xzz", "invalid escape sequence"),
            (r"(?=a)", "unsupported group"),
            (r"(?<=a)", "unsupported group"),
            (r"(?x)a", "unsupported group"),
            (r"[z-a]", "invalid character class range"),
            (r"\p{Nonsense}", "Unicode"),
            (r"\é", r"invalid escape sequence"),
            (r"\p", "invalid character class"),
            (r"(\pL{200}){200}", "1048576 bytes"),
        ] {
            let error = compile(pattern).expect_err(pattern).to_string();
            assert!(
                error.contains(message) && !error.contains('\n'),
                "{pattern}: {error}"
            );
        }
    }
}
