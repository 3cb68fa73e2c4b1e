//! What one container, service or task adds to the routing configuration: its labels, and everything that goes without saying.

mod limits;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    address::{self, Surroundings},
    container::{Container, Id, Part, Status},
    settings::Settings,
};
use crate::config::{
    DecodedRouting, Diagnostic, Kind, Labelled, Place, Placed, Places,
    definitions::nearest,
    labels::{DecodedLabels, LabelServer, decode_labels},
    routing::{LoadBalancer, Router, Server, Service, ServiceKind},
    template::normalize,
};

pub(super) use limits::LONGEST_HOLD;

/// What one container adds.
#[derive(Debug, Clone, Default)]
pub(super) struct Contribution {
    pub(super) id: Id,
    /// What has the labels.
    pub(super) of: Labelled,
    /// Containers of one group are generations and replicas of one thing.
    pub(super) group: Arc<str>,
    pub(super) created: i64,
    /// Services without servers, and everything else.
    pub(super) decoded: DecodedRouting,
    /// The server it adds to each service.
    pub(super) servers: BTreeMap<String, Server>,
    /// The networks that its servers' addresses belong to.
    pub(super) networks: BTreeSet<String>,
    /// It is one of many alike, and adds servers only.
    pub(super) is_task: bool,
}

/// The name that a container's implicit objects have, and the group it belongs to.
pub(super) fn base_name(container: &Container) -> (String, Arc<str>) {
    let label = |name: &str| {
        let label = container.labels.get(name).map(String::as_str);
        label.filter(|value| !value.is_empty())
    };
    let name = match &container.part {
        Some(Part::Task(service)) => service,
        Some(Part::Service) | None => &container.name,
    };
    let service = label("com.docker.compose.service");
    match (service, label("com.docker.compose.project")) {
        (Some(service), Some(project)) => {
            let base = normalize(&format!("{service}_{project}"));
            let group = match container.part {
                None => format!("{project}/{service}").into(),
                Some(_) => Arc::clone(name),
            };
            (base, group)
        }
        _ => (normalize(name), Arc::clone(name)),
    }
}

/// Works out what a container adds.
pub(super) fn contribute(
    container: &Container,
    settings: &Settings,
    around: &Surroundings,
) -> Contribution {
    let labels = container.labels.iter();
    let labels = labels.map(|(key, value)| (key.as_str(), value.as_str()));
    let of = container.labelled();
    let labels = decode_labels(&of, labels);
    let (base, group) = base_name(container);
    let mut draft = Draft {
        container,
        settings,
        around,
        base,
        labels,
        on_the_way: Vec::new(),
        made: Contribution {
            id: Arc::clone(&container.id),
            of,
            group,
            created: container.created,
            is_task: container.is_task(),
            ..Contribution::default()
        },
    };
    draft.http();
    limits::holds(&mut draft.labels.decoded);
    draft.made.decoded = match draft.made.is_task {
        false => draft.labels.decoded,
        // The rest is said by the service.
        true => DecodedRouting {
            diagnostics: draft.on_the_way,
            ..DecodedRouting::default()
        },
    };
    draft.made
}

struct Draft<'a> {
    container: &'a Container,
    settings: &'a Settings,
    around: &'a Surroundings,
    base: String,
    labels: DecodedLabels,
    /// What was found about the ways to its servers.
    on_the_way: Vec<Diagnostic>,
    made: Contribution,
}

