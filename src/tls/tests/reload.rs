//! What a new configuration takes over from the one before.

use rustls::version::{TLS12, TLS13};

use super::*;

fn pairs() -> (Pair, Pair) {
    let authority = Authority::new("servers");
    (authority.sign(&["a.test"]), authority.sign(&["b.test"]))
}

fn parse(pair: &Pair, previous: Option<&Tls>) -> Arc<Certificate> {
    Tls::parse(previous, pair.chain.as_bytes(), pair.key.as_bytes()).unwrap()
}

#[tokio::test]
async fn resumes_sessions_across_a_swap() {
    let (a, b) = pairs();
    for version in [&TLS12, &TLS13] {
        let old = Tls::build(inputs(vec![parse(&a, None)], &[]), None);
        let both = vec![parse(&a, Some(&old)), parse(&b, Some(&old))];
        let new = Tls::build(inputs(both, &[]), Some(&old));
        let client = Client {
            versions: vec![version],
            ..Client::default()
        };
        let config = client.config();
        let first = handshake(&old.sni_table([]), Arc::clone(&config), "a.test").await;
        assert_eq!(first.seen().kind, HandshakeKind::Full);
        let second = handshake(&new.sni_table([]), Arc::clone(&config), "a.test").await;
        assert_eq!(second.seen().kind, HandshakeKind::Resumed);
        let other = handshake(&new.sni_table([]), config, "b.test").await;
        assert_eq!(other.seen().kind, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn never_resumes_when_tickets_are_disabled() {
    let options = TlsOptions {
        disable_session_tickets: true,
        ..TlsOptions::default()
    };
    let table = table(certificates(&[&["a.test"]]), options);
    for version in [&TLS12, &TLS13] {
        let client = Client {
            versions: vec![version],
            ..Client::default()
        };
        let config = client.config();
        for _ in 0..2 {
            let handshake = handshake(&table, Arc::clone(&config), "a.test").await;
            assert_eq!(handshake.seen().kind, HandshakeKind::Full);
        }
    }
}

#[test]
fn keeps_what_did_not_change() {
    let (a, b) = pairs();
    let strict = TlsOptions {
        sni_strict: true,
        ..TlsOptions::default()
    };
    let options = [("strict@file", strict)];
    let old = Tls::build(inputs(vec![parse(&a, None)], &options), None);
    let same = Tls::build(inputs(vec![parse(&a, Some(&old))], &options), Some(&old));
    let ready = |tls: &Tls, name: &str| Arc::as_ptr(&tls.ready(name).unwrap());
    assert_eq!(ready(&old, "default"), ready(&same, "default"));
    assert_eq!(ready(&old, "strict@file"), ready(&same, "strict@file"));
    let fewer = Tls::build(inputs(vec![parse(&a, Some(&old))], &[]), Some(&old));
    assert_eq!(ready(&old, "default"), ready(&fewer, "default"));
    assert!(!fewer.is_usable("strict@file"));

    let other = Tls::build(inputs(vec![parse(&b, Some(&old))], &options), Some(&old));
    assert_ne!(ready(&old, "default"), ready(&other, "default"));
    let generated = |tls: &Tls| *tls.certificates().default_certificate().unwrap().digest();
    assert_eq!(generated(&old), generated(&other));
    assert!(other.default_is_generated());
    assert!(Arc::ptr_eq(
        &parse(&a, Some(&old)),
        &old.certificates().configured()[0]
    ));
}

#[test]
fn looks_again_when_a_certificate_has_expired_meanwhile() {
    let authority = Authority::new("servers");
    let soon = authority.sign_until(&["a.test"], 2030);
    let old = Tls::build(inputs(vec![parse(&soon, None)], &[]), None);
    let mut later = inputs(vec![parse(&soon, Some(&old))], &[]);
    later.now = 2_000_000_000;
    let new = Tls::build(later, Some(&old));
    assert!(!Arc::ptr_eq(
        &old.ready("default").unwrap(),
        &new.ready("default").unwrap()
    ));
}
