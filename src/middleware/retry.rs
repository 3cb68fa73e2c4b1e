//! `retry`: sends a request again when its servers could not be reached, or answered with a status that asks for it.
//!
//! What is decided here is pure; `proxy::around` runs the rest of the plan as often as this says.

use std::time::Duration;

use http::{Method, StatusCode};

use super::report::Report;
use crate::config::{routing::Retry as Config, units::StatusRange};

/// When and how often a request is repeated.
#[derive(Debug, Clone)]
pub struct Retry {
    /// In total.
    attempts: u32,
    first_wait: Option<Duration>,
    /// By how much each wait is longer than the one before.
    growth: f64,
    timeout: Option<Duration>,
    status: Box<[StatusRange]>,
    max_body: usize,
    any_method: bool,
    on_network_error: bool,
}

/// An attempt that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    pub status: StatusCode,
    /// The status is ours, because nothing of the request can have reached a server.
    pub unsent: bool,
    /// Whether the body is there to be sent again.
    pub kept: bool,
    /// Time since the first attempt began.
    pub elapsed: Duration,
}

impl Retry {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let attempts = u32::try_from(config.attempts).ok().filter(|it| *it > 0);
        if attempts.is_none() {
            report.error("attempts", "must be above 0");
        }
        if config.disable_retry_on_network_error && config.status.is_empty() {
            report.error_with_hint(
                "disableRetryOnNetworkError",
                "nothing would ever be repeated: there is no `status` either",
                "name the status codes to repeat on, or drop the middleware",
            );
            return None;
        }
        let attempts = attempts?;
        let growth = 2_f64.powf(1.0 / f64::from(attempts.saturating_sub(1).max(1)));
        Some(Self {
            attempts,
            first_wait: config.initial_interval.positive(),
            growth,
            timeout: config.timeout.positive(),
            status: config.status.clone().into(),
            max_body: usize::try_from(config.max_request_body_bytes).unwrap_or(usize::MAX),
            any_method: config.retry_non_idempotent_method,
            on_network_error: !config.disable_retry_on_network_error,
        })
    }

    /// Whether a request may be repeated at all.
    pub fn is_on(&self) -> bool {
        self.attempts > 1
    }

    /// Whether no attempt can come after the one of this number.
    pub fn is_last(&self, number: u32) -> bool {
        number >= self.attempts
    }

    /// The size up to which a body is kept to be sent again; `None` if bodies need not be kept.
    pub fn keeps_bodies(&self, method: &Method) -> Option<usize> {
        (!self.status.is_empty() && self.takes(method)).then_some(self.max_body)
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    pub fn next(&self, method: &Method, made: Attempt) -> Option<Duration> {
        let late = self.timeout.is_some_and(|timeout| made.elapsed >= timeout);
        if made.number >= self.attempts || late {
            return None;
        }
        let asks = |range: &StatusRange| range.contains(made.status.as_u16());
        let again = (made.unsent && self.on_network_error)
            || (made.kept && self.takes(method) && self.status.iter().any(asks));
        again.then(|| self.wait(made.number))
    }

    /// Waits vary by half, so that clients that failed together do not come back together.
    fn wait(&self, made: u32) -> Duration {
        let steps = i32::try_from(made.saturating_sub(1)).unwrap_or(i32::MAX);
        let scale = self.growth.powi(steps) * (0.5 + fastrand::f64());
        self.first_wait
            .map(|first| first.mul_f64(scale))
            .unwrap_or_default()
    }

    fn takes(&self, method: &Method) -> bool {
        self.any_method || !matches!(method.as_str(), "POST" | "PATCH" | "LOCK")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::{
        Middleware,
        testing::{built, problems},
    };

    fn retry(options: &str) -> Retry {
        match built(&format!("{{\"retry\": {options}}}")) {
            Middleware::Retry(retry) => *retry,
            other => panic!("{other:?}"),
        }
    }

    fn made(status: u16) -> Attempt {
        Attempt {
            number: 1,
            status: StatusCode::from_u16(status).unwrap(),
            unsent: false,
            kept: true,
            elapsed: Duration::ZERO,
        }
    }

    fn unsent(number: u32) -> Attempt {
        Attempt {
            number,
            unsent: true,
            ..made(502)
        }
    }

    #[test]
    fn what_is_repeated() {
        let any = r#"{"attempts": 3, "status": ["503", "520-530"]}"#;
        let posts = r#"{"attempts": 3, "status": ["503"], "retryNonIdempotentMethod": true}"#;
        let by_status =
            r#"{"attempts": 3, "status": ["502", "503"], "disableRetryOnNetworkError": true}"#;
        let lost = Attempt {
            kept: false,
            ..made(503)
        };
        for (options, made, method, again) in [
            (r#"{"attempts": 3}"#, unsent(1), Method::POST, true),
            (r#"{"attempts": 3}"#, unsent(2), Method::GET, true),
            (r#"{"attempts": 3}"#, unsent(3), Method::GET, false),
            (r#"{"attempts": 1}"#, unsent(1), Method::GET, false),
            (r#"{"attempts": 3}"#, made(503), Method::GET, false),
            (r#"{"attempts": 3}"#, made(502), Method::GET, false),
            (any, made(503), Method::GET, true),
            (any, made(525), Method::GET, true),
            (any, lost, Method::GET, false),
            (any, made(502), Method::GET, false),
            (any, made(200), Method::GET, false),
            (any, made(503), Method::POST, false),
            (any, made(503), Method::PATCH, false),
            (any, made(503), Method::PUT, true),
            (any, unsent(1), Method::POST, true),
            (posts, made(503), Method::POST, true),
            (by_status, unsent(1), Method::GET, true),
            (by_status, unsent(1), Method::POST, false),
        ] {
            let next = retry(options).next(&method, made);
            assert_eq!(next.is_some(), again, "{options} {method} {made:?}");
        }
    }

    #[test]
    fn time_bounds_the_repetitions_and_waits_grow() {
        let patient = retry(r#"{"attempts": 4, "initialInterval": "100ms", "timeout": "2s"}"#);
        for number in 1..4 {
            let middle = 0.1 * 2_f64.powf(f64::from(number - 1) / 3.0);
            for _ in 0..50 {
                let wait = patient.next(&Method::GET, unsent(number)).unwrap();
                let range = middle * 0.5..=middle * 1.5;
                assert!(range.contains(&wait.as_secs_f64()), "{number}: {wait:?}");
            }
        }
        for (elapsed, again) in [(1999, true), (2000, false)] {
            let elapsed = Duration::from_millis(elapsed);
            let made = Attempt {
                elapsed,
                ..unsent(1)
            };
            assert_eq!(patient.next(&Method::GET, made).is_some(), again);
        }
        let at_once = retry(r#"{"attempts": 2}"#).next(&Method::GET, unsent(1));
        assert_eq!(at_once, Some(Duration::ZERO));
    }

    #[test]
    fn bodies_are_kept_only_if_they_could_be_needed() {
        for (options, method, kept) in [
            (r#"{"attempts": 2}"#, Method::PUT, None),
            (
                r#"{"attempts": 2, "status": ["503"]}"#,
                Method::PUT,
                Some(2 << 20),
            ),
            (
                r#"{"attempts": 2, "status": ["503"], "maxRequestBodyBytes": 9}"#,
                Method::PUT,
                Some(9),
            ),
            (r#"{"attempts": 2, "status": ["503"]}"#, Method::POST, None),
        ] {
            assert_eq!(
                retry(options).keeps_bodies(&method),
                kept,
                "{options} {method}"
            );
        }
    }

    #[test]
    fn what_could_never_work_is_said() {
        for (options, field) in [
            ("{}", "retry.attempts"),
            (r#"{"attempts": -1}"#, "retry.attempts"),
            (
                r#"{"attempts": 2, "disableRetryOnNetworkError": true}"#,
                "retry.disableRetryOnNetworkError",
            ),
        ] {
            let found = problems(&format!("{{\"retry\": {options}}}"));
            assert!(
                found.iter().any(|it| it.contains(field)),
                "{options}: {found:?}"
            );
        }
    }
}
