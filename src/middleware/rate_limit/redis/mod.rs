//! Buckets in Redis, shared by all proxies, and what holds while Redis is away.
//!
//! Every worker has one connection, which all its requests share. The first failure opens a circuit: from then on requests are decided
//! here at once, and one of them now and then starts a probe beside the traffic that closes the circuit again.

mod circuit;
mod link;
mod script;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;

use self::{
    circuit::Circuit,
    link::{Failure, Links},
    script::{Ask, Census},
    settings::Settings,
};
use super::{
    Rate,
    buckets::{Buckets, Verdict},
};
use crate::{
    config::routing::{OnError, RateLimitRedis as Config},
    middleware::{ReadFile, report::Report, source::Source},
};

/// The shared buckets of one limiter.
pub(super) struct Store {
    settings: Settings,
    source: Source,
    links: Links,
    circuit: Circuit,
    /// In place of those in Redis.
    local: Buckets,
    epoch: Instant,
    /// How many proxies Redis knows to share the limit.
    instances: AtomicU64,
    /// When they are counted next, in milliseconds after the epoch.
    next_census: AtomicU64,
}

/// A request to be decided.
pub(super) struct Question {
    pub(super) key: Vec<u8>,
    pub(super) fingerprint: u64,
    pub(super) rate: Rate,
}

/// What was decided, and whether Redis did it.
pub(super) type Decision = (Verdict, bool);

impl Store {
    pub(super) fn build(
        config: &Config,
        source: &Source,
        read: ReadFile<'_>,
        report: &mut Report<'_>,
    ) -> Option<Arc<Self>> {
        let settings = Settings::build(config, read, report)?;
        Some(Arc::new(Self {
            settings,
            source: source.clone(),
            links: Links::default(),
            circuit: Circuit::default(),
            local: Buckets::default(),
            epoch: Instant::now(),
            instances: AtomicU64::new(1),
            next_census: AtomicU64::new(0),
        }))
    }

    /// The request's key in Redis and here.
    pub(super) fn question(&self, exchange: &crate::exchange::Exchange, rate: Rate) -> Question {
        Question {
            key: script::key(&self.settings.name, &self.source.written(exchange)),
            fingerprint: self.source.fingerprint(exchange, self.local.keys()),
            rate,
        }
    }

    /// Decides without Redis if that is known to be away.
    pub(super) fn at_once(self: &Arc<Self>, question: &Question) -> Option<Verdict> {
        if !self.circuit.is_open() {
            return None;
        }
        if let Some(turn) = self.circuit.take_turn(self.now()) {
            let store = Arc::clone(self);
            tokio::task::spawn_local(async move {
                let counted = store.count().await;
                turn.end(store.now());
                let Ok(instances) = counted else { return };
                // A Redis that was restarted does not know the others yet.
                store.instances.fetch_max(instances, Ordering::Relaxed);
                let next = store.now() + script::CENSUS_EVERY;
                store.next_census.store(next, Ordering::Relaxed);
                if store.circuit.close() {
                    tracing::info!(middleware = %store.settings.name, "Redis answers again: it keeps the rate limit");
                }
            });
        }
        Some(self.here(question))
    }

    /// Asks Redis, and decides here if it does not answer.
    pub(super) async fn decide(self: Arc<Self>, question: Question) -> Decision {
        self.see_to_census();
        let opened = self.circuit.opened();
        if self.circuit.is_open() {
            return (self.here(&question), false);
        }
        let answer = tokio::select! {
            answer = self.take(&question) => answer,
            // Somebody else has waited long enough for all.
            () = opened => None,
        };
        match answer {
            Some(verdict) => (verdict, true),
            None => (self.here(&question), false),
        }
    }

    async fn take(&self, question: &Question) -> Option<Verdict> {
        let ask = Ask::new(&question.key, &question.rate);
        match self.exchange(async |link| ask.send(link).await).await {
            Ok(verdict) => Some(verdict),
            Err(failure) => {
                self.failed(&failure);
                None
            }
        }
    }

    /// Runs `talk` over this worker's connection; once more over a new one, if the one there was turns out to be closed.
    async fn exchange<T>(
        &self,
        talk: impl AsyncFn(link::Connection) -> redis::RedisResult<T>,
    ) -> Result<T, Failure> {
        let mut last = Failure::default();
        for _ in 0..2 {
            let link = self.links.of_this_worker(&self.settings);
            let connected = match link.clone().await {
                Ok(connection) => timeout(self.settings.patience, talk(connection))
                    .await
                    .unwrap_or_else(|_| Err(link::late()))
                    .map_err(Failure::from),
                Err(failure) => Err(failure),
            };
            match connected {
                Ok(said) => return Ok(said),
                Err(failure) => {
                    self.links.give_up(&link);
                    last = failure;
                }
            }
            if !last.closed {
                break;
            }
        }
        Err(last)
    }

    fn failed(&self, failure: &Failure) {
        if self.circuit.open(self.now()) {
            tracing::warn!(
                middleware = %self.settings.name, error = %failure,
                "Redis does not answer: `rateLimit.redis.onError: {}` decides until it does", self.settings.on_error.as_str()
            );
        }
    }

    /// What the configuration says for the time without Redis.
    fn here(&self, question: &Question) -> Verdict {
        match self.settings.on_error {
            OnError::Allow => Verdict::Now,
            OnError::Deny => Verdict::Refused(DENIED_FOR),
            OnError::Local => {
                let share = question.rate.shared_by(self.sharers());
                self.local
                    .take(question.fingerprint, Instant::now(), &share)
            }
        }
    }

    fn sharers(&self) -> u64 {
        match self.settings.instances {
            0 => self.instances.load(Ordering::Relaxed).max(1),
            known => u64::from(known),
        }
    }

    /// Has the proxies counted that share the limit, now and then and beside the traffic.
    fn see_to_census(self: &Arc<Self>) {
        let (now, due) = (self.now(), self.next_census.load(Ordering::Relaxed));
        let next = now + script::CENSUS_EVERY;
        let taken = now >= due
            && self
                .next_census
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if taken {
            let store = Arc::clone(self);
            tokio::task::spawn_local(async move {
                match store.count().await {
                    Ok(instances) => store.instances.store(instances, Ordering::Relaxed),
                    Err(failure) => store.failed(&failure),
                }
            });
        }
    }

    /// How many proxies share the limit; this one counts from now on.
    async fn count(&self) -> Result<u64, Failure> {
        let census = Census::new(&self.settings.name);
        self.exchange(async |link| census.send(link).await).await
    }

    /// Milliseconds since the epoch.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.settings == other.settings && self.source == other.source
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The stores in use: a limiter has one, however many routers use it and however often it is compiled. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stores(Arc<Mutex<Vec<Weak<Store>>>>);

impl Stores {
    /// The store that is there already for what `new` is for; else `new`.
    pub(super) fn keep(&self, new: &Arc<Store>) -> Arc<Store> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|store| store.strong_count() > 0);
        let known = stores
            .iter()
            .filter_map(Weak::upgrade)
            .find(|store| store.is_same(new));
        known.unwrap_or_else(|| {
            stores.push(Arc::downgrade(new));
            Arc::clone(new)
        })
    }
}

/// When a client that `onError: deny` refused should come again.
const DENIED_FOR: Duration = Duration::from_secs(1);
