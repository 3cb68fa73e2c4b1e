//! When authorities would have certificates replaced (ARI, RFC 9773): what they say, the time we choose within it, and when to ask again.
//!
//! Advice never keeps a certificate from being renewed: without any, and with one that makes no sense, a third of the life decides.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use x509_parser::{extensions::ParsedExtension, parse_x509_certificate};

use super::plan;

/// What an authority suggests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Window {
    /// Seconds since 1970.
    pub(super) start: i64,
    pub(super) end: i64,
    /// A page that says why.
    pub(super) explanation: String,
}

/// What is remembered of the advice on one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Advice {
    start: i64,
    end: i64,
    /// Chosen once for a window; 0 without advice.
    at: i64,
    pub(super) explanation: String,
    /// When to ask again.
    pub(super) ask: i64,
    /// How often asking failed since it last worked.
    failures: u32,
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Advice {
    /// Whether there is any.
    pub(super) fn is_given(&self) -> bool {
        self.at != 0
    }

    /// Takes what the authority says at `now`; true if that is news. A window keeps the time that was chosen within it; `chance` is any
    /// number. `pause` is how long the authority wants to be left alone.
    pub(super) fn take(
        &mut self,
        window: Option<Window>,
        life: Life,
        (now, pause, chance): (i64, Option<i64>, u64),
    ) -> bool {
        let pause = pause.map_or(USUAL_PAUSE, |pause| {
            pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
        });
        (self.ask, self.failures) = (now + pause, 0);
        let Some(window) = window.filter(|window| window.start < window.end) else {
            return false;
        };
        self.explanation = window.explanation;
        if self.is_given() && (self.start, self.end) == (window.start, window.end) {
            return false;
        }
        (self.start, self.end) = (window.start, window.end);
        let (start, end) = narrow((window.start, window.end), life, now);
        let width = u64::try_from(end - start).unwrap_or_default().max(1);
        let within = i64::try_from(chance % width).unwrap_or_default();
        // A time of 0 would mean that there is none.
        self.at = (start + within).max(1);
        true
    }

    /// Notes that nobody answered at `now`, or that the authority `refused` to.
    pub(super) fn miss(&mut self, now: i64, refused: bool) {
        let doubled = SHORTEST_PAUSE << self.failures.min(9);
        self.failures = self.failures.saturating_add(1);
        self.ask = now
            + match refused {
                true => USUAL_PAUSE,
                false => doubled.min(USUAL_PAUSE),
            };
    }

    /// When to replace a certificate. Whatever the authority says, one that is new is not replaced for ever anew, and a tenth of its
    /// life is left for renewals that fail.
    fn renew_at(&self, life: Life) -> i64 {
        let length = life.length();
        let earliest = life.start + (length / 10).min(SHORTEST_LIFE);
        let latest = life.end - length / 10;
        self.at.clamp(earliest, latest.max(earliest))
    }
}

impl Life {
    fn length(self) -> i64 {
        self.end.saturating_sub(self.start).max(0)
    }
}

/// When to replace a certificate: as the authority advises, or with a third of its life left.
pub(super) fn renew_at(advice: Option<&Advice>, life: Life, chance: u64) -> i64 {
    match advice.filter(|advice| advice.is_given()) {
        Some(advice) => advice.renew_at(life),
        None => plan::renew_at(life.start, life.end, chance),
    }
}

/// A window as wide as most of a life is no advice about this certificate, unless it is over: then the certificate is to go at once.
fn narrow((start, end): (i64, i64), life: Life, now: i64) -> (i64, i64) {
    let length = life.length();
    if end <= now || end - start <= length / 2 {
        return (start, end);
    }
    let narrow = (
        start.max(life.start + length / 2),
        end.min(life.end - length / 6),
    );
    match narrow.0 < narrow.1 {
        true => narrow,
        false => (life.start + length / 2, life.end - length / 6),
    }
}

/// What authorities call a certificate (RFC 9773, section 4.1); none if it does not say who signed it.
pub(super) fn id_of(leaf: &[u8]) -> Option<String> {
    let (_, leaf) = parse_x509_certificate(leaf).ok()?;
    let key =
        leaf.extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref(),
                _ => None,
            })?;
    let serial = leaf.tbs_certificate.raw_serial();
    Some(format!(
        "{}.{}",
        BASE64.encode(key.0),
        BASE64.encode(serial)
    ))
}

