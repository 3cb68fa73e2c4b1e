//! What is told of a resolver's certificates: one row for each that it is asked for, and for each that it has.

use std::collections::BTreeSet;

use super::{
    memory::{Memory, key_of},
    plan::{Held, Need, Step},
};
use crate::observe::{CertificateState, Phase};

/// The rows of one resolver, written while it decides.
#[derive(Debug)]
pub(super) struct Report<'a> {
    held: &'a [Held],
    memory: &'a Memory,
    now: i64,
    /// An authority that cannot be reached.
    away: Option<&'a Away>,
    rows: Vec<CertificateState>,
    /// Fingerprints of certificates that some row is about, or that are good for a part of one.
    used: BTreeSet<&'a str>,
}

/// With an authority that cannot be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Away {
    /// How often it was tried.
    pub(super) failures: u32,
    /// When it is tried again, in seconds since 1970.
    pub(super) until: i64,
    pub(super) problem: String,
}

impl<'a> Report<'a> {
    pub(super) fn new(held: &'a [Held], memory: &'a Memory, away: &'a Away, now: i64) -> Self {
        Self {
            held,
            memory,
            now,
            away: (away.until > now).then_some(away),
            rows: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// Writes what is to be done about a need next; nothing if it is being ordered.
    pub(super) fn add(
        &mut self,
        need: &Need,
        step: Option<&Step>,
        challenge: Option<&'static str>,
    ) {
        let mut row = CertificateState {
            names: need.names.clone(),
            fingerprint: self.covering(&need.names),
            challenge,
            ..CertificateState::default()
        };
        let advice = row.fingerprint.as_ref();
        let advice = advice.and_then(|fingerprint| self.memory.advice.get(fingerprint));
        if let Some(advice) = advice.filter(|advice| advice.is_given()) {
            row.advised = true;
            let explanation = Some(&advice.explanation).filter(|text| !text.is_empty());
            row.explanation = explanation.cloned();
        }
        if need.due <= self.now {
            self.blame(&mut row, need);
        }
        let failing = row.failures > 0;
        (row.phase, row.next) = match step {
            None => (Phase::Ordering, None),
            Some(Step::Hold(wait)) => {
                row.limit = Some(wait.limit.clone());
                (Phase::Waiting, Some(wait.until))
            }
            Some(Step::Sleep(at)) if need.due > self.now => (Phase::Valid, Some(*at)),
            Some(Step::Sleep(at)) => (Phase::Failing, Some(*at)),
            Some(Step::Order) => {
                let next = self.away.map_or(self.now, |away| away.until);
                let phase = if failing { Phase::Failing } else { Phase::Due };
                (phase, Some(next))
            }
        };
        self.rows.push(row);
    }

    /// Whether a certificate of the resolver's own is good for some of what is asked for.
    pub(super) fn is_about(&self, one: &Held) -> bool {
        one.renew_at.is_some() && self.used.contains(&*one.fingerprint)
    }

    /// All rows, those of certificates that nobody asks for at the end.
    pub(super) fn rows(mut self) -> Vec<CertificateState> {
        let shown: BTreeSet<String> = self
            .rows
            .iter()
            .filter_map(|row| row.fingerprint.clone())
            .collect();
        let own = self.held.iter().filter(|one| one.renew_at.is_some());
        let rest = own.filter(|one| !shown.contains(&one.fingerprint));
        self.rows.extend(rest.map(|one| CertificateState {
            names: one.names.clone(),
            fingerprint: Some(one.fingerprint.clone()),
            phase: match self.used.contains(&*one.fingerprint) {
                true => Phase::Valid,
                false => Phase::Unused,
            },
            ..CertificateState::default()
        }));
        self.rows
    }

    /// The certificate that is good for all names. Of several that are good for one, the one that lasts longest counts.
    fn covering(&mut self, names: &[String]) -> Option<String> {
        let own = || self.held.iter().filter(|one| one.renew_at.is_some());
        let best = names.iter().map(|name| {
            let covering = own().filter(|one| one.covers(name));
            covering.max_by_key(|one| one.renew_at)
        });
        let best: Vec<Option<&Held>> = best.collect();
        let all: BTreeSet<Option<&'a str>> = best
            .iter()
            .map(|one| one.map(|one| &*one.fingerprint))
            .collect();
        self.used.extend(all.iter().flatten());
        match Vec::from_iter(all)[..] {
            [Some(one)] => Some(one.to_owned()),
            _ => None,
        }
    }

    /// Says why a need that is due is not met: its own failures, or those to get an account or to reach the authority.
    fn blame(&self, row: &mut CertificateState, need: &Need) {
        let attempts = &self.memory.attempts;
        let failed = [attempts.get(&key_of(&need.names)), attempts.get("")];
        if let Some(failed) = failed.into_iter().flatten().find(|one| one.failures > 0) {
            row.failures = failed.failures;
            row.error = Some(failed.error.clone());
        } else if let Some(away) = self.away {
            row.failures = away.failures;
            row.error = Some(away.problem.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::{limits::Wait, memory::Attempts};

    fn names(names: &str) -> Vec<String> {
        names.split('+').map(str::to_owned).collect()
    }

    fn held(list: &str, renew_at: Option<i64>) -> Held {
        Held {
            names: names(list),
            fingerprint: format!("#{list}"),
            renew_at,
        }
    }

    fn need(list: &str, due: i64) -> Need {
        Need {
            names: names(list),
            due,
            renewal: false,
        }
    }

    fn failed(failures: u32, error: &str) -> Attempts {
        Attempts {
            failures,
            next: 300,
            error: error.to_owned(),
        }
    }

    /// Names, phase, certificate, next attempt, failures, error or limit.
    fn shown(rows: &[CertificateState]) -> Vec<String> {
        let line = |row: &CertificateState| {
            let why = row.error.as_ref().or(row.limit.as_ref());
            format!(
                "{} {} {} {} {} {}",
                row.names.join("+"),
                row.phase.as_str(),
                row.fingerprint.as_deref().unwrap_or("-"),
                row.next
                    .map_or_else(|| "-".to_owned(), |next| next.to_string()),
                row.failures,
                why.map_or("-", String::as_str)
            )
        };
        rows.iter().map(line).collect()
    }

    #[test]
    fn every_certificate_has_a_row_that_says_what_is_next() {
        let held = [
            held("a", Some(200)),
            held("b", Some(50)),
            held("c", Some(200)),
            held("d", Some(200)),
            held("old", Some(10)),
            held("file", None),
        ];
        let mut memory = Memory::default();
        memory.attempts.insert("b".to_owned(), failed(2, "caa"));
        // Failures of an order that succeeded another way say nothing.
        memory.attempts.insert("a".to_owned(), failed(1, "past"));
        let away = Away::default();
        let mut report = Report::new(&held, &memory, &away, 100);
        let wait = Wait {
            until: 400,
            limit: "5 a week".to_owned(),
        };
        report.add(&need("a", 200), Some(&Step::Sleep(200)), None);
        report.add(&need("b", 50), Some(&Step::Sleep(300)), None);
        report.add(&need("c+d", 200), Some(&Step::Sleep(200)), None);
        report.add(&need("e", i64::MIN), None, Some("http-01"));
        report.add(&need("f", i64::MIN), Some(&Step::Hold(wait)), None);
        report.add(&need("g", i64::MIN), Some(&Step::Order), None);
        let rows = report.rows();
        assert_eq!(rows[3].challenge, Some("http-01"));
        assert_eq!(
            shown(&rows),
            [
                "a valid #a 200 0 -",
                "b failing #b 300 2 caa",
                "c+d valid - 200 0 -",
                "e ordering - - 0 -",
                "f waiting - 400 0 5 a week",
                "g due - 100 0 -",
                "c valid #c - 0 -",
                "d valid #d - 0 -",
                "old unused #old - 0 -",
            ]
        );
    }

    #[test]
    fn what_keeps_all_orders_waiting_is_told_at_each() {
        let mut memory = Memory::default();
        let away = Away {
            failures: 3,
            until: 130,
            problem: "refused".to_owned(),
        };
        let mut report = Report::new(&[], &memory, &away, 100);
        report.add(&need("a", i64::MIN), Some(&Step::Order), None);
        assert_eq!(shown(&report.rows()), ["a failing - 130 3 refused"]);
        memory.attempts.insert(String::new(), failed(1, "eab"));
        let mut report = Report::new(&[], &memory, &away, 200);
        report.add(&need("a", i64::MIN), Some(&Step::Sleep(300)), None);
        report.add(&need("b", 250), Some(&Step::Sleep(300)), None);
        assert_eq!(
            shown(&report.rows()),
            ["a failing - 300 1 eab", "b valid - 300 0 -"]
        );
    }
}
