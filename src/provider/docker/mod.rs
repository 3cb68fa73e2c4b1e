//! The providers `docker` and `swarm`: containers, or services of a swarm, whose labels are routing configuration.
//!
//! They list and inspect what there is, then follow the engine's events. When the engine is away, what is known goes on serving.

mod address;
mod cache;
mod container;
mod contribution;
mod endpoint;
mod engine;
mod link;
mod merge;
mod own;
mod rehearsal;
mod roster;
mod settings;
mod swarm;
mod transport;

use std::{
    future::{Future, pending},
    io,
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{Provider, Running, Updates};
use crate::config::{Diagnostic, Place, install};

pub use rehearsal::{Rehearsal, Sketch, rehearse};

use address::Surroundings;
use cache::Kept;
use endpoint::Endpoint;
use engine::{Engine, Failure, Seen, Subject};
use link::{Link, News};
use roster::{Roster, Urgency, Wants};
use settings::Settings;

/// Reads routing configuration from the labels of containers or of a swarm's services.
#[derive(Debug)]
pub struct DockerProvider {
    name: &'static str,
    options: install::DockerProvider,
    endpoint: Endpoint,
    settings: Settings,
}

impl DockerProvider {
    /// A provider as configured, or what is wrong with the options. Does not look for the engine.
    pub fn new(options: &install::DockerProvider) -> Result<Self, Diagnostic> {
        Self::named(DOCKER, options.clone())
    }

    /// A provider of the services of a swarm.
    pub fn of_swarm(options: &install::SwarmProvider) -> Result<Self, Diagnostic> {
        Self::named(SWARM, options.clone().into())
    }

    fn named(name: &'static str, options: install::DockerProvider) -> Result<Self, Diagnostic> {
        let wrong = |option: &str, message: String| {
            Diagnostic::error(
                Place::Builtin,
                format!("providers.{name}.{option}"),
                message,
            )
        };
        let env = |name: &str| std::env::var(name).ok();
        Ok(Self {
            name,
            endpoint: Endpoint::new(&options, &env)
                .map_err(|message| wrong("endpoint", message))?,
            settings: Settings::new(&options)
                .map_err(|(option, message)| wrong(option, message))?,
            options,
        })
    }

    async fn work(self, updates: Updates) {
        let around = Surroundings {
            networks: Default::default(),
            host: own::host().await,
        };
        let own = own::container().await;
        let subject = match self.name {
            SWARM => Subject::Swarm { own: own.clone() },
            _ => Subject::Containers,
        };
        let (engine, lines) = Engine::new(self.endpoint, &self.options, subject);
        let roster = Roster::new(self.settings, around, own);
        let follower = Follower {
            name: self.name,
            phase: Phase::connecting(&engine, &self.options),
            engine,
            options: self.options,
            roster,
            complete: false,
            follows: false,
            patience: None,
            due: None,
            tries: 0,
            stale: None,
            save_at: None,
            saving: None,
            updates,
        };
        tokio::select! {
            () = follower.run() => {}
            () = lines.run() => {}
        }
    }
}

impl Provider for DockerProvider {
    fn name(&self) -> &str {
        self.name
    }

    fn run(self: Box<Self>, updates: Updates) -> Running {
        Box::pin(self.work(updates))
    }
}

/// Follows the engine and tells control.
struct Follower {
    name: &'static str,
    engine: Engine,
    options: install::DockerProvider,
    phase: Phase,
    roster: Roster,
    /// Whether there has been a complete view.
    complete: bool,
    /// Whether the engine answers.
    follows: bool,
    /// Until when a complete view is waited for.
    patience: Option<Instant>,
    /// When to tell what has changed.
    due: Option<Instant>,
    /// Connections that failed since the last good one.
    tries: u32,
    /// Why what is served is not what the engine told.
    stale: Option<Diagnostic>,
    /// When to write the cache.
    save_at: Option<Instant>,
    saving: Saving,
    updates: Updates,
}

/// How things are with the engine.
enum Phase {
    Connecting(Pin<Box<dyn Future<Output = Result<Link, Failure>> + Send>>),
    Connected(Box<Link>),
    Waiting(Instant),
}

/// What has come of a phase.
enum Outcome {
    Connected(Box<Link>),
    Failed(Failure),
    News(News),
    /// It is time to try again.
    Again,
}

impl Follower {
    /// Works until control has ended.
    async fn run(mut self) {
        loop {
            tokio::select! {
                outcome = self.phase.next() => self.take(outcome).await,
                () = at(self.roster.next()) => {}
                () = at(self.patience) => {}
                () = at(self.due) => {}
                () = at(self.save_at), if self.saving.is_none() => self.save(),
                saved = saved(&mut self.saving) => self.has_saved(saved),
            }
            let now = Instant::now();
            let wants = self.roster.pass(now);
            self.want(wants);
            if self.patience.is_some_and(|until| until <= now) {
                self.roster.lose_patience();
                self.is_complete(true, now);
            }
            self.plan(now);
            if self.due.is_some_and(|due| due <= now) && !self.tell().await {
                return;
            }
        }
    }

    async fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Connected(link) => self.phase = Phase::Connected(link),
            Outcome::Failed(failure) => {
                if !self.complete && self.tries == 0 {
                    self.restore(&failure).await;
                }
                self.lost(&failure);
            }
            Outcome::News(news) => self.hear(news),
            Outcome::Again => self.phase = Phase::connecting(&self.engine, &self.options),
        }
    }

    fn hear(&mut self, news: News) {
        let now = Instant::now();
        let wants = match news {
            News::Event(event) if self.engine.is_of_swarm() => {
                self.roster.happened_to_task(event, now);
                Wants::default()
            }
            News::Event(event) => self.roster.happened(event, now),
            News::Listed(seen) => self.see(seen, now),
            News::Inspected(id, outcome) => {
                let outcome = outcome.map_err(|failure| failure.to_string());
                let wants = self.roster.inspected(&id, outcome, now);
                self.is_complete(self.roster.is_settled(), now);
                wants
            }
            News::Lost(failure) => {
                self.patience = None;
                self.roster.abandon(now);
                return self.lost(&failure);
            }
        };
        self.want(wants);
    }

    fn see(&mut self, seen: Seen, now: Instant) -> Wants {
        self.tries = 0;
        self.updates.source().synced();
        if !std::mem::replace(&mut self.follows, true) {
            let endpoint = &self.options.endpoint;
            info!(%endpoint, provider = self.name, "following the Docker engine");
        }
        match seen {
            Seen::Containers(list) => {
                let wants = self.roster.listed(list);
                self.is_complete(self.roster.is_settled(), now);
                if !self.complete || self.stale.is_some() {
                    self.patience.get_or_insert(now + SETTLING);
                }
                wants
            }
            Seen::Swarm(view) => {
                self.roster.surveyed(view, now);
                self.is_complete(true, now);
                Wants::default()
            }
        }
    }

    /// Notes that there is a complete view, if so.
    fn is_complete(&mut self, complete: bool, now: Instant) {
        if complete && (!self.complete || self.stale.is_some()) {
            self.complete = true;
            self.stale = None;
            self.patience = None;
            self.due = Some(now);
        }
    }

    fn want(&mut self, wants: Wants) {
        if let Phase::Connected(link) = &mut self.phase {
            link.want(wants);
        }
    }

    fn lost(&mut self, failure: &Failure) {
        self.follows = false;
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.tries.min(10))
            .min(LONGEST_PAUSE);
        if self.tries == 0 {
            warn!(
                endpoint = %self.options.endpoint,
                provider = self.name,
                error = %failure,
                "the Docker engine is away; what is known of it goes on serving"
            );
        }
        self.updates.source().lost(failure.to_string());
        self.tries = self.tries.saturating_add(1);
        let jitter = pause.mul_f64(fastrand::f64() / 4.0);
        self.phase = Phase::Waiting(Instant::now() + pause - jitter);
    }

    /// Decides when to tell what has changed.
    fn plan(&mut self, now: Instant) {
        // Half a view would look as if the other half had gone.
        if !self.complete {
            return;
        }
        let due = match self.roster.take_change() {
            Some(Urgency::Now) => now,
            Some(Urgency::Soon) => now + MORE_MAY_FOLLOW,
            None => return,
        };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    async fn tell(&mut self) -> bool {
        self.due = None;
        let mut routing = self.roster.routing();
        routing.diagnostics.extend(self.stale.clone());
        if self.stale.is_none() && !self.options.cache.is_empty() {
            self.save_at
                .get_or_insert_with(|| Instant::now() + SAVE_PAUSE);
        }
        self.updates.send(routing).await
    }

    /// Serves what was known when Portway last ran.
    async fn restore(&mut self, failure: &Failure) {
        if self.options.cache.is_empty() {
            return;
        }
        let path = PathBuf::from(&self.options.cache);
        let reading = tokio::task::spawn_blocking(move || Kept::read(&path)).await;
        match reading.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(None) => {}
            Ok(Some(kept)) => {
                let message = format!(
                    "the engine is away ({failure}): its {} are served as they were on {}",
                    match self.engine.is_of_swarm() {
                        true => "services",
                        false => "containers",
                    },
                    kept.written
                );
                let path = format!("providers.{}", self.name);
                self.stale = Some(Diagnostic::warning(Place::Builtin, path, message));
                self.roster.restore(kept.containers);
                self.complete = true;
                self.due = Some(Instant::now());
            }
            Err(error) => warn!(path = %self.options.cache, %error, "the cache cannot be read"),
        }
    }

    fn save(&mut self) {
        self.save_at = None;
        let kept = Kept::new(self.roster.containers());
        let path = PathBuf::from(&self.options.cache);
        self.saving = Some(Box::pin(async move {
            let writing = tokio::task::spawn_blocking(move || kept.write(&path)).await;
            writing.unwrap_or_else(|panic| Err(io::Error::other(panic)))
        }));
    }

    fn has_saved(&mut self, saved: io::Result<()>) {
        self.saving = None;
        if let Err(error) = saved {
            warn!(path = %self.options.cache, %error, "the cache cannot be written");
        }
    }
}

