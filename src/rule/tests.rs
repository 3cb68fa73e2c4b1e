//! The rule language end to end: text and request in, verdict out. The verdicts were taken from Traefik.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Facts, Rule, RuleError, Syntax, normalise_host, routing_path};

/// Builds a request from `[METHOD] HOST[PATH][?QUERY] [Name:value]… [@PEER]`; a host of `-` is none.
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
        let mut target = words.next().unwrap();
        let mut method = "GET";
        if !target.is_empty() && !target.contains(['/', '.', '-', ':']) && target.len() > 2 {
            method = std::mem::replace(&mut target, words.next().unwrap());
        }
        let (target, query) = match target.split_once('?') {
            Some((target, query)) => (target, Some(query.to_owned())),
            None => (target, None),
        };
        let slash = target.find('/').unwrap_or(target.len());
        let host = if target[..slash] == *"-" {
            ""
        } else {
            &target[..slash]
        };
        let path = if slash == target.len() {
            "/"
        } else {
            &target[slash..]
        };
        let mut headers = HeaderMap::new();
        let mut peer = IpAddr::from([192, 0, 2, 1]);
        for word in words {
            match word.strip_prefix('@') {
                Some(address) => peer = address.parse().unwrap(),
                None => {
                    let (name, value) = word.split_once(':').unwrap();
                    headers.append(
                        HeaderName::from_bytes(name.as_bytes()).unwrap(),
                        HeaderValue::from_str(value).unwrap(),
                    );
                }
            }
        }
        Self {
            host: normalise_host(host).into_owned(),
            path: routing_path(path).into_owned(),
            query,
            method: method.to_owned(),
            headers,
            peer,
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

#[track_caller]
fn check(rule: &str, request: &str, expected: bool) {
    check_in(Syntax::V3, rule, request, expected);
}

#[track_caller]
fn check_in(syntax: Syntax, rule: &str, request: &str, expected: bool) {
    let parsed = Rule::parse(rule, syntax).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let request_read = Request::parse(request);
    let facts = request_read.facts();
    assert_eq!(parsed.rule.matches(&facts), expected, "{rule} on {request}");
    assert_eq!(
        parsed.rule.why_not(&facts).is_none(),
        expected,
        "reason for {rule} on {request}"
    );
}

fn refuse(rule: &str, syntax: Syntax) -> RuleError {
    match Rule::parse(rule, syntax) {
        Ok(_) => panic!("{rule} was accepted"),
        Err(error) => error,
    }
}

#[test]
fn host() {
    for (rule, request, expected) in [
        ("Host(`a`)", "a", true),
        ("Host(`a`)", "b", false),
        ("Host(`a.b`)", "A.B:8080", true),
        ("Host(`A.B`)", "a.b", true),
        ("!Host(`a`)", "-", true),
    ] {
        check(rule, request, expected);
    }
    assert_eq!(
        refuse("Host(`a`,`b`)", Syntax::V3).hint.unwrap(),
        "write Host(`a`) || Host(`b`)"
    );
}