/// Between two questions, in seconds: what is allowed, and what is usual.
const SHORTEST_PAUSE: i64 = 60;
const USUAL_PAUSE: i64 = 6 * 3600;
const LONGEST_PAUSE: i64 = 24 * 3600;
/// How long a certificate is kept at least, in seconds, unless a tenth of its life is less.
const SHORTEST_LIFE: i64 = 6 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const QUARTER: Life = Life {
        start: 0,
        end: 90 * DAY,
    };

    fn window(start: i64, end: i64) -> Option<Window> {
        Some(Window {
            start,
            end,
            explanation: String::new(),
        })
    }

    fn advised(start: i64, end: i64, life: Life, now: i64, chance: u64) -> i64 {
        let mut advice = Advice::default();
        advice.take(window(start, end), life, (now, None, chance));
        renew_at(Some(&advice), life, 0)
    }

    #[test]
    fn a_time_within_the_window_is_chosen_once() {
        let mut advice = Advice::default();
        let (start, end) = (60 * DAY, 62 * DAY);
        assert!(advice.take(window(start, end), QUARTER, (10, None, 1000)));
        assert_eq!(renew_at(Some(&advice), QUARTER, 0), start + 1000);
        assert!(!advice.take(window(start, end), QUARTER, (20, None, 77)));
        assert_eq!(renew_at(Some(&advice), QUARTER, 0), start + 1000);
        // Another window, another time.
        assert!(advice.take(window(DAY, 2 * DAY), QUARTER, (20, None, 77)));
        assert_eq!(renew_at(Some(&advice), QUARTER, 0), DAY + 77);
        for chance in [0, 1, u64::MAX, 999_999_999] {
            let at = advised(start, end, QUARTER, 0, chance);
            assert!((start..end).contains(&at), "{at}");
        }
    }

    #[test]
    fn advice_is_followed_as_far_as_it_makes_sense() {
        let short = Life { start: 0, end: 24 };
        for (start, end, life, now, expected) in [
            // To be replaced now: but not one that is brand-new.
            (DAY, 2 * DAY, QUARTER, 30 * DAY, DAY),
            (-DAY, -5, QUARTER, 60, SHORTEST_LIFE),
            (-DAY, -5, short, 1, 2),
            // After its end, or nearly.
            (89 * DAY, 95 * DAY, QUARTER, 0, 81 * DAY),
            // Wider than the life: two days for a life of 24 seconds.
            (16 - DAY, 16 + DAY, short, 1, 12),
            (30, 30 + DAY, short, 1, 12),
            // The wrong way round, or nothing.
            (5, 5, QUARTER, 0, 60 * DAY),
            (9, 5, QUARTER, 0, 60 * DAY),
        ] {
            assert_eq!(advised(start, end, life, now, 0), expected, "{start} {end}");
        }
        assert_eq!(renew_at(None, QUARTER, 0), 60 * DAY);
    }

    #[test]
    fn questions_keep_the_pace_that_the_authority_asks_for() {
        let mut advice = Advice::default();
        for (asked, expected) in [
            (None, USUAL_PAUSE),
            (Some(0), SHORTEST_PAUSE),
            (Some(7200), 7200),
            (Some(i64::MAX), LONGEST_PAUSE),
        ] {
            advice.take(None, QUARTER, (100, asked, 0));
            assert_eq!(advice.ask, 100 + expected);
        }
        let mut pauses = Vec::new();
        for _ in 0..12 {
            advice.miss(100, false);
            pauses.push(advice.ask - 100);
        }
        assert_eq!(pauses[..4], [60, 120, 240, 480]);
        assert_eq!(pauses[11], USUAL_PAUSE);
        advice.take(window(DAY, 2 * DAY), QUARTER, (0, None, 0));
        advice.miss(100, true);
        assert_eq!(advice.ask, 100 + USUAL_PAUSE);
        // What was said before holds.
        assert_eq!(renew_at(Some(&advice), QUARTER, 0), DAY);
    }

    #[test]
    fn a_certificate_goes_by_its_issuers_key_and_its_number() {
        use rcgen::{
            BasicConstraints, CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber,
        };
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // The example of the RFC's section 4.1.
        let key = [
            0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0,
            0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4,
        ];
        authority.key_identifier_method = KeyIdMethod::PreSpecified(key.to_vec());
        let issuer = Issuer::new(authority, own);
        let mut leaf = CertificateParams::new(["a.test".to_owned()]).unwrap();
        leaf.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        leaf.use_authority_key_identifier_extension = true;
        let signed = leaf.signed_by(&other, &issuer).unwrap();
        assert_eq!(
            id_of(signed.der()).as_deref(),
            Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
        );
        let lonely = CertificateParams::new(["a.test".to_owned()]).unwrap();
        let lonely = lonely.self_signed(&other).unwrap();
        assert_eq!(id_of(lonely.der()), None);
        assert_eq!(id_of(b"no certificate"), None);
    }
}
