//! What a server name gets: certificate, options, versions, protocols.

use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::version::{TLS12, TLS13};

use super::*;

#[tokio::test]
async fn chooses_the_certificate_by_name() {
    let certificates = certificates(&[
        &["a.example.com"],
        &["*.example.com", "example.com"],
        &["b.example.com", "c.example.org"],
        &["*.deep.example.com"],
        &["192.0.2.7"],
    ]);
    let table = table(certificates, TlsOptions::default());
    let cases = [
        ("a.example.com", "a.example.com"),
        ("A.Example.COM", "a.example.com"),
        ("b.example.com", "b.example.com"),
        ("c.example.org", "b.example.com"),
        ("x.example.com", "*.example.com"),
        ("example.com", "*.example.com"),
        ("x.deep.example.com", "*.deep.example.com"),
        // A wildcard stands for one label.
        ("x.y.deep.example.com", "PORTWAY DEFAULT CERT"),
        ("other.test", "PORTWAY DEFAULT CERT"),
    ];
    for (name, expected) in cases {
        let handshake = Client::default().connect(&table, name).await;
        assert_eq!(handshake.common_name(), expected, "{name}");
        let sni = handshake.session().sni.as_deref();
        assert_eq!(sni, Some(name.to_ascii_lowercase().as_str()));
    }
    let silent = Client {
        sni: false,
        ..Client::default()
    };
    let handshake = silent.connect(&table, "a.example.com").await;
    assert_eq!(handshake.common_name(), "192.0.2.7");
    assert_eq!(handshake.session().sni, None);
}

#[tokio::test]
async fn prefers_certificates_that_last_longer_whatever_their_order() {
    let authority = Authority::new("servers");
    let expired = authority.sign_until(&["a.test"], 2020);
    let shorter = authority.sign_until(&["a.test"], 2035);
    let longer = authority.sign_until(&["a.test"], 2040);
    let orders = [
        [&expired, &shorter, &longer],
        [&longer, &shorter, &expired],
        [&shorter, &longer, &expired],
    ];
    for order in orders {
        let certificates = order.iter().map(|pair| pair.parse()).collect();
        let table = table(certificates, TlsOptions::default());
        let handshake = Client::default().connect(&table, "a.test").await;
        assert_eq!(handshake.seen().certificate, longer.der());
    }
    // An expired certificate is served when there is no other: the client sees which one to renew.
    let alone = table(vec![expired.parse()], TlsOptions::default());
    let handshake = Client::default().connect(&alone, "a.test").await;
    assert_eq!(handshake.seen().certificate, expired.der());
}

