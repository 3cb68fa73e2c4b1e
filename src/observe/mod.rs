//! What the outside sees of the traffic: metrics, access log, structured log.
//!
//! Rooms on the request path hold handles from here, taken when the configuration was compiled. This room knows nothing of the others.

mod counter;
mod exposition;
mod labels;
mod metrics;
pub mod names;
mod traffic;

pub use counter::{Counter, Gauge};
pub use labels::{HeaderLabels, MethodLabel, Protocol, TlsLabel};
pub use metrics::{
    CertificateExpiry, EntryPointMetrics, Metrics, MetricsOptions, MiddlewareMetrics, Reload,
    ServerMetrics, ServerState, ServerView, ServiceMetrics, WatchedLog,
};
pub use traffic::{Sample, TrafficMetrics};
