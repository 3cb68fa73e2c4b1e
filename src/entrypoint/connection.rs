//! From an accepted socket to a protocol: PROXY header, TLS or not, HTTP/2 or HTTP/1.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::SystemTime,
};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderValue;
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::{
    EntryPoint, LAST_CALL, http1, http2,
    limit::Place,
    proxy_protocol::{self, Outcome},
};
use crate::{
    exchange::{Connection, Memo, TlsSession},
    observe::EntryPointMetrics,
    proxy::Worker,
    tls::accept,
    wire::{Deadline, Stream, stream::Rewind},
};

/// First bytes of HTTP/2 by prior knowledge (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Stands for an address that the system does not tell.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// First byte of a TLS record that starts a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves one client connection to its end.
pub(super) async fn serve(tcp: TcpStream, peer: SocketAddr, entry: Rc<EntryPoint>, open: Open) {
    let worker = Rc::clone(&open.worker);
    // Answers are written whole, so waiting for more data would only delay them.
    drop(tcp.set_nodelay(true));
    let mut start = Start {
        tcp,
        bytes: BytesMut::new(),
        peer,
    };
    let deadline = Deadline::new();
    deadline.set(entry.timeouts.header);
    let of = (&worker, entry.index);
    let ready = within(&deadline, of, start.read_first(&entry)).await;
    let ready = ready.flatten();
    let Some(protocol) = ready else { return };
    if protocol == Protocol::Tls {
        Box::pin(serve_tls(start, entry, worker, &deadline)).await;
    } else {
        drop(deadline);
        serve_plain(start, protocol, entry, worker).await;
    }
    drop(open);
}

async fn serve_plain(start: Start, protocol: Protocol, entry: Rc<EntryPoint>, worker: Rc<Worker>) {
    let connection = start.connection(&entry, None);
    if protocol == Protocol::Http2 {
        let stream = Stream::Rewound(Rewind::new(start.bytes.freeze(), start.tcp));
        return Box::pin(http2::serve(stream, entry, worker, connection)).await;
    }
    http1::Server::new(
        Stream::Tcp(start.tcp),
        start.bytes,
        entry,
        worker,
        connection,
    )
    .serve()
    .await;
}

async fn serve_tls(start: Start, entry: Rc<EntryPoint>, worker: Rc<Worker>, deadline: &Deadline) {
    let table = worker.snapshot().entry_points[entry.index].tls.clone();
    let Start { tcp, bytes, peer } = start;
    let local = tcp
        .local_addr()
        .map_or(UNKNOWN.ip(), |address| address.ip());
    let stream = Rewind::new(bytes.freeze(), tcp);
    let handshake = Box::pin(accept(&table, stream, local, &worker.challenges));
    let (stream, session) = match within(deadline, (&worker, entry.index), handshake).await {
        Some(Ok(accepted)) => accepted,
        Some(Err(error)) => {
            tracing::debug!(entryPointName = %entry.name, %peer, %error, "TLS handshake failed");
            return;
        }
        None => {
            if !worker.is_draining(entry.index) {
                worker.timed_out(entry.index, "tls", entry.timeouts.header_option(), &peer);
            }
            return;
        }
    };
    deadline.clear();
    let h2 = session.h2;
    let stream = Stream::Accepted(Box::new(stream));
    let connection = connection(&entry, peer, stream.tcp(), Some(session));
    if h2 {
        return Box::pin(http2::serve(stream, entry, worker, connection)).await;
    }
    http1::Server::new(stream, BytesMut::new(), entry, worker, connection)
        .serve()
        .await;
}

/// A connection of which only the first bytes are known.
struct Start {
    tcp: TcpStream,
    bytes: BytesMut,
    peer: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tls,
    Http1,
    Http2,
}

