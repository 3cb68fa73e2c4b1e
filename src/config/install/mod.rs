//! Install configuration: what is set once at start. Traefik calls it static configuration.

mod acme;
mod docker;
mod entrypoint;
mod observe;
mod provider;
mod telemetry;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::acme::{
    AcmeResolver, CertificatesResolver, DnsChallenge, ExternalAccount, HttpChallenge, KEY_TYPES,
    Propagation, TlsChallenge,
};
pub use self::docker::{DockerProvider, EngineTls, SwarmProvider};
pub use self::entrypoint::{
    AliasStrategy, EncodedCharacters, EntryPoint, EntryPointHttp, EntryPointHttp2,
    ForwardedHeaders, Lifecycle, ObservabilityDefaults, ProxyProtocol, RedirectEntryPoint,
    Redirections, RespondingTimeouts, Transport, UdpOptions,
};
pub use self::observe::{
    AccessLog, AccessLogFields, AccessLogFilters, AccessLogFormat, Api, FieldMode, HeaderFields,
    Log, LogFormat, LogLevel, Metrics, Ping, Prometheus, QueryFields,
};
pub use self::provider::{FileProvider, HttpProvider, Providers};
pub use self::telemetry::{
    LogOtlp, MetricsOtlp, OtlpGrpc, OtlpHttp, OtlpTls, Tracing, TracingOtlp,
};
use super::diagnostic::Places;
use super::routing::{self, ForwardingTimeouts};
use super::shape::{Opaque, presence, presence_or_default, unset};
use super::units::{Address, FileOrContent, Span};

/// Everything fixed at start.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Install {
    /// `entryPoints`: the doors, by name. After loading it also holds the implicit ones (`http`, `traefik`).
    pub entry_points: BTreeMap<String, EntryPoint>,
    /// `log`: the structured log.
    #[serde(deserialize_with = "presence_or_default")]
    pub log: Log,
    /// `accessLog`: absent means off.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// `metrics`.
    pub metrics: Metrics,
    /// `ping`: absent means off.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub ping: Option<Ping>,
    /// `api`: absent means off.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// `providers`.
    pub providers: Providers,
    /// `serversTransport`: how servers are reached unless a service names its own transport.
    pub servers_transport: ServersTransport,
    /// `tcpServersTransport`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_servers_transport: Option<Opaque>,
    /// `certificatesResolvers`, by name: who issues certificates.
    pub certificates_resolvers: BTreeMap<String, CertificatesResolver>,
    /// `core`.
    pub core: Core,
    /// `global`.
    pub global: Global,
    /// `hostResolver`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_resolver: Option<Opaque>,
    /// `tracing`: absent means off.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Box<Tracing>>,
    /// `ocsp`: staples for certificates from files; absent means off.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<Ocsp>,
    /// `experimental`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experimental: Option<Box<Experimental>>,
    /// `spiffe`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<Opaque>,
    /// Where each option was written.
    #[serde(skip)]
    pub places: Places,
}

impl Install {
    /// Adds the entry points that exist without being named: `http` on `:80` when the user named none, `traefik` on `:8080` when the
    /// API, ping or metrics need it.
    pub fn add_implicit_entry_points(&mut self) {
        if self.entry_points.is_empty() {
            self.add_entry_point("http", ":80");
        }
        if self.needs_internal_entry_point() && !self.entry_points.contains_key(INTERNAL) {
            self.add_entry_point(INTERNAL, ":8080");
        }
    }

    /// Names of the entry points that routers without `entryPoints` use: those marked `asDefault`, else all; never `traefik` nor UDP.
    pub fn default_entry_points(&self) -> Vec<&str> {
        let usable = || {
            self.entry_points
                .iter()
                .filter(|(name, door)| *name != INTERNAL && !door.is_udp())
        };
        let any_marked = usable().any(|(_, door)| door.as_default);
        usable()
            .filter(|(_, door)| door.as_default || !any_marked)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn needs_internal_entry_point(&self) -> bool {
        let api = self.api.as_ref().is_some_and(|api| api.insecure);
        let ping = self.ping.as_ref();
        let ping = ping.is_some_and(|ping| !ping.manual_routing && ping.entry_point == INTERNAL);
        let prometheus = self.metrics.prometheus.as_ref();
        let prometheus = prometheus.is_some_and(|p| !p.manual_routing && p.entry_point == INTERNAL);
        api || ping || prometheus
    }

    fn add_entry_point(&mut self, name: &str, address: &str) {
        let address: Address = address.parse().unwrap_or_default();
        let door = EntryPoint {
            address,
            ..EntryPoint::default()
        };
        self.entry_points.insert(name.to_owned(), door);
    }
}

/// `serversTransport`: how servers are reached by default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServersTransport {
    /// `insecureSkipVerify`: accept any server certificate. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure_skip_verify: bool,
    /// `rootCAs`: replaces the system's roots when set.
    #[serde(rename = "rootCAs", skip_serializing_if = "unset")]
    pub root_cas: Vec<FileOrContent>,
    /// `maxIdleConnsPerHost`: idle connections kept per server, negative for none. Default 200.
    pub max_idle_conns_per_host: i64,
    /// `forwardingTimeouts`.
    pub forwarding_timeouts: InstallForwardingTimeouts,
    /// `spiffe`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<Opaque>,
}

impl Default for ServersTransport {
    fn default() -> Self {
        Self {
            insecure_skip_verify: false,
            root_cas: Vec::new(),
            max_idle_conns_per_host: 200,
            forwarding_timeouts: InstallForwardingTimeouts::default(),
            spiffe: None,
        }
    }
}

