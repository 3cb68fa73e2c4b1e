//! What an active health check asks, and how often.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use super::{Scheme, health::Thresholds};

/// `healthCheck`, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub mode: CheckMode,
    /// Path and query, resolved against the server's URL; empty for the URL's own path.
    pub path: String,
    /// `None`: the server's, for both.
    pub scheme: Option<Scheme>,
    pub port: Option<u16>,
    pub method: Method,
    /// `Host` of the probe; `None`: the server's host and port.
    pub hostname: Option<HeaderValue>,
    /// A `Host` among these has no effect.
    pub headers: HeaderMap,
    /// The status that means healthy; `None`: 200 to 399.
    pub status: Option<u16>,
    pub follow_redirects: bool,
    pub interval: Duration,
    /// Between probes of a server that is down.
    pub unhealthy_interval: Duration,
    pub timeout: Duration,
    /// Each interval varies by this many percent, so that probes do not march in step.
    pub jitter: u8,
    pub thresholds: Thresholds,
}

/// `healthCheck.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckMode {
    #[default]
    Http,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            mode: CheckMode::Http,
            path: String::new(),
            scheme: None,
            port: None,
            method: Method::GET,
            hostname: None,
            headers: HeaderMap::new(),
            status: None,
            follow_redirects: true,
            interval: Duration::from_secs(30),
            unhealthy_interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            jitter: 10,
            thresholds: Thresholds::default(),
        }
    }
}
