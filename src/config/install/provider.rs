//! `providers`: where routing configuration comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DockerProvider, EngineTls, Opaque, Span, SwarmProvider};
use crate::config::routing::Hold;
use crate::config::shape::{presence, unset};
use crate::config::units::Secret;

/// `providers`. Those held as [`Opaque`] are known and not acted on yet.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Providers {
    /// `providersThrottleDuration`: least time between two updates of one provider, 0 for none. Default 0.
    pub providers_throttle_duration: Span,
    /// `precedence`: provider names; the first wins among routers of equal priority. Empty means the fixed default order.
    #[serde(skip_serializing_if = "unset")]
    pub precedence: Vec<String>,
    /// `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileProvider>,
    /// `docker`.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerProvider>,
    /// `swarm`.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmProvider>,
    /// `kubernetesIngress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_ingress: Option<Opaque>,
    /// `kubernetesIngressNGINX`.
    #[serde(
        rename = "kubernetesIngressNGINX",
        skip_serializing_if = "Option::is_none"
    )]
    pub kubernetes_ingress_nginx: Option<Opaque>,
    /// `kubernetesCRD`.
    #[serde(rename = "kubernetesCRD", skip_serializing_if = "Option::is_none")]
    pub kubernetes_crd: Option<Opaque>,
    /// `kubernetesGateway`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_gateway: Option<Opaque>,
    /// `knative`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knative: Option<Opaque>,
    /// `rest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<Opaque>,
    /// `consulCatalog`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul_catalog: Option<Opaque>,
    /// `nomad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nomad: Option<Opaque>,
    /// `ecs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs: Option<Opaque>,
    /// `consul`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul: Option<Opaque>,
    /// `etcd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Opaque>,
    /// `zooKeeper`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zoo_keeper: Option<Opaque>,
    /// `redis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Opaque>,
    /// `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProvider>,
    /// `plugin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Opaque>,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            providers_throttle_duration: Span::ZERO,
            precedence: Vec::new(),
            file: None,
            docker: None,
            swarm: None,
            kubernetes_ingress: None,
            kubernetes_ingress_nginx: None,
            kubernetes_crd: None,
            kubernetes_gateway: None,
            knative: None,
            rest: None,
            consul_catalog: None,
            nomad: None,
            ecs: None,
            consul: None,
            etcd: None,
            zoo_keeper: None,
            redis: None,
            http: None,
            plugin: None,
        }
    }
}

impl Providers {
    /// What a provider's `hold` says for the services that do not say themselves.
    pub fn hold(&self, provider: &str) -> Hold {
        match provider {
            "docker" => self.docker.as_ref().map(|docker| docker.hold),
            "swarm" => self.swarm.as_ref().map(|swarm| swarm.hold),
            "file" => self.file.as_ref().map(|file| file.hold),
            "http" => self.http.as_ref().map(|http| http.hold),
            _ => None,
        }
        .unwrap_or_default()
    }
}

/// `providers.file`: routing configuration from files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FileProvider {
    /// `directory`: every `.yml`, `.yaml` and `.toml` below it is read; wins over `filename`.
    #[serde(skip_serializing_if = "unset")]
    pub directory: String,
    /// `filename`: one file.
    #[serde(skip_serializing_if = "unset")]
    pub filename: String,
    /// `watch`: reload when files change. Default true.
    pub watch: bool,
    /// `debugLogGeneratedTemplate`: log each file after its template ran. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub debug_log_generated_template: bool,
    /// `hold` (Portway): for services without a `hold` of their own.
    #[serde(skip_serializing_if = "unset")]
    pub hold: Hold,
}

impl Default for FileProvider {
    fn default() -> Self {
        Self {
            directory: String::new(),
            filename: String::new(),
            watch: true,
            debug_log_generated_template: false,
            hold: Hold::default(),
        }
    }
}

/// `providers.http`: routing configuration from a URL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpProvider {
    /// `endpoint`: the URL; required. A user and password in it are sent as basic authentication.
    #[serde(skip_serializing)]
    pub endpoint: Secret,
    /// `pollInterval` between two requests. Default 5s.
    pub poll_interval: Span,
    /// `pollTimeout` of one request. Default 5s.
    pub poll_timeout: Span,
    /// `headers` of the request.
    #[serde(skip_serializing)]
    pub headers: BTreeMap<String, Secret>,
    /// `tls` towards the endpoint.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<EngineTls>,
    /// `maxResponseBodySize` in bytes, at most and by default 32 MiB. Default -1.
    pub max_response_body_size: i64,
    /// `hold` (Portway): for services without a `hold` of their own.
    #[serde(skip_serializing_if = "unset")]
    pub hold: Hold,
}

impl Default for HttpProvider {
    fn default() -> Self {
        Self {
            endpoint: Secret::default(),
            poll_interval: Span::from_secs(5),
            poll_timeout: Span::from_secs(5),
            headers: BTreeMap::new(),
            tls: None,
            max_response_body_size: -1,
            hold: Hold::default(),
        }
    }
}
