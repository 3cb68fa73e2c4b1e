//! Certificates as the API shows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Api, list::Item};
use crate::{
    observe::clock_text,
    snapshot::catalog::{CertificateEntry, Status},
};

impl Api<'_> {
    pub(super) fn certificates(&self) -> Vec<Item> {
        let items = self.catalog.certificates.iter().map(|certificate| Item {
            search: vec![
                certificate.common_name.clone(),
                certificate.issuer_common_name.clone(),
                certificate.issuer_organization.clone(),
                certificate.sans.join(","),
            ],
            object: object(certificate),
            ..Item::new(&certificate.fingerprint)
        });
        items.collect()
    }

    pub(super) fn certificate(&self, name: &str) -> Option<Value> {
        let found = self
            .catalog
            .certificates
            .iter()
            .find(|certificate| certificate.fingerprint == name);
        found.map(object)
    }
}

/// Enabled, about to expire (warning), or expired (disabled).
pub(super) fn status(certificate: &CertificateEntry) -> Status {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let left = certificate.not_after.saturating_sub_unsigned(now.as_secs());
    match left {
        left if left <= 0 => Status::Disabled,
        left if left < MONTH => Status::Warning,
        _ => Status::Enabled,
    }
}

fn object(certificate: &CertificateEntry) -> Value {
    let mut sans = certificate.sans.clone();
    sans.sort();
    let status = match status(certificate) {
        Status::Disabled => "expired",
        other => other.as_str(),
    };
    let mut object = json!({
        "name": certificate.fingerprint,
        "sans": sans,
        "notAfter": date(certificate.not_after),
        "notBefore": date(certificate.not_before),
        "serialNumber": certificate.serial_number,
        "commonName": certificate.common_name,
        "issuerOrg": certificate.issuer_organization,
        "issuerCN": certificate.issuer_common_name,
        "issuerCountry": certificate.issuer_country,
        "organization": certificate.organization,
        "country": certificate.country,
        "version": "v3",
        "keyType": certificate.key_type,
        "keySize": certificate.key_size,
        "signatureAlgorithm": certificate.signature_algorithm,
        "certFingerprint": certificate.fingerprint,
        "publicKeyFingerprint": certificate.public_key_fingerprint,
        "status": status,
    });
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| *value != json!("") && *value != json!(0));
    }
    object
}

fn date(seconds: i64) -> String {
    clock_text(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

const MONTH: i64 = 30 * 24 * 3600;
