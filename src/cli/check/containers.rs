//! The services of a stack as the containers they become, and what their labels say together.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compose::{Pair, Service},
    config::{
        DecodedRouting, Diagnostic, Kind, Place, Placed, Places,
        labels::{DecodedLabels, LabelServer, decode_labels},
        routing::{LoadBalancer, Router, Server, ServiceKind},
        template::normalize,
    },
};

/// What matters of how the provider is set.
pub(super) struct Manner<'a> {
    pub(super) project: &'a str,
    pub(super) exposed_by_default: bool,
    /// Labels of Swarm services instead of those of containers.
    pub(super) swarm: bool,
}

impl Manner<'_> {
    /// The labels of a service that the provider looks at.
    pub(super) fn labels<'s>(&self, service: &'s Service) -> &'s [Pair] {
        match self.swarm {
            true => &service.deploy_labels,
            false => &service.labels,
        }
    }

    /// What the provider would make of the services if they ran.
    pub(super) fn routing<'s>(
        &self,
        services: impl Iterator<Item = &'s Service>,
    ) -> DecodedRouting {
        let mut whole = Whole::default();
        for (number, service) in services.enumerate() {
            let labels = self.labels(service);
            let texts = labels.iter().map(|pair| (&*pair.name, &*pair.value));
            let mut labels = decode_labels(&service.name, texts);
            if labels.enable.unwrap_or(self.exposed_by_default) {
                self.complete(service, number, &mut labels);
                whole.add(labels.decoded, service);
            } else {
                self.say_hidden(service, &labels, &mut whole.made.diagnostics);
            }
        }
        whole.made
    }

    fn say_hidden(&self, service: &Service, labels: &DecodedLabels, said: &mut Vec<Diagnostic>) {
        said.extend(labels.decoded.diagnostics.iter().cloned());
        if labels.enable.is_none() && !labels.decoded.routing.http.routers.is_empty() {
            let message = "its labels count for nothing: `exposedByDefault` is false";
            let found = Diagnostic::warning(whole(service), "", message);
            said.push(found.with_hint("add the label `traefik.enable=true`"));
        }
    }

    /// Adds what goes without saying: a service, its servers, a router, its service.
    fn complete(&self, service: &Service, number: usize, labels: &mut DecodedLabels) {
        let base = normalize(&format!("{}_{}", service.name, self.project));
        let decoded = &mut labels.decoded;
        let layer4 =
            decoded.routing.tcp != Default::default() || decoded.routing.udp != Default::default();
        let http = &mut decoded.routing.http;
        let nothing = decoded.broken.is_empty() && *http == Default::default();
        if nothing && (layer4 || service.ports.is_empty()) {
            return;
        }
        let place = Places::of(whole(service));
        let broken = |kind| decoded.broken.iter().any(|(broken, _)| *broken == kind);
        if http.services.is_empty() && !broken(Kind::Service) {
            let implicit = Placed::new(LoadBalancer::default().into(), place.clone());
            http.services.insert(base.clone(), implicit);
        }
        if http.routers.is_empty() && !broken(Kind::Router) && http.services.len() == 1 {
            let implicit = Placed::new(Router::default(), place);
            http.routers.insert(base.clone(), implicit);
        }
        let mut said = Vec::new();
        for (name, object) in &mut http.services {
            let labelled = labels.servers.get(name).cloned().unwrap_or_default();
            if labelled.port.is_empty() && labelled.url.is_empty() && service.ports.is_empty() {
                let message = "the port is the lowest that the image exposes; this file names none";
                let path = format!("http.services.{name}.loadBalancer.server.port");
                said.push(Diagnostic::info(whole(service), path, message));
            }
            match port(service, &labelled) {
                Ok(port) => {
                    if let ServiceKind::LoadBalancer(balancer) = &mut object.value.kind {
                        balancer.servers = servers(service, number, port, &labelled);
                    }
                }
                Err(message) => {
                    let path = format!("http.services.{name}.loadBalancer.server.port");
                    said.push(about_port(
                        service,
                        &labelled,
                        object.place(),
                        path,
                        message,
                    ));
                }
            }
        }
        self.complete_routers(&base, decoded, &mut said);
        decoded.diagnostics.append(&mut said);
    }

    /// The rule and the service that go without saying.
    fn complete_routers(
        &self,
        base: &str,
        decoded: &mut DecodedRouting,
        said: &mut Vec<Diagnostic>,
    ) {
        let http = &mut decoded.routing.http;
        let mut names: BTreeSet<&String> = http.services.keys().collect();
        names.extend(
            decoded
                .broken
                .iter()
                .filter_map(|(kind, name)| (*kind == Kind::Service).then_some(name)),
        );
        for (name, router) in &mut http.routers {
            if router.rule.is_empty() {
                router.value.rule = format!("Host(`{base}`)");
            }
            if router.service.is_empty() {
                let mut names = names.iter();
                match (names.next(), names.next()) {
                    (Some(only), None) => router.value.service.clone_from(only),
                    _ => {
                        let path = format!("http.routers.{name}.service");
                        let message = "is missing: the container has several services";
                        said.push(Diagnostic::error(router.place().clone(), path, message));
                    }
                }
            }
        }
    }
}

