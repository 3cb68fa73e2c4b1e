//! What becomes of each label and each option of the edge: one state and the findings that belong to it.

use crate::{
    compose::Pair,
    config::{About, Diagnostic, Labelled, Place, labels::is_label},
};

/// A label of a service or an option of the edge.
#[derive(Debug)]
pub(super) struct Entry<'p> {
    /// As written.
    pub(super) name: &'p str,
    /// Where the name and the value were written.
    key: &'p Place,
    value: &'p Place,
    /// The option's path in lower case.
    path: String,
    /// What the findings call it.
    called: Place,
    pub(super) findings: Vec<Diagnostic>,
    /// A finding about a whole group of options covers it.
    covered: Option<About>,
    /// It does nothing, and why.
    ignored: Option<&'static str>,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Supported,
    Different,
    NotYet,
    Unknown,
    Wrong,
}

impl State {
    pub(super) const ALL: [Self; 5] = [
        Self::Supported,
        Self::Different,
        Self::NotYet,
        Self::Unknown,
        Self::Wrong,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Different => "different",
            Self::NotYet => "not yet supported",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
        }
    }
}

impl<'p> Entry<'p> {
    /// A label, if it is meant for a proxy. `constraints` may look at labels of any name.
    pub(super) fn label(of: &Labelled, pair: &'p Pair, constraints: &str) -> Option<Self> {
        let lower = pair.name.to_ascii_lowercase();
        let path = lower.strip_prefix("traefik.");
        let ignored = match path {
            None => Some(NOT_OURS),
            Some(_) if is_label(&pair.name) => None,
            Some(_) if constraints.contains(&pair.name) => None,
            Some(path) if FIRST.contains(&path.split('.').next().unwrap_or_default()) => {
                Some("is a label of Traefik 1, and ignored since Traefik 2")
            }
            Some(_) => Some("is no label of Traefik's, and ignored"),
        };
        let called = Place::Label {
            of: of.clone(),
            key: pair.name.as_str().into(),
        };
        Some(Self {
            ignored,
            ..Self::new(pair, path.unwrap_or(&lower).to_owned(), called)
        })
    }

    /// A variable that sets an option.
    pub(super) fn variable(pair: &'p Pair) -> Option<Self> {
        let name = pair.name.strip_prefix("TRAEFIK_");
        let name = name.or_else(|| pair.name.strip_prefix("PORTWAY_"))?;
        let path = name.to_ascii_lowercase().replace('_', ".");
        let called = Place::Env(pair.name.as_str().into());
        Some(Self::new(pair, path, called))
    }

    /// A word of a command, if it is a flag.
    pub(super) fn flag(word: &'p str, place: &'p Place) -> Option<Self> {
        let name = word.split('=').next().unwrap_or_default();
        let path = name.trim_start_matches('-').to_ascii_lowercase();
        if !name.starts_with('-') || path.is_empty() {
            return None;
        }
        Some(Self {
            name,
            key: place,
            value: place,
            path,
            called: Place::Flag(name.into()),
            findings: Vec::new(),
            covered: None,
            ignored: None,
        })
    }

    fn new(pair: &'p Pair, path: String, called: Place) -> Self {
        Self {
            name: &pair.name,
            key: &pair.key,
            value: &pair.place,
            path,
            called,
            findings: Vec::new(),
            covered: None,
            ignored: None,
        }
    }

    pub(super) fn place(&self) -> &Place {
        self.key
    }

    /// Takes a finding that is about this entry, and puts it where the entry stands.
    pub(super) fn take(&mut self, found: &Diagnostic) -> bool {
        if found.place == *self.value {
            self.findings.push(found.clone());
            return true;
        }
        if found.place != self.called {
            let about = found.about;
            if about != About::Value && self.is_below(found) {
                self.covered = Some(about);
            }
            return false;
        }
        let mut found = found.clone();
        found.place = match found.about {
            About::Value => self.value.clone(),
            About::UnknownOption | About::Unsupported => self.key.clone(),
        };
        self.findings.push(found);
        true
    }

    /// Whether a finding is about a group of options that this one belongs to.
    fn is_below(&self, found: &Diagnostic) -> bool {
        let same_source = match (&found.place, &self.called) {
            (Place::Label { of: a, .. }, Place::Label { of: b, .. }) => a == b,
            (Place::Flag(_), Place::Flag(_)) | (Place::Env(_), Place::Env(_)) => true,
            _ => false,
        };
        let group = without_provider(&found.path).to_ascii_lowercase();
        let rest = self.path.strip_prefix(&group);
        same_source && !group.is_empty() && rest.is_some_and(|rest| rest.starts_with(['.', '[']))
    }

    /// Labels of other programs count only if they look like a slip.
    pub(super) fn counts(&self) -> bool {
        self.ignored != Some(NOT_OURS) || !self.findings.is_empty()
    }

    pub(super) fn state(&self) -> State {
        let has = |about| self.findings.iter().any(|found| found.about == about);
        let mut findings = self.findings.iter();
        let wrong = findings.any(|found| found.is_error() && found.about == About::Value);
        match self.covered {
            _ if self.ignored.is_some() || has(About::UnknownOption) => State::Unknown,
            _ if wrong => State::Wrong,
            _ if has(About::Unsupported) => State::NotYet,
            Some(About::Unsupported) => State::NotYet,
            Some(About::UnknownOption) => State::Unknown,
            _ if self.difference().is_some() => State::Different,
            _ => State::Supported,
        }
    }

