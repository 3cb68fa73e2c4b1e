//! Decides what to order when: fed with time, demands and certificates, it asks nobody and waits for nothing.

use std::collections::BTreeSet;

use super::{
    limits::{Limits, Wait},
    memory::{Memory, key_of},
};

/// A certificate that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The names it is good for.
    pub(super) names: Vec<String>,
    /// SHA-256 of it, lower-case hexadecimal.
    pub(super) fingerprint: String,
    /// When to replace it, in seconds since 1970; never for one that is somebody else's business.
    pub(super) renew_at: Option<i64>,
}

impl Held {
    /// Whether it is good for `name`.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|own| covers(own, name))
    }
}

/// A certificate to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    /// The names to order, the main one first.
    pub(super) names: Vec<String>,
    /// From when on it is to be ordered.
    pub(super) due: i64,
    /// Whether a certificate for exactly these names is there.
    pub(super) renewal: bool,
}

/// What to do about one need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Order now.
    Order,
    /// Nothing until then.
    Sleep(i64),
    /// It is due, but the authority's limits do not allow it.
    Hold(Wait),
}

/// What has to be ordered sooner or later so that every demand is met. Names that a certificate covers are not ordered again, nor are
/// sets that another one covers.
pub(super) fn needs(demands: &[Vec<String>], held: &[Held]) -> Vec<Need> {
    let mut widest: Vec<&Vec<String>> = demands.iter().collect();
    widest.sort_by_key(|names| {
        (
            std::cmp::Reverse(names.len()),
            !names.iter().any(|n| n.starts_with("*.")),
        )
    });
    let mut chosen: Vec<&Vec<String>> = Vec::new();
    for names in widest {
        let covered = |name: &String| {
            chosen
                .iter()
                .any(|set| set.iter().any(|own| covers(own, name)))
        };
        if !names.iter().all(covered) {
            chosen.push(names);
        }
    }
    chosen
        .into_iter()
        .filter_map(|names| need(names, held))
        .collect()
}

fn need(names: &[String], held: &[Held]) -> Option<Need> {
    let set: BTreeSet<&String> = names.iter().collect();
    let exact =
        |one: &Held| one.renew_at.is_some() && one.names.iter().collect::<BTreeSet<_>>() == set;
    let mut due: Option<i64> = None;
    for name in names {
        let covering: Vec<&Held> = held.iter().filter(|one| one.covers(name)).collect();
        if covering.iter().any(|one| one.renew_at.is_none()) {
            continue;
        }
        // The one that lasts longest decides; without any it is due at once.
        let this = covering
            .iter()
            .filter_map(|one| one.renew_at)
            .max()
            .unwrap_or(i64::MIN);
        due = Some(due.map_or(this, |due| due.min(this)));
    }
    Some(Need {
        names: names.to_owned(),
        due: due?,
        renewal: held.iter().any(exact),
    })
}

/// What to do about `need` at `now`.
pub(super) fn step(need: &Need, memory: &Memory, limits: &Limits, now: i64) -> Step {
    let key = key_of(&need.names);
    let attempts = &memory.attempts;
    let pauses = [attempts.get(&key), attempts.get("")];
    let pauses = pauses.into_iter().flatten().map(|attempts| attempts.next);
    let at = pauses.fold(need.due, i64::max);
    if at > now {
        return Step::Sleep(at);
    }
    // An order that the authority has accepted costs nothing more.
    if memory.orders.contains_key(&key) {
        return Step::Order;
    }
    match memory.ledger.wait(limits, &need.names, need.renewal, now) {
        Some(wait) => Step::Hold(wait),
        None => Step::Order,
    }
}

/// When to replace a certificate that is valid from `start` to `end`: with a third of its life left, or a little earlier, so that not all
/// that were issued together are replaced together. `chance` is any number that stays the same for the certificate.
pub(super) fn renew_at(start: i64, end: i64, chance: u64) -> i64 {
    let life = end.saturating_sub(start).max(0);
    let spread = u64::try_from(life / 20).unwrap_or_default() + 1;
    let early = i64::try_from(chance % spread).unwrap_or_default();
    end - life / 3 - early
}

