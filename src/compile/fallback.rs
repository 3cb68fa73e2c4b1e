//! Keeps what was good: a definition that cannot be built is replaced by its last form that could.

use std::{collections::BTreeSet, sync::Arc};

use crate::config::{
    Diagnostic, Kind,
    definitions::{Defined, Definitions, Name, Named},
    routing::EVERY,
};

/// The forms of every object of one kind that stands in the configuration, readable or not.
pub(super) fn forms<'a, T: PartialEq>(
    kind: Kind,
    wanted: &'a Named<T>,
    definitions: &'a Definitions,
    last: Option<&'a Named<T>>,
) -> Vec<Forms<'a, T>> {
    let of = |name| Forms::of(kind, name, (wanted, definitions), last);
    if definitions.broken.is_empty() {
        let forms = wanted.iter().map(|(name, wanted)| Forms {
            kind,
            name,
            wanted: Some(wanted),
            last,
        });
        return forms.collect();
    }
    let broken = definitions
        .broken
        .iter()
        .filter(|(of, name)| *of == kind && !name.starts_with(EVERY));
    let lost = last.into_iter().flatten();
    let lost = lost.filter(|(_, last)| definitions.is_all_broken(kind, &last.provider));
    let names = wanted
        .keys()
        .chain(broken.map(|(_, name)| name))
        .chain(lost.map(|(name, _)| name));
    names
        .collect::<BTreeSet<&Name>>()
        .into_iter()
        .map(of)
        .collect()
}

/// Something built, and the form it was built from.
pub(super) type Built<B, T> = (B, Defined<T>);

/// The wanted and the last good form of one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forms<'a, T> {
    kind: Kind,
    pub(super) name: &'a Name,
    /// `None` if it stands in the configuration but could not be read.
    wanted: Option<&'a Defined<T>>,
    /// Looked up only when it is needed, which is hardly ever.
    last: Option<&'a Named<T>>,
}

impl<'a, T: PartialEq> Forms<'a, T> {
    /// The forms of the object of this name. One that could not be read fully counts as broken.
    pub(super) fn of(
        kind: Kind,
        name: &'a Name,
        wanted: (&'a Named<T>, &'a Definitions),
        last: Option<&'a Named<T>>,
    ) -> Self {
        let broken = wanted.1.broken.contains(&(kind, Arc::clone(name)));
        Self {
            kind,
            name,
            wanted: wanted.0.get(name).filter(|_| !broken),
            last,
        }
    }

    /// The wanted form, if it can be read.
    pub(super) fn wanted(&self) -> Option<&'a Defined<T>> {
        self.wanted
    }

    /// The wanted form, or the last good one if that cannot be read.
    pub(super) fn best(&self) -> Option<&'a Defined<T>> {
        self.wanted.or_else(|| self.last())
    }

    fn last(&self) -> Option<&'a Defined<T>> {
        self.last.and_then(|last| last.get(self.name))
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
        let last = self.last().filter(|last| {
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
