//! Decoding of small trees.

use serde_json::json;

use super::*;
use crate::config::install::Install;
use crate::config::routing::{Middleware, Router, ServersTransport};
use crate::config::tree::{Format, Source, parse};

fn tree(yaml: &str) -> Node {
    let parsed = parse(Format::Yaml, &Source::new("f.yml", yaml));
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.root.expect("a tree")
}

/// Messages of decoding, one per line.
fn findings<T: DeserializeOwned>(yaml: &str) -> Vec<String> {
    let decoded = decode::<T>(&tree(yaml), "x");
    decoded
        .diagnostics
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn names_in_any_case_numbers_durations_and_comma_lists() {
    let decoded = decode::<Router>(
        &tree(
            "ENTRYPOINTS: web, websecure\nrule: a\nPriority: '7'\nmiddlewares: [a, b]\ntls: true",
        ),
        "",
    );
    assert!(decoded.diagnostics.is_empty(), "{:?}", decoded.diagnostics);
    assert_eq!(
        serde_json::to_value(decoded.value.unwrap()).unwrap(),
        json!({
            "entryPoints": ["web", "websecure"], "rule": "a", "priority": 7,
            "middlewares": ["a", "b"], "tls": {},
        })
    );
    assert_eq!(
        decoded.places.at("entryPoints[1]").to_string(),
        "f.yml:1:14"
    );
    assert_eq!(decoded.places.at("priority").to_string(), "f.yml:3:11");
    assert_eq!(
        decoded.places.at("middlewares[1]").to_string(),
        "f.yml:4:18"
    );
}

#[test]
fn all_mistakes_are_found_at_once() {
    let yaml = "rul: a\nentryPoints: [web]\npriority: high\nobservability:\n  metrics: yes\n  traceVerbosity: minimum\ntls:\n  domains:\n    - mainn: a\n    - b";
    assert_eq!(
        findings::<Router>(yaml),
        [
            "f.yml:1:1: error: x.rul: unknown option (did you mean `rule`?)",
            "f.yml:3:11: error: x.priority: expected a whole number, found \"high\"",
            "f.yml:5:12: error: x.observability.metrics: expected `true` or `false`, found \"yes\"",
            "f.yml:6:19: error: x.observability.traceVerbosity: unknown value \"minimum\" (did you mean `minimal`?)",
            "f.yml:9:7: error: x.tls.domains[0].mainn: unknown option (did you mean `main`?)",
            "f.yml:10:7: error: x.tls.domains[1]: expected options, found \"b\" (set its options, such as `main`, below it)",
        ]
    );
}

#[test]
fn a_mistake_inside_a_middleware_is_told_once() {
    assert_eq!(
        findings::<Middleware>("stripPrefix: []"),
        [
            "f.yml:1:1: error: x.stripPrefix: expected options, found a list (set its options, such as `prefixes`, below it)"
        ]
    );
    assert_eq!(
        findings::<Middleware>("stripPrfix:\n  prefixes: /a"),
        ["f.yml:1:1: error: x.stripPrfix: unknown option (did you mean `stripPrefix`?)",]
    );
    assert_eq!(
        findings::<Middleware>("ipAllowList:\n  sourceRange:\n    - 10.0.0.0/8\n    - 10.0.0/8"),
        [
            "f.yml:4:7: error: x.ipAllowList.sourceRange[1]: expected an IP address or a network such as `10.0.0.0/8`, found \"10.0.0/8\""
        ]
    );
}

#[test]
fn structs_are_enabled_by_presence() {
    let ping = |yaml: &str| {
        decode::<Install>(&tree(yaml), "")
            .value
            .unwrap()
            .ping
            .is_some()
    };
    assert!(ping("ping: {}"));
    assert!(ping("ping: true"));
    assert!(ping("ping: TRUE"));
    assert!(ping("ping: ''"));
    assert!(ping("ping:\n  entryPoint: web"));
    assert!(!ping("ping: false"));
    assert!(!ping("ping: foo"));
    assert!(!ping("ping:\napi: {}"));
    assert_eq!(
        findings::<Install>("ping:\napi: {}"),
        ["f.yml:1:1: warning: x.ping: has no value and is ignored (write `{}` to enable it)"]
    );
    assert_eq!(
        findings::<Install>("ping: foo"),
        ["f.yml:1:1: warning: x.ping: the value \"foo\" disables it (write `false` to disable it)"]
    );
    assert_eq!(
        findings::<Install>("metrics: true"),
        [
            "f.yml:1:10: error: x.metrics: expected options, found \"true\" (set its options, such as `addInternals`, below it)"
        ]
    );
}

#[test]
fn known_parts_without_support_give_one_warning_and_are_kept() {
    let decoded = decode::<ServersTransport>(&tree("spiffe:\n  ids:\n    - spiffe://a/b"), "x");
    let messages: Vec<_> = decoded
        .diagnostics
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        messages,
        ["f.yml:1:1: warning: x.spiffe: is known, but not supported by this version"]
    );
    let kept = serde_json::to_value(decoded.value.unwrap()).unwrap();
    assert_eq!(kept["spiffe"], json!({"ids": ["spiffe://a/b"]}));
}

#[test]
fn names_that_differ_only_in_case_are_one() {
    assert_eq!(
        findings::<Router>("rule: a\nRule: b"),
        ["f.yml:2:1: error: x.rule: `Rule` is given twice (the first is `rule` at f.yml:1:1)"]
    );
}
