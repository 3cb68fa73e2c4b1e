//! `buffering` as a client and servers see it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::support::{Proxy, Raw, Reply, backend, eventually, proxy, without_hold};

async fn with(options: &str, url: &str) -> Proxy {
    proxy(&routing(options, url))
        .install(&without_hold())
        .run()
        .await
}

fn routing(options: &str, url: &str) -> String {
    format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all, middlewares: [whole]}}}}\n  middlewares: {{whole: {{buffering: {options}}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{url}'}}]}}}}}}\n"
    )
}

/// Files that the process has open without a name.
fn unnamed_files(proxy: &Proxy) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
    let targets = folder.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().ends_with("(deleted)"))
        .count()
}

#[tokio::test]
async fn bodies_arrive_whole_with_their_length_from_memory_and_from_files() {
    let server = backend("server")
        .reply(|seen| {
            let size: usize = seen.path()[1..].parse().unwrap();
            let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for _ in 0..size / 100 {
                answer += &format!("64\r\n{}\r\n", "y".repeat(100));
            }
            Reply::raw(answer + "0\r\n\r\n")
        })
        .run()
        .await;
    let proxy = with(
        "{memRequestBodyBytes: 5000, memResponseBodyBytes: 5000}",
        &server.url(),
    )
    .await;
    for size in [300, 5000, 70_000, 700_000] {
        let mut raw = Raw::open(proxy.addr("web")).await;
        raw.send(format!(
            "POST /{size} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
        for _ in 0..size / 100 {
            raw.send(format!("64\r\n{}\r\n", "x".repeat(100))).await;
        }
        raw.send("0\r\n\r\n").await;
        let answer = raw.head().await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200"), "{size}: {answer}");
        assert!(
            answer.contains(&format!("content-length: {size}\r\n")),
            "{answer}"
        );
        let seen = server.last();
        assert_eq!(seen.header("content-length"), Some(&*size.to_string()));
        assert_eq!(seen.body, vec![b'x'; size]);
        assert_eq!(
            proxy.client().get(&format!("/{size}")).await.text(),
            "y".repeat(size)
        );
    }
    eventually("no file is left", async || {
        (unnamed_files(&proxy) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let server = backend("server")
        .reply(|seen| match seen.path() {
            "/chunks" => Reply::raw(
                "HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
            ),
            path => Reply::with(200, &[("x-a", "1")], &"0123456789a"[..path[1..].parse().unwrap()]),
        })
        .run()
        .await;
    let proxy = with(
        "{maxRequestBodyBytes: 10, maxResponseBodyBytes: 10}",
        &server.url(),
    )
    .await;
    let client = proxy.client();
    let answer = client.post("/1", "0123456789a").await;
    assert_eq!(
        (answer.status, answer.text().as_str(), server.hits()),
        (413, "Request Entity Too Large", 0)
    );
    assert_eq!(client.post("/10", "0123456789").await.status, 200);
    for path in ["/11", "/chunks"] {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.header("x-a")),
            (500, "Internal Server Error", None)
        );
    }
    let answer = client.call("HEAD", "/11").await;
    assert_eq!((answer.status, answer.header("x-a")), (200, Some("1")));
}

#[tokio::test]
async fn requests_with_a_body_are_repeated_on_a_condition() {
    let asked = AtomicUsize::new(0);
    let server = backend("server")
        .reply(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Reply::status(503, "busy"),
            _ => Reply::status(200, "fine"),
        })
        .run()
        .await;
    let again =
        "{memRequestBodyBytes: 2, retryExpression: 'ResponseCode() == 503 && Attempts() <= 2'}";
    let proxy = with(again, &server.url()).await;
    let answer = proxy.client().post("/", "load").await;
    assert_eq!((answer.text().as_str(), server.hits()), ("fine", 3));
    assert!(server.seen().iter().all(|seen| &*seen.body == b"load"));
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("traefik_service_retries_total{service=\"all@file\"} 2"));
}

#[tokio::test]
async fn event_streams_pass_as_they_come() {
    let server = backend("server")
        .reply(|_| {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n").hang()
        })
        .run()
        .await;
    let proxy = with("{maxResponseBodyBytes: 5}", &server.url()).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = raw.rest_for(Duration::from_millis(500)).await.text();
    assert!(answer.contains("data: 1"), "{answer}");
}

#[tokio::test]
async fn a_body_that_finds_no_room_is_a_500_that_says_why() {
    let server = backend("server").run().await;
    let proxy = proxy(&routing("{memRequestBodyBytes: 2}", &server.url()))
        .env("TMPDIR", "/nowhere/at/all")
        .run()
        .await;
    let answer = proxy.client().post("/", "load").await;
    assert_eq!(
        (answer.status, answer.text().as_str(), server.hits()),
        (500, "Internal Server Error", 0)
    );
    eventually("the log says why", async || {
        let log = proxy.log();
        (log.contains("/nowhere/at/all") && log.contains("TMPDIR")).then_some(())
    })
    .await;
    assert_eq!(proxy.client().post("/", "l").await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_file_along() {
    let server = backend("server").run().await;
    let proxy = with("{memRequestBodyBytes: 1000}", &server.url()).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
        .await;
    raw.send(vec![b'x'; 400_000]).await;
    eventually("a file is there", async || {
        (unnamed_files(&proxy) == 1).then_some(())
    })
    .await;
    drop(raw);
    eventually("the file is gone", async || {
        (unnamed_files(&proxy) == 0).then_some(())
    })
    .await;
    assert_eq!(server.hits(), 0);
}
