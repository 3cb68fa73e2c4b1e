//! Options of `retry`.

use serde::{Deserialize, Serialize};

use crate::config::{
    shape::unset,
    units::{Span, StatusRange},
};

/// `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Retry {
    /// `attempts` in total, the first included; required, above 0.
    pub attempts: i64,
    /// `initialInterval`: wait before the first repetition, growing with each. Default 0: none.
    #[serde(skip_serializing_if = "unset")]
    pub initial_interval: Span,
    /// `timeout` since the first attempt, after which nothing is repeated. Default 0: none.
    #[serde(skip_serializing_if = "unset")]
    pub timeout: Span,
    /// `status` codes and ranges to repeat on.
    #[serde(skip_serializing_if = "unset")]
    pub status: Vec<StatusRange>,
    /// `maxRequestBodyBytes`: larger bodies are not repeated because of a status. Default 2097152; negative for no limit.
    pub max_request_body_bytes: i64,
    /// `retryNonIdempotentMethod`: also POST, PATCH and LOCK because of a status. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub retry_non_idempotent_method: bool,
    /// `disableRetryOnNetworkError`: only because of a status. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub disable_retry_on_network_error: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 0,
            initial_interval: Span::ZERO,
            timeout: Span::ZERO,
            status: Vec::new(),
            max_request_body_bytes: 2 << 20,
            retry_non_idempotent_method: false,
            disable_retry_on_network_error: false,
        }
    }
}
