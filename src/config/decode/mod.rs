//! A tree to typed values through serde, with Traefik's leniency: names in any case, comma lists, structs enabled by naming them.
//!
//! One decoding finds every mistake: a value that does not fit is reported, left out, and the rest decoded again.

mod access;
mod fail;
mod suggest;
mod tolerated;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use self::access::Reader;
use self::fail::Fail;
pub(super) use self::suggest::did_you_mean;
use super::diagnostic::{Diagnostic, Place, Places};
use super::tree::Node;

/// What decoding one tree gave.
#[derive(Debug)]
pub(super) struct Decoded<T> {
    /// The value, with defaults for what did not fit; nothing when the whole did not.
    pub(super) value: Option<T>,
    /// Everything found, in the order of the tree.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Where everything was written, paths relative to the tree.
    pub(super) places: Places,
}

impl<T> Decoded<T> {
    /// Whether an error was found.
    pub(super) fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Decodes a tree; `prefix` is its path, for messages.
pub(super) fn decode<T: DeserializeOwned>(node: &Node, prefix: &str) -> Decoded<T> {
    let mut errors: Vec<Diagnostic> = Vec::new();
    let mut round = Round::new(prefix);
    loop {
        let reader = Reader::new(node, &Path::ROOT, &round);
        let outcome = T::deserialize(reader);
        let value = match outcome {
            Ok(value) => Some(value),
            Err(fail) => {
                let is_empty = fail.is_empty();
                let (path, diagnostic) = fail.into_diagnostic(node, prefix);
                // What encloses a value that was left out may fail for want of it: that is no second mistake.
                let consequence = round.explains(&path, &diagnostic.path);
                let goes_on = !path.is_empty() && round.left_out.len() + 1 < MAX_ERRORS;
                if !consequence {
                    errors.extend(match goes_on {
                        true => tolerated::settle(diagnostic, is_empty),
                        false => Some(diagnostic),
                    });
                }
                if !consequence && goes_on {
                    round = round.without(path);
                    continue;
                }
                None
            }
        };
        let seen = round.seen.into_inner();
        let mut diagnostics = seen.findings;
        diagnostics.extend(errors);
        diagnostics.sort_by(|a, b| a.place.cmp(&b.place));
        return Decoded {
            value,
            diagnostics,
            places: Places::with_fields(node.key.clone(), seen.fields),
        };
    }
}

/// One attempt to decode.
struct Round<'a> {
    prefix: &'a str,
    /// Paths of values that did not fit in earlier rounds.
    left_out: Vec<String>,
    seen: RefCell<Seen>,
}

/// What an attempt notes on its way.
#[derive(Default)]
struct Seen {
    findings: Vec<Diagnostic>,
    fields: BTreeMap<Box<str>, Place>,
}

impl<'a> Round<'a> {
    fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            left_out: Vec::new(),
            seen: RefCell::default(),
        }
    }

    fn without(mut self, path: String) -> Self {
        self.left_out.push(path);
        self.seen = RefCell::default();
        self
    }

    /// Whether something already found lies below a path, given relative to the tree and in full.
    fn explains(&self, path: &str, full: &str) -> bool {
        let seen = self.seen.borrow();
        let mut errors = seen.findings.iter().filter(|finding| finding.is_error());
        self.left_out.iter().any(|left| is_below(left, path))
            || errors.any(|error| is_below(&error.path, full))
    }

    fn note(&self, diagnostic: Diagnostic) {
        self.seen.borrow_mut().findings.push(diagnostic);
    }

    /// Notes where a field was written; says whether to read it.
    fn visit(&self, path: &Path<'_>, place: &Place) -> bool {
        let path = path.to_string();
        if self.left_out.contains(&path) {
            return false;
        }
        let mut seen = self.seen.borrow_mut();
        seen.fields.insert(path.into(), place.clone());
        true
    }

    /// The path for messages.
    fn full(&self, path: &Path<'_>) -> String {
        join(self.prefix, &path.to_string())
    }
}

/// The way from the root of a tree, built on the stack.
#[derive(Clone, Copy)]
struct Path<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    const ROOT: Self = Self {
        parent: None,
        step: Step::Root,
    };

    fn field(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    fn item(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Item(index),
        }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let below_root = self
            .parent
            .is_none_or(|parent| matches!(parent.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if below_root => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

/// A path below another.
pub(super) fn join(prefix: &str, path: &str) -> String {
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => prefix.to_owned(),
        _ if path.starts_with('[') => format!("{prefix}{path}"),
        _ => format!("{prefix}.{path}"),
    }
}

/// Whether `path` lies below `above`, or is it.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| above.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A tree with more mistakes than this is not worth listing further.
const MAX_ERRORS: usize = 50;

#[cfg(test)]
mod tests;
