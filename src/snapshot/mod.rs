//! The immutable plan: everything compiled, swapped whole. No logic but lookups.

pub mod catalog;
pub mod cell;
mod demand;
mod group;
pub mod table;

use std::sync::{Arc, OnceLock};

use crate::{
    config::{
        Diagnostic, Install,
        definitions::{Definitions, Name},
    },
    middleware::{EncodedCharacters, Middleware},
    observe::{EntryPointMetrics, ServiceMetrics, TrafficMetrics},
    rule::{Facts, Rule, Syntax},
    service::{Service, Timeouts},
    tls::{Certificate, SniTable, Tls},
};

use catalog::Catalog;
pub use cell::{CachedSnapshot, SnapshotCell};
pub use demand::Demand;
pub use group::{Failover, FailoverErrors, Group, GroupKind, Member, Mirror, Mirroring, Told};
use table::Table;

/// All that the request path reads: one configuration, compiled. A request uses one snapshot from start to end.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts the snapshots of this process, from 1; 0 is the empty one the process starts with.
    pub generation: u64,
    /// In the order of the install configuration, so that a listener knows its own by index.
    pub entry_points: Box<[EntryPoint]>,
    /// Every mounted route, in name order.
    pub routes: Box<[Arc<Route>]>,
    /// Every service a route uses, in name order.
    pub services: Box<[Arc<Service>]>,
    /// Every service made of services that a route uses, in name order.
    pub groups: Box<[Arc<Group>]>,
    /// The services that `errors` middlewares have pages from, in name order.
    pub pages: Box<[Arc<ErrorPages>]>,
    /// What the snapshot was made from and what was found wrong, for whoever asks.
    pub ledger: Ledger,
    /// The ledger as the API shows it, made when somebody asks.
    pub catalog: OnceLock<Arc<Catalog>>,
    /// Certificates and TLS options; `None` only in the empty snapshot.
    pub tls: Option<Arc<Tls>>,
    /// The certificates that routers ask resolvers for.
    pub demands: Arc<[Demand]>,
    /// The certificates whose responders are to be asked about them.
    pub stapling: Arc<[Arc<Certificate>]>,
}

impl Snapshot {
    /// The route of the entry point with this index that a request takes: of those whose rules match, the one of highest priority.
    /// Does not allocate.
    pub fn find(&self, entry_point: usize, tls: bool, facts: &Facts<'_>) -> Option<&Arc<Route>> {
        let entry_point = self.entry_points.get(entry_point)?;
        let table = if tls {
            &entry_point.secure
        } else {
            &entry_point.plain
        };
        self.routes.get(usize::try_from(table.find(facts)?).ok()?)
    }

    /// The mounted route of this name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        let at = self
            .routes
            .binary_search_by(|route| (*route.name).cmp(name));
        at.ok().map(|at| &self.routes[at])
    }

    /// The sets of names that routers ask a certificates resolver for.
    pub fn demanded_of(&self, resolver: &str) -> Vec<Vec<String>> {
        let demands = self.demands.iter();
        demands
            .filter(|demand| *demand.resolver == *resolver)
            .map(|demand| demand.names.clone())
            .collect()
    }

    /// The pages of the service of this qualified name, if a middleware shows them.
    pub fn pages_of(&self, service: &str) -> Option<&Arc<ErrorPages>> {
        let at = self
            .pages
            .binary_search_by(|pages| (*pages.service).cmp(service));
        at.ok().map(|at| &self.pages[at])
    }

    /// The service of this qualified name, if a route uses it.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        let at = self
            .services
            .binary_search_by(|service| (*service.name).cmp(name));
        at.ok().map(|at| &self.services[at])
    }

    /// The service made of services of this qualified name, if a route uses it.
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        let at = self
            .groups
            .binary_search_by(|group| (*group.name).cmp(name));
        at.ok().map(|at| &self.groups[at])
    }
}

/// A service that has pages in place of other services' answers, as its requests get there: not by a router.
#[derive(Debug)]
pub struct ErrorPages {
    /// Qualified.
    pub service: Name,
    /// The middlewares of the service, and the qualified name of each.
    pub plan: Arc<[Middleware]>,
    pub steps: Arc<[Arc<str>]>,
    pub target: RouteTarget,
}

