//! Whether Redis is asked: a state machine fed with time, shared by all workers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

/// Closed while Redis answers. One failure opens it; a probe closes it.
#[derive(Debug, Default)]
pub(super) struct Circuit(Arc<State>);

#[derive(Debug, Default)]
struct State {
    open: AtomicBool,
    probing: AtomicBool,
    /// When to probe next, in milliseconds.
    next: AtomicU64,
    opened: Notify,
}

impl Circuit {
    pub(super) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Redis failed. Says whether that is news.
    pub(super) fn open(&self, now: u64) -> bool {
        self.0.next.store(now + PAUSE, Ordering::Release);
        let news = !self.0.open.swap(true, Ordering::AcqRel);
        if news {
            self.0.opened.notify_waiters();
        }
        news
    }

    /// Redis answers. Says whether that is news.
    pub(super) fn close(&self) -> bool {
        self.0.open.swap(false, Ordering::AcqRel)
    }

    /// Waits until the circuit opens.
    pub(super) fn opened(&self) -> Notified<'_> {
        self.0.opened.notified()
    }

    /// The turn to probe, if it is time and nobody else has it.
    pub(super) fn take_turn(&self, now: u64) -> Option<Turn> {
        let due = self.is_open() && now >= self.0.next.load(Ordering::Acquire);
        (due && !self.0.probing.swap(true, Ordering::AcqRel)).then(|| Turn(Arc::clone(&self.0)))
    }
}

/// The turn to probe.
#[derive(Debug)]
pub(super) struct Turn(Arc<State>);

impl Turn {
    /// The probe is over.
    pub(super) fn end(self, now: u64) {
        self.0.next.store(now + PAUSE, Ordering::Release);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::Release);
    }
}

/// Milliseconds from a failure to the next probe. One probe at a time, so that this asks little even of a Redis with many proxies.
const PAUSE: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_opens_and_one_probe_at_a_time_may_close() {
        let circuit = Circuit::default();
        assert!(!circuit.is_open() && circuit.take_turn(10_000).is_none());
        assert!(circuit.open(1000));
        assert!(!circuit.open(1000), "no news");
        assert!(circuit.is_open() && circuit.take_turn(1000 + PAUSE - 1).is_none());
        let turn = circuit.take_turn(1000 + PAUSE).unwrap();
        assert!(circuit.take_turn(9000).is_none(), "one at a time");
        turn.end(9000);
        assert!(circuit.take_turn(9000 + PAUSE - 1).is_none());
        drop(circuit.take_turn(9000 + PAUSE).unwrap());
        assert!(circuit.take_turn(9000 + PAUSE).is_some(), "a lost turn");
        assert!(circuit.close() && !circuit.close());
        assert!(!circuit.is_open());
    }
}
