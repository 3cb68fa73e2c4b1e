//! The certificates that there are, as far as they matter for what is to be ordered.

use std::sync::Arc;

use super::{
    advice::{self, Advice, Life},
    memory::{Memory, key_of},
    plan::Held,
    stored::Stored,
};
use crate::tls::{Certificate, Tls};

/// A resolver's own certificates, and those that others provide and that are valid.
pub(super) fn held(stored: &Stored, memory: &Memory, tls: Option<&Tls>, now: i64) -> Vec<Held> {
    let ours = certificates(stored, tls);
    let configured = tls.map_or(&[][..], |tls| tls.certificates().configured());
    let theirs = configured.iter().filter(|one| {
        let facts = one.facts();
        let valid = (facts.not_before..=facts.not_after).contains(&now);
        valid && !ours.iter().any(|own| own.digest() == one.digest())
    });
    let theirs = theirs.map(|one| Held {
        names: one.facts().names.clone(),
        fingerprint: one.facts().fingerprint.clone(),
        renew_at: None,
    });
    let own = ours.iter().map(|one| {
        let facts = one.facts();
        let advice = memory.advice.get(&facts.fingerprint);
        Held {
            names: facts.names.clone(),
            fingerprint: facts.fingerprint.clone(),
            renew_at: Some(renew_at(one, advice)),
        }
    });
    own.chain(theirs).collect()
}

/// The usable certificates among what is stored; those that are in use are not parsed again.
pub(super) fn certificates(stored: &Stored, tls: Option<&Tls>) -> Vec<Arc<Certificate>> {
    let texts = stored.pairs().iter().filter_map(|pair| pair.texts());
    texts
        .filter_map(|(chain, key)| Tls::parse(tls, chain.as_bytes(), key.as_bytes()).ok())
        .collect()
}

/// When to replace a certificate.
pub(super) fn renew_at(certificate: &Certificate, advice: Option<&Advice>) -> i64 {
    advice::renew_at(advice, life(certificate), chance(certificate))
}

/// From when until when it is valid.
pub(super) fn life(certificate: &Certificate) -> Life {
    let facts = certificate.facts();
    Life {
        start: facts.not_before,
        end: facts.not_after,
    }
}

/// What the authority calls it.
pub(super) fn id(certificate: &Certificate) -> Option<String> {
    advice::id_of(certificate.key().cert.first()?)
}

/// What the authority calls the stored certificate for exactly these names.
pub(super) fn replaced_by(names: &[String], stored: &Stored, tls: Option<&Tls>) -> Option<String> {
    let key = key_of(names);
    let certificates = certificates(stored, tls);
    let same = certificates
        .iter()
        .find(|one| key_of(&one.facts().names) == key);
    id(same?)
}

/// A number that stays the same for a certificate.
fn chance(certificate: &Certificate) -> u64 {
    let first = certificate.digest().iter().take(8);
    first.fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
