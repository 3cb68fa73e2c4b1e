//! Rules of syntax 2 and what they are in syntax 3.

use super::super::upgrade::upgrade;
use super::*;

fn upgraded(text: &str, protocol: Protocol, syntax: Syntax) -> Option<String> {
    let new = upgrade(text, (protocol, syntax), &escape);
    new.unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of rules")]
fn only_what_differs_is_written_anew() {
    for (old, new) in [
        ("Host(`a.test`)", None),
        ("host(`a`) && PathPrefix(`/x`)", None),
        ("Host(`a`, `b`)", Some("Host(`a`) || Host(`b`)")),
        ("Host(\"a\",\"b\")", Some("Host(`a`) || Host(`b`)")),
        (
            "Host(`a`,`b`)  &&  Path(`/x`)",
            Some("(Host(`a`) || Host(`b`))  &&  Path(`/x`)"),
        ),
        (
            "(Host(`a`,`b`)) || Host(`c`)",
            Some("(Host(`a`) || Host(`b`)) || Host(`c`)"),
        ),
        ("!Host(`a`, `b`)", Some("!(Host(`a`) || Host(`b`))")),
        ("HostHeader(`a`)", Some("Host(`a`)")),
        (
            "HostRegexp(`{sub:[a-z]+}.my-app.test`)",
            Some("HostRegexp(`^[a-z]+\\.my-app\\.test$`)"),
        ),
        ("hostregexp(`{any:.+}`)", Some("hostregexp(`^.+$`)")),
        (
            "HostRegexp(`{s:a|b}.X`)",
            Some("HostRegexp(`^(?:a|b)\\.x$`)"),
        ),
        (
            "HostRegexp(`{s:(a|b)}.x`)",
            Some("HostRegexp(`^(a|b)\\.x$`)"),
        ),
        (
            "HostRegexp(`{s:[A-Z]+}.x`, `y`)",
            Some("HostRegexp(`(?i)^[A-Z]+\\.x$`) || HostRegexp(`^y$`)"),
        ),
        ("Path(`/a/{id:[0-9]+}`)", Some("PathRegexp(`^/a/[0-9]+$`)")),
        ("PathPrefix(`/a/{id}`)", Some("PathRegexp(`^/a/[^/]+`)")),
        (
            "PathPrefix(`/a`, `/b`) && Method(`GET`, `HEAD`)",
            Some("(PathPrefix(`/a`) || PathPrefix(`/b`)) && (Method(`GET`) || Method(`HEAD`))"),
        ),
        (
            "Headers(`X-A`, `1`)  || Host(`a`)",
            Some("Header(`X-A`, `1`)  || Host(`a`)"),
        ),
        (
            "!HeadersRegexp(`X-A`, `1`, `X-B`, `2`)",
            Some("!(HeaderRegexp(`X-A`, `1`) && HeaderRegexp(`X-B`, `2`))"),
        ),
        ("Query(`a=b`)", Some("Query(`a`, `b`)")),
        ("Query(`a`, `b`)", None),
        ("Query(`a=`)", Some("QueryRegexp(`a`, `^.*$`)")),
        (
            "Query(`a=b`, `c={n:[0-9]+}`)",
            Some("Query(`a`, `b`) && QueryRegexp(`c`, `^[0-9]+$`)"),
        ),
        (
            "ClientIP(`10.0.0.0/8`, `::1`)",
            Some("ClientIP(`10.0.0.0/8`) || ClientIP(`::1`)"),
        ),
    ] {
        let found = upgraded(old, Protocol::Http, Syntax::V2);
        assert_eq!(found.as_deref(), new, "{old}");
        let text = found.as_deref().unwrap_or(old);
        let parsed = Rule::parse(text, Syntax::V3).unwrap();
        assert_eq!(parsed.warnings, [], "{text}");
        assert_eq!(upgraded(text, Protocol::Http, Syntax::V3), None, "{text}");
    }
}

/// What was written as syntax 3 keeps its expressions, and gets what only syntax 2 can mean.
#[test]
fn rules_that_mix_the_editions() {
    for (old, new) in [
        ("HostRegexp(`^[a-z]{2}\\.x$`)", None),
        ("HostRegexp(`a.b`)", None),
        ("PathRegexp(`^/a{1,2}`)", None),
        ("Query(`a`)", None),
        ("Header(`a`, `b`)", None),
        ("Path(`/{id}`)", Some("PathRegexp(`^/[^/]+$`)")),
        (
            "Host(`a`, `b`) && HostRegexp(`^x-.+$`)",
            Some("(Host(`a`) || Host(`b`)) && HostRegexp(`^x-.+$`)"),
        ),
        ("Query(`a=b`)", Some("Query(`a`, `b`)")),
    ] {
        let found = upgraded(old, Protocol::Http, Syntax::V3);
        assert_eq!(found.as_deref(), new, "{old}");
    }
}

#[test]
fn rules_for_tcp() {
    for (old, new) in [
        ("HostSNI(`*`)", None),
        ("HostSNI(`a`, `b`)", Some("HostSNI(`a`) || HostSNI(`b`)")),
        (
            "HostSNIRegexp(`{s:[a-z]+}.x`) && ClientIP(`::1`)",
            Some("HostSNIRegexp(`^[a-z]+\\.x$`) && ClientIP(`::1`)"),
        ),
    ] {
        let found = upgraded(old, Protocol::Tcp, Syntax::V2);
        assert_eq!(found.as_deref(), new, "{old}");
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    for rule in ["Query(`=b`)", "HostRegexp(`{a`)", "Hots(`a`)", "Host(`a"] {
        let new = upgrade(rule, (Protocol::Http, Syntax::V2), &escape);
        assert!(new.is_err(), "{rule}: {new:?}");
    }
}

/// A rule of syntax 2 made of few words, so that requests made of the same words match now and then.
fn rules() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["a.test", "b.test", "A.b.test"]);
    let template = prop::sample::select(vec![
        "{s:[a-z]+}.test",
        "{s}.b.test",
        "{s:a|b}.test",
        "a.test",
        "{any:.*}",
        "{s:[A-Z]}.TEST",
    ]);
    let path = prop::sample::select(vec!["/", "/x", "/x/{id:[0-9]+}", "/{p}", "/x{r:(/.*)?}"]);
    let query = prop::sample::select(vec!["a=1", "b=", "a={n:[0-9]+}", "c=x{v}"]);
    let method = prop::sample::select(vec!["GET", "post"]);
    let list = |name: &'static str, one: BoxedStrategy<&'static str>| {
        prop::collection::vec(one, 1..3).prop_map(move |all| {
            let all: Vec<String> = all.iter().map(|one| format!("`{one}`")).collect();
            format!("{name}({})", all.join(", "))
        })
    };
    let leaf = prop_oneof![
        list("Host", host.boxed()),
        list("HostRegexp", template.boxed()),
        list("Path", path.clone().boxed()),
        list("PathPrefix", path.boxed()),
        list("Query", query.boxed()),
        list("Method", method.boxed()),
        Just("Headers(`X-A`, `1`, `X-B`, `2`)".to_owned()),
        Just("HeadersRegexp(`X-A`, `^[12]$`)".to_owned()),
        Just("HostHeader(`a.test`)".to_owned()),
        Just("ClientIP(`10.0.0.1`, `192.0.2.0/24`)".to_owned()),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} || {b}")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.prop_map(|a| format!("({a})")),
        ]
    })
    .prop_flat_map(|rule| prop_oneof![Just(format!("!{rule}")), Just(rule)])
}

