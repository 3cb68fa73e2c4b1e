//! Services: every one checked, those that routers use built, with servers and their state taken over from the previous snapshot.

mod balancer;
mod build;
mod group;

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use super::{
    Stage, internal,
    middlewares::{Middlewares, Missing},
    plan::member_plan,
    transports::Transports,
};
use crate::{
    config::{
        About, Diagnostic, Kind,
        definitions::{Defined, Definitions, Name, Suggestions, base_name},
        routing,
    },
    service::{Service, ServiceSettings},
    snapshot::{Group, Member, RouteTarget},
};

pub(super) use balancer::{hold, timeouts};
use build::Builder;
use group::{Child, GroupSettings};

/// Every service that can be used.
pub(super) struct Services<'a> {
    stage: &'a Stage<'a>,
    middlewares: &'a Middlewares<'a>,
    ready: BTreeMap<Name, Ready>,
    suggestions: Suggestions<'a>,
    built: RefCell<BTreeMap<Name, RouteTarget>>,
}

/// A service, its name, and the steps that run just before it.
#[derive(Debug)]
pub(super) struct Found<'s> {
    pub(super) target: RouteTarget,
    pub(super) name: Name,
    pub(super) steps: &'s [Name],
}

/// What routers lead to.
pub(super) struct Used {
    pub(super) services: Box<[Arc<Service>]>,
    pub(super) groups: Box<[Arc<Group>]>,
}

/// A service that can be built.
struct Ready {
    form: Form,
    /// The steps that run just before it.
    steps: Vec<Name>,
}

enum Form {
    Balancer(Box<ServiceSettings>),
    Group(GroupSettings),
}

impl Ready {
    /// Whether a service above it can follow its health.
    fn is_checked(&self) -> bool {
        match &self.form {
            Form::Balancer(settings) => settings.health_check.is_some(),
            Form::Group(settings) => settings.follows,
        }
    }
}

impl<'a> Services<'a> {
    /// Checks all services, used or not.
    pub(super) fn build(
        stage: &'a Stage<'a>,
        transports: &Transports<'_>,
        middlewares: &'a Middlewares<'a>,
        good: &mut Definitions,
        findings: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut builder = Builder::new(stage, transports, middlewares, good);
        builder.build_all(findings);
        Self {
            stage,
            middlewares,
            ready: builder.ready,
            suggestions: Suggestions::new(stage.wanted.services.keys().map(|name| &**name)),
            built: RefCell::default(),
        }
    }

