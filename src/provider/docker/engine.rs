//! What is asked of the engine, and its answers in our own terms. Nothing but lists, inspections, events and the version is ever asked
//! for, so that it works through a proxy that allows only those.

use std::{
    collections::HashMap, future::Future, io, net::IpAddr, pin::Pin, sync::Arc, time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{
        ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
        ContainerSummaryStateEnum, EndpointSettings, EventMessage, EventMessageTypeEnum,
        HealthStatusEnum, PortMap, RestartPolicyNameEnum,
    },
    query_parameters::EventsOptionsBuilder,
};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Either, Full, Limited};
use jiff::Timestamp;

use super::{
    container::{
        Attachment, Change, Container, Event, Health, Id, LONGEST_STOP, Listed, Port, Status, TERM,
        signal,
    },
    endpoint::Endpoint,
    swarm::{self, View},
    transport::{Lines, Transport},
};
use crate::config::install::DockerProvider;

/// An engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    docker: Docker,
    transport: Arc<Transport>,
    patience: Duration,
    subject: Subject,
}

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// The containers of the engine.
    Containers,
    /// The services of the swarm that the engine manages.
    Swarm {
        /// How the identifier of our own container begins.
        own: Option<String>,
    },
}

/// All there is at one moment.
#[derive(Debug)]
pub(super) enum Seen {
    Containers(Vec<Listed>),
    Swarm(View),
}

/// Events as they come.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Event, Failure>> + Send>>;

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("status {0}: {1}")]
    Refused(u16, String),
    #[error(
        "the engine is no manager of a swarm: run `docker swarm init` there, or set `providers.swarm.endpoint` to a manager"
    )]
    NoManager,
    #[error("{0}")]
    Broken(String),
    #[error("the engine has ended the stream of events")]
    Ended,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => refused(status_code, &message),
            other => {
                // The outermost error of a chain rarely says anything.
                let mut text = other.to_string();
                let mut cause = std::error::Error::source(&other);
                while let Some(inner) = cause {
                    let inner_text = inner.to_string();
                    if !text.contains(&inner_text) {
                        text = format!("{text}: {inner_text}");
                    }
                    cause = inner.source();
                }
                Self::Broken(text)
            }
        }
    }
}

/// A refusal, with what the engine says about it.
fn refused(status: u16, body: &str) -> Failure {
    let told: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let told = told.as_ref().and_then(|told| told.get("message")?.as_str());
    let message = told.unwrap_or(body).trim();
    if message.contains("not a swarm manager") {
        return Failure::NoManager;
    }
    Failure::Refused(status, message.chars().take(LONGEST_MESSAGE).collect())
}

impl Engine {
    /// The engine at `endpoint`, and what has to be polled for it to answer.
    pub(super) fn new(
        endpoint: Endpoint,
        options: &DockerProvider,
        subject: Subject,
    ) -> (Self, Lines) {
        let (transport, lines) = Transport::new(endpoint, options);
        let carrier = Arc::clone(&transport);
        let docker = Docker::connect_with_custom_transport(
            move |request| Arc::clone(&carrier).send(request),
            Some("http://docker"),
            // Time is kept here, bodies included.
            HOUR,
            API_DEFAULT_VERSION,
        );
        let patience = options.http_client_timeout.positive();
        let engine = Self {
            docker: docker.expect("making a client for a transport of ours does not fail"),
            transport,
            patience: patience.unwrap_or(PATIENCE),
            subject,
        };
        (engine, lines)
    }

    pub(super) fn is_of_swarm(&self) -> bool {
        matches!(self.subject, Subject::Swarm { .. })
    }

