//! Real handshakes over in-memory pipes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::{AcceptError, Certificate, OptionsSpec, SniTable, Tls, TlsInputs, accept};
use crate::config::routing::{ClientAuthType, TlsOptions, TlsVersion};
use crate::exchange::TlsSession;

const NOW: i64 = 1_800_000_000;
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

mod clients;
mod reload;
mod servers;

/// A certificate authority and what it signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// PEM texts of a certificate and its key.
struct Pair {
    chain: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn sign(&self, names: &[&str]) -> Pair {
        self.sign_until(names, 2040)
    }

    fn sign_until(&self, names: &[&str], year: i32) -> Pair {
        let mut params = params(names);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, names[0].clone());
    params
}

impl Pair {
    fn parse(&self) -> Arc<Certificate> {
        Arc::new(Certificate::parse(self.chain.as_bytes(), self.key.as_bytes()).unwrap())
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }
}

/// Certificates for `names`, one each.
fn certificates(names: &[&[&str]]) -> Vec<Arc<Certificate>> {
    let authority = Authority::new("servers");
    names
        .iter()
        .map(|names| authority.sign(names).parse())
        .collect()
}

fn inputs(certificates: Vec<Arc<Certificate>>, options: &[(&str, TlsOptions)]) -> TlsInputs {
    let spec = |options: &TlsOptions| OptionsSpec {
        options: options.clone(),
        authorities: Vec::new(),
    };
    TlsInputs {
        certificates,
        options: options
            .iter()
            .map(|(name, options)| (Arc::from(*name), Some(spec(options))))
            .collect::<BTreeMap<_, _>>(),
        now: NOW,
        ..TlsInputs::default()
    }
}

/// A table with one options object, `default`.
fn table(certificates: Vec<Arc<Certificate>>, options: TlsOptions) -> SniTable {
    Tls::build(inputs(certificates, &[("default", options)]), None).sni_table([])
}

/// A client that trusts everything, because the tests look at the certificate themselves.
struct Client {
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: CryptoProvider,
    alpn: Vec<Vec<u8>>,
    identity: Option<Pair>,
    sni: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            versions: rustls::ALL_VERSIONS.to_vec(),
            provider: aws_lc_rs::default_provider(),
            alpn: Vec::new(),
            identity: None,
            sni: true,
        }
    }
}

impl Client {
    fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAll));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(vec![pair.der()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.sni;
        Arc::new(config)
    }

    async fn connect(&self, table: &SniTable, name: &str) -> Handshake {
        handshake(table, self.config(), name).await
    }
}

/// What both sides saw; errors as texts.
struct Handshake {
    server: Result<TlsSession, String>,
    client: Result<Seen, String>,
}

struct Seen {
    certificate: CertificateDer<'static>,
    kind: HandshakeKind,
    alpn: Option<Vec<u8>>,
}

impl Handshake {
    fn session(&self) -> &TlsSession {
        self.server.as_ref().unwrap()
    }

    fn seen(&self) -> &Seen {
        self.client.as_ref().unwrap()
    }

    /// Common name of the certificate the client was shown.
    fn common_name(&self) -> String {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let (_, parsed) = X509Certificate::from_der(&self.seen().certificate).unwrap();
        let name = parsed
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap();
        name.to_owned()
    }
}

/// One connection: handshake, then a byte each way, so that tickets and late refusals arrive.
async fn handshake(table: &SniTable, config: Arc<ClientConfig>, name: &str) -> Handshake {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = async {
        let (mut stream, session) =
            accept(table, ours, LOCAL, &crate::challenge::Challenges::default()).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok::<_, AcceptError>(session)
    };
    let client = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(config).connect(name, theirs).await?;
        stream.read_u8().await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        let connection = stream.get_ref().1;
        Ok::<_, std::io::Error>(Seen {
            certificate: connection.peer_certificates().unwrap()[0]
                .clone()
                .into_owned(),
            kind: connection.handshake_kind().unwrap(),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        })
    };
    let (server, client) = tokio::join!(server, client);
    Handshake {
        server: server.map_err(|error| error.to_string()),
        client: client.map_err(|error| error.to_string()),
    }
}

#[derive(Debug)]
struct TrustAll;

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
