//! What the API shows of a snapshot: every object that was wanted, and what became of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    doors::{self, Door, split},
    internal,
};
use crate::{
    config::{
        Diagnostic, Kind, Routing,
        definitions::{Defined, Name, Named, base_name, qualify, tls_name},
        install::RuleSyntax,
        routing::{Observability, Router},
    },
    observe::ServerView,
    rule::Rule,
    service::Server,
    snapshot::{
        Internal, Route, Snapshot,
        catalog::{
            Catalog, CertificateEntry, Circuit, MiddlewareEntry, ObservabilityEntry, RouterEntry,
            ServerEntry, ServiceEntry, Status,
        },
    },
    tls::Certificate,
};

/// The catalog of a snapshot, made the first time somebody asks.
pub fn catalog(snapshot: &Snapshot) -> Arc<Catalog> {
    Arc::clone(
        snapshot
            .catalog
            .get_or_init(|| Arc::new(Maker::new(snapshot).catalog())),
    )
}

struct Maker<'a> {
    snapshot: &'a Snapshot,
    doors: Vec<Door<'a>>,
    findings: Findings<'a>,
}

impl<'a> Maker<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            doors: doors::doors(&snapshot.ledger.install),
            findings: Findings::new(snapshot),
        }
    }

    fn catalog(&self) -> Catalog {
        let wanted = &self.snapshot.ledger.wanted;
        let routers = self.routers();
        let mut routing = Routing::default();
        routing.http.routers = written(&wanted.routers);
        routing.http.services = written(&wanted.services);
        routing.http.middlewares = written(&wanted.middlewares);
        Catalog {
            generation: self.snapshot.generation,
            routing: Arc::new(routing),
            services: self.services(&routers),
            middlewares: self.middlewares(&routers),
            routers,
            certificates: certificates(self.snapshot),
            diagnostics: self.findings.of_nobody.clone(),
        }
    }

    fn routers(&self) -> BTreeMap<Name, RouterEntry> {
        let using = self.using();
        let mut entries = BTreeMap::new();
        let mut mounted: HashMap<&Name, Vec<usize>> = HashMap::new();
        for (index, route) in self.snapshot.routes.iter().enumerate() {
            mounted.entry(&route.written_as).or_default().push(index);
        }
        for name in self
            .findings
            .names(Kind::Router, &self.snapshot.ledger.wanted.routers)
        {
            let wanted = self.snapshot.ledger.wanted.routers.get(name);
            let diagnostics = self.findings.of(Kind::Router, name);
            match (mounted.get(name), wanted) {
                (Some(routes), _) => {
                    for index in routes {
                        let route = &self.snapshot.routes[*index];
                        let entry = self.mounted(route, &using[*index], wanted, diagnostics);
                        entries.insert(Arc::clone(&route.name), entry);
                    }
                }
                (None, Some(definition)) => entries.extend(self.unmounted(definition, diagnostics)),
                (None, None) => {
                    entries.insert(Arc::clone(name), refused(diagnostics));
                }
            }
        }
        entries
    }

    /// The entry points of each route, by its index.
    fn using(&self) -> Vec<Vec<usize>> {
        let mut using = vec![Vec::new(); self.snapshot.routes.len()];
        for (door, entry_point) in self.snapshot.entry_points.iter().enumerate() {
            for (_, route) in entry_point.plain.rules().chain(entry_point.secure.rules()) {
                if let Some(doors) = usize::try_from(route)
                    .ok()
                    .and_then(|route| using.get_mut(route))
                {
                    doors.push(door);
                }
            }
        }
        using
    }

    fn mounted(
        &self,
        route: &Route,
        using: &[usize],
        wanted: Option<&Defined<Router>>,
        diagnostics: &[Diagnostic],
    ) -> RouterEntry {
        let door = using.first().map(|door| &self.doors[*door]);
        let router = wanted.map(|definition| &definition.object.value);
        RouterEntry {
            written_as: Some(&route.written_as)
                .filter(|name| **name != route.name)
                .cloned(),
            status: Status::of(diagnostics),
            diagnostics: diagnostics.to_vec(),
            entry_points: self.meant_for(using, router),
            using: self.door_names(using),
            steps: route.steps.to_vec(),
            middlewares: wanted
                .map(|definition| middlewares(definition, door))
                .unwrap_or_default(),
            priority: route.priority,
            tls_options: route.tls_options.clone(),
            observability: observability(
                router.and_then(|router| router.observability.as_ref()),
                door,
            ),
            rule_syntax: wanted.and_then(|definition| self.rule_syntax(definition)),
        }
    }

    /// The entry points that a router is for, those among them that do not exist.
    fn meant_for(&self, using: &[usize], router: Option<&Router>) -> Vec<Name> {
        let written = router.map_or(&[][..], |router| &router.entry_points);
        if written.is_empty() {
            return self.door_names(using);
        }
        let foreign = |name: &str| {
            let elsewhere =
                |(index, door): (usize, &Door<'_>)| *door.name == *name && !using.contains(&index);
            self.doors.iter().enumerate().any(elsewhere)
        };
        let meant = written.iter().filter(|name| !foreign(name));
        meant.map(|name| name.as_str().into()).collect()
    }

    /// The syntax of a router that says none, if the install configuration says one for it.
    fn rule_syntax(&self, definition: &Defined<Router>) -> Option<&'static str> {
        let internal = &*definition.provider == internal::PROVIDER;
        let syntax = doors::default_syntax(&self.snapshot.ledger.install)?;
        (!internal && definition.object.rule_syntax.is_empty()).then_some(match syntax {
            RuleSyntax::V2 => "v2",
            RuleSyntax::V3 => "v3",
        })
    }

    /// The findings of a router that is not served, with the errors of its entry point.
    fn with_those_of(&self, door: Option<&Door<'_>>, own: &[Diagnostic]) -> Vec<Diagnostic> {
        let path = door.map(|door| format!("entryPoints.{}.", door.name));
        let of_door = self.findings.of_nobody.iter().filter(|found| {
            found.is_error()
                && path
                    .as_ref()
                    .is_some_and(|path| found.path.starts_with(path))
        });
        own.iter().chain(of_door).cloned().collect()
    }

    /// The routers that one would have become.
    fn unmounted(
        &self,
        definition: &Defined<Router>,
        diagnostics: &[Diagnostic],
    ) -> Vec<(Name, RouterEntry)> {
        let router = &definition.object.value;
        let known: Vec<usize> = match router.entry_points.is_empty() {
            true => (0..self.doors.len())
                .filter(|door| self.doors[*door].is_default)
                .collect(),
            false => (0..self.doors.len())
                .filter(|door| {
                    router
                        .entry_points
                        .iter()
                        .any(|name| **name == *self.doors[*door].name)
                })
                .collect(),
        };
        let mut parts = split(
            &self.doors,
            &definition.name,
            &known,
            router.entry_points.len(),
        );
        if parts.is_empty() {
            parts.push((Arc::clone(&definition.name), Vec::new()));
        }
        let entries = parts.into_iter().map(|(name, using)| {
            let door = using.first().map(|door| &self.doors[*door]);
            let tls = door.map_or(router.tls.as_ref(), |door| door.tls(router.tls.as_ref()));
            let entry_points = match using.is_empty() {
                true => router
                    .entry_points
                    .iter()
                    .map(|name| name.as_str().into())
                    .collect(),
                false => self.door_names(&using),
            };
            let entry = RouterEntry {
                written_as: Some(&definition.name)
                    .filter(|written| **written != name)
                    .cloned(),
                entry_points,
                using: self.door_names(&using),
                middlewares: middlewares(definition, door),
                // Without an entry point nothing is ordered.
                priority: match router.priority {
                    _ if using.is_empty() => 0,
                    0 => Rule::default_priority(&router.rule),
                    priority => priority,
                },
                tls_options: tls.map(|tls| tls_name(&tls.options, &definition.provider)),
                observability: observability(router.observability.as_ref(), door),
                rule_syntax: self.rule_syntax(definition),
                ..refused(&self.with_those_of(door, diagnostics))
            };
            (name, entry)
        });
        entries.collect()
    }

    fn door_names(&self, indexes: &[usize]) -> Vec<Name> {
        indexes
            .iter()
            .map(|index| Arc::clone(&self.doors[*index].name))
            .collect()
    }

    fn services(&self, routers: &BTreeMap<Name, RouterEntry>) -> BTreeMap<Name, ServiceEntry> {
        let mut used_by: HashMap<Name, Vec<Name>> = HashMap::new();
        for (name, entry) in routers {
            if let Some(definition) = self.definition(name, entry) {
                let service = qualify(&definition.object.service, &definition.provider);
                used_by
                    .entry(service.into())
                    .or_default()
                    .push(Arc::clone(name));
            }
        }
        let mut entries = BTreeMap::new();
        for name in self
            .findings
            .names(Kind::Service, &self.snapshot.ledger.wanted.services)
        {
            let diagnostics = self.findings.of(Kind::Service, name);
            let built = self.snapshot.service(name);
            let servers = built.iter().flat_map(|service| &service.servers);
            let entry = ServiceEntry {
                status: Status::of(diagnostics),
                diagnostics: diagnostics.to_vec(),
                used_by: used_by.remove(name).unwrap_or_default(),
                servers: servers.map(server).collect(),
            };
            entries.insert(Arc::clone(name), entry);
        }
        for internal in Internal::ALL {
            let name: Name = internal.name().into();
            if internal.is_enabled(&self.snapshot.ledger.install) {
                let used_by = used_by.remove(&name).unwrap_or_default();
                entries.insert(
                    name,
                    ServiceEntry {
                        used_by,
                        ..ServiceEntry::default()
                    },
                );
            }
        }
        entries
    }

    fn middlewares(
        &self,
        routers: &BTreeMap<Name, RouterEntry>,
    ) -> BTreeMap<Name, MiddlewareEntry> {
        let mut used_by: HashMap<&Name, Vec<Name>> = HashMap::new();
        for (name, entry) in routers {
            for middleware in &entry.middlewares {
                used_by
                    .entry(middleware)
                    .or_default()
                    .push(Arc::clone(name));
            }
        }
        let mut circuits = self.circuits();
        let names = self
            .findings
            .names(Kind::Middleware, &self.snapshot.ledger.wanted.middlewares);
        let entries = names.into_iter().map(|name| {
            let diagnostics = self.findings.of(Kind::Middleware, name);
            let entry = MiddlewareEntry {
                status: Status::of(diagnostics),
                diagnostics: diagnostics.to_vec(),
                used_by: used_by.remove(name).unwrap_or_default(),
                circuits: circuits.remove(name).unwrap_or_default(),
            };
            (Arc::clone(name), entry)
        });
        entries.collect()
    }

    /// The circuit breakers of all routers, by the name of the middleware.
    fn circuits(&self) -> HashMap<Name, Vec<Circuit>> {
        let mut circuits: HashMap<Name, Vec<Circuit>> = HashMap::new();
        for route in &self.snapshot.routes {
            for (step, name) in route.steps.iter().enumerate() {
                let circuit = Circuit {
                    router: Arc::clone(&route.name),
                    plan: Arc::clone(&route.plan),
                    step,
                };
                if !circuit.state().is_empty() {
                    circuits.entry(Arc::clone(name)).or_default().push(circuit);
                }
            }
        }
        circuits
    }

    fn definition(&self, name: &Name, entry: &RouterEntry) -> Option<&Defined<Router>> {
        let written_as = entry.written_as.as_ref().unwrap_or(name);
        self.snapshot.ledger.wanted.routers.get(written_as)
    }
}

