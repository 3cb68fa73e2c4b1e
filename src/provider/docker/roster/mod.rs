//! Which containers there are and how they are: a state machine fed with what the engine tells, and with the time.
//!
//! It asks for inspections and says what the configuration is; it does not know how either travels.

mod member;
mod survey;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use member::Member;

use super::{
    address::Surroundings,
    container::{Change, Container, Event, Id, Listed, Status},
    contribution::{Contribution, LONGEST_HOLD, contribute},
    merge::{Voice, merge},
    settings::{Settings, Verdict},
};
use crate::config::{
    DecodedRouting, Diagnostic, Labelled,
    routing::{Condition, ServiceKind},
};

/// All containers.
#[derive(Debug)]
pub(super) struct Roster {
    settings: Settings,
    around: Surroundings,
    /// How the identifier of our own container begins.
    own: Option<String>,
    members: BTreeMap<Id, Member>,
    /// Containers that are not for us, and what was found wrong with those.
    ignored: BTreeMap<Id, Vec<Diagnostic>>,
    /// What has gone and is not forgotten yet.
    ghosts: Vec<Ghost>,
    /// When the first container of each group was made.
    since: HashMap<Arc<str>, i64>,
    /// Inspections under way.
    asked: HashMap<Id, Asked>,
    /// Tasks whose container has ended, while the managers may not know.
    ended: HashSet<Id>,
    /// Inspections that failed.
    failed: BTreeMap<Id, Failed>,
    /// The engine has gone, and nobody is there to be asked.
    away: bool,
    changed: Option<Urgency>,
}

#[derive(Debug)]
struct Ghost {
    contribution: Arc<Contribution>,
    until: Instant,
}

#[derive(Debug, Default)]
struct Asked {
    /// Something has happened since: the answer may be old.
    outdated: bool,
}

#[derive(Debug)]
struct Failed {
    tries: u32,
    why: String,
    /// When to ask again; `None` while that is under way.
    again: Option<Instant>,
}

/// How soon a change has to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// More may follow.
    Soon,
    /// A server is no longer what it was.
    Now,
}

/// What to ask the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) inspect: Vec<Id>,
    /// The whole list.
    pub(super) list: bool,
}

impl Roster {
    pub(super) fn new(settings: Settings, around: Surroundings, own: Option<String>) -> Self {
        Self {
            settings,
            around,
            own,
            members: BTreeMap::new(),
            ignored: BTreeMap::new(),
            ghosts: Vec::new(),
            since: HashMap::new(),
            asked: HashMap::new(),
            ended: HashSet::new(),
            failed: BTreeMap::new(),
            away: false,
            changed: None,
        }
    }

    /// Takes containers known from an earlier run, until the engine tells of them.
    pub(super) fn restore(&mut self, containers: Vec<Container>) {
        for container in containers {
            self.insert(container);
        }
    }

    /// Compares with the engine's whole list.
    pub(super) fn listed(&mut self, list: Vec<Listed>) -> Wants {
        let mut wants = Wants::default();
        self.away = false;
        self.settle_in(&list);
        let present: HashSet<Id> = list.iter().map(|listed| Arc::clone(&listed.id)).collect();
        // What the list lacks may also be newer than the list.
        let known = self.members.keys().chain(self.failed.keys());
        let missing: BTreeSet<Id> = known.filter(|id| !present.contains(*id)).cloned().collect();
        for id in missing {
            self.ask(&id, &mut wants);
        }
        self.ignored.retain(|id, _| present.contains(id));
        for listed in list {
            self.compare(&listed, &mut wants);
        }
        wants
    }

    fn compare(&mut self, listed: &Listed, wants: &mut Wants) {
        if self.ignored.contains_key(&listed.id) || self.asked.contains_key(&listed.id) {
            return;
        }
        if let Some(member) = self.members.get(&listed.id) {
            // A list does not tell whether who was told to stop has been started again since.
            if member.leaving.is_some() || !listed.tells_nothing_new(&member.container) {
                self.ask(&listed.id, wants);
            }
            return;
        }
        if listed.status == Status::Stopped && !Settings::keeps_stopped(&listed.labels) {
            return;
        }
        match self.settings.judge(&listed.labelled(), &listed.labels) {
            Verdict::Served if !self.failed.contains_key(&listed.id) => self.ask(&listed.id, wants),
            Verdict::Served => {}
            Verdict::Ignored(found) => self.ignore(Arc::clone(&listed.id), found),
        }
    }