impl Draft<'_> {
    fn http(&mut self) {
        let routing = &self.labels.decoded.routing;
        let of_http = |kind: &Kind| {
            use Kind::{Middleware, Router, ServersTransport, Service};
            matches!(kind, Router | Service | Middleware | ServersTransport)
        };
        let mut broken = self.labels.decoded.broken.iter();
        let says_http = routing.http != Default::default() || broken.any(|(kind, _)| of_http(kind));
        let says_others = routing.tcp != Default::default() || routing.udp != Default::default();
        if says_others && !says_http {
            return;
        }
        let mut services = self.named(Kind::Service);
        services.extend(routing.http.services.keys().cloned());
        if services.is_empty() {
            if !says_http && !self.is_reachable() {
                return;
            }
            services.insert(self.base.clone());
            let implicit = Placed::new(
                Service::from(LoadBalancer::default()),
                Places::of(self.place()),
            );
            let base = self.base.clone();
            self.labels
                .decoded
                .routing
                .http
                .services
                .insert(base, implicit);
        }
        self.mode();
        for name in &services {
            self.server(name);
        }
        let found = self.on_the_way.iter().cloned();
        self.labels.decoded.diagnostics.extend(found);
        self.routers(&services);
    }

    /// Whether a container that says nothing at all could be a server. Workers and databases are not worth an error.
    fn is_reachable(&mut self) -> bool {
        // A swarm tells of no ports, so that who asks to be served must be told what is missing.
        if self.container.part.is_some() && self.labels.enable == Some(true) {
            return true;
        }
        let reachable = address::lowest(&self.container.ports).is_some();
        let speaks = match self.container.part {
            None => self.container.status == Status::Running,
            Some(Part::Service) => true,
            Some(Part::Task(_)) => false,
        };
        if !reachable && speaks {
            let message = "has no labels and no port that could be served";
            let finding = Diagnostic::info(self.place(), "", message);
            self.labels.decoded.diagnostics.push(
                finding.with_hint("set `traefik.enable=false`, or `exposedByDefault: false`"),
            );
        }
        reachable
    }

    /// What there is to say about the labels that choose between a service's tasks and its virtual address.
    fn mode(&mut self) {
        if self.container.part != Some(Part::Service) {
            return;
        }
        let (old, new) = (&self.labels.docker, &self.labels.swarm);
        let asked = old.lbswarm || new.lbswarm;
        if *old != Default::default() && *new != Default::default() {
            let message = "labels `traefik.docker.…` stand beside `traefik.swarm.…`";
            let finding = Diagnostic::warning(self.place(), "swarm", message);
            self.on_the_way
                .push(finding.with_hint("keep the latter, which win"));
        }
        if asked && self.container.network_mode != VIRTUAL {
            let message = "the service has no virtual address: its tasks are served one by one";
            let finding = Diagnostic::warning(self.place(), "swarm.lbswarm", message);
            let hint = "that takes `endpoint_mode: vip` and a network of the swarm";
            self.on_the_way.push(finding.with_hint(hint));
        }
    }

    /// Adds the container itself to a service.
    fn server(&mut self, service: &str) {
        let labelled = self
            .labels
            .servers
            .get(service)
            .cloned()
            .unwrap_or_default();
        let defined = self.labels.decoded.routing.http.services.get(service);
        let balances =
            defined.is_none_or(|service| matches!(service.kind, ServiceKind::LoadBalancer(_)));
        let broken = self
            .labels
            .decoded
            .broken
            .contains(&(Kind::Service, service.to_owned()));
        let servable = matches!(self.container.status, Status::Running | Status::Paused);
        if !balances || !servable || (broken && !self.labels.servers.contains_key(service)) {
            return;
        }
        match self.url(&labelled) {
            Ok(url) => {
                let server = Server {
                    url,
                    weight: labelled.weight,
                    preserve_path: labelled.preserve_path,
                    ..Server::default()
                };
                self.made.servers.insert(service.to_owned(), server);
            }
            Err((field, message)) => {
                let path = format!("http.services.{service}.loadBalancer.server{field}");
                let place = match labelled.at(field.trim_start_matches('.')) {
                    Place::Builtin => self.place(),
                    place => place.clone(),
                };
                self.on_the_way
                    .push(Diagnostic::error(place, path, message));
            }
        }
    }

    /// Where the container is reached, or which option is at fault and why.
    fn url(&mut self, labelled: &LabelServer) -> Result<String, (&'static str, String)> {
        if !labelled.url.is_empty() {
            if labelled.port.is_empty() && labelled.scheme.is_empty() {
                let url = labelled.url.clone();
                let known = match url.split_once("://") {
                    Some((scheme, _)) => known_scheme(scheme),
                    None => Err(format!(
                        "expected a URL such as `http://10.0.0.1:80`, found {url:?}"
                    )),
                };
                return known.map(|()| url).map_err(|message| (".url", message));
            }
            return Err((".url", "cannot stand beside `port` or `scheme`".to_owned()));
        }
        let port = match labelled.port.as_str() {
            "" => address::lowest(&self.container.ports).ok_or_else(|| {
                let why = match self.container.part {
                    None => "the container exposes none",
                    Some(_) => "a swarm does not tell what images expose",
                };
                let message = format!(
                    "the port is missing: {why}, so a label `loadbalancer.server.port` must say it"
                );
                (".port", message)
            })?,
            text => match text.trim().parse() {
                Ok(port) if port > 0 => port,
                _ => return Err((".port", format!("{text:?} is not a port"))),
            },
        };
        let scheme = match labelled.scheme.as_str() {
            "" => "http",
            scheme => scheme,
        };
        known_scheme(scheme).map_err(|message| (".scheme", message))?;
        if self.settings.use_bind_port_ip
            && let Some(published) = address::published(&self.container.ports, port)
        {
            return Ok(format!("{scheme}://{published}"));
        }
        let wanted = self.wanted_network();
        let noun = match self.container.part {
            None => "container",
            Some(Part::Task(_)) => "task",
            Some(Part::Service) => "service",
        };
        let chosen = address::choose(self.container, &wanted, self.around)
            .map_err(|message| ("", format!("the {noun} {message}")))?;
        self.made.networks.extend(chosen.network);
        if let Some(remark) = chosen.remark {
            self.remark(remark);
        }
        let socket = std::net::SocketAddr::new(chosen.address, port);
        Ok(format!("{scheme}://{socket}"))
    }

    /// The network that the labels name, else the options.
    fn wanted_network(&self) -> String {
        let (docker, swarm) = (&self.labels.docker.network, &self.labels.swarm.network);
        let labelled = match self.container.part {
            Some(_) if !swarm.is_empty() => swarm,
            Some(_) | None => docker,
        };
        match labelled.is_empty() {
            true => self.settings.network.clone(),
            false => labelled.clone(),
        }
    }

    /// What there is to say about the choice of the network, once.
    fn remark(&mut self, remark: String) {
        let (path, hint) = match self.container.part {
            None => (
                "docker.network",
                "name one with the label `traefik.docker.network`",
            ),
            Some(_) => (
                "swarm.network",
                "name one with the label `traefik.swarm.network`",
            ),
        };
        let finding = Diagnostic::warning(self.place(), path, remark).with_hint(hint);
        if !self.on_the_way.contains(&finding) {
            self.on_the_way.push(finding);
        }
    }

    fn routers(&mut self, services: &BTreeSet<String>) {
        let named = self.named(Kind::Router);
        let mut routers = std::mem::take(&mut self.labels.decoded.routing.http.routers);
        if routers.is_empty() && named.is_empty() {
            if services.len() > 1 {
                let message = "has several services and no router: none is reachable";
                let finding = Diagnostic::info(self.place(), "http.routers", message);
                self.labels.decoded.diagnostics.push(finding);
                return;
            }
            let implicit = Placed::new(Router::default(), Places::of(self.place()));
            routers.insert(self.base.clone(), implicit);
        }
        for (name, mut router) in routers {
            match self.complete(&mut router.value, services) {
                Ok(()) => {
                    self.labels
                        .decoded
                        .routing
                        .http
                        .routers
                        .insert(name, router);
                }
                Err((field, message)) => {
                    let path = format!("http.routers.{name}{field}");
                    let finding = Diagnostic::error(router.place().clone(), path, message);
                    self.labels.decoded.diagnostics.push(finding);
                    self.labels.decoded.broken.insert((Kind::Router, name));
                }
            }
        }
    }

    /// Gives a router the rule and the service that it does not name.
    fn complete(
        &self,
        router: &mut Router,
        services: &BTreeSet<String>,
    ) -> Result<(), (&'static str, String)> {
        if router.rule.is_empty() {
            let rule = self.settings.default_rule(self.container, &self.base);
            router.rule = rule.map_err(|message| (".rule", message))?;
        }
        if router.service.is_empty() {
            let mut names = services.iter();
            match (names.next(), names.next()) {
                (Some(only), None) => router.service.clone_from(only),
                _ => {
                    let names: Vec<String> =
                        services.iter().map(|name| format!("`{name}`")).collect();
                    let message = format!("needs `service`: one of {}", names.join(", "));
                    return Err((".service", message));
                }
            }
        }
        Ok(())
    }

    /// Names of objects of a kind that could not be read.
    fn named(&self, kind: Kind) -> BTreeSet<String> {
        let broken = self.labels.decoded.broken.iter();
        let broken = broken.filter(|(found, _)| *found == kind);
        broken.map(|(_, name)| name.clone()).collect()
    }

    /// The container as a whole.
    fn place(&self) -> Place {
        self.made.of.whole()
    }
}

/// Says what is wrong with the scheme of a server's URL, where it is written.
fn known_scheme(scheme: &str) -> Result<(), String> {
    if SCHEMES
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
    {
        return Ok(());
    }
    let near = nearest(scheme, SCHEMES.iter().map(|known| (*known, *known)));
    let near = near.map(|near| format!(" (did you mean `{near}`?)"));
    let near = near.unwrap_or_default();
    Err(format!(
        "unknown scheme `{scheme}`: expected http, https or h2c{near}"
    ))
}

/// The network mode of a service whose virtual address is its server.
pub(super) const VIRTUAL: &str = "vip";

const SCHEMES: [&str; 3] = ["http", "https", "h2c"];

#[cfg(test)]
mod tests;
