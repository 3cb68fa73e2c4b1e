//! Which route a request takes: the rules of one entry point in the order in which they are tried, and an index that
//! makes trying all but a few of them unnecessary.
//!
//! The result is always that of trying every rule in order (highest priority, then provider rank, then name) and
//! taking the first that matches. The index only leaves out rules that cannot match: a rule that demands one of some
//! hosts is filed under each of them, by exact name or by wildcard, all others under "any"; within one such list,
//! rules that demand a path or prefix are filed under that.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::rule::{Facts, HostCover, HostKey, PathCover, PathKey, Rule};

/// The routing table of one entry point.
#[derive(Debug, Default)]
pub struct Table {
    /// In the order of precedence. Everything below refers to it by position.
    slots: Vec<Slot>,
    exact: HostMap,
    /// By what follows the first label, with its dot.
    wildcard: HostMap,
    any: Candidates,
}

impl Table {
    /// Sorts the entries and builds the index. The hash is seeded anew for each table.
    pub fn new(mut entries: Vec<Entry<'_>>) -> Self {
        entries.sort_by(|left, right| {
            let by_priority = right.priority.cmp(&left.priority);
            by_priority
                .then(left.rank.cmp(&right.rank))
                .then(left.name.cmp(right.name))
        });
        let mut table = Self {
            exact: HostMap::with_capacity_and_hasher(entries.len(), RandomState::default()),
            ..Self::default()
        };
        for (position, entry) in (0..).zip(&entries) {
            table.file(position, entry);
        }
        table.slots = entries
            .into_iter()
            .map(|entry| Slot {
                rule: entry.rule,
                route: entry.route,
            })
            .collect();
        let lists = table
            .exact
            .values_mut()
            .chain(table.wildcard.values_mut())
            .chain([&mut table.any]);
        lists.for_each(|list| list.index_paths(&table.slots));
        table
    }

    /// The route of the first rule that matches.
    pub fn find(&self, facts: &Facts<'_>) -> Option<u32> {
        let host = facts.host.trim_end_matches('.');
        // With two dots at its end a host is no longer the one that its key stands for, so every rule has to be asked.
        let exact_keys = facts.host.len() - host.len() < 2;
        let mut search = Search {
            slots: &self.slots,
            facts,
            exact_keys,
            best: u32::MAX,
            route: None,
        };
        if !facts.host.is_empty() {
            if let Some(candidates) = self.exact.get(host) {
                search.candidates(candidates);
            }
            if !self.wildcard.is_empty()
                && let Some(dot) = host.find('.')
                && let Some(candidates) = self.wildcard.get(&host[dot..])
            {
                search.candidates(candidates);
            }
        }
        search.candidates(&self.any);
        search.route
    }

    /// All rules and their routes in the order of precedence.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = (&Rule, u32)> {
        self.slots.iter().map(|slot| (&slot.rule, slot.route))
    }

    fn file(&mut self, position: u32, entry: &Entry<'_>) {
        let route = entry.route;
        match entry.rule.host_cover() {
            HostCover::Everything => self.any.push(Candidate {
                position,
                route,
                certain: false,
            }),
            HostCover::Keys { keys, sufficient } => {
                let candidate = Candidate {
                    position,
                    route,
                    certain: sufficient,
                };
                for key in keys {
                    match key {
                        HostKey::Exact(host) => push(&mut self.exact, host, candidate),
                        HostKey::Wildcard(tail) => push(&mut self.wildcard, tail, candidate),
                    }
                }
            }
        }
    }
}

/// One router as the table takes it.
#[derive(Debug)]
pub struct Entry<'a> {
    pub rule: Rule,
    pub priority: i64,
    /// Precedence of the router's provider among equal priorities; the lowest goes first.
    pub rank: u32,
    /// Decides what priority and rank leave open, so that equal configurations route equally.
    pub name: &'a str,
    /// What [`Table::find`] answers.
    pub route: u32,
}

type HostMap = HashMap<Box<str>, Candidates, RandomState>;

#[derive(Debug)]
struct Slot {
    rule: Rule,
    route: u32,
}

/// A rule that may match.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    position: u32,
    /// Repeated from the slot, so that a certain match need not touch it.
    route: u32,
    /// Being filed here is proof enough: the rule asks for nothing but the host.
    certain: bool,
}

/// The rules filed under one host, in the order of precedence.
#[derive(Debug)]
enum Candidates {
    /// The usual case, without an allocation of its own.
    One(Candidate),
    Few(Vec<Candidate>),
    ByPath(Box<ByPath>),
}

impl Default for Candidates {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Candidates {
    /// Adds a candidate of lower precedence than all before; a rule that names a host twice is filed once.
    fn push(&mut self, candidate: Candidate) {
        match self {
            Self::One(first) if first.position != candidate.position => {
                *self = Self::Few(vec![*first, candidate])
            }
            Self::Few(list)
                if list
                    .last()
                    .is_none_or(|last| last.position != candidate.position) =>
            {
                list.push(candidate)
            }
            Self::One(_) | Self::Few(_) | Self::ByPath(_) => {}
        }
    }

