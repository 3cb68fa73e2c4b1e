//! How the certificates resolvers are: what each has obtained, what it is about to do, and why something is missing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All certificates resolvers, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resolvers(Arc<Mutex<BTreeMap<Arc<str>, ResolverState>>>);

/// How one resolver is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolverState {
    /// Whether the authority knows its account.
    pub registered: bool,
    /// Attempts to obtain a certificate since the start, by outcome: `issued`, `failed`, `unreachable`.
    pub orders: BTreeMap<&'static str, u64>,
    /// What it obtained and what it is asked for.
    pub certificates: Vec<CertificateState>,
}

/// A certificate that is there, is to come, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateState {
    /// The names it is, or is to be, good for.
    pub names: Vec<String>,
    /// SHA-256 of the one that is there, lower-case hexadecimal.
    pub fingerprint: Option<String>,
    /// The challenge by which the names are proven next.
    pub challenge: Option<&'static str>,
    pub phase: Phase,
    /// When the next attempt begins, in seconds since 1970.
    pub next: Option<i64>,
    /// Whether the authority has said when to replace it.
    pub advised: bool,
    /// Why the authority wants it replaced: the address of a page.
    pub explanation: Option<String>,
    /// How many attempts have failed since the last success.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// The limit of the authority that it waits for.
    pub limit: Option<String>,
}

/// What is going on with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// It is there, and will be renewed in time.
    #[default]
    Valid,
    /// It is there, and nobody asks for it any more.
    Unused,
    /// It is due, and the next order will be for it.
    Due,
    /// It is being ordered.
    Ordering,
    /// It is due, and the authority's limits do not allow it yet.
    Waiting,
    /// It is due, and the last attempt failed.
    Failing,
}

impl Resolvers {
    /// All states by name.
    pub fn states(&self) -> BTreeMap<Arc<str>, ResolverState> {
        self.lock().clone()
    }

    /// Replaces what is told of a resolver's certificates.
    pub fn set_certificates(
        &self,
        resolver: &str,
        registered: bool,
        certificates: Vec<CertificateState>,
    ) {
        self.change(resolver, |state| {
            state.registered = registered;
            state.certificates = certificates;
        });
    }

    /// Counts an attempt: `issued`, `failed`, `unreachable`.
    pub fn count(&self, resolver: &str, outcome: &'static str) {
        self.change(resolver, |state| {
            *state.orders.entry(outcome).or_default() += 1;
        });
    }

    fn change(&self, resolver: &str, change: impl FnOnce(&mut ResolverState)) {
        change(self.lock().entry(resolver.into()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, ResolverState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolverState {
    /// When the next attempt begins, in seconds since 1970.
    pub fn next(&self) -> Option<i64> {
        let certificates = self.certificates.iter();
        certificates
            .filter_map(|certificate| certificate.next)
            .min()
    }
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Valid,
        Self::Unused,
        Self::Due,
        Self::Ordering,
        Self::Waiting,
        Self::Failing,
    ];

    /// The word of API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unused => "unused",
            Self::Due => "due",
            Self::Ordering => "ordering",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_and_the_first_next_one_is_told() {
        let resolvers = Resolvers::default();
        let at = |next| CertificateState {
            next,
            ..CertificateState::default()
        };
        resolvers.count("le", "failed");
        resolvers.set_certificates("le", true, vec![at(Some(9)), at(None), at(Some(7))]);
        resolvers.count("le", "failed");
        resolvers.set_certificates("other", false, Vec::new());
        let states = resolvers.states();
        let (le, other) = (&states["le"], &states["other"]);
        assert_eq!((le.orders["failed"], le.next()), (2, Some(7)));
        assert_eq!((other.orders.len(), other.next()), (0, None));
        assert!(le.registered && !other.registered);
    }
}
