//! Makes a [`Transport`] from the settings of a `serversTransport`: PEM texts in, TLS configurations out. Does no I/O.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::service::Transport;

/// A `serversTransport` with its files read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportSettings {
    pub name: Arc<str>,
    pub server_name: String,
    pub insecure_skip_verify: bool,
    /// PEM texts; empty means the system's roots.
    pub root_cas: Vec<Vec<u8>>,
    /// PEM texts of client certificates.
    pub certificates: Vec<KeyPair>,
    /// Empty means all.
    pub cipher_suites: Vec<rustls::CipherSuite>,
    pub min_version: Option<Version>,
    pub max_version: Option<Version>,
    pub peer_cert_uri: String,
    pub max_idle_per_host: usize,
    pub disable_http2: bool,
    pub dial_timeout: Option<Duration>,
    pub response_header_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub read_idle_timeout: Option<Duration>,
    pub ping_timeout: Duration,
}

/// PEM texts of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

/// The TLS versions spoken to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

/// Why a transport cannot be used: the option at fault, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {message}")]
pub struct TransportError {
    pub option: &'static str,
    pub message: String,
}

impl TransportSettings {
    /// The defaults of the built-in transport.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            server_name: String::new(),
            insecure_skip_verify: false,
            root_cas: Vec::new(),
            certificates: Vec::new(),
            cipher_suites: Vec::new(),
            min_version: None,
            max_version: None,
            peer_cert_uri: String::new(),
            max_idle_per_host: 200,
            disable_http2: false,
            dial_timeout: Some(Duration::from_secs(30)),
            response_header_timeout: None,
            idle_timeout: Some(Duration::from_secs(90)),
            read_idle_timeout: None,
            ping_timeout: Duration::from_secs(15),
        }
    }

    /// Builds the transport, or hands back `previous` (of the same name) if its settings were the same.
    pub fn build(
        self,
        previous: Option<&Arc<Transport>>,
        system_roots: &Arc<RootCertStore>,
    ) -> Result<Arc<Transport>, TransportError> {
        let digest = self.digest();
        if let Some(previous) = previous.filter(|transport| transport.digest == digest) {
            return Ok(Arc::clone(previous));
        }
        let mut tls_http1 = self.tls(system_roots)?;
        tls_http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut tls = tls_http1.clone();
        if !self.disable_http2 {
            tls.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(Arc::new(Transport {
            name: self.name,
            tls_http1: Arc::new(tls_http1),
            tls: Arc::new(tls),
            server_name: Some(self.server_name).filter(|name| !name.is_empty()),
            max_idle_per_host: self.max_idle_per_host,
            disable_http2: self.disable_http2,
            dial_timeout: self.dial_timeout,
            response_header_timeout: self.response_header_timeout,
            idle_timeout: self.idle_timeout,
            read_idle_timeout: self.read_idle_timeout,
            ping_timeout: self.ping_timeout,
            digest,
        }))
    }

    /// The debug form shows every field, so it tells any two settings apart.
    fn digest(&self) -> [u8; 32] {
        Sha256::digest(format!("{self:?}")).into()
    }

    fn tls(&self, system_roots: &Arc<RootCertStore>) -> Result<ClientConfig, TransportError> {
        let provider = Arc::new(self.provider()?);
        let verifier = self.verifier(system_roots, &provider)?;
        let keys = self.client_keys(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions()?)
            .map_err(|error| fault("cipherSuites", &error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(match keys.is_empty() {
            true => builder.with_no_client_auth(),
            false => builder.with_client_cert_resolver(Arc::new(ClientKeys(keys))),
        })
    }

    fn provider(&self) -> Result<CryptoProvider, TransportError> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.cipher_suites.is_empty() {
            // As in Go, the suites of TLS 1.3 are not up for choice.
            provider.cipher_suites.retain(|suite| {
                suite.tls13().is_some() || self.cipher_suites.contains(&suite.suite())
            });
        }
        if provider.cipher_suites.is_empty() {
            return Err(fault("cipherSuites", "none of them can be spoken"));
        }
        Ok(provider)
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TransportError> {
        let min = self.min_version.unwrap_or(Version::Tls12);
        let max = self.max_version.unwrap_or(Version::Tls13);
        let versions: Vec<_> = [
            (Version::Tls12, &rustls::version::TLS12),
            (Version::Tls13, &rustls::version::TLS13),
        ]
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, version)| version)
        .collect();
        if versions.is_empty() {
            return Err(fault("minVersion", "is above maxVersion"));
        }
        Ok(versions)
    }

    fn verifier(
        &self,
        system_roots: &Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TransportError> {
        let (roots, pinned) = match self.root_cas.is_empty() {
            true => (Arc::clone(system_roots), Vec::new()),
            false => self.roots()?,
        };
        let rule = if !self.peer_cert_uri.is_empty() {
            NameRule::Uri(self.peer_cert_uri.clone())
        } else if self.insecure_skip_verify {
            NameRule::AcceptAll
        } else {
            NameRule::HostName
        };
        // Without any root every certificate is refused, which is what the user asked for; webpki's builder would refuse to exist.
        let webpki = match (&rule, roots.is_empty()) {
            (NameRule::HostName, false) => {
                let builder = WebPkiServerVerifier::builder_with_provider(
                    Arc::clone(&roots),
                    Arc::clone(provider),
                );
                Some(builder.build().map_err(|error| fault("rootCAs", &error))?)
            }
            _ => None,
        };
        Ok(Arc::new(Verifier {
            rule,
            webpki,
            roots,
            pinned,
            provider: Arc::clone(provider),
        }))
    }

    fn roots(&self) -> Result<Roots, TransportError> {
        let mut roots = RootCertStore::empty();
        let mut pinned = Certificates::new();
        for text in &self.root_cas {
            let certificates = read_certificates("rootCAs", text)?;
            for certificate in certificates {
                roots
                    .add(certificate.clone())
                    .map_err(|error| fault("rootCAs", &error))?;
                pinned.push(certificate);
            }
        }
        Ok((Arc::new(roots), pinned))
    }

    fn client_keys(
        &self,
        provider: &CryptoProvider,
    ) -> Result<Vec<Arc<CertifiedKey>>, TransportError> {
        let key_of = |pair: &KeyPair| {
            let chain = read_certificates("certificates.certFile", &pair.chain)?;
            let key = PrivateKeyDer::from_pem_slice(&pair.key)
                .map_err(|error| fault("certificates.keyFile", &error))?;
            CertifiedKey::from_der(chain, key, provider)
                .map(Arc::new)
                .map_err(|error| fault("certificates", &error))
        };
        self.certificates.iter().map(key_of).collect()
    }
}

/// The roots this machine trusts, and what could not be read of them. Reads files: call it once, from the control thread.
pub fn system_roots() -> (Arc<RootCertStore>, Vec<String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    let mut problems: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    if ignored > 0 {
        problems.push(format!("{ignored} root certificate(s) cannot be decoded"));
    }
    (Arc::new(roots), problems)
}

fn fault(option: &'static str, message: &(impl ToString + ?Sized)) -> TransportError {
    TransportError {
        option,
        message: message.to_string(),
    }
}

fn read_certificates(option: &'static str, text: &[u8]) -> Result<Certificates, TransportError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(option, &error))?;
    if certificates.is_empty() {
        return Err(fault(option, "holds no certificate in PEM form"));
    }
    Ok(certificates)
}

/// Roots, and the same again as certificates.
type Roots = (Arc<RootCertStore>, Certificates);
type Certificates = Vec<CertificateDer<'static>>;

/// Client certificates, offered as the server's hints ask.
#[derive(Debug)]
struct ClientKeys(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for ClientKeys {
    fn resolve(
        &self,
        root_hints: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let usable = || {
            let signs = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
            self.0.iter().filter(signs)
        };
        let hinted = |key: &&Arc<CertifiedKey>| {
            key.cert.iter().any(|certificate| {
                issuer(certificate).is_some_and(|issuer| root_hints.contains(&issuer.as_ref()))
            })
        };
        // A server that names issuers none of ours has may still take what we have.
        usable().find(hinted).or_else(|| usable().next()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn issuer(certificate: &CertificateDer<'_>) -> Option<DistinguishedName> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let issuer = certificate.tbs_certificate.issuer.as_raw().to_vec();
    Some(DistinguishedName::from(issuer))
}

/// Checks servers' certificates.
#[derive(Debug)]
struct Verifier {
    rule: NameRule,
    /// Set for host names, if there is any root.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    roots: Arc<RootCertStore>,
    /// Certificates the user listed as roots: a server may present one of them itself.
    pinned: Certificates,
    provider: Arc<CryptoProvider>,
}

/// What a certificate must say.
#[derive(Debug)]
enum NameRule {
    HostName,
    /// `peerCertURI`: a URI among the alternative names; the host name does not count.
    Uri(String),
    /// `insecureSkipVerify`.
    AcceptAll,
}

impl Verifier {
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.is_pinned(leaf) {
            return check_validity(leaf, now);
        }
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )
    }

    /// Self-signed certificates are often made as authorities (`openssl req -x509`) and listed as roots. Strictly, an authority may
    /// not present its own certificate; a user who lists exactly this one means it.
    fn is_pinned(&self, leaf: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|pinned| pinned == leaf)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match (&self.rule, &self.webpki) {
            (NameRule::AcceptAll, _) => {}
            (NameRule::Uri(uri), _) => {
                self.verify_chain(leaf, intermediates, now)?;
                check_uri(leaf, uri)?;
            }
            (NameRule::HostName, _) if self.is_pinned(leaf) => {
                check_validity(leaf, now)?;
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
            }
            (NameRule::HostName, Some(webpki)) => {
                return webpki.verify_server_cert(leaf, intermediates, name, ocsp, now);
            }
            (NameRule::HostName, None) => return Err(Error::General("no trusted root".into())),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn check_validity(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = parse(leaf)?.tbs_certificate.validity;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < validity.not_before.timestamp() {
        return Err(rustls::CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(rustls::CertificateError::Expired.into());
    }
    Ok(())
}

fn check_uri(leaf: &CertificateDer<'_>, wanted: &str) -> Result<(), Error> {
    let leaf = parse(leaf)?;
    let names = leaf.subject_alternative_name().ok().flatten();
    let found = names.is_some_and(|names| {
        names
            .value
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::URI(uri) if *uri == wanted))
    });
    match found {
        true => Ok(()),
        false => Err(rustls::CertificateError::NotValidForName.into()),
    }
}

fn parse<'a>(leaf: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    X509Certificate::from_der(leaf)
        .map(|(_, certificate)| certificate)
        .map_err(|_| rustls::CertificateError::BadEncoding.into())
}

#[cfg(test)]
mod tests;
