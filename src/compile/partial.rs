//! Broken objects looked at for further mistakes: whoever mends one at a time starts too often.

use super::{Rooms, Stage, middlewares, routers, services, transports::Transports};
use crate::config::{
    Diagnostic, Kind,
    definitions::{Defined, base_name},
};

/// Adds what is wrong with the parts that could be read of objects that could not be read whole.
pub(super) fn look(
    stage: &Stage<'_>,
    rooms: &Rooms<'_>,
    transports: &Transports<'_>,
    findings: &mut Vec<Diagnostic>,
) {
    let partial = &stage.wanted.partial;
    if partial.is_empty() {
        return;
    }
    for middleware in partial.middlewares.values() {
        let mut found = Vec::new();
        middlewares::look(stage, middleware, &mut found);
        findings.extend(further(stage, Kind::Middleware, middleware, found));
    }
    for service in partial.services.values() {
        let mut found = Vec::new();
        services::look(rooms.services, service, transports, &mut found);
        findings.extend(further(stage, Kind::Service, service, found));
    }
    routers::look(stage, rooms, |router, found| {
        findings.extend(further(stage, Kind::Router, router, found));
    });
}

/// Those of the findings about an object that are about something written, and no consequence of what could not be read.
fn further<'f, T>(
    stage: &'f Stage<'_>,
    kind: Kind,
    object: &'f Defined<T>,
    found: Vec<Diagnostic>,
) -> impl Iterator<Item = Diagnostic> + use<'f, T> {
    // Who reads an object does not know its provider.
    let read_as = format!("{}.{}.", kind.section(), base_name(&object.name));
    let errors = stage.input.found.iter().filter(|known| known.is_error());
    let unread: Vec<&str> = errors
        .filter_map(|known| known.path.strip_prefix(&read_as))
        .collect();
    let whole = object.path(kind, "") + ".";
    found.into_iter().filter(move |finding| {
        finding.path.strip_prefix(&whole).is_some_and(|field| {
            let related = |unread: &&str| is_within(field, unread) || is_within(unread, field);
            object.object.places.wrote(field) && !unread.iter().any(related)
        })
    })
}

/// Whether a field is another one or a part of it.
fn is_within(field: &str, other: &str) -> bool {
    let rest = field.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
