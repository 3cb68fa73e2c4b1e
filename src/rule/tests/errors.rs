//! What is refused or noted, where, and with which advice.

use super::*;

#[test]
fn grammar_errors_have_place_expectation_and_hint() {
    for (rule, column, message, hint) in GRAMMAR_ERRORS {
        refused(Syntax::V3, rule, *column, message, hint);
    }
}

#[test]
fn unknown_matchers_get_a_suggestion() {
    for (syntax, rule, hint) in [
        (Syntax::V3, "hOst(`a`)", "write Host"),
        (Syntax::V3, "pathPrefix(`/`)", "write PathPrefix"),
        (Syntax::V3, "Hosts(`a`)", "did you mean Host?"),
        (Syntax::V3, "PathPrefx(`/a`)", "did you mean PathPrefix?"),
        (Syntax::V3, "HostRegex(`a`)", "did you mean HostRegexp?"),
        (Syntax::V3, "PathRegex(`a`)", "did you mean PathRegexp?"),
        (Syntax::V3, "Methods(`GET`)", "did you mean Method?"),
        (Syntax::V3, "Headers(`a`, `b`)", "Header(`name`, `value`)"),
        (Syntax::V3, "HeadersRegexp(`a`, `b`)", "HeaderRegexp"),
        (Syntax::V3, "HostHeader(`a`)", "Host("),
        (Syntax::V3, "HostSNI(`a`)", "TCP"),
        (Syntax::V3, "Nonsense(`a`)", "the matchers are Host,"),
        (Syntax::V2, "PathRegexp(`a`)", "syntax 3"),
        (Syntax::V2, "QueryRegexp(`a`, `b`)", "syntax 3"),
        (Syntax::V2, "Header(`a`, `b`)", "did you mean Headers?"),
    ] {
        refused(syntax, rule, 1, "unknown matcher", hint);
    }
}

#[test]
fn arguments_are_checked() {
    for (rule, column, message, hint) in ARGUMENT_ERRORS {
        refused(Syntax::V3, rule, *column, message, hint);
    }
}

#[test]
fn old_syntax_errors() {
    for (rule, column, message) in [
        ("HostRegexp(`{a`)", 12, "do not pair up"),
        ("HostRegexp(`a}`)", 12, "do not pair up"),
        (
            "HostRegexp(`{}`)",
            12,
            "lacks a name or a regular expression",
        ),
        ("HostRegexp(`{a:}`)", 12, "lacks"),
        ("HostRegexp(`{:x}`)", 12, "lacks"),
        ("HostRegexp(`{a:(}`)", 12, "invalid regular expression"),
        ("HostRegexp(`{a:)(}`)", 12, "invalid regular expression"),
        ("Path(`a`)", 6, "does not start with `/`"),
        ("Path(`{a:/x}`)", 6, "does not start with `/`"),
        ("Headers(`X-A`)", 1, "come in pairs"),
        ("Query(`a`)", 1, "a key and a value"),
        ("Host()", 1, "needs an argument"),
        ("Host(`a`, ``)", 11, "is empty"),
        ("Host(`é`)", 6, "not ASCII"),
        ("ClientIP(`x`)", 10, "no IP address"),
    ] {
        refused(Syntax::V2, rule, column, message, "");
    }
}

#[test]
fn giants_are_refused_with_the_limit() {
    let nested = |depth: usize| format!("{}Host(`a`){}", "(".repeat(depth), ")".repeat(depth));
    v3(&nested(100), &["a"], &[]);
    refused(
        Syntax::V3,
        &nested(101),
        101,
        "nested more than 100 deep",
        "",
    );
    refused(
        Syntax::V3,
        &nested(100_000),
        101,
        "nested more than 100 deep",
        "",
    );
    let negated = format!("{}Host(`a`)", "!".repeat(100_000));
    v3(&negated, &["a"], &["b"]);
    let wide = vec!["Host(`a`)"; 4096].join("||");
    v3(&wide, &["a"], &["b"]);
    refused(
        Syntax::V3,
        &format!("{wide} || Host(`b`)"),
        45_059,
        "more than 4096 matchers",
        "",
    );
    let long = format!("Path(`/{}`)", "a".repeat(300_000));
    refused(Syntax::V3, &long, 1, "the limit is 262144", "");
    let many = format!("Host({})", vec!["`a`"; 5000].join(","));
    refused(
        Syntax::V2,
        &many,
        6 + 4096 * 4,
        "Host has more than 4096 arguments",
        "",
    );
    refused(
        Syntax::V3,
        &format!("{}(`a`)", "x".repeat(100_000)),
        1,
        "xxx…",
        "",
    );
    assert_eq!(notes(&vec!["Host(`a:1`)"; 1000].join("||")).len(), 16);
    let expressions = vec!["PathRegexp(`a`)"; 257].join("&&");
    refused(
        Syntax::V3,
        &expressions,
        256 * 17 + 12,
        "more than 256 regular expressions",
        "",
    );
}

