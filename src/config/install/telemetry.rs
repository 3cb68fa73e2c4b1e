//! `tracing`, `metrics.otlp` and the `otlp` of logs: what is sent to a collector.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::shape::{presence, unset};
use crate::config::units::{FileOrContent, Span};

/// `tracing`: what becomes of a request, told to a collector.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    /// `serviceName` of this proxy. Default `traefik`.
    pub service_name: String,
    /// `resourceAttributes`: further facts about this proxy.
    #[serde(skip_serializing_if = "unset")]
    pub resource_attributes: BTreeMap<String, String>,
    /// `globalAttributes`: the former name of `resourceAttributes`.
    #[serde(skip_serializing_if = "unset")]
    pub global_attributes: BTreeMap<String, String>,
    /// `capturedRequestHeaders`: request headers that become attributes.
    #[serde(skip_serializing_if = "unset")]
    pub captured_request_headers: Vec<String>,
    /// `capturedResponseHeaders`: the same for answers.
    #[serde(skip_serializing_if = "unset")]
    pub captured_response_headers: Vec<String>,
    /// `safeQueryParams`: query parameters whose values may be shown.
    #[serde(skip_serializing_if = "unset")]
    pub safe_query_params: Vec<String>,
    /// `sampleRate`: the share of traces that are recorded, unless who calls has decided. Default 1.
    pub sample_rate: f64,
    /// `addInternals`: trace requests to `@internal` services too. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub add_internals: bool,
    /// `otlp`: where to. Default `http` with its defaults.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub otlp: Option<TracingOtlp>,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            service_name: SERVICE_NAME.to_owned(),
            resource_attributes: BTreeMap::new(),
            global_attributes: BTreeMap::new(),
            captured_request_headers: Vec::new(),
            captured_response_headers: Vec::new(),
            safe_query_params: Vec::new(),
            sample_rate: 1.0,
            add_internals: false,
            otlp: None,
        }
    }
}

/// `tracing.otlp`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TracingOtlp {
    /// `http`: to a collector that takes OTLP over HTTP.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub http: Option<OtlpHttp>,
    /// `grpc`: to one that takes it over gRPC; set, it is used instead of `http`.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub grpc: Option<OtlpGrpc>,
}

/// `metrics.otlp`: metrics, told to a collector.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricsOtlp {
    /// `http`: to a collector that takes OTLP over HTTP. Default.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub http: Option<OtlpHttp>,
    /// `grpc`: to one that takes it over gRPC; set, it is used instead of `http`.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub grpc: Option<OtlpGrpc>,
    /// `pushInterval`: how often. Default 10s.
    pub push_interval: Span,
    /// `explicitBoundaries` of the duration histograms in seconds. Default from 0.005 to 10.
    pub explicit_boundaries: Vec<f64>,
    /// `addEntryPointsLabels`: series per entry point. Default true.
    pub add_entry_points_labels: bool,
    /// `addRoutersLabels`: series per router. Default false.
    pub add_routers_labels: bool,
    /// `addServicesLabels`: series per service. Default true.
    pub add_services_labels: bool,
    /// `serviceName` of this proxy. Default `traefik`.
    pub service_name: String,
    /// `resourceAttributes`: further facts about this proxy.
    #[serde(skip_serializing_if = "unset")]
    pub resource_attributes: BTreeMap<String, String>,
}

impl Default for MetricsOtlp {
    fn default() -> Self {
        Self {
            http: None,
            grpc: None,
            push_interval: Span::from_secs(10),
            explicit_boundaries: BOUNDARIES.to_vec(),
            add_entry_points_labels: true,
            add_routers_labels: false,
            add_services_labels: true,
            service_name: SERVICE_NAME.to_owned(),
            resource_attributes: BTreeMap::new(),
        }
    }
}

/// `log.otlp`, `accessLog.otlp`: lines of a log, told to a collector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogOtlp {
    /// `serviceName` of this proxy. Default `traefik`.
    pub service_name: String,
    /// `resourceAttributes`: further facts about this proxy.
    #[serde(skip_serializing_if = "unset")]
    pub resource_attributes: BTreeMap<String, String>,
    /// `http`: to a collector that takes OTLP over HTTP. Default.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub http: Option<OtlpHttp>,
    /// `grpc`: to one that takes it over gRPC; set, it is used instead of `http`.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub grpc: Option<OtlpGrpc>,
}

impl Default for LogOtlp {
    fn default() -> Self {
        Self {
            service_name: SERVICE_NAME.to_owned(),
            resource_attributes: BTreeMap::new(),
            http: None,
            grpc: None,
        }
    }
}

/// `tracing.otlp.http`: a collector reached over HTTP; `metrics.otlp`, `log.otlp` and `accessLog.otlp` have the same options.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OtlpHttp {
    /// `endpoint`: its URL. Default `https://localhost:4318`.
    pub endpoint: String,
    /// `headers` sent along.
    #[serde(skip_serializing_if = "unset")]
    pub headers: BTreeMap<String, String>,
    /// `tls`: how it proves who it is.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<OtlpTls>,
}

impl Default for OtlpHttp {
    fn default() -> Self {
        Self {
            endpoint: "https://localhost:4318".to_owned(),
            headers: BTreeMap::new(),
            tls: None,
        }
    }
}

/// `tracing.otlp.grpc`: a collector reached over gRPC; `metrics.otlp`, `log.otlp` and `accessLog.otlp` have the same options.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OtlpGrpc {
    /// `endpoint`: its host and port. Default `localhost:4317`.
    pub endpoint: String,
    /// `insecure`: without TLS. Default false.
    pub insecure: bool,
    /// `headers` sent along.
    #[serde(skip_serializing_if = "unset")]
    pub headers: BTreeMap<String, String>,
    /// `tls`: how it proves who it is.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<OtlpTls>,
}

impl Default for OtlpGrpc {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".to_owned(),
            insecure: false,
            headers: BTreeMap::new(),
            tls: None,
        }
    }
}

/// `tracing.otlp.http.tls`: TLS towards a collector, over HTTP and gRPC alike.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OtlpTls {
    /// `ca` that signed its certificate. Default: the system's.
    #[serde(skip_serializing_if = "unset")]
    pub ca: FileOrContent,
    /// `cert` shown to it.
    #[serde(skip_serializing_if = "unset")]
    pub cert: FileOrContent,
    /// `key` of that certificate.
    #[serde(skip_serializing_if = "unset")]
    pub key: FileOrContent,
    /// `insecureSkipVerify`: accept any certificate. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure_skip_verify: bool,
}

/// Under this name Traefik's users look for their proxy.
const SERVICE_NAME: &str = "traefik";
const BOUNDARIES: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
