//! The compiled rule: a tree of matchers and its evaluation on a request. No allocation, no error: whatever could be
//! wrong was refused by the parser.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use regex::bytes::Regex;

use super::Facts;
use super::request::{escape, without_dot};

/// A rule or a part of it. Conjunctions and disjunctions keep the textual order, in which they are evaluated.
#[derive(Debug)]
pub(super) enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Leaf { matcher: Matcher, negated: bool },
}

impl Node {
    pub(super) fn and(left: Self, right: Self) -> Self {
        match (left, right) {
            (Self::All(mut nodes), Self::All(more)) => {
                nodes.extend(more);
                Self::All(nodes)
            }
            (Self::All(mut nodes), node) => {
                nodes.push(node);
                Self::All(nodes)
            }
            (left, right) => Self::All(vec![left, right]),
        }
    }

    pub(super) fn or(left: Self, right: Self) -> Self {
        match (left, right) {
            (Self::Any(mut nodes), Self::Any(more)) => {
                nodes.extend(more);
                Self::Any(nodes)
            }
            (Self::Any(mut nodes), node) => {
                nodes.push(node);
                Self::Any(nodes)
            }
            (left, right) => Self::Any(vec![left, right]),
        }
    }

    pub(super) fn matches(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(facts)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(facts)),
            Self::Leaf { matcher, negated } => matcher.matches(facts) != *negated,
        }
    }

    pub(super) fn collect_hosts<'n>(&'n self, hosts: &mut Vec<&'n str>) {
        match self {
            Self::All(nodes) | Self::Any(nodes) => {
                nodes.iter().for_each(|node| node.collect_hosts(hosts))
            }
            Self::Leaf {
                matcher: Matcher::Host(host),
                negated: false,
            } if host.names_certificate => hosts.push(&host.text),
            Self::Leaf { .. } => {}
        }
    }
}

/// One test of one property of the request.
#[derive(Debug)]
pub(super) enum Matcher {
    Host(Host),
    HostRegexp(Box<Pattern>),
    Path(Box<str>),
    PathPrefix(Box<str>),
    PathRegexp(Box<Pattern>),
    Method(Box<str>),
    Header(Box<Header>),
    Query(Box<Query>),
    ClientIp(IpNet),
}

impl Matcher {
    pub(super) fn matches(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Host(host) => host.matches(facts.host),
            Self::HostRegexp(pattern) => pattern.regex.is_match(facts.host.as_bytes()),
            Self::Path(path) => **path == *facts.path,
            Self::PathPrefix(prefix) => facts.path.as_bytes().starts_with(prefix.as_bytes()),
            Self::PathRegexp(pattern) => pattern.regex.is_match(facts.path.as_bytes()),
            Self::Method(method) => **method == *facts.method,
            Self::Header(header) => header.matches(facts.headers),
            Self::Query(query) => query.matches(facts.query.unwrap_or_default()),
            Self::ClientIp(network) => network.contains(&facts.peer.to_canonical()),
        }
    }
}

/// The value of a `Host` matcher.
#[derive(Debug)]
pub(super) struct Host {
    /// As written, in lower case.
    pub(super) text: Box<str>,
    pub(super) form: HostForm,
    /// False for `HostHeader`, the alias of edition 2 that TLS ignores.
    pub(super) names_certificate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostForm {
    Exact,
    /// `*.x.y`: any one label in front of `.x.y`.
    Wildcard,
    /// `*`: every request, with a host or without.
    Everything,
}

impl Host {
    pub(super) fn matches(&self, host: &str) -> bool {
        match self.form {
            HostForm::Everything => true,
            _ if host.is_empty() => false,
            HostForm::Exact => same_name(host, &self.text),
            HostForm::Wildcard => tail(host).is_some_and(|tail| same_name(tail, &self.text[1..])),
        }
    }
}

/// What follows the first label, with its dot: `.b.c` of `a.b.c`.
pub(super) fn tail(host: &str) -> Option<&str> {
    host.find('.').map(|dot| &host[dot..])
}

/// Whether two names are equal or differ by one trailing dot.
fn same_name(left: &str, right: &str) -> bool {
    left == right || without_dot(left) == right || left == without_dot(right)
}

/// A compiled regular expression and how the rule spells it.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: Box<str>,
    pub(super) regex: Regex,
}

/// What a value has to be.
#[derive(Debug)]
pub(super) enum Expected {
    Text(Box<str>),
    Pattern(Pattern),
}

impl Expected {
    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Text(text) => text.as_bytes() == value,
            Self::Pattern(pattern) => pattern.regex.is_match(value),
        }
    }
}

