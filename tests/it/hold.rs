//! No failed request: requests wait while a service has no usable server, leaving servers end what they began, new ones cost nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Answer, Backend, Client, Proxy, Raw, Reply, all_to, backend, eventually, loopback, proxy,
    routed, subject_is_traefik, websocket_backend, within, without_hold,
};

/// Nobody listens there.
const DEAD: &str = "http://127.0.0.1:1";

/// A router with a service that lost all its servers.
fn empty(options: &str) -> String {
    format!(
        "http:\n  routers: {{all: {{rule: \"PathPrefix(`/`)\", service: all}}}}\n  services:\n    all:\n      loadBalancer:\n        servers: []\n{options}"
    )
}

fn all_with(server: &Backend, options: &str) -> String {
    routed("PathPrefix(`/`)", &[server.url()], options)
}

fn get(client: &Client, count: usize) -> JoinSet<Answer> {
    let call = |_| {
        let call = client.get("/");
        async move { call.await }
    };
    (0..count).map(call).collect()
}

fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('{'))
    });
    let value = line.and_then(|line| line.rsplit_once(' '));
    value.map_or(0.0, |(_, value)| value.parse().unwrap())
}

async fn held(proxy: &Proxy, count: f64) {
    eventually("so many requests wait", async || {
        let page = proxy.metrics().await;
        (metric(&page, "portway_service_held_requests") == count).then_some(())
    })
    .await;
}

async fn logged(proxy: &Proxy, text: &str) {
    eventually(text, async || proxy.log().contains(text).then_some(())).await;
}

fn log_lines(proxy: &Proxy) -> Vec<Value> {
    let text = std::fs::read_to_string(proxy.dir().join("access.log")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn requests_wait_for_the_next_server_and_say_so() {
    if subject_is_traefik() {
        return;
    }
    let old = backend("old").run().await;
    let proxy = proxy(&all_with(&old, ""))
        .install(&json!({"accessLog": {"filePath": "{dir}/access.log", "format": "json"}}))
        .run()
        .await;
    assert_eq!(proxy.client().get("/").await.backend(), "old");
    proxy.write_routing("main.yml", &empty(""));
    old.kill().await;
    let mut waiting = get(&proxy.client(), 20);
    held(&proxy, 20.0).await;
    let new = backend("new").run().await;
    let start = Instant::now();
    proxy.write_routing("main.yml", &all_with(&new, ""));
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.backend()), (200, "new"));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{start:?}");
    let page = proxy.metrics().await;
    assert_eq!(metric(&page, "portway_service_held_requests"), 0.0);
    assert_eq!(metric(&page, "portway_service_holds_total"), 20.0);
    assert!(metric(&page, "portway_service_held_seconds_total") > 0.1);
    let lines = eventually("the log is written", async || {
        Some(log_lines(&proxy)).filter(|lines| lines.len() >= 21)
    })
    .await;
    assert!(lines[0].get("HoldDuration").is_none(), "{}", lines[0]);
    let waited = lines[1]["HoldDuration"].as_u64().unwrap();
    assert!(waited > 1_000_000, "{}", lines[1]);
    logged(&proxy, "no server is usable: requests wait").await;
}

#[tokio::test]
async fn a_body_is_not_read_while_its_request_waits() {
    if subject_is_traefik() {
        return;
    }
    let old = backend("old").run().await;
    let proxy = proxy(&all_with(&old, "")).run().await;
    proxy.client().get("/").await;
    proxy.write_routing("main.yml", &empty(""));
    old.kill().await;
    let body = "x".repeat(3_000_000);
    let call = proxy.client().post("/upload", body.clone());
    let waiting = tokio::spawn(async move { call.await });
    held(&proxy, 1.0).await;
    let new = backend("new").run().await;
    proxy.write_routing("main.yml", &all_with(&new, ""));
    assert_eq!(waiting.await.unwrap().status, 200);
    assert!(new.last().body == body.as_bytes(), "the whole body arrives");
}

