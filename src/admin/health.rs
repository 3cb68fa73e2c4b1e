//! Whether this process takes requests: starting, live, or on its way out.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use http::StatusCode;

use crate::{
    config::install::Ping,
    exchange::{Response, fault::status_response},
};

/// The phase of the process's life, shared by those who change it and those who tell it.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Relaxed) {
            STARTING => Phase::Starting,
            LIVE => Phase::Live,
            _ => Phase::Terminating,
        }
    }

    /// The first configuration is live. Without effect when the process is ending already.
    pub fn set_live(&self) {
        // Only a start becomes live; losing the race against a signal is the wanted outcome.
        self.0
            .compare_exchange(STARTING, LIVE, Relaxed, Relaxed)
            .ok();
    }

    /// The process is ending.
    pub fn set_terminating(&self) {
        self.0.store(TERMINATING, Relaxed);
    }
}

/// A phase of the process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No configuration is live yet.
    Starting,
    Live,
    /// Told to end; requests that still come are served.
    Terminating,
}

pub(super) fn answer(phase: Phase, ping: Option<&Ping>) -> Response {
    let terminating = ping.map_or(503, |ping| ping.terminating_status_code);
    let status = match phase {
        Phase::Starting => StatusCode::SERVICE_UNAVAILABLE,
        Phase::Live => StatusCode::OK,
        Phase::Terminating => {
            StatusCode::from_u16(terminating).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
        }
    };
    status_response(status)
}

const STARTING: u8 = 0;
const LIVE: u8 = 1;
const TERMINATING: u8 = 2;

#[cfg(test)]
mod tests {
    use super::{Phase, Readiness, answer};
    use crate::{config::install::Ping, exchange::Body};

    #[test]
    fn phases_follow_each_other() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.set_live();
        assert_eq!(readiness.phase(), Phase::Live);
        readiness.set_terminating();
        readiness.set_live();
        assert_eq!(readiness.phase(), Phase::Terminating);
    }

    #[test]
    fn answers_are_status_texts() {
        let teapot = Ping {
            terminating_status_code: 418,
            ..Ping::default()
        };
        let nonsense = Ping {
            terminating_status_code: 7,
            ..Ping::default()
        };
        let cases = [
            (Phase::Starting, None, 503, "Service Unavailable"),
            (Phase::Live, None, 200, "OK"),
            (Phase::Terminating, None, 503, "Service Unavailable"),
            (Phase::Terminating, Some(&teapot), 418, "I'm a teapot"),
            (
                Phase::Terminating,
                Some(&nonsense),
                503,
                "Service Unavailable",
            ),
        ];
        for (phase, ping, status, body) in cases {
            let response = answer(phase, ping);
            assert_eq!(response.status().as_u16(), status);
            assert!(response.headers().is_empty());
            assert!(matches!(response.into_body(), Body::Full(bytes) if bytes == body));
        }
    }
}
