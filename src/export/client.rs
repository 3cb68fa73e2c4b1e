//! One collector: where it is, and how a message gets there over HTTP or gRPC.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    config::{
        install::{OtlpGrpc, OtlpHttp, OtlpTls},
        units::FileOrContent,
    },
    observe::Signal,
    upstream::transport::{KeyPair, TransportSettings, system_roots},
};

/// The way to one collector, with its connection while there is one.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) signal: Signal,
    grpc: bool,
    uri: Uri,
    /// None: without TLS.
    tls: Option<OtlpTls>,
    headers: HeaderMap,
    line: Option<Line>,
    /// Drives the connection.
    driver: JoinSet<()>,
}

#[derive(Debug)]
enum Line {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// Why a message was not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Whether it may be taken later.
    pub(super) again: bool,
    /// Whether the collector said so.
    answered: bool,
}

impl Refusal {
    fn later(reason: impl Into<Error>) -> Self {
        Self {
            reason: reason.into().to_string(),
            again: true,
            answered: false,
        }
    }
}

impl Client {
    /// The collector of `grpc` if that is configured, else that of `http`, else the usual one.
    pub(super) fn new(
        signal: Signal,
        http: Option<&OtlpHttp>,
        grpc: Option<&OtlpGrpc>,
    ) -> Result<Self, String> {
        let (uri, headers, tls) = match (grpc, http) {
            (Some(grpc), _) if grpc.endpoint.contains('/') => {
                let wrong = &grpc.endpoint;
                return Err(format!(
                    "{wrong:?} is no usable endpoint: host and port alone"
                ));
            }
            (Some(grpc), _) => {
                let scheme = if grpc.insecure { "http" } else { "https" };
                let uri = format!("{scheme}://{}{}", grpc.endpoint, grpc_path(signal));
                let tls = (!grpc.insecure).then(|| grpc.tls.clone().unwrap_or_default());
                (uri, &grpc.headers, tls)
            }
            (None, http) => {
                let http = &http.cloned().unwrap_or_default();
                return Self::over_http(signal, http);
            }
        };
        Self::build(signal, true, &uri, headers, tls)
    }

    fn over_http(signal: Signal, http: &OtlpHttp) -> Result<Self, String> {
        let mut url = http.endpoint.clone();
        let has_path = url
            .split_once("://")
            .is_some_and(|(_, rest)| rest.contains('/'));
        if !has_path {
            url.push_str(http_path(signal));
        }
        let secure = !url.starts_with("http://");
        let tls = secure.then(|| http.tls.clone().unwrap_or_default());
        Self::build(signal, false, &url, &http.headers, tls)
    }