#[derive(Debug)]
pub(super) struct Header {
    /// As written.
    pub(super) label: Box<str>,
    /// `None` for a name that no request can carry or that rules do not see.
    pub(super) name: Option<HeaderName>,
    pub(super) value: Expected,
}

impl Header {
    fn matches(&self, headers: &HeaderMap) -> bool {
        let Some(name) = &self.name else { return false };
        headers
            .get_all(name)
            .iter()
            .any(|value| self.value.accepts(value.as_bytes()))
    }
}

#[derive(Debug)]
pub(super) struct Query {
    pub(super) key: Box<str>,
    pub(super) value: Expected,
    /// Edition 2 looks at the first value of a key only.
    pub(super) first_only: bool,
}

impl Query {
    fn matches(&self, query: &str) -> bool {
        let mut values = query_values(query, &self.key);
        if self.first_only {
            return values.next().is_some_and(|value| self.accepts(value));
        }
        values.any(|value| self.accepts(value))
    }

    fn accepts(&self, raw: &[u8]) -> bool {
        match &self.value {
            Expected::Text(text) => decoded(raw).eq(text.bytes()),
            Expected::Pattern(_) if !raw.contains(&b'%') && !raw.contains(&b'+') => {
                self.value.accepts(raw)
            }
            Expected::Pattern(_) => {
                let mut short = [0; 256];
                let Some(buffer) = short.get_mut(..raw.len()) else {
                    return self.value.accepts(&decoded(raw).collect::<Vec<_>>());
                };
                let length = decoded(raw)
                    .zip(buffer.iter_mut())
                    .map(|(byte, place)| *place = byte)
                    .count();
                self.value.accepts(&short[..length])
            }
        }
    }
}

/// The raw values of `key` in a query. Pairs with a malformed escape do not exist, as for Go's parser.
pub(super) fn query_values<'q>(query: &'q str, key: &'q str) -> impl Iterator<Item = &'q [u8]> {
    query
        .as_bytes()
        .split(|byte| matches!(byte, b'&' | b';'))
        .filter(|pair| !pair.is_empty())
        .map(|pair| match memchr::memchr(b'=', pair) {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        })
        .filter(|(name, value)| {
            well_formed(name) && decoded(name).eq(key.bytes()) && well_formed(value)
        })
        .map(|(_, value)| value)
}

fn well_formed(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'%', raw).all(|at| escape(&raw[at..]).is_some())
}

/// The bytes of a well-formed query component.
pub(super) fn decoded(raw: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (&byte, tail) = rest.split_first()?;
        if let Some(value) = escape(rest) {
            rest = &rest[3..];
            return Some(value);
        }
        rest = tail;
        Some(if byte == b'+' { b' ' } else { byte })
    })
}

/// Parses the address or network of a `ClientIP`; IPv4 written as IPv6 becomes IPv4.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network = text
        .parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    match network.addr().to_canonical() {
        IpAddr::V4(address) if network.max_prefix_len() == 128 && network.prefix_len() >= 96 => {
            IpNet::new(IpAddr::V4(address), network.prefix_len() - 96).ok()
        }
        _ => Some(network),
    }
}

impl fmt::Display for Matcher {
    /// The matcher as a rule would spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "Host(`{}`)", host.text),
            Self::HostRegexp(pattern) => write!(f, "HostRegexp(`{}`)", pattern.text),
            Self::Path(path) => write!(f, "Path(`{path}`)"),
            Self::PathPrefix(prefix) => write!(f, "PathPrefix(`{prefix}`)"),
            Self::PathRegexp(pattern) => write!(f, "PathRegexp(`{}`)", pattern.text),
            Self::Method(method) => write!(f, "Method(`{method}`)"),
            Self::Header(header) => write_pair(f, "Header", &header.label, &header.value),
            Self::Query(query) => write_pair(f, "Query", &query.key, &query.value),
            Self::ClientIp(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "ClientIP(`{}`)", network.addr())
            }
            Self::ClientIp(network) => write!(f, "ClientIP(`{network}`)"),
        }
    }
}

fn write_pair(f: &mut fmt::Formatter<'_>, name: &str, key: &str, value: &Expected) -> fmt::Result {
    match value {
        Expected::Text(text) if text.is_empty() => write!(f, "{name}(`{key}`)"),
        Expected::Text(text) => write!(f, "{name}(`{key}`, `{text}`)"),
        Expected::Pattern(pattern) => write!(f, "{name}Regexp(`{key}`, `{}`)", pattern.text),
    }
}
