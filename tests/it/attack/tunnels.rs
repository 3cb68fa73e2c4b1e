//! CONNECT and Upgrade: what may become a tunnel and what must not (15-18).

use std::time::Duration;

use super::Stage;
use crate::support::{Raw, Reply, all_to, backend, eventually, exchange, proxy};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn attack_15_upgrade_to_h2c_is_not_forwarded() {
    let stage = Stage::new().await;
    let request = "GET /h2c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let answer = exchange(stage.proxy.addr("web"), request).await;
    assert_ne!(answer.status(), 101);
    for seen in stage.server.seen() {
        assert_eq!(
            (seen.header("upgrade"), seen.header("http2-settings")),
            (None, None)
        );
        assert!(
            !seen
                .header("connection")
                .unwrap_or_default()
                .to_lowercase()
                .contains("upgrade")
        );
    }
}

#[tokio::test]
async fn attack_16_connect_over_http1_is_refused() {
    let stage = Stage::new().await;
    for head in [
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 35\r\n",
        "CONNECT / HTTP/1.1\r\nHost: a\r\n",
        "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n",
        "CONNECT a:443 HTTP/1.0\r\n",
    ] {
        stage.server.reset();
        let answer = exchange(stage.proxy.addr("web"), format!("{head}\r\n{SMUGGLED}")).await;
        assert!(
            [400, 405, 501].contains(&answer.status()),
            "{head}: {:?}",
            answer.text()
        );
        assert!(
            answer.closed && answer.statuses().len() == 1,
            "{head}: what follows CONNECT is not a request: {:?}",
            answer.text()
        );
        assert_eq!(stage.server.hits(), 0, "{head}");
    }
}

#[tokio::test]
async fn attack_16_connect_over_http2_is_refused() {
    let stage = Stage::new().await;
    let stream = tokio::net::TcpStream::connect(stage.proxy.addr("web"))
        .await
        .unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::builder()
        .method("CONNECT")
        .uri("internal:22")
        .body(())
        .unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(SMUGGLED.into(), true).ok();
    if let Ok(Ok(response)) = tokio::time::timeout(Duration::from_secs(5), response).await {
        assert!(response.status().as_u16() >= 400, "{response:?}");
    }
    assert_eq!(stage.server.hits(), 0);
    // The connection and the proxy go on.
    assert_eq!(stage.proxy.client().get("/after").await.status, 200);
}

#[tokio::test]
async fn attack_17_upgrade_with_a_body() {
    let server = backend("server").reply(|seen| if seen.header("upgrade").is_some() { Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").echo() } else { Reply::status(200, "plain") }).run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for framing in [
        format!("Content-Length: {}", SMUGGLED.len()),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        server.reset();
        let body = if framing.starts_with('C') {
            SMUGGLED.to_owned()
        } else {
            format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())
        };
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{framing}\r\n\r\n{body}"
        );
        let answer = exchange(proxy.addr("web"), request).await;
        assert!(
            !server.targets().contains(&"/smuggled".to_owned()),
            "{framing}: the body became a request"
        );
        if answer.refused() {
            assert_eq!(server.hits(), 0, "{framing}");
        } else {
            let seen = server.last();
            assert_eq!(
                seen.body,
                SMUGGLED.as_bytes(),
                "{framing}: the body is delivered whole when it is not refused"
            );
        }
    }
}

#[tokio::test]
async fn attack_18_websocket_handshakes_are_the_servers_business() {
    let server = backend("server")
        .reply(|seen| {
            Reply::with(
                426,
                &[
                    ("Sec-WebSocket-Version", "13"),
                    (
                        "X-Saw",
                        seen.header("sec-websocket-version").unwrap_or("none"),
                    ),
                ],
                "upgrade",
            )
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for (fields, saw) in [
        ("Sec-WebSocket-Version: 7\r\nSec-WebSocket-Key: short", "7"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "none"),
    ] {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}\r\n\r\n"
        );
        let answer = exchange(proxy.addr("web"), request).await;
        assert_eq!(answer.status(), 426, "{:?}", answer.text());
        assert_eq!(answer.answers()[0].header("x-saw"), Some(saw));
    }
}

#[tokio::test]
async fn attack_18_websocket_frames_pass_untouched() {
    let server = backend("server").reply(|_| Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").echo()).run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // A fragmented text, a reserved opcode, an unmasked frame, and a frame that announces 2^62 bytes: all pass as they are.
    let frames: &[&[u8]] = &[
        b"\x01\x82\x00\x00\x00\x00he",
        b"\x80\x83\x00\x00\x00\x00llo",
        b"\x8f\x00",
        b"\x82\x03abc",
        b"\x82\x7f\x40\x00\x00\x00\x00\x00\x00\x00start",
    ];
    let bytes = frames.concat();
    raw.send(&bytes).await;
    let back = raw.rest().await;
    assert_eq!(back.bytes, bytes);
    drop(raw);
    eventually(
        "the tunnel to the server ends with the client",
        async || (server.hits() == 1).then_some(()),
    )
    .await;
}
