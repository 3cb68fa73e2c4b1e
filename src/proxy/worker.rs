//! What the requests of one worker thread share.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, pending},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};

use super::layer::Stack;
use crate::{
    challenge::Challenges,
    exchange::{Exchange, Response, TranscriptRoom, forwarded::Forwarding},
    observe::{AccessLog, Metrics, Tracer},
    snapshot::{CachedSnapshot, Internal, Snapshot, SnapshotCell},
    upstream::{Upstream, resolve::Doubts},
};

/// How often a worker clears up.
const SWEEP: Duration = Duration::from_secs(1);
/// How soon after a new configuration.
const SETTLE: Duration = Duration::from_millis(10);
/// Bytes of request bodies that are kept at a time, for mirrors and fallbacks.
const MOST_KEPT: u64 = 64 << 20;

/// Answers for `api@internal` and its kin. Lives with the control thread's rooms, which the request path does not know.
pub trait Internals: Send + Sync {
    /// Answers a request that was routed to `internal`.
    fn answer(
        &self,
        internal: Internal,
        snapshot: &Arc<Snapshot>,
        exchange: &Exchange,
    ) -> Pin<Box<dyn Future<Output = Response>>>;
}

/// What a worker is made of.
pub struct Parts {
    pub cell: Arc<SnapshotCell>,
    pub internals: Arc<dyn Internals>,
    /// By entry point.
    pub forwarding: Arc<[Forwarding]>,
    pub access_log: AccessLog,
    pub metrics: Metrics,
    pub tracer: Tracer,
    pub stack: Option<Stack>,
    /// Where to say that a server does not answer at the address its name had.
    pub doubts: Doubts,
    pub challenges: Challenges,
}

/// The state of a worker thread.
pub struct Worker {
    snapshot: RefCell<CachedSnapshot>,
    pub upstream: Upstream,
    internals: Arc<dyn Internals>,
    /// By entry point.
    forwarding: Arc<[Forwarding]>,
    pub access_log: AccessLog,
    pub(super) metrics: Metrics,
    pub(super) tracer: Tracer,
    /// Layers of the embedder around every request.
    pub(super) stack: Option<Stack>,
    /// Room for what is kept of bodies that may be sent twice.
    pub(super) transcripts: TranscriptRoom,
    /// What certificate authorities wait to see.
    pub challenges: Challenges,
    /// By entry point.
    draining: Box<[Cell<bool>]>,
    /// Open client connections.
    pub connections: Cell<usize>,
    /// Told when a client connection ends.
    pub closed: Notify,
    warned: Cell<Option<Instant>>,
}

impl Worker {
    /// A worker for the calling thread.
    pub fn new(parts: Parts) -> Rc<Self> {
        Rc::new(Self {
            snapshot: RefCell::new(CachedSnapshot::new(parts.cell)),
            upstream: Upstream::new(parts.doubts),
            internals: parts.internals,
            draining: parts.forwarding.iter().map(|_| Cell::new(false)).collect(),
            forwarding: parts.forwarding,
            access_log: parts.access_log,
            metrics: parts.metrics,
            tracer: parts.tracer,
            stack: parts.stack,
            challenges: parts.challenges,
            transcripts: TranscriptRoom::new(MOST_KEPT),
            connections: Cell::new(0),
            closed: Notify::new(),
            warned: Cell::new(None),
        })
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.snapshot.borrow_mut().get())
    }

    /// Clears up behind the requests, for as long as the worker lives: idle connections that are of no more use, and a snapshot that
    /// would otherwise live until the next request. Soon after a new configuration, because servers may have gone with it.
    pub async fn sweep(&self) {
        let mut changes = self.changes();
        loop {
            let swapped = async {
                if changes.changed().await.is_err() {
                    pending::<()>().await;
                }
                // What the configuration says of its servers takes effect right behind it.
                tokio::time::sleep(SETTLE).await;
            };
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = swapped => {}
            }
            self.snapshot.borrow_mut().get();
            self.upstream.sweep();
        }
    }

    /// Hears of every new snapshot from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.snapshot.borrow().changes()
    }

    /// Whether connections of this entry point should end after the answer they are at.
    pub fn is_draining(&self, entry_point: usize) -> bool {
        self.draining[entry_point].get()
    }

    /// From now on connections of this entry point end after the answer they are at; idle ones soon.
    pub fn drain(&self, entry_point: usize) {
        self.draining[entry_point].set(true);
        crate::wire::timer::wake_all();
    }

    /// Whether a warning that could repeat with every connection may be written now: once a second.
    pub fn may_warn(&self) -> bool {
        let due = self
            .warned
            .get()
            .is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if due {
            self.warned.set(Some(Instant::now()));
        }
        due
    }

    /// Counts a client that was too slow, and says which option of the entry point ended its request.
    pub fn timed_out(
        &self,
        entry_point: usize,
        phase: &'static str,
        option: &'static str,
        peer: &SocketAddr,
    ) {
        let entry = &self.snapshot().entry_points[entry_point];
        entry.metrics.timed_out(phase);
        if self.may_warn() {
            tracing::info!(entryPointName = %entry.name, %peer, phase, "a client was too slow for transport.respondingTimeouts.{option}");
        }
    }

    pub(super) fn forwarding(&self, entry_point: usize) -> &Forwarding {
        &self.forwarding[entry_point]
    }

    pub(super) fn internal(
        &self,
        internal: Internal,
        snapshot: &Arc<Snapshot>,
        exchange: &Exchange,
    ) -> Pin<Box<dyn Future<Output = Response>>> {
        self.internals.answer(internal, snapshot, exchange)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}
