//! Certificates from a real authority: Pebble, which is strict, slow and refuses every other nonce when told to.

mod pebble;
mod seen;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Backend, Client, Proxy, ProxyBuilder, Trust, backend, binary, proxy, within};
use pebble::Pebble;

/// As the defaults are: validations take their time, and some nonces are refused.
const SLOW: &[(&str, &str)] = &[("PEBBLE_WFE_NONCEREJECT", "50")];
const FAST: &[(&str, &str)] = &[("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "10")];

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

fn http() -> Value {
    json!({"httpChallenge": {"entryPoint": "web"}})
}

fn tls() -> Value {
    json!({"tlsChallenge": {}})
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
    let routing = routing(&server, &["Host(`a.test`)", "Host(`b.test`)"]);
    let proxy = edge(&pebble, &storage, &routing, &tls()).run().await;
    for host in ["a.test", "b.test"] {
        pebble.serves(&proxy, host, 120).await;
    }
    assert_eq!((running.orders(), running.issued()), (2, 2));
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
    let (pebble, storage) = (Pebble::with_validity(24), dir.path().join("acme.json"));
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
async fn a_kill_at_any_moment_costs_at_most_one_order() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let pebble = Pebble::new();
    let running = pebble.start(FAST).await;
    let routing = routing(&server, &["Host(`a.test`)"]);
    // The account's key alone takes a moment to make: a run that is not killed says how long the whole takes.
    for point in 0..20u32 {
        let storage = dir.path().join(format!("{point}.json"));
        let before = running.orders();
        let first = edge(&pebble, &storage, &routing, &http()).run().await;
        tokio::time::sleep(Duration::from_millis(u64::from(point) * 150)).await;
        first.signal("KILL");
        let account = fs::read(&storage)
            .ok()
            .map(|_| stored(&storage)["le"]["Account"]["PrivateKey"].clone());
        drop(first);
        let second = edge(&pebble, &storage, &routing, &http()).run().await;
        pebble.serves(&second, "a.test", 120).await;
        let orders = running.orders() - before;
        assert!(orders <= 2, "killed at point {point}: {orders} orders");
        let after = stored(&storage)["le"]["Account"]["PrivateKey"].clone();
        assert!(
            account.is_none_or(|account| account.is_null() || account == after),
            "point {point}"
        );
    }
}

/// The real Traefik on the same ports, with the same storage.
struct Traefik(std::process::Child);

impl Drop for Traefik {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn traefik(pebble: &Pebble, storage: &Path, dir: &Path, routing: &str) -> Traefik {
    fs::write(dir.join("routing.yml"), routing).unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/traefik");
    let log = fs::File::create(dir.join("traefik.log")).unwrap();
    let child = Command::new(own)
        .args([
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=INFO",
        ])
        .arg(format!(
            "--entrypoints.web.address=127.0.0.1:{}",
            pebble.ports.web
        ))
        .arg(format!(
            "--entrypoints.secure.address=127.0.0.1:{}",
            pebble.ports.secure
        ))
        .arg(format!(
            "--providers.file.filename={}",
            dir.join("routing.yml").display()
        ))
        .arg("--certificatesresolvers.le.acme.email=me@example.com")
        .arg(format!(
            "--certificatesresolvers.le.acme.caserver={}",
            pebble.directory()
        ))
        .arg(format!(
            "--certificatesresolvers.le.acme.cacertificates={}",
            pebble.site_root().display()
        ))
        .arg(format!(
            "--certificatesresolvers.le.acme.storage={}",
            storage.display()
        ))
        .args([
            "--certificatesresolvers.le.acme.keytype=EC256",
            "--certificatesresolvers.le.acme.httpchallenge.entrypoint=web",
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    Traefik(child.expect("tests/setup installs it"))
}

#[tokio::test]
async fn a_storage_goes_to_and_fro_between_traefik_and_us() {
    assert!(binary().exists());
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let one = routing(&server, &["Host(`a.test`)"]);
    let two = routing(&server, &["Host(`a.test`)", "Host(`b.test`)"]);
    let theirs = traefik(&pebble, &storage, dir.path(), &one);
    let shown = async |host: &str| {
        let secure = crate::support::loopback(pebble.ports.secure);
        let client = Client::new(secure).host(host).tls(pebble.trust().await);
        let what = format!("traefik serves {host}");
        within(Duration::from_secs(60), &what, async || {
            client.connect().await.ok()?.certificate
        })
        .await
    };
    let first = shown("a.test").await;
    drop(theirs);
    let account = stored(&storage)["le"]["Account"].clone();
    // What Traefik got is served without an order, and one order more is made with its account.
    let ours = edge(&pebble, &storage, &two, &http()).run().await;
    assert_eq!(pebble.serves(&ours, "a.test", 30).await, first);
    let second = pebble.serves(&ours, "b.test", 60).await;
    assert_eq!(running.orders(), 2);
    drop(ours);
    assert_eq!(stored(&storage)["le"]["Account"], account);
    let theirs = traefik(&pebble, &storage, dir.path(), &two);
    assert_eq!(shown("b.test").await, second);
    assert_eq!(shown("a.test").await, first);
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(theirs);
    assert_eq!(running.orders(), 2);
}

#[tokio::test]
async fn a_corrupt_storage_is_set_aside_and_the_previous_one_serves() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let routing = routing(&server, &["Host(`a.test`)"]);
    let proxy = edge(&pebble, &storage, &routing, &http()).run().await;
    let certificate = pebble.serves(&proxy, "a.test", 60).await;
    drop(proxy);
    // As after a rewrite: the previous version is whole.
    fs::copy(&storage, dir.path().join("acme.json.previous")).unwrap();
    fs::write(&storage, "{\"le\": ").unwrap();
    let proxy: Proxy = edge(&pebble, &storage, &routing, &http()).run().await;
    assert_eq!(pebble.serves(&proxy, "a.test", 30).await, certificate);
    assert!(proxy.log().contains("corrupt and was set aside"));
    assert_eq!(running.orders(), 1);
}
