//! Services made of services: from configuration to settings to their place in the snapshot.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{balancer::sticky, build::Known};
use crate::{
    config::{
        Diagnostic, Kind,
        definitions::{Defined, Name, qualify},
        routing::{self, ServiceKind, WeightedService},
        units::StatusRange,
    },
    service::{Allowance, Choice, ChoiceSettings, Share, StickySettings, Strategy},
    snapshot::{self, FailoverErrors, Group, GroupKind, Member, Mirror},
};

/// What a group is built from.
pub(super) struct GroupSettings {
    kind: Settings,
    pub(super) follows: bool,
}

enum Settings {
    Choice {
        strategy: Strategy,
        children: Vec<(Child, i64)>,
        sticky: Option<StickySettings>,
    },
    Mirroring(MirroringSettings),
    Failover {
        main: Child,
        fallback: Child,
        errors: Option<Errors>,
    },
}

struct MirroringSettings {
    main: Child,
    mirrors: Vec<(Child, u8)>,
    largest_body: Option<u64>,
    timeout: Duration,
    max_in_flight: u32,
}

/// A service that another one names.
#[derive(Clone)]
pub(super) struct Child {
    written: Arc<str>,
    /// Qualified.
    pub(super) name: Name,
}

struct Errors {
    status: Box<[(u16, u16)]>,
    largest_body: Option<u64>,
}

/// The services that one names.
pub(super) fn children(kind: &ServiceKind) -> Vec<&str> {
    match kind {
        ServiceKind::LoadBalancer(_) => Vec::new(),
        ServiceKind::Weighted(it) => it.services.iter().map(|child| &*child.name).collect(),
        ServiceKind::HighestRandomWeight(it) => {
            it.services.iter().map(|child| &*child.name).collect()
        }
        ServiceKind::Mirroring(it) => {
            let mirrors = it.mirrors.iter().map(|mirror| &*mirror.name);
            std::iter::once(&*it.service).chain(mirrors).collect()
        }
        ServiceKind::Failover(it) => vec![&it.service, &it.fallback],
    }
}

/// A group on its way from configuration to settings.
pub(super) struct Draft<'a> {
    pub(super) definition: &'a Defined<routing::Service>,
    pub(super) known: Known<'a>,
    pub(super) findings: &'a mut Vec<Diagnostic>,
}

impl Draft<'_> {
    pub(super) fn settings(&mut self) -> Option<GroupSettings> {
        let before = self.findings.len();
        let definition = self.definition;
        let (kind, follows) = match &definition.object.kind {
            ServiceKind::LoadBalancer(_) => return None,
            ServiceKind::Weighted(it) => (
                self.choice(Strategy::RoundRobin, &it.services, it.sticky.as_ref()),
                it.health_check.is_some(),
            ),
            ServiceKind::HighestRandomWeight(it) => (
                self.choice(Strategy::Rendezvous, &it.services, None),
                it.health_check.is_some(),
            ),
            ServiceKind::Mirroring(it) => (self.mirroring(it), it.health_check.is_some()),
            ServiceKind::Failover(it) => (self.failover(it), it.health_check.is_some()),
        };
        if self.findings[before..].iter().any(Diagnostic::is_error) {
            return None;
        }
        Some(GroupSettings {
            kind: kind?,
            follows,
        })
    }

    fn choice(
        &mut self,
        strategy: Strategy,
        services: &[WeightedService],
        cookie: Option<&routing::Sticky>,
    ) -> Option<Settings> {
        let follows = self.follows();
        let children: Vec<_> = services
            .iter()
            .enumerate()
            .map(|(position, child)| {
                let field = format!("services[{position}].name");
                Some((self.child(&child.name, &field, follows)?, child.weight))
            })
            .collect();
        if services.iter().all(|child| child.weight <= 0) {
            let message = "no service has a weight above 0: every request is answered with 503";
            let field = self.definition.object.kind.name();
            let finding = self.definition.warning(Kind::Service, field, message);
            self.findings.push(finding);
        }
        Some(Settings::Choice {
            strategy,
            children: children.into_iter().collect::<Option<_>>()?,
            sticky: sticky(cookie),
        })
    }

    fn mirroring(&mut self, options: &routing::Mirroring) -> Option<Settings> {
        let follows = options.health_check.is_some();
        let main = self.child(&options.service, "service", follows);
        let mut mirrors = Vec::with_capacity(options.mirrors.len());
        for (position, mirror) in options.mirrors.iter().enumerate() {
            let field = format!("mirrors[{position}]");
            let child = self.child(&mirror.name, &format!("{field}.name"), false);
            match u8::try_from(mirror.percent).ok().filter(|it| *it <= 100) {
                Some(percent) => mirrors.extend(child.map(|child| (child, percent))),
                None => {
                    let message = format!("{} is not from 0 to 100", mirror.percent);
                    self.error(&format!("{field}.percent"), message);
                }
            }
        }
        let timeout = options.timeout.positive();
        if timeout.is_none() {
            self.error("timeout", format!("{} is not above zero", options.timeout));
        }
        Some(Settings::Mirroring(MirroringSettings {
            main: main?,
            mirrors,
            largest_body: options
                .mirror_body
                .then(|| limit(options.max_body_size).unwrap_or(u64::MAX)),
            timeout: timeout?,
            max_in_flight: options.max_in_flight,
        }))
    }

    fn failover(&mut self, options: &routing::Failover) -> Option<Settings> {
        let errors = options.errors.as_ref();
        let main = self.child(&options.service, "service", errors.is_none());
        let follows = options.health_check.is_some();
        let fallback = self.child(&options.fallback, "fallback", follows);
        let errors = errors.map(|errors| self.errors(errors));
        Some(Settings::Failover {
            main: main?,
            fallback: fallback?,
            errors,
        })
    }

    fn errors(&mut self, options: &routing::FailoverErrors) -> Errors {
        let mut status = Vec::with_capacity(options.status.len());
        for (position, range) in options.status.iter().enumerate() {
            match range.parse::<StatusRange>() {
                Ok(range) => status.push((range.from, range.to)),
                Err(message) => self.error(&format!("errors.status[{position}]"), message),
            }
        }
        if options.status.is_empty() {
            self.error("errors.status", "names no status, so it has no effect");
        }
        Errors {
            status: status.into(),
            largest_body: limit(options.max_request_body_bytes),
        }
    }

    /// A service named in `field`; `checked` if its health must be known.
    fn child(&mut self, written: &str, field: &str, checked: bool) -> Option<Child> {
        if written.is_empty() {
            self.error(field, "names no service");
            return None;
        }
        let name = qualify(written, &self.definition.provider);
        match (self.known)(&name) {
            Ok(is_checked) if checked && !is_checked => {
                let message = format!("the health of `{name}` is not checked");
                let hint = match self.definition.object.kind {
                    ServiceKind::Failover(_) if field == "service" => {
                        "give it a `healthCheck`, or say in `errors.status` after which answers the fallback is asked"
                    }
                    _ => "give it a `healthCheck`, or leave out that of this service",
                };
                let finding = self.finding(field, message).with_hint(hint);
                self.findings.push(finding);
                None
            }
            Ok(_) => Some(Child {
                written: written.into(),
                name: name.into(),
            }),
            Err(missing) => {
                let finding = missing.about(self.finding(field, String::new()));
                self.findings.push(finding);
                None
            }
        }
    }

    fn follows(&self) -> bool {
        match &self.definition.object.kind {
            ServiceKind::Weighted(it) => it.health_check.is_some(),
            ServiceKind::HighestRandomWeight(it) => it.health_check.is_some(),
            _ => false,
        }
    }

    fn finding(&self, field: &str, message: String) -> Diagnostic {
        let field = format!("{}.{field}", self.definition.object.kind.name());
        self.definition.error(Kind::Service, &field, message)
    }

    fn error(&mut self, field: &str, message: impl Into<String>) {
        let finding = self.finding(field, message.into());
        self.findings.push(finding);
    }
}

