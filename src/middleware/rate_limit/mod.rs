//! `rateLimit`: a token bucket per source, here or in Redis. What is a little too fast is held back, what is much too fast is refused.

mod buckets;
mod redis;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};

pub use self::redis::Stores;
use self::{
    buckets::{Buckets, Verdict},
    redis::Store,
};
use super::{
    Flow, ReadFile, Resume,
    report::Report,
    source::{ClientIp, Source},
};
use crate::{
    config::{routing::RateLimit as Config, units::Span},
    exchange::{Exchange, Response, fault::status_response},
    observe::MiddlewareMetrics,
};

/// Limits the rate of requests per source.
#[derive(Debug)]
pub struct RateLimit {
    source: Source,
    /// `None` means no limit.
    rate: Option<Rate>,
    /// Outlives a reload.
    buckets: Arc<Buckets>,
    /// Keeps the buckets instead, if configured.
    store: Option<Arc<Store>>,
    metrics: MiddlewareMetrics,
}

/// How fast tokens come and how many a bucket holds, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    /// Time one token takes to come.
    interval: u64,
    /// Time a whole bucket takes to fill.
    burst: u64,
    /// How long a request may be held until its token is there.
    patience: u64,
}

impl RateLimit {
    pub(super) fn build(
        config: &Config,
        read: ReadFile<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let source = Source::build(
            config.source_criterion.as_ref(),
            Source::Client(ClientIp::peer()),
            report,
        )?;
        if config.period.is_negative() {
            report.error("period", "must not be negative");
            return None;
        }
        if config.average < 0 {
            report.warning("average", "is negative, which means no limit");
        }
        let rate = Rate::new(config.average, config.period, config.burst);
        let store = match &config.redis {
            None => None,
            Some(redis) => {
                if rate.is_none() {
                    report.warning("redis", "is not asked: without `average` there is no limit");
                }
                Some(Store::build(redis, &source, read, report)?)
            }
        };
        Some(Self {
            source,
            rate,
            buckets: Arc::default(),
            store,
            metrics: MiddlewareMetrics::default(),
        })
    }

    /// Shares the connections and the state of the same limiter elsewhere and before.
    pub(super) fn share(&mut self, stores: &Stores) {
        if let Some(store) = &mut self.store {
            *store = stores.keep(store);
        }
    }

    pub(super) fn count_with(&mut self, metrics: MiddlewareMetrics) {
        self.metrics = metrics;
    }

    /// Goes on with the buckets of before, also at another rate: a reload neither refills nor empties them.
    pub(super) fn adopt(&mut self, previous: &Self) {
        if self.source == previous.source {
            self.buckets = Arc::clone(&previous.buckets);
        }
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        self.request_at(exchange, Instant::now())
    }

    fn request_at(&self, exchange: &Exchange, now: Instant) -> Flow {
        let Some(rate) = &self.rate else {
            return Flow::Continue;
        };
        if let Some(store) = &self.store {
            return self.ask(store, exchange, *rate);
        }
        let source = self.source.fingerprint(exchange, self.buckets.keys());
        flow(self.buckets.take(source, now, rate), &self.metrics)
    }

    fn ask(&self, store: &Arc<Store>, exchange: &Exchange, rate: Rate) -> Flow {
        let question = store.question(exchange, rate);
        if let Some(verdict) = store.at_once(&question) {
            self.metrics.redis_away();
            return flow(verdict, &self.metrics);
        }
        let deciding = Arc::clone(store).decide(question);
        let metrics = self.metrics.clone();
        Flow::Later(Box::pin(async move {
            let (verdict, asked) = deciding.await;
            let resume: Resume = Box::new(move |_| {
                if !asked {
                    metrics.redis_away();
                }
                flow(verdict, &metrics)
            });
            resume
        }))
    }
}

fn flow(verdict: Verdict, metrics: &MiddlewareMetrics) -> Flow {
    match verdict {
        Verdict::Now => Flow::Continue,
        Verdict::After(delay) => {
            metrics.delayed();
            Flow::Wait(delay)
        }
        Verdict::Refused(delay) => {
            metrics.refused();
            Flow::respond(refusal(delay))
        }
    }
}

