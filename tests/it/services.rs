//! Where a request goes: turns, weights, sticky cookies, retries, health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::support::{
    Answer, Backend, Proxy, Reply, all_to, backend, eventually, free_port, loopback, proxy, routed,
    without_hold,
};

async fn three() -> (Vec<Backend>, Vec<String>) {
    let servers = vec![
        backend("one").run().await,
        backend("two").run().await,
        backend("three").run().await,
    ];
    let urls = servers.iter().map(Backend::url).collect();
    (servers, urls)
}

/// How many of `requests` each server answered.
async fn shares(proxy: &Proxy, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = proxy.client().get("/").await;
        assert_eq!(answer.status, 200);
        *shares.entry(answer.backend().to_owned()).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn servers_take_turns() {
    let (_servers, urls) = three().await;
    let proxy = proxy(&all_to(&urls)).run().await;
    for share in shares(&proxy, 30).await.values() {
        assert!((8..=12).contains(share), "{share} of 30");
    }
}

#[tokio::test]
async fn weights_share_the_load() {
    let (heavy, light, never) = (
        backend("heavy").run().await,
        backend("light").run().await,
        backend("never").run().await,
    );
    let routing = format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}', weight: 3}}, {{url: '{}'}}, {{url: '{}', weight: 0}}]}}}}}}\n",
        heavy.url(),
        light.url(),
        never.url()
    );
    let shares = shares(&proxy(&routing).run().await, 40).await;
    assert!(
        (27..=33).contains(&shares["heavy"]) && !shares.contains_key("never"),
        "{shares:?}"
    );
}

#[tokio::test]
async fn every_strategy_serves_from_all_or_pins_by_client() {
    for (strategy, servers_used) in [("wrr", 3), ("p2c", 3), ("leasttime", 3), ("hrw", 1)] {
        let (_servers, urls) = three().await;
        let proxy = proxy(&routed(
            "PathPrefix(`/`)",
            &urls,
            &format!("        strategy: {strategy}\n"),
        ))
        .run()
        .await;
        let shares = shares(&proxy, 60).await;
        assert_eq!(shares.len(), servers_used, "{strategy}: {shares:?}");
    }
}

fn value_of(url: &str) -> String {
    Sha256::digest(url.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test]
async fn sticky_cookies_are_traefiks_cookies() {
    let (servers, urls) = three().await;
    let proxy = proxy(&routed(
        "PathPrefix(`/`)",
        &urls,
        "        sticky: {cookie: {}}\n",
    ))
    .run()
    .await;
    let name: String = Sha1::digest(b"_TRAEFIK_BACKEND_all@file")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let first = proxy.client().get("/").await;
    let server = servers
        .iter()
        .find(|server| server.name == first.backend())
        .unwrap();
    assert_eq!(
        first.header("set-cookie"),
        Some(format!("_{}={}; Path=/", &name[..5], value_of(&server.url())).as_str())
    );
    for _ in 0..10 {
        let again = proxy
            .client()
            .get("/")
            .header("Cookie", first.cookie().unwrap())
            .await;
        assert_eq!(
            (again.backend(), again.header("set-cookie")),
            (first.backend(), None)
        );
    }
    // A cookie that Traefik issued, for each server, works here at once.
    for server in &servers {
        let cookie = format!(
            "theme=dark; _{}={}; x=y",
            &name[..5],
            value_of(&server.url())
        );
        assert_eq!(
            proxy
                .client()
                .get("/")
                .header("Cookie", &cookie)
                .await
                .backend(),
            server.name
        );
    }
    // Its older form, the plain URL, is honoured and rewritten.
    let legacy = proxy
        .client()
        .get("/")
        .header("Cookie", &format!("_{}={}", &name[..5], urls[1]))
        .await;
    assert_eq!(legacy.backend(), "two");
    assert!(legacy.cookie().unwrap().ends_with(&value_of(&urls[1])));
    let unknown = proxy
        .client()
        .get("/")
        .header("Cookie", &format!("_{}=0123456789abcdef", &name[..5]))
        .await;
    assert!(unknown.status == 200 && unknown.cookie().is_some());
}

#[tokio::test]
async fn sticky_cookie_attributes() {
    let (_servers, urls) = three().await;
    let options = "        sticky: {cookie: {name: 'my cookie', path: /app, domain: shop.test, secure: true, httpOnly: true, sameSite: Strict, maxAge: 60}}\n";
    let proxy = proxy(&routed("PathPrefix(`/`)", &urls, options))
        .run()
        .await;
    let answer = proxy.client().get("/").await;
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("my_cookie="), "{pair}");
    assert_eq!(
        attributes,
        "Path=/app; Domain=shop.test; Max-Age=60; HttpOnly; Secure; SameSite=Strict"
    );
}

