//! `digestAuth`.

use serde::{Deserialize, Serialize};

use crate::config::{shape::unset, units::Secret};

/// `digestAuth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DigestAuth {
    /// `users`: `name:realm:hash` each.
    #[serde(skip_serializing_if = "unset")]
    pub users: Vec<Secret>,
    /// `usersFile`: one `name:realm:hash` per line.
    #[serde(skip_serializing_if = "unset")]
    pub users_file: String,
    /// `removeHeader`: do not send Authorization on. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub remove_header: bool,
    /// `realm`. Empty means `traefik`.
    #[serde(skip_serializing_if = "unset")]
    pub realm: String,
    /// `headerField`: header that tells the server the user's name.
    #[serde(skip_serializing_if = "unset")]
    pub header_field: String,
}
