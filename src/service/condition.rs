//! What a provider knows of a server beyond its address.

use std::sync::Arc;

/// Whether a server may get requests, as its provider sees it; the text says why, for people.
///
/// It is part of the server's one state, beside probes and failed requests, and no part of its identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    Ready,
    /// There, and not ready yet.
    Waiting(Arc<str>),
    /// There, and known to be unwell.
    Unhealthy(Arc<str>),
    /// About to go, or gone: what it has begun it may end.
    Leaving(Arc<str>),
}

impl Condition {
    /// The reason, if it is not ready.
    pub fn reason(&self) -> Option<&Arc<str>> {
        match self {
            Self::Ready => None,
            Self::Waiting(reason) | Self::Unhealthy(reason) | Self::Leaving(reason) => Some(reason),
        }
    }

    /// In a word: `ready`, `starting`, `unhealthy` or `leaving`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting(_) => "starting",
            Self::Unhealthy(_) => "unhealthy",
            Self::Leaving(_) => "leaving",
        }
    }

    /// Its kind, as bits beside those of another small number.
    pub(super) fn bits(&self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Waiting(_) => 1 << SHIFT,
            Self::Unhealthy(_) => 2 << SHIFT,
            Self::Leaving(_) => LEAVING,
        }
    }
}

const SHIFT: u8 = 3;

/// The bits below those of a condition.
pub(super) const BELOW: u8 = (1 << SHIFT) - 1;

/// The bits of [`Condition::Leaving`].
pub(super) const LEAVING: u8 = 3 << SHIFT;