/// Builds a part of a group.
pub(super) type Build<'b> = &'b dyn Fn(&Child) -> Option<Member>;

impl GroupSettings {
    /// The group's place in a snapshot; `previous` is what it was in the last one.
    pub(super) fn build(
        &self,
        name: &str,
        previous: Option<&Group>,
        now: Instant,
        member: Build<'_>,
    ) -> Option<GroupKind> {
        let previous = previous.map(|group| &group.kind);
        match &self.kind {
            Settings::Choice {
                strategy,
                children,
                sticky,
            } => {
                let previous = match previous {
                    Some(GroupKind::Choice { choice, .. }) => Some(choice),
                    _ => None,
                };
                let services: Vec<_> = children
                    .iter()
                    .map(|(child, weight)| (Arc::clone(&child.written), *weight))
                    .collect();
                let settings = ChoiceSettings {
                    service: name,
                    strategy: *strategy,
                    services: &services,
                    sticky: sticky.as_ref(),
                };
                let members = children.iter();
                let members = members.map(|(child, weight)| Some((member(child)?, *weight)));
                Some(GroupKind::Choice {
                    choice: Choice::new(settings, previous),
                    members: members.collect::<Option<_>>()?,
                    by_address: *strategy == Strategy::Rendezvous,
                })
            }
            Settings::Mirroring(settings) => {
                let previous = match previous {
                    Some(GroupKind::Mirroring(mirroring)) => Some(mirroring),
                    _ => None,
                };
                let built = settings.build(previous, now, member);
                built.map(GroupKind::Mirroring)
            }
            Settings::Failover {
                main,
                fallback,
                errors,
            } => Some(GroupKind::Failover(snapshot::Failover {
                main: member(main)?,
                fallback: member(fallback)?,
                errors: errors.as_ref().map(|errors| FailoverErrors {
                    status: errors.status.clone(),
                    largest_body: errors.largest_body,
                }),
            })),
        }
    }
}

impl MirroringSettings {
    fn build(
        &self,
        previous: Option<&snapshot::Mirroring>,
        now: Instant,
        member: Build<'_>,
    ) -> Option<snapshot::Mirroring> {
        let mirrors = self.mirrors.iter().map(|(child, percent)| {
            Some(Mirror {
                member: member(child)?,
                share: share(child, *percent, previous),
            })
        });
        let allowance = previous.map(|previous| Arc::clone(&previous.allowance));
        Some(snapshot::Mirroring {
            main: member(&self.main)?,
            mirrors: mirrors.collect::<Option<_>>()?,
            largest_body: self.largest_body,
            timeout: self.timeout,
            max_in_flight: self.max_in_flight,
            allowance: allowance.unwrap_or_else(|| Arc::new(Allowance::new(now))),
        })
    }
}

/// The share of a mirror, with the counts it had as long as it is the same share.
fn share(child: &Child, percent: u8, previous: Option<&snapshot::Mirroring>) -> Arc<Share> {
    let same = |mirror: &&Mirror| {
        mirror.member.name == child.name && mirror.share.percent() == u64::from(percent)
    };
    let before = previous.and_then(|previous| previous.mirrors.iter().find(same));
    before.map_or_else(
        || Arc::new(Share::new(percent)),
        |mirror| Arc::clone(&mirror.share),
    )
}

/// A size that is unlimited below zero.
fn limit(size: i64) -> Option<u64> {
    u64::try_from(size).ok()
}