/// What a snapshot was made from.
#[derive(Debug, Default)]
pub struct Ledger {
    pub install: Arc<Install>,
    /// What was wanted, our own objects included.
    pub wanted: Arc<Definitions>,
    pub diagnostics: Vec<Diagnostic>,
}

/// One door: its routes and what its TLS handshakes need.
#[derive(Debug)]
pub struct EntryPoint {
    pub name: Arc<str>,
    /// Routes for requests that come unencrypted, by their index in [`Snapshot::routes`].
    pub plain: Table,
    /// Routes for requests that come over TLS.
    pub secure: Table,
    /// Certificates and TLS options by server name.
    pub tls: Arc<SniTable>,
    pub metrics: EntryPointMetrics,
    /// Where its requests are counted.
    pub traffic: TrafficMetrics,
    /// The signals that requests show up in which no router took.
    pub signals: Signals,
}

/// A router, ready to run.
#[derive(Debug)]
pub struct Route {
    /// Qualified: `name@provider`.
    pub name: Arc<str>,
    /// The router it was made from: the same name, unless entry points add something of their own to it.
    pub written_as: Name,
    /// The rule, as text and parsed.
    pub rule: Arc<str>,
    pub matcher: Rule,
    pub syntax: Syntax,
    pub priority: i64,
    /// The name its service goes by in metrics and logs, qualified.
    pub service: Arc<str>,
    /// Middlewares of the entry point, the router and the service, in this order, chains expanded. Shared by the routes that one
    /// router becomes on several entry points.
    pub plan: Arc<[Middleware]>,
    /// The qualified name of each step of `plan`.
    pub steps: Arc<[Arc<str>]>,
    pub target: RouteTarget,
    /// The TLS options that a connection must have been made with to use this route; `None` on a route for plain requests.
    pub tls_options: Option<Arc<str>>,
    /// Escapes that a path may not contain (answer 400).
    pub denied: EncodedCharacters,
    /// The router's own; the service has its own too.
    pub timeouts: Timeouts,
    pub signals: Signals,
    /// Whether it leads to something of ours (`...@internal`).
    pub internal: bool,
    /// Where its requests are counted, for the router and for the service; empty when its `signals` leave metrics out.
    pub router_traffic: TrafficMetrics,
    pub service_traffic: TrafficMetrics,
    /// Retries and the like.
    pub service_metrics: ServiceMetrics,
}

impl Route {
    /// Whether it leads to this service, in this or another snapshot's form, and nowhere else.
    pub fn leads_to(&self, service: &Arc<Service>) -> bool {
        matches!(&self.target, RouteTarget::Service(own) if Arc::ptr_eq(own, service) || own.name == service.name)
    }
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub enum RouteTarget {
    Service(Arc<Service>),
    /// Services made of services.
    Group(Arc<Group>),
    Internal(Internal),
}

/// Services of our own, to be used as `...@internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internal {
    Api,
    Ping,
    Prometheus,
    /// Answers 418; what a redirection's router leads to.
    Noop,
}

impl Internal {
    pub const ALL: [Self; 4] = [Self::Api, Self::Ping, Self::Prometheus, Self::Noop];

    /// The qualified name of the service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api@internal",
            Self::Ping => "ping@internal",
            Self::Prometheus => "prometheus@internal",
            Self::Noop => "noop@internal",
        }
    }

    /// Whether the install configuration provides it.
    pub fn is_enabled(self, install: &Install) -> bool {
        match self {
            Self::Api => install.api.is_some(),
            Self::Ping => install.ping.is_some(),
            Self::Prometheus => install.metrics.prometheus.is_some(),
            Self::Noop => true,
        }
    }
}

/// Which signals a route's requests show up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals {
    pub access_log: bool,
    pub metrics: bool,
    pub traces: Traces,
}

/// How much of a request its trace tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traces {
    Off,
    /// One span in, one out.
    Minimal,
    /// Every step.
    Detailed,
}
