//! Every router, and why it won or lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Candidate, Configuration, Outcome};
use crate::{
    config::{Diagnostic, Labelled, Place, routing::Router},
    rule::{Facts, HostCover, HostKey, Rule, Syntax, without_dot},
    snapshot::{EntryPoint, Route},
};

/// All routers as they stand to a request that comes to the entry point with this index, over TLS or not.
pub(super) fn candidates(
    configuration: &Configuration<'_>,
    (index, tls): (usize, bool),
    facts: &Facts<'_>,
    winner: Option<&Arc<Route>>,
) -> Vec<Candidate> {
    let entry_point = &configuration.snapshot.entry_points[index];
    let mut survey = Survey {
        configuration,
        facts,
        winner,
        seen: BTreeSet::new(),
        written: configuration
            .written
            .routers()
            .into_iter()
            .map(|(name, _)| name)
            .collect(),
        told: BTreeSet::new(),
        candidates: Vec::new(),
    };
    let (asked, other) = match tls {
        true => (&entry_point.secure, &entry_point.plain),
        false => (&entry_point.plain, &entry_point.secure),
    };
    for (rule, route) in asked.rules() {
        survey.compare(rule, route);
    }
    let scheme = match tls {
        true => "takes only requests without TLS",
        false => "takes only requests over TLS",
    };
    for (rule, route) in other.rules() {
        survey.elsewhere(rule, route, Outcome::OtherScheme, scheme);
    }
    survey.refused();
    for other in &configuration.snapshot.entry_points {
        let reason = format!(
            "serves on the entry point `{}`, not on `{}`",
            other.name, entry_point.name
        );
        for (rule, route) in other.plain.rules().chain(other.secure.rules()) {
            // What has been told of a router need not be told of its copies.
            if !survey.is_told(route) {
                survey.elsewhere(rule, route, Outcome::OtherEntryPoint, &reason);
            }
        }
    }
    survey.candidates
}

struct Survey<'a> {
    configuration: &'a Configuration<'a>,
    facts: &'a Facts<'a>,
    winner: Option<&'a Arc<Route>>,
    /// Indices of routes that have been spoken of.
    seen: BTreeSet<u32>,
    /// Names of routers as they were written, sorted, and those that have been spoken of.
    written: Vec<&'a str>,
    told: BTreeSet<String>,
    candidates: Vec<Candidate>,
}

impl Survey<'_> {
    /// A router that was asked.
    fn compare(&mut self, rule: &Rule, index: u32) {
        let Some(route) = self.route(index) else {
            return;
        };
        let (outcome, reason) = match (rule.why_not(self.facts), self.winner) {
            (Some(reason), _) => (Outcome::NoMatch, reason.to_string()),
            (None, Some(winner)) if !Arc::ptr_eq(winner, &route) => {
                (Outcome::Outranked, outranked(&route, winner))
            }
            (None, _) => (Outcome::Wins, "matches".to_owned()),
        };
        self.add(rule, &route, outcome, reason);
    }

    /// A router that was not asked.
    fn elsewhere(&mut self, rule: &Rule, index: u32, outcome: Outcome, reason: &str) {
        let Some(route) = self.route(index) else {
            return;
        };
        let reason = match rule.why_not(self.facts) {
            None => format!("{reason}; its rule would match"),
            Some(_) => reason.to_owned(),
        };
        self.add(rule, &route, outcome, reason);
    }

    /// Routers that do not serve anywhere.
    fn refused(&mut self) {
        let mut errors = errors(self.configuration.diagnostics);
        let doors = &self.configuration.snapshot.entry_points;
        let mounted: BTreeSet<&str> = self
            .configuration
            .snapshot
            .routes
            .iter()
            .map(|route| &*route.name)
            .collect();
        for (name, router) in self.configuration.written.routers() {
            let reasons = errors.remove(name);
            if !is_mounted(name, &mounted, doors) {
                let candidate =
                    self.refusal(name, Some(router), reasons.as_deref().unwrap_or_default());
                self.candidates.push(candidate);
            }
        }
        for (name, reasons) in errors {
            if !is_mounted(&name, &mounted, doors) {
                let candidate = self.refusal(&name, None, &reasons);
                self.candidates.push(candidate);
            }
        }
    }

    fn refusal(&self, name: &str, router: Option<&Router>, reasons: &[String]) -> Candidate {
        let rule = router
            .map(|router| router.rule.as_str())
            .unwrap_or_default();
        let syntax = Syntax::from_name(
            router
                .map(|router| router.rule_syntax.as_str())
                .unwrap_or_default(),
        );
        let parsed = Rule::parse(rule, syntax).ok();
        let mut reason = match reasons {
            [] => "does not serve".to_owned(),
            reasons => format!("does not serve: {}", reasons.join("; ")),
        };
        if parsed
            .as_ref()
            .is_some_and(|parsed| parsed.rule.matches(self.facts))
        {
            reason.push_str("; its rule would match");
        }
        Candidate {
            router: name.to_owned(),
            rule: rule.to_owned(),
            priority: None,
            outcome: Outcome::Refused,
            reason,
            // Nobody knows what an unreadable rule meant.
            near: parsed.is_none_or(|parsed| self.is_near(&parsed.rule)),
        }
    }

    /// Whether the router that this route comes from has been spoken of.
    fn is_told(&self, index: u32) -> bool {
        let routes = &self.configuration.snapshot.routes;
        let route = usize::try_from(index).ok().and_then(|at| routes.get(at));
        route.is_some_and(|route| self.told.contains(self.written_as(&route.name)))
    }

    /// The name of the router that a route comes from: entry points that add something to their routers have copies of them.
    fn written_as<'n>(&self, name: &'n str) -> &'n str {
        let doors = self.configuration.snapshot.entry_points.iter();
        let copied = doors.filter_map(|door| {
            let of_door = |name: &'n str| name.strip_prefix(&*door.name)?.strip_prefix('-');
            let rest = of_door(name)?;
            let rest = rest.strip_prefix("conflicted-").unwrap_or(rest);
            Some(of_door(rest).unwrap_or(rest))
        });
        let written = self.written.as_slice();
        let is_written = |name: &&str| written.binary_search(name).is_ok();
        if is_written(&name) {
            return name;
        }
        copied.into_iter().find(is_written).unwrap_or(name)
    }

    /// The route, if it has not been spoken of.
    fn route(&mut self, index: u32) -> Option<Arc<Route>> {
        let routes = &self.configuration.snapshot.routes;
        let route = routes.get(usize::try_from(index).ok()?)?;
        self.seen.insert(index).then(|| Arc::clone(route))
    }

    fn add(&mut self, rule: &Rule, route: &Route, outcome: Outcome, reason: String) {
        self.told.insert(self.written_as(&route.name).to_owned());
        self.candidates.push(Candidate {
            router: route.name.to_string(),
            rule: route.rule.to_string(),
            priority: Some(route.priority),
            outcome,
            reason,
            near: self.is_near(rule),
        });
    }

    /// Whether the host would do.
    fn is_near(&self, rule: &Rule) -> bool {
        let host = without_dot(self.facts.host);
        match rule.host_cover() {
            HostCover::Everything => true,
            HostCover::Keys { keys, .. } => keys.iter().any(|key| match key {
                HostKey::Exact(exact) => *exact == host,
                HostKey::Wildcard(tail) => host
                    .split_once('.')
                    .is_some_and(|(_, rest)| tail.trim_start_matches('.') == rest),
            }),
        }
    }
}

