//! Health of one server: a state machine fed with (event, now), read by the balancer through two atomics.
//!
//! Probes (control thread) go through a mutex nobody else waits for; failures seen by traffic go through a lock-free ring.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Whether the balancer may pick a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Takes traffic.
    Ready,
    /// Not known yet (no probe answered, name not resolved): takes traffic only when no server is ready.
    Waiting,
    /// Takes no traffic.
    Down,
}

/// What is known about a server's health, for the API, metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    pub readiness: Readiness,
    /// Why, in a word of ours: `unchecked`, `not_probed`, `unresolved`, `probe_succeeded`, `probe_failed`, `requests_failed`.
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
    /// [`Probed`] as a number, mirrored from `probes` for the balancer.
    probed: AtomicU8,
    /// 0: not tripped; [`UNTIL_PROBED`]: until a probe succeeds; else the millisecond when a passive trip ends.
    tripped_until: AtomicU64,
    tripped_at: AtomicU64,
    trips: AtomicU32,
    /// Status that tripped, 0 for no answer.
    tripped_by: AtomicU16,
    probes: Mutex<Probes>,
    passive: Option<FailureRing>,
}

/// What the active check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probed {
    /// Nobody checks: taken as up.
    Unchecked,
    /// The first probe has not succeeded yet.
    Waiting,
    Up,
    Down,
}

/// The active side: what the probes said so far.
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
}

const UNTIL_PROBED: u64 = u64::MAX;

impl Health {
    /// A server that counts as up until something says otherwise.
    pub fn new(now: Instant, passive: Option<PassiveSettings>) -> Self {
        Self {
            epoch: now,
            probed: AtomicU8::new(Probed::Unchecked as u8),
            tripped_until: AtomicU64::new(0),
            tripped_at: AtomicU64::new(0),
            trips: AtomicU32::new(0),
            tripped_by: AtomicU16::new(0),
            probes: Mutex::new(Probes {
                state: Probed::Unchecked,
                successes: 0,
                failures: 0,
                trips_seen: 0,
                reason: String::new(),
                since: now,
            }),
            passive: passive.map(FailureRing::new),
        }
    }

    /// The same health for a successor object of the same server, with other passive settings.
    pub fn successor(&self, passive: Option<PassiveSettings>) -> Self {
        let probes = self.probes().clone();
        Self {
            epoch: self.epoch,
            probed: AtomicU8::new(probes.state as u8),
            tripped_until: AtomicU64::new(match passive {
                Some(_) => self.tripped_until.load(Relaxed),
                None => 0,
            }),
            tripped_at: AtomicU64::new(self.tripped_at.load(Relaxed)),
            trips: AtomicU32::new(self.trips.load(Relaxed)),
            tripped_by: AtomicU16::new(self.tripped_by.load(Relaxed)),
            probes: Mutex::new(probes),
            passive: passive.map(FailureRing::new),
        }
    }

    /// Whether the balancer may pick the server. Two atomic loads unless passive failures tripped.
    pub fn readiness(&self) -> Readiness {
        if self.tripped_until.load(Relaxed) != 0 && self.tripped(Instant::now()) {
            return Readiness::Down;
        }
        self.probed_readiness()
    }

    /// [`Health::readiness`] at a given time.
    pub fn readiness_at(&self, now: Instant) -> Readiness {
        if self.tripped(now) {
            return Readiness::Down;
        }
        self.probed_readiness()
    }

    /// State, reason and since when.
    pub fn report(&self, now: Instant) -> HealthReport {
        let probes = self.probes();
        let checked = probes.state != Probed::Unchecked;
        if probes.state != Probed::Down && self.tripped(now) {
            return HealthReport {
                readiness: Readiness::Down,
                cause: "requests_failed",
                checked,
                reason: self.trip_reason(),
                since: self.time(self.tripped_at.load(Relaxed)),
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
        if probes.state == Probed::Unchecked {
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
        if probes.state != Probed::Unchecked {
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
        self.probed.load(Relaxed) == Probed::Waiting as u8
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
        let first = matches!(probes.state, Probed::Waiting | Probed::Unchecked);
        if !first && probes.successes < thresholds.rise {
            return None;
        }
        let was_tripped = self.tripped_until.swap(0, Relaxed) != 0;
        let was = probes.state;
        if was == Probed::Up && !was_tripped {
            return None;
        }
        self.enter(&mut probes, Probed::Up, "probe succeeded".into(), now);
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
        let until = match self.probed.load(Relaxed) {
            // An active check owns recovery.
            probed if probed != Probed::Unchecked as u8 => UNTIL_PROBED,
            _ => now.saturating_add(ring.window),
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

    fn probed_readiness(&self) -> Readiness {
        Probed::from_number(self.probed.load(Relaxed)).readiness()
    }

    fn enter(&self, probes: &mut Probes, state: Probed, reason: String, now: Instant) {
        probes.state = state;
        probes.reason = reason;
        probes.since = now;
        self.probed.store(state as u8, Relaxed);
    }

    fn trip_reason(&self) -> String {
        let attempts = self.passive.as_ref().map_or(0, |ring| ring.slots.len());
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

impl Probed {
    fn from_number(number: u8) -> Self {
        [Self::Unchecked, Self::Waiting, Self::Up]
            .into_iter()
            .find(|state| *state as u8 == number)
            .unwrap_or(Self::Down)
    }

    fn cause(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Waiting => "not_probed",
            Self::Up => "probe_succeeded",
            Self::Down => "probe_failed",
        }
    }

    fn readiness(self) -> Readiness {
        match self {
            Self::Unchecked | Self::Up => Readiness::Ready,
            Self::Waiting => Readiness::Waiting,
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

/// The times of the last N failures, without a lock. A race between two failures can at worst delay a trip by one failure.
#[derive(Debug)]
struct FailureRing {
    window: u64,
    /// Milliseconds, 0 for empty.
    slots: Box<[AtomicU64]>,
    next: AtomicU32,
    used: AtomicBool,
}

impl FailureRing {
    fn new(settings: PassiveSettings) -> Self {
        let length = settings
            .max_failed_attempts
            .clamp(1, PassiveSettings::MAX_ATTEMPTS);
        Self {
            window: u64::try_from(settings.failure_window.as_millis()).unwrap_or(u64::MAX),
            slots: (0..length).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicU32::new(0),
            used: AtomicBool::new(false),
        }
    }

    /// Notes a failure; true if the window now holds as many failures as there are slots.
    fn record(&self, now: u64) -> bool {
        let index = self.next.fetch_add(1, Relaxed) as usize;
        let length = self.slots.len();
        self.slots[index % length].store(now, Relaxed);
        self.used.store(true, Relaxed);
        let oldest = self.slots[(index + 1) % length].load(Relaxed);
        oldest != 0 && now.saturating_sub(oldest) < self.window
    }

    fn clear(&self) {
        if self.used.load(Relaxed) {
            self.used.store(false, Relaxed);
            for slot in &self.slots {
                slot.store(0, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