    /// Agrees on the version of the API: ours, or the engine's highest if that is lower, or its lowest if that is higher.
    pub(super) async fn negotiate(&self) -> Result<(), Failure> {
        let wanted = self.transport.wanted_version();
        self.transport.speak(wanted);
        if wanted.is_some() {
            return Ok(());
        }
        let told = self.in_time(self.docker.version()).await;
        match told {
            Ok(told) => {
                let highest = told.api_version.as_deref().and_then(version);
                let lowest = told.min_api_version.as_deref().and_then(version);
                if let Some(highest) = highest {
                    let (major, minor) = OURS.min(highest).max(lowest.unwrap_or((0, 0)));
                    self.transport.speak(Some(&format!("{major}.{minor}")));
                }
                Ok(())
            }
            // Proxies may refuse to tell. The engine then takes requests without a version, as its newest.
            Err(Failure::Refused(..)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// All there is.
    pub(super) async fn list(&self) -> Result<Seen, Failure> {
        match &self.subject {
            Subject::Containers => self.containers().await.map(Seen::Containers),
            Subject::Swarm { own } => self.swarm(own.as_deref()).await.map(Seen::Swarm),
        }
    }

    /// All containers, running or not.
    ///
    /// The client would refuse the whole list for one container with a word it does not know, so it is read one by one.
    async fn containers(&self) -> Result<Vec<Listed>, Failure> {
        let list: Vec<serde_json::Value> = self.get("/containers/json?all=1").await?;
        let told = list
            .into_iter()
            .filter_map(|one| serde_json::from_value(one).ok());
        Ok(told.filter_map(listed).collect())
    }

    /// The services of the swarm and their tasks.
    async fn swarm(&self, own: Option<&str>) -> Result<View, Failure> {
        let services: Vec<swarm::Service> = self.get("/services").await?;
        let tasks: Vec<swarm::Task> = self.get(TASKS).await?;
        let networks: Vec<swarm::Network> = match services.iter().any(swarm::Service::is_virtual) {
            true => self.get("/networks").await?,
            // Tasks tell of theirs.
            false => Vec::new(),
        };
        let mut view = swarm::view(&services, &tasks, &networks, own);
        if let (None, Some(own)) = (&view.own, own) {
            // No task, but maybe a container on a network of the swarm. Who may not ask for that does without.
            let us = self.inspect(own).await.ok().flatten();
            view.own = us.map(|us| {
                let networks = us.networks.into_values();
                networks.map(|attachment| attachment.network).collect()
            });
        }
        Ok(view)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = http::Request::get(path);
        let request = request.body(Either::Left(Full::default()));
        let asking = async {
            let request = request.map_err(Error::from)?;
            let response = Arc::clone(&self.transport).send(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST_LIST)
                .collect()
                .await;
            Ok((
                status,
                body.map_err(|error| Error::from(io::Error::other(error)))?
                    .to_bytes(),
            ))
        };
        let (status, body) = self.in_time(asking).await?;
        if !status.is_success() {
            return Err(refused(status.as_u16(), &String::from_utf8_lossy(&body)));
        }
        Ok(serde_json::from_slice(&body).map_err(Error::from)?)
    }

    /// One container; `None` if there is no such any more.
    pub(super) async fn inspect(&self, id: &str) -> Result<Option<Container>, Failure> {
        let asking = async {
            let Some(mut container) = self.look(id).await? else {
                return Ok(None);
            };
            if let Some(peer) = container.network_mode.strip_prefix("container:") {
                container.peer = self.look(peer).await?.map(Box::new);
            }
            Ok(Some(container))
        };
        // One container that its engine is stuck on is not worth the time that a long list may take.
        let patience = self.patience.min(PATIENCE_FOR_ONE);
        let answer = tokio::time::timeout(patience, asking).await;
        answer.unwrap_or(Err(Failure::Late(patience)))
    }

    async fn look(&self, id: &str) -> Result<Option<Container>, Failure> {
        match self.docker.inspect_container(id, None).await {
            Ok(answer) => Ok(Some(inspected(answer))),
            Err(error) => match Failure::from(error) {
                Failure::Refused(404, _) => Ok(None),
                failure => Err(failure),
            },
        }
    }

    /// The events from now on. Returns when the engine has begun to tell.
    pub(super) async fn events(&self) -> Result<Events, Failure> {
        let mut kinds = vec!["container", "network"];
        let mut actions = EVENTS.to_vec();
        if self.is_of_swarm() {
            kinds.extend(["service", "node"]);
            actions.extend(["create", "update", "remove"]);
        }
        let filters = HashMap::from([("type", kinds), ("event", actions)]);
        let subject = self.subject.clone();
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let mut events = Box::pin(self.docker.events(Some(options)));
        let begun = async {
            tokio::select! {
                biased;
                () = self.transport.subscribed.notified() => Ok(None),
                first = events.next() => Ok(first),
            }
        };
        let first = self.in_time(begun).await?;
        let first = futures_util::stream::iter(first);
        let events = first.chain(events).filter_map(move |told| {
            let event = match told {
                Ok(message) => match &subject {
                    Subject::Containers => event(message),
                    Subject::Swarm { own } => of_swarm(message, own.as_deref()),
                }
                .map(Ok),
                Err(error) => Some(Err(Failure::from(error))),
            };
            std::future::ready(event)
        });
        Ok(Box::pin(events))
    }

    /// Waits for an answer, but not for ever.
    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.patience, asking).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::Late(self.patience)),
        }
    }
}

