//! Counters and gauges that threads write without meeting each other.
//!
//! Every thread that counts owns a slot; a counter keeps one cache line per slot and readers add them up. A thread that owns its slot
//! may use a plain load and store instead of a locked add, which is what keeps counting off the profile of the request path.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// A number that only grows. Costs two words until it is first used.
#[derive(Debug, Default)]
pub struct Counter {
    lines: OnceLock<Box<[Line]>>,
}

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        let lines = self
            .lines
            .get_or_init(|| (0..slots()).map(|_| Line::default()).collect());
        let slot = Slot::current();
        if let Some(line) = lines.get(slot.index) {
            slot.add(&line.0, amount);
        }
    }

    /// The sum over all threads.
    pub fn get(&self) -> u64 {
        let lines = self.lines.get().map_or(&[][..], |lines| lines);
        lines.iter().map(|line| line.0.load(Relaxed)).sum()
    }
}

/// A number that goes up and down; for what changes at most once per connection.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Counters by reason, where a reason is a word of the program, never of a request; so there can only be a few.
#[derive(Debug, Default)]
pub(super) struct ReasonCounter {
    reasons: [OnceLock<Reason>; REASONS],
}

impl ReasonCounter {
    /// Adds one for `reason`. A program with more than [`REASONS`] reasons counts the rest under none.
    pub(super) fn increment(&self, reason: &'static str) {
        for cell in &self.reasons {
            let (name, counter) = cell.get_or_init(|| (reason, Counter::default()));
            if *name == reason {
                return counter.increment();
            }
        }
    }

    /// Every reason seen so far with its count.
    pub(super) fn get(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let seen = self.reasons.iter().filter_map(OnceLock::get);
        seen.map(|(name, counter)| (*name, counter.get()))
    }
}

type Reason = (&'static str, Counter);

/// The place of the current thread in every sharded counter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) index: usize,
    /// Whether no other thread writes to this slot.
    exclusive: bool,
}

impl Slot {
    /// The slot of the current thread.
    pub(super) fn current() -> Self {
        let index = SLOT.with(|slot| {
            if slot.get() == usize::MAX {
                slot.set(NEXT_SLOT.fetch_add(1, Relaxed));
            }
            slot.get()
        });
        let last = slots() - 1;
        Self {
            index: index.min(last),
            exclusive: index < last,
        }
    }

    /// Adds to a number of this slot.
    pub(super) fn add(self, number: &AtomicU64, amount: u64) {
        if self.exclusive {
            number.store(number.load(Relaxed).wrapping_add(amount), Relaxed);
        } else {
            number.fetch_add(amount, Relaxed);
        }
    }
}

/// How many slots there are: one for each thread that can run at once and a few for threads off the traffic, the last one shared by
/// all threads that came too late.
pub(super) fn slots() -> usize {
    static SLOTS: OnceLock<usize> = OnceLock::new();
    *SLOTS.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        cores.clamp(2, 256) + 3
    })
}

/// A number alone in its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line(AtomicU64);

/// How many reasons one [`ReasonCounter`] can tell apart.
const REASONS: usize = 16;

static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[cfg(test)]
mod tests {
    use super::{Counter, Gauge, REASONS, ReasonCounter, slots};

    #[test]
    fn counts_of_all_threads_add_up_even_with_more_threads_than_slots() {
        let counter = Counter::default();
        assert_eq!(counter.get(), 0);
        std::thread::scope(|scope| {
            for _ in 0..slots() * 3 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.get(), slots() as u64 * 30_000);
    }

    #[test]
    fn gauge_follows_both_ways() {
        let gauge = Gauge::default();
        gauge.add(3);
        gauge.add(-2);
        assert_eq!(gauge.get(), 1);
        gauge.set(7);
        assert_eq!(gauge.get(), 7);
    }

    #[test]
    fn reasons_are_kept_apart_and_bounded() {
        let reasons = ReasonCounter::default();
        reasons.increment("reset");
        reasons.increment("connect_failed");
        reasons.increment("reset");
        let seen: Vec<_> = reasons.get().collect();
        assert_eq!(seen, [("reset", 2), ("connect_failed", 1)]);

        for number in 0..100 {
            reasons.increment(String::leak(format!("reason {number}")));
        }
        assert_eq!(reasons.get().count(), REASONS);
    }
}