fn outranked(route: &Route, winner: &Route) -> String {
    match route.priority == winner.priority {
        true => format!(
            "matches too, but {} has the same priority and goes first by provider or name",
            winner.name
        ),
        false => format!(
            "matches too, but its priority {} is below {} of {}",
            route.priority, winner.priority, winner.name
        ),
    }
}

/// Whether a router serves anywhere, be it under the name of an entry point's copy.
fn is_mounted(name: &str, routes: &BTreeSet<&str>, doors: &[EntryPoint]) -> bool {
    let copies = |door: &EntryPoint| {
        let door = &door.name;
        [
            format!("{door}-{name}"),
            format!("{door}-conflicted-{name}"),
            format!("{door}-conflicted-{door}-{name}"),
        ]
    };
    routes.contains(name)
        || doors
            .iter()
            .flat_map(copies)
            .any(|copy| routes.contains(&*copy))
}

/// Errors of routers by their qualified names.
fn errors(diagnostics: &[Diagnostic]) -> BTreeMap<String, Vec<String>> {
    let mut errors = BTreeMap::<String, Vec<String>>::new();
    for diagnostic in diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
    {
        if let Some(name) = router_name(diagnostic) {
            let hint = diagnostic
                .hint
                .as_ref()
                .map(|hint| format!(" ({hint})"))
                .unwrap_or_default();
            let reason = format!("{}{hint} [{}]", diagnostic.message, diagnostic.place);
            let reasons = errors.entry(name).or_default();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
    errors
}

/// The router that a finding is about. Findings of a provider name it without the provider.
fn router_name(diagnostic: &Diagnostic) -> Option<String> {
    let rest = diagnostic.path.strip_prefix("http.routers.")?;
    let until = |rest: &str| rest.find('.').unwrap_or(rest.len());
    Some(match (rest.find('@'), &diagnostic.place) {
        (Some(at), _) => rest[..at + until(&rest[at..])].to_owned(),
        (None, Place::Label { of, .. }) => {
            let provider = match of {
                Labelled::Container(_) => "docker",
                Labelled::Service(_) => "swarm",
            };
            format!("{}@{provider}", &rest[..until(rest)])
        }
        (None, _) => format!("{}@file", &rest[..until(rest)]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_name_routers_with_their_provider() {
        let whole = |of: Labelled| of.whole();
        let file = Place::whole_file("a.yml");
        let container = || whole(Labelled::Container("c".into()));
        for (place, path, expected) in [
            (container(), "http.routers.app.rule", Some("app@docker")),
            (container(), "http.routers.app@file.rule", Some("app@file")),
            (
                whole(Labelled::Service("s".into())),
                "http.routers.app.rule",
                Some("app@swarm"),
            ),
            (file, "http.routers.app", Some("app@file")),
            (container(), "http.services.app", None),
        ] {
            let found = Diagnostic::error(place, path, "wrong");
            assert_eq!(router_name(&found).as_deref(), expected, "{found}");
        }
    }
}