fn listed(summary: ContainerSummary) -> Option<Listed> {
    let state = summary.state;
    let status = match state {
        Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::STOPPING) => {
            Status::Running
        }
        Some(ContainerSummaryStateEnum::PAUSED) => Status::Paused,
        Some(ContainerSummaryStateEnum::RESTARTING) => Status::Restarting,
        _ => Status::Stopped,
    };
    let said = summary.status.unwrap_or_default();
    let health = [
        ("(health: starting)", Health::Starting),
        ("(unhealthy)", Health::Unhealthy),
        ("(healthy)", Health::Healthy),
    ];
    let health = health.iter().find(|(text, _)| said.contains(text));
    let networks = summary
        .network_settings
        .and_then(|settings| settings.networks);
    let names = summary.names.unwrap_or_default();
    // Links add names such as `/other/alias`.
    let name = names.iter().find(|name| name.matches('/').count() <= 1);
    Some(Listed {
        id: summary.id?.into(),
        name: bare(name.or_else(|| names.first()).map_or("", String::as_str)),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        status,
        health: health.map_or(Health::None, |(_, health)| *health),
        networks: attachments(networks),
    })
}

fn inspected(answer: ContainerInspectResponse) -> Container {
    let config = answer.config.unwrap_or_default();
    let host = answer.host_config.unwrap_or_default();
    let state = answer.state.unwrap_or_default();
    let settings = answer.network_settings.unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name);
    let never = matches!(
        policy,
        None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO)
    );
    let stop_signal = config.stop_signal.as_deref().and_then(signal);
    Container {
        id: answer.id.unwrap_or_default().into(),
        name: bare(answer.name.as_deref().unwrap_or_default()),
        created: nanoseconds(answer.created.as_deref()),
        started: nanoseconds(state.started_at.as_deref()),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        status: match state.status {
            Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => {
                Status::Running
            }
            Some(ContainerStateStatusEnum::PAUSED) => Status::Paused,
            Some(ContainerStateStatusEnum::RESTARTING) => Status::Restarting,
            _ => Status::Stopped,
        },
        health: match state.health.and_then(|health| health.status) {
            Some(HealthStatusEnum::STARTING) => Health::Starting,
            Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
            Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
            _ => Health::None,
        },
        stop_signal: stop_signal.unwrap_or(TERM),
        stop_timeout: config.stop_timeout.map_or(STOP_TIMEOUT, stop_timeout),
        restarts: !never,
        network_mode: host.network_mode.unwrap_or_default(),
        networks: attachments(settings.networks),
        ports: ports(settings.ports.unwrap_or_default()),
        peer: None,
        part: None,
    }
}

/// Since 1970; 0 for what is no time, or not one of ours.
fn nanoseconds(text: Option<&str>) -> i64 {
    let time = text.and_then(|text| text.parse::<Timestamp>().ok());
    time.map_or(0, |time| i64::try_from(time.as_nanosecond()).unwrap_or(0))
}

/// Less than no time means that there is no end to it.
fn stop_timeout(seconds: i64) -> Duration {
    let time = u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs);
    time.min(LONGEST_STOP)
}

fn bare(name: &str) -> Arc<str> {
    name.trim_start_matches('/').into()
}

fn attachments(
    networks: Option<HashMap<String, EndpointSettings>>,
) -> std::collections::BTreeMap<String, Attachment> {
    let networks = networks.unwrap_or_default().into_iter();
    let attachment = |settings: EndpointSettings| Attachment {
        network: settings.network_id.unwrap_or_default(),
        v4: settings.ip_address.and_then(|text| text.parse().ok()),
        v6: settings
            .global_ipv6_address
            .and_then(|text| text.parse().ok()),
    };
    networks
        .map(|(name, settings)| (name, attachment(settings)))
        .collect()
}

