//! `http.services.NAME` and `http.serversTransports.NAME`.

mod failover;
mod mirroring;
mod weighted;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::failover::{Failover, FailoverErrors};
pub use self::mirroring::{Mirror, Mirroring};
pub use self::weighted::{HighestRandomWeight, Weighted, WeightedService};
use super::{Certificate, Hedge, Hold, Opaque, OutlierDetection, Timeouts, TlsVersion};
use crate::config::shape::{presence, unset};
use crate::config::units::{FileOrContent, Span};

/// `http.services.NAME`: exactly one kind, and what runs before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What it is.
    pub kind: ServiceKind,
    /// `middlewares`: run just before the balancer.
    pub middlewares: Vec<String>,
}

/// The kinds of service.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceKind {
    /// `loadBalancer`: shares requests among servers.
    LoadBalancer(Box<LoadBalancer>),
    /// `weighted`: shares requests among services.
    Weighted(Box<Weighted>),
    /// `highestRandomWeight`: shares clients among services.
    HighestRandomWeight(Box<HighestRandomWeight>),
    /// `mirroring`: copies requests to further services.
    Mirroring(Box<Mirroring>),
    /// `failover`: asks another service if one cannot.
    Failover(Box<Failover>),
}

impl ServiceKind {
    /// Its name in the configuration language.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LoadBalancer(_) => "loadBalancer",
            Self::Weighted(_) => "weighted",
            Self::HighestRandomWeight(_) => "highestRandomWeight",
            Self::Mirroring(_) => "mirroring",
            Self::Failover(_) => "failover",
        }
    }

    /// The balancer of servers, if it is one.
    pub fn balancer(&self) -> Option<&LoadBalancer> {
        match self {
            Self::LoadBalancer(balancer) => Some(balancer),
            _ => None,
        }
    }
}

/// `healthCheck` of a service made of services: its being there is all that it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct Follow {}

impl From<LoadBalancer> for Service {
    fn from(balancer: LoadBalancer) -> Self {
        Self {
            kind: ServiceKind::LoadBalancer(Box::new(balancer)),
            middlewares: Vec::new(),
        }
    }
}

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.kind {
            ServiceKind::LoadBalancer(options) => map.serialize_entry("loadBalancer", options),
            ServiceKind::Weighted(options) => map.serialize_entry("weighted", options),
            ServiceKind::HighestRandomWeight(options) => {
                map.serialize_entry("highestRandomWeight", options)
            }
            ServiceKind::Mirroring(options) => map.serialize_entry("mirroring", options),
            ServiceKind::Failover(options) => map.serialize_entry("failover", options),
        }?;
        if !self.middlewares.is_empty() {
            map.serialize_entry("middlewares", &self.middlewares)?;
        }
        map.end()
    }
}

