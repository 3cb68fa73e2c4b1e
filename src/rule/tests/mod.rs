//! The rule language end to end: text and request in, verdict out. The verdicts were taken from Traefik 3.7.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

mod errors;
mod old_syntax;
mod upgrade;

/// A request written as `HOST[/PATH][?QUERY]` and words: `=METHOD`, `@PEER`, `Name:value`. A host of `-` is none.
#[derive(Debug)]
struct Request {
    host: String,
    path: String,
    query: Option<String>,
    method: String,
    headers: HeaderMap,
    peer: IpAddr,
}

impl Request {
    fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let target = words.next().unwrap();
        let (target, query) = target
            .split_once('?')
            .map_or((target, None), |(target, query)| (target, Some(query)));
        let (host, path) = target.split_at(target.find('/').unwrap_or(target.len()));
        let mut request = Self {
            host: if host == "-" {
                String::new()
            } else {
                normalise_host(host).into_owned()
            },
            path: routing_path(if path.is_empty() { "/" } else { path }).into_owned(),
            query: query.map(str::to_owned),
            method: "GET".to_owned(),
            headers: HeaderMap::new(),
            peer: IpAddr::from([192, 0, 2, 1]),
        };
        words.for_each(|word| request.word(word));
        request
    }

    fn word(&mut self, word: &str) {
        if let Some(method) = word.strip_prefix('=') {
            method.clone_into(&mut self.method);
        } else if let Some(peer) = word.strip_prefix('@') {
            self.peer = peer.parse().unwrap();
        } else {
            let (name, value) = word.split_once(':').unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            self.headers
                .append(name, HeaderValue::from_str(value).unwrap());
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
            peer: self.peer,
        }
    }
}

/// Checks the verdicts of one rule on requests that match and on requests that do not.
#[track_caller]
fn check(syntax: Syntax, rule: &str, matching: &[&str], others: &[&str]) {
    let parsed = Rule::parse(rule, syntax).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let verdicts = matching
        .iter()
        .map(|text| (text, true))
        .chain(others.iter().map(|text| (text, false)));
    for (text, expected) in verdicts {
        let request = Request::parse(text);
        assert_eq!(
            parsed.rule.matches(&request.facts()),
            expected,
            "{rule} on {text}"
        );
        assert_eq!(
            parsed.rule.why_not(&request.facts()).is_none(),
            expected,
            "reason for {rule} on {text}"
        );
    }
}

#[track_caller]
fn v3(rule: &str, matching: &[&str], others: &[&str]) {
    check(Syntax::V3, rule, matching, others);
}

#[track_caller]
fn v2(rule: &str, matching: &[&str], others: &[&str]) {
    check(Syntax::V2, rule, matching, others);
}

/// Checks column, a part of the message and a part of the hint of a refused rule.
#[track_caller]
fn refused(syntax: Syntax, rule: &str, column: usize, message: &str, hint: &str) {
    let Err(error) = Rule::parse(rule, syntax) else {
        panic!("{rule} was accepted")
    };
    assert_eq!(error.column, column, "{rule}: {error}");
    assert!(error.message.contains(message), "{rule}: {error}");
    assert!(
        error.hint.as_deref().unwrap_or_default().contains(hint),
        "{rule}: {error}"
    );
    assert!(
        !error.to_string().contains('\n') || rule.contains('\n'),
        "{error}"
    );
}

fn notes(rule: &str) -> Vec<String> {
    let parsed = Rule::parse(rule, Syntax::V3).unwrap_or_else(|error| panic!("{rule}: {error}"));
    parsed
        .warnings
        .into_iter()
        .map(|note| note.message)
        .collect()
}

#[test]
fn host() {
    v3(
        "Host(`a`)",
        &["a", "A", "a:", "a:80", "a.", "a.:80"],
        &["b", "-", "a.b", "a..", "aa"],
    );
    v3("Host(`A.B`)", &["a.b", "A.b"], &["a", "b"]);
    v3("Host(`a.`)", &["a", "a.", "a.."], &["-", "."]);
    v3("Host(`a..`)", &["a.", "a.."], &["a"]);
    v3("Host(`::1`)", &["[::1]", "[::1]:80", "::1"], &["::2"]);
    v3("Host(`[::1]`)", &[], &["[::1]", "[::1]:80"]);
    v3("Host(`a:80`)", &[], &["a:80", "a"]);
    v3("Host(`xn--9t9h.com`)", &["XN--9T9H.com"], &["a.com"]);
    v3("!Host(`a`)", &["-", "b"], &["a", "a.", "A:80"]);
}

