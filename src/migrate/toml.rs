//! TOML as it is written: every name and value with the bytes that it takes up. Reads only texts that are known to be TOML.

use std::ops::Range;

use super::entry::{Entry, Lines, Name, Removal, Scalar, Style};

/// The options of a configuration file; nothing if it is not TOML.
pub(super) fn read(text: &str) -> Option<Vec<Entry>> {
    toml_edit::Document::parse(text).ok()?;
    let mut reader = Reader {
        text,
        lines: Lines::of(text),
        at: 0,
        entries: Vec::new(),
        groups: 0,
    };
    reader.statements()?;
    Some(reader.entries)
}

struct Reader<'t> {
    text: &'t str,
    lines: Lines,
    at: usize,
    entries: Vec<Entry>,
    groups: usize,
}

impl Reader<'_> {
    fn statements(&mut self) -> Option<()> {
        let mut table: Vec<Name> = Vec::new();
        loop {
            self.skip(true);
            let start = self.at;
            match self.rest().chars().next() {
                None => return Some(()),
                Some('[') => {
                    let opening = self.rest().len() - self.rest().trim_start_matches('[').len();
                    self.at += opening.min(2);
                    let names = self.names()?;
                    self.at += self.rest().find(']')? + opening.min(2);
                    self.push(names.clone(), None, start, None);
                    table = names;
                    for name in &mut table {
                        name.span = None;
                    }
                }
                Some(_) => {
                    let mut path = table.clone();
                    path.extend(self.names()?);
                    self.expect('=')?;
                    self.value(path, start, None)?;
                }
            }
        }
    }

    /// Names with dots between them.
    fn names(&mut self) -> Option<Vec<Name>> {
        let mut names = Vec::new();
        loop {
            self.skip(false);
            let start = self.at;
            let span = match self.rest().chars().next()? {
                '"' | '\'' => {
                    self.string()?;
                    start + 1..self.at - 1
                }
                _ => {
                    let bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
                    self.at += self.rest().find(|c| !bare(c))?;
                    start..self.at
                }
            };
            names.push(Name {
                text: self.text[span.clone()].to_owned(),
                span: Some(span),
            });
            self.skip(false);
            if !self.rest().starts_with('.') {
                return Some(names);
            }
            self.at += 1;
        }
    }

    /// A value, and the entry that it makes.
    fn value(&mut self, path: Vec<Name>, start: usize, group: Option<usize>) -> Option<()> {
        self.skip(false);
        let first = self.at;
        match self.rest().chars().next()? {
            '{' => {
                let inner = self.group();
                // The entry stands before what is in it.
                let index = self.entries.len();
                self.push(path.clone(), None, start, group);
                let mut outer = path;
                for name in &mut outer {
                    name.span = None;
                }
                self.between('}', &mut |reader| {
                    let start = reader.at;
                    let mut path = outer.clone();
                    path.extend(reader.names()?);
                    reader.expect('=')?;
                    reader.value(path, start, Some(inner))
                })?;
                self.entries[index].removal = self.removal(start, group);
            }
            '[' => {
                let inner = self.group();
                let index = self.entries.len();
                self.push(path.clone(), None, start, group);
                let mut outer = path;
                for name in &mut outer {
                    name.span = None;
                }
                outer.push(Name {
                    text: "[]".to_owned(),
                    span: None,
                });
                self.between(']', &mut |reader| {
                    let start = reader.at;
                    reader.value(outer.clone(), start, Some(inner))
                })?;
                self.entries[index].removal = self.removal(start, group);
            }
            '"' | '\'' => {
                self.string()?;
                let scalar = self.scalar(first..self.at);
                self.push(path, Some(scalar), start, group);
            }
            _ => {
                let end = self.rest().find([',', ']', '}', '#', '\n', '\r']);
                let end = end.unwrap_or_else(|| self.rest().len());
                self.at += self.rest()[..end].trim_end().len();
                let scalar = self.scalar(first..self.at);
                self.push(path, Some(scalar), start, group);
            }
        }
        Some(())
    }

    /// What stands between brackets, with commas between.
    fn between(&mut self, end: char, one: &mut dyn FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        loop {
            self.skip(true);
            if self.rest().starts_with(end) {
                self.at += 1;
                return Some(());
            }
            one(self)?;
            self.skip(true);
            if self.rest().starts_with(',') {
                self.at += 1;
            }
        }
    }

    fn scalar(&self, span: Range<usize>) -> Scalar {
        let raw = &self.text[span.clone()];
        let parsed: Option<toml_edit::Value> = raw.parse().ok();
        let text = parsed.as_ref().and_then(toml_edit::Value::as_str);
        Scalar {
            text: text.unwrap_or(raw).to_owned(),
            before: String::new(),
            span,
            style: Style::Toml,
        }
    }

    fn string(&mut self) -> Option<()> {
        let rest = self.rest();
        let quote = &rest[..1];
        let long = quote.repeat(3);
        let (opening, closing) = match rest.starts_with(&long) {
            true => (3, long.as_str()),
            false => (1, quote),
        };
        let mut end = opening;
        loop {
            let rest = rest.get(end..)?;
            if rest.starts_with('\\') && quote == "\"" {
                end += 1 + rest[1..].chars().next()?.len_utf8();
            } else if rest.starts_with(closing) {
                end += closing.len();
                // A long string may end in quotes of its own.
                while closing.len() == 3 && self.text[self.at + end..].starts_with(quote) {
                    end += 1;
                }
                self.at += end;
                return Some(());
            } else {
                end += rest.chars().next()?.len_utf8();
            }
        }
    }

    fn push(&mut self, path: Vec<Name>, value: Option<Scalar>, start: usize, group: Option<usize>) {
        let removal = self.removal(start, group);
        self.entries.push(Entry {
            path,
            value,
            removal,
            parent: None,
            at: start,
        });
    }

    fn removal(&self, start: usize, group: Option<usize>) -> Removal {
        let span = start..self.at;
        match group {
            Some(group) => Removal::Item { group, span },
            None => Removal::Range(self.lines.whole(self.text, &span)),
        }
    }

    fn group(&mut self) -> usize {
        self.groups += 1;
        self.groups
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.skip(false);
        self.rest().starts_with(wanted).then(|| self.at += 1)
    }

    /// Skips blanks, and line ends and comments if they may stand here.
    fn skip(&mut self, lines: bool) {
        loop {
            let rest = self.rest();
            let next = rest.trim_start_matches([' ', '\t']);
            self.at += rest.len() - next.len();
            let rest = self.rest();
            if lines && rest.starts_with(['\n', '\r']) {
                self.at += 1;
            } else if lines && rest.starts_with('#') {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else {
                return;
            }
        }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }
}
