//! Servers that stand out by failing are left out for a while: what one of them did, fed with (event, now).
//!
//! How many of a service may be left out at a time is its business.

use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::Failure;

/// `outlierDetection`, with everything resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierSettings {
    /// Failures in a row; 0: not looked at.
    pub errors: u32,
    /// Failures of a gateway, or without an answer, in a row; 0: not looked at.
    pub gateway_errors: u32,
    /// Percent of the requests of an interval; 0: not looked at.
    pub error_rate: u32,
    /// Requests before `error_rate` counts.
    pub min_requests: u32,
    pub interval: Duration,
    /// How long the first ejection lasts; each further one lasts longer by as much.
    pub base: Duration,
    pub longest: Duration,
    /// Percent of the servers that may be out at a time.
    pub most: u32,
    /// Percent of the servers that must be well; with fewer, health is ignored.
    pub panic: u32,
}

/// Why a server stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Offence {
    Errors(u32),
    GatewayErrors(u32),
    /// Percent.
    Rate(u32),
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors(count) => write!(f, "{count} failed request(s) in a row"),
            Self::GatewayErrors(count) => write!(f, "{count} gateway error(s) in a row"),
            Self::Rate(percent) => write!(f, "{percent} % of the requests failed"),
        }
    }
}

/// What one server did. Times are milliseconds, 0 for never.
#[derive(Debug, Default)]
pub(super) struct Outlier {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    /// When the interval began, and what it saw.
    began: AtomicU64,
    requests: AtomicU32,
    failed: AtomicU32,
    /// When the last ejection ends or ended.
    until: AtomicU64,
    at: AtomicU64,
    /// Ejections that count.
    times: AtomicU32,
    /// The last [`Offence`], as [`pack`] puts it.
    offence: AtomicU64,
}

impl Outlier {
    /// The same, for a successor object of the same server.
    pub(super) fn successor(&self) -> Self {
        Self {
            until: AtomicU64::new(self.until.load(Relaxed)),
            at: AtomicU64::new(self.at.load(Relaxed)),
            times: AtomicU32::new(self.times.load(Relaxed)),
            offence: AtomicU64::new(self.offence.load(Relaxed)),
            ..Self::default()
        }
    }

    /// Whether it was ever left out, which is all that most servers need to be asked.
    pub(super) fn is_spotless(&self) -> bool {
        self.until.load(Relaxed) == 0
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        now < self.until.load(Relaxed)
    }

    /// Notes what a request came to; why the server stands out, if it does now.
    pub(super) fn note(
        &self,
        settings: &OutlierSettings,
        failure: Option<Failure>,
        now: u64,
    ) -> Option<Offence> {
        let rate = self.rate(settings, failure.is_some(), now);
        let Some(failure) = failure else {
            reset(&self.errors);
            reset(&self.gateway_errors);
            return None;
        };
        let errors = self.errors.fetch_add(1, Relaxed) + 1;
        let gateway_errors = match failure {
            Failure::NoAnswer | Failure::Status(502..=504) => {
                self.gateway_errors.fetch_add(1, Relaxed) + 1
            }
            Failure::Status(_) => {
                reset(&self.gateway_errors);
                0
            }
        };
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        if reached(gateway_errors, settings.gateway_errors) {
            Some(Offence::GatewayErrors(gateway_errors))
        } else if reached(errors, settings.errors) {
            Some(Offence::Errors(errors))
        } else {
            rate.map(Offence::Rate)
        }
    }

    /// The percentage that failed in this interval, if it is too high.
    fn rate(&self, settings: &OutlierSettings, failed: bool, now: u64) -> Option<u32> {
        if settings.error_rate == 0 {
            return None;
        }
        let began = self.began.load(Relaxed);
        if began == 0 || now.saturating_sub(began) >= millis(settings.interval) {
            self.began.store(now, Relaxed);
            self.requests.store(0, Relaxed);
            self.failed.store(0, Relaxed);
        }
        let requests = self.requests.fetch_add(1, Relaxed) + 1;
        let failures = self.failed.fetch_add(u32::from(failed), Relaxed) + u32::from(failed);
        let percent = u64::from(failures) * 100 / u64::from(requests);
        let percent = u32::try_from(percent).unwrap_or(100);
        (requests >= settings.min_requests && percent >= settings.error_rate).then_some(percent)
    }

    /// Leaves it out; for how long, or nothing if another request has seen to that already. The longer it was well since the last time,
    /// the fewer of the times before count.
    pub(super) fn eject(
        &self,
        settings: &OutlierSettings,
        offence: Offence,
        now: u64,
    ) -> Option<Duration> {
        let last = self.until.load(Relaxed);
        if last > now {
            return None;
        }
        let base = millis(settings.base).max(1);
        let forgiven = u32::try_from(now.saturating_sub(last) / base).unwrap_or(u32::MAX);
        let times = self
            .times
            .load(Relaxed)
            .saturating_sub(forgiven)
            .saturating_add(1);
        let longest = millis(settings.longest).max(base);
        let time = base.saturating_mul(times.into()).min(longest);
        self.until
            .compare_exchange(last, now.saturating_add(time), Relaxed, Relaxed)
            .ok()?;
        self.at.store(now, Relaxed);
        self.times.store(times, Relaxed);
        self.offence.store(pack(offence), Relaxed);
        reset(&self.errors);
        reset(&self.gateway_errors);
        self.began.store(0, Relaxed);
        Some(Duration::from_millis(time))
    }

