//! One router checked against everything it refers to, and split where entry points add something of their own.

use std::{collections::HashMap, sync::Arc};

use super::reading;
use crate::{
    compile::{
        Rooms, Stage,
        doors::{Door, split},
        internal,
        plan::Planner,
    },
    config::{
        Diagnostic, Kind, Place,
        definitions::{Defined, Name, Suggestions, base_name, nearest, qualify, tls_name},
        routing::{Router, RouterTls},
    },
    middleware::{EncodedCharacters, Middleware},
    rule::{Rule, Syntax},
    snapshot::{RouteTarget, Signals, Traces},
};

/// A router that can be mounted, on entry points that all add the same to it.
#[derive(Debug)]
pub(in crate::compile) struct Draft {
    pub(super) name: Arc<str>,
    pub(super) definition: Defined<Router>,
    pub(super) entry_points: Vec<usize>,
    pub(super) matching: Matching,
    /// The TLS options asked for; `None` for a router of plain requests.
    pub(super) tls_options: Option<Arc<str>>,
    pub(super) target: RouteTarget,
    pub(super) service: Arc<str>,
    pub(super) steps: Arc<[Arc<str>]>,
    pub(super) plan: Arc<[Middleware]>,
    pub(super) denied: EncodedCharacters,
    pub(super) signals: Signals,
}

/// Which requests a router takes.
#[derive(Debug, Clone)]
pub(super) struct Matching {
    pub(super) rule: Arc<str>,
    pub(super) matcher: Rule,
    pub(super) syntax: Syntax,
    pub(super) priority: i64,
}

/// Where a router leads, the name of that, and the steps that belong to it.
struct Destination {
    target: RouteTarget,
    name: Name,
    steps: Vec<Name>,
}

/// Makes drafts of routers.
pub(super) struct Drafter<'a> {
    stage: &'a Stage<'a>,
    rooms: &'a Rooms<'a>,
    doors: HashMap<&'a str, usize>,
    tls_options: Suggestions<'a>,
    planner: Planner<'a>,
}

