//! Certificates as the API shows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Api, list::Item};
use crate::{
    observe::{CertificateState, Resolvers, clock_text},
    snapshot::catalog::{Catalog, CertificateEntry, Status},
};

impl Api<'_> {
    pub(super) fn certificates(&self) -> Vec<Item> {
        let objects = objects(self.catalog, &self.admin.resolvers).into_iter();
        let items = objects.map(|object| {
            let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
            let sans = object["sans"].as_array().into_iter().flatten();
            let sans: Vec<&str> = sans.filter_map(Value::as_str).collect();
            Item {
                search: vec![
                    text("commonName"),
                    text("issuerCN"),
                    text("issuerOrg"),
                    sans.join(","),
                ],
                ..Item::new(&text("name"))
            }
            .showing(object)
        });
        items.collect()
    }

    pub(super) fn certificate(&self, name: &str) -> Option<Value> {
        let mut objects = objects(self.catalog, &self.admin.resolvers).into_iter();
        objects.find(|object| object["name"] == name)
    }

    /// How the certificates resolvers are.
    pub(super) fn resolvers(&self) -> Vec<Value> {
        let states = self.admin.resolvers.states().into_iter();
        let told = states.map(|(name, state)| {
            let mut told = json!({
                "name": &*name,
                "registered": state.registered,
                "orders": state.orders,
                "certificates": state.certificates.len(),
            });
            if let Some(next) = state.next() {
                told["nextAttempt"] = date(next).into();
            }
            told
        });
        told.collect()
    }
}

/// The certificates in use, and those that resolvers are yet to obtain.
pub(crate) fn objects(catalog: &Catalog, resolvers: &Resolvers) -> Vec<Value> {
    let states = resolvers.states();
    let rows = || {
        states
            .iter()
            .flat_map(|(name, state)| state.certificates.iter().map(move |row| (&**name, row)))
    };
    let in_use = catalog.certificates.iter().map(|certificate| {
        let mut shown = object(certificate);
        let about = |(_, row): &(&str, &CertificateState)| {
            row.fingerprint.as_ref() == Some(&certificate.fingerprint)
        };
        if let Some((resolver, row)) = rows().find(about) {
            tell(&mut shown, resolver, row);
        }
        shown
    });
    let to_come = rows().filter(|(_, row)| row.fingerprint.is_none());
    let to_come = to_come.map(|(resolver, row)| {
        let mut shown = json!({
            "name": row.names.join(","),
            "sans": row.names,
            "commonName": row.names.first(),
            "status": Status::Warning.as_str(),
        });
        tell(&mut shown, resolver, row);
        shown
    });
    in_use.chain(to_come).collect()
}

/// Adds what its resolver says of a certificate.
fn tell(object: &mut Value, resolver: &str, row: &CertificateState) {
    let mut add = |field: &str, value: Value| {
        if let Value::Object(fields) = object {
            fields.insert(field.to_owned(), value);
        }
    };
    add("resolver", resolver.into());
    add("state", row.phase.as_str().into());
    if let Some(challenge) = row.challenge {
        add("challenge", challenge.into());
    }
    if let Some(next) = row.next {
        add("nextAttempt", date(next).into());
    }
    if row.advised {
        add("advised", true.into());
    }
    if let Some(explanation) = &row.explanation {
        add("explanation", explanation.as_str().into());
    }
    if row.failures > 0 {
        add("failures", row.failures.into());
    }
    if let Some(error) = &row.error {
        add("lastError", error.as_str().into());
    }
    if let Some(limit) = &row.limit {
        add("waitsFor", limit.as_str().into());
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
        if let Some(until) = certificate.staple_until {
            fields.insert("stapleUntil".to_owned(), date(until).into());
        }
    }
    object
}

fn date(seconds: i64) -> String {
    clock_text(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

const MONTH: i64 = 30 * 24 * 3600;
