//! The rule language: what a router's `rule` text means and whether a request satisfies it.
//!
//! Text is parsed once ([`Rule::parse`]) into a tree of ready matchers; [`Rule::matches`] then reads a borrowed
//! view of the request ([`Facts`]) without allocating. Nothing here knows connections, routers or configuration;
//! the order in which rules are tried belongs to [`crate::snapshot::table`].

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

mod build;
mod cover;
mod explain;
mod lexer;
mod matcher;
mod names;
mod parse;
pub mod regexp;
mod request;
#[cfg(test)]
mod tests;
mod upgrade;
mod v2;

pub use cover::{HostCover, HostKey, PathCover, PathKey};
pub use explain::Reason;
pub use request::{normalise_host, routing_path, without_dot};
pub use upgrade::{Protocol, escape, upgrade};

use matcher::Node;

/// A parsed rule. Cloning is cheap: the compiled matchers are shared.
#[derive(Clone, Debug)]
pub struct Rule(Arc<Node>);

impl Rule {
    /// Parses `text`; the error says where it went wrong, the warnings say what will not do what it seems to.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Parsed, RuleError> {
        parse::parse(text, syntax)
    }

    /// Whether the request satisfies the rule. Does not allocate (except for query values longer than 256 bytes
    /// that have to be decoded for a regular expression).
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.0.matches(facts)
    }

    /// The values of the `Host` matchers that are not negated, lower-case, in the order they are written.
    /// They select TLS options and name the certificates to obtain.
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts = Vec::new();
        self.0.collect_hosts(&mut hosts);
        hosts
    }

    /// Why the rule does not match, naming the matcher and the request's actual value; `None` if it matches.
    pub fn why_not(&self, facts: &Facts<'_>) -> Option<Reason> {
        explain::why_not(&self.0, facts)
    }

    /// Hosts of which the request must have one for the rule to match.
    pub fn host_cover(&self) -> HostCover<'_> {
        cover::hosts(&self.0)
    }

    /// Paths or prefixes of which the request must have one for the rule to match.
    pub fn path_cover(&self) -> PathCover<'_> {
        cover::paths(&self.0)
    }

    /// The priority of a router that sets none: the length of its rule in bytes.
    pub fn default_priority(text: &str) -> i64 {
        i64::try_from(text.len()).unwrap_or(i64::MAX)
    }
}

/// What a rule can see of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request's host as [`normalise_host`] gives it: lower-case, no port, no brackets; a trailing dot is kept
    /// (`HostRegexp` sees it, `Host` ignores it). Empty when the request has none.
    pub host: &'a str,
    /// The path as [`routing_path`] gives it: decoded, except for reserved characters.
    pub path: &'a str,
    /// The raw query, without the question mark.
    pub query: Option<&'a str>,
    /// The method, verbatim.
    pub method: &'a str,
    pub headers: &'a HeaderMap,
    /// The address of the connection's other end (or the one its PROXY header names).
    pub peer: IpAddr,
}

/// Which edition of the rule language a text is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Syntax {
    #[default]
    V3,
    V2,
}

impl Syntax {
    /// The edition a `ruleSyntax` value selects: every name other than `v2` means v3.
    pub fn from_name(name: &str) -> Self {
        if name == "v2" { Self::V2 } else { Self::V3 }
    }
}

/// The result of a successful parse.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub rule: Rule,
    pub warnings: Vec<RuleNote>,
}

/// Something legal that probably is not what the author meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleNote {
    /// Byte offset into the rule text.
    pub offset: usize,
    /// One-based column, in characters from the start of the rule text.
    pub column: usize,
    pub message: String,
}

/// Why a rule text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}{}", .hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct RuleError {
    /// Byte offset into the rule text.
    pub offset: usize,
    /// One-based column, in characters from the start of the rule text.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to write instead, when that can be told.
    pub hint: Option<String>,
}

impl RuleError {
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            column: column(text, offset),
            message: shorten(message.into()),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shorten(hint.into()));
        self
    }
}

/// Cuts a message that quotes a long part of a rule.
fn shorten(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
}

fn column(text: &str, offset: usize) -> usize {
    text.char_indices()
        .take_while(|(at, _)| *at < offset)
        .count()
        + 1
}

/// Characters a message may have.
const MAX_MESSAGE: usize = 300;
