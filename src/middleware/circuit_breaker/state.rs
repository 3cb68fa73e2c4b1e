//! The state of a breaker, as words that every worker reads and changes without a lock. Knows no clock: it is told the time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{counts::Counts, expression::Expression};

/// When a breaker opens, and for how long.
#[derive(Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) expression: Expression,
    pub(super) check_period: Duration,
    pub(super) fallback: Duration,
    pub(super) recovery: Duration,
}

/// What a breaker does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All pass.
    Standby,
    /// None passes.
    Tripped,
    /// More and more pass.
    Recovering,
}

impl Mode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Tripped => "tripped",
            Self::Recovering => "recovering",
        }
    }
}

/// The answer to a request that wants to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) passes: bool,
    /// The mode the breaker was just put into.
    pub(super) change: Option<Mode>,
}

/// The mode, what was answered, and when to look at it again.
#[derive(Debug)]
pub(super) struct State {
    /// The mode in the two lowest bits, above them the microsecond at which it ends.
    mode: AtomicU64,
    /// The microsecond after which the condition is looked at again; zero before the first look.
    next_check: AtomicU64,
    /// While recovering: how many passed, and in the lower half how many did not.
    ramp: AtomicU64,
    pub(super) counts: Counts,
}

impl State {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            mode: AtomicU64::new(packed(Mode::Standby, 0)),
            next_check: AtomicU64::new(0),
            ramp: AtomicU64::new(0),
            counts: Counts::new(&terms.expression),
        }
    }

    /// The mode, and how long it lasts at least from `now`.
    pub(super) fn mode(&self, now: Duration) -> (Mode, Duration) {
        let (mode, until) = unpacked(self.mode.load(Ordering::Acquire));
        let left = until.saturating_sub(micros(now));
        (mode, Duration::from_micros(left))
    }

    /// Whether a request passes at `now`.
    pub(super) fn admit(&self, terms: &Terms, now: Duration) -> Ruling {
        let now = micros(now);
        let mut change = None;
        loop {
            let word = self.mode.load(Ordering::Acquire);
            let (mode, until) = unpacked(word);
            let next = match mode {
                Mode::Standby => {
                    return Ruling {
                        passes: true,
                        change,
                    };
                }
                Mode::Tripped if now < until => {
                    return Ruling {
                        passes: false,
                        change,
                    };
                }
                Mode::Tripped => packed(Mode::Recovering, now + micros(terms.recovery)),
                Mode::Recovering if now > until => packed(Mode::Standby, 0),
                Mode::Recovering => {
                    let since = now.saturating_sub(until.saturating_sub(micros(terms.recovery)));
                    let passes = self.climb(since, micros(terms.recovery));
                    return Ruling { passes, change };
                }
            };
            if self.replace(word, next) {
                change = Some(unpacked(next).0);
            }
        }
    }

    /// Whether one more may pass, `since` microseconds after a recovery of `length` began: the share of those that do rises to a half.
    /// From there on as many would pass as are refused, and then the recovery is over.
    #[expect(
        clippy::cast_precision_loss,
        reason = "requests and microseconds of a recovery are far below 2^52"
    )]
    fn climb(&self, since: u64, length: u64) -> bool {
        let target = 0.5 * since as f64 / length as f64;
        let mut passes = false;
        let step = |ramp: u64| {
            let (passed, refused) = (ramp >> 32, ramp & LOWER);
            passes = ((passed + 1) as f64) / ((passed + 1 + refused) as f64) < target;
            let more = if passes { 1 << 32 } else { 1 };
            // Where a half is full, the share no longer changes.
            let full = if passes { passed } else { refused } == LOWER;
            (!full).then(|| ramp + more)
        };
        // An error says that the word was left as it is.
        let _unchanged = self
            .ramp
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        passes
    }

    /// Looks, not too often, whether the condition holds; true if the breaker has just opened.
    pub(super) fn check(&self, terms: &Terms, now: Duration) -> bool {
        let next = self.next_check.load(Ordering::Relaxed);
        if next != 0 && micros(now) <= next {
            return false;
        }
        let after = (micros(now) + micros(terms.check_period)).max(1);
        let mine =
            self.next_check
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_err() || self.mode(now).0 == Mode::Tripped {
            return false;
        }
        let holds = self.counts.satisfy(&terms.expression.condition, now);
        holds && self.trip(micros(now) + micros(terms.fallback))
    }

    fn trip(&self, until: u64) -> bool {
        loop {
            let word = self.mode.load(Ordering::Acquire);
            if unpacked(word).0 == Mode::Tripped {
                return false;
            }
            if self.replace(word, packed(Mode::Tripped, until)) {
                // Nobody reads the ramp while the breaker is open.
                self.ramp.store(0, Ordering::Relaxed);
                self.counts.reset();
                return true;
            }
        }
    }

    fn replace(&self, from: u64, to: u64) -> bool {
        self.mode
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

fn packed(mode: Mode, until: u64) -> u64 {
    until << 2
        | match mode {
            Mode::Standby => 0,
            Mode::Tripped => 1,
            Mode::Recovering => 2,
        }
}

fn unpacked(word: u64) -> (Mode, u64) {
    let mode = match word & 3 {
        0 => Mode::Standby,
        1 => Mode::Tripped,
        _ => Mode::Recovering,
    };
    (mode, word >> 2)
}

/// Microseconds, short enough that two of them and a mode fit into a word.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros())
        .unwrap_or(FAR_AWAY)
        .min(FAR_AWAY)
}