/// The default transport in the same form as a named one.
impl From<&ServersTransport> for routing::ServersTransport {
    fn from(transport: &ServersTransport) -> Self {
        let timeouts = &transport.forwarding_timeouts;
        Self {
            insecure_skip_verify: transport.insecure_skip_verify,
            root_cas: transport.root_cas.clone(),
            max_idle_conns_per_host: transport.max_idle_conns_per_host,
            forwarding_timeouts: ForwardingTimeouts {
                dial_timeout: timeouts.dial_timeout,
                response_header_timeout: timeouts.response_header_timeout,
                idle_conn_timeout: timeouts.idle_conn_timeout,
                ..ForwardingTimeouts::default()
            },
            ..Self::default()
        }
    }
}

/// `serversTransport.forwardingTimeouts`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InstallForwardingTimeouts {
    /// `dialTimeout`: time to connect, 0 for no limit. Default 30s.
    pub dial_timeout: Span,
    /// `responseHeaderTimeout`: time from the request's end to the answer's head, 0 for no limit. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub response_header_timeout: Span,
    /// `idleConnTimeout`: how long an idle connection is kept, 0 for ever. Default 90s.
    pub idle_conn_timeout: Span,
}

impl Default for InstallForwardingTimeouts {
    fn default() -> Self {
        Self {
            dial_timeout: Span::from_secs(30),
            response_header_timeout: Span::ZERO,
            idle_conn_timeout: Span::from_secs(90),
        }
    }
}

/// `core`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Core {
    /// `defaultRuleSyntax`: rule syntax of routers that do not say. Default `v3`.
    pub default_rule_syntax: RuleSyntax,
    /// `strictTLSOptions`: routers whose TLS options conflict are refused instead of falling back. Default false.
    #[serde(rename = "strictTLSOptions")]
    pub strict_tls_options: bool,
    /// `workers` (Portway): threads that serve traffic, 0 for one per core. Default 0.
    pub workers: usize,
    /// `retryBudget` (Portway): how many attempts may be repeated.
    pub retry_budget: RetryBudget,
}

/// `core.defaultRuleSyntax`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleSyntax {
    /// One argument per matcher, regular expressions as they are.
    #[default]
    V3,
    /// Several arguments, `{name:regexp}` templates; deprecated.
    V2,
}

/// `core.retryBudget` (Portway): retries allowed per service, as a share of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetryBudget {
    /// `percent`: retries per 100 requests. Default 20.
    pub percent: f64,
    /// `minPerSecond`: retries per second that are always allowed. Default 10.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20.0,
            min_per_second: 10,
        }
    }
}

/// `global`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Global {
    /// `checkNewVersion`: Portway never calls home. Default false.
    pub check_new_version: bool,
    /// `sendAnonymousUsage`: Portway never calls home. Default false.
    pub send_anonymous_usage: bool,
    /// `notAppendXForwardedFor`: no entry point appends the peer to X-Forwarded-For. Default false.
    pub not_append_x_forwarded_for: bool,
}

/// `ocsp`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ocsp {
    /// `responderOverrides`: by the URL of a responder, the one to ask instead.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub responder_overrides: BTreeMap<String, String>,
}

/// `experimental`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Experimental {
    /// `otlpLogs`: accepted; `otlp` of the logs needs no permission. Default false.
    pub otlp_logs: bool,
    /// `plugins`: not acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Opaque>,
    /// `localPlugins`: not acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_plugins: Option<Opaque>,
    /// `abortOnPluginFailure`: not acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort_on_plugin_failure: Option<Opaque>,
    /// `fastProxy`: not acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast_proxy: Option<Opaque>,
    /// `knative`: not acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knative: Option<Opaque>,
    /// `kubernetesGateway`: not acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_gateway: Option<Opaque>,
    /// `kubernetesIngressNGINX`: not acted on.
    #[serde(
        rename = "kubernetesIngressNGINX",
        skip_serializing_if = "Option::is_none"
    )]
    pub kubernetes_ingress_nginx: Option<Opaque>,
}

/// The entry point that carries API, ping and metrics unless they name another.
pub const INTERNAL: &str = "traefik";

#[cfg(test)]
mod tests {
    use super::*;

    fn door(address: &str, as_default: bool) -> EntryPoint {
        EntryPoint {
            address: address.parse().unwrap(),
            as_default,
            ..EntryPoint::default()
        }
    }

    #[test]
    fn implicit_entry_points_appear_only_when_needed() {
        let mut none = Install::default();
        none.add_implicit_entry_points();
        assert_eq!(none.entry_points.keys().collect::<Vec<_>>(), ["http"]);
        assert_eq!(none.entry_points["http"].address.port, 80);

        let mut ping = Install {
            ping: Some(Ping::default()),
            ..Install::default()
        };
        ping.entry_points
            .insert("web".to_owned(), door(":81", false));
        ping.add_implicit_entry_points();
        assert_eq!(
            ping.entry_points.keys().collect::<Vec<_>>(),
            ["traefik", "web"]
        );

        let mut secure_api = Install {
            api: Some(Api::default()),
            ..Install::default()
        };
        secure_api
            .entry_points
            .insert("web".to_owned(), door(":81", false));
        secure_api.add_implicit_entry_points();
        assert_eq!(secure_api.entry_points.len(), 1);
    }

    #[test]
    fn default_entry_points() {
        let mut install = Install::default();
        for (name, address) in [
            ("web", ":80"),
            ("alt", ":81"),
            ("traefik", ":8080"),
            ("dns", ":53/udp"),
        ] {
            install
                .entry_points
                .insert(name.to_owned(), door(address, false));
        }
        assert_eq!(install.default_entry_points(), ["alt", "web"]);
        install
            .entry_points
            .insert("web".to_owned(), door(":80", true));
        assert_eq!(install.default_entry_points(), ["web"]);
    }
}
