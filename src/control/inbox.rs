//! The last statement of every provider, and when it may be acted on: a state machine fed with (update, now).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    config::{Diagnostic, definitions::Definitions},
    provider::Update,
};

/// What every provider said last.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Least time between two statements of a provider that are acted on.
    throttle: Duration,
    slots: BTreeMap<Arc<str>, Slot>,
}

/// One provider.
#[derive(Debug, Default)]
struct Slot {
    /// Acted on.
    current: Option<Statement>,
    taken: Option<Instant>,
    /// Not acted on yet, and when the oldest thing in it came.
    waiting: Option<(Statement, Instant)>,
}

/// What a provider wants, and what it found wrong.
#[derive(Debug, Default, PartialEq)]
struct Statement {
    definitions: Definitions,
    diagnostics: Vec<Diagnostic>,
}

impl Inbox {
    /// Waits for `providers`; others may come.
    pub(super) fn new(providers: impl IntoIterator<Item = Arc<str>>, throttle: Duration) -> Self {
        Self {
            throttle,
            slots: providers
                .into_iter()
                .map(|name| (name, Slot::default()))
                .collect(),
        }
    }

    /// Takes an update in. It replaces what the provider said before; if it says the same, nothing happens.
    pub(super) fn put(&mut self, update: Update, now: Instant) {
        let slot = self.slots.entry(Arc::clone(&update.provider)).or_default();
        let mut decoded = update.decoded;
        let statement = Statement {
            diagnostics: std::mem::take(&mut decoded.diagnostics),
            definitions: Definitions::of(&update.provider, decoded),
        };
        let arrived = slot.waiting.take().map_or(now, |(_, arrived)| arrived);
        if slot.current.as_ref() != Some(&statement) {
            slot.waiting = Some((statement, arrived));
        }
    }

    /// Whether every provider that is waited for has said something.
    pub(super) fn is_complete(&self) -> bool {
        self.silent().next().is_none()
    }

    /// The providers that have said nothing yet.
    pub(super) fn silent(&self) -> impl Iterator<Item = &str> {
        let silent = |slot: &Slot| slot.current.is_none() && slot.waiting.is_none();
        let silent = self.slots.iter().filter(move |(_, slot)| silent(slot));
        silent.map(|(name, _)| &**name)
    }

    /// Makes everything current that may be, and tells when the oldest of it arrived; `None` if there is nothing.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let mut oldest = None;
        for (name, slot) in &mut self.slots {
            if slot.due(name, self.throttle).is_some_and(|due| due <= now)
                && let Some((statement, arrived)) = slot.waiting.take()
            {
                slot.current = Some(statement);
                slot.taken = Some(now);
                oldest = Some(oldest.map_or(arrived, |oldest: Instant| oldest.min(arrived)));
            }
        }
        oldest
    }

    /// When [`Inbox::take`] will have something to give; `None` if nothing waits.
    pub(super) fn next(&self) -> Option<Instant> {
        self.slots
            .iter()
            .filter_map(|(name, slot)| slot.due(name, self.throttle))
            .min()
    }

    /// What is wanted now.
    pub(super) fn definitions(&self) -> impl Iterator<Item = &Definitions> {
        self.slots
            .values()
            .filter_map(|slot| Some(&slot.current.as_ref()?.definitions))
    }

    /// What the providers found wrong.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        let current = self.slots.values().filter_map(|slot| slot.current.as_ref());
        current.flat_map(|statement| &statement.diagnostics)
    }
}

impl Slot {
    /// When what waits may be acted on. Some have done their own waiting, or have not much to say.
    fn due(&self, name: &str, throttle: Duration) -> Option<Instant> {
        let (_, arrived) = self.waiting.as_ref()?;
        match self.taken {
            Some(taken) if !UNTHROTTLED.contains(&name) => Some(taken + throttle),
            _ => Some(*arrived),
        }
    }
}

const UNTHROTTLED: [&str; 2] = ["file", "acme"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Routing, routing::Router};

    const THROTTLE: Duration = Duration::from_secs(2);

    fn update(provider: &str, router: &str) -> Update {
        let mut routing = Routing::default();
        routing
            .http
            .routers
            .insert(router.to_owned(), Router::default().into());
        Update {
            provider: provider.into(),
            decoded: routing.into(),
        }
    }

    fn names(inbox: &Inbox) -> Vec<String> {
        let routers = inbox
            .definitions()
            .flat_map(|definitions| definitions.routers.keys());
        routers.map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_update_passes_and_later_ones_collapse_to_the_newest() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut inbox = Inbox::new([Arc::from("docker")], THROTTLE);
        assert!(!inbox.is_complete());
        inbox.put(update("docker", "a"), at(0));
        assert!(inbox.is_complete());
        assert_eq!(inbox.take(at(0)), Some(at(0)));
        for (router, millis) in [("b", 100), ("c", 200)] {
            inbox.put(update("docker", router), at(millis));
        }
        assert_eq!((inbox.take(at(300)), inbox.next()), (None, Some(at(2000))));
        assert_eq!(names(&inbox), ["a@docker"]);
        assert_eq!(
            inbox.take(at(2000)),
            Some(at(100)),
            "the wait counts from the oldest change"
        );
        assert_eq!(names(&inbox), ["c@docker"]);
        assert_eq!(inbox.next(), None);
    }

    #[test]
    fn the_file_provider_is_not_throttled() {
        let start = Instant::now();
        let mut inbox = Inbox::new([], THROTTLE);
        for router in ["a", "b"] {
            inbox.put(update("file", router), start);
            assert_eq!(inbox.take(start), Some(start));
        }
        assert_eq!(names(&inbox), ["b@file"]);
    }

    #[test]
    fn what_changes_nothing_is_dropped() {
        let start = Instant::now();
        let mut inbox = Inbox::new([], THROTTLE);
        inbox.put(update("docker", "a"), start);
        inbox.take(start);
        inbox.put(update("docker", "b"), start);
        inbox.put(update("docker", "a"), start);
        assert_eq!((inbox.next(), inbox.take(start + THROTTLE)), (None, None));
    }
}
