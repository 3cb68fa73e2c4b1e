//! Listening sockets and the accept loop.

use std::{future::Future, io, net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::{
    EntryPoint,
    connection::{self, Open},
};
use crate::proxy::Worker;

/// Connections the kernel keeps ready for us (bounded by net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// How long accepting rests when the process is out of descriptors or memory.
const REST: Duration = Duration::from_millis(100);
/// TCP keep-alive of client connections (Traefik's period).
const KEEP_ALIVE: Duration = Duration::from_secs(180);

/// A bound socket of one worker.
pub type Listener = std::net::TcpListener;

/// Binds `count` sockets to one address, so that every worker has its own queue. Unless `shared` (the user's `reusePort`), an address
/// that another process has is refused.
pub fn bind(address: SocketAddr, count: usize, shared: bool) -> io::Result<Vec<Listener>> {
    if !shared && address.port() != 0 {
        // With SO_REUSEPORT a second proxy would silently share the port; without, the kernel tells us.
        open(address, false)?;
    }
    let first = open(address, true)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(open(address, true)?);
    }
    listeners.iter().try_for_each(listen)?;
    Ok(listeners)
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // `[::]` means both families, as in Go.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn listen(listener: &Listener) -> io::Result<()> {
    let socket = socket2::SockRef::from(listener);
    socket.listen(BACKLOG)?;
    // Accepted sockets inherit it.
    socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new()
            .with_time(KEEP_ALIVE)
            .with_interval(KEEP_ALIVE),
    )
}

/// Accepts connections until `close` is ready; what waits in the queue then is still accepted.
pub async fn run(
    listener: TcpListener,
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    close: impl Future<Output = ()>,
) {
    let mut close = pin!(close);
    let mut closing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut close, if !closing => {
                closing = true;
                continue;
            }
            () = std::future::ready(()), if closing => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                if worker.connections.get() >= entry.max_connections {
                    refuse(&entry, &worker);
                    continue;
                }
                tokio::task::spawn_local(connection::serve(
                    tcp,
                    peer,
                    Rc::clone(&entry),
                    Open::new(&worker, entry.index),
                ));
            }
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!(entryPointName = %entry.name, %error, "cannot accept connections; raise the limit of open files or lower transport.maxConnections");
                worker.snapshot().entry_points[entry.index]
                    .metrics
                    .connection_refused("accept_failed");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn refuse(entry: &EntryPoint, worker: &Worker) {
    worker.snapshot().entry_points[entry.index]
        .metrics
        .connection_refused("max_connections");
    if worker.may_warn() {
        tracing::warn!(entryPointName = %entry.name, limit = entry.max_connections, "connections refused: transport.maxConnections (this worker's share) is reached");
    }
}

/// Whether only the one connection failed, which its peer may have ended itself.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_and_strangers_do_not() {
        let ours = bind("127.0.0.1:0".parse().unwrap(), 2, false).unwrap();
        let address = ours[0].local_addr().unwrap();
        assert_eq!(ours[1].local_addr().unwrap(), address);
        assert_eq!(
            bind(address, 1, false).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        assert_eq!(bind(address, 1, true).unwrap().len(), 1);
    }
}
