//! What the outside sees of the traffic: metrics, access log, structured log.
//!
//! Rooms on the request path hold handles from here, taken when the configuration was compiled. This room knows nothing of the others.

mod access_log;
mod clock;
mod counter;
mod escape;
mod exposition;
pub(crate) mod json;
mod labels;
mod lines;
mod log;
mod metrics;
pub mod names;
mod queue;
mod resolvers;
mod responders;
mod sink;
mod sources;
mod trace;
mod traffic;

pub use access_log::{AccessLog, AccessRecord, CapturedHeaders, Origin, TlsRecord};
pub(crate) use clock::clock_text;
pub use counter::{Counter, Gauge};
pub use labels::{HeaderLabels, MethodLabel, Protocol, TlsLabel};
pub use lines::{LogLine, LogQueue, LogValue};
pub use log::{FINDINGS, Log, LogError};
pub use metrics::{
    CertificateExpiry, EntryPointMetrics, Exported, Held, Metrics, MiddlewareMetrics,
    OpenConnection, Reload, ServerMetrics, ServerState, ServerView, ServiceMetrics, Signal,
    WatchedLog,
};
pub use queue::{Outlet, Queue};
pub use resolvers::{CertificateState, Phase, ResolverState, Resolvers};
pub use responders::{Responders, RespondersState, StapleState};
pub use sources::{Source, SourceState, Sources};
pub use trace::{
    Call, Captured, Part, Position, ServerCall, SpanId, SpanRecord, Trace, TraceId, TraceIds,
    TraceRecord, Tracer,
};
pub use traffic::{Sample, TrafficMetrics};
