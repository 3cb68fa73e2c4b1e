//! A certificate with its key: parsed once from PEM text, checked, and described for the API, metrics and `explain`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, SubjectPublicKeyInfo, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

use super::finding::Finding;
use super::staple::Staple;
use super::suites;

/// A certificate chain with its private key, ready to sign, and what is known about it.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    digest: [u8; 32],
    facts: Facts,
    staple: Option<Arc<Staple>>,
}

impl Certificate {
    /// From PEM text: the chain, leaf first, and the leaf's key in PKCS#1, PKCS#8 or SEC1 form.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, Finding> {
        let digest = Self::digest_of(chain, key);
        let chain = read_chain(chain)?;
        let key = read_key(key)?;
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|error| {
            Finding::error(
                "certFile",
                format!("the first certificate cannot be decoded: {error}"),
                "give an X.509 certificate in PEM form",
            )
        })?;
        check_match(&leaf, key.as_ref())?;
        let facts = Facts::of(&leaf, &chain[0])?;
        Ok(Self {
            key: Arc::new(CertifiedKey::new(chain, key)),
            digest,
            facts,
            staple: None,
        })
    }

    /// A fresh self-signed certificate for connections no configured certificate matches.
    ///
    /// It never expires while the process lives: whoever accepts a self-signed certificate accepts it by hand or not at all.
    pub fn generate() -> Result<Self, rcgen::Error> {
        let name = format!(
            "{:032x}.{:032x}.portway.default",
            fastrand::u128(..),
            fastrand::u128(..)
        );
        let mut params = CertificateParams::new([name])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "PORTWAY DEFAULT CERT");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let parsed = Self::parse(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
        // Both texts come from the generator, so this cannot fail unless the generator and the parser disagree.
        parsed.map_err(|_| rcgen::Error::CouldNotParseCertificate)
    }

    /// Identity of a pair of PEM texts, by which a reload finds what it parsed before.
    pub fn digest_of(chain: &[u8], key: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((chain.len() as u64).to_be_bytes());
        hash.update(chain);
        hash.update(key);
        hash.finalize().into()
    }

    /// What stands in the certificate.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Chain and key in the form rustls signs with.
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The same certificate, sent along with this staple or with none.
    pub fn stapled(self: &Arc<Self>, staple: Option<&Arc<Staple>>) -> Arc<Self> {
        if self.staple.as_ref() == staple {
            return Arc::clone(self);
        }
        let key = CertifiedKey {
            cert: self.key.cert.clone(),
            key: Arc::clone(&self.key.key),
            ocsp: staple.map(|staple| staple.der.to_vec()),
        };
        Arc::new(Self {
            key: Arc::new(key),
            digest: self.digest,
            facts: self.facts.clone(),
            staple: staple.cloned(),
        })
    }

    /// What is sent along with it.
    pub fn staple(&self) -> Option<&Arc<Staple>> {
        self.staple.as_ref()
    }

    /// Whether `other` serves the same: the same texts with the same staple.
    pub fn is(&self, other: &Self) -> bool {
        self.digest == other.digest && self.staple == other.staple
    }

    /// Identity of the PEM texts it was parsed from.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether a client that offers `schemes` can verify what this key signs.
    pub fn suits(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    /// Validity findings at `now` (seconds since 1970); the certificate is served all the same.
    pub fn check_validity(&self, now: i64) -> Option<Finding> {
        let facts = &self.facts;
        if facts.not_after < now {
            let days = (now - facts.not_after) / 86_400;
            return Some(Finding::warning(
                "certFile",
                format!(
                    "the certificate for {} expired {days} days ago; it is served, and clients will refuse it",
                    facts.names.join(", ")
                ),
                "renew it and replace the file",
            ));
        }
        (facts.not_before > now).then(|| {
            Finding::warning(
                "certFile",
                format!(
                    "the certificate for {} is not valid yet",
                    facts.names.join(", ")
                ),
                "check the clock of this machine, or wait",
            )
        })
    }
}

/// Names the certificate and leaves the key out.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.facts.names)
            .field("fingerprint", &self.facts.fingerprint)
            .finish_non_exhaustive()
    }
}

/// What stands in a certificate, in the form the API and the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Every name it is served for: common name, DNS and IP names, lower-case, sorted, each once.
    pub names: Vec<String>,
    /// DNS subject alternative names, lower-case, sorted.
    pub dns_names: Vec<String>,
    /// IP subject alternative names, sorted.
    pub addresses: Vec<IpAddr>,
    /// Subject common name as written; empty if there is none.
    pub common_name: String,
    /// Subject organisation.
    pub organization: String,
    /// Issuer common name.
    pub issuer_common_name: String,
    /// Issuer organisation.
    pub issuer_organization: String,
    /// Serial number in decimal.
    pub serial: String,
    /// `v1`, `v2` or `v3`.
    pub version: String,
    /// Start of validity, seconds since 1970.
    pub not_before: i64,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// `RSA`, `ECDSA` or `Ed25519`.
    pub key_type: &'static str,
    /// Key length in bits.
    pub key_bits: u32,
    /// How the issuer signed it, e.g. `ECDSA-SHA256`.
    pub signature_algorithm: String,
    /// SHA-256 of the certificate, lower-case hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of its public key, lower-case hexadecimal.
    pub key_fingerprint: String,
}

