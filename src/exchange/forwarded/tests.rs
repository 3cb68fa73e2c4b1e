use std::{net::SocketAddr, sync::Arc};

use http::{Method, Version};

use super::*;
use crate::exchange::{Memo, Target, TlsSession};

fn connection(trusted: bool, tls: bool) -> Connection {
    let peer: SocketAddr = "192.0.2.7:50000".parse().unwrap();
    Connection {
        entry_point: "web".into(),
        peer,
        local: "192.0.2.1:8080".parse().unwrap(),
        peer_ip: HeaderValue::from_static("192.0.2.7"),
        trusted,
        patience: None,
        tls: tls.then(|| TlsSession {
            version: "1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            sni: None,
            options: Arc::from("default"),
            client_certificates: Vec::new(),
            client_subject: None,
            h2: false,
        }),
        memo: Memo::default(),
    }
}

/// A GET of `/` with header lines `name: value`.
fn head(host: &'static str, lines: &[&str]) -> RequestHead {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line
            .split_once(": ")
            .unwrap_or_else(|| (line.trim_end_matches(':'), ""));
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    RequestHead {
        method: Method::GET,
        version: Version::HTTP_11,
        host: host.into(),
        target: Target::new("/".into()),
        headers,
        upgrade: None,
        accepts_trailers: false,
        expects_continue: false,
    }
}

fn options() -> Forwarding {
    Forwarding {
        server: Some(HeaderValue::from_static("edge-1")),
        ..Forwarding::default()
    }
}

