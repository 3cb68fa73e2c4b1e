//! Services made of services beside the real Traefik.

use std::time::Duration;

use super::cases::{Case, Door, Protocol};
use super::outcome::Allowance;
use super::variants::{Variant, compare};

/// Variants of one kind: what stands in `http.services` beside the leaves `NAME-a` to `NAME-e`.
fn of(kind: &str, services: &[&str]) -> Vec<Variant> {
    let leaf = |(letter, port): (char, u16)| {
        format!(
            "NAME-{letter}: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{port}'}}]}}}}"
        )
    };
    let leaves: Vec<String> = ('a'..='e').zip(9001..).map(leaf).collect();
    let leaves = leaves.join(", ");
    (0..)
        .zip(services)
        .map(|(number, service): (u32, _)| {
            Variant::service(&format!("{kind}-{number}"), &format!("{service}, {leaves}"))
        })
        .collect()
}

fn get(target: &str) -> Case {
    Case::get("", target)
}

fn cases() -> Vec<Case> {
    vec![
        get("/hello"),
        get("/many"),
        get("/broken").method("POST").body("1234"),
        get("/hello").method("HEAD"),
        get("/missing?x=1"),
        get("/hello").through(Door::Secure, Protocol::Http2),
        get("/hello").header("Cookie", "side=nobody; child=nobody"),
    ]
}

/// Traefik shuffles services before the first turn.
const FIRST: Allowance = (
    0,
    "which of several services has the first turn",
    |case, difference| {
        let turns = ["weighted-0.", "weighted-1.", "weighted-7.", "mirroring-7."];
        turns.iter().any(|host| case.host.starts_with(host))
            && difference.is("server saw", "server")
    },
);

#[tokio::test]
async fn weighted() {
    let services = [
        "NAME: {weighted: {services: [{name: NAME-a}, {name: NAME-b}]}}",
        "NAME: {weighted: {services: [{name: NAME-a, weight: 2}, {name: NAME-b}]}}",
        "NAME: {weighted: {services: [{name: NAME-a, weight: 0}, {name: NAME-c, weight: 7}]}}",
        "NAME: {weighted: {services: [{name: NAME-a, weight: -1}]}}",
        "NAME: {weighted: {services: []}}",
        "NAME: {weighted: {sticky: {cookie: {name: side, httpOnly: true, maxAge: 3}}, services: [{name: NAME-a}, {name: NAME-b, weight: 0}]}}",
        "NAME: {weighted: {sticky: {cookie: {}}, services: [{name: NAME-in}]}}, NAME-in: {loadBalancer: {sticky: {cookie: {name: child}}, servers: [{url: 'http://127.0.0.1:9004'}]}}",
        "NAME: {weighted: {services: [{name: NAME-in}, {name: NAME-d}]}}, NAME-in: {weighted: {services: [{name: NAME-b}, {name: NAME-c}]}}",
        "NAME: {weighted: {services: [{name: NAME-nobody}]}}",
    ];
    compare(&of("weighted", &services), &cases(), &[FIRST]).await;
}

#[tokio::test]
async fn highest_random_weight() {
    let services = [
        "NAME: {highestRandomWeight: {services: [{name: NAME-a}, {name: NAME-b}]}}",
        "NAME: {highestRandomWeight: {services: [{name: NAME-c}, {name: NAME-d}, {name: NAME-e}]}}",
        "NAME: {highestRandomWeight: {services: [{name: NAME-a}, {name: NAME-b}, {name: NAME-c}, {name: NAME-d}, {name: NAME-e}]}}",
        "NAME: {highestRandomWeight: {services: [{name: NAME-a, weight: 5}, {name: NAME-b, weight: 2}]}}",
        "NAME: {highestRandomWeight: {services: [{name: NAME-a, weight: 0}, {name: NAME-b}]}}",
        "NAME: {highestRandomWeight: {services: []}}",
        "NAME: {highestRandomWeight: {services: [{name: NAME-in}, {name: NAME-d}]}}, NAME-in: {highestRandomWeight: {services: [{name: NAME-b}, {name: NAME-c}]}}",
    ];
    compare(&of("hrw", &services), &cases(), &[]).await;
}

