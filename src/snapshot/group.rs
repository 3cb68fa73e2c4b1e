//! Services made of services: which parts they have, and whether those are up. What is done with a request is in `proxy`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use super::RouteTarget;
use crate::{
    middleware::Middleware,
    observe::ServiceMetrics,
    service::{Allowance, Choice, Service, Share},
};

/// A service that hands its requests to other services.
#[derive(Debug)]
pub struct Group {
    /// Qualified.
    pub name: Arc<str>,
    pub kind: GroupKind,
    /// Whether it has a `healthCheck`, so that its state is of interest.
    pub follows: bool,
    pub metrics: ServiceMetrics,
    /// What was last said of its state; outlives the snapshot.
    pub told: Arc<Told>,
}

/// The kinds of group.
#[derive(Debug)]
pub enum GroupKind {
    /// `weighted` and `highestRandomWeight`: one of several.
    Choice {
        choice: Choice,
        /// Each with its weight.
        members: Box<[(Member, i64)]>,
        /// Whether the client's address decides.
        by_address: bool,
    },
    Mirroring(Mirroring),
    Failover(Failover),
}

/// A part of a group: a service with the middlewares of its own.
#[derive(Debug)]
pub struct Member {
    /// The service's qualified name.
    pub name: Arc<str>,
    pub plan: Arc<[Middleware]>,
    /// The qualified name of each step of `plan`.
    pub steps: Arc<[Arc<str>]>,
    pub target: RouteTarget,
}

/// One service answers, others get copies.
#[derive(Debug)]
pub struct Mirroring {
    pub main: Member,
    pub mirrors: Box<[Mirror]>,
    /// The largest body that is copied; `None` if bodies are not copied at all.
    pub largest_body: Option<u64>,
    pub timeout: Duration,
    pub max_in_flight: u32,
    pub allowance: Arc<Allowance>,
}

/// A service that gets copies, and of how many requests.
#[derive(Debug)]
pub struct Mirror {
    pub member: Member,
    pub share: Arc<Share>,
}

/// One service answers as long as it can, then the other.
#[derive(Debug)]
pub struct Failover {
    pub main: Member,
    pub fallback: Member,
    /// Answers that the fallback is asked after.
    pub errors: Option<FailoverErrors>,
}

#[derive(Debug)]
pub struct FailoverErrors {
    /// First and last status of each range.
    pub status: Box<[(u16, u16)]>,
    /// Larger bodies are refused.
    pub largest_body: Option<u64>,
}

impl FailoverErrors {
    /// Whether the fallback is asked after an answer with this status.
    pub fn holds(&self, status: u16) -> bool {
        let mut ranges = self.status.iter();
        ranges.any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl Group {
    /// Its name in the configuration language.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            GroupKind::Choice { by_address, .. } => match by_address {
                true => "highestRandomWeight",
                false => "weighted",
            },
            GroupKind::Mirroring(_) => "mirroring",
            GroupKind::Failover(_) => "failover",
        }
    }

    /// Whether it can answer: while one of the services can that answers come from.
    pub fn up(&self) -> bool {
        match &self.kind {
            GroupKind::Choice {
                choice, members, ..
            } => {
                let mut members = members.iter().enumerate();
                members.any(|(index, (member, _))| choice.counts(index) && member.target.up())
            }
            GroupKind::Mirroring(mirroring) => mirroring.main.target.up(),
            GroupKind::Failover(failover) => {
                failover.main.target.up() || failover.fallback.target.up()
            }
        }
    }

    /// All parts, in the order they were written.
    pub fn members(&self) -> Vec<&Member> {
        match &self.kind {
            GroupKind::Choice { members, .. } => members.iter().map(|(member, _)| member).collect(),
            GroupKind::Mirroring(mirroring) => {
                let mirrors = mirroring.mirrors.iter().map(|mirror| &mirror.member);
                std::iter::once(&mirroring.main).chain(mirrors).collect()
            }
            GroupKind::Failover(failover) => vec![&failover.main, &failover.fallback],
        }
    }

    /// Whether it came up or went down since this was asked last; then it says which.
    pub fn changed(&self) -> Option<bool> {
        let up = self.up();
        self.metrics.is_up(up);
        let was = self.told.0.swap(!up, Relaxed);
        (was == up).then_some(up)
    }
}

/// Whether a group was down when it was last spoken of.
#[derive(Debug, Default)]
pub struct Told(AtomicBool);

impl RouteTarget {
    /// Whether it can answer, as far as is known.
    pub fn up(&self) -> bool {
        match self {
            Self::Service(service) => service.up(),
            Self::Group(group) => group.up(),
            Self::Internal(_) => true,
        }
    }

    /// Whether a service above it can follow its health.
    pub fn is_checked(&self) -> bool {
        match self {
            Self::Service(service) => service.health_check.is_some(),
            Self::Group(group) => group.follows,
            Self::Internal(_) => false,
        }
    }

    /// The service of servers that a request is most likely to come to.
    pub fn leaf(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Service(service) => Some(service),
            Self::Internal(_) => None,
            Self::Group(group) => match &group.kind {
                GroupKind::Choice {
                    choice, members, ..
                } => {
                    let counts = |index: &usize| choice.counts(*index);
                    let target = |index: usize| &members[index].0.target;
                    let all = || (0..members.len()).filter(counts).map(target);
                    all()
                        .find(|target| target.up())
                        .or_else(|| all().next())?
                        .leaf()
                }
                GroupKind::Mirroring(mirroring) => mirroring.main.target.leaf(),
                GroupKind::Failover(failover) => match failover.main.target.up() {
                    true => failover.main.target.leaf(),
                    false => failover.fallback.target.leaf(),
                },
            },
        }
    }
}