fn refused(diagnostics: &[Diagnostic]) -> RouterEntry {
    RouterEntry {
        status: Status::Disabled,
        diagnostics: diagnostics.to_vec(),
        ..RouterEntry::default()
    }
}

fn middlewares(definition: &Defined<Router>, door: Option<&Door<'_>>) -> Vec<Name> {
    let of_door = door
        .into_iter()
        .flat_map(|door| &door.config.http.middlewares);
    let names = of_door.chain(&definition.object.middlewares);
    names
        .map(|name| qualify(name, &definition.provider).into())
        .collect()
}

fn observability(router: Option<&Observability>, door: Option<&Door<'_>>) -> ObservabilityEntry {
    let defaults = door
        .and_then(|door| door.config.observability.clone())
        .unwrap_or_default();
    let router = router.cloned().unwrap_or_default();
    ObservabilityEntry {
        access_logs: router.access_logs.unwrap_or(defaults.access_logs),
        metrics: router.metrics.unwrap_or(defaults.metrics),
        tracing: router.tracing.unwrap_or(defaults.tracing),
        trace_verbosity: router.trace_verbosity.unwrap_or(defaults.trace_verbosity),
    }
}

fn server(server: &Arc<Server>) -> ServerEntry {
    let is_named = server.host.parse::<std::net::IpAddr>().is_err();
    ServerEntry {
        url: Arc::clone(&server.name),
        address: server
            .address
            .filter(|_| is_named)
            .map(|address| address.to_string().into()),
        view: Arc::clone(server) as Arc<dyn ServerView>,
    }
}

