//! Request bodies: clients that leave, servers that do not read, refusals that allow another try, and when the wait for an answer begins.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Proxy, Raw, Reply, all_to, backend, eventually, proxy};

/// A proxy in front of `url` with these `respondingTimeouts`, and `serversTransport` options for what lies behind it.
async fn stage(url: &str, timeouts: serde_json::Value, transport: &str) -> Proxy {
    let routing = all_to(&[url.to_owned()])
        + "        serversTransport: own\n  serversTransports:\n    own:\n      "
        + transport
        + "\n";
    proxy(&routing)
        .entry_point(
            "web",
            &json!({"transport": {"respondingTimeouts": timeouts}}),
        )
        .run()
        .await
}

const PLAIN: &str = "maxIdleConnsPerHost: 10";

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (listener, addr)
}

/// Sends as much of a body as anybody takes.
async fn fill(raw: &mut Raw) {
    let block = vec![b'x'; 256 * 1024];
    let blocked = async { while raw.send(&block).await {} };
    tokio::time::timeout(Duration::from_millis(700), blocked)
        .await
        .ok();
}

/// The status of the next answer; 0 if there is none.
async fn status(raw: &mut Raw) -> u16 {
    let head = raw.head().await;
    head.split(' ')
        .nth(1)
        .map_or(0, |code| code.parse().unwrap_or(0))
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";

#[tokio::test]
async fn a_client_that_leaves_while_the_server_does_not_read_is_noticed() {
    let (listener, addr) = listener().await;
    let timeouts = json!({"bodyProgressTimeout": "0s"});
    let proxy = stage(&format!("http://{addr}"), timeouts, PLAIN).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send(POST).await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    fill(&mut raw).await;
    // An orderly end would wait behind the data that nobody takes.
    raw.stream.set_zero_linger().unwrap();
    drop(raw);
    let series = "traefik_entrypoint_requests_total{code=\"499\"";
    eventually("the request is over", async || {
        proxy.metrics().await.contains(series).then_some(())
    })
    .await;
    let mut rest = vec![0; 1 << 20];
    let closed = async { while upstream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    assert!(
        tokio::time::timeout(Duration::from_secs(10), closed)
            .await
            .is_ok(),
        "the server is left waiting"
    );
}

#[tokio::test]
async fn a_server_that_takes_nothing_of_the_request_is_given_up() {
    let (listener, addr) = listener().await;
    let timeouts = json!({"bodyProgressTimeout": "600ms"});
    let proxy = stage(&format!("http://{addr}"), timeouts, PLAIN).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send(POST).await;
    let (_upstream, _) = listener.accept().await.unwrap();
    fill(&mut raw).await;
    assert_eq!(status(&mut raw).await, 504);
}

#[tokio::test]
async fn an_http2_server_that_takes_nothing_of_the_request_is_given_up() {
    let (listener, addr) = listener().await;
    let timeouts = json!({"bodyProgressTimeout": "600ms"});
    let proxy = stage(&format!("h2c://{addr}"), timeouts, PLAIN).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send(POST).await;
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut held = Vec::new();
        while let Some(Ok(request)) = connection.accept().await {
            // Its window is never given back.
            held.push(request);
        }
    };
    let client = async {
        fill(&mut raw).await;
        status(&mut raw).await
    };
    let status = tokio::select! {
        status = client => status,
        () = server => panic!("the proxy closed its connection"),
    };
    assert_eq!(status, 504);
}

/// An HTTP/2 server that answers every request with 200 once it has read it, unless the path is `/silent`.
async fn h2_server(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let silent = request.uri().path() == "/silent";
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            if silent {
                std::future::pending::<()>().await;
            }
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        });
    }
}

#[tokio::test]
async fn the_wait_for_an_http2_answer_begins_when_the_request_is_sent() {
    let (listener, addr) = listener().await;
    let short = "forwardingTimeouts: {responseHeaderTimeout: 500ms}";
    let proxy = stage(&format!("h2c://{addr}"), json!({}), short).await;
    let server = tokio::spawn(h2_server(listener));
    for (path, pieces, expected) in [("/slow", 5, 200), ("/silent", 2, 504), ("/silent", 0, 504)] {
        let mut raw = Raw::open(proxy.addr("web")).await;
        let length = pieces * 3;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
        for _ in 0..pieces {
            tokio::time::sleep(Duration::from_millis(250)).await;
            raw.send("abc").await;
        }
        assert_eq!(status(&mut raw).await, expected, "{path} {pieces}");
    }
    server.abort();
}

