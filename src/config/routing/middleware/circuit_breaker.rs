//! `circuitBreaker`.

use serde::{Deserialize, Serialize};

use crate::config::{shape::unset, units::Span};

/// `circuitBreaker`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// `expression` that opens it; required.
    #[serde(skip_serializing_if = "unset")]
    pub expression: String,
    /// `checkPeriod` between two looks at the expression. Default 100ms.
    pub check_period: Span,
    /// `fallbackDuration`: how long it stays open. Default 10s.
    pub fallback_duration: Span,
    /// `recoveryDuration`: how long it takes until everything passes again. Default 10s.
    pub recovery_duration: Span,
    /// `responseCode` while it is open. Default 503.
    pub response_code: i64,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            expression: String::new(),
            check_period: Span::from_millis(100),
            fallback_duration: Span::from_secs(10),
            recovery_duration: Span::from_secs(10),
            response_code: 503,
        }
    }
}
