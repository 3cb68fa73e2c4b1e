//! `portway rollout SERVICE`: replaces the containers of a Compose service without a gap. The new generation is started beside the old,
//! takes over once it is healthy and in Portway's rotation, and only then the old one is stopped.

mod docker;
mod edge;
mod options;
mod signals;
mod stack;
mod standing;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    net::{IpAddr, SocketAddr, TcpStream},
    process::ExitCode,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use self::{
    docker::Docker,
    edge::{Counts, Edge, View},
    options::Options,
    signals::Signals,
    stack::{Container, Stack},
    standing::Standing,
};
use super::{complain, say};

/// Rolls a service over.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let rolled = Options::of(arguments).and_then(|options| {
        let docker = Signals::watch()
            .and_then(|signals| Docker::new(&[OsStr::new(docker::PROGRAM)], signals))
            .map_err(|error| format!("cannot watch for Ctrl-C: {error}"))?;
        Rollout::new(options, docker).roll()
    });
    match rolled {
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
    docker: Rc<Docker>,
    stack: Stack,
    /// The Portway in front, if one was found.
    edge: Option<Edge>,
    started: Instant,
}

impl Rollout {
    fn new(options: Options, docker: Docker) -> Self {
        let docker = Rc::new(docker);
        Self {
            stack: Stack::new(&options, Rc::clone(&docker)),
            docker,
            edge: None,
            options,
            started: Instant::now(),
        }
    }

    fn roll(&mut self) -> Result<(), String> {
        // Whatever is there now is the old generation, whether it runs or not; whatever comes is the new one.
        let old = self.stack.replicas()?;
        let living = old.iter().filter(|container| container.lives()).count();
        if living == 0 {
            return Err(format!(
                "`{}` has no running container; start it with `docker compose up -d {0}`",
                self.options.service
            ));
        }
        self.find_edge(&old);
        let before = self.counts(&old);
        let wanted = self.options.replicas.unwrap_or(living);
        self.tell(&format!(
            "{}: {living} running, starting {wanted} beside {}",
            self.options.service,
            if living == 1 { "it" } else { "them" }
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
        self.go_on()?;
        // Those that have ended count for Compose, too.
        let scaled = self.stack.scale(old.len() + wanted);
        self.go_on()?;
        scaled?;
        let deadline = Instant::now() + self.options.timeout;
        let mut told: Vec<String> = Vec::new();
        loop {
            let fresh = self.fresh(old)?;
            let view = self.edge.as_ref().map(Edge::view);
            let mut waiting = Vec::new();
            for container in &fresh {
                self.still_possible(container)?;
                match readiness(container, view.as_ref(), old) {
                    Err(why) => waiting.push(format!("{} {why}", container.name)),
                    Ok(how) if !told.contains(&container.id) => {
                        told.push(container.id.clone());
                        self.tell(&format!("{} {how}", container.name));
                    }
                    Ok(_) => {}
                }
            }
            self.go_on()?;
            if fresh.len() < wanted {
                waiting.push(format!("only {} of {wanted} were started", fresh.len()));
            }
            if waiting.is_empty() {
                return Ok(fresh);
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "not ready within {} s (--timeout): {}",
                    self.options.timeout.as_secs(),
                    waiting.join("; ")
                ));
            }
            pause(POLL);
        }
    }

    /// An error if somebody wants it to end.
    fn go_on(&self) -> Result<(), String> {
        match self.docker.signals().came() {
            true => Err("interrupted".to_owned()),
            false => Ok(()),
        }
    }

    fn fresh(&self, old: &[Container]) -> Result<Vec<Container>, String> {
        let mut containers = self.stack.replicas()?;
        containers.retain(|container| old.iter().all(|known| known.id != container.id));
        Ok(containers)
    }

    /// An error if it will not become ready any more, or if nothing would tell.
    fn still_possible(&self, container: &Container) -> Result<(), String> {
        container.still_possible()?;
        if self.edge.is_none() && container.is_mute() {
            return Err(format!(
                "nothing tells when {} is ready: it has no HEALTHCHECK and no port, and no Portway was asked",
                container.name
            ));
        }
        Ok(())
    }

    /// Removes what was started; the old generation has served all the time.
    fn take_back(&self, old: &[Container], failure: &str) -> String {
        if self.docker.signals().count() > 1 {
            // What Docker was asked for when it was left may still come into being.
            pause(AFTERMATH);
        }
        match self.remove_fresh(old).and_then(|()| self.rest_again(old)) {
            Ok(()) => {
                format!("{failure}\nThe new containers are removed, the old ones go on serving.")
            }
            Err(error) => format!(
                "{failure}\nThe old containers go on serving; removing the new ones failed, too: {error}"
            ),
        }
    }

