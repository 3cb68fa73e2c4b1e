//! How an authority is reached: over HTTPS only, and with the roots that its resolver is configured with.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{
    config::{install::AcmeResolver, units::FileOrContent},
    fetch,
    upstream::transport::system_roots,
};

pub(super) use fetch::Answer;

/// Requests to one authority.
#[derive(Debug, Clone)]
pub(super) struct Http(fetch::Http);

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
        let whole = config.client_timeout.positive().unwrap_or(Duration::MAX);
        let header = config.client_response_header_timeout.positive();
        let http = fetch::Http::new(roots(config)?, whole)
            .named(server_name)
            .beginning_within(header.unwrap_or(Duration::MAX));
        Ok(Self(http))
    }

    /// Sends one request.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, String> {
        if !url.starts_with("https://") {
            return Err(format!("{url} is not https"));
        }
        let mut headers = HeaderMap::new();
        if body.is_some() {
            let jose = HeaderValue::from_static("application/jose+json");
            headers.insert(header::CONTENT_TYPE, jose);
        }
        let body = body.unwrap_or_default();
        self.0.send(method, url, headers, body).await
    }
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
