//! Staples: what OCSP responders say of certificates, to be sent along in handshakes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The staples at hand, by the fingerprint of their certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staples(BTreeMap<String, Arc<Staple>>);

impl Staples {
    /// The staple for the certificate with this fingerprint.
    pub fn get(&self, fingerprint: &str) -> Option<&Arc<Staple>> {
        self.0.get(fingerprint)
    }
}

impl FromIterator<(String, Arc<Staple>)> for Staples {
    fn from_iter<I: IntoIterator<Item = (String, Arc<Staple>)>>(staples: I) -> Self {
        Self(staples.into_iter().collect())
    }
}

/// A responder's word that a certificate is good, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Staple {
    /// As it came from the responder.
    pub der: Box<[u8]>,
    /// From when it holds, in seconds since 1970.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

impl fmt::Debug for Staple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staple")
            .field("from", &self.from)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
