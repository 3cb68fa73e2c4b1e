//! One text and the edits that bring it into its new form.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::advice::{self, Advice};
use super::entry::{Edit, Entry, Lines, Name, Removal, Scalar, Style, in_case_of};
use super::rule::Stands;
use super::steps::{Facts, Kept, Step, group};
use super::yaml::Yaml;
use super::{Migrated, Remark, diff, stack};
use crate::config::Place;

#[derive(Debug)]
pub(super) struct Text {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) lines: Lines,
    pub(super) yaml: Option<Yaml>,
    pub(super) entries: Vec<Entry>,
    /// Where the entries of a stack begin.
    pub(super) added: BTreeSet<usize>,
    pub(super) stands: Stands,
    pub(super) remarks: Vec<Remark>,
}

impl Text {
    pub(super) fn new(name: &str, text: &str, stands: Stands) -> Self {
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            lines: Lines::of(text),
            yaml: None,
            entries: Vec::new(),
            added: BTreeSet::new(),
            stands,
            remarks: Vec::new(),
        }
    }

    /// Adds an entry, once: several services may have one text in common.
    pub(super) fn add(&mut self, entry: Entry) {
        if self.added.insert(entry.at) {
            self.entries.push(entry);
        }
    }

    pub(super) fn as_file(&self) -> Option<stack::File<'_>> {
        let yaml = self.yaml.as_ref()?;
        Some(stack::File {
            text: &self.text,
            lines: &self.lines,
            yaml,
        })
    }

    /// Gives an entry the value that stands in a node of its own.
    pub(super) fn take_value(&self, entry: &mut Entry, place: &Place) {
        let (Some(yaml), Place::File { line, column, .. }) = (&self.yaml, place) else {
            return;
        };
        let Some(node) = yaml.find(&self.lines, &self.text, (*line, *column)) else {
            return;
        };
        let next = yaml.removal(&self.lines, &self.text, node);
        entry.value.clone_from(&yaml.nodes[node].value);
        entry.removal = match (&entry.removal, next) {
            (Removal::Range(first), Removal::Range(second)) if first.end == second.start => {
                Removal::Range(first.start..second.end)
            }
            (Removal::Item { group, span }, Removal::Item { span: next, .. }) => Removal::Item {
                group: *group,
                span: span.start..next.end,
            },
            _ => Removal::Impossible,
        };
    }

    pub(super) fn migrated(
        mut self,
        facts: &Facts,
        kept: &Kept,
        mut steps: Vec<Vec<Step>>,
    ) -> Migrated {
        self.keep_groups(facts, kept, &mut steps);
        self.drop_sections(&mut steps);
        let mut edits = self.nested(&mut steps);
        for (index, steps) in steps.iter().enumerate() {
            let entry = &self.entries[index];
            let pair = self.pair(entry, steps);
            for step in steps {
                match step {
                    Step::Remark(text) => {
                        let said = remark(&self.text, &self.lines, entry, text);
                        self.remarks.push(said);
                    }
                    Step::Name(..) | Step::Value(_) if pair.is_some() => {}
                    step => edits.extend(self.edits(entry, step)),
                }
            }
            edits.extend(pair);
            if steps.contains(&Step::Drop) && entry.removal == Removal::Impossible {
                let text = "shares its lines with something else: take it out by hand";
                let said = remark(&self.text, &self.lines, entry, text);
                self.remarks.push(said);
            }
        }
        edits.extend(self.removals(&steps));
        edits.extend(self.emptied(&steps));
        let edits = in_order(edits);
        self.remarks.sort();
        self.remarks.dedup();
        Migrated {
            new: diff::apply(&self.text, &edits),
            diff: match edits.is_empty() {
                true => String::new(),
                false => diff::unified(&self.name, &self.text, &edits),
            },
            name: self.name,
            remarks: self.remarks,
        }
    }

    /// What would leave nothing of an object that others refer to, or of a provider, becomes something that changes nothing.
    fn keep_groups(&mut self, facts: &Facts, kept: &Kept, steps: &mut [Vec<Step>]) {
        let mut done = BTreeSet::new();
        for (entry, steps) in self.entries.iter().zip(steps) {
            if !steps.contains(&Step::Drop) {
                continue;
            }
            let names: Vec<&str> = entry.names().collect();
            let advice = advice::about(&names);
            if names.len() == 5 && names[3].eq_ignore_ascii_case("headers") {
                let group = group(entry, 4);
                if !kept.has(&group) && done.insert(group) {
                    let (name, value) = advice::INERT_HEADERS;
                    let why = steps.iter().find_map(|step| match step {
                        Step::Remark(why) => Some(why.clone()),
                        _ => None,
                    });
                    let why = why.unwrap_or_default();
                    let note = format!(
                        "{why}; nothing else is left of this middleware, `{name}` keeps it so that routers that name it are served"
                    );
                    *steps = vec![
                        Step::Name(4, name.to_owned()),
                        Step::Value(value.to_owned()),
                        Step::Remark(note),
                    ];
                }
            }
            let switches = advice == Some(Advice::SwarmMode) && facts.swarm;
            if switches && entry.outer() == 0 && !kept.has("providers.docker") {
                *steps = vec![
                    Step::Name(1, "swarm".to_owned()),
                    Step::Name(2, String::new()),
                ];
            }
        }
    }

    /// A section that holds nothing else any more goes too, if it would mean something of its own.
    fn drop_sections(&self, steps: &mut [Vec<Step>]) {
        for index in (0..self.entries.len()).rev() {
            let entry = &self.entries[index];
            let [name] = entry.path.as_slice() else {
                continue;
            };
            if !SECTIONS
                .iter()
                .any(|known| name.text.eq_ignore_ascii_case(known))
            {
                continue;
            }
            let below = |other: &Entry| {
                let first = other.path.first();
                other.path.len() > 1
                    && first.is_some_and(|first| first.text.eq_ignore_ascii_case(&name.text))
            };
            let inside = self.entries.iter().zip(steps.iter());
            let inside = inside.filter(|(other, _)| below(other));
            // What stands in what is dropped is dropped with it.
            let own = inside.filter(|(other, _)| match other.parent {
                Some(parent) => parent == index,
                None => true,
            });
            let states: Vec<bool> = own.map(|(_, steps)| steps.contains(&Step::Drop)).collect();
            if !states.is_empty() && states.iter().all(|dropped| *dropped) {
                steps[index].push(Step::Drop);
            }
        }
    }

    /// Options that move into a group of their own; the first of them begins it, the others follow it there.
    fn nested(&self, steps: &mut [Vec<Step>]) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut nests: Vec<Nest> = Vec::new();
        for (index, steps) in steps.iter_mut().enumerate() {
            let nest = steps.iter().find_map(|step| match step {
                Step::Nest(group, name) => Some((*group, *name)),
                _ => None,
            });
            let Some((group, name)) = nest else { continue };
            let entry = &self.entries[index];
            let last = entry.path.len() - 1;
            if entry.outer() < last || self.yaml.is_none() {
                *steps = vec![Step::Name(last, format!("{group}.{name}"))];
                continue;
            }
            let open = nests
                .iter_mut()
                .find(|it| it.parent == entry.parent && it.group == group);
            match open {
                Some(nest) => {
                    nest.all.push((index, name));
                    *steps = vec![Step::Drop];
                }
                None => nests.push(Nest {
                    parent: entry.parent,
                    group,
                    all: vec![(index, name)],
                }),
            }
        }
        for nest in &nests {
            edits.extend(self.nest(nest.group, &nest.all));
        }
        edits
    }

    fn nest(&self, group: &str, all: &[(usize, &'static str)]) -> Vec<Edit> {
        let Some(((first, name), rest)) = all.split_first() else {
            return Vec::new();
        };
        let entry = &self.entries[*first];
        let (Some(value), Some(key)) = (&entry.value, entry.path.last()) else {
            return Vec::new();
        };
        let Some(key) = key.span.clone() else {
            return Vec::new();
        };
        let in_flow = matches!(entry.removal, Removal::Item { .. });
        let line = self.lines.whole(&self.text, &key).start;
        let indent = " ".repeat(key.start - line + 2);
        let (begin, between, end) = match in_flow {
            true => (format!("{group}: {{"), ", ".to_owned(), "}"),
            false => (format!("{group}:\n{indent}"), format!("\n{indent}"), ""),
        };
        let more = rest.iter().filter_map(|(index, name)| {
            let value = self.entries[*index].value.as_ref()?;
            Some(format!(
                "{between}{name}: {}",
                &self.text[value.span.clone()]
            ))
        });
        let more: String = more.collect();
        vec![
            Edit {
                range: key,
                text: format!("{begin}{name}"),
            },
            Edit {
                range: value.span.end..value.span.end,
                text: format!("{more}{end}"),
            },
        ]
    }

    fn edits(&self, entry: &Entry, step: &Step) -> Vec<Edit> {
        match step {
            Step::Name(at, new) => {
                let name = &entry.path[*at];
                self.rename(entry, *at, name, new).into_iter().collect()
            }
            Step::Value(new) => match &entry.value {
                // A switch says `{}` in a file and `true` elsewhere.
                Some(value) if new == "{}" => match self.stands {
                    Stands::Actions => vec![Edit {
                        range: value.span.clone(),
                        text: new.clone(),
                    }],
                    Stands::Variables => Vec::new(),
                },
                Some(value) if new == "true" && value.before.is_empty() => vec![Edit {
                    range: value.span.clone(),
                    text: match value.style {
                        Style::Toml | Style::Word | Style::Plain { .. } => new.clone(),
                        _ => value.edit(new).text,
                    },
                }],
                Some(value) => vec![value.edit(new)],
                None => Vec::new(),
            },
            Step::List => {
                let value = entry.value.as_ref();
                let value =
                    value.filter(|value| value.before.is_empty() && self.stands == Stands::Actions);
                let around = |span: &Range<usize>| {
                    let insert = |at: usize, text: &str| Edit {
                        range: at..at,
                        text: text.to_owned(),
                    };
                    vec![insert(span.start, "["), insert(span.end, "]")]
                };
                value.map(|value| around(&value.span)).unwrap_or_default()
            }
            Step::Drop | Step::Nest(..) | Step::Remark(_) => Vec::new(),
        }
    }

    /// A name and a value between the same quotes, of which both change.
    fn pair(&self, entry: &Entry, steps: &[Step]) -> Option<Edit> {
        let value = entry.value.as_ref().filter(|it| !it.before.is_empty())?;
        let new = steps.iter().find_map(|step| match step {
            Step::Value(new) if new == "{}" => None,
            Step::Value(new) => Some(new),
            _ => None,
        })?;
        let quoted = matches!(value.style, Style::Single | Style::Double);
        let start = value.span.start + usize::from(quoted);
        let names = steps.iter().filter_map(|step| match step {
            Step::Name(at, new) => self.rename(entry, *at, &entry.path[*at], new),
            _ => None,
        });
        let inside = names.map(|edit| Edit {
            range: edit.range.start - start..edit.range.end - start,
            ..edit
        });
        let inside = in_order(inside.collect());
        let value = Scalar {
            before: diff::apply(&value.before, &inside),
            ..value.clone()
        };
        Some(value.edit(new))
    }

    fn rename(&self, entry: &Entry, at: usize, name: &Name, new: &str) -> Option<Edit> {
        let span = name.span.clone()?;
        // A value that is written anew brings its name along.
        if new.is_empty() {
            let before = entry.path[at - 1].span.as_ref()?.end;
            return Some(Edit {
                range: before..span.end,
                text: String::new(),
            });
        }
        Some(Edit {
            text: in_case_of(&self.text[span.clone()], new),
            range: span,
        })
    }

    /// What takes entries out of the text.
    fn removals(&self, steps: &[Vec<Step>]) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut groups: BTreeSet<usize> = BTreeSet::new();
        let mut gone: Vec<&Range<usize>> = Vec::new();
        for (entry, steps) in self.entries.iter().zip(steps) {
            match &entry.removal {
                _ if !steps.contains(&Step::Drop) => {}
                Removal::Range(range) => edits.push(range.clone()),
                Removal::Item { group, span } => {
                    groups.insert(*group);
                    gone.push(span);
                }
                Removal::Impossible => {}
            }
        }
        for group in groups {
            let items: Vec<_> = match &self.yaml {
                Some(yaml) => yaml.items(group).collect(),
                None => self
                    .entries
                    .iter()
                    .filter_map(|it| it.item_of(group))
                    .collect(),
            };
            let is_gone = |span: &Range<usize>| {
                let mut gone = gone.iter();
                gone.any(|gone| gone.start <= span.start && span.end <= gone.end)
            };
            let items = items.into_iter().map(|span| (span, is_gone(span)));
            edits.extend(between(items));
        }
        let edit = |range| Edit {
            range,
            text: String::new(),
        };
        edits.into_iter().map(edit).collect()
    }

    /// Groups of a YAML file that have lost all that was in them are still there, with nothing in them.
    fn emptied(&self, steps: &[Vec<Step>]) -> Vec<Edit> {
        let Some(yaml) = self
            .yaml
            .as_ref()
            .filter(|_| self.stands == Stands::Actions)
        else {
            return Vec::new();
        };
        let gone = |index: usize| steps[index].contains(&Step::Drop);
        let mut left: HashMap<usize, bool> = HashMap::new();
        for (index, node) in yaml.nodes.iter().enumerate() {
            if let Some(parent) = node.parent {
                *left.entry(parent).or_default() |= !gone(index);
            }
        }
        let emptied = left
            .into_iter()
            .filter(|(index, left)| !left && !gone(*index));
        let edit = |index: usize| {
            let at = yaml.nodes[index].colon(&self.text)?;
            Some(Edit {
                range: at..at,
                text: " {}".to_owned(),
            })
        };
        emptied.filter_map(|(index, _)| edit(index)).collect()
    }
}