#[test]
fn wildcard_hosts() {
    v3("Host(`*`)", &["a", "a.b", "-"], &[]);
    v3(
        "Host(`*.x.y`)",
        &["a.x.y", "a.x.y.", ".x.y", "a.X.y:80"],
        &["x.y", "b.a.x.y", "-", "xx.y", "x.y."],
    );
    v3("Host(`*.x.y.`)", &["a.x.y", "a.x.y."], &["x.y"]);
    v3("Host(`*foo.x`)", &[], &["afoo.x", "a.x"]);
    v3("Host(`**.x.y`)", &[], &["a.x.y", "b.a.x.y", "x.y"]);
    v3("Host(`*.*.x`)", &["a.*.x"], &["a.b.x"]);
    v3("!Host(`*.x`)", &["a.y", "-", "a.b.x"], &["a.x"]);
}

#[test]
fn host_regexp() {
    v3("HostRegexp(`.*`)", &["-", "a"], &[]);
    v3("HostRegexp(`b`)", &["abc", "B"], &["a", "-"]);
    v3("HostRegexp(`^a\\.$`)", &["a."], &["a"]);
    v3(
        "HostRegexp(`^[a-z]+\\.x$`)",
        &["a.x:80", "A.X"],
        &["a1.x", "a.x."],
    );
    v3("HostRegexp(`B`)", &[], &["b"]);
    v3("HostRegexp(`(?i)B`)", &["b"], &["c"]);
    v3("HostRegexp(`^.{2,3}$`)", &["ab", "abc"], &["a", "abcd"]);
}

#[test]
fn templates_of_the_old_syntax_work_in_host_regexp() {
    let rule = "HostRegexp(`{sub:[a-z]+}.x`)";
    v3(rule, &["a.x", "A.x"], &["1.x", "zz.a.x", "axx"]);
    v3("HostRegexp(`{sub}.x`)", &["a.x", "1.x"], &["a.b.x", ".x"]);
    assert!(notes(rule)[0].contains("rule syntax 2"));
    for plain in [
        "HostRegexp(`^a{2}$`)",
        "HostRegexp(`\\p{Greek}`)",
        "HostRegexp(`\\x{41}`)",
        "HostRegexp(`a{,2}`)",
    ] {
        assert_eq!(notes(plain), [""; 0], "{plain}");
    }
}

#[test]
fn paths() {
    v3("Path(`/a b`)", &["h/a%20b"], &["h/a+b", "h/a", "h/a%20b/"]);
    v3("Path(`/é`)", &["h/%c3%a9", "h/%C3%A9", "h/é"], &["h/e"]);
    v3("Path(`/a%2Fb`)", &["h/a%2fb", "h/a%2Fb"], &["h/a/b"]);
    v3("Path(`/a%2fb`)", &[], &["h/a%2fb", "h/a%2Fb", "h/a/b"]);
    v3("Path(`/x;y`)", &["h/x;y"], &["h/x%3By", "h/x%3by"]);
    v3("Path(`/x%3By`)", &["h/x%3By", "h/x%3by"], &["h/x;y"]);
    v3("Path(`/\"`)", &["h/%22", "h/\""], &[]);
    v3("Path(`/`)", &["h/", "h/?x=1"], &["h/a"]);
    v3("Path(`/Api`)", &["h/Api"], &["h/api", "h/Api/"]);
    v3("Path(`/~`)", &["h/%7E", "h/~"], &[]);
    v3("Path(`/%7E`)", &[], &["h/%7E", "h/~"]);
    v3(
        "PathPrefix(`/api`)",
        &["h/api", "h/api/", "h/apiary"],
        &["h/ap", "h/x/api", "h/API"],
    );
    v3("PathPrefix(`/`)", &["h/", "h/a"], &[]);
    v3("PathPrefix(`/a b`)", &["h/a%20b/c"], &["h/a%2Bb"]);
    v3("PathRegexp(`^/[0-9]+$`)", &["h/12"], &["h/", "h/1a"]);
    v3("PathRegexp(`b`)", &["h/abc"], &["h/ac", "h/?b"]);
    v3(
        "PathRegexp(`^/.$`)",
        &["h/%C3%A9", "h/é", "h/a"],
        &["h/%0A", "h/ab"],
    );
    v3("PathRegexp(`^/{x}$`)", &["h/{x}", "h/%7Bx%7D"], &["h/x"]);
    v3("PathRegexp(`^/\\w$`)", &["h/e"], &["h/é"]);
    v3("PathRegexp(`^/[a&&b]$`)", &["h/&"], &["h/%26"]);
    v3(
        "PathRegexp(`\\.(?i:JPG|png)$`)",
        &["h/a.jpg", "h/a.PNG"],
        &["h/a.jpg/"],
    );
}

