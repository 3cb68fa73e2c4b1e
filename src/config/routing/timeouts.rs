//! `timeouts` of routers and services.

use serde::{Deserialize, Serialize};

use crate::config::{shape::unset, units::Span};

/// `http.routers.NAME.timeouts` and `….loadBalancer.timeouts` (Portway): 0 for no limit, all of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Timeouts {
    /// `responseHeader`: until the answer's head, once the request was sent.
    #[serde(skip_serializing_if = "unset")]
    pub response_header: Span,
    /// `idle`: how long a body may stand still because of the server.
    #[serde(skip_serializing_if = "unset")]
    pub idle: Span,
    /// `total`: until the last byte of the answer.
    #[serde(skip_serializing_if = "unset")]
    pub total: Span,
}
