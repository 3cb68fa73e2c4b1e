//! Routers of different groups that take the very same requests. Which of two is asked first would depend on their names, and those are
//! free to choose: whoever was first has the rule.

use std::{collections::HashMap, sync::Arc};

use crate::config::routing::Router;

/// The rules that are taken. Asking costs the same however many routers have one rule.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    claims: HashMap<Requests, Claims>,
    count: usize,
}

/// What a router takes, but for its entry points.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Requests {
    rule: String,
    priority: i64,
    tls: bool,
    syntax: String,
}

/// Who takes some requests.
#[derive(Debug, Default)]
struct Claims {
    /// The first of each group.
    groups: Vec<Claim>,
    /// The first on each entry point.
    doors: HashMap<String, Claim>,
    /// The first that takes them on whatever entry points there are by default.
    anywhere: Option<Claim>,
}

/// The name of a router, and whose it is.
#[derive(Debug, Clone)]
struct Claim {
    number: usize,
    group: Arc<str>,
    name: String,
}

impl Rivals {
    /// The router of another group that was first to take what this one would take.
    pub(super) fn of(&self, router: &Router, group: &str) -> Option<&str> {
        let claims = self.claims.get(&Requests::of(router))?;
        let first = match router.entry_points.as_slice() {
            [] => claims.groups.iter().find(|claim| &*claim.group != group),
            doors => {
                let doors = doors.iter().filter_map(|door| claims.doors.get(door));
                let others = doors.chain(&claims.anywhere);
                let others = others.filter(|claim| &*claim.group != group);
                others.min_by_key(|claim| claim.number)
            }
        };
        first.map(|claim| claim.name.as_str())
    }

    /// A router is in force.
    pub(super) fn take(&mut self, name: &str, router: &Router, group: &Arc<str>) {
        let claims = self.claims.entry(Requests::of(router)).or_default();
        let claim = || Claim {
            number: self.count,
            group: Arc::clone(group),
            name: name.to_owned(),
        };
        if claims.groups.last().is_none_or(|last| last.group != *group) {
            claims.groups.push(claim());
        }
        for door in &router.entry_points {
            if !claims.doors.contains_key(door) {
                claims.doors.insert(door.clone(), claim());
            }
        }
        if router.entry_points.is_empty() && claims.anywhere.is_none() {
            claims.anywhere = Some(claim());
        }
        self.count += 1;
    }
}

impl Requests {
    fn of(router: &Router) -> Self {
        Self {
            rule: router.rule.clone(),
            priority: router.priority,
            tls: router.tls.is_some(),
            syntax: router.rule_syntax.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(rule: &str, doors: &[&str]) -> Router {
        Router {
            rule: rule.to_owned(),
            entry_points: doors.iter().map(|door| (*door).to_owned()).collect(),
            ..Router::default()
        }
    }

    #[test]
    fn whoever_was_first_on_an_entry_point_has_the_rule_there() {
        let mut rivals = Rivals::default();
        for (name, doors, group) in [
            ("a", &["web", "tls"][..], "one"),
            ("b", &["web"], "one"),
            ("c", &["other"], "two"),
        ] {
            rivals.take(name, &router("r", doors), &group.into());
        }
        for (doors, group, expected) in [
            (&["web"][..], "one", None),
            (&["web"], "two", Some("a")),
            (&["other", "tls"], "three", Some("a")),
            (&["other"], "one", Some("c")),
            (&["more"], "three", None),
            (&[], "three", Some("a")),
            (&[], "one", Some("c")),
            (&[], "two", Some("a")),
        ] {
            assert_eq!(
                rivals.of(&router("r", doors), group),
                expected,
                "{doors:?} {group}"
            );
        }
        assert_eq!(rivals.of(&router("s", &[]), "three"), None);
        rivals.take("d", &router("s", &[]), &"one".into());
        assert_eq!(rivals.of(&router("s", &["web"]), "two"), Some("d"));
        let with_priority = Router {
            priority: 7,
            ..router("s", &["web"])
        };
        assert_eq!(rivals.of(&with_priority, "two"), None);
    }

    #[test]
    fn many_routers_of_one_rule_cost_no_more_than_many_rules() {
        let mut rivals = Rivals::default();
        let group = "one".into();
        for number in 0..5_000 {
            let router = router("r", &["web"]);
            assert_eq!(rivals.of(&router, "one"), None);
            rivals.take(&format!("r{number}"), &router, &group);
        }
        let claims = rivals.claims.values().next().unwrap();
        assert_eq!((claims.groups.len(), claims.doors.len()), (1, 1));
        assert_eq!(rivals.of(&router("r", &[]), "two"), Some("r0"));
    }
}
