//! Client certificates: the five kinds of `clientAuthType`, as rustls verifiers.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::finding::Finding;
use super::options::OptionsSpec;
use crate::config::routing::ClientAuthType as Kind;

/// A verifier and the identity of what it demands, so that only sessions verified alike are resumed.
pub(super) type Verifier = (Arc<dyn ClientCertVerifier>, [u8; 32]);

/// The verifier the options ask for; `None` after a fatal finding.
pub(super) fn decode(
    spec: &OptionsSpec,
    provider: &Arc<CryptoProvider>,
    findings: &mut Vec<Finding>,
) -> Option<Verifier> {
    let kind = kind(spec);
    let algorithms = provider.signature_verification_algorithms;
    let authorities = authorities(spec, findings)?;
    let policy = policy(kind, &authorities);
    let verifier: Arc<dyn ClientCertVerifier> = match kind {
        Kind::NoClientCert => WebPkiClientVerifier::no_client_auth(),
        Kind::RequestClientCert | Kind::RequireAnyClientCert => Arc::new(AnyCertificate {
            mandatory: kind == Kind::RequireAnyClientCert,
            algorithms,
        }),
        Kind::VerifyClientCertIfGiven | Kind::RequireAndVerifyClientCert => {
            let mandatory = kind == Kind::RequireAndVerifyClientCert;
            signed_by(authorities, mandatory, provider, findings)?
        }
    };
    Some((verifier, policy))
}

/// Naming authorities and no kind means to verify: whoever gives a CA wants it checked.
fn kind(spec: &OptionsSpec) -> Kind {
    let default = if spec.authorities.is_empty() {
        Kind::NoClientCert
    } else {
        Kind::RequireAndVerifyClientCert
    };
    spec.options.client_auth.client_auth_type.unwrap_or(default)
}

fn authorities(
    spec: &OptionsSpec,
    findings: &mut Vec<Finding>,
) -> Option<Vec<CertificateDer<'static>>> {
    let mut all = Vec::new();
    for (index, text) in spec.authorities.iter().enumerate() {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => all.extend(certificates),
            _ => {
                findings.push(Finding::error(
                    format!("clientAuth.caFiles[{index}]"),
                    "no readable certificate in it",
                    "give a PEM text with -----BEGIN CERTIFICATE-----",
                ));
                return None;
            }
        }
    }
    Some(all)
}

fn signed_by(
    authorities: Vec<CertificateDer<'static>>,
    mandatory: bool,
    provider: &Arc<CryptoProvider>,
    findings: &mut Vec<Finding>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    if authorities.is_empty() {
        findings.push(Finding::error(
            "clientAuth.caFiles",
            "clients cannot be verified without authorities to verify them with",
            "name at least one PEM file of CA certificates",
        ));
        return None;
    }
    let mut roots = RootCertStore::empty();
    let (accepted, _) = roots.add_parsable_certificates(authorities.iter().cloned());
    if accepted < authorities.len() {
        findings.push(Finding::error(
            "clientAuth.caFiles",
            format!(
                "{} of {} certificates cannot be decoded",
                authorities.len() - accepted,
                authorities.len()
            ),
            "give X.509 certificates of the authorities that sign your clients",
        ));
        return None;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if mandatory {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let chain = builder.build().ok()?;
    Some(Arc::new(SignedCertificate { chain, authorities }))
}

fn policy(kind: Kind, authorities: &[CertificateDer<'static>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([kind as u8]);
    for authority in authorities {
        hash.update((authority.len() as u64).to_be_bytes());
        hash.update(authority);
    }
    hash.finalize().into()
}

/// Takes whatever certificate the client proves to own the key of.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes certificates the authorities signed, and the authorities' own.
///
/// The latter because a self-signed client certificate named in `caFiles` is a common way to pin one, and `openssl req -x509`
/// marks what it makes as a CA, which a chain verifier refuses as a client.
#[derive(Debug)]
struct SignedCertificate {
    chain: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for SignedCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self
            .authorities
            .iter()
            .any(|authority| authority == end_entity)
        {
            return check_dates(end_entity, now);
        }
        self.chain
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn check_dates(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<ClientCertVerified, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if parsed.validity().not_after.timestamp() < now {
        Err(CertificateError::Expired.into())
    } else if parsed.validity().not_before.timestamp() > now {
        Err(CertificateError::NotValidYet.into())
    } else {
        Ok(ClientCertVerified::assertion())
    }
}