#[tokio::test]
async fn mirroring() {
    const NO_BODY: Allowance = (
        113,
        "Traefik announces the length of a body that it does not send to mirrors",
        |case, difference| {
            case.host == "mirroring-3.test"
                && !case.body.is_empty()
                && difference.place == "server saw"
        },
    );
    let services = [
        "NAME: {mirroring: {service: NAME-a, mirrors: [{name: NAME-b, percent: 100}]}}",
        "NAME: {mirroring: {service: NAME-a, mirrors: [{name: NAME-b, percent: 30}, {name: NAME-c, percent: 50}]}}",
        "NAME: {mirroring: {service: NAME-a, maxBodySize: 5, mirrors: [{name: NAME-b, percent: 100}]}}",
        "NAME: {mirroring: {service: NAME-a, mirrorBody: false, mirrors: [{name: NAME-b, percent: 100}]}}",
        "NAME: {mirroring: {service: NAME-a, maxBodySize: 0, mirrors: [{name: NAME-b, percent: 100}]}}",
        "NAME: {mirroring: {service: NAME-a}}",
        "NAME: {mirroring: {service: NAME-a, mirrors: [{name: NAME-b, percent: 101}]}}",
        "NAME: {mirroring: {service: NAME-in, mirrors: [{name: NAME-b, percent: 100}]}}, NAME-in: {weighted: {services: [{name: NAME-d}, {name: NAME-e}]}}",
    ];
    let cases = [
        get("/hello"),
        get("/post").method("POST").body("1234"),
        get("/post").method("PUT").body("123456"),
        get("/missing"),
        get("/hello")
            .header("X-Forwarded-For", "10.1.2.3")
            .trusted(),
        get("/hello?a=1").through(Door::Secure, Protocol::Http2),
    ];
    let cases = cases.map(|case| Case {
        settle: Duration::from_millis(250),
        ..case
    });
    compare(&of("mirroring", &services), &cases, &[FIRST, NO_BODY]).await;
}

#[tokio::test]
async fn failover() {
    let services = [
        "NAME: {failover: {service: NAME-a, fallback: NAME-b, errors: {status: ['500-599']}}}",
        "NAME: {failover: {service: NAME-a, fallback: NAME-b, errors: {status: ['404', '500']}}}",
        "NAME: {failover: {service: NAME-a, fallback: NAME-b, errors: {status: ['500'], maxRequestBodyBytes: 5}}}",
        "NAME: {failover: {service: NAME-a, fallback: NAME-b, errors: {status: ['500'], maxRequestBodyBytes: 0}}}",
        "NAME: {failover: {service: NAME-none, fallback: NAME-b, errors: {status: ['503']}}}, NAME-none: {loadBalancer: {servers: []}}",
        "NAME: {failover: {service: NAME-dead, fallback: NAME-b, errors: {status: ['502']}}}, NAME-dead: {loadBalancer: {servers: [{url: 'http://127.0.0.1:1'}]}}",
        "NAME: {failover: {service: NAME-in, fallback: NAME-c, errors: {status: ['500']}}}, NAME-in: {failover: {service: NAME-a, fallback: NAME-b, errors: {status: ['404']}}}",
        "NAME: {failover: {service: NAME-a, fallback: NAME-b}}",
    ];
    let cases = [
        get("/hello"),
        get("/broken"),
        get("/missing"),
        get("/broken").method("POST").body("1234"),
        get("/broken").method("PUT").body("123456"),
        get("/broken").through(Door::Secure, Protocol::Http2),
        get("/hello")
            .header("X-Forwarded-For", "10.1.2.3")
            .trusted(),
    ];
    compare(&of("failover", &services), &cases, &[]).await;
}
