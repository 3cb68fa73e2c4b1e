//! How the servers of a service are connected to: the usable form of a `serversTransport`.

use std::{fmt, sync::Arc, time::Duration};

use rustls::ClientConfig;

/// Settings of connections to servers. Compared by identity: connections are shared only within one transport.
pub struct Transport {
    /// Qualified name, `default@internal` for the built-in one.
    pub name: Arc<str>,
    /// TLS with HTTP/1.1 only: upgrades, and everything when `disable_http2` is set.
    pub tls_http1: Arc<ClientConfig>,
    /// TLS that offers h2 and http/1.1 (http/1.1 only when `disable_http2` is set).
    pub tls: Arc<ClientConfig>,
    /// TLS server name instead of the URL's host.
    pub server_name: Option<String>,
    /// Idle connections kept per server; 0 closes each connection after its request.
    pub max_idle_per_host: usize,
    pub disable_http2: bool,
    /// `None`: no limit, for all of these.
    pub dial_timeout: Option<Duration>,
    pub response_header_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    /// An HTTP/2 connection silent for this long is pinged.
    pub read_idle_timeout: Option<Duration>,
    /// A ping unanswered for this long closes the connection.
    pub ping_timeout: Duration,
}

impl Transport {
    /// The TLS handshake with a server may take this long.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
