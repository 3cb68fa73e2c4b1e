//! Pure: install and routing configuration and the previous snapshot in, a new snapshot and diagnostics out.
//!
//! Nothing here reads files, asks the clock or the network, or starts anything. A part that cannot be built is left out with a
//! diagnostic, and nothing else suffers; if it could be built before, its last good form goes on serving.

mod authorities;
mod catalog;
mod certificates;
mod doors;
mod fallback;
pub mod files;
mod internal;
mod middlewares;
pub mod needs;
mod pages;
mod partial;
mod plan;
mod routers;
mod services;
#[cfg(test)]
mod tests;
mod transports;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use rustls::RootCertStore;

use crate::{
    config::{Diagnostic, Install, Place, Severity, definitions::Definitions},
    middleware::{Hook, Stores},
    observe::Metrics,
    service::{Service, Slots, Transport},
    snapshot::{EntryPoint, Ledger, Snapshot},
    tls::Staples,
    upstream::resolve::Addresses,
};

pub use catalog::{catalog, certificates as certificate_entries};
use certificates::TlsStage;
pub use certificates::{CertificateKey, Certificates};
use doors::Door;
use files::Files;
use middlewares::Middlewares;
use pages::Pages;
use routers::{Routers, Tables};
use services::Services;
use transports::Transports;

/// Compiles what all providers together want.
pub fn compile(definitions: Definitions, input: &Input<'_>) -> Compiled {
    let mut findings = input.found.to_vec();
    let doors = doors::doors(input.install);
    let wanted = Arc::new(internal::with_internal(
        definitions,
        input,
        &doors,
        &mut findings,
    ));
    let stage = Stage {
        input,
        wanted: &wanted,
        doors: &doors,
        last: input.previous.map(|previous| &previous.good),
    };
    let mut good = Definitions::default();
    let tls = TlsStage::build(&stage, &mut good, &mut findings);
    let transports = Transports::build(&stage, &mut good, &mut findings);
    let middlewares = Middlewares::build(&stage, &mut good, &mut findings);
    let services = Services::build(&stage, &transports, &middlewares, &mut good, &mut findings);
    let pages = Pages::build(&stage, &middlewares, &services, &mut findings);
    let rooms = Rooms {
        pages: &pages,
        tls: &tls.tls,
        middlewares: &middlewares,
        services: &services,
    };
    let routers = Routers::build(&stage, &rooms, &mut good, &mut findings);
    let used = services.used();
    // Last, because what is only looked at must not count as used.
    partial::look(&stage, &rooms, &transports, &mut findings);
    let entry_points = doors.iter().zip(routers.tables);
    let entry_points = entry_points.map(|(door, tables)| entry_point(door, tables, input));
    let snapshot = Snapshot {
        generation: input
            .previous
            .map_or(0, |previous| previous.snapshot.generation)
            + 1,
        entry_points: entry_points.collect(),
        routes: routers.routes.into(),
        services: with_authorities(used.services, &middlewares),
        groups: used.groups,
        pages: pages.all(),
        ledger: Ledger {
            install: Arc::clone(input.install),
            diagnostics: told_once(findings, &good),
            wanted: Arc::clone(&wanted),
        },
        catalog: OnceLock::new(),
        tls: Some(Arc::clone(&tls.tls)),
        demands: routers.demands,
        stapling: tls.stapling,
    };
    Compiled {
        snapshot: Arc::new(snapshot),
        certificates: tls.good,
        transports: transports.all().clone(),
        files: input.files.clone(),
        good,
    }
}

/// All services that requests are sent to, in name order.
fn with_authorities(
    used: Box<[Arc<Service>]>,
    middlewares: &Middlewares<'_>,
) -> Box<[Arc<Service>]> {
    let mut services = used.into_vec();
    services.extend(middlewares.authorities());
    services.sort_by(|left, right| left.name.cmp(&right.name));
    services.into()
}

fn entry_point(door: &Door<'_>, tables: Tables, input: &Input<'_>) -> EntryPoint {
    let metrics = input.workshop.metrics.entry_point(&door.name);
    EntryPoint {
        name: Arc::clone(&door.name),
        plain: tables.plain,
        secure: tables.secure,
        tls: Arc::new(tables.tls),
        traffic: metrics.traffic().clone(),
        signals: door.signals(None),
        metrics,
    }
}

