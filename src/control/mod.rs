//! The configuration river: collect updates, merge, fetch files and addresses, compile, swap, report.

mod inbox;
pub mod merge;
mod reconcile;
mod report;
pub mod resolve;
#[cfg(test)]
mod tests;

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::info;

use crate::{
    compile::{Compiled, Input, Workshop, compile, files::Files},
    config::{Diagnostic, Install, definitions::Definitions},
    observe::Reload as ReloadMetrics,
    provider::{ReloadSignal, Update},
    snapshot::SnapshotCell,
    tls::Staples,
    upstream::resolve::{Addresses, Resolver},
};

use inbox::Inbox;
use reconcile::Live;
use report::Report;
use resolve::Sources;

/// Turns the providers' updates into snapshots.
#[derive(Debug)]
pub struct Control {
    install: Arc<Install>,
    workshop: Arc<Workshop>,
    cell: Arc<SnapshotCell>,
    updates: mpsc::Receiver<Update>,
    reload: ReloadSignal,
    inbox: Inbox,
    sources: Sources,
    live: Live,
    report: Report,
    basis: Option<Basis>,
    current: Option<Arc<Compiled>>,
}

/// What a snapshot is compiled from besides what providers want.
#[derive(Debug, Clone, Default, PartialEq)]
struct Basis {
    files: Files,
    addresses: Arc<Addresses>,
    staples: Arc<Staples>,
}

/// Why to compile, and when that arose.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// A provider wants something else.
    Update(Instant),
    /// A file, an address or a staple may have changed.
    Other(Instant),
}

/// What control works with.
#[derive(Debug)]
pub struct Parts {
    pub install: Arc<Install>,
    pub workshop: Arc<Workshop>,
    pub cell: Arc<SnapshotCell>,
    pub resolver: Resolver,
    /// What responders say of certificates, whenever they do.
    pub staples: watch::Receiver<Arc<Staples>>,
    /// Names of the providers that will send updates; the first configuration waits a moment for each of them.
    pub providers: Vec<Arc<str>>,
    pub updates: mpsc::Receiver<Update>,
    pub reload: ReloadSignal,
}

impl Control {
    /// Control over the cell. The first configuration is live when the cell's generation is 1.
    pub async fn new(parts: Parts) -> Self {
        let throttle = parts
            .install
            .providers
            .providers_throttle_duration
            .at_least_zero();
        Self {
            inbox: Inbox::new(parts.providers, throttle),
            sources: Sources::new(parts.resolver, parts.staples).await,
            live: Live::new(parts.workshop.metrics.clone()),
            report: Report::default(),
            install: parts.install,
            workshop: parts.workshop,
            cell: parts.cell,
            updates: parts.updates,
            reload: parts.reload,
            basis: None,
            current: None,
        }
    }

    /// Works for ever.
    pub async fn run(mut self) {
        let arrived = self.first().await;
        self.apply(Cause::Update(arrived)).await;
        if self.current.is_none() {
            self.begin_empty().await;
        }
        loop {
            let cause = self.next().await;
            self.apply(cause).await;
        }
    }

    /// Waits for the first update of every provider, or until patience has ended: a provider whose source is absent must not keep the
    /// others from serving.
    async fn first(&mut self) -> Instant {
        let start = Instant::now();
        let patience = sleep_until(start + patience(&self.install));
        let told = sleep_until(start + SILENT_WAIT);
        tokio::pin!(patience, told);
        while !self.inbox.is_complete() {
            tokio::select! {
                Some(update) = self.updates.recv() => self.inbox.put(update, Instant::now()),
                () = &mut patience => break,
                () = &mut told, if !told.is_elapsed() => {
                    let providers: Vec<_> = self.inbox.silent().collect();
                    info!(?providers, "waiting for the first configuration of these providers");
                }
            }
        }
        self.inbox.take(Instant::now()).unwrap_or(start)
    }