#[tokio::test]
async fn serves_rsa_to_clients_that_cannot_verify_ecdsa() {
    let rsa = Certificate::parse(
        include_bytes!("../../../tests/fixtures/tls/rsa.crt"),
        include_bytes!("../../../tests/fixtures/tls/rsa.pkcs1.key"),
    );
    let ecdsa = Authority::new("servers").sign(&["rsa.example.com"]);
    let table = table(
        vec![Arc::new(rsa.unwrap()), ecdsa.parse()],
        TlsOptions::default(),
    );
    let modern = Client::default().connect(&table, "rsa.example.com").await;
    assert_eq!(modern.seen().certificate, ecdsa.der());
    let mut old = Client {
        versions: vec![&TLS12],
        ..Client::default()
    };
    old.provider.cipher_suites = vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let handshake = old.connect(&table, "rsa.example.com").await;
    assert_ne!(handshake.seen().certificate, ecdsa.der());
    let session = handshake.session();
    assert_eq!(
        (session.version, session.cipher),
        ("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    );
}

#[tokio::test]
async fn refuses_unknown_names_when_strict() {
    let strict = TlsOptions {
        sni_strict: true,
        ..TlsOptions::default()
    };
    let table = table(certificates(&[&["a.test"]]), strict);
    assert!(
        Client::default()
            .connect(&table, "a.test")
            .await
            .server
            .is_ok()
    );
    let silent = Client {
        sni: false,
        ..Client::default()
    };
    for (client, name) in [(&Client::default(), "b.test"), (&silent, "a.test")] {
        let handshake = client.connect(&table, name).await;
        let told = handshake.client.err().unwrap();
        assert!(told.contains("UnrecognisedName"), "{told}");
        assert!(handshake.server.unwrap_err().contains("sniStrict"));
    }
}

type Offered = &'static [&'static str];
/// What is negotiated, or a refusal.
type Protocol = Result<Option<&'static str>, ()>;

#[tokio::test]
async fn negotiates_the_application_protocol() {
    let of = |protocols: &[&str]| {
        protocols
            .iter()
            .map(|one| one.as_bytes().to_vec())
            .collect()
    };
    let default = table(certificates(&[&["a.test"]]), TlsOptions::default());
    let only_http1 = TlsOptions {
        alpn_protocols: Some(vec!["http/1.1".to_owned(), "acme-tls/1".to_owned()]),
        ..TlsOptions::default()
    };
    let only_http1 = table(certificates(&[&["a.test"]]), only_http1);
    let cases: [(_, Offered, Protocol); 6] = [
        (&default, &["http/1.1", "h2"], Ok(Some("h2"))),
        (&default, &["http/1.1"], Ok(Some("http/1.1"))),
        (&default, &[], Ok(None)),
        (&only_http1, &["h2", "http/1.1"], Ok(Some("http/1.1"))),
        (&default, &["ftp"], Err(())),
        (&only_http1, &["acme-tls/1"], Err(())),
    ];
    for (table, offered, expected) in cases {
        let client = Client {
            alpn: of(offered),
            ..Client::default()
        };
        let handshake = client.connect(table, "a.test").await;
        match expected {
            Ok(protocol) => {
                assert_eq!(
                    handshake.seen().alpn.as_deref(),
                    protocol.map(str::as_bytes)
                );
                assert_eq!(handshake.session().h2, protocol == Some("h2"));
            }
            Err(()) => assert!(
                handshake
                    .client
                    .err()
                    .unwrap()
                    .contains("NoApplicationProtocol")
            ),
        }
    }
}

#[tokio::test]
async fn holds_to_the_version_limits() {
    let limits = |min, max| TlsOptions {
        min_version: min,
        max_version: max,
        ..TlsOptions::default()
    };
    let cases = [
        (limits(None, None), Some("1.2"), Some("1.3")),
        (limits(Some(TlsVersion::Tls13), None), None, Some("1.3")),
        (limits(None, Some(TlsVersion::Tls12)), Some("1.2"), None),
        (
            limits(Some(TlsVersion::Tls10), None),
            Some("1.2"),
            Some("1.3"),
        ),
    ];
    for (options, old, new) in cases {
        let table = table(certificates(&[&["a.test"]]), options);
        for (version, expected) in [(&TLS12, old), (&TLS13, new)] {
            let client = Client {
                versions: vec![version],
                ..Client::default()
            };
            let handshake = client.connect(&table, "a.test").await;
            let spoken = handshake.server.ok().map(|session| session.version);
            assert_eq!(spoken, expected);
        }
    }
}

#[tokio::test]
async fn lets_clients_without_fast_aes_choose_the_suite() {
    let table = table(certificates(&[&["a.test"]]), TlsOptions::default());
    let (aes128, aes256, chacha20) = (
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    );
    let cases = [
        (vec![aes256, chacha20, aes128], "TLS_AES_128_GCM_SHA256"),
        (vec![aes256, chacha20], "TLS_AES_256_GCM_SHA384"),
        (vec![chacha20, aes128], "TLS_CHACHA20_POLY1305_SHA256"),
    ];
    for (offered, expected) in cases {
        let mut client = Client::default();
        client.provider.cipher_suites = offered;
        let handshake = client.connect(&table, "a.test").await;
        assert_eq!(handshake.session().cipher, expected);
    }
}

#[tokio::test]
async fn serves_each_host_with_its_options() {
    let only = |version| TlsOptions {
        min_version: Some(version),
        max_version: Some(version),
        ..TlsOptions::default()
    };
    let broken = TlsOptions {
        cipher_suites: vec!["NOPE".to_owned()],
        ..TlsOptions::default()
    };
    let options = [
        ("old@file", only(TlsVersion::Tls12)),
        ("new@file", only(TlsVersion::Tls13)),
        ("broken@file", broken),
    ];
    let mut inputs = inputs(certificates(&[&["*.test"]]), &options);
    inputs.options.insert("twice@file".into(), None);
    let tls = Tls::build(inputs, None);
    assert_eq!(tls.findings().count(), 1);
    let table = tls.sni_table([
        ("a.test", "new@file"),
        ("*.test", "old@file"),
        ("b.test", "broken@file"),
        ("c.test", "twice@file"),
        ("d.test", "missing@file"),
    ]);
    let cases = [
        ("a.test", Ok(("new@file", "1.3"))),
        ("x.test", Ok(("old@file", "1.2"))),
        ("x.y.test", Ok(("default", "1.3"))),
        ("b.test", Err("TLS options `broken@file` cannot be used")),
        ("c.test", Err("TLS options `twice@file` cannot be used")),
        ("d.test", Err("TLS options `missing@file` cannot be used")),
    ];
    for (name, expected) in cases {
        let handshake = Client::default().connect(&table, name).await;
        let got = handshake
            .server
            .as_ref()
            .map(|session| (&*session.options, session.version));
        assert_eq!(got.map_err(String::as_str), expected, "{name}");
        let known = table.options_for(name).ok().map(|options| &**options);
        assert_eq!(known, expected.ok().map(|(options, _)| options));
    }
}
