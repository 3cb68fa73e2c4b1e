//! Active health checks: one loop per server, on the control thread. Without a check, a server that joins others is reached once.

mod arrival;
mod grpc;
mod http;
mod line;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::service::{CheckMode, HealthChange, HealthCheck, Readiness, Room, Server, Service};

/// Carries out the health checks of a snapshot's services. Dropping it stops them.
pub struct Checker {
    running: HashMap<u64, Running>,
    tasks: JoinSet<()>,
    listener: Listener,
    everywhere: Arc<Semaphore>,
}

/// Told of every change of a server's health that a probe brought about: service, server, change.
pub type Listener = Arc<dyn Fn(&str, &Server, &HealthChange) + Send + Sync>;

/// The loop of one server; ends when dropped.
#[derive(Debug)]
struct Running {
    /// None: the first connect of a server that nobody checks.
    check: Option<Arc<HealthCheck>>,
    task: AbortHandle,
}

/// Probes under way at a time: of one service, and of all.
const PER_SERVICE: usize = 16;
const EVERYWHERE: usize = 256;

impl Checker {
    /// A checker that checks nothing yet.
    pub fn new(listener: impl Fn(&str, &Server, &HealthChange) + Send + Sync + 'static) -> Self {
        Self {
            running: HashMap::new(),
            tasks: JoinSet::new(),
            listener: Arc::new(listener),
            everywhere: Arc::new(Semaphore::new(EVERYWHERE)),
        }
    }

