//! The rule language end to end: text and request in, verdict out. The verdicts were taken from Traefik 3.7.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// A request written as `HOST[/PATH][?QUERY]` and words: `=METHOD`, `@PEER`, `Name:value`. A host of `-` is none.
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
    let error = match Rule::parse(rule, syntax) {
        Ok(_) => panic!("{rule} was accepted"),
        Err(error) => error,
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
fn grammar_errors_have_place_expectation_and_hint() {
    for (rule, column, message, hint) in [
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
    ] {
        refused(Syntax::V3, rule, column, message, hint);
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
    for (rule, column, message, hint) in [
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
    ] {
        refused(Syntax::V3, rule, column, message, hint);
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

#[test]
fn old_syntax_hosts() {
    v2("Host(`a`, `B`)", &["a", "b", "b."], &["c", "-"]);
    v2("Host(`*.x`)", &["*.x"], &["a.x"]);
    v2("Host(`*`)", &["*"], &["a.x", "-"]);
    v2("HostHeader(`a`)", &["a"], &["b"]);
    v2(
        "HostRegexp(`{s:[a-z]+}.x`, `y`)",
        &["a.x", "A.X:80", "y"],
        &["1.x", "a.x.", "axx", "zy", "zz.a.x"],
    );
    v2("HostRegexp(`{any}.x`)", &["a.x"], &["a.b.x", ".x"]);
    v2("HostRegexp(`{any:.+}`)", &["a.x"], &["-"]);
    v2("HostRegexp(`{any:.*}`)", &["a.x", "-"], &[]);
    v2("HostRegexp(`{a:(?:x|y)}`)", &["x", "x:80"], &["z"]);
    v2("HostRegexp(`{a:[0-9]{2}}.x`)", &["12.x"], &["123.x"]);
    v2("HostRegexp(`(a`)", &["(a"], &["a"]);
    v2("!Host(`a`, `b`)", &["c"], &["a", "b"]);
}

#[test]
fn old_syntax_paths() {
    v2(
        "Path(`/a`, `/b/{id:[0-9]+}`)",
        &["h/a", "h/b/12"],
        &["h/b/12/", "h/b/x", "h/a/"],
    );
    v2("Path(`/{x}`)", &["h/a"], &["h/a/b", "h/"]);
    v2(
        "Path(`/css{path:(/.*)?}`)",
        &["h/css", "h/css/a/b"],
        &["h/css.css"],
    );
    v2(
        "PathPrefix(`/p/{x}/q`)",
        &["h/p/a/q", "h/p/a/qq"],
        &["h/p/a/b/q"],
    );
    v2("PathPrefix(`/a`, `/b`)", &["h/a", "h/bc"], &["h/c"]);
    v2("Path(`/a b`)", &["h/a%20b"], &["h/a"]);
    v2("Path(`/a.b`)", &["h/a.b"], &["h/axb"]);
    v2("Path(`/{x}.b`)", &["h/a.b"], &["h/axb"]);
    v2("!Path(`/a`, `/b`)", &["h/c"], &["h/a", "h/b"]);
}

#[test]
fn old_syntax_methods_headers_queries_and_addresses() {
    v2(
        "Method(`get`, `POST`)",
        &["h", "h =POST"],
        &["h =PUT", "h =get"],
    );
    v2(
        "Headers(`X-A`, `1`, `X-B`, `2`)",
        &["h X-A:1 X-B:2"],
        &["h X-A:1", "h"],
    );
    v2(
        "Headers(`X-A`, `1`, `X-A`, `2`)",
        &["h X-A:2", "h X-A:1 x-a:2"],
        &["h X-A:1"],
    );
    v2(
        "Headers(`X-A`, `1`, `x-a`, `2`)",
        &["h X-A:1 x-a:2"],
        &["h X-A:1", "h X-A:2"],
    );
    v2("Headers(`Host`, `h`)", &[], &["h Host:h"]);
    v2(
        "HeadersRegexp(`X-A`, `^[0-9]+$`, `X-B`, `b`)",
        &["h X-A:12 X-B:abc"],
        &["h X-A:1a X-B:b"],
    );
    v2(
        "HeadersRegexp(`X-A`, `^1$`, `X-A`, `^2$`)",
        &["h X-A:2"],
        &["h X-A:1"],
    );
    v2(
        "!Headers(`X-A`, `1`, `X-B`, `2`)",
        &["h X-A:1", "h"],
        &["h X-A:1 X-B:2"],
    );
    v2(
        "Query(`a=1`, `b=2`)",
        &["h/?a=1&b=2", "h/?b=2&a=1"],
        &["h/?a=1", "h/"],
    );
    v2(
        "Query(`a=1`)",
        &[
            "h/?a=1&a=2",
            "h/?a=%31",
            "h/?%61=1",
            "h/?a=%zz&a=1",
            "h/?x;a=1",
        ],
        &["h/?a=2&a=1", "h/?a=11"],
    );
    v2("Query(`a=`)", &["h/?a=1", "h/?a", "h/?a="], &["h/", "h/?b"]);
    v2("Query(`a`, `b`)", &["h/?a=b"], &["h/?a&b"]);
    v2("Query(`a={v:[0-9]+}`)", &["h/?a=12"], &["h/?a=1x", "h/?a"]);
    v2("Query(`a={v}`)", &["h/?a=12", "h/?a="], &["h/"]);
    v2("Query(`a=b c`)", &["h/?a=b+c", "h/?a=b%20c"], &["h/?a=bc"]);
    v2("Query(`a=b=c`)", &["h/?a=b=c", "h/?a=b%3Dc"], &["h/?a=b"]);
    v2("Query(`=c`)", &["h/?=c"], &["h/?c"]);
    v2("Query(`{k}=c`)", &["h/?{k}=c"], &["h/?a=c", "h/"]);
    v2(
        "ClientIP(`10.0.0.1`, `127.0.0.0/8`)",
        &["h @10.0.0.1", "h @127.0.0.1"],
        &["h"],
    );
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
fn reasons_name_the_matcher_and_the_value() {
    for (rule, request, reason) in [
        ("Host(`a`)", "b", "Host(`a`) does not match `b`"),
        (
            "Host(`a`)",
            "-",
            "Host(`a`) does not match a request without a host",
        ),
        ("!Host(`a`)", "a", "!Host(`a`) excludes `a`"),
        (
            "Host(`a`) && PathPrefix(`/x`)",
            "a/y",
            "PathPrefix(`/x`) does not match `/y`",
        ),
        (
            "Host(`a`) || Host(`b`)",
            "c",
            "Host(`a`) does not match `c`, and Host(`b`) does not match `c`",
        ),
        ("Method(`PUT`)", "a", "Method(`PUT`) does not match `GET`"),
        (
            "Header(`X-A`, `1`)",
            "a X-A:2 X-A:3",
            "Header(`X-A`, `1`) does not match `2`, `3`",
        ),
        (
            "HeaderRegexp(`X-A`, `1`)",
            "a",
            "HeaderRegexp(`X-A`, `1`) does not match a request without that header",
        ),
        (
            "Query(`k`)",
            "a/?k=b%20c",
            "Query(`k`) does not match `b c`",
        ),
        (
            "QueryRegexp(`k`, `1`)",
            "a/",
            "QueryRegexp(`k`, `1`) does not match a query without that key",
        ),
        (
            "ClientIP(`10.0.0.0/8`)",
            "a @::ffff:127.0.0.1",
            "ClientIP(`10.0.0.0/8`) does not match `127.0.0.1`",
        ),
        (
            "HostRegexp(`^x`) && Path(`/`)",
            "a",
            "HostRegexp(`^x`) does not match `a`",
        ),
    ] {
        let rule = Rule::parse(rule, Syntax::V3).unwrap().rule;
        let request = Request::parse(request);
        assert_eq!(rule.why_not(&request.facts()).unwrap().as_str(), reason);
    }
    let many = Rule::parse(&vec!["Host(`a`)"; 10].join(" || "), Syntax::V3)
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
