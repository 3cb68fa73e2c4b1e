//! Why a value did not fit, on its way out of serde.

use std::fmt;

use serde::de;

use super::{Path, did_you_mean, join};
use crate::config::diagnostic::{Diagnostic, Place};
use crate::config::tree::Node;

/// A value that does not fit. Raised without a spot by whoever knows the type; the innermost reader on the way adds the spot.
#[derive(Debug)]
pub(super) struct Fail {
    message: String,
    hint: Option<String>,
    spot: Option<(String, Place)>,
    /// There is an empty value where one of a few is expected.
    is_empty: bool,
}

impl Fail {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            spot: None,
            is_empty: false,
        }
    }

    /// Of an empty value.
    pub(super) fn of_empty(self) -> Self {
        Self {
            is_empty: true,
            ..self
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Adds the spot unless one is known.
    pub(super) fn at(mut self, path: &Path<'_>, node: &Node) -> Self {
        self.spot
            .get_or_insert_with(|| (path.to_string(), node.place.clone()));
        self
    }

    /// The path relative to the tree, and the finding.
    pub(super) fn into_diagnostic(self, root: &Node, prefix: &str) -> (String, Diagnostic) {
        let (path, place) = self
            .spot
            .unwrap_or_else(|| (String::new(), root.place.clone()));
        let mut diagnostic = Diagnostic::error(place, join(prefix, &path), self.message);
        diagnostic.hint = self.hint;
        (path, diagnostic)
    }
}

impl de::Error for Fail {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value {variant:?}")).with_hint(did_you_mean(variant, expected))
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fail {}
