//! The file provider: one file or a directory of files, YAML or TOML, watched.
//!
//! Every file stands for itself: one that cannot be read keeps its last good content, and the others go live.

mod contents;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Provider, ReloadSignal, Running, Updates,
    watch::{Target, Watch},
};
use crate::config::{DecodedRouting, Diagnostic, Place, install};

use contents::Contents;

/// Reads routing configuration from files.
#[derive(Debug)]
pub struct FileProvider {
    source: Source,
    watch: bool,
    reload: ReloadSignal,
}

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// Every YAML and TOML file below, in name order.
    Directory(PathBuf),
}

impl FileProvider {
    /// A provider as configured; an error if it is told neither a file nor a directory.
    pub fn new(config: &install::FileProvider, reload: ReloadSignal) -> Result<Self, Diagnostic> {
        Ok(Self {
            source: Source::new(config)?,
            watch: config.watch,
            reload,
        })
    }

    async fn work(mut self, updates: Updates) {
        let mut watch = Watch::new(vec![self.source.target()]).await;
        let mut contents = Contents::default();
        let mut first = true;
        loop {
            let files: Vec<PathBuf> = watch.files().map(Path::to_owned).collect();
            let changed;
            (contents, changed) = reading(contents, self.source.clone(), files, first).await;
            first = false;
            if let Some(merged) = changed
                && !updates.send(merged).await
            {
                return;
            }
            tokio::select! {
                () = watch.changed(), if self.watch => {}
                () = self.reload.requested() => watch.refresh().await,
            }
        }
    }
}

impl Provider for FileProvider {
    fn name(&self) -> &str {
        NAME
    }

    fn run(self: Box<Self>, updates: Updates) -> Running {
        Box::pin(self.work(updates))
    }
}

impl Source {
    /// The source that is configured. A directory wins over a file, as with Traefik.
    pub fn new(config: &install::FileProvider) -> Result<Self, Diagnostic> {
        match (config.directory.as_str(), config.filename.as_str()) {
            ("", "") => {
                let message = "names neither `filename` nor `directory`";
                Err(Diagnostic::error(Place::Builtin, "providers.file", message))
            }
            ("", file) => Ok(Self::File(file.into())),
            (directory, _) => Ok(Self::Directory(directory.into())),
        }
    }

    /// Reads everything once.
    pub async fn load(&self) -> DecodedRouting {
        let watch = Watch::new(vec![self.target()]).await;
        let files = watch.files().map(Path::to_owned).collect();
        reading(Contents::default(), self.clone(), files, true)
            .await
            .1
            .unwrap_or_default()
    }

    fn target(&self) -> Target {
        match self {
            Self::File(path) => Target::File(path.clone()),
            Self::Directory(path) => Target::Tree(path.clone(), EXTENSIONS),
        }
    }
}

/// Reads on the blocking pool: a network file system may hang, and ten thousand routers take a while to decode. Gives what is wanted
/// if that has changed, or in any case if `always`.
async fn reading(contents: Contents, source: Source, files: Vec<PathBuf>, always: bool) -> Read {
    let before = contents.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut contents = contents;
        let changed = contents.read(&source, &files);
        let merged = (changed || always).then(|| contents.merged());
        (contents, merged)
    });
    // An error here is a panic, which the panic hook has logged.
    reading.await.unwrap_or((before, None))
}

/// The files as they are now, and the new configuration if there is one.
type Read = (Contents, Option<DecodedRouting>);

/// The name that its objects are qualified with.
pub const NAME: &str = "file";

const EXTENSIONS: &[&str] = &["yml", "yaml", "toml"];

/// The environment, as templates see it.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How a path is shown.
fn shown(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}