impl Rate {
    fn new(average: i64, period: Span, burst: i64) -> Option<Self> {
        let average = u64::try_from(average).ok().filter(|average| *average > 0)?;
        let period = u64::try_from(period.nanos()).unwrap_or_default();
        let period = if period == 0 { SECOND } else { period };
        let interval = (period.saturating_add(average / 2) / average).max(1);
        let per_second = u128::from(average) * u128::from(SECOND) / u128::from(period);
        let burst = u64::try_from(burst).unwrap_or_default().max(1);
        Some(Self {
            interval,
            burst: burst.saturating_mul(interval).min(u64::MAX / 4),
            // Half the time between two requests; below one per second that would be for ever.
            patience: match u64::try_from(per_second).unwrap_or(u64::MAX) {
                0 => SECOND / 2,
                per_second => SECOND / per_second.saturating_mul(2),
            },
        })
    }

    /// The share of one of so many proxies. Each has one token at least.
    fn shared_by(self, proxies: u64) -> Self {
        let tokens = (self.burst / self.interval / proxies.max(1)).max(1);
        let interval = self.interval.saturating_mul(proxies.max(1));
        Self {
            interval,
            burst: tokens.saturating_mul(interval).min(u64::MAX / 4),
            patience: (interval / 2).min(SECOND / 2),
        }
    }
}

fn refusal(delay: Duration) -> Response {
    let mut response = status_response(StatusCode::TOO_MANY_REQUESTS);
    let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    let nanos = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
    if let Ok(text) = HeaderValue::try_from(Span::from_nanos(nanos).to_string()) {
        headers.insert(&X_RETRY_IN, text);
    }
    response
}