#[tokio::test]
async fn an_upload_takes_as_long_as_it_makes_progress() {
    let server = backend("server").run().await;
    let timeouts =
        json!({"headerTimeout": "700ms", "idleTimeout": "700ms", "bodyProgressTimeout": "700ms"});
    let short = "forwardingTimeouts: {responseHeaderTimeout: 700ms}";
    let proxy = stage(&server.url(), timeouts, short).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40960\r\n\r\n")
        .await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        raw.send(vec![b'x'; 4096]).await;
    }
    assert_eq!(status(&mut raw).await, 200);
    assert_eq!(server.last().body.len(), 40960);
}

const FRAME_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const FRAME_REFUSED_1: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
const FRAME_GOAWAY_0: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Plays an HTTP/2 server that answers the first request with `frame` instead of an answer.
async fn turn_away(stream: &mut TcpStream, frame: &[u8]) {
    stream.write_all(FRAME_SETTINGS).await.unwrap();
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    // The preface takes 24 bytes; then come frames: their length, and their kind.
    let mut at = 24;
    loop {
        while bytes.len() < at + 9 {
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the proxy closed before its request");
            bytes.extend_from_slice(&chunk[..count]);
        }
        if bytes[at + 3] == 1 {
            break;
        }
        at += 9 + usize::from(bytes[at + 1]) * 256 + usize::from(bytes[at + 2]);
    }
    stream.write_all(frame).await.unwrap();
}

#[tokio::test]
async fn an_http2_server_that_turns_a_request_away_gets_it_again() {
    for (frame, fresh) in [(FRAME_REFUSED_1, false), (FRAME_GOAWAY_0, true)] {
        for body in ["", "Content-Length: 3\r\n"] {
            let (listener, addr) = listener().await;
            let proxy = stage(&format!("h2c://{addr}"), json!({}), PLAIN).await;
            let mut raw = Raw::open(proxy.addr("web")).await;
            // Not safe to repeat, unless the server says that it did nothing.
            raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}\r\n"))
                .await;
            let (mut first, _) = listener.accept().await.unwrap();
            turn_away(&mut first, frame).await;
            if fresh {
                let server = tokio::spawn(h2_server(listener));
                if !body.is_empty() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    raw.send("abc").await;
                }
                assert_eq!(status(&mut raw).await, 200, "{body:?}");
                server.abort();
            } else {
                // On the same connection: it was the stream that was refused. The second one gets the same answer.
                let mut rest = vec![0; 4096];
                let again = tokio::time::timeout(Duration::from_secs(5), async {
                    let mut seen = Vec::new();
                    while !seen
                        .windows(6)
                        .any(|frame| frame[0] == 1 && frame[2..6] == [0, 0, 0, 3])
                    {
                        let count = first.read(&mut rest).await.unwrap();
                        assert!(count > 0, "closed");
                        seen.extend_from_slice(&rest[..count]);
                    }
                });
                assert!(again.await.is_ok(), "no second try: {body:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_a_server_has_begun_to_read_is_not_sent_again() {
    let (listener, addr) = listener().await;
    let proxy = stage(&format!("h2c://{addr}"), json!({}), PLAIN).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    let (mut first, _) = listener.accept().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    turn_away(&mut first, FRAME_GOAWAY_0).await;
    raw.send("def").await;
    let answer = raw.rest_for(Duration::from_secs(5)).await;
    assert_eq!(
        answer.status(),
        502,
        "half a body must not pass for a whole"
    );
}

#[tokio::test]
async fn a_websocket_handshake_is_not_lost_to_a_stale_connection() {
    let server = backend("server")
        .reply(|seen| {
            if seen.nth > 1 {
                return Reply::default().close();
            }
            match seen.header("upgrade") {
                Some(_) => Reply::raw(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                )
                .echo(),
                None => Reply::status(200, "ok"),
            }
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for _ in 0..4 {
        assert_eq!(proxy.client().get("/").await.status, 200);
        let mut raw = Raw::open(proxy.addr("web")).await;
        raw.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    }
}

#[tokio::test]
async fn where_there_is_no_other_server_no_retry_is_paid_for() {
    let server = backend("server")
        .reply(|_| Reply::default().close())
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for _ in 0..40 {
        assert_eq!(proxy.client().get("/").await.status, 502);
    }
    let metrics = proxy.metrics().await;
    let refused = metrics
        .lines()
        .find(|line| line.starts_with("portway_service_retry_budget_refusals_total{"));
    assert!(
        refused.is_none_or(|line| line.ends_with(" 0")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn bytes_of_http2_uploads_arrive_whole() {
    let (listener, addr) = listener().await;
    let proxy = stage(&format!("h2c://{addr}"), json!({}), PLAIN).await;
    let server = tokio::spawn(h2_server(listener));
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::post("http://a/").body(()).unwrap();
    let (answer, mut upload) = sender.send_request(request, false).unwrap();
    for last in [false, false, true] {
        upload
            .send_data(Bytes::from_static(&[b'x'; 40_000]), last)
            .unwrap();
    }
    assert_eq!(answer.await.unwrap().status(), 200);
    server.abort();
}
