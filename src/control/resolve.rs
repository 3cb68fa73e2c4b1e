//! Fetches what compile needs from outside: the files that the configuration names, and the addresses of servers' host names. Staples are
//! brought.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    compile::{
        files::{Files, Text, Texts},
        needs,
    },
    config::{Install, definitions::Definitions, tree::read_text},
    provider::watch::{Target, Watch},
    tls::Staples,
    upstream::resolve::{Addresses, Resolver},
};

use tokio::sync::watch;

/// Keeps files and addresses up to date.
#[derive(Debug)]
pub(super) struct Sources {
    resolver: Resolver,
    watch: Watch,
    files: Files,
    addresses: Arc<Addresses>,
    staples: watch::Receiver<Arc<Staples>>,
}

impl Sources {
    pub(super) async fn new(resolver: Resolver, staples: watch::Receiver<Arc<Staples>>) -> Self {
        Self {
            addresses: resolver.addresses(),
            resolver,
            watch: Watch::new(Vec::new()).await,
            files: Files::default(),
            staples,
        }
    }

    /// Fetches everything that `definitions` name. Names that cannot be resolved at once are published when they can.
    pub(super) async fn fetch(&mut self, definitions: &Definitions, install: &Install) {
        let paths: Vec<PathBuf> = needs::files(definitions, install).into_iter().collect();
        self.watch
            .aim(paths.iter().cloned().map(Target::File).collect())
            .await;
        self.files = read_all(paths).await;
        self.addresses = self
            .resolver
            .resolve(needs::host_names(definitions), PATIENCE)
            .await;
    }

    /// Returns when a file, an address or a staple has changed.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            () = self.watch.changed() => {}
            _ = self.resolver.changed(&self.addresses) => {}
            Ok(()) = self.staples.changed() => {}
        }
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) fn staples(&mut self) -> Arc<Staples> {
        Arc::clone(&self.staples.borrow_and_update())
    }

    pub(super) fn addresses(&self) -> &Arc<Addresses> {
        &self.addresses
    }
}

/// Reads files on the blocking pool: a network file system may hang.
async fn read_all(paths: Vec<PathBuf>) -> Files {
    if paths.is_empty() {
        return Files::default();
    }
    let texts = tokio::task::spawn_blocking(|| read(paths));
    Files::new(texts.await.unwrap_or_default())
}

/// Reads files.
pub fn read(paths: impl IntoIterator<Item = PathBuf>) -> Texts {
    let texts = paths.into_iter().map(|path| {
        let text = read_one(&path);
        (path, text)
    });
    texts.collect::<BTreeMap<_, _>>()
}

/// Reads one file.
pub fn read_one(path: &Path) -> Text {
    let name = path.display().to_string();
    match read_text(path, &name) {
        Ok(text) => Ok(text.into()),
        Err(diagnostic) => Err(format!("{name} {}", diagnostic.message)),
    }
}

/// A reload does not wait longer than this for the first answers of name servers.
const PATIENCE: Duration = Duration::from_millis(100);
