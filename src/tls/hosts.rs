//! Which TLS options each host of an entry point is served with, and what that means for routers that disagree.
//!
//! The options of a handshake are chosen by server name alone, so the routers of one host have to share them. This is pure: it
//! returns a verdict for every router, and compile applies it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::options::DEFAULT_OPTIONS;

/// What one TLS router of the entry point asks for.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// Hosts its rule matches positively, lower-case, wildcards included; empty for a rule without any.
    pub hosts: &'a [String],
    /// Qualified name of its TLS options, or `default`.
    pub options: &'a str,
}

/// What becomes of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Served with the options it asked for.
    Kept,
    /// Served with the default options and renamed `<entry point>-conflicted-<name>`; worth a warning if it asked for others.
    Conflicted,
    /// As `Conflicted`, because its rule names no host to choose options by.
    NoHost,
}

/// Routers that share a host and ask for different options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The host.
    pub host: String,
    /// Positions of the claims.
    pub claims: Vec<usize>,
}

/// What the routers of an entry point were found to agree on.
#[derive(Debug, Default)]
pub struct Agreement {
    /// One for each claim, in order.
    pub verdicts: Vec<Verdict>,
    /// The options each host is served with, for [`super::Tls::sni_table`].
    pub hosts: BTreeMap<String, Arc<str>>,
    /// For the log: who is at odds with whom.
    pub conflicts: Vec<Conflict>,
}

impl Agreement {
    /// The options each host is served with.
    pub fn host_options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts
            .iter()
            .map(|(host, options)| (&**host, &**options))
    }
}

/// Settles the options of every host.
///
/// A host whose routers ask for different options is served with the default ones, and so are those routers, on all their hosts.
/// A router that falls back takes the other routers of its hosts along, because one host has one answer. With `strict`
/// (`core.strictTLSOptions`) a router that does not keep its options is to be disabled instead, so it has no say on other hosts.
pub fn agree(claims: &[Claim<'_>], strict: bool) -> Agreement {
    let mut by_host: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (position, claim) in claims.iter().enumerate() {
        for host in claim.hosts.iter().collect::<BTreeSet<_>>() {
            by_host.entry(host).or_default().push(position);
        }
    }
    let mut verdicts: Vec<_> = claims.iter().map(hostless).collect();
    let disputed = disputes(claims, &by_host);
    let conflicts = disputed.iter().map(|host| Conflict {
        host: (*host).to_owned(),
        claims: by_host[host].clone(),
    });
    let conflicts: Vec<_> = conflicts.collect();
    for position in conflicts.iter().flat_map(|conflict| &conflict.claims) {
        verdicts[*position] = Verdict::Conflicted;
    }
    if !strict {
        spread(claims, &by_host, &mut verdicts);
    }
    let default: Arc<str> = DEFAULT_OPTIONS.into();
    let hosts = by_host.iter().map(|(host, positions)| {
        let keeper = positions
            .iter()
            .find(|position| verdicts[**position] == Verdict::Kept);
        let options = keeper.map_or_else(
            || Arc::clone(&default),
            |keeper| claims[*keeper].options.into(),
        );
        ((*host).to_owned(), options)
    });
    Agreement {
        hosts: hosts.collect(),
        verdicts,
        conflicts,
    }
}

fn hostless(claim: &Claim<'_>) -> Verdict {
    if claim.hosts.is_empty() && claim.options != DEFAULT_OPTIONS {
        Verdict::NoHost
    } else {
        Verdict::Kept
    }
}

fn disputes<'a>(claims: &[Claim<'_>], by_host: &BTreeMap<&'a str, Vec<usize>>) -> Vec<&'a str> {
    by_host
        .iter()
        .filter(|(_, positions)| {
            let first = claims[positions[0]].options;
            positions
                .iter()
                .any(|position| claims[*position].options != first)
        })
        .map(|(host, _)| *host)
        .collect()
}

/// Until nothing changes: whoever shares a host with a router on default options, and asked for others, falls back too.
fn spread(claims: &[Claim<'_>], by_host: &BTreeMap<&str, Vec<usize>>, verdicts: &mut [Verdict]) {
    let mut queue: Vec<usize> = (0..claims.len())
        .filter(|position| verdicts[*position] == Verdict::Conflicted)
        .collect();
    while let Some(position) = queue.pop() {
        for other in claims[position]
            .hosts
            .iter()
            .flat_map(|host| &by_host[host.as_str()])
        {
            if verdicts[*other] == Verdict::Kept && claims[*other].options != DEFAULT_OPTIONS {
                verdicts[*other] = Verdict::Conflicted;
                queue.push(*other);
            }
        }
    }
}
