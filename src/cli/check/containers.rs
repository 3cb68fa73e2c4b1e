//! The services of a stack as the containers they become, and what their labels say together.

use crate::{
    compose::{Pair, Project, Service},
    config::{DecodedRouting, Diagnostic, Labelled, install, labels::is_label},
    provider::docker::{Sketch, rehearse},
};

/// How the labels of a stack are read.
pub(super) struct Reading<'a> {
    pub(super) project: &'a Project,
    pub(super) options: install::DockerProvider,
    /// The networks that the proxy is on.
    pub(super) networks: &'a [String],
    /// Labels of Swarm services count instead of those of containers.
    pub(super) swarm: bool,
}

impl Reading<'_> {
    /// What the labels of `services` say if these run.
    pub(super) fn of(&self, services: &[&Service]) -> DecodedRouting {
        // What the image exposes decides whether a service without labels is served; nothing can be said of it here.
        let services = services.iter().copied();
        let services: Vec<&Service> = services
            .filter(|service| !service.ports.is_empty() || self.is_labelled(service))
            .collect();
        let sketches: Vec<Sketch> = services
            .iter()
            .map(|service| self.sketch(service))
            .collect();
        let said = rehearse(&self.options, self.networks, &sketches);
        let mut decoded = said.decoded;
        for (service, sketch) in services.iter().zip(&sketches) {
            let left_out = said.left_out.contains(&sketch.of);
            decoded.diagnostics.extend(match left_out {
                true => self.hidden(sketch),
                false if self.swarm => None,
                false => unnamed_port(service, sketch),
            });
        }
        decoded
    }

    fn labels<'s>(&self, service: &'s Service) -> &'s [Pair] {
        match self.swarm {
            true => &service.deploy_labels,
            false => &service.labels,
        }
    }

    fn is_labelled(&self, service: &Service) -> bool {
        let mut labels = self.labels(service).iter();
        labels.any(|pair| is_label(&pair.name))
    }

    fn sketch(&self, service: &Service) -> Sketch {
        let own = match self.swarm {
            true => vec![("com.docker.stack.namespace", &self.project.name)],
            false => vec![
                ("com.docker.compose.project", &self.project.name),
                ("com.docker.compose.service", &service.name),
            ],
        };
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.clone()));
        let labels = self.labels(service).iter();
        let labels = labels.map(|pair| (pair.name.clone(), pair.value.clone()));
        let mut ports = service.ports.clone();
        if self.swarm {
            // A swarm tells of none.
            ports.clear();
        } else if ports.is_empty() && self.is_labelled(service) {
            // What the image exposes is not known here.
            ports.push(80);
        }
        Sketch {
            of: labelled(self.project, service, self.swarm),
            labels: labels.chain(own).collect(),
            networks: self.networks_of(service),
            on_host: service.network_mode.as_deref() == Some("host"),
            ports,
            replicas: service.replicas,
        }
    }

    /// The networks of a service; those of another one if it shares them.
    fn networks_of(&self, service: &Service) -> Vec<String> {
        let mode = service.network_mode.as_deref().unwrap_or_default();
        let other = mode.strip_prefix("service:");
        let mut services = self.project.services.iter();
        match other.and_then(|other| services.find(|service| service.name == other)) {
            Some(other) => other.networks.clone(),
            None => service.networks.clone(),
        }
    }

    /// Says of a service with routers that nobody looks at them.
    fn hidden(&self, sketch: &Sketch) -> Option<Diagnostic> {
        let mut names = sketch.labels.keys().map(|name| name.to_ascii_lowercase());
        let says = names.any(|name| name.starts_with("traefik.http."));
        let mut names = sketch.labels.keys();
        let decided = names.any(|name| name.eq_ignore_ascii_case("traefik.enable"));
        if !says || (decided && self.options.constraints.is_empty()) {
            return None;
        }
        let (why, hint) = match decided {
            false if !self.options.exposed_by_default => (
                "`exposedByDefault` is false",
                "add the label `traefik.enable=true`",
            ),
            _ if self.swarm => (
                "it does not fulfil `constraints`",
                "see `providers.swarm.constraints` of the edge",
            ),
            _ => (
                "it does not fulfil `constraints`",
                "see `providers.docker.constraints` of the edge",
            ),
        };
        let message = format!("its labels count for nothing: {why}");
        Some(Diagnostic::warning(sketch.of.whole(), "", message).with_hint(hint))
    }
}

/// Says that only the image knows the port.
fn unnamed_port(service: &Service, sketch: &Sketch) -> Option<Diagnostic> {
    let named = sketch.labels.keys().any(|name| {
        let name = name.to_ascii_lowercase();
        name.ends_with(".loadbalancer.server.port")
            || name.ends_with(".loadbalancer.server.url")
            || name.contains(".loadbalancer.servers[")
    });
    if named || !service.ports.is_empty() || sketch.ports.is_empty() {
        return None;
    }
    let message = "its port is the lowest that the image exposes; this file names none";
    let found = Diagnostic::info(sketch.of.whole(), "", message);
    Some(found.with_hint("a label `loadbalancer.server.port` would say it"))
}

/// What the labels of a service belong to: to its containers, or below `deploy` to the service that it becomes in a swarm.
pub(super) fn labelled(project: &Project, service: &Service, swarm: bool) -> Labelled {
    match swarm {
        true => Labelled::Service(format!("{}_{}", project.name, service.name).into()),
        false => Labelled::Container(service.name.as_str().into()),
    }
}
