//! Numbers used once: what a challenge hands out, and how often each was used.
//!
//! A nonce is a serial number with a keyed digest, so handing one out costs no memory, and whoever asks for many makes nobody else's
//! invalid. Only those that a user has proved himself with are remembered, and of these the latest.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::middleware::random;

/// The nonces of one middleware.
pub(super) struct Nonces {
    key: hmac::Key,
    opaque: String,
    issued: AtomicU64,
    used: Mutex<Used>,
}

/// What is to be done with a request whose password is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// The very same was seen before.
    Repeated,
    /// The client should try again with a new nonce.
    Stale,
}

#[derive(Default)]
struct Used {
    /// The last count of each, by serial number.
    counts: BTreeMap<u64, u64>,
    /// Serial numbers up to this one were forgotten.
    forgotten: u64,
}

impl Nonces {
    /// `None` if the system has no randomness.
    pub(super) fn new() -> Option<Self> {
        let (mut key, mut opaque) = ([0; 32], [0; 12]);
        if !random::fill(&mut key) || !random::fill(&mut opaque) {
            return None;
        }
        Some(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            opaque: STANDARD_NO_PAD.encode(opaque),
            issued: AtomicU64::new(0),
            used: Mutex::default(),
        })
    }

    /// What clients send back unchanged.
    pub(super) fn opaque(&self) -> &str {
        &self.opaque
    }

    /// A new one.
    pub(super) fn issue(&self) -> String {
        let serial = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bytes = [0; NONCE];
        let (number, digest) = bytes.split_at_mut(SERIAL);
        number.copy_from_slice(&serial.to_be_bytes());
        let tag = hmac::sign(&self.key, number);
        digest.copy_from_slice(&tag.as_ref()[..NONCE - SERIAL]);
        STANDARD_NO_PAD.encode(bytes)
    }

    /// Notes that `nonce` was used for the `count`th time.
    pub(super) fn spend(&self, nonce: &str, count: u64) -> Verdict {
        let Some(serial) = self.serial(nonce) else {
            return Verdict::Stale;
        };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = used.counts.get_mut(&serial) {
            return match count.cmp(last) {
                std::cmp::Ordering::Less => Verdict::Stale,
                std::cmp::Ordering::Equal => Verdict::Repeated,
                std::cmp::Ordering::Greater => {
                    *last = count;
                    Verdict::Good
                }
            };
        }
        if serial <= used.forgotten {
            return Verdict::Stale;
        }
        used.counts.insert(serial, count);
        if used.counts.len() > REMEMBERED
            && let Some((oldest, _)) = used.counts.pop_first()
        {
            used.forgotten = oldest;
        }
        Verdict::Good
    }

    /// The serial number of a nonce that is ours.
    fn serial(&self, nonce: &str) -> Option<u64> {
        let bytes = STANDARD_NO_PAD.decode(nonce).ok()?;
        let (number, digest) = bytes.split_first_chunk::<SERIAL>()?;
        let tag = hmac::sign(&self.key, number);
        let expected = &tag.as_ref()[..NONCE - SERIAL];
        aws_lc_rs::constant_time::verify_slices_are_equal(expected, digest).ok()?;
        Some(u64::from_be_bytes(*number))
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces")
    }
}

/// Bytes of a nonce, and of the serial number in it.
const NONCE: usize = 24;
const SERIAL: usize = 8;
/// Nonces whose count is remembered.
const REMEMBERED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_good_once_and_upwards() {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.issue();
        for (count, verdict) in [
            (1, Verdict::Good),
            (1, Verdict::Repeated),
            (3, Verdict::Good),
            (2, Verdict::Stale),
            (3, Verdict::Repeated),
            (u64::MAX, Verdict::Good),
        ] {
            assert_eq!(nonces.spend(&nonce, count), verdict, "{count}");
        }
        let zero = nonces.issue();
        assert_eq!(nonces.spend(&zero, 0), Verdict::Good);
        assert_eq!(nonces.spend(&zero, 0), Verdict::Repeated);
    }

    #[test]
    fn what_was_not_issued_is_no_nonce() {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.issue();
        assert_ne!(nonce, nonces.issue());
        let mut changed = STANDARD_NO_PAD.decode(&nonce).unwrap();
        changed[SERIAL - 1] ^= 2;
        for other in [
            String::new(),
            "AAAA".to_owned(),
            STANDARD_NO_PAD.encode([0; NONCE]),
            STANDARD_NO_PAD.encode(&changed),
            STANDARD_NO_PAD.encode(&changed[..SERIAL]),
            format!("{nonce}AAAA"),
            Nonces::new().unwrap().issue(),
        ] {
            assert_eq!(nonces.spend(&other, 1), Verdict::Stale, "{other}");
        }
        assert!(nonces.used.lock().unwrap().counts.is_empty());
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_forgotten_is_not_good_again() {
        let nonces = Nonces::new().unwrap();
        let early = nonces.issue();
        let first = nonces.issue();
        assert_eq!(nonces.spend(&first, 1), Verdict::Good);
        for _ in 0..REMEMBERED {
            assert_eq!(nonces.spend(&nonces.issue(), 1), Verdict::Good);
        }
        assert_eq!(nonces.used.lock().unwrap().counts.len(), REMEMBERED);
        for forgotten in [&first, &early] {
            assert_eq!(nonces.spend(forgotten, 9), Verdict::Stale);
        }
    }
}
