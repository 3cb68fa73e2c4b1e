//! `portway rollout SERVICE`: replaces the containers of a Compose service without a gap. The new generation is started beside the old,
//! takes over once it is healthy and in Portway's rotation, and only then the old one is stopped.

mod edge;
mod options;
mod stack;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use self::{
    edge::{Counts, Edge},
    options::Options,
    stack::{Container, Stack},
};
use super::{complain, say};

/// Rolls a service over.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let options = match Options::of(arguments) {
        Ok(options) => options,
        Err(wrong) => {
            complain(&format!("rollout: {wrong}"));
            return ExitCode::FAILURE;
        }
    };
    let interrupted = match watch_for_interrupt() {
        Ok(flag) => flag,
        Err(error) => {
            complain(&format!("rollout: cannot watch for Ctrl-C: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut rollout = Rollout {
        stack: Stack::new(&options),
        edge: None,
        options,
        interrupted,
        started: Instant::now(),
    };
    match rollout.roll() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&format!("rollout: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// One rolling update under way.
struct Rollout {
    options: Options,
    stack: Stack,
    /// The Portway in front, if one was found.
    edge: Option<Edge>,
    /// Set by Ctrl-C: the new generation is taken back, as long as the old one still stands.
    interrupted: Arc<AtomicBool>,
    started: Instant,
}

impl Rollout {
    fn roll(&mut self) -> Result<(), String> {
        let old = self.stack.containers()?;
        if old.is_empty() {
            return Err(format!(
                "`{}` has no running container; start it with `docker compose up -d {0}`",
                self.options.service
            ));
        }
        self.find_edge(&old);
        let before = self.counts(&old);
        let wanted = self.options.replicas.unwrap_or(old.len());
        self.tell(&format!(
            "{}: {} running, starting {wanted} beside {}",
            self.options.service,
            old.len(),
            if old.len() == 1 { "it" } else { "them" }
        ));
        let fresh = match self.raise(&old, wanted) {
            Ok(fresh) => fresh,
            Err(failure) => return Err(self.take_back(&old, &failure)),
        };
        // The old generation is counted to its end: its containers are in the same service.
        self.retire(&old)?;
        self.report(before, &fresh);
        Ok(())
    }

    /// Starts the new generation and waits until every container of it takes requests.
    fn raise(&self, old: &[Container], wanted: usize) -> Result<Vec<Container>, String> {
        self.stack.scale(old.len() + wanted)?;
        let deadline = Instant::now() + self.options.timeout;
        let mut told: Vec<String> = Vec::new();
        loop {
            let fresh = self.fresh(old)?;
            let mut ready = 0;
            for container in &fresh {
                container.still_possible()?;
                if container.is_ready() && self.is_routable(container) {
                    ready += 1;
                    if !told.contains(&container.id) {
                        told.push(container.id.clone());
                        self.tell(&format!("{} {}", container.name, self.ready_word()));
                    }
                }
            }
            if ready >= wanted && ready == fresh.len() {
                return Ok(fresh);
            }
            if self.interrupted.load(Relaxed) {
                return Err("interrupted".to_owned());
            }
            if Instant::now() >= deadline {
                return Err(self.why_late(&fresh, wanted));
            }
            pause(POLL);
        }
    }

    fn fresh(&self, old: &[Container]) -> Result<Vec<Container>, String> {
        let mut containers = self.stack.all_containers()?;
        containers.retain(|container| old.iter().all(|known| known.id != container.id));
        Ok(containers)
    }

    fn is_routable(&self, container: &Container) -> bool {
        self.edge
            .as_ref()
            .is_none_or(|edge| edge.routes_to(container))
    }

    fn ready_word(&self) -> &'static str {
        match self.edge {
            Some(_) => "is healthy and takes requests",
            None => "is healthy",
        }
    }

    fn why_late(&self, fresh: &[Container], wanted: usize) -> String {
        let mut waiting: Vec<String> = fresh
            .iter()
            .filter_map(|container| match (container.is_ready(), self.is_routable(container)) {
                (false, _) => Some(format!("{} is {}", container.name, container.state())),
                (true, false) => Some(format!("{} is healthy, but Portway does not route to it (traefik.enable, network, port?)", container.name)),
                (true, true) => None,
            })
            .collect();
        if fresh.len() < wanted {
            waiting.push(format!("only {} of {wanted} were started", fresh.len()));
        }
        format!(
            "not ready within {} s (--timeout): {}",
            self.options.timeout.as_secs(),
            waiting.join("; ")
        )
    }

    /// Removes what was started; the old generation has served all the time.
    fn take_back(&self, old: &[Container], failure: &str) -> String {
        let removed = self.fresh(old).and_then(|fresh| {
            for container in &fresh {
                for line in self.stack.last_words(container) {
                    self.tell(&format!("{} | {line}", container.name));
                }
            }
            self.stack.remove(&fresh)
        });
        match removed {
            Ok(()) => {
                format!("{failure}\nThe new containers are removed, the old ones go on serving.")
            }
            Err(error) => format!(
                "{failure}\nThe old containers go on serving; removing the new ones failed, too: {error}"
            ),
        }
    }

    /// Stops the old generation: each finishes what it is at, which Portway no longer sends anything to.
    fn retire(&self, old: &[Container]) -> Result<(), String> {
        let names: Vec<&str> = old.iter().map(|container| &*container.name).collect();
        self.tell(&format!("stopping {}", names.join(", ")));
        self.stack
            .stop(old)
            .and_then(|()| self.stack.remove(old))
            .map_err(|error| {
                format!(
                    "the new containers serve, but the old ones could not all be removed: {error}"
                )
            })
    }

    fn find_edge(&mut self, old: &[Container]) {
        match Edge::find(&self.options, old) {
            Ok(edge) => self.edge = Some(edge),
            Err(why) => self.tell(&format!(
                "no Portway asked ({why}): new containers count as ready when Docker says so; `--api URL` names one"
            )),
        }
    }

    fn counts(&self, containers: &[Container]) -> Option<Counts> {
        self.edge.as_ref().and_then(|edge| edge.counts(containers))
    }

    fn report(&self, before: Option<Counts>, fresh: &[Container]) {
        let taken = self.started.elapsed().as_secs_f64();
        let head = format!("done in {taken:.1} s: {} new containers", fresh.len());
        match (before, self.counts(fresh)) {
            (Some(before), Some(after)) => {
                let during = after.since(before);
                self.tell(&format!("{head}; meanwhile {} requests served, {} failed", during.served, during.failed));
            }
            _ => self.tell(&format!("{head} (no request counts: they need `metrics.prometheus` on the API's entry point)")),
        }
    }

    fn tell(&self, text: &str) {
        say(&format!(
            "{:6.1} s  {text}",
            self.started.elapsed().as_secs_f64()
        ));
    }
}

/// How often containers and Portway are looked at.
const POLL: Duration = Duration::from_millis(250);

fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

/// A flag that Ctrl-C and SIGTERM set.
fn watch_for_interrupt() -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let mut terminate =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
                let terminated = async {
                    match &mut terminate {
                        Some(signal) => drop(signal.recv().await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    () = terminated => {}
                }
                set.store(true, Relaxed);
            });
        })?;
    Ok(flag)
}
