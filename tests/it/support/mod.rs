//! What every test needs: three nouns (`backend`, `proxy`, `client`), raw sockets, certificates and `eventually`.

mod backend;
mod certs;
mod client;
mod h2_backend;
mod proxy;
mod raw;
mod redis;

use std::net::{SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use backend::{Backend, Reply, Seen, backend};
pub use certs::{Authority, Identity};
pub use client::{Answer, Client, Trust, full};
pub use h2_backend::{grpc_backend, websocket_backend};
pub use proxy::{Proxy, ProxyBuilder, binary, proxy, subject_is_traefik, without_hold};
pub use raw::{Raw, exchange, parse_answers};
pub use redis::Redis;

/// Polls `attempt` until it yields a value; panics with `what` after ten seconds.
pub async fn eventually<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_secs(10), what, attempt).await
}

/// Like [`eventually`] with a limit of its own.
pub async fn within<T>(
    limit: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "did not happen within {limit:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A loopback port nobody listens on, below the ephemeral range so that no outgoing connection takes it meanwhile.
///
/// Listeners that share a port (`SO_REUSEPORT`) would not notice another run of these tests, so each run owns a block of ports:
/// it keeps the port that stands for its block bound until it ends.
pub fn free_port() -> u16 {
    const BLOCK: u16 = 1000;
    static OWN: LazyLock<(TcpListener, u16)> = LazyLock::new(|| {
        let mut blocks = (0..20).map(|block| (10_100 + block, 11_000 + block * BLOCK));
        blocks
            .find_map(|(door, base)| {
                TcpListener::bind(loopback(door))
                    .ok()
                    .map(|held| (held, base))
            })
            .expect("twenty runs at once are too many")
    });
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = OWN.1 + NEXT.fetch_add(1, Ordering::Relaxed) % BLOCK;
        if TcpListener::bind(loopback(port)).is_ok() {
            return port;
        }
    }
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Routing configuration with one router that matches everything and one service over `urls`.
pub fn all_to(urls: &[String]) -> String {
    routed("PathPrefix(`/`)", urls, "")
}

/// Routing configuration with one router `all` for `rule`; `service` is extra YAML inside `loadBalancer` (eight spaces deep).
pub fn routed(rule: &str, urls: &[String], service: &str) -> String {
    let servers: String = urls
        .iter()
        .map(|url| format!("          - url: \"{url}\"\n"))
        .collect();
    format!(
        "http:\n  routers:\n    all:\n      rule: \"{rule}\"\n      service: all\n  services:\n    all:\n      loadBalancer:\n        servers:\n{servers}{service}"
    )
}
