//! Answers to challenges that every edge on a storage gives, whichever of them ordered.
//!
//! Who orders posts answers: they are given here at once and written down. The other edges read them and say up to which version they give
//! them, so that the authority is told to look only when whoever it asks can answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    keys,
    store::{Document, Stamp, Store},
};
use crate::challenge::{Challenges, Presented};

/// The answers of one storage.
#[derive(Debug)]
pub(super) struct Board {
    challenges: Challenges,
    state: Mutex<State>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", rename_all_fields = "camelCase")]
pub(super) enum Post {
    /// To a plain request.
    Http {
        entry_point: String,
        host: String,
        token: String,
        answer: String,
    },
    /// To a handshake.
    Tls { name: String, answer: String },
}

#[derive(Debug, Default)]
struct State {
    /// What is given here.
    given: BTreeMap<Post, Presented>,
    /// What was read or written last.
    version: Version,
    stamp: Option<Stamp>,
    /// Adopted, and not posted by an order yet; until when.
    orphans: Option<(BTreeSet<Post>, Instant)>,
}

/// What is written down.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    version: Version,
    answers: Vec<Post>,
}

/// The fencing number of who wrote, and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
struct Version(u64, u64);

impl Board {
    pub(super) fn new(challenges: Challenges) -> Self {
        Self {
            challenges,
            state: Mutex::default(),
        }
    }

    /// Gives an answer here, and lets the other edges know.
    pub(super) fn post(
        &self,
        post: Post,
        store: &dyn Store,
        fence: Option<u64>,
    ) -> Result<(), String> {
        let presented = self.present(&post)?;
        let mut state = self.state();
        if let Some((orphans, _)) = &mut state.orphans {
            orphans.remove(&post);
        }
        state.given.insert(post, presented);
        state.write(store, fence);
        Ok(())
    }

    /// Takes an answer away.
    pub(super) fn withdraw(&self, post: &Post, store: &dyn Store, fence: Option<u64>) {
        let mut state = self.state();
        state.given.remove(post);
        state.write(store, fence);
    }

    /// Whether every edge gives all answers.
    pub(super) fn is_settled(&self, store: &dyn Store) -> bool {
        let version = self.state().version;
        let others = store.others();
        let behind = |seen: &String| Version::read(seen) < Some(version);
        !others.iter().any(behind)
    }

    /// Gives what another edge has written down, no more and no less, and says so.
    pub(super) fn follow(&self, store: &dyn Store) {
        let stamp = store.stamp(Document::Answers);
        let mut state = self.state();
        if stamp == state.stamp && stamp.is_some() {
            return;
        }
        let written = match store.read(Document::Answers) {
            Ok(text) => text.and_then(|text| serde_json::from_slice::<Written>(&text).ok()),
            Err(error) => {
                tracing::debug!(%error, "the answers of the edge that orders cannot be read");
                return;
            }
        };
        let written = written.unwrap_or_default();
        state.given.retain(|post, _| written.answers.contains(post));
        for post in written.answers {
            if state.given.contains_key(&post) {
                continue;
            }
            match self.present(&post) {
                Ok(presented) => drop(state.given.insert(post, presented)),
                Err(error) => tracing::warn!(error, "a challenge cannot be answered here"),
            }
        }
        (state.stamp, state.version) = (stamp, written.version);
    }

    /// What this edge gives, in the form in which it tells others.
    pub(super) fn seen(&self) -> String {
        let Version(number, count) = self.state().version;
        format!("{number}.{count}")
    }

    /// Goes on as the edge that orders: what another one wrote is given for a while, as authorities may be looking for it right now.
    pub(super) fn adopt(&self, store: &dyn Store, now: Instant) {
        self.follow(store);
        let mut state = self.state();
        let orphans = state.given.keys().cloned().collect();
        state.orphans = Some((orphans, now + ADOPTION));
    }

