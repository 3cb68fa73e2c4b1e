//! `inFlightReq`: bounds how many requests of one source are under way at once.

use std::{
    collections::HashMap,
    hash::RandomState,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;

use super::{Flow, report::Report, source::Source};
use crate::{
    config::routing::InFlightReq as Config,
    exchange::{Body, Exchange, fault::status_response},
    observe::MiddlewareMetrics,
};

/// Refuses requests of a source that has enough under way.
#[derive(Debug)]
pub struct InFlight {
    amount: i64,
    source: Source,
    /// Outlives a reload.
    counts: Arc<Counts>,
    metrics: MiddlewareMetrics,
}

impl InFlight {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let source = Source::build(config.source_criterion.as_ref(), Source::Host, report)?;
        if config.amount <= 0 {
            report.warning("amount", "refuses every request unless it is above 0");
        }
        Some(Self {
            amount: config.amount,
            source,
            counts: Arc::default(),
            metrics: MiddlewareMetrics::default(),
        })
    }

    pub(super) fn count_with(&mut self, metrics: MiddlewareMetrics) {
        self.metrics = metrics;
    }

    /// Goes on counting what is under way already.
    pub(super) fn adopt(&mut self, previous: &Self) {
        if self.source == previous.source {
            self.counts = Arc::clone(&previous.counts);
        }
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let source = self.source.fingerprint(exchange, &self.counts.keys);
        if let Some(place) = Place::take(&self.counts, source, self.amount) {
            exchange.hold(place);
            return Flow::Continue;
        }
        self.metrics.refused();
        let mut response = status_response(StatusCode::TOO_MANY_REQUESTS);
        *response.body_mut() = Body::from(format!("max connections reached: {}", self.amount));
        Flow::respond(response)
    }
}

/// Requests under way by source fingerprint; a source without any has no entry, so the table is as bounded as the requests are.
#[derive(Debug, Default)]
struct Counts {
    keys: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<u64, i64>;

impl Counts {
    fn shard(&self, source: u64) -> MutexGuard<'_, Shard> {
        let shard = usize::try_from(source % SHARDS as u64).unwrap_or_default();
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way; dropped when its response has been sent or given up.
struct Place {
    counts: Arc<Counts>,
    source: u64,
}

impl Place {
    fn take(counts: &Arc<Counts>, source: u64, amount: i64) -> Option<Self> {
        let mut shard = counts.shard(source);
        let count = shard.get(&source).copied().unwrap_or_default();
        if count >= amount {
            return None;
        }
        shard.insert(source, count + 1);
        drop(shard);
        Some(Self {
            counts: Arc::clone(counts),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.counts.shard(self.source);
        if let Some(count) = shard.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.source);
            }
        }
    }
}

const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::{
        Middleware,
        testing::{Fixture, built, problems},
    };

    fn limiter(options: &str) -> Box<InFlight> {
        match built(&format!(r#"{{"inFlightReq":{options}}}"#)) {
            Middleware::InFlight(it) => it,
            other => panic!("{other:?}"),
        }
    }

    fn enter(limiter: &InFlight, host: &'static str) -> Option<Exchange> {
        let mut exchange = Fixture::get("/").host(host).exchange();
        matches!(limiter.request(&mut exchange), Flow::Continue).then_some(exchange)
    }

    #[test]
    fn counts_until_the_exchange_is_over() {
        let limiter = limiter(r#"{"amount":2}"#);
        let first = enter(&limiter, "a").unwrap();
        let second = enter(&limiter, "a").unwrap();
        assert!(enter(&limiter, "a").is_none());
        assert!(enter(&limiter, "b").is_some());
        drop(first);
        let third = enter(&limiter, "a").unwrap();
        assert!(enter(&limiter, "a").is_none());
        drop((second, third));
        assert!(
            limiter
                .counts
                .shards
                .iter()
                .all(|it| it.lock().unwrap().is_empty())
        );
    }

    #[test]
    fn the_refusal_names_the_limit() {
        for amount in [0, -1] {
            let config = format!(r#"{{"inFlightReq":{{"amount":{amount}}}}}"#);
            let answer = Fixture::get("/").answered_by(&config);
            let text = format!("max connections reached: {amount}");
            assert_eq!((answer.status(), answer.text()), (429, text));
            assert!(problems(&config)[0].starts_with("warning"));
        }
    }

    #[test]
    fn a_reload_goes_on_counting() {
        let old = limiter(r#"{"amount":2}"#);
        let under_way = enter(&old, "a").unwrap();
        let mut new = limiter(r#"{"amount":1}"#);
        new.adopt(&old);
        assert!(enter(&new, "a").is_none());
        drop(under_way);
        assert!(enter(&new, "a").is_some());
    }
}
