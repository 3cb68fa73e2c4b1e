//! Accounts, certificates and memories of the resolvers that share one storage: in memory first, and on disk as soon as that can be.
//!
//! Here is what is kept and how it is read and written; `keep` is how edges that share a storage keep out of each other's way.

mod keep;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::Instant,
};

use super::{
    board::Board,
    memory::Memory,
    now,
    store::{Document, Stamp, Store},
    stored::Stored,
};
use crate::challenge::Challenges;

pub(super) use keep::{Part, Posted};

/// What is kept in one storage.
#[derive(Debug)]
pub(super) struct Vault {
    store: Box<dyn Store>,
    board: Board,
    state: Mutex<State>,
    /// Held by whoever writes, so that the last to write writes the newest state.
    writing: Mutex<()>,
    /// What this edge does now; sent anew when something else has been read.
    part: watch::Sender<Part>,
    /// Told when there are certificates to publish.
    news: Arc<Notify>,
    born: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// What this edge does as soon as it has read what is there.
    role: Part,
    loaded: bool,
    /// Versions of the documents that were read last.
    stamps: [Option<Stamp>; 2],
    /// What other edges were told last of the answers that are given here, and when.
    attended: Option<(String, Instant)>,
    /// When the next attempt to write is due after one that failed.
    retry: Option<Instant>,
    certificates: BTreeMap<String, Stored>,
    memories: BTreeMap<String, Memory>,
    /// What is not on disk yet.
    unsaved: Unsaved,
    /// Whether the last attempt failed, so that a lasting fault is told once.
    failed: bool,
}

#[derive(Debug, Default)]
struct Unsaved {
    certificates: bool,
    memory: bool,
}

