//! Health of one server: a state machine fed with (event, now), read by the balancer through two atomics.
//!
//! Probes (control thread) go through a mutex nobody else waits for; failures seen by traffic go through a lock-free ring.

mod outlier;
mod ring;

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub use self::outlier::OutlierSettings;
use self::{
    outlier::{Offence, Outlier, told},
    ring::FailureRing,
};
use super::condition::{self, Condition};

/// Whether the balancer may pick a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Takes traffic.
    Ready,
    /// Not known yet (no probe or connect answered, name not resolved): takes traffic only when no server is ready.
    Waiting,
    /// Takes no traffic.
    Down,
}

/// What is known about a server's health, for the API, metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    pub readiness: Readiness,
    /// Why, in a word of ours: `unchecked`, `not_probed`, `not_reached`, `unresolved`, `probe_succeeded`, `probe_failed`,
    /// `requests_failed`, `ejected`, or that of a [`Condition`].
    pub cause: &'static str,
    /// Why, for people; empty for a server nobody checks.
    pub reason: String,
    /// Whether an active check watches the server.
    pub checked: bool,
    /// When the server entered this state.
    pub since: Instant,
}

impl HealthReport {
    /// Whether the server counts as up, as Traefik's `serverStatus` puts it: everything that is not known to be down.
    pub fn up(&self) -> bool {
        self.readiness != Readiness::Down
    }
}

/// A server went up or down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChange {
    pub up: bool,
    pub reason: String,
}

impl HealthChange {
    /// Tells the log.
    pub fn log(&self, service: &str, server: &str) {
        let reason = &self.reason;
        match self.up {
            true => tracing::info!(service, server, reason, "the server is up"),
            false => tracing::warn!(service, server, reason, "the server is down"),
        }
    }
}

/// How many probes in a row it takes to change a server's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes until a server that is down counts as up.
    pub rise: u32,
    /// Failures until a server that is up counts as down.
    pub fall: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { rise: 1, fall: 1 }
    }
}

/// `passiveHealthCheck`: how many failed requests within which window take a server down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassiveSettings {
    pub failure_window: Duration,
    /// At least 1, at most [`PassiveSettings::MAX_ATTEMPTS`] are remembered.
    pub max_failed_attempts: usize,
}

impl PassiveSettings {
    /// More remembered failures than this would only cost memory.
    pub const MAX_ATTEMPTS: usize = 4096;
}

/// A request's failure, as far as passive health cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server answered with this status (500 or more).
    Status(u16),
    /// The server was not reached, or gave no answer.
    NoAnswer,
}

/// Health of one server.
pub struct Health {
    /// Times are milliseconds since this moment.
    epoch: Instant,
    /// [`Probed`] as a number with the bits of the [`Condition`], mirrored from `probes` for the balancer.
    state: AtomicU8,
    /// When the server last became ready, for whoever goes slowly with it.
    ready_since: AtomicU64,
    /// 0: not tripped; [`UNTIL_PROBED`]: until a probe succeeds; else the millisecond when a passive trip ends.
    tripped_until: AtomicU64,
    tripped_at: AtomicU64,
    trips: AtomicU32,
    /// Status that tripped, 0 for no answer.
    tripped_by: AtomicU16,
    outlier: Outlier,
    probes: Mutex<Probes>,
    passive: Option<FailureRing>,
}

/// What the active check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probed {
    /// Nobody checks: taken as up.
    Unchecked = 0,
    /// The first probe has not succeeded yet.
    Waiting = 1,
    Up = 2,
    /// Nobody checks, and it came to others that serve: its first connect decides.
    New = 3,
    Down = 4,
}

/// The active side: what the probes and the provider said so far.
#[derive(Debug, Clone)]
struct Probes {
    state: Probed,
    /// Equal answers in a row.
    successes: u32,
    failures: u32,
    /// Passive trips seen by the last probe: a trip makes the count of successes start anew.
    trips_seen: u32,
    reason: String,
    since: Instant,
    condition: Condition,
    /// When it got into its condition.
    condition_since: Instant,
}

const UNTIL_PROBED: u64 = u64::MAX;

