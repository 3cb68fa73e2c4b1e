//! The subject of a client's certificate as one line of text.

use std::fmt::Write as _;

use x509_parser::{asn1_rs::Oid, oid_registry as oid, x509::X509Name};

/// Kinds of attributes in the order in which they are shown: fixed, as Traefik (Go) has it, whatever the certificate's own order.
const KINDS: [(Oid<'static>, &str); 9] = [
    (oid::OID_X509_SERIALNUMBER, "SERIALNUMBER"),
    (oid::OID_X509_COMMON_NAME, "CN"),
    (oid::OID_X509_POSTAL_CODE, "POSTALCODE"),
    (oid::OID_X509_STREET_ADDRESS, "STREET"),
    (oid::OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
    (oid::OID_X509_LOCALITY_NAME, "L"),
    (oid::OID_X509_ORGANIZATIONAL_UNIT, "OU"),
    (oid::OID_X509_ORGANIZATION_NAME, "O"),
    (oid::OID_X509_COUNTRY_NAME, "C"),
];

/// The subject by RFC 2253, with everything escaped that would look like another attribute.
pub(super) fn line(subject: &X509Name<'_>) -> String {
    let mut parts = Vec::new();
    for (kind, name) in &KINDS {
        let values = subject.iter_by_oid(kind);
        let values: Vec<_> = values
            .filter_map(|attribute| attribute.as_str().ok())
            .map(|value| format!("{name}={}", escaped(value)))
            .collect();
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    let known = |kind: &Oid<'_>| KINDS.iter().any(|(known, _)| known == kind);
    let mut others: Vec<_> = subject
        .iter_attributes()
        .filter(|attribute| !known(attribute.attr_type()))
        .filter_map(|attribute| {
            let value = attribute.as_str().ok()?;
            Some(format!("{}=#{}", attribute.attr_type(), encoded(value)))
        })
        .collect();
    others.reverse();
    parts.extend(others);
    parts.join(",")
}

/// RFC 2253 section 2.4.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let special = match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => at == 0,
            ' ' => at == 0 || at == last,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// The value in DER, in hexadecimal digits, for kinds that have no name.
fn encoded(value: &str) -> String {
    const UTF8_STRING: u8 = 0x0c;
    const PRINTABLE_STRING: u8 = 0x13;
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    let tag = if value.bytes().all(printable) {
        PRINTABLE_STRING
    } else {
        UTF8_STRING
    };
    let mut der = vec![tag];
    match u8::try_from(value.len()) {
        Ok(length) if length < 0x80 => der.push(length),
        Ok(length) => der.extend([0x81, length]),
        // A name of this length is nobody's.
        Err(_) => return String::new(),
    }
    der.extend(value.bytes());
    der.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn shown(attributes: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        line(parsed.subject())
    }

    #[test]
    fn the_order_is_fixed_and_nothing_can_be_forged() {
        let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        for (attributes, expected) in [
            (
                vec![
                    (DnType::CountryName, "DE"),
                    (DnType::OrganizationName, "Acme, Inc."),
                    (DnType::CommonName, "client"),
                ],
                "CN=client,O=Acme\\, Inc.,C=DE",
            ),
            (
                vec![
                    (DnType::CommonName, "client"),
                    (DnType::OrganizationName, "Org"),
                ],
                "CN=client,O=Org",
            ),
            (
                vec![(DnType::CommonName, " #a+b=\"c\"<d>;e ")],
                "CN=\\ #a\\+b=\\\"c\\\"\\<d\\>\\;e\\ ",
            ),
            (
                vec![(email, "a@b"), (DnType::CommonName, "client")],
                "CN=client,1.2.840.113549.1.9.1=#0c03614062",
            ),
            (vec![], ""),
        ] {
            assert_eq!(shown(&attributes), expected);
        }
    }
}
