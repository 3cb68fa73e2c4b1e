//! What a rule demands of host and path, so that a table can find it without trying it: a set of keys of which a
//! request must have one for the rule to match. The reverse need not hold, unless the cover says so.

use super::matcher::{HostForm, Matcher, Node};

/// The hosts a rule can match.
#[derive(Debug, PartialEq, Eq)]
pub enum HostCover<'r> {
    /// Any host, or none at all.
    Everything,
    /// Only these; with `sufficient`, having one of them is all the rule asks for.
    Keys {
        keys: Vec<HostKey<'r>>,
        sufficient: bool,
    },
}

/// One host or wildcard, without trailing dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKey<'r> {
    Exact(&'r str),
    /// What follows the first label, with its dot.
    Wildcard(&'r str),
}

/// The paths a rule can match.
#[derive(Debug, PartialEq, Eq)]
pub enum PathCover<'r> {
    Everything,
    Keys(Vec<PathKey<'r>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathKey<'r> {
    Exact(&'r str),
    Prefix(&'r str),
}

pub(super) fn hosts(node: &Node) -> HostCover<'_> {
    let sufficient = only_hosts(node);
    match keys(node, &host_key) {
        Some(keys) => HostCover::Keys { keys, sufficient },
        None => HostCover::Everything,
    }
}

pub(super) fn paths(node: &Node) -> PathCover<'_> {
    keys(node, &path_key).map_or(PathCover::Everything, PathCover::Keys)
}

/// The keys of a node: those of its most selective part for a conjunction, all of them for a disjunction, and
/// `None` where the request may have any.
fn keys<'r, K>(node: &'r Node, key: &impl Fn(&'r Matcher) -> Option<K>) -> Option<Vec<K>> {
    match node {
        Node::Leaf { negated: true, .. } => None,
        Node::Leaf { matcher, .. } => key(matcher).map(|key| vec![key]),
        Node::All(nodes) => nodes
            .iter()
            .filter_map(|node| keys(node, key))
            .min_by_key(Vec::len),
        Node::Any(nodes) => {
            let mut all = Vec::with_capacity(nodes.len());
            for node in nodes {
                all.append(&mut keys(node, key)?);
            }
            Some(all)
        }
    }
}

fn host_key(matcher: &Matcher) -> Option<HostKey<'_>> {
    let Matcher::Host(host) = matcher else {
        return None;
    };
    match host.form {
        HostForm::Everything => None,
        HostForm::Exact => Some(HostKey::Exact(host.text.trim_end_matches('.'))),
        HostForm::Wildcard => Some(HostKey::Wildcard(host.text[1..].trim_end_matches('.'))),
    }
}

fn path_key(matcher: &Matcher) -> Option<PathKey<'_>> {
    match matcher {
        Matcher::Path(path) => Some(PathKey::Exact(path)),
        Matcher::PathPrefix(prefix) => Some(PathKey::Prefix(prefix)),
        _ => None,
    }
}

/// Whether the rule is nothing but a choice of hosts, none of them written with a trailing dot.
fn only_hosts(node: &Node) -> bool {
    match node {
        Node::Leaf {
            matcher: Matcher::Host(host),
            negated: false,
        } => host.form != HostForm::Everything && !host.text.ends_with('.'),
        Node::Leaf { .. } => false,
        Node::All(nodes) => nodes.len() == 1 && nodes.iter().all(only_hosts),
        Node::Any(nodes) => nodes.iter().all(only_hosts),
    }
}
