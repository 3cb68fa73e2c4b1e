//! Tunnels after an upgrade: how they end, what is counted, and what does not become one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Proxy, Raw, all_to, backend, eventually, proxy};

const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A proxy with short patience for half closed tunnels, and the server behind it.
async fn stage() -> (Proxy, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let timeouts = json!({"halfClosedTimeout": "800ms"});
    let proxy = proxy(&all_to(&[url]))
        .entry_point(
            "web",
            &json!({"transport": {"respondingTimeouts": timeouts}}),
        )
        .run()
        .await;
    (proxy, listener)
}

/// Both ends of a tunnel.
async fn tunnel(proxy: &Proxy, listener: &TcpListener) -> (Raw, Raw) {
    let mut client = Raw::open(proxy.addr("web")).await;
    client.send(UPGRADE).await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut server = Raw { stream };
    server.head().await;
    server.send(SWITCH).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    (client, server)
}

#[tokio::test]
async fn a_tunnel_that_one_side_has_closed_ends() {
    let (proxy, listener) = stage().await;
    for client_closes in [true, false] {
        let (mut client, mut server) = tunnel(&proxy, &listener).await;
        let (first, second) = if client_closes {
            (&mut client, &mut server)
        } else {
            (&mut server, &mut client)
        };
        first.stream.shutdown().await.unwrap();
        assert!(second.rest_for(Duration::from_secs(10)).await.closed);
        // The other side goes on for as long as it has something to say.
        let start = Instant::now();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            second.send("more").await;
        }
        let rest = first.rest_for(Duration::from_secs(10)).await;
        assert_eq!(rest.text(), "more".repeat(5), "{client_closes}");
        assert!(rest.closed, "a half closed tunnel lingers");
        assert!(start.elapsed() > Duration::from_millis(1500));
    }
}

#[tokio::test]
async fn an_open_tunnel_may_rest() {
    let (proxy, listener) = stage().await;
    let (mut client, mut server) = tunnel(&proxy, &listener).await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    server.send("late\r\n\r\n").await;
    assert_eq!(client.head().await, "late\r\n\r\n");
}

/// An HTTP/2 connection to the proxy that has heard its settings.
async fn h2_client(proxy: &Proxy) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    pings.ping(h2::Ping::opaque()).await.unwrap();
    sender.ready().await.unwrap()
}

fn connect(protocol: &'static str) -> Request<()> {
    Request::builder()
        .method("CONNECT")
        .uri("http://a/")
        .header("sec-websocket-version", "13")
        .extension(h2::ext::Protocol::from_static(protocol))
        .body(())
        .unwrap()
}

#[tokio::test]
async fn only_what_was_passed_on_is_counted() {
    const WINDOW: u64 = 65_535;
    let (proxy, listener) = stage().await;
    let mut sender = h2_client(&proxy).await;
    let (answer, mut upload) = sender.send_request(connect("websocket"), false).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut server = Raw { stream };
    server.head().await;
    server.send(SWITCH).await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    // Much more than the client takes, in pieces.
    let pieces = async {
        while server.send(vec![b'x'; 10_000]).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(700), pieces)
        .await
        .ok();
    upload.send_reset(h2::Reason::CANCEL);
    drop(answer);
    let series = "traefik_entrypoint_responses_bytes_total{code=\"200\"";
    let counted = eventually("the tunnel has been counted", async || {
        let metrics = proxy.metrics().await;
        let line = metrics
            .lines()
            .find(|line| line.starts_with(series) && line.contains("\"web\""))?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    })
    .await;
    assert!(counted > 0.0 && counted <= WINDOW as f64, "{counted}");
}

#[tokio::test]
async fn no_other_protocol_is_tunnelled_over_http2() {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut sender = h2_client(&proxy).await;
    for protocol in ["connect-udp", "connect-ip", "h2c", "echo"] {
        let (answer, _upload) = sender.send_request(connect(protocol), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 501, "{protocol}");
    }
    // The connection has taken no harm.
    let request = Request::get("http://a/").body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(server.hits(), 1);
}
