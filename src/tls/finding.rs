//! A finding about a certificate or an options object, before compile gives it a place and a path.

use std::fmt;

/// What is wrong with one field, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The option it is about, e.g. `keyFile` or `clientAuth.caFiles[1]`.
    pub field: String,
    /// Whether the object cannot be used; otherwise it is served, but not as the text suggests.
    pub fatal: bool,
    /// One sentence without a final stop.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding that makes its object unusable.
    pub fn error(
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            fatal: true,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// A finding that leaves its object in use.
    pub fn warning(
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            fatal: false,
            ..Self::error(field, message, hint)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Finding {}
