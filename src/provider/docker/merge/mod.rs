//! What all containers add, put together. Pure, and the same for the same containers in whatever order they were found.

mod rivals;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rivals::Rivals;

use super::contribution::Contribution;
use crate::config::{
    DecodedRouting, Diagnostic, Kind, Labelled, Placed, Routing,
    routing::{Condition, Layer4, Router, Server, Service, ServiceKind},
};

/// One container's say.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    pub(super) contribution: Arc<Contribution>,
    /// How its servers are.
    pub(super) condition: Condition,
    /// It has gone, and is remembered for a while: everything but its servers.
    pub(super) gone: bool,
    /// When the first container of its group was made. Of two groups that claim one name, the older has it.
    pub(super) since: i64,
}

/// Puts everything together.
///
/// Within a group the newest definition wins and all serve: that is how labels change from one generation to the next. Between groups
/// the older one has the name, so that nobody takes over or takes down what another has.
pub(super) fn merge(mut voices: Vec<Voice>) -> DecodedRouting {
    voices.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut merge = Merge::default();
    for voice in &voices {
        merge.add(voice);
    }
    merge.finish(&voices)
}

/// By which voices speak.
type Order<'a> = (bool, i64, &'a str, Reverse<i64>, &'a str);

fn order(voice: &Voice) -> Order<'_> {
    let contribution = &voice.contribution;
    (
        voice.gone,
        voice.since,
        &contribution.group,
        Reverse(contribution.created),
        &contribution.id,
    )
}

#[derive(Default)]
struct Merge {
    routing: Routing,
    diagnostics: Vec<Diagnostic>,
    of_tasks: Vec<Diagnostic>,
    /// Whose definition of each object is in force.
    taken: HashMap<SectionName, Owner>,
    servers: BTreeMap<String, Vec<Server>>,
    /// Whose routers take which requests.
    rivals: Rivals,
}

