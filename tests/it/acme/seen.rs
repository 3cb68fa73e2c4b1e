//! What a person sees of the certificates: API, metrics, log and `portway certs`.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{FAST, edge, http, pebble::Pebble, routing};
use crate::support::{Proxy, backend, binary, within};

/// Runs `portway certs` with the configuration of `proxy`: whether all is well, and what it says.
fn certs(proxy: &Proxy, options: &[&str]) -> (bool, String) {
    let install = proxy.dir().join("install.yml");
    let output = Command::new("timeout")
        .arg("30")
        .arg(binary())
        .args(["certs", &format!("--configFile={}", install.display())])
        .args(options)
        .current_dir(proxy.dir())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

async fn api(proxy: &Proxy, path: &str) -> Value {
    proxy.admin().get(path).await.json()
}

/// The objects of `/api/certificates` by their main name.
async fn certificate(proxy: &Proxy, name: &str) -> Option<Value> {
    let all = api(proxy, "/api/certificates").await;
    let found = all.as_array()?.iter().find(|one| one["sans"][0] == name);
    found.cloned()
}

#[tokio::test]
async fn a_certificate_and_one_that_is_refused_are_seen_everywhere() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let _running = pebble.start(FAST).await;
    let both = routing(
        &server,
        &[
            "Host(`a.test`) || Host(`b.test`)",
            "Host(`blocked-domain.example`)",
        ],
    );
    let proxy = edge(&pebble, &storage, &both, &http()).run().await;
    pebble.serves(&proxy, "b.test", 60).await;
    let phase = async |name: &str, phase: &str| {
        within(Duration::from_secs(60), phase, async || {
            let found = certificate(&proxy, name).await?;
            (found["state"] == phase).then_some(found)
        })
        .await
    };
    let good = phase("a.test", "valid").await;
    let told = json!([
        good["resolver"],
        good["challenge"],
        good["sans"],
        good["status"]
    ]);
    assert_eq!(
        told,
        json!(["le", "http-01", ["a.test", "b.test"], "enabled"])
    );
    assert!(good["issuerCN"].as_str().unwrap().contains("Pebble"));
    let refused = phase("blocked-domain.example", "failing").await;
    assert_eq!(
        (&refused["failures"], &refused["notAfter"]),
        (&json!(1), &Value::Null)
    );
    assert!(
        refused["lastError"]
            .as_str()
            .unwrap()
            .contains("rejectedIdentifier")
    );

    let overview = api(&proxy, "/api/overview").await;
    let orders = json!({"issued": 1, "failed": 1});
    assert_eq!(overview["resolvers"][0]["orders"], orders, "{overview}");
    let metrics = proxy.metrics().await;
    for line in [
        "portway_acme_account_registered{resolver=\"le\"} 1",
        "portway_acme_certificates{resolver=\"le\",state=\"failing\"} 1",
        "portway_acme_certificates{resolver=\"le\",state=\"valid\"} 1",
        "portway_acme_orders_total{outcome=\"failed\",resolver=\"le\"} 1",
        "portway_acme_orders_total{outcome=\"issued\",resolver=\"le\"} 1",
        "portway_acme_next_attempt_timestamp_seconds{resolver=\"le\"} ",
        "traefik_tls_certs_not_after{cn=\"a.test\",sans=\"a.test,b.test\"",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }

    for options in [&["--json"][..], &["--json", "--offline"]] {
        let (well, text) = certs(&proxy, options);
        assert!(!well, "one is failing: {text}");
        let shown: Vec<Value> = serde_json::from_str(&text).unwrap();
        for expected in [&good, &refused] {
            let same = shown.iter().find(|one| one["name"] == expected["name"]);
            assert_eq!(same, Some(expected), "{options:?}");
        }
    }
    let (_, text) = certs(&proxy, &[]);
    assert!(text.contains("as the running instance at"), "{text}");
    assert!(text.contains("a.test, b.test"), "{text}");
    assert!(text.contains("1 attempt failed: "), "{text}");

    // A step is a line.
    let log = proxy.log();
    let mut from = 0;
    for step in [
        "the account is registered",
        "a certificate is ordered",
        "the authority has taken the order",
        "the challenge is answered",
        "the name is validated",
        "the certificate is issued",
        "the certificate is stored",
        "the certificate is served",
    ] {
        let line = log.lines().skip(from).position(|line| {
            line.contains(step) && (step.contains("account") || line.contains("b.test"))
        });
        from += line.unwrap_or_else(|| panic!("{step} after line {from}"));
    }
    assert!(log.contains("renewal=2"), "{log}");
    assert!(!log.contains("PRIVATE KEY"));

    // Without the refused one all is well, also when nobody runs.
    proxy.write_routing("main.yml", &routing(&server, &["Host(`a.test`)"]));
    within(Duration::from_secs(20), "it is not asked for", async || {
        let gone = certificate(&proxy, "blocked-domain.example").await;
        gone.is_none().then_some(())
    })
    .await;
    assert!(certs(&proxy, &[]).0);
    proxy.signal("KILL");
    let (well, text) = certs(&proxy, &[]);
    assert!(
        well && text.contains("no running instance answers"),
        "{text}"
    );
}
