//! How many retries a service may make, so that retries never multiply an outage.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// A share of the recent requests plus a small constant rate may be retried. Lock-free; counting a request is one atomic addition.
#[derive(Debug)]
pub struct RetryBudget {
    epoch: Instant,
    settings: BudgetSettings,
    /// Requests since the last settlement.
    requests: AtomicU64,
    /// When requests were last turned into tokens, in milliseconds since `epoch`.
    settled: AtomicU64,
    /// Thousandths of a retry.
    tokens: AtomicI64,
}

/// How large a [`RetryBudget`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Retries per hundred requests.
    pub percent: u32,
    /// Retries allowed per second however few requests there are.
    pub per_second: u32,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            percent: 20,
            per_second: 10,
        }
    }
}

/// One retry, in tokens.
const RETRY: i64 = 1000;
/// Tokens are settled at most this often.
const SETTLE_EVERY: Duration = Duration::from_millis(100);
/// Requests older than this buy no retries.
const MEMORY: Duration = Duration::from_secs(10);

impl RetryBudget {
    /// A budget that starts with one second's worth of its constant rate.
    pub fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            epoch: now,
            settings,
            requests: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            tokens: AtomicI64::new(i64::from(settings.per_second) * RETRY),
        }
    }

    /// What the budget was made with.
    pub fn settings(&self) -> BudgetSettings {
        self.settings
    }

    /// Counts a request (not its retries).
    pub fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Takes one retry from the budget; false if it is used up.
    pub fn withdraw(&self) -> bool {
        self.withdraw_at(Instant::now())
    }

    fn withdraw_at(&self, now: Instant) -> bool {
        self.settle(now);
        self.tokens
            .fetch_update(Relaxed, Relaxed, |tokens| {
                (tokens >= RETRY).then_some(tokens - RETRY)
            })
            .is_ok()
    }

    /// Turns the requests since the last settlement into tokens, those of the last [`MEMORY`] at most.
    fn settle(&self, now: Instant) {
        let now = millis(now.saturating_duration_since(self.epoch));
        let last = self.settled.load(Relaxed);
        let elapsed = now.saturating_sub(last);
        if elapsed < millis(SETTLE_EVERY)
            || self
                .settled
                .compare_exchange(last, now, Relaxed, Relaxed)
                .is_err()
        {
            return;
        }
        let memory = millis(MEMORY);
        let span = elapsed.min(memory);
        let requests = self.requests.swap(0, Relaxed);
        // Requests are taken as spread evenly over the time since the last settlement.
        let recent = u128::from(requests) * u128::from(span) / u128::from(elapsed);
        let bought = recent * u128::from(self.settings.percent) * 10;
        let granted = u128::from(self.settings.per_second) * u128::from(span);
        let per_memory = (bought + granted) * u128::from(memory) / u128::from(span);
        let add = to_tokens(bought + granted);
        let most = to_tokens(per_memory);
        self.tokens.update(Relaxed, Relaxed, |tokens| {
            tokens.saturating_add(add).min(most.max(RETRY))
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn to_tokens(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{BudgetSettings, RetryBudget};

    fn budget(percent: u32, per_second: u32) -> (RetryBudget, Instant) {
        let now = Instant::now();
        let settings = BudgetSettings {
            percent,
            per_second,
        };
        (RetryBudget::new(settings, now), now)
    }

    fn drain(budget: &RetryBudget, now: Instant) -> usize {
        (0..1_000_000)
            .take_while(|_| budget.withdraw_at(now))
            .count()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_share_of_the_requests_may_be_retried() {
        let (budget, start) = budget(20, 0);
        (0..1000).for_each(|_| budget.request());
        assert_eq!(drain(&budget, start + seconds(1)), 200);
        assert_eq!(drain(&budget, start + seconds(2)), 0);
        (0..10).for_each(|_| budget.request());
        assert_eq!(drain(&budget, start + seconds(3)), 2);
    }

    #[test]
    fn a_few_retries_are_always_allowed() {
        let (budget, start) = budget(20, 10);
        assert_eq!(drain(&budget, start), 10);
        assert_eq!(drain(&budget, start + seconds(1)), 10);
        assert_eq!(drain(&budget, start + seconds(3)), 20);
    }

    #[test]
    fn old_requests_buy_no_retries() {
        let (budget, start) = budget(10, 0);
        (0..36_000).for_each(|_| budget.request());
        // Ten requests a second for an hour: the last ten seconds count.
        assert_eq!(drain(&budget, start + seconds(3600)), 10);
        let (budget, start) = super::tests::budget(0, 10);
        assert_eq!(drain(&budget, start + seconds(3600)), 100);
    }

    #[test]
    fn nothing_allowed_is_nothing_granted() {
        let (budget, start) = budget(0, 0);
        budget.request();
        assert_eq!(drain(&budget, start + seconds(5)), 0);
    }
}
