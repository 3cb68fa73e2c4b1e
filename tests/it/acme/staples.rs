//! Staples for certificates that were obtained.

use std::fs;
use std::time::Duration;

use super::pebble::Pebble;
use super::{FAST, edge, http, routing};
use crate::ocsp::{GOOD, Responder, State, staple, write_index};
use crate::support::{Client, backend, free_port, within};

#[tokio::test]
async fn an_obtained_certificate_has_a_staple_without_being_asked_for() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let port = free_port();
    let pebble = Pebble::with_responder(&format!("http://127.0.0.1:{port}/"));
    let _running = pebble.start(FAST).await;
    let storage = dir.path().join("acme.json");
    let proxy = edge(
        &pebble,
        &storage,
        &routing(&server, &["Host(`a.test`)"]),
        &http(),
    )
    .run()
    .await;
    let certificate = pebble.serves(&proxy, "a.test", 60).await;
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    let serial = parsed.tbs_certificate.raw_serial();
    let digits = serial.iter().skip_while(|byte| **byte == 0);
    let digits: String = digits.map(|byte| format!("{byte:02X}")).collect();
    // The authority has no responder of its own, but gives its keys away.
    let [index, issuer, key] =
        ["index.txt", "issuer.pem", "issuer.key"].map(|name| dir.path().join(name));
    write_index(&index, &digits, State::Good);
    fs::write(&issuer, pebble.management_page("/intermediates/0").await).unwrap();
    fs::write(&key, pebble.management_page("/intermediate-keys/0").await).unwrap();
    let _responder = Responder::start(port, &index, &issuer, (&issuer, &key)).await;
    within(Duration::from_secs(120), "a staple", async || {
        let shown = staple(proxy.addr("secure"), "a.test");
        shown.contains(GOOD).then_some(())
    })
    .await;
    let client = Client::new(proxy.addr("secure")).host("a.test");
    let client = client.tls(pebble.trust().await);
    assert_eq!(client.get("/").await.backend(), "server");
}