/// As written: nothing forbids several kinds yet.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenService {
    #[serde(deserialize_with = "presence")]
    load_balancer: Option<Box<LoadBalancer>>,
    #[serde(deserialize_with = "presence")]
    weighted: Option<Box<Weighted>>,
    #[serde(deserialize_with = "presence")]
    mirroring: Option<Box<Mirroring>>,
    #[serde(deserialize_with = "presence")]
    failover: Option<Box<Failover>>,
    #[serde(deserialize_with = "presence")]
    highest_random_weight: Option<Box<HighestRandomWeight>>,
    middlewares: Vec<String>,
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(WrittenService::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl TryFrom<WrittenService> for Service {
    type Error = String;

    fn try_from(written: WrittenService) -> Result<Self, String> {
        let kinds = [
            written.load_balancer.map(ServiceKind::LoadBalancer),
            written.weighted.map(ServiceKind::Weighted),
            written.mirroring.map(ServiceKind::Mirroring),
            written.failover.map(ServiceKind::Failover),
            written
                .highest_random_weight
                .map(ServiceKind::HighestRandomWeight),
        ];
        let mut kinds: Vec<_> = kinds.into_iter().flatten().collect();
        match (kinds.pop(), kinds.as_slice()) {
            (Some(kind), []) => Ok(Self {
                kind,
                middlewares: written.middlewares,
            }),
            (Some(kind), [first, ..]) => Err(format!(
                "a service has exactly one kind, found `{}` and `{}`",
                first.name(),
                kind.name()
            )),
            (None, _) => Err("a service needs a kind, usually `loadBalancer`".to_owned()),
        }
    }
}

/// `http.services.NAME.loadBalancer`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// `sticky`: keep a client on its server.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// `servers`.
    #[serde(skip_serializing_if = "unset")]
    pub servers: Vec<Server>,
    /// `strategy`. Default `wrr`.
    pub strategy: Strategy,
    /// `healthCheck`: ask the servers.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// `passiveHealthCheck`: watch the traffic.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub passive_health_check: Option<PassiveHealthCheck>,
    /// `passHostHeader`: send the client's Host on instead of the server's. Default true.
    pub pass_host_header: bool,
    /// `responseForwarding`.
    pub response_forwarding: ResponseForwarding,
    /// `serversTransport`: name. Default: the install configuration's.
    #[serde(skip_serializing_if = "unset")]
    pub servers_transport: String,
    /// `hold` (Portway): requests wait while no server is usable.
    #[serde(skip_serializing_if = "unset")]
    pub hold: Hold,
    /// `slowStart` (Portway): time over which a server that is new or was down works up to its share, 0 for at once. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub slow_start: Span,
    /// `timeouts` (Portway) of its requests.
    #[serde(skip_serializing_if = "unset")]
    pub timeouts: Timeouts,
    /// `outlierDetection` (Portway): leave servers out that fail more than others.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// `hedge` (Portway): ask a second server when the first one takes long.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            sticky: None,
            servers: Vec::new(),
            strategy: Strategy::Wrr,
            health_check: None,
            passive_health_check: None,
            pass_host_header: true,
            response_forwarding: ResponseForwarding::default(),
            servers_transport: String::new(),
            hold: Hold::default(),
            slow_start: Span::ZERO,
            timeouts: Timeouts::default(),
            outlier_detection: None,
            hedge: None,
        }
    }
}

/// `….loadBalancer.servers[N]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// `url`: scheme `http`, `https` or `h2c`, host and port; the path counts only with `preservePath`.
    pub url: String,
    /// `weight`: share of the requests; 0 or less keeps the server out. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// `preservePath`: put the URL's path before the request's. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub preserve_path: bool,
    /// What the provider knows of it beyond its address.
    #[serde(skip)]
    pub condition: Condition,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            url: String::new(),
            weight: None,
            preserve_path: false,
            condition: Condition::Ready,
        }
    }
}

/// Whether a server may get requests, as its provider sees it. The text is the reason, for people.
///
/// It is no part of the server's identity: connections, counters and cookies outlive a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing speaks against it.
    #[default]
    Ready,
    /// It is there and not ready yet.
    Waiting(Arc<str>),
    /// It is there and known to be unwell.
    Unhealthy(Arc<str>),
    /// It is about to go: what it has begun it may end.
    Leaving(Arc<str>),
}

/// `….loadBalancer.strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Weighted round robin.
    #[default]
    Wrr,
    /// The less busy of two at random.
    P2c,
    /// Highest random weight by client address.
    Hrw,
    /// Least of time to first byte and requests in flight.
    LeastTime,
}

/// `….loadBalancer.sticky`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Sticky {
    /// `cookie`: absent means not sticky.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
}

/// `….loadBalancer.sticky.cookie`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cookie {
    /// `name`. Default: computed from the service's name.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// `secure`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub secure: bool,
    /// `httpOnly`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub http_only: bool,
    /// `sameSite`. Default: attribute left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
    /// `maxAge` in seconds: 0 for a session cookie, negative for one that expires at once.
    #[serde(skip_serializing_if = "unset")]
    pub max_age: i64,
    /// `path`. Default `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `domain`. Default: attribute left out.
    #[serde(skip_serializing_if = "unset")]
    pub domain: String,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: String::new(),
            secure: false,
            http_only: false,
            same_site: None,
            max_age: 0,
            path: Some("/".to_owned()),
            domain: String::new(),
        }
    }
}

/// `….sticky.cookie.sameSite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// Sent across sites.
    None,
    /// Sent on top-level navigation.
    Lax,
    /// Sent on the same site only.
    Strict,
}

