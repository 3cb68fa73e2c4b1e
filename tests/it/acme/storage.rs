//! The file that keeps accounts and certificates: shared with Traefik, corrupt, or not to be written.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::gate::{Act, Gate};
use super::pebble::{Pebble, YEARS};
use super::{FAST, at, edge, http, logs, routing, stored};
use crate::support::{Client, Proxy, backend, binary, loopback, within};

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

/// The certificate that Traefik shows, as soon as it shows one of this authority.
async fn shown(pebble: &Pebble, host: &str) -> Vec<u8> {
    let client = Client::new(loopback(pebble.ports.secure)).host(host);
    let client = client.tls(pebble.trust().await);
    let what = format!("traefik serves {host}");
    within(Duration::from_secs(60), &what, async || {
        client.connect().await.ok()?.certificate
    })
    .await
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
    let first = shown(&pebble, "a.test").await;
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
    assert_eq!(shown(&pebble, "b.test").await, second);
    assert_eq!(shown(&pebble, "a.test").await, first);
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(theirs);
    assert_eq!(running.orders(), 2);
}

#[tokio::test]
async fn what_we_renew_in_traefiks_storage_is_good_for_traefik() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::with_validity(45), dir.path().join("acme.json"));
    let routing = routing(&server, &["Host(`a.test`)"]);
    let running = pebble.start(FAST).await;
    let theirs = traefik(&pebble, &storage, dir.path(), &routing);
    let short = shown(&pebble, "a.test").await;
    drop(theirs);
    let ours = edge(&pebble, &storage, &routing, &http()).run().await;
    assert_eq!(pebble.serves(&ours, "a.test", 20).await, short);
    assert_eq!(running.orders(), 1);
    // The authority begins anew, and knows nobody; Traefik renews nothing that lasts for years.
    drop(running);
    pebble.configure(YEARS);
    let running = pebble.start(FAST).await;
    let long = pebble.serves(&ours, "a.test", 120).await;
    drop(ours);
    assert_ne!(long, short);
    assert_eq!(running.orders(), 1);
    let theirs = traefik(&pebble, &storage, dir.path(), &routing);
    assert_eq!(shown(&pebble, "a.test").await, long);
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(theirs);
    assert_eq!((running.orders(), running.accounts()), (1, 1));
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

#[tokio::test]
async fn what_cannot_be_written_serves_from_memory_and_is_written_later() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let routing = routing(&server, &["Host(`a.test`)"]);
    let proxy = edge(&pebble, &storage, "http: {}", &http()).run().await;
    logs(&proxy, "this edge orders the certificates").await;
    // A folder where the new version would be written stands for a disk that is full.
    let blocker = dir.path().join("acme.json.new");
    fs::create_dir(&blocker).unwrap();
    proxy.write_routing("main.yml", &routing);
    let certificate = pebble.serves(&proxy, "a.test", 60).await;
    assert!(proxy.log().contains("they are kept in memory"));
    assert!(!storage.exists());
    fs::remove_dir(&blocker).unwrap();
    logs(&proxy, "can be written again").await;
    drop(proxy);
    let proxy = edge(&pebble, &storage, &routing, &http()).run().await;
    assert_eq!(pebble.serves(&proxy, "a.test", 30).await, certificate);
    assert_eq!(running.orders(), 1);
}

/// From now on no file of the process grows beyond so many bytes.
fn limit_files(pid: u32, most: Option<u64>) {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let limit = Rlimit {
        current: most,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

#[tokio::test]
async fn a_full_disk_costs_no_certificate() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::new(), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let gate = Gate::new(&pebble).await;
    let one = routing(&server, &["Host(`a.test`)"]);
    let two = routing(&server, &["Host(`a.test`)", "Host(`b.test`)"]);
    // What is beyond the limit is an error of the write, as it is when there is no room.
    let start = || {
        edge(&pebble, &storage, &one, &http())
            .install(&at(&gate.directory()))
            .ignoring("XFSZ")
    };
    let proxy = start().run().await;
    let first = pebble.serves(&proxy, "a.test", 60).await;
    logs(&proxy, "the certificate is stored").await;
    let before = fs::read(&storage).unwrap();
    // There is no room any more when the second certificate comes.
    let pid = proxy.pid();
    gate.script(move |line| {
        if line.contains("/certZ/") {
            limit_files(pid, Some(1024));
        }
        Act::Pass
    });
    proxy.write_routing("main.yml", &two);
    let second = pebble.serves(&proxy, "b.test", 60).await;
    // Two attempts to write later both still serve, and what was stored is whole.
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(pebble.serves(&proxy, "a.test", 5).await, first);
    assert_eq!(pebble.serves(&proxy, "b.test", 5).await, second);
    assert_eq!(fs::read(&storage).unwrap(), before);
    limit_files(pid, None);
    within(Duration::from_secs(60), "it is stored", async || {
        let stored = stored(&storage)["le"]["Certificates"].as_array()?.len();
        (stored == 2).then_some(())
    })
    .await;
    logs(&proxy, "can be written again").await;
    drop(proxy);
    gate.script(|_| Act::Pass);
    let proxy = start().run().await;
    proxy.write_routing("main.yml", &two);
    assert_eq!(pebble.serves(&proxy, "a.test", 30).await, first);
    assert_eq!(pebble.serves(&proxy, "b.test", 30).await, second);
    assert_eq!(running.orders(), 2);
}
