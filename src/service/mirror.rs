//! Which requests are mirrored, and how many at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use super::hold::{SPEAK_EVERY, turn};

/// The share of the requests that a mirror gets: exact over all workers, spread evenly.
#[derive(Debug)]
pub struct Share {
    percent: u64,
    /// Requests there were, and those that the mirror got.
    seen: AtomicU64,
    sent: AtomicU64,
}

impl Share {
    /// A share of 0 to 100 percent.
    pub fn new(percent: u8) -> Self {
        Self {
            percent: u64::from(percent.min(100)),
            seen: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    pub fn percent(&self) -> u64 {
        self.percent
    }

    /// Whether the mirror gets this request.
    pub fn takes(&self) -> bool {
        let seen = self.seen.fetch_add(1, Relaxed) + 1;
        let due = |sent: u64| (sent * 100 < seen * self.percent).then_some(sent + 1);
        self.sent.fetch_update(Relaxed, Relaxed, due).is_ok()
    }
}

/// How many mirrored requests of a service are under way.
#[derive(Debug)]
pub struct Allowance {
    under_way: AtomicU32,
    epoch: Instant,
    complained: AtomicU64,
}

impl Allowance {
    pub fn new(now: Instant) -> Self {
        Self {
            under_way: AtomicU32::new(0),
            epoch: now,
            complained: AtomicU64::new(0),
        }
    }

    /// Lets one more begin unless `max` are under way.
    pub fn begin(self: &Arc<Self>, max: u32) -> Option<Permit> {
        let more = |count: u32| (count < max).then_some(count + 1);
        self.under_way.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// Whether the log may be told now that one was given up.
    pub fn may_complain(&self, now: Instant) -> bool {
        turn(self.epoch, &self.complained, SPEAK_EVERY, now)
    }
}

/// A mirrored request under way.
#[derive(Debug)]
pub struct Permit(Arc<Allowance>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_and_even() {
        let taken = |percent: u8, count: usize| -> Vec<usize> {
            let share = Share::new(percent);
            (1..=count).filter(|_| share.takes()).collect()
        };
        assert_eq!(taken(30, 10), [1, 4, 7]);
        assert_eq!(taken(50, 6), [1, 3, 5]);
        assert_eq!(taken(0, 100), [0; 0]);
        assert_eq!(taken(100, 3), [1, 2, 3]);
        assert_eq!(taken(7, 1000).len(), 70);
    }

    #[test]
    fn no_more_than_allowed_are_under_way() {
        let allowance = Arc::new(Allowance::new(Instant::now()));
        let first = allowance.begin(2).unwrap();
        let _second = allowance.begin(2).unwrap();
        assert!(allowance.begin(2).is_none());
        drop(first);
        assert!(allowance.begin(2).is_some());
        assert!(allowance.begin(0).is_none());
    }
}