    fn build(
        signal: Signal,
        grpc: bool,
        url: &str,
        headers: &std::collections::BTreeMap<String, String>,
        tls: Option<OtlpTls>,
    ) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|_| format!("{url:?} is no usable endpoint"))?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known || uri.host().is_none_or(str::is_empty) {
            return Err(format!("{url:?} is no usable endpoint"));
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name
                .parse()
                .map_err(|_| format!("headers: {name:?} is no header name"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("headers: the value of {name} cannot be sent"))?;
            map.insert(name, value);
        }
        Ok(Self {
            signal,
            grpc,
            uri,
            tls,
            headers: map,
            line: None,
            driver: JoinSet::new(),
        })
    }

    /// The option that names the collector.
    pub(super) fn option(&self) -> &'static str {
        match (self.signal, self.grpc) {
            (Signal::Traces, false) => "tracing.otlp.http.endpoint",
            (Signal::Traces, true) => "tracing.otlp.grpc.endpoint",
            (Signal::Metrics, false) => "metrics.otlp.http.endpoint",
            (Signal::Metrics, true) => "metrics.otlp.grpc.endpoint",
            (Signal::AccessLog, false) => "accessLog.otlp.http.endpoint",
            (Signal::AccessLog, true) => "accessLog.otlp.grpc.endpoint",
            (Signal::Log, false) => "log.otlp.http.endpoint",
            (Signal::Log, true) => "log.otlp.grpc.endpoint",
        }
    }

    /// The collector, as far as it may be shown.
    pub(super) fn endpoint(&self) -> &str {
        let authority = self.uri.authority().map_or("", |it| it.as_str());
        authority.rsplit('@').next().unwrap_or_default()
    }

    /// Sends one message, a protobuf request of the signal's service.
    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let reused = self.is_open();
        match self.attempt(message).await {
            // It may have closed the connection just then.
            Err(refusal) if reused && !refusal.answered => self.attempt(message).await,
            sent => sent,
        }
    }

    async fn attempt(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let sent = match timeout(LIMIT, self.exchange(message)).await {
            Ok(sent) => sent,
            Err(_) => Err(Refusal::later(format!("no answer within {LIMIT:?}"))),
        };
        if sent.is_err() {
            self.line = None;
        }
        sent
    }

    async fn exchange(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let packed = gzip(message).map_err(Refusal::later)?;
        let request = self.request(packed).map_err(Refusal::later)?;
        if !self.is_open() {
            self.line = Some(self.connect().await.map_err(Refusal::later)?);
        }
        let answer = match &mut self.line {
            Some(Line::One(sender)) => {
                sender.ready().await.map_err(Refusal::later)?;
                sender.send_request(request).await
            }
            Some(Line::Two(sender)) => {
                sender.ready().await.map_err(Refusal::later)?;
                sender.send_request(request).await
            }
            None => return Err(Refusal::later("there is no connection")),
        };
        let (head, body) = answer.map_err(Refusal::later)?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let trailers = body
            .map_err(Refusal::later)?
            .trailers()
            .cloned()
            .unwrap_or_default();
        match self.grpc {
            false => accepted(head.status),
            true => grpc_accepted(head.status, &head.headers, &trailers),
        }
    }

    fn is_open(&self) -> bool {
        match &self.line {
            Some(Line::One(sender)) => !sender.is_closed(),
            Some(Line::Two(sender)) => !sender.is_closed(),
            None => false,
        }
    }

    fn request(&self, packed: Vec<u8>) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(Method::POST);
        let (body, uri) = match self.grpc {
            true => (framed(&packed), self.uri.clone()),
            false => {
                let path = self.uri.path_and_query();
                let uri = path.map_or("/", |path| path.as_str()).parse()?;
                (packed.into(), uri)
            }
        };
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
            let agent = concat!("portway/", env!("CARGO_PKG_VERSION"));
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
            let (kind, encoding) = match self.grpc {
                true => ("application/grpc", &GRPC_ENCODING),
                false => ("application/x-protobuf", &header::CONTENT_ENCODING),
            };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(encoding, HeaderValue::from_static("gzip"));
            if self.grpc {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            } else if !headers.contains_key(header::HOST) {
                headers.insert(header::HOST, HeaderValue::from_str(self.endpoint())?);
            }
        }
        request.uri(uri).body(Full::new(body))
    }

    async fn connect(&mut self) -> Result<Line, Error> {
        let host = self.uri.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let tcp = dial(&host, self.uri.port_u16().unwrap_or(usual)).await?;
        let Some(options) = self.tls.clone() else {
            return self.open(tcp).await;
        };
        let grpc = self.grpc;
        // Read anew for every connection, so that certificates can be renewed.
        let config = tokio::task::spawn_blocking(move || tls(&options, grpc)).await??;
        let name = ServerName::try_from(host)?;
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        self.open(stream).await
    }

    async fn open<S>(&mut self, stream: S) -> Result<Line, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.driver.abort_all();
        while self.driver.try_join_next().is_some() {}
        let io = TokioIo::new(stream);
        if self.grpc {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            // How it ended is told by the request that it fails.
            self.driver.spawn(async move { drop(connection.await) });
            return Ok(Line::Two(sender));
        }
        let (sender, connection) = http1::handshake(io).await?;
        self.driver.spawn(async move { drop(connection.await) });
        Ok(Line::One(sender))
    }
}

/// Of the addresses of a host the first that answers.
async fn dial(host: &str, port: u16) -> Result<TcpStream, Error> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let tcp = TcpStream::connect(&*addresses).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn tls(options: &OtlpTls, grpc: bool) -> Result<Arc<ClientConfig>, Error> {
    let mut settings = TransportSettings::new("collector".into());
    settings.insecure_skip_verify = options.insecure_skip_verify;
    if !options.ca.is_empty() {
        settings.root_cas = vec![pem(&options.ca)?];
    }
    if !options.cert.is_empty() {
        settings.certificates = vec![KeyPair {
            chain: pem(&options.cert)?,
            key: pem(&options.key)?,
        }];
    }
    let transport = settings.build(None, &system_roots().0)?;
    let mut config = (*transport.tls_http1).clone();
    if grpc {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(Arc::new(config))
}

fn pem(source: &FileOrContent) -> Result<Vec<u8>, Error> {
    match (source.content(), source.path()) {
        (Some(content), _) => Ok(content.as_bytes().to_vec()),
        (None, Some(path)) => {
            Ok(std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?)
        }
        (None, None) => Ok(Vec::new()),
    }
}

fn gzip(message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message)?;
    encoder.finish()
}

