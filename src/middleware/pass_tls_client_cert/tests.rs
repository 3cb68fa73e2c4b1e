use std::rc::Rc;

use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, SerialNumber};

use super::*;
use crate::{
    exchange::Connection,
    middleware::{
        Middleware,
        testing::{Fixture, built},
    },
};

const ALL: &str = r#"{"notAfter":true,"notBefore":true,"sans":true,"serialNumber":true,
    "subject":{"country":true,"province":true,"locality":true,"organization":true,"organizationalUnit":true,
        "commonName":true,"serialNumber":true,"domainComponent":true},
    "issuer":{"country":true,"organization":true,"commonName":true,"domainComponent":true}}"#;

fn certificate(names: &[(DnType, DnValue)], sans: Vec<SanType>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in names {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params.subject_alt_names = sans;
    params.serial_number = Some(SerialNumber::from_slice(&[
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ]));
    params.not_before = rcgen::date_time_ymd(2020, 1, 2);
    params.not_after = rcgen::date_time_ymd(2040, 1, 2);
    let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    signed.der().to_vec()
}

fn utf8(text: &str) -> DnValue {
    DnValue::Utf8String(text.to_owned())
}

fn client() -> Vec<u8> {
    let ia5 = |text: &str| text.try_into().unwrap();
    certificate(
        &[
            (DnType::CountryName, utf8("DE")),
            (DnType::OrganizationName, utf8("Müller, \"Söhne\"; Co")),
            (DnType::OrganizationalUnitName, utf8("")),
            (DnType::CommonName, utf8("a client")),
        ],
        vec![
            SanType::URI(ia5("spiffe://a/b")),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::DnsName(ia5("a.test")),
            SanType::Rfc822Name(ia5("a@b.test")),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::DnsName(ia5("*.b.test")),
        ],
    )
}

fn exchange(chain: Vec<Vec<u8>>) -> Exchange {
    let mut exchange = Fixture::get("/")
        .tls()
        .with("x-forwarded-tls-client-cert", "forged")
        .with("x-forwarded-tls-client-cert-info", "forged")
        .exchange();
    let connection: &mut Connection = Rc::get_mut(&mut exchange.connection).unwrap();
    connection.tls.as_mut().unwrap().client_certificates = chain;
    exchange
}

fn told(options: &str, exchange: &mut Exchange) -> [Option<String>; 2] {
    tell(
        &built(&format!(r#"{{"passTLSClientCert":{options}}}"#)),
        exchange,
    )
}

fn tell(middleware: &Middleware, exchange: &mut Exchange) -> [Option<String>; 2] {
    assert!(matches!(middleware.request(exchange), Flow::Continue));
    [&CERT, &CERT_INFO].map(|name| {
        let values = exchange.request.headers.get_all(name);
        let values: Vec<_> = values.iter().map(|it| it.to_str().unwrap()).collect();
        assert!(values.len() <= 1, "{values:?}");
        values.first().map(|value| (*value).to_owned())
    })
}

fn unescaped(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text)
        .decode_utf8()
        .unwrap()
        .into_owned()
}

#[test]
fn everything_about_a_certificate() {
    let [_, info] = told(
        &format!(r#"{{"info":{ALL}}}"#),
        &mut exchange(vec![client()]),
    );
    let info = info.unwrap();
    assert!(
        info.starts_with("Subject%3D%22C%3DDE%2CO%3DM%C3%BCller%2C+%22S%C3%B6hne%22%3B+Co%2CCN%3Da+client%22%3BIssuer"),
        "{info}"
    );
    let expected = concat!(
        r#"Subject="C=DE,O=Müller, "Söhne"; Co,CN=a client";"#,
        r#"Issuer="C=DE,O=Müller, "Söhne"; Co,CN=a client";"#,
        r#"SerialNumber="340282366920938463463374607431768211457";"#,
        r#"NB="1577923200";NA="2209075200";"#,
        r#"SAN="a.test,*.b.test,a@b.test,192.0.2.1,2001:db8::1,spiffe://a/b""#
    );
    assert_eq!(unescaped(&info), expected);
}

#[test]
fn only_what_is_asked_for() {
    let leaf = client();
    let other = certificate(&[(DnType::CommonName, utf8("ca"))], Vec::new());
    for (options, expected) in [
        (
            r#"{"subject":{"commonName":true}}"#,
            r#"Subject="CN=a client",Subject="CN=ca""#,
        ),
        (
            r#"{"issuer":{"country":true},"sans":true}"#,
            r#"Issuer="C=DE";SAN="a.test,*.b.test,a@b.test,192.0.2.1,2001:db8::1,spiffe://a/b","#,
        ),
        (
            r#"{"notBefore":true}"#,
            r#"NB="1577923200",NB="1577923200""#,
        ),
        (r#"{"subject":{}}"#, ","),
        (r#"{"subject":{"locality":true}}"#, ","),
    ] {
        let mut exchange = exchange(vec![leaf.clone(), other.clone()]);
        let [pem, info] = told(&format!(r#"{{"info":{options}}}"#), &mut exchange);
        assert_eq!(
            (pem, unescaped(&info.unwrap())),
            (None, expected.to_owned()),
            "{options}"
        );
    }
}

#[test]
fn the_certificates_themselves() {
    let chain = vec![client(), certificate(&[], Vec::new())];
    let [pem, info] = told(r#"{"pem":true}"#, &mut exchange(chain.clone()));
    let pem = pem.unwrap();
    let decoded: Vec<Vec<u8>> = pem
        .split(',')
        .map(|it| STANDARD.decode(it).unwrap())
        .collect();
    assert_eq!((decoded, info), (chain, None));
}

#[test]
fn without_a_certificate_nothing_is_told_and_nothing_gets_through() {
    let options = format!(r#"{{"pem":true,"info":{ALL}}}"#);
    let forged = || {
        Fixture::get("/")
            .with("x-forwarded-tls-client-cert", "forged")
            .with("x-forwarded-tls-client-cert-info", "forged")
    };
    for exchange in [&mut forged().exchange(), &mut exchange(Vec::new())] {
        assert_eq!(told(&options, exchange), [None, None]);
    }
    assert_eq!(told("{}", &mut exchange(vec![client()])), [None, None]);
}

#[test]
fn a_certificate_that_cannot_be_read_says_nothing() {
    let [pem, info] = told(
        r#"{"pem":true,"info":{"sans":true}}"#,
        &mut exchange(vec![vec![1, 2]]),
    );
    assert_eq!((pem.as_deref(), info.as_deref()), (Some("AQI="), Some("")));
}

#[test]
fn computed_once_per_connection_and_instance() {
    let (first, second) = (
        built(r#"{"passTLSClientCert":{"info":{"sans":true}}}"#),
        built(r#"{"passTLSClientCert":{"info":{"notBefore":true}}}"#),
    );
    let mut exchange = exchange(vec![client()]);
    let sans = tell(&first, &mut exchange)[1].clone().unwrap();
    assert_ne!(tell(&second, &mut exchange)[1].as_ref().unwrap(), &sans);
    // What is remembered is told again, even of another certificate: no connection has two.
    let connection = Rc::get_mut(&mut exchange.connection).unwrap();
    connection.tls.as_mut().unwrap().client_certificates = vec![vec![1]];
    assert_eq!(tell(&first, &mut exchange)[1].as_ref().unwrap(), &sans);
}