impl Health {
    /// A server that counts as up until something says otherwise.
    pub fn new(now: Instant, passive: Option<PassiveSettings>) -> Self {
        Self {
            epoch: now,
            state: AtomicU8::new(Probed::Unchecked as u8),
            ready_since: AtomicU64::new(1),
            tripped_until: AtomicU64::new(0),
            tripped_at: AtomicU64::new(0),
            trips: AtomicU32::new(0),
            tripped_by: AtomicU16::new(0),
            outlier: Outlier::default(),
            probes: Mutex::new(Probes {
                state: Probed::Unchecked,
                successes: 0,
                failures: 0,
                trips_seen: 0,
                reason: String::new(),
                since: now,
                condition: Condition::Ready,
                condition_since: now,
            }),
            passive: passive.map(FailureRing::new),
        }
    }

    /// The same health for a successor object of the same server, with other passive settings.
    pub fn successor(&self, passive: Option<PassiveSettings>) -> Self {
        let probes = self.probes().clone();
        Self {
            epoch: self.epoch,
            state: AtomicU8::new(probes.bits()),
            ready_since: AtomicU64::new(self.ready_since.load(Relaxed)),
            tripped_until: AtomicU64::new(match passive {
                Some(_) => self.tripped_until.load(Relaxed),
                None => 0,
            }),
            tripped_at: AtomicU64::new(self.tripped_at.load(Relaxed)),
            trips: AtomicU32::new(self.trips.load(Relaxed)),
            tripped_by: AtomicU16::new(self.tripped_by.load(Relaxed)),
            outlier: self.outlier.successor(),
            probes: Mutex::new(probes),
            passive: passive.map(FailureRing::new),
        }
    }

    /// A server that joins others: it takes their traffic once it was reached.
    pub fn newcomer(now: Instant, passive: Option<PassiveSettings>) -> Self {
        let health = Self::new(now, passive);
        let reason = "no connection was made yet".to_owned();
        health.enter(&mut health.probes(), Probed::New, reason, now);
        health
    }

    /// Whether the balancer may pick the server. Three atomic loads unless requests failed before.
    pub fn readiness(&self) -> Readiness {
        if self.tripped_until.load(Relaxed) != 0 || !self.outlier.is_spotless() {
            return self.readiness_at(Instant::now());
        }
        readiness_of(self.state.load(Relaxed))
    }

    /// [`Health::readiness`] at a given time.
    pub fn readiness_at(&self, now: Instant) -> Readiness {
        if self.tripped(now) || self.is_ejected(now) {
            return Readiness::Down;
        }
        readiness_of(self.state.load(Relaxed))
    }

    /// Whether its provider says that it leaves. One load.
    pub fn is_leaving(&self) -> bool {
        self.state.load(Relaxed) & !condition::BELOW == condition::LEAVING
    }

    /// Whether its provider has nothing against it. One load.
    pub fn is_welcome(&self) -> bool {
        self.state.load(Relaxed) & !condition::BELOW == 0
    }

    /// Whether it is left out because it stood out by failing.
    pub fn is_ejected(&self, now: Instant) -> bool {
        !self.outlier.is_spotless() && self.outlier.is_ejected(self.millis(now))
    }

    /// Notes what a request came to; why the server stands out, if it does.
    pub(super) fn note(
        &self,
        settings: &OutlierSettings,
        failure: Option<Failure>,
        now: Instant,
    ) -> Option<Offence> {
        self.outlier.note(settings, failure, self.millis(now))
    }

    /// Leaves it out for a while, unless it is already.
    pub(super) fn eject(
        &self,
        settings: &OutlierSettings,
        offence: Offence,
        now: Instant,
    ) -> Option<HealthChange> {
        let time = self.outlier.eject(settings, offence, self.millis(now))?;
        Some(HealthChange {
            up: false,
            reason: told(offence, time),
        })
    }

    /// Nobody looks for outliers any more.
    pub(super) fn pardon(&self) {
        self.outlier.pardon();
    }

    /// What its provider says of it.
    pub fn condition(&self) -> Condition {
        self.probes().condition.clone()
    }

    /// Its provider says something else; what it said before, if that differs.
    pub fn set_condition(&self, condition: &Condition, now: Instant) -> Option<Condition> {
        let mut probes = self.probes();
        if probes.condition == *condition {
            return None;
        }
        if probes.condition.bits() != condition.bits() {
            probes.condition_since = now;
        }
        let before = std::mem::replace(&mut probes.condition, condition.clone());
        self.publish(&probes, now);
        Some(before)
    }

