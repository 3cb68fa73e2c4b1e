//! One certificates resolver at work: looks what is demanded, orders what is missing or ends soon, stores what comes.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    task::{AbortHandle, Id, JoinSet},
    time::sleep,
};
use tracing::{debug, error, info, warn};

use super::{
    client::{AccountKey, Client, Failure},
    dns::Dns,
    held::{self, certificates, held},
    limits::{Event, Limits},
    memory::{Memory, OpenOrder, key_of},
    now,
    order::{self, Issued},
    plan::{self, Held, Need, Step},
    report::{Away, Report},
    solver::Solver,
    store::{Document, Files, Store},
    stored::{Account, Stored},
    time,
    vault::Vault,
};
use crate::{
    challenge::Challenges,
    config::install::AcmeResolver,
    observe::Resolvers,
    snapshot::{Snapshot, SnapshotCell},
    tls::Certificate,
};

/// A resolver.
#[derive(Debug)]
pub(super) struct Resolver {
    name: String,
    config: AcmeResolver,
    vault: Arc<Vault>,
    shared: Shared,
    solvers: Vec<Arc<Solver>>,
    session: AsyncMutex<Option<Arc<Client>>>,
    away: Mutex<Away>,
    unserved: Mutex<Unserved>,
}

/// What all resolvers work with.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) challenges: Challenges,
    /// Told how the resolvers are.
    pub(super) resolvers: Resolvers,
    /// Told when there are certificates to publish.
    pub(super) news: Arc<Notify>,
}

/// Certificates that are issued and not in force yet: their digests and names.
type Unserved = Vec<([u8; 32], Vec<String>)>;

/// The vault of each storage that resolvers name.
pub(super) type Vaults = BTreeMap<String, Arc<Vault>>;

impl Resolver {
    pub(super) fn new(
        name: &str,
        (config, dns): (&AcmeResolver, Option<Arc<Dns>>),
        vaults: &mut Vaults,
        shared: &Shared,
    ) -> Arc<Self> {
        let store = Files::new(Path::new(&config.storage));
        // Under the file's one path, however it is written.
        let key = store.name(Document::Certificates);
        let (challenges, news) = (&shared.challenges, &shared.news);
        let make = || Vault::new(store, challenges.clone(), Arc::clone(news));
        let vault = vaults.entry(key).or_insert_with(make);
        let solvers = Solver::all(config, vault, dns);
        Arc::new(Self {
            name: name.to_owned(),
            config: config.clone(),
            vault: Arc::clone(vault),
            solvers: solvers.into_iter().map(Arc::new).collect(),
            shared: shared.clone(),
            session: AsyncMutex::default(),
            away: Mutex::default(),
            unserved: Mutex::default(),
        })
    }

