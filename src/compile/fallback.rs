//! Keeps what was good: a definition that cannot be built is replaced by its last form that could.

use std::{collections::BTreeSet, sync::Arc};

use crate::config::{
    Diagnostic, Kind,
    definitions::{Defined, Definitions, Name, Named},
    routing::EVERY,
};

/// The names of one kind that stand in the configuration, readable or not.
pub(super) fn names<T>(
    kind: Kind,
    wanted: &Named<T>,
    definitions: &Definitions,
    last: Option<&Named<T>>,
) -> BTreeSet<Name> {
    let broken = definitions
        .broken
        .iter()
        .filter(|(of, name)| *of == kind && !name.starts_with(EVERY));
    let broken = broken.map(|(_, name)| name);
    let lost = last.into_iter().flatten();
    let lost = lost.filter(|(_, last)| definitions.is_all_broken(kind, &last.provider));
    wanted
        .keys()
        .chain(broken)
        .chain(lost.map(|(name, _)| name))
        .map(Arc::clone)
        .collect()
}

/// Something built, and the form it was built from.
pub(super) type Built<B, T> = (B, Defined<T>);

/// The wanted and the last good form of one object.
#[derive(Debug)]
pub(super) struct Forms<'a, T> {
    kind: Kind,
    /// `None` if it stands in the configuration but could not be read.
    wanted: Option<&'a Defined<T>>,
    last: Option<&'a Defined<T>>,
}

impl<'a, T: PartialEq> Forms<'a, T> {
    /// The forms of the object of this name. One that could not be read fully counts as broken.
    pub(super) fn of(
        kind: Kind,
        name: &Arc<str>,
        wanted: (&'a Named<T>, &'a Definitions),
        last: Option<&'a Named<T>>,
    ) -> Self {
        let broken = wanted.1.broken.contains(&(kind, Arc::clone(name)));
        Self {
            kind,
            wanted: wanted.0.get(name).filter(|_| !broken),
            last: last.and_then(|last| last.get(name)),
        }
    }

    /// The wanted form, or the last good one if that cannot be read.
    pub(super) fn best(&self) -> Option<&'a Defined<T>> {
        self.wanted.or(self.last)
    }

    /// Builds the wanted form, or else the last good one; hands back the form that was built.
    pub(super) fn build<B>(
        &self,
        findings: &mut Vec<Diagnostic>,
        mut build: impl FnMut(&Defined<T>, &mut Vec<Diagnostic>) -> Option<B>,
    ) -> Option<Built<B, T>> {
        if let Some(wanted) = self.wanted
            && let Some(built) = build(wanted, findings)
        {
            return Some((built, wanted.clone()));
        }
        let last = self.last.filter(|last| {
            self.wanted
                .is_none_or(|wanted| wanted.object != last.object)
        })?;
        // What was found in it has been told when it was new.
        let built = build(last, &mut Vec::new())?;
        findings.push(went_on(self.kind, self.wanted.unwrap_or(last)));
        Some((built, last.clone()))
    }
}

/// Tells that the last good form of an object goes on serving.
pub(super) fn went_on<T>(kind: Kind, definition: &Defined<T>) -> Diagnostic {
    let message = format!("the last good form of this {kind} goes on serving");
    Diagnostic::info(
        definition.object.place().clone(),
        definition.path(kind, ""),
        message,
    )
}
