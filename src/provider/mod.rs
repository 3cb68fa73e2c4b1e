//! Writers of routing configuration.
//!
//! A [`Provider`] states all it wants, every time: control keeps the last statement of each and merges them. To add a provider of
//! your own, implement the trait and hand it to the `App` builder.

pub mod docker;
pub mod file;
mod http;
mod tls;
pub mod watch;

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

use tokio::sync::{mpsc, watch as latest};

use crate::{
    config::DecodedRouting,
    observe::{Source, Sources},
};

pub use self::http::HttpProvider;
pub use docker::DockerProvider;
pub use file::FileProvider;

/// A source of routing configuration.
pub trait Provider: Send + 'static {
    /// What objects of this provider are qualified with: `app@NAME`.
    fn name(&self) -> &str;

    /// Sends updates for as long as it is polled; dropping the future stops it.
    ///
    /// It must survive the absence of its source by trying again with growing pauses, and send nothing before its first complete
    /// view exists. A future that returns leaves what was sent last in force.
    fn run(self: Box<Self>, updates: Updates) -> Running;
}

/// A provider at work.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everything a provider wants, replacing what it wanted before.
#[derive(Debug, Clone)]
pub struct Update {
    pub provider: Arc<str>,
    /// The objects, and what was wrong with their form.
    pub decoded: DecodedRouting,
}

/// Asks everybody to read their sources again (`SIGHUP`).
#[derive(Debug, Clone, Default)]
pub struct Reload(latest::Sender<()>);

impl Reload {
    /// Asks now.
    pub fn request(&self) {
        self.0.send_replace(());
    }

    /// Somebody who will be asked.
    pub fn signal(&self) -> ReloadSignal {
        ReloadSignal(self.0.subscribe())
    }
}

/// Hears of requests to reload.
#[derive(Debug, Clone)]
pub struct ReloadSignal(latest::Receiver<()>);

impl ReloadSignal {
    /// Returns when a reload is requested, for ever not if nobody can any more.
    pub async fn requested(&mut self) {
        if self.0.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Where a provider sends its updates.
#[derive(Debug, Clone)]
pub struct Updates {
    provider: Arc<str>,
    sender: mpsc::Sender<Update>,
    source: Source,
}

impl Updates {
    /// The sending end for the provider of this name.
    pub fn new(provider: &str, sender: mpsc::Sender<Update>, sources: &Sources) -> Self {
        let provider = Arc::from(provider);
        Self {
            source: sources.source(&provider),
            provider,
            sender,
        }
    }

    /// Where to report how the source behind the provider is, if it may be away.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// States the full configuration (a `Routing` will do). Waits while control is busy; false when control has ended.
    pub async fn send(&self, decoded: impl Into<DecodedRouting>) -> bool {
        let update = Update {
            provider: Arc::clone(&self.provider),
            decoded: decoded.into(),
        };
        self.sender.send(update).await.is_ok()
    }
}
