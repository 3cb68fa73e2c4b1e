//! Flat `a.b[0].c = value` pairs to a tree: flags, environment and labels.

use std::collections::HashMap;

use super::{MAX_DEPTH, Node, Scalar, Value};
use crate::config::diagnostic::Place;

/// What a second value for the same name does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Repeat {
    /// It replaces the first.
    Replace,
    /// Both are kept: a list takes all, a single value the last.
    Keep,
}

/// A tree that grows pair by pair. Names that differ only in case are one; the first spelling stays.
#[derive(Debug, Default)]
pub(in crate::config) struct Branch {
    name: Box<str>,
    place: Place,
    values: Vec<(Scalar, Place)>,
    fields: Siblings,
    items: Siblings,
}

/// Branches side by side. A container may have tens of thousands, so that they are found by a map.
#[derive(Debug, Default)]
struct Siblings {
    all: Vec<Branch>,
    by_lower_name: HashMap<Box<str>, usize>,
}

impl Siblings {
    /// The one of this name in any case, made at this place if there is none.
    fn of_name(&mut self, name: &str, place: &Place) -> &mut Branch {
        let next = self.all.len();
        let lower = name.to_ascii_lowercase().into();
        let index = *self.by_lower_name.entry(lower).or_insert(next);
        if index == next {
            self.all.push(Branch {
                name: name.into(),
                place: place.clone(),
                ..Branch::default()
            });
        }
        &mut self.all[index]
    }
}

impl Branch {
    /// Adds one pair.
    pub(in crate::config) fn insert(
        &mut self,
        path: &[Step],
        value: Scalar,
        place: &Place,
        repeat: Repeat,
    ) {
        let mut branch = self;
        for step in path {
            branch = match step {
                Step::Field(name) => branch.fields.of_name(name, place),
                Step::Item(name) => branch.items.of_name(name, place),
            };
        }
        if repeat == Repeat::Replace {
            branch.values.clear();
        }
        branch.values.push((value, place.clone()));
    }

    /// The finished tree.
    pub(in crate::config) fn into_node(self) -> Node {
        let Self {
            name,
            place,
            mut values,
            fields,
            items,
        } = self;
        let (fields, mut items) = (fields.all, items.all);
        let value = if !items.is_empty() {
            // The bracket key only groups; elements are ordered by it as text, as in Traefik.
            items.sort_by(|a, b| a.name.cmp(&b.name));
            Value::List(items.into_iter().map(Self::into_node).collect())
        } else if !fields.is_empty() {
            Value::Map {
                children: fields.into_iter().map(Self::into_node).collect(),
                switch: values.pop().map(|(value, _)| value),
            }
        } else if values.len() > 1 {
            let all = values
                .into_iter()
                .map(|(value, place)| leaf(&name, value, place));
            Value::Repeated(all.collect())
        } else {
            match values.pop() {
                Some((value, own)) => return leaf(&name, value, own),
                None => Value::map(Vec::new()),
            }
        };
        Node {
            name,
            key: place.clone(),
            place,
            value,
        }
    }
}

/// One step of a flat path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum Step {
    /// `.name`
    Field(Box<str>),
    /// `[key]`
    Item(Box<str>),
}

/// Splits `a.b[0].c`; says what is wrong otherwise.
pub(in crate::config) fn split_path(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for segment in path.split('.') {
        let (name, mut rest) = match segment.find('[') {
            Some(bracket) => segment.split_at(bracket),
            None => (segment, ""),
        };
        if name.is_empty() {
            return Err(format!("an empty name in `{path}`"));
        }
        steps.push(Step::Field(name.into()));
        while !rest.is_empty() {
            let inside = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let (key, after) = inside
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| format!("a list index such as `[0]` was expected in `{path}`"))?;
            steps.push(Step::Item(key.into()));
            rest = after;
        }
    }
    if steps.len() > MAX_DEPTH {
        return Err(format!("more than {MAX_DEPTH} names in one path"));
    }
    Ok(steps)
}

fn leaf(name: &str, value: Scalar, place: Place) -> Node {
    Node {
        name: name.into(),
        key: place.clone(),
        place,
        value: Value::Scalar(value),
    }
}
