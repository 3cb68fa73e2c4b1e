//! `contentType`.

use serde::{Deserialize, Serialize};

/// `contentType`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContentType {
    /// `autoDetect`: deprecated; false switches the middleware off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_detect: Option<bool>,
}
