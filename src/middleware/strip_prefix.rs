//! `stripPrefix` and `stripPrefixRegex`: take a prefix off the path and tell the server which one.

use http::HeaderValue;
use regex::bytes::Regex;

use super::{
    Flow,
    escape::{escape, unescape},
    report::Report,
};
use crate::{
    config::routing::{StripPrefix as Config, StripPrefixRegex as RegexConfig},
    exchange::{
        Exchange, RequestHead, fault, forwarded::X_FORWARDED_PREFIX, path::has_dot_segments,
    },
};

/// Takes the first prefix that fits off the path.
#[derive(Debug)]
pub struct StripPrefix {
    prefixes: Vec<Prefix>,
}

impl StripPrefix {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Self {
        if config.prefixes.is_empty() {
            report.warning("", "has no `prefixes`: nothing is stripped");
        }
        Self {
            prefixes: config
                .prefixes
                .iter()
                .map(|text| Prefix::new(text.trim()))
                .collect(),
        }
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let head = &mut exchange.request;
        for prefix in &self.prefixes {
            if let Some(length) = escaped_length(head.target.path(), prefix.text.as_bytes()) {
                return strip(head, length, prefix.value.clone());
            }
        }
        Flow::Continue
    }
}

/// Takes what the first fitting expression matches at the start of the path off it.
#[derive(Debug)]
pub struct StripPrefixRegex {
    expressions: Vec<Regex>,
}

impl StripPrefixRegex {
    pub(super) fn build(config: &RegexConfig, report: &mut Report<'_>) -> Option<Self> {
        let expressions: Vec<_> = config
            .regex
            .iter()
            .enumerate()
            .filter_map(|(index, text)| report.regex(&format!("regex[{index}]"), text.trim()))
            .collect();
        (expressions.len() == config.regex.len()).then_some(Self { expressions })
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let head = &mut exchange.request;
        let Some(decoded) = unescape(head.target.path().as_bytes()) else {
            return Flow::Continue;
        };
        for expression in &self.expressions {
            let Some(found) = expression.find(&decoded) else {
                continue;
            };
            let found = found.as_bytes();
            // The leftmost match counts, wherever it is; but only a path that starts with the same text is stripped.
            if found.is_empty() || !decoded.starts_with(found) {
                continue;
            }
            if let Some(length) = escaped_length(head.target.path(), found) {
                return strip(head, length, HeaderValue::from_bytes(found).ok());
            }
        }
        Flow::Continue
    }
}

#[derive(Debug)]
struct Prefix {
    text: String,
    value: Option<HeaderValue>,
}

impl Prefix {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            value: HeaderValue::from_bytes(text.as_bytes()).ok(),
        }
    }
}

/// How many bytes at the start of the escaped `path` decode to `prefix`.
fn escaped_length(path: &str, prefix: &[u8]) -> Option<usize> {
    let path = path.as_bytes();
    if !path.contains(&b'%') {
        return path.starts_with(prefix).then_some(prefix.len());
    }
    let mut at = 0;
    for &wanted in prefix {
        let length = if path.get(at) == Some(&b'%') { 3 } else { 1 };
        let decoded = unescape(path.get(at..at + length)?)?;
        if decoded != [wanted] {
            return None;
        }
        at += length;
    }
    Some(at)
}

fn strip(head: &mut RequestHead, length: usize, prefix: Option<HeaderValue>) -> Flow {
    let rest = &head.target.path()[length..];
    let path = if rest.starts_with('%') && decodes_to_slash(rest) {
        // Its first slash was an escaped one; it cannot be one and not be one, so the whole rest is told in plain.
        escape(&unescape(rest.as_bytes()).unwrap_or_default())
    } else if rest.is_empty() || rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    // What the rule protected must not be left by a path that only becomes `..` now.
    if is_ambiguous(&path) {
        return bad_request();
    }
    head.target.set_path(&path);
    if let Some(prefix) = prefix {
        head.headers.append(&X_FORWARDED_PREFIX, prefix);
    }
    Flow::Continue
}

fn decodes_to_slash(rest: &str) -> bool {
    rest.get(..3)
        .is_some_and(|first| first.eq_ignore_ascii_case("%2F"))
}