    /// Looks where our own container is.
    fn settle_in(&mut self, list: &[Listed]) {
        let Some(own) = &self.own else { return };
        let us = list
            .iter()
            .find(|listed| listed.id.starts_with(own.as_str()));
        let Some(us) = us else { return };
        let networks = us.networks.values();
        let networks = networks.map(|attachment| attachment.network.clone());
        self.move_to(networks.collect());
    }

    /// Our own container is on these networks.
    fn move_to(&mut self, networks: BTreeSet<String>) {
        if networks != self.around.networks {
            self.around.networks = networks;
            for member in self.members.values_mut() {
                member.contribution =
                    Arc::new(contribute(&member.container, &self.settings, &self.around));
            }
            self.change(Urgency::Soon);
        }
    }

    /// Something has happened.
    pub(super) fn happened(&mut self, event: Event, now: Instant) -> Wants {
        let Event { id, change } = event;
        let mut wants = Wants::default();
        let own = self
            .own
            .as_ref()
            .is_some_and(|own| id.starts_with(own.as_str()));
        let moved = matches!(change, Change::Connected | Change::Disconnected(_));
        wants.list = own && moved;
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.outdated = true;
        }
        match change {
            Change::Started if !self.ignored.contains_key(&id) => {
                let member = self.members.get_mut(&id);
                if member.is_some_and(|member| member.leaving.take().is_some()) {
                    self.change(Urgency::Soon);
                }
                self.ask(&id, &mut wants);
            }
            // Who is told to stop while paused is let go on for that: it goes on leaving.
            Change::Unpaused if !self.ignored.contains_key(&id) => self.ask(&id, &mut wants),
            Change::Connected | Change::Renamed | Change::Health(None) => {
                if self.members.contains_key(&id) {
                    self.ask(&id, &mut wants);
                }
            }
            Change::Disconnected(network) => self.disconnected(&id, &network, &mut wants),
            Change::Died => self.died(&id, now, &mut wants),
            Change::Destroyed => {
                self.ignored.remove(&id);
                self.failed.remove(&id);
                self.gone(&id, now);
            }
            Change::Started | Change::Unpaused => {}
            other => self.told(&id, &other, now),
        }
        wants
    }

    /// What needs no inspection.
    fn told(&mut self, id: &Id, change: &Change, now: Instant) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match change {
            Change::Health(Some(health)) => member.container.health = *health,
            Change::Paused => member.container.status = Status::Paused,
            Change::Killed(signal) => {
                if !member.signalled(*signal, now) {
                    return;
                }
            }
            _ => return,
        }
        self.change(Urgency::Now);
    }

    fn disconnected(&mut self, id: &Id, network: &str, wants: &mut Wants) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let networks = &mut member.container.networks;
        networks.retain(|_, attachment| attachment.network != network);
        if member.contribution.networks.contains(network) {
            member.contribution =
                Arc::new(contribute(&member.container, &self.settings, &self.around));
            self.change(Urgency::Now);
        }
        self.ask(id, wants);
    }

    fn died(&mut self, id: &Id, now: Instant, wants: &mut Wants) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        // Whoever crashes will be started again, and is not to be forgotten until then.
        let comes_back = member.container.restarts && member.leaving.is_none();
        if comes_back || Settings::keeps_stopped(&member.container.labels) {
            member.container.status = match comes_back {
                true => Status::Restarting,
                false => Status::Stopped,
            };
            member.leaving = None;
            member.contribution =
                Arc::new(contribute(&member.container, &self.settings, &self.around));
            self.change(Urgency::Now);
            self.ask(id, wants);
        } else {
            self.gone(id, now);
        }
    }

    /// An inspection has ended; `Ok(None)` if there is no such container.
    pub(super) fn inspected(
        &mut self,
        id: &Id,
        outcome: Result<Option<Container>, String>,
        now: Instant,
    ) -> Wants {
        let mut wants = Wants::default();
        let asked = self.asked.remove(id).unwrap_or_default();
        match outcome {
            Err(why) => {
                let tries = self.failed.get(id).map_or(0, |failed| failed.tries) + 1;
                let pause = FIRST_RETRY
                    .saturating_mul(1 << tries.min(10))
                    .min(LONGEST_RETRY);
                let again = Some(now + pause);
                self.failed
                    .insert(Arc::clone(id), Failed { tries, why, again });
                self.change(Urgency::Soon);
                return wants;
            }
            Ok(_) if asked.outdated => {
                self.ask(id, &mut wants);
                return wants;
            }
            Ok(container) => {
                if self.failed.remove(id).is_some() {
                    self.change(Urgency::Soon);
                }
                match container {
                    Some(container) => self.met(container, now),
                    None => self.gone(id, now),
                }
            }
        }
        wants
    }

    fn met(&mut self, container: Container, now: Instant) {
        let keeps = Settings::keeps_stopped(&container.labels);
        if container.status == Status::Stopped && !keeps {
            self.gone(&container.id, now);
            return;
        }
        match self
            .settings
            .judge(&container.labelled(), &container.labels)
        {
            Verdict::Served => self.insert(container),
            Verdict::Ignored(found) => {
                let id = Arc::clone(&container.id);
                self.members.remove(&id);
                self.ignore(id, found);
            }
        }
    }

    fn ignore(&mut self, id: Id, found: Vec<Diagnostic>) {
        if !found.is_empty() {
            self.change(Urgency::Soon);
        }
        self.ignored.insert(id, found);
    }

    fn insert(&mut self, mut container: Container) {
        let known = self.members.remove(&container.id);
        if let Some(known) = &known
            && container.status == Status::Restarting
        {
            // The engine tells no ports of what does not run.
            container.ports.clone_from(&known.container.ports);
        }
        let same = known
            .as_ref()
            .is_some_and(|known| known.container == container);
        let contribution = match &known {
            Some(known) if same => Arc::clone(&known.contribution),
            _ => Arc::new(contribute(&container, &self.settings, &self.around)),
        };
        let group = Arc::clone(&contribution.group);
        self.ghosts
            .retain(|ghost| ghost.contribution.group != group);
        let since = self.since.entry(group).or_insert(container.created);
        *since = (*since).min(container.created);
        // Who has been started again has not heard the signal.
        let known = known.filter(|known| known.container.started == container.started);
        let member = Member {
            contribution,
            leaving: known.and_then(|known| known.leaving),
            container,
        };
        self.members
            .insert(Arc::clone(&member.container.id), member);
        if !same {
            self.change(Urgency::Soon);
        }
    }

    /// A container is no more. If it was the last of its group, what it defined lingers.
    fn gone(&mut self, id: &Id, now: Instant) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        self.change(Urgency::Now);
        let contribution = member.contribution;
        let group = &contribution.group;
        if self
            .members
            .values()
            .any(|other| other.contribution.group == *group)
        {
            return;
        }
        let linger = self.linger(&contribution);
        if !linger.is_zero() && self.ghosts.len() < MOST_GHOSTS {
            let until = now + linger;
            self.ghosts.push(Ghost {
                contribution,
                until,
            });
        } else {
            self.forget_groups();
        }
    }

    /// As long as requests may wait for the longest-waiting of its services.
    fn linger(&self, contribution: &Contribution) -> Duration {
        let services = contribution.decoded.routing.http.services.values();
        let holds = services.map(|service| match &service.value.kind {
            ServiceKind::LoadBalancer(balancer) => balancer.hold.or(self.settings.hold),
            _ => self.settings.hold,
        });
        let longest = holds.map(|hold| hold.timeout().at_least_zero()).max();
        let longest = longest.unwrap_or_default();
        longest.min(LONGEST_HOLD.at_least_zero())
    }

    fn forget_groups(&mut self) {
        let members = self.members.values().map(|member| &member.contribution);
        let all = members.chain(self.ghosts.iter().map(|ghost| &ghost.contribution));
        let groups: HashSet<&Arc<str>> = all.map(|contribution| &contribution.group).collect();
        self.since.retain(|group, _| groups.contains(group));
    }

    /// Asks for an inspection, unless one is under way; that one is then repeated.
    fn ask(&mut self, id: &Id, wants: &mut Wants) {
        if let Some(asked) = self.asked.get_mut(id) {
            asked.outdated = true;
            return;
        }
        if let Some(failed) = self.failed.get_mut(id) {
            failed.again = None;
        }
        self.asked.insert(Arc::clone(id), Asked::default());
        wants.inspect.push(Arc::clone(id));
    }

    fn change(&mut self, urgency: Urgency) {
        self.changed = self.changed.max(Some(urgency));
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, now: Instant) -> Wants {
        let mut wants = Wants::default();
        let mut stayed = false;
        for member in self.members.values_mut() {
            stayed |= member.pass(now);
        }
        let before = self.ghosts.len();
        self.ghosts.retain(|ghost| ghost.until > now);
        if self.ghosts.len() != before {
            self.forget_groups();
            stayed = true;
        }
        if stayed {
            self.change(Urgency::Soon);
        }
        let due = self
            .failed
            .iter()
            .filter(|(_, failed)| !self.away && failed.again.is_some_and(|at| at <= now));
        let due: Vec<Id> = due.map(|(id, _)| Arc::clone(id)).collect();
        for id in due {
            self.ask(&id, &mut wants);
        }
        wants
    }

    /// When [`Roster::pass`] will have something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let members = self.members.values();
        let leaving = members.filter_map(Member::stays_until);
        let ghosts = self.ghosts.iter().map(|ghost| ghost.until);
        let failed = self.failed.values().filter(|_| !self.away);
        let failed = failed.filter_map(|failed| failed.again);
        leaving.chain(ghosts).chain(failed).min()
    }

    /// Forgets inspections under way: whoever was asked has gone. Those that failed are repeated as soon as there is a list again.
    pub(super) fn abandon(&mut self, now: Instant) {
        self.away = true;
        self.asked.clear();
        for failed in self.failed.values_mut() {
            failed.again = Some(now);
        }
    }

    /// Counts the inspections under way as failed, until they have their answers.
    pub(super) fn lose_patience(&mut self) {
        for id in self.asked.keys() {
            let failed = self.failed.entry(Arc::clone(id));
            failed.or_insert_with(|| Failed {
                tries: 0,
                why: "no answer yet".to_owned(),
                again: None,
            });
        }
        self.change(Urgency::Soon);
    }

    /// Whether every inspection has had its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether the configuration has changed since the last call, and how soon that must be known.
    pub(super) fn take_change(&mut self) -> Option<Urgency> {
        self.changed.take()
    }

    /// The containers that are served.
    pub(super) fn containers(&self) -> Vec<Container> {
        let members = self.members.values();
        members.map(|member| member.container.clone()).collect()
    }

    /// The configuration.
    pub(super) fn routing(&self) -> DecodedRouting {
        let since = |contribution: &Contribution| {
            let since = self.since.get(&contribution.group);
            since.copied().unwrap_or(contribution.created)
        };
        let members = self.members.values().map(|member| Voice {
            since: since(&member.contribution),
            contribution: Arc::clone(&member.contribution),
            condition: member.condition(),
            gone: false,
        });
        let ghosts = self.ghosts.iter().map(|ghost| Voice {
            since: since(&ghost.contribution),
            contribution: Arc::clone(&ghost.contribution),
            condition: Condition::Ready,
            gone: true,
        });
        let mut decoded = merge(members.chain(ghosts).collect());
        let ignored = self.ignored.values().flatten();
        decoded.diagnostics.extend(ignored.cloned());
        decoded.diagnostics.extend(self.failures());
        decoded
    }

    fn failures(&self) -> impl Iterator<Item = Diagnostic> {
        self.failed.iter().map(|(id, failed)| {
            let of = match self.members.get(id) {
                Some(member) => member.contribution.of.clone(),
                None => Labelled::Container(id.get(..12).unwrap_or(id).into()),
            };
            let message = format!("cannot be inspected: {}", failed.why);
            Diagnostic::warning(of.whole(), "", message).with_hint("it is tried again")
        })
    }
}

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// More containers than this do not vanish within the time that one lingers, unless on purpose.
const MOST_GHOSTS: usize = 10_000;

#[cfg(test)]
mod tests;
