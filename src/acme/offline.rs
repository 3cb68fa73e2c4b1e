//! The storages of resolvers, read by somebody who does not run them: nothing is written, moved or ordered.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{
    certificates_of,
    held::held,
    limits::Limits,
    memory::Memory,
    now, plan,
    report::{Away, Report},
    store::{Document, Files, Store},
    stored::Stored,
};
use crate::{
    config::{Install, install::AcmeResolver, routing::Routing},
    observe::Resolvers,
    snapshot::Snapshot,
};

/// What is stored for the resolvers of an install configuration.
#[derive(Debug)]
pub struct Storages {
    resolvers: Vec<(String, AcmeResolver, Stored, Memory)>,
    /// Files that cannot be read.
    pub problems: Vec<String>,
}

impl Storages {
    /// Reads them.
    pub fn read(install: &Install) -> Self {
        let (mut resolvers, mut problems) = (Vec::new(), Vec::new());
        for (name, resolver) in &install.certificates_resolvers {
            let Some(config) = &resolver.acme else {
                continue;
            };
            let files = Files::new(Path::new(&config.storage));
            let mut of = |document| {
                let path = files.name(document);
                read(Path::new(&path)).unwrap_or_else(|wrong| {
                    problems.push(format!("{path}: {wrong}"));
                    Vec::new()
                })
            };
            let (certificates, memory) = (of(Document::Certificates), of(Document::Memory));
            let mut find = |wrong: String| problems.push(format!("{}: {wrong}", config.storage));
            let stored = parsed::<Option<Stored>>(&certificates, name, &mut find).flatten();
            let memory = parsed::<Memory>(&memory, name, &mut find);
            let memory = memory.filter(|memory| memory.ca_server == config.ca_server);
            resolvers.push((
                name.clone(),
                config.clone(),
                stored.unwrap_or_default(),
                memory.unwrap_or_default(),
            ));
        }
        Self {
            resolvers,
            problems,
        }
    }

    /// All certificates, as configuration.
    pub fn routing(&self) -> Routing {
        certificates_of(self.resolvers.iter().map(|(_, _, stored, _)| stored))
    }

    /// What the resolvers would do about the demands of `snapshot`, which was compiled with these certificates. With `all`, also as if
    /// every stored certificate were asked for: by those whose demands are not known.
    pub fn report(&self, snapshot: &Snapshot, all: bool) -> Resolvers {
        let (now, resolvers) = (now(), Resolvers::default());
        for (name, config, stored, memory) in &self.resolvers {
            let held = held(stored, memory, snapshot.tls.as_deref(), now);
            let (away, limits) = (Away::default(), Limits::of(&config.ca_server));
            let mut report = Report::new(&held, memory, &away, now);
            let mut demands = snapshot.demanded_of(name);
            let own = held.iter().filter(|one| all && one.renew_at.is_some());
            demands.extend(own.map(|one| one.names.clone()));
            for need in plan::needs(&demands, &held) {
                let step = plan::step(&need, memory, &limits, now);
                let challenge = config.challenges_for(&need.names).next();
                report.add(&need, Some(&step), challenge);
            }
            let registered = stored.is_registered(&config.ca_server);
            resolvers.set_certificates(name, registered, report.rows());
        }
        resolvers
    }
}

/// The text of a file, empty if there is none.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome,
    }
}

/// The part of a document that is about one resolver.
fn parsed<T: serde::de::DeserializeOwned>(
    text: &[u8],
    resolver: &str,
    problem: &mut impl FnMut(String),
) -> Option<T> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    let all = serde_json::from_slice::<BTreeMap<String, T>>(text);
    all.map_err(|error| problem(format!("cannot be read: {error}")))
        .ok()?
        .remove(resolver)
}