/// The certificates in use, the generated default one excepted.
pub fn certificates(snapshot: &Snapshot) -> Vec<CertificateEntry> {
    let configured = snapshot
        .tls
        .iter()
        .flat_map(|tls| tls.certificates().configured());
    let mut entries: Vec<CertificateEntry> = configured
        .map(|certificate| certificate_entry(certificate))
        .collect();
    let default = snapshot
        .tls
        .as_ref()
        .filter(|tls| !tls.default_is_generated());
    let default = default.and_then(|tls| tls.certificates().default_certificate());
    entries.extend(default.map(|certificate| certificate_entry(certificate)));
    entries.sort_by(|left, right| left.fingerprint.cmp(&right.fingerprint));
    entries.dedup();
    entries
}

fn certificate_entry(certificate: &Certificate) -> CertificateEntry {
    let facts = certificate.facts();
    let addresses = facts.addresses.iter().map(ToString::to_string);
    CertificateEntry {
        common_name: facts.common_name.clone(),
        sans: facts.dns_names.iter().cloned().chain(addresses).collect(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        serial_number: facts.serial.clone(),
        issuer_organization: facts.issuer_organization.clone(),
        issuer_common_name: facts.issuer_common_name.clone(),
        organization: facts.organization.clone(),
        key_type: facts.key_type.to_owned(),
        key_size: facts.key_bits,
        signature_algorithm: facts.signature_algorithm.clone(),
        fingerprint: facts.fingerprint.clone(),
        public_key_fingerprint: facts.key_fingerprint.clone(),
        staple_until: certificate.staple().map(|staple| staple.until),
        ..CertificateEntry::default()
    }
}

fn written<T: Clone>(objects: &Named<T>) -> BTreeMap<String, crate::config::Placed<T>> {
    objects
        .values()
        .map(|definition| (definition.name.to_string(), definition.object.clone()))
        .collect()
}

/// Findings by the object they are about.
struct Findings<'a> {
    by_object: HashMap<(Kind, Name), Vec<Diagnostic>>,
    of_nobody: Vec<Diagnostic>,
    snapshot: &'a Snapshot,
}