/// Options that move into a group of their own.
struct Nest {
    parent: Option<usize>,
    group: &'static str,
    /// The entries and their names there.
    all: Vec<(usize, &'static str)>,
}

/// What is to be taken out of a list with commas between its items, some of which go.
fn between<'e>(items: impl Iterator<Item = (&'e Range<usize>, bool)>) -> Vec<Range<usize>> {
    let mut removed = Vec::new();
    let mut last_kept: Option<usize> = None;
    let mut first_gone: Option<usize> = None;
    let mut end = 0;
    for (span, gone) in items {
        end = span.end;
        match (gone, first_gone) {
            (true, None) => first_gone = Some(span.start),
            (true, Some(_)) => {}
            (false, Some(start)) => {
                removed.push(start..span.start);
                first_gone = None;
                last_kept = Some(span.end);
            }
            (false, None) => last_kept = Some(span.end),
        }
    }
    if let Some(start) = first_gone {
        removed.push(last_kept.unwrap_or(start)..end);
    }
    removed
}

/// Edits by their places, without those inside others.
fn in_order(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by(|a, b| {
        let ends = b.range.end.cmp(&a.range.end);
        a.range
            .start
            .cmp(&b.range.start)
            .then(ends)
            .then_with(|| a.text.cmp(&b.text))
    });
    edits.dedup();
    let mut kept: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        if kept
            .last()
            .is_none_or(|last| last.range.end <= edit.range.start)
        {
            kept.push(edit);
        }
    }
    kept
}

fn remark(text: &str, lines: &Lines, entry: &Entry, said: &str) -> Remark {
    let (line, column) = lines.place(text, entry.at);
    let names: Vec<&str> = entry.names().collect();
    Remark {
        line,
        column,
        option: names.join("."),
        text: said.to_owned(),
    }
}

/// Sections that mean something even if they are empty, or that nobody would leave empty.
const SECTIONS: [&str; 4] = ["core", "experimental", "metrics", "tracing"];