    /// How long it has been ready without a break; meaningful while it is ready.
    pub fn ready_for(&self, now: Instant) -> Duration {
        let recovered = match self.tripped_until.load(Relaxed) {
            UNTIL_PROBED => 0,
            until => until,
        };
        let since = self.ready_since.load(Relaxed).max(recovered);
        Duration::from_millis(self.millis(now).saturating_sub(since))
    }

    /// State, reason and since when.
    pub fn report(&self, now: Instant) -> HealthReport {
        let probes = self.probes();
        let checked = probes.state.is_checked();
        if let Some(reason) = probes.condition.reason() {
            return HealthReport {
                readiness: Readiness::Down,
                cause: probes.condition.word(),
                checked,
                reason: reason.to_string(),
                since: probes.condition_since,
            };
        }
        if probes.state != Probed::Down && self.tripped(now) {
            return HealthReport {
                readiness: Readiness::Down,
                cause: "requests_failed",
                checked,
                reason: self.trip_reason(),
                since: self.time(self.tripped_at.load(Relaxed)),
            };
        }
        if probes.state != Probed::Down && self.is_ejected(now) {
            let (since, reason) = self.outlier.verdict();
            return HealthReport {
                readiness: Readiness::Down,
                cause: "ejected",
                checked,
                reason,
                since: self.time(since),
            };
        }
        HealthReport {
            readiness: probes.state.readiness(),
            cause: probes.state.cause(),
            checked,
            reason: probes.reason.clone(),
            since: probes.since,
        }
    }

    /// An active check takes charge. A server that is not known to be up waits for its first successful probe.
    pub fn start_probing(&self, now: Instant) {
        let mut probes = self.probes();
        if !probes.state.is_checked() {
            self.enter(
                &mut probes,
                Probed::Waiting,
                "first probe not answered yet".into(),
                now,
            );
        }
    }

    /// The active check is gone: the server counts as up again, and passive trips end by themselves.
    pub fn stop_probing(&self, now: Instant) {
        let mut probes = self.probes();
        if probes.state.is_checked() {
            probes.successes = 0;
            probes.failures = 0;
            self.enter(&mut probes, Probed::Unchecked, String::new(), now);
        }
        if self.tripped_until.load(Relaxed) == UNTIL_PROBED {
            self.tripped_until.store(0, Relaxed);
        }
    }

    /// Whether probing has begun and no probe has succeeded or taken the server down yet.
    pub fn awaits_first_probe(&self) -> bool {
        self.probed() == Probed::Waiting
    }

    /// Whether its first connect is still to be made, or has failed so far.
    pub fn awaits_first_connect(&self) -> bool {
        self.probed() == Probed::New
    }

    /// The outcome of a connect to a server that [awaits](Self::awaits_first_connect) it.
    pub fn connected(&self, outcome: Result<(), &str>, now: Instant) {
        let mut probes = self.probes();
        if probes.state != Probed::New {
            return;
        }
        match outcome {
            Ok(()) => self.enter(&mut probes, Probed::Unchecked, String::new(), now),
            Err(reason) => reason.clone_into(&mut probes.reason),
        }
    }

    /// A probe succeeded.
    pub fn probe_succeeded(&self, thresholds: Thresholds, now: Instant) -> Option<HealthChange> {
        let mut probes = self.probes();
        let trips = self.trips.load(Relaxed);
        if probes.trips_seen != trips {
            probes.trips_seen = trips;
            probes.successes = 0;
        }
        probes.failures = 0;
        probes.successes = probes.successes.saturating_add(1);
        // A server never seen before needs one success only: `rise` is about coming back.
        let first = !matches!(probes.state, Probed::Up | Probed::Down);
        if !first && probes.successes < thresholds.rise {
            return None;
        }
        let was_tripped = self.tripped_until.swap(0, Relaxed) != 0;
        let was = probes.state;
        if was == Probed::Up && !was_tripped {
            return None;
        }
        self.enter(&mut probes, Probed::Up, "probe succeeded".into(), now);
        if was_tripped {
            self.ready_since.store(self.millis(now), Relaxed);
        }
        (was == Probed::Down || was_tripped).then(|| HealthChange {
            up: true,
            reason: probes.reason.clone(),
        })
    }