impl Start {
    /// Reads until it is clear what is spoken; none if the peer left or sent nonsense.
    async fn read_first(&mut self, entry: &EntryPoint) -> Option<Protocol> {
        let mut awaiting_proxy = entry.proxy_protocol.is_some();
        loop {
            if !self.bytes.is_empty() {
                if awaiting_proxy {
                    awaiting_proxy = !self.take_proxy_header(entry)?;
                }
                if !awaiting_proxy && let Some(protocol) = sniff(&self.bytes) {
                    return Some(protocol);
                }
            }
            self.bytes.reserve(2048);
            match self.tcp.read_buf(&mut self.bytes).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    }

    /// Whether the PROXY header is dealt with; none if it is malformed.
    fn take_proxy_header(&mut self, entry: &EntryPoint) -> Option<bool> {
        match proxy_protocol::parse(&self.bytes) {
            Outcome::Incomplete => return Some(false),
            Outcome::NotProxy => {}
            Outcome::Malformed(reason) => {
                tracing::debug!(entryPointName = %entry.name, peer = %self.peer, reason, "malformed PROXY header");
                return None;
            }
            Outcome::Header {
                source, consumed, ..
            } => {
                self.bytes.advance(consumed);
                let believed = entry
                    .proxy_protocol
                    .as_ref()
                    .is_some_and(|trust| trust.includes(self.peer.ip()));
                // From anybody else the header is read past, as Traefik does: the peer stays who it is.
                if let Some(source) = source
                    && believed
                {
                    self.peer = source;
                }
            }
        }
        Some(true)
    }

    fn connection(&self, entry: &EntryPoint, tls: Option<TlsSession>) -> Rc<Connection> {
        connection(entry, self.peer, &self.tcp, tls)
    }
}

fn connection(
    entry: &EntryPoint,
    peer: SocketAddr,
    tcp: &TcpStream,
    tls: Option<TlsSession>,
) -> Rc<Connection> {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let text = Bytes::from(peer.ip().to_string());
    Rc::new(Connection {
        entry_point: entry.name.clone(),
        peer,
        local: tcp.local_addr().unwrap_or(UNKNOWN),
        // An address is always fit for a header.
        peer_ip: HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static("")),
        trusted: entry.forwarded.includes(peer.ip()),
        patience: entry.timeouts.read.or(entry.timeouts.progress),
        tls,
        memo: Memo::default(),
    })
}

fn sniff(bytes: &[u8]) -> Option<Protocol> {
    let &first = bytes.first()?;
    if first == TLS_HANDSHAKE {
        return Some(Protocol::Tls);
    }
    let length = bytes.len().min(PREFACE.len());
    match (
        bytes[..length] == PREFACE[..length],
        length == PREFACE.len(),
    ) {
        (false, _) => Some(Protocol::Http1),
        (true, true) => Some(Protocol::Http2),
        (true, false) => None,
    }
}

/// The outcome of `work`, or none if the deadline comes first. A drain of the entry point does not wait for it as long.
pub(super) async fn within<T>(
    deadline: &Deadline,
    (worker, entry_point): (&Rc<Worker>, usize),
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    let mut hurried = false;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        // What had arrived before the drain has been looked at by now.
        if !hurried && worker.is_draining(entry_point) {
            hurried = true;
            deadline.set(Some(LAST_CALL));
        }
        deadline.poll_expired(cx).map(|()| None)
    })
    .await
}

/// Counts an open connection, from the moment it is accepted: the accept loop may take many before the first of them has its turn.
pub(super) struct Open {
    worker: Rc<Worker>,
    metrics: EntryPointMetrics,
    _place: Option<Place>,
}

impl Open {
    pub(super) fn new(worker: &Rc<Worker>, index: usize, place: Option<Place>) -> Self {
        let metrics = worker.snapshot().entry_points[index].metrics.clone();
        metrics.connection_opened();
        worker.connections.set(worker.connections.get() + 1);
        Self {
            worker: Rc::clone(worker),
            metrics,
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connection_closed();
        self.worker
            .connections
            .set(self.worker.connections.get() - 1);
        self.worker.closed.notify_one();
    }
}

struct CachedDate {
    second: u64,
    value: HeaderValue,
}

thread_local! {
    static DATE: RefCell<CachedDate> = const { RefCell::new(CachedDate { second: 0, value: HeaderValue::from_static("") }) };
}

/// The value of a `Date` field for now, made once per second.
pub(super) fn date() -> HeaderValue {
    with_date(HeaderValue::clone)
}

/// Appends a `Date` field.
pub(super) fn write_date(out: &mut Vec<u8>) {
    with_date(|value| {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}

fn with_date<T>(with: impl FnOnce(&HeaderValue) -> T) -> T {
    let now = SystemTime::now();
    let second = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|cached| {
        if cached.second != second || cached.value.is_empty() {
            cached.second = second;
            cached.value = HeaderValue::from_str(&httpdate::fmt_http_date(now))
                .unwrap_or(HeaderValue::from_static(""));
        }
        with(&cached.value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<A, B, C, D, F: Future>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = future_size(serve);
        assert!(size <= 1536, "{size} bytes per connection");
    }

    #[test]
    fn protocols_are_told_apart_by_their_first_bytes() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01"[..], Some(Protocol::Tls)),
            (b"G", Some(Protocol::Http1)),
            (b"P", None),
            (b"PR", None),
            (b"PO", Some(Protocol::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxx",
                Some(Protocol::Http2),
            ),
            (b"PRI * HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"", None),
        ] {
            assert_eq!(sniff(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn date_is_a_http_date() {
        assert!(httpdate::parse_http_date(date().to_str().unwrap()).is_ok());
    }
}
