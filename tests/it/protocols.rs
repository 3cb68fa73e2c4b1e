//! What travels: HTTP/1.0, 1.1, 2, WebSocket, server-sent events, gRPC, trailers, interim answers, large bodies.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Authority, Raw, Reply, Trust, all_to, backend, eventually, exchange, grpc_backend, proxy,
    subject_is_traefik, websocket_backend,
};

#[tokio::test]
async fn every_way_in_reaches_the_server() {
    let server = backend("server").run().await;
    let routing = format!(
        "http:\n  routers:\n    plain: {{rule: 'PathPrefix(`/`)', service: all}}\n    secure: {{rule: 'PathPrefix(`/`)', service: all, tls: {{}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\n",
        server.url()
    );
    let proxy = proxy(&routing).run().await;
    let (plain, secure) = (
        proxy.client().host("shop.test"),
        proxy.client().host("shop.test").tls(Trust::anyone()),
    );
    for (client, version, scheme) in [
        (plain.clone(), Version::HTTP_11, "http"),
        (plain.h2(), Version::HTTP_2, "http"),
        (secure.clone(), Version::HTTP_11, "https"),
        (secure.h2(), Version::HTTP_2, "https"),
    ] {
        let answer = client.post("/x?y", "body").header("X-Own", "1").await;
        assert_eq!((answer.status, answer.version), (200, version));
        let seen = server.last();
        assert_eq!(
            (
                seen.version.as_str(),
                seen.target.as_str(),
                seen.body.as_slice()
            ),
            ("HTTP/1.1", "/x?y", &b"body"[..])
        );
        assert_eq!(
            (
                seen.header("host"),
                seen.header("x-forwarded-proto"),
                seen.header("x-own")
            ),
            (Some("shop.test"), Some(scheme), Some("1"))
        );
        assert_eq!(
            seen.header("x-forwarded-port"),
            Some(if scheme == "https" { "443" } else { "80" })
        );
    }
}

#[tokio::test]
async fn many_streams_on_one_connection() {
    let server = backend("server")
        .reply(|seen| {
            Reply::default()
                .pause(Duration::from_millis(100))
                .write(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
                    seen.target.len(),
                    seen.target
                ))
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let calls = (0..200).map(|number| {
        let sender = sender.clone();
        async move {
            let request = Request::builder()
                .uri(format!("http://a/{number}"))
                .body(())
                .unwrap();
            let (response, _) = sender
                .ready()
                .await
                .unwrap()
                .send_request(request, true)
                .unwrap();
            let mut body = response.await.unwrap().into_body();
            let mut bytes = Vec::new();
            while let Some(data) = body.data().await {
                bytes.extend_from_slice(&data.unwrap());
            }
            assert_eq!(bytes, format!("/{number}").into_bytes());
        }
    });
    let start = Instant::now();
    futures_util::future::join_all(calls).await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "streams wait for each other: {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn connections_to_servers_are_used_again() {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for _ in 0..50 {
        assert_eq!(proxy.client().get("/").await.status, 200);
    }
    assert!(
        server.connections() <= 4,
        "{} connections for 50 requests in turn",
        server.connections()
    );
}

#[tokio::test]
async fn keep_alive_and_close_follow_the_client() {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let pipelined = exchange(proxy.addr("web"), "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        (pipelined.statuses(), pipelined.closed),
        (vec![200, 200, 200], true)
    );
    assert_eq!(
        server
            .seen()
            .iter()
            .map(|seen| seen.target.as_str())
            .collect::<Vec<_>>(),
        ["/1", "/2", "/3"]
    );
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let server = backend("server").reply(|seen| match seen.path() {
        "/chunked" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        _ => Reply::status(200, "hello world"),
    }).run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for target in ["/", "/chunked"] {
        let answer = exchange(
            proxy.addr("web"),
            format!("GET {target} HTTP/1.0\r\nHost: a\r\n\r\n"),
        )
        .await;
        let first = &answer.answers()[0];
        assert!(answer.closed, "{target}");
        assert_eq!(
            (
                first.status,
                first.text().as_str(),
                first.header("transfer-encoding")
            ),
            (200, "hello world", None),
            "{target}: {:?}",
            answer.text()
        );
    }
    let bare = exchange(proxy.addr("web"), "GET / HTTP/1.0\r\n\r\n").await;
    assert!(
        bare.closed && [200, 404, 400].contains(&bare.status()),
        "no Host is legal in HTTP/1.0: {:?}",
        bare.text()
    );
}