#[test]
fn what_can_never_match_is_noted() {
    for (rule, note) in [
        ("Host(`a:80`)", "write `a`"),
        ("Host(`[::1]`)", "write `::1`"),
        ("Host(` a`)", "write `a`"),
        ("Host(`http://q.test`)", "write `q.test`"),
        ("Host(`https://q.test:8443/x?y`)", "write `q.test`"),
        ("Host(`q.test/x`)", "write `q.test`"),
        ("Host(`*foo.x`)", "whole first label"),
        ("Host(`a.*.x`)", "whole first label"),
        ("Host(`**.x`)", "whole first label"),
        ("Path(`/a%20b`)", "write `/a b`"),
        ("Path(`/a%2fb`)", "write `/a%2Fb`"),
        ("PathPrefix(`/a?b=c`)", "use Query"),
        ("Path(`/a/{id}`)", "use PathRegexp"),
        ("Header(`Host`, `a`)", "use Host(`…`)"),
        ("Header(`a b`, `c`)", "no request has a header `a b`"),
        ("Query(`a=b`)", "Query(`a`, `b`)"),
        ("Method(`GET,POST`)", "for several"),
    ] {
        let notes = notes(rule);
        assert!(
            matches!(&notes[..], [only] if only.contains(note)),
            "{rule}: {notes:?}"
        );
    }
    let plain = "Host(`*.x`) && Path(`/a%2Fb`) && Host(`*`) && Query(`a`, `b=c`) && Header(`X-A`, `v`) && PathPrefix(`/{`)";
    assert_eq!(notes(plain), [""; 0]);
    let parsed = Rule::parse("Path(`/é`) && Host(`a:80`)", Syntax::V3).unwrap();
    assert_eq!(
        (parsed.warnings[0].offset, parsed.warnings[0].column),
        (20, 20)
    );
}