/// Whether a certificate for `own` is good for `name`.
pub(super) fn covers(own: &str, name: &str) -> bool {
    if own == name {
        return true;
    }
    let rest = own.strip_prefix("*.");
    rest.is_some_and(|rest| {
        name.split_once('.')
            .is_some_and(|(first, tail)| tail == rest && first != "*")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::{
        limits::Event,
        memory::{Attempts, OpenOrder},
    };

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn held(list: &[&str], renew_at: i64) -> Held {
        Held {
            names: names(list),
            fingerprint: String::new(),
            renew_at: Some(renew_at),
        }
    }

    fn shown(needs: &[Need]) -> Vec<String> {
        let mut shown: Vec<String> = needs
            .iter()
            .map(|need| {
                let due = if need.due == i64::MIN {
                    "now".to_owned()
                } else {
                    need.due.to_string()
                };
                let how = if need.renewal { "again" } else { "new" };
                format!("{} {due} {how}", need.names.join("+"))
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn covered_names_are_not_ordered_again() {
        let theirs = Held {
            names: names(&["*.files.test"]),
            fingerprint: String::new(),
            renew_at: None,
        };
        let held = [
            held(&["a.test"], 100),
            held(&["c.test", "d.test"], 50),
            theirs,
        ];
        for (demands, expected) in [
            (vec![names(&["a.test"])], vec!["a.test 100 again"]),
            (vec![names(&["b.test"])], vec!["b.test now new"]),
            (
                vec![names(&["a.test", "b.test"])],
                vec!["a.test+b.test now new"],
            ),
            (
                vec![names(&["a.test", "c.test"])],
                vec!["a.test+c.test 50 new"],
            ),
            (
                vec![names(&["d.test", "c.test"])],
                vec!["d.test+c.test 50 again"],
            ),
            (vec![names(&["x.files.test"])], vec![]),
            (
                vec![names(&["x.files.test", "a.test"])],
                vec!["x.files.test+a.test 100 new"],
            ),
            (
                vec![names(&["x.y.files.test"])],
                vec!["x.y.files.test now new"],
            ),
            // One order for what another set covers.
            (
                vec![names(&["e.test"]), names(&["e.test", "f.test"])],
                vec!["e.test+f.test now new"],
            ),
            (
                vec![names(&["x.g.test"]), names(&["*.g.test"])],
                vec!["*.g.test now new"],
            ),
            (vec![], vec![]),
        ] {
            assert_eq!(shown(&needs(&demands, &held)), expected, "{demands:?}");
        }
    }

    #[test]
    fn the_longest_lasting_certificate_decides() {
        let held = [held(&["a.test"], 100), held(&["a.test", "b.test"], 300)];
        assert_eq!(
            shown(&needs(&[names(&["a.test"])], &held)),
            ["a.test 300 again"]
        );
    }

    #[test]
    fn steps() {
        let need = Need {
            names: names(&["a.test"]),
            due: 100,
            renewal: false,
        };
        let limits = Limits::of("https://ca/dir");
        let mut memory = Memory::default();
        assert_eq!(step(&need, &memory, &limits, 99), Step::Sleep(100));
        assert_eq!(step(&need, &memory, &limits, 100), Step::Order);
        memory.attempts.insert(
            "a.test".to_owned(),
            Attempts {
                next: 200,
                ..Attempts::default()
            },
        );
        assert_eq!(step(&need, &memory, &limits, 100), Step::Sleep(200));
        // Without an account nothing can be ordered.
        memory.attempts.insert(
            String::new(),
            Attempts {
                next: 300,
                ..Attempts::default()
            },
        );
        assert_eq!(step(&need, &memory, &limits, 200), Step::Sleep(300));
        memory.attempts.clear();
        for at in 100..105 {
            memory.ledger.note(at, Event::Failed, &need.names);
        }
        assert!(
            matches!(step(&need, &memory, &limits, 110), Step::Hold(wait) if wait.until == 3700)
        );
        memory
            .orders
            .insert("a.test".to_owned(), OpenOrder::default());
        assert_eq!(step(&need, &memory, &limits, 110), Step::Order);
    }

    #[test]
    fn renewal_with_a_third_of_the_life_left() {
        let day = 86_400;
        for (life, chance, expected) in [
            (90 * day, 0, 60 * day),
            (90 * day, 1000, 60 * day - 1000),
            (6 * day, 0, 4 * day),
            (300, 7, 193),
            (0, 5, 0),
        ] {
            assert_eq!(renew_at(0, life, chance), expected, "{life} {chance}");
        }
        for chance in 0..1000 {
            let at = renew_at(0, 90 * day, chance * 99_991);
            assert!((55 * day..=60 * day).contains(&at), "{at}");
        }
    }
}
