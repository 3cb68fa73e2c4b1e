//! Configuration of Traefik 2 in the form of Traefik 3: labels, flags, variables, static and dynamic files. Changes exactly the bytes
//! that must be others; comments, order and quotes of everything else stay.

mod advice;
mod diff;
mod entry;
mod rule;
mod stack;
#[cfg(test)]
mod tests;
mod toml;
mod yaml;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use self::advice::Advice;
use self::entry::{Edit, Entry, Lines, Name, Removal, Scalar, Style, in_case_of};
use self::rule::Stands;
use self::stack::Kind;
use self::yaml::Yaml;
use crate::compose::{Pair, Project, Service};
use crate::config::{Place, tree::Format};
use crate::rule::{Protocol, Syntax};

/// A text in its old and its new form.
#[derive(Debug)]
pub struct Migrated {
    pub name: String,
    pub new: String,
    /// Empty if nothing changes.
    pub diff: String,
    /// What has no new form, or does something else there.
    pub remarks: Vec<Remark>,
}

/// What there is to say about an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    pub line: usize,
    pub column: usize,
    pub option: String,
    pub text: String,
}

/// The files that are to be changed, and what each of them is.
#[derive(Debug, Default)]
pub struct Migration {
    texts: Vec<Text>,
}

#[derive(Debug)]
struct Text {
    name: String,
    text: String,
    lines: Lines,
    yaml: Option<Yaml>,
    entries: Vec<Entry>,
    stands: Stands,
    remarks: Vec<Remark>,
}

impl Migration {
    /// Adds a static or dynamic configuration file.
    pub fn add_file(&mut self, name: &str, text: &str, format: Format) {
        let mut file = Text::new(name, text, Stands::Actions);
        let read = match format {
            Format::Toml => toml::read(text),
            Format::Yaml => {
                file.yaml = yaml::read(text);
                let yaml = file.yaml.as_ref();
                yaml.map(|yaml| yaml.entries(&file.lines, text))
            }
        };
        match read {
            Some(entries) => file.entries = entries,
            None => file.remarks.push(Remark {
                line: 1,
                column: 1,
                option: String::new(),
                text: "cannot be read as it is (is it a template?), and stays as it is".to_owned(),
            }),
        }
        self.texts.push(file);
    }

    /// Adds what the services of a project say. `text` gives the text of a file; `is_proxy` tells the services that are told options.
    pub fn add_project(
        &mut self,
        project: &Project,
        text: &dyn Fn(&str) -> Option<String>,
        is_proxy: &dyn Fn(&Service) -> bool,
    ) {
        for service in &project.services {
            let labels = service.labels.iter().chain(&service.deploy_labels);
            for pair in labels {
                self.add_pair(pair, Kind::Label, text);
            }
            if is_proxy(service) {
                for pair in &service.environment {
                    self.add_pair(pair, Kind::Variable, text);
                }
                for words in [&service.entrypoint, &service.command] {
                    let words = words.iter().flatten();
                    let words: Vec<(&str, &Place)> = words
                        .map(|word| (word.text.as_str(), &word.place))
                        .collect();
                    self.add_words(&words, text);
                }
            }
        }
    }

    fn add_pair(&mut self, pair: &Pair, kind: Kind, text: &dyn Fn(&str) -> Option<String>) {
        let Some((file, node)) = self.node(&pair.key, text) else {
            return;
        };
        let entry = file.as_file().and_then(|it| it.option(node, kind));
        file.entries.extend(entry);
    }

    fn add_words(&mut self, words: &[(&str, &Place)], text: &dyn Fn(&str) -> Option<String>) {
        let mut rest = words;
        while let Some(((word, place), later)) = rest.split_first() {
            let same = later.iter().take_while(|(_, other)| other == place).count();
            let Some((file, node)) = self.node(place, text) else {
                rest = later;
                continue;
            };
            let Some(stack) = file.as_file() else {
                rest = later;
                continue;
            };
            if same > 0 {
                let line: Vec<&str> = rest[..=same].iter().map(|(word, _)| *word).collect();
                let entries = stack.line(node, &line);
                file.entries.extend(entries);
                rest = &rest[same + 1..];
                continue;
            }
            let entry = stack.option(node, Kind::Flag);
            let has_value = word.contains('=');
            if let Some(mut entry) = entry {
                // The next word is the value, unless it is a flag itself.
                let next = later.first().filter(|(next, _)| !next.starts_with('-'));
                if let Some((_, place)) = next.filter(|_| !has_value) {
                    file.take_value(&mut entry, place);
                }
                file.entries.push(entry);
            }
            rest = later;
        }
    }

