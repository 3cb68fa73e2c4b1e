//! One normal form for what a Compose file may say in several ways, and the merge of two files that have it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::config::{
    Place,
    tree::{Node, Scalar, Style, Value},
};

/// What `!reset` and `!override` are attached to, by place.
pub(super) type Tags = HashMap<Place, Tag>;

/// A tag that says how a value merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// The option is as if it were never written.
    Reset,
    /// The value replaces what was there.
    Override,
}

/// Brings a file into normal form: mappings instead of lists of pairs, the long form of mounts, paths that begin at `base`.
pub(super) fn normalize(root: &mut Node, base: &Path) {
    for service in children_of(root, "services") {
        for child in children_mut(service) {
            option(child, base);
        }
    }
    for kind in ["configs", "secrets"] {
        for source in children_of(root, kind) {
            for file in children_mut(source).filter(|child| &*child.name == "file") {
                resolve(file, base);
            }
        }
    }
}

fn option(node: &mut Node, base: &Path) {
    match &*node.name {
        "labels" | "environment" => pairs(node),
        "deploy" => {
            for labels in children_mut(node).filter(|child| &*child.name == "labels") {
                pairs(labels);
            }
        }
        "networks" => names(node),
        "volumes" => items(node).for_each(|item| volume(item, base)),
        "configs" => items(node).for_each(|item| grant(item, "/")),
        "secrets" => items(node).for_each(|item| grant(item, "/run/secrets/")),
        "env_file" | "label_file" => {
            as_list(node);
            for file in items(node) {
                if matches!(file.value, Value::Scalar(_)) {
                    let path = Node {
                        name: "path".into(),
                        ..file.clone()
                    };
                    file.value = Value::map(vec![path]);
                }
                for path in children_mut(file).filter(|child| &*child.name == "path") {
                    resolve(path, base);
                }
            }
        }
        _ => {}
    }
}

/// `[a=1, b]` to `{a: 1, b: null}`; of equal names the later counts.
fn pairs(node: &mut Node) {
    let Value::List(items) = &node.value else {
        return;
    };
    let mut children: Vec<Node> = Vec::new();
    for item in items {
        let Some(text) = scalar_text(item) else {
            continue;
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Value::text(value)),
            None => (text.as_str(), Value::Null),
        };
        let child = Node {
            name: name.into(),
            key: item.place.clone(),
            place: item.place.clone(),
            value,
        };
        put(&mut children, child);
    }
    node.value = Value::map(children);
}

/// `[a, b]` to `{a: null, b: null}`.
fn names(node: &mut Node) {
    if let Value::List(_) = &node.value {
        pairs(node);
    }
}

/// `[SOURCE:]TARGET[:MODE]` to its long form.
fn volume(item: &mut Node, base: &Path) {
    if let Some(text) = item.text().map(str::to_owned) {
        let mut parts = text.split(':');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let (source, target) = match second {
            Some(target) if target.starts_with('/') => (Some(first), target),
            _ => (None, first),
        };
        let is_bind = source.is_some_and(is_path);
        let kind = if is_bind { "bind" } else { "volume" };
        let mut children = vec![leaf(item, "type", kind), leaf(item, "target", target)];
        children.extend(source.map(|source| leaf(item, "source", source)));
        item.value = Value::map(children);
    }
    let is_bind = get(item, "type").and_then(Node::text) == Some("bind");
    for source in children_mut(item).filter(|child| is_bind && &*child.name == "source") {
        resolve(source, base);
    }
}

/// A configuration or secret that a service is given, to its long form.
fn grant(item: &mut Node, folder: &str) {
    if let Some(name) = item.text().map(str::to_owned) {
        let children = vec![leaf(item, "source", &name)];
        item.value = Value::map(children);
    }
    let source = get(item, "source").and_then(Node::text).map(str::to_owned);
    let target = get(item, "target").and_then(Node::text).map(str::to_owned);
    let target = match (target, source) {
        (Some(target), _) if target.starts_with('/') => return set(item, "target", &target),
        (Some(name), _) | (None, Some(name)) => format!("{folder}{name}"),
        (None, None) => return,
    };
    set(item, "target", &target);
}

fn set(item: &mut Node, name: &str, value: &str) {
    let child = leaf(item, name, value);
    if let Value::Map { children, .. } = &mut item.value {
        put(children, child);
    }
}

/// Paths are relative to the project's directory, `~` is the user's.
fn resolve(node: &mut Node, base: &Path) {
    let Some(text) = node.text() else { return };
    let path = match text
        .strip_prefix('~')
        .filter(|rest| !rest.starts_with(|c| c != '/'))
    {
        Some(rest) => PathBuf::from(std::env::var("HOME").unwrap_or_default() + rest),
        None => join(base, text),
    };
    let text = path.display().to_string();
    node.value = Value::text(&text);
}

/// A path below a directory, without the dots in between that only make it longer to read.
pub(super) fn join(base: &Path, path: &str) -> PathBuf {
    let path = Path::new(path);
    let path = path.strip_prefix(".").unwrap_or(path);
    base.join(path)
}

fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}

/// Puts `over` on top of `base`, as Compose does with several files and with `extends`.
pub(super) fn merge(base: &mut Node, over: Node, tags: &Tags) {
    match tags.get(&over.place) {
        Some(Tag::Override) => {
            *base = over;
            return;
        }
        Some(Tag::Reset) => {
            base.value = Value::Null;
            base.place = over.place;
            return;
        }
        None => {}
    }
    let replaces = REPLACED.contains(&&*over.name);
    let keyed = KEYED_BY_TARGET.contains(&&*over.name);
    match (&mut base.value, over.value) {
        (Value::Map { .. } | Value::List(_), Value::Null) => {}
        (
            Value::Map {
                children: under, ..
            },
            Value::Map { children, .. },
        ) => {
            for child in children {
                merge_child(under, child, tags);
            }
        }
        (Value::List(under), Value::List(items)) if keyed => {
            for item in items {
                match under.iter_mut().find(|old| same_target(old, &item)) {
                    Some(old) => *old = item,
                    None => under.push(item),
                }
            }
        }
        (Value::List(under), Value::List(items)) if !replaces => under.extend(items),
        (_, value) => {
            base.value = value;
            base.key = over.key;
            base.place = over.place;
        }
    }
}

fn merge_child(under: &mut Vec<Node>, child: Node, tags: &Tags) {
    let reset = tags.get(&child.place) == Some(&Tag::Reset);
    match under.iter().position(|old| old.name == child.name) {
        Some(index) if reset => drop(under.remove(index)),
        Some(index) => merge(&mut under[index], child, tags),
        None if reset => {}
        None => under.push(child),
    }
}

/// Takes out what is reset in the only file that has it.
pub(super) fn drop_reset(node: &mut Node, tags: &Tags) {
    if let Value::Map { children, .. } | Value::List(children) = &mut node.value {
        children.retain(|child| tags.get(&child.place) != Some(&Tag::Reset));
        children
            .iter_mut()
            .for_each(|child| drop_reset(child, tags));
    }
}

fn same_target(a: &Node, b: &Node) -> bool {
    let target = |node: &Node| get(node, "target").and_then(Node::text).map(str::to_owned);
    target(a).is_some() && target(a) == target(b)
}

/// The child with exactly this name: Compose knows only one spelling.
pub(super) fn get<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.children().iter().find(|child| &*child.name == name)
}

/// A single value as Compose hands it on: numbers and booleans in their usual form.
pub(super) fn scalar_text(node: &Node) -> Option<String> {
    let scalar = node.scalar()?;
    Some(match scalar.style {
        Style::Plain => plain(&scalar.text),
        _ => String::from(&*scalar.text),
    })
}

fn plain(text: &str) -> String {
    match text {
        "True" | "TRUE" => return "true".to_owned(),
        "False" | "FALSE" => return "false".to_owned(),
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if text.starts_with('-') => ("-", digits),
        Some(digits) => ("", digits),
        None => ("", text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return text.to_owned();
    }
    let digits = digits.replace('_', "");
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)))
        .or_else(|| Some((digits.strip_prefix('0')?, 8)));
    if let Some(number) = radix.and_then(|(digits, radix)| u64::from_str_radix(digits, radix).ok())
    {
        return format!("{sign}{number}");
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return format!("{sign}{digits}");
    }
    match digits.parse::<f64>() {
        Ok(number) if number < 1e21 && (number >= 1e-4 || number == 0.0) => {
            format!("{sign}{number}")
        }
        _ => text.to_owned(),
    }
}

fn put(children: &mut Vec<Node>, child: Node) {
    match children.iter_mut().find(|old| old.name == child.name) {
        Some(old) => *old = child,
        None => children.push(child),
    }
}

fn leaf(item: &Node, name: &str, value: &str) -> Node {
    Node {
        name: name.into(),
        key: item.place.clone(),
        place: item.place.clone(),
        value: Value::Scalar(Scalar::new(value, Style::Quoted)),
    }
}

fn as_list(node: &mut Node) {
    if matches!(node.value, Value::Scalar(_)) {
        node.value = Value::List(vec![node.clone()]);
    }
}

pub(super) fn children_of<'n>(
    root: &'n mut Node,
    name: &str,
) -> impl Iterator<Item = &'n mut Node> {
    let found = children_mut(root).find(|child| &*child.name == name);
    found.into_iter().flat_map(children_mut)
}

fn children_mut(node: &mut Node) -> std::slice::IterMut<'_, Node> {
    match &mut node.value {
        Value::Map { children, .. } => children.iter_mut(),
        _ => [].iter_mut(),
    }
}

fn items(node: &mut Node) -> std::slice::IterMut<'_, Node> {
    match &mut node.value {
        Value::List(items) => items.iter_mut(),
        _ => [].iter_mut(),
    }
}

/// Lists of which the later one counts as a whole.
const REPLACED: [&str; 3] = ["command", "entrypoint", "test"];

/// Lists in which each target stands once.
const KEYED_BY_TARGET: [&str; 3] = ["volumes", "configs", "secrets"];
