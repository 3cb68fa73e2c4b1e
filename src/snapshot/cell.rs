//! The one place where the current snapshot can be had and replaced.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Snapshot;

/// Holds the current [`Snapshot`]; the only `ArcSwap` of the program.
pub struct SnapshotCell {
    current: ArcSwap<Snapshot>,
    /// The generation of `current`, so that a reader can tell with one load whether its own copy is still good.
    version: AtomicU64,
    changed: watch::Sender<u64>,
}

impl SnapshotCell {
    /// A cell that holds `first`.
    pub fn new(first: Arc<Snapshot>) -> Self {
        let generation = first.generation;
        Self {
            current: ArcSwap::new(first),
            version: AtomicU64::new(generation),
            changed: watch::Sender::new(generation),
        }
    }

    /// The current snapshot. For the request path there is [`CachedSnapshot`].
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The generation of the current snapshot, or of the one before while a swap is under way.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Makes `next` the current snapshot and gives back the one it replaces. Requests under way keep the one they started with.
    pub fn swap(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        let generation = next.generation;
        let previous = self.current.swap(next);
        // After the swap, so that whoever sees the new version also finds the new snapshot.
        self.version.store(generation, Ordering::Release);
        self.changed.send_replace(generation);
        previous
    }

    /// Tells of every swap from now on; the value is the generation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl std::fmt::Debug for SnapshotCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotCell")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

/// A reader's own copy of the current snapshot, renewed when the cell's version has moved on. One per worker.
#[derive(Debug)]
pub struct CachedSnapshot {
    cell: Arc<SnapshotCell>,
    version: u64,
    snapshot: Arc<Snapshot>,
}

impl CachedSnapshot {
    pub fn new(cell: Arc<SnapshotCell>) -> Self {
        let version = cell.version();
        let snapshot = cell.load_full();
        Self {
            cell,
            version,
            snapshot,
        }
    }

    /// Tells of every swap from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.cell.subscribe()
    }

    /// The current snapshot: one atomic load and a comparison unless a swap has happened.
    pub fn get(&mut self) -> &Arc<Snapshot> {
        let version = self.cell.version();
        if version != self.version {
            // The version is read first: should a swap come between, the next call finds yet another version and loads again.
            self.snapshot = self.cell.load_full();
            self.version = version;
        }
        &self.snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(generation: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            generation,
            ..Snapshot::default()
        })
    }

    #[test]
    fn a_swap_is_seen_by_every_reader_and_keeps_what_is_in_use() {
        let cell = Arc::new(SnapshotCell::new(numbered(1)));
        let mut cached = CachedSnapshot::new(cell.clone());
        let mut changes = cell.subscribe();
        let in_use = cached.get().clone();

        let replaced = cell.swap(numbered(2));

        assert_eq!(replaced.generation, 1);
        assert_eq!((in_use.generation, cached.get().generation), (1, 2));
        assert_eq!((cell.version(), cell.load_full().generation), (2, 2));
        assert!(changes.has_changed().unwrap());
        assert_eq!(*changes.borrow_and_update(), 2);
    }
}
