//! `log`, `accessLog`, `metrics`, `ping`, `api`: what is seen from outside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{INTERNAL, LogOtlp, MetricsOtlp, Opaque};
use crate::config::shape::{presence, unset};
use crate::config::units::{Span, StatusRange};

/// `log`: the structured log.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Log {
    /// `level`. Default `ERROR`.
    pub level: LogLevel,
    /// `format`. Default `common`.
    pub format: LogFormat,
    /// `noColor`: no colours on a terminal. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub no_color: bool,
    /// `filePath`: empty for standard output.
    #[serde(skip_serializing_if = "unset")]
    pub file_path: String,
    /// `maxSize` of the file in megabytes before it is rotated, 0 for 100.
    #[serde(skip_serializing_if = "unset")]
    pub max_size: u64,
    /// `maxAge` of rotated files in days, 0 for no limit.
    #[serde(skip_serializing_if = "unset")]
    pub max_age: u64,
    /// `maxBackups`: rotated files kept, 0 for all.
    #[serde(skip_serializing_if = "unset")]
    pub max_backups: u64,
    /// `compress` rotated files. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub compress: bool,
    /// `otlp`: sent to a collector too.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Box<LogOtlp>>,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For developers.
    Debug,
    /// What happens.
    Info,
    /// What may need attention.
    Warn,
    /// What went wrong.
    #[default]
    Error,
    /// What ends the process.
    Fatal,
    /// What should never happen.
    Panic,
    /// Nothing.
    Disabled,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `TIME LEVEL message key=value`.
    #[default]
    Common,
    /// One JSON object per line.
    Json,
}

/// `accessLog`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLog {
    /// `filePath`: empty for standard output.
    #[serde(skip_serializing_if = "unset")]
    pub file_path: String,
    /// `format`. Default `common`.
    pub format: AccessLogFormat,
    /// `bufferingSize`: lines queued before they are written. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub buffering_size: u64,
    /// `addInternals`: log requests to `@internal` services too. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub add_internals: bool,
    /// `filters`: a line is kept when one of them says so, or none is set.
    #[serde(skip_serializing_if = "unset")]
    pub filters: AccessLogFilters,
    /// `fields`: what a line holds.
    pub fields: AccessLogFields,
    /// `dualOutput`: with `otlp`, write the lines too. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub dual_output: bool,
    /// `otlp`: sent to a collector instead of written.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Box<LogOtlp>>,
}

/// `accessLog.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum AccessLogFormat {
    /// The common log format with Traefik's additions.
    #[default]
    #[serde(rename = "common")]
    Common,
    /// The common log format alone.
    #[serde(rename = "genericCLF")]
    GenericClf,
    /// One JSON object per line.
    #[serde(rename = "json")]
    Json,
}

/// `accessLog.filters`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLogFilters {
    /// `statusCodes`: keep answers with these.
    #[serde(skip_serializing_if = "unset")]
    pub status_codes: Vec<StatusRange>,
    /// `retryAttempts`: keep requests that were retried. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub retry_attempts: bool,
    /// `minDuration`: keep requests that took longer. Default 0: no filter.
    #[serde(skip_serializing_if = "unset")]
    pub min_duration: Span,
}

/// `accessLog.fields`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLogFields {
    /// `defaultMode` of fields. Default keep.
    pub default_mode: FieldMode,
    /// `names`: mode by field name, in any case.
    #[serde(skip_serializing_if = "unset")]
    pub names: BTreeMap<String, FieldMode>,
    /// `headers`.
    pub headers: HeaderFields,
    /// `queryParameters`.
    pub query_parameters: QueryFields,
}

impl Default for AccessLogFields {
    fn default() -> Self {
        Self {
            default_mode: FieldMode::Keep,
            names: BTreeMap::new(),
            headers: HeaderFields::default(),
            query_parameters: QueryFields::default(),
        }
    }
}

