//! YAML (and with it JSON) to a tree: places of every key and value, aliases with a budget, duplicate keys reported.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{MAX_DEPTH, Node, Parsed, Scalar, Source, Style, Value};
use crate::config::diagnostic::{Diagnostic, Place};

/// Reads the first document of a text.
pub(super) fn parse(source: &Source<'_>) -> Parsed {
    parse_tagged(source).0
}

/// As [`parse`], with the tags that values have (`!name`, without the `!`) by their places.
pub(super) fn parse_tagged(source: &Source<'_>) -> (Parsed, Vec<Tagged>) {
    let mut builder = Builder::new(source);
    let parsed = builder.read(source);
    (parsed, builder.tags)
}

/// The place of a value, and its tag.
pub(super) type Tagged = (Place, Box<str>);

/// Builds the tree without recursion: the parser's input decides how deep it goes.
struct Builder<'a> {
    source: &'a Source<'a>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchor>,
    copied: usize,
    documents: usize,
    tags: Vec<Tagged>,
    diagnostics: Vec<Diagnostic>,
}

/// A map or list that has begun and not ended.
struct Open {
    node: Node,
    is_map: bool,
    children: Vec<Node>,
    key: Option<Key>,
    merged: Vec<Node>,
    anchor: usize,
}

/// A key and where it was written.
type Key = (Box<str>, Place);

/// An anchored node, its nodes in all, and its depth.
struct Anchor {
    node: Node,
    size: usize,
    depth: usize,
}

enum Step {
    More,
    Done,
}

type Failure = Box<Diagnostic>;

