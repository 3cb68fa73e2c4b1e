//! The contents of the provider's files: the last good one of each, merged in name order.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Source, environment, shown};
use crate::config::{
    DecodedRouting, Diagnostic, Kind, Place, Placed, Routing, parse_routing_file,
    tree::read_text,
};

/// What the files hold. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    files: BTreeMap<PathBuf, Content>,
    /// What is wrong with the source as a whole.
    problem: Option<Diagnostic>,
}

/// What one file holds.
#[derive(Debug, Clone, Default)]
struct Content {
    /// What was read last, good or not.
    text: Option<Arc<str>>,
    good: Arc<DecodedRouting>,
    /// Why `text` is not what `good` was decoded from.
    problems: Vec<Diagnostic>,
}

impl Contents {
    /// Reads the files of a source; says whether anything has changed.
    pub(super) fn read(&mut self, source: &Source, files: &[PathBuf]) -> bool {
        let (problem, listed) = match source {
            // A file that has gone is still ours: its last good content goes on.
            Source::File(path) => (None, std::slice::from_ref(path)),
            Source::Directory(path) => (unlistable(path), files),
        };
        let mut changed = self.problem != problem;
        if problem.is_none() {
            let before = self.files.len();
            self.files.retain(|path, _| listed.contains(path));
            changed |= self.files.len() != before;
        }
        self.problem = problem;
        for path in listed {
            changed |= self.files.entry(path.clone()).or_default().read(path);
        }
        changed
    }

    /// All files as one configuration. An object that stands in several is that of the first.
    pub(super) fn merged(&self) -> DecodedRouting {
        let mut merge = Merge::default();
        merge.merged.diagnostics.extend(self.problem.clone());
        for content in self.files.values() {
            merge.add(content);
        }
        merge.merged
    }
}

fn unlistable(directory: &Path) -> Option<Diagnostic> {
    let error = std::fs::read_dir(directory).err()?;
    let message = format!("the directory cannot be read: {error}");
    Some(Diagnostic::error(Place::whole_file(shown(directory)), "providers.file.directory", message))
}

impl Content {
    fn read(&mut self, path: &Path) -> bool {
        let name = shown(path);
        match read_text(path, &name) {
            Ok(text) if self.text.as_deref() == Some(&text) => false,
            Ok(text) => {
                self.decode(&name, &text);
                self.text = Some(text.into());
                true
            }
            Err(problem) => {
                let changed = self.problems.first() != Some(&problem);
                // Whatever stands there next is new.
                self.text = None;
                self.problems = vec![problem];
                self.say_what_goes_on(&name);
                changed
            }
        }
    }

    fn decode(&mut self, name: &str, text: &str) {
        // Whoever rewrites a file in place empties it first.
        if text.trim().is_empty() && !self.good.routing.is_empty() {
            let message = "the file is empty";
            let problem = Diagnostic::warning(Place::whole_file(name), "", message);
            self.problems = vec![problem.with_hint("delete the file if that is what you want")];
            self.say_what_goes_on(name);
            return;
        }
        match parse_routing_file(name, text, &environment) {
            Ok(decoded) => {
                self.good = Arc::new(decoded);
                self.problems.clear();
            }
            Err(problems) => {
                self.problems = problems;
                self.say_what_goes_on(name);
            }
        }
    }

    fn say_what_goes_on(&mut self, name: &str) {
        if !self.good.routing.is_empty() {
            let message = "the last good content of this file goes on serving";
            self.problems.push(Diagnostic::info(Place::whole_file(name), "", message));
        }
    }
}

/// Files being put together.
#[derive(Default)]
struct Merge {
    merged: DecodedRouting,
    /// Where each object stands that is already there.
    taken: HashMap<(Kind, &'static str, String), Place>,
}

impl Merge {
    fn add(&mut self, content: &Content) {
        self.merged.diagnostics.extend(content.problems.iter().cloned());
        self.merged.diagnostics.extend(content.good.diagnostics.iter().cloned());
    }
}
