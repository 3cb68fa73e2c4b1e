//! The operator's HTTP endpoints: API, ping, metrics, as answers to requests that came in through ordinary routers.
//!
//! There is no server here: `api@internal`, `ping@internal` and `prometheus@internal` are services like others, and the proxy asks
//! [`Admin`] for their answers. What the API shows of the configuration in use stands in the [`Catalog`].

mod api;
mod health;
mod metrics;

use std::{sync::Arc, time::SystemTime};

pub(crate) use self::api::{certificates::objects as certificate_objects, redact::redact};
pub use self::{
    api::{ExplainRequest, Explainer},
    health::{Phase, Readiness},
};
use crate::{
    config::{Diagnostic, Install},
    exchange::{RequestHead, Response},
    observe::{Metrics, Resolvers, Sources},
    snapshot::catalog::{Catalog, Status},
};

/// Answers for the internal services.
#[derive(Debug)]
pub struct Admin {
    install: Arc<Install>,
    /// What was found in the install configuration.
    diagnostics: Vec<Diagnostic>,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    sources: Sources,
    resolvers: Resolvers,
    started: SystemTime,
}

impl Admin {
    /// Answers about a process that starts now.
    pub fn new(
        install: Arc<Install>,
        diagnostics: Vec<Diagnostic>,
        metrics: Metrics,
        readiness: Arc<Readiness>,
        sources: Sources,
    ) -> Self {
        Self {
            install,
            diagnostics,
            metrics,
            readiness,
            sources,
            resolvers: Resolvers::default(),
            started: SystemTime::now(),
        }
    }

    /// Tells of certificates resolvers too.
    #[must_use]
    pub fn with_resolvers(self, resolvers: &Resolvers) -> Self {
        Self {
            resolvers: resolvers.clone(),
            ..self
        }
    }

    /// `api@internal`: JSON about the configuration in use.
    pub fn api(
        &self,
        request: &RequestHead,
        catalog: &Catalog,
        explainer: Option<&dyn Explainer>,
    ) -> Response {
        api::answer(self, request, catalog, explainer)
    }

    /// The install configuration it answers about.
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// `ping@internal`: whether this process takes requests.
    pub fn ping(&self) -> Response {
        health::answer(self.readiness.phase(), self.install.ping.as_ref())
    }

    /// `prometheus@internal`: the metrics. Writing them down takes a while when there are many.
    pub fn prometheus(&self, request: &RequestHead) -> Response {
        metrics::answer(&self.metrics, &request.headers)
    }
}
