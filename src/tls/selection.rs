//! Which certificate a server name gets: by hash, exact before wildcard, the same answer whatever the order of the configuration.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Every certificate of the store, by the names it is served for.
#[derive(Debug, Default)]
pub struct CertificateTable {
    exact: HashMap<Box<str>, Slot>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<Box<str>, Slot>,
    by_address: HashMap<IpAddr, Slot>,
    default: Option<Arc<Certificate>>,
    configured: Vec<Arc<Certificate>>,
}

impl CertificateTable {
    /// A table of `certificates`; `default` answers for every other name. `now` in seconds since 1970.
    pub(super) fn new(
        certificates: &[Arc<Certificate>],
        default: Option<Arc<Certificate>>,
        now: i64,
    ) -> Self {
        let mut table = Self {
            default,
            configured: certificates.to_vec(),
            ..Self::default()
        };
        for certificate in certificates {
            for name in &certificate.facts().names {
                table.insert(name, certificate, now);
            }
        }
        table
    }

    /// The certificates for `name` (lower-case) or, without one, for the address the client connected to.
    /// `None` means that only the default is left.
    fn find(&self, name: Option<&str>, local: Option<IpAddr>) -> Option<&Slot> {
        let Some(name) = name else {
            return self.by_address.get(&local?.to_canonical());
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        self.exact.get(name).or_else(|| {
            let (_, rest) = name.split_once('.')?;
            self.wildcard.get(rest)
        })
    }

    /// Whether a certificate other than the default matches.
    pub fn covers(&self, name: Option<&str>, local: Option<IpAddr>) -> bool {
        self.find(name, local).is_some()
    }

    /// The certificate a client of ordinary abilities gets for `name` (lower-case).
    pub fn certificate(
        &self,
        name: Option<&str>,
        local: Option<IpAddr>,
    ) -> Option<&Arc<Certificate>> {
        self.find(name, local)
            .map(|slot| &slot.first)
            .or(self.default.as_ref())
    }

    /// The certificate that answers when no name matches.
    pub fn default_certificate(&self) -> Option<&Arc<Certificate>> {
        self.default.as_ref()
    }

    /// The certificates of the configuration, in its order, without the default.
    pub fn configured(&self) -> &[Arc<Certificate>] {
        &self.configured
    }

    /// For every IP name the key that is served there.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, Arc<Certificate>)> {
        self.by_address
            .iter()
            .map(|(address, slot)| (*address, Arc::clone(&slot.first)))
    }

    fn insert(&mut self, name: &str, certificate: &Arc<Certificate>, now: i64) {
        let slot = Slot {
            first: Arc::clone(certificate),
            other: None,
        };
        let add = |old: &mut Slot| old.add(certificate, now);
        if let Some(rest) = name.strip_prefix("*.") {
            self.wildcard
                .entry(rest.into())
                .and_modify(add)
                .or_insert(slot);
        } else if let Ok(address) = name.parse::<IpAddr>() {
            let address = address.to_canonical();
            self.by_address
                .entry(address)
                .and_modify(add)
                .or_insert(slot);
        } else {
            self.exact
                .entry(name.into())
                .and_modify(add)
                .or_insert(slot);
        }
    }
}

impl ResolvesServerCert for CertificateTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let slot = self.find(hello.server_name(), None);
        let certificate = match slot {
            Some(slot) => slot.choose(hello.signature_schemes()),
            None => self.default.as_ref()?,
        };
        Some(Arc::clone(certificate.key()))
    }
}

/// Serves one certificate whatever the client asks for.
#[derive(Debug)]
pub(super) struct Always(pub(super) Arc<Certificate>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.key()))
    }
}

/// The certificates of one name: the best, and the best of the other key family for clients that cannot verify the first.
#[derive(Debug)]
struct Slot {
    first: Arc<Certificate>,
    other: Option<Arc<Certificate>>,
}

impl Slot {
    fn add(&mut self, certificate: &Arc<Certificate>, now: i64) {
        let is_rsa = |certificate: &Certificate| certificate.facts().key_type == "RSA";
        let family = is_rsa(certificate);
        let keep = |old: &Arc<Certificate>| rank(old, now) >= rank(certificate, now);
        if family == is_rsa(&self.first) {
            if !keep(&self.first) {
                self.first = Arc::clone(certificate);
            }
        } else if !self.other.as_ref().is_some_and(keep) {
            self.other = Some(Arc::clone(certificate));
        }
        self.order(now);
    }

    /// A certificate that is valid goes first; between two families the one that is cheaper to sign with.
    fn order(&mut self, now: i64) {
        let Some(other) = &mut self.other else {
            return;
        };
        let key = |certificate: &Certificate| {
            let (valid, _) = rank(certificate, now);
            (valid, certificate.facts().key_type != "RSA")
        };
        if key(other) > key(&self.first) {
            std::mem::swap(&mut self.first, other);
        }
    }

    fn choose(&self, schemes: &[SignatureScheme]) -> &Arc<Certificate> {
        match &self.other {
            Some(other) if !self.first.suits(schemes) && other.suits(schemes) => other,
            _ => &self.first,
        }
    }
}

/// Better certificates rank higher: valid ones, then those that last longer. Equals keep the order of the configuration.
fn rank(certificate: &Certificate, now: i64) -> (bool, i64) {
    let facts = certificate.facts();
    (
        (facts.not_before..=facts.not_after).contains(&now),
        facts.not_after,
    )
}