#[tokio::test]
async fn waiting_ends_with_503_and_retry_after() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("one").run().await;
    let options = "        hold: {timeout: 400ms}\n";
    let proxy = proxy(&all_with(&server, options)).run().await;
    proxy.client().get("/").await;
    // Every connect is refused, and then there is no server at all.
    server.kill().await;
    for text in [None, Some(empty(options))] {
        if let Some(text) = text {
            proxy.write_routing("main.yml", &text);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let start = Instant::now();
        let answer = proxy.client().get("/").await;
        let took = start.elapsed();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.text(), "no available server\n");
        assert!(took >= Duration::from_millis(390), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    logged(&proxy, "loadBalancer.hold.timeout").await;
}

#[tokio::test]
async fn a_service_that_never_worked_and_one_without_hold_answer_at_once() {
    if subject_is_traefik() {
        return;
    }
    let start = Instant::now();
    let never = proxy(&all_to(&[DEAD.to_owned()])).run().await;
    assert_eq!(never.client().get("/").await.status, 502);
    never.write_routing("main.yml", &empty(""));
    eventually("no server is left", async || {
        (never.client().get("/").await.status == 503).then_some(())
    })
    .await;
    for (install, options) in [
        (without_hold(), ""),
        (json!({}), "        hold: {timeout: 0}\n"),
        (json!({}), "        hold: {maxRequests: 0}\n"),
    ] {
        let server = backend("one").run().await;
        let proxy = proxy(&all_with(&server, options))
            .install(&install)
            .run()
            .await;
        proxy.client().get("/").await;
        server.kill().await;
        assert_eq!(proxy.client().get("/").await.status, 502);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(9), "somebody waited: {took:?}");
}

#[tokio::test]
async fn the_room_is_bounded_and_who_goes_away_leaves_it() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("one").run().await;
    let options = "        hold: {maxRequests: 2, timeout: 30s}\n";
    let proxy = proxy(&all_with(&server, options)).run().await;
    proxy.client().get("/").await;
    let addr = server.addr;
    server.kill().await;
    let mut impatient = Raw::open(proxy.addr("web")).await;
    impatient.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    held(&proxy, 1.0).await;
    let mut waiting = get(&proxy.client(), 1);
    held(&proxy, 2.0).await;
    let start = Instant::now();
    let refused = proxy.client().get("/").await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert!(start.elapsed() < Duration::from_secs(2));
    logged(&proxy, "loadBalancer.hold.maxRequests").await;
    let page = proxy.metrics().await;
    assert_eq!(metric(&page, "portway_service_hold_refusals_total"), 1.0);

    drop(impatient);
    held(&proxy, 1.0).await;
    let mut second = get(&proxy.client().h2(), 1);
    held(&proxy, 2.0).await;
    second.abort_all();
    assert!(second.join_next().await.unwrap().is_err());
    held(&proxy, 1.0).await;
    let _back = backend("back").at(addr).run().await;
    let answer = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(answer.backend(), "back");
}

/// Requests at a steady rate until told to stop; what failed.
fn traffic(
    client: &Client,
    stop: &Arc<AtomicBool>,
    done: &Arc<AtomicUsize>,
) -> JoinSet<Vec<String>> {
    const LANES: u64 = 8;
    const PER_SECOND: u64 = 200;
    let lane = |number: u64| {
        let (client, stop, done) = (client.clone(), Arc::clone(stop), Arc::clone(done));
        async move {
            let mut failures = Vec::new();
            let mut ticks =
                tokio::time::interval(Duration::from_micros(1_000_000 * LANES / PER_SECOND));
            let mut connection = client.connect().await.unwrap();
            let mut requests = JoinSet::new();
            while !stop.load(Ordering::SeqCst) {
                ticks.tick().await;
                // Some lanes keep their connection, the others open one per request and do not wait for the answer.
                if number.is_multiple_of(4) {
                    let request = connection.request("GET", "/", &[], None);
                    note(connection.send(request).await, &done, &mut failures);
                    if connection.is_closed() {
                        connection = client.connect().await.unwrap();
                    }
                } else {
                    let call = client.get("/");
                    requests.spawn(async move { call.try_send().await });
                }
                while let Some(answer) = requests.try_join_next() {
                    note(answer.unwrap(), &done, &mut failures);
                }
            }
            while let Some(answer) = requests.join_next().await {
                note(answer.unwrap(), &done, &mut failures);
            }
            failures
        }
    };
    (0..LANES).map(lane).collect()
}

