//! Routers: from what the user wrote to routes in the tables of entry points.

mod demands;
mod draft;
mod mount;
mod reading;
mod twins;

use std::sync::Arc;

use super::{Rooms, Stage, fallback};
use crate::{
    config::{
        Diagnostic, Kind,
        definitions::{Defined, Definitions},
        routing::Router,
    },
    snapshot::{Demand, Route, table::Table},
    tls::SniTable,
};

use draft::{Draft, Drafter};

/// Every mounted route.
pub(super) struct Routers {
    /// In name order.
    pub(super) routes: Vec<Arc<Route>>,
    /// One for each entry point.
    pub(super) tables: Vec<Tables>,
    /// The certificates they ask for.
    pub(super) demands: Arc<[Demand]>,
}

/// The tables of one entry point.
pub(super) struct Tables {
    pub(super) plain: Table,
    pub(super) secure: Table,
    pub(super) tls: SniTable,
}

/// Looks for what is wrong with routers that are not to be mounted.
pub(super) fn look(
    stage: &Stage<'_>,
    rooms: &Rooms<'_>,
    mut report: impl FnMut(&Defined<Router>, Vec<Diagnostic>),
) {
    let drafter = Drafter::new(stage, rooms);
    for router in stage.wanted.partial.routers.values() {
        let mut found = Vec::new();
        drafter.drafts(router, &mut found);
        report(router, found);
    }
}

impl Routers {
    /// Builds all routers and mounts those that can be.
    pub(super) fn build(
        stage: &Stage<'_>,
        rooms: &Rooms<'_>,
        good: &mut Definitions,
        findings: &mut Vec<Diagnostic>,
    ) -> Self {
        let wanted = &stage.wanted.routers;
        let drafter = Drafter::new(stage, rooms);
        let mut drafts: Vec<Draft> = Vec::with_capacity(wanted.len());
        let last = stage.last.map(|last| &last.routers);
        let mut built_from = Vec::with_capacity(wanted.len());
        for forms in fallback::forms(Kind::Router, wanted, stage.wanted, last) {
            let built = forms.build(findings, |definition, findings| {
                drafter.drafts(definition, findings)
            });
            if let Some((made, definition)) = built {
                drafts.extend(made);
                built_from.push((Arc::clone(forms.name), definition));
            }
        }
        good.routers = built_from.into_iter().collect();
        twins::report(stage, &drafts, findings);
        let demands = demands::collect(stage, &drafts, findings);
        Self {
            demands,
            ..mount::mount(stage, rooms.tls, &drafts, findings)
        }
    }
}
