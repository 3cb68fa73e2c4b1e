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

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Conflicted, Kept, NoHost};

    type Case = (
        &'static [&'static str],
        bool,
        &'static [Verdict],
        &'static str,
    );

    /// `claims`: `host host ...=options`; returns the verdicts and `host=options ...`.
    fn settle(claims: &[&str], strict: bool) -> (Vec<Verdict>, String) {
        let owned = |hosts: &str| hosts.split_whitespace().map(str::to_owned).collect();
        let split: Vec<(Vec<_>, _)> = claims
            .iter()
            .map(|claim| claim.split_once('=').unwrap())
            .map(|(hosts, options)| (owned(hosts), options))
            .collect();
        let claims: Vec<_> = split
            .iter()
            .map(|(hosts, options)| Claim { hosts, options })
            .collect();
        let agreement = agree(&claims, strict);
        let hosts: Vec<_> = agreement
            .host_options()
            .map(|(host, options)| format!("{host}={options}"))
            .collect();
        (agreement.verdicts, hosts.join(" "))
    }

    #[test]
    fn settles_hosts_and_routers() {
        let cases: [Case; 9] = [
            (
                &["a=x", "a=x", "b=y"],
                false,
                &[Kept, Kept, Kept],
                "a=x b=y",
            ),
            (
                &["a=x", "a=y"],
                false,
                &[Conflicted, Conflicted],
                "a=default",
            ),
            // A router that asked for the default is part of the conflict, and renamed with the others.
            (
                &["a=default", "a=y"],
                false,
                &[Conflicted, Conflicted],
                "a=default",
            ),
            // A conflict on one host moves the router on all its hosts.
            (
                &["a b=x", "b=y"],
                false,
                &[Conflicted, Conflicted],
                "a=default b=default",
            ),
            // And with it the routers that share those.
            (
                &["a b=x", "b=y", "a c=x", "c=default"],
                false,
                &[Conflicted, Conflicted, Conflicted, Conflicted],
                "a=default b=default c=default",
            ),
            // Disabled routers have no say on other hosts.
            (
                &["a b=x", "b=y", "a=x"],
                true,
                &[Conflicted, Conflicted, Kept],
                "a=x b=default",
            ),
            (&["=x", "=default"], false, &[NoHost, Kept], ""),
            (&["*.a=x", "b.a=y"], false, &[Kept, Kept], "*.a=x b.a=y"),
            (&["a a=x"], false, &[Kept], "a=x"),
        ];
        for (claims, strict, verdicts, hosts) in cases {
            let settled = settle(claims, strict);
            assert_eq!(settled.0, verdicts, "{claims:?}");
            assert_eq!(settled.1, hosts, "{claims:?}");
        }
    }

    #[test]
    fn names_who_is_at_odds() {
        let hosts = ["a".to_owned()];
        let claim = |options| Claim {
            hosts: &hosts,
            options,
        };
        let agreement = agree(&[claim("x"), claim("y"), claim("x")], false);
        let conflict = Conflict {
            host: "a".to_owned(),
            claims: vec![0, 1, 2],
        };
        assert_eq!(agreement.conflicts, [conflict]);
    }
}
