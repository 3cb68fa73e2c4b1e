//! `replacePath` and `replacePathRegex`: send another path and tell the server the old one in `X-Replaced-Path`.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode};
use regex::bytes::Regex;

use super::{
    Flow,
    add_prefix::with_slash,
    escape::{escaped_form, unescape},
    report::Report,
    strip_prefix::{bad_request, is_ambiguous},
};
use crate::{
    config::routing::{ReplacePath as Config, ReplacePathRegex as RegexConfig},
    exchange::{Exchange, RequestHead, fault},
};

/// Replaces the whole path.
#[derive(Debug)]
pub struct ReplacePath {
    path: String,
}

impl ReplacePath {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let Some(path) = escaped(&config.path) else {
            report.error(
                "path",
                "has a malformed escape; `%` itself is written `%25`",
            );
            return None;
        };
        Some(Self { path })
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        replace(&mut exchange.request, &self.path);
        Flow::Continue
    }
}

/// Replaces what an expression matches in the escaped path.
#[derive(Debug)]
pub struct ReplacePathRegex {
    expression: Regex,
    replacement: String,
}

impl ReplacePathRegex {
    pub(super) fn build(config: &RegexConfig, report: &mut Report<'_>) -> Option<Self> {
        Some(Self {
            expression: report.regex("regex", config.regex.trim())?,
            replacement: config.replacement.trim().to_owned(),
        })
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let head = &mut exchange.request;
        let path = head.target.path().as_bytes();
        if !self.expression.is_match(path) {
            return Flow::Continue;
        }
        let replaced = self
            .expression
            .replace_all(path, self.replacement.as_bytes());
        let replaced = String::from_utf8_lossy(&replaced);
        let Some(path) = escaped(&replaced) else {
            return Flow::respond(fault::text_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "invalid URL escape\n",
            ));
        };
        if is_ambiguous(&path) {
            return bad_request();
        }
        replace(head, &path);
        Flow::Continue
    }
}

/// The form to send of a path that may be partly escaped; `None` if an escape is malformed.
fn escaped(text: &str) -> Option<String> {
    let text = with_slash(Cow::Borrowed(text));
    let decoded = unescape(text.as_bytes())?;
    Some(escaped_form(&decoded, &text))
}

fn replace(head: &mut RequestHead, path: &str) {
    if let Ok(old) = HeaderValue::from_str(head.target.path()) {
        head.headers.append(&X_REPLACED_PATH, old);
    }
    head.target.set_path(path);
}

static X_REPLACED_PATH: HeaderName = HeaderName::from_static("x-replaced-path");

#[cfg(test)]
mod tests {
    use crate::middleware::testing::{Fixture, problems};

    fn check(config: &str, target: &'static str, expected: &str, old: Option<&str>) {
        let sent = Fixture::get(target).through(config);
        assert_eq!(sent.target(), expected, "{target}");
        assert_eq!(sent.header("x-replaced-path"), old, "{target}");
    }

    #[test]
    fn replaces_the_whole_path() {
        let path = |path: &str| format!(r#"{{"replacePath":{{"path":"{path}"}}}}"#);
        check(&path("/new"), "/old/x?y=1", "/new?y=1", Some("/old/x"));
        check(&path("/new"), "/old%2Fx", "/new", Some("/old%2Fx"));
        check(&path("/new"), "/old%20x?q", "/new?q", Some("/old%20x"));
        check(&path("/a/../b"), "/x", "/a/../b", Some("/x"));
        check(
            &path("/a b/é%2Fx?y=1"),
            "/x?z=2",
            "/a%20b/%C3%A9/x%3Fy=1?z=2",
            Some("/x"),
        );
        check(&path("/a%2Fx"), "/x?z", "/a%2Fx?z", Some("/x"));
        check(&path("foo"), "/x", "/foo", Some("/x"));
    }

    #[test]
    fn replaces_what_matches() {
        let y = r#"{"replacePathRegex":{"regex":"^/x/(.*)","replacement":" /y/$1 "}}"#;
        check(y, "/x/a?q=1", "/y/a?q=1", Some("/x/a"));
        check(y, "/x/a%2Fb", "/y/a%2Fb", Some("/x/a%2Fb"));
        check(y, "/x/a%20b", "/y/a%20b", Some("/x/a%20b"));
        check(y, "/x/..%2Fq", "/y/..%2Fq", Some("/x/..%2Fq"));
        check(y, "/z", "/z", None);
        let bare = r#"{"replacePathRegex":{"regex":"^/x/(.*)","replacement":"$1"}}"#;
        check(bare, "/x/foo", "/foo", Some("/x/foo"));
        let all = r#"{"replacePathRegex":{"regex":"/x","replacement":"/a b?"}}"#;
        check(all, "/x/x", "/a%20b%3F/a%20b%3F", Some("/x/x"));
        let none = r#"{"replacePathRegex":{"regex":"/x","replacement":""}}"#;
        check(none, "/x", "/", Some("/x"));
    }

    #[test]
    fn doubtful_results_are_refused() {
        let dots = r#"{"replacePathRegex":{"regex":"^/x(.*)","replacement":"/y/$1"}}"#;
        for target in ["/x..", "/x./a", "/x/a"] {
            let answer = Fixture::get(target).answered_by(dots);
            assert_eq!(
                (answer.status(), answer.text()),
                (400, "Bad Request\n".into()),
                "{target}"
            );
        }
        let escape = r#"{"replacePathRegex":{"regex":"/x","replacement":"/%zz"}}"#;
        assert_eq!(Fixture::get("/x").answered_by(escape).status(), 500);
    }

    #[test]
    fn findings() {
        assert!(problems(r#"{"replacePath":{"path":"/a%zz"}}"#)[0].contains("malformed escape"));
        assert!(
            problems(r#"{"replacePathRegex":{"regex":"["}}"#)[0].contains("replacePathRegex.regex")
        );
    }
}
