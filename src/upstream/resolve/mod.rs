//! Host names to addresses: asked again as their records expire, published when they change.
//!
//! Runs on the control thread, so that no request ever waits for a name server.

mod system;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

pub use system::SystemLookup;

/// The addresses of every name that was resolved, sorted. A name without addresses is known not to exist.
pub type Addresses = BTreeMap<Arc<str>, Arc<[IpAddr]>>;

/// The handle on the task that keeps names resolved.
#[derive(Debug, Clone)]
pub struct Resolver {
    names: watch::Sender<BTreeSet<Arc<str>>>,
    results: watch::Receiver<Results>,
    doubts: Doubts,
}

/// Where to say that a name may have other addresses by now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Doubts(mpsc::Sender<Arc<str>>);

impl Doubts {
    /// Has `host` asked for again soon, if it is a name that is kept resolved.
    pub fn raise(&self, host: &str) {
        if host.parse::<IpAddr>().is_err() {
            // What does not fit is said again with the next failure.
            self.0.try_send(host.into()).ok();
        }
    }
}

/// What the task publishes.
#[derive(Debug, Clone, Default)]
struct Results {
    addresses: Arc<Addresses>,
    /// Names asked for at least once, with whatever outcome.
    asked: BTreeSet<Arc<str>>,
}

/// Asks a name server. A trait so that tests can have it fail.
pub trait Lookup: Send + Sync + 'static {
    fn lookup(&self, name: Arc<str>) -> Answering;
}

/// A question under way.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, LookupError>> + Send>>;

/// Addresses, and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    pub lifetime: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The name server says so: the name, or any address of it, does not exist.
    #[error("no such name")]
    NoSuchName,
    #[error("{0}")]
    Failed(String),
}

impl Resolver {
    /// A resolver, and the future that does its work until the resolver is dropped.
    pub fn new(lookup: impl Lookup) -> (Self, impl Future<Output = ()> + Send) {
        let (names, wanted) = watch::channel(BTreeSet::new());
        let (publish, results) = watch::channel(Results::default());
        let (doubts, doubted) = mpsc::channel(MOST_DOUBTS);
        let keeper = Keeper {
            lookup,
            publish,
            doubted,
            entries: BTreeMap::new(),
            asking: FuturesUnordered::new(),
        };
        let resolver = Self {
            names,
            results,
            doubts: Doubts(doubts),
        };
        (resolver, keeper.run(wanted))
    }

    /// Where connections that fail are told of.
    pub fn doubts(&self) -> Doubts {
        self.doubts.clone()
    }

    /// Says which names are to be kept resolved, all others are forgotten; waits until each was asked for once, `patience` at most.
    pub async fn resolve(&self, names: BTreeSet<Arc<str>>, patience: Duration) -> Arc<Addresses> {
        self.names.send_if_modified(|kept| {
            let changed = *kept != names;
            kept.clone_from(&names);
            changed
        });
        let mut results = self.results.clone();
        let all_asked = results.wait_for(|results| names.is_subset(&results.asked));
        // Whoever is late is published when it comes.
        drop(timeout(patience, all_asked).await);
        self.addresses()
    }

    /// What is known now.
    pub fn addresses(&self) -> Arc<Addresses> {
        Arc::clone(&self.results.borrow().addresses)
    }