/// The number that a label says, else the lowest that the file names. 80 stands in for what only the image knows.
fn port(service: &Service, labelled: &LabelServer) -> Result<Option<u16>, String> {
    if !labelled.url.is_empty() {
        return Ok(None);
    }
    match labelled.port.as_str() {
        "" => Ok(Some(service.ports.first().copied().unwrap_or(80))),
        text => match text.trim().parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(format!("{text:?} is not a port")),
        },
    }
}

fn about_port(
    service: &Service,
    labelled: &Placed<LabelServer>,
    object: &Place,
    path: String,
    message: String,
) -> Diagnostic {
    let place = match labelled.at("port") {
        Place::Builtin if *object == Place::Builtin => whole(service),
        Place::Builtin => object.clone(),
        place => place.clone(),
    };
    Diagnostic::error(place, path, message)
}

fn servers(
    service: &Service,
    number: usize,
    port: Option<u16>,
    labelled: &LabelServer,
) -> Vec<Server> {
    let scheme = match labelled.scheme.as_str() {
        "" => "http",
        scheme => scheme,
    };
    let url = |replica: usize| match port {
        None => labelled.url.clone(),
        // Any address will do: nobody connects.
        Some(port) => format!("{scheme}://172.16.{}.{}:{port}", number % 250, replica + 2),
    };
    let mut servers: Vec<Server> = (0..service.replicas)
        .map(|replica| Server {
            url: url(replica),
            weight: labelled.weight.unwrap_or(1),
            preserve_path: labelled.preserve_path,
            ..Server::default()
        })
        .collect();
    servers.dedup_by(|a, b| a.url == b.url);
    servers
}

/// What all services want, and which of them wanted what first.
#[derive(Default)]
struct Whole {
    made: DecodedRouting,
    owners: BTreeMap<(&'static str, String), String>,
}

impl Whole {
    fn add(&mut self, more: DecodedRouting, service: &Service) {
        let name = &service.name;
        self.made.diagnostics.extend(more.diagnostics);
        self.made.broken.extend(more.broken);
        let (mut into, from) = (std::mem::take(&mut self.made.routing), more.routing);
        self.objects(
            "http.routers",
            &mut into.http.routers,
            from.http.routers,
            name,
        );
        self.objects(
            "http.services",
            &mut into.http.services,
            from.http.services,
            name,
        );
        let section = "http.middlewares";
        self.objects(
            section,
            &mut into.http.middlewares,
            from.http.middlewares,
            name,
        );
        let section = "http.serversTransports";
        let transports = from.http.servers_transports;
        self.objects(section, &mut into.http.servers_transports, transports, name);
        self.objects("tls.stores", &mut into.tls.stores, from.tls.stores, name);
        self.objects("tcp.routers", &mut into.tcp.routers, from.tcp.routers, name);
        self.objects(
            "tcp.services",
            &mut into.tcp.services,
            from.tcp.services,
            name,
        );
        let section = "tcp.middlewares";
        self.objects(
            section,
            &mut into.tcp.middlewares,
            from.tcp.middlewares,
            name,
        );
        self.objects("udp.routers", &mut into.udp.routers, from.udp.routers, name);
        self.objects(
            "udp.services",
            &mut into.udp.services,
            from.udp.services,
            name,
        );
        self.made.routing = into;
    }

    fn objects<T: PartialEq>(
        &mut self,
        section: &'static str,
        into: &mut BTreeMap<String, Placed<T>>,
        from: BTreeMap<String, Placed<T>>,
        service: &str,
    ) {
        for (name, object) in from {
            match into.get(&name) {
                None => {
                    let key = (section, name.clone());
                    self.owners.insert(key, service.to_owned());
                    into.insert(name, object);
                }
                Some(present) if *present == object => {}
                Some(_) => {
                    let owner = self.owners.get(&(section, name.clone()));
                    let owner = owner.map_or("another", String::as_str);
                    let message = format!("is defined otherwise by service {owner}");
                    let path = format!("{section}.{name}");
                    let found = Diagnostic::error(object.place().clone(), path, message);
                    let hint = "give one of the two another name";
                    self.made.diagnostics.push(found.with_hint(hint));
                }
            }
        }
    }
}

/// A service as a whole.
pub(super) fn whole(service: &Service) -> Place {
    Place::Label {
        container: service.name.as_str().into(),
        key: "".into(),
    }
}