    /// The file and the node that stand at a place.
    fn node(
        &mut self,
        place: &Place,
        text: &dyn Fn(&str) -> Option<String>,
    ) -> Option<(&mut Text, usize)> {
        let Place::File { path, line, column } = place else {
            return None;
        };
        let known = self.texts.iter().position(|known| *known.name == **path);
        let index = match known {
            Some(index) => index,
            None => {
                let mut file = Text::new(path, &text(path)?, Stands::Variables);
                file.yaml = yaml::read(&file.text);
                self.texts.push(file);
                self.texts.len() - 1
            }
        };
        let file = &mut self.texts[index];
        let yaml = file.yaml.as_ref()?;
        let node = yaml.find(&file.lines, &file.text, (*line, *column))?;
        Some((file, node))
    }

    /// Every text that changes, or about which there is something to say.
    pub fn finish(self) -> Vec<Migrated> {
        let facts = Facts::of(&self.texts);
        let steps: Vec<Vec<Vec<Step>>> = self
            .texts
            .iter()
            .map(|text| {
                text.entries
                    .iter()
                    .map(|it| facts.steps(it, text.stands))
                    .collect()
            })
            .collect();
        let kept = Kept::of(&self.texts, &steps);
        let all = self.texts.into_iter().zip(steps);
        all.map(|(text, steps)| text.migrated(&facts, &kept, steps))
            .filter(|migrated| !migrated.diff.is_empty() || !migrated.remarks.is_empty())
            .collect()
    }
}

/// What is to be done about one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Drop,
    /// Another text for the name with this number.
    Name(usize, String),
    /// It stands in a group of its own: the group and its name there.
    Nest(&'static str, &'static str),
    Value(String),
    List,
    Remark(String),
}

/// What the texts say about each other.
#[derive(Debug, Default)]
struct Facts {
    default: Syntax,
    /// The syntax that routers name, by `http.NAME`.
    routers: HashMap<String, Syntax>,
    swarm: bool,
}

impl Facts {
    fn of(texts: &[Text]) -> Self {
        let mut facts = Self::default();
        for entry in texts.iter().flat_map(|text| &text.entries) {
            let names: Vec<String> = entry.names().map(str::to_ascii_lowercase).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let value = entry.value.as_ref().map_or("", |value| value.text.trim());
            let syntax = Syntax::from_name(value);
            match (names.as_slice(), advice::about(&names)) {
                ([protocol, _, name, _], Some(Advice::Syntax)) => {
                    facts.routers.insert(format!("{protocol}.{name}"), syntax);
                }
                (_, Some(Advice::Syntax)) => facts.default = syntax,
                (_, Some(Advice::SwarmMode)) => facts.swarm |= value != "false",
                _ => {}
            }
        }
        facts
    }

    fn steps(&self, entry: &Entry, stands: Stands) -> Vec<Step> {
        let names: Vec<&str> = entry.names().collect();
        let mut steps = Vec::new();
        let outer = entry.outer();
        for length in 1..=names.len() {
            let Some(advice) = advice::about(&names[..length]) else {
                continue;
            };
            let last = length == names.len();
            // What is taken out of YAML takes along what stands in it, a table of TOML does not.
            let drop = |why: &str| match (length > outer, entry.parent) {
                (true, _) => vec![Step::Drop, Step::Remark(why.to_owned())],
                (false, None) => vec![Step::Drop],
                (false, Some(_)) => Vec::new(),
            };
            let name = |new: &str| Step::Name(length - 1, new.to_owned());
            match advice {
                Advice::Drop(why) => return drop(why),
                Advice::Syntax if last => return vec![Step::Drop],
                Advice::SwarmMode if last => return vec![Step::Drop],
                Advice::Rename(new) if length > outer => steps.push(name(new)),
                Advice::RenameToList(new) if length > outer => {
                    steps.extend([name(new), Step::List]);
                }
                Advice::Nest(group, new) => steps.push(Step::Nest(group, new)),
                Advice::Http3 if last && entry.says("false") => return vec![Step::Drop],
                Advice::Http3 if last => steps.extend([name("http3"), Step::Value("{}".into())]),
                Advice::Rule(protocol) if last => steps.extend(self.rule(entry, protocol, stands)),
                Advice::DefaultRule if last => {
                    steps.extend(self.rule(entry, Protocol::Http, Stands::Actions));
                }
                Advice::References => steps.extend(self.references(entry)),
                _ => {}
            }
        }
        if self.swarm {
            steps.extend(swarm_names(&names, outer));
        }
        steps
    }

    fn rule(&self, entry: &Entry, protocol: Protocol, stands: Stands) -> Option<Step> {
        let value = entry.value.as_ref()?;
        let router = match entry.path.as_slice() {
            [protocol, _, name, _] => format!("{}.{}", protocol.text, name.text),
            _ => String::new(),
        };
        let syntax = self.routers.get(&router.to_ascii_lowercase());
        let syntax = syntax.copied().unwrap_or(self.default);
        match rule::upgraded(&value.text, protocol, syntax, stands) {
            Ok(new) => new.map(Step::Value),
            Err(wrong) => Some(Step::Remark(format!("stays as it is: {wrong}"))),
        }
    }

