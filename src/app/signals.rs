//! What the process does when it is signalled.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::{admin::Readiness, drain::Drain, observe::AccessLog, provider::Reload};

/// How to stop.
pub(super) struct Stop<'a> {
    pub(super) drain: &'a Drain,
    pub(super) readiness: &'a Readiness,
    /// Time for everything.
    pub(super) grace: Duration,
}

impl Stop<'_> {
    /// Begins the orderly end; asked again, ends at once.
    pub(super) fn begin(&self) {
        self.readiness.set_terminating();
        self.drain.signal(self.grace);
    }
}

/// What signals reach besides the end.
pub(super) struct Hands {
    pub(super) reload: Reload,
    pub(super) access_log: AccessLog,
}

/// Handles signals for as long as it is polled.
pub(super) async fn handle(stop: &Stop<'_>, hands: &Hands) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => end(stop, "SIGTERM"),
            _ = interrupt.recv() => end(stop, "SIGINT"),
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: reading the routing configuration again");
                hands.reload.request();
            }
            _ = reopen.recv() => {
                tracing::info!("SIGUSR1: opening the access log again");
                hands.access_log.reopen();
            }
        }
    }
}

fn end(stop: &Stop<'_>, name: &'static str) {
    tracing::info!(signal = name, grace = ?stop.grace, "stopping; a second signal ends at once");
    stop.begin();
}
