//! Options of `errors`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{shape::unset, units::StatusRange};

/// `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Errors {
    /// `status` codes and ranges whose answers are replaced.
    #[serde(skip_serializing_if = "unset")]
    pub status: Vec<StatusRange>,
    /// `statusRewrites`: the status that the client gets instead, by code or range.
    #[serde(skip_serializing_if = "unset")]
    pub status_rewrites: BTreeMap<String, u16>,
    /// `service` that has the pages; required.
    #[serde(skip_serializing_if = "unset")]
    pub service: String,
    /// `query`: path of the page, with `{status}`, `{originalStatus}` and `{url}`. Default `/`.
    #[serde(skip_serializing_if = "unset")]
    pub query: String,
    /// `errorRequestHeaders`: the only header fields of the request that the service sees. Default: all.
    #[serde(skip_serializing_if = "unset")]
    pub error_request_headers: Vec<String>,
}
