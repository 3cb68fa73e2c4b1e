//! How the servers of a service are connected to: the usable form of a `serversTransport`.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

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
    /// Hash of the settings it was built from: equal digests mean that a reload may keep it.
    pub digest: [u8; 32],
}

impl Transport {
    /// The TLS handshake with a server may take this long.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// The defaults of the built-in transport, except that no certificate of a server is trusted: for plain HTTP, as in tests.
    pub fn plain(name: Arc<str>) -> Self {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has suites for every version")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let tls = Arc::new(tls);
        Self {
            name,
            tls_http1: Arc::clone(&tls),
            tls,
            server_name: None,
            max_idle_per_host: 200,
            disable_http2: false,
            dial_timeout: Some(Duration::from_secs(30)),
            response_header_timeout: None,
            idle_timeout: Some(Duration::from_secs(90)),
            read_idle_timeout: None,
            ping_timeout: Duration::from_secs(15),
            digest: [0; 32],
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
