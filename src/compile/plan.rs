//! The plan of a route: an instance of every step, with the state its predecessor had.

use std::sync::Arc;

use super::{Stage, middlewares::Middlewares};
use crate::{middleware::Middleware, snapshot::Route};

/// Makes the plan of the router `name` from the names of its steps; `None` if a step cannot be made, which was checked before.
pub(super) fn plan(
    stage: &Stage<'_>,
    middlewares: &Middlewares<'_>,
    name: &str,
    steps: &[Arc<str>],
) -> Option<Arc<[Middleware]>> {
    let previous = stage
        .input
        .previous
        .and_then(|previous| previous.snapshot.route(name));
    if let Some(previous) = previous
        && *previous.steps == *steps
        && middlewares.unchanged(steps)
    {
        return Some(Arc::clone(&previous.plan));
    }
    let made = steps.iter().enumerate().map(|(position, step)| {
        let mut middleware = middlewares.instance(step)?;
        if let Some(before) = previous.and_then(|previous| predecessor(previous, steps, position)) {
            middleware.adopt(before);
        }
        if let Some(kind) = middleware.metrics_kind() {
            middleware.count_with(stage.input.workshop.metrics.middleware(step, kind));
        }
        Some(middleware)
    });
    made.collect()
}

/// The step of the previous plan with the same name; the same one of several with that name.
fn predecessor<'r>(
    previous: &'r Route,
    steps: &[Arc<str>],
    position: usize,
) -> Option<&'r Middleware> {
    let name = &steps[position];
    let occurrence = steps[..position]
        .iter()
        .filter(|step| *step == name)
        .count();
    let mut candidates = previous
        .steps
        .iter()
        .zip(previous.plan.iter())
        .filter(|(step, _)| *step == name);
    candidates.nth(occurrence).map(|(_, middleware)| middleware)
}