impl Facts {
    fn of(leaf: &X509Certificate<'_>, der: &[u8]) -> Result<Self, Finding> {
        let (key_type, key_bits) = describe_key(leaf.public_key())?;
        let common_name = first_text(leaf.subject(), X509Name::iter_common_name);
        let (dns_names, addresses) = alternative_names(leaf);
        let mut names = dns_names.clone();
        names.extend(addresses.iter().map(ToString::to_string));
        names.extend((!common_name.is_empty()).then(|| common_name.to_ascii_lowercase()));
        names.sort_unstable();
        names.dedup();
        Ok(Self {
            names,
            dns_names,
            addresses,
            common_name,
            organization: first_text(leaf.subject(), X509Name::iter_organization),
            issuer_common_name: first_text(leaf.issuer(), X509Name::iter_common_name),
            issuer_organization: first_text(leaf.issuer(), X509Name::iter_organization),
            serial: leaf.tbs_certificate.serial.to_string(),
            version: format!("v{}", leaf.version().0 + 1),
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
            key_type,
            key_bits,
            signature_algorithm: suites::signature_name(&leaf.signature_algorithm.algorithm),
            fingerprint: hex(&Sha256::digest(der)),
            key_fingerprint: hex(&Sha256::digest(leaf.public_key().raw)),
        })
    }
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Finding> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            Finding::error(
                "certFile",
                format!("not readable as PEM: {}", explain(&error)),
                "check that the file was copied whole",
            )
        })?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    let hint = if contains(text, b"PRIVATE KEY-----") {
        "this is a key; certFile and keyFile may be swapped"
    } else if text.first() == Some(&0x30) {
        "this looks like DER; convert it with `openssl x509 -inform der -in FILE -out FILE.pem`"
    } else {
        "give a PEM text with -----BEGIN CERTIFICATE-----"
    };
    Err(Finding::error("certFile", "no certificate in it", hint))
}

fn read_key(text: &[u8]) -> Result<Arc<dyn SigningKey>, Finding> {
    // OpenSSL's older form keeps the plain label and says so in a header line.
    if contains(text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Finding::error(
            "keyFile",
            "the private key is encrypted with a passphrase",
            "store it unencrypted: `openssl pkey -in KEY -out PLAIN`, readable by Portway only",
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            Finding::error("keyFile", "no private key in it", no_key_hint(text))
        }
        error => Finding::error(
            "keyFile",
            format!("not readable as PEM: {}", explain(&error)),
            "check that the file was copied whole",
        ),
    })?;
    aws_lc_rs::sign::any_supported_type(&key).map_err(|_| {
        Finding::error(
            "keyFile",
            "the private key is damaged or of a kind that is not supported",
            "use an ECDSA (P-256, P-384, P-521), RSA (2048 bits or more) or Ed25519 key",
        )
    })
}

fn no_key_hint(text: &[u8]) -> &'static str {
    if contains(text, b"BEGIN CERTIFICATE") {
        "this is a certificate; certFile and keyFile may be swapped"
    } else {
        "give a PEM text with -----BEGIN PRIVATE KEY-----"
    }
}

/// The public key bits are compared, not the whole key info: its algorithm parameters are written in more than one way.
fn check_match(leaf: &X509Certificate<'_>, key: &dyn SigningKey) -> Result<(), Finding> {
    let Some(public) = key.public_key() else {
        return Ok(());
    };
    let matches = SubjectPublicKeyInfo::from_der(&public).is_ok_and(|(_, info)| {
        info.subject_public_key.data == leaf.public_key().subject_public_key.data
    });
    if matches {
        return Ok(());
    }
    Err(Finding::error(
        "keyFile",
        "the private key does not belong to the certificate",
        "pair each certificate with its own key; in a chain, the server's certificate comes first",
    ))
}

fn describe_key(info: &SubjectPublicKeyInfo<'_>) -> Result<(&'static str, u32), Finding> {
    let bits = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => Ok(("RSA", bits(key.key_size()))),
        // The point of P-521 takes 66 whole bytes; its size is still 521.
        Ok(PublicKey::EC(point)) => Ok(("ECDSA", bits(point.key_size()).min(521))),
        _ if info.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 => {
            Ok(("Ed25519", 256))
        }
        _ => Err(Finding::error(
            "certFile",
            "the certificate's key is of a kind that is not supported",
            "use an ECDSA, RSA or Ed25519 certificate",
        )),
    }
}

