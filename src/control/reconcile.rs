//! What has to follow a swap: health checks of the servers that are there now, metrics, and the end of the old snapshot.

use std::{fmt, sync::Arc};

use tracing::{info, warn};

use crate::{
    compile::Compiled,
    service::{HealthChange, Server},
    snapshot::Snapshot,
    upstream::probe::Checker,
};

/// What runs besides the traffic.
pub(super) struct Live {
    checker: Checker,
    /// Snapshots that were replaced and may still be in use by requests.
    retired: Vec<Arc<Snapshot>>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            checker: Checker::new(log_change),
            retired: Vec::new(),
        }
    }

    /// Follows a swap.
    pub(super) fn follow(&mut self, current: &Compiled, replaced: Arc<Snapshot>) {
        self.checker.reconcile(&current.snapshot.services);
        self.retired.push(replaced);
        self.bury();
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

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("checked", &self.checker.len())
            .field("retired", &self.retired.len())
            .finish()
    }
}

fn log_change(service: &str, server: &Server, change: &HealthChange) {
    let server = &*server.name;
    match change.up {
        true => info!(service, server, reason = change.reason, "the server is up"),
        false => warn!(
            service,
            server,
            reason = change.reason,
            "the server is down"
        ),
    }
}