    /// The service of this qualified name and the steps before it.
    pub(super) fn find(&self, name: &str) -> Result<Found<'_>, Missing> {
        if name.ends_with(INTERNAL_SUFFIX) {
            return self.internal(name);
        }
        let ready = self.ready.get_key_value(name);
        let found = ready.and_then(|(name, ready)| {
            Some(Found {
                target: self.target(name, ready)?,
                name: Arc::clone(name),
                steps: &ready.steps,
            })
        });
        found.ok_or_else(|| missing(self.stage, &self.suggestions, name))
    }

    /// The services of servers and the groups that were asked for, each in name order.
    pub(super) fn used(&self) -> Used {
        let built = self.built.borrow();
        let services = built.values().filter_map(|target| match target {
            RouteTarget::Service(service) => Some(Arc::clone(service)),
            _ => None,
        });
        let groups = built.values().filter_map(|target| match target {
            RouteTarget::Group(group) => Some(Arc::clone(group)),
            _ => None,
        });
        Used {
            services: services.collect(),
            groups: groups.collect(),
        }
    }

    fn internal(&self, name: &str) -> Result<Found<'_>, Missing> {
        let found = internal::service(base_name(name), self.stage.input.install);
        let service = found.map_err(|message| Missing {
            about: About::Value,
            message: message.into_owned(),
            hint: None,
        })?;
        Ok(Found {
            target: RouteTarget::Internal(service),
            name: name.into(),
            steps: &[],
        })
    }

    /// The one form that a service has in a snapshot, however many lead to it. No service contains itself, so this ends.
    fn target(&self, name: &Name, ready: &Ready) -> Option<RouteTarget> {
        if let Some(target) = self.built.borrow().get(name) {
            return Some(target.clone());
        }
        let target = match &ready.form {
            Form::Balancer(settings) => RouteTarget::Service(self.service(name, settings)),
            Form::Group(settings) => RouteTarget::Group(Arc::new(self.group(name, settings)?)),
        };
        let mut built = self.built.borrow_mut();
        Some(built.entry(Arc::clone(name)).or_insert(target).clone())
    }

    fn service(&self, name: &Name, settings: &ServiceSettings) -> Arc<Service> {
        let input = self.stage.input;
        let previous = input.previous.map(|previous| &previous.snapshot);
        let previous = previous.and_then(|snapshot| snapshot.service(name));
        let slots = &input.workshop.slots;
        let metrics = &input.workshop.metrics;
        let service = Service::build(settings.clone(), previous.map(|it| &**it), slots, input.now);
        let service = service.counted_with(metrics.service(name));
        for server in &service.servers {
            server.count_with(|| metrics.server(name, &server.name));
        }
        Arc::new(service)
    }

    fn group(&self, name: &Name, settings: &GroupSettings) -> Option<Group> {
        let input = self.stage.input;
        let previous = input.previous.map(|previous| &previous.snapshot);
        let previous = previous.and_then(|snapshot| snapshot.group(name));
        let previous = previous.map(|group| &**group);
        let kind = settings.build(name, previous, input.now, &|child| {
            self.member(child, previous)
        })?;
        Some(Group {
            name: Arc::clone(name),
            kind,
            follows: settings.follows,
            metrics: input.workshop.metrics.service(name),
            told: previous.map_or_else(Arc::default, |group| Arc::clone(&group.told)),
        })
    }

    /// A part of a group, with the state that its middlewares had.
    fn member(&self, child: &Child, previous: Option<&Group>) -> Option<Member> {
        let found = self.find(&child.name).ok()?;
        let before = previous.map(Group::members).unwrap_or_default();
        let before = before.into_iter().find(|member| member.name == found.name);
        let before = before.map(|member| (&member.steps, &member.plan));
        let metrics = &self.stage.input.workshop.metrics;
        Some(Member {
            plan: member_plan(
                (metrics, self.middlewares),
                &found.name,
                found.steps,
                before,
            )?,
            steps: found.steps.into(),
            name: found.name,
            target: found.target,
        })
    }
}

/// Why there is no service of this name.
fn missing(stage: &Stage<'_>, suggestions: &Suggestions<'_>, name: &str) -> Missing {
    let broken = stage.wanted.broken.contains(&(Kind::Service, name.into()));
    let (message, hint) = match stage.wanted.services.contains_key(name) || broken {
        true => (format!("the service `{name}` cannot be used"), None),
        false => (
            format!("the service `{name}` does not exist"),
            suggestions.hint(name),
        ),
    };
    Missing {
        about: About::Value,
        message,
        hint,
    }
}

/// Looks for what is wrong with a service that is not to be used.
pub(super) fn look(
    services: &Services<'_>,
    definition: &Defined<routing::Service>,
    transports: &Transports<'_>,
    findings: &mut Vec<Diagnostic>,
) {
    let known = |name: &str| match services.find(name) {
        Ok(found) => Ok(found.target.is_checked()),
        Err(missing) => Err(missing),
    };
    build::form(services.stage, definition, (transports, &known), findings);
    service_steps(definition, services.middlewares, findings);
}

fn service_steps(
    definition: &Defined<routing::Service>,
    middlewares: &Middlewares<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Option<Vec<Name>> {
    let names = definition.object.middlewares.iter();
    match middlewares.resolve(names, &definition.provider) {
        Ok(steps) => Some(steps),
        Err(missing) => {
            let finding = |(position, missing): (usize, Missing)| {
                let field = format!("middlewares[{position}]");
                missing.about(definition.error(Kind::Service, &field, ""))
            };
            findings.extend(missing.into_iter().map(finding));
            None
        }
    }
}

const INTERNAL_SUFFIX: &str = "@internal";
