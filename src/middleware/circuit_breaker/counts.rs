//! What was answered lately: counts of the last ten seconds, latencies of the last minute. Every worker adds to them without a lock.
//!
//! A counter and the time it belongs to share one word, so that no two workers can disagree about when it begins anew.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::expression::{Codes, Condition, Expression};

/// The answers that one condition is about.
#[derive(Debug)]
pub(super) struct Counts {
    codes: Box<[Codes]>,
    answers: Window,
    latencies: Option<Window>,
}

impl Counts {
    pub(super) fn new(expression: &Expression) -> Self {
        Self {
            codes: expression.codes.clone().into(),
            answers: Window::new(10, Duration::from_secs(1), expression.codes.len()),
            latencies: expression
                .latency
                .then(|| Window::new(6, Duration::from_secs(10), CLASSES)),
        }
    }

    /// Counts an answer. `now` is the time since the breaker was made.
    pub(super) fn record(&self, status: u16, latency: Duration, now: Duration) {
        for (index, codes) in self.codes.iter().enumerate() {
            if codes.contains(status) {
                self.answers.add(index, now);
            }
        }
        if let Some(latencies) = &self.latencies
            && let Some(class) = class(latency)
        {
            latencies.add(class, now);
        }
    }

    /// Forgets everything.
    pub(super) fn reset(&self) {
        self.answers.reset();
        if let Some(latencies) = &self.latencies {
            latencies.reset();
        }
    }

    /// Whether the condition holds.
    pub(super) fn satisfy(&self, condition: &Condition, now: Duration) -> bool {
        match condition {
            Condition::All(both) => both.iter().all(|one| self.satisfy(one, now)),
            Condition::Any(both) => both.iter().any(|one| self.satisfy(one, now)),
            Condition::Ratio {
                part,
                whole,
                order,
                limit,
            } => order.holds(&self.ratio(*part, *whole, now), limit),
            Condition::Latency {
                quantile,
                order,
                limit,
            } => order.holds(&self.latency(*quantile, now), limit),
        }
    }

    /// Zero where nothing was answered.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of ten seconds are far below 2^52"
    )]
    fn ratio(&self, part: usize, whole: usize, now: Duration) -> f64 {
        match self.answers.sum(whole, now) {
            0 => 0.0,
            whole => self.answers.sum(part, now) as f64 / whole as f64,
        }
    }

    /// Milliseconds within which `quantile` percent were answered.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of a minute are far below 2^52, and a count below zero is as good as none"
    )]
    fn latency(&self, quantile: f64, now: Duration) -> i64 {
        let Some(latencies) = &self.latencies else {
            return 0;
        };
        let sums: Vec<u64> = (0..CLASSES)
            .map(|class| latencies.sum(class, now))
            .collect();
        let total: u64 = sums.iter().sum();
        let wanted = ((quantile.min(100.0) / 100.0) * total as f64 + 0.5) as u64;
        let mut seen = 0;
        for (class, count) in sums.iter().enumerate() {
            seen += count;
            if total > 0 && seen >= wanted {
                return i64::try_from(highest(class) / 1000).unwrap_or(i64::MAX);
            }
        }
        0
    }
}

/// Counters for a number of spans of time, of which the oldest is used again for the newest.
#[derive(Debug)]
struct Window {
    spans: u64,
    span: Duration,
    counters: usize,
    /// In each word the number of the span, counted from 1, and how often.
    words: Box<[AtomicU64]>,
}

