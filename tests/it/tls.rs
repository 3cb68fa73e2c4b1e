//! Certificates by name, options by host, client certificates, certificates that change on disk.

use serde_json::json;

use crate::support::{
    Authority, Backend, Identity, Proxy, Trust, backend, eventually, exchange, proxy,
};

/// Routing configuration with one TLS router per `hosts` and the given `tls` section.
fn secure(server: &Backend, hosts: &[(&str, &str)], tls: &str) -> String {
    let routers: String = hosts
        .iter()
        .enumerate()
        .map(|(number, (rule, options))| {
            format!("    r{number}: {{rule: '{rule}', service: all, tls: {{{options}}}}}\n")
        })
        .collect();
    let tls = if tls.is_empty() {
        String::new()
    } else {
        format!("tls:\n{tls}")
    };
    format!(
        "http:\n  routers:\n{routers}  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\n{tls}",
        server.url()
    )
}

async fn shown(proxy: &Proxy, host: &str) -> Option<Vec<u8>> {
    proxy
        .client()
        .host(host)
        .tls(Trust::anyone())
        .connect()
        .await
        .ok()?
        .certificate
}

#[tokio::test]
async fn certificates_are_chosen_by_name() {
    let (server, authority, dir) = (
        backend("server").run().await,
        Authority::new("root"),
        tempfile::tempdir().unwrap(),
    );
    let identities = [
        ("a", authority.issue(&["a.test"])),
        ("wild", authority.issue(&["*.w.test"])),
        ("exact", authority.issue(&["x.w.test"])),
        ("default", authority.issue(&["default.test"])),
    ];
    let mut listed = String::new();
    for (name, identity) in &identities {
        let (certificate, key) = identity.write(dir.path(), name);
        if *name == "default" {
            listed += &format!(
                "  stores: {{default: {{defaultCertificate: {{certFile: '{}', keyFile: '{}'}}}}}}\n",
                certificate.display(),
                key.display()
            );
        } else {
            listed = format!(
                "{}    - {{certFile: '{}', keyFile: '{}'}}\n",
                if listed.is_empty() {
                    "  certificates:\n"
                } else {
                    listed.as_str()
                },
                certificate.display(),
                key.display()
            );
        }
    }
    let proxy = proxy(&secure(&server, &[("PathPrefix(`/`)", "")], &listed))
        .run()
        .await;
    for (host, index) in [
        ("a.test", 0),
        ("A.TEST", 0),
        ("y.w.test", 1),
        ("x.w.test", 2),
        ("z.y.w.test", 3),
        ("other.test", 3),
    ] {
        assert_eq!(
            shown(&proxy, host).await,
            Some(identities[index].1.der()),
            "{host}"
        );
    }
    let answer = proxy
        .client()
        .host("a.test")
        .tls(Trust::new(&authority))
        .get("/")
        .await;
    assert_eq!(
        (answer.status, server.last().header("x-forwarded-proto")),
        (200, Some("https"))
    );
}

#[tokio::test]
async fn without_certificates_a_generated_one_is_shown() {
    let server = backend("server").run().await;
    let proxy = proxy(&secure(&server, &[("Host(`a.test`)", "")], ""))
        .run()
        .await;
    let certificate = shown(&proxy, "a.test").await.expect("a certificate");
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    assert!(
        parsed.subject().to_string().contains("DEFAULT CERT"),
        "{}",
        parsed.subject()
    );
    assert_eq!(
        proxy
            .client()
            .host("a.test")
            .tls(Trust::anyone())
            .get("/")
            .await
            .status,
        200
    );
    assert_eq!(
        proxy
            .client()
            .host("b.test")
            .tls(Trust::anyone())
            .get("/")
            .await
            .status,
        404,
        "the handshake completes, no router matches"
    );
    assert_eq!(
        proxy.client().host("a.test").get("/").await.status,
        404,
        "a router with tls does not serve plain requests"
    );
}

#[tokio::test]
async fn entry_point_tls_makes_its_routers_secure() {
    let server = backend("server").run().await;
    let routing = crate::support::all_to(&[server.url()]);
    let proxy = proxy(&routing)
        .entry_point("web", &json!({"http": {"tls": {}}}))
        .run()
        .await;
    assert_eq!(
        proxy
            .client()
            .tls(Trust::anyone())
            .host("a.test")
            .get("/")
            .await
            .status,
        200
    );
    assert_eq!(proxy.client().get("/").await.status, 404);
}