/// A section such as `http.routers`, and a name in it.
type SectionName = (&'static str, String);
type Objects<T> = BTreeMap<String, Placed<T>>;

#[derive(Clone)]
struct Owner {
    group: Arc<str>,
    of: Labelled,
}

/// What became of a definition.
#[derive(PartialEq, Eq)]
enum Fate {
    /// It is the one in force, or says the same.
    Agreed,
    /// Another generation of the same group has a newer one.
    Older,
    /// Somebody else has the name.
    Refused,
}

impl Merge {
    fn add(&mut self, voice: &Voice) {
        let from = &voice.contribution.decoded;
        let found = from.diagnostics.iter();
        if voice.contribution.is_task {
            // Every task of a service has the same to say.
            for finding in found.filter(|_| !voice.gone) {
                if !self.of_tasks.contains(finding) {
                    self.of_tasks.push(finding.clone());
                }
            }
        } else if !voice.gone {
            self.diagnostics.extend(found.cloned());
        }
        let mut into = std::mem::take(&mut self.routing);
        let http = &from.routing.http;
        for (name, router) in &http.routers {
            self.router(&mut into.http.routers, name, router, voice);
        }
        self.objects(
            "http.middlewares",
            &mut into.http.middlewares,
            &http.middlewares,
            voice,
        );
        self.objects(
            "http.serversTransports",
            &mut into.http.servers_transports,
            &http.servers_transports,
            voice,
        );
        self.services(&mut into.http.services, voice);
        self.objects(
            "tls.stores",
            &mut into.tls.stores,
            &from.routing.tls.stores,
            voice,
        );
        self.layer4(TCP, &mut into.tcp, &from.routing.tcp, voice);
        self.layer4(UDP, &mut into.udp, &from.routing.udp, voice);
        self.routing = into;
    }

    /// Takes a router, unless somebody else's takes the very same requests.
    fn router(
        &mut self,
        into: &mut Objects<Router>,
        name: &str,
        router: &Placed<Router>,
        voice: &Voice,
    ) {
        let group = &voice.contribution.group;
        let rival = match into.contains_key(name) {
            // Whose definition of one name holds is another question.
            true => None,
            false => self.rivals.of(router, group),
        };
        if let Some(rival) = rival.map(str::to_owned) {
            self.turn_away(name, router, &rival, voice);
            return;
        }
        let fate = self.object(("http.routers", name), into, router, voice);
        if fate == Fate::Agreed {
            self.rivals.take(name, router, group);
        }
    }

    fn turn_away(&mut self, name: &str, router: &Placed<Router>, rival: &str, voice: &Voice) {
        if !voice.gone
            && let Some(owner) = self.taken.get(&("http.routers", rival.to_owned()))
        {
            let message = format!(
                "is that of the router `{rival}` of {}, which was first: this router is not served",
                owner.of
            );
            let path = format!("http.routers.{name}.rule");
            let finding = Diagnostic::error(router.at("rule").clone(), path, message);
            let hint = "give it a priority of its own if it is meant to come before or after";
            self.diagnostics.push(finding.with_hint(hint));
        }
    }

    fn layer4(
        &mut self,
        sections: [&'static str; 4],
        into: &mut Layer4,
        from: &Layer4,
        voice: &Voice,
    ) {
        let [routers, services, middlewares, transports] = sections;
        self.objects(routers, &mut into.routers, &from.routers, voice);
        self.objects(services, &mut into.services, &from.services, voice);
        self.objects(middlewares, &mut into.middlewares, &from.middlewares, voice);
        let from = &from.servers_transports;
        self.objects(transports, &mut into.servers_transports, from, voice);
    }

    fn objects<T: Clone + PartialEq>(
        &mut self,
        section: &'static str,
        into: &mut Objects<T>,
        from: &Objects<T>,
        voice: &Voice,
    ) {
        for (name, object) in from {
            self.object((section, name), into, object, voice);
        }
    }

    fn object<T: Clone + PartialEq>(
        &mut self,
        (section, name): (&'static str, &str),
        into: &mut Objects<T>,
        object: &Placed<T>,
        voice: &Voice,
    ) -> Fate {
        let contribution = &voice.contribution;
        let Some(present) = into.get(name) else {
            let owner = Owner {
                group: Arc::clone(&contribution.group),
                of: contribution.of.clone(),
            };
            self.taken.insert((section, name.to_owned()), owner);
            into.insert(name.to_owned(), object.clone());
            return Fate::Agreed;
        };
        if present == object {
            return Fate::Agreed;
        }
        let Some(owner) = self.taken.get(&(section, name.to_owned())) else {
            return Fate::Refused;
        };
        if owner.group == contribution.group {
            return Fate::Older;
        }
        if !voice.gone {
            let message = format!(
                "is defined otherwise by {}, and this definition is not used",
                owner.of
            );
            let path = format!("{section}.{name}");
            let finding = Diagnostic::error(object.place().clone(), path, message);
            self.diagnostics
                .push(finding.with_hint("give one of the two another name"));
        }
        Fate::Refused
    }

    fn services(&mut self, into: &mut Objects<Service>, voice: &Voice) {
        let contribution = &voice.contribution;
        let defined = &contribution.decoded.routing.http.services;
        for (name, service) in defined {
            let fate = self.object(("http.services", name), into, service, voice);
            if fate != Fate::Refused {
                self.server(name, voice);
            }
        }
    }

    fn server(&mut self, service: &str, voice: &Voice) {
        let found = voice.contribution.servers.get(service);
        let Some(server) = found.filter(|_| !voice.gone) else {
            return;
        };
        let server = Server {
            condition: voice.condition.clone(),
            ..server.clone()
        };
        let servers = self.servers.entry(service.to_owned()).or_default();
        match servers.iter_mut().find(|other| other.url == server.url) {
            None => servers.push(server),
            // An address that has changed hands belongs to whoever is ready.
            Some(other) if server.condition == Condition::Ready => *other = server,
            Some(_) => {}
        }
    }

    /// Where a container's definition could not be read, its server joins those of its group.
    fn orphans(&mut self, voice: &Voice) {
        let contribution = &voice.contribution;
        for name in contribution.servers.keys() {
            let owner = self.taken.get(&("http.services", name.clone()));
            let ours = owner.is_some_and(|owner| owner.group == contribution.group);
            if ours
                && !contribution
                    .decoded
                    .routing
                    .http
                    .services
                    .contains_key(name)
            {
                self.server(name, voice);
            }
        }
    }

    fn finish(mut self, voices: &[Voice]) -> DecodedRouting {
        for voice in voices {
            self.orphans(voice);
        }
        for (name, mut servers) in self.servers {
            if let Some(service) = self.routing.http.services.get_mut(&name)
                && let ServiceKind::LoadBalancer(balancer) = &mut service.value.kind
            {
                servers.sort_by(|a, b| a.url.cmp(&b.url));
                balancer.servers = servers;
            }
        }
        self.diagnostics.append(&mut self.of_tasks);
        let mut decoded = DecodedRouting {
            diagnostics: self.diagnostics,
            routing: self.routing,
            ..DecodedRouting::default()
        };
        for voice in voices {
            if !voice.gone {
                decoded.add_partial(&voice.contribution.decoded.partial);
            }
            for (kind, name) in &voice.contribution.decoded.broken {
                if !defines(&decoded.routing, *kind, name) {
                    decoded.broken.insert((*kind, name.clone()));
                } else if !voice.gone {
                    decoded.diagnostics.extend(still_served(*kind, name, voice));
                }
            }
        }
        decoded
    }
}

/// Says that another container's good definition is used in place of a broken one.
fn still_served(kind: Kind, name: &str, voice: &Voice) -> Option<Diagnostic> {
    let path = format!("{}.{name}", kind.section());
    let message = "cannot be used; what another container says of it goes on";
    Some(Diagnostic::info(
        voice.contribution.of.whole(),
        path,
        message,
    ))
}

fn defines(routing: &Routing, kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Router => routing.http.routers.contains_key(name),
        Kind::Service => routing.http.services.contains_key(name),
        Kind::Middleware => routing.http.middlewares.contains_key(name),
        Kind::ServersTransport => routing.http.servers_transports.contains_key(name),
        Kind::TlsStore => routing.tls.stores.contains_key(name),
        Kind::Certificate | Kind::TlsOptions | Kind::Tcp | Kind::Udp => false,
    }
}

const TCP: [&str; 4] = [
    "tcp.routers",
    "tcp.services",
    "tcp.middlewares",
    "tcp.serversTransports",
];
const UDP: [&str; 4] = [
    "udp.routers",
    "udp.services",
    "udp.middlewares",
    "udp.serversTransports",
];

#[cfg(test)]
mod tests;
