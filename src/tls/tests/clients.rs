//! Client certificates: five kinds, each against no certificate, a signed one and a stranger's.

use super::*;

struct Clients {
    authority: Authority,
    stranger: Authority,
    pinned: Pair,
}

impl Clients {
    fn new() -> Self {
        let mut params = params(&["pinned"]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pinned = Pair {
            chain: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        };
        Self {
            authority: Authority::new("clients"),
            stranger: Authority::new("strangers"),
            pinned,
        }
    }

    fn table(&self, kind: Option<ClientAuthType>, with_authorities: bool) -> SniTable {
        let mut options = TlsOptions::default();
        options.client_auth.client_auth_type = kind;
        let authorities = [&self.authority.pem, &self.pinned.chain];
        let spec = OptionsSpec {
            options,
            authorities: authorities
                .into_iter()
                .filter(|_| with_authorities)
                .map(|pem| Arc::from(pem.as_str()))
                .collect(),
        };
        let mut inputs = inputs(certificates(&[&["a.test"]]), &[]);
        inputs.options.insert("default".into(), Some(spec));
        Tls::build(inputs, None).sni_table([])
    }
}

#[tokio::test]
async fn demands_client_certificates() {
    use ClientAuthType::{
        NoClientCert, RequestClientCert, RequireAndVerifyClientCert, RequireAnyClientCert,
        VerifyClientCertIfGiven,
    };
    let clients = Clients::new();
    // (kind, caFiles) -> accepted without one, with a signed one, with a stranger's, with the pinned one.
    let cases = [
        (Some(NoClientCert), true, [true, true, true, true]),
        (Some(RequestClientCert), false, [true, true, true, true]),
        (Some(RequireAnyClientCert), false, [false, true, true, true]),
        (
            Some(VerifyClientCertIfGiven),
            true,
            [true, true, false, true],
        ),
        (
            Some(RequireAndVerifyClientCert),
            true,
            [false, true, false, true],
        ),
        (None, true, [false, true, false, true]),
        (None, false, [true, true, true, true]),
    ];
    for (kind, with_authorities, expected) in cases {
        let table = clients.table(kind, with_authorities);
        let identities = [
            None,
            Some(clients.authority.sign(&["client"])),
            Some(clients.stranger.sign(&["client"])),
            Some(Pair {
                chain: clients.pinned.chain.clone(),
                key: clients.pinned.key.clone(),
            }),
        ];
        for (identity, accepted) in identities.into_iter().zip(expected) {
            let der = identity.as_ref().map(|pair| pair.der().to_vec());
            let client = Client {
                identity,
                ..Client::default()
            };
            let handshake = client.connect(&table, "a.test").await;
            assert_eq!(handshake.server.is_ok(), accepted, "{kind:?}");
            let asked = !matches!(kind, Some(NoClientCert)) && (kind.is_some() || with_authorities);
            if let Ok(session) = handshake.server {
                let expected: Vec<_> = der.into_iter().filter(|_| asked).collect();
                assert_eq!(session.client_certificates, expected, "{kind:?}");
            }
        }
    }
}

#[tokio::test]
async fn refuses_expired_client_certificates() {
    let clients = Clients::new();
    let table = clients.table(Some(ClientAuthType::RequireAndVerifyClientCert), true);
    let client = Client {
        identity: Some(clients.authority.sign_until(&["client"], 2020)),
        ..Client::default()
    };
    assert!(
        client
            .connect(&table, "a.test")
            .await
            .server
            .unwrap_err()
            .contains("xpired")
    );
}

#[tokio::test]
async fn never_resumes_a_session_into_options_that_demand_more() {
    let clients = Clients::new();
    let tls = |kind, previous: Option<&Tls>| {
        let mut options = TlsOptions::default();
        options.client_auth.client_auth_type = Some(kind);
        let spec = OptionsSpec {
            options,
            authorities: vec![clients.authority.pem.as_str().into()],
        };
        let mut inputs = inputs(vec![], &[]);
        inputs.options.insert("default".into(), Some(spec));
        Tls::build(inputs, previous)
    };
    let open = tls(ClientAuthType::NoClientCert, None);
    let closed = tls(ClientAuthType::RequireAndVerifyClientCert, Some(&open));
    let config = Client::default().config();
    for _ in 0..2 {
        let handshake = handshake(&open.sni_table([]), Arc::clone(&config), "a.test").await;
        assert!(handshake.server.is_ok());
    }
    let handshake = handshake(&closed.sni_table([]), config, "a.test").await;
    assert!(handshake.server.is_err());
}
