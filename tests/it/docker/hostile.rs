//! Labels that mean harm, or are merely strange. Each costs its own object and nobody else's.

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;

use super::{answers, ask, docker, engine::Stack, findings};
use crate::support::{Proxy, eventually, within};

/// A container that is none of the attacker's business.
const BANK: [(&str, &str); 2] = [
    ("traefik.http.routers.bank.rule", "Host(`bank.test`)"),
    ("traefik.http.services.bank.loadbalancer.server.port", "80"),
];

async fn bank(stack: &Stack) {
    stack.serve("bank", &BANK, &[]);
    // Times of creation tell who was first.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn stays(proxy: &Proxy) {
    for _ in 0..5 {
        assert_eq!(ask(proxy, "bank.test").await, (200, "bank".to_owned()));
    }
}

async fn told(proxy: &Proxy, parts: &[&str]) {
    eventually(&format!("{parts:?} is told"), async || {
        let found = findings(proxy).await;
        let mut lines = found.iter();
        lines
            .find(|line| parts.iter().all(|part| line.contains(part)))
            .map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_claim_to_another_services_host_is_refused_with_both_names() {
    let stack = Stack::new();
    bank(&stack).await;
    let proxy = docker(&stack, &json!({})).run().await;
    answers(&proxy, "bank.test", 200, "bank").await;
    let labels = [
        ("traefik.http.routers.aaa.rule", "Host(`bank.test`)"),
        ("traefik.http.services.aaa.loadbalancer.server.port", "80"),
    ];
    stack.serve("thief", &labels, &[]);
    told(
        &proxy,
        &[&stack.name("thief"), &stack.name("bank"), "router `bank`"],
    )
    .await;
    stays(&proxy).await;
}

#[tokio::test]
async fn a_claim_to_another_services_names_is_refused_with_both_names() {
    let stack = Stack::new();
    bank(&stack).await;
    let proxy = docker(&stack, &json!({})).run().await;
    answers(&proxy, "bank.test", 200, "bank").await;
    let labels = [
        ("traefik.http.routers.bank.rule", "Host(`thief.test`)"),
        ("traefik.http.services.bank.loadbalancer.server.port", "80"),
        (
            "traefik.http.services.bank.loadbalancer.passhostheader",
            "false",
        ),
        ("traefik.http.routers.own.rule", "Host(`own.test`)"),
        ("traefik.http.routers.own.service", "bank@docker"),
    ];
    stack.serve("thief", &labels, &[]);
    told(
        &proxy,
        &[
            &stack.name("thief"),
            "http.routers.bank",
            &stack.name("bank"),
        ],
    )
    .await;
    told(
        &proxy,
        &[
            &stack.name("thief"),
            "http.services.bank",
            &stack.name("bank"),
        ],
    )
    .await;
    stays(&proxy).await;
    assert_eq!(ask(&proxy, "thief.test").await.0, 404);
    // One may lead to another's service, but not into it.
    answers(&proxy, "own.test", 200, "bank").await;
}

#[tokio::test]
async fn internal_names_are_not_to_be_had() {
    let stack = Stack::new();
    bank(&stack).await;
    let proxy = docker(&stack, &json!({})).run().await;
    let labels = [
        ("traefik.http.routers.api@internal.rule", "Host(`x.test`)"),
        (
            "traefik.http.routers.api@internal.priority",
            "9223372036854775807",
        ),
        (
            "traefik.http.services.api@internal.loadbalancer.server.port",
            "80",
        ),
        (
            "traefik.http.middlewares.default@internal.addprefix.prefix",
            "/x",
        ),
        ("traefik.http.routers.top.rule", "PathPrefix(`/`)"),
        ("traefik.http.routers.top.priority", "9223372036854775807"),
        ("traefik.http.routers.top.entrypoints", "traefik"),
        ("traefik.http.routers.top.service", "api@internal"),
    ];
    stack.serve("thief", &labels, &[]);
    let container = stack.name("thief");
    for name in [
        "routers.api@internal",
        "services.api@internal",
        "middlewares.default@internal",
    ] {
        told(&proxy, &[&container, name, "cannot contain `@`"]).await;
    }
    answers(&proxy, "bank.test", 200, "bank").await;
    assert_eq!(proxy.admin().get("/ping").await.status, 200);
    assert_eq!(proxy.admin().get("/api/version").await.status, 200);
}

#[tokio::test]
async fn giant_rules_are_refused_or_served_and_nobody_else_notices() {
    let stack = Stack::new();
    bank(&stack).await;
    let proxy = docker(&stack, &json!({})).run().await;
    answers(&proxy, "bank.test", 200, "bank").await;
    // A label may have 64 KiB where it travels by the command line.
    let nested = format!("{}Host(`a`){}", "(".repeat(20_000), ")".repeat(20_000));
    let mut wide = "Host(`wide.test`)".to_owned();
    for number in 0..1500 {
        write!(wide, " || Host(`h{number}.wide.test`)").unwrap();
    }
    let regexp = format!("HostRegexp(`{}`)", "(a|b?c{1,900}){1,900}".repeat(50));
    let labels = [
        ("traefik.http.routers.nested.rule", nested.as_str()),
        ("traefik.http.routers.wide.rule", &wide),
        ("traefik.http.routers.regexp.rule", &regexp),
        ("traefik.http.services.s.loadbalancer.server.port", "80"),
    ];
    stack.serve("thief", &labels, &[]);
    told(&proxy, &["http.routers.nested@docker.rule"]).await;
    told(&proxy, &["http.routers.regexp@docker.rule"]).await;
    answers(&proxy, "h1499.wide.test", 200, "thief").await;
    stays(&proxy).await;
}

#[tokio::test]
async fn ten_thousand_routers_on_one_container_are_served_with_everybody_elses() {
    let stack = Stack::new();
    bank(&stack).await;
    let proxy = docker(&stack, &json!({})).run().await;
    answers(&proxy, "bank.test", 200, "bank").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labels");
    let mut labels = String::new();
    for number in 0..10_000 {
        writeln!(
            labels,
            "traefik.http.routers.r{number}.rule=Host(`r{number}.test`)"
        )
        .unwrap();
    }
    std::fs::write(&file, labels).unwrap();
    stack.serve(
        "many",
        &[],
        &["--label-file", file.to_str().unwrap(), "--expose", "80"],
    );
    within(
        Duration::from_secs(60),
        "the last one answers",
        async || (ask(&proxy, "r9999.test").await == (200, "many".to_owned())).then_some(()),
    )
    .await;
    stays(&proxy).await;
}

#[tokio::test]
async fn a_label_cannot_write_the_default_rule() {
    let stack = Stack::new();
    bank(&stack).await;
    let options = json!({"defaultRule": "Host(`{{ index .Labels \"host\" }}`)"});
    let proxy = docker(&stack, &options).run().await;
    answers(&proxy, "bank.test", 200, "bank").await;
    stack.serve(
        "thief",
        &[("host", "x`) || Host(`bank.test")],
        &["--expose", "80"],
    );
    told(&proxy, &[&stack.name("thief"), "would end the quotes"]).await;
    stack.serve(
        "reader",
        &[("host", "{{ env \"HOME\" }}")],
        &["--expose", "80"],
    );
    stack.serve("plain", &[("host", "plain.test")], &["--expose", "80"]);
    answers(&proxy, "plain.test", 200, "plain").await;
    assert!(
        !findings(&proxy)
            .await
            .iter()
            .any(|line| line.contains("/root"))
    );
    stays(&proxy).await;
}

#[tokio::test]
async fn labels_that_are_no_text_cost_their_own_object() {
    use std::os::unix::ffi::OsStringExt;

    let stack = Stack::new();
    bank(&stack).await;
    let proxy = docker(&stack, &json!({})).run().await;
    let label = b"traefik.http.routers.bytes.rule=Host(`\xff\xfe.test`)".to_vec();
    let mut command = std::process::Command::new("docker");
    command.args([
        "run",
        "-d",
        "--name",
        &stack.name("bytes"),
        "--expose",
        "80",
    ]);
    command.args([
        "--label",
        &format!("{}={}", super::engine::LABEL, stack.run),
        "--label",
    ]);
    command.arg(std::ffi::OsString::from_vec(label));
    command.args([
        "--label",
        "traefik.http.routers.fine.rule=Host(`fine.test`)",
        "--env",
        "NAME=bytes",
    ]);
    let output = command
        .args([super::engine::IMAGE, "sh", "-c", super::engine::SERVE])
        .output();
    assert!(output.unwrap().status.success());
    answers(&proxy, "fine.test", 200, "bytes").await;
    answers(&proxy, "bank.test", 200, "bank").await;
}

#[tokio::test]
async fn misspelt_labels_are_told_with_what_was_meant() {
    let stack = Stack::new();
    bank(&stack).await;
    let proxy = docker(&stack, &json!({})).run().await;
    let labels = [
        ("traefik.http.routers.app.rule", "Host(`app.test`)"),
        ("traefik.http.routers.app.entrypoint", "web"),
        ("traefik.http.services.app.loadbalancer.server.prot", "80"),
        ("traefik.http.midlewares.m.addprefix.prefix", "/x"),
        ("traefik.enabled", "true"),
        ("treafik.http.routers.x.rule", "Host(`x`)"),
        ("traefik.http.routers.fine.rule", "Host(`fine.test`)"),
        ("traefik.http.routers..rule", "Host(`x`)"),
        ("traefik.http.routers.[0].rule", "Host(`x`)"),
    ];
    stack.serve("app", &labels, &["--expose", "80"]);
    let container = stack.name("app");
    for (label, hint) in [
        (
            "traefik.http.routers.app.entrypoint",
            "did you mean `entryPoints`?",
        ),
        (
            "traefik.http.services.app.loadbalancer.server.prot",
            "did you mean `port`?",
        ),
        (
            "traefik.http.midlewares.m.addprefix.prefix",
            "did you mean `middlewares`?",
        ),
        ("traefik.enabled", "did you mean `enable`?"),
        ("treafik.http.routers.x.rule", "did you mean `traefik`?"),
    ] {
        told(
            &proxy,
            &[&format!("container {container}, label {label}"), hint],
        )
        .await;
    }
    stays(&proxy).await;
}
