//! The part of Go's text templates that routing files use: `{{ env "X" }}`, pipes, variables, `if`, `with`, `range`, and the common
//! functions. What is made keeps its way back to the template, so that diagnostics point at what the user wrote.

mod functions;
mod lex;
mod parse;
mod rule;
mod run;

use std::collections::BTreeMap;
use std::fmt;

use super::diagnostic::Diagnostic;
use super::tree::{Segment, Source};

pub use self::functions::normalize;
pub use self::rule::RuleTemplate;

/// Environment variables by name.
pub type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a template made.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) segments: Vec<Segment>,
}

/// Runs a template. Nothing when the text holds no action.
pub(super) fn render(
    source: &Source<'_>,
    data: &Value,
    env: EnvLookup<'_>,
) -> Result<Option<Rendered>, Vec<Diagnostic>> {
    if !source.text.contains("{{") {
        return Ok(None);
    }
    let report = |wrong: Vec<Wrong>| wrong.iter().map(|wrong| wrong.report(source)).collect();
    let parts = parse::parse(source.text).map_err(report)?;
    let rendered = run::run(source.text, &parts, data, env);
    rendered.map(Some).map_err(|wrong| report(vec![wrong]))
}

/// What a template computes with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: a missing key, the data of a file template.
    Nil,
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A list.
    List(Vec<Self>),
    /// Named values.
    Map(BTreeMap<String, Self>),
}

impl Value {
    /// What Go calls true: neither zero nor empty.
    fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Text(text) => !text.is_empty(),
            Self::Int(number) => *number != 0,
            Self::Bool(truth) => *truth,
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// As Go prints it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Bool(truth) => truth.fmt(f),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(f, "{space}{item}")?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("map[")?;
                for (index, (name, value)) in entries.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(f, "{space}{name}:{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A mistake in a template, by byte offset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    offset: usize,
    message: String,
    hint: Option<String>,
}

impl Wrong {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            message: message.into(),
            hint: None,
        }
    }

    fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// As text, for templates that are one option.
    fn into_text(self) -> String {
        match self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message,
        }
    }

    fn report(&self, source: &Source<'_>) -> Diagnostic {
        let message = format!("template: {}", self.message);
        let mut diagnostic = Diagnostic::error(source.at_byte(self.offset), "", message);
        diagnostic.hint.clone_from(&self.hint);
        diagnostic
    }
}

#[cfg(test)]
mod tests;
