//! `errors` as clients, servers and services with pages see it. What it says in which words is compared with Traefik side by side.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Backend, Proxy, Raw, Reply, Seen, backend, eventually, free_port, loopback, proxy, without_hold,
};

/// Answers with the status that the path ends with.
async fn server() -> Backend {
    let reply = |seen: &Seen| {
        let status = seen.path().rsplit('/').next().unwrap_or_default();
        Reply::with(
            status.parse().unwrap_or(200),
            &[("X-Server", "1")],
            "from the server",
        )
    };
    backend("server").reply(reply).run().await
}

async fn pages() -> Backend {
    let reply =
        |seen: &Seen| Reply::with(200, &[("X-Page", "1")], &format!("page {}", seen.target));
    backend("pages").reply(reply).run().await
}

/// One router to `server` with `middlewares`, and a service `pages`.
fn routing(names: &str, middlewares: &str, server: &str, pages: &str) -> String {
    format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all, middlewares: [{names}]}}}}\n  middlewares: {middlewares}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{server}'}}]}}}}, pages: {{loadBalancer: {{servers: [{{url: '{pages}'}}]}}}}}}\n"
    )
}

const BOTH: &str =
    "{pages: {errors: {status: [404, '500-599'], service: pages, query: '/{status}?{url}'}}}";

async fn with(middlewares: &str, server: &Backend, pages: &Backend) -> Proxy {
    let routing = routing("pages", middlewares, &server.url(), &pages.url());
    proxy(&routing).install(&without_hold()).run().await
}

#[tokio::test]
async fn caught_answers_are_replaced_and_others_are_not() {
    let (server, pages) = (server().await, pages().await);
    let proxy = with(BOTH, &server, &pages).await;
    for (path, status, page) in [
        ("/200", 200, false),
        ("/403", 403, false),
        ("/404", 404, true),
        ("/503", 503, true),
    ] {
        let answer = proxy.client().post(path, "load").await;
        assert_eq!(
            (answer.status, answer.header("x-page").is_some()),
            (status, page),
            "{path}"
        );
        assert_eq!(answer.header("x-server").is_some(), !page, "{path}");
    }
    let asked = pages.last();
    assert_eq!((asked.method.as_str(), asked.body.len()), ("GET", 0));
    assert_eq!(
        (
            asked.count("content-length"),
            asked.count("x-forwarded-for")
        ),
        (0, 0)
    );
    assert_eq!(asked.path(), "/503");
    let answer = proxy.client().call("HEAD", "/404").await;
    assert_eq!((answer.status, answer.text().as_str()), (404, ""));
    assert_eq!(answer.header("x-page"), Some("1"));
}

#[tokio::test]
async fn answers_of_our_own_have_pages_too() {
    let pages = pages().await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let deny = "{pages: {errors: {status: [404, '500-599'], service: pages, query: '/{status}', statusRewrites: {'404': 410}}}, deny: {ipAllowList: {sourceRange: [10.0.0.0/8], rejectStatusCode: 404}}}";
    for (names, status) in [("pages", 502), ("pages, deny", 410)] {
        let routing = routing(names, deny, &nobody, &pages.url());
        let proxy = proxy(&routing).install(&without_hold()).run().await;
        let answer = proxy.client().get("/").await;
        assert_eq!(
            (answer.status, answer.text()),
            (status, format!("page /{status}"))
        );
    }
}

#[tokio::test]
async fn a_service_without_its_page_leaves_the_status() {
    let server = server().await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let routing = routing("pages", BOTH, &server.url(), &nobody);
    let proxy = proxy(&routing).install(&without_hold()).run().await;
    let answer = proxy.client().get("/404").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (404, "Bad Gateway")
    );
}

#[tokio::test]
async fn what_is_not_caught_streams_and_interim_answers_pass() {
    let reply = |seen: &Seen| {
        match seen.path() {
        "/stream" => Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            .pause(Duration::from_secs(3))
            .write("3\r\ntwo\r\n0\r\n\r\n"),
        _ => Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").echo(),
    }
    };
    let (server, pages) = (backend("server").reply(reply).run().await, pages().await);
    let proxy = with(BOTH, &server, &pages).await;
    let began = Instant::now();
    let mut client = Raw::open(proxy.addr("web")).await;
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 103"));
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    let mut piece = [0; 8];
    client.stream.read_exact(&mut piece).await.unwrap();
    assert_eq!(&piece, b"3\r\none\r\n");
    assert!(
        began.elapsed() < Duration::from_millis(2500),
        "the first piece waited for the last"
    );
    let mut client = Raw::open(proxy.addr("web")).await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    client.send("ping\r\n\r\n").await;
    assert_eq!(client.head().await, "ping\r\n\r\n");
    assert_eq!(pages.hits(), 0);
}

