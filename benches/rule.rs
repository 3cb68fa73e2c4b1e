//! Micro-benchmarks of the rule language: parsing and matching. Run with `cargo bench --bench rule`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use http::HeaderMap;
use portway::rule::{Facts, Rule, Syntax, normalise_host, routing_path};

fn main() {
    for (name, text) in RULES {
        measure(&format!("parse {name}"), || {
            black_box(Rule::parse(black_box(text), Syntax::V3).is_ok());
        });
    }
    let mut headers = HeaderMap::new();
    headers.insert("x-tenant", http::HeaderValue::from_static("blue"));
    let facts = Facts {
        host: "app.example.com",
        path: "/api/v1/items",
        query: Some("page=2&sort=name"),
        method: "GET",
        headers: &headers,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    for (name, text) in RULES {
        let rule = Rule::parse(text, Syntax::V3)
            .expect("the benchmark's own rule is valid")
            .rule;
        assert!(rule.matches(&facts), "{text}");
        measure(&format!("match {name}"), || {
            black_box(rule.matches(black_box(&facts)));
        });
    }
    measure("normalise_host", || {
        black_box(normalise_host(black_box("app.example.com:8443")));
    });
    measure("routing_path, nothing encoded", || {
        black_box(routing_path(black_box("/api/v1/items")));
    });
}

/// Prints the median of several rounds in nanoseconds.
fn measure(name: &str, mut work: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..CALLS).for_each(|_| work());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<40} {:>10.1} ns", rounds[rounds.len() / 2]);
}

const ROUNDS: usize = 11;
const CALLS: u32 = 20_000;
const RULES: [(&str, &str); 5] = [
    ("one host", "Host(`app.example.com`)"),
    (
        "host and prefix",
        "Host(`app.example.com`) && PathPrefix(`/api`)",
    ),
    (
        "choice of hosts",
        "(Host(`a.example.com`) || Host(`b.example.com`) || Host(`app.example.com`)) && !Path(`/x`)",
    ),
    (
        "header and query",
        "Header(`X-Tenant`, `blue`) && Query(`page`, `2`)",
    ),
    ("host regexp", "HostRegexp(`^[a-z]+\\.example\\.com$`)"),
];
