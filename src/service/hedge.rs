//! When a second server is asked because the first one takes long.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::budget::{BudgetSettings, RetryBudget};

/// The times of the last answers, and how many requests may be sent twice. Outlives the snapshot.
#[derive(Debug)]
pub struct Hedge {
    settings: HedgeSettings,
    budget: RetryBudget,
    times: Times,
}

/// `hedge`, with everything resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgeSettings {
    pub after: After,
    /// Percent of the requests.
    pub most: u32,
}

/// How long the first server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Time(Duration),
    /// So many percent of the last answers came earlier.
    Percentile(u8),
}

impl Hedge {
    pub(super) fn new(settings: HedgeSettings, now: Instant) -> Self {
        // One a second is always allowed, so that it acts with few requests too.
        let budget = BudgetSettings {
            percent: settings.most,
            per_second: u32::from(settings.most > 0),
        };
        Self {
            settings,
            budget: RetryBudget::new(budget, now),
            times: Times::default(),
        }
    }

    pub(super) fn settings(&self) -> HedgeSettings {
        self.settings
    }

    /// How long the first server has for a request that begins now; `None` while too little is known.
    pub fn begin(&self) -> Option<Duration> {
        self.budget.request();
        match self.settings.after {
            After::Time(time) => Some(time),
            After::Percentile(_) => self.times.bound(),
        }
    }

    /// Whether one more request may be sent twice; if so, it counts.
    pub fn withdraw(&self) -> bool {
        self.budget.withdraw()
    }

    /// An answer came after `time`.
    pub fn answered(&self, time: Duration) {
        if let After::Percentile(percent) = self.settings.after {
            self.times.add(time, percent);
        }
    }
}

/// The last times, in tenths of a millisecond, and what so many percent of them lie below.
#[derive(Debug)]
struct Times {
    samples: [AtomicU32; Self::SAMPLES],
    count: AtomicU32,
    /// 0: not known yet.
    bound: AtomicU32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            samples: std::array::from_fn(|_| AtomicU32::new(0)),
            count: AtomicU32::new(0),
            bound: AtomicU32::new(0),
        }
    }
}

impl Times {
    const SAMPLES: usize = 256;
    /// The bound is worked out anew after so many samples.
    const ROUND: u32 = 32;

    fn add(&self, time: Duration, percent: u8) {
        let tenths = u32::try_from(time.as_micros() / 100)
            .unwrap_or(u32::MAX)
            .max(1);
        let count = self.count.fetch_add(1, Relaxed).wrapping_add(1);
        self.samples[count as usize % Self::SAMPLES].store(tenths, Relaxed);
        if count.is_multiple_of(Self::ROUND) {
            self.work_out(percent);
        }
    }

    fn work_out(&self, percent: u8) {
        let mut sorted = [0; Self::SAMPLES];
        for (copy, sample) in sorted.iter_mut().zip(&self.samples) {
            *copy = sample.load(Relaxed);
        }
        sorted.sort_unstable();
        let empty = sorted.partition_point(|sample| *sample == 0);
        let known = &sorted[empty..];
        let place = known.len() * usize::from(percent) / 100;
        if let Some(bound) = known.get(place.min(known.len().saturating_sub(1))) {
            self.bound.store(*bound, Relaxed);
        }
    }

    fn bound(&self) -> Option<Duration> {
        match self.bound.load(Relaxed) {
            0 => None,
            tenths => Some(Duration::from_micros(u64::from(tenths) * 100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hedge(after: After, most: u32) -> Hedge {
        Hedge::new(HedgeSettings { after, most }, Instant::now())
    }

    #[test]
    fn a_fixed_time_is_what_it_is() {
        let time = Duration::from_millis(50);
        let hedge = hedge(After::Time(time), 10);
        hedge.answered(Duration::from_secs(1));
        assert_eq!(hedge.begin(), Some(time));
    }

    #[test]
    fn a_percentile_follows_the_answers() {
        let hedge = hedge(After::Percentile(90), 10);
        let millis = Duration::from_millis;
        assert_eq!(hedge.begin(), None);
        (1..32).for_each(|time| hedge.answered(millis(time)));
        assert_eq!(hedge.begin(), None, "too few");
        hedge.answered(millis(32));
        assert_eq!(hedge.begin(), Some(millis(29)));
        (0..256).for_each(|_| hedge.answered(millis(400)));
        assert_eq!(hedge.begin(), Some(millis(400)));
        (0..512).for_each(|_| hedge.answered(Duration::ZERO));
        assert_eq!(hedge.begin(), Some(Duration::from_micros(100)));
    }

    #[test]
    fn nothing_allowed_is_nothing_sent_twice() {
        let time = After::Time(Duration::from_millis(1));
        assert!(!hedge(time, 0).withdraw());
        let few = hedge(time, 1);
        assert!(few.withdraw() && !few.withdraw());
    }
}
