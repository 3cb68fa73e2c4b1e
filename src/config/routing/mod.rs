//! Routing configuration: what providers produce and what may change at any time. Traefik calls it dynamic configuration.

mod decode;
mod hedge;
mod hold;
mod middleware;
mod outlier;
mod remarks;
mod service;
mod timeouts;
mod tls;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(super) use self::decode::INSTALL_SECTIONS;
pub use self::decode::{DecodedRouting, EVERY, Kind, decode_routing};
pub use self::hedge::{Hedge, HedgeAfter};
pub use self::hold::Hold;
pub use self::middleware::{
    AddPrefix, AllowedCharacters, BasicAuth, Buffering, Chain, CircuitBreaker, ClientCertInfo,
    Compress, ContentType, DigestAuth, Encoding, Errors, ForwardAuth, ForwardAuthTls, GrpcWeb,
    Headers, InFlightReq, IpAllowList, IpStrategy, IssuerInfo, Middleware, OnError,
    PassTlsClientCert, RateLimit, RateLimitRedis, RedirectRegex, RedirectScheme, RedisTls,
    ReplacePath, ReplacePathRegex, Retry, SourceCriterion, StripPrefix, StripPrefixRegex,
    SubjectInfo,
};
pub use self::outlier::OutlierDetection;
pub use self::service::{
    Condition, Cookie, Failover, FailoverErrors, Follow, ForwardingTimeouts, HealthCheck,
    HealthCheckMode, HighestRandomWeight, LoadBalancer, Mirror, Mirroring, PassiveHealthCheck,
    ResponseForwarding, SameSite, Server, ServersTransport, Service, ServiceKind, Sticky, Strategy,
    Weighted, WeightedService,
};
pub use self::timeouts::Timeouts;
pub use self::tls::{
    Certificate, ClientAuth, ClientAuthType, GeneratedCertificate, Tls, TlsOptions, TlsStore,
    TlsVersion,
};
use super::shape::{Opaque, Placed, presence, unset};

/// One provider's routing configuration, or several merged.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Routing {
    /// `http`.
    pub http: Http,
    /// `tcp`: known, not acted on yet.
    pub tcp: Layer4,
    /// `udp`: known, not acted on yet.
    pub udp: Layer4,
    /// `tls`.
    pub tls: Tls,
}

impl Routing {
    /// Whether it holds nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `http`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// `routers`.
    pub routers: BTreeMap<String, Placed<Router>>,
    /// `services`.
    pub services: BTreeMap<String, Placed<Service>>,
    /// `middlewares`.
    pub middlewares: BTreeMap<String, Placed<Middleware>>,
    /// `serversTransports`.
    pub servers_transports: BTreeMap<String, Placed<ServersTransport>>,
}

/// `tcp` or `udp`: objects as they were written.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer4 {
    /// `routers`.
    pub routers: BTreeMap<String, Placed<Opaque>>,
    /// `services`.
    pub services: BTreeMap<String, Placed<Opaque>>,
    /// `middlewares` (TCP only).
    pub middlewares: BTreeMap<String, Placed<Opaque>>,
    /// `serversTransports` (TCP only).
    pub servers_transports: BTreeMap<String, Placed<Opaque>>,
}

/// `http.routers.NAME`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Router {
    /// `entryPoints`: names. Empty means the default ones.
    #[serde(skip_serializing_if = "unset")]
    pub entry_points: Vec<String>,
    /// `middlewares`: names in the order they run.
    #[serde(skip_serializing_if = "unset")]
    pub middlewares: Vec<String>,
    /// `service`: name.
    #[serde(skip_serializing_if = "unset")]
    pub service: String,
    /// `rule`: which requests.
    #[serde(skip_serializing_if = "unset")]
    pub rule: String,
    /// `parentRefs`: routers this one is below; not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_refs: Option<Opaque>,
    /// `ruleSyntax`: `v2`; anything else means `v3`; empty means the install configuration's default.
    #[serde(skip_serializing_if = "unset")]
    pub rule_syntax: String,
    /// `priority`: the highest is asked first; 0 means the rule's length.
    #[serde(skip_serializing_if = "unset")]
    pub priority: i64,
    /// `tls`: present means TLS only, absent means plain only.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouterTls>,
    /// `timeouts` (Portway) of its requests; what is left out is the service's.
    #[serde(skip_serializing_if = "unset")]
    pub timeouts: Timeouts,
    /// `observability`: unset fields follow the entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,
}

/// `http.routers.NAME.tls`, and an entry point's `http.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RouterTls {
    /// `options`: name of TLS options. Default `default`.
    #[serde(skip_serializing_if = "unset")]
    pub options: String,
    /// `certResolver`: name of a certificates resolver.
    #[serde(skip_serializing_if = "unset")]
    pub cert_resolver: String,
    /// `domains` to ask certificates for.
    #[serde(skip_serializing_if = "unset")]
    pub domains: Vec<Domain>,
}

/// A certificate's names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Domain {
    /// `main` name.
    #[serde(skip_serializing_if = "unset")]
    pub main: String,
    /// `sans`: further names.
    #[serde(skip_serializing_if = "unset")]
    pub sans: Vec<String>,
}

impl Domain {
    /// All names as they are written, the main one first.
    pub fn names(&self) -> Vec<String> {
        let main = Some(&self.main).filter(|main| !main.is_empty());
        main.into_iter().chain(&self.sans).cloned().collect()
    }
}

/// `http.routers.NAME.observability`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Observability {
    /// `accessLogs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<bool>,
    /// `metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
    /// `tracing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<bool>,
    /// `traceVerbosity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_verbosity: Option<TraceVerbosity>,
}

/// How many spans a request makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceVerbosity {
    /// One in, one out.
    #[default]
    Minimal,
    /// Every step.
    Detailed,
}
