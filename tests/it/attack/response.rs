//! Servers that answer what they should not: framing, splitting, floods, early and broken ends, poison on idle connections (19, 20).

use std::time::{Duration, Instant};

use crate::support::{
    Backend, Proxy, Raw, Reply, all_to, backend, eventually, exchange, proxy, routed,
};

const GET: &str = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// A proxy in front of a server that gives `first` to `/first` and a plain answer to everything else.
async fn stage(first: Reply) -> (Proxy, Backend) {
    let server = backend("server")
        .reply(move |seen| {
            if seen.target == "/first" {
                first.clone()
            } else {
                Reply::status(200, "clean")
            }
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    (proxy, server)
}

/// We say 500 or 502 when a server speaks nonsense, never what it said.
fn is_broken(statuses: &[u16]) -> bool {
    matches!(statuses, [500 | 502])
}

/// The next request is answered cleanly and on another connection to the server.
async fn next_is_clean(what: &str, proxy: &Proxy, server: &Backend) {
    let before = server.last().connection;
    for _ in 0..4 {
        let next = proxy.client().get("/next").await;
        assert_eq!(
            (next.status, next.text().as_str()),
            (200, "clean"),
            "{what}: the next answer is poisoned"
        );
    }
    let last = server.last();
    assert!(
        last.connection != before,
        "{what}: the connection in doubt was used again"
    );
}

#[tokio::test]
async fn attack_19_framing_in_doubt_is_a_502_and_never_reused() {
    for (what, head) in [
        (
            "length and chunked",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "chunked and length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("bad length", "Content-Length: +5\r\n"),
        ("unknown coding", "Transfer-Encoding: xchunked\r\n"),
        ("space before the colon", "Content-Length : 5\r\n"),
        ("NUL in a value", "X: a\0b\r\nContent-Length: 5\r\n"),
        (
            "bare CR in a value",
            "X: a\rSet-Cookie: evil=1\r\nContent-Length: 5\r\n",
        ),
        ("folded field", "X: a\r\n b\r\nContent-Length: 5\r\n"),
        ("field without a colon", "Nonsense\r\nContent-Length: 5\r\n"),
    ] {
        let (proxy, server) = stage(Reply::raw(format!(
            "HTTP/1.1 200 OK\r\n{head}\r\n0\r\n\r\n{POISON}"
        )))
        .await;
        let answer = exchange(proxy.addr("web"), GET).await;
        assert!(is_broken(&answer.statuses()), "{what}: {:?}", answer.text());
        assert!(!answer.text().contains("evil"), "{what}");
        next_is_clean(what, &proxy, &server).await;
    }
}

#[tokio::test]
async fn attack_19_not_http() {
    for garbage in [
        "",
        "\r\n",
        "hello\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    ] {
        let (proxy, server) = stage(Reply::raw(garbage).close()).await;
        let answer = exchange(proxy.addr("web"), GET).await;
        assert!(
            is_broken(&answer.statuses()),
            "{garbage:?}: {:?}",
            answer.text()
        );
        let next = proxy.client().get("/next").await;
        assert_eq!(next.text(), "clean", "{garbage:?}");
        assert!(server.hits() >= 2);
    }
}

#[tokio::test]
async fn attack_19_answer_cut_short_is_not_a_clean_end() {
    for (what, bytes) in [
        (
            "short length",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        ),
        (
            "cut in a chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\nwor",
        ),
        (
            "cut before the last chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "cut in the trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
        ),
        (
            "broken chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n\r\n0\r\n\r\n",
        ),
    ] {
        let (proxy, _server) =
            stage(Reply::raw(bytes).pause(Duration::from_millis(30)).close()).await;
        let answer = exchange(proxy.addr("web"), GET).await;
        assert!(answer.closed, "{what}");
        let clean = answer.answers().first().is_some_and(|first| {
            first.status == 200
                && first.complete
                && first
                    .headers
                    .iter()
                    .any(|(name, _)| !name.eq_ignore_ascii_case("connection"))
        });
        assert!(
            !clean,
            "{what}: looks complete to the client: {:?}",
            answer.text()
        );
        assert!(
            proxy.client().h2().get("/first").try_send().await.is_err(),
            "{what}: looks complete over HTTP/2"
        );
    }
}

#[tokio::test]
async fn attack_19_more_bytes_than_announced_are_dropped() {
    for (what, method, head) in [
        (
            "long length",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "body after the last chunk",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        ("204 with a body", "GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "304 with a body",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            "HEAD with a body",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n",
        ),
    ] {
        let (proxy, server) = stage(Reply::raw(format!("{head}{POISON}"))).await;
        let answer = exchange(
            proxy.addr("web"),
            format!("{method} /first HTTP/1.1\r\nHost: a\r\n\r\n"),
        )
        .await;
        assert!(
            !answer.text().contains("poison"),
            "{what}: {:?}",
            answer.text()
        );
        next_is_clean(what, &proxy, &server).await;
    }
}

#[tokio::test]
async fn attack_19_flood_of_interim_answers() {
    let flood = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(20_000);
    let (proxy, server) = stage(Reply::raw(format!(
        "{flood}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )))
    .await;
    let answer = exchange(proxy.addr("web"), GET).await;
    let statuses = answer.statuses();
    assert!(
        statuses.last().is_some_and(|last| is_broken(&[*last])),
        "{} answers",
        statuses.len()
    );
    next_is_clean("interim flood", &proxy, &server).await;
}

#[tokio::test]
async fn attack_19_switching_protocols_without_being_asked() {
    let (proxy, server) = stage(Reply::raw(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{POISON}"))).await;
    let answer = exchange(proxy.addr("web"), GET).await;
    assert!(is_broken(&answer.statuses()), "{:?}", answer.text());
    next_is_clean("101", &proxy, &server).await;
}

#[tokio::test]
async fn attack_19_endless_heads_are_cut() {
    let endless = (0..200_000)
        .map(|number| format!("X-{number}: y\r\n"))
        .collect::<String>();
    let (proxy, server) = stage(Reply::raw(format!(
        "HTTP/1.1 200 OK\r\n{endless}Content-Length: 2\r\n\r\nok"
    )))
    .await;
    let answer = exchange(proxy.addr("web"), GET).await;
    assert!(is_broken(&answer.statuses()), "{:?}", answer.statuses());
    next_is_clean("endless head", &proxy, &server).await;
}

#[tokio::test]
async fn attack_19_slow_heads_meet_the_header_timeout() {
    let mut drip = Reply::raw("HTTP/1.1 200 OK\r\n");
    for _ in 0..100 {
        drip = drip.write("X: y\r\n").pause(Duration::from_millis(100));
    }
    let server = backend("server").reply(move |_| drip.clone()).run().await;
    let routing = routed(
        "PathPrefix(`/`)",
        &[server.url()],
        "        serversTransport: short\n",
    ) + "  serversTransports:\n    short:\n      forwardingTimeouts:\n        responseHeaderTimeout: 500ms\n";
    let proxy = proxy(&routing).run().await;
    let start = Instant::now();
    let answer = exchange_slow(&proxy, GET).await;
    assert_eq!(answer, 504);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

async fn exchange_slow(proxy: &Proxy, request: &str) -> u16 {
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send(request).await;
    let head = raw.head().await;
    head.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0)
}

#[tokio::test]
async fn attack_19_early_answer_while_uploading() {
    let server = backend("server")
        .early()
        .reply(|seen| {
            if seen.target == "/first" {
                Reply::status(413, "too much")
                    .pause(Duration::from_millis(50))
                    .close()
            } else {
                Reply::status(200, "clean")
            }
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nsome of it")
        .await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head:?}");
    for _ in 0..4 {
        let next = proxy.client().get("/next").await;
        assert_eq!((next.status, next.text().as_str()), (200, "clean"));
    }
    let uploading = server.seen()[0].connection;
    assert!(
        server
            .seen()
            .iter()
            .skip(1)
            .all(|seen| seen.connection != uploading),
        "a connection with a half sent body was used again"
    );
}

#[tokio::test]
async fn attack_20_hop_by_hop_fields_of_the_server_stop_here() {
    let (proxy, _server) = stage(Reply::with(
        200,
        &[
            ("Connection", "X-Secret, keep-alive"),
            ("X-Secret", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Connection", "keep-alive"),
            ("Te", "trailers"),
            ("Upgrade", "h2c"),
            ("X-Kept", "1"),
        ],
        "hello",
    ))
    .await;
    let answer = proxy.client().get("/first").await;
    assert_eq!(
        (
            answer.status,
            answer.text().as_str(),
            answer.header("x-kept")
        ),
        (200, "hello", Some("1"))
    );
    for name in [
        "x-secret",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "upgrade",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn attack_20_servers_that_close_without_saying_so() {
    // Each answer looks reusable and the connection dies right after it: a request that meets the dying connection is sent again.
    let server = backend("server")
        .reply(|_| Reply::status(200, "ok").close())
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut connection = proxy.client().connect().await.unwrap();
    for number in 0..200 {
        let answer = connection.get(&format!("/{number}")).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ok"),
            "request {number}"
        );
    }
}

#[tokio::test]
async fn attack_20_unsolicited_bytes_on_an_idle_connection() {
    let server = backend("server")
        .reply(|seen| {
            let clean = Reply::status(200, "clean");
            if seen.target == "/first" {
                clean.pause(Duration::from_millis(50)).write(POISON)
            } else {
                clean
            }
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    assert_eq!(proxy.client().get("/first").await.text(), "clean");
    eventually("the poison is on its way", async || {
        (server.hits() == 1).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    next_is_clean("unsolicited bytes", &proxy, &server).await;
}
