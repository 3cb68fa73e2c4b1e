//! Carries requests to the engine: one connection each, over a Unix socket, TCP, TLS or the `ssh` command.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bollard::{BollardRequest, errors::Error};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderValue, Response, Uri, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, Join, ReadBuf},
    net::{TcpStream, UnixStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::endpoint::{Address, Endpoint};
use crate::{
    config::install::{DockerProvider, EngineTls},
    provider::tls,
};

/// The way to one engine.
#[derive(Debug)]
pub(super) struct Transport {
    endpoint: Endpoint,
    authorization: Option<HeaderValue>,
    /// What the paths of requests begin with, such as `/v1.41`.
    version: Mutex<String>,
    lines: mpsc::Sender<Line>,
    /// Told when the engine has answered a request for events: from then on it misses none.
    pub(super) subscribed: Notify,
}

/// A connection at work, to be polled until it ends.
type Line = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Polls the connections of a [`Transport`].
pub(super) struct Lines {
    new: mpsc::Receiver<Line>,
    open: FuturesUnordered<Line>,
}

impl Lines {
    /// Works for ever.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                Some(line) = self.new.recv() => self.open.push(line),
                Some(()) = self.open.next(), if !self.open.is_empty() => {}
                else => return,
            }
        }
    }
}

impl Transport {
    /// The way to `endpoint`, and what has to be polled for anything to move on it.
    pub(super) fn new(endpoint: Endpoint, options: &DockerProvider) -> (Arc<Self>, Lines) {
        let (lines, new) = mpsc::channel(LINES);
        let (user, password) = (&options.username, options.password.expose());
        let both = !user.is_empty() && !password.is_empty();
        let basic = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        let transport = Self {
            endpoint,
            authorization: both.then(|| HeaderValue::try_from(basic).ok()).flatten(),
            version: Mutex::default(),
            lines,
            subscribed: Notify::new(),
        };
        let open = FuturesUnordered::new();
        (Arc::new(transport), Lines { new, open })
    }

    /// The version of the API that the user wants.
    pub(super) fn wanted_version(&self) -> Option<&str> {
        self.endpoint.version.as_deref()
    }

    /// Makes all further requests speak this version of the API; none means the engine's own.
    pub(super) fn speak(&self, version: Option<&str>) {
        let prefix = version.map(|version| format!("/v{version}"));
        *self.prefix() = prefix.unwrap_or_default();
    }

    fn prefix(&self) -> MutexGuard<'_, String> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request on a connection of its own.
    pub(super) async fn send(
        self: Arc<Self>,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, Error> {
        let stream = timeout(DIAL_PATIENCE, self.dial());
        let stream = stream.await.map_err(|_| late())??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let line: Line = Box::pin(async move {
            // What goes wrong is told to whoever waits for the answer.
            connection.await.ok();
        });
        self.lines.send(line).await.map_err(|_| late())?;
        let is_events = request.uri().path().ends_with("/events");
        self.address(&mut request)?;
        let response = sender.send_request(request).await?;
        if is_events {
            self.subscribed.notify_one();
        }
        Ok(response)
    }

    /// Gives the request its path, with the version, and its fields.
    fn address(&self, request: &mut BollardRequest) -> Result<(), Error> {
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        let versioned = format!("{}{path}", self.prefix());
        *request.uri_mut() = versioned.parse::<Uri>().map_err(http::Error::from)?;
        let host = match &self.endpoint.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) | Address::Ssh { .. } => "docker".to_owned(),
        };
        let fields = request.headers_mut();
        fields.insert(
            header::HOST,
            HeaderValue::try_from(host).map_err(http::Error::from)?,
        );
        fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some(authorization) = &self.authorization {
            fields.insert(header::AUTHORIZATION, authorization.clone());
        }
        Ok(())
    }

    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        match &self.endpoint.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Ssh { destination, port } => Ok(Box::new(Tunnel::open(destination, *port)?)),
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.endpoint.tls {
                    None => Ok(Box::new(stream)),
                    Some(options) => {
                        let connector = connector(options.clone()).await?;
                        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                        Ok(Box::new(connector.connect(name, stream).await?))
                    }
                }
            }
        }
    }
}

/// TLS as configured; certificates are read anew for every connection, so that they can be renewed.
async fn connector(options: EngineTls) -> io::Result<TlsConnector> {
    let building = tokio::task::spawn_blocking(move || tls::client(&options));
    let config: io::Result<_> = building.await.map_err(io::Error::other)?;
    Ok(TlsConnector::from(config?))
}

fn late() -> Error {
    Error::RequestTimeoutError
}

/// Any connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The standard streams of `ssh … docker system dial-stdio`, which joins them to the socket over there.
struct Tunnel {
    streams: Join<ChildStdout, ChildStdin>,
    /// Ends with the tunnel.
    _child: Child,
}

impl Tunnel {
    fn open(destination: &str, port: Option<u16>) -> io::Result<Self> {
        let mut command = Command::new("ssh");
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["-o", "BatchMode=yes", "--", destination]);
        command.args(["docker", "system", "dial-stdio"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        match (child.stdout.take(), child.stdin.take()) {
            (Some(stdout), Some(stdin)) => Ok(Self {
                streams: tokio::io::join(stdout, stdin),
                _child: child,
            }),
            _ => Err(io::Error::other("ssh has no standard streams")),
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.streams).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.streams).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.streams).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.streams).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({} open)", self.open.len())
    }
}

/// Connections that may wait to be polled first.
const LINES: usize = 64;
const DIAL_PATIENCE: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("Portway/", env!("CARGO_PKG_VERSION"));
