//! Staples: the word of OCSP responders that a certificate is good, fetched ahead so that no client has to ask.
//!
//! [`Stapling`] looks at the certificates of the snapshot in force, asks their responders in the background, and tells control, which makes
//! the next snapshot with what it was told: a handshake only looks up. `book` decides when to ask and is pure; `message` is what is asked
//! and which answers are believed. Nothing waits for a responder.

mod book;
mod message;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rustls::RootCertStore;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    config::Install,
    fetch::Http,
    observe::{Responders, clock_text},
    snapshot::SnapshotCell,
    tls::{Certificate, Staples},
};

use book::{Book, Outcome};
use message::{Question, Verdict};

/// Keeps the staples of all certificates fresh.
#[derive(Debug)]
pub struct Stapling {
    cell: Arc<SnapshotCell>,
    http: Http,
    book: Book,
    staples: watch::Sender<Arc<Staples>>,
    told: Instant,
    seen: Responders,
}

impl Stapling {
    /// For the certificates of the snapshots in `cell`; `seen` is told what comes of it.
    pub fn new(install: &Install, cell: Arc<SnapshotCell>, seen: &Responders) -> Self {
        let instead = install.ocsp.as_ref();
        let instead = instead.map_or_else(BTreeMap::new, |ocsp| ocsp.responder_overrides.clone());
        Self {
            cell,
            http: Http::new(RootCertStore::empty(), PATIENCE).at_most(LONGEST_ANSWER),
            book: Book::new(instead),
            staples: watch::Sender::default(),
            told: Instant::now(),
            seen: seen.clone(),
        }
    }

    /// The staples, whenever they change.
    pub fn staples(&self) -> watch::Receiver<Arc<Staples>> {
        self.staples.subscribe()
    }

    /// Works for ever.
    pub async fn run(mut self) {
        let mut changes = self.cell.subscribe();
        let mut asked = JoinSet::new();
        loop {
            let now = now();
            self.follow(now);
            while asked.len() < ASKED_AT_ONCE
                && let Some((fingerprint, question)) = self.book.begin(now)
            {
                let http = self.http.clone();
                asked.spawn(async move { (fingerprint, ask(&http, &question).await) });
            }
            self.tell(asked.is_empty());
            let full = asked.len() >= ASKED_AT_ONCE;
            let due = self.book.next().filter(|_| !full);
            tokio::select! {
                Ok(()) = changes.changed() => {}
                // Whoever panicked is asked again later.
                Some(answered) = asked.join_next() => if let Ok((fingerprint, answer)) = answered {
                    self.take(&fingerprint, answer);
                },
                () = sleep(pause(due, now)) => {}
            }
        }
    }

    fn follow(&mut self, now: i64) {
        let snapshot = self.cell.load_full();
        for (certificate, wrong) in self.book.follow(&snapshot.stapling, now) {
            let names = &certificate.facts().names;
            tracing::warn!(?names, %wrong, "no staple can be had for a certificate");
        }
        for certificate in self.book.expire(now) {
            let names = &certificate.facts().names;
            tracing::warn!(
                ?names,
                "the staple holds no more and is not sent any longer: its responder has been silent"
            );
        }
    }

    fn take(&mut self, fingerprint: &str, answer: Answered) {
        let now = now();
        let (responder, verdict) = match answer {
            Ok((responder, verdict)) => (responder, Ok(verdict)),
            Err(error) => (String::new(), Err(error)),
        };
        self.seen.count(match &verdict {
            Ok(Verdict::Good(_)) => "good",
            Ok(Verdict::Revoked { .. }) => "revoked",
            Err(_) => "failed",
        });
        let chance = fastrand::u64(..);
        if let Some((certificate, outcome)) = self.book.take(fingerprint, verdict, (now, chance)) {
            log(&certificate, &responder, &outcome, now);
        }
    }

    /// Hands the staples to control, if they are not what it has. While others are being asked it is done now and then only: each time is a
    /// snapshot of its own.
    fn tell(&mut self, at_rest: bool) {
        if !at_rest && self.told.elapsed() < TOLD_TOGETHER {
            return;
        }
        self.seen.set(self.book.states());
        let staples = self.book.staples();
        let news = self.staples.send_if_modified(|known| {
            let news = **known != staples;
            if news {
                *known = Arc::new(staples);
            }
            news
        });
        if news {
            self.told = Instant::now();
        }
    }
}

/// Who answered what, or why nobody did.
type Answered = Result<(String, Verdict), String>;

/// Asks the responders of a certificate, until one answers.
async fn ask(http: &Http, question: &Question) -> Answered {
    let mut wrong = Vec::new();
    for responder in &question.responders {
        match ask_one(http, responder, question).await {
            Ok(verdict) => return Ok((responder.clone(), verdict)),
            Err(error) => wrong.push(error),
        }
    }
    Err(wrong.join("; "))
}

async fn ask_one(http: &Http, responder: &str, question: &Question) -> Result<Verdict, String> {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("application/ocsp-request");
    headers.insert(header::CONTENT_TYPE, kind);
    let body = Bytes::from(question.request.clone());
    let answer = http.send(Method::POST, responder, headers, body).await?;
    if answer.status != StatusCode::OK {
        return Err(format!("{responder} answers {}", answer.status));
    }
    let verdict = question.read(&answer.body, now());
    verdict.map_err(|error| format!("{responder}: {error}"))
}

/// One line of the log per answer.
fn log(certificate: &Certificate, responder: &str, outcome: &Outcome, now: i64) {
    let names = &certificate.facts().names;
    match outcome {
        Outcome::Good { until, next } => tracing::info!(
            ?names,
            responder,
            until = time(*until),
            refresh = time(*next),
            "the staple is fetched"
        ),
        Outcome::Revoked { at, reason, next } => tracing::error!(
            ?names,
            serial = certificate.facts().serial,
            responder,
            revoked_at = time(*at),
            reason = reason.as_deref().unwrap_or("none given"),
            again_in = next - now,
            "THE CERTIFICATE IS REVOKED: clients that check refuse it, and no staple is sent; replace it now"
        ),
        Outcome::Failed { error, next, until } => {
            let again_in = next - now;
            match until {
                Some(until) => tracing::warn!(
                    ?names, %error, again_in, until = time(*until),
                    "the staple could not be refreshed: the one that is there is sent on"
                ),
                None => {
                    tracing::warn!(?names, %error, again_in, "no staple: the certificate serves without one")
                }
            }
        }
    }
}

/// How long to sleep. Never long: the clock may be set, and machines sleep, too.
fn pause(due: Option<i64>, now: i64) -> Duration {
    let seconds = due.map_or(i64::MAX, |due| due.saturating_sub(now));
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).min(LONGEST_SLEEP)
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// A time in seconds since 1970, for people.
fn time(seconds: i64) -> String {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    clock_text(SystemTime::UNIX_EPOCH + seconds)
}

/// With one responder.
const PATIENCE: Duration = Duration::from_secs(10);
/// In bytes; usual are five hundred to two thousand.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How many certificates are asked about at the same time.
const ASKED_AT_ONCE: usize = 4;
/// While responders are being asked, control is told no more often.
const TOLD_TOGETHER: Duration = Duration::from_secs(2);
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