#[tokio::test]
async fn a_dead_server_is_passed_over_without_a_failed_request() {
    let (alive, dead) = (backend("alive").run().await, loopback(free_port()));
    let proxy = proxy(&all_to(&[alive.url(), format!("http://{dead}")]))
        .run()
        .await;
    for number in 0..20 {
        assert_eq!(proxy.client().get("/").await.status, 200, "GET {number}");
        assert_eq!(
            proxy
                .client()
                .post("/", format!("body {number}"))
                .await
                .status,
            200,
            "POST {number}: nothing was sent, so it may be sent again"
        );
        assert_eq!(alive.last().body, format!("body {number}").into_bytes());
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_repeated() {
    let server = backend("server")
        .reply(|_| Reply::default().close())
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    assert_eq!(proxy.client().post("/order", "one").await.status, 502);
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn retries_do_not_multiply_an_outage() {
    // Each server takes the request and hangs up: a GET may be tried elsewhere, but not three times each while everything is down.
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(
            backend(name)
                .reply(|_| Reply::default().close())
                .run()
                .await,
        );
    }
    let urls: Vec<String> = servers.iter().map(Backend::url).collect();
    let proxy = proxy(&all_to(&urls)).run().await;
    for _ in 0..50 {
        assert_eq!(proxy.client().get("/").await.status, 502);
    }
    let hits: usize = servers.iter().map(Backend::hits).sum();
    assert!((50..100).contains(&hits), "{hits} tries for 50 requests");
}

async fn checked(status: Arc<AtomicU16>) -> Backend {
    backend("checked")
        .reply(move |seen| {
            if seen.path() == "/health" {
                Reply::status(status.load(Ordering::SeqCst), "health")
            } else {
                Reply::with(200, &[("X-Backend", "checked")], "served")
            }
        })
        .run()
        .await
}

async fn status_of(proxy: &Proxy, url: &str) -> String {
    proxy.rawdata().await["services"]["all@file"]["serverStatus"][url]
        .as_str()
        .unwrap_or("none")
        .to_owned()
}

#[tokio::test]
async fn a_failing_health_check_takes_the_server_out_and_back_in() {
    let status = Arc::new(AtomicU16::new(200));
    let (checked, steady) = (
        checked(Arc::clone(&status)).await,
        backend("steady").run().await,
    );
    let options = "        healthCheck: {path: '/health?deep=1', interval: 100ms, timeout: 1s, hostname: health.test, headers: {X-Probe: portway}}\n";
    let proxy = proxy(&routed(
        "PathPrefix(`/`)",
        &[checked.url(), steady.url()],
        options,
    ))
    .run()
    .await;
    eventually("both are up", async || {
        (shares(&proxy, 6).await.len() == 2).then_some(())
    })
    .await;
    status.store(500, Ordering::SeqCst);
    eventually("it is out", async || {
        (status_of(&proxy, &checked.url()).await == "DOWN").then_some(())
    })
    .await;
    assert_eq!(
        shares(&proxy, 20).await.keys().collect::<Vec<_>>(),
        ["steady"]
    );
    let up = format!(
        "traefik_service_server_up{{service=\"all@file\",url=\"{}\"}}",
        checked.url()
    );
    assert!(proxy.metrics().await.contains(&format!("{up} 0")));
    status.store(204, Ordering::SeqCst);
    eventually("it is back", async || {
        (shares(&proxy, 6).await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(status_of(&proxy, &checked.url()).await, "UP");
    assert!(proxy.metrics().await.contains(&format!("{up} 1")));
    let probe = checked
        .seen()
        .into_iter()
        .find(|seen| seen.path() == "/health")
        .unwrap();
    assert_eq!(
        (
            probe.target.as_str(),
            probe.header("host"),
            probe.header("x-probe"),
            probe.header("x-forwarded-for")
        ),
        ("/health?deep=1", Some("health.test"), Some("portway"), None)
    );
}

#[tokio::test]
async fn all_servers_down_is_a_503_and_sticky_clients_move() {
    let status = Arc::new(AtomicU16::new(200));
    let (checked, steady) = (
        checked(Arc::clone(&status)).await,
        backend("steady").run().await,
    );
    let options = "        sticky: {cookie: {name: s}}\n        healthCheck: {path: /health, interval: 100ms}\n";
    let proxy = proxy(&routed(
        "PathPrefix(`/`)",
        &[checked.url(), steady.url()],
        options,
    ))
    .install(&without_hold())
    .run()
    .await;
    let mine = format!("s={}", value_of(&checked.url()));
    assert_eq!(
        proxy
            .client()
            .get("/")
            .header("Cookie", &mine)
            .await
            .backend(),
        "checked"
    );
    status.store(500, Ordering::SeqCst);
    let moved: Answer = eventually("the sticky client moves", async || {
        let answer = proxy.client().get("/").header("Cookie", &mine).await;
        (answer.backend() == "steady").then_some(answer)
    })
    .await;
    assert_eq!(
        moved.cookie(),
        Some(format!("s={}", value_of(&steady.url())).as_str())
    );
    steady.kill().await;
    let answer = eventually("nobody is left", async || {
        let answer = proxy.client().get("/").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), "no available server\n");
}

#[tokio::test]
async fn rise_and_fall_thresholds() {
    if crate::support::subject_is_traefik() {
        return;
    }
    let failing = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&failing);
    // While failing, only each second probe fails: with `fall: 2` the server must stay.
    let probes = Arc::new(AtomicU16::new(0));
    let counter = Arc::clone(&probes);
    let server = backend("flapping")
        .reply(move |seen| {
            if seen.path() != "/health" {
                return Reply::with(200, &[("X-Backend", "flapping")], "served");
            }
            let odd = counter.fetch_add(1, Ordering::SeqCst) % 2 == 1;
            Reply::status(
                if flag.load(Ordering::SeqCst) && odd {
                    500
                } else {
                    200
                },
                "",
            )
        })
        .run()
        .await;
    let proxy = proxy(&routed(
        "PathPrefix(`/`)",
        &[server.url()],
        "        healthCheck: {path: /health, interval: 50ms, fall: 2, rise: 3}\n",
    ))
    .run()
    .await;
    failing.store(true, Ordering::SeqCst);
    let start = probes.load(Ordering::SeqCst);
    eventually("twenty more probes", async || {
        assert_eq!(
            proxy.client().get("/").await.status,
            200,
            "one failed probe took the server out"
        );
        (probes.load(Ordering::SeqCst) > start + 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_is_probed_before_its_first_traffic() {
    if crate::support::subject_is_traefik() {
        return;
    }
    let bad = backend("bad")
        .reply(|_| Reply::status(500, "broken"))
        .run()
        .await;
    let good = backend("good").run().await;
    let with = |urls: &[String]| {
        routed(
            "PathPrefix(`/`)",
            urls,
            "        healthCheck: {path: /health, interval: 10s}\n",
        )
    };
    let proxy = proxy(&with(&[good.url()])).run().await;
    eventually("the good server was asked", async || {
        good.targets().contains(&"/health".to_owned()).then_some(())
    })
    .await;
    // It joins a server that is up, and has to show first that it is, too.
    proxy.write_routing("main.yml", &with(&[bad.url(), good.url()]));
    eventually("the bad server was asked", async || {
        assert_eq!(shares(&proxy, 5).await.keys().collect::<Vec<_>>(), ["good"]);
        bad.targets().contains(&"/health".to_owned()).then_some(())
    })
    .await;
    assert_eq!(
        shares(&proxy, 20).await.keys().collect::<Vec<_>>(),
        ["good"]
    );
    assert!(bad.targets().iter().all(|target| target == "/health"));
}

#[tokio::test]
async fn passive_failures_take_a_server_out_for_a_while() {
    let failing = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&failing);
    let bad = backend("bad")
        .reply(move |_| {
            if flag.load(Ordering::SeqCst) {
                Reply::status(500, "broken")
            } else {
                Reply::with(200, &[("X-Backend", "bad")], "fine")
            }
        })
        .run()
        .await;
    let good = backend("good").run().await;
    let proxy = proxy(&routed(
        "PathPrefix(`/`)",
        &[bad.url(), good.url()],
        "        passiveHealthCheck: {failureWindow: 2s, maxFailedAttempts: 2}\n",
    ))
    .run()
    .await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(proxy.client().get("/").await.status == 500);
    }
    assert_eq!(failed, 2, "after two failures it gets no more");
    failing.store(false, Ordering::SeqCst);
    eventually("it returns after the window", async || {
        (proxy.client().get("/").await.backend() == "bad").then_some(())
    })
    .await;
}

#[tokio::test]
async fn grpc_health_checks() {
    // A server that does not speak gRPC is not serving: it must be taken out by the gRPC check.
    let (plain, options) = (
        backend("plain").run().await,
        "        healthCheck: {mode: grpc, interval: 100ms, timeout: 500ms}\n",
    );
    let proxy = proxy(&routed("PathPrefix(`/`)", &[plain.url()], options))
        .run()
        .await;
    eventually("it is out", async || {
        (proxy.client().get("/").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(status_of(&proxy, &plain.url()).await, "DOWN");
}

#[tokio::test]
async fn servers_are_found_by_name() {
    let server = backend("named").run().await;
    let proxy = proxy(&all_to(&[format!(
        "http://localhost:{}",
        server.addr.port()
    )]))
    .run()
    .await;
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").await.backend(), "named");
    }
    let nobody = crate::support::proxy(&all_to(&["http://nobody.invalid:80".to_owned()]))
        .run()
        .await;
    let answer = nobody.client().get("/").await;
    assert!([502, 503].contains(&answer.status), "{}", answer.status);
}
