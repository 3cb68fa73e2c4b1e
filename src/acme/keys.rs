//! Keys of certificates, requests for them, and the certificates that answer TLS-ALPN-01.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{self, KeySize},
};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest, Sha256};

use crate::challenge::ALPN;

/// A new key of one of the configured types, as PEM text. RSA takes seconds.
pub(super) fn generate(key_type: &str) -> Result<String, String> {
    let size = match key_type {
        "EC256" => return ec(&PKCS_ECDSA_P256_SHA256),
        "EC384" => return ec(&PKCS_ECDSA_P384_SHA384),
        "RSA2048" => KeySize::Rsa2048,
        "RSA8192" => KeySize::Rsa8192,
        // What cannot be understood was reported where it stands.
        _ => KeySize::Rsa4096,
    };
    let unlucky = |_| "no RSA key can be made".to_owned();
    let pair = rsa::KeyPair::generate(size).map_err(unlucky)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(unlucky)?;
    let pair = KeyPair::try_from(der.as_ref()).map_err(|error| error.to_string())?;
    Ok(pair.serialize_pem())
}

fn ec(algorithm: &'static rcgen::SignatureAlgorithm) -> Result<String, String> {
    let pair = KeyPair::generate_for(algorithm).map_err(|error| error.to_string())?;
    Ok(pair.serialize_pem())
}

/// The request (DER) for a certificate for `names` and the key in `pem`.
pub(super) fn request(names: &[String], common_name: bool, pem: &str) -> Result<Vec<u8>, String> {
    let make = || {
        let key = KeyPair::from_pem(pem)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        // A common name holds no more.
        let main = names.first().filter(|name| common_name && name.len() <= 64);
        if let Some(main) = main {
            params.distinguished_name.push(DnType::CommonName, main);
        }
        Ok(params.serialize_request(&key)?.der().to_vec())
    };
    make().map_err(|error: rcgen::Error| error.to_string())
}

/// What answers a TLS-ALPN-01 challenge for `name` (RFC 8737).
pub(super) fn challenge(name: &str, authorization: &str) -> Result<Arc<ServerConfig>, String> {
    let make = || {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        let digest = Sha256::digest(authorization);
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        Ok((params.self_signed(&key)?, key.serialize_der()))
    };
    let (certificate, key) = make().map_err(|error: rcgen::Error| error.to_string())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    // Unchecked: rustls would refuse the extension that this certificate is about.
    let pair = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn a_request_names_what_is_asked_for() {
        let long = format!("{}.test", "a".repeat(61));
        for (key_type, common_name, main, expected) in [
            ("EC256", true, "a.test", "CN=a.test"),
            ("EC384", true, &*long, ""),
            ("RSA2048", false, "a.test", ""),
        ] {
            let pem = generate(key_type).unwrap();
            let der = request(&[main.to_owned()], common_name, &pem).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
            assert_eq!(
                request.certification_request_info.subject.to_string(),
                expected
            );
        }
    }

    #[test]
    fn a_challenge_is_answered_in_its_own_protocol() {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let config = challenge("a.test", "token.thumb").unwrap();
        assert_eq!(config.alpn_protocols, [b"acme-tls/1"]);
    }
}
