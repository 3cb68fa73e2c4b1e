//! What is to be done about each entry: what the table advises, in the light of what all texts say together.

use std::collections::{BTreeSet, HashMap};

use super::advice::{self, Advice};
use super::entry::Entry;
use super::rule::{self, Stands};
use super::text::Text;
use crate::rule::{Protocol, Syntax};

/// What is to be done about one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
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
pub(super) struct Facts {
    default: Syntax,
    /// The syntax that routers name, by `http.NAME`.
    routers: HashMap<String, Syntax>,
    pub(super) swarm: bool,
}

impl Facts {
    pub(super) fn of(texts: &[Text]) -> Self {
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

    pub(super) fn steps(&self, entry: &Entry, stands: Stands) -> Vec<Step> {
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
pub(super) struct Kept(BTreeSet<String>);

impl Kept {
    pub(super) fn of(texts: &[Text], steps: &[Vec<Vec<Step>>]) -> Self {
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

    pub(super) fn has(&self, group: &str) -> bool {
        self.0.contains(group)
    }
}

pub(super) fn group(entry: &Entry, depth: usize) -> String {
    let names: Vec<&str> = entry.names().take(depth).collect();
    names.join(".").to_ascii_lowercase()
}