fn alternative_names(leaf: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    if let Ok(Some(extension)) = leaf.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    addresses.sort_unstable();
    addresses.dedup();
    (names, addresses)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn first_text<'a, I>(name: &'a X509Name<'a>, parts: impl Fn(&'a X509Name<'a>) -> I) -> String
where
    I: Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
{
    parts(name)
        .find_map(|part| part.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn explain(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "the -----END line is missing",
        pem::Error::IllegalSectionStart { .. } => "the -----BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "the base64 text is damaged",
        _ => "the text is damaged",
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: (&str, &str) = (
        include_str!("../../tests/fixtures/tls/ec.crt"),
        include_str!("../../tests/fixtures/tls/ec.sec1.key"),
    );
    const RSA: &str = include_str!("../../tests/fixtures/tls/rsa.crt");
    const ED25519: (&str, &str) = (
        include_str!("../../tests/fixtures/tls/ed25519.crt"),
        include_str!("../../tests/fixtures/tls/ed25519.key"),
    );

    fn parse(chain: &str, key: &str) -> Result<Certificate, Finding> {
        Certificate::parse(chain.as_bytes(), key.as_bytes())
    }

    #[test]
    fn reads_every_encoding_of_keys() {
        let cases = [
            (EC.0, EC.1, "ECDSA", 256),
            (
                RSA,
                include_str!("../../tests/fixtures/tls/rsa.pkcs1.key"),
                "RSA",
                2048,
            ),
            (
                RSA,
                include_str!("../../tests/fixtures/tls/rsa.pkcs8.key"),
                "RSA",
                2048,
            ),
            (ED25519.0, ED25519.1, "Ed25519", 256),
        ];
        for (chain, key, kind, bits) in cases {
            let facts = parse(chain, key).unwrap().facts().clone();
            assert_eq!((facts.key_type, facts.key_bits), (kind, bits));
        }
    }

    #[test]
    fn tells_what_stands_in_it() {
        let certificate = parse(EC.0, EC.1).unwrap();
        let facts = certificate.facts();
        assert_eq!(
            facts.names,
            [
                "*.example.com",
                "192.0.2.7",
                "2001:db8::7",
                "ec.example.com"
            ]
        );
        assert_eq!(facts.dns_names, ["*.example.com", "ec.example.com"]);
        assert_eq!(facts.addresses.len(), 2);
        assert_eq!(facts.common_name, "EC.example.com");
        assert_eq!(facts.issuer_organization, "Example Org");
        assert_eq!(facts.version, "v3");
        assert_eq!(facts.signature_algorithm, "ECDSA-SHA256");
        assert_eq!(facts.fingerprint.len(), 64);
        assert!(facts.serial.bytes().all(|digit| digit.is_ascii_digit()));
        assert!(!format!("{certificate:?}").contains("PRIVATE"));
    }

    #[test]
    fn reads_certificates_without_extensions() {
        let old = include_str!("../../tests/fixtures/tls/v1.crt");
        let facts = parse(old, EC.1).unwrap().facts().clone();
        assert_eq!((facts.version.as_str(), facts.names.len()), ("v1", 1));
    }

    #[test]
    fn says_what_is_wrong_and_what_to_do() {
        let encrypted = include_str!("../../tests/fixtures/tls/encrypted.pkcs8.key");
        let legacy = include_str!("../../tests/fixtures/tls/encrypted.legacy.key");
        let odd_curve = include_str!("../../tests/fixtures/tls/k256.key");
        let cut = &EC.0[..EC.0.len() / 2];
        let garbled = EC.0.replacen("MII", "M!I", 1);
        let cases = [
            (EC.0, ED25519.1, "keyFile", "does not belong"),
            (EC.0, encrypted, "keyFile", "encrypted"),
            (EC.0, legacy, "keyFile", "encrypted"),
            (EC.0, odd_curve, "keyFile", "not supported"),
            (EC.0, EC.0, "keyFile", "swapped"),
            (EC.0, "", "keyFile", "no private key"),
            (EC.1, EC.1, "certFile", "swapped"),
            ("", EC.1, "certFile", "no certificate"),
            ("0\u{82}", EC.1, "certFile", "openssl x509"),
            (cut, EC.1, "certFile", "END line"),
            (&garbled, EC.1, "certFile", "base64"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                EC.1,
                "certFile",
                "cannot be decoded",
            ),
        ];
        for (chain, key, field, message) in cases {
            let finding = parse(chain, key).unwrap_err();
            assert_eq!(finding.field, field, "{finding}");
            assert!(
                finding.fatal && finding.to_string().contains(message),
                "{finding}"
            );
        }
    }

    #[test]
    fn warns_of_expired_and_of_future_certificates() {
        let certificate = parse(EC.0, EC.1).unwrap();
        let facts = certificate.facts();
        let at = |now: i64| {
            certificate
                .check_validity(now)
                .map(|finding| finding.message)
        };
        assert_eq!(at(facts.not_before), None);
        assert_eq!(at(facts.not_after), None);
        assert!(
            at(facts.not_after + 3 * 86_400)
                .unwrap()
                .contains("3 days ago")
        );
        assert!(at(facts.not_before - 1).unwrap().contains("not valid yet"));
    }

    #[test]
    fn generates_a_default() {
        let certificate = Certificate::generate().unwrap();
        let facts = certificate.facts();
        assert_eq!(facts.common_name, "PORTWAY DEFAULT CERT");
        assert_eq!((facts.key_type, facts.key_bits), ("ECDSA", 256));
        assert!(facts.dns_names[0].ends_with(".portway.default"));
    }
}