#[test]
fn methods() {
    v3("Method(`get`)", &["h =GET"], &["h =get", "h =POST"]);
    v3(
        "Method(`GET`) || Method(`PUT`)",
        &["h", "h =PUT"],
        &["h =POST"],
    );
    v3("!Method(`GET`)", &["h =PUT"], &["h"]);
}

#[test]
fn headers() {
    v3(
        "Header(`X-A`, `v`)",
        &["h x-a:v", "h X-A:w x-a:v"],
        &["h", "h x-a:V", "h x-a:w,v", "h x-b:v"],
    );
    v3("Header(`x-a`, `v`)", &["h X-A:v"], &["h"]);
    v3(
        "Header(`Content-Length`, `0`)",
        &["h Content-Length:0"],
        &["h"],
    );
    v3("Header(`Host`, `h`)", &[], &["h Host:h"]);
    v3("Header(`x y`, `h`)", &[], &["h"]);
    v3(
        "HeaderRegexp(`Transfer-Encoding`, `.*`)",
        &[],
        &["h Transfer-Encoding:chunked"],
    );
    v3(
        "HeaderRegexp(`X-A`, `^a+$`)",
        &["h x-a:aa", "h x-a:b x-a:a"],
        &["h x-a:ab", "h"],
    );
    v3("HeaderRegexp(`X-A`, `a`)", &["h x-a:bab"], &["h x-a:b"]);
    v3(
        "HeaderRegexp(`X-A`, `.*`) || Host(`h`)",
        &["h", "g x-a:"],
        &["g"],
    );
    v3("!Header(`X-A`, `v`)", &["h", "h x-a:w"], &["h x-a:v"]);
}

#[test]
fn queries() {
    v3(
        "Query(`k`)",
        &["h/?k", "h/?k=", "h/?k=1&k", "h/?a;k"],
        &["h/?k=1", "h/", "h/?", "h/?kk", "h/?K"],
    );
    v3(
        "Query(`k`, `a b`)",
        &["h/?k=a+b", "h/?k=a%20b", "h/?%6B=a%20b", "h/?k=a%zz&k=a+b"],
        &["h/?k=a=b", "h/?k=a"],
    );
    v3(
        "Query(`k`, `a=b`)",
        &["h/?k=a=b", "h/?k=a%3Db"],
        &["h/?k=a"],
    );
    v3("Query(`k`, `é`)", &["h/?k=%C3%A9", "h/?k=é"], &["h/?k=e"]);
    v3(
        "Query(`k`, `1`)",
        &["h/?k=1", "h/?k=2&k=1", "h/?&&k=1&", "h/?j=1;k=1"],
        &["h/?k=11", "h/?k%zz=1", "h/?%zz&k"],
    );
    v3(
        "QueryRegexp(`k`, `^a b$`)",
        &["h/?k=a+b", "h/?k=x&k=a%20b"],
        &["h/?k=ab", "h/"],
    );
    v3("QueryRegexp(`k`, `b`)", &["h/?k=abc"], &["h/?k=ac", "h/?b"]);
    v3("QueryRegexp(`k`)", &["h/?k"], &["h/?k=a", "h/"]);
    let long = format!("h/?k={}%20b", "a".repeat(300));
    v3("QueryRegexp(`k`, `^a{300} b$`)", &[&long], &["h/?k=a%20b"]);
    v3("!Query(`k`, `1`)", &["h/", "h/?k=2"], &["h/?k=1"]);
}

#[test]
fn client_addresses() {
    v3(
        "ClientIP(`127.0.0.0/8`)",
        &["h @127.1.2.3", "h @::ffff:127.0.0.1"],
        &["h", "h @::1"],
    );
    v3(
        "ClientIP(`127.0.0.1/8`)",
        &["h @127.9.9.9"],
        &["h @128.0.0.1"],
    );
    v3(
        "ClientIP(`127.0.0.1`)",
        &["h @127.0.0.1"],
        &["h @127.0.0.2"],
    );
    v3(
        "ClientIP(`::ffff:127.0.0.1`)",
        &["h @127.0.0.1", "h @::ffff:127.0.0.1"],
        &["h"],
    );
    v3(
        "ClientIP(`::ffff:127.0.0.0/104`)",
        &["h @127.0.0.1"],
        &["h"],
    );
    v3(
        "ClientIP(`2001:db8::/32`)",
        &["h @2001:db8:1::1"],
        &["h @2001:db9::1", "h"],
    );
    v3("!ClientIP(`10.0.0.0/8`)", &["h"], &["h @10.1.1.1"]);
    v3("ClientIP(`0.0.0.0/0`)", &["h @127.0.0.1", "h"], &["h @::1"]);
}