impl Phase {
    fn connecting(engine: &Engine, options: &install::DockerProvider) -> Self {
        let every = options.reconcile_interval.positive();
        let every = every.unwrap_or(RECONCILE).max(SHORTEST_RECONCILE);
        Self::Connecting(Box::pin(Link::open(engine.clone(), options.watch, every)))
    }

    /// Waits for something to come of it. Dropping the future loses nothing.
    async fn next(&mut self) -> Outcome {
        match self {
            Self::Connecting(connecting) => match connecting.await {
                Ok(link) => Outcome::Connected(Box::new(link)),
                Err(failure) => Outcome::Failed(failure),
            },
            Self::Connected(link) => Outcome::News(link.next().await),
            Self::Waiting(until) => {
                sleep_until(*until).await;
                Outcome::Again
            }
        }
    }
}

type Saving = Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>;

async fn saved(saving: &mut Saving) -> io::Result<()> {
    match saving {
        Some(saving) => saving.await,
        None => pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// What objects are qualified with.
const DOCKER: &str = "docker";
const SWARM: &str = "swarm";
/// Additions come in groups: a stack that starts, replicas that follow each other.
const MORE_MAY_FOLLOW: Duration = Duration::from_millis(20);
/// How long containers that the engine tells nothing of may keep those that it tells of waiting.
const SETTLING: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long the cache may lag behind.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
const RECONCILE: Duration = Duration::from_secs(30);
const SHORTEST_RECONCILE: Duration = Duration::from_secs(1);
