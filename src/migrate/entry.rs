//! What sets an option in a text: its names, its value and where each of them stands, so that one can be changed and the others left
//! alone.

use std::ops::Range;

/// One place of a text that sets an option, or begins a group of options.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The option's names from the outermost on. Those without a span stand in entries further up.
    pub(super) path: Vec<Name>,
    pub(super) value: Option<Scalar>,
    pub(super) removal: Removal,
    /// The entry that this one stands in.
    pub(super) parent: Option<usize>,
    /// Where it begins.
    pub(super) at: usize,
}

/// One name of an option's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) span: Option<Range<usize>>,
}

/// A single value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// What it says.
    pub(super) text: String,
    /// What stands before it between the same quotes: `name=`.
    pub(super) before: String,
    pub(super) span: Range<usize>,
    pub(super) style: Style,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain {
        in_flow: bool,
    },
    Single,
    Double,
    /// A block of lines; its text is what the file has, indentation included.
    Block,
    Toml,
    /// A word of a line that is split as a shell does.
    Word,
}

/// How an entry is taken out of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removal {
    /// What it takes with it.
    Range(Range<usize>),
    /// One of the items between two brackets: the group, and the item itself.
    Item { group: usize, span: Range<usize> },
    /// It shares its lines with something else.
    Impossible,
}

/// A change to a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

impl Entry {
    /// How many of its names stand in entries further up.
    pub(super) fn outer(&self) -> usize {
        let names = self.path.iter();
        names.take_while(|name| name.span.is_none()).count()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.path.iter().map(|name| name.text.as_str())
    }

    /// Its place among the items of a group.
    pub(super) fn item_of(&self, group: usize) -> Option<&Range<usize>> {
        match &self.removal {
            Removal::Item { group: own, span } if *own == group => Some(span),
            _ => None,
        }
    }

    pub(super) fn says(&self, text: &str) -> bool {
        self.value.as_ref().is_some_and(|value| value.text == text)
    }
}

impl Scalar {
    /// The change that makes it say something else.
    pub(super) fn edit(&self, text: &str) -> Edit {
        let whole = format!("{}{text}", self.before);
        let text = match self.style {
            Style::Single => single(&whole),
            Style::Double => double(&whole),
            Style::Plain { in_flow } if !is_plain(&whole, in_flow) => single(&whole),
            Style::Toml => toml_edit::Value::from(whole).to_string(),
            Style::Plain { .. } | Style::Block | Style::Word => whole,
        };
        Edit {
            range: self.span.clone(),
            text,
        }
    }
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn double(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

/// Whether YAML reads a text as it is without quotes. Rather too careful than not.
fn is_plain(text: &str, in_flow: bool) -> bool {
    const INDICATORS: &str = "-?:,[]{}#&*!|>'\"%@` \t";
    let first = text.chars().next();
    let odd = text.contains(": ") || text.contains(" #") || text.ends_with([':', ' ']);
    let brackets = in_flow && text.contains([',', '[', ']', '{', '}']);
    first.is_some_and(|first| !INDICATORS.contains(first))
        && !odd
        && !brackets
        && !text.contains('\n')
}

/// A new name in the case in which the old one was written.
pub(super) fn in_case_of(old: &str, new: &str) -> String {
    let letters = || old.chars().filter(|letter| letter.is_alphabetic());
    if letters().all(char::is_lowercase) {
        return new.to_lowercase();
    }
    match letters().all(char::is_uppercase) {
        true => new.to_uppercase().replace('.', "_"),
        false => new.to_owned(),
    }
}

/// Where each line of a text begins.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after).collect())
    }

    /// The offset of a line (from 1) and column (from 0, in characters).
    pub(super) fn offset(&self, text: &str, line: usize, column: usize) -> usize {
        let start = line.checked_sub(1).and_then(|line| self.0.get(line));
        let start = start.copied().unwrap_or(text.len());
        let inside = text[start..].char_indices().nth(column);
        inside.map_or(text.len(), |(at, _)| start + at)
    }

    /// The line (from 0) that an offset is in.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset).max(1) - 1
    }

    /// Line and column, from 1.
    pub(super) fn place(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let before = text.get(self.0[line]..offset).unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }

    /// From the beginning of the line that `range` begins in to the beginning of the line after the one it ends in.
    pub(super) fn whole(&self, text: &str, range: &Range<usize>) -> Range<usize> {
        let start = self.0[self.line(range.start)];
        let last = range.end.saturating_sub(1).max(range.start);
        let end = self.0.get(self.line(last) + 1);
        start..end.copied().unwrap_or(text.len())
    }
}