#[test]
fn operators_follow_go() {
    v3(
        "Method(`GET`) || Method(`PUT`) && Host(`z`)",
        &["q", "z =PUT"],
        &["q =PUT"],
    );
    v3(
        "(Method(`GET`) || Method(`PUT`)) && Host(`z`)",
        &["z", "z =PUT"],
        &["q"],
    );
    v3("!(Host(`a`) || Path(`/x`))", &["b/"], &["a", "b/x", "a/x"]);
    v3("!(Host(`a`) && Path(`/x`))", &["a", "b/x", "b"], &["a/x"]);
    v3(
        "!(Host(`a`) && !(Path(`/x`) || Path(`/y`)))",
        &["a/x", "a/y", "b/z"],
        &["a/z"],
    );
    v3("!!Host(`a`)", &["a"], &["b"]);
    v3("!\n!!Host(`a`)", &["b"], &["a"]);
    v3("!Host(`a`) && Host(`b`)", &["b"], &["a", "c"]);
    v3("((((Host(`a`)))))", &["a"], &["b"]);
    v3(
        "Host(`a`) && (Path(`/x`) || Path(`/y`)) && !Method(`PUT`)",
        &["a/x", "a/y"],
        &["a/z", "a/x =PUT", "b/x"],
    );
    v3(
        "Host(`a`) || Host(`b`) || Host(`c`)",
        &["a", "b", "c"],
        &["d"],
    );
    v3(
        "Host(`a`)||Host(`b`)&&Path(`/x`)||Path(`/y`)",
        &["a/q", "b/x", "z/y"],
        &["b/q", "z/x"],
    );
}

#[test]
fn blanks_comments_and_spellings() {
    for rule in [
        "Host(`a`)",
        " Host ( `a` ) ",
        "Host(`a`,)",
        "Host(`a`,\n)",
        "Host(\n`a`)",
        "\n\nHost(`a`)\n\n",
        "Host(\"a\")",
        "Host(\"\\x61\")",
        "Host(`a`) // b",
        "/* b */ Host(/* c */ `a`) /* d */",
        "Host(`a`) && // b\n Host(`a`)",
        "(\nHost(`a`) ||\n\tHost(`a`))\r\n",
        "\u{feff}Host(`a`)",
        "host(`a`)",
        "HOST(`a`)",
        "host(`a`) && HOST(`a`) && Host(`a`)",
    ] {
        v3(rule, &["a"], &["b"]);
    }
    for rule in [
        "pathprefix(`/`)",
        "PATHPREFIX(`/`)",
        "Pathprefix(`/`)",
        "clientip(`192.0.2.1`)",
        "Clientip(`192.0.2.1`)",
        "CLIENTIP(`192.0.2.1`)",
        "hostregexp(`a`)",
        "Hostregexp(`a`)",
        "QUERYREGEXP(`k`, `v`)",
        "Headerregexp(`k`, `v`)",
    ] {
        v3(rule, &["a/?k=v k:v"], &[]);
    }
}

#[test]
fn hosts_are_listed_in_order_without_negated_ones() {
    for (syntax, rule, hosts) in [
        (
            Syntax::V3,
            "Host(`B`) || Host(`a.`) && !Host(`c`) || (Path(`/`) && Host(`*.d`))",
            &["b", "a.", "*.d"][..],
        ),
        (Syntax::V3, "!(Host(`a`) || !Host(`b`))", &["b"]),
        (Syntax::V3, "HostRegexp(`a`) && PathPrefix(`/`)", &[]),
        (Syntax::V2, "Host(`a`, `b`) && HostHeader(`c`)", &["a", "b"]),
    ] {
        assert_eq!(
            Rule::parse(rule, syntax).unwrap().rule.hosts(),
            hosts,
            "{rule}"
        );
    }
}

#[test]
fn defaults() {
    assert_eq!(Rule::default_priority("Host(`é`)"), 10);
    assert_eq!(Syntax::from_name("v2"), Syntax::V2);
    assert_eq!(
        [
            Syntax::from_name("v3"),
            Syntax::from_name("V2"),
            Syntax::from_name("default")
        ],
        [Syntax::V3; 3]
    );
}

