//! `tls`: certificates, stores, options.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Domain;
use crate::config::shape::{Placed, unset};
use crate::config::units::FileOrContent;

/// `tls`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Tls {
    /// `certificates`.
    pub certificates: Vec<Placed<Certificate>>,
    /// `options`, by name.
    pub options: BTreeMap<String, Placed<TlsOptions>>,
    /// `stores`, by name; only `default` is served.
    pub stores: BTreeMap<String, Placed<TlsStore>>,
}

/// `tls.certificates[N]`, a store's `defaultCertificate`, or a transport's client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Certificate {
    /// `certFile`: chain, leaf first.
    #[serde(skip_serializing_if = "FileOrContent::is_empty")]
    pub cert_file: FileOrContent,
    /// `keyFile`: private key.
    #[serde(skip_serializing_if = "FileOrContent::is_empty")]
    pub key_file: FileOrContent,
    /// `stores`: names. Empty means `default`.
    #[serde(skip_serializing_if = "unset")]
    pub stores: Vec<String>,
}

/// `tls.stores.NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsStore {
    /// `defaultCertificate`: served when no name matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<Certificate>,
    /// `defaultGeneratedCert`: asked from a resolver; `defaultCertificate` wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_generated_cert: Option<GeneratedCertificate>,
}

/// `tls.stores.NAME.defaultGeneratedCert`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GeneratedCertificate {
    /// `resolver`: name.
    #[serde(skip_serializing_if = "unset")]
    pub resolver: String,
    /// `domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

/// `tls.options.NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsOptions {
    /// `minVersion`. Default TLS 1.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// `maxVersion`. Default TLS 1.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
    /// `cipherSuites` by their IANA names; for TLS 1.2 only. Empty means the default list.
    #[serde(skip_serializing_if = "unset")]
    pub cipher_suites: Vec<String>,
    /// `curvePreferences`. Empty means the default list.
    #[serde(skip_serializing_if = "unset")]
    pub curve_preferences: Vec<String>,
    /// `clientAuth`: certificates asked from clients.
    #[serde(skip_serializing_if = "unset")]
    pub client_auth: ClientAuth,
    /// `sniStrict`: refuse names without a certificate. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub sni_strict: bool,
    /// `alpnProtocols`: replaces the default list (`h2`, `http/1.1`, `acme-tls/1`) when set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn_protocols: Option<Vec<String>>,
    /// `disableSessionTickets`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub disable_session_tickets: bool,
    /// `preferServerCipherSuites`: without effect, as in Traefik.
    #[serde(skip_serializing_if = "unset")]
    pub prefer_server_cipher_suites: bool,
}

/// `tls.options.NAME.minVersion` and `maxVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum TlsVersion {
    /// TLS 1.0; cannot be served.
    #[serde(rename = "VersionTLS10")]
    Tls10,
    /// TLS 1.1; cannot be served.
    #[serde(rename = "VersionTLS11")]
    Tls11,
    /// TLS 1.2.
    #[serde(rename = "VersionTLS12")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "VersionTLS13")]
    Tls13,
}

/// `tls.options.NAME.clientAuth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientAuth {
    /// `caFiles`: who may sign client certificates.
    #[serde(skip_serializing_if = "unset")]
    pub ca_files: Vec<FileOrContent>,
    /// `clientAuthType`. Default: require and verify when `caFiles` is set, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth_type: Option<ClientAuthType>,
}

/// `tls.options.NAME.clientAuth.clientAuthType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum ClientAuthType {
    /// Ask for nothing.
    NoClientCert,
    /// Ask, accept none.
    RequestClientCert,
    /// Ask, accept any.
    RequireAnyClientCert,
    /// Ask, verify what is given.
    VerifyClientCertIfGiven,
    /// Ask, verify, refuse without.
    RequireAndVerifyClientCert,
}
