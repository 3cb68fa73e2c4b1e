//! Timeouts of routers and services, servers that stand out, and requests sent twice, as clients and servers see them.

use std::time::Duration;

use crate::support::{Backend, Proxy, Raw, Reply, backend, eventually, proxy, without_hold};

/// A proxy whose one router and service have these further options.
async fn with(router: &str, service: &str, servers: &[&Backend]) -> Proxy {
    let urls: Vec<String> = servers
        .iter()
        .map(|server| format!("{{url: '{}'}}", server.url()))
        .collect();
    let routing = format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all{router}}}}}\n  services: {{all: {{loadBalancer: {{servers: [{}]{service}}}}}}}\n",
        urls.join(", ")
    );
    proxy(&routing).install(&without_hold()).run().await
}

async fn logged(proxy: &Proxy, text: &str) {
    eventually(text, async || proxy.log().contains(text).then_some(())).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_504_that_names_its_option() {
    let server = backend("server")
        .reply(|_| Reply::raw("").hang())
        .run()
        .await;
    for (router, service, option, reason) in [
        (
            "",
            ", timeouts: {responseHeader: 200ms}",
            "for loadBalancer.timeouts.responseHeader",
            "response_timeout",
        ),
        (
            ", timeouts: {responseHeader: 200ms}",
            ", timeouts: {responseHeader: 10m}",
            "for timeouts.responseHeader",
            "response_timeout",
        ),
        (
            "",
            ", timeouts: {total: 200ms}",
            "for loadBalancer.timeouts.total",
            "total_timeout",
        ),
        (
            ", timeouts: {total: 200ms}",
            "",
            "for timeouts.total",
            "total_timeout",
        ),
    ] {
        let proxy = with(router, service, &[&server]).await;
        let answer = proxy.client().get("/").await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (504, "Gateway Timeout"),
            "{option}"
        );
        logged(&proxy, option).await;
        let series =
            format!("portway_service_faults_total{{reason=\"{reason}\",service=\"all@file\"}} 1");
        let metrics = proxy.metrics().await;
        assert!(metrics.contains(&series), "{series} in\n{metrics}");
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A server that sends `pieces` with these pauses, and then nothing.
async fn slow(pieces: usize, pause: u64) -> Backend {
    let reply = move |_: &_| {
        let mut reply = Reply::raw(HEAD);
        for _ in 0..pieces {
            reply = reply
                .write("5\r\nhello\r\n")
                .pause(Duration::from_millis(pause));
        }
        reply.hang()
    };
    backend("slow").reply(reply).run().await
}

/// What a client sees until its connection ends.
async fn seen_of(proxy: &Proxy) -> String {
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = raw.rest_for(Duration::from_secs(20)).await;
    assert!(answer.closed, "still open after {}", answer.text());
    answer.text()
}

#[tokio::test]
async fn an_answer_that_has_begun_is_cut_off() {
    for (router, service, pieces, reason) in [
        ("", ", timeouts: {total: 700ms}", 1000, "total_timeout"),
        (", timeouts: {total: 700ms}", "", 1, "total_timeout"),
        ("", ", timeouts: {idle: 500ms}", 3, "idle_timeout"),
        (
            ", timeouts: {idle: 500ms}",
            ", timeouts: {idle: 10m}",
            3,
            "idle_timeout",
        ),
    ] {
        let server = slow(pieces, 100).await;
        let proxy = with(router, service, &[&server]).await;
        let seen = seen_of(&proxy).await;
        assert!(
            seen.starts_with("HTTP/1.1 200") && seen.contains("hello"),
            "{seen}"
        );
        assert!(!seen.ends_with("0\r\n\r\n"), "taken for whole: {seen}");
        eventually(reason, async || {
            let series = format!(
                "portway_service_faults_total{{reason=\"{reason}\",service=\"all@file\"}} 1"
            );
            proxy.metrics().await.contains(&series).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_goes_on_is_not_idle_and_whole_answers_pass() {
    let reply = |_: &_| {
        let mut reply = Reply::raw(HEAD);
        for _ in 0..12 {
            reply = reply
                .write("5\r\nhello\r\n")
                .pause(Duration::from_millis(100));
        }
        reply.write("0\r\n\r\n")
    };
    let server = backend("server").reply(reply).run().await;
    let limits = ", timeouts: {idle: 1s, total: 5m}";
    let proxy = with(limits, limits, &[&server]).await;
    assert_eq!(proxy.client().get("/").await.text(), "hello".repeat(12));
}

#[tokio::test]
async fn a_server_that_stands_out_is_left_out_and_seen_to_be() {
    let (good, bad) = (
        backend("good").run().await,
        backend("bad")
            .reply(|_| Reply::status(500, "no"))
            .run()
            .await,
    );
    let detection = ", outlierDetection: {consecutiveErrors: 3, panicThreshold: 0}";
    let proxy = with("", detection, &[&good, &bad]).await;
    let client = proxy.client();
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(client.get("/").await.status == 500);
    }
    assert_eq!((failed, bad.hits()), (3, 3));
    let metrics = proxy.metrics().await;
    for series in [
        format!(
            "portway_service_server_ejections_total{{service=\"all@file\",url=\"{}\"}} 1",
            bad.url()
        ),
        format!(
            "portway_service_server_state{{reason=\"ejected\",service=\"all@file\",url=\"{}\"}} 0",
            bad.url()
        ),
    ] {
        assert!(metrics.contains(&series), "{series} in\n{metrics}");
    }
    logged(&proxy, "3 failed request(s) in a row: ejected for 30s").await;
    let data = proxy.rawdata().await.to_string();
    assert!(data.contains("ejected for 30s"), "{data}");
}

#[tokio::test]
async fn a_slow_read_is_asked_of_another_server() {
    let slow = backend("slow")
        .reply(|_| Reply::raw("").pause(Duration::from_secs(20)))
        .run()
        .await;
    let fast = backend("fast")
        .reply(|_| Reply::status(200, "fast"))
        .run()
        .await;
    let hedge = ", hedge: {after: 30ms, maxPercent: 100}";
    let proxy = with("", hedge, &[&slow, &fast]).await;
    let client = proxy.client();
    // The budget allows one at once, and both servers have their turn.
    while slow.hits() == 0 {
        let answer = tokio::time::timeout(Duration::from_secs(15), client.get("/")).await;
        assert_eq!(
            answer.expect("an answer before the slow one").text(),
            "fast"
        );
    }
    let metrics = proxy.metrics().await;
    let asked = "portway_service_hedged_requests_total{service=\"all@file\"} 1";
    assert!(metrics.contains(asked), "{asked} in\n{metrics}");
    let won = asked.replace("hedged_requests", "hedge_wins");
    assert!(metrics.contains(&won), "{won} in\n{metrics}");
}

#[tokio::test]
async fn what_writes_is_sent_once_and_both_may_fail() {
    let late = || {
        backend("late").reply(|_| {
            Reply::raw("")
                .pause(Duration::from_millis(300))
                .write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        })
    };
    let (one, two) = (late().run().await, late().run().await);
    let hedge = ", hedge: {after: 10ms, maxPercent: 100}";
    let proxy = with("", hedge, &[&one, &two]).await;
    for (method, times) in [("POST", 1), ("PUT", 1), ("GET", 2)] {
        let before = one.hits() + two.hits();
        assert_eq!(proxy.client().call(method, "/").await.status, 200);
        assert_eq!(one.hits() + two.hits() - before, times, "{method}");
    }
    let broken =
        || backend("broken").reply(|_| Reply::raw("").pause(Duration::from_millis(150)).close());
    let (one, two) = (broken().run().await, broken().run().await);
    let proxy = with("", hedge, &[&one, &two]).await;
    assert_eq!(proxy.client().get("/").await.status, 502);
}
