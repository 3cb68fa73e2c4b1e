//! YAML as it is written: every key and value with the bytes that it takes up.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::entry::{Entry, Lines, Name, Removal, Scalar, Style};

/// The nodes of a text in the order in which they begin.
#[derive(Debug)]
pub(super) struct Yaml {
    pub(super) nodes: Vec<Node>,
}

/// A value under a key, or an item of a list.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: Option<usize>,
    pub(super) key: Option<Scalar>,
    pub(super) value: Option<Scalar>,
    /// From its key, or its value, to the end of all that belongs to it.
    pub(super) span: Range<usize>,
    /// It stands between brackets.
    in_flow: bool,
    is_list: bool,
    /// Its own children stand between brackets.
    opens_flow: bool,
}

/// Reads the first document of a text; nothing if it is not YAML.
pub(super) fn read(text: &str) -> Option<Yaml> {
    let mut reader = Reader {
        text,
        lines: Lines::of(text),
        nodes: Vec::new(),
        open: Vec::new(),
        key: None,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
            break;
        }
        reader.take(&event, span);
    }
    Some(Yaml {
        nodes: reader.nodes,
    })
}

struct Reader<'t> {
    text: &'t str,
    lines: Lines,
    nodes: Vec<Node>,
    /// Maps and lists that have begun.
    open: Vec<usize>,
    key: Option<Scalar>,
}

impl Reader<'_> {
    fn take(&mut self, event: &Event<'_>, span: Span) {
        let range = self.range(span);
        match event {
            Event::Scalar(text, style, ..) => {
                let scalar = self.scalar(text, *style, range);
                if self.wants_key() {
                    self.key = Some(scalar);
                    return;
                }
                let end = scalar.span.end;
                let node = self.begin(scalar.span.clone());
                self.nodes[node].value = Some(scalar);
                self.end(node, end);
            }
            Event::Alias(_) => {
                let range = self.trimmed(range);
                if self.wants_key() {
                    self.key = Some(self.plain("<<", range));
                    return;
                }
                let node = self.begin(range.clone());
                self.end(node, range.end);
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let node = self.begin(range.clone());
                let opens = self.text[range.start..].starts_with(['{', '[']);
                self.nodes[node].is_list = matches!(event, Event::SequenceStart(..));
                self.nodes[node].opens_flow = opens;
                self.open.push(node);
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let Some(node) = self.open.pop() else { return };
                let end = match self.nodes[node].opens_flow {
                    true => range.end,
                    false => self.nodes[node].span.end,
                };
                self.end(node, end);
            }
            _ => {}
        }
    }

    fn wants_key(&self) -> bool {
        let map = self.open.last().map(|open| &self.nodes[*open]);
        map.is_some_and(|map| !map.is_list) && self.key.is_none()
    }

    fn begin(&mut self, range: Range<usize>) -> usize {
        let key = self.key.take();
        let start = key.as_ref().map_or(range.start, |key| key.span.start);
        // What is empty begins where the next token does.
        let end = match (&key, range.is_empty()) {
            (Some(key), true) => self.text.ceil_char_boundary(key.span.end + 1),
            _ => range.start,
        };
        let parent = self.open.last().copied();
        self.nodes.push(Node {
            parent,
            key,
            value: None,
            span: start..end,
            in_flow: parent.is_some_and(|parent| self.nodes[parent].opens_flow),
            is_list: false,
            opens_flow: false,
        });
        self.nodes.len() - 1
    }

    /// What belongs to a node belongs to all that it stands in.
    fn end(&mut self, node: usize, end: usize) {
        let empty = |node: &Node| {
            let value = node.value.as_ref();
            value.is_some_and(|value| value.span.is_empty())
        };
        if !empty(&self.nodes[node]) {
            let span = &mut self.nodes[node].span;
            span.end = span.end.max(end);
        }
        let end = self.nodes[node].span.end;
        if let Some(parent) = self.nodes[node].parent {
            let span = &mut self.nodes[parent].span;
            span.end = span.end.max(end);
        }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let at =
            |mark: saphyr_parser::Marker| self.lines.offset(self.text, mark.line(), mark.col());
        let start = at(span.start);
        start..at(span.end).max(start)
    }

    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let end = range.start + self.text[range.clone()].trim_end().len();
        range.start..end
    }

    fn plain(&self, text: &str, span: Range<usize>) -> Scalar {
        let in_flow = self.open.last();
        let in_flow = in_flow.is_some_and(|open| self.nodes[*open].opens_flow);
        Scalar {
            text: text.to_owned(),
            before: String::new(),
            span,
            style: Style::Plain { in_flow },
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, range: Range<usize>) -> Scalar {
        let plain = self.plain(text, self.trimmed(range));
        match style {
            ScalarStyle::Plain => plain,
            ScalarStyle::SingleQuoted => Scalar {
                style: Style::Single,
                ..plain
            },
            ScalarStyle::DoubleQuoted => Scalar {
                style: Style::Double,
                ..plain
            },
            ScalarStyle::Literal | ScalarStyle::Folded => {
                // Its own lines only, without an indicator before them.
                let written = &self.text[plain.span.clone()];
                let head = written
                    .find('\n')
                    .filter(|_| written.starts_with(['|', '>']));
                let start = plain.span.start + head.map_or(0, |at| at + 1);
                let span = start.min(plain.span.end)..plain.span.end;
                Scalar {
                    text: self.text[span.clone()].to_owned(),
                    span,
                    style: Style::Block,
                    ..plain
                }
            }
        }
    }
}

