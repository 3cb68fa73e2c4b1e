//! Names of cipher suites, curves, versions and signature algorithms as Go (and so Traefik's configuration and logs) writes them.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::{CipherSuite, SupportedCipherSuite};
use x509_parser::der_parser::Oid;
use x509_parser::oid_registry as oid;

/// Every suite we can speak, in server order: the cheapest strong one first.
pub(super) const SUITES: [(&str, SupportedCipherSuite); 9] = [
    (
        "TLS_AES_128_GCM_SHA256",
        cipher_suite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_AES_256_GCM_SHA384",
        cipher_suite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites Go knows and we do not speak: no forward secrecy, CBC padding or broken ciphers.
const WEAK_SUITES: [&str; 16] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// What a configured name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Named<T> {
    /// We speak it.
    Known(T),
    /// Traefik speaks it and we do not.
    Unsupported,
    /// Nobody knows it; the nearest name that exists.
    Unknown(Option<&'static str>),
}

/// The suite a configured name stands for.
pub fn suite(name: &str) -> Named<CipherSuite> {
    // Go kept these spellings from before the hash became part of the name.
    let name = match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        name => name,
    };
    if let Some((_, suite)) = SUITES.iter().find(|(known, _)| *known == name) {
        Named::Known(suite.suite())
    } else if name == "TLS_FALLBACK_SCSV" || WEAK_SUITES.contains(&name) {
        Named::Unsupported
    } else {
        Named::Unknown(nearest(name, SUITES.iter().map(|(known, _)| *known)))
    }
}

/// Name of a negotiated suite.
pub(super) fn suite_name(suite: CipherSuite) -> &'static str {
    SUITES
        .iter()
        .find(|(_, known)| known.suite() == suite)
        .map_or("unknown", |(name, _)| name)
}

/// The key exchange group a configured curve name stands for, in Go's or the RFCs' spelling.
pub(super) fn curve(name: &str) -> Named<&'static dyn SupportedKxGroup> {
    match name {
        "CurveP256" | "secp256r1" => Named::Known(kx_group::SECP256R1),
        "CurveP384" | "secp384r1" => Named::Known(kx_group::SECP384R1),
        "X25519" | "x25519" => Named::Known(kx_group::X25519),
        "X25519MLKEM768" | "x25519mlkem768" => Named::Known(kx_group::X25519MLKEM768),
        "SecP256r1MLKEM768" | "secp256r1mlkem768" => Named::Known(kx_group::SECP256R1MLKEM768),
        "CurveP521" | "secp521r1" | "SecP384r1MLKEM1024" | "secp384r1mlkem1024" => {
            Named::Unsupported
        }
        _ => Named::Unknown(nearest(name, CURVES)),
    }
}

/// The groups offered when the configuration names none.
pub(super) fn default_curves() -> Vec<&'static dyn SupportedKxGroup> {
    vec![
        kx_group::X25519MLKEM768,
        kx_group::X25519,
        kx_group::SECP256R1,
        kx_group::SECP384R1,
        kx_group::SECP256R1MLKEM768,
    ]
}

const CURVES: [&str; 5] = [
    "CurveP256",
    "CurveP384",
    "X25519",
    "X25519MLKEM768",
    "SecP256r1MLKEM768",
];

/// Signature algorithm of a certificate as Go prints it; the dotted OID for one Go does not name.
pub(super) fn signature_name(algorithm: &Oid<'_>) -> String {
    [
        (oid::OID_PKCS1_SHA1WITHRSA, "SHA1-RSA"),
        (oid::OID_PKCS1_SHA256WITHRSA, "SHA256-RSA"),
        (oid::OID_PKCS1_SHA384WITHRSA, "SHA384-RSA"),
        (oid::OID_PKCS1_SHA512WITHRSA, "SHA512-RSA"),
        (oid::OID_PKCS1_RSASSAPSS, "SHA256-RSAPSS"),
        (oid::OID_SIG_ECDSA_WITH_SHA256, "ECDSA-SHA256"),
        (oid::OID_SIG_ECDSA_WITH_SHA384, "ECDSA-SHA384"),
        (oid::OID_SIG_ECDSA_WITH_SHA512, "ECDSA-SHA512"),
        (oid::OID_SIG_ED25519, "Ed25519"),
    ]
    .iter()
    .find(|(known, _)| known == algorithm)
    .map_or_else(|| algorithm.to_id_string(), |(_, name)| (*name).to_owned())
}

/// The candidate most like `name`, if any is alike at all.
pub(super) fn nearest(
    name: &str,
    candidates: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
