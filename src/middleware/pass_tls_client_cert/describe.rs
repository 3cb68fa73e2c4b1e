//! What one certificate says, in the notation that servers behind Traefik read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::{
    asn1_rs::{Any, Oid, Tag, oid},
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry as known,
    x509::X509Name,
};

use crate::config::routing::ClientCertInfo;

/// The wanted fields that the certificate has, as in `Subject="C=DE,CN=me";NB="0"`. Values are not escaped.
pub(super) fn certificate(info: &ClientCertInfo, der: &[u8]) -> Vec<u8> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(der) else {
        return Vec::new();
    };
    let mut fields = Vec::new();
    let mut add = |name: &str, value: &[u8]| {
        fields.push([name.as_bytes(), b"=\"", value, b"\""].concat());
    };
    let names = [
        ("Subject", parsed.subject(), subject_parts(info)),
        ("Issuer", parsed.issuer(), issuer_parts(info)),
    ];
    for (field, name, parts) in names {
        let parts = named_parts(name, &parts);
        if !parts.is_empty() {
            add(field, &parts.join(&b","[..]));
        }
    }
    if info.serial_number {
        add(
            "SerialNumber",
            parsed.tbs_certificate.serial.to_string().as_bytes(),
        );
    }
    let validity = parsed.validity();
    let times = [
        ("NB", info.not_before, &validity.not_before),
        ("NA", info.not_after, &validity.not_after),
    ];
    for (field, _, time) in times.into_iter().filter(|(_, wanted, _)| *wanted) {
        add(
            field,
            time.timestamp().cast_unsigned().to_string().as_bytes(),
        );
    }
    if info.sans {
        let names = alternative_names(&parsed);
        if !names.is_empty() {
            add("SAN", &names.join(&b","[..]));
        }
    }
    fields.join(&b";"[..])
}

/// One attribute of a name: what it is, its short name, and whether of several values only the last counts.
type Part = (Oid<'static>, &'static [u8], bool);

fn subject_parts(info: &ClientCertInfo) -> Vec<Part> {
    let Some(wanted) = &info.subject else {
        return Vec::new();
    };
    parts([
        wanted.domain_component,
        wanted.country,
        wanted.province,
        wanted.locality,
        wanted.organization,
        wanted.organizational_unit,
        wanted.serial_number,
        wanted.common_name,
    ])
}

fn issuer_parts(info: &ClientCertInfo) -> Vec<Part> {
    let Some(wanted) = &info.issuer else {
        return Vec::new();
    };
    parts([
        wanted.domain_component,
        wanted.country,
        wanted.province,
        wanted.locality,
        wanted.organization,
        false,
        wanted.serial_number,
        wanted.common_name,
    ])
}

/// The parts that are wanted, in the order in which they are told.
fn parts(wanted: [bool; 8]) -> Vec<Part> {
    let all: [Part; 8] = [
        (DOMAIN_COMPONENT, b"DC", false),
        (known::OID_X509_COUNTRY_NAME, b"C", false),
        (known::OID_X509_STATE_OR_PROVINCE_NAME, b"ST", false),
        (known::OID_X509_LOCALITY_NAME, b"L", false),
        (known::OID_X509_ORGANIZATION_NAME, b"O", false),
        (known::OID_X509_ORGANIZATIONAL_UNIT, b"OU", false),
        (known::OID_X509_SERIALNUMBER, b"SN", true),
        (known::OID_X509_COMMON_NAME, b"CN", true),
    ];
    all.into_iter()
        .zip(wanted)
        .filter_map(|(part, wanted)| wanted.then_some(part))
        .collect()
}

fn named_parts(name: &X509Name<'_>, parts: &[Part]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (kind, short, last_only) in parts {
        let values = name
            .iter_by_oid(kind)
            .filter_map(|attribute| text(attribute.attr_value()));
        let values: Vec<Vec<u8>> = match last_only {
            true => values.last().into_iter().collect(),
            false => values.collect(),
        };
        // Empty values are left out, but for components of a domain.
        let values = values
            .into_iter()
            .filter(|value| !value.is_empty() || *short == b"DC");
        found.extend(values.map(|value| [short, &b"="[..], &value].concat()));
    }
    found
}

/// The text of an attribute, if it is one.
fn text(value: &Any<'_>) -> Option<Vec<u8>> {
    match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::T61String => Some(value.data.to_vec()),
        Tag::BmpString => {
            let units = value
                .data
                .chunks_exact(2)
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            Some(String::from_utf16_lossy(&units.collect::<Vec<_>>()).into_bytes())
        }
        _ => None,
    }
}

/// DNS names, then mail addresses, IP addresses and URIs.
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<Vec<u8>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let mut kinds: [Vec<Vec<u8>>; 4] = Default::default();
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => kinds[0].push(name.as_bytes().to_vec()),
            GeneralName::RFC822Name(address) => kinds[1].push(address.as_bytes().to_vec()),
            GeneralName::IPAddress(bytes) => kinds[2].extend(address(bytes)),
            GeneralName::URI(uri) => kinds[3].push(uri.as_bytes().to_vec()),
            _ => {}
        }
    }
    kinds.concat()
}

fn address(bytes: &[u8]) -> Option<Vec<u8>> {
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        16 => IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical(),
        _ => return None,
    };
    Some(address.to_string().into_bytes())
}

/// RFC 2247.
const DOMAIN_COMPONENT: Oid<'static> = oid!(0.9.2342.19200300.100.1.25);