impl Yaml {
    /// The node whose key or value begins at a line and a column, both from 1.
    pub(super) fn find(&self, lines: &Lines, text: &str, at: (u32, u32)) -> Option<usize> {
        let column = usize::try_from(at.1).ok()?.checked_sub(1)?;
        let offset = lines.offset(text, usize::try_from(at.0).ok()?, column);
        let begins = |scalar: &Option<Scalar>| {
            let scalar = scalar.as_ref();
            scalar.is_some_and(|scalar| match scalar.style {
                Style::Block => {
                    (0..2).contains(&lines.line(scalar.span.start).abs_diff(lines.line(offset)))
                }
                _ => scalar.span.start == offset,
            })
        };
        let mut nodes = self.nodes.iter();
        nodes.position(|node| begins(&node.key) || begins(&node.value))
    }

    /// How a node is taken out.
    pub(super) fn removal(&self, lines: &Lines, text: &str, index: usize) -> Removal {
        let node = &self.nodes[index];
        let span = node.span.clone();
        if node.in_flow {
            let group = node.parent.unwrap_or_default();
            return Removal::Item { group, span };
        }
        let whole = lines.whole(text, &span);
        let before = text[whole.start..span.start].trim_start();
        let is_item = node.key.is_none();
        let rest = &text[span.end..whole.end];
        let alone = rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
        let begins = before.is_empty() || is_item && before.trim_end() == "-";
        match alone && begins {
            true => Removal::Range(whole),
            false => Removal::Impossible,
        }
    }

    /// Where the items of a group stand.
    pub(super) fn items(&self, group: usize) -> impl Iterator<Item = &Range<usize>> {
        let items = self
            .nodes
            .iter()
            .filter(move |node| node.parent == Some(group));
        items.map(|node| &node.span)
    }

    /// The options of a configuration file.
    pub(super) fn entries(&self, lines: &Lines, text: &str) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let mut path = match node.parent {
                None => Vec::new(),
                Some(parent) => entries[parent].path.clone(),
            };
            for name in &mut path {
                name.span = None;
            }
            match &node.key {
                Some(key) => path.push(Name {
                    text: key.text.clone(),
                    span: Some(unquoted(text, &key.span)),
                }),
                // Items of a list have no name that could be changed.
                None if node.parent.is_some() => path.push(Name {
                    text: "[]".to_owned(),
                    span: None,
                }),
                None => {}
            }
            entries.push(Entry {
                path,
                value: node.value.clone(),
                removal: self.removal(lines, text, index),
                parent: node.parent,
                at: node.span.start,
            });
        }
        entries
    }
}

impl Node {
    /// Where the options below a key begin, if each has a line of its own.
    pub(super) fn colon(&self, text: &str) -> Option<usize> {
        let key = self
            .key
            .as_ref()
            .filter(|_| !self.opens_flow && !self.is_list)?;
        let colon = text[key.span.end..].find(':')?;
        Some(key.span.end + colon + 1)
    }
}

/// The bytes between quotes, if there are quotes.
pub(super) fn unquoted(text: &str, span: &Range<usize>) -> Range<usize> {
    match text[span.clone()].starts_with(['"', '\'']) && span.len() > 1 {
        true => span.start + 1..span.end - 1,
        false => span.clone(),
    }
}
