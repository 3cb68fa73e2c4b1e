//! The services that a service is made of.

use serde::{Deserialize, Serialize};

use super::{Configuration, ServerState, Step, server_state, step};
use crate::snapshot::{Group, GroupKind, Member, RouteTarget};

/// A service within another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    pub service: String,
    /// What it is to the other: `weight 3`, `answers`, `mirror of 30 %`, `fallback`.
    pub role: String,
    /// In the words of the configuration, `loadBalancer` for one of servers.
    pub kind: String,
    /// Those of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<Step>,
    /// Nothing if no running instance was asked.
    pub up: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerState>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Self>,
}

/// What a group is made of, in the order it was written.
pub(super) fn parts(configuration: &Configuration<'_>, group: &Group) -> Vec<Part> {
    let part = |member: &Member, role: String| part(configuration, member, role);
    match &group.kind {
        GroupKind::Choice { members, .. } => members
            .iter()
            .map(|(member, weight)| part(member, format!("weight {weight}")))
            .collect(),
        GroupKind::Mirroring(mirroring) => {
            let mirrors = mirroring.mirrors.iter().map(|mirror| {
                let role = format!("mirror of {} %", mirror.share.percent());
                part(&mirror.member, role)
            });
            let main = part(&mirroring.main, "answers".to_owned());
            std::iter::once(main).chain(mirrors).collect()
        }
        GroupKind::Failover(failover) => vec![
            part(&failover.main, "answers".to_owned()),
            part(&failover.fallback, "fallback".to_owned()),
        ],
    }
}

fn part(configuration: &Configuration<'_>, member: &Member, role: String) -> Part {
    let live = configuration.live;
    let (kind, servers, within) = match &member.target {
        RouteTarget::Service(service) => {
            let servers = service.servers.iter();
            let servers = servers.map(|server| server_state(server, live)).collect();
            ("loadBalancer", servers, Vec::new())
        }
        RouteTarget::Group(group) => (group.kind(), Vec::new(), parts(configuration, group)),
        RouteTarget::Internal(_) => ("internal", Vec::new(), Vec::new()),
    };
    let steps = member.steps.iter();
    Part {
        service: member.name.to_string(),
        role,
        kind: kind.to_owned(),
        middlewares: steps.map(|name| step(configuration, name)).collect(),
        up: live.then(|| member.target.up()),
        servers,
        parts: within,
    }
}
