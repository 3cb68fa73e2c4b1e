//! Micro-benchmarks of the route table: building it, and finding a route among few and among many routers.
//! Run with `cargo bench --bench table`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use http::HeaderMap;
use portway::rule::{Facts, Rule, Syntax};
use portway::snapshot::table::{Entry, Table};

fn main() {
    for count in [1, 10, 3_000, 30_000] {
        let texts: Vec<String> = (0..count)
            .map(|n| format!("Host(`app{n}.example.com`)"))
            .collect();
        let hosts: Vec<String> = (0..count).map(|n| format!("app{n}.example.com")).collect();
        let table = build(&format!("build, {count} hosts"), &texts);
        find(
            &format!("find, one of {count} hosts (same)"),
            &table,
            &hosts[count / 2..=count / 2],
            &["/"],
        );
        find(
            &format!("find, one of {count} hosts (random)"),
            &table,
            &hosts,
            &["/"],
        );
        find(
            &format!("find, none of {count} hosts"),
            &table,
            &["nobody.example.com".to_owned()],
            &["/"],
        );
    }
    let texts: Vec<String> = (0..10_000)
        .map(|n| format!("Host(`a.example.com`) && PathPrefix(`/service/{n}`)"))
        .collect();
    let table = build("build, 10000 prefixes of one host", &texts);
    find(
        "find, one of 10000 prefixes",
        &table,
        &["a.example.com".to_owned()],
        &["/service/17/x", "/service/9311", "/service/422/y"],
    );
    let texts: Vec<String> = (0..3_000)
        .map(|n| format!("Host(`*.zone{n}.example.com`)"))
        .collect();
    let table = build("build, 3000 wildcards", &texts);
    find(
        "find, one of 3000 wildcards",
        &table,
        &["a.zone1234.example.com".to_owned()],
        &["/"],
    );
}

/// Parses and files the rules, timing both.
fn build(name: &str, texts: &[String]) -> Table {
    let mut rounds = Vec::with_capacity(BUILD_ROUNDS);
    let mut table = Table::default();
    for _ in 0..BUILD_ROUNDS {
        let start = Instant::now();
        let entries = (0..).zip(texts).map(|(route, text)| {
            let rule = Rule::parse(text, Syntax::V3)
                .expect("the benchmark's own rule is valid")
                .rule;
            Entry {
                rule,
                priority: Rule::default_priority(text),
                rank: 0,
                name: text,
                route,
            }
        });
        table = Table::new(entries.collect());
        rounds.push(start.elapsed().as_secs_f64());
    }
    rounds.sort_by(f64::total_cmp);
    println!("{name:<40} {:>10.3} ms", rounds[BUILD_ROUNDS / 2] * 1e3);
    table
}

/// Looks up the hosts in a scattered order.
fn find(name: &str, table: &Table, hosts: &[String], paths: &[&str]) {
    let headers = HeaderMap::new();
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for call in 0..CALLS {
            let facts = Facts {
                host: &hosts[call.wrapping_mul(7_919) % hosts.len()],
                path: paths[call % paths.len()],
                query: None,
                method: "GET",
                headers: &headers,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            };
            black_box(table.find(black_box(&facts)));
        }
        rounds.push(start.elapsed().as_secs_f64() * 1e9);
    }
    rounds.sort_by(f64::total_cmp);
    println!(
        "{name:<40} {:>10.1} ns",
        rounds[ROUNDS / 2] / f64::from(u32::try_from(CALLS).unwrap_or(u32::MAX))
    );
}

const BUILD_ROUNDS: usize = 7;
const ROUNDS: usize = 11;
const CALLS: usize = 60_000;
