//! The request line and the host: absolute forms, several hosts, none, broken versions, floods of empty lines (10-12).

use std::fmt::Write as _;

use super::Stage;
use crate::support::{backend, exchange, proxy};

#[tokio::test]
async fn attack_10_hosts_that_disagree_or_are_malformed() {
    let stage = Stage::new().await;
    for (what, head) in [
        ("no Host", "GET / HTTP/1.1\r\n"),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n"),
        (
            "two equal Hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        ),
        ("slash in the Host", "GET / HTTP/1.1\r\nHost: a/b\r\n"),
        ("userinfo in the Host", "GET / HTTP/1.1\r\nHost: user@a\r\n"),
        ("space in the Host", "GET / HTTP/1.1\r\nHost: a b\r\n"),
        ("list of Hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n"),
        ("port that is no number", "GET / HTTP/1.1\r\nHost: a:b\r\n"),
        ("port out of range", "GET / HTTP/1.1\r\nHost: a:99999\r\n"),
        ("negative port", "GET / HTTP/1.1\r\nHost: a:-1\r\n"),
        ("two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n"),
        ("open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n"),
        ("IPv6 zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n"),
        ("query in the Host", "GET / HTTP/1.1\r\nHost: a?b\r\n"),
        ("fragment in the Host", "GET / HTTP/1.1\r\nHost: a#b\r\n"),
        ("backslash in the Host", "GET / HTTP/1.1\r\nHost: a\\b\r\n"),
        (
            "userinfo in the target",
            "GET http://user:secret@a/ HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "bad port in the target",
            "GET http://a:port/ HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "empty authority in the target",
            "GET http:///x HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "foreign scheme in the target",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "target without a slash",
            "GET admin HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "authority as the target",
            "GET a:80 HTTP/1.1\r\nHost: a\r\n",
        ),
    ] {
        stage.refuses(what, format!("{head}\r\n")).await;
    }
}

#[tokio::test]
async fn attack_10_absolute_form_wins_over_host() {
    let (inside, outside) = (
        backend("inside").run().await,
        backend("outside").run().await,
    );
    let routing = format!(
        "http:\n  routers:\n    inside: {{rule: Host(`inside`), service: inside}}\n    outside: {{rule: Host(`outside`), service: outside}}\n  services:\n    inside: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n    outside: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n",
        inside.url(),
        outside.url()
    );
    let proxy = proxy(&routing).run().await;
    let answer = exchange(
        proxy.addr("web"),
        "GET http://outside/x?y=1 HTTP/1.1\r\nHost: inside\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(
        inside.hits(),
        0,
        "the Host field must not be believed beside an absolute target"
    );
    if !answer.refused() {
        assert_eq!(answer.status(), 200, "{:?}", answer.text());
        let seen = outside.last();
        assert_eq!(
            (
                seen.target.as_str(),
                seen.header("host"),
                seen.count("host")
            ),
            ("/x?y=1", Some("outside"), 1)
        );
        assert_eq!(seen.header("x-forwarded-host"), Some("outside"));
    }
}

#[tokio::test]
async fn attack_11_malformed_request_lines() {
    let stage = Stage::new().await;
    for line in [
        &b"GET  / HTTP/1.1"[..],
        b"GET /  HTTP/1.1",
        b"GET\t/\tHTTP/1.1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1 x",
        b"GET / HTTP/01.1",
        b"GET / HTTP/2.0",
        b"GET / HTTP/3.0",
        b"GET / HTTP/0.9",
        b"GET /",
        b"GET",
        b"GET / http/1.1",
        b"GET / HTTP 1.1",
        b"GET / HTTP/1,1",
        b"GET / XTTP/1.1",
        b"GET /a b HTTP/1.1",
        b" GET / HTTP/1.1",
        b"G@T / HTTP/1.1",
        b"GET /\x01 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"GET /a\rb HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"GET\xa0/ HTTP/1.1",
    ] {
        let request = [line, b"\r\nHost: a\r\n\r\n"].concat();
        stage.refuses(&String::from_utf8_lossy(line), request).await;
    }
    // A fragment leaves no doubt about the framing: the request is refused, the connection may go on.
    for target in ["/#fragment", "/a#b?c"] {
        let answer = exchange(
            stage.proxy.addr("web"),
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        )
        .await;
        assert_eq!(answer.statuses(), [400], "{target}");
        assert_eq!(stage.server.hits(), 0, "{target}");
    }
}

#[tokio::test]
async fn attack_11_oversize_heads() {
    let stage = Stage::new().await;
    let mut many = String::new();
    for number in 0..200_000 {
        write!(many, "X-{number}: y\r\n").unwrap();
    }
    stage
        .refuses(
            "endless target",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(3 << 20)),
        )
        .await;
    stage
        .refuses(
            "endless value",
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "a".repeat(3 << 20)
            ),
        )
        .await;
    stage
        .refuses(
            "endless name",
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}: a\r\n\r\n",
                "a".repeat(3 << 20)
            ),
        )
        .await;
    stage
        .refuses(
            "endless fields",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        )
        .await;
    stage
        .refuses(
            "endless method",
            format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(3 << 20)),
        )
        .await;
}

#[tokio::test]
async fn attack_12_flood_of_empty_lines() {
    let stage = Stage::new().await;
    stage
        .serves(
            "one empty line is forgiven",
            "\r\nGET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            &["/one"],
        )
        .await;
    stage
        .refuses(
            "a flood is not",
            format!(
                "{}GET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "\r\n".repeat(1 << 20)
            ),
        )
        .await;
}
