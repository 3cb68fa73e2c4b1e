//! Requests to an authority: HTTPS, one connection each.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    config::{install::AcmeResolver, units::FileOrContent},
    upstream::transport::system_roots,
};

/// How an authority is reached.
#[derive(Debug, Clone)]
pub(super) struct Http {
    tls: Arc<ClientConfig>,
    /// Expected in the certificate of the authority's site, if it is not the host of the URL.
    server_name: Option<ServerName<'static>>,
    whole: Duration,
    header: Duration,
}

/// What an authority answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Http {
    /// As `config` says; it reads files.
    pub(super) fn new(config: &AcmeResolver) -> Result<Self, String> {
        let name = match config.ca_server_name.as_str() {
            "" => std::env::var("LEGO_CA_SERVER_NAME").unwrap_or_default(),
            name => name.to_owned(),
        };
        let server_name = match name.as_str() {
            "" => None,
            name => {
                let parsed = ServerName::try_from(name.to_owned());
                Some(parsed.map_err(|_| format!("caServerName {name:?} is not a name"))?)
            }
        };
        let tls = ClientConfig::builder()
            .with_root_certificates(roots(config)?)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(tls),
            server_name,
            whole: config.client_timeout.positive().unwrap_or(Duration::MAX),
            header: config
                .client_response_header_timeout
                .positive()
                .unwrap_or(Duration::MAX),
        })
    }

    /// Sends one request.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, String> {
        let sent = timeout(self.whole, self.exchange(method, url, body));
        let answer = sent
            .await
            .unwrap_or_else(|_| Err("it takes too long".into()));
        answer.map_err(|error| format!("{url}: {error}"))
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, Error> {
        let url: Uri = url.parse()?;
        let host = url.host().ok_or("the URL has no host")?.to_owned();
        if url.scheme_str() != Some("https") {
            return Err("the URL is not https".into());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_u16().unwrap_or(443);
        let tcp = TcpStream::connect((bare, port)).await?;
        tcp.set_nodelay(true)?;
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(bare.to_owned())?,
        };
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let authority = url.authority().map_or(bare, |authority| authority.as_str());
        let request = request(method, path, authority, body)?;
        let exchanged = async {
            let answer = timeout(self.header, sender.send_request(request)).await;
            let answer = answer.map_err(|_| "it does not begin to answer in time")??;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        tokio::pin!(exchanged);
        tokio::select! {
            answer = &mut exchanged => answer,
            // The connection may end with the last byte of the answer.
            ended = connection => match ended {
                Ok(()) => exchanged.await,
                Err(error) => Err(error.into()),
            },
        }
    }
}

fn request(
    method: Method,
    path: &str,
    authority: &str,
    body: Option<Bytes>,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let agent = concat!("portway/", env!("CARGO_PKG_VERSION"));
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, agent);
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/jose+json");
    }
    request.body(Full::new(body.unwrap_or_default()))
}

fn roots(config: &AcmeResolver) -> Result<RootCertStore, String> {
    let mut sources = config.ca_certificates.clone();
    if sources.is_empty()
        && let Some(paths) = std::env::var_os("LEGO_CA_CERTIFICATES")
    {
        let paths = std::env::split_paths(&paths);
        sources.extend(paths.map(|path| FileOrContent::from(&*path.to_string_lossy())));
    }
    let pool = std::env::var("LEGO_CA_SYSTEM_CERT_POOL").is_ok_and(|value| value == "true");
    let mut roots = match sources.is_empty() || config.ca_system_cert_pool || pool {
        true => RootCertStore::clone(&system_roots().0),
        false => RootCertStore::empty(),
    };
    for source in &sources {
        add_roots(&mut roots, source)?;
    }
    Ok(roots)
}

fn add_roots(roots: &mut RootCertStore, source: &FileOrContent) -> Result<(), String> {
    let text = match (source.content(), source.path()) {
        (Some(text), _) => text.as_bytes().to_owned(),
        (None, Some(path)) => std::fs::read(path)
            .map_err(|error| format!("caCertificates {}: {error}", path.display()))?,
        (None, None) => return Ok(()),
    };
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|one| roots.add(one).map_err(|error| error.to_string()));
        added.map_err(|error| format!("caCertificates {source}: {error}"))?;
    }
    Ok(())
}

type Error = Box<dyn std::error::Error + Send + Sync>;

const LONGEST_ANSWER: usize = 1 << 20;