    /// Works for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut changes = self.shared.cell.subscribe();
        let mut parts = self.vault.parts();
        let mut orders = Orders::default();
        loop {
            let pause = self.turn(&mut orders).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                // The vault lives as long as this.
                _ = parts.changed() => {}
                broken = orders.ended(), if !orders.tasks.is_empty() => {
                    if let Some(names) = broken {
                        // The panic hook has logged it; trying again at once would burn what the authority allows.
                        let failure = Failure::Own("a fault of ours".to_owned());
                        self.failed(&names, &failure).await;
                    }
                }
                () = sleep(pause) => {}
            }
        }
    }

    /// Starts what is due, and says how long there is nothing to do.
    async fn turn(self: &Arc<Self>, orders: &mut Orders) -> Duration {
        let pause = self.vault.may_order();
        if pause.is_none() {
            self.stand_back(orders).await;
        }
        let acts = pause == Some(Duration::ZERO);
        let now = now();
        let mut wake = now + pause.map_or(LONGEST_SLEEP, longer).as_secs().cast_signed();
        let (snapshot, memory) = (self.shared.cell.load_full(), self.memory());
        let (limits, away) = (Limits::of(&self.config.ca_server), self.away().clone());
        let stored = self.stored();
        self.tell_served(&snapshot);
        let held = held(&stored, &memory, snapshot.tls.as_deref(), now);
        let mut report = Report::new(&held, &memory, &away, now);
        for need in plan::needs(&snapshot.demanded_of(&self.name), &held) {
            let step =
                (!orders.are_for(&need.names)).then(|| plan::step(&need, &memory, &limits, now));
            let solvers = self.solvers_after(&need.names, &memory);
            report.add(&need, step.as_ref(), solvers.first().map(|one| one.kind()));
            match step {
                None => {}
                // Another edge does it, or it is too early.
                Some(_) if !acts => {}
                Some(Step::Order) if away.until > now => wake = wake.min(away.until),
                Some(Step::Order) if orders.tasks.len() >= MOST_ORDERS => {}
                Some(Step::Order) => orders.start(Arc::clone(self), need),
                Some(Step::Sleep(at)) => wake = wake.min(at),
                Some(Step::Hold(wait)) => {
                    orders.hold(&self.name, &need, &wait);
                    wake = wake.min(wait.until);
                }
            }
        }
        let registered = stored.is_registered(&self.config.ca_server);
        if acts && registered && away.until <= now {
            let asked: Vec<&Held> = held.iter().filter(|one| report.is_about(one)).collect();
            wake = wake.min(self.ask(orders, &asked, &memory, now));
        }
        let resolvers = &self.shared.resolvers;
        resolvers.set_certificates(&self.name, registered, report.rows());
        Duration::from_secs((wake - now).max(1).cast_unsigned())
    }

    /// Leaves the orders under way to whoever orders now.
    async fn stand_back(&self, orders: &mut Orders) {
        orders.tasks.shutdown().await;
        orders.names.clear();
        // The other one may change the account.
        *self.session.lock().await = None;
    }

    /// Tells of certificates that are in force now.
    fn tell_served(&self, snapshot: &Snapshot) {
        let tls = snapshot.tls.as_deref();
        let in_force = tls.map_or(&[][..], |tls| tls.certificates().configured());
        self.unserved().retain(|(digest, names)| {
            let served = in_force.iter().any(|one| one.digest() == digest);
            if served {
                info!(resolver = self.name, ?names, "the certificate is served");
            }
            !served
        });
    }

    /// Asks the authority when it would have these certificates replaced, as far as it is time to; returns when it is time again.
    fn ask(
        self: &Arc<Self>,
        orders: &mut Orders,
        certificates: &[&Held],
        memory: &Memory,
        now: i64,
    ) -> i64 {
        let ask = |one: &&&Held| {
            let advice = memory.advice.get(&one.fingerprint);
            advice.map_or(now, |advice| advice.ask)
        };
        let due = certificates.iter().filter(|one| ask(one) <= now);
        let due: Vec<String> = due.map(|one| one.fingerprint.clone()).collect();
        let pause = certificates.iter().map(|one| ask(&one)).min();
        let asking = orders
            .asking
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if !due.is_empty() && !asking {
            orders.asking = Some(orders.tasks.spawn(Arc::clone(self).advised(due)));
        }
        pause.map_or(i64::MAX, |pause| pause.max(now + SHORTEST_ASK))
    }

    /// Asks for advice on the certificates with these fingerprints, and remembers it. What fails is asked for again later, and is no
    /// matter for orders.
    async fn advised(self: Arc<Self>, fingerprints: Vec<String>) {
        let snapshot = self.shared.cell.load_full();
        let mut own = certificates(&self.stored(), snapshot.tls.as_deref());
        own.retain(|one| fingerprints.contains(&one.facts().fingerprint));
        let session = self.session().await;
        let mut all = self.memory().advice;
        for certificate in &own {
            let facts = certificate.facts();
            let advice = all.entry(facts.fingerprint.clone()).or_default();
            let asked = match (&session, held::id(certificate)) {
                (_, None) => Ok((None, Some(NEVER))),
                (Ok(client), Some(id)) => client.renewal(&id).await,
                (Err(failure), _) => Err(failure.clone()),
            };
            match asked {
                Ok((window, pause)) => {
                    let pause = pause.map(|pause| pause.as_secs().cast_signed());
                    let when = (now(), pause, fastrand::u64(..));
                    if advice.take(window, held::life(certificate), when) {
                        let at = held::renew_at(certificate, Some(advice));
                        info!(resolver = self.name, names = ?facts.names, renewal = time(at), reason = advice.explanation, "the authority has said when to renew the certificate");
                    }
                }
                Err(failure) => {
                    advice.miss(now(), matches!(failure, Failure::Refused(_)));
                    debug!(resolver = self.name, names = ?facts.names, error = %failure, "no advice when to renew the certificate");
                }
            }
        }
        all.retain(|fingerprint, _| fingerprints.contains(fingerprint));
        let change = |_: &mut Stored, memory: &mut Memory| memory.advice.extend(all);
        self.vault.change(self.key(), change).await;
    }

    /// What the authority calls the certificate that one for `names` will replace.
    pub(super) fn replaced_by(&self, names: &[String]) -> Option<String> {
        let snapshot = self.shared.cell.load_full();
        held::replaced_by(names, &self.stored(), snapshot.tls.as_deref())
    }

    /// Gets one certificate, or notes why not.
    async fn order(self: Arc<Self>, need: Need) {
        let client = match self.session().await {
            Ok(client) => client,
            Err(failure) => return self.failed(&[], &failure).await,
        };
        match order::obtain(&self, &client, &need.names).await {
            Ok(issued) => self.issued(&need.names, &issued).await,
            Err(failure) => self.failed(&need.names, &failure).await,
        }
    }

    async fn issued(&self, names: &[String], issued: &Issued) {
        let key = key_of(names);
        let change = |stored: &mut Stored, memory: &mut Memory| {
            stored.put(names, &issued.chain, &issued.key);
            memory.attempts.remove(&key);
            memory.attempts.remove("");
            memory.orders.remove(&key);
            memory.ledger.note(now(), Event::Issued, names);
        };
        let certificate = &issued.certificate;
        let waiting = (*certificate.digest(), names.to_owned());
        self.unserved().push(waiting);
        let stored = self.vault.change(self.key(), change).await;
        *self.away() = Away::default();
        self.shared.resolvers.count(&self.name, "issued");
        let (facts, renewal) = (certificate.facts(), held::renew_at(certificate, None));
        info!(
            resolver = self.name,
            ?names,
            issuer = facts.issuer_common_name,
            until = time(facts.not_after),
            renewal = time(renewal),
            "the certificate is issued"
        );
        if stored {
            let storage = &self.config.storage;
            info!(
                resolver = self.name,
                ?names,
                storage,
                "the certificate is stored"
            );
        }
        self.shared.news.notify_one();
    }

    /// Notes a failure: of an order for `names`, or, without names, to get an account.
    async fn failed(&self, names: &[String], failure: &Failure) {
        if let Failure::Unreachable(_) = failure {
            self.shared.resolvers.count(&self.name, "unreachable");
            return self.wait_for_authority(failure);
        }
        if failure.is("accountDoesNotExist") {
            *self.session.lock().await = None;
            let forget = |stored: &mut Stored, _: &mut Memory| {
                if let Some(account) = &mut stored.account {
                    account.register(None);
                }
            };
            self.vault.change(self.key(), forget).await;
            return self.wait_for_authority(failure);
        }
        self.shared.resolvers.count(&self.name, "failed");
        let (key, asked) = (key_of(names), failure.retry_after());
        let asked = asked.map(|asked| asked.as_secs().cast_signed());
        let mut pause = 0;
        let change = |_: &mut Stored, memory: &mut Memory| {
            if let Failure::NotValidated { name, .. } = failure {
                let name = name.clone();
                memory.ledger.note(now(), Event::Failed, &[name]);
            }
            let attempts = memory.attempts.entry(key).or_default();
            pause = attempts.fail(now(), asked, fastrand::i64(0..100), failure.to_string());
        };
        self.vault.change(self.key(), change).await;
        match names {
            [] => {
                error!(resolver = self.name, error = %failure, again_in = pause, "no account: the resolver cannot order")
            }
            names => self.complain(names, failure, pause),
        }
    }

    /// Says that there is no certificate, the louder the less time the one in force has left.
    fn complain(&self, names: &[String], failure: &Failure, pause: i64) {
        let snapshot = self.shared.cell.load_full();
        let own = certificates(&self.vault.stored(&self.name), snapshot.tls.as_deref());
        let covers = |one: &Certificate, name: &String| {
            let mut owns = one.facts().names.iter();
            owns.any(|own| plan::covers(own, name))
        };
        let good = |one: &&Arc<Certificate>| names.iter().all(|name| covers(one, name));
        let ends = own.iter().filter(good).map(|one| one.facts().not_after);
        let left = ends.max().map(|end| end - now());
        let resolver = &*self.name;
        match left {
            None => {
                error!(resolver, ?names, error = %failure, again_in = pause, "no certificate: what was there goes on serving");
            }
            Some(left) if left <= 0 => {
                error!(resolver, ?names, error = %failure, again_in = pause, expired_since = -left, "THE CERTIFICATE HAS EXPIRED AND CANNOT BE RENEWED: it goes on serving, and clients refuse it");
            }
            Some(left) => {
                error!(resolver, ?names, error = %failure, again_in = pause, expires_in = left, "the certificate cannot be renewed: it goes on serving until it expires");
            }
        }
    }

    fn wait_for_authority(&self, failure: &Failure) {
        let mut away = self.away();
        // Several orders may find it out at once.
        if away.until <= now() {
            let pause = (2 << away.failures.min(8)).min(LONGEST_PATIENCE);
            away.failures += 1;
            away.until = now() + pause;
            away.problem = failure.to_string();
            warn!(resolver = self.name, error = %failure, again_in = pause, "the authority is tried again later");
        }
    }

    /// The connection with the authority, with an account.
    async fn session(&self) -> Result<Arc<Client>, Failure> {
        let mut session = self.session.lock().await;
        if let Some(client) = &*session {
            return Ok(Arc::clone(client));
        }
        let (key, url) = self.account().await?;
        let (client, registered) = Client::open(&self.config, key, url).await?;
        if let Some(registered) = registered {
            info!(
                resolver = self.name,
                account = registered.url,
                "the account is registered"
            );
            let change = |stored: &mut Stored, _: &mut Memory| {
                if let Some(account) = &mut stored.account {
                    account.register(Some(registered));
                }
            };
            self.vault.change(self.key(), change).await;
        }
        Ok(Arc::clone(session.insert(Arc::new(client))))
    }

    /// The account's key, and its URL if it is registered. A new key is stored before anybody hears of it.
    async fn account(&self) -> Result<(AccountKey, Option<String>), Failure> {
        if let Some(account) = self.vault.stored(&self.name).account {
            match account.key() {
                Ok(key) => {
                    let url = account.url(&self.config.ca_server);
                    return Ok((key, url.map(str::to_owned)));
                }
                Err(wrong) => {
                    warn!(
                        resolver = self.name,
                        error = wrong,
                        "the stored account's key cannot be used: there will be a new account"
                    );
                }
            }
        }
        let key = tokio::task::spawn_blocking(AccountKey::generate).await;
        let key = key.map_err(|error| Failure::Own(error.to_string()))?;
        let key = key.map_err(Failure::Own)?;
        let account = Account::new(&self.config.email, &key);
        let change = |stored: &mut Stored, _: &mut Memory| stored.account = Some(account);
        self.vault.change(self.key(), change).await;
        Ok((key, None))
    }

    /// Remembers an order that the authority knows.
    pub(super) async fn keep_order(&self, names: &[String], order: OpenOrder) {
        let change = |_: &mut Stored, memory: &mut Memory| {
            memory.orders.insert(key_of(names), order);
        };
        self.vault.change(self.key(), change).await;
    }

    /// Forgets an order that leads nowhere.
    pub(super) async fn drop_order(&self, names: &[String]) {
        let change = |_: &mut Stored, memory: &mut Memory| {
            memory.orders.remove(&key_of(names));
        };
        self.vault.change(self.key(), change).await;
    }

    /// The solvers that may be used, the one to try first in front: with several, every other attempt begins with another one.
    pub(super) fn solvers_for(&self, names: &[String]) -> Vec<Arc<Solver>> {
        self.solvers_after(names, &self.memory())
    }

    fn solvers_after(&self, names: &[String], memory: &Memory) -> Vec<Arc<Solver>> {
        let wildcard = names.iter().any(|name| name.starts_with("*."));
        let fit = |solver: &&Arc<Solver>| !wildcard || solver.proves_wildcards();
        let mut solvers: Vec<_> = self.solvers.iter().filter(fit).cloned().collect();
        let attempts = memory.attempts.get(&key_of(names));
        let failures = attempts.map_or(0, |attempts| attempts.failures as usize);
        if let Some(first) = failures.checked_rem(solvers.len()) {
            solvers.rotate_left(first);
        }
        solvers
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn config(&self) -> &AcmeResolver {
        &self.config
    }

    /// What is remembered.
    pub(super) fn memory(&self) -> Memory {
        self.vault.memory(&self.name, &self.config.ca_server)
    }

    /// What is stored.
    pub(super) fn stored(&self) -> Stored {
        self.vault.stored(&self.name)
    }

    fn unserved(&self) -> MutexGuard<'_, Unserved> {
        let unserved = self.unserved.lock();
        unserved.unwrap_or_else(PoisonError::into_inner)
    }

    fn away(&self) -> MutexGuard<'_, Away> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self) -> (&str, &str) {
        (&self.name, &self.config.ca_server)
    }
}