/// Rule, column, and parts of message and hint.
type Refusal = (&'static str, usize, &'static str, &'static str);

const GRAMMAR_ERRORS: &[Refusal] = &[
    ("", 1, "the rule is empty", "PathPrefix(`/`)"),
    (" \n ", 4, "the rule is empty", "PathPrefix(`/`)"),
    ("Host(`a`\n)", 9, "may not be broken", "end the line with"),
    ("(Host(`a`)\n)", 11, "may not be broken", ""),
    (
        "Host(`a`)\n&& Host(`b`)",
        11,
        "may not be broken",
        "end the line with &&",
    ),
    (
        "Host(`a`) /* x\n */ && Host(`b`)",
        20,
        "may not be broken",
        "",
    ),
    ("Host\n(`a`)", 5, "expected `(` after Host", "Host(`…`)"),
    ("Host(`a`);", 10, "expected `&&`, `||` or the end", ""),
    ("Host(`a`...)", 9, "expected `,` or `)`", ""),
    ("Host((`a`))", 6, "expected a string", ""),
    ("(Host)(`a`)", 6, "expected `(` after Host", ""),
    ("Host(\"a\"+\"b\")", 9, "expected `,` or `)`, found `+`", ""),
    (
        "Host(1)",
        6,
        "quoted string as argument of Host, found `1`",
        "backticks",
    ),
    ("Host(example.com)", 6, "quoted string", "write Host(`…`)"),
    ("Host('a')", 6, "single quotes", "`…`"),
    ("Host(`a", 6, "string not closed", ""),
    (
        "Host(`a`",
        9,
        "expected `,` or `)`, found the end of the rule",
        "",
    ),
    ("Host(", 6, "expected a string or `)`", ""),
    ("Host(,`a`)", 6, "expected a string", ""),
    (
        "Host(`a` `b`)",
        10,
        "expected `,` or `)`, found a string",
        "",
    ),
    ("Host", 5, "expected `(` after Host", ""),
    ("Host(`a`) and Host(`b`)", 11, "found `and`", "write &&"),
    ("Host(`a`) OR Host(`b`)", 11, "found `OR`", "write ||"),
    ("Host(`a`) & Host(`b`)", 11, "found `&`", "write &&"),
    ("Host(`a`) | Host(`b`)", 11, "found `|`", "write ||"),
    ("Host(`a`) == Host(`b`)", 11, "found `=`", ""),
    ("Host(`a`) Host(`b`)", 11, "found `Host`", "join matchers"),
    ("Host(`a`) !Host(`b`)", 11, "found `!`", "join matchers"),
    ("Host(`a`))", 10, "found `)`", "no `(`"),
    (
        "(Host(`a`)",
        11,
        "expected `&&`, `||` or `)`, found the end",
        "",
    ),
    ("Host(`a`) &&", 13, "expected a matcher", ""),
    ("&& Host(`a`)", 1, "expected a matcher such as", ""),
    ("-Host(`a`)", 1, "expected a matcher", ""),
    ("()", 2, "expected a matcher", ""),
    ("`a`", 1, "expected a matcher, found a string", "around it"),
    ("x.Host(`a`)", 1, "unknown matcher `x`", "the matchers are"),
    ("Host(`é`) && (é)", 6, "not ASCII", "punycode"),
    ("Path(`/é`) && §", 15, "found `§`", ""),
    ("Host(`a`) /* b", 11, "comment not closed", ""),
];

const ARGUMENT_ERRORS: &[Refusal] = &[
    ("Host()", 1, "Host needs an argument", "Host(`…`)"),
    (
        "Host(``)",
        6,
        "an argument of Host is empty",
        "leave the matcher out",
    ),
    (
        "Query(`k`, ``)",
        12,
        "an argument of Query is empty",
        "Query(`key`) alone",
    ),
    ("PathPrefix(``)", 12, "is empty", "`/`"),
    (
        "Host(`a`, `b`)",
        1,
        "Host takes one argument, not 2",
        "write Host(`a`) || Host(`b`)",
    ),
    (
        "Host(`x`) && PathPrefix(`/a`, `/b`)",
        14,
        "PathPrefix takes one",
        "PathPrefix(`/a`) || PathPrefix(`/b`)",
    ),
    (
        "Method(\"GET\", \"a`b\")",
        1,
        "Method takes one",
        "Method(`GET`) || Method(\"a`b\")",
    ),
    ("Header(`a`)", 1, "Header takes two arguments", ""),
    ("Header(`a`, `b`, `c`)", 1, "not 3", ""),
    (
        "Header(`a`, `b`, `c`, `d`)",
        1,
        "not 4",
        "Header(`a`, `b`) && Header(`c`, `d`)",
    ),
    (
        "Query(`a`, `b`, `c`)",
        1,
        "a key, or a key and a value, not 3",
        "",
    ),
    ("Path(`a`)", 6, "`a` does not start with `/`", "write `/a`"),
    ("PathPrefix(`a`)", 12, "does not start", ""),
    ("Host(`🦭.com`)", 6, "not ASCII", "xn--"),
    ("HostRegexp(`é`)", 12, "not ASCII", ""),
    (
        "PathRegexp(`(`)",
        12,
        "invalid regular expression: unclosed group",
        "",
    ),
    (
        "HeaderRegexp(`k`, `*`)",
        19,
        "invalid regular expression",
        "",
    ),
    ("QueryRegexp(`k`, `[`)", 18, "missing closing ]", ""),
    ("PathRegexp(`(\\pL{500}){500}`)", 12, "1048576 bytes", ""),
    (
        "ClientIP(`127.1`)",
        10,
        "no IP address and no network",
        "192.0.2.0/24",
    ),
    ("ClientIP(` 127.0.0.1`)", 10, "no IP address", ""),
    ("ClientIP(`127.0.0.01`)", 10, "no IP address", ""),
    ("ClientIP(`fe80::1%eth0`)", 10, "no IP address", ""),
    ("ClientIP(`10.0.0.0/33`)", 10, "no IP address", ""),
];