#[test]
fn reasons_name_the_matcher_and_the_value() {
    for [rule, request, reason] in REASONS {
        let rule = Rule::parse(rule, Syntax::V3).unwrap().rule;
        let request = Request::parse(request);
        assert_eq!(rule.why_not(&request.facts()).unwrap().as_str(), *reason);
    }
}

#[test]
fn reasons_are_cut_short() {
    let many = Rule::parse(&["Host(`a`)"; 10].join(" || "), Syntax::V3)
        .unwrap()
        .rule;
    let reason = many
        .why_not(&Request::parse("b").facts())
        .unwrap()
        .to_string();
    assert!(
        reason.ends_with("nor does any of 7 more alternatives"),
        "{reason}"
    );
}

const REASONS: &[[&str; 3]] = &[
    ["Host(`a`)", "b", "Host(`a`) does not match `b`"],
    [
        "Host(`a`)",
        "-",
        "Host(`a`) does not match a request without a host",
    ],
    ["!Host(`a`)", "a", "!Host(`a`) excludes `a`"],
    [
        "Host(`a`) && PathPrefix(`/x`)",
        "a/y",
        "PathPrefix(`/x`) does not match `/y`",
    ],
    [
        "Host(`a`) || Host(`b`)",
        "c",
        "Host(`a`) does not match `c`, and Host(`b`) does not match `c`",
    ],
    ["Method(`PUT`)", "a", "Method(`PUT`) does not match `GET`"],
    [
        "Header(`X-A`, `1`)",
        "a X-A:2 X-A:3",
        "Header(`X-A`, `1`) does not match `2`, `3`",
    ],
    [
        "HeaderRegexp(`X-A`, `1`)",
        "a",
        "HeaderRegexp(`X-A`, `1`) does not match a request without that header",
    ],
    [
        "Query(`k`)",
        "a/?k=b%20c",
        "Query(`k`) does not match `b c`",
    ],
    [
        "QueryRegexp(`k`, `1`)",
        "a/",
        "QueryRegexp(`k`, `1`) does not match a query without that key",
    ],
    [
        "ClientIP(`10.0.0.0/8`)",
        "a @::ffff:127.0.0.1",
        "ClientIP(`10.0.0.0/8`) does not match `127.0.0.1`",
    ],
    [
        "HostRegexp(`^x`) && Path(`/`)",
        "a",
        "HostRegexp(`^x`) does not match `a`",
    ],
];

/// Text that is nearly a rule.
fn near_rule() -> impl Strategy<Value = String> {
    let pieces = vec![
        "Host(`a`)",
        "Path(`/x`)",
        "HostRegexp(`",
        "{a:b}",
        "`)",
        "(",
        ")",
        "&&",
        "||",
        "!",
        ",",
        "`",
        "\"",
        "\\x4",
        "\n",
        " ",
        "//",
        "/*",
        "*/",
        "Query",
        "Headers(`a`,`b`)",
        "é",
        "😀",
        "[",
        "]",
        "{",
        "}",
        "\\",
        "\\Q",
        "\\p{",
        "-",
        "^",
        "0",
        "PathRegexp(`",
    ];
    let piece = prop_oneof![9 => proptest::sample::select(pieces).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    proptest::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_parses_or_fails_within_itself(text in near_rule()) {
        for syntax in [Syntax::V3, Syntax::V2] {
            match Rule::parse(&text, syntax) {
                Ok(parsed) => {
                    let request = Request::parse("a/x?b=c");
                    prop_assert_eq!(parsed.rule.why_not(&request.facts()).is_none(), parsed.rule.matches(&request.facts()));
                }
                Err(error) => prop_assert!(error.offset <= text.len() && text.is_char_boundary(error.offset), "{text:?}: {error:?}"),
            }
        }
    }

    #[test]
    fn any_expression_translates_or_fails(pattern in "[\\\\\\[\\]{}()^$.*+?|&~a-cdwsQEpP0-9x<>:=!é-]{0,16}") {
        if let Ok(translated) = regexp::translate(&pattern) {
            // Whatever is translated is refused by the engine at most for its meaning, never by a panic.
            drop(regex::bytes::Regex::new(&translated));
        }
    }

    #[test]
    fn any_host_and_path_are_brought_into_form_once(text in "[%a-fA-F0-9:.\\[\\]/é ]{0,20}") {
        let host = normalise_host(&text).into_owned();
        prop_assert!(!host.contains(char::is_uppercase) || !host.is_ascii());
        let path = routing_path(&text);
        prop_assert!(path.len() <= text.len());
    }
}
