//! The plan of a route: an instance of every step, with the state its predecessor had.

use std::{collections::HashMap, sync::Arc};

use super::{Stage, middlewares::Middlewares};
use crate::{config::definitions::Name, middleware::Middleware, observe::Metrics, snapshot::Route};

/// Makes plans.
pub(super) struct Planner<'a> {
    metrics: &'a Metrics,
    middlewares: &'a Middlewares<'a>,
    /// The routes of the previous snapshot, by name.
    previous: HashMap<&'a str, &'a Route>,
    nothing: Arc<[Middleware]>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, middlewares: &'a Middlewares<'a>) -> Self {
        let previous = stage
            .input
            .previous
            .into_iter()
            .flat_map(|previous| &previous.snapshot.routes);
        Self {
            metrics: &stage.input.workshop.metrics,
            middlewares,
            previous: previous.map(|route| (&*route.name, &**route)).collect(),
            nothing: Arc::new([]),
        }
    }

    /// The route of this name in the previous snapshot.
    pub(super) fn previous(&self, name: &str) -> Option<&'a Route> {
        self.previous.get(name).copied()
    }

    /// Makes the plan of the router `name` from the names of its steps; `None` if a step cannot be made, which was checked before.
    pub(super) fn plan(&self, name: &str, steps: &[Name]) -> Option<Arc<[Middleware]>> {
        if steps.is_empty() {
            return Some(Arc::clone(&self.nothing));
        }
        let previous = self.previous(name);
        if let Some(previous) = previous
            && *previous.steps == *steps
            && self.middlewares.unchanged(steps)
        {
            return Some(Arc::clone(&previous.plan));
        }
        let previous = previous.map(|previous| (&previous.steps, &previous.plan));
        make((self.metrics, self.middlewares), name, steps, previous)
    }
}

/// The names of the steps of a plan, and the plan.
pub(super) type Made<'r> = (&'r Arc<[Arc<str>]>, &'r Arc<[Middleware]>);

/// The plan of the service `name` within another one, from the names of its steps and what it was before.
pub(super) fn member_plan(
    rooms: (&Metrics, &Middlewares<'_>),
    name: &str,
    steps: &[Name],
    previous: Option<Made<'_>>,
) -> Option<Arc<[Middleware]>> {
    if let Some((before, plan)) = previous
        && **before == *steps
        && rooms.1.unchanged(steps)
    {
        return Some(Arc::clone(plan));
    }
    make(rooms, name, steps, previous)
}

fn make(
    (metrics, middlewares): (&Metrics, &Middlewares<'_>),
    name: &str,
    steps: &[Name],
    previous: Option<Made<'_>>,
) -> Option<Arc<[Middleware]>> {
    let made = steps.iter().enumerate().map(|(position, step)| {
        let mut middleware = middlewares.instance(step)?;
        if let Some(before) = previous.and_then(|previous| predecessor(previous, steps, position)) {
            middleware.adopt(before);
        }
        middleware.belong_to(name);
        if let Some(kind) = middleware.metrics_kind() {
            middleware.count_with(metrics.middleware(step, kind));
        }
        Some(middleware)
    });
    made.collect()
}

/// The step of the previous plan with the same name; the same one of several with that name.
fn predecessor<'r>(
    previous: Made<'r>,
    steps: &[Arc<str>],
    position: usize,
) -> Option<&'r Middleware> {
    let name = &steps[position];
    let occurrence = steps[..position]
        .iter()
        .filter(|step| *step == name)
        .count();
    let mut candidates = previous
        .0
        .iter()
        .zip(previous.1.iter())
        .filter(|(step, _)| *step == name);
    candidates.nth(occurrence).map(|(_, middleware)| middleware)
}