/// All lines of the head after arrival, sorted.
fn lines(head: &RequestHead) -> Vec<String> {
    let mut lines: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

fn arrived(trusted: bool, tls: bool, mut head: RequestHead) -> RequestHead {
    arrive(&mut head, &connection(trusted, tls), &options()).unwrap();
    head
}

fn value(head: &RequestHead, name: &str) -> String {
    let values: Vec<_> = head
        .headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    values.join(" | ")
}

#[test]
fn sets_all_fields_for_a_plain_request() {
    assert_eq!(
        lines(&arrived(
            false,
            false,
            head("Shop.test:8080", &["accept: */*"])
        )),
        [
            "accept: */*",
            "x-forwarded-host: Shop.test:8080",
            "x-forwarded-port: 8080",
            "x-forwarded-proto: http",
            "x-forwarded-server: edge-1",
            "x-real-ip: 192.0.2.7",
        ]
    );
}

#[test]
fn forged_fields_of_an_untrusted_peer_are_replaced() {
    let forged = [
        "x-forwarded-for: 10.0.0.1",
        "x_forwarded_for: 10.0.0.1",
        "x-forwarded-host: evil",
        "x-forwarded-port: 1",
        "x-forwarded-proto: https",
        "x-forwarded-server: evil",
        "x-forwarded-prefix: /evil",
        "x-forwarded-uri: /evil",
        "x-forwarded-method: EVIL",
        "x-forwarded-tls-client-cert: evil",
        "x-forwarded-tls-client-cert-info: evil",
        "x-forwarded_tls-client_cert: evil",
        "x-real-ip: 10.0.0.1",
        "x_real_ip: 10.0.0.1",
    ];
    assert_eq!(
        lines(&arrived(false, true, head("a.test", &forged))),
        [
            "x-forwarded-host: a.test",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-forwarded-server: edge-1",
            "x-real-ip: 192.0.2.7",
        ]
    );
}

#[test]
fn names_beyond_the_family_pass() {
    for line in [
        "x.forwarded.for: 1",
        "forwarded: for=1",
        "via: 1.1 x",
        "x-forwarded-scheme: https",
        "x-scheme: https",
        "x-original-url: /x",
    ] {
        let head = arrived(false, false, head("a.test", &[line]));
        assert!(lines(&head).contains(&line.to_owned()), "{line}");
    }
}

#[test]
fn a_trusted_peer_is_believed() {
    let said = [
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-for: 10.0.0.2, 10.0.0.3",
        "x-forwarded-host: public.test",
        "x-forwarded-proto: https",
        "x-forwarded-server: other",
        "x-forwarded-prefix: /p",
        "x-real-ip: 10.0.0.1",
    ];
    assert_eq!(
        lines(&arrived(true, false, head("a.test", &said))),
        [
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 10.0.0.3",
            "x-forwarded-host: public.test",
            "x-forwarded-port: 443",
            "x-forwarded-prefix: /p",
            "x-forwarded-proto: https",
            "x-forwarded-server: edge-1",
            "x-real-ip: 10.0.0.1",
        ]
    );
}

#[test]
fn empty_fields_of_a_trusted_peer_count_as_absent() {
    let head = arrived(
        true,
        false,
        head("a.test", &["x-real-ip:", "x-forwarded-proto:"]),
    );
    assert_eq!(value(&head, "x-real-ip"), "192.0.2.7");
    assert_eq!(value(&head, "x-forwarded-proto"), "http");
}

#[test]
fn port_comes_from_host_then_scheme() {
    for (host, tls, port) in [
        ("a.test:8443", true, "8443"),
        ("a.test", true, "443"),
        ("a.test", false, "80"),
        ("a.test:", false, "80"),
        ("[::1]:9000", false, "9000"),
        ("[::1]", false, "80"),
        ("", true, "443"),
    ] {
        let head = arrived(false, tls, head(host, &[]));
        assert_eq!(value(&head, "x-forwarded-port"), port, "{host:?} {tls}");
        assert_eq!(value(&head, "x-forwarded-host"), host);
    }
}

#[test]
fn websocket_requests_say_ws() {
    for (tls, proto) in [(false, "ws"), (true, "wss")] {
        let head = arrived(
            false,
            tls,
            head("a.test", &["connection: Upgrade", "upgrade: WebSocket"]),
        );
        assert_eq!(value(&head, "x-forwarded-proto"), proto);
        assert_eq!(head.upgrade.as_ref().unwrap(), "WebSocket");
        assert!(!head.headers.contains_key("upgrade"));
    }
}

#[test]
fn hop_by_hop_fields_end_here() {
    let head = arrived(
        false,
        false,
        head(
            "a.test",
            &[
                "connection: close, X-Drop",
                "connection: x-drop-too",
                "proxy-connection: keep-alive",
                "keep-alive: timeout=5",
                "proxy-authenticate: Basic",
                "proxy-authorization: Basic x",
                "te: trailers, gzip",
                "transfer-encoding: chunked",
                "x-drop: 1",
                "x-drop-too: 1",
                "x-stay: 1",
                "trailer: x-sum",
            ],
        ),
    );
    assert!(head.accepts_trailers);
    assert_eq!(head.upgrade, None);
    let left: Vec<_> = lines(&head)
        .into_iter()
        .filter(|line| !line.starts_with("x-forwarded") && !line.starts_with("x-real"))
        .collect();
    assert_eq!(left, ["trailer: x-sum", "x-stay: 1"]);
}

#[test]
fn upgrades_to_h2c_and_stray_upgrades_are_dropped() {
    for lines in [
        &[
            "connection: Upgrade, HTTP2-Settings",
            "upgrade: h2c",
            "http2-settings: AAMAAABk",
        ][..],
        &["connection: upgrade", "upgrade: websocket, H2C"],
        &["upgrade: websocket"],
        &["http2-settings: AAMAAABk"],
    ] {
        let head = arrived(false, false, head("a.test", lines));
        assert_eq!(head.upgrade, None, "{lines:?}");
        assert!(!head.headers.contains_key("upgrade"));
        assert!(!head.headers.contains_key("http2-settings"));
        assert_eq!(value(&head, "x-forwarded-proto"), "http");
    }
}

#[test]
fn connection_cannot_name_away_what_we_set() {
    let head = arrived(
        true,
        false,
        head(
            "a.test",
            &[
                "connection: X-Forwarded-For, X-Real-IP, x-forwarded-host, Authorization",
                "x-forwarded-for: 10.0.0.1",
                "authorization: Basic x",
            ],
        ),
    );
    assert_eq!(value(&head, "x-forwarded-for"), "10.0.0.1");
    assert_eq!(value(&head, "x-real-ip"), "192.0.2.7");
    assert_eq!(value(&head, "x-forwarded-host"), "a.test");
    assert!(!head.headers.contains_key("authorization"));
}

#[test]
fn kept_connection_fields_are_seen_by_middlewares_only() {
    let options = Forwarding {
        keep: vec![HeaderName::from_static("x-internal")],
        ..options()
    };
    let connection = connection(false, false);
    let mut head = head(
        "a.test",
        &[
            "connection: X-Internal, X-Other",
            "x-internal: 1",
            "x-other: 1",
        ],
    );
    arrive(&mut head, &connection, &options).unwrap();
    assert_eq!(value(&head, "x-internal"), "1");
    assert!(!head.headers.contains_key("x-other"));
    depart(&mut head, &connection, true);
    assert!(!head.headers.contains_key("x-internal"));
    assert!(!head.headers.contains_key("connection"));
}

#[test]
fn the_peer_is_appended_when_the_request_departs() {
    for (lines, append, expected) in [
        (&[][..], true, "192.0.2.7"),
        (&["x-forwarded-for: 10.0.0.1"], true, "10.0.0.1, 192.0.2.7"),
        (
            &["x-forwarded-for: a", "x-forwarded-for: b"],
            true,
            "a, b, 192.0.2.7",
        ),
        (&["x-forwarded-for: 10.0.0.1"], false, "10.0.0.1"),
        (&[], false, ""),
    ] {
        let mut head = head("a.test", lines);
        depart(&mut head, &connection(true, false), append);
        assert_eq!(
            value(&head, "x-forwarded-for"),
            expected,
            "{lines:?} {append}"
        );
    }
}

#[test]
fn an_empty_user_agent_is_not_sent() {
    let mut head = head("a.test", &["user-agent:"]);
    depart(&mut head, &connection(false, false), true);
    assert!(!head.headers.contains_key("user-agent"));
}

#[test]
fn aliases_are_kept_deleted_or_rejected() {
    let names = ["x_a: 1", "x.a: 1", "x~a: 1", "x!a: 1", "x-a: 1"];
    let outcome = |strategy, underscore_only| {
        let options = Forwarding {
            aliases: Aliases {
                strategy,
                underscore_only,
            },
            ..options()
        };
        let mut head = head("a.test", &names);
        arrive(&mut head, &connection(true, false), &options).map(|()| {
            head.headers
                .keys()
                .filter(|name| name.as_str().len() == 3)
                .count()
        })
    };
    assert_eq!(outcome(AliasStrategy::Keep, false), Ok(5));
    assert_eq!(outcome(AliasStrategy::Delete, false), Ok(1));
    assert_eq!(outcome(AliasStrategy::Delete, true), Ok(4));
    assert_eq!(outcome(AliasStrategy::Reject, false), Err(AliasRejected));
    assert_eq!(outcome(AliasStrategy::Reject, true), Err(AliasRejected));
}

#[test]
fn responses_lose_their_hop_by_hop_fields() {
    let mut headers = head(
        "",
        &[
            "connection: Upgrade, X-Drop",
            "upgrade: websocket",
            "keep-alive: timeout=5",
            "x-drop: 1",
            "server: app",
            "via: 1.1 app",
            "trailer: x-sum",
        ],
    )
    .headers;
    let upgrade = strip_response_hop_by_hop(&mut headers);
    assert_eq!(upgrade.unwrap(), "websocket");
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["server", "trailer", "via"]);
    assert_eq!(strip_response_hop_by_hop(&mut headers), None);
}
