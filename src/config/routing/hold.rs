//! `hold`: requests wait while a service has no usable server.

use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// `….loadBalancer.hold` (Portway): what is left out is taken from the provider's `hold`, then from the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hold {
    /// `timeout`: how long a request waits for a usable server, 0 for not at all. Default 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// `maxRequests` of the service that wait at a time, 0 for none. Default 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
}

impl Hold {
    /// What `timeout` is if nobody says.
    pub const DEFAULT_TIMEOUT: Span = Span::from_secs(10);
    /// What `maxRequests` is if nobody says.
    pub const DEFAULT_MAX_REQUESTS: u32 = 1000;

    /// These options, with `fill` for what is left out.
    #[must_use]
    pub fn or(self, fill: Self) -> Self {
        Self {
            timeout: self.timeout.or(fill.timeout),
            max_requests: self.max_requests.or(fill.max_requests),
        }
    }

    /// The time in force.
    pub fn timeout(self) -> Span {
        self.timeout.unwrap_or(Self::DEFAULT_TIMEOUT)
    }

    /// The number in force.
    pub fn max_requests(self) -> u32 {
        self.max_requests.unwrap_or(Self::DEFAULT_MAX_REQUESTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_field_by_field() {
        let second = Some(Span::from_secs(1));
        let of = |timeout, max_requests| Hold {
            timeout,
            max_requests,
        };
        for (service, provider, timeout, max_requests) in [
            (of(None, None), of(None, None), Span::from_secs(10), 1000),
            (of(second, None), of(None, Some(5)), Span::from_secs(1), 5),
            (
                of(None, Some(0)),
                of(second, Some(5)),
                Span::from_secs(1),
                0,
            ),
            (
                of(Some(Span::ZERO), None),
                of(second, None),
                Span::ZERO,
                1000,
            ),
        ] {
            let hold = service.or(provider);
            assert_eq!(
                (hold.timeout(), hold.max_requests()),
                (timeout, max_requests)
            );
        }
    }
}
