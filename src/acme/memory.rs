//! What must survive a restart beside accounts and certificates: attempts that failed, orders under way, and what was used up of the
//! authorities' limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{advice::Advice, limits::Ledger};

/// What is remembered of one resolver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Memory {
    /// The authority that this is about.
    pub(super) ca_server: String,
    /// Failed attempts, by set of names; under the empty name those to get an account.
    pub(super) attempts: BTreeMap<String, Attempts>,
    /// Orders under way, by set of names.
    pub(super) orders: BTreeMap<String, OpenOrder>,
    /// When the authority would have certificates replaced, by their fingerprints.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) advice: BTreeMap<String, Advice>,
    /// What was used up of the authority's limits.
    pub(super) ledger: Ledger,
}

/// Attempts since the last success.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Attempts {
    /// How many failed.
    pub(super) failures: u32,
    /// When the next may begin, in seconds since 1970.
    pub(super) next: i64,
    /// Why the last one failed.
    pub(super) error: String,
}

impl Memory {
    /// Forgets what is too old to matter. Nothing goes because nobody asks for it at the moment: who asks may be restarting too.
    pub(super) fn forget(&mut self, now: i64) {
        self.attempts
            .retain(|_, attempts| attempts.next > now - OLD);
        self.orders.retain(|_, order| order.at > now - OLD);
        self.advice.retain(|_, advice| advice.ask > now - OLD);
    }
}

impl Attempts {
    /// Counts a failure at `now`, and returns the pause: it doubles with every failure, up to half a day, and is never shorter than what
    /// the authority asks for. `chance` (0 to 99) keeps many edges from trying at the same moment.
    pub(super) fn fail(&mut self, now: i64, asked: Option<i64>, chance: i64, error: String) -> i64 {
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_PAUSE << (self.failures - 1).min(16);
        let pause = doubled.min(LONGEST_PAUSE);
        let pause = (pause + pause * chance / 500).max(asked.unwrap_or_default());
        self.next = now.saturating_add(pause);
        self.error = error;
        pause
    }
}

/// An order that the authority knows and whose certificate we do not have.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct OpenOrder {
    /// When it was made.
    pub(super) at: i64,
    /// The order's URL.
    pub(super) url: String,
    /// PEM text of the key that the certificate will be for.
    pub(super) key: String,
}

/// Leaves the key out.
impl std::fmt::Debug for OpenOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOrder")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Under which a set of names is remembered.
pub(super) fn key_of(names: &[String]) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

const OLD: i64 = 7 * 24 * 3600;
const FIRST_PAUSE: i64 = 60;
const LONGEST_PAUSE: i64 = 12 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_day_and_respect_the_authority() {
        let mut attempts = Attempts::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(attempts.fail(1000, None, 0, String::new()));
        }
        assert_eq!(pauses[..5], [60, 120, 240, 480, 960]);
        assert_eq!(pauses[10..], [43_200, 43_200]);
        assert_eq!(
            attempts.fail(1000, Some(100_000), 99, String::new()),
            100_000
        );
        assert_eq!(attempts.next, 101_000);
        let mut jittered = Attempts::default();
        assert_eq!(jittered.fail(0, Some(5), 50, String::new()), 66);
        attempts.failures = u32::MAX;
        assert_eq!(attempts.fail(0, None, 0, String::new()), 43_200);
    }

    #[test]
    fn a_set_has_one_key_whatever_its_order() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            key_of(&names(&["b", "a", "b"])),
            key_of(&names(&["a", "b"]))
        );
    }
}
