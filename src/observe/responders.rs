//! What came of asking OCSP responders, and how the staples are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All responders together. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Responders(Arc<Mutex<RespondersState>>);

/// What is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RespondersState {
    /// Questions since the start, by outcome: `good`, `revoked`, `failed`.
    pub asked: BTreeMap<&'static str, u64>,
    /// The certificates that have a responder.
    pub certificates: Vec<StapleState>,
}

/// A certificate that has a responder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StapleState {
    pub common_name: String,
    /// Decimal.
    pub serial: String,
    /// DNS names.
    pub sans: Vec<String>,
    /// Until when its staple holds, in seconds since 1970; none without a staple.
    pub until: Option<i64>,
    /// When its responder is asked next, in seconds since 1970.
    pub next: i64,
}

impl Responders {
    /// What is known now.
    pub fn state(&self) -> RespondersState {
        self.lock().clone()
    }

    /// Replaces what is told of certificates.
    pub fn set(&self, certificates: Vec<StapleState>) {
        self.lock().certificates = certificates;
    }

    /// Counts a question by its outcome: `good`, `revoked`, `failed`.
    pub fn count(&self, outcome: &'static str) {
        *self.lock().asked.entry(outcome).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, RespondersState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