    fn index_paths(&mut self, slots: &[Slot]) {
        if let Self::Few(list) = self
            && list.len() > UNINDEXED
        {
            *self = Self::ByPath(Box::new(ByPath::new(list, slots)));
        }
    }
}

/// The rules of one host by the path they demand.
#[derive(Debug)]
struct ByPath {
    /// Sorted by path.
    nodes: Vec<PathNode>,
    /// Rules that demand no particular path.
    rest: Vec<Candidate>,
}

#[derive(Debug)]
struct PathNode {
    path: Box<str>,
    /// The node of the longest path that is a proper prefix of this one and has rules for prefixes.
    parent: Option<usize>,
    exact: Vec<Candidate>,
    prefix: Vec<Candidate>,
}

impl ByPath {
    fn new(list: &[Candidate], slots: &[Slot]) -> Self {
        let mut rest = Vec::new();
        let mut by_path = BTreeMap::<&str, PathLists>::new();
        for candidate in list {
            let slot = usize::try_from(candidate.position)
                .ok()
                .and_then(|position| slots.get(position));
            match slot.map_or(PathCover::Everything, |slot| slot.rule.path_cover()) {
                PathCover::Everything => rest.push(*candidate),
                PathCover::Keys(keys) => {
                    for key in keys {
                        match key {
                            PathKey::Exact(path) => {
                                by_path.entry(path).or_default().exact.push(*candidate)
                            }
                            PathKey::Prefix(path) => {
                                by_path.entry(path).or_default().prefix.push(*candidate)
                            }
                        }
                    }
                }
            }
        }
        Self {
            nodes: nodes(by_path),
            rest,
        }
    }
}

#[derive(Default)]
struct PathLists {
    exact: Vec<Candidate>,
    prefix: Vec<Candidate>,
}

/// One lookup. The lists are tried in any order: a rule is asked only if it precedes the best match so far.
struct Search<'t> {
    slots: &'t [Slot],
    facts: &'t Facts<'t>,
    exact_keys: bool,
    /// Position of the best match so far.
    best: u32,
    route: Option<u32>,
}

impl Search<'_> {
    fn candidates(&mut self, candidates: &Candidates) {
        match candidates {
            Candidates::One(candidate) => self.list(std::slice::from_ref(candidate)),
            Candidates::Few(list) => self.list(list),
            Candidates::ByPath(index) => self.by_path(index),
        }
    }

    /// Every path that is a prefix of the request's is on the chain of parents from the last node not behind it.
    fn by_path(&mut self, index: &ByPath) {
        let path = self.facts.path;
        let behind = index.nodes.partition_point(|node| *node.path <= *path);
        let mut next = behind.checked_sub(1).and_then(|last| index.nodes.get(last));
        if let Some(node) = next
            && *node.path == *path
        {
            self.list(&node.exact);
        }
        while let Some(node) = next {
            if path.as_bytes().starts_with(node.path.as_bytes()) {
                self.list(&node.prefix);
            }
            next = node.parent.and_then(|parent| index.nodes.get(parent));
        }
        self.list(&index.rest);
    }

    fn list(&mut self, list: &[Candidate]) {
        for candidate in list {
            if candidate.position >= self.best {
                return;
            }
            if (candidate.certain && self.exact_keys) || self.asks(candidate.position) {
                self.best = candidate.position;
                self.route = Some(candidate.route);
                return;
            }
        }
    }

    fn asks(&self, position: u32) -> bool {
        let slot = usize::try_from(position)
            .ok()
            .and_then(|position| self.slots.get(position));
        slot.is_some_and(|slot| slot.rule.matches(self.facts))
    }
}

fn push(map: &mut HostMap, host: &str, candidate: Candidate) {
    match map.get_mut(host) {
        Some(list) => list.push(candidate),
        None => {
            map.insert(host.into(), Candidates::One(candidate));
        }
    }
}

/// Lays the lists out in order and links each path to the next shorter prefix.
fn nodes(by_path: BTreeMap<&str, PathLists>) -> Vec<PathNode> {
    let mut nodes = Vec::<PathNode>::with_capacity(by_path.len());
    let mut open = Vec::<usize>::new();
    for (path, mut lists) in by_path {
        lists.exact.dedup_by_key(|candidate| candidate.position);
        lists.prefix.dedup_by_key(|candidate| candidate.position);
        while let Some(&top) = open.last()
            && !path.starts_with(&*nodes[top].path)
        {
            open.pop();
        }
        let parent = open.last().copied();
        if !lists.prefix.is_empty() {
            open.push(nodes.len());
        }
        nodes.push(PathNode {
            path: path.into(),
            parent,
            exact: lists.exact,
            prefix: lists.prefix,
        });
    }
    nodes
}

/// Lists of up to this length are tried one by one: that is faster than finding the path.
const UNINDEXED: usize = 8;

#[cfg(test)]
mod tests;