    /// The number of the entry of docs/compatibility.md that says what is different about it.
    pub(super) fn difference(&self) -> Option<u32> {
        let said = |text: &str| {
            self.findings
                .iter()
                .any(|found| found.message.contains(text))
        };
        let is_label = matches!(self.called, Place::Label { .. });
        if is_label && self.path.ends_with(']') {
            return Some(LIST_BY_INDEX);
        }
        let differs = DIFFERENT
            .iter()
            .find(|(pattern, text, _)| fits(&self.path, pattern) && text.is_none_or(said));
        differs.map(|(.., entry)| *entry)
    }

    /// What there is to say about it beside its state.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.findings.iter().map(said).collect();
        if remarks.is_empty() {
            remarks.extend(self.ignored.map(str::to_owned));
        }
        if self.state() == State::Different
            && let Some(number) = self.difference()
        {
            let what = heading(number).unwrap_or_default();
            remarks.push(format!("{what} (docs/compatibility.md, {number})"));
        }
        remarks
    }
}

/// A finding without its place, and without the path that the entry's name says already.
fn said(found: &Diagnostic) -> String {
    let hint = found.hint.as_ref().map(|hint| format!(" ({hint})"));
    let hint = hint.unwrap_or_default();
    format!("{}: {}{hint}", found.severity, found.message)
}

/// `http.routers.app@docker.rule` to `http.routers.app.rule`.
fn without_provider(path: &str) -> String {
    let segments = path.split('.');
    let names: Vec<&str> = segments
        .map(|segment| segment.split('@').next().unwrap_or_default())
        .collect();
    names.join(".")
}

/// Whether a path is what a pattern says, or below it; `*` stands for any name.
fn fits(path: &str, pattern: &str) -> bool {
    let mut names = path.split(['.', '[']);
    pattern.split('.').all(|wanted| {
        names
            .next()
            .is_some_and(|name| wanted == "*" || wanted == name)
    })
}

/// The first sentence of an entry of docs/compatibility.md.
fn heading(number: u32) -> Option<String> {
    let start = format!("\n{number}. **");
    let entry = COMPATIBILITY.split_once(&start)?.1;
    let heading = entry.split_once("**")?.0;
    let words: Vec<&str> = heading.split_whitespace().collect();
    Some(words.join(" ").trim_end_matches(['.', ',']).to_owned())
}

const NOT_OURS: &str = "is nobody's";

/// How labels of Traefik 1 go on after `traefik.`.
const FIRST: &[&str] = &["frontend", "backend", "port", "protocol", "weight", "tags"];

/// Options that do something else than in Traefik: a pattern, what must have been found there, and the number of the entry of
/// docs/compatibility.md.
const DIFFERENT: &[(&str, Option<&str>, u32)] = &[
    ("http.routers.*.rule", Some("{name:regexp}"), 7),
    ("http.services.*.loadbalancer.healthcheck", None, 25),
    ("http.services.*.loadbalancer.responseforwarding", None, 18),
    ("http.serverstransports", None, 92),
    (
        "http.middlewares.*.stripprefix",
        Some("nothing is stripped"),
        93,
    ),
    ("http.middlewares.*.ratelimit", None, 35),
    ("http.middlewares.*.basicauth", None, 37),
    ("entrypoints.*.transport.respondingtimeouts", None, 10),
    ("accesslog", None, 40),
    ("providers.file.watch", None, 6),
    ("providers.docker.swarmmode", None, 140),
];

/// The entry of docs/compatibility.md about lists of plain values with an index.
const LIST_BY_INDEX: u32 = 91;

const COMPATIBILITY: &str = include_str!("../../../docs/compatibility.md");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_has_its_entry() {
        for (pattern, word) in [
            ("http.routers.*.rule", "HostRegexp"),
            ("http.services.*.loadbalancer.healthcheck", "probed"),
            (
                "http.services.*.loadbalancer.responseforwarding",
                "passed on",
            ),
            ("http.serverstransports", "transports"),
            ("http.middlewares.*.stripprefix", "without options"),
            ("http.middlewares.*.ratelimit", "Rate-limit"),
            ("http.middlewares.*.basicauth", "passwords"),
            ("entrypoints.*.transport.respondingtimeouts", "Timeouts"),
            ("accesslog", "access log"),
            ("providers.file.watch", "watch"),
            ("providers.docker.swarmmode", "Traefik 3 removed"),
        ] {
            let found = DIFFERENT.iter().find(|(known, ..)| *known == pattern);
            let heading = heading(found.unwrap().2).unwrap();
            assert!(heading.contains(word), "{pattern}: {heading}");
        }
        assert!(heading(LIST_BY_INDEX).unwrap().contains("plain lists"));
        assert_eq!(DIFFERENT.len(), 11, "each has its word above");
    }

    #[test]
    fn patterns_fit_what_is_below_them() {
        for (path, fits_it) in [
            ("http.routers.a.rule", true),
            ("http.routers.a.rulesyntax", false),
            ("http.routers.a", false),
            ("http.routers.a.rule[0].x", true),
        ] {
            assert_eq!(fits(path, "http.routers.*.rule"), fits_it, "{path}");
        }
        assert_eq!(
            without_provider("http.routers.app@docker.rule"),
            "http.routers.app.rule"
        );
    }
}