    /// Objects of services that a swarm runs are those of the provider `swarm`.
    fn references(&self, entry: &Entry) -> Option<Step> {
        let value = entry.value.as_ref().filter(|_| self.swarm)?;
        let names = value.text.split(',').map(|name| {
            let (blank, rest) = name.split_at(name.len() - name.trim_start().len());
            match rest.trim_end().strip_suffix("@docker") {
                Some(own) => format!("{blank}{own}@swarm"),
                None => name.to_owned(),
            }
        });
        let names: Vec<String> = names.collect();
        let new = names.join(",");
        (new != value.text).then_some(Step::Value(new))
    }
}

/// The names of the Docker provider that are another's in a swarm.
fn swarm_names(names: &[&str], outer: usize) -> Option<Step> {
    let is = |at: usize, wanted: &str| {
        let name: Option<&&str> = names.get(at);
        name.is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    };
    let at = match (is(0, "providers") && is(1, "docker"), is(0, "docker")) {
        (true, _) => 1,
        (_, true) => 0,
        _ => return None,
    };
    // Of a file, the entry itself; of labels and flags, each that begins so.
    (outer <= at).then(|| Step::Name(at, "swarm".to_owned()))
}

/// Which groups of options have something left in them.
#[derive(Debug)]
struct Kept(BTreeSet<String>);

impl Kept {
    fn of(texts: &[Text], steps: &[Vec<Vec<Step>>]) -> Self {
        let mut kept = BTreeSet::new();
        for (text, steps) in texts.iter().zip(steps) {
            let entries = text.entries.iter().zip(steps);
            let left = entries.filter(|(_, steps)| !steps.contains(&Step::Drop));
            for (entry, _) in left {
                // A middleware's or a provider's options stand four and three names deep.
                for depth in [5, 3] {
                    if entry.path.len() >= depth {
                        kept.insert(group(entry, depth - 1));
                    }
                }
                // A flag that only switches the provider on.
                if entry.path.len() == 2 && text.yaml.is_some() && entry.outer() == 0 {
                    kept.insert(group(entry, 2));
                }
            }
        }
        Self(kept)
    }
}

fn group(entry: &Entry, depth: usize) -> String {
    let names: Vec<&str> = entry.names().take(depth).collect();
    names.join(".").to_ascii_lowercase()
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.path.iter().map(|name| name.text.as_str())
    }

    /// Its place among the items of a group.
    fn item_of(&self, group: usize) -> Option<&Range<usize>> {
        match &self.removal {
            Removal::Item { group: own, span } if *own == group => Some(span),
            _ => None,
        }
    }

    fn says(&self, text: &str) -> bool {
        self.value.as_ref().is_some_and(|value| value.text == text)
    }
}

impl Text {
    fn new(name: &str, text: &str, stands: Stands) -> Self {
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            lines: Lines::of(text),
            yaml: None,
            entries: Vec::new(),
            stands,
            remarks: Vec::new(),
        }
    }

    fn as_file(&self) -> Option<stack::File<'_>> {
        let yaml = self.yaml.as_ref()?;
        Some(stack::File {
            text: &self.text,
            lines: &self.lines,
            yaml,
        })
    }

    /// Gives an entry the value that stands in a node of its own.
    fn take_value(&self, entry: &mut Entry, place: &Place) {
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
            _ => Removal::Impossible,
        };
    }

    fn migrated(mut self, facts: &Facts, kept: &Kept, mut steps: Vec<Vec<Step>>) -> Migrated {
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
                if !kept.0.contains(&group) && done.insert(group) {
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
            if switches && entry.outer() == 0 && !kept.0.contains("providers.docker") {
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
        let mut groups: Vec<(Option<usize>, &'static str, Vec<(usize, &'static str)>)> = Vec::new();
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
            let open = groups
                .iter_mut()
                .find(|(parent, known, _)| *parent == entry.parent && *known == group);
            match open {
                Some((.., all)) => {
                    all.push((index, name));
                    *steps = vec![Step::Drop];
                }
                None => groups.push((entry.parent, group, vec![(index, name)])),
            }
        }
        for (_, group, all) in groups {
            edits.extend(self.nest(group, &all));
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
                let value = value.filter(|value| value.before.is_empty() && entry.outer() > 0);
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
            let items = items.into_iter().map(|span| (span, gone.contains(&span)));
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
        let mut edits = Vec::new();
        for (index, node) in yaml.nodes.iter().enumerate() {
            let Some(key) = &node.key else { continue };
            if gone(index) || !yaml.is_emptied(index, &gone) {
                continue;
            }
            if let Some(colon) = self.text[key.span.end..].find(':') {
                let at = key.span.end + colon + 1;
                edits.push(Edit {
                    range: at..at,
                    text: " {}".to_owned(),
                });
            }
        }
        edits
    }
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
    // What is taken out comes before what is put in at the same place, so that it counts.
    edits.sort_by_key(|edit| (edit.range.start, usize::MAX - edit.range.end));
    let mut kept: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        let free = kept
            .last()
            .is_none_or(|last| last.range.end <= edit.range.start);
        if free && !kept.contains(&edit) {
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
