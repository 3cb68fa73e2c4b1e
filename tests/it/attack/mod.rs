//! The attack list: each test is named after the attack. The rule is the same everywhere: when framing is in doubt, refuse,
//! close, and never reuse the connection to the server.

mod chunks;
mod expect;
mod floods;
mod forwarded;
mod framing;
mod path;
mod request_line;
mod response;
mod tunnels;

use crate::support::{Backend, Proxy, all_to, backend, exchange, proxy};

/// A proxy in front of one server that keeps every byte it gets.
struct Stage {
    proxy: Proxy,
    server: Backend,
}

impl Stage {
    async fn new() -> Self {
        let server = backend("server").run().await;
        let proxy = proxy(&all_to(&[server.url()])).run().await;
        Self { proxy, server }
    }

    /// The request is turned away, the connection is closed, and the server never sees a request of it.
    async fn refuses(&self, what: &str, bytes: impl AsRef<[u8]>) {
        self.server.reset();
        let answer = exchange(self.proxy.addr("web"), bytes).await;
        assert!(
            answer.refused(),
            "{what}: must be refused and closed, got {:?} (closed: {})",
            answer.text(),
            answer.closed
        );
        assert_eq!(
            self.server.hits(),
            0,
            "{what}: reached the server: {:?}",
            self.server.seen()
        );
    }

    /// The request is served, and the server sees exactly these targets.
    async fn serves(&self, what: &str, bytes: impl AsRef<[u8]>, targets: &[&str]) {
        self.server.reset();
        let answer = exchange(self.proxy.addr("web"), bytes).await;
        assert_eq!(
            answer.statuses(),
            vec![200; targets.len()],
            "{what}: {:?}",
            answer.text()
        );
        assert_eq!(
            self.server
                .seen()
                .iter()
                .map(|seen| seen.target.as_str())
                .collect::<Vec<_>>(),
            targets,
            "{what}"
        );
    }
}