static X_RETRY_IN: HeaderName = HeaderName::from_static("x-retry-in");
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::{
        Middleware,
        testing::{Answer, Fixture, built, problems},
    };

    fn limiter(options: &str) -> Box<RateLimit> {
        match built(&format!(r#"{{"rateLimit":{options}}}"#)) {
            Middleware::RateLimit(it) => it,
            other => panic!("{other:?}"),
        }
    }

    /// Requests at milliseconds since the start: `.` passes, a number is the delay in ms, `x` is refused.
    fn run(limiter: &RateLimit, start: Instant, at: &[u64]) -> String {
        let exchange = Fixture::get("/").exchange();
        let outcomes = at.iter().map(|at| {
            match limiter.request_at(&exchange, start + Duration::from_millis(*at)) {
                Flow::Continue => ".".to_owned(),
                Flow::Wait(delay) => delay.as_millis().to_string(),
                _ => "x".to_owned(),
            }
        });
        outcomes.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn bursts_pass_then_wait_then_are_refused() {
        let limiter = limiter(r#"{"average":10,"burst":5}"#);
        let start = Instant::now();
        // Tokens come every 100 ms and a request waits 50 ms at most.
        assert_eq!(run(&limiter, start, &[0, 0, 0, 0, 0, 0]), ". . . . . x");
        assert_eq!(run(&limiter, start, &[49, 50, 60]), "x 50 x");
        assert_eq!(run(&limiter, start, &[160, 200]), "40 x");
        assert_eq!(
            run(&limiter, start, &[1000, 1000, 1000, 1000, 1000, 1000]),
            ". . . . . x"
        );
    }

    #[test]
    fn an_idle_source_is_not_given_more_than_came_in() {
        let limiter = limiter(r#"{"average":1,"burst":10}"#);
        let start = Instant::now();
        assert_eq!(run(&limiter, start, &[0; 11]), ". . . . . . . . . . x");
        assert_eq!(run(&limiter, start, &[3000; 4]), ". . . x");
    }

    #[test]
    fn slow_rates_wait_half_a_second() {
        let limiter = limiter(r#"{"average":6,"period":"1m"}"#);
        let start = Instant::now();
        assert_eq!(
            run(&limiter, start, &[0, 9000, 9499, 9500, 9600]),
            ". x x 500 x"
        );
    }

    #[test]
    fn rates() {
        let rate = |average, period, burst| Rate::new(average, Span::from_millis(period), burst);
        let ms = 1_000_000;
        for (average, period, burst, expected) in [
            (10, 1000, 5, Some((100 * ms, 500 * ms, 50 * ms))),
            (10, 0, 0, Some((100 * ms, 100 * ms, 50 * ms))),
            (3, 2000, 1, Some((666_666_667, 666_666_667, 500 * ms))),
            (1, 2000, -1, Some((2000 * ms, 2000 * ms, 500 * ms))),
            (0, 1000, 5, None),
            (-1, 1000, 5, None),
            (i64::MAX, 1000, 1, Some((1, 1, 0))),
        ] {
            let found = rate(average, period, burst);
            let found = found.map(|rate| (rate.interval, rate.burst, rate.patience));
            assert_eq!(found, expected, "{average} per {period} ms, burst {burst}");
        }
        assert!(rate(1, i64::MAX, i64::MAX).is_some());
    }

    #[test]
    fn several_proxies_share_a_limit() {
        let rate = Rate::new(10, Span::from_secs(1), 5).unwrap();
        let ms = 1_000_000;
        for (proxies, interval, burst, patience) in [
            (0, 100, 500, 50),
            (1, 100, 500, 50),
            (2, 200, 400, 100),
            (20, 2000, 2000, 500),
        ] {
            let share = rate.shared_by(proxies);
            let share = (share.interval, share.burst, share.patience);
            assert_eq!(share, (interval * ms, burst * ms, patience * ms));
        }
        assert!(rate.shared_by(u64::MAX).interval > 0);
    }

    #[test]
    fn the_refusal_says_when_to_come_back() {
        let limiter = limiter(r#"{"average":1,"period":"3s"}"#);
        let (exchange, start) = (Fixture::get("/").exchange(), Instant::now());
        assert!(matches!(
            limiter.request_at(&exchange, start),
            Flow::Continue
        ));
        let later = start + Duration::from_micros(750_500);
        let Flow::Respond(response) = limiter.request_at(&exchange, later) else {
            panic!("not refused");
        };
        let answer = Answer::new(*response);
        assert_eq!(
            (answer.status(), answer.text()),
            (429, "Too Many Requests".into())
        );
        assert_eq!(answer.header("retry-after"), Some("3"));
        assert_eq!(answer.header("x-retry-in"), Some("2.2495s"));
        assert_eq!(answer.header("content-type"), None);
    }

    #[test]
    fn sources_have_their_own_buckets() {
        let limiter = limiter(r#"{"average":1}"#);
        let now = Instant::now();
        let passes = |peer: &str| {
            let exchange = Fixture::get("/").peer(peer).exchange();
            matches!(limiter.request_at(&exchange, now), Flow::Continue)
        };
        assert!(passes("192.0.2.1:1"));
        assert!(!passes("192.0.2.1:2"));
        assert!(passes("192.0.2.2:1"));
    }

    #[test]
    fn a_reload_keeps_the_buckets() {
        let start = Instant::now();
        let old = limiter(r#"{"average":1,"burst":2}"#);
        assert_eq!(run(&old, start, &[0, 0]), ". .");
        let mut same = limiter(r#"{"average":1,"burst":2}"#);
        same.adopt(&old);
        assert_eq!(run(&same, start, &[0]), "x");
        let mut faster = limiter(r#"{"average":1,"burst":4}"#);
        faster.adopt(&same);
        assert_eq!(run(&faster, start, &[0, 0, 0]), ". . x");
        let mut other = limiter(r#"{"average":1,"sourceCriterion":{"requestHost":true}}"#);
        other.adopt(&faster);
        assert_eq!(run(&other, start, &[0]), ".");
    }

    #[test]
    fn no_average_means_no_limit() {
        let limiter = limiter(r#"{"burst":1}"#);
        assert_eq!(run(&limiter, Instant::now(), &[0, 0, 0]), ". . .");
        assert!(problems(r#"{"rateLimit":{"average":-1}}"#)[0].starts_with("warning"));
        assert!(problems(r#"{"rateLimit":{"period":"-1s"}}"#)[0].contains("must not be negative"));
    }
}
