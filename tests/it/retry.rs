//! `retry` as a client and servers see it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Backend, Proxy, Reply, backend, free_port, loopback, proxy, without_hold};

/// A server that answers its first `failures` requests with 503.
async fn unsteady(name: &str, failures: usize) -> Backend {
    let asked = AtomicUsize::new(0);
    let reply = move |_: &_| match asked.fetch_add(1, Ordering::Relaxed) < failures {
        true => Reply::status(503, "busy"),
        false => Reply::status(200, "fine"),
    };
    backend(name).reply(reply).run().await
}

async fn with(names: &str, middlewares: &str, urls: &[String]) -> Proxy {
    let servers: Vec<String> = urls.iter().map(|url| format!("{{url: '{url}'}}")).collect();
    let routing = format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all, middlewares: [{names}]}}}}\n  middlewares: {middlewares}\n  services: {{all: {{loadBalancer: {{servers: [{}]}}}}}}\n",
        servers.join(", ")
    );
    proxy(&routing).install(&without_hold()).run().await
}

#[tokio::test]
async fn a_status_is_repeated_with_its_body_within_the_attempts() {
    let server = unsteady("server", 2).await;
    let again = "{again: {retry: {attempts: 3, status: ['500-599']}}}";
    let proxy = with("again", again, &[server.url()]).await;
    let answer = proxy.client().call("PUT", "/x?y").body("load").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "fine"));
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    for seen in &seen {
        assert_eq!((seen.target.as_str(), &*seen.body), ("/x?y", &b"load"[..]));
        assert_eq!(seen.count("x-forwarded-for"), 1);
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[tokio::test]
async fn the_last_answer_is_passed_on_and_posts_are_not_repeated() {
    let server = unsteady("server", 100).await;
    let again = "{again: {retry: {attempts: 3, status: ['503']}}}";
    let proxy = with("again", again, &[server.url()]).await;
    let answer = proxy.client().get("/").await;
    assert_eq!(
        (answer.status, answer.text().as_str(), server.hits()),
        (503, "busy", 3)
    );
    server.reset();
    let answer = proxy.client().post("/", "load").await;
    assert_eq!((answer.status, server.hits()), (503, 1));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_sent_once_and_whole() {
    let server = unsteady("server", 100).await;
    let again = "{again: {retry: {attempts: 3, status: ['503'], maxRequestBodyBytes: 10}}}";
    let proxy = with("again", again, &[server.url()]).await;
    let body = "0123456789a";
    let answer = proxy.client().call("PUT", "/").body(body).await;
    assert_eq!((answer.status, server.hits()), (503, 1));
    assert_eq!(server.last().body, body.as_bytes());
}

#[tokio::test]
async fn another_server_is_tried_while_there_is_one() {
    let (bad, good) = (unsteady("bad", 100).await, unsteady("good", 0).await);
    let again = "{again: {retry: {attempts: 2, status: ['503']}}}";
    let proxy = with("again", again, &[bad.url(), good.url()]).await;
    for _ in 0..10 {
        assert_eq!(proxy.client().get("/").await.status, 200);
    }
    assert!(bad.hits() >= 4, "{}", bad.hits());
}

#[tokio::test]
async fn what_never_reached_a_server_is_repeated_whatever_the_method() {
    let port = free_port();
    let again = "{again: {retry: {attempts: 50, initialInterval: 20ms}}}";
    let proxy = with("again", again, &[format!("http://127.0.0.1:{port}")]).await;
    let client = proxy.client();
    let post = client.post("/", "load");
    let late = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        backend("late").at(loopback(port)).run().await
    };
    let (answer, server) = tokio::join!(async { post.await }, late);
    assert_eq!(answer.status, 200);
    assert_eq!((server.hits(), &*server.last().body), (1, &b"load"[..]));
}

#[tokio::test]
async fn the_steps_behind_are_run_anew() {
    let server = unsteady("server", 1).await;
    let steps = "{again: {retry: {attempts: 2, status: ['503']}}, one: {inFlightReq: {amount: 1}}, strip: {stripPrefix: {prefixes: [/a]}}}";
    let proxy = with("again, one, strip", steps, &[server.url()]).await;
    assert_eq!(proxy.client().get("/a/b").await.status, 200);
    assert_eq!(
        (server.targets(), server.hits()),
        (vec!["/b".to_owned()], 2)
    );
    assert_eq!(server.last().count("x-forwarded-prefix"), 1);
}
