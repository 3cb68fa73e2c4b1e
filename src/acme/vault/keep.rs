//! How edges on one storage share the work: one orders and writes, all others read what it wrote and answer challenges for it.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{DOCUMENTS, Vault};
use crate::acme::{
    board::Post,
    store::{Claim, Document},
};

/// What an edge does for a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::acme) enum Part {
    /// It is not known yet, or what is stored cannot be read.
    #[default]
    Waits,
    /// Another edge orders.
    Follows,
    /// It orders, and writes with this fencing number.
    Leads(u64),
    /// The storage cannot be written, not even to agree who orders.
    Alone,
}

/// An answer to a challenge that every edge gives.
#[derive(Debug)]
pub(in crate::acme) struct Posted {
    vault: Arc<Vault>,
    post: Post,
}

impl Vault {
    /// Finds out what this edge has to do, and reads what is stored.
    pub(in crate::acme) async fn start(self: &Arc<Self>) {
        self.turn().await;
    }

    /// Keeps up with the other edges. Never ends.
    pub(in crate::acme) async fn keep(self: Arc<Self>) {
        loop {
            let follows = self.state().role == Part::Follows;
            sleep(if follows { FOLLOW } else { BEAT }).await;
            self.turn().await;
        }
    }

    /// What this edge does, now and whenever it changes or something else has been read.
    pub(in crate::acme) fn parts(&self) -> watch::Receiver<Part> {
        self.part.subscribe()
    }

    /// How long this edge has to wait before it may order; nothing if that is not for it to do.
    pub(in crate::acme) fn may_order(&self) -> Option<Duration> {
        let safe = match *self.part.borrow() {
            Part::Leads(_) => !self.state().failed,
            Part::Alone => false,
            Part::Follows | Part::Waits => return None,
        };
        let pause = CAUTION.saturating_sub(self.born.elapsed());
        Some(if safe { Duration::ZERO } else { pause })
    }

    /// Gives an answer on every edge until it is withdrawn.
    pub(in crate::acme) async fn post(self: &Arc<Self>, post: Post) -> Result<Posted, String> {
        let posted = Posted {
            vault: Arc::clone(self),
            post: post.clone(),
        };
        let this = Arc::clone(self);
        let fence = self.fence().flatten();
        let done = spawn_blocking(move || this.board.post(post, &*this.store, fence)).await;
        done.map_err(|error| error.to_string())??;
        Ok(posted)
    }

    /// Waits until the other edges give the answers too, or do not seem to.
    pub(in crate::acme) async fn settled(self: &Arc<Self>) {
        let deadline = Instant::now() + SETTLE;
        loop {
            let this = Arc::clone(self);
            let settled = spawn_blocking(move || this.board.is_settled(&*this.store)).await;
            if settled.unwrap_or(true) {
                return;
            }
            if Instant::now() > deadline {
                tracing::warn!(
                    "another edge does not answer challenges yet: the authority is told to look all the same"
                );
                return;
            }
            sleep(SETTLE / 50).await;
        }
    }

    async fn turn(self: &Arc<Self>) {
        let this = Arc::clone(self);
        // Who panics in there has been logged; the next turn comes.
        drop(spawn_blocking(move || this.turn_now()).await);
    }

    pub(super) fn turn_now(&self) {
        let claim = self.store.claim();
        let role = match &claim {
            Ok(Claim::Ours(number)) => Part::Leads(*number),
            Ok(Claim::Theirs(_)) => Part::Follows,
            Err(_) => Part::Alone,
        };
        let before = self.assume(role);
        if role != before {
            self.tell(before, &claim);
        }
        let read = self.is_outdated(role) && self.load_now();
        if role == Part::Follows {
            self.follow();
        } else {
            if role != before {
                self.board.adopt(&*self.store, Instant::now());
                // Better to learn now than with a certificate in hand whether that can be written.
                self.state().unsaved.memory = true;
            }
            let fence = self.fence().flatten();
            self.board.expire(&*self.store, fence, Instant::now());
            self.retry();
        }
        let part = match self.state().loaded {
            true => role,
            false => Part::Waits,
        };
        if *self.part.borrow() != part || read {
            self.part.send_replace(part);
        }
        if read {
            self.news.notify_one();
        }
    }

    /// Takes a role on, and gives back the one before. Who writes from now on has to read first.
    pub(super) fn assume(&self, role: Part) -> Part {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.role, role);
        if role != before {
            state.loaded &= role == Part::Follows;
            state.attended = None;
            if role == Part::Follows {
                // What was remembered belongs to the other one now.
                state.unsaved.memory = false;
            }
        }
        before
    }

    fn is_outdated(&self, role: Part) -> bool {
        let stamps = || DOCUMENTS.map(|document| self.store.stamp(document));
        let state = self.state();
        !state.loaded || (role == Part::Follows && state.stamps != stamps())
    }

    fn follow(&self) {
        self.board.follow(&*self.store);
        let (seen, now) = (self.board.seen(), Instant::now());
        let mut state = self.state();
        let told = state.attended.as_ref();
        if told.is_none_or(|(told, at)| *told != seen || now - *at >= ATTEND) {
            self.store.attend(&seen);
            state.attended = Some((seen, now));
        }
    }

    /// Writes what could not be written.
    fn retry(&self) {
        let due = {
            let state = self.state();
            let unsaved = state.unsaved.certificates || state.unsaved.memory;
            let pause_over = state.retry.is_none_or(|at| at <= Instant::now());
            state.loaded && unsaved && pause_over
        };
        if due {
            self.save_now();
        }
    }

    fn tell(&self, before: Part, claim: &io::Result<Claim>) {
        let storage = self.store.name(Document::Certificates);
        match (before, claim) {
            (_, Ok(Claim::Ours(number))) => {
                tracing::info!(
                    storage,
                    fencing = number,
                    "this edge orders the certificates"
                );
            }
            (Part::Leads(_) | Part::Alone, Ok(Claim::Theirs(holder))) => {
                tracing::warn!(
                    storage,
                    holder,
                    "another edge has taken over: this one orders no more certificates"
                );
            }
            (_, Ok(Claim::Theirs(holder))) => {
                tracing::info!(
                    storage,
                    holder,
                    "another edge orders the certificates: this one serves them"
                );
            }
            (_, Err(error)) => {
                tracing::error!(storage, %error, "the storage cannot be written: certificates are kept in memory and lost with the process, and none is ordered in its first minute");
            }
        }
    }
}

impl Posted {
    /// Takes the answer away everywhere.
    pub(in crate::acme) async fn withdraw(self) {
        let Self { vault, post } = self;
        let fence = vault.fence().flatten();
        let done = spawn_blocking(move || vault.board.withdraw(&post, &*vault.store, fence)).await;
        if let Err(error) = done {
            tracing::error!(%error, "an answer to a challenge stays");
        }
    }
}

/// How often an edge looks what the one that orders has written.
const FOLLOW: Duration = Duration::from_millis(500);
/// How often the one that orders shows that it is alive.
const BEAT: Duration = Duration::from_secs(2);
/// How often an edge shows that it follows.
const ATTEND: Duration = Duration::from_secs(5);
/// How long to wait at most for other edges to give an answer.
const SETTLE: Duration = Duration::from_secs(5);
/// How long after its start an edge orders nothing that would be lost with it: a loop of restarts must not use up what authorities allow.
const CAUTION: Duration = Duration::from_secs(60);
