//! Values that mean nothing and that Traefik starts and serves with all the same: they are reported where they stand, and the default
//! acts. Nothing that keeps anybody out is among them.

use crate::config::diagnostic::{Diagnostic, Severity};

/// What becomes of a value that does not fit: an error, or a warning where it is left out, or nothing where it is only empty.
pub(super) fn settle(found: Diagnostic, is_empty: bool) -> Option<Diagnostic> {
    let listed = |patterns: &[&str]| patterns.iter().any(|pattern| fits(&found.path, pattern));
    if is_empty && (listed(ANY) || listed(EMPTY)) {
        return None;
    }
    if !listed(ANY) {
        return Some(found);
    }
    let instead = match &found.path {
        path if path.ends_with(']') => "it is left out",
        path if path.starts_with(FIELDS) && path.contains(".names.") => "the field is redacted",
        _ => "the default is used",
    };
    Some(Diagnostic {
        severity: Severity::Warning,
        message: format!("{}; {instead}", found.message),
        ..found
    })
}

/// Whether an option that is not known at this path is one that belongs elsewhere, and why it does nothing here.
pub(super) fn misplaced(path: &str) -> Option<&'static str> {
    let found = MISPLACED.iter().find(|(pattern, _)| fits(path, pattern));
    found.map(|(_, why)| *why)
}

/// Whether a path is what a pattern says; each `*` stands for at least one character.
fn fits(path: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return path == pattern;
    };
    let Some(path) = path.strip_prefix(start) else {
        return false;
    };
    let mut ends = path.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.any(|end| fits(&path[end..], rest))
}

/// Options that may hold anything.
const ANY: &[&str] = &[
    "log.level",
    "log.format",
    "log.maxSize",
    "log.maxAge",
    "log.maxBackups",
    "accessLog.format",
    "accessLog.filters.statusCodes[*]",
    "accessLog.fields.defaultMode",
    "accessLog.fields.names.*",
    "accessLog.fields.headers.defaultMode",
    "accessLog.fields.headers.names.*",
    "accessLog.fields.queryParameters.defaultMode",
    "ping.terminatingStatusCode",
    "entryPoints.*.http.maxHeaderBytes",
    "entryPoints.*.observability.traceVerbosity",
    "http.routers.*.observability.traceVerbosity",
    "http.services.*.loadBalancer.healthCheck.mode",
    "http.services.*.loadBalancer.sticky.cookie.sameSite",
    "http.services.*.weighted.sticky.cookie.sameSite",
    "tls.options.*.minVersion",
    "tls.options.*.maxVersion",
];

/// Where it is said which fields the access log has.
const FIELDS: &str = "accessLog.fields.";

/// Options that may be empty, which is as good as not set.
const EMPTY: &[&str] = &[
    "http.services.*.loadBalancer.strategy",
    "http.middlewares.*.compress.defaultEncoding",
];

/// What labels say of a server, written in a file.
const MISPLACED: &[(&str, &str)] = &[
    (
        "http.services.*.loadBalancer.servers[*].scheme",
        "has no effect in a file: the `url` says it",
    ),
    (
        "http.services.*.loadBalancer.servers[*].port",
        "has no effect in a file: the `url` says it",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_something() {
        for (path, pattern, expected) in [
            ("log.level", "log.level", true),
            ("log.levels", "log.level", false),
            ("a.x.b", "a.*.b", true),
            ("a.x.y.b", "a.*.b", true),
            ("a..b", "a.*.b", false),
            ("a[12].b[3]", "a[*].b[*]", true),
            ("a[12].c", "a[*].b[*]", false),
            ("a.ä", "a.*", true),
            ("a.", "a.*", false),
        ] {
            assert_eq!(fits(path, pattern), expected, "{path} {pattern}");
        }
    }
}
