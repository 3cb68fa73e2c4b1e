//! The contents of the provider's files: the last good one of each, merged in name order.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Source, environment, shown};
use crate::config::{
    DecodedRouting, Diagnostic, Kind, Place, Placed, Routing, parse_routing_file,
    routing::{EVERY, Layer4},
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
        if let Some(only) = self.files.values().next().filter(|_| self.files.len() == 1) {
            let mut merged = (*only.good).clone();
            let problems = self.problem.iter().chain(&only.problems).cloned();
            merged.diagnostics.splice(0..0, problems);
            return merged;
        }
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
    Some(Diagnostic::error(
        Place::whole_file(shown(directory)),
        "providers.file.directory",
        message,
    ))
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
            self.problems
                .push(Diagnostic::info(Place::whole_file(name), "", message));
        }
    }
}

/// Files being put together.
#[derive(Default)]
struct Merge {
    merged: DecodedRouting,
    /// Where each object stands that is already there.
    taken: HashMap<SectionName, Place>,
    /// How many certificates there are, readable or not: they are named by number.
    certificates: usize,
}

/// A section such as `http.routers`, and a name in it.
type SectionName = (&'static str, String);

impl Merge {
    fn add(&mut self, content: &Content) {
        let decoded = &*content.good;
        self.merged
            .diagnostics
            .extend(content.problems.iter().cloned());
        self.merged
            .diagnostics
            .extend(decoded.diagnostics.iter().cloned());
        let Routing {
            http,
            tcp,
            udp,
            tls,
        } = &decoded.routing;
        let mut into = std::mem::take(&mut self.merged.routing);
        self.objects("http.routers", &mut into.http.routers, &http.routers);
        self.objects("http.services", &mut into.http.services, &http.services);
        self.objects(
            "http.middlewares",
            &mut into.http.middlewares,
            &http.middlewares,
        );
        self.objects(
            "http.serversTransports",
            &mut into.http.servers_transports,
            &http.servers_transports,
        );
        self.objects("tls.options", &mut into.tls.options, &tls.options);
        self.objects("tls.stores", &mut into.tls.stores, &tls.stores);
        self.layer4(TCP, &mut into.tcp, tcp);
        self.layer4(UDP, &mut into.udp, udp);
        for certificate in &tls.certificates {
            if !into.tls.certificates.contains(certificate) {
                into.tls.certificates.push(certificate.clone());
            }
        }
        self.merged.routing = into;
        self.merged.add_partial(&decoded.partial);
        self.broken(decoded);
    }

    fn layer4(&mut self, sections: [&'static str; 4], into: &mut Layer4, from: &Layer4) {
        let [routers, services, middlewares, transports] = sections;
        self.objects(routers, &mut into.routers, &from.routers);
        self.objects(services, &mut into.services, &from.services);
        self.objects(middlewares, &mut into.middlewares, &from.middlewares);
        self.objects(
            transports,
            &mut into.servers_transports,
            &from.servers_transports,
        );
    }

    fn objects<T: Clone>(
        &mut self,
        section: &'static str,
        into: &mut Objects<T>,
        from: &Objects<T>,
    ) {
        for (name, object) in from {
            let key = (section, name.clone());
            if let Some(first) = self.taken.get(&key) {
                let message = "is already defined, so this definition is not used";
                let finding = Diagnostic::warning(
                    object.place().clone(),
                    format!("{section}.{name}"),
                    message,
                );
                self.merged
                    .diagnostics
                    .push(finding.with_hint(format!("the one in use stands at {first}")));
                continue;
            }
            self.taken.insert(key, object.place().clone());
            into.insert(name.clone(), object.clone());
        }
    }

    /// Takes over what could not be read, unless an earlier file has a good object of that name.
    fn broken(&mut self, decoded: &DecodedRouting) {
        for (kind, name) in &decoded.broken {
            let name = match kind {
                Kind::Certificate if name != EVERY => {
                    self.certificates += 1;
                    self.certificates.to_string()
                }
                _ => name.clone(),
            };
            if !self.taken.contains_key(&(kind.section(), name.clone())) {
                self.merged.broken.insert((*kind, name));
            }
        }
    }
}

type Objects<T> = BTreeMap<String, Placed<T>>;

const TCP: [&str; 4] = [
    "tcp.routers",
    "tcp.services",
    "tcp.middlewares",
    "tcp.serversTransports",
];
const UDP: [&str; 4] = [
    "udp.routers",
    "udp.services",
    "udp.middlewares",
    "udp.serversTransports",
];