/// `….loadBalancer.responseForwarding`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResponseForwarding {
    /// `flushInterval`: longest time an answer's bytes may wait; negative for none. Default 100ms.
    pub flush_interval: Span,
}

impl Default for ResponseForwarding {
    fn default() -> Self {
        Self {
            flush_interval: Span::from_millis(100),
        }
    }
}

/// `….loadBalancer.healthCheck`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HealthCheck {
    /// `scheme` of the probe. Default: the server's.
    #[serde(skip_serializing_if = "unset")]
    pub scheme: String,
    /// `mode`. Default `http`.
    pub mode: HealthCheckMode,
    /// `path` of the probe, may carry a query.
    #[serde(skip_serializing_if = "unset")]
    pub path: String,
    /// `method` of the probe. Default `GET`.
    #[serde(skip_serializing_if = "unset")]
    pub method: String,
    /// `status` that means healthy; 0 for any from 200 to 399. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub status: u16,
    /// `port` of the probe. Default: the server's.
    #[serde(skip_serializing_if = "unset")]
    pub port: u16,
    /// `interval` between probes of a healthy server. Default 30s.
    pub interval: Span,
    /// `unhealthyInterval` between probes of an unhealthy server. Default: as `interval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_interval: Option<Span>,
    /// `timeout` of a probe. Default 5s.
    pub timeout: Span,
    /// `hostname`: Host of the probe. Default: the server's.
    #[serde(skip_serializing_if = "unset")]
    pub hostname: String,
    /// `followRedirects`. Default true.
    pub follow_redirects: bool,
    /// `headers` of the probe.
    #[serde(skip_serializing_if = "unset")]
    pub headers: BTreeMap<String, String>,
    /// `rise` (Portway): successes in a row until a server is healthy. Default 1.
    #[serde(skip_serializing_if = "is_one_u32")]
    pub rise: u32,
    /// `fall` (Portway): failures in a row until a server is unhealthy. Default 1.
    #[serde(skip_serializing_if = "is_one_u32")]
    pub fall: u32,
    /// `jitter` (Portway): percent by which each interval varies, so that probes do not march in step. Default 10.
    #[serde(skip_serializing_if = "is_default_jitter")]
    pub jitter: u8,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            scheme: String::new(),
            mode: HealthCheckMode::Http,
            path: String::new(),
            method: String::new(),
            status: 0,
            port: 0,
            interval: Span::from_secs(30),
            unhealthy_interval: None,
            timeout: Span::from_secs(5),
            hostname: String::new(),
            follow_redirects: true,
            headers: BTreeMap::new(),
            rise: 1,
            fall: 1,
            jitter: DEFAULT_JITTER,
        }
    }
}

/// `….healthCheck.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckMode {
    /// One HTTP request.
    #[default]
    Http,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}

/// `….loadBalancer.passiveHealthCheck`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PassiveHealthCheck {
    /// `failureWindow`: how long failures count and how long the server then rests. Default 10s.
    pub failure_window: Span,
    /// `maxFailedAttempts` in the window. Default 1.
    pub max_failed_attempts: u32,
}

impl Default for PassiveHealthCheck {
    fn default() -> Self {
        Self {
            failure_window: Span::from_secs(10),
            max_failed_attempts: 1,
        }
    }
}

/// `http.serversTransports.NAME`: how servers are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServersTransport {
    /// `serverName` for SNI and verification. Default: the server's host.
    #[serde(skip_serializing_if = "unset")]
    pub server_name: String,
    /// `insecureSkipVerify`: accept any certificate. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure_skip_verify: bool,
    /// `rootCAs`: replaces the system's roots when set.
    #[serde(rename = "rootCAs", skip_serializing_if = "unset")]
    pub root_cas: Vec<FileOrContent>,
    /// `certificates` shown to servers.
    #[serde(skip_serializing_if = "unset")]
    pub certificates: Vec<Certificate>,
    /// `cipherSuites` by their IANA names.
    #[serde(skip_serializing_if = "unset")]
    pub cipher_suites: Vec<String>,
    /// `minVersion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// `maxVersion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
    /// `maxIdleConnsPerHost`: idle connections kept per server: 0 for Traefik's 2, negative for none. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub max_idle_conns_per_host: i64,
    /// `forwardingTimeouts`.
    pub forwarding_timeouts: ForwardingTimeouts,
    /// `disableHTTP2`: HTTP/1.1 only. Default false.
    #[serde(rename = "disableHTTP2", skip_serializing_if = "unset")]
    pub disable_http2: bool,
    /// `peerCertURI`: the server's certificate must hold this URI; replaces the check of its name.
    #[serde(rename = "peerCertURI", skip_serializing_if = "unset")]
    pub peer_cert_uri: String,
    /// `spiffe`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<Opaque>,
}