/// A packed message as gRPC frames it.
fn framed(packed: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(packed.len() + 5);
    frame.put_u8(1);
    frame.put_u32(u32::try_from(packed.len()).unwrap_or(u32::MAX));
    frame.put_slice(packed);
    frame.freeze()
}

/// What the protocol says of statuses: which of them are worth another try.
fn accepted(status: StatusCode) -> Result<(), Refusal> {
    if status.is_success() {
        return Ok(());
    }
    Err(Refusal {
        reason: format!("it answered {status}"),
        again: matches!(status.as_u16(), 429 | 502 | 503 | 504),
        answered: true,
    })
}

fn grpc_accepted(
    status: StatusCode,
    headers: &HeaderMap,
    trailers: &HeaderMap,
) -> Result<(), Refusal> {
    if !status.is_success() {
        return accepted(status);
    }
    let field = |name: &str| {
        let value = trailers.get(name).or_else(|| headers.get(name))?;
        value.to_str().ok()
    };
    let code: Option<u16> = field("grpc-status").and_then(|code| code.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Refusal {
            reason: format!(
                "gRPC status {code}: {}",
                field("grpc-message").unwrap_or_default()
            ),
            again: AGAIN.contains(&code),
            answered: true,
        }),
        None => Err(Refusal::later("it answered without a gRPC status")),
    }
}

fn http_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
        Signal::AccessLog | Signal::Log => "/v1/logs",
    }
}

fn grpc_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::AccessLog | Signal::Log => {
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        }
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
const AGAIN: [u16; 7] = [1, 4, 8, 10, 11, 14, 15];
/// How long one exchange may take.
const LIMIT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::{Client, accepted, grpc_accepted};
    use crate::{
        config::install::{OtlpGrpc, OtlpHttp},
        observe::Signal,
    };

    #[test]
    fn collectors_are_where_the_options_say() {
        let http = |endpoint: &str| {
            let options = OtlpHttp {
                endpoint: endpoint.to_owned(),
                ..OtlpHttp::default()
            };
            Client::new(Signal::Traces, Some(&options), None)
        };
        let grpc = |endpoint: &str, insecure| {
            let options = OtlpGrpc {
                endpoint: endpoint.to_owned(),
                insecure,
                ..OtlpGrpc::default()
            };
            Client::new(Signal::Log, Some(&OtlpHttp::default()), Some(&options))
        };
        let logs = "opentelemetry.proto.collector.logs.v1.LogsService/Export";
        for (client, expected) in [
            (
                Client::new(Signal::Metrics, None, None),
                Some("https://localhost:4318/v1/metrics".to_owned()),
            ),
            (
                http("http://c:4318"),
                Some("http://c:4318/v1/traces".to_owned()),
            ),
            (http("https://c/own"), Some("https://c/own".to_owned())),
            (http("c:4318"), None),
            (http("ftp://c"), None),
            (http("http:///x"), None),
            (grpc("c:4317", true), Some(format!("http://c:4317/{logs}"))),
            (
                grpc("c:4317", false),
                Some(format!("https://c:4317/{logs}")),
            ),
            (grpc("http://c:4317", true), None),
        ] {
            let found = client.map(|client| {
                assert_eq!(
                    client.tls.is_some(),
                    client.uri.scheme_str() == Some("https")
                );
                client.uri.to_string()
            });
            assert_eq!(found.as_ref().ok(), expected.as_ref(), "{found:?}");
        }
    }

    #[test]
    fn what_is_worth_another_try() {
        for (status, expected) in [
            (200, None),
            (202, None),
            (400, Some(false)),
            (401, Some(false)),
            (429, Some(true)),
            (500, Some(false)),
            (503, Some(true)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(accepted(status).err().map(|it| it.again), expected);
        }
        for (code, expected) in [
            (Some("0"), None),
            (Some("3"), Some(false)),
            (Some("14"), Some(true)),
            (None, Some(true)),
        ] {
            let mut trailers = HeaderMap::new();
            if let Some(code) = code {
                trailers.insert("grpc-status", HeaderValue::from_static(code));
            }
            let found = grpc_accepted(StatusCode::OK, &HeaderMap::new(), &trailers);
            assert_eq!(found.err().map(|it| it.again), expected, "{code:?}");
        }
    }
}