impl<'a> Drafter<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, rooms: &'a Rooms<'a>) -> Self {
        let doors = stage.doors.iter().enumerate();
        Self {
            doors: doors.map(|(index, door)| (&*door.name, index)).collect(),
            tls_options: Suggestions::new(stage.wanted.tls_options.keys().map(|name| &**name)),
            planner: Planner::new(stage, rooms.middlewares),
            stage,
            rooms,
        }
    }

    /// The drafts of a router; `None` if it cannot be mounted, and then `findings` says why.
    pub(super) fn drafts(
        &self,
        definition: &Defined<Router>,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Vec<Draft>> {
        let before = findings.len();
        let mut report = |finding| findings.push(finding);
        let parents = definition.object.parent_refs.as_ref();
        if parents.is_some_and(|parents| parents.0 != serde_json::json!([])) {
            report(definition.error(
                Kind::Router,
                "parentRefs",
                "routers below routers are not supported yet",
            ));
        }
        let entry_points = self.entry_points(definition, &mut report);
        let matching = self.matching(definition, &mut report);
        let destination = self.target(definition, &mut report);
        let (Some(entry_points), Some(matching), Some(destination)) =
            (entry_points, matching, destination)
        else {
            // What is wrong with its middlewares is worth knowing at the same time.
            self.own_steps(definition, &mut report).ok();
            return None;
        };
        let Destination {
            target,
            name: service,
            steps: service_steps,
        } = destination;
        let mut drafts = Vec::new();
        let named = definition.object.entry_points.len();
        for (name, entry_points) in split(self.stage.doors, &definition.name, &entry_points, named)
        {
            let door = &self.stage.doors[entry_points[0]];
            let tls_options = self.tls_options(definition, door, &mut report);
            let steps = self.steps(definition, door, &service_steps, &mut report);
            let Some(steps) = steps else { continue };
            let Some(plan) = self.planner.plan(&name, &steps) else {
                continue;
            };
            drafts.push(Draft {
                signals: self.signals(definition, door, &target),
                denied: door.denied(),
                definition: definition.clone(),
                matching: matching.clone(),
                target: target.clone(),
                service: Arc::clone(&service),
                steps: steps.into(),
                name,
                entry_points,
                tls_options,
                plan,
            });
        }
        if findings[before..].iter().any(Diagnostic::is_error) {
            return None;
        }
        Some(drafts)
    }

    /// The entry points the router is bound to. Some unknown ones among others only cost a warning.
    fn entry_points(
        &self,
        definition: &Defined<Router>,
        report: &mut dyn FnMut(Diagnostic),
    ) -> Option<Vec<usize>> {
        let doors = self.stage.doors;
        let names = &definition.object.entry_points;
        if names.is_empty() {
            let defaults: Vec<usize> = (0..doors.len())
                .filter(|index| doors[*index].is_default)
                .collect();
            if defaults.is_empty() {
                report(definition.error(
                    Kind::Router,
                    "entryPoints",
                    "there is no entry point for routers that name none",
                ));
            }
            return Some(defaults).filter(|defaults| !defaults.is_empty());
        }
        let mut known = Vec::new();
        let mut problems = Vec::new();
        for (position, name) in names.iter().enumerate() {
            match self.doors.get(name.as_str()) {
                Some(index) if doors[*index].config.is_udp() => {
                    problems.push((
                        position,
                        format!("the entry point `{name}` carries UDP, not HTTP"),
                        None,
                    ));
                }
                Some(index) if known.contains(index) => {}
                Some(index) => known.push(*index),
                None => {
                    let names = doors.iter().map(|door| (&*door.name, &*door.name));
                    let hint = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
                    problems.push((
                        position,
                        format!("the entry point `{name}` does not exist"),
                        hint,
                    ));
                }
            }
        }
        for (position, message, hint) in problems {
            let field = format!("entryPoints[{position}]");
            let finding = match known.is_empty() {
                true => definition.error(Kind::Router, &field, message),
                false => definition.warning(Kind::Router, &field, message),
            };
            report(Diagnostic { hint, ..finding });
        }
        known.sort_unstable();
        Some(known).filter(|known| !known.is_empty())
    }

    fn matching(
        &self,
        definition: &Defined<Router>,
        report: &mut dyn FnMut(Diagnostic),
    ) -> Option<Matching> {
        let router = &definition.object;
        if router.rule.trim().is_empty() {
            let finding = definition.error(Kind::Router, "rule", "the router has no rule");
            report(finding.with_hint("write one such as Host(`example.com`)"));
            return None;
        }
        let priority = self.priority(definition, report);
        let default = self.stage.input.install.core.default_rule_syntax;
        let (matcher, syntax) = reading::read(definition, default, report)?;
        Some(Matching {
            rule: router.rule.as_str().into(),
            matcher,
            syntax,
            priority: priority?,
        })
    }

    fn priority(
        &self,
        definition: &Defined<Router>,
        report: &mut dyn FnMut(Diagnostic),
    ) -> Option<i64> {
        let router = &definition.object;
        match router.priority {
            0 => Some(Rule::default_priority(&router.rule)),
            priority
                if priority > HIGHEST_PRIORITY && &*definition.provider != internal::PROVIDER =>
            {
                let message = format!(
                    "the priority {priority} is above {HIGHEST_PRIORITY}, which is kept for internal routers"
                );
                report(definition.error(Kind::Router, "priority", message));
                None
            }
            priority => Some(priority),
        }
    }

    fn target(
        &self,
        definition: &Defined<Router>,
        report: &mut dyn FnMut(Diagnostic),
    ) -> Option<Destination> {
        let router = &definition.object;
        if router.service.is_empty() {
            report(definition.error(Kind::Router, "service", "the router has no service"));
            return None;
        }
        let name = qualify(&router.service, &definition.provider);
        let missing = match self.rooms.services.find(&name) {
            Ok(found) => {
                return Some(Destination {
                    name: found.name,
                    target: found.target,
                    steps: found.steps.to_vec(),
                });
            }
            Err(missing) => missing,
        };
        let finding = missing.about(definition.error(Kind::Router, "service", ""));
        report(match self.blamed(definition, &name) {
            Some(place) => Diagnostic { place, ..finding },
            None => finding,
        });
        None
    }

    /// Where the service is at fault of a router that was given one by its provider: it has no option of its own to blame.
    fn blamed(&self, definition: &Defined<Router>, service: &str) -> Option<Place> {
        if definition.object.places.wrote("service") {
            return None;
        }
        if let Some(service) = self.stage.wanted.services.get(service) {
            return Some(service.object.place().clone());
        }
        let Place::Label { of, .. } = definition.object.place() else {
            return None;
        };
        let path = format!("{}.{}", Kind::Service.section(), base_name(service));
        let broken = self.stage.input.found.iter().find(|found| {
            let rest = found.path.strip_prefix(&path);
            let within = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            let ours = matches!(&found.place, Place::Label { of: other, .. } if other == of);
            found.is_error() && within && ours
        });
        broken.map(|found| found.place.clone())
    }

    /// The name of the TLS options; `None` for a router of plain requests.
    fn tls_options(
        &self,
        definition: &Defined<Router>,
        door: &Door<'_>,
        report: &mut dyn FnMut(Diagnostic),
    ) -> Option<Arc<str>> {
        let tls: &RouterTls = door.tls(definition.object.tls.as_ref())?;
        let name = tls_name(&tls.options, &definition.provider);
        if !self.rooms.tls.is_usable(&name) {
            let known = self.stage.wanted.tls_options.contains_key(&name);
            let (message, hint) = match known || name == tls_name("", "") {
                true => (format!("the TLS options `{name}` cannot be used"), None),
                false => (
                    format!("the TLS options `{name}` do not exist"),
                    self.tls_options.hint(&name),
                ),
            };
            let finding = match definition.object.tls {
                Some(_) => definition.error(Kind::Router, "tls.options", message),
                None => Diagnostic {
                    message,
                    ..self.of_door(door, "http.tls.options")
                },
            };
            report(Diagnostic { hint, ..finding });
        }
        Some(name)
    }

    /// The steps of the router itself.
    fn own_steps(
        &self,
        definition: &Defined<Router>,
        report: &mut dyn FnMut(Diagnostic),
    ) -> Result<Vec<Name>, ()> {
        let names = definition.object.middlewares.iter();
        let resolved = self.rooms.middlewares.resolve(names, &definition.provider);
        resolved.map_err(|missing| {
            for (position, missing) in missing {
                let field = format!("middlewares[{position}]");
                report(missing.about(definition.error(Kind::Router, &field, "")));
            }
        })
    }

    /// An error of an entry point, which none of its routers can be served with.
    fn of_door(&self, door: &Door<'_>, field: &str) -> Diagnostic {
        let path = format!("entryPoints.{}.{field}", door.name);
        let place = self.stage.input.install.places.at(&path).clone();
        Diagnostic::error(place, path, "")
    }

    /// The steps of the entry point, the router and the service.
    fn steps(
        &self,
        definition: &Defined<Router>,
        door: &Door<'_>,
        of_service: &[Arc<str>],
        report: &mut dyn FnMut(Diagnostic),
    ) -> Option<Vec<Arc<str>>> {
        let resolve = |names: &[String]| {
            self.rooms
                .middlewares
                .resolve(names.iter(), &definition.provider)
        };
        let of_door = resolve(&door.config.http.middlewares).map_err(|missing| {
            for (position, missing) in missing {
                let field = format!("http.middlewares[{position}]");
                report(missing.about(self.of_door(door, &field)));
            }
        });
        let of_router = self.own_steps(definition, report);
        let mut steps = of_door.ok()?;
        steps.extend(of_router.ok()?);
        steps.extend(of_service.iter().map(Arc::clone));
        let mut obstacles = steps
            .iter()
            .filter_map(|step| self.rooms.pages.obstacle(step));
        if let Some(obstacle) = obstacles.next() {
            report(obstacle.about(definition.error(Kind::Router, "middlewares", "")));
            return None;
        }
        Some(steps)
    }

    /// The signals the router's requests show up in. Those to internal services only if asked for.
    fn signals(
        &self,
        definition: &Defined<Router>,
        door: &Door<'_>,
        target: &RouteTarget,
    ) -> Signals {
        let signals = door.signals(definition.object.observability.as_ref());
        if !matches!(target, RouteTarget::Internal(_)) {
            return signals;
        }
        let install = self.stage.input.install;
        let logged = install
            .access_log
            .as_ref()
            .is_some_and(|log| log.add_internals);
        Signals {
            access_log: signals.access_log && logged,
            metrics: signals.metrics && install.metrics.add_internals,
            traces: match &install.tracing {
                Some(tracing) if tracing.add_internals => signals.traces,
                _ => Traces::Off,
            },
        }
    }
}

/// Above it there are our own routers.
const HIGHEST_PRIORITY: i64 = i64::MAX - 1000;
