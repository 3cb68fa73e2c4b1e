//! `passTLSClientCert`: tells servers which certificate the client showed.
//!
//! What is told is computed once per connection. What a client says under these names itself never gets through.

mod describe;

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};

use super::Flow;
use crate::{
    config::routing::{ClientCertInfo, PassTlsClientCert as Config},
    exchange::Exchange,
};

/// Adds headers about the client's certificates.
#[derive(Debug)]
pub struct PassTlsClientCert {
    pem: bool,
    info: Option<ClientCertInfo>,
    /// Two numbers no other instance has, under which connections keep what was computed.
    keys: [u64; 2],
}

impl PassTlsClientCert {
    pub(super) fn build(config: &Config) -> Self {
        let first = NEXT_KEY.fetch_add(2, Ordering::Relaxed);
        Self {
            pem: config.pem,
            info: config.info.clone(),
            keys: [first, first + 1],
        }
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let connection = &exchange.connection;
        let headers = &mut exchange.request.headers;
        headers.remove(&CERT);
        headers.remove(&CERT_INFO);
        let Some(session) = &connection.tls else {
            return Flow::Continue;
        };
        let chain = &session.client_certificates;
        if chain.is_empty() {
            return Flow::Continue;
        }
        if self.pem
            && let Some(value) = connection.memo.get(self.keys[0], || encoded(chain))
        {
            headers.insert(&CERT, value);
        }
        if let Some(info) = &self.info
            && let Some(value) = connection.memo.get(self.keys[1], || described(info, chain))
        {
            headers.insert(&CERT_INFO, value);
        }
        Flow::Continue
    }
}

/// The certificates as they stand in PEM, without its first and last line and its line breaks.
fn encoded(chain: &[Vec<u8>]) -> Option<HeaderValue> {
    let certificates: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
    HeaderValue::try_from(certificates.join(",")).ok()
}

fn described(info: &ClientCertInfo, chain: &[Vec<u8>]) -> Option<HeaderValue> {
    let certificates: Vec<Vec<u8>> = chain
        .iter()
        .map(|der| describe::certificate(info, der))
        .collect();
    HeaderValue::try_from(query_escaped(&certificates.join(&b","[..]))).ok()
}

/// Escapes a text for a query, as forms do: a blank is a plus sign.
fn query_escaped(text: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len() + text.len() / 2);
    for &byte in text {
        match byte {
            b' ' => escaped.push('+'),
            b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            // Writing to a text cannot fail.
            _ => write!(escaped, "%{byte:02X}").unwrap_or_default(),
        }
    }
    escaped
}

static CERT: HeaderName = HeaderName::from_static("x-forwarded-tls-client-cert");
static CERT_INFO: HeaderName = HeaderName::from_static("x-forwarded-tls-client-cert-info");
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests;
