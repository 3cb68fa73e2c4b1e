//! Bodies that go both ways at once, and servers that do not wait for each other.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Raw, Reply, all_to, backend, eventually, proxy};

/// Reads from `stream` until `end` has come.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let (mut text, mut chunk) = (String::new(), vec![0; 64 * 1024]);
    while !text.ends_with(end) {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut chunk)).await;
        match read {
            Ok(Ok(count)) if count > 0 => text.push_str(&String::from_utf8_lossy(&chunk[..count])),
            _ => panic!("{end:?} did not come, only {text:?}"),
        }
    }
    text
}

#[tokio::test]
async fn an_upload_goes_on_whole_after_an_early_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let proxy = proxy(&all_to(&[format!("http://{server}")])).run().await;
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    // More than the sockets between hold, so that the answer overtakes bytes which wait at the proxy.
    let (pieces, piece) = (16 * 1024, [b'x'; 1024]);
    let upload = tokio::spawn(async move {
        let head = b"POST /talk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        writing.write_all(head).await.unwrap();
        for _ in 0..pieces {
            writing.write_all(b"400\r\n").await.unwrap();
            writing.write_all(&piece).await.unwrap();
            writing.write_all(b"\r\n").await.unwrap();
        }
        writing.write_all(b"0\r\n\r\n").await.unwrap();
        writing
    });
    let (mut upstream, _) = listener.accept().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        .await
        .unwrap();
    let body = read_until(&mut upstream, "\r\n0\r\n\r\n").await;
    let arrived = body.bytes().filter(|&byte| byte == b'x').count();
    assert_eq!(arrived, pieces * piece.len());
    upstream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_until(&mut reading, "0\r\n\r\n").await;
    assert!(answer.contains("2\r\nok\r\n"), "{answer:?}");
    drop(upload.await.unwrap());
}

#[tokio::test]
async fn a_client_may_send_everything_before_it_reads_an_answer_that_came_early() {
    const SIZE: usize = 32 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let proxy = proxy(&all_to(&[format!("http://{server}")])).run().await;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let answering = tokio::spawn(async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            writing.write_all(head.as_bytes()).await.unwrap();
            writing.write_all(&vec![b'y'; SIZE]).await.unwrap();
            writing
        });
        let (mut body, mut chunk) = (0, vec![0; 1 << 16]);
        while body < SIZE {
            let count = reading.read(&mut chunk).await.unwrap();
            body += chunk[..count].iter().filter(|&&byte| byte == b'x').count();
        }
        answering.await.unwrap()
    });
    let mut raw = Raw::open(proxy.addr("web")).await;
    let both = async {
        // Two letters less in the head, so that only the body has them.
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
        raw.send(head).await;
        assert!(raw.send(vec![b'x'; SIZE]).await);
        assert!(raw.head().await.starts_with("HTTP/1.1 200"));
        let mut body = vec![0; SIZE];
        raw.stream.read_exact(&mut body).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("neither side moves");
    drop(serving.await.unwrap());
}

#[tokio::test]
async fn what_follows_an_unread_body_is_not_taken_for_a_request() {
    let server = backend("server")
        .early()
        .reply(|_| Reply::status(200, "early"))
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        server.reset();
        let mut raw = Raw::open(proxy.addr("web")).await;
        raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"))
            .await;
        assert!(raw.head().await.starts_with("HTTP/1.1 200"));
        // Within the body that was announced.
        raw.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let rest = raw.rest().await;
        assert!(rest.closed, "{framing}");
        assert!(!rest.text().contains("HTTP/1.1"), "{framing}");
        assert!(
            !server.seen().iter().any(|seen| seen.target == "/smuggled"),
            "{framing}"
        );
    }
}

