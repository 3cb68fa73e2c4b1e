//! `addPrefix`: puts a prefix before the path.

use std::borrow::Cow;

use super::{
    Flow,
    escape::{escape, escaped_form, unescape},
    report::Report,
};
use crate::{config::routing::AddPrefix as Config, exchange::Exchange};

/// Puts a prefix before the path.
#[derive(Debug)]
pub struct AddPrefix {
    prefix: String,
    /// Whether the prefix is its own escaped form, so that it can be put before an escaped path as it is.
    plain: bool,
}

impl AddPrefix {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        if config.prefix.is_empty() {
            report.error("prefix", "is required");
            return None;
        }
        let prefix = with_slash(Cow::Borrowed(&config.prefix)).into_owned();
        Some(Self {
            plain: escape(prefix.as_bytes()) == prefix,
            prefix,
        })
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let target = &mut exchange.request.target;
        let path = target.path();
        let path = if self.plain {
            format!("{}{path}", self.prefix)
        } else {
            self.escaped(path)
        };
        target.set_path(&path);
        Flow::Continue
    }

    /// The prefix is decoded text, the path is escaped: what they give together must be one or the other.
    fn escaped(&self, path: &str) -> String {
        let decoded = unescape(path.as_bytes()).unwrap_or_else(|| path.as_bytes().to_vec());
        // A path in Go's own escaping is only known decoded there.
        let text = if escape(&decoded) == path {
            String::new()
        } else {
            format!("{}{path}", self.prefix)
        };
        let decoded = [self.prefix.as_bytes(), &decoded].concat();
        escaped_form(&decoded, &text)
    }
}

/// A path starts with a slash, unless it is empty.
pub(super) fn with_slash(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.is_empty() || path.starts_with('/') {
        path
    } else {
        Cow::Owned(format!("/{path}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::middleware::testing::{Fixture, problems};

    fn check(prefix: &str, target: &'static str, expected: &str) {
        let sent =
            Fixture::get(target).through(&format!(r#"{{"addPrefix":{{"prefix":"{prefix}"}}}}"#));
        assert_eq!(sent.target(), expected, "{prefix} before {target}");
    }

    #[test]
    fn prefixes_the_path() {
        check("/one", "/x?q", "/one/x?q");
        check("/one", "/", "/one/");
        check("/one", "/x%2Fy", "/one/x%2Fy");
        check("one", "/x%2Fy", "/one/x%2Fy");
        check("/a/..", "/x", "/a/../x");
    }

    #[test]
    fn a_prefix_is_decoded_text() {
        check("/a b", "/x", "/a%20b/x");
        check("/a b", "/x%2Fy", "/a%20b/x/y");
        check("/%41", "/x", "/%2541/x");
        check("/%41", "/x%2Fy", "/%2541/x/y");
        check("/a?b", "/x", "/a%3Fb/x");
    }

    #[test]
    fn an_empty_prefix_is_refused() {
        assert_eq!(
            problems(r#"{"addPrefix":{}}"#),
            ["error: http.middlewares.m@file.addPrefix.prefix: is required"]
        );
    }
}
