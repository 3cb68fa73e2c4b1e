//! A container as far as it matters here, whatever API told of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::config::Labelled;

/// A container's full identifier.
pub(super) type Id = Arc<str>;

/// What an inspection tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Container {
    pub(super) id: Id,
    /// Without the leading `/`.
    pub(super) name: Arc<str>,
    /// Nanoseconds since 1970.
    pub(super) created: i64,
    /// When it was last started, in the same unit; 0 if that is not known.
    #[serde(default)]
    pub(super) started: i64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) status: Status,
    pub(super) health: Health,
    /// The signal that asks it to stop.
    pub(super) stop_signal: i32,
    /// How long it may take to stop, unless whoever stops it says otherwise.
    pub(super) stop_timeout: Duration,
    /// Whether the engine starts it again when it ends.
    pub(super) restarts: bool,
    pub(super) network_mode: String,
    /// By name.
    pub(super) networks: BTreeMap<String, Attachment>,
    /// By number, and TCP before UDP.
    pub(super) ports: Vec<Port>,
    /// The container whose network it shares.
    pub(super) peer: Option<Box<Self>>,
    /// What it is of a swarm, if it is.
    #[serde(default)]
    pub(super) part: Option<Part>,
}

/// A part of a swarm. Both carry the labels of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    /// The service itself: what its labels define, and its virtual address if that is to be used.
    Service,
    /// One task of the service of this name: a server.
    Task(Arc<str>),
}

impl Container {
    /// What has its labels.
    pub(super) fn labelled(&self) -> Labelled {
        match &self.part {
            None => Labelled::Container(Arc::clone(&self.name)),
            Some(Part::Service) => Labelled::Service(Arc::clone(&self.name)),
            Some(Part::Task(service)) => Labelled::Service(Arc::clone(service)),
        }
    }

    /// Whether it is one task of a service.
    pub(super) fn is_task(&self) -> bool {
        matches!(self.part, Some(Part::Task(_)))
    }
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Status {
    #[default]
    Running,
    Paused,
    /// Ended, and to be started again.
    Restarting,
    /// Created, exited, being removed or dead.
    Stopped,
}

/// What its HEALTHCHECK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Health {
    /// There is none.
    #[default]
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// One network it is on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// The network's identifier.
    pub(super) network: String,
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Attachment {
    /// Its address there; IPv4 if it has both.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.v4.map(IpAddr::V4).or_else(|| self.v6.map(IpAddr::V6))
    }
}

/// A port it exposes or publishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) udp: bool,
    /// Where it is published on the host.
    pub(super) bindings: Vec<(Option<IpAddr>, u16)>,
}

/// What the list of containers tells of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listed {
    pub(super) id: Id,
    pub(super) name: Arc<str>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) status: Status,
    pub(super) health: Health,
    pub(super) networks: BTreeMap<String, Attachment>,
}

impl Listed {
    /// What has its labels.
    pub(super) fn labelled(&self) -> Labelled {
        Labelled::Container(Arc::clone(&self.name))
    }

    /// Whether it tells what is known already, so that nothing would come out of an inspection.
    pub(super) fn tells_nothing_new(&self, known: &Container) -> bool {
        // The text that tells of health is another one where the container is paused or restarting.
        self.status == known.status
            && (self.status != Status::Running || self.health == known.health)
            && self.name == known.name
            && self.networks == known.networks
    }
}

/// Something that has happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: Id,
    pub(super) change: Change,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Started,
    Unpaused,
    Renamed,
    /// `None` if the engine does not say.
    Health(Option<Health>),
    Killed(i32),
    /// Its process is gone.
    Died,
    Paused,
    Destroyed,
    Connected,
    /// From the network of this identifier.
    Disconnected(String),
    /// To no container: to a service or a node of the swarm.
    Elsewhere,
}

/// The number of a signal written as `SIGTERM`, `term`, `15` or `SIGRTMIN+3`.
pub(super) fn signal(text: &str) -> Option<i32> {
    let text = text.trim().to_ascii_uppercase();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = offset.trim_start_matches('+');
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.parse().ok()?
        };
        return REAL_TIME.checked_add(offset);
    }
    let found = SIGNALS.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number)
}

/// What people call the signal.
pub(super) fn signal_name(number: i32) -> String {
    let found = SIGNALS.iter().find(|(_, known)| *known == number);
    found.map_or_else(
        || format!("signal {number}"),
        |(name, _)| format!("SIG{name}"),
    )
}

/// Signals that are sent to end a process, whatever it calls its own. Others (INT, QUIT, HUP) may as well ask for a dump or a reload.
pub(super) const TERMINATING: &[i32] = &[KILL, TERM];
const KILL: i32 = 9;
pub(super) const TERM: i32 = 15;
/// However long something may take to stop: numbers of labels and options may be any, and sums of times are to stay times.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(24 * 3600);
const REAL_TIME: i32 = 34;
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", KILL),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", TERM),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("WINCH", 28),
    ("PWR", 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("15", Some(15)),
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMIN", Some(34)),
            ("WINCH", Some(28)),
            ("SIGNONSENSE", None),
            ("RTMIN+x", None),
            ("", None),
        ] {
            assert_eq!(signal(text), number, "{text}");
        }
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(40), "signal 40");
    }
}