impl<'a> Findings<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut findings = Self {
            by_object: HashMap::new(),
            of_nobody: Vec::new(),
            snapshot,
        };
        let owners = Owners::new(snapshot);
        for diagnostic in &snapshot.ledger.diagnostics {
            match owners.find(&diagnostic.path) {
                Some(owner) => findings
                    .by_object
                    .entry(owner)
                    .or_default()
                    .push(diagnostic.clone()),
                None => findings.of_nobody.push(diagnostic.clone()),
            }
        }
        findings
    }

    fn of(&self, kind: Kind, name: &Name) -> &[Diagnostic] {
        self.by_object
            .get(&(kind, Arc::clone(name)))
            .map_or(&[], Vec::as_slice)
    }

    /// The names of one kind, those of objects that could not be read included.
    fn names<T>(&self, kind: Kind, wanted: &'a Named<T>) -> Vec<&'a Name> {
        let broken = self.snapshot.ledger.wanted.broken.iter();
        let broken = broken.filter(|(of, name)| *of == kind && !wanted.contains_key(name));
        wanted.keys().chain(broken.map(|(_, name)| name)).collect()
    }
}

/// Finds the object that a path such as `http.routers.app@file.rule` leads into.
struct Owners<'a> {
    /// By kind, and by the name with or without its provider: who decodes a file does not know the provider.
    names: HashMap<(Kind, &'a str), &'a Name>,
}

impl<'a> Owners<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let wanted = &snapshot.ledger.wanted;
        let routers = wanted.routers.keys().map(|name| (Kind::Router, name));
        let services = wanted.services.keys().map(|name| (Kind::Service, name));
        let middlewares = wanted
            .middlewares
            .keys()
            .map(|name| (Kind::Middleware, name));
        let broken = wanted.broken.iter().map(|(kind, name)| (*kind, name));
        let mut names = HashMap::new();
        for (kind, name) in routers.chain(services).chain(middlewares).chain(broken) {
            names.insert((kind, &**name), name);
            names.entry((kind, base_name(name))).or_insert(name);
        }
        Self { names }
    }

    fn find(&self, path: &str) -> Option<(Kind, Name)> {
        let kinds = [Kind::Router, Kind::Service, Kind::Middleware];
        let mut found = kinds.into_iter().filter_map(|kind| {
            let rest = path.strip_prefix(kind.section())?.strip_prefix('.')?;
            // Names may hold dots, so the longest one that exists is meant.
            let ends = rest
                .match_indices(['.', '['])
                .map(|(at, _)| at)
                .chain([rest.len()]);
            let mut candidates: Vec<&str> = ends.map(|end| &rest[..end]).collect();
            candidates.reverse();
            let name = candidates
                .into_iter()
                .find_map(|name| self.names.get(&(kind, name)))?;
            Some((kind, Arc::clone(name)))
        });
        found.next()
    }
}
