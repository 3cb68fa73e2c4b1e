//! DNS-01 with a real authority: records in a real zone by RFC 2136, and by a program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::knot::{KEY, Knot};
use super::pebble::Pebble;
use super::{FAST, SLOW, edge};
use crate::support::{Backend, Client, ProxyBuilder, backend, within};

/// A router for everything that wants certificates for `domains`.
fn routing(server: &Backend, domains: &Value) -> String {
    let router = json!({
        "rule": "PathPrefix(`/`)",
        "service": "all",
        "entryPoints": ["secure"],
        "tls": {"certResolver": "le", "domains": domains},
    });
    let service = json!({"loadBalancer": {"servers": [{"url": server.url()}]}});
    json!({"http": {"routers": {"all": router}, "services": {"all": service}}}).to_string()
}

fn dns(provider: &str, resolver: &str, propagation: &Value) -> Value {
    json!({"dnsChallenge": {
        "provider": provider,
        "resolvers": [resolver],
        "propagation": propagation,
    }})
}

/// `proxy` changes the zone of `knot`.
fn with_key(proxy: ProxyBuilder, knot: &Knot, secret: &str) -> ProxyBuilder {
    proxy
        .env("RFC2136_NAMESERVER", &knot.address())
        .env("RFC2136_TSIG_KEY", "portway")
        .env("RFC2136_TSIG_ALGORITHM", "hmac-sha256")
        .env("RFC2136_TSIG_SECRET", secret)
        .env("RFC2136_POLLING_INTERVAL", "1")
}

#[tokio::test]
async fn a_wildcard_and_its_domain_by_rfc_2136() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, knot) = (Pebble::new(), Knot::start().await);
    let running = pebble.start_asking(SLOW, knot.port).await;
    let domains = json!([{"main": "example.test", "sans": ["*.example.test"]}]);
    let proxy = edge(
        &pebble,
        &dir.path().join("acme.json"),
        &routing(&server, &domains),
        &dns("rfc2136", &knot.address(), &json!({})),
    );
    let proxy = with_key(proxy, &knot, KEY).run().await;
    for host in ["example.test", "a.example.test"] {
        pebble.serves(&proxy, host, 180).await;
        let client = Client::new(proxy.addr("secure")).host(host);
        let answer = client.tls(pebble.trust().await).get("/").await;
        assert_eq!(answer.backend(), "server");
    }
    assert_eq!((running.orders(), running.issued()), (1, 1));
    let log = proxy.log();
    for part in [
        "a name server was asked",
        "ns.example.test",
        "2 of our 2 values",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains(KEY));
    let name = "_acme-challenge.example.test";
    within(
        Duration::from_secs(30),
        "the records are taken away",
        async || knot.texts(name).filter(|count| *count == 0),
    )
    .await;
}

#[tokio::test]
async fn a_delegated_challenge_is_answered_where_it_leads_to() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, knot) = (Pebble::new(), Knot::start().await);
    let running = pebble.start_asking(FAST, knot.port).await;
    let domains = json!([{"main": "*.alias.example.test"}]);
    let proxy = edge(
        &pebble,
        &dir.path().join("acme.json"),
        &routing(&server, &domains),
        &dns("rfc2136", &knot.address(), &json!({"delayBeforeChecks": 1})),
    );
    let proxy = with_key(proxy, &knot, KEY).run().await;
    pebble.serves(&proxy, "a.alias.example.test", 120).await;
    assert_eq!(running.issued(), 1);
    let log = proxy.log();
    assert!(log.contains("the name is an alias"), "{log}");
    assert!(log.contains("challenges.elsewhere.example.test"), "{log}");
}

#[tokio::test]
async fn a_wrong_key_is_told_and_the_order_backs_off() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, knot) = (Pebble::new(), Knot::start().await);
    let running = pebble.start_asking(FAST, knot.port).await;
    let domains = json!([{"main": "*.example.test"}]);
    let proxy = edge(
        &pebble,
        &dir.path().join("acme.json"),
        &routing(&server, &domains),
        &dns("rfc2136", &knot.address(), &json!({})),
    );
    let wrong = "d3JvbmcgYnV0IG9mIHRoZSByaWdodCBsZW5ndGggIQ==";
    let proxy = with_key(proxy, &knot, wrong).run().await;
    within(Duration::from_secs(60), "the failure is told", async || {
        let log = proxy.log();
        let told = log.contains("rfc2136: the credentials are not accepted");
        (told && log.contains("is the secret right?")).then_some(())
    })
    .await;
    assert!(!proxy.log().contains(wrong));
    assert_eq!((running.orders(), running.issued()), (1, 0));
}

/// A program that sets and clears records through the interface of Pebble's name server.
fn hook(dir: &Path, management: &str) -> String {
    let path = dir.join("hook");
    let script = format!(
        "#!/bin/sh\n\
         echo \"$1 $2\" >> {}/told\n\
         case $1 in\n\
         present) curl -sSf -d \"{{\\\"host\\\":\\\"$2\\\",\\\"value\\\":\\\"$3\\\"}}\" http://{management}/set-txt ;;\n\
         cleanup) curl -sSf -d \"{{\\\"host\\\":\\\"$2\\\"}}\" http://{management}/clear-txt ;;\n\
         esac\n",
        dir.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_wildcard_by_a_program() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let pebble = Pebble::new();
    let running = pebble.start(SLOW).await;
    let domains = json!([{"main": "a.test", "sans": ["*.a.test"]}]);
    // Pebble's name server knows no zones.
    let propagation = json!({"disableANSChecks": true, "requireAllRNS": true});
    let challenge = dns("exec", &pebble.names(), &propagation);
    let program = hook(dir.path(), &pebble.management());
    let storage = dir.path().join("acme.json");
    let proxy = edge(&pebble, &storage, &routing(&server, &domains), &challenge)
        .env("EXEC_PATH", &program)
        .run()
        .await;
    for host in ["a.test", "b.a.test"] {
        pebble.serves(&proxy, host, 180).await;
    }
    assert_eq!((running.orders(), running.issued()), (1, 1));
    within(
        Duration::from_secs(30),
        "both records are taken away",
        async || {
            let told = fs::read_to_string(dir.path().join("told")).unwrap();
            let count = |what| told.lines().filter(|line| *line == what).count();
            let present = count("present _acme-challenge.a.test.");
            let cleanup = count("cleanup _acme-challenge.a.test.");
            ((present, cleanup) == (2, 2)).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_provider_without_credentials_disables_its_own_resolver_only() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let pebble = Pebble::new();
    let running = pebble.start(FAST).await;
    let routing = super::routing(&server, &["Host(`a.test`)"]);
    let storage = dir.path().join("acme.json");
    let other = json!({"certificatesResolvers": {"cf": {"acme": {
        "storage": dir.path().join("other.json"),
        "dnsChallenge": {"provider": "cloudflare"},
    }}, "odd": {"acme": {
        "storage": dir.path().join("other.json"),
        "dnsChallenge": {"provider": "cloudflair"},
    }}}});
    let proxy = edge(&pebble, &storage, &routing, &super::tls())
        .install(&other)
        .run()
        .await;
    pebble.serves(&proxy, "a.test", 60).await;
    assert_eq!(running.issued(), 1);
    let log = proxy.log();
    for part in [
        "certificatesResolvers.cf.acme.dnsChallenge.provider",
        "`CF_DNS_API_TOKEN`",
        "certificatesResolvers.odd.acme.dnsChallenge.provider",
        "did you mean `cloudflare`?",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}