const LOWER: u64 = u32::MAX as u64;
/// Some 36,000 years.
const FAR_AWAY: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            expression: Expression::parse("ResponseCodeRatio(500, 600, 0, 600) > 0.5").unwrap(),
            check_period: millis(100),
            fallback: millis(1000),
            recovery: millis(1000),
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A breaker that opened at 10 ms.
    fn open(terms: &Terms) -> State {
        let state = State::new(terms);
        state.counts.record(500, Duration::ZERO, millis(10));
        assert!(state.check(terms, millis(10)));
        state
    }

    fn admit(state: &State, at: u64) -> (bool, Option<Mode>) {
        let ruling = state.admit(&terms(), millis(at));
        (ruling.passes, ruling.change)
    }

    #[test]
    fn one_bad_answer_is_enough() {
        let terms = terms();
        let state = State::new(&terms);
        assert_eq!(admit(&state, 0), (true, None));
        assert!(!state.check(&terms, millis(0)), "nothing was answered");
        let state = open(&terms);
        assert_eq!(state.mode(millis(10)), (Mode::Tripped, millis(1000)));
        assert_eq!(admit(&state, 11), (false, None));
        assert_eq!(admit(&state, 1009), (false, None));
    }

    #[test]
    fn looks_once_per_period() {
        let terms = terms();
        let state = State::new(&terms);
        state.counts.record(200, Duration::ZERO, millis(0));
        assert!(!state.check(&terms, millis(0)));
        (0..2).for_each(|_| state.counts.record(500, Duration::ZERO, millis(1)));
        assert!(!state.check(&terms, millis(100)), "it was looked at lately");
        assert!(state.check(&terms, millis(101)));
        assert!(!state.check(&terms, millis(500)), "it is open");
    }

    #[test]
    fn recovers_little_by_little() {
        let state = open(&terms());
        assert_eq!(admit(&state, 1010), (false, Some(Mode::Recovering)));
        assert_eq!(state.mode(millis(1010)).0, Mode::Recovering);
        // One of ten after a fifth of the time, one of two at its end.
        let passed = |from: u64, to: u64| (from..to).filter(|at| admit(&state, *at).0).count();
        let shares: Vec<usize> = (0..10)
            .map(|part| passed(1011 + part * 100, 1111 + part * 100))
            .collect();
        assert!(shares[0] < 6 && shares[9] > 60, "{shares:?}");
        assert!(
            shares.windows(2).all(|pair| pair[0] <= pair[1]),
            "{shares:?}"
        );
        let all: usize = shares.iter().sum();
        assert!((480..=500).contains(&all), "{all}");
        assert_eq!(admit(&state, 2011), (true, Some(Mode::Standby)));
        assert_eq!(admit(&state, 2012), (true, None));
    }

    #[test]
    fn the_ramp_is_exact() {
        let state = open(&terms());
        admit(&state, 1010);
        // (passed + 1) / (passed + 1 + refused) must stay below half of the time that has gone.
        let (mut passed, mut refused) = (0_u32, 1_u32);
        for at in [
            1100_u32, 1200, 1300, 1300, 1500, 1700, 1700, 1900, 2000, 2010,
        ] {
            let target = 0.5 * f64::from(at - 1010) / 1000.0;
            let expected = f64::from(passed + 1) / f64::from(passed + 1 + refused) < target;
            assert_eq!(admit(&state, u64::from(at)).0, expected, "{at}");
            passed += u32::from(expected);
            refused += u32::from(!expected);
        }
        assert!(passed > 2);
    }

    #[test]
    fn opens_again_while_it_recovers() {
        let terms = terms();
        let state = open(&terms);
        admit(&state, 1010);
        state.counts.record(200, Duration::ZERO, millis(1020));
        assert!(
            !state.check(&terms, millis(1020)),
            "what was before is forgotten"
        );
        (0..2).for_each(|_| state.counts.record(503, Duration::ZERO, millis(1200)));
        assert!(state.check(&terms, millis(1200)));
        assert_eq!(admit(&state, 2199), (false, None));
        assert_eq!(admit(&state, 2200), (false, Some(Mode::Recovering)));
    }

    #[test]
    fn a_long_rest_ends_in_standby() {
        let state = open(&terms());
        assert_eq!(admit(&state, 9000), (false, Some(Mode::Recovering)));
        assert_eq!(admit(&state, 90_000), (true, Some(Mode::Standby)));
    }

    #[test]
    fn of_many_at_once_one_opens_it() {
        let terms = terms();
        let state = State::new(&terms);
        state.counts.record(500, Duration::ZERO, millis(1));
        let opened: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| usize::from(state.check(&terms, millis(1)))))
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(opened, 1);
    }
}
