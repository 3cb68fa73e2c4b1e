//! What has to follow a swap: health checks of the servers that are there now, metrics, and the end of the old snapshot.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tracing::{info, warn};

use crate::{
    compile::{Compiled, certificate_entries},
    observe::{Metrics, ServerMetrics},
    service::{ConditionChange, Server},
    snapshot::{Group, Snapshot, catalog::CertificateEntry},
    upstream::probe::Checker,
};

/// What runs besides the traffic.
pub(super) struct Live {
    checker: Checker,
    metrics: Metrics,
    /// What the servers of the current snapshot are counted with, by serial number: a series lives as long as a handle on it.
    servers: HashMap<u64, ServerMetrics>,
    /// Services made of services whose state is told.
    followed: Followed,
    /// Snapshots that were replaced and may still be in use by requests.
    retired: Vec<Arc<Snapshot>>,
}

impl Live {
    pub(super) fn new(metrics: Metrics) -> Self {
        let followed = Followed::default();
        let followers = followed.clone();
        Self {
            metrics,
            servers: HashMap::new(),
            checker: Checker::new(move |service, server, change| {
                change.log(service, &server.name);
                followers.tell();
            }),
            followed,
            retired: Vec::new(),
        }
    }

    /// Follows a swap.
    pub(super) fn follow(&mut self, current: &Compiled, replaced: Arc<Snapshot>) {
        self.checker.reconcile(&current.snapshot.services);
        self.followed.replace(&current.snapshot);
        self.followed.tell();
        self.count(&current.snapshot);
        self.retired.push(replaced);
        self.bury();
    }

    /// Lets the metrics show the servers and certificates that are there now.
    fn count(&mut self, snapshot: &Snapshot) {
        if !self.metrics.is_on() {
            return;
        }
        let mut before = std::mem::take(&mut self.servers);
        for service in &snapshot.services {
            for server in &service.servers {
                let known = before.remove(&server.serial());
                self.servers.entry(server.serial()).or_insert_with(|| {
                    known.unwrap_or_else(|| {
                        let metrics = self.metrics.server(&service.name, &server.name);
                        metrics.watch(server);
                        metrics
                    })
                });
            }
        }
        let certificates = certificate_entries(snapshot);
        self.metrics
            .set_certificates(certificates.iter().map(CertificateEntry::expiry).collect());
    }

    /// Drops the old snapshots that nobody uses any more, here and not on a worker: taking down ten thousand routes takes time.
    pub(super) fn bury(&mut self) {
        let (dead, alive) = self
            .retired
            .drain(..)
            .partition(|snapshot| Arc::strong_count(snapshot) == 1);
        self.retired = alive;
        let dead: Vec<Arc<Snapshot>> = dead;
        if !dead.is_empty() {
            // Nobody waits for it.
            drop(tokio::task::spawn_blocking(move || drop(dead)));
        }
    }

    /// Whether old snapshots are still in use.
    pub(super) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }
}

/// The services made of services that have a health check, to tell when one of them goes down or comes up with its servers.
#[derive(Debug, Clone, Default)]
struct Followed(Arc<Mutex<Vec<Arc<Group>>>>);

impl Followed {
    fn replace(&self, snapshot: &Snapshot) {
        let groups = snapshot.groups.iter().filter(|group| group.follows);
        let groups = groups.map(Arc::clone).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = groups;
    }

    fn tell(&self) {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups.iter() {
            let service = &group.name;
            match group.changed() {
                Some(true) => info!(%service, "the service is up"),
                Some(false) => {
                    warn!(%service, "the service is down: none of its services can answer");
                }
                None => {}
            }
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("checked", &self.checker.len())
            .field("retired", &self.retired.len())
            .finish()
    }
}

/// Lets the servers be what the snapshot that just went live says, and those that it does not name any more take no new request.
pub(super) fn enact(current: &Snapshot, replaced: &Snapshot) {
    let now = Instant::now();
    for service in &current.services {
        for change in service.enact(now) {
            log_condition(&service.name, &change);
        }
    }
    let kept: HashSet<u64> = servers(current).map(|server| server.serial()).collect();
    for server in servers(replaced).filter(|server| !kept.contains(&server.serial())) {
        server.retire(now);
    }
}

fn servers(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Server>> {
    snapshot
        .services
        .iter()
        .flat_map(|service| &service.servers)
}

fn log_condition(service: &str, change: &ConditionChange) {
    let server = &*change.server.name;
    let state = change.now.word();
    match change.now.reason() {
        Some(reason) => {
            info!(service, server, %reason, "the server is {state} and takes no new request")
        }
        None => info!(service, server, "the server is {state}"),
    }
}