    /// Takes away what was adopted long ago and is still nobody's.
    pub(super) fn expire(&self, store: &dyn Store, fence: Option<u64>, now: Instant) {
        let mut state = self.state();
        if let Some((orphans, _)) = state.orphans.take_if(|(_, until)| *until <= now) {
            state.given.retain(|post, _| !orphans.contains(post));
            state.write(store, fence);
        }
    }

    fn present(&self, post: &Post) -> Result<Presented, String> {
        Ok(match post {
            Post::Http {
                entry_point,
                host,
                token,
                answer,
            } => self
                .challenges
                .present_http(entry_point, host, token, answer.clone()),
            Post::Tls { name, answer } => self
                .challenges
                .present_tls(name, keys::challenge(name, answer)?),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, store: &dyn Store, fence: Option<u64>) {
        self.version = self.version.next(fence.unwrap_or_default());
        let written = Written {
            version: self.version,
            answers: self.given.keys().cloned().collect(),
        };
        let text = serde_json::to_vec(&written).map_err(std::io::Error::from);
        let outcome = text.and_then(|text| store.write(Document::Answers, &text, fence));
        if let Err(error) = outcome {
            tracing::warn!(%error, "other edges do not learn what challenges are to be answered with");
        }
        self.stamp = store.stamp(Document::Answers);
    }
}

impl Version {
    fn next(self, number: u64) -> Self {
        match number == self.0 {
            true => Self(number, self.1 + 1),
            false => Self(number, 1),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (number, count) = text.split_once('.')?;
        Some(Self(number.parse().ok()?, count.parse().ok()?))
    }
}

/// How long adopted answers are given: longer than authorities look.
const ADOPTION: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::store::Files;

    const PATH: &str = "/.well-known/acme-challenge/token";

    fn http() -> Post {
        Post::Http {
            entry_point: "web".to_owned(),
            host: "a.test".to_owned(),
            token: "token".to_owned(),
            answer: "answer".to_owned(),
        }
    }

    fn tls() -> Post {
        Post::Tls {
            name: "a.test".to_owned(),
            answer: "answer".to_owned(),
        }
    }

    #[test]
    fn what_one_edge_posts_is_given_by_the_other_until_it_is_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.json");
        let (own, other) = (Files::new(&path), Files::new(&path));
        let challenges = [Challenges::default(), Challenges::default()];
        let boards = challenges.each_ref().map(|one| Board::new(one.clone()));
        let given = || {
            let http = |one: &Challenges| one.http("web", "a.test", PATH).is_some();
            let tls = |one: &Challenges| one.tls("a.test").is_some();
            challenges.each_ref().map(|one| (http(one), tls(one)))
        };
        let follow = || {
            boards[1].follow(&other);
            other.attend(&boards[1].seen());
        };
        follow();
        boards[0].post(http(), &own, None).unwrap();
        boards[0].post(tls(), &own, None).unwrap();
        assert_eq!(given(), [(true, true), (false, false)]);
        assert!(!boards[0].is_settled(&own));
        follow();
        assert_eq!(given(), [(true, true); 2]);
        assert!(boards[0].is_settled(&own));
        boards[0].withdraw(&http(), &own, None);
        follow();
        assert_eq!(given(), [(false, true); 2]);
        // The follower takes over: it goes on with what was until it is clear that nobody needs it.
        let start = Instant::now();
        boards[1].adopt(&other, start);
        boards[1].post(http(), &other, None).unwrap();
        boards[1].expire(&other, None, start);
        boards[0].follow(&own);
        assert_eq!(given(), [(true, true); 2]);
        boards[1].expire(&other, None, start + ADOPTION);
        boards[0].follow(&own);
        assert_eq!(given(), [(true, false); 2]);
    }

    #[test]
    fn versions_of_a_later_holder_are_later() {
        let first = Version::default().next(3);
        assert_eq!((first, first.next(3)), (Version(3, 1), Version(3, 2)));
        assert!(first.next(3) < first.next(4));
        assert_eq!(Version::read("3.2"), Some(Version(3, 2)));
        assert!(Version::read("") < Some(first));
    }
}
