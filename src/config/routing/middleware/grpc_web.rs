//! `grpcWeb`.

use serde::{Deserialize, Serialize};

use crate::config::shape::unset;

/// `grpcWeb`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrpcWeb {
    /// `allowOrigins`: exact origins or `*`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_origins: Vec<String>,
}