/// Leaves out what a graver finding at the same place says too, and what is not so: that a plugin is not supported which is built in.
fn told_once(findings: Vec<Diagnostic>, good: &Definitions) -> Vec<Diagnostic> {
    let errors = findings.iter().filter(|finding| finding.is_error());
    let plugins = good
        .middlewares
        .values()
        .filter(|middleware| middleware.object.kind() == "plugin");
    let graver: HashSet<Place> = errors
        .map(|finding| finding.place.clone())
        .chain(plugins.map(|plugin| plugin.object.at("plugin").clone()))
        .filter(|place| *place != Place::Builtin)
        .collect();
    let mut seen = HashSet::new();
    let kept = findings.into_iter().filter(|finding| {
        let told = finding.severity == Severity::Warning && graver.contains(&finding.place);
        !told
            && seen.insert((
                finding.place.clone(),
                finding.path.clone(),
                finding.message.clone(),
            ))
    });
    kept.collect()
}

/// What a configuration is compiled from.
#[derive(Debug)]
pub struct Input<'a> {
    pub install: &'a Arc<Install>,
    /// The files that the definitions and `install` name.
    pub files: &'a Files,
    /// What the host names of servers resolve to.
    pub addresses: &'a Addresses,
    /// What responders said of certificates.
    pub staples: &'a Staples,
    /// What was found wrong before.
    pub found: &'a [Diagnostic],
    /// What is live now, to go on with what did not change.
    pub previous: Option<&'a Compiled>,
    pub workshop: &'a Workshop,
    pub now: Instant,
    /// Seconds since 1970.
    pub wall_clock: i64,
}

/// What every compilation of a process shares.
#[derive(Debug)]
pub struct Workshop {
    pub metrics: Metrics,
    pub slots: Slots,
    /// The certificate authorities the system trusts.
    pub system_roots: Arc<RootCertStore>,
    pub plugins: Plugins,
    /// Where limiters keep what they share with other proxies.
    pub stores: Stores,
}

/// No metrics, no trusted authority, no plugins.
impl Default for Workshop {
    fn default() -> Self {
        Self {
            metrics: Metrics::default(),
            slots: Slots::default(),
            system_roots: Arc::new(RootCertStore::empty()),
            plugins: Plugins::default(),
            stores: Stores::default(),
        }
    }
}

/// Middlewares that the embedder brings, by the name used below `plugin`.
#[derive(Default, Clone)]
pub struct Plugins(BTreeMap<String, Arc<MakeHook>>);

/// Makes a middleware of its options, or says what is wrong with them.
pub type MakeHook = dyn Fn(&serde_json::Value) -> Result<Arc<dyn Hook>, String> + Send + Sync;

impl Plugins {
    /// Adds a middleware; an earlier one of the same name goes.
    pub fn add(&mut self, name: impl Into<String>, make: Arc<MakeHook>) {
        self.0.insert(name.into(), make);
    }

    /// The middleware of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<MakeHook>> {
        self.0.get(name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A compiled configuration, and what the next compilation wants to know of it.
#[derive(Debug)]
pub struct Compiled {
    pub snapshot: Arc<Snapshot>,
    /// The definitions the snapshot was built from: of every object the last form that could be built.
    pub good: Definitions,
    /// The certificates in use, by the texts of their `certFile` and `keyFile`.
    pub certificates: Certificates,
    /// The transports in use, by name.
    pub transports: BTreeMap<Arc<str>, Arc<Transport>>,
    pub files: Files,
}

impl Compiled {
    /// Everything found, in no particular order.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.snapshot.ledger.diagnostics
    }
}

/// What every stage of a compilation reads.
struct Stage<'a> {
    input: &'a Input<'a>,
    /// What the providers want and what we add ourselves.
    wanted: &'a Definitions,
    doors: &'a [Door<'a>],
    /// The last definitions that could be built.
    last: Option<&'a Definitions>,
}

/// The stages that routers are built from.
struct Rooms<'a> {
    pages: &'a Pages,
    tls: &'a crate::tls::Tls,
    middlewares: &'a Middlewares<'a>,
    services: &'a Services<'a>,
}
