//! Options in the files of a stack: labels of its services, words and variables of the proxy.

use std::ops::Range;

use super::entry::{Entry, Lines, Name, Removal, Scalar, Style};
use super::yaml::{Node, Yaml, unquoted};

/// Where an option of a stack stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `traefik.a.b`
    Label,
    /// `--a.b`
    Flag,
    /// `TRAEFIK_A_B`
    Variable,
}

/// A Compose file and what is in it.
pub(super) struct File<'a> {
    pub(super) text: &'a str,
    pub(super) lines: &'a Lines,
    pub(super) yaml: &'a Yaml,
}

impl File<'_> {
    /// The option that a node sets: `name=value`, or a name with its value.
    pub(super) fn option(&self, index: usize, kind: Kind) -> Option<Entry> {
        let node = &self.yaml.nodes[index];
        let removal = self.yaml.removal(self.lines, self.text, index);
        let (name, start, value) = match &node.key {
            Some(key) => (key.text.clone(), inside(key), node.value.clone()),
            None => self.pair(node)?,
        };
        self.has(&name, start)
            .then(|| Entry {
                path: names(&name, start, kind),
                value,
                removal,
                parent: None,
                at: node.span.start,
            })
            .filter(|entry| !entry.path.is_empty())
    }

    /// The name of `name=value`, where it begins, and its value.
    fn pair(&self, node: &Node) -> Option<(String, usize, Option<Scalar>)> {
        let scalar = node.value.as_ref()?;
        let start = inside(scalar);
        Some(match scalar.text.split_once('=') {
            Some((name, value)) => {
                let value = Scalar {
                    text: value.to_owned(),
                    before: format!("{name}="),
                    ..scalar.clone()
                };
                (name.to_owned(), start, Some(value))
            }
            None => (scalar.text.clone(), start, None),
        })
    }

    fn has(&self, name: &str, start: usize) -> bool {
        self.text.get(start..start + name.len()) == Some(name)
    }

    /// The flags of a command that is one line, by its words in their order.
    pub(super) fn line(&self, index: usize, words: &[&str]) -> Vec<Entry> {
        let Some(scalar) = &self.yaml.nodes[index].value else {
            return Vec::new();
        };
        let span = match scalar.style {
            Style::Block | Style::Plain { .. } => scalar.span.clone(),
            _ => unquoted(self.text, &scalar.span),
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut at = span.start;
        for word in words {
            let Some(found) = self.text[at..span.end].find(word) else {
                continue;
            };
            let start = at + found;
            at = start + word.len();
            let blank = self.text[at..span.end].len() - self.text[at..span.end].trim_start().len();
            let removed = match at + blank < span.end {
                true => start..at + blank,
                // The last word takes the blank before it along.
                false => span.start + self.text[span.start..start].trim_end().len()..at,
            };
            if let Some(entry) = flag(word, start, Removal::Range(removed)) {
                entries.push(entry);
            }
        }
        entries
    }
}

/// A flag of a command line.
fn flag(word: &str, start: usize, removal: Removal) -> Option<Entry> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let path = names(name, start, Kind::Flag);
    let span = start + name.len() + 1..start + word.len();
    let value = value.map(|value| Scalar {
        text: value.to_owned(),
        before: String::new(),
        span,
        style: Style::Word,
    });
    (!path.is_empty()).then_some(Entry {
        path,
        value,
        removal,
        parent: None,
        at: start,
    })
}

/// Where the text of a scalar begins.
fn inside(scalar: &Scalar) -> usize {
    match scalar.style {
        Style::Single | Style::Double => scalar.span.start + 1,
        _ => scalar.span.start,
    }
}

/// The names of an option, without what only says that it is one. None if it is not.
fn names(text: &str, start: usize, kind: Kind) -> Vec<Name> {
    let (prefix, dot) = match kind {
        Kind::Label => ("traefik.", '.'),
        Kind::Flag if text.starts_with("--") => ("--", '.'),
        Kind::Flag => ("-", '.'),
        Kind::Variable => ("TRAEFIK_", '_'),
    };
    let begins = text.get(..prefix.len());
    if !begins.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix)) {
        return Vec::new();
    }
    let name = |span: Range<usize>| Name {
        text: text[span.clone()].to_owned(),
        span: Some(start + span.start..start + span.end),
    };
    let mut names = Vec::new();
    let mut begin = prefix.len();
    let mut depth = 0;
    for (at, letter) in text.char_indices().skip(prefix.len()) {
        match letter {
            // A variable of Compose may hold anything.
            '{' => depth += 1,
            '}' => depth -= 1,
            letter if letter == dot && depth == 0 => {
                names.push(name(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    names.push(name(begin..text.len()));
    names
}
