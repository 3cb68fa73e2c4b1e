//! `providers.docker` and `providers.swarm`.

use serde::{Deserialize, Serialize};

use crate::config::routing::Hold;
use crate::config::shape::{presence, unset};
use crate::config::units::{FileOrContent, Secret, Span};

/// `providers.docker`: routing configuration from the labels of containers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DockerProvider {
    /// `endpoint` of the engine: `unix://`, `tcp://`, `http://`, `https://` or `ssh://`. `DOCKER_HOST` wins over it. Default
    /// `unix:///var/run/docker.sock`.
    pub endpoint: String,
    /// `username` for the engine, for endpoints that ask for one.
    #[serde(skip_serializing_if = "unset")]
    pub username: String,
    /// `password` that goes with it.
    #[serde(skip_serializing)]
    pub password: Secret,
    /// `tls` towards the engine.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<EngineTls>,
    /// `exposedByDefault`: serve containers without `traefik.enable`. Default true.
    pub exposed_by_default: bool,
    /// `network` whose addresses to use, unless a container names another.
    #[serde(skip_serializing_if = "unset")]
    pub network: String,
    /// `defaultRule`: template of the rule of routers that have none.
    pub default_rule: String,
    /// `constraints`: expression over labels that a container must fulfil.
    #[serde(skip_serializing_if = "unset")]
    pub constraints: String,
    /// `watch`: follow changes. Default true.
    pub watch: bool,
    /// `useBindPortIP`: reach servers at the address their port is published on. Default false.
    #[serde(rename = "useBindPortIP")]
    pub use_bind_port_ip: bool,
    /// `allowEmptyServices`: accepted; services of unhealthy containers always stay. Default false.
    pub allow_empty_services: bool,
    /// `httpClientTimeout` of one request to the engine, 0 for 30s. Default 0.
    pub http_client_timeout: Span,
    /// `reconcileInterval` (Portway): how often everything is compared with the engine, events apart. Default 30s.
    pub reconcile_interval: Span,
    /// `hold` (Portway): for services without a `hold` of their own.
    #[serde(skip_serializing_if = "unset")]
    pub hold: Hold,
    /// `cache` (Portway): file that keeps the last containers known, for a start without the engine.
    #[serde(skip_serializing_if = "unset")]
    pub cache: String,
}

impl Default for DockerProvider {
    fn default() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            username: String::new(),
            password: Secret::default(),
            tls: None,
            exposed_by_default: true,
            network: String::new(),
            default_rule: DEFAULT_RULE.to_owned(),
            constraints: String::new(),
            watch: true,
            use_bind_port_ip: false,
            allow_empty_services: false,
            http_client_timeout: Span::ZERO,
            reconcile_interval: Span::from_secs(30),
            hold: Hold::default(),
            cache: String::new(),
        }
    }
}

/// `providers.swarm`: routing configuration from the labels of a swarm's services.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SwarmProvider {
    /// `endpoint` of a manager's engine, as `providers.docker.endpoint`. Default `unix:///var/run/docker.sock`.
    pub endpoint: String,
    /// `username` for the engine, for endpoints that ask for one.
    #[serde(skip_serializing_if = "unset")]
    pub username: String,
    /// `password` that goes with it.
    #[serde(skip_serializing)]
    pub password: Secret,
    /// `tls` towards the engine.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<EngineTls>,
    /// `exposedByDefault`: serve services without `traefik.enable`. Default true.
    pub exposed_by_default: bool,
    /// `network` whose addresses to use, unless a service names another.
    #[serde(skip_serializing_if = "unset")]
    pub network: String,
    /// `defaultRule`: template of the rule of routers that have none.
    pub default_rule: String,
    /// `constraints`: expression over labels that a service must fulfil.
    #[serde(skip_serializing_if = "unset")]
    pub constraints: String,
    /// `watch`: follow changes. Default true.
    pub watch: bool,
    /// `useBindPortIP`: accepted; tasks are published on no particular address. Default false.
    #[serde(rename = "useBindPortIP")]
    pub use_bind_port_ip: bool,
    /// `allowEmptyServices`: accepted; services without tasks always stay. Default false.
    pub allow_empty_services: bool,
    /// `httpClientTimeout` of one request to the engine, 0 for 30s. Default 0.
    pub http_client_timeout: Span,
    /// `refreshSeconds`: how often the swarm is asked when nothing has happened. Default 15s.
    pub refresh_seconds: Span,
    /// `hold` (Portway): for services without a `hold` of their own.
    #[serde(skip_serializing_if = "unset")]
    pub hold: Hold,
    /// `cache` (Portway): file that keeps what was last known, for a start without the engine.
    #[serde(skip_serializing_if = "unset")]
    pub cache: String,
}

impl Default for SwarmProvider {
    fn default() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            username: String::new(),
            password: Secret::default(),
            tls: None,
            exposed_by_default: true,
            network: String::new(),
            default_rule: DEFAULT_RULE.to_owned(),
            constraints: String::new(),
            watch: true,
            use_bind_port_ip: false,
            allow_empty_services: false,
            http_client_timeout: Span::ZERO,
            refresh_seconds: DEFAULT_REFRESH,
            hold: Hold::default(),
            cache: String::new(),
        }
    }
}

/// What both providers share is written down once.
impl From<SwarmProvider> for DockerProvider {
    fn from(swarm: SwarmProvider) -> Self {
        Self {
            endpoint: swarm.endpoint,
            username: swarm.username,
            password: swarm.password,
            tls: swarm.tls,
            exposed_by_default: swarm.exposed_by_default,
            network: swarm.network,
            default_rule: swarm.default_rule,
            constraints: swarm.constraints,
            watch: swarm.watch,
            use_bind_port_ip: false,
            allow_empty_services: swarm.allow_empty_services,
            http_client_timeout: swarm.http_client_timeout,
            reconcile_interval: match swarm.refresh_seconds.positive() {
                Some(_) => swarm.refresh_seconds,
                None => DEFAULT_REFRESH,
            },
            hold: swarm.hold,
            cache: swarm.cache,
        }
    }
}

/// `providers.docker.tls`: TLS towards an engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EngineTls {
    /// `ca` that signed the engine's certificate. Default: the system's.
    #[serde(skip_serializing_if = "unset")]
    pub ca: FileOrContent,
    /// `cert` shown to the engine.
    #[serde(skip_serializing_if = "unset")]
    pub cert: FileOrContent,
    /// `key` of that certificate.
    #[serde(skip_serializing_if = "unset")]
    pub key: FileOrContent,
    /// `insecureSkipVerify`: accept any certificate. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure_skip_verify: bool,
}

const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";
const DEFAULT_REFRESH: Span = Span::from_secs(15);
const DEFAULT_RULE: &str = "Host(`{{ normalize .Name }}`)";