#[tokio::test]
async fn a_server_that_never_says_continue_gets_the_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let proxy = proxy(&all_to(&[format!("http://{server}")])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 100 "));
    raw.send("hello").await;
    read_until(&mut upstream, "hello").await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_slow_answer_after_continue_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let proxy = proxy(&all_to(&[format!("http://{server}")])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .await
        .unwrap();
    assert!(raw.head().await.starts_with("HTTP/1.1 100 "));
    raw.send("hello").await;
    read_until(&mut upstream, "hello").await;
    // Longer than the proxy waits for a `100 Continue`.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_client_with_more_requests_under_way_has_not_left() {
    let server = backend("server")
        .reply(|_| {
            Reply::default()
                .pause(Duration::from_millis(300))
                .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    raw.stream.shutdown().await.unwrap();
    let answer = raw.rest_for(Duration::from_secs(5)).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.text());
}

#[tokio::test]
async fn a_client_that_leaves_while_both_talk_ends_the_exchange() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let proxy = proxy(&all_to(&[format!("http://{server}")])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("POST /talk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "3\r\none\r\n").await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        .await
        .unwrap();
    read_until(&mut raw.stream, "2\r\nok\r\n").await;
    drop(raw);
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), upstream.read_to_end(&mut rest));
    assert!(
        closed.await.is_ok(),
        "the server is left waiting for a client that is gone"
    );
}

#[tokio::test]
async fn slow_clients_are_counted_and_the_option_that_cut_them_is_named() {
    let block = "x".repeat(1 << 20);
    let server = backend("server")
        .reply(move |_| {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n";
            (0..64).fold(Reply::raw(head), |reply, _| reply.write(&block))
        })
        .run()
        .await;
    for (request, phase, option) in [
        ("GET / HTTP/1.1\r\nX: ", "header", "headerTimeout"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx",
            "body",
            "bodyProgressTimeout",
        ),
        (
            "GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
            "answer",
            "bodyProgressTimeout",
        ),
    ] {
        let timeouts = json!({"headerTimeout": "500ms", "bodyProgressTimeout": "500ms"});
        let proxy = proxy(&all_to(&[server.url()]))
            .entry_point(
                "web",
                &json!({"transport": {"respondingTimeouts": timeouts}}),
            )
            .run()
            .await;
        let mut raw = Raw::open(proxy.addr("web")).await;
        raw.send(request).await;
        let series =
            format!("portway_entrypoint_timeouts_total{{entrypoint=\"web\",phase=\"{phase}\"}} 1");
        eventually(&series, async || {
            proxy.metrics().await.contains(&series).then_some(())
        })
        .await;
        eventually("the log names the option", async || {
            proxy.log().contains(option).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn slow_clients_of_http2_are_cut_too() {
    let block = "x".repeat(1 << 20);
    let server = backend("server")
        .reply(move |_| {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n";
            (0..64).fold(Reply::raw(head), |reply, _| reply.write(&block))
        })
        .run()
        .await;
    let timeouts = json!({"bodyProgressTimeout": "500ms"});
    let proxy = proxy(&all_to(&[server.url()]))
        .entry_point(
            "web",
            &json!({"transport": {"respondingTimeouts": timeouts}}),
        )
        .run()
        .await;
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    // One stream sends a byte and no more, the other takes its answer as far as its window goes and no further.
    let request = |method: &str| {
        let request = http::Request::builder().method(method).uri("http://a/");
        request.body(()).unwrap()
    };
    let (slow, mut upload) = sender.send_request(request("POST"), false).unwrap();
    upload
        .send_data(bytes::Bytes::from_static(b"x"), false)
        .unwrap();
    let (still, _) = sender.send_request(request("GET"), true).unwrap();
    let still = still.await.unwrap();
    assert_eq!(still.status(), 200);
    assert_eq!(slow.await.unwrap().status(), 408);
    for phase in ["body", "answer"] {
        let series =
            format!("portway_entrypoint_timeouts_total{{entrypoint=\"web\",phase=\"{phase}\"}} 1");
        eventually(&series, async || {
            proxy.metrics().await.contains(&series).then_some(())
        })
        .await;
    }
}
