//! A container that is served, and whether it is about to go.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    config::routing::Condition,
    provider::docker::{
        container::{Container, Health, LONGEST_STOP, Status, TERMINATING, signal_name},
        contribution::Contribution,
    },
};

/// A container that is served.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) container: Container,
    pub(super) contribution: Arc<Contribution>,
    pub(super) leaving: Option<Leaving>,
}

/// It was told to stop.
#[derive(Debug)]
pub(super) struct Leaving {
    reason: Arc<str>,
    /// If it is still there then, it did not mean to go.
    until: Instant,
}

impl Member {
    /// A signal was sent to it. Whether that has made it leave.
    pub(super) fn signalled(&mut self, signal: i32, now: Instant) -> bool {
        let own = signal == self.container.stop_signal;
        if !own && !TERMINATING.contains(&signal) {
            return false;
        }
        let time = match own {
            // Whoever stops it may give it any time, and the engine does not tell how much.
            true => LONGEST_STOP,
            false => self.container.stop_timeout.min(LONGEST_STOP) + AFTER_STOP_TIMEOUT,
        };
        let until = now + time;
        if let Some(leaving) = &mut self.leaving {
            leaving.until = leaving.until.max(until);
            return false;
        }
        let reason = format!("was sent {}", signal_name(signal)).into();
        self.leaving = Some(Leaving { reason, until });
        true
    }

    /// Lets time pass. Whether it has outlived a signal.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        self.leaving
            .take_if(|leaving| leaving.until <= now)
            .is_some()
    }

    /// When it will have outlived the signal that it was sent.
    pub(super) fn stays_until(&self) -> Option<Instant> {
        self.leaving.as_ref().map(|leaving| leaving.until)
    }

    pub(super) fn condition(&self) -> Condition {
        if let Some(leaving) = &self.leaving {
            return Condition::Leaving(Arc::clone(&leaving.reason));
        }
        match (self.container.status, self.container.health) {
            (Status::Paused, _) => Condition::Unhealthy("is paused".into()),
            (_, Health::Starting) => {
                Condition::Waiting("its HEALTHCHECK has not passed yet".into())
            }
            (_, Health::Unhealthy) => Condition::Unhealthy("its HEALTHCHECK fails".into()),
            (_, Health::None | Health::Healthy) => Condition::Ready,
        }
    }
}

/// Whoever survives a signal is not taken for a survivor before the engine had time to kill him and to say so.
const AFTER_STOP_TIMEOUT: Duration = Duration::from_secs(1);
