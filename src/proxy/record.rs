//! What is known of a request when it is over, and where that is written down.

use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};

use super::Journey;
use crate::{
    exchange::Fault,
    observe::{Protocol, Sample},
};

/// What was sent to the client.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub status: StatusCode,
    /// Body bytes received from the client.
    pub received: u64,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// Whether the answer went out whole.
    pub complete: bool,
}

/// What happened between us and the servers.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) status: Option<StatusCode>,
    /// Time spent waiting for servers' heads.
    pub(super) waited: Duration,
    pub(super) retries: u32,
    pub(super) fault: Option<Fault>,
    /// The protocol the server switched to.
    pub(super) upgrade: Option<HeaderValue>,
}

impl Origin {
    pub(super) fn attempted(&mut self, since: Instant) {
        self.waited += since.elapsed();
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Journey {
    /// The protocol the server switched to, for the client's `Upgrade` field.
    pub fn switched_to(&self) -> Option<HeaderValue> {
        self.facts
            .upgrade
            .clone()
            .or_else(|| self.exchange.request.upgrade.clone())
    }

    /// The exchange is over: counts it and writes it down.
    pub fn finish(self, sent: Sent) {
        let duration = self.exchange.started.elapsed();
        let request = &self.exchange.request;
        let entry_point = self.entry_point();
        let protocol = Protocol::of(&request.headers, request.upgrade.as_ref());
        let mut sample = Sample::new(&request.method, protocol, sent.status.as_u16(), duration);
        sample.bytes_in = sent.received;
        sample.bytes_out = sent.bytes;
        match &self.route {
            Some(route) => {
                if route.signals.metrics {
                    entry_point.traffic.record(&sample);
                    route.router_traffic.record(&sample);
                    route.service_traffic.record(&sample);
                }
            }
            None => entry_point.traffic.record(&sample),
        }
    }
}