    /// Returns when addresses differ from `known`.
    pub async fn changed(&self, known: &Arc<Addresses>) -> Arc<Addresses> {
        let mut results = self.results.clone();
        let differs = results.wait_for(|results| results.addresses != *known);
        let changed = differs.await.map(|results| Arc::clone(&results.addresses));
        match changed {
            Ok(addresses) => addresses,
            // The task has ended: nothing will ever change.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Keeps names resolved.
struct Keeper<L> {
    lookup: L,
    publish: watch::Sender<Results>,
    doubted: mpsc::Receiver<Arc<str>>,
    entries: BTreeMap<Arc<str>, Entry>,
    asking: FuturesUnordered<Asking>,
}

type Asking = Pin<Box<dyn Future<Output = Asked> + Send>>;
type Asked = (Arc<str>, Result<Answer, LookupError>);

/// Doubts that wait to be looked at.
const MOST_DOUBTS: usize = 64;
/// Questions under way at a time.
const MOST_AT_ONCE: usize = 32;

impl<L: Lookup> Keeper<L> {
    async fn run(mut self, mut wanted: watch::Receiver<BTreeSet<Arc<str>>>) {
        loop {
            let names = wanted.borrow_and_update().clone();
            self.keep(&names);
            if !self.work(&mut wanted).await {
                return;
            }
        }
    }

    fn keep(&mut self, names: &BTreeSet<Arc<str>>) {
        let now = Instant::now();
        self.entries.retain(|name, _| names.contains(name));
        for name in names {
            let fresh = || Entry::new(now);
            self.entries.entry(Arc::clone(name)).or_insert_with(fresh);
        }
        self.publish();
    }

    /// Asks and publishes until other names are wanted; false when nobody is interested any more.
    async fn work(&mut self, wanted: &mut watch::Receiver<BTreeSet<Arc<str>>>) -> bool {
        loop {
            let next = self.ask();
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = wanted.changed() => return changed.is_ok(),
                Some((name, result)) = self.asking.next() => self.answered(&name, result),
                Some(name) = self.doubted.recv() => {
                    if let Some(entry) = self.entries.get_mut(&name) {
                        entry.doubt();
                    }
                }
                () = due => {}
            }
        }
    }

    /// Asks for every name that is due; returns when the next one will be.
    fn ask(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for (name, entry) in &mut self.entries {
            if entry.asking || entry.due > now || self.asking.len() >= MOST_AT_ONCE {
                continue;
            }
            entry.asking = true;
            let name = Arc::clone(name);
            let answering = self.lookup.lookup(Arc::clone(&name));
            self.asking
                .push(Box::pin(async move { (name, answering.await) }));
        }
        if self.asking.len() >= MOST_AT_ONCE {
            // The next answer makes room.
            return None;
        }
        let waiting = self.entries.values().filter(|entry| !entry.asking);
        waiting.map(|entry| entry.due).min()
    }

    fn answered(&mut self, name: &Arc<str>, result: Result<Answer, LookupError>) {
        if let Some(entry) = self.entries.get_mut(name) {
            if let Err(error) = &result
                && entry.failures == 0
            {
                tracing::warn!(host = %name, %error, "cannot resolve a server's host name");
            }
            entry.take(result, Instant::now());
            self.publish();
        }
    }

    fn publish(&self) {
        let known = |(name, entry): (&Arc<str>, &Entry)| {
            Some((Arc::clone(name), Arc::clone(entry.addresses.as_ref()?)))
        };
        let addresses: Addresses = self.entries.iter().filter_map(known).collect();
        let asked: BTreeSet<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.asked)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        self.publish.send_if_modified(|results| {
            let changed = *results.addresses != addresses || results.asked != asked;
            if changed {
                results.asked = asked;
                results.addresses = Arc::new(addresses);
            }
            changed
        });
    }
}

/// One name: a state machine fed with answers.
#[derive(Debug)]
struct Entry {
    addresses: Option<Arc<[IpAddr]>>,
    due: Instant,
    /// When the last answer came.
    answered: Instant,
    asking: bool,
    asked: bool,
    /// Answers missed in a row.
    failures: u32,
    /// Since when the name server has denied the name.
    denied_since: Option<Instant>,
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// A name that is denied for this long is believed to be gone: its addresses may belong to somebody else by now.
const BELIEF: Duration = Duration::from_secs(5);
/// Nobody needs more servers than this behind one name.
const MOST_ADDRESSES: usize = 256;

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            addresses: None,
            due: now,
            answered: now,
            asking: false,
            asked: false,
            failures: 0,
            denied_since: None,
        }
    }

    fn take(&mut self, result: Result<Answer, LookupError>, now: Instant) {
        self.asking = false;
        self.asked = true;
        self.answered = now;
        match result {
            Ok(answer) if !answer.addresses.is_empty() => {
                self.failures = 0;
                self.denied_since = None;
                self.due = now + answer.lifetime.clamp(SHORTEST, LONGEST);
                self.addresses = Some(sorted(answer.addresses));
            }
            Ok(_) | Err(LookupError::NoSuchName) => {
                let since = *self.denied_since.get_or_insert(now);
                if self.addresses.is_none() || now.duration_since(since) >= BELIEF {
                    self.addresses = Some(Arc::default());
                }
                self.back_off(now);
            }
            // The name server is not well; what it said last is the best there is.
            Err(LookupError::Failed(_)) => self.back_off(now),
        }
    }

    /// Somebody found nobody at the address: asks again, but no more often than an answer of the shortest lifetime would be.
    fn doubt(&mut self) {
        if self.failures == 0 {
            self.due = self.due.min(self.answered + SHORTEST);
        }
    }

    fn back_off(&mut self, now: Instant) {
        let pause = SHORTEST * 2_u32.saturating_pow(self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        self.due = now + pause.min(LONGEST);
    }
}

/// Sorted, because name servers rotate their answers and a rotation is no change.
fn sorted(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses.into()
}

impl<L> fmt::Debug for Keeper<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}
