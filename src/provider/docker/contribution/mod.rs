//! What one container adds to the routing configuration: its labels, and everything that goes without saying.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    address::{self, Surroundings},
    container::{Container, Id, Status},
    settings::Settings,
};
use crate::config::{
    DecodedRouting, Diagnostic, Kind, Place, Placed, Places,
    labels::{DecodedLabels, LabelServer, decode_labels},
    routing::{LoadBalancer, Router, Server, Service, ServiceKind},
    template::normalize,
};

/// What one container adds.
#[derive(Debug, Clone, Default)]
pub(super) struct Contribution {
    pub(super) id: Id,
    /// The container's name.
    pub(super) name: Arc<str>,
    /// Containers of one group are generations and replicas of one thing.
    pub(super) group: Arc<str>,
    pub(super) created: i64,
    /// Services without servers, and everything else.
    pub(super) decoded: DecodedRouting,
    /// The server it adds to each service.
    pub(super) servers: BTreeMap<String, Server>,
    /// The networks that its servers' addresses belong to.
    pub(super) networks: BTreeSet<String>,
}

/// The name that a container's implicit objects have, and the group it belongs to.
pub(super) fn base_name(container: &Container) -> (String, Arc<str>) {
    let label = |name: &str| {
        let label = container.labels.get(name).map(String::as_str);
        label.filter(|value| !value.is_empty())
    };
    let service = label("com.docker.compose.service");
    match (service, label("com.docker.compose.project")) {
        (Some(service), Some(project)) => {
            let base = normalize(&format!("{service}_{project}"));
            (base, format!("{project}/{service}").into())
        }
        _ => (normalize(&container.name), Arc::clone(&container.name)),
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
    let labels = decode_labels(&container.name, labels);
    let (base, group) = base_name(container);
    let mut draft = Draft {
        container,
        settings,
        around,
        base,
        labels,
        made: Contribution {
            id: Arc::clone(&container.id),
            name: Arc::clone(&container.name),
            group,
            created: container.created,
            ..Contribution::default()
        },
    };
    draft.http();
    draft.made.decoded = draft.labels.decoded;
    draft.made
}

struct Draft<'a> {
    container: &'a Container,
    settings: &'a Settings,
    around: &'a Surroundings,
    base: String,
    labels: DecodedLabels,
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
        for name in &services {
            self.server(name);
        }
        self.routers(&services);
    }

    /// Whether a container that says nothing at all could be a server. Workers and databases are not worth an error.
    fn is_reachable(&mut self) -> bool {
        let reachable = address::lowest(&self.container.ports).is_some();
        if !reachable && self.container.status == Status::Running {
            let message = "has no labels and no port that could be served";
            let finding = Diagnostic::info(self.place(), "", message);
            self.labels.decoded.diagnostics.push(
                finding.with_hint("set `traefik.enable=false`, or `exposedByDefault: false`"),
            );
        }
        reachable
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
                let finding = Diagnostic::error(place, path, message);
                self.labels.decoded.diagnostics.push(finding);
            }
        }
    }

    /// Where the container is reached, or which option is at fault and why.
    fn url(&mut self, labelled: &LabelServer) -> Result<String, (&'static str, String)> {
        if !labelled.url.is_empty() {
            if labelled.port.is_empty() && labelled.scheme.is_empty() {
                return Ok(labelled.url.clone());
            }
            return Err((".url", "cannot stand beside `port` or `scheme`".to_owned()));
        }
        let port = match labelled.port.as_str() {
            "" => address::lowest(&self.container.ports).ok_or_else(|| {
                let message = "the port is missing: the container exposes none, so a label \
                               `loadbalancer.server.port` must say it";
                (".port", message.to_owned())
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
        if self.settings.use_bind_port_ip
            && let Some(published) = address::published(&self.container.ports, port)
        {
            return Ok(format!("{scheme}://{published}"));
        }
        let wanted = match self.labels.docker.network.as_str() {
            "" => &self.settings.network,
            labelled => labelled,
        };
        let chosen = address::choose(self.container, wanted, self.around)
            .map_err(|message| ("", format!("the container {message}")))?;
        self.made.networks.extend(chosen.network);
        if let Some(remark) = chosen.remark {
            self.remark(remark);
        }
        let socket = std::net::SocketAddr::new(chosen.address, port);
        Ok(format!("{scheme}://{socket}"))
    }

    /// What there is to say about the choice of the network, once.
    fn remark(&mut self, remark: String) {
        let finding = Diagnostic::warning(self.place(), "docker.network", remark)
            .with_hint("name one with the label `traefik.docker.network`");
        let found = &mut self.labels.decoded.diagnostics;
        if !found.contains(&finding) {
            found.push(finding);
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
        whole(&self.container.name)
    }
}

/// A container as a whole.
pub(super) fn whole(name: &Arc<str>) -> Place {
    Place::Label {
        container: Arc::clone(name),
        key: "".into(),
    }
}

#[cfg(test)]
mod tests;