#[tokio::test]
async fn strict_names_refuse_strangers() {
    let (server, authority, dir) = (
        backend("server").run().await,
        Authority::new("root"),
        tempfile::tempdir().unwrap(),
    );
    let (certificate, key) = authority.issue(&["a.test"]).write(dir.path(), "a");
    let tls = format!(
        "  certificates: [{{certFile: '{}', keyFile: '{}'}}]\n  options: {{default: {{sniStrict: true}}}}\n",
        certificate.display(),
        key.display()
    );
    let proxy = proxy(&secure(&server, &[("PathPrefix(`/`)", "")], &tls))
        .run()
        .await;
    assert!(shown(&proxy, "a.test").await.is_some());
    assert_eq!(shown(&proxy, "b.test").await, None);
}

#[tokio::test]
async fn client_certificates_are_demanded_where_configured() {
    let (server, clients, dir) = (
        backend("server").run().await,
        Authority::new("clients"),
        tempfile::tempdir().unwrap(),
    );
    let root = clients.write(dir.path(), "clients.pem");
    let tls = format!(
        "  options: {{mutual: {{clientAuth: {{caFiles: ['{}'], clientAuthType: RequireAndVerifyClientCert}}}}}}\n",
        root.display()
    );
    let proxy = proxy(&secure(
        &server,
        &[
            ("Host(`mutual.test`)", "options: mutual"),
            ("Host(`open.test`)", ""),
        ],
        &tls,
    ))
    .run()
    .await;
    let (mutual, open) = (
        proxy.client().host("mutual.test"),
        proxy.client().host("open.test"),
    );
    assert_eq!(open.clone().tls(Trust::anyone()).get("/").await.status, 200);
    assert!(
        mutual
            .clone()
            .tls(Trust::anyone())
            .get("/")
            .try_send()
            .await
            .is_err(),
        "without a certificate"
    );
    let strangers = Authority::new("strangers");
    let stranger = strangers.issue(&["me"]);
    let credulous = |identity| Trust::anyone().identity(identity);
    assert!(
        mutual
            .clone()
            .tls(credulous(&stranger))
            .get("/")
            .try_send()
            .await
            .is_err(),
        "with a stranger's certificate"
    );
    let member = clients.issue(&["me"]);
    assert_eq!(
        mutual.clone().tls(credulous(&member)).get("/").await.status,
        200
    );
    // Another name in the handshake than in the request must not get around the certificate.
    let fronted = mutual.tls(Trust::anyone().sni("open.test")).get("/").await;
    assert_eq!(
        (fronted.status, fronted.text().as_str()),
        (421, "Misdirected Request\n")
    );
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn versions_can_be_limited() {
    let server = backend("server").run().await;
    let proxy = proxy(&secure(
        &server,
        &[
            ("Host(`new.test`)", "options: modern"),
            ("Host(`old.test`)", "options: legacy"),
        ],
        "  options: {modern: {minVersion: VersionTLS13}, legacy: {maxVersion: VersionTLS12}}\n",
    ))
    .run()
    .await;
    for (host, tls12, tls13) in [("new.test", false, true), ("old.test", true, false)] {
        let client = proxy.client().host(host);
        assert_eq!(
            client
                .clone()
                .tls(Trust::anyone().only(&rustls::version::TLS12))
                .get("/")
                .try_send()
                .await
                .is_ok(),
            tls12,
            "{host} over TLS 1.2"
        );
        assert_eq!(
            client
                .tls(Trust::anyone().only(&rustls::version::TLS13))
                .get("/")
                .try_send()
                .await
                .is_ok(),
            tls13,
            "{host} over TLS 1.3"
        );
    }
}

#[tokio::test]
async fn alpn_decides_the_protocol() {
    let server = backend("server").run().await;
    let proxy = proxy(&secure(
        &server,
        &[
            ("Host(`both.test`)", ""),
            ("Host(`one.test`)", "options: old"),
        ],
        "  options: {old: {alpnProtocols: [http/1.1]}}\n",
    ))
    .run()
    .await;
    assert_eq!(
        proxy
            .client()
            .host("both.test")
            .tls(Trust::anyone())
            .h2()
            .get("/")
            .await
            .version,
        http::Version::HTTP_2
    );
    assert_eq!(
        proxy
            .client()
            .host("one.test")
            .tls(Trust::anyone())
            .get("/")
            .await
            .status,
        200
    );
    assert!(
        proxy
            .client()
            .host("one.test")
            .tls(Trust::anyone())
            .h2()
            .connect()
            .await
            .is_err(),
        "h2 is not offered there"
    );
}

/// Serial number and end of every certificate for `name` that the metrics tell of.
async fn counted(proxy: &Proxy, name: &str) -> Vec<(String, i64)> {
    let metrics = proxy.metrics().await;
    let lines = metrics.lines().filter(|line| {
        line.starts_with("traefik_tls_certs_not_after{")
            && line.contains(&format!("sans=\"{name}\""))
    });
    lines
        .map(|line| {
            let (labels, value) = line.rsplit_once(' ').unwrap();
            let serial = labels.split("serial=\"").nth(1).unwrap();
            let serial = serial.split('"').next().unwrap().to_owned();
            (serial, value.parse::<f64>().unwrap() as i64)
        })
        .collect()
}

fn ends(identity: &Identity) -> (String, i64) {
    let der = identity.der();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let end = certificate.validity().not_after.timestamp();
    (certificate.tbs_certificate.serial.to_string(), end)
}

#[tokio::test]
async fn a_certificate_that_changes_on_disk_is_shown_without_a_restart() {
    if crate::support::subject_is_traefik() {
        return;
    }
    let (server, authority, dir) = (
        backend("server").run().await,
        Authority::new("root"),
        tempfile::tempdir().unwrap(),
    );
    let old = authority.issue(&["a.test"]);
    let (certificate, key) = old.write(dir.path(), "a");
    let tls = format!(
        "  certificates: [{{certFile: '{}', keyFile: '{}'}}]\n",
        certificate.display(),
        key.display()
    );
    let proxy = proxy(&secure(&server, &[("Host(`a.test`)", "")], &tls))
        .run()
        .await;
    assert_eq!(shown(&proxy, "a.test").await, Some(old.der()));
    assert_eq!(counted(&proxy, "a.test").await, [ends(&old)]);
    let new = authority.issue(&["a.test"]);
    new.write(dir.path(), "a");
    eventually("the new certificate is shown", async || {
        (shown(&proxy, "a.test").await == Some(new.der())).then_some(())
    })
    .await;
    eventually("the new certificate alone is counted", async || {
        (counted(&proxy, "a.test").await == [ends(&new)]).then_some(())
    })
    .await;
    // Half a renewal (the key does not fit) must not take the good pair away.
    let third = authority.issue(&["a.test"]);
    std::fs::write(&certificate, b"-----BEGIN CERTIFICATE-----\ngarbage\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(shown(&proxy, "a.test").await, Some(new.der()));
    third.write(dir.path(), "a");
    eventually("the third certificate is shown", async || {
        (shown(&proxy, "a.test").await == Some(third.der())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broken_certificate_leaves_the_others_alone() {
    let (server, authority, dir) = (
        backend("server").run().await,
        Authority::new("root"),
        tempfile::tempdir().unwrap(),
    );
    let good = authority.issue(&["good.test"]);
    let (good_certificate, good_key) = good.write(dir.path(), "good");
    let (bad_certificate, _) = authority.issue(&["bad.test"]).write(dir.path(), "bad");
    let tls = format!(
        "  certificates:\n    - {{certFile: '{}', keyFile: '{}'}}\n    - {{certFile: '{}', keyFile: '{}'}}\n    - {{certFile: '/nowhere.crt', keyFile: '/nowhere.key'}}\n",
        bad_certificate.display(),
        good_key.display(),
        good_certificate.display(),
        good_key.display()
    );
    let proxy = proxy(&secure(&server, &[("PathPrefix(`/`)", "")], &tls))
        .run()
        .await;
    assert_eq!(shown(&proxy, "good.test").await, Some(good.der()));
    assert_eq!(
        proxy
            .client()
            .host("good.test")
            .tls(Trust::new(&authority))
            .get("/")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn garbage_in_place_of_a_handshake_is_closed() {
    let server = backend("server").run().await;
    let proxy = proxy(&secure(&server, &[("PathPrefix(`/`)", "")], ""))
        .run()
        .await;
    for garbage in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x00\x00\x00\x00",
    ] {
        let mut raw = crate::support::Raw::open(proxy.addr("web")).await;
        raw.send(garbage).await;
        tokio::io::AsyncWriteExt::shutdown(&mut raw.stream)
            .await
            .unwrap();
        assert!(raw.rest().await.closed, "{garbage:?}");
    }
    assert!(
        exchange(
            proxy.addr("web"),
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .await
        .status()
            == 404
    );
    assert_eq!(
        proxy
            .client()
            .host("a.test")
            .tls(Trust::anyone())
            .get("/")
            .await
            .status,
        200
    );
}