    /// Checks the servers of these services from now on, and no others. A server already checked in the same way goes on undisturbed.
    pub fn reconcile<'a>(&mut self, services: impl IntoIterator<Item = &'a Arc<Service>>) {
        let mut before = std::mem::take(&mut self.running);
        for service in services {
            let Some(check) = &service.health_check else {
                self.await_arrivals(service, &mut before);
                continue;
            };
            let per_service = Arc::new(Semaphore::new(PER_SERVICE));
            for server in &service.servers {
                if self.running.contains_key(&server.serial()) {
                    continue;
                }
                let running = match before.remove(&server.serial()) {
                    Some(running) if running.check.as_ref() == Some(check) => running,
                    _ => self.start(Patient {
                        service: Arc::clone(&service.name),
                        room: Arc::clone(&service.room),
                        server: Arc::clone(server),
                        check: Arc::clone(check),
                        listener: Arc::clone(&self.listener),
                        permits: [Arc::clone(&per_service), Arc::clone(&self.everywhere)],
                    }),
                };
                self.running.insert(server.serial(), running);
            }
        }
        drop(before);
        while self.tasks.try_join_next().is_some() {}
    }

    /// How many servers are checked.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether nothing is checked.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    fn start(&mut self, patient: Patient) -> Running {
        Running {
            check: Some(Arc::clone(&patient.check)),
            task: self.tasks.spawn(patient.watch()),
        }
    }

    /// Servers of a service without a check that were not reached yet.
    fn await_arrivals(&mut self, service: &Service, before: &mut HashMap<u64, Running>) {
        let new = |server: &&Arc<Server>| server.health.awaits_first_connect();
        for server in service.servers.iter().filter(new) {
            let known = before.remove(&server.serial());
            let running = known.filter(|running| running.check.is_none());
            let arrival = || arrival::reach(Arc::clone(server), Arc::clone(&service.room));
            let running = running.unwrap_or_else(|| Running {
                check: None,
                task: self.tasks.spawn(arrival()),
            });
            self.running.insert(server.serial(), running);
        }
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server under observation.
struct Patient {
    service: Arc<str>,
    /// Where its requests wait while no server is usable.
    room: Arc<Room>,
    server: Arc<Server>,
    check: Arc<HealthCheck>,
    listener: Listener,
    permits: [Arc<Semaphore>; 2],
}

/// A server that has not answered well yet is asked this often...
const WARM_UP_PAUSE: Duration = Duration::from_millis(250);
/// ... for this long.
const WARM_UP: Duration = Duration::from_secs(30);

impl Patient {
    async fn watch(self) {
        let mut rhythm = Rhythm {
            started: Instant::now(),
            known: !self.server.health.awaits_first_probe(),
        };
        if rhythm.known {
            // Somewhere within the interval, so that a reload does not bring all probes together.
            let share = fastrand::f64();
            self.idle(|readiness| interval(&self.check, readiness).mul_f64(share))
                .await;
        }
        loop {
            rhythm.known |= self.examine().await;
            self.rest(&rhythm).await;
        }
    }

    /// One probe; true if it succeeded.
    async fn examine(&self) -> bool {
        // Nobody closes these semaphores.
        let (Ok(_of_service), Ok(_of_all)) = (
            self.permits[0].acquire().await,
            self.permits[1].acquire().await,
        ) else {
            return false;
        };
        if self.server.is_leaving() {
            // What a server that is about to go answers is no news.
            return false;
        }
        let was_ready = self.readiness() == Readiness::Ready;
        let result = probe(&self.server, &self.check).await;
        let now = now();
        let thresholds = self.check.thresholds;
        let health = &self.server.health;
        let change = match &result {
            Ok(()) => health.probe_succeeded(thresholds, now),
            Err(reason) => health.probe_failed(reason, thresholds, now),
        };
        if let Some(change) = change {
            (self.listener)(&self.service, &self.server, &change);
        }
        if !was_ready && self.readiness() == Readiness::Ready {
            self.room.prove();
            self.room.wake();
        }
        result.is_ok()
    }

    /// Until the next probe is due.
    async fn rest(&self, rhythm: &Rhythm) {
        let jitter = i32::from(self.check.jitter.min(100));
        let percent = fastrand::i32(-jitter..=jitter);
        self.idle(|readiness| rhythm.pause(&self.check, readiness, percent))
            .await;
    }

    /// Waits for as long as `pause` says for the server as it is: one that is taken down meanwhile by failed requests is asked as one
    /// that is down, and one that requests wait for as one that is new.
    async fn idle(&self, pause: impl Fn(Readiness) -> Duration) {
        let rested = Instant::now();
        let mut wanted = self.room.occupied();
        loop {
            let readiness = self.readiness();
            let mut pause = pause(readiness);
            if readiness != Readiness::Ready && self.room.waiting() > 0 {
                pause = pause.min(WARM_UP_PAUSE);
            }
            let left = pause.saturating_sub(rested.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left.min(self.check.unhealthy_interval.max(WARM_UP_PAUSE))) => {}
                // We hold the room, so that it does not go away.
                _ = wanted.changed() => {}
            }
        }
    }

    fn readiness(&self) -> Readiness {
        self.server.health.readiness_at(now())
    }
}

/// When to ask.
#[derive(Debug)]
struct Rhythm {
    started: Instant,
    /// Whether a probe ever succeeded, or the server was known before.
    known: bool,
}

impl Rhythm {
    /// The pause before the next probe, lengthened by `percent` (shortened if negative).
    fn pause(&self, check: &HealthCheck, readiness: Readiness, percent: i32) -> Duration {
        let interval = interval(check, readiness);
        if !self.known && self.started.elapsed() < WARM_UP {
            return interval.min(WARM_UP_PAUSE);
        }
        interval.mul_f64(f64::from(100 + percent) / 100.0)
    }
}

fn interval(check: &HealthCheck, readiness: Readiness) -> Duration {
    match readiness {
        Readiness::Ready => check.interval,
        Readiness::Waiting | Readiness::Down => check.unhealthy_interval,
    }
}

/// One probe: healthy, or why not.
async fn probe(server: &Server, check: &HealthCheck) -> Result<(), String> {
    let examination = async {
        match check.mode {
            CheckMode::Http => http::check(server, check).await,
            CheckMode::Grpc => grpc::check(server, check).await,
        }
    };
    match timeout(check.timeout, examination).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {:?}", check.timeout)),
    }
}

/// Tokio's clock, which tests can stop.
fn now() -> StdInstant {
    Instant::now().into_std()
}
