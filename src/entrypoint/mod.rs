//! Sockets in: listeners, TLS, protocol choice, connections.
//!
//! Every worker has its own listening socket per entry point and serves what it accepts, start to end, on its own thread.

mod connection;
mod http1;
mod http2;
mod limit;
mod listener;
mod proxy_protocol;
mod tunnel;

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

pub use limit::ConnectionLimit;
pub use listener::{Listener, bind, listen, run};

use crate::http1::request::Limits;

/// How long a drain waits for the next request of a connection without one, and for what must come before the first.
const LAST_CALL: Duration = Duration::from_secs(1);

/// A body that makes less progress than this within the progress timeout is a slow attack.
const PROGRESS: u64 = 1024;

/// How one entry point treats its connections; fixed at start.
#[derive(Debug, Clone)]
pub struct EntryPoint {
    /// Its place in the snapshot.
    pub index: usize,
    pub name: Arc<str>,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// Requests on one connection at most (`transport.keepAliveMaxRequests`); 0 is no limit.
    pub max_requests: u64,
    /// `transport.maxConnections`; `None` is no limit.
    pub limit: Option<Arc<ConnectionLimit>>,
    /// Connections that a worker may have, at all entry points together, when this one takes one more: its share of the open files.
    pub worker_connections: usize,
    /// Streams of one HTTP/2 connection at most (`http2.maxConcurrentStreams`).
    pub max_streams: u32,
    /// HPACK table size in bytes (`http2.maxDecoderHeaderTableSize`).
    pub header_table: u32,
    /// Who may say in a PROXY header who the client is; `None` if no such header is expected (`proxyProtocol`).
    pub proxy_protocol: Option<Trust>,
    /// Who may send `X-Forwarded-*` (`forwardedHeaders`).
    pub forwarded: Trust,
}

/// Times of an entry point; `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a whole request head, from its first byte (`headerTimeout`, or `readTimeout` if that is shorter).
    pub header: Option<Duration>,
    /// Between requests (`idleTimeout`).
    pub idle: Option<Duration>,
    /// A body must make progress in this time (`bodyProgressTimeout`).
    pub progress: Option<Duration>,
    /// A tunnel that one side has closed must carry bytes of the other in this time (`halfClosedTimeout`).
    pub half_closed: Option<Duration>,
    /// For a whole request, body included; only if the user set it (`readTimeout`).
    pub read: Option<Duration>,
    /// For a whole response (`writeTimeout`).
    pub write: Option<Duration>,
    /// A connection's age after which it ends (`transport.keepAliveMaxTime`).
    pub connection: Option<Duration>,
}

impl Timeouts {
    /// The option that bounds a request head.
    fn header_option(&self) -> &'static str {
        match self.read {
            Some(_) if self.read == self.header => "readTimeout",
            _ => "headerTimeout",
        }
    }
}

/// Which peers are believed.
#[derive(Debug, Clone)]
pub enum Trust {
    Nobody,
    Everybody,
    Networks(Box<[IpNet]>),
}

impl Trust {
    /// Whether `peer` is believed.
    pub fn includes(&self, peer: IpAddr) -> bool {
        match self {
            Self::Nobody => false,
            Self::Everybody => true,
            Self::Networks(networks) => {
                let peer = peer.to_canonical();
                networks.iter().any(|network| network.contains(&peer))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Trust;

    #[test]
    fn trust_sees_through_mapped_addresses() {
        let trust =
            Trust::Networks(["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()].into());
        for (peer, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.0.0.1", false),
            ("fd00::1", true),
            ("::1", false),
        ] {
            assert_eq!(trust.includes(peer.parse().unwrap()), expected, "{peer}");
        }
        assert!(Trust::Everybody.includes("::1".parse().unwrap()));
        assert!(!Trust::Nobody.includes("127.0.0.1".parse().unwrap()));
    }
}
