//! Certificates from a real authority: Pebble, which is strict, slow and refuses every other nonce when told to.

mod advice;
mod dns;
mod edges;
mod gate;
mod kills;
mod knot;
mod pebble;
mod seen;
mod staples;
mod storage;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::{Backend, Client, Proxy, ProxyBuilder, Trust, backend, proxy, within};
use gate::{Act, Gate};
use pebble::Pebble;

/// As the defaults are: validations take their time, and some nonces are refused.
const SLOW: &[(&str, &str)] = &[("PEBBLE_WFE_NONCEREJECT", "50")];
const FAST: &[(&str, &str)] = &[("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "10")];
/// For tests that count requests.
const STEADY: &[(&str, &str)] = &[
    ("PEBBLE_VA_NOSLEEP", "1"),
    ("PEBBLE_WFE_NONCEREJECT", "0"),
    ("PEBBLE_AUTHZREUSE", "0"),
];

/// A router per rule, all asking the resolver `le`.
fn routing(server: &Backend, rules: &[&str]) -> String {
    let rules = rules.iter().enumerate();
    let routers: String = rules
        .map(|(number, rule)| {
            format!("    r{number}: {{rule: '{rule}', service: all, entryPoints: [secure], tls: {{certResolver: le}}}}\n")
        })
        .collect();
    format!(
        "http:\n  routers:\n{routers}  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\n",
        server.url()
    )
}

/// A proxy with the resolver `le` at `pebble`, which keeps its certificates in `storage`.
fn edge(pebble: &Pebble, storage: &Path, routing: &str, challenge: &Value) -> ProxyBuilder {
    let mut acme = json!({
        "email": "me@example.com",
        "caServer": pebble.directory(),
        "caCertificates": [pebble.site_root()],
        "storage": storage,
        "keyType": "EC256",
    });
    acme.as_object_mut()
        .unwrap()
        .extend(challenge.as_object().unwrap().clone());
    proxy(routing)
        .port("web", pebble.ports.web)
        .port("secure", pebble.ports.secure)
        .install(&json!({"certificatesResolvers": {"le": {"acme": acme}}}))
}

/// Changes the authority of the resolver `le`.
fn at(directory: &str) -> Value {
    json!({"certificatesResolvers": {"le": {"acme": {"caServer": directory}}}})
}

fn http() -> Value {
    json!({"httpChallenge": {"entryPoint": "web"}})
}

fn tls() -> Value {
    json!({"tlsChallenge": {}})
}

/// Waits until the proxy has logged something.
async fn logs(proxy: &Proxy, text: &str) {
    within(Duration::from_secs(30), text, async || {
        proxy.log().contains(text).then_some(())
    })
    .await;
}

fn stored(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn http_01_is_answered_ahead_of_routers_and_redirections() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(SLOW).await;
    let routing = routing(&server, &["Host(`a.test`) || Host(`b.test`)"]);
    let redirect =
        json!({"http": {"redirections": {"entryPoint": {"to": "secure", "scheme": "https"}}}});
    let proxy = edge(&pebble, &storage, &routing, &http())
        .entry_point("web", &redirect)
        .run()
        .await;
    // Before the certificate is there the default one serves.
    let early = Client::new(proxy.addr("secure"))
        .host("a.test")
        .tls(Trust::anyone());
    assert_eq!(early.get("/").await.status, 200);
    for host in ["a.test", "b.test"] {
        pebble.serves(&proxy, host, 120).await;
        let client = Client::new(proxy.addr("secure"))
            .host(host)
            .tls(pebble.trust().await);
        assert_eq!(client.get("/").await.backend(), "server");
    }
    assert_eq!((running.orders(), running.issued()), (1, 1));
    let facts = stored(&storage);
    assert_eq!(
        facts["le"]["Certificates"][0]["domain"],
        json!({"main": "a.test", "sans": ["b.test"]})
    );
    assert_eq!(facts["le"]["Account"]["Email"], "me@example.com");
    assert_eq!(
        fs::metadata(&storage).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A token that nobody waits for is an ordinary request.
    let answer = proxy
        .client()
        .host("a.test")
        .get("/.well-known/acme-challenge/x")
        .await;
    assert_eq!(answer.status, 301);
}

#[tokio::test]
async fn tls_alpn_01_is_answered_on_the_tls_entry_point() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(SLOW).await;
    let mut routing = routing(&server, &["Host(`a.test`)", "Host(`b.test`)"]);
    routing.push_str(
        "tls: {stores: {default: {defaultGeneratedCert: {resolver: le, domain: {main: all.test}}}}}\n",
    );
    let proxy = edge(&pebble, &storage, &routing, &tls()).run().await;
    for host in ["a.test", "b.test"] {
        pebble.serves(&proxy, host, 120).await;
    }
    // The one for the default store serves where no other one does.
    let default = pebble.serves(&proxy, "all.test", 120).await;
    let client = Client::new(proxy.addr("secure")).host("other.test");
    let other = client.tls(Trust::anyone()).connect().await.unwrap();
    assert_eq!(other.certificate, Some(default));
    assert_eq!((running.orders(), running.issued()), (3, 3));
}

#[tokio::test]
async fn an_authority_that_is_away_at_the_start_is_found_later() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let routing = routing(&server, &["Host(`a.test`)"]);
    let proxy = edge(&pebble, &storage, &routing, &http()).run().await;
    within(Duration::from_secs(60), "the failure is told", async || {
        proxy
            .log()
            .contains("the authority is tried again later")
            .then_some(())
    })
    .await;
    let running = pebble.start(FAST).await;
    pebble.serves(&proxy, "a.test", 60).await;
    assert_eq!(running.orders(), 1);
}

#[tokio::test]
async fn a_refused_name_backs_off_and_the_others_get_theirs() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    // Pebble's block list has this name.
    let routing = routing(
        &server,
        &["Host(`blocked-domain.example`)", "Host(`a.test`)"],
    );
    let proxy = edge(&pebble, &storage, &routing, &http()).run().await;
    pebble.serves(&proxy, "a.test", 60).await;
    within(Duration::from_secs(30), "the refusal is told", async || {
        proxy
            .log()
            .contains("no certificate: what was there goes on serving")
            .then_some(())
    })
    .await;
    let orders = running.orders();
    let memory = dir.path().join("acme.json.portway");
    let attempts =
        |memory: &Path| stored(memory)["le"]["attempts"]["blocked-domain.example"].clone();
    let before = attempts(&memory);
    assert_eq!(before["failures"], 1, "{before}");
    // A restart does not try again, nor does a configuration that changes.
    drop(proxy);
    let proxy = edge(&pebble, &storage, &routing, &http()).run().await;
    pebble.serves(&proxy, "a.test", 30).await;
    proxy.write_routing(
        "more.yml",
        "http: {middlewares: {m: {addPrefix: {prefix: /x}}}}",
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((running.orders(), attempts(&memory)), (orders, before));
}

#[tokio::test]
async fn restarts_order_nothing() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let routing = routing(&server, &["Host(`a.test`)"]);
    for _ in 0..50 {
        let proxy = edge(&pebble, &storage, &routing, &tls()).run().await;
        pebble.serves(&proxy, "a.test", 60).await;
    }
    assert_eq!((running.orders(), running.issued()), (1, 1));
}