    /// A probe failed for `reason`.
    pub fn probe_failed(
        &self,
        reason: &str,
        thresholds: Thresholds,
        now: Instant,
    ) -> Option<HealthChange> {
        let mut probes = self.probes();
        probes.successes = 0;
        probes.failures = probes.failures.saturating_add(1);
        if probes.state == Probed::Down {
            reason.clone_into(&mut probes.reason);
            return None;
        }
        if probes.failures < thresholds.fall {
            return None;
        }
        self.enter(&mut probes, Probed::Down, reason.to_owned(), now);
        Some(HealthChange {
            up: false,
            reason: reason.to_owned(),
        })
    }

    /// A request was answered without fault: the count of failures starts anew.
    pub fn request_succeeded(&self) {
        if let Some(ring) = &self.passive {
            ring.clear();
        }
    }

    /// A request failed. `now` is asked for only if anybody counts.
    pub fn request_failed(
        &self,
        failure: Failure,
        now: impl FnOnce() -> Instant,
    ) -> Option<HealthChange> {
        let ring = self.passive.as_ref()?;
        let now = self.millis(now());
        if !ring.record(now) {
            return None;
        }
        let until = match self.probed().is_checked() {
            // An active check owns recovery.
            true => UNTIL_PROBED,
            false => now.saturating_add(ring.window()),
        };
        let before = self.tripped_until.load(Relaxed);
        if before > now
            || self
                .tripped_until
                .compare_exchange(before, until, Relaxed, Relaxed)
                .is_err()
        {
            return None;
        }
        self.tripped_at.store(now, Relaxed);
        self.tripped_by.store(failure.code(), Relaxed);
        self.trips.fetch_add(1, Relaxed);
        Some(HealthChange {
            up: false,
            reason: self.trip_reason(),
        })
    }

    fn tripped(&self, now: Instant) -> bool {
        let until = self.tripped_until.load(Relaxed);
        until != 0 && self.millis(now) < until
    }

    fn probed(&self) -> Probed {
        Probed::from_number(self.state.load(Relaxed) & condition::BELOW)
    }

    fn enter(&self, probes: &mut Probes, state: Probed, reason: String, now: Instant) {
        probes.state = state;
        probes.reason = reason;
        probes.since = now;
        self.publish(probes, now);
    }

    /// Lets the balancer see what was decided.
    fn publish(&self, probes: &Probes, now: Instant) {
        let before = self.state.swap(probes.bits(), Relaxed);
        let ready = |state| readiness_of(state) == Readiness::Ready;
        if !ready(before) && ready(probes.bits()) {
            self.ready_since.store(self.millis(now), Relaxed);
        }
    }

    fn trip_reason(&self) -> String {
        let attempts = self.passive.as_ref().map_or(0, |ring| ring.attempts());
        match self.tripped_by.load(Relaxed) {
            0 => format!("{attempts} failed request(s), the last without an answer"),
            status => format!("{attempts} failed request(s), the last with status {status}"),
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        // Counted from 1, because 0 means "never".
        let elapsed = now.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(elapsed).map_or(UNTIL_PROBED - 1, |millis| millis.saturating_add(1))
    }

    fn time(&self, millis: u64) -> Instant {
        self.epoch
            .checked_add(Duration::from_millis(millis.saturating_sub(1)))
            .unwrap_or(self.epoch)
    }

    fn probes(&self) -> std::sync::MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("readiness", &self.readiness())
            .field("passive", &self.passive.is_some())
            .finish_non_exhaustive()
    }
}

impl Probes {
    fn bits(&self) -> u8 {
        self.state as u8 | self.condition.bits()
    }
}

/// The verdict of probes and provider, from their bits. Whatever is no number of [`Probed`] has the bits of a condition.
fn readiness_of(state: u8) -> Readiness {
    Probed::from_number(state).readiness()
}

impl Probed {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Unchecked,
            1 => Self::Waiting,
            2 => Self::Up,
            3 => Self::New,
            _ => Self::Down,
        }
    }

    fn is_checked(self) -> bool {
        !matches!(self, Self::Unchecked | Self::New)
    }

    fn cause(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Waiting => "not_probed",
            Self::New => "not_reached",
            Self::Up => "probe_succeeded",
            Self::Down => "probe_failed",
        }
    }

    fn readiness(self) -> Readiness {
        match self {
            Self::Unchecked | Self::Up => Readiness::Ready,
            Self::Waiting | Self::New => Readiness::Waiting,
            Self::Down => Readiness::Down,
        }
    }
}

impl Failure {
    fn code(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::NoAnswer => 0,
        }
    }
}

#[cfg(test)]
mod tests;