fn requests() -> impl Strategy<Value = Request> {
    let pick = |all: &[&'static str]| prop::sample::select(all.to_vec());
    (
        pick(&["a.test", "b.test", "A.B.test", "c.b.test", "-", "test"]),
        pick(&["/", "/x", "/x/12", "/x/y", "/xy"]),
        pick(&["", "?a=1", "?a=2&b", "?b=3&a=x", "?c=xy", "?c"]),
        pick(&["", " =POST"]),
        pick(&["", " X-A:1", " X-A:1 X-B:2", " X-A:2"]),
        pick(&["", " @10.0.0.1"]),
    )
        .prop_map(|(host, path, query, method, headers, peer)| {
            Request::parse(&format!("{host}{path}{query}{method}{headers}{peer}"))
        })
}

proptest! {
    #[test]
    fn both_forms_match_the_same_requests(
        rule in rules(),
        requests in prop::collection::vec(requests(), 1..12),
    ) {
        let old = Rule::parse(&rule, Syntax::V2).unwrap().rule;
        let text = upgraded(&rule, Protocol::Http, Syntax::V2).unwrap_or_else(|| rule.clone());
        let parsed = Rule::parse(&text, Syntax::V3).unwrap();
        prop_assert!(parsed.warnings.is_empty(), "{} -> {}: {:?}", rule, text, parsed.warnings);
        for request in requests {
            let facts = request.facts();
            prop_assert_eq!(
                old.matches(&facts),
                parsed.rule.matches(&facts),
                "{} -> {} on {}{}", rule, text, request.host, request.path
            );
        }
    }
}
