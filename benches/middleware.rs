//! What every request pays before it is sent on: the forwarding headers, and the cheap steps of a plan.
//!
//! `cargo bench --bench middleware` prints nanoseconds per request. The copy of the request head that each round starts from is measured
//! first and taken off.

use std::{hint::black_box, rc::Rc, time::Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use portway::{
    config::{Placed, routing},
    exchange::{
        Body, Connection, Exchange, Memo, RequestHead, Response, Target,
        forwarded::{Forwarding, arrive, depart},
    },
    middleware::{Flow, Middleware},
};

fn main() {
    let head = head();
    let connection = Rc::new(connection());
    let options = Forwarding {
        server: Some(HeaderValue::from_static("edge-1")),
        ..Forwarding::default()
    };
    let copy = measure(|| {
        black_box(head.clone());
    });
    report("copy of the head (taken off below)", copy);
    let forwarding = measure(|| {
        let mut head = head.clone();
        let arrived = arrive(&mut head, &connection, &options);
        black_box(&arrived);
        depart(&mut head, &connection, true);
        black_box(&head);
    });
    report("forwarding headers", forwarding - copy);
    let idle = measure(|| {
        black_box(Exchange::new(
            head.clone(),
            Body::Empty,
            Rc::clone(&connection),
        ));
    });
    for (name, config) in STEPS {
        let step = build(config);
        let time = measure(|| {
            let mut exchange = Exchange::new(head.clone(), Body::Empty, Rc::clone(&connection));
            let flow = step.request(&mut exchange);
            assert!(matches!(flow, Flow::Continue), "{name}: {flow:?}");
            black_box(&exchange);
        });
        report(name, time - idle);
    }
    let chain: Vec<Middleware> = CHAIN.iter().map(|config| build(config)).collect();
    let time = measure(|| {
        let mut exchange = Exchange::new(head.clone(), Body::Empty, Rc::clone(&connection));
        let mut response = Response::new(Body::Empty);
        for step in &chain {
            let flow = step.request(&mut exchange);
            assert!(matches!(flow, Flow::Continue), "{flow:?}");
        }
        for step in chain.iter().rev() {
            step.response(&mut exchange, &mut response);
        }
        black_box((&exchange, &response));
    });
    report("five cheap ones in a chain, both ways", time - idle);
}

/// Nanoseconds per round, the best of some runs.
fn measure(mut round: impl FnMut()) -> f64 {
    const ROUNDS: u32 = 200_000;
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
    }
    best
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
fn report(name: &str, nanos: f64) {
    println!("{name:40} {nanos:8.1} ns");
}

fn build(config: &str) -> Middleware {
    let config: routing::Middleware = serde_json::from_str(config).expect("the benchmark's own");
    let mut findings = Vec::new();
    let read = |_: &str| Err("no files".to_owned());
    Middleware::build("m@file", &Placed::from(config), &read, &mut findings)
        .unwrap_or_else(|| panic!("{findings:?}"))
}

fn head() -> RequestHead {
    let mut headers = HeaderMap::with_capacity(24);
    for (name, value) in [
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
        ),
        ("accept", "text/html,application/xhtml+xml"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cookie", "session=0123456789abcdef"),
        ("referer", "https://shop.example.com/"),
        ("authorization", "Basic dTp0ZXN0"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    RequestHead {
        method: Method::GET,
        version: Version::HTTP_11,
        host: "shop.example.com".into(),
        target: Target::new("/api/v1/items?page=2".into()),
        headers,
        upgrade: None,
        accepts_trailers: false,
        expects_continue: false,
    }
}

fn connection() -> Connection {
    Connection {
        entry_point: "web".into(),
        peer: ([192, 0, 2, 7], 50000).into(),
        local: ([192, 0, 2, 1], 80).into(),
        peer_ip: HeaderValue::from_static("192.0.2.7"),
        trusted: false,
        patience: None,
        tls: None,
        memo: Memo::default(),
    }
}

/// The chain whose cost has a limit: at most 1500 ns.
const CHAIN: [&str; 5] = [
    r#"{"headers":{"customRequestHeaders":{"X-A":"1"}}}"#,
    r#"{"stripPrefix":{"prefixes":["/api"]}}"#,
    r#"{"rateLimit":{"average":1000000000,"burst":1000000000}}"#,
    r#"{"ipAllowList":{"sourceRange":["10.0.0.0/8","192.0.2.0/24"]}}"#,
    r#"{"redirectScheme":{"scheme":"http"}}"#,
];

const STEPS: [(&str, &str); 6] = [
    (
        "rateLimit",
        r#"{"rateLimit":{"average":1000000000,"burst":1000000000}}"#,
    ),
    ("inFlightReq", r#"{"inFlightReq":{"amount":100}}"#),
    (
        "ipAllowList",
        r#"{"ipAllowList":{"sourceRange":["10.0.0.0/8","192.0.2.0/24"]}}"#,
    ),
    ("stripPrefix", r#"{"stripPrefix":{"prefixes":["/api"]}}"#),
    (
        "headers",
        r#"{"headers":{"customRequestHeaders":{"X-A":"1","X-B":"2"}}}"#,
    ),
    (
        "basicAuth, {SHA}",
        r#"{"basicAuth":{"users":["u:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="]}}"#,
    ),
];
