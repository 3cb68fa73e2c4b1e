//! Listening sockets and the accept loop.

use std::{future::Future, io, net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::{
    ConnectionLimit, EntryPoint,
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
/// that another process has is refused. Nobody can connect before [`listen`].
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

/// Lets clients connect to the sockets of one address; from here on they count on being served. Unless `shared`, it is an error if
/// another process came first.
pub fn listen(listeners: &[Listener], shared: bool) -> io::Result<()> {
    if let (false, Some(first)) = (shared, listeners.first()) {
        // Two that have bound the port and do not listen yet do not disturb each other.
        open(first.local_addr()?, false)?;
    }
    for listener in listeners {
        let socket = socket2::SockRef::from(listener);
        socket.listen(BACKLOG)?;
        // Accepted sockets inherit it.
        socket.set_tcp_keepalive(
            &socket2::TcpKeepalive::new()
                .with_time(KEEP_ALIVE)
                .with_interval(KEEP_ALIVE),
        )?;
    }
    Ok(())
}

/// Accepts connections until `close` is ready; what waits in the queue then is still accepted.
pub async fn run(
    listener: TcpListener,
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    close: impl Future<Output = ()>,
) {
    let mut close = pin!(close);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut close => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => take(tcp, peer, &entry, &worker),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                cannot_accept(&entry, &worker, &error);
                tokio::time::sleep(REST).await;
            }
        }
    }
    if let Err(error) = empty(listener, &entry, &worker) {
        cannot_accept(&entry, &worker, &error);
    }
}

/// Accepts what waits in the queue, asking the kernel itself: the runtime knows only of what came before it last looked.
fn empty(listener: TcpListener, entry: &Rc<EntryPoint>, worker: &Rc<Worker>) -> io::Result<()> {
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((tcp, peer)) => {
                tcp.set_nonblocking(true)?;
                take(TcpStream::from_std(tcp)?, peer, entry, worker);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Serves a connection, if there is room for it.
fn take(tcp: TcpStream, peer: SocketAddr, entry: &Rc<EntryPoint>, worker: &Rc<Worker>) {
    if worker.connections.get() >= entry.worker_connections {
        return refuse_for_files(entry, worker);
    }
    let place = match &entry.limit {
        None => None,
        Some(limit) => match limit.enter() {
            None => return refuse_for_limit(entry, worker, limit),
            place => place,
        },
    };
    let open = Open::new(worker, entry.index, place);
    tokio::task::spawn_local(connection::serve(tcp, peer, Rc::clone(entry), open));
}

fn refuse_for_limit(entry: &EntryPoint, worker: &Worker, limit: &ConnectionLimit) {
    refused(entry, worker, "max_connections");
    if worker.may_warn() {
        tracing::warn!(entryPointName = %entry.name, limit = limit.most(), "connections refused: transport.maxConnections is reached");
    }
}

fn refuse_for_files(entry: &EntryPoint, worker: &Worker) {
    refused(entry, worker, "open_files");
    if worker.may_warn() {
        tracing::warn!(entryPointName = %entry.name, limit = entry.worker_connections, "connections refused: this worker's share of the limit of open files is used up; raise that limit (ulimit -n, LimitNOFILE)");
    }
}

fn cannot_accept(entry: &EntryPoint, worker: &Worker, error: &io::Error) {
    refused(entry, worker, "accept_failed");
    tracing::warn!(entryPointName = %entry.name, %error, "cannot accept connections; raise the limit of open files or lower transport.maxConnections");
}

fn refused(entry: &EntryPoint, worker: &Worker, reason: &'static str) {
    let snapshot = worker.snapshot();
    snapshot.entry_points[entry.index]
        .metrics
        .connection_refused(reason);
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
        // Another that has not noticed yet.
        let late = bind(address, 1, false).unwrap();
        listen(&ours, false).unwrap();
        for refused in [bind(address, 1, false).map(drop), listen(&late, false)] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        assert_eq!(bind(address, 1, true).unwrap().len(), 1);
    }
}
