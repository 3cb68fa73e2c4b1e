//! Puts routes into the tables of entry points, after settling which TLS options every host gets there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Draft, Routers, Tables};
use crate::{
    compile::{Stage, services::timeouts},
    config::{Diagnostic, Kind, install::Providers},
    observe::{Metrics, ServiceMetrics, TrafficMetrics},
    snapshot::{
        Route, RouteTarget,
        table::{Entry, Table},
    },
    tls::{Claim, DEFAULT_OPTIONS, Tls, Verdict, agree},
};

/// Mounts all drafts.
pub(super) fn mount(
    stage: &Stage<'_>,
    tls: &Tls,
    drafts: &[Draft],
    findings: &mut Vec<Diagnostic>,
) -> Routers {
    let mut mounted = Mounted::default();
    let mut by_door: Vec<Vec<usize>> = vec![Vec::new(); stage.doors.len()];
    for (position, draft) in drafts.iter().enumerate() {
        for door in &draft.entry_points {
            by_door[*door].push(position);
        }
    }
    let default: Arc<str> = DEFAULT_OPTIONS.into();
    let mut settled = Vec::with_capacity(stage.doors.len());
    for (door, positions) in by_door.iter().enumerate() {
        let (secure, plain): (Vec<usize>, Vec<usize>) = positions
            .iter()
            .partition(|position| drafts[**position].tls_options.is_some());
        let hosts = secure_hosts(drafts, &secure);
        let claims = secure.iter().zip(&hosts).map(|(position, hosts)| Claim {
            hosts,
            options: drafts[*position]
                .tls_options
                .as_deref()
                .unwrap_or(DEFAULT_OPTIONS),
        });
        let claims: Vec<Claim<'_>> = claims.collect();
        let strict = stage.input.install.core.strict_tls_options;
        let agreement = agree(&claims, strict);
        let mut secure_mounts = Vec::with_capacity(secure.len());
        for (position, verdict) in secure.iter().zip(&agreement.verdicts) {
            let draft = &drafts[*position];
            if *verdict != Verdict::Kept {
                findings.extend(fallen_back(
                    draft,
                    *verdict,
                    &stage.doors[door].name,
                    strict,
                ));
                if strict {
                    continue;
                }
            }
            let (name, options) = match verdict {
                Verdict::Kept => (Arc::clone(&draft.name), draft.tls_options.clone()),
                Verdict::Conflicted | Verdict::NoHost => {
                    let name = format!("{}-conflicted-{}", stage.doors[door].name, draft.name);
                    (name.into(), Some(Arc::clone(&default)))
                }
            };
            secure_mounts.push(mounted.add(*position, name, options));
        }
        let plain_mounts: Vec<usize> = plain
            .iter()
            .map(|position| mounted.add(*position, Arc::clone(&drafts[*position].name), None))
            .collect();
        settled.push(Settled {
            plain: plain_mounts,
            secure: secure_mounts,
            tls: tls.sni_table(agreement.host_options()),
        });
    }
    mounted.finish(stage, drafts, settled)
}

/// What an entry point is to have, by position in [`Mounted::mounts`].
struct Settled {
    plain: Vec<usize>,
    secure: Vec<usize>,
    tls: crate::tls::SniTable,
}

/// Routes to be, each a draft under a name.
#[derive(Default)]
struct Mounted {
    mounts: Vec<Mount>,
    by_name: HashMap<Arc<str>, usize>,
}

struct Mount {
    draft: usize,
    name: Arc<str>,
    tls_options: Option<Arc<str>>,
}

impl Mounted {
    fn add(&mut self, draft: usize, name: Arc<str>, tls_options: Option<Arc<str>>) -> usize {
        let next = self.mounts.len();
        let position = *self.by_name.entry(Arc::clone(&name)).or_insert(next);
        if position == next {
            self.mounts.push(Mount {
                draft,
                name,
                tls_options,
            });
        }
        position
    }

