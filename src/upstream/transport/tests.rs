use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair as Key, SanType};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{KeyPair, TransportSettings, Version};

/// A certificate and its key.
struct Made {
    certificate: rcgen::Certificate,
    params: CertificateParams,
    key: Key,
}

impl Made {
    fn pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    fn pair(&self) -> KeyPair {
        KeyPair {
            chain: self.pem(),
            key: self.key.serialize_pem().into_bytes(),
        }
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

fn authority(name: &str) -> Made {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = Key::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Made {
        certificate,
        params,
        key,
    }
}

/// Signed for `name`, which may be a URI.
fn signed(name: &str, authority: &Made) -> Made {
    let mut params = CertificateParams::default();
    let san = match name.contains("://") {
        true => SanType::URI(name.try_into().unwrap()),
        false => SanType::DnsName(name.try_into().unwrap()),
    };
    params.subject_alt_names.push(san);
    let key = Key::generate().unwrap();
    let issuer = Issuer::from_params(&authority.params, &authority.key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Made {
        certificate,
        params,
        key,
    }
}

fn settings() -> TransportSettings {
    TransportSettings::new("t@file".into())
}

fn none() -> Arc<RootCertStore> {
    Arc::new(RootCertStore::empty())
}

/// Shakes hands as a client with these settings and a server with `made`; the protocol agreed on, or the client's or server's complaint.
async fn shake(
    settings: TransportSettings,
    made: &Made,
    client_roots: Option<&Made>,
) -> Result<Option<Vec<u8>>, String> {
    let transport = settings
        .build(None, &none())
        .map_err(|error| error.to_string())?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client_roots {
        Some(made) => {
            let mut roots = RootCertStore::empty();
            roots.add(made.certificate.der().clone()).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let chain = vec![made.certificate.der().clone()];
    let mut config = builder.with_single_cert(chain, made.key_der()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (client, server) = tokio::io::duplex(1 << 16);
    let name = transport
        .server_name
        .clone()
        .unwrap_or_else(|| "app".to_owned());
    let name = ServerName::try_from(name).unwrap();
    let (client, server) = tokio::join!(
        TlsConnector::from(Arc::clone(&transport.tls)).connect(name, client),
        TlsAcceptor::from(Arc::new(config)).accept(server),
    );
    let client = client.map_err(|error| format!("client: {error}"))?;
    server.map_err(|error| format!("server: {error}"))?;
    Ok(client.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn certificates_are_checked_as_the_settings_say() {
    let (authority, stranger) = (authority("ours"), authority("strange"));
    let app = signed("app", &authority);
    let spiffe = signed("spiffe://example/app", &authority);
    let trusting = || TransportSettings {
        root_cas: vec![authority.pem()],
        ..settings()
    };
    let uri = |uri: &str| TransportSettings {
        peer_cert_uri: uri.to_owned(),
        ..trusting()
    };
    let named = |name: &str| TransportSettings {
        server_name: name.to_owned(),
        ..trusting()
    };
    let skipping = |root_cas| TransportSettings {
        insecure_skip_verify: true,
        root_cas,
        ..settings()
    };
    for (title, settings, made, fine) in [
        ("trusted", trusting(), &app, true),
        ("no root at all", settings(), &app, false),
        (
            "another root",
            TransportSettings {
                root_cas: vec![stranger.pem()],
                ..settings()
            },
            &app,
            false,
        ),
        (
            "two roots in one file",
            TransportSettings {
                root_cas: vec![[stranger.pem(), authority.pem()].concat()],
                ..settings()
            },
            &app,
            true,
        ),
        ("another name", named("other"), &app, false),
        ("this name", named("app"), &app, true),
        ("not checked", skipping(vec![]), &app, true),
        (
            "not checked, roots or not",
            skipping(vec![stranger.pem()]),
            &app,
            true,
        ),
        (
            "the URI instead of the name",
            uri("spiffe://example/app"),
            &spiffe,
            true,
        ),
        ("another URI", uri("spiffe://example/other"), &spiffe, false),
        ("no URI", uri("spiffe://example/app"), &app, false),
        (
            "the URI of a stranger's",
            TransportSettings {
                root_cas: vec![stranger.pem()],
                ..uri("spiffe://example/app")
            },
            &spiffe,
            false,
        ),
    ] {
        let got = shake(settings, made, None).await;
        assert_eq!(got.is_ok(), fine, "{title}: {got:?}");
    }
}

#[tokio::test]
async fn a_self_signed_authority_listed_as_root_may_be_presented_itself() {
    let mut params = CertificateParams::new(["app".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = Key::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let made = Made {
        certificate,
        params,
        key,
    };
    let trusting = TransportSettings {
        root_cas: vec![made.pem()],
        ..settings()
    };
    shake(trusting.clone(), &made, None).await.unwrap();
    let other_name = TransportSettings {
        server_name: "other".into(),
        ..trusting
    };
    assert!(shake(other_name, &made, None).await.is_err());

    let mut params = made.params.clone();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    let expired = Made {
        certificate: params.self_signed(&made.key).unwrap(),
        key: Key::from_pem(&made.key.serialize_pem()).unwrap(),
        params,
    };
    let trusting = TransportSettings {
        root_cas: vec![expired.pem()],
        ..settings()
    };
    let reason = shake(trusting, &expired, None).await.unwrap_err();
    assert!(reason.contains("Expired"), "{reason}");
}

#[tokio::test]
async fn client_certificates_are_shown() {
    let (authority, stranger) = (authority("ours"), authority("strange"));
    let app = signed("app", &authority);
    let client = signed("client", &authority);
    let other = signed("client", &stranger);
    let with = |certificates| TransportSettings {
        root_cas: vec![authority.pem()],
        certificates,
        ..settings()
    };
    for (title, certificates, fine) in [
        ("none", vec![], false),
        ("the right one", vec![client.pair()], true),
        (
            "the right one of two",
            vec![other.pair(), client.pair()],
            true,
        ),
        ("the wrong one", vec![other.pair()], false),
    ] {
        let mut settings = with(certificates);
        // In TLS 1.3 the client is done before it hears of a refusal.
        settings.max_version = Some(Version::Tls12);
        let got = shake(settings, &app, Some(&authority)).await;
        assert_eq!(got.is_ok(), fine, "{title}: {got:?}");
    }
}

#[tokio::test]
async fn protocols() {
    let authority = authority("ours");
    let app = signed("app", &authority);
    for (disable_http2, expected) in [(false, &b"h2"[..]), (true, b"http/1.1")] {
        let settings = TransportSettings {
            root_cas: vec![authority.pem()],
            disable_http2,
            ..settings()
        };
        let got = shake(settings, &app, None).await.unwrap();
        assert_eq!(got.as_deref(), Some(expected));
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let (authority, stranger) = (authority("ours"), authority("strange"));
    let mixed = KeyPair {
        chain: authority.pem(),
        key: stranger.pair().key,
    };
    let keyless = KeyPair {
        chain: authority.pem(),
        key: b"nothing".to_vec(),
    };
    for (settings, option) in [
        (
            TransportSettings {
                root_cas: vec![b"nothing".to_vec()],
                ..settings()
            },
            "rootCAs",
        ),
        (
            TransportSettings {
                certificates: vec![mixed],
                ..settings()
            },
            "certificates",
        ),
        (
            TransportSettings {
                certificates: vec![keyless],
                ..settings()
            },
            "certificates.keyFile",
        ),
        (
            TransportSettings {
                min_version: Some(Version::Tls13),
                max_version: Some(Version::Tls12),
                ..settings()
            },
            "minVersion",
        ),
        (
            TransportSettings {
                cipher_suites: vec![rustls::CipherSuite::TLS13_AES_128_GCM_SHA256],
                max_version: Some(Version::Tls12),
                ..settings()
            },
            "cipherSuites",
        ),
    ] {
        let error = settings.build(None, &none()).unwrap_err();
        assert_eq!(error.option, option, "{error}");
    }
}

#[test]
fn equal_settings_give_the_same_transport() {
    let first = settings().build(None, &none()).unwrap();
    let again = settings().build(Some(&first), &none()).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let other = TransportSettings {
        max_idle_per_host: 1,
        ..settings()
    };
    assert!(!Arc::ptr_eq(
        &first,
        &other.build(Some(&first), &none()).unwrap()
    ));
}