    /// Waits for a reason to compile, and tells when it arose.
    async fn next(&mut self) -> Cause {
        loop {
            let due = self.inbox.next();
            let retired = self.live.has_retired();
            tokio::select! {
                Some(update) = self.updates.recv() => self.inbox.put(update, Instant::now()),
                () = at(due) => {}
                () = self.sources.changed() => return Cause::Other(Instant::now()),
                () = self.reload.requested() => return Cause::Other(Instant::now()),
                () = sleep(FUNERALS), if retired => self.live.bury(),
            }
            if let Some(arrived) = self.inbox.take(Instant::now()) {
                return Cause::Update(arrived);
            }
        }
    }

    async fn apply(&mut self, cause: Cause) {
        let (update, arrived) = match cause {
            Cause::Update(arrived) => (true, arrived),
            Cause::Other(arrived) => (false, arrived),
        };
        let (definitions, clashes) = merge::merge(self.inbox.definitions());
        self.sources.fetch(&definitions, &self.install).await;
        let basis = Basis {
            files: self.sources.files().clone(),
            addresses: Arc::clone(self.sources.addresses()),
            staples: self.sources.staples(),
        };
        // An update that says nothing new was dropped when it came.
        if !update && self.basis.as_ref() == Some(&basis) {
            return;
        }
        let found = self.inbox.diagnostics().cloned().chain(clashes).collect();
        let compiled = self.compile(definitions, found, basis.clone()).await;
        self.basis = Some(basis);
        let Some(compiled) = compiled else { return };
        let compiled = Arc::new(compiled);
        let replaced = self.cell.swap(Arc::clone(&compiled.snapshot));
        reconcile::enact(&compiled.snapshot, &replaced);
        self.tell(&compiled, arrived);
        self.live.follow(&compiled, replaced);
        self.current = Some(compiled);
    }

    /// Goes live with nothing: what came first made compiling panic, and entry points must be there for what comes next.
    async fn begin_empty(&mut self) {
        let compiled = self
            .compile(Definitions::default(), Vec::new(), Basis::default())
            .await;
        if let Some(compiled) = compiled.map(Arc::new) {
            let replaced = self.cell.swap(Arc::clone(&compiled.snapshot));
            self.live.follow(&compiled, replaced);
            self.current = Some(compiled);
        }
    }

    /// Compiles on another thread, so that health checks and providers go on meanwhile.
    async fn compile(
        &self,
        definitions: Definitions,
        found: Vec<Diagnostic>,
        basis: Basis,
    ) -> Option<Compiled> {
        let (install, workshop) = (Arc::clone(&self.install), Arc::clone(&self.workshop));
        let previous = self.current.clone();
        let compiling = tokio::task::spawn_blocking(move || {
            compile(
                definitions,
                &Input {
                    install: &install,
                    files: &basis.files,
                    addresses: &basis.addresses,
                    staples: &basis.staples,
                    found: &found,
                    previous: previous.as_deref(),
                    workshop: &workshop,
                    now: std::time::Instant::now(),
                    wall_clock: seconds_since_1970(),
                },
            )
        });
        // An error here is a panic, which the panic hook has logged: what is live stays so.
        compiling.await.ok()
    }

    fn tell(&mut self, compiled: &Compiled, arrived: Instant) {
        self.report.tell(compiled.diagnostics());
        let errors = compiled
            .diagnostics()
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .count();
        let warnings = compiled.diagnostics().len() - errors;
        let reload = ReloadMetrics {
            generation: compiled.snapshot.generation,
            took: arrived.elapsed(),
            errors,
            warnings,
        };
        self.workshop.metrics.reloaded(&reload);
        info!(
            generation = reload.generation,
            routers = compiled.snapshot.routes.len(),
            services = compiled.snapshot.services.len(),
            errors,
            warnings,
            took = ?reload.took,
            "the configuration is live"
        );
    }
}

/// Seconds since 1970.
pub fn seconds_since_1970() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// How long the first configuration waits for providers that say nothing. Who shares its port (`reusePort`) does better to wait: the others
/// have what it has not got yet.
pub fn patience(install: &Install) -> Duration {
    let shared = install.entry_points.values().any(|entry| entry.reuse_port);
    if shared {
        Duration::from_secs(30)
    } else {
        Duration::from_secs(5)
    }
}

/// A wait that is longer is told of.
const SILENT_WAIT: Duration = Duration::from_secs(2);
/// How often to look whether old snapshots are out of use.
const FUNERALS: Duration = Duration::from_millis(250);