impl<'a> Builder<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            open: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            copied: 0,
            documents: 0,
            tags: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    fn read(&mut self, source: &Source<'_>) -> Parsed {
        for event in Parser::new_from_str(source.text) {
            let step = match event {
                Ok((event, span)) => self.take(event, span),
                Err(error) => Err(self.scan_error(&error)),
            };
            match step {
                Ok(Step::More) => {}
                Ok(Step::Done) => break,
                Err(diagnostic) => return Parsed::failed(*diagnostic),
            }
        }
        self.finish()
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<Step, Failure> {
        let place = self.source.at_line(span.start.line(), span.start.col());
        match event {
            Event::DocumentStart(_) => return Ok(self.start_document(place)),
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.as_deref(), &place);
                self.scalar(&text, style, anchor, place)?;
            }
            Event::Alias(id) => self.alias(id, place)?,
            Event::SequenceStart(anchor, tag) => {
                self.begin(false, anchor, place)?;
                self.tag_open(tag.as_deref());
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(true, anchor, place)?;
                self.tag_open(tag.as_deref());
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::StreamEnd => return Ok(Step::Done),
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
        }
        Ok(Step::More)
    }

    fn tag(&mut self, tag: Option<&Tag>, place: &Place) {
        if let Some(tag) = tag.filter(|tag| tag.handle == "!") {
            self.tags.push((place.clone(), tag.suffix.as_str().into()));
        }
    }

    fn tag_open(&mut self, tag: Option<&Tag>) {
        let place = self.open.last().map(|open| open.node.place.clone());
        self.tag(tag, &place.unwrap_or_default());
    }

    fn start_document(&mut self, place: Place) -> Step {
        self.documents += 1;
        if self.documents < 2 {
            return Step::More;
        }
        self.diagnostics.push(Diagnostic::warning(
            place,
            "",
            "only the first YAML document of a file is read, this one is ignored",
        ));
        Step::Done
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        place: Place,
    ) -> Result<(), Failure> {
        if self.wants_key() {
            self.set_key(text.into(), place);
            return Ok(());
        }
        let plain = style == ScalarStyle::Plain;
        let value = if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            Value::Null
        } else {
            let style = if plain { Style::Plain } else { Style::Quoted };
            Value::Scalar(Scalar::new(text, style))
        };
        let node = self.new_node(value, place);
        self.remember(anchor, &node)?;
        self.attach(node)
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<(), Failure> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(Box::new(Diagnostic::error(
                place,
                self.path(),
                "an alias names an anchor that is not complete before it",
            )));
        };
        let too_deep = self.open.len() + anchor.depth > MAX_DEPTH;
        let size = anchor.size;
        if too_deep {
            return Err(self.too_deep(place));
        }
        self.spend(size, &place)?;
        let mut node = self.anchors[&id].node.clone();
        if self.wants_key() {
            let name = node.text().unwrap_or_default().into();
            self.set_key(name, place);
            return Ok(());
        }
        let (name, key) = self.next_name(&place);
        node.name = name;
        node.key = key;
        self.attach(node)
    }

    fn begin(&mut self, is_map: bool, anchor: usize, place: Place) -> Result<(), Failure> {
        if self.wants_key() {
            let message = "a key must be a single value, found a list or options";
            return Err(Box::new(Diagnostic::error(place, self.path(), message)));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.too_deep(place));
        }
        let mut node = self.new_node(Value::Null, place);
        // Under a key the key is the better place: the value begins at its first child.
        if self.open.last().is_some_and(|open| open.is_map) {
            node.place = node.key.clone();
        }
        self.open.push(Open {
            node,
            is_map,
            children: Vec::new(),
            key: None,
            merged: Vec::new(),
            anchor,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let Some(mut open) = self.open.pop() else {
            return Ok(());
        };
        open.node.value = if open.is_map {
            self.report_duplicates(&open);
            Value::map(with_merged(open.children, open.merged))
        } else {
            Value::List(open.children)
        };
        self.remember(open.anchor, &open.node)?;
        self.attach(open.node)
    }

    /// Puts a finished node where it belongs.
    fn attach(&mut self, node: Node) -> Result<(), Failure> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(open) if open.is_map && &*node.name == "<<" => {
                let place = node.place.clone();
                let merged = merge_sources(node).ok_or_else(|| {
                    Diagnostic::error(place, "<<", "a merge key needs options to merge")
                })?;
                open.merged.extend(merged);
            }
            Some(open) => open.children.push(node),
        }
        Ok(())
    }

    fn new_node(&mut self, value: Value, place: Place) -> Node {
        let (name, key) = self.next_name(&place);
        Node {
            name,
            key,
            place,
            value,
        }
    }

    /// Name and key place of the value that comes now.
    fn next_name(&mut self, place: &Place) -> Key {
        match self.open.last_mut() {
            None => ("".into(), place.clone()),
            Some(open) if open.is_map => open
                .key
                .take()
                .unwrap_or_else(|| ("".into(), place.clone())),
            Some(open) => (open.children.len().to_string().into(), place.clone()),
        }
    }

    fn wants_key(&self) -> bool {
        let open = self.open.last();
        open.is_some_and(|open| open.is_map && open.key.is_none())
    }

    fn set_key(&mut self, name: Box<str>, place: Place) {
        if let Some(open) = self.open.last_mut() {
            open.key = Some((name, place));
        }
    }

    fn remember(&mut self, anchor: usize, node: &Node) -> Result<(), Failure> {
        if anchor == 0 {
            return Ok(());
        }
        let (size, depth) = measure(node);
        self.spend(size, &node.place)?;
        let node = node.clone();
        self.anchors.insert(anchor, Anchor { node, size, depth });
        Ok(())
    }

    /// Aliases make nodes out of nothing: a file of a few hundred bytes could fill the memory.
    fn spend(&mut self, nodes: usize, place: &Place) -> Result<(), Failure> {
        self.copied = self.copied.saturating_add(nodes);
        if self.copied <= MAX_COPIED {
            return Ok(());
        }
        let message = format!("aliases expand to more than {MAX_COPIED} values");
        let diagnostic = Diagnostic::error(place.clone(), self.path(), message);
        Err(Box::new(diagnostic.with_hint(
            "write the values out, or use fewer nested aliases",
        )))
    }

    fn report_duplicates(&mut self, open: &Open) {
        let mut order: Vec<&Node> = open.children.iter().collect();
        // Stable: of two equal names the first written comes first.
        order.sort_by(|a, b| a.name.cmp(&b.name));
        for pair in order.windows(2) {
            if self.diagnostics.len() >= MAX_DUPLICATES {
                return;
            }
            if pair[0].name == pair[1].name {
                let mut path = self.path();
                let in_list = self.open.last().is_some_and(|outer| !outer.is_map);
                push_step(&mut path, &open.node.name, in_list);
                push_step(&mut path, &pair[1].name, false);
                let message = format!("`{}` is given twice", pair[1].name);
                let hint = format!("the first is at {}", pair[0].key);
                let place = pair[1].key.clone();
                self.diagnostics
                    .push(Diagnostic::error(place, path, message).with_hint(hint));
            }
        }
    }

    /// Path of what is open, as written.
    fn path(&self) -> String {
        let mut path = String::new();
        let mut in_list = false;
        for open in &self.open {
            push_step(&mut path, &open.node.name, in_list);
            in_list = !open.is_map;
        }
        path
    }

    fn too_deep(&self, place: Place) -> Failure {
        let message = format!("nested more than {MAX_DEPTH} levels deep");
        Box::new(Diagnostic::error(place, "", message))
    }

    fn scan_error(&self, error: &ScanError) -> Failure {
        let marker = error.marker();
        let place = self.source.at_line(marker.line(), marker.col());
        let message = format!("is not valid YAML: {}", error.info());
        let mut diagnostic = Diagnostic::error(place, self.path(), message);
        if self.tab_at(marker.line()) {
            diagnostic = diagnostic.with_hint("indent with spaces, not with tabs");
        }
        Box::new(diagnostic)
    }

    fn tab_at(&self, line: usize) -> bool {
        let text = self.source.text.lines().nth(line.saturating_sub(1));
        text.is_some_and(|text| {
            let indent = text.len() - text.trim_start().len();
            text[..indent].contains('\t')
        })
    }

    fn finish(&mut self) -> Parsed {
        let root = match self.root.take() {
            Some(node) if matches!(node.value, Value::Null) => None,
            Some(node) if !matches!(node.value, Value::Map { .. }) => {
                let message = format!(
                    "expected options at the top, found {}",
                    node.value.describe()
                );
                self.diagnostics
                    .push(Diagnostic::error(node.place, "", message));
                None
            }
            root => root,
        };
        self.diagnostics.sort_by(|a, b| a.place.cmp(&b.place));
        Parsed {
            root,
            diagnostics: std::mem::take(&mut self.diagnostics),
        }
    }
}