/// `http.serversTransports.NAME.forwardingTimeouts`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ForwardingTimeouts {
    /// `dialTimeout`: time to connect, 0 for no limit. Default 30s.
    pub dial_timeout: Span,
    /// `responseHeaderTimeout`: time from the request's end to the answer's head, 0 for no limit. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub response_header_timeout: Span,
    /// `idleConnTimeout`: how long an idle connection is kept, 0 for ever. Default 90s.
    pub idle_conn_timeout: Span,
    /// `readIdleTimeout`: silence after which an HTTP/2 connection is pinged, 0 for never. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub read_idle_timeout: Span,
    /// `pingTimeout`: time for the answer to that ping. Default 15s.
    pub ping_timeout: Span,
}

impl Default for ForwardingTimeouts {
    fn default() -> Self {
        Self {
            dial_timeout: Span::from_secs(30),
            response_header_timeout: Span::ZERO,
            idle_conn_timeout: Span::from_secs(90),
            read_idle_timeout: Span::ZERO,
            ping_timeout: Span::from_secs(15),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_one_u32(value: &u32) -> bool {
    *value == 1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_default_jitter(value: &u8) -> bool {
    *value == DEFAULT_JITTER
}

const DEFAULT_JITTER: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_exactly_one_kind() {
        let read = |json: &str| serde_json::from_str::<Service>(json).map_err(|e| e.to_string());
        assert!(read("{}").unwrap_err().contains("needs a kind"));
        let two = read(r#"{"weighted": {}, "mirroring": {}}"#).unwrap_err();
        assert!(two.contains("`weighted` and `mirroring`"), "{two}");
        let weighted = read(r#"{"weighted": {"services": []}, "middlewares": ["a"]}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&weighted).unwrap(),
            r#"{"weighted":{},"middlewares":["a"]}"#
        );
    }

    #[test]
    fn services_of_services_print_as_in_traefiks_api() {
        for (written, printed) in [
            (
                r#"{"weighted":{"services":[{"name":"a"},{"name":"b","weight":0}],"healthCheck":{}}}"#,
                r#"{"weighted":{"services":[{"name":"a","weight":1},{"name":"b","weight":0}],"healthCheck":{}}}"#,
            ),
            (
                r#"{"highestRandomWeight":{"services":[{"name":"a"}]}}"#,
                r#"{"highestRandomWeight":{"services":[{"name":"a","weight":1}]}}"#,
            ),
            (
                r#"{"mirroring":{"service":"a","mirrors":[{"name":"b"},{"name":"c","percent":7}]}}"#,
                r#"{"mirroring":{"service":"a","mirrorBody":true,"maxBodySize":-1,"mirrors":[{"name":"b"},{"name":"c","percent":7}]}}"#,
            ),
            (
                r#"{"failover":{"service":"a","fallback":"b","errors":{"status":["500"]}}}"#,
                r#"{"failover":{"service":"a","fallback":"b","errors":{"status":["500"],"maxRequestBodyBytes":-1}}}"#,
            ),
        ] {
            let service: Service = serde_json::from_str(written).unwrap();
            assert_eq!(serde_json::to_string(&service).unwrap(), printed);
        }
    }

    #[test]
    fn a_load_balancer_prints_as_in_traefiks_api() {
        let service = Service::from(LoadBalancer {
            servers: vec![Server {
                url: "http://a".to_owned(),
                ..Server::default()
            }],
            ..LoadBalancer::default()
        });
        assert_eq!(
            serde_json::to_string(&service).unwrap(),
            r#"{"loadBalancer":{"servers":[{"url":"http://a"}],"strategy":"wrr","passHostHeader":true,"responseForwarding":{"flushInterval":"100ms"}}}"#
        );
    }
}
