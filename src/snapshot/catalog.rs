//! What the API tells about the configuration in use: made when it is compiled, held by the snapshot, turned into JSON on demand.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use serde::Serialize;

use crate::{
    config::{Diagnostic, Routing, Severity, routing::TraceVerbosity},
    middleware::Middleware,
    observe::{CertificateExpiry, ServerView},
};

/// The configuration in use and what became of it. Names are qualified (`app@file`).
#[derive(Debug, Default)]
pub struct Catalog {
    /// Number of the configuration, counted from the start of the process.
    pub generation: u64,
    /// The configuration as it was merged; entries below refer to it by name.
    pub routing: Arc<Routing>,
    pub routers: BTreeMap<Arc<str>, RouterEntry>,
    pub services: BTreeMap<Arc<str>, ServiceEntry>,
    pub middlewares: BTreeMap<Arc<str>, MiddlewareEntry>,
    /// Certificates in use, the generated default one excepted.
    pub certificates: Vec<CertificateEntry>,
    /// Findings that belong to no entry.
    pub diagnostics: Vec<Diagnostic>,
}

/// A router.
#[derive(Debug, Clone, Default)]
pub struct RouterEntry {
    /// Its name in [`Catalog::routing`], if that is another one (a router made for one entry point from another router).
    pub written_as: Option<Arc<str>>,
    pub status: Status,
    pub diagnostics: Vec<Diagnostic>,
    /// The entry points it is meant for, defaults applied.
    pub entry_points: Vec<Arc<str>>,
    /// The entry points it serves.
    pub using: Vec<Arc<str>>,
    /// Its middlewares in the order they run, those of its entry point included.
    pub middlewares: Vec<Arc<str>>,
    /// What it runs in their place, and for its service: chains are expanded. Empty for a router that is not served.
    pub steps: Vec<Arc<str>>,
    /// What it is ordered by, computed if unset.
    pub priority: i64,
    /// The TLS options, if it wants TLS.
    pub tls_options: Option<Arc<str>>,
    pub observability: ObservabilityEntry,
    /// The rule syntax that it does not say itself.
    pub rule_syntax: Option<&'static str>,
}

/// Which signals a router's requests give, defaults applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservabilityEntry {
    pub access_logs: bool,
    pub metrics: bool,
    pub tracing: bool,
    pub trace_verbosity: TraceVerbosity,
}

impl Default for ObservabilityEntry {
    fn default() -> Self {
        Self {
            access_logs: true,
            metrics: true,
            tracing: true,
            trace_verbosity: TraceVerbosity::default(),
        }
    }
}

/// A service.
#[derive(Debug, Clone, Default)]
pub struct ServiceEntry {
    pub status: Status,
    pub diagnostics: Vec<Diagnostic>,
    /// Routers that name it.
    pub used_by: Vec<Arc<str>>,
    /// Its servers; empty for a service that nobody uses and that was not built therefore.
    pub servers: Vec<ServerEntry>,
}

/// A server. Several may have the same URL if its host has several addresses.
#[derive(Clone)]
pub struct ServerEntry {
    /// As configured.
    pub url: Arc<str>,
    /// The address, if the URL names a host.
    pub address: Option<Arc<str>>,
    pub view: Arc<dyn ServerView>,
}

impl fmt::Debug for ServerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerEntry")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A middleware.
#[derive(Debug, Clone, Default)]
pub struct MiddlewareEntry {
    pub status: Status,
    pub diagnostics: Vec<Diagnostic>,
    /// Routers that name it.
    pub used_by: Vec<Arc<str>>,
    /// If it is a circuit breaker: those of its routers.
    pub circuits: Vec<Circuit>,
}

/// The circuit breaker of one router.
#[derive(Debug, Clone)]
pub struct Circuit {
    pub router: Arc<str>,
    /// The router's plan, and its place there.
    pub plan: Arc<[Middleware]>,
    pub step: usize,
}

impl Circuit {
    /// Its state at the moment.
    pub fn state(&self) -> &'static str {
        let step = self.plan.get(self.step);
        step.and_then(Middleware::circuit).unwrap_or_default()
    }
}

/// A certificate in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateEntry {
    pub common_name: String,
    /// DNS names and IP addresses.
    pub sans: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Decimal.
    pub serial_number: String,
    pub issuer_organization: String,
    pub issuer_common_name: String,
    pub issuer_country: String,
    pub organization: String,
    pub country: String,
    /// `RSA`, `ECDSA`, or `Unknown` as Traefik says of all others.
    pub key_type: String,
    /// In bits; 0 if unknown.
    pub key_size: u32,
    /// `ECDSA-SHA256`, `SHA256-RSA`, `Ed25519`.
    pub signature_algorithm: String,
    /// SHA-256 of the certificate, lower-case hexadecimal; its name in the API.
    pub fingerprint: String,
    /// SHA-256 of the public key, lower-case hexadecimal.
    pub public_key_fingerprint: String,
    /// Until when the staple that is sent along holds, in seconds since 1970.
    pub staple_until: Option<i64>,
}

impl CertificateEntry {
    /// What the metrics tell of it.
    pub fn expiry(&self) -> CertificateExpiry {
        let names = self
            .sans
            .iter()
            .filter(|name| name.parse::<IpAddr>().is_err());
        CertificateExpiry {
            common_name: self.common_name.clone(),
            serial: self.serial_number.clone(),
            sans: names.cloned().collect(),
            not_after: self.not_after,
        }
    }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In use as written.
    #[default]
    Enabled,
    /// In use, but not wholly as written.
    Warning,
    /// Not in use, or not in its present form.
    Disabled,
}

impl Status {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Warning => "warning",
            Self::Disabled => "disabled",
        }
    }

    /// The worst that `diagnostics` say, for objects that are refused on any error.
    pub fn of(diagnostics: &[Diagnostic]) -> Self {
        let statuses = diagnostics
            .iter()
            .map(|diagnostic| match diagnostic.severity {
                Severity::Error => Self::Disabled,
                Severity::Warning => Self::Warning,
                Severity::Info => Self::Enabled,
            });
        statuses.max().unwrap_or_default()
    }
}
