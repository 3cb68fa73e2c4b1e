//! The names of matchers: which there are in each edition, how they may be spelled, and what was meant by others.

use super::{RuleError, Syntax};

/// The matchers of both editions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ClientIp,
    Header,
    HeaderRegexp,
    Host,
    HostHeader,
    HostRegexp,
    Method,
    Path,
    PathPrefix,
    PathRegexp,
    Query,
    QueryRegexp,
}

/// The matcher that `name` calls. It may be spelled as documented, all lower, all upper, or with a single capital.
pub(super) fn find(text: &str, at: usize, name: &str, syntax: Syntax) -> Result<Kind, RuleError> {
    let found = names(syntax)
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    let Some((known, kind)) = found else {
        return Err(unknown(text, at, name, syntax));
    };
    if name == *known || is_regular_case(name) {
        return Ok(*kind);
    }
    Err(RuleError::at(text, at, format!("unknown matcher `{name}`")).hint(format!("write {known}")))
}

/// How the edition calls the matcher.
pub(super) fn name_of(kind: Kind, syntax: Syntax) -> &'static str {
    names(syntax)
        .iter()
        .find(|(_, known)| *known == kind)
        .map_or("matcher", |(name, _)| name)
}

fn names(syntax: Syntax) -> &'static [(&'static str, Kind)] {
    match syntax {
        Syntax::V3 => V3_NAMES,
        Syntax::V2 => V2_NAMES,
    }
}

/// Whether a known name is written all lower, all upper, or lower with a capital first letter.
fn is_regular_case(name: &str) -> bool {
    let rest = &name.as_bytes()[1..];
    name.bytes().all(|byte| byte.is_ascii_uppercase()) || rest.iter().all(u8::is_ascii_lowercase)
}

fn unknown(text: &str, at: usize, name: &str, syntax: Syntax) -> RuleError {
    let error = RuleError::at(text, at, format!("unknown matcher `{name}`"));
    let lower = name.to_ascii_lowercase();
    let other = match (syntax, &*lower) {
        (Syntax::V3, "headers") => Some("Headers is rule syntax 2; write Header(`name`, `value`)"),
        (Syntax::V3, "headersregexp") => {
            Some("HeadersRegexp is rule syntax 2; write HeaderRegexp(`name`, `regexp`)")
        }
        (Syntax::V3, "hostheader") => Some("HostHeader is rule syntax 2; write Host(`…`)"),
        (Syntax::V2, "pathregexp") => {
            Some("PathRegexp is rule syntax 3; write Path(`/{name:regexp}`) here")
        }
        (Syntax::V2, "queryregexp") => {
            Some("QueryRegexp is rule syntax 3; write Query(`key={name:regexp}`) here")
        }
        (_, "hostsni" | "hostsniregexp" | "alpn") => {
            Some("this matcher is for TCP routers; write Host(`…`) in an HTTP router")
        }
        _ => None,
    };
    if let Some(hint) = other {
        return error.hint(hint);
    }
    let closest = names(syntax)
        .iter()
        .filter(|(known, _)| lower.len() <= 2 * known.len())
        .map(|(known, _)| {
            (
                strsim::osa_distance(&lower, &known.to_ascii_lowercase()),
                known,
            )
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3));
    match closest {
        Some((_, known)) => error.hint(format!("did you mean {known}?")),
        None => {
            let all: Vec<_> = names(syntax).iter().map(|(known, _)| *known).collect();
            error.hint(format!("the matchers are {}", all.join(", ")))
        }
    }
}

const V3_NAMES: &[(&str, Kind)] = &[
    ("Host", Kind::Host),
    ("HostRegexp", Kind::HostRegexp),
    ("Path", Kind::Path),
    ("PathPrefix", Kind::PathPrefix),
    ("PathRegexp", Kind::PathRegexp),
    ("Method", Kind::Method),
    ("Header", Kind::Header),
    ("HeaderRegexp", Kind::HeaderRegexp),
    ("Query", Kind::Query),
    ("QueryRegexp", Kind::QueryRegexp),
    ("ClientIP", Kind::ClientIp),
];

const V2_NAMES: &[(&str, Kind)] = &[
    ("Host", Kind::Host),
    ("HostHeader", Kind::HostHeader),
    ("HostRegexp", Kind::HostRegexp),
    ("Path", Kind::Path),
    ("PathPrefix", Kind::PathPrefix),
    ("Method", Kind::Method),
    ("Headers", Kind::Header),
    ("HeadersRegexp", Kind::HeaderRegexp),
    ("Query", Kind::Query),
    ("ClientIP", Kind::ClientIp),
];
