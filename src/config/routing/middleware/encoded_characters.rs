//! `encodedCharacters`, the middleware.

use serde::{Deserialize, Serialize};

use crate::config::shape::unset;

/// `encodedCharacters`: unlike at an entry point, nothing is allowed by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "seven independent switches of the configuration language"
)]
pub struct AllowedCharacters {
    /// `allowEncodedSlash`: `%2F`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_slash: bool,
    /// `allowEncodedBackSlash`: `%5C`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_back_slash: bool,
    /// `allowEncodedNullCharacter`: `%00`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_null_character: bool,
    /// `allowEncodedSemicolon`: `%3B`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_semicolon: bool,
    /// `allowEncodedPercent`: `%25`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_percent: bool,
    /// `allowEncodedQuestionMark`: `%3F`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_question_mark: bool,
    /// `allowEncodedHash`: `%23`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_hash: bool,
}
