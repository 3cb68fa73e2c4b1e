//! The buckets of one limiter: a bounded table that forgets only what may be forgotten.
//!
//! A bucket is one number: the time at which it will be full again. It needs no refill and no expiry, a change of rate only reads it
//! differently, and a bucket that is full again says nothing that a new one would not.

use std::{
    fmt,
    hash::RandomState,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Rate;

/// Buckets by source fingerprint.
pub(super) struct Buckets {
    keys: RandomState,
    epoch: Instant,
    shards: [Mutex<Shard>; SHARDS],
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Now,
    After(Duration),
    Refused(Duration),
}

impl Buckets {
    /// The keys to make fingerprints with.
    pub(super) fn keys(&self) -> &RandomState {
        &self.keys
    }

    /// Takes a token out of a source's bucket, on credit if it comes soon.
    pub(super) fn take(&self, source: u64, now: Instant, rate: &Rate) -> Verdict {
        let now = now.saturating_duration_since(self.epoch).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX / 4);
        let shard = &self.shards[usize::try_from(source % SHARDS as u64).unwrap_or_default()];
        // Held for some nanoseconds. Nothing in here can panic, but a limiter that does not limit would be worse than a stale bucket.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = shard.slot(source / SHARDS as u64, now);
        let full_at = slot.full_at.max(now).saturating_add(rate.interval);
        let delay = (full_at - now).saturating_sub(rate.burst);
        if delay > rate.patience {
            return Verdict::Refused(Duration::from_nanos(delay));
        }
        slot.full_at = full_at;
        match delay {
            0 => Verdict::Now,
            delay => Verdict::After(Duration::from_nanos(delay)),
        }
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            keys: RandomState::new(),
            epoch: Instant::now(),
            shards: Default::default(),
        }
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buckets")
    }
}

/// Sets of eight slots; a source belongs to one set. Grows when a set has no slot to spare, up to a bound.
struct Shard {
    sets: Vec<Set>,
}

type Set = [Slot; WAYS];

#[derive(Clone, Copy, Default)]
struct Slot {
    source: u64,
    full_at: u64,
}

impl Shard {
    /// The slot of a source, made if need be: in place of a bucket that is full again, else (in a table at its bound) of the one that
    /// will be soonest, which loses least.
    fn slot(&mut self, source: u64, now: u64) -> &mut Slot {
        let mut set = self.set_of(source);
        let mut at = self.sets[set].iter().position(|slot| slot.source == source);
        while at.is_none() {
            let victim = soonest_full(&self.sets[set]);
            if self.sets[set][victim].full_at <= now || self.sets.len() >= MAX_SETS {
                self.sets[set][victim] = Slot { source, full_at: 0 };
                at = Some(victim);
            } else {
                self.grow(now);
                set = self.set_of(source);
            }
        }
        &mut self.sets[set][at.unwrap_or_default()]
    }

    fn set_of(&self, source: u64) -> usize {
        usize::try_from(source % self.sets.len() as u64).unwrap_or_default()
    }

    fn grow(&mut self, now: u64) {
        let bigger = vec![Set::default(); self.sets.len() * 2];
        let old = std::mem::replace(&mut self.sets, bigger);
        for slot in old.into_iter().flatten().filter(|slot| slot.full_at > now) {
            // A set's slots go to one of two sets, so each has room for what comes.
            let set = self.set_of(slot.source);
            let free = soonest_full(&self.sets[set]);
            self.sets[set][free] = slot;
        }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            sets: vec![Set::default()],
        }
    }
}

fn soonest_full(set: &Set) -> usize {
    set.iter()
        .enumerate()
        .min_by_key(|(_, slot)| slot.full_at)
        .map_or(0, |(at, _)| at)
}

const SHARDS: usize = 16;
const WAYS: usize = 8;
/// 65,536 sources in all.
const MAX_SETS: usize = 65_536 / SHARDS / WAYS;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        interval: 1_000_000_000,
        burst: 1_000_000_000,
        patience: 0,
    };

    fn slots(buckets: &Buckets) -> usize {
        let sets = buckets
            .shards
            .iter()
            .map(|it| it.lock().unwrap().sets.len());
        sets.sum::<usize>() * WAYS
    }

    /// Spreads consecutive numbers as a hash does.
    fn fingerprint(n: u64) -> u64 {
        n.wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    }

    #[test]
    fn growing_forgets_nobody() {
        let buckets = Buckets::default();
        let now = buckets.epoch;
        for n in 0..10_000 {
            assert_eq!(
                buckets.take(fingerprint(n), now, &RATE),
                Verdict::Now,
                "{n}"
            );
        }
        let refused = (0..10_000)
            .filter(|n| buckets.take(fingerprint(*n), now, &RATE) != Verdict::Now)
            .count();
        assert_eq!(refused, 10_000);
    }

    #[test]
    fn the_table_is_bounded() {
        let buckets = Buckets::default();
        for n in 0..300_000 {
            buckets.take(fingerprint(n), buckets.epoch, &RATE);
        }
        assert_eq!(slots(&buckets), 65_536);
    }

    #[test]
    fn buckets_that_are_full_again_make_room() {
        let buckets = Buckets::default();
        for n in 0..100_000 {
            let now = buckets.epoch + Duration::from_millis(n);
            buckets.take(fingerprint(n), now, &RATE);
        }
        // About a thousand sources are live at any time.
        assert!(slots(&buckets) <= 8192, "{}", slots(&buckets));
    }

    #[test]
    fn time_that_goes_back_gives_nothing_away() {
        let buckets = Buckets::default();
        let later = buckets.epoch + Duration::from_secs(10);
        assert_eq!(buckets.take(1, later, &RATE), Verdict::Now);
        let refused = Verdict::Refused(Duration::from_secs(11));
        assert_eq!(buckets.take(1, buckets.epoch, &RATE), refused);
    }
}
