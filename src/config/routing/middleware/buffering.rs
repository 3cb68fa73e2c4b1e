//! Options of `buffering`.

use serde::{Deserialize, Serialize};

use crate::config::shape::unset;

/// `buffering`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Buffering {
    /// `maxRequestBodyBytes`: larger bodies are refused; 0 for no limit. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub max_request_body_bytes: i64,
    /// `memRequestBodyBytes`: larger bodies are kept in a file. Default 1048576.
    pub mem_request_body_bytes: i64,
    /// `maxResponseBodyBytes`: larger answers become a 500; 0 for no limit. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub max_response_body_bytes: i64,
    /// `memResponseBodyBytes`: larger answers are kept in a file. Default 1048576.
    pub mem_response_body_bytes: i64,
    /// `retryExpression`: when a request is repeated.
    #[serde(skip_serializing_if = "unset")]
    pub retry_expression: String,
}

impl Default for Buffering {
    fn default() -> Self {
        Self {
            max_request_body_bytes: 0,
            mem_request_body_bytes: 1 << 20,
            max_response_body_bytes: 0,
            mem_response_body_bytes: 1 << 20,
            retry_expression: String::new(),
        }
    }
}
