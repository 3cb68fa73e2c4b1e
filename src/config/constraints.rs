//! `providers.docker.constraints`: a boolean expression over the labels of a container.
//!
//! `Label("key", "value")`, `LabelRegex("key", "expression")`, `&&`, `||`, `!` and parentheses.

use std::iter::Peekable;
use std::str::CharIndices;

use regex::Regex;

use super::decode::did_you_mean;

/// What a container must fulfil.
#[derive(Debug, Clone)]
pub struct Constraint(Expression);

#[derive(Debug, Clone)]
enum Expression {
    /// Equal text; a label that is not there is empty.
    Label(String, String),
    /// A match anywhere in the text.
    LabelRegex(String, Regex),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Constraint {
    /// Reads an expression; nothing when it is blank. An error says what is wrong and at which character.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let mut parser = Parser {
            characters: text.char_indices().peekable(),
            text,
            depth: 0,
        };
        let expression = parser.any()?;
        match parser.peek() {
            None => Ok(Some(Self(expression))),
            Some(other) => Err(parser.wrong(&format!("unexpected `{other}`"))),
        }
    }

    /// Whether labels, as looked up by `label`, fulfil it.
    pub fn matches<'a>(&self, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.0.matches(label)
    }
}

impl Expression {
    fn matches<'a>(&self, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Label(key, value) => label(key).unwrap_or_default() == value,
            Self::LabelRegex(key, regex) => regex.is_match(label(key).unwrap_or_default()),
            Self::Not(inner) => !inner.matches(label),
            Self::All(parts) => parts.iter().all(|part| part.matches(label)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(label)),
        }
    }
}

struct Parser<'a> {
    characters: Peekable<CharIndices<'a>>,
    text: &'a str,
    depth: usize,
}

type Parsed = Result<Expression, String>;

impl Parser<'_> {
    fn any(&mut self) -> Parsed {
        let mut parts = vec![self.all()?];
        while self.accept("||")? {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self) -> Parsed {
        let mut parts = vec![self.unary()?];
        while self.accept("&&")? {
            parts.push(self.unary()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong("the expression is nested too deeply"));
        }
        let parsed = match self.peek() {
            Some('!') => {
                self.characters.next();
                Expression::Not(Box::new(self.unary()?))
            }
            Some('(') => {
                self.characters.next();
                let inner = self.any()?;
                self.expect(')')?;
                inner
            }
            Some(letter) if letter.is_alphabetic() => self.call()?,
            _ => return Err(self.wrong("expected `Label(...)` or `LabelRegex(...)`")),
        };
        self.depth -= 1;
        Ok(parsed)
    }

    fn call(&mut self) -> Parsed {
        let start = self.offset();
        while self
            .characters
            .next_if(|(_, letter)| letter.is_alphanumeric())
            .is_some()
        {}
        let name = &self.text[start..self.offset()];
        if !FUNCTIONS.contains(&name) {
            let hint = did_you_mean(name, FUNCTIONS).unwrap_or_default();
            return Err(self.wrong(&format!("unknown function `{name}` ({hint})")));
        }
        self.expect('(')?;
        let key = self.quoted()?;
        self.expect(',')?;
        let value = self.quoted()?;
        self.expect(')')?;
        if name == FUNCTIONS[0] {
            return Ok(Expression::Label(key, value));
        }
        let regex = Regex::new(&value)
            .map_err(|_| self.wrong(&format!("invalid regular expression `{value}`")))?;
        Ok(Expression::LabelRegex(key, regex))
    }

    /// A text in backticks or double quotes.
    fn quoted(&mut self) -> Result<String, String> {
        let Some(quote @ ('`' | '"')) = self.peek() else {
            return Err(self.wrong("expected a text in backticks or double quotes"));
        };
        self.characters.next();
        let mut text = String::new();
        while let Some((_, letter)) = self.characters.next() {
            match letter {
                '\\' if quote == '"' => match self.characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                letter if letter == quote => return Ok(text),
                letter => text.push(letter),
            }
        }
        Err(self.wrong("a text without its closing quote"))
    }

    /// Takes a two-letter operator if it comes next.
    fn accept(&mut self, operator: &str) -> Result<bool, String> {
        let first = operator.chars().next();
        if self.peek() != first {
            return Ok(false);
        }
        self.characters.next();
        match self
            .characters
            .next_if(|(_, letter)| Some(*letter) == first)
        {
            Some(_) => Ok(true),
            None => Err(self.wrong(&format!("expected `{operator}`"))),
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.peek() == Some(wanted) {
            self.characters.next();
            return Ok(());
        }
        Err(self.wrong(&format!("expected `{wanted}`")))
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        while self
            .characters
            .next_if(|(_, letter)| letter.is_whitespace())
            .is_some()
        {}
        self.characters.peek().map(|(_, letter)| *letter)
    }

    fn offset(&mut self) -> usize {
        let next = self.characters.peek();
        next.map_or(self.text.len(), |(offset, _)| *offset)
    }

    fn wrong(&mut self, message: &str) -> String {
        let offset = self.offset();
        let column = self.text[..offset].chars().count() + 1;
        format!("{message} at character {column}")
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}

const FUNCTIONS: &[&str] = &["Label", "LabelRegex"];
/// Parentheses within parentheses; more is an attack or an accident.
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(expression: &str) -> bool {
        let labels = [("env", "prod"), ("team", "a\"b")];
        let label = |key: &str| {
            let mut labels = labels.iter();
            labels
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        let constraint = Constraint::parse(expression).unwrap().unwrap();
        constraint.matches(&label)
    }

    #[test]
    fn expressions_follow_go() {
        for (expression, expected) in [
            ("Label(`env`, `prod`)", true),
            ("Label(\"env\",\"dev\")", false),
            ("!Label(`env`,`dev`) && LabelRegex(`env`, `^p.*d$`)", true),
            ("LabelRegex(`env`, `ro`)", true),
            ("Label(`missing`, ``)", true),
            (
                "Label(`env`,`x`) || Label(`env`,`y`) || Label(`env`,`prod`)",
                true,
            ),
            (
                "Label(`env`,`x`) && (Label(`env`,`y`) || Label(`env`,`prod`))",
                false,
            ),
            ("!(Label(`env`,`x`))", true),
            (r#"Label("team", "a\"b")"#, true),
        ] {
            assert_eq!(holds(expression), expected, "{expression}");
        }
        assert!(Constraint::parse("  ").unwrap().is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (expression, message) in [
            (
                "Labell(`a`,`b`)",
                "unknown function `Labell` (did you mean `Label`?) at character 7",
            ),
            ("Label(`a`)", "expected `,` at character 10"),
            (
                "Label(`a`,`b`) & Label(`c`,`d`)",
                "expected `&&` at character 17",
            ),
            (
                "Label(`a`,`b`) Label(`c`,`d`)",
                "unexpected `L` at character 16",
            ),
            (
                "Label(`a`,`b",
                "a text without its closing quote at character 13",
            ),
            (
                "LabelRegex(`a`,`(`)",
                "invalid regular expression `(` at character 20",
            ),
            (
                "&&",
                "expected `Label(...)` or `LabelRegex(...)` at character 1",
            ),
        ] {
            assert_eq!(
                Constraint::parse(expression).unwrap_err(),
                message,
                "{expression}"
            );
        }
        let deep = "(".repeat(100_000);
        assert!(Constraint::parse(&deep).unwrap_err().contains("deeply"));
    }
}
