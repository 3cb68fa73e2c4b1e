//! A swarm as its managers tell of it: services, which have the labels, and their tasks, which are the servers.
//!
//! Pure: answers of the API to parts that the rest of the provider treats as containers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    container::{Attachment, Container, Health, Part, Status, TERM, signal},
    contribution::VIRTUAL,
    engine::STOP_TIMEOUT,
    settings::Settings,
};

/// Everything there is at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Services, each followed by its tasks.
    pub(super) parts: Vec<Container>,
    /// The networks that our own container is on, if that is known.
    pub(super) own: Option<BTreeSet<String>>,
    /// Nothing is on its way.
    pub(super) settled: bool,
}

/// A service, as far as it matters. What is not there may be left out or `null`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Service {
    #[serde(rename = "ID")]
    id: String,
    created_at: Option<String>,
    spec: ServiceSpec,
    endpoint: Option<Endpoint>,
    update_status: Option<UpdateStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceSpec {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    mode: Option<Mode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mode {
    replicated: Option<Replicated>,
    global: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replicated {
    replicas: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(rename = "VirtualIPs")]
    virtual_ips: Option<Vec<VirtualIp>>,
}

#[derive(Debug, Deserialize)]
struct VirtualIp {
    #[serde(rename = "NetworkID")]
    network: Option<String>,
    #[serde(rename = "Addr")]
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStatus {
    state: Option<String>,
}

/// A task.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Task {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "ServiceID")]
    service: Option<String>,
    slot: Option<u64>,
    spec: Option<TaskSpec>,
    status: Option<TaskStatus>,
    networks_attachments: Option<Vec<NetworkAttachment>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskSpec {
    container_spec: Option<ContainerSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerSpec {
    stop_signal: Option<String>,
    /// In nanoseconds.
    stop_grace_period: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskStatus {
    state: Option<String>,
    container_status: Option<ContainerStatus>,
}

#[derive(Debug, Deserialize)]
struct ContainerStatus {
    #[serde(rename = "ContainerID")]
    container: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkAttachment {
    network: Option<AttachedNetwork>,
    addresses: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AttachedNetwork {
    #[serde(rename = "ID")]
    id: String,
    spec: Option<NetworkSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSpec {
    name: Option<String>,
    ingress: Option<bool>,
    scope: Option<String>,
}

/// A network, as the list of networks tells of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Network {
    id: String,
    name: Option<String>,
    ingress: Option<bool>,
}

impl Service {
    /// Whether it is reached at its virtual address.
    pub(super) fn is_virtual(&self) -> bool {
        let labels = self.spec.labels.as_ref();
        let asked = labels.is_some_and(Settings::balanced_by_swarm);
        let endpoint = self.endpoint.as_ref();
        let addresses = endpoint.and_then(|endpoint| endpoint.virtual_ips.as_deref());
        // In the mode `dnsrr` there are none.
        asked && addresses.is_some_and(|addresses| !addresses.is_empty())
    }

    fn part(&self, networks: &[Network], running: usize) -> Container {
        let is_virtual = self.is_virtual();
        let created = self.created_at.as_deref();
        let created = created.and_then(|text| text.parse::<Timestamp>().ok());
        Container {
            id: self.id.as_str().into(),
            name: self.spec.name.as_str().into(),
            created: created.map_or(0, |time| i64::try_from(time.as_nanosecond()).unwrap_or(0)),
            labels: self.spec.labels.clone().unwrap_or_default(),
            // An address that leads to no task is none.
            status: match is_virtual && running > 0 {
                true => Status::Running,
                false => Status::Stopped,
            },
            network_mode: match is_virtual {
                true => VIRTUAL.to_owned(),
                false => String::new(),
            },
            networks: match is_virtual {
                true => self.addresses(networks),
                false => BTreeMap::new(),
            },
            part: Some(Part::Service),
            ..Container::default()
        }
    }

    /// Its virtual addresses by network.
    fn addresses(&self, networks: &[Network]) -> BTreeMap<String, Attachment> {
        let endpoint = self.endpoint.as_ref();
        let addresses = endpoint.and_then(|endpoint| endpoint.virtual_ips.as_ref());
        let found = addresses.into_iter().flatten().filter_map(|virtual_ip| {
            let id = virtual_ip.network.as_ref()?;
            let known = networks.iter().find(|network| network.id == *id);
            let name = known
                .and_then(|network| network.name.as_ref())
                .unwrap_or(id);
            let is_ingress = known.is_some_and(|network| network.ingress == Some(true));
            let addresses = virtual_ip.address.iter();
            Some((name, is_ingress, attachment(id, addresses)))
        });
        without_ingress(found)
    }

    /// Whether all is as it is meant to be.
    fn is_settled(&self, tasks: &[&Task]) -> bool {
        let updating = self
            .update_status
            .as_ref()
            .and_then(|status| status.state.as_deref());
        if updating.is_some_and(|state| ["updating", "rollback_started"].contains(&state)) {
            return false;
        }
        let running = tasks.iter().filter(|task| task.state() == RUNNING).count();
        match &self.spec.mode {
            Some(Mode {
                replicated: Some(Replicated { replicas }),
                ..
            }) => replicas.unwrap_or(1) == running as u64 && tasks.len() == running,
            Some(Mode {
                global: Some(_), ..
            }) => tasks.len() == running,
            // Jobs end.
            _ => true,
        }
    }
}

impl Task {
    fn state(&self) -> &str {
        let status = self.status.as_ref();
        status
            .and_then(|status| status.state.as_deref())
            .unwrap_or_default()
    }

    /// The server that it is, once there is one.
    fn part(&self, service: &Container) -> Option<Container> {
        let health = match self.state() {
            RUNNING => Health::None,
            // It is there, and its HEALTHCHECK has not passed yet if it has one.
            STARTING => Health::Starting,
            _ => return None,
        };
        let spec = self
            .spec
            .as_ref()
            .and_then(|spec| spec.container_spec.as_ref());
        let stop_signal = spec
            .and_then(|spec| spec.stop_signal.as_deref())
            .and_then(signal);
        let grace = spec.and_then(|spec| spec.stop_grace_period);
        let number = match self.slot {
            Some(slot) if slot > 0 => slot.to_string(),
            _ => self.id.clone(),
        };
        Some(Container {
            id: self.id.as_str().into(),
            name: format!("{}.{number}", service.name).into(),
            created: service.created,
            labels: service.labels.clone(),
            status: Status::Running,
            health,
            stop_signal: stop_signal.unwrap_or(TERM),
            stop_timeout: grace.map_or(STOP_TIMEOUT, Duration::from_nanos),
            networks: self.addresses(),
            part: Some(Part::Task(Arc::clone(&service.name))),
            ..Container::default()
        })
    }

    /// Its addresses on networks of the swarm.
    fn addresses(&self) -> BTreeMap<String, Attachment> {
        let attachments = self.networks_attachments.iter().flatten();
        let found = attachments.filter_map(|told| {
            let network = told.network.as_ref()?;
            let spec = network.spec.as_ref();
            if spec.and_then(|spec| spec.scope.as_deref()) == Some("local") {
                return None;
            }
            let name = spec
                .and_then(|spec| spec.name.as_ref())
                .unwrap_or(&network.id);
            let is_ingress = spec.is_some_and(|spec| spec.ingress == Some(true));
            let addresses = told.addresses.iter().flatten();
            Some((name, is_ingress, attachment(&network.id, addresses)))
        });
        without_ingress(found)
    }

    fn is_container(&self, beginning: &str) -> bool {
        let status = self
            .status
            .as_ref()
            .and_then(|status| status.container_status.as_ref());
        let id = status.and_then(|status| status.container.as_ref());
        id.is_some_and(|id| id.starts_with(beginning))
    }
}

/// Puts the answers of a manager together. `own` is how the identifier of our own container begins.
pub(super) fn view(
    services: &[Service],
    tasks: &[Task],
    networks: &[Network],
    own: Option<&str>,
) -> View {
    let mut of: HashMap<&str, Vec<&Task>> = HashMap::new();
    for task in tasks {
        of.entry(task.service.as_deref().unwrap_or_default())
            .or_default()
            .push(task);
    }
    let mut made = View {
        settled: true,
        ..View::default()
    };
    for service in services {
        let tasks = of.remove(service.id.as_str()).unwrap_or_default();
        made.settled &= service.is_settled(&tasks);
        let running = tasks.iter().filter(|task| task.state() == RUNNING).count();
        let part = service.part(networks, running);
        let servers = tasks.iter().filter(|_| !service.is_virtual());
        let servers: Vec<Container> = servers.filter_map(|task| task.part(&part)).collect();
        made.parts.push(part);
        made.parts.extend(servers);
    }
    let us = own.and_then(|own| tasks.iter().find(|task| task.is_container(own)));
    made.own = us.map(|us| {
        let attachments = us.networks_attachments.iter().flatten();
        let networks = attachments.filter_map(|told| told.network.as_ref());
        networks.map(|network| network.id.clone()).collect()
    });
    made
}

fn attachment<'a>(network: &str, addresses: impl Iterator<Item = &'a String>) -> Attachment {
    let mut made = Attachment {
        network: network.to_owned(),
        ..Attachment::default()
    };
    for address in addresses {
        // `10.0.1.3/24`.
        match address.split('/').next().and_then(|text| text.parse().ok()) {
            Some(IpAddr::V4(v4)) => made.v4 = made.v4.or(Some(v4)),
            Some(IpAddr::V6(v6)) => made.v6 = made.v6.or(Some(v6)),
            None => {}
        }
    }
    made
}

/// The ingress network is there for published ports: servers are reached over it only if there is no other.
fn without_ingress<'a>(
    found: impl Iterator<Item = (&'a String, bool, Attachment)>,
) -> BTreeMap<String, Attachment> {
    let (ingress, others): (Vec<_>, Vec<_>) = found.partition(|(_, is_ingress, _)| *is_ingress);
    let chosen = if others.is_empty() { ingress } else { others };
    chosen
        .into_iter()
        .map(|(name, _, attachment)| (name.clone(), attachment))
        .collect()
}

const RUNNING: &str = "running";
const STARTING: &str = "starting";

#[cfg(test)]
mod tests;