/// `accessLog.fields.headers`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeaderFields {
    /// `defaultMode` of headers. Default drop.
    pub default_mode: FieldMode,
    /// `names`: mode by header name, in any case.
    #[serde(skip_serializing_if = "unset")]
    pub names: BTreeMap<String, FieldMode>,
}

impl Default for HeaderFields {
    fn default() -> Self {
        Self {
            default_mode: FieldMode::Drop,
            names: BTreeMap::new(),
        }
    }
}

/// `accessLog.fields.queryParameters`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueryFields {
    /// `defaultMode`: drop removes the query from the path. Default keep.
    pub default_mode: FieldMode,
}

impl Default for QueryFields {
    fn default() -> Self {
        Self {
            default_mode: FieldMode::Keep,
        }
    }
}

/// What becomes of a field in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldMode {
    /// Written.
    Keep,
    /// Left out.
    Drop,
    /// Written as `REDACTED`.
    Redact,
}

/// `metrics`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metrics {
    /// `addInternals`: count requests to `@internal` services too. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub add_internals: bool,
    /// `prometheus`: absent means off.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// `datadog`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datadog: Option<Opaque>,
    /// `statsD`: not acted on yet.
    #[serde(rename = "statsD", skip_serializing_if = "Option::is_none")]
    pub stats_d: Option<Opaque>,
    /// `influxDB2`: not acted on yet.
    #[serde(rename = "influxDB2", skip_serializing_if = "Option::is_none")]
    pub influx_db2: Option<Opaque>,
    /// `otlp`: told to a collector; absent means off.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Box<MetricsOtlp>>,
}

/// `metrics.prometheus`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Prometheus {
    /// `buckets` of the duration histograms in seconds. Default 0.1, 0.3, 1.2, 5.
    pub buckets: Vec<f64>,
    /// `addEntryPointsLabels`: series per entry point. Default true.
    pub add_entry_points_labels: bool,
    /// `addRoutersLabels`: series per router. Default false.
    pub add_routers_labels: bool,
    /// `addServicesLabels`: series per service. Default true.
    pub add_services_labels: bool,
    /// `entryPoint` that answers `/metrics`. Default `traefik`.
    pub entry_point: String,
    /// `manualRouting`: no automatic `/metrics`, use `prometheus@internal`. Default false.
    pub manual_routing: bool,
    /// `headerLabels`: label name to request header name.
    #[serde(skip_serializing_if = "unset")]
    pub header_labels: BTreeMap<String, String>,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            buckets: vec![0.1, 0.3, 1.2, 5.0],
            add_entry_points_labels: true,
            add_routers_labels: false,
            add_services_labels: true,
            entry_point: INTERNAL.to_owned(),
            manual_routing: false,
            header_labels: BTreeMap::new(),
        }
    }
}

/// `ping`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ping {
    /// `entryPoint` that answers `/ping`. Default `traefik`.
    pub entry_point: String,
    /// `manualRouting`: no automatic `/ping`, use `ping@internal`. Default false.
    pub manual_routing: bool,
    /// `terminatingStatusCode` while stopping. Default 503.
    pub terminating_status_code: u16,
}

impl Default for Ping {
    fn default() -> Self {
        Self {
            entry_point: INTERNAL.to_owned(),
            manual_routing: false,
            terminating_status_code: 503,
        }
    }
}

/// `api`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Api {
    /// `insecure`: serve it on entry point `traefik` without a router. Default false.
    pub insecure: bool,
    /// `dashboard`. Default true.
    pub dashboard: bool,
    /// `debug`. Default false.
    pub debug: bool,
    /// `basePath`: prefix of every path. Default `/`.
    pub base_path: String,
    /// `dashboardName`.
    #[serde(skip_serializing_if = "unset")]
    pub dashboard_name: String,
    /// `disableDashboardAd`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub disable_dashboard_ad: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            insecure: false,
            dashboard: true,
            debug: false,
            base_path: "/".to_owned(),
            dashboard_name: String::new(),
            disable_dashboard_ad: false,
        }
    }
}
