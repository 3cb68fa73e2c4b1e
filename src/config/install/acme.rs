//! `certificatesResolvers`: who issues certificates, and how they are obtained.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Opaque;
use crate::config::shape::{presence, unset};
use crate::config::units::{FileOrContent, Secret, Span};

/// `certificatesResolvers.NAME`: where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CertificatesResolver {
    /// `acme`: an authority that speaks ACME, as Let's Encrypt does.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeResolver>,
    /// `tailscale`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tailscale: Option<Opaque>,
}

/// `certificatesResolvers.NAME.acme`: certificates from an authority that speaks ACME.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AcmeResolver {
    /// `email` the authority may write to.
    #[serde(skip_serializing_if = "unset")]
    pub email: String,
    /// `caServer`: URL of the authority's directory. Default: Let's Encrypt.
    pub ca_server: String,
    /// `storage`: file that keeps account and certificates. Default `acme.json`.
    pub storage: String,
    /// `keyType` of certificates: `EC256`, `EC384`, `RSA2048`, `RSA4096` or `RSA8192`. Default `RSA4096`.
    pub key_type: String,
    /// `preferredChain`: common name of the issuer at the top of the chain to take, if the authority offers several.
    #[serde(skip_serializing_if = "unset")]
    pub preferred_chain: String,
    /// `profile` of the authority to ask for.
    #[serde(skip_serializing_if = "unset")]
    pub profile: String,
    /// `emailAddresses` to put into the request: not acted on yet.
    #[serde(skip_serializing_if = "unset")]
    pub email_addresses: Vec<String>,
    /// `disableCommonName`: no common name in the request. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub disable_common_name: bool,
    /// `eab`: account at the authority's own site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eab: Option<ExternalAccount>,
    /// `certificatesDuration` in hours: without effect, the certificates say themselves how long they last. Default 2160.
    pub certificates_duration: i64,
    /// `clientTimeout` of one request to the authority. Default 2m.
    pub client_timeout: Span,
    /// `clientResponseHeaderTimeout`: time until the authority begins to answer. Default 30s.
    pub client_response_header_timeout: Span,
    /// `certificateTimeout`: how long to wait for a certificate once it is asked for. Default 30s.
    pub certificate_timeout: Span,
    /// `caCertificates`: who may sign the certificate of the authority's site. Default: the system's roots.
    #[serde(skip_serializing_if = "unset")]
    pub ca_certificates: Vec<FileOrContent>,
    /// `caSystemCertPool`: trust the system's roots beside `caCertificates`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub ca_system_cert_pool: bool,
    /// `caServerName`: name expected in the certificate of the authority's site. Default: the host of `caServer`.
    #[serde(skip_serializing_if = "unset")]
    pub ca_server_name: String,
    /// `httpChallenge`: prove domains by answering on port 80.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub http_challenge: Option<HttpChallenge>,
    /// `tlsChallenge`: prove domains by a handshake on port 443.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls_challenge: Option<TlsChallenge>,
    /// `dnsChallenge`: prove domains, wildcards too, by records in the DNS.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub dns_challenge: Option<DnsChallenge>,
}

impl Default for AcmeResolver {
    fn default() -> Self {
        Self {
            email: String::new(),
            ca_server: LETS_ENCRYPT.to_owned(),
            storage: "acme.json".to_owned(),
            key_type: "RSA4096".to_owned(),
            preferred_chain: String::new(),
            profile: String::new(),
            email_addresses: Vec::new(),
            disable_common_name: false,
            eab: None,
            certificates_duration: 2160,
            client_timeout: Span::from_secs(120),
            client_response_header_timeout: Span::from_secs(30),
            certificate_timeout: Span::from_secs(30),
            ca_certificates: Vec::new(),
            ca_system_cert_pool: false,
            ca_server_name: String::new(),
            http_challenge: None,
            tls_challenge: None,
            dns_challenge: None,
        }
    }
}

/// `certificatesResolvers.NAME.acme.eab`: binds the account to one that exists already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExternalAccount {
    /// `kid`: the account's key identifier.
    pub kid: String,
    /// `hmacEncoded`: the account's key, base64url.
    #[serde(skip_serializing)]
    pub hmac_encoded: Secret,
}

/// `certificatesResolvers.NAME.acme.httpChallenge`: HTTP-01.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpChallenge {
    /// `entryPoint` that the authority reaches on port 80.
    pub entry_point: String,
    /// `delay` before the authority is told to look. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub delay: Span,
}

/// `certificatesResolvers.NAME.acme.tlsChallenge`: TLS-ALPN-01.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsChallenge {
    /// `delay` before the authority is told to look. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub delay: Span,
}

/// `certificatesResolvers.NAME.acme.dnsChallenge`: DNS-01.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DnsChallenge {
    /// `provider` that changes the zone; it is set up by environment variables.
    pub provider: String,
    /// `resolvers`: name servers to ask instead of the system's, `host` or `host:port`.
    #[serde(skip_serializing_if = "unset")]
    pub resolvers: Vec<String>,
    /// `propagation`: when the authority is told to look.
    #[serde(skip_serializing_if = "unset")]
    pub propagation: Propagation,
    /// `delayBeforeCheck`: deprecated, `propagation.delayBeforeChecks`.
    #[serde(skip_serializing_if = "unset")]
    pub delay_before_check: Span,
    /// `disablePropagationCheck`: deprecated, `propagation.disableChecks`.
    #[serde(skip_serializing_if = "unset")]
    pub disable_propagation_check: bool,
}

/// `certificatesResolvers.NAME.acme.dnsChallenge.propagation`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Propagation {
    /// `disableChecks`: the authority is told at once. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub disable_checks: bool,
    /// `disableANSChecks`: the zone's own name servers are not asked. Default false.
    #[serde(rename = "disableANSChecks", skip_serializing_if = "unset")]
    pub disable_ans_checks: bool,
    /// `requireAllRNS`: all of `resolvers` must see the record too. Default false.
    #[serde(rename = "requireAllRNS", skip_serializing_if = "unset")]
    pub require_all_rns: bool,
    /// `delayBeforeChecks`: how long to wait before the first look. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub delay_before_checks: Span,
}

impl DnsChallenge {
    /// How long to wait before the first look.
    pub fn delay(&self) -> Duration {
        let delays = [
            self.propagation.delay_before_checks,
            self.delay_before_check,
        ];
        let mut delays = delays.into_iter().filter_map(Span::positive);
        delays.next().unwrap_or_default()
    }

    /// Whether to look at all.
    pub fn is_checked(&self) -> bool {
        !self.propagation.disable_checks && !self.disable_propagation_check
    }
}

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// What `keyType` may say.
pub const KEY_TYPES: [&str; 5] = ["EC256", "EC384", "RSA2048", "RSA4096", "RSA8192"];