fn note(answer: std::io::Result<Answer>, done: &AtomicUsize, failures: &mut Vec<String>) {
    done.fetch_add(1, Ordering::SeqCst);
    match answer {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
        Err(error) => failures.push(format!("{error:?}")),
    }
}

async fn finish(
    traffic: JoinSet<Vec<String>>,
    stop: &AtomicBool,
    done: &AtomicUsize,
    least: usize,
) {
    stop.store(true, Ordering::SeqCst);
    let failures: Vec<String> = traffic.join_all().await.into_iter().flatten().collect();
    let done = done.load(Ordering::SeqCst);
    assert!(
        failures.is_empty(),
        "{} of {done} failed: {:#?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert!(done > least, "only {done} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_killed_and_restarted_lose_no_request() {
    if subject_is_traefik() {
        return;
    }
    for options in [
        "",
        // A server that fails its check is asked more often while requests wait for it.
        "        healthCheck: {path: /, interval: 200ms, unhealthyInterval: 1h}\n",
    ] {
        let mut servers = Vec::new();
        for name in ["one", "two", "three"] {
            servers.push(backend(name).run().await);
        }
        let urls: Vec<String> = servers.iter().map(Backend::url).collect();
        let proxy = proxy(&routed("PathPrefix(`/`)", &urls, options))
            .run()
            .await;
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let traffic = traffic(&proxy.client(), &stop, &done);
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let addrs: Vec<_> = servers.iter().map(|server| server.addr).collect();
            for server in servers.drain(..) {
                server.kill().await;
            }
            tokio::time::sleep(Duration::from_millis(1500)).await;
            for addr in addrs {
                servers.push(backend("again").at(addr).run().await);
            }
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        finish(traffic, &stop, &done, 500).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_replaced_by_others_lose_no_request() {
    if subject_is_traefik() {
        return;
    }
    let mut server = backend("first").run().await;
    let proxy = proxy(&all_with(&server, "")).run().await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let traffic = traffic(&proxy.client(), &stop, &done);
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        // As a recreated container does it: the old one goes, for a while there is none, the new one has another address.
        if round % 2 == 0 {
            proxy.write_routing("main.yml", &empty(""));
        }
        server.kill().await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        server = backend("next").run().await;
        proxy.write_routing("main.yml", &all_with(&server, ""));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    finish(traffic, &stop, &done, 400).await;
}

#[tokio::test]
async fn a_post_that_was_never_sent_waits_too() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("one").run().await;
    let proxy = proxy(&all_with(&server, "")).run().await;
    proxy.client().get("/").await;
    let addr = server.addr;
    server.kill().await;
    // The pool still holds a connection that the server closed; then there is nobody to connect to.
    let call = proxy.client().post("/", "once");
    let waiting = tokio::spawn(async move { call.await });
    held(&proxy, 1.0).await;
    let back = backend("back").at(addr).run().await;
    assert_eq!(waiting.await.unwrap().backend(), "back");
    assert_eq!(back.last().body, b"once");
}

#[tokio::test]
async fn a_server_that_breaks_every_connection_is_not_waited_for() {
    if subject_is_traefik() {
        return;
    }
    let breaks = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&breaks);
    let server = backend("one")
        .reply(move |_| match flag.load(Ordering::SeqCst) {
            true => Reply::default().close(),
            false => Reply::status(200, "fine"),
        })
        .run()
        .await;
    let proxy = proxy(&all_with(&server, "")).run().await;
    proxy.client().get("/").await;
    breaks.store(true, Ordering::SeqCst);
    server.reset();
    let start = Instant::now();
    assert_eq!(proxy.client().get("/").await.status, 502);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(server.hits() <= 4, "sent {} times", server.hits());
    server.reset();
    assert_eq!(proxy.client().post("/", "x").await.status, 502);
    assert_eq!(
        server.hits(),
        1,
        "what may have been processed is not repeated"
    );
}

#[tokio::test]
async fn streams_of_a_server_that_is_gone_go_on() {
    let server = websocket_backend().await;
    let other = backend("other").run().await;
    let proxy = proxy(&all_to(&[format!("http://{}", server.addr)]))
        .run()
        .await;
    let stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://shop.test/chat", stream)
        .await
        .unwrap();
    proxy.write_routing("main.yml", &all_to(&[other.url()]));
    eventually("the other server has the traffic", async || {
        (proxy.client().get("/").await.backend() == "other").then_some(())
    })
    .await;
    // Idle connections are looked over in the meantime.
    for _ in 0..5 {
        let message = Message::text("still there");
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn running_requests_end_and_idle_connections_close_when_a_server_goes() {
    if subject_is_traefik() {
        return;
    }
    let slow = backend("slow")
        .reply(|seen| match seen.path() {
            "/slow" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
                .pause(Duration::from_millis(1500))
                .write("cd"),
            _ => Reply::with(200, &[("X-Backend", "slow")], "fine"),
        })
        .run()
        .await;
    let other = backend("other").run().await;
    let proxy = proxy(&all_to(&[slow.url()])).run().await;
    let call = proxy.client().get("/slow");
    let running = tokio::spawn(async move { call.await });
    eventually("the slow request is there", async || {
        (slow.hits() == 1).then_some(())
    })
    .await;
    proxy.client().get("/").await;
    let open = |page: &str| metric(page, "portway_service_server_open_connections");
    assert_eq!(open(&proxy.metrics().await), 2.0);
    proxy.write_routing("main.yml", &routed("Path(`/none`)", &[slow.url()], ""));
    eventually("the server is gone", async || {
        (proxy.client().get("/").await.status == 404).then_some(())
    })
    .await;
    proxy.write_routing("main.yml", &all_to(&[other.url()]));
    let answer = running.await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "abcd".to_owned()));
    within(
        Duration::from_secs(5),
        "its connections are closed",
        async || {
            let page = proxy.metrics().await;
            let url = slow.url();
            let mut lines = page.lines().filter(|line| line.contains(&url));
            lines
                .all(|line| {
                    !line.starts_with("portway_service_server_open") || line.ends_with(" 0")
                })
                .then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_sticky_client_moves_once() {
    let (one, two, three) = (
        backend("one").run().await,
        backend("two").run().await,
        backend("three").run().await,
    );
    let options = "        sticky: {cookie: {name: s}}\n";
    let to = |servers: &[&Backend]| {
        let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
        routed("PathPrefix(`/`)", &urls, options)
    };
    let proxy = proxy(&to(&[&one, &two, &three])).run().await;
    let mut cookie = eventually("a client of the first server", async || {
        let answer = proxy.client().get("/").await;
        (answer.backend() == "one").then(|| answer.cookie().unwrap().to_owned())
    })
    .await;
    proxy.write_routing("main.yml", &to(&[&two, &three]));
    let home = eventually("the client moves", async || {
        let answer = proxy.client().get("/").header("Cookie", &cookie).await;
        let moved = answer.cookie()?.to_owned();
        cookie = moved;
        Some(answer.backend().to_owned())
    })
    .await;
    for _ in 0..10 {
        let answer = proxy.client().get("/").header("Cookie", &cookie).await;
        assert_eq!((answer.backend(), answer.cookie()), (&*home, None));
    }
}

#[tokio::test]
async fn a_new_server_that_cannot_be_reached_costs_nothing() {
    if subject_is_traefik() {
        return;
    }
    // A full backlog: connects are neither taken nor refused.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind(loopback(0)).unwrap();
    let listener = silent.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut fillers = JoinSet::new();
    for _ in 0..8 {
        fillers.spawn(TcpStream::connect(addr));
    }
    let server = backend("one").run().await;
    let proxy = proxy(&all_with(&server, "")).run().await;
    proxy.client().get("/").await;
    let urls = [server.url(), format!("http://{addr}"), DEAD.to_owned()];
    proxy.write_routing("main.yml", &all_to(&urls));
    eventually("the new servers are known", async || {
        let service = proxy.admin().get("/api/http/services/all@file").await;
        service.text().contains(DEAD).then_some(())
    })
    .await;
    for _ in 0..30 {
        let start = Instant::now();
        let answer = proxy.client().get("/").await;
        assert_eq!((answer.status, answer.backend()), (200, "one"));
        assert!(start.elapsed() < Duration::from_millis(800), "{start:?}");
    }
    let page = proxy.metrics().await;
    assert_eq!(metric(&page, "traefik_service_retries_total"), 0.0);
    assert!(page.contains("reason=\"not_reached\""), "{page}");

    // One that can be reached gets its share.
    let two = backend("two").run().await;
    proxy.write_routing("main.yml", &all_to(&[server.url(), two.url()]));
    eventually("the second server has traffic", async || {
        (proxy.client().get("/").await.backend() == "two").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_server_has_traffic_once_its_check_answers_well() {
    if subject_is_traefik() {
        return;
    }
    let well = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&well);
    let new = backend("new")
        .reply(move |seen| {
            let failing = seen.path() == "/health" && !flag.load(Ordering::SeqCst);
            Reply::with(if failing { 500 } else { 200 }, &[("X-Backend", "new")], "")
        })
        .run()
        .await;
    let old = backend("old").run().await;
    let options = "        healthCheck: {path: /health, interval: 1h}\n";
    let proxy = proxy(&all_with(&old, options)).run().await;
    proxy.write_routing(
        "main.yml",
        &routed("PathPrefix(`/`)", &[old.url(), new.url()], options),
    );
    eventually("the new server is probed", async || {
        (new.hits() > 2).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(proxy.client().get("/").await.backend(), "old");
    }
    well.store(true, Ordering::SeqCst);
    within(Duration::from_secs(3), "it has traffic", async || {
        (proxy.client().get("/").await.backend() == "new").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_server_works_up_to_its_share() {
    if subject_is_traefik() {
        return;
    }
    const WINDOW: Duration = Duration::from_secs(8);
    let old = backend("old").run().await;
    let new = backend("new").run().await;
    let options = "        slowStart: 8s\n";
    let proxy = proxy(&all_with(&old, options))
        .install(&json!({"core": {"workers": 1}}))
        .run()
        .await;
    proxy.client().get("/").await;
    // The one that was there has its whole share by then.
    tokio::time::sleep(WINDOW).await;
    let both = [old.url(), new.url()];
    proxy.write_routing("main.yml", &routed("PathPrefix(`/`)", &both, options));
    let share_of_new = async || {
        let before = new.hits();
        for _ in 0..60 {
            assert_eq!(proxy.client().get("/").await.status, 200);
        }
        new.hits() - before
    };
    eventually("the new server has traffic", async || {
        (proxy.client().get("/").await.backend() == "new").then_some(())
    })
    .await;
    let start = Instant::now();
    let share = share_of_new().await;
    assert!(
        (1..=20).contains(&share) || start.elapsed() > WINDOW / 3,
        "{share} of 60 after {:?}",
        start.elapsed()
    );
    within(WINDOW * 3, "half of the requests in the end", async || {
        (28..=32).contains(&share_of_new().await).then_some(())
    })
    .await;
}