fn ports(map: PortMap) -> Vec<Port> {
    let port = |(key, bindings): (String, Option<Vec<_>>)| {
        let (number, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
        let bindings = bindings.unwrap_or_default().into_iter();
        let bindings = bindings.filter_map(|binding: bollard::models::PortBinding| {
            let address = binding.host_ip.and_then(|text| text.parse::<IpAddr>().ok());
            Some((address, binding.host_port?.parse().ok()?))
        });
        Some(Port {
            number: number.parse().ok()?,
            udp: protocol.eq_ignore_ascii_case("udp"),
            bindings: bindings.collect(),
        })
    };
    let mut ports: Vec<Port> = map.into_iter().filter_map(port).collect();
    ports.sort();
    ports
}

fn event(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let attribute = |name: &str| attributes.get(name).map(String::as_str);
    let action = message.action?;
    if message.typ == Some(EventMessageTypeEnum::NETWORK) {
        let id: Id = attribute("container")?.into();
        let change = match action.as_str() {
            "connect" => Change::Connected,
            "disconnect" => Change::Disconnected(actor.id.unwrap_or_default()),
            _ => return None,
        };
        return Some(Event { id, change });
    }
    let (name, detail) = action.split_once(':').unwrap_or((&action, ""));
    let change = match name {
        "start" | "restart" => Change::Started,
        "unpause" => Change::Unpaused,
        "rename" => Change::Renamed,
        "kill" => Change::Killed(attribute("signal").and_then(signal).unwrap_or(TERM)),
        "die" | "died" | "stop" => Change::Died,
        "pause" => Change::Paused,
        "destroy" | "remove" => Change::Destroyed,
        "health_status" => Change::Health(match detail.trim() {
            "healthy" => Some(Health::Healthy),
            "unhealthy" => Some(Health::Unhealthy),
            "starting" => Some(Health::Starting),
            _ => None,
        }),
        _ => return None,
    };
    let id: Id = actor.id?.into();
    Some(Event { id, change })
}

/// What an event means for a swarm. Those of containers come for tasks of this engine alone, and sooner than managers know.
fn of_swarm(mut message: EventMessage, own: Option<&str>) -> Option<Event> {
    let elsewhere = Event {
        id: "".into(),
        change: Change::Elsewhere,
    };
    match message.typ {
        Some(EventMessageTypeEnum::SERVICE | EventMessageTypeEnum::NODE) => Some(elsewhere),
        Some(EventMessageTypeEnum::NETWORK) => {
            let own = own?;
            event(message)?.id.starts_with(own).then_some(elsewhere)
        }
        _ => {
            let actor = message.actor.as_mut()?;
            let task = actor.attributes.as_mut()?.remove(TASK_ID)?;
            actor.id = Some(task);
            event(message)
        }
    }
}

/// `1.41` as a pair.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The newest version of the API that is understood.
const OURS: (u32, u32) = (1, 53);
/// What is listened for; health checks would tell of every one of their runs otherwise.
const EVENTS: &[&str] = &[
    "start",
    "restart",
    "unpause",
    "rename",
    "kill",
    "die",
    "stop",
    "pause",
    "destroy",
    "health_status",
    "connect",
    "disconnect",
];
/// The label that containers of tasks have.
const TASK_ID: &str = "com.docker.swarm.task.id";
/// Those that are meant to run: of what has ended, managers keep a history.
const TASKS: &str = "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer about one container may take.
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(5);
/// In seconds.
const HOUR: u64 = 3600;
/// Docker's own.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_MESSAGE: usize = 300;
/// In bytes: a thousand containers take about two millions.
const LONGEST_LIST: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_containers_are_times_to_reckon_with() {
        let day = 24 * 3600;
        for (told, meant) in [
            (0, 0),
            (90, 90),
            (day + 1, day),
            (i64::MAX, day),
            (-1, day),
            (i64::MIN, day),
        ] {
            assert_eq!(
                stop_timeout(told),
                Duration::from_secs(meant.unsigned_abs())
            );
        }
        for (told, meant) in [
            (Some("1970-01-01T00:00:01.5Z"), 1_500_000_000),
            // That of a container that never ran.
            (Some("0001-01-01T00:00:00Z"), 0),
            (Some("9999-12-31T23:59:59Z"), 0),
            (Some("soon"), 0),
            (None, 0),
        ] {
            assert_eq!(nanoseconds(told), meant, "{told:?}");
        }
    }
}
