//! Requests that go to services made of services.

mod failover;
mod mirror;

use std::{future::Future, pin::Pin, sync::Arc};

use http::header::SET_COOKIE;

use super::{Journey, Leg};
use crate::{
    exchange::{Fault, FaultKind, Response},
    snapshot::{Group, GroupKind, Member},
    upstream::Interim,
};

pub(super) use mirror::Pending;

impl Journey {
    /// The answer of a group. In a box, because groups lie within groups.
    pub(super) fn enter<'a>(
        &'a mut self,
        group: &'a Arc<Group>,
        interim: Option<&'a dyn Interim>,
    ) -> Pin<Box<dyn Future<Output = Response> + 'a>> {
        Box::pin(async move {
            match &group.kind {
                GroupKind::Choice { .. } => self.choose(group, interim).await,
                GroupKind::Mirroring(mirroring) => {
                    self.copy_for_mirrors(group, mirroring);
                    self.visit(&mirroring.main, interim).await
                }
                GroupKind::Failover(failover) => self.fail_over(failover, interim).await,
            }
        })
    }

    async fn choose(&mut self, group: &Group, interim: Option<&dyn Interim>) -> Response {
        let GroupKind::Choice {
            choice, members, ..
        } = &group.kind
        else {
            return self.give_up(Fault::ours(FaultKind::Internal));
        };
        let client = self.exchange.connection.peer.ip();
        let headers = &self.exchange.request.headers;
        let up = |index: usize| members[index].0.target.up();
        let Some(chosen) = choice.pick(client, headers, up) else {
            return self.give_up(Fault::ours(FaultKind::NoServer));
        };
        let mut response = self.visit(&members[chosen.index].0, interim).await;
        if let Some(cookie) = chosen.set_cookie {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }

    /// The answer of a part of a group.
    async fn visit(&mut self, member: &Member, interim: Option<&dyn Interim>) -> Response {
        let leg = Leg {
            steps: &member.plan,
            names: &member.steps,
            target: &member.target,
        };
        self.run(leg, interim).await
    }
}