#[tokio::test]
async fn http_1_0_connections_live_on_when_asked_to() {
    let server = backend("server")
        .reply(|seen| match seen.path() {
            "/chunked" => Reply::raw(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
            _ => Reply::status(200, "hello"),
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let request = |target: &str| {
        format!("GET {target} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    };
    let both = [request("/"), request("/")].concat();
    let answer = exchange(proxy.addr("web"), both).await;
    assert_eq!(answer.statuses(), [200, 200]);
    for answer in answer.answers() {
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    // Without a length, the end of the connection is the end of the answer.
    let answer = exchange(proxy.addr("web"), request("/chunked")).await;
    assert_eq!(answer.answers()[0].header("connection"), Some("close"));
    assert!(answer.closed);
}

#[tokio::test]
async fn answers_without_a_body_are_followed_by_the_next() {
    let server = backend("server")
        .reply(|seen| match seen.path() {
            "/204" => Reply::raw("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
            "/204-length" => Reply::raw("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
            "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
            "/205" => Reply::raw("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
            _ => Reply::status(200, ""),
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let targets = ["/204", "/204-length", "/304", "/205", "/", "/204", "/"];
    let requests: String = targets
        .iter()
        .map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    let answer = exchange(proxy.addr("web"), requests).await;
    let text = answer.text();
    assert_eq!(
        answer.statuses(),
        [204, 204, 304, 205, 200, 204, 200],
        "{text}"
    );
    // Each head is followed by the next one and by nothing else.
    for part in text.split("\r\n\r\n").filter(|part| !part.is_empty()) {
        assert!(part.starts_with("HTTP/1.1 "), "{text}");
    }
}

#[tokio::test]
async fn head_answers_keep_their_length_and_have_no_body() {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let answer = exchange(proxy.addr("web"), "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let text = answer.text();
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    assert_eq!(
        text.to_lowercase().matches("content-length: 1234").count(),
        2,
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\n"), "{text}");
    let over_h2 = proxy.client().h2().call("HEAD", "/").await;
    assert_eq!(
        (
            over_h2.status,
            over_h2.header("content-length"),
            over_h2.body.len()
        ),
        (200, Some("1234"), 0)
    );
}

#[tokio::test]
async fn large_bodies_both_ways() {
    let server = backend("server")
        .reply(|seen| {
            Reply::raw(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                seen.body.len()
            ))
            .write(&seen.body)
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let body: Bytes = (0..8_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect::<Vec<_>>()
        .into();
    for client in [proxy.client(), proxy.client().h2()] {
        let answer = client.post("/", body.clone()).await;
        assert!(
            answer.body == body,
            "{} of {} bytes came back",
            answer.body.len(),
            body.len()
        );
    }
    let chunks = body
        .chunks(100_000)
        .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect::<Vec<_>>();
    let answer = proxy
        .client()
        .call("POST", "/")
        .stream(StreamBody::new(futures_util::stream::iter(chunks)).boxed_unsync())
        .await;
    assert!(
        answer.body == body,
        "chunked: {} bytes came back",
        answer.body.len()
    );
}

#[tokio::test]
async fn trailers_of_the_answer_arrive() {
    let server = backend("server").reply(|_| Reply::raw("HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: 42\r\nX-Late: yes\r\n\r\n")).run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for client in [proxy.client(), proxy.client().h2()] {
        let answer = client.get("/").header("TE", "trailers").await;
        let trailers = answer.trailers.clone().expect("trailers");
        assert_eq!(answer.text(), "hello");
        assert_eq!(
            (
                trailers["x-checksum"].to_str().unwrap(),
                trailers["x-late"].to_str().unwrap()
            ),
            ("42", "yes")
        );
    }
}

#[tokio::test]
async fn trailers_of_the_request_arrive() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for client in [proxy.client(), proxy.client().h2()] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", "42".parse().unwrap());
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"hello"))),
            Ok(Frame::trailers(trailers)),
        ];
        let call = client
            .call("POST", "/")
            .header("Trailer", "X-Checksum")
            .stream(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
        assert_eq!(call.await.status, 200);
        let seen = server.last();
        assert_eq!(seen.body, b"hello");
        assert!(
            seen.trailers
                .iter()
                .any(|(name, value)| name.eq_ignore_ascii_case("x-checksum") && value == "42"),
            "{:?}",
            seen.trailers
        );
    }
}

#[tokio::test]
async fn early_hints_are_forwarded_before_the_answer() {
    let server = backend("server")
        .reply(|_| {
            Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
                .pause(Duration::from_millis(1500))
                .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let start = Instant::now();
    let hints = raw.head().await;
    assert!(
        hints.starts_with("HTTP/1.1 103 ") && hints.to_lowercase().contains("link: </style.css>"),
        "{hints}"
    );
    assert!(
        start.elapsed() < Duration::from_millis(1400),
        "held back until the answer"
    );
    let rest = raw.rest_for(Duration::from_secs(10)).await;
    assert_eq!(rest.statuses(), [200]);
}

#[tokio::test]
async fn events_are_flushed_at_once() {
    let server = backend("server").reply(|_| {
        let mut reply = Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            reply = reply.write(format!("{:x}\r\n{event}\r\n", event.len())).pause(Duration::from_millis(900));
        }
        reply.write("0\r\n\r\n")
    }).run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for client in [proxy.client(), proxy.client().h2()] {
        let start = Instant::now();
        let (response, _connection) = client
            .get("/")
            .header("Accept", "text/event-stream")
            .start()
            .await
            .unwrap();
        let mut body = response.into_body();
        for number in 0..3_u64 {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame, format!("data: {number}\n\n"));
            let late = start
                .elapsed()
                .saturating_sub(Duration::from_millis(900 * number));
            assert!(
                late < Duration::from_millis(800),
                "event {number} came {late:?} late"
            );
        }
    }
}

#[tokio::test]
async fn bodies_stream_up_while_the_answer_streams_down() {
    let server = backend("server")
        .early()
        .reply(|_| {
            Reply::raw(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
            )
            .echo()
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101"));
    for word in ["one", "two", "three"] {
        raw.send(word).await;
        let mut back = vec![0; word.len()];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut back)
            .await
            .unwrap();
        assert_eq!(back, word.as_bytes());
    }
}

#[tokio::test]
async fn websocket_echo() {
    let server = websocket_backend().await;
    let proxy = proxy(&all_to(&[format!("http://{}", server.addr)]))
        .run()
        .await;
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async("ws://shop.test/chat", stream)
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 101);
    let big = "x".repeat(1 << 20);
    for message in [
        Message::text("hello"),
        Message::binary(vec![0, 1, 2, 255]),
        Message::text(big),
    ] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket
        .send(Message::Ping(Bytes::from_static(b"p")))
        .await
        .unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Pong(Bytes::from_static(b"p"))
    );
    socket.close(None).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message:?}");
    }
}

#[tokio::test]
async fn websocket_over_http2() {
    if subject_is_traefik() {
        return;
    }
    let server = websocket_backend().await;
    let proxy = proxy(&all_to(&[format!("http://{}", server.addr)]))
        .run()
        .await;
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    // A ping behind the handshake: when it is answered, the settings of the proxy have arrived.
    pings.ping(h2::Ping::opaque()).await.unwrap();
    let mut sender = sender.ready().await.unwrap();
    assert!(
        sender.is_extended_connect_protocol_enabled(),
        "extended CONNECT (RFC 8441) is not offered"
    );
    let request = Request::builder()
        .method("CONNECT")
        .uri("http://shop.test/chat")
        .header("sec-websocket-version", "13")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .body(())
        .unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    // A masked text frame "hi" with a zero mask comes back unmasked from the echo server.
    send.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false)
        .unwrap();
    let mut body = response.into_body();
    let mut back = Vec::new();
    while back.len() < 4 {
        back.extend_from_slice(&body.data().await.unwrap().unwrap());
    }
    assert_eq!(back, b"\x81\x02hi");
}

async fn grpc_call(addr: std::net::SocketAddr) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = Request::builder()
        .method("POST")
        .uri("http://rpc.test/echo.Echo/Stream")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    let first = Bytes::from_static(b"\0\0\0\0\x05first");
    send.send_data(first.clone(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["content-type"].to_str().unwrap()
        ),
        (200, "application/grpc")
    );
    let mut body = response.into_body();
    // Both directions are open at once: the echo of the first message comes before the second is sent.
    assert_eq!(body.data().await.unwrap().unwrap(), first);
    let second = Bytes::from_static(b"\0\0\0\0\x06second");
    send.send_data(second.clone(), true).unwrap();
    let mut rest = Vec::new();
    while let Some(data) = body.data().await {
        rest.extend_from_slice(&data.unwrap());
    }
    assert_eq!(rest, second);
    let trailers = body.trailers().await.unwrap().expect("trailers");
    assert_eq!(
        (
            trailers["grpc-status"].to_str().unwrap(),
            trailers["grpc-message"].to_str().unwrap()
        ),
        ("0", "fine")
    );
}

#[tokio::test]
async fn grpc_with_trailers_over_h2c() {
    let server = grpc_backend(None).await;
    let proxy = proxy(&all_to(&[format!("h2c://{}", server.addr)]))
        .run()
        .await;
    grpc_call(proxy.addr("web")).await;
    let head = &server.heads.lock().unwrap()[0];
    assert_eq!(
        (head.uri().path(), head.headers()["te"].to_str().unwrap()),
        ("/echo.Echo/Stream", "trailers")
    );
    assert_eq!(head.headers()["x-forwarded-for"], "127.0.0.1");
}

#[tokio::test]
async fn grpc_with_trailers_to_a_tls_server() {
    let authority = Authority::new("servers");
    let server = grpc_backend(Some(
        authority.issue(&["rpc.internal"]).acceptor(None, &[b"h2"]),
    ))
    .await;
    let dir = tempfile::tempdir().unwrap();
    let root = authority.write(dir.path(), "root.pem");
    let routing = crate::support::routed(
        "PathPrefix(`/`)",
        &[format!("https://{}", server.addr)],
        "        serversTransport: own\n",
    ) + &format!(
        "  serversTransports: {{own: {{serverName: rpc.internal, rootCAs: ['{}']}}}}\n",
        root.display()
    );
    let proxy = proxy(&routing).run().await;
    grpc_call(proxy.addr("web")).await;
}

#[tokio::test]
async fn servers_over_tls_with_a_client_certificate() {
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let server = backend("secure")
        .tls(
            authority
                .issue(&["app.internal"])
                .acceptor(Some(&clients), &[b"http/1.1"]),
        )
        .run()
        .await;
    let dir = tempfile::tempdir().unwrap();
    let root = authority.write(dir.path(), "root.pem");
    let (certificate, key) = clients.issue(&["edge"]).write(dir.path(), "edge");
    let transports = format!(
        "  serversTransports:\n    own: {{serverName: app.internal, rootCAs: ['{}'], certificates: [{{certFile: '{}', keyFile: '{}'}}]}}\n",
        root.display(),
        certificate.display(),
        key.display()
    );
    let trusted = proxy(
        &(crate::support::routed(
            "PathPrefix(`/`)",
            &[server.url()],
            "        serversTransport: own\n",
        ) + &transports),
    )
    .run()
    .await;
    assert_eq!(trusted.client().get("/").await.backend(), "secure");
    let strangers = proxy(&all_to(&[server.url()])).run().await;
    // Traefik says 500 here; that the gateway could not reach its server is what 502 means.
    let refused = strangers.client().get("/").await.status;
    assert!(
        [500, 502].contains(&refused),
        "a server that cannot be verified gets no request: {refused}"
    );
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_to_the_server() {
    let server = backend("server")
        .reply(|_| {
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").hang()
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()]))
        .install(&json!({"accessLog": {"format": "json"}}))
        .run()
        .await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    drop(raw);
    eventually("the request is over", async || {
        proxy.log().contains("\"DownstreamStatus\":").then_some(())
    })
    .await;
}
