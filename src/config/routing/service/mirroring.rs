//! `mirroring`: one service answers, others get copies of its requests.

use serde::{Deserialize, Serialize};

use super::Follow;
use crate::config::shape::{presence, unset};
use crate::config::units::Span;

/// `http.services.NAME.mirroring`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mirroring {
    /// `service` that answers.
    #[serde(skip_serializing_if = "unset")]
    pub service: String,
    /// `mirrorBody`: copy bodies too. Default true.
    pub mirror_body: bool,
    /// `maxBodySize`: bytes of a body that is copied at most, negative for no limit of its own. Default -1.
    pub max_body_size: i64,
    /// `mirrors` that get copies.
    #[serde(skip_serializing_if = "unset")]
    pub mirrors: Vec<Mirror>,
    /// `timeout` (Portway): time for one copy, from its start to the end of the answer. Default 30s.
    #[serde(skip_serializing_if = "is_default_timeout")]
    pub timeout: Span,
    /// `maxInFlight` (Portway): mirrored requests under way at a time; what is beyond is not mirrored. Default 256.
    #[serde(skip_serializing_if = "is_default_in_flight")]
    pub max_in_flight: u32,
    /// `healthCheck`: be up while `service` is.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Follow>,
}

impl Default for Mirroring {
    fn default() -> Self {
        Self {
            service: String::new(),
            mirror_body: true,
            max_body_size: -1,
            mirrors: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            max_in_flight: DEFAULT_IN_FLIGHT,
            health_check: None,
        }
    }
}

/// `….mirroring.mirrors[N]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mirror {
    /// `name` of the service.
    pub name: String,
    /// `percent` of the requests that it gets, 0 to 100. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub percent: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_default_in_flight(value: &u32) -> bool {
    *value == DEFAULT_IN_FLIGHT
}

fn is_default_timeout(value: &Span) -> bool {
    *value == DEFAULT_TIMEOUT
}

const DEFAULT_TIMEOUT: Span = Span::from_secs(30);
const DEFAULT_IN_FLIGHT: u32 = 256;
