//! The handshake of one connection, and what it settled.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;
use rustls::server::{Acceptor, ClientHello};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::table::{Refusal, SniTable};
use super::{subject, suites};
use crate::challenge::{ALPN, Challenges};
use crate::exchange::TlsSession;

/// Shakes hands over `stream` as `table` says; `local` is the address the client connected to. The caller sets the deadline.
pub async fn accept<S>(
    table: &SniTable,
    stream: S,
    local: IpAddr,
    challenges: &Challenges,
) -> Result<(TlsStream<S>, TlsSession), AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    if challenges.any()
        && let Some(config) = challenged(&start.client_hello(), challenges)
    {
        let mut stream = start.into_stream(config).await?;
        stream.shutdown().await?;
        return Err(AcceptError::Challenge);
    }
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

/// What a certificate authority that looks for an answer here gets.
fn challenged(hello: &ClientHello<'_>, challenges: &Challenges) -> Option<Arc<ServerConfig>> {
    let mut offered = hello.alpn()?;
    let name = hello.server_name()?;
    let asked = offered.any(|protocol| protocol == ALPN);
    asked.then(|| challenges.tls(&name.to_ascii_lowercase()))?
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
        client_subject: certificates.first().and_then(|leaf| subject_of(leaf)),
        h2: connection.alpn_protocol() == Some(b"h2"),
    }
}

fn subject_of(certificate: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(subject::line(certificate.subject()).into())
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The configuration does not let this client in.
    #[error("{0}")]
    Refused(Refusal),
    /// It was a certificate authority that looked for the answer to a challenge, and it got it.
    #[error("the challenge of a certificate authority was answered")]
    Challenge,
    /// The peer went away, or its handshake failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
