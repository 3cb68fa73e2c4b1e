//! The table against trying every rule in turn.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::rule::Syntax;

fn rule(text: &str) -> Rule {
    Rule::parse(text, Syntax::V3)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .rule
}

fn table(routers: &[(&str, i64)]) -> Table {
    let entries = (0..).zip(routers).map(|(route, (text, priority))| Entry {
        rule: rule(text),
        priority: *priority,
        rank: 0,
        name: text,
        route,
    });
    Table::new(entries.collect())
}

fn find(table: &Table, host: &str, path: &str) -> Option<u32> {
    find_with(table, host, path, "GET")
}

fn find_with(table: &Table, host: &str, path: &str, method: &str) -> Option<u32> {
    let headers = HeaderMap::new();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let facts = Facts {
        host,
        path,
        query: None,
        method,
        headers: &headers,
        peer,
    };
    let found = table.find(&facts);
    let linear = table
        .rules()
        .find(|(rule, _)| rule.matches(&facts))
        .map(|(_, route)| route);
    assert_eq!(found, linear, "{method} {host}{path}");
    found
}

#[test]
fn priority_decides_across_exact_wildcard_and_other_rules() {
    let table = table(&[
        ("Host(`a.x`)", 10),
        ("Host(`*.x`)", 20),
        ("PathPrefix(`/any`)", 30),
        ("HostRegexp(`^a`)", 5),
        ("Host(`b.x`) || Host(`c.x`)", 25),
    ]);
    for (host, path, expected) in [
        ("a.x", "/", Some(1)),
        ("a.x", "/any", Some(2)),
        ("b.x", "/", Some(4)),
        ("c.x.", "/", Some(4)),
        ("a.y", "/", Some(3)),
        ("b.y", "/", None),
        ("", "/", None),
        ("", "/any/thing", Some(2)),
        ("x", "/", None),
        ("a.b.x", "/", Some(3)),
    ] {
        assert_eq!(find(&table, host, path), expected, "{host}{path}");
    }
}

#[test]
fn ties_go_to_the_provider_rank_and_then_to_the_name() {
    let entry = |rank, name, route| Entry {
        rule: rule("Host(`a`)"),
        priority: 9,
        rank,
        name,
        route,
    };
    let table = Table::new(vec![entry(1, "a", 0), entry(0, "z", 1), entry(0, "b", 2)]);
    assert_eq!(find(&table, "a", "/"), Some(2));
    let order: Vec<_> = table.rules().map(|(_, route)| route).collect();
    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn negative_priorities_come_last() {
    let table = table(&[("PathPrefix(`/`)", -1), ("Host(`a`)", 1)]);
    assert_eq!(find(&table, "a", "/"), Some(1));
    assert_eq!(find(&table, "b", "/"), Some(0));
}

#[test]
fn a_host_with_many_prefixes_is_indexed_and_still_obeys_priority() {
    let mut texts: Vec<(String, i64)> = (0..200)
        .map(|n| (format!("Host(`a`) && PathPrefix(`/p{n}`)"), n))
        .collect();
    texts.push(("Host(`a`) && Path(`/p1`)".to_owned(), 1000));
    texts.push(("Host(`a`) && PathPrefix(`/`)".to_owned(), -1));
    texts.push(("Host(`a`) && Method(`PUT`)".to_owned(), 150));
    texts.push((
        "Host(`a`) && (Path(`/q`) || PathPrefix(`/p5`))".to_owned(),
        51,
    ));
    let routers: Vec<_> = texts
        .iter()
        .map(|(text, priority)| (&**text, *priority))
        .collect();
    let table = table(&routers);
    assert!(matches!(table.exact.get("a"), Some(Candidates::ByPath(_))));
    for (method, path, expected) in [
        ("GET", "/p1", Some(200)),
        ("GET", "/p1/", Some(1)),
        ("GET", "/p199/x", Some(199)),
        ("GET", "/p19/x", Some(19)),
        ("PUT", "/p19/x", Some(202)),
        ("PUT", "/p199", Some(199)),
        ("GET", "/p5", Some(203)),
        ("GET", "/p52", Some(52)),
        ("GET", "/p50", Some(203)),
        ("GET", "/q", Some(203)),
        ("GET", "/qq", Some(201)),
        ("GET", "/", Some(201)),
        ("GET", "*", None),
    ] {
        assert_eq!(
            find_with(&table, "a", path, method),
            expected,
            "{method} {path}"
        );
    }
    assert_eq!(find(&table, "b", "/p1"), None);
}

#[test]
fn an_empty_table_finds_nothing() {
    assert_eq!(find(&Table::default(), "a", "/"), None);
    assert_eq!(find(&Table::new(Vec::new()), "", ""), None);
}

fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => host().prop_map(|host| format!("Host(`{host}`)")),
        4 => path().prop_map(|path| format!("PathPrefix(`{path}`)")),
        3 => path().prop_map(|path| format!("Path(`{path}`)")),
        1 => Just("Method(`PUT`)".to_owned()),
        1 => Just("HostRegexp(`^[ab]`)".to_owned()),
        1 => Just("PathRegexp(`a$`)".to_owned()),
        1 => Just("ClientIP(`127.0.0.1`)".to_owned()),
    ]
}

fn host() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "a", "b", "a.x", "b.x", "x", "a.b.x", "*.x", "*.b.x", "*", "a.", "a..", "*.x.", "*.",
        "**.x", "*.*.x", ".", "c.x.",
    ])
    .prop_map(str::to_owned)
}

fn path() -> impl Strategy<Value = String> {
    "/[ab]{0,3}(/[ab]{0,2})?"
}

fn text() -> impl Strategy<Value = String> {
    leaf().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) && ({right})")),
            3 => (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} || {right}")),
            1 => inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

fn request() -> impl Strategy<Value = (String, String, bool)> {
    let host = prop_oneof![host(), Just(String::new()), "[abx.]{1,6}"];
    (
        host,
        prop_oneof![path(), Just("*".to_owned())],
        any::<bool>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_a_linear_scan_finds(
        routers in proptest::collection::vec((text(), -2..4_i64, 0..2_u32), 0..60),
        requests in proptest::collection::vec(request(), 1..30),
    ) {
        let names: Vec<_> = (0..routers.len()).map(|index| format!("r{}", index % 7)).collect();
        let entries = (0..).zip(&routers).zip(&names).map(|((route, (text, priority, rank)), name)| {
            Entry { rule: rule(text), priority: *priority, rank: *rank, name, route }
        });
        let table = Table::new(entries.collect());
        for (host, path, put) in requests {
            find_with(&table, &host, &path, if put { "PUT" } else { "GET" });
        }
    }
}
