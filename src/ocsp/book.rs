//! What is known of each certificate that has a responder, and when to ask next. Pure: it is fed with time and answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustls::pki_types::CertificateDer;

use super::message::{Question, Verdict};
use crate::{
    observe::StapleState,
    tls::{Certificate, Staple, Staples},
};

/// All certificates that staples are wanted for, by their fingerprint.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Those without a responder have no entry to go with.
    pages: BTreeMap<String, Option<Entry>>,
    /// Responders to ask in place of others.
    instead: BTreeMap<String, String>,
}

/// What is known of one certificate.
#[derive(Debug)]
struct Entry {
    question: Arc<Question>,
    certificate: Arc<Certificate>,
    staple: Option<Arc<Staple>>,
    /// When to ask next, in seconds since 1970.
    next: i64,
    /// How often asking failed since it last worked.
    failures: u32,
}

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is a staple.
    Good { until: i64, next: i64 },
    /// There is none to be had for this certificate.
    Revoked {
        at: i64,
        reason: Option<String>,
        next: i64,
    },
    /// Nothing new is known; the staple that is there, if any, holds until then.
    Failed {
        error: String,
        next: i64,
        until: Option<i64>,
    },
}

impl Book {
    pub(super) fn new(instead: BTreeMap<String, String>) -> Self {
        Self {
            pages: BTreeMap::new(),
            instead,
        }
    }

    /// Takes on new certificates and forgets those that are gone. Gives back those that have a responder which cannot be asked, and why.
    pub(super) fn follow(
        &mut self,
        certificates: &[Arc<Certificate>],
        now: i64,
    ) -> Vec<(Arc<Certificate>, String)> {
        let fingerprint = |one: &Arc<Certificate>| one.facts().fingerprint.clone();
        let wanted: BTreeSet<String> = certificates.iter().map(fingerprint).collect();
        self.pages.retain(|known, _| wanted.contains(known));
        let mut mute = Vec::new();
        for certificate in certificates {
            let page = self.pages.entry(fingerprint(certificate));
            page.or_insert_with(|| {
                let chain: &[CertificateDer<'_>] = &certificate.key().cert;
                let question = Question::of(chain, &self.instead).unwrap_or_else(|wrong| {
                    mute.push((Arc::clone(certificate), wrong));
                    None
                });
                question.map(|question| Entry::new(question, certificate, now))
            });
        }
        mute
    }

    /// The next certificate to ask about, if one is due. It is not due again until [`Self::take`], or until nothing can come any more.
    pub(super) fn begin(&mut self, now: i64) -> Option<(String, Arc<Question>)> {
        let mut entries = self.pages.iter_mut();
        let due = entries.find_map(|(known, entry)| {
            let entry = entry.as_mut().filter(|entry| entry.next <= now)?;
            Some((known, entry))
        });
        let (known, entry) = due?;
        entry.next = now + LOST;
        Some((known.clone(), Arc::clone(&entry.question)))
    }

    /// Takes an answer; `chance` is any number. None if nobody wants to know any more.
    pub(super) fn take(
        &mut self,
        fingerprint: &str,
        answer: Result<Verdict, String>,
        (now, chance): (i64, u64),
    ) -> Option<(Arc<Certificate>, Outcome)> {
        let entry = self.pages.get_mut(fingerprint)?.as_mut()?;
        let outcome = entry.take(answer, now, chance);
        Some((Arc::clone(&entry.certificate), outcome))
    }

    /// Drops staples that hold no more, and tells whose they were.
    pub(super) fn expire(&mut self, now: i64) -> Vec<Arc<Certificate>> {
        let entries = self.pages.values_mut().flatten();
        let gone = entries.filter_map(|entry| {
            entry.staple.take_if(|staple| staple.until <= now)?;
            Some(Arc::clone(&entry.certificate))
        });
        gone.collect()
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<i64> {
        let entries = self.pages.values().flatten();
        entries
            .flat_map(|entry| [Some(entry.next), entry.until()])
            .flatten()
            .min()
    }

    /// The staples at hand.
    pub(super) fn staples(&self) -> Staples {
        let pages = self.pages.iter();
        pages
            .filter_map(|(known, entry)| {
                let staple = entry.as_ref()?.staple.as_ref()?;
                Some((known.clone(), Arc::clone(staple)))
            })
            .collect()
    }

    /// As metrics show it.
    pub(super) fn states(&self) -> Vec<StapleState> {
        let entries = self.pages.values().flatten();
        entries
            .map(|entry| {
                let facts = entry.certificate.facts();
                StapleState {
                    common_name: facts.common_name.clone(),
                    serial: facts.serial.clone(),
                    sans: facts.dns_names.clone(),
                    until: entry.until(),
                    next: entry.next,
                }
            })
            .collect()
    }
}

impl Entry {
    fn new(question: Question, certificate: &Arc<Certificate>, now: i64) -> Self {
        Self {
            question: Arc::new(question),
            certificate: Arc::clone(certificate),
            staple: None,
            next: now,
            failures: 0,
        }
    }

    fn until(&self) -> Option<i64> {
        self.staple.as_ref().map(|staple| staple.until)
    }

    fn take(&mut self, answer: Result<Verdict, String>, now: i64, chance: u64) -> Outcome {
        match answer {
            Ok(Verdict::Good(staple)) => {
                let left = staple.until - now;
                self.failures = 0;
                self.next = now + (left / 2 + within(left / 10, chance)).max(SHORTEST_PAUSE);
                let (until, next) = (staple.until, self.next);
                self.staple = Some(Arc::new(staple));
                Outcome::Good { until, next }
            }
            Ok(Verdict::Revoked { at, reason }) => {
                // What was said before is not true any more, however long it would have held.
                (self.staple, self.failures) = (None, 0);
                self.next = now + LONGEST_PAUSE;
                let next = self.next;
                Outcome::Revoked { at, reason, next }
            }
            Err(error) => {
                let pause = (SHORTEST_PAUSE << self.failures.min(16)).min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                self.next = now + pause + within(pause / 4, chance);
                Outcome::Failed {
                    error,
                    next: self.next,
                    until: self.until(),
                }
            }
        }
    }
}

/// Something from 0 to `width`, by chance.
fn within(width: i64, chance: u64) -> i64 {
    let width = u64::try_from(width).unwrap_or_default();
    i64::try_from(chance % (width + 1)).unwrap_or_default()
}

/// Between two questions, in seconds.
const SHORTEST_PAUSE: i64 = 5;
const LONGEST_PAUSE: i64 = 3600;
/// After so many seconds a question that nobody came back from is asked again.
const LOST: i64 = 120;
