//! How long requests may take.

use std::time::Duration;

/// `timeouts` of a router or a service; `None`: no limit, for all of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the answer's head, once the request was sent.
    pub response_header: Option<Duration>,
    /// How long a body may stand still because of the server.
    pub idle: Option<Duration>,
    /// Until the last byte of the answer, since the request arrived.
    pub total: Option<Duration>,
}
