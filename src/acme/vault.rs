//! Accounts, certificates and memories of the resolvers that share one storage: in memory first, and on disk as soon as that can be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use super::{
    memory::Memory,
    now,
    store::{Document, Store},
    stored::Stored,
};

/// What is kept in one storage.
#[derive(Debug)]
pub(super) struct Vault {
    store: Box<dyn Store>,
    state: Mutex<State>,
    /// Held by whoever writes, so that the last to write writes the newest state.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    loaded: bool,
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
    pub(super) fn new(store: impl Store) -> Arc<Self> {
        Arc::new(Self {
            store: Box::new(store),
            state: Mutex::default(),
            writing: Mutex::default(),
        })
    }

    /// Loads what is stored if that has not been done; whether it is loaded now. What could not be read is never overwritten.
    pub(super) async fn load(self: &Arc<Self>) -> bool {
        if self.state().loaded {
            return true;
        }
        let this = Arc::clone(self);
        spawn_blocking(move || this.load_now())
            .await
            .unwrap_or(false)
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
        let state = self.state();
        let known = state.memories.get(resolver);
        known
            .filter(|memory| memory.ca_server == ca_server)
            .cloned()
            .unwrap_or_else(|| fresh(ca_server))
    }

    /// Changes what is stored for and remembered of a resolver. It holds at once; false if it is not on disk yet.
    pub(super) async fn change(
        self: &Arc<Self>,
        (resolver, ca_server): (&str, &str),
        change: impl FnOnce(&mut Stored, &mut Memory),
    ) -> bool {
        let mut memory = self.memory(resolver, ca_server);
        memory.forget(now());
        {
            let mut state = self.state();
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
    pub(super) async fn save(self: &Arc<Self>) -> bool {
        let this = Arc::clone(self);
        spawn_blocking(move || this.save_now())
            .await
            .unwrap_or(false)
    }

    /// Whether something is not on disk yet.
    pub(super) fn is_unsaved(&self) -> bool {
        let state = self.state();
        state.unsaved.certificates || state.unsaved.memory
    }

    fn load_now(&self) -> bool {
        let certificates = self.read::<BTreeMap<String, Option<Stored>>>(Document::Certificates);
        let memories = self.read::<BTreeMap<String, Memory>>(Document::Memory);
        let mut state = self.state();
        match (certificates, memories) {
            (Ok(certificates), Ok(memories)) if !state.loaded => {
                let certificates = certificates.into_iter();
                state.certificates = certificates
                    .map(|(name, stored)| (name, stored.unwrap_or_default()))
                    .collect();
                state.memories = memories;
                (state.loaded, state.failed) = (true, false);
            }
            (Err(error), _) | (_, Err(error)) if !state.failed => {
                tracing::error!(%error, "the certificates' storage cannot be read: nothing is ordered until it can");
                state.failed = true;
            }
            _ => {}
        }
        state.loaded
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
            .write(Document::Certificates, certificates, |unsaved| {
                &mut unsaved.certificates
            })
            .and_then(|()| self.write(Document::Memory, memory, |unsaved| &mut unsaved.memory));
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
        outcome.is_ok()
    }

    fn write(
        &self,
        document: Document,
        text: Option<serde_json::Result<Vec<u8>>>,
        unsaved: impl Fn(&mut Unsaved) -> &mut bool,
    ) -> Result<(), String> {
        let Some(text) = text else { return Ok(()) };
        // A change that comes meanwhile marks it again.
        *unsaved(&mut self.state().unsaved) = false;
        let written = text.map_err(|error| error.to_string()).and_then(|text| {
            let written = self.store.write(document, &text);
            written.map_err(|error| error.to_string())
        });
        written.map_err(|error| {
            *unsaved(&mut self.state().unsaved) = true;
            format!("{}: {error}", self.store.name(document))
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::{memory::OpenOrder, store::Files};
    use std::{fs, path::Path};

    const WHO: (&str, &str) = ("le", "https://ca/dir");

    fn vault(folder: &Path) -> Arc<Vault> {
        Vault::new(Files::new(&folder.join("acme.json")))
    }

    async fn put(vault: &Arc<Vault>, chain: &str) -> bool {
        let change = |stored: &mut Stored, memory: &mut Memory| {
            stored.put(&["a.test".to_owned()], chain, "key");
            let order = OpenOrder {
                at: now(),
                ..OpenOrder::default()
            };
            memory.orders.insert("a.test".to_owned(), order);
        };
        vault.change(WHO, change).await
    }

    fn chains(vault: &Vault) -> Vec<String> {
        let stored = vault.stored("le");
        stored
            .pairs()
            .iter()
            .map(|pair| pair.texts().unwrap().0)
            .collect()
    }

    #[tokio::test]
    async fn what_is_changed_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = vault(folder.path());
        assert!(first.load().await);
        assert!(put(&first, "one").await && !first.is_unsaved());
        let second = vault(folder.path());
        assert!(second.load().await);
        assert_eq!(chains(&second), ["one"]);
        assert_eq!(second.memory(WHO.0, WHO.1).orders.len(), 1);
        // Another authority has another history.
        assert!(second.memory(WHO.0, "https://other/dir").orders.is_empty());
    }

    #[tokio::test]
    async fn a_corrupt_file_is_set_aside_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let first = vault(folder.path());
        first.load().await;
        put(&first, "one").await;
        put(&first, "two").await;
        fs::write(folder.path().join("acme.json"), "{\"le\": {\"Certif").unwrap();
        let second = vault(folder.path());
        assert!(second.load().await);
        assert_eq!(chains(&second), ["one"]);
        put(&second, "three").await;
        let names = fs::read_dir(folder.path()).unwrap().flatten();
        let aside = names
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains("acme.json.corrupt-"));
        assert_eq!(fs::read(aside.unwrap()).unwrap(), b"{\"le\": {\"Certif");
    }

    #[tokio::test]
    async fn an_empty_file_is_an_empty_storage() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("acme.json"), "\n").unwrap();
        let vault = vault(folder.path());
        assert!(vault.load().await);
        assert!(chains(&vault).is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_kept_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let vault = vault(folder.path());
        vault.load().await;
        let blocker = folder.path().join("acme.json.new");
        fs::create_dir(&blocker).unwrap();
        assert!(!put(&vault, "one").await);
        assert_eq!(chains(&vault), ["one"]);
        assert!(vault.is_unsaved() && !vault.save().await);
        fs::remove_dir(&blocker).unwrap();
        assert!(vault.save().await && !vault.is_unsaved());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_taken_for_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.json");
        // Reading a folder fails, whoever reads it.
        fs::create_dir(&path).unwrap();
        let vault = vault(folder.path());
        assert!(!vault.load().await);
        fs::remove_dir(&path).unwrap();
        assert!(vault.load().await);
    }
}