impl Window {
    fn new(spans: u64, span: Duration, counters: usize) -> Self {
        let length = usize::try_from(spans).unwrap_or_default() * counters;
        Self {
            spans,
            span,
            counters,
            words: (0..length).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn add(&self, counter: usize, now: Duration) {
        let current = self.number(now);
        let added = |word: u64| match word >> BITS {
            // More than a word holds is counted as what it holds.
            span if span == current => word.checked_add(1).filter(|word| word >> BITS == current),
            _ => Some(current << BITS | 1),
        };
        if let Some(word) = self.word(current, counter) {
            // An error says that the word was left as it is.
            let _unchanged = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
        }
    }

    fn sum(&self, counter: usize, now: Duration) -> u64 {
        let newest = self.number(now);
        let oldest = newest.saturating_sub(self.spans - 1);
        (0..self.spans)
            .filter_map(|span| self.word(span, counter))
            .map(|word| word.load(Ordering::Relaxed))
            .filter(|word| (oldest..=newest).contains(&(word >> BITS)))
            .map(|word| word & ((1 << BITS) - 1))
            .sum()
    }

    fn reset(&self) {
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The number of the span that `now` is in.
    fn number(&self, now: Duration) -> u64 {
        now.as_secs() / self.span.as_secs().max(1) + 1
    }

    fn word(&self, span: u64, counter: usize) -> Option<&AtomicU64> {
        let place = usize::try_from(span % self.spans).ok()?;
        self.words.get(place * self.counters + counter)
    }
}

/// The class of a latency: exact up to 255 µs, then within one percent. Latencies above an hour have none.
fn class(latency: Duration) -> Option<usize> {
    let micros = u64::try_from(latency.as_micros()).ok()?;
    if micros > LONGEST {
        return None;
    }
    let shift = (64 - micros.leading_zeros()).saturating_sub(8);
    let step = usize::try_from(micros >> shift).ok()?;
    Some(usize::try_from(shift).ok()? * STEPS + step)
}

/// The longest latency of a class, in microseconds.
fn highest(class: usize) -> u64 {
    let shift = (class / STEPS).saturating_sub(1);
    let step = class - shift * STEPS;
    ((step as u64 + 1) << shift) - 1
}

/// Bits of a word that count.
const BITS: u32 = 32;
/// Classes in each power of two.
const STEPS: usize = 128;
/// An hour in microseconds.
const LONGEST: u64 = 3_600_000_000;
/// Up to that of an hour.
const CLASSES: usize = 26 * STEPS;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> (Counts, Condition) {
        let expression = Expression::parse(text).unwrap();
        (Counts::new(&expression), expression.condition)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ratios_of_ten_seconds() {
        let (counts, condition) = counts("NetworkErrorRatio() > 0.49");
        let holds = |at| counts.satisfy(&condition, seconds(at));
        assert!(!holds(0), "nothing was answered yet");
        counts.record(502, Duration::ZERO, seconds(0));
        counts.record(200, Duration::ZERO, seconds(3));
        assert!(holds(3));
        counts.record(500, Duration::ZERO, seconds(3));
        assert!(!holds(3));
        counts.record(504, Duration::ZERO, seconds(9));
        assert!(holds(9));
        assert!(!holds(10), "the first second is over");
        assert!(holds(13), "only the last failure is left");
        assert!(!holds(19));
        counts.record(502, Duration::ZERO, seconds(1000));
        assert!(holds(1000));
        counts.reset();
        assert!(!holds(1000));
    }

    #[test]
    fn ratios_of_codes() {
        let (counts, condition) = counts("ResponseCodeRatio(500, 600, 200, 600) >= 0.5");
        for (status, expected) in [
            (600, false),
            (100, false),
            (500, true),
            (599, true),
            (200, true),
            (404, true),
            (302, false),
        ] {
            counts.record(status, Duration::ZERO, seconds(1));
            assert_eq!(counts.satisfy(&condition, seconds(1)), expected, "{status}");
        }
    }

    #[test]
    fn classes_are_within_a_percent() {
        let mut last = 0;
        for micros in (0..4000)
            .chain((0..1200).map(|step| 4000 + step * step * 2500))
            .chain([LONGEST])
        {
            let class = class(Duration::from_micros(micros)).unwrap();
            assert!(class >= last && class < CLASSES, "{micros}");
            last = class;
            let top = highest(class);
            assert!(
                top >= micros && top - micros <= micros / 100,
                "{micros}: {top}"
            );
            assert_eq!(
                self::class(Duration::from_micros(top)),
                (top <= LONGEST).then_some(class)
            );
        }
        assert_eq!(class(Duration::from_micros(LONGEST + 1)), None);
    }

    #[test]
    fn latencies_of_a_minute() {
        let quantile =
            |quantile: f64, at: u64, counts: &Counts| counts.latency(quantile, seconds(at));
        let (counts, _) = counts("LatencyAtQuantileMS(50.0) > 100");
        assert_eq!(quantile(50.0, 0, &counts), 0);
        for millis in [10, 20, 30, 40] {
            counts.record(200, Duration::from_millis(millis), seconds(millis));
        }
        for (percent, expected) in [
            (0.0, 0),
            (25.0, 10),
            (50.0, 20),
            (75.0, 30),
            (100.0, 40),
            (500.0, 40),
            (-5.0, 0),
        ] {
            assert_eq!(quantile(percent, 40, &counts), expected, "{percent}");
        }
        assert_eq!(
            quantile(50.0, 75, &counts),
            30,
            "those of second 10 are forgotten"
        );
        assert_eq!(quantile(50.0, 200, &counts), 0);
    }

    #[test]
    fn workers_add_up() {
        let (counts, condition) = counts("ResponseCodeRatio(200, 300, 0, 600) == 0.5");
        std::thread::scope(|scope| {
            for status in [200, 500, 200, 500] {
                let counts = &counts;
                scope.spawn(move || {
                    (0..10_000).for_each(|_| counts.record(status, Duration::ZERO, seconds(5)))
                });
            }
        });
        assert_eq!(counts.answers.sum(1, seconds(5)), 40_000);
        assert!(counts.satisfy(&condition, seconds(5)));
    }
}
