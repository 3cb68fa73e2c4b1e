//! The connection of one probe: where it goes, and HTTP over it.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::service::{HealthCheck, Scheme, Server};

/// Where a probe goes.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    pub(super) server: &'a Server,
    pub(super) scheme: Scheme,
    pub(super) port: u16,
    /// Host and port, as the `Host` field has them.
    pub(super) host: HeaderValue,
}

/// The head of an answer and the little of its body that matters.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: http::response::Parts,
    pub(super) body: Bytes,
    pub(super) trailers: http::HeaderMap,
}

/// A body is read so far and for so long, so that a small one does not end in a reset; its content only matters to gRPC.
const MOST_BODY: usize = 64 * 1024;
const BODY_PATIENCE: Duration = Duration::from_millis(250);

impl<'a> Line<'a> {
    /// The server's own door, or the one the check's `scheme` and `port` name.
    pub(super) fn new(server: &'a Server, check: &HealthCheck) -> Self {
        let scheme = check.scheme.unwrap_or(server.scheme);
        let own_port = match has_port(server) || scheme == server.scheme {
            true => server.port,
            // A URL without a port follows the scheme.
            false => scheme.default_port(),
        };
        let port = check.port.unwrap_or(own_port);
        let host = match (&check.hostname, check.port) {
            (Some(hostname), _) => hostname.clone(),
            (None, None) => server.authority.clone(),
            (None, Some(port)) => with_port(&server.host, port),
        };
        Self {
            server,
            scheme,
            port,
            host,
        }
    }

    /// Sends a request with path and query `target`, and reads the answer.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let (io, negotiated) = self.connect().await?;
        let io = TokioIo::new(io);
        if self.scheme == Scheme::H2c || negotiated {
            *request.uri_mut() = self.absolute(request.uri())?;
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(64 * 1024)
                .handshake(io)
                .await
                .map_err(|error| explain(&error))?;
            let exchange = async { read(sender.send_request(request).await).await };
            return drive(exchange, connection).await;
        }
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(io)
            .await
            .map_err(|error| explain(&error))?;
        let exchange = async { read(sender.send_request(request).await).await };
        drive(exchange, connection).await
    }

    /// True if HTTP/2 was negotiated.
    async fn connect(&self) -> Result<(Box<dyn Io>, bool), String> {
        let tcp = self.dial().await?;
        if self.scheme != Scheme::Https {
            return Ok((Box::new(tcp), false));
        }
        let transport = &self.server.transport;
        let name = transport.server_name.as_deref();
        let name = ServerName::try_from(name.unwrap_or(&self.server.host).to_owned())
            .map_err(|_| "the TLS server name is not valid".to_owned())?;
        let tls = TlsConnector::from(Arc::clone(&transport.tls))
            .connect(name, tcp)
            .await
            .map_err(|error| format!("TLS handshake failed: {error}"))?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(tls), h2))
    }

    async fn dial(&self) -> Result<TcpStream, String> {
        let address = self
            .server
            .address
            .ok_or("the host name does not resolve")?;
        let to = |address: SocketAddr| SocketAddr::new(address.ip(), self.port);
        let connected = match (TcpStream::connect(to(address)).await, self.server.alternate) {
            (Err(_), Some(alternate)) => TcpStream::connect(to(alternate)).await,
            (outcome, _) => outcome,
        };
        connected.map_err(|error| format!("cannot connect to {}: {error}", to(address)))
    }

    fn absolute(&self, target: &Uri) -> Result<Uri, String> {
        let scheme = if self.scheme == Scheme::Https {
            "https"
        } else {
            "http"
        };
        Uri::builder()
            .scheme(scheme)
            .authority(self.host.as_bytes())
            .path_and_query(
                target
                    .path_and_query()
                    .map_or("/", |target| target.as_str()),
            )
            .build()
            .map_err(|error| format!("the request cannot be written: {error}"))
    }
}

/// Anything HTTP can be spoken over.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// `host:port`, with brackets around IPv6.
pub(super) fn with_port(host: &str, port: u16) -> HeaderValue {
    let text = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Runs the connection for as long as the exchange takes.
async fn drive<T>(
    exchange: impl Future<Output = T>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> T {
    let mut exchange = pin!(exchange);
    // Awaited inside a block of its own, so that it is dropped as soon as it ends: a request still queued in it fails only then.
    let connection = pin!(async move { drop(connection.await) });
    tokio::select! {
        outcome = &mut exchange => outcome,
        // The connection may end before its answer was taken up; how it ended is the exchange's to say.
        () = connection => exchange.await,
    }
}

async fn read(answer: hyper::Result<Response<Incoming>>) -> Result<Reply, String> {
    let (head, body) = answer.map_err(|error| explain(&error))?.into_parts();
    let collected = timeout(BODY_PATIENCE, Limited::new(body, MOST_BODY).collect()).await;
    let (body, trailers) = match collected {
        Ok(Ok(collected)) => {
            let trailers = collected.trailers().cloned().unwrap_or_default();
            (collected.to_bytes(), trailers)
        }
        // Too long, too slow or cut off: the head has said what there is to say.
        _ => Default::default(),
    };
    Ok(Reply {
        head,
        body,
        trailers,
    })
}

/// The innermost cause, which is the one that says what happened.
fn explain(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match error.is_incomplete_message() {
        true => "the connection was closed without an answer".to_owned(),
        false => format!("the exchange failed: {cause}"),
    }
}

fn has_port(server: &Server) -> bool {
    let authority = server.authority.as_bytes();
    match memchr::memrchr(b':', authority) {
        Some(at) => !authority[at..].contains(&b']'),
        None => false,
    }
}

/// What we call ourselves to servers.
pub(super) const USER_AGENT: (HeaderName, HeaderValue) = (
    header::USER_AGENT,
    HeaderValue::from_static(concat!("Portway-HealthCheck/", env!("CARGO_PKG_VERSION"))),
);
