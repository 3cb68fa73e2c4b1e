//! Why a rule does not match a request, in words.

use std::borrow::Cow;
use std::fmt;

use super::Facts;
use super::matcher::{Matcher, Node, decoded, query_values};

/// One sentence naming the matcher that failed and the value it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason, or `None` if `node` matches.
pub(super) fn why_not(node: &Node, facts: &Facts<'_>) -> Option<Reason> {
    if node.matches(facts) {
        return None;
    }
    match node {
        Node::All(nodes) => nodes.iter().find_map(|node| why_not(node, facts)),
        Node::Any(nodes) => Some(alternatives(nodes, facts)),
        Node::Leaf { matcher, negated } => Some(Reason(sentence(matcher, *negated, facts))),
    }
}

fn alternatives(nodes: &[Node], facts: &Facts<'_>) -> Reason {
    let mut text = String::new();
    for (index, reason) in nodes
        .iter()
        .take(SHOWN)
        .filter_map(|node| why_not(node, facts))
        .enumerate()
    {
        if index > 0 {
            text.push_str(", and ");
        }
        text.push_str(reason.as_str());
    }
    if nodes.len() > SHOWN {
        let more = format!(
            ", nor does any of {} more alternatives",
            nodes.len() - SHOWN
        );
        text.push_str(&more);
    }
    Reason(text)
}

fn sentence(matcher: &Matcher, negated: bool, facts: &Facts<'_>) -> String {
    let seen = seen(matcher, facts);
    if negated {
        format!("!{matcher} excludes {seen}")
    } else {
        format!("{matcher} does not match {seen}")
    }
}

/// The value of the request that `matcher` looks at.
fn seen<'f>(matcher: &Matcher, facts: &Facts<'f>) -> Cow<'f, str> {
    match matcher {
        Matcher::Host(_) | Matcher::HostRegexp(_) if facts.host.is_empty() => {
            "a request without a host".into()
        }
        Matcher::Host(_) | Matcher::HostRegexp(_) => format!("`{}`", facts.host).into(),
        Matcher::Path(_) | Matcher::PathPrefix(_) | Matcher::PathRegexp(_) => {
            format!("`{}`", facts.path).into()
        }
        Matcher::Method(_) => format!("`{}`", facts.method).into(),
        Matcher::ClientIp(_) => format!("`{}`", facts.peer.to_canonical()).into(),
        Matcher::Header(header) => {
            let values = header
                .name
                .iter()
                .flat_map(|name| facts.headers.get_all(name));
            listed(
                values.map(|value| value.as_bytes().to_vec()),
                "a request without that header",
            )
        }
        Matcher::Query(query) => {
            let values = query_values(facts.query.unwrap_or_default(), &query.key);
            listed(
                values.map(|raw| decoded(raw).collect()),
                "a query without that key",
            )
        }
    }
}

fn listed<'f>(values: impl Iterator<Item = Vec<u8>>, none: &'static str) -> Cow<'f, str> {
    let values: Vec<_> = values
        .map(|value| format!("`{}`", String::from_utf8_lossy(&value)))
        .collect();
    if values.is_empty() {
        none.into()
    } else {
        values.join(", ").into()
    }
}

/// Alternatives that are spelled out; a rule may have thousands.
const SHOWN: usize = 3;