/// Whether a rewritten path would be read differently by a server that cleans paths.
pub(super) fn is_ambiguous(path: &str) -> bool {
    has_dot_segments(path) || path.contains("//")
}

pub(super) fn bad_request() -> Flow {
    Flow::respond(fault::text_response(
        http::StatusCode::BAD_REQUEST,
        "Bad Request\n",
    ))
}

#[cfg(test)]
mod tests {
    use crate::middleware::testing::{Fixture, problems};

    const STRIP: &str = r#"{"stripPrefix":{"prefixes":["/api","/a b","/tail/","  /q "]}}"#;
    const REGEX: &str = r#"{"stripPrefixRegex":{"regex":["/v[0-9]+","  /b  ","/a.*?/"]}}"#;

    fn check(config: &str, target: &'static str, expected: &str, prefix: Option<&str>) {
        let sent = Fixture::get(target).through(config);
        assert_eq!(sent.target(), expected, "{target}");
        assert_eq!(sent.header("x-forwarded-prefix"), prefix, "{target}");
    }

    #[test]
    fn the_first_fitting_prefix_goes() {
        check(STRIP, "/api/x", "/x", Some("/api"));
        check(STRIP, "/api", "/", Some("/api"));
        check(STRIP, "/api?x=1", "/?x=1", Some("/api"));
        check(STRIP, "/apix", "/x", Some("/api"));
        check(STRIP, "/api...", "/...", Some("/api"));
        check(STRIP, "/tail/x", "/x", Some("/tail/"));
        check(STRIP, "/tail", "/tail", None);
        check(STRIP, "/q/x", "/x", Some("/q"));
        check(STRIP, "/x/api", "/x/api", None);
        check(r#"{"stripPrefix":{"prefixes":[""]}}"#, "/x", "/x", Some(""));
        check(
            r#"{"stripPrefix":{"prefixes":["/"]}}"#,
            "/x/y",
            "/x/y",
            Some("/"),
        );
        check(
            r#"{"stripPrefix":{"prefixes":["api"]}}"#,
            "/api/x",
            "/api/x",
            None,
        );
    }

    #[test]
    fn the_decoded_path_is_compared_and_the_rest_stays_escaped() {
        check(STRIP, "/a%20b/c%2Fd", "/c%2Fd", Some("/a b"));
        check(STRIP, "/api/%2Fx", "/%2Fx", Some("/api"));
        check(STRIP, "/api..%2Fx", "/..%2Fx", Some("/api"));
        check(STRIP, "/api%2Fx%2Fy", "/x/y", Some("/api"));
    }

    #[test]
    fn dot_segments_in_the_rest_are_refused() {
        for target in [
            "/api../x",
            "/api.",
            "/api./x",
            "/api%2F../x",
            "/api%2F..",
            "/api%2F%2Fx",
        ] {
            let answer = Fixture::get(target).answered_by(STRIP);
            assert_eq!(
                (answer.status(), answer.text()),
                (400, "Bad Request\n".into()),
                "{target}"
            );
        }
        assert_eq!(Fixture::get("/v1..").answered_by(REGEX).status(), 400);
    }

    #[test]
    fn expressions_count_at_the_start_only() {
        check(REGEX, "/v1/x", "/x", Some("/v1"));
        check(REGEX, "/v12", "/", Some("/v12"));
        check(REGEX, "/x/v1/", "/x/v1/", None);
        check(REGEX, "/b/c", "/c", Some("/b"));
        check(REGEX, "/v1%2Fx", "/x", Some("/v1"));
        check(REGEX, "/a%2Fb/c%2Fd", "/b/c%2Fd", Some("/a/"));
        check(REGEX, "/a%20b/c%2Fd", "/c%2Fd", Some("/a b/"));
    }

    #[test]
    fn findings() {
        assert_eq!(
            problems(r#"{"stripPrefix":{"prefixes":[]}}"#),
            [
                "warning: http.middlewares.m@file.stripPrefix: has no `prefixes`: nothing is stripped"
            ]
        );
        assert!(
            problems(r#"{"stripPrefixRegex":{"regex":["/a","("]}}"#)[0].starts_with(
                "error: http.middlewares.m@file.stripPrefixRegex.regex[1]: bad regular"
            )
        );
    }
}
