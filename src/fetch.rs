//! Requests of our own to others: to authorities, to those who change zones, to OCSP responders. One connection each.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How others are reached.
#[derive(Debug, Clone)]
pub struct Http {
    tls: Arc<ClientConfig>,
    /// Expected in the certificate, if it is not the host of the URL.
    server_name: Option<ServerName<'static>>,
    whole: Duration,
    header: Duration,
    longest: usize,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Http {
    /// Trusts `roots`, and has so much patience with a whole exchange.
    pub fn new(roots: impl Into<Arc<RootCertStore>>, whole: Duration) -> Self {
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: Arc::new(tls),
            server_name: None,
            whole,
            header: whole,
            longest: LONGEST_ANSWER,
        }
    }

    /// Speaks TLS in this way instead.
    pub fn over(self, tls: Arc<ClientConfig>) -> Self {
        Self { tls, ..self }
    }

    /// Expects this name in the certificate.
    pub fn named(self, server_name: Option<ServerName<'static>>) -> Self {
        Self {
            server_name,
            ..self
        }
    }

    /// Expects that an answer begins within this time.
    pub fn beginning_within(self, header: Duration) -> Self {
        Self { header, ..self }
    }

    /// Takes no answer with a longer body.
    pub fn at_most(self, longest: usize) -> Self {
        Self { longest, ..self }
    }

    /// Sends one request. Errors name no more of the URL than host and path.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, String> {
        let target = Target::of(url)?;
        let shown = target.shown();
        let request = target.request(method, headers, body);
        let request = request.map_err(|error| format!("{shown}: {error}"))?;
        let sent = timeout(self.whole, self.exchange(&target, request)).await;
        let answer = sent.unwrap_or_else(|_| Err("it takes too long".into()));
        answer.map_err(|error| format!("{shown}: {error}"))
    }

    async fn exchange(
        &self,
        target: &Target,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Error> {
        let tcp = TcpStream::connect((target.bare(), target.port)).await?;
        tcp.set_nodelay(true)?;
        if !target.tls {
            return self.talk(tcp, request).await;
        }
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(target.bare().to_owned())?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        self.talk(connector.connect(name, tcp).await?, request)
            .await
    }

    async fn talk<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Answer, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchanged = async {
            let answer = timeout(self.header, sender.send_request(request)).await;
            let answer = answer.map_err(|_| "it does not begin to answer in time")??;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, self.longest).collect().await?;
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

/// Where a request goes.
struct Target {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Target {
    fn of(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "it has no usable URL".to_owned())?;
        let (tls, usual) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err("its URL begins neither with https:// nor with http://".to_owned()),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or("its URL has no host")?.to_owned();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let authority = authority.rsplit('@').next().unwrap_or_default();
        Ok(Self {
            tls,
            port: uri.port_u16().unwrap_or(usual),
            authority: authority.to_owned(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            host,
        })
    }

    /// The host without the brackets of an IPv6 address.
    fn bare(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// As much as may be logged.
    fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{}{path}", self.authority)
    }

    fn request(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .body(Full::new(body))?;
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, HeaderValue::from_str(&self.authority)?);
        }
        let agent = HeaderValue::from_static(concat!("portway/", env!("CARGO_PKG_VERSION")));
        headers.entry(header::USER_AGENT).or_insert(agent);
        Ok(request)
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

const LONGEST_ANSWER: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_is_no_secret() {
        for (url, expected) in [
            ("https://ca.test/dir", Ok("ca.test/dir")),
            (
                "http://me:secret@[::1]:8080/a?token=secret",
                Ok("[::1]:8080/a"),
            ),
            ("https://ca.test", Ok("ca.test/")),
            ("ftp://ca.test/", Err("neither")),
            ("/secret", Err("neither")),
            ("https:///secret", Err("URL")),
        ] {
            match (Target::of(url), expected) {
                (Ok(target), Ok(expected)) => assert_eq!(target.shown(), expected),
                (Err(wrong), Err(part)) => assert!(wrong.contains(part), "{url}: {wrong}"),
                (found, _) => panic!("{url}: {:?}", found.map(|target| target.shown())),
            }
        }
    }
}