/// Orders under way.
#[derive(Default)]
struct Orders {
    tasks: JoinSet<()>,
    names: HashMap<Id, Vec<String>>,
    /// The task that asks for advice, among the others.
    asking: Option<AbortHandle>,
    /// Sets that wait for a limit, and until when, so that it is told once.
    held: HashMap<String, i64>,
}

impl Orders {
    fn are_for(&self, names: &[String]) -> bool {
        let key = key_of(names);
        self.names.values().any(|names| key_of(names) == key)
    }

    fn start(&mut self, resolver: Arc<Resolver>, need: Need) {
        let names = need.names.clone();
        let task = self.tasks.spawn(resolver.order(need));
        self.names.insert(task.id(), names);
    }

    /// Waits until one has ended; the names if it was by a panic.
    async fn ended(&mut self) -> Option<Vec<String>> {
        match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => {
                self.names.remove(&id);
                None
            }
            Err(panic) => self.names.remove(&panic.id()),
        }
    }

    fn hold(&mut self, resolver: &str, need: &Need, wait: &super::limits::Wait) {
        let told = self.held.insert(key_of(&need.names), wait.until);
        if told != Some(wait.until) {
            let seconds = wait.until - now();
            warn!(resolver, names = ?need.names, limit = wait.limit, again_in = seconds, "the authority would refuse the order: it waits");
        }
    }
}

/// How long to sleep: the pause until orders may begin, if there is one.
fn longer(pause: Duration) -> Duration {
    if pause.is_zero() {
        LONGEST_SLEEP
    } else {
        pause
    }
}

/// Orders of one resolver at a time.
const MOST_ORDERS: usize = 4;
/// How often to look without a reason.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How long an authority that cannot be reached is left alone at most, in seconds.
const LONGEST_PATIENCE: i64 = 300;
/// How soon advice is asked for again at the earliest, in seconds: what failed is remembered by then.
const SHORTEST_ASK: i64 = 30;
/// How long a certificate that an authority has no name for is left alone.
const NEVER: Duration = Duration::from_secs(24 * 3600);
