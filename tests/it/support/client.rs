//! A client: one request, one connection, unless a [`Connection`] is asked for. Speaks HTTP/1.1, h2 and h2c, with or without TLS.

use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certs::{Authority, Identity};

pub type RequestBody = UnsyncBoxBody<Bytes, Infallible>;

/// Whom the client believes and who it says it is.
#[derive(Clone)]
pub struct Trust {
    config: ClientConfig,
    name: Option<String>,
}

/// Knows how to reach one address; cheap to clone.
#[derive(Clone)]
pub struct Client {
    addr: SocketAddr,
    host: String,
    h2: bool,
    trust: Option<Trust>,
}

/// One open connection, for several requests.
pub struct Connection {
    sender: Sender,
    host: String,
    scheme: &'static str,
    /// The certificate that the server showed, DER.
    pub certificate: Option<Vec<u8>>,
}

enum Sender {
    H1(http1::SendRequest<RequestBody>),
    H2(http2::SendRequest<RequestBody>),
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// A request being built; await it to send it.
pub struct Call {
    client: Client,
    method: Method,
    target: String,
    host: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<RequestBody>,
}

impl Trust {
    /// Believes `authority` only.
    pub fn new(authority: &Authority) -> Self {
        Self::build(authority)
    }

    /// Believes the authorities in a PEM text only.
    pub fn pem(text: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(text) {
            roots.add(root.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
        Self { config, name: None }
    }

    /// Sends `name` in the handshake; without it, the host of the request.
    pub fn sni(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Believes whatever certificate is shown.
    pub fn anyone() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(super::certs::Credulous(provider)))
            .with_no_client_auth();
        Self { config, name: None }
    }

    /// Shows `identity` when asked for a certificate.
    pub fn identity(mut self, identity: &Identity) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        self.config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(super::certs::Credulous(provider)))
            .with_client_auth_cert(identity.chain(), identity.key())
            .unwrap();
        self
    }

    /// Speaks one version of TLS only, and believes everything.
    pub fn only(mut self, version: &'static rustls::SupportedProtocolVersion) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        self.config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(super::certs::Credulous(provider)))
            .with_no_client_auth();
        self
    }

    fn build(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
        Self { config, name: None }
    }
}

impl Client {
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            host: addr.to_string(),
            h2: false,
            trust: None,
        }
    }

    /// The Host (or `:authority`) of every request.
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub fn tls(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// HTTP/2: by ALPN over TLS, by prior knowledge otherwise.
    pub fn h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    pub fn get(&self, target: &str) -> Call {
        self.call("GET", target)
    }

    pub fn post(&self, target: &str, body: impl Into<Bytes>) -> Call {
        self.call("POST", target).body(body)
    }

    pub fn call(&self, method: &str, target: &str) -> Call {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Call {
            client: self.clone(),
            method,
            target: target.to_owned(),
            host: None,
            headers: Vec::new(),
            body: None,
        }
    }

    /// Opens a connection that outlives one request.
    pub async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let (host, scheme) = (
            self.host.clone(),
            if self.trust.is_some() {
                "https"
            } else {
                "http"
            },
        );
        let Some(trust) = &self.trust else {
            let sender = self.handshake(TokioIo::new(stream)).await?;
            return Ok(Connection {
                sender,
                host,
                scheme,
                certificate: None,
            });
        };
        let stream = self.tls_stream(trust, stream).await?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.to_vec());
        let sender = self.handshake(TokioIo::new(stream)).await?;
        Ok(Connection {
            sender,
            host,
            scheme,
            certificate,
        })
    }

    async fn tls_stream(
        &self,
        trust: &Trust,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut config = trust.config.clone();
        config.alpn_protocols = vec![if self.h2 {
            b"h2".to_vec()
        } else {
            b"http/1.1".to_vec()
        }];
        let host = self
            .host
            .rsplit_once(':')
            .map_or(self.host.as_str(), |(host, _)| host);
        let name = trust.name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    async fn handshake(
        &self,
        io: impl hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    ) -> io::Result<Sender> {
        if self.h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(connection);
            Ok(Sender::H2(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
            tokio::spawn(connection.with_upgrades());
            Ok(Sender::H1(sender))
        }
    }
}

impl Connection {
    pub async fn get(&mut self, target: &str) -> Answer {
        let request = self.request("GET", target, &[], None);
        self.send(request).await.unwrap()
    }

    /// Builds a request in the form that the protocol of this connection wants.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: Option<RequestBody>,
    ) -> Request<RequestBody> {
        let mut builder = Request::builder().method(method);
        builder = match &self.sender {
            Sender::H1(_) => builder.uri(target).header("Host", self.host.as_str()),
            Sender::H2(_) => builder.uri(format!("{}://{}{target}", self.scheme, self.host)),
        };
        let mut request = builder
            .body(body.unwrap_or_else(|| full(Bytes::new())))
            .unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request
                .headers_mut()
                .append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request
    }

    /// Sends a request and collects the whole answer.
    pub async fn send(&mut self, request: Request<RequestBody>) -> io::Result<Answer> {
        let response = self.start(request).await?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.map_err(io::Error::other)?;
        let trailers = collected.trailers().cloned();
        let (status, version, headers) = (parts.status.as_u16(), parts.version, parts.headers);
        Ok(Answer {
            status,
            version,
            headers,
            body: collected.to_bytes(),
            trailers,
        })
    }

    /// Sends a request and returns as soon as the head of the answer is there.
    pub async fn start(
        &mut self,
        request: Request<RequestBody>,
    ) -> io::Result<http::Response<hyper::body::Incoming>> {
        let sent = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
            Sender::H2(sender) => {
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
        };
        sent.map_err(io::Error::other)
    }

    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }
}

impl Call {
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(full(body.into()));
        self
    }

    /// A body of any kind: streamed, with trailers.
    pub fn stream(mut self, body: RequestBody) -> Self {
        self.body = Some(body);
        self
    }

    /// Sends it and returns when the head of the answer is there, with the connection that must be kept.
    pub async fn start(
        mut self,
    ) -> io::Result<(http::Response<hyper::body::Incoming>, Connection)> {
        if let Some(host) = self.host.take() {
            self.client.host = host;
        }
        let mut connection = self.client.connect().await?;
        let request =
            connection.request(self.method.as_str(), &self.target, &self.headers, self.body);
        let response = connection.start(request).await?;
        Ok((response, connection))
    }

    /// Sends it; an error is a connection that failed before the end of the answer.
    pub async fn try_send(mut self) -> io::Result<Answer> {
        if let Some(host) = self.host.take() {
            self.client.host = host;
        }
        let exchange = async {
            let mut connection = self.client.connect().await?;
            let request =
                connection.request(self.method.as_str(), &self.target, &self.headers, self.body);
            connection.send(request).await
        };
        tokio::time::timeout(Duration::from_secs(30), exchange)
            .await
            .map_err(io::Error::other)?
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let what = format!("{} {}", self.method, self.target);
        Box::pin(async move {
            self.try_send()
                .await
                .unwrap_or_else(|error| panic!("{what}: {error:?}"))
        })
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Which back end answered.
    pub fn backend(&self) -> &str {
        self.header("x-backend").unwrap_or("none")
    }

    /// The first cookie set, as `name=value`.
    pub fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")
            .map(|cookie| cookie.split(';').next().unwrap_or_default())
    }
}

pub fn full(bytes: Bytes) -> RequestBody {
    Full::new(bytes).boxed_unsync()
}