    /// Nobody looks any more.
    pub(super) fn pardon(&self) {
        self.until.store(0, Relaxed);
        self.times.store(0, Relaxed);
    }

    /// Since when it is left out, and why.
    pub(super) fn verdict(&self) -> (u64, String) {
        let at = self.at.load(Relaxed);
        let time = self.until.load(Relaxed).saturating_sub(at);
        let offence = unpack(self.offence.load(Relaxed));
        (at, told(offence, Duration::from_millis(time)))
    }
}

/// An ejection, for people.
pub(super) fn told(offence: Offence, time: Duration) -> String {
    format!("{offence}: ejected for {time:?}")
}

fn reset(count: &AtomicU32) {
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn pack(offence: Offence) -> u64 {
    let (kind, number) = match offence {
        Offence::Errors(number) => (0, number),
        Offence::GatewayErrors(number) => (1, number),
        Offence::Rate(number) => (2, number),
    };
    kind << 32 | u64::from(number)
}

fn unpack(packed: u64) -> Offence {
    let number = packed as u32;
    match packed >> 32 {
        0 => Offence::Errors(number),
        1 => Offence::GatewayErrors(number),
        _ => Offence::Rate(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: OutlierSettings = OutlierSettings {
        errors: 0,
        gateway_errors: 0,
        error_rate: 0,
        min_requests: 4,
        interval: Duration::from_secs(10),
        base: Duration::from_secs(2),
        longest: Duration::from_secs(5),
        most: 50,
        panic: 50,
    };

    /// `5` an answer 500, `4` one of 504, `x` none, `2` a good one, `.` a second passes. What each makes of the server: `!` it stands out.
    fn feed(settings: &OutlierSettings, events: &str) -> String {
        let (outlier, mut now) = (Outlier::default(), 1);
        let mut told = |event| {
            let failure = match event {
                '5' => Some(Failure::Status(500)),
                '4' => Some(Failure::Status(504)),
                'x' => Some(Failure::NoAnswer),
                '2' => None,
                _ => {
                    now += 1000;
                    return '.';
                }
            };
            match outlier.note(settings, failure, now) {
                Some(_) => '!',
                None => '-',
            }
        };
        events.chars().map(&mut told).collect()
    }

    #[test]
    fn who_stands_out() {
        let errors = OutlierSettings {
            errors: 3,
            ..SETTINGS
        };
        let gateway = OutlierSettings {
            gateway_errors: 2,
            ..SETTINGS
        };
        let rate = OutlierSettings {
            error_rate: 50,
            ..SETTINGS
        };
        for (settings, events, expected) in [
            (&SETTINGS, "5555555555", "----------"),
            (&errors, "54x", "--!"),
            (&errors, "552555", "-----!"),
            (&gateway, "4x", "-!"),
            (&gateway, "45x4", "---!"),
            (&gateway, "424", "---"),
            (&rate, "2255", "---!"),
            (&rate, "222525", "------"),
            (&rate, "2225555", "-----!!"),
            // The interval is over before there are enough.
            (&rate, "555..........555", "---..........---"),
        ] {
            assert_eq!(feed(settings, events), expected, "{events}");
        }
    }

    #[test]
    fn ejections_grow_and_are_forgiven() {
        let outlier = Outlier::default();
        let offence = Offence::Errors(5);
        let second = |seconds: u64| 1 + seconds * 1000;
        let eject = |at| {
            outlier
                .eject(&SETTINGS, offence, second(at))
                .map(|time| time.as_secs())
        };
        assert!(outlier.is_spotless());
        assert_eq!(eject(100), Some(2));
        assert_eq!(eject(101), None, "it is out already");
        assert!(outlier.is_ejected(second(101)) && !outlier.is_ejected(second(102)));
        assert_eq!(eject(102), Some(4));
        assert_eq!(eject(107), Some(5), "never longer than the longest");
        assert_eq!(
            outlier.verdict(),
            (
                second(107),
                "5 failed request(s) in a row: ejected for 5s".to_owned()
            )
        );
        // Five seconds of good work forgive two of three times.
        assert_eq!(eject(117), Some(4));
        assert_eq!(eject(1000), Some(2));
        let successor = outlier.successor();
        assert!(successor.is_ejected(second(1001)));
        outlier.pardon();
        assert!(outlier.is_spotless());
    }

    #[test]
    fn a_return_begins_with_a_clean_slate() {
        let settings = OutlierSettings {
            errors: 2,
            ..SETTINGS
        };
        let outlier = Outlier::default();
        let fail = |now| outlier.note(&settings, Some(Failure::NoAnswer), now);
        assert_eq!(fail(1), None);
        let offence = fail(2).unwrap();
        assert!(outlier.eject(&settings, offence, 2).is_some());
        assert_eq!(fail(5000), None);
        assert_eq!(fail(5001), Some(Offence::Errors(2)));
        for offence in [
            Offence::Errors(7),
            Offence::GatewayErrors(8),
            Offence::Rate(60),
        ] {
            assert_eq!(unpack(pack(offence)), offence);
        }
    }
}