#[tokio::test]
async fn metrics_and_access_log_tell_of_the_server_that_was_meant() {
    let (server, pages) = (server().await, pages().await);
    let routing = routing("pages", BOTH, &server.url(), &pages.url());
    let log = tempfile::NamedTempFile::new().unwrap();
    let options = serde_json::json!({"accessLog": {"format": "json", "filePath": log.path()}});
    let proxy = proxy(&routing).install(&options).run().await;
    assert_eq!(proxy.client().get("/404").await.status, 404);
    let line = eventually("a line", async || {
        let text = std::fs::read_to_string(log.path()).unwrap();
        text.lines()
            .next()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
    })
    .await;
    assert_eq!(line["ServiceName"], "all@file", "{line}");
    assert_eq!(line["ServiceURL"], server.url(), "{line}");
    assert_eq!(
        (&line["DownstreamStatus"], &line["OriginStatus"]),
        (&404.into(), &404.into())
    );
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("traefik_service_requests_total{code=\"404\",method=\"GET\",protocol=\"http\",service=\"all@file\"} 1"), "{metrics}");
    assert!(
        !metrics.contains("traefik_service_requests_total{code=\"200\""),
        "{metrics}"
    );
}

#[tokio::test]
async fn pages_that_need_pages_are_refused_when_they_go_in_circles() {
    let (server, pages) = (server().await, pages().await);
    let config = format!(
        "http:\n  routers:\n    circle: {{rule: 'Host(`circle`)', service: all, middlewares: [a]}}\n    leads: {{rule: 'Host(`leads`)', service: all, middlewares: [c]}}\n    nested: {{rule: 'Host(`nested`)', service: all, middlewares: [d]}}\n    nowhere: {{rule: 'Host(`nowhere`)', service: all, middlewares: [e]}}\n  middlewares:\n    a: {{errors: {{status: [404], service: one}}}}\n    b: {{errors: {{status: [404], service: two}}}}\n    c: {{errors: {{status: [404], service: one}}}}\n    d: {{errors: {{status: [404], service: three, query: /404}}}}\n    e: {{errors: {{status: [404], service: nobody}}}}\n    plain: {{errors: {{status: [404], service: pages, query: /plain}}}}\n  services:\n    all: {{loadBalancer: {{servers: [{{url: '{0}'}}]}}}}\n    one: {{middlewares: [b], loadBalancer: {{servers: [{{url: '{0}'}}]}}}}\n    two: {{middlewares: [a], loadBalancer: {{servers: [{{url: '{0}'}}]}}}}\n    three: {{middlewares: [plain], loadBalancer: {{servers: [{{url: '{0}'}}]}}}}\n    pages: {{loadBalancer: {{servers: [{{url: '{1}'}}]}}}}\n",
        server.url(),
        pages.url()
    );
    let proxy = proxy(&config).run().await;
    let nested = eventually("the sound router is there", async || {
        let answer = proxy.client().get("/404").host("nested").await;
        (answer.header("x-page").is_some()).then_some(answer)
    })
    .await;
    assert_eq!(
        (nested.status, nested.text().as_str()),
        (404, "page /plain")
    );
    for host in ["circle", "leads", "nowhere"] {
        let answer = proxy.client().get("/200").host(host).await;
        assert_eq!(answer.text(), "404 page not found\n", "{host}");
    }
}

#[tokio::test]
async fn a_large_page_for_a_large_upload_takes_no_memory_to_speak_of() {
    let large = |_: &Seen| {
        let piece = format!("100000\r\n{}\r\n", "p".repeat(1 << 20));
        let head = Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        (0..64)
            .fold(head, |reply, _| reply.write(&piece))
            .write("0\r\n\r\n")
    };
    let server = server().await;
    let pages = backend("pages").reply(large).run().await;
    let proxy = with(BOTH, &server, &pages).await;
    let mut client = Raw::open(proxy.addr("web")).await;
    let size = 64 << 20;
    client
        .send(format!(
            "POST /404 HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ))
        .await;
    let piece = vec![b'u'; 1 << 20];
    for _ in 0..64 {
        client.stream.write_all(&piece).await.unwrap();
    }
    assert!(client.head().await.starts_with("HTTP/1.1 404"));
    let memory = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let peak = memory
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 60 << 10, "{peak} KiB");
}

#[tokio::test]
async fn the_service_may_come_later() {
    let port = free_port();
    let server = server().await;
    let routing = routing(
        "pages",
        BOTH,
        &server.url(),
        &format!("http://127.0.0.1:{port}"),
    );
    let proxy = proxy(&routing).install(&without_hold()).run().await;
    assert_eq!(proxy.client().get("/404").await.text(), "Bad Gateway");
    let reply = |_: &Seen| Reply::status(200, "page");
    let _pages = backend("pages").at(loopback(port)).reply(reply).run().await;
    eventually("the page", async || {
        (proxy.client().get("/404").await.text() == "page").then_some(())
    })
    .await;
}