impl Vault {
    /// A vault on top of a store, not loaded yet.
    pub(super) fn new(store: impl Store, challenges: Challenges, news: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            store: Box::new(store),
            board: Board::new(challenges),
            state: Mutex::default(),
            writing: Mutex::default(),
            part: watch::Sender::new(Part::default()),
            news,
            born: Instant::now(),
        })
    }

    /// What is stored for a resolver.
    pub(super) fn stored(&self, resolver: &str) -> Stored {
        let state = self.state();
        state
            .certificates
            .get(resolver)
            .cloned()
            .unwrap_or_default()
    }

    /// What is remembered of a resolver and its authority.
    pub(super) fn memory(&self, resolver: &str, ca_server: &str) -> Memory {
        self.state().memory(resolver, ca_server)
    }

    /// Changes what is stored for and remembered of a resolver. It holds at once; false if it is not on disk yet. Nothing changes when another
    /// edge has taken over: what it does is what counts.
    pub(super) async fn change(
        self: &Arc<Self>,
        (resolver, ca_server): (&str, &str),
        change: impl FnOnce(&mut Stored, &mut Memory),
    ) -> bool {
        if self.fence().is_none() {
            return false;
        }
        {
            let mut state = self.state();
            let mut memory = state.memory(resolver, ca_server);
            memory.forget(now());
            let stored = state.certificates.entry(resolver.to_owned()).or_default();
            let before = stored.clone();
            change(stored, &mut memory);
            state.unsaved.certificates |= state.certificates.get(resolver) != Some(&before);
            state.unsaved.memory = true;
            state.memories.insert(resolver.to_owned(), memory);
        }
        self.save().await
    }

    /// Writes what is not on disk yet; false if that fails.
    async fn save(self: &Arc<Self>) -> bool {
        let this = Arc::clone(self);
        spawn_blocking(move || this.save_now())
            .await
            .unwrap_or(false)
    }

    /// Reads everything anew; whether that went well. What is not on disk yet is kept.
    fn load_now(&self) -> bool {
        let stamps = DOCUMENTS.map(|document| self.store.stamp(document));
        let certificates = self.read::<BTreeMap<String, Option<Stored>>>(Document::Certificates);
        let memories = self.read::<BTreeMap<String, Memory>>(Document::Memory);
        let mut state = self.state();
        match certificates.and_then(|certificates| Ok((certificates, memories?))) {
            Ok((certificates, memories)) => {
                state.take(certificates, memories);
                (state.loaded, state.failed, state.stamps) = (true, false, stamps);
                return true;
            }
            Err(error) if !state.failed => {
                tracing::error!(%error, "the certificates' storage cannot be read: nothing is ordered until it can");
                state.failed = true;
            }
            Err(_) => {}
        }
        false
    }

    fn read<T: DeserializeOwned + Default>(&self, document: Document) -> Result<T, String> {
        let name = self.store.name(document);
        let text = self.store.read(document);
        let text = text.map_err(|error| format!("{name}: {error}"))?;
        let Some(text) = text.filter(|text| !text.trim_ascii().is_empty()) else {
            return Ok(T::default());
        };
        let error = match serde_json::from_slice(&text) {
            Ok(content) => return Ok(content),
            Err(error) => error,
        };
        if self.fence().is_none() {
            // It is for the one that writes to do something about it.
            return Err(format!("{name} is corrupt: {error}"));
        }
        let aside = self.store.set_aside(document, now());
        let aside = aside
            .map_err(|error| format!("{name} is corrupt and cannot be moved away: {error}"))?;
        let previous = self.store.read_previous(document);
        let previous = previous.and_then(|text| serde_json::from_slice(&text).ok());
        match &previous {
            Some(_) => {
                tracing::error!(file = name, aside, %error, "the file is corrupt and was set aside; the previous version is used")
            }
            None => {
                tracing::error!(file = name, aside, %error, "the file is corrupt and was set aside; there is no previous version")
            }
        }
        Ok(previous.unwrap_or_default())
    }

    fn save_now(&self) -> bool {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fence) = self.fence() else {
            return false;
        };
        let (certificates, memory) = {
            let state = self.state();
            let certificates = state
                .unsaved
                .certificates
                .then(|| text(&state.certificates));
            (
                certificates,
                state.unsaved.memory.then(|| text(&state.memories)),
            )
        };
        // Certificates first: what memory says of an order goes when its certificate is safe.
        let outcome = self
            .write((Document::Certificates, fence), certificates, |unsaved| {
                &mut unsaved.certificates
            })
            .and_then(|()| {
                self.write((Document::Memory, fence), memory, |unsaved| {
                    &mut unsaved.memory
                })
            });
        let mut state = self.state();
        match &outcome {
            Ok(()) if state.failed => {
                tracing::info!("the certificates' storage can be written again")
            }
            Err(error) if !state.failed => {
                tracing::error!(%error, "the certificates' storage cannot be written: they are kept in memory, and it is tried again");
            }
            _ => {}
        }
        state.failed = outcome.is_err();
        state.retry = outcome.is_err().then(|| Instant::now() + RETRY);
        outcome.is_ok()
    }

    fn write(
        &self,
        (document, fence): (Document, Option<u64>),
        text: Option<serde_json::Result<Vec<u8>>>,
        unsaved: impl Fn(&mut Unsaved) -> &mut bool,
    ) -> Result<(), String> {
        let Some(text) = text else { return Ok(()) };
        // A change that comes meanwhile marks it again.
        *unsaved(&mut self.state().unsaved) = false;
        let written = text.map_err(|error| error.to_string()).and_then(|text| {
            let written = self.store.write(document, &text, fence);
            written.map_err(|error| error.to_string())
        });
        written.map_err(|error| {
            *unsaved(&mut self.state().unsaved) = true;
            format!("{}: {error}", self.store.name(document))
        })
    }

    /// The fencing number to write with, if there is one; none at all for who must not write.
    fn fence(&self) -> Option<Option<u64>> {
        match self.state().role {
            Part::Leads(number) => Some(Some(number)),
            Part::Alone => Some(None),
            Part::Follows | Part::Waits => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn memory(&self, resolver: &str, ca_server: &str) -> Memory {
        let known = self.memories.get(resolver);
        known
            .filter(|memory| memory.ca_server == ca_server)
            .cloned()
            .unwrap_or_else(|| fresh(ca_server))
    }

    /// Puts what was read into the place of what is there, except for what is newer and not on disk yet.
    fn take(
        &mut self,
        certificates: BTreeMap<String, Option<Stored>>,
        memories: BTreeMap<String, Memory>,
    ) {
        let certificates = certificates.into_iter();
        let mut certificates: BTreeMap<String, Stored> = certificates
            .map(|(name, stored)| (name, stored.unwrap_or_default()))
            .collect();
        if self.unsaved.certificates {
            for (name, own) in std::mem::take(&mut self.certificates) {
                certificates.entry(name).or_default().absorb(own);
            }
        }
        self.certificates = certificates;
        let own = std::mem::replace(&mut self.memories, memories);
        if self.unsaved.memory {
            self.memories.extend(own);
        }
    }
}

fn fresh(ca_server: &str) -> Memory {
    Memory {
        ca_server: ca_server.to_owned(),
        ..Memory::default()
    }
}

fn text<T: serde::Serialize>(content: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec_pretty(content)
}

const DOCUMENTS: [Document; 2] = [Document::Certificates, Document::Memory];
/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(10);
