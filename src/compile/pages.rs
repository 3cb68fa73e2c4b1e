//! The services that `errors` middlewares have pages from. A middleware is built before the services are, so whether it leads somewhere
//! can only be said here, and whether it leads back to itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Stage,
    middlewares::{Middlewares, Missing},
    plan::member_plan,
    services::{Found, Services},
};
use crate::{
    config::{
        About, Diagnostic, Kind,
        definitions::{Defined, Name, qualify},
        routing::Middleware as Config,
    },
    snapshot::{ErrorPages, RouteTarget},
};

/// What every `errors` middleware leads to.
pub(super) struct Pages {
    built: BTreeMap<Name, Arc<ErrorPages>>,
    /// The middlewares that cannot be used.
    broken: BTreeSet<Name>,
}

impl Pages {
    pub(super) fn build(
        stage: &Stage<'_>,
        middlewares: &Middlewares<'_>,
        services: &Services<'_>,
        findings: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut ways = Ways::default();
        for definition in middlewares.definitions() {
            let Config::Errors(errors) = &definition.object.value else {
                continue;
            };
            let service = qualify(&errors.service, &definition.provider);
            match services.find(&service) {
                Ok(found) => ways.add(definition, found),
                Err(missing) => {
                    findings.push(missing.about(told_of(definition, "")));
                    ways.broken.insert(Arc::clone(&definition.name));
                }
            }
        }
        ways.close(findings);
        let mut pages = Self {
            built: BTreeMap::new(),
            broken: ways.broken,
        };
        for (name, way) in ways.ways {
            if !pages.broken.contains(&name) && !pages.built.contains_key(&way.service) {
                let built = pages_of(stage, middlewares, &way);
                pages.built.extend(built.map(|built| (way.service, built)));
            }
        }
        pages
    }

    /// Why a middleware cannot be used, if it leads nowhere.
    pub(super) fn obstacle(&self, middleware: &str) -> Option<Missing> {
        self.broken.contains(middleware).then(|| Missing {
            about: About::Value,
            message: format!("the middleware `{middleware}` cannot be used"),
            hint: None,
        })
    }

    /// All of them, in name order.
    pub(super) fn all(&self) -> Box<[Arc<ErrorPages>]> {
        self.built.values().map(Arc::clone).collect()
    }
}

/// Where middlewares lead.
#[derive(Default)]
struct Ways<'a> {
    ways: BTreeMap<Name, Way<'a>>,
    broken: BTreeSet<Name>,
}

struct Way<'a> {
    definition: &'a Defined<Config>,
    service: Name,
    target: RouteTarget,
    /// The middlewares of the service.
    steps: Vec<Name>,
}

impl<'a> Ways<'a> {
    fn add(&mut self, definition: &'a Defined<Config>, found: Found<'_>) {
        let way = Way {
            definition,
            service: found.name,
            target: found.target,
            steps: found.steps.to_vec(),
        };
        self.ways.insert(Arc::clone(&definition.name), way);
    }

    /// Finds those that lead back to themselves, or to one that is broken.
    fn close(&mut self, findings: &mut Vec<Diagnostic>) {
        for name in self.ways.keys() {
            if let Some(circle) = self.way_to(name, name) {
                let message = format!("the service's pages have pages of their own: {circle}");
                findings.push(told_of(self.ways[name].definition, message));
                self.broken.insert(Arc::clone(name));
            }
        }
        for name in self.ways.keys() {
            let broken = self
                .broken
                .iter()
                .find_map(|broken| self.way_to(name, broken));
            if let Some(way) = broken
                && !self.broken.contains(name)
            {
                let message = format!("leads to a middleware that cannot be used: {way}");
                findings.push(told_of(self.ways[name].definition, message));
            }
        }
        let leading = self.ways.keys().filter(|name| {
            let mut broken = self.broken.iter();
            broken.any(|broken| self.way_to(name, broken).is_some())
        });
        let leading: Vec<Name> = leading.map(Arc::clone).collect();
        self.broken.extend(leading);
    }

    /// The way from one middleware to another, over services and their middlewares.
    fn way_to(&self, from: &Name, to: &Name) -> Option<String> {
        let mut seen: BTreeSet<&Name> = BTreeSet::new();
        let mut open = vec![(from, from.to_string())];
        while let Some((at, path)) = open.pop() {
            let Some(way) = self.ways.get(at) else {
                continue;
            };
            for step in &way.steps {
                let path = format!("{path} -> {} -> {step}", way.service);
                if step == to {
                    return Some(path);
                }
                if seen.insert(step) {
                    open.push((step, path));
                }
            }
        }
        None
    }
}

fn pages_of(
    stage: &Stage<'_>,
    middlewares: &Middlewares<'_>,
    way: &Way<'_>,
) -> Option<Arc<ErrorPages>> {
    let previous = stage.input.previous;
    let previous = previous.and_then(|previous| previous.snapshot.pages_of(&way.service));
    let previous = previous.map(|previous| (&previous.steps, &previous.plan));
    let metrics = &stage.input.workshop.metrics;
    Some(Arc::new(ErrorPages {
        service: Arc::clone(&way.service),
        plan: member_plan((metrics, middlewares), &way.service, &way.steps, previous)?,
        steps: way.steps.clone().into(),
        target: way.target.clone(),
    }))
}

fn told_of(definition: &Defined<Config>, message: impl Into<String>) -> Diagnostic {
    definition.error(Kind::Middleware, "errors.service", message)
}
