//! `failover`: one service answers as long as it can, then another.

use serde::{Deserialize, Serialize};

use super::Follow;
use crate::config::shape::{presence, unset};

/// `http.services.NAME.failover`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Failover {
    /// `service` that answers while it is up.
    #[serde(skip_serializing_if = "unset")]
    pub service: String,
    /// `fallback`: the service that answers otherwise.
    #[serde(skip_serializing_if = "unset")]
    pub fallback: String,
    /// `healthCheck`: be up while one of both is.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Follow>,
    /// `errors`: answers that the fallback is asked after, too.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub errors: Option<FailoverErrors>,
}

/// `….failover.errors`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FailoverErrors {
    /// `status`: codes and ranges, as `500-599`.
    #[serde(skip_serializing_if = "unset")]
    pub status: Vec<String>,
    /// `maxRequestBodyBytes`: larger requests are answered 413, negative for no limit. Default -1.
    pub max_request_body_bytes: i64,
}

impl Default for FailoverErrors {
    fn default() -> Self {
        Self {
            status: Vec::new(),
            max_request_body_bytes: -1,
        }
    }
}