/// The maps a merge key brings in: one, or a list of them.
fn merge_sources(node: Node) -> Option<Vec<Node>> {
    match node.value {
        Value::Map { children, .. } => Some(children),
        Value::List(items) => {
            let maps = items.into_iter().map(merge_sources);
            maps.collect::<Option<Vec<_>>>()
                .map(|maps| maps.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// Own children win over merged ones, of the merged the first.
fn with_merged(mut children: Vec<Node>, merged: Vec<Node>) -> Vec<Node> {
    if merged.is_empty() {
        return children;
    }
    let mut seen: HashSet<Box<str>> = children.iter().map(|c| c.name.clone()).collect();
    for node in merged {
        if seen.insert(node.name.clone()) {
            children.push(node);
        }
    }
    children
}

/// Nodes in all, and levels.
fn measure(node: &Node) -> (usize, usize) {
    let children = match &node.value {
        Value::Map { children, .. } | Value::List(children) | Value::Repeated(children) => children,
        Value::Null | Value::Scalar(_) => return (1, 1),
    };
    let (mut size, mut depth) = (1, 0);
    for child in children {
        let (child_size, child_depth) = measure(child);
        size += child_size;
        depth = depth.max(child_depth);
    }
    (size, depth + 1)
}

fn push_step(path: &mut String, step: &str, is_index: bool) {
    if is_index {
        path.extend(["[", step, "]"]);
        return;
    }
    if !path.is_empty() && !step.is_empty() {
        path.push('.');
    }
    path.push_str(step);
}

/// Nodes that anchors and aliases may copy in one file.
const MAX_COPIED: usize = 100_000;

/// Duplicate keys listed for one file.
const MAX_DUPLICATES: usize = 100;
