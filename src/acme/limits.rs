//! Our own ledger of what an authority allows: an order that would be refused is not made.

use serde::{Deserialize, Serialize};

/// What happened within the last week.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Ledger(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    at: i64,
    what: Event,
    names: Vec<String>,
}

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    /// A certificate for all these names was issued.
    Issued,
    /// The authority could not validate these names.
    Failed,
}

/// What an authority allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Certificates per registered domain in a week.
    per_domain: usize,
    /// Certificates for exactly the same names in a week.
    duplicates: usize,
    /// Failed validations per name in an hour.
    failures: usize,
}

impl Limits {
    /// Those of the authority at this URL. Authorities that publish none are only spared from names that keep failing.
    pub(super) fn of(ca_server: &str) -> Self {
        let known = ca_server.starts_with("https://acme-v02.api.letsencrypt.org/");
        Self {
            per_domain: if known { 50 } else { usize::MAX },
            duplicates: if known { 5 } else { usize::MAX },
            failures: 5,
        }
    }
}

/// Until when an order has to wait, and for which limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) until: i64,
    pub(super) limit: String,
}

impl Ledger {
    /// Notes an event.
    pub(super) fn note(&mut self, now: i64, what: Event, names: &[String]) {
        self.0.retain(|entry| entry.at > now - WEEK);
        self.0.push(Entry {
            at: now,
            what,
            names: names.to_owned(),
        });
    }

    /// Whether an order for `names` has to wait. `renewal` of a certificate for the same names is not counted per domain.
    pub(super) fn wait(
        &self,
        limits: &Limits,
        names: &[String],
        renewal: bool,
        now: i64,
    ) -> Option<Wait> {
        let mut waits = Vec::new();
        let mut check = |times: Vec<i64>, (most, window): (usize, i64), limit: String| {
            if let Some(until) = free_again(times, most, window) {
                waits.push(Wait { until, limit });
            }
        };
        let set = super::memory::key_of(names);
        let same = |entry: &&Entry| super::memory::key_of(&entry.names) == set;
        let duplicates = self.since(Event::Issued, now - WEEK).filter(same);
        let what = "certificates for the same names in a week".to_owned();
        check(times(duplicates), (limits.duplicates, WEEK), what);
        for name in names {
            let failed = self.since(Event::Failed, now - HOUR);
            let failed = failed.filter(|entry| entry.names.contains(name));
            let what = format!("failed validations of {name} in an hour");
            check(times(failed), (limits.failures, HOUR), what);
            if !renewal {
                let domain = registered(name);
                let issued = self.since(Event::Issued, now - WEEK);
                let issued = issued.filter(|entry| {
                    let mut names = entry.names.iter();
                    names.any(|name| registered(name) == domain)
                });
                let what = format!("certificates for {domain} in a week");
                check(times(issued), (limits.per_domain, WEEK), what);
            }
        }
        waits.into_iter().max_by_key(|wait| wait.until)
    }

    fn since(&self, what: Event, after: i64) -> impl Iterator<Item = &Entry> {
        let entries = self.0.iter();
        entries.filter(move |entry| entry.what == what && entry.at > after)
    }
}

fn times<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<i64> {
    entries.map(|entry| entry.at).collect()
}

/// When one more fits into the window, if none does now.
fn free_again(mut times: Vec<i64>, most: usize, window: i64) -> Option<i64> {
    times.sort_unstable();
    let too_many = times.len().checked_sub(most)?;
    Some(times.get(too_many)? + window)
}

/// The domain that was registered, by the public suffix list as authorities use it.
fn registered(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

const HOUR: i64 = 3600;
const WEEK: i64 = 7 * 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

    #[test]
    fn duplicates_wait_until_the_oldest_is_a_week_old() {
        let limits = Limits::of(LETS_ENCRYPT);
        let mut ledger = Ledger::default();
        let set = names(&["a.test", "b.test"]);
        for at in 0..5 {
            assert_eq!(ledger.wait(&limits, &set, true, at), None);
            ledger.note(at, Event::Issued, &set);
        }
        let wait = ledger
            .wait(&limits, &names(&["b.test", "a.test"]), true, 10)
            .unwrap();
        assert_eq!(wait.until, WEEK);
        assert_eq!(ledger.wait(&limits, &names(&["a.test"]), true, 10), None);
        assert_eq!(ledger.wait(&limits, &set, true, WEEK), None);
        assert_eq!(
            ledger.wait(&Limits::of("https://ca/dir"), &set, true, 10),
            None
        );
    }

    #[test]
    fn certificates_are_counted_per_registered_domain() {
        let limits = Limits::of(LETS_ENCRYPT);
        let mut ledger = Ledger::default();
        for at in 0..50 {
            ledger.note(
                at,
                Event::Issued,
                &names(&[&format!("h{at}.example.co.uk")]),
            );
        }
        let wait = |name: &str, renewal| ledger.wait(&limits, &names(&[name]), renewal, 100);
        assert_eq!(wait("new.example.co.uk", false).unwrap().until, WEEK);
        assert_eq!(wait("h1.example.co.uk", true), None);
        assert_eq!(wait("new.other.co.uk", false), None);
    }

    #[test]
    fn names_that_keep_failing_are_left_alone_for_an_hour() {
        let limits = Limits::of("https://ca/dir");
        let mut ledger = Ledger::default();
        for at in 0..5 {
            ledger.note(at, Event::Failed, &names(&["a.test"]));
        }
        let wait = ledger
            .wait(&limits, &names(&["b.test", "a.test"]), false, 10)
            .unwrap();
        assert_eq!(wait.until, HOUR);
        assert!(wait.limit.contains("a.test"));
        assert_eq!(ledger.wait(&limits, &names(&["b.test"]), false, 10), None);
        assert_eq!(ledger.wait(&limits, &names(&["a.test"]), false, HOUR), None);
    }

    #[test]
    fn registered_domains() {
        for (name, expected) in [
            ("localhost", "localhost"),
            ("example.com", "example.com"),
            ("a.b.example.com", "example.com"),
            ("a.example.de", "example.de"),
            ("a.example.co.uk", "example.co.uk"),
            ("example.co.uk", "example.co.uk"),
            ("a.t-x.de", "t-x.de"),
            ("*.a.t-x.de", "t-x.de"),
            ("co.uk", "co.uk"),
            ("www.gov.bd", "www.gov.bd"),
            // Whoever hosts others is a suffix, too.
            ("a.b.github.io", "b.github.io"),
        ] {
            assert_eq!(registered(name), expected, "{name}");
        }
    }
}
