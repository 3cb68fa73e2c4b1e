//! `outlierDetection` of services.

use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// `….loadBalancer.outlierDetection` (Portway).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// `consecutiveErrors`: answers of 500 and above, or none, in a row; 0 for not looking. Default 5.
    pub consecutive_errors: u32,
    /// `consecutiveGatewayErrors`: answers 502, 503 and 504, or none, in a row; 0 for not looking. Default 0.
    pub consecutive_gateway_errors: u32,
    /// `errorRate`: percent of the requests of an interval that fail; 0 for not looking. Default 0.
    pub error_rate: u32,
    /// `minRequests` in an interval before `errorRate` counts. Default 20.
    pub min_requests: u32,
    /// `interval` that `errorRate` looks at. Default 10s.
    pub interval: Span,
    /// `baseEjectionTime`: the first ejection; each further one is longer by as much. Default 30s.
    pub base_ejection_time: Span,
    /// `maxEjectionTime`. Default 300s.
    pub max_ejection_time: Span,
    /// `maxEjectionPercent` of the servers that are ejected at a time, but one of several always may be. Default 50.
    pub max_ejection_percent: u32,
    /// `panicThreshold`: percent of the servers that must be well; with fewer, all get requests. 0 for never. Default 50.
    pub panic_threshold: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            consecutive_gateway_errors: 0,
            error_rate: 0,
            min_requests: 20,
            interval: Span::from_secs(10),
            base_ejection_time: Span::from_secs(30),
            max_ejection_time: Span::from_secs(300),
            max_ejection_percent: 50,
            panic_threshold: 50,
        }
    }
}
