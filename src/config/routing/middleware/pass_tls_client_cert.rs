//! `passTLSClientCert`.

use serde::{Deserialize, Serialize};

use crate::config::shape::{presence, unset};

/// `passTLSClientCert`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PassTlsClientCert {
    /// `pem`: the certificates in `X-Forwarded-Tls-Client-Cert`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub pem: bool,
    /// `info`: what certificates say in `X-Forwarded-Tls-Client-Cert-Info`.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub info: Option<ClientCertInfo>,
}

/// `passTLSClientCert.info`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the switches of the configuration language"
)]
pub struct ClientCertInfo {
    /// `notAfter`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub not_after: bool,
    /// `notBefore`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub not_before: bool,
    /// `sans`: the alternative names. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub sans: bool,
    /// `serialNumber`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub serial_number: bool,
    /// `subject`: which parts of it.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectInfo>,
    /// `issuer`: which parts of it.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerInfo>,
}

/// `passTLSClientCert.info.subject`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the switches of the configuration language"
)]
pub struct SubjectInfo {
    /// `country`: `C`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub country: bool,
    /// `province`: `ST`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub province: bool,
    /// `locality`: `L`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub locality: bool,
    /// `organization`: `O`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub organization: bool,
    /// `organizationalUnit`: `OU`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub organizational_unit: bool,
    /// `commonName`: `CN`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub common_name: bool,
    /// `serialNumber`: `SN`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub serial_number: bool,
    /// `domainComponent`: `DC`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub domain_component: bool,
}

/// `passTLSClientCert.info.issuer`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the switches of the configuration language"
)]
pub struct IssuerInfo {
    /// `country`: `C`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub country: bool,
    /// `province`: `ST`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub province: bool,
    /// `locality`: `L`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub locality: bool,
    /// `organization`: `O`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub organization: bool,
    /// `commonName`: `CN`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub common_name: bool,
    /// `serialNumber`: `SN`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub serial_number: bool,
    /// `domainComponent`: `DC`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub domain_component: bool,
}
