//! Services and tasks of a swarm. Managers are asked for all of it at once, so that nothing has to be inspected; the engine here tells
//! of its own tasks in between.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;

use super::{Roster, Urgency};
use crate::provider::docker::{
    container::{Change, Container, Event, Health, Id, Status},
    settings::Verdict,
    swarm::View,
};

impl Roster {
    /// Compares with a whole swarm.
    pub(in crate::provider::docker) fn surveyed(&mut self, view: View, now: Instant) {
        if let Some(own) = view.own {
            self.move_to(own);
        }
        let present: HashSet<Id> = view.parts.iter().map(|part| Arc::clone(&part.id)).collect();
        self.ended.retain(|id| present.contains(id));
        self.ignored.retain(|id, _| present.contains(id));
        for part in view.parts {
            if !self.ended.contains(&part.id) {
                self.survey(part);
            }
        }
        let missing = self
            .members
            .values()
            .filter(|member| !present.contains(&member.container.id));
        let mut missing: Vec<(bool, Id)> = missing
            .map(|member| {
                (
                    !member.contribution.is_task,
                    Arc::clone(&member.container.id),
                )
            })
            .collect();
        // What lingers is what the last of a group leaves behind: the service has more to say than its tasks.
        missing.sort();
        for (_, id) in missing {
            self.gone(&id, now);
        }
    }

    /// Takes in one part of a swarm.
    fn survey(&mut self, mut part: Container) {
        match self.settings.judge(&part.labelled(), &part.labels) {
            Verdict::Served => {
                self.ignored.remove(&part.id);
                if let Some(member) = self.members.get(&part.id)
                    && part.is_task()
                {
                    let known = &member.container;
                    // Its own engine tells more, and sooner.
                    if known.status == Status::Paused {
                        part.status = Status::Paused;
                    }
                    let told = matches!(known.health, Health::Healthy | Health::Unhealthy);
                    if told {
                        part.health = known.health;
                    }
                }
                self.insert(part);
            }
            Verdict::Ignored(found) => {
                if self.members.remove(&part.id).is_some() {
                    self.change(Urgency::Soon);
                }
                if !part.is_task() && self.ignored.get(&part.id) != Some(&found) {
                    self.ignore(part.id, found);
                }
            }
        }
    }

    /// Something has happened to a task of this engine.
    pub(in crate::provider::docker) fn happened_to_task(&mut self, event: Event, now: Instant) {
        let Event { id, change } = event;
        match change {
            Change::Died | Change::Destroyed => {
                self.gone(&id, now);
                // A task that has ended never runs again.
                self.ended.insert(id);
            }
            Change::Started | Change::Unpaused => {
                if let Some(member) = self.members.get_mut(&id)
                    && member.container.status == Status::Paused
                {
                    member.container.status = Status::Running;
                    self.change(Urgency::Soon);
                }
            }
            other => self.told(&id, &other, now),
        }
    }
}
