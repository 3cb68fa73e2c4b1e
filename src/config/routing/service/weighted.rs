//! `weighted` and `highestRandomWeight`: services that share requests among other services.

use serde::{Deserialize, Serialize};

use super::{Follow, Sticky};
use crate::config::shape::{presence, unset};

/// `http.services.NAME.weighted`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Weighted {
    /// `services` that take turns.
    #[serde(skip_serializing_if = "unset")]
    pub services: Vec<WeightedService>,
    /// `sticky`: keep a client on its service.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// `healthCheck`: be up while one of the services is.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Follow>,
}

/// `http.services.NAME.highestRandomWeight`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HighestRandomWeight {
    /// `services` of which every client address belongs to one.
    #[serde(skip_serializing_if = "unset")]
    pub services: Vec<WeightedService>,
    /// `healthCheck`: be up while one of the services is.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Follow>,
}

/// `….weighted.services[N]`, and the same below `highestRandomWeight`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WeightedService {
    /// `name` of the service.
    pub name: String,
    /// `weight`: share of the requests; 0 or less for none. Default 1.
    pub weight: i64,
}

impl Default for WeightedService {
    fn default() -> Self {
        Self {
            name: String::new(),
            weight: 1,
        }
    }
}