    fn finish(self, stage: &Stage<'_>, drafts: &[Draft], settled: Vec<Settled>) -> Routers {
        let mut order: Vec<usize> = (0..self.mounts.len()).collect();
        order
            .sort_unstable_by(|left, right| self.mounts[*left].name.cmp(&self.mounts[*right].name));
        let mut index = vec![0u32; order.len()];
        for (at, position) in (0u32..).zip(&order) {
            index[*position] = at;
        }
        let ranks = Ranks::new(&stage.input.install.providers);
        let table = |positions: &[usize]| {
            let entries = positions.iter().map(|position| {
                let mount = &self.mounts[*position];
                let draft = &drafts[mount.draft];
                Entry {
                    rule: draft.matching.matcher.clone(),
                    priority: draft.matching.priority,
                    rank: ranks.of(&draft.definition.provider),
                    name: &mount.name,
                    route: index[*position],
                }
            });
            Table::new(entries.collect())
        };
        let tables = settled.into_iter().map(|settled| Tables {
            plain: table(&settled.plain),
            secure: table(&settled.secure),
            tls: settled.tls,
        });
        let tables = tables.collect();
        let metrics = &stage.input.workshop.metrics;
        let mut services = HashMap::new();
        let routes = order.iter().map(|position| {
            let mount = &self.mounts[*position];
            let draft = &drafts[mount.draft];
            let service = services
                .entry(&*draft.service)
                .or_insert_with(|| metrics.service(&draft.service));
            Arc::new(route(draft, mount, metrics, service))
        });
        Routers {
            routes: routes.collect(),
            tables,
            demands: Arc::default(),
        }
    }
}

fn route(draft: &Draft, mount: &Mount, metrics: &Metrics, service: &ServiceMetrics) -> Route {
    let counted = |traffic: TrafficMetrics| {
        if draft.signals.metrics {
            traffic
        } else {
            TrafficMetrics::default()
        }
    };
    Route {
        name: Arc::clone(&mount.name),
        written_as: Arc::clone(&draft.definition.name),
        rule: Arc::clone(&draft.matching.rule),
        matcher: draft.matching.matcher.clone(),
        syntax: draft.matching.syntax,
        priority: draft.matching.priority,
        service: Arc::clone(&draft.service),
        plan: Arc::clone(&draft.plan),
        steps: Arc::clone(&draft.steps),
        target: draft.target.clone(),
        tls_options: mount.tls_options.clone(),
        denied: draft.denied,
        timeouts: timeouts(draft.definition.object.timeouts),
        signals: draft.signals,
        internal: matches!(draft.target, RouteTarget::Internal(_)),
        router_traffic: counted(metrics.router(&mount.name, &draft.service)),
        service_traffic: counted(service.traffic().clone()),
        service_metrics: service.clone(),
    }
}

fn secure_hosts(drafts: &[Draft], positions: &[usize]) -> Vec<Vec<String>> {
    let hosts = positions.iter().map(|position| {
        let hosts = drafts[*position].matching.matcher.hosts();
        hosts.into_iter().map(str::to_owned).collect()
    });
    hosts.collect()
}

/// Tells that a router does not get the TLS options it asked for.
fn fallen_back(draft: &Draft, verdict: Verdict, door: &str, strict: bool) -> Option<Diagnostic> {
    let wanted = draft.tls_options.as_deref()?;
    let reason = match verdict {
        Verdict::Kept => return None,
        Verdict::Conflicted => "another router for the same host asks for other TLS options",
        Verdict::NoHost => "its rule names no host to choose TLS options by",
    };
    if strict {
        let message = format!("not served on `{door}`: {reason} (core.strictTLSOptions)");
        return Some(draft.definition.error(Kind::Router, "tls.options", message));
    }
    (wanted != DEFAULT_OPTIONS).then(|| {
        let message = format!(
            "served with the default TLS options on `{door}` instead of `{wanted}`: {reason}"
        );
        let hint = match verdict {
            Verdict::NoHost => "add Host(`...`) to the rule",
            _ => "let all routers of a host name the same TLS options",
        };
        draft
            .definition
            .warning(Kind::Router, "tls.options", message)
            .with_hint(hint)
    })
}

/// Which provider goes first among routers of equal priority.
pub(super) struct Ranks(BTreeMap<String, u32>);

impl Ranks {
    pub(super) fn new(providers: &Providers) -> Self {
        let configured = providers
            .precedence
            .iter()
            .map(|name| name.to_ascii_lowercase());
        let configured: Vec<String> = configured.collect();
        let order: Vec<String> = match configured.is_empty() {
            true => DEFAULT_PRECEDENCE
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            false => configured,
        };
        Self(order.into_iter().zip(0..).collect())
    }

    pub(super) fn of(&self, provider: &str) -> u32 {
        self.0.get(provider).copied().unwrap_or(u32::MAX)
    }
}

const DEFAULT_PRECEDENCE: [&str; 17] = [
    "kubernetesgateway",
    "kubernetescrd",
    "kubernetes",
    "kubernetesingressnginx",
    "swarm",
    "docker",
    "file",
    "redis",
    "knative",
    "consul",
    "consulcatalog",
    "nomad",
    "etcd",
    "ecs",
    "http",
    "zookeeper",
    "rest",
];