    fn remove_fresh(&self, old: &[Container]) -> Result<(), String> {
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            outcome = match self.fresh(old) {
                Ok(fresh) if fresh.is_empty() => return Ok(()),
                Ok(fresh) => self.discard(&fresh),
                Err(error) => Err(error),
            };
        }
        match self.fresh(old)? {
            left if left.is_empty() => Ok(()),
            left => Err(outcome.err().unwrap_or_else(|| names(&left))),
        }
    }

    fn discard(&self, fresh: &[Container]) -> Result<(), String> {
        for container in fresh {
            for line in self.stack.last_words(container) {
                self.tell(&format!("{} | {line}", container.name));
            }
        }
        self.tell(&format!("taking back {}", names(fresh)));
        // Some of them may serve already: they end what they are at, as the old ones would.
        self.stack
            .stop(fresh)
            .and_then(|()| self.stack.remove(fresh))
            .or_else(|_| self.stack.kill(fresh))
    }

    /// Stops those of the old generation again that had ended before, and that Compose has started beside the new one.
    fn rest_again(&self, old: &[Container]) -> Result<(), String> {
        let mut woken = self.stack.now(old)?;
        let ended = |id: &str| old.iter().any(|known| known.id == id && !known.lives());
        woken.retain(|container| container.lives() && ended(&container.id));
        self.stack.stop(&woken)
    }

    /// Stops the old generation: each finishes what it is at, which Portway no longer sends anything to.
    fn retire(&self, old: &[Container]) -> Result<(), String> {
        let left = |error| {
            format!("the new containers serve, but the old ones could not all be removed: {error}")
        };
        let old = self.stack.now(old).map_err(left)?;
        self.tell(&format!("stopping {}", names(&old)));
        self.stack
            .stop(&old)
            .and_then(|()| self.stack.kill(&old))
            .map_err(left)
    }

    fn find_edge(&mut self, old: &[Container]) {
        match Edge::find(&self.options, &self.docker, old) {
            Ok(edge) => self.edge = Some(edge),
            Err(why) => self.tell(&format!(
                "no Portway asked ({why}): new containers count as ready when their HEALTHCHECK says so, or else when they take connections; `--api URL` names one"
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
/// How long Docker may take for the last of what it was asked.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How often containers are removed that come into being meanwhile.
const ATTEMPTS: u32 = 3;

/// How one sees that a container takes requests, or why it is too early to say so.
fn readiness(
    container: &Container,
    view: Option<&Result<View, String>>,
    old: &[Container],
) -> Result<&'static str, String> {
    if !container.is_ready() {
        return Err(format!("is {}", container.state()));
    }
    let checked = container.is_checked();
    match view {
        None if checked => Ok("is healthy"),
        None => {
            for port in &container.ports {
                knock(&container.addresses, *port)?;
            }
            Ok("takes connections")
        }
        Some(Err(error)) => Err(format!("is running, but Portway does not answer: {error}")),
        Some(Ok(view)) => match view.standing(container, old) {
            Standing::Takes => Ok(TAKES),
            Standing::Untried(_) if checked => Ok(TAKES),
            Standing::Untried(address) => knock(&[address.ip()], address.port()).map(|()| TAKES),
            Standing::Waits(reason) => Err(format!(
                "is running, but Portway sends it nothing yet ({reason})"
            )),
            Standing::Absent => Err(
                "is running, but Portway does not route to it (traefik.enable, network, port?)"
                    .to_owned(),
            ),
        },
    }
}

const TAKES: &str = "is healthy and takes requests";

/// Whether one of the addresses takes connections, asked from here: what cannot be reached from here counts as not there.
fn knock(addresses: &[IpAddr], port: u16) -> Result<(), String> {
    let mut why = "it has no address".to_owned();
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match TcpStream::connect_timeout(&address, KNOCK) {
            Ok(_) => return Ok(()),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(format!(
        "is running, but does not take connections, as far as can be seen from here ({why}); a HEALTHCHECK would tell"
    ))
}

const KNOCK: Duration = Duration::from_secs(1);

fn names(containers: &[Container]) -> String {
    let names: Vec<&str> = containers
        .iter()
        .map(|container| &*container.name)
        .collect();
    names.join(", ")
}

fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}
