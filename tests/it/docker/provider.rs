//! Labels route, and whatever happens to a container shows at once.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{answers, ask, docker, engine::Stack, findings};
use crate::support::eventually;

/// Nothing waits for a server that is not there, so that answers tell what is known.
const NO_HOLD: &str = "traefik.http.services.s.loadbalancer.hold.timeout";

#[tokio::test]
async fn labels_route_and_replicas_share() {
    let stack = Stack::new();
    let labels = |number: &'static str| {
        [
            ("com.docker.compose.project", "shop"),
            ("com.docker.compose.service", "web"),
            ("com.docker.compose.container-number", number),
            ("Traefik.Http.Routers.x", "is not ours"),
            ("traefik.http.routers.app.rule", "Host(`app.test`)"),
        ]
    };
    stack.serve("one", &labels("1")[..2], &["--expose", "80"]);
    stack.serve("two", &labels("2")[..2], &["--expose", "80"]);
    let proxy = docker(&stack, &json!({})).run().await;
    let mut seen = std::collections::BTreeSet::new();
    eventually("both answer", async || {
        seen.insert(ask(&proxy, "web-shop").await);
        let all = ["one", "two"].map(|name| (200, name.to_owned()));
        all.iter().all(|answer| seen.contains(answer)).then_some(())
    })
    .await;

    let labels = [
        ("traefik.http.routers.app.rule", "Host(`app.test`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        ("traefik.http.routers.typo.rul", "Host(`typo.test`)"),
    ];
    stack.serve("three", &labels, &[]);
    answers(&proxy, "app.test", 200, "three").await;
    let found = findings(&proxy).await;
    let container = stack.name("three");
    let typo = format!("container {container}, label traefik.http.routers.typo.rul");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with(&typo) && line.contains("did you mean `rule`?")),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_healthcheck_decides_who_gets_requests() {
    let stack = Stack::new();
    let proxy = docker(&stack, &json!({})).run().await;
    let labels = [
        ("traefik.http.routers.h.rule", "Host(`h.test`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        (NO_HOLD, "0"),
    ];
    let check = [
        "--health-cmd",
        "cat /tmp/ok",
        "--health-interval",
        "300ms",
        "--health-retries",
        "1",
    ];
    stack.serve("app", &labels, &check);
    answers(&proxy, "h.test", 503, "").await;
    stack.exec("app", "touch /tmp/ok");
    answers(&proxy, "h.test", 200, "app").await;
    stack.exec("app", "rm /tmp/ok");
    answers(&proxy, "h.test", 503, "").await;
    stack.exec("app", "touch /tmp/ok");
    answers(&proxy, "h.test", 200, "app").await;
}

#[tokio::test]
async fn signals_pauses_and_restarts_show_at_once() {
    let stack = Stack::new();
    let proxy = docker(&stack, &json!({})).run().await;
    let labels = [
        ("traefik.http.routers.p.rule", "Host(`p.test`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        (NO_HOLD, "0"),
    ];
    // It takes every signal and stays.
    let script = "trap '' TERM HUP QUIT; echo app > /www/index.html; httpd -p 80 -h /www; while :; do sleep 1; done";
    let options = ["--stop-timeout", "1", "--stop-signal", "USR1"];
    stack.start("app", &labels, &options, script);
    answers(&proxy, "p.test", 200, "app").await;
    for signal in ["HUP", "QUIT"] {
        stack.docker(&["kill", "-s", signal], "app");
        for _ in 0..20 {
            assert_eq!(ask(&proxy, "p.test").await.0, 200, "{signal} is no end");
        }
    }
    stack.docker(&["kill", "-s", "TERM"], "app");
    answers(&proxy, "p.test", 503, "").await;
    answers(&proxy, "p.test", 200, "app").await;
    stack.docker(&["pause"], "app");
    answers(&proxy, "p.test", 503, "").await;
    stack.docker(&["unpause"], "app");
    answers(&proxy, "p.test", 200, "app").await;
    stack.docker(&["kill"], "app");
    answers(&proxy, "p.test", 404, "").await;
    stack.docker(&["start"], "app");
    answers(&proxy, "p.test", 200, "app").await;
    stack.docker(&["restart", "-t", "0"], "app");
    answers(&proxy, "p.test", 200, "app").await;
    stack.docker(&["rm", "-f"], "app");
    answers(&proxy, "p.test", 404, "").await;
}

#[tokio::test]
async fn a_service_lingers_while_its_container_is_made_anew() {
    let stack = Stack::new();
    let proxy = docker(&stack, &json!({"hold": {"timeout": "20s"}}))
        .run()
        .await;
    let labels = [("traefik.http.routers.l.rule", "Host(`l.test`)")];
    stack.serve("app", &labels, &["--expose", "80"]);
    answers(&proxy, "l.test", 200, "app").await;
    stack.docker(&["rm", "-f"], "app");
    let client = proxy.client();
    let waiting = tokio::spawn(async move { client.get("/").host("l.test").try_send().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let raw = proxy.rawdata().await;
    let routers = raw["routers"].as_object().unwrap();
    assert!(routers.contains_key("l@docker"), "{routers:?}");
    stack.serve("app", &labels, &["--expose", "80"]);
    answers(&proxy, "l.test", 200, "app").await;
    drop(waiting);
}

#[tokio::test]
async fn networks_are_chosen_and_followed() {
    let stack = Stack::new();
    let (one, two) = (stack.network("one"), stack.network("two"));
    let proxy = docker(&stack, &json!({})).run().await;
    let labels = [
        ("traefik.http.routers.n.rule", "Host(`n.test`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        ("traefik.docker.network", two.as_str()),
        (NO_HOLD, "0"),
    ];
    stack.serve("app", &labels, &["--network", &one]);
    answers(&proxy, "n.test", 200, "app").await;
    let found = findings(&proxy).await;
    assert!(
        found
            .iter()
            .any(|line| line.contains("is not on the network")),
        "{found:?}"
    );
    stack.connect("connect", &two, "app");
    eventually("the labelled network is used", async || {
        findings(&proxy).await.is_empty().then_some(())
    })
    .await;
    stack.connect("disconnect", &one, "app");
    assert_eq!(ask(&proxy, "n.test").await, (200, "app".to_owned()));
    stack.connect("disconnect", &two, "app");
    answers(&proxy, "n.test", 503, "").await;
    stack.connect("connect", &one, "app");
    answers(&proxy, "n.test", 200, "app").await;
}

#[tokio::test]
async fn a_rename_changes_the_default_rule() {
    let stack = Stack::new();
    let proxy = docker(&stack, &json!({})).run().await;
    stack.serve("before", &[], &["--expose", "80"]);
    answers(&proxy, &stack.name("before"), 200, "before").await;
    let new = stack.name("after");
    let output = std::process::Command::new("docker")
        .args(["rename", &stack.name("before"), &new])
        .status();
    assert!(output.unwrap().success());
    answers(&proxy, &new, 200, "before").await;
    answers(&proxy, &stack.name("before"), 404, "").await;
}

#[tokio::test]
async fn containers_share_networks_with_the_host_and_with_each_other() {
    let stack = Stack::new();
    let proxy = docker(&stack, &json!({})).run().await;
    stack.serve("owner", &[("traefik.enable", "false")], &[]);
    let network = format!("container:{}", stack.name("owner"));
    let labels = [
        ("traefik.http.routers.guest.rule", "Host(`guest.test`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
    ];
    stack.start(
        "guest",
        &labels,
        &["--network", &network],
        "trap exit TERM; sleep 600 & wait",
    );
    answers(&proxy, "guest.test", 200, "owner").await;

    let port = crate::support::free_port().to_string();
    let script = format!(
        "echo host > /www/index.html; trap exit TERM; httpd -f -p 127.0.0.1:{port} -h /www & wait"
    );
    let labels = [
        ("traefik.http.routers.host.rule", "Host(`host.test`)"),
        ("traefik.http.services.h.loadbalancer.server.port", &*port),
    ];
    stack.start("host", &labels, &["--network", "host"], &script);
    answers(&proxy, "host.test", 200, "host").await;
}

#[tokio::test]
async fn labels_change_from_one_generation_to_the_next() {
    let stack = Stack::new();
    let proxy = docker(&stack, &json!({})).run().await;
    let generation = |rule: &'static str| {
        [
            ("com.docker.compose.project", "roll"),
            ("com.docker.compose.service", "web"),
            ("traefik.http.routers.roll.rule", rule),
            ("traefik.http.services.roll.loadbalancer.server.port", "80"),
        ]
    };
    stack.serve("old", &generation("Host(`roll.test`)"), &[]);
    answers(&proxy, "roll.test", 200, "old").await;
    stack.serve(
        "new",
        &generation("Host(`roll.test`) || Host(`more.test`)"),
        &[],
    );
    answers(&proxy, "more.test", 200, "old").await;
    answers(&proxy, "roll.test", 200, "new").await;
    assert_eq!(findings(&proxy).await, [""; 0]);
    stack.docker(&["rm", "-f"], "new");
    answers(&proxy, "more.test", 404, "").await;
    answers(&proxy, "roll.test", 200, "old").await;
}

/// From the start of a container to its first answer, and from its end to the last attempt at it.
#[tokio::test]
async fn containers_come_and_go_within_a_blink() {
    let stack = Stack::new();
    let proxy = docker(&stack, &json!({})).run().await;
    let labels = [
        ("traefik.http.routers.b.rule", "Host(`b.test`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
        (NO_HOLD, "0"),
    ];
    stack.serve("app", &labels, &[]);
    answers(&proxy, "b.test", 200, "app").await;
    let mut times = Vec::new();
    for _ in 0..5 {
        stack.docker(&["kill"], "app");
        answers(&proxy, "b.test", 404, "").await;
        stack.docker(&["start"], "app");
        let started = Instant::now();
        answers(&proxy, "b.test", 200, "app").await;
        times.push(started.elapsed());
    }
    times.sort();
    assert!(
        times[2] < Duration::from_millis(500),
        "from start to first answer: {times:?}"
    );
}