#[tokio::test]
async fn short_lived_certificates_are_renewed_under_traffic() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::with_validity(30), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let routing = routing(&server, &["Host(`a.test`)"]);
    let proxy = edge(&pebble, &storage, &routing, &tls()).run().await;
    pebble.serves(&proxy, "a.test", 60).await;
    let client = Client::new(proxy.addr("secure"))
        .host("a.test")
        .tls(pebble.trust().await);
    let (mut handshakes, mut failures) = (0u32, Vec::new());
    let end = Instant::now() + Duration::from_secs(180);
    let mut beat = tokio::time::interval(Duration::from_millis(40));
    // Eight at once, twenty-five times a second.
    while running.issued() < 6 && Instant::now() < end {
        beat.tick().await;
        let batch = (0..8).map(|_| client.connect());
        for outcome in futures_util::future::join_all(batch).await {
            handshakes += 1;
            failures.extend(outcome.err().map(|error| error.to_string()));
        }
    }
    assert!(running.issued() >= 6, "{} certificates", running.issued());
    assert!(
        failures.is_empty(),
        "{} of {handshakes}: {:?}",
        failures.len(),
        failures.first()
    );
    assert_eq!(running.orders(), running.issued());
}

#[tokio::test]
async fn an_authority_that_asks_for_a_pause_gets_it() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(STEADY).await;
    let gate = Gate::new(&pebble).await;
    let problem = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;
    let refusal = format!(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 4000\r\nReplay-Nonce: none\r\nContent-Length: {}\r\n\r\n{problem}",
        problem.len()
    );
    gate.script(move |line| match line.contains("/order-plz") {
        true => Act::Answer(refusal.clone()),
        false => Act::Pass,
    });
    let routing = routing(&server, &["Host(`a.test`)"]);
    let proxy = edge(&pebble, &storage, &routing, &http());
    let proxy = proxy.install(&at(&gate.directory())).run().await;
    logs(&proxy, "no certificate: what was there goes on serving").await;
    let attempts =
        stored(&dir.path().join("acme.json.portway"))["le"]["attempts"]["a.test"].clone();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let pause = attempts["next"].as_u64().unwrap() - now.unwrap().as_secs();
    assert!((3000..=4000).contains(&pause), "{attempts}");
    assert_eq!(running.orders(), 0);
}
