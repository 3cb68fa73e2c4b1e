//! The handshake of one connection, and what it settled.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;
use rustls::server::Acceptor;
use rustls::{ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::suites;
use super::table::{Refusal, SniTable};
use crate::exchange::TlsSession;

/// Shakes hands over `stream` as `table` says; `local` is the address the client connected to. The caller sets the deadline.
pub async fn accept<S>(
    table: &SniTable,
    stream: S,
    local: IpAddr,
) -> Result<(TlsStream<S>, TlsSession), AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let selected = match table.config_for(&start.client_hello(), local) {
        Ok(selected) => selected,
        Err(refusal) => {
            start.io.write_all(refusal.alert()).await?;
            start.io.shutdown().await?;
            return Err(AcceptError::Refused(refusal));
        }
    };
    let options = Arc::clone(selected.options);
    let stream = start.into_stream(Arc::clone(selected.config)).await?;
    let session = session(stream.get_ref().1, options);
    Ok((stream, session))
}

/// What the handshake of `connection` settled.
pub fn session(connection: &ServerConnection, options: Arc<str>) -> TlsSession {
    let cipher = connection.negotiated_cipher_suite();
    let certificates = connection.peer_certificates().unwrap_or_default();
    TlsSession {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        },
        cipher: cipher.map_or("unknown", |cipher| suites::suite_name(cipher.suite())),
        sni: connection.server_name().map(ByteString::from),
        options,
        client_certificates: certificates
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
        client_subject: certificates.first().and_then(|leaf| subject(leaf)),
        h2: connection.alpn_protocol() == Some(b"h2"),
    }
}

/// The subject of a certificate in the order of RFC 2253: most specific part first.
fn subject(certificate: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let text = certificate.subject().to_string();
    let parts: Vec<_> = text.split(", ").collect();
    Some(parts.into_iter().rev().collect::<Vec<_>>().join(",").into())
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The configuration does not let this client in.
    #[error("{0}")]
    Refused(Refusal),
    /// The peer went away, or its handshake failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
