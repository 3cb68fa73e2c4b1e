//! Dials servers.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    exchange::{Fault, FaultKind},
    service::{Scheme, Server, Transport},
    wire::Stream,
};

/// A connection for HTTP/1.1: plain, or TLS without HTTP/2.
pub async fn dial_h1(server: &Server) -> Result<Stream, Fault> {
    let tcp = dial(server).await?;
    if server.scheme != Scheme::Https {
        return Ok(Stream::Tcp(tcp));
    }
    let config = Arc::clone(&server.transport.tls_http1);
    encrypt(server, tcp, config).await.map(|(stream, _)| stream)
}

/// A plain connection for HTTP/2 by prior knowledge.
pub async fn dial_h2c(server: &Server) -> Result<Stream, Fault> {
    dial(server).await.map(Stream::Tcp)
}

/// A TLS connection that offers both; true if the server chose HTTP/2.
pub async fn dial_negotiated(server: &Server) -> Result<(Stream, bool), Fault> {
    let tcp = dial(server).await?;
    encrypt(server, tcp, Arc::clone(&server.transport.tls)).await
}

async fn dial(server: &Server) -> Result<TcpStream, Fault> {
    let refused = Fault::server(FaultKind::Connect);
    let address = server.address.ok_or(refused)?;
    match (connect(server, address).await, server.alternate) {
        // A connect that timed out has had all the time there is.
        (Err(fault), Some(alternate)) if fault.kind == FaultKind::Connect => {
            connect(server, alternate).await
        }
        (outcome, _) => outcome,
    }
}

/// Whether a connection can be made; it is closed at once.
pub async fn reach(server: &Server) -> Result<(), Fault> {
    dial(server).await.map(drop)
}

async fn connect(server: &Server, address: SocketAddr) -> Result<TcpStream, Fault> {
    let mut connecting = pin!(TcpStream::connect(address));
    let timeout = server.transport.dial_timeout;
    let started = Instant::now();
    let connected = loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        let slice = left.map_or(LOOK_UP, |left| left.min(LOOK_UP));
        match tokio::time::timeout(slice, &mut connecting).await {
            Ok(connected) => break connected,
            Err(_) if left == Some(slice) => break Err(io::ErrorKind::TimedOut.into()),
            // Of a container that is gone nobody says that it does not answer: its address is just silent.
            Err(_) if server.is_leaving() => break Err(io::ErrorKind::HostUnreachable.into()),
            Err(_) => {}
        }
    };
    match connected {
        Ok(tcp) => {
            // Heads and bodies are written whole, so waiting for more data would only delay them. A socket that refuses the
            // option is dead already, and the next write says so.
            drop(tcp.set_nodelay(true));
            Ok(tcp)
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(Fault::server(FaultKind::ConnectTimeout))
        }
        Err(_) => Err(Fault::server(FaultKind::Connect)),
    }
}

/// How often a connect that takes long looks whether its server is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

async fn encrypt(
    server: &Server,
    tcp: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<(Stream, bool), Fault> {
    let name = tls_name(server)?;
    let handshake = TlsConnector::from(config).connect(name, tcp);
    match tokio::time::timeout(Transport::HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(tls)) => {
            let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((Stream::Dialled(Box::new(tls)), h2))
        }
        Ok(Err(error)) => {
            tracing::debug!(server = %server.name, %error, "TLS handshake with the server failed");
            Err(Fault::server(FaultKind::Tls))
        }
        Err(_) => Err(Fault::server(FaultKind::ConnectTimeout)),
    }
}

fn tls_name(server: &Server) -> Result<ServerName<'static>, Fault> {
    let name = server
        .transport
        .server_name
        .as_deref()
        .unwrap_or(&server.host);
    ServerName::try_from(name.to_owned()).map_err(|_| Fault::server(FaultKind::Tls))
}
