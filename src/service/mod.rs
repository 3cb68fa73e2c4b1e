//! Where to: services, servers, balancers, health.
//!
//! A [`Service`] belongs to a snapshot; its [`Server`]s outlive it, found again by [`Service::build`] in the previous service of the
//! same name.

mod balancer;
mod budget;
mod check;
mod choice;
mod condition;
mod health;
mod hedge;
mod hold;
mod mirror;
mod server;
mod sticky;
mod timeouts;
mod transport;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};

use crate::observe::ServiceMetrics;

use self::{
    balancer::Balancer,
    server::{ServerParts, Verdict},
    sticky::{Named, Sticky, StickyName},
};
pub use self::{
    balancer::Strategy,
    budget::{BudgetSettings, RetryBudget},
    check::{CheckMode, HealthCheck},
    choice::{Choice, ChoiceSettings, Chosen},
    condition::Condition,
    health::{
        Failure, Health, HealthChange, HealthReport, OutlierSettings, PassiveSettings, Readiness,
        Thresholds,
    },
    hedge::{After, Hedge, HedgeSettings},
    hold::{HoldSettings, Room, Seat},
    mirror::{Allowance, Permit, Share},
    server::{InFlight, Outcome, Scheme, Server, ServerId, ServerUrl, ServerUrlError, Slots},
    sticky::StickySettings,
    timeouts::Timeouts,
    transport::Transport,
};

/// A balanced set of servers.
#[derive(Debug)]
pub struct Service {
    /// Qualified name, `app@docker`.
    pub name: Arc<str>,
    /// Every server, in configured order; a URL listed twice is here twice (as the same server).
    pub servers: Box<[Arc<Server>]>,
    /// Whether the client's `Host` is sent on; else the server's own.
    pub pass_host_header: bool,
    pub transport: Arc<Transport>,
    /// The active check; whoever swaps the snapshot in has it carried out.
    pub health_check: Option<Arc<HealthCheck>>,
    /// `None`: every write of the server is sent on at once.
    pub flush_interval: Option<Duration>,
    pub budget: Arc<RetryBudget>,
    pub hold: HoldSettings,
    /// Where requests wait while no server is usable.
    pub room: Arc<Room>,
    pub metrics: ServiceMetrics,
    pub timeouts: Timeouts,
    pub hedge: Option<Arc<Hedge>>,
    outliers: Option<OutlierSettings>,
    balancer: Balancer,
    sticky: Option<Sticky>,
    /// What the provider says of each server.
    conditions: Box<[Condition]>,
}

/// What a service is built from: plain values, with everything resolved.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    pub name: Arc<str>,
    pub servers: Vec<ServerSettings>,
    pub strategy: Strategy,
    pub sticky: Option<StickySettings>,
    pub pass_host_header: bool,
    pub transport: Arc<Transport>,
    pub health_check: Option<Arc<HealthCheck>>,
    pub passive: Option<PassiveSettings>,
    pub flush_interval: Option<Duration>,
    pub budget: BudgetSettings,
    pub hold: HoldSettings,
    /// `slowStart`.
    pub warm_up: Option<Duration>,
    pub timeouts: Timeouts,
    pub outliers: Option<OutlierSettings>,
    pub hedge: Option<HedgeSettings>,
}

/// One `servers[]` entry.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub url: ServerUrl,
    pub weight: i64,
    pub preserve_path: bool,
    /// What the URL's host name resolves to; not looked at if the host is an IP address.
    pub addresses: Vec<IpAddr>,
    pub condition: Condition,
}

/// What a pick depends on.
#[derive(Debug, Clone, Copy)]
pub struct PickKey<'a> {
    /// The TCP peer (or what a trusted PROXY header said).
    pub client_ip: IpAddr,
    /// The request's header, looked at for cookies only.
    pub headers: &'a HeaderMap,
    /// Servers this request has tried already.
    pub exclude: &'a [ServerId],
}

/// The server picked.
#[derive(Debug)]
pub struct Pick<'a> {
    pub server: &'a Arc<Server>,
    /// To be appended to the response as `Set-Cookie`.
    pub set_cookie: Option<HeaderValue>,
    /// So few servers are well that health was ignored.
    pub in_panic: bool,
}

impl Service {
    /// Builds a service, using again what `previous` (the service of the same name in the last snapshot) has: servers with their
    /// health, connections and counters, the place in the round, the retry budget.
    pub fn build(
        settings: ServiceSettings,
        previous: Option<&Self>,
        slots: &Slots,
        now: Instant,
    ) -> Self {
        let mut members = Vec::with_capacity(settings.servers.len());
        for server in &settings.servers {
            expand(server, &settings, &mut members);
        }
        let weights: Vec<i64> = members.iter().map(|member| member.weight).collect();
        let names: Vec<StickyName> = members.iter().map(|member| member.name.clone()).collect();
        let conditions = members.iter().map(|member| member.condition.clone());
        let conditions: Box<[Condition]> = conditions.collect();
        let mut known = Known::new(previous, slots, now);
        known.checked = settings.health_check.is_some();
        let servers: Box<[Arc<Server>]> = members
            .into_iter()
            .map(|member| known.find_or_make(member))
            .collect();
        servers
            .iter()
            .for_each(|server| watch(server, &settings, now));
        let keys: Vec<Arc<str>> = names.iter().map(|name| Arc::clone(&name.own)).collect();
        let cursor = previous.map(|service| Arc::clone(service.balancer.cursor()));
        let sticky = settings
            .sticky
            .as_ref()
            // The client's address decides alone.
            .filter(|_| settings.strategy != Strategy::Rendezvous)
            .map(|sticky| Sticky::new(sticky, &settings.name, &names));
        Self {
            balancer: Balancer::new(
                settings.strategy,
                &weights,
                &keys,
                cursor.unwrap_or_default(),
            )
            .warming_up(settings.warm_up),
            sticky,
            conditions,
            servers,
            pass_host_header: settings.pass_host_header,
            transport: settings.transport,
            health_check: settings.health_check,
            flush_interval: settings.flush_interval,
            budget: previous
                .map(|service| &service.budget)
                .filter(|budget| budget.settings() == settings.budget)
                .map_or_else(
                    || Arc::new(RetryBudget::new(settings.budget, now)),
                    Arc::clone,
                ),
            timeouts: settings.timeouts,
            hedge: settings.hedge.map(|hedge| again(hedge, previous, now)),
            outliers: settings.outliers,
            hold: settings.hold,
            room: previous.map_or_else(
                || Arc::new(Room::new(now)),
                |service| Arc::clone(&service.room),
            ),
            metrics: ServiceMetrics::default(),
            name: settings.name,
        }
    }

    /// Gives it what it counts with.
    #[must_use]
    pub fn counted_with(self, metrics: ServiceMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Lets the servers that were there before be in the condition that this service says, and tells those that changed. To be called
    /// when the service goes live: until then the servers belong to the snapshot before. New servers are in their condition already.
    pub fn enact(&self, now: Instant) -> Vec<ConditionChange> {
        let mut changes = Vec::new();
        for (server, condition) in self.servers.iter().zip(&self.conditions) {
            let Some(before) = server.health.set_condition(condition, now) else {
                continue;
            };
            match (&before, condition) {
                // A server that was ready until it had to go has been of use.
                (Condition::Ready, Condition::Leaving(_)) => self.room.prove(),
                // One that its provider found to be ready is worth waiting for.
                (_, Condition::Ready) => {
                    self.room.prove();
                    self.room.wake();
                }
                _ => {}
            }
            changes.push(ConditionChange {
                server: Arc::clone(server),
                now: condition.clone(),
            });
        }
        changes
    }

    /// Whether requests wait when no server is usable.
    pub fn may_hold(&self) -> bool {
        self.hold.is_on() && self.room.is_proven()
    }

    /// Why no server is ready although some are there, in a provider's words.
    pub fn excuse(&self) -> Option<&Arc<str>> {
        let mut reasons = self
            .conditions
            .iter()
            .filter_map(|condition| match condition {
                Condition::Waiting(reason) | Condition::Unhealthy(reason) => Some(reason),
                Condition::Ready | Condition::Leaving(_) => None,
            });
        reasons.next()
    }

    /// Picks a server; `None` if all are down or tried already (503).
    pub fn pick(&self, key: &PickKey<'_>) -> Option<Pick<'_>> {
        if let Some(pick) = self.sticky_pick(key) {
            return Some(pick);
        }
        // Servers not known to be well get traffic only when there is nobody else.
        let in_panic = self.panics();
        let index = match in_panic {
            true => self.balanced_pick(key, |server| server.is_welcome()),
            false => self
                .balanced_pick(key, |server| server.readiness() == Readiness::Ready)
                .or_else(|| {
                    self.balanced_pick(key, |server| server.readiness() == Readiness::Waiting)
                }),
        }?;
        Some(Pick {
            server: &self.servers[index],
            set_cookie: self.sticky.as_ref().and_then(|sticky| sticky.cookie(index)),
            in_panic,
        })
    }

    /// Whether [`Self::pick`] would find a server; costs no turn.
    pub fn can_pick(&self, key: &PickKey<'_>) -> bool {
        let in_panic = self.panics();
        self.servers.iter().enumerate().any(|(index, server)| {
            self.balancer.counts(index)
                && !key.exclude.contains(&server.id)
                && takes_traffic(server, in_panic)
        })
    }

    /// Whether clients are kept on their servers by a cookie.
    pub fn is_sticky(&self) -> bool {
        self.sticky.is_some()
    }

    /// Whether any server takes traffic.
    pub fn up(&self) -> bool {
        let in_panic = self.panics();
        (0..self.servers.len()).any(|index| {
            self.balancer.counts(index) && takes_traffic(&self.servers[index], in_panic)
        })
    }

    /// Whether the server stands out by failing after this; then it is left out for a while, and the change is handed back to be logged.
    pub fn judge(&self, server: &Server, outcome: Outcome) -> Option<HealthChange> {
        let settings = self.outliers.as_ref()?;
        self.judge_at(settings, server, outcome, Instant::now())
    }

    fn judge_at(
        &self,
        settings: &OutlierSettings,
        server: &Server,
        outcome: Outcome,
        now: Instant,
    ) -> Option<HealthChange> {
        let offence = match outcome.verdict() {
            Verdict::Nothing => None,
            Verdict::Good => server.health.note(settings, None, now),
            Verdict::Bad(failure) => server.health.note(settings, Some(failure), now),
        }?;
        let out = self
            .servers
            .iter()
            .filter(|server| server.health.is_ejected(now));
        if !may_eject(settings.most, out.count(), self.servers.len()) {
            return None;
        }
        server.health.eject(settings, offence, now)
    }

    /// Whether so few servers are well that health says more about the service than about them. Those that their provider keeps out do
    /// not count.
    fn panics(&self) -> bool {
        let Some(settings) = self.outliers.filter(|settings| settings.panic > 0) else {
            return false;
        };
        let (mut all, mut well) = (0, 0);
        for (index, server) in self.servers.iter().enumerate() {
            if self.balancer.counts(index) && server.is_welcome() {
                all += 1;
                well += usize::from(server.readiness() != Readiness::Down);
            }
        }
        well * 100 < all * settings.panic as usize
    }

    fn balanced_pick(&self, key: &PickKey<'_>, wanted: impl Fn(&Server) -> bool) -> Option<usize> {
        self.balancer.pick(&self.servers, key.client_ip, |server| {
            !key.exclude.contains(&server.id) && wanted(server)
        })
    }

    fn sticky_pick(&self, key: &PickKey<'_>) -> Option<Pick<'_>> {
        let sticky = self.sticky.as_ref()?;
        let named = sticky.find(key.headers)?;
        let open = |index: usize| {
            let server = &self.servers[index];
            self.balancer.counts(index)
                && !key.exclude.contains(&server.id)
                // A server not probed yet is not new to a client that holds its cookie.
                && server.readiness() != Readiness::Down
        };
        let (index, renew) = match named {
            Named::Server(index) => (*index, false),
            Named::Legacy(index) => (*index, true),
            Named::AnyOf(group) => {
                let start = fastrand::usize(..group.len().max(1));
                let turn = |step: usize| group[(start + step) % group.len()];
                ((0..group.len()).map(turn).find(|index| open(*index))?, true)
            }
        };
        open(index).then(|| Pick {
            server: &self.servers[index],
            set_cookie: if renew { sticky.cookie(index) } else { None },
            in_panic: false,
        })
    }
}

/// Looks at the server in the ways that the settings ask for, and no longer in others.
fn watch(server: &Server, settings: &ServiceSettings, now: Instant) {
    if settings.strategy == Strategy::LeastTime {
        server.measure_times();
    }
    match settings.health_check {
        Some(_) => server.health.start_probing(now),
        None => server.health.stop_probing(now),
    }
    if settings.outliers.is_none() {
        server.health.pardon();
    }
}

fn takes_traffic(server: &Server, in_panic: bool) -> bool {
    server.readiness() != Readiness::Down || (in_panic && server.is_welcome())
}

/// Whether one more of `all` servers may be left out. The last one never is; one of several may be whatever the share.
fn may_eject(most: u32, out: usize, all: usize) -> bool {
    most > 0 && out + 1 < all && (out == 0 || (out + 1) * 100 <= all * most as usize)
}

/// What the previous service knows of its answers' times, if it was to do the same.
fn again(settings: HedgeSettings, previous: Option<&Service>, now: Instant) -> Arc<Hedge> {
    let known = previous.and_then(|service| service.hedge.as_ref());
    match known.filter(|hedge| hedge.settings() == settings) {
        Some(hedge) => Arc::clone(hedge),
        None => Arc::new(Hedge::new(settings, now)),
    }
}

/// A server's provider says something else of it.
#[derive(Debug)]
#[must_use]
pub struct ConditionChange {
    pub server: Arc<Server>,
    pub now: Condition,
}

/// A server to be, with its place in the balancer.
struct Member {
    parts: ServerParts,
    weight: i64,
    name: StickyName,
    condition: Condition,
}

/// A host name with several addresses becomes several servers.
fn expand(server: &ServerSettings, settings: &ServiceSettings, members: &mut Vec<Member>) {
    let (addresses, alternate) = match server.url.ip() {
        Some(ip) => (vec![ip], None),
        None => one_family(&server.addresses),
    };
    let socket = |ip: IpAddr| SocketAddr::new(ip, server.url.port);
    let mut add = |address: Option<IpAddr>, name: StickyName| {
        members.push(Member {
            parts: ServerParts {
                url: server.url.clone(),
                address: address.map(socket),
                alternate: alternate.map(socket),
                preserve_path: server.preserve_path,
                transport: Arc::clone(&settings.transport),
                passive: settings.passive,
            },
            weight: server.weight,
            name,
            condition: server.condition.clone(),
        });
    };
    let text = &server.url.text;
    if addresses.len() < 2 {
        let name = StickyName {
            own: Arc::clone(text),
            shared: None,
        };
        add(addresses.first().copied(), name);
        return;
    }
    for ip in addresses {
        let name = StickyName {
            own: server.url.with_ip(ip).into(),
            shared: Some(Arc::clone(text)),
        };
        add(Some(ip), name);
    }
}

/// The addresses of one family, because a machine with both would count twice: IPv4 if there is any. A single machine's address of the
/// other family is kept to fall back on: what is called `localhost` often listens on one of the two only.
fn one_family(addresses: &[IpAddr]) -> (Vec<IpAddr>, Option<IpAddr>) {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = sorted.into_iter().partition(IpAddr::is_ipv4);
    match (four.len(), six.len()) {
        (0, _) => (six, None),
        (1, 1) => (four, six.first().copied()),
        _ => (four, None),
    }
}

/// What a server is found again by.
type Identity = (Arc<str>, Option<SocketAddr>);

/// Servers to be used again: those of the previous snapshot, and those made a moment ago (the same URL twice is one server).
struct Known<'a> {
    servers: HashMap<Identity, Vec<Arc<Server>>>,
    slots: &'a Slots,
    now: Instant,
    /// Whether an active check tells when a new server is ready.
    checked: bool,
    /// Whether others serve already, so that a new server need not be trusted blindly.
    joins: bool,
}

impl<'a> Known<'a> {
    fn new(previous: Option<&Service>, slots: &'a Slots, now: Instant) -> Self {
        let mut known = Self {
            servers: HashMap::new(),
            slots,
            now,
            checked: false,
            joins: previous.is_some_and(|service| !service.servers.is_empty()),
        };
        for server in previous.iter().flat_map(|service| &service.servers) {
            known.add(server);
        }
        known
    }

    fn find_or_make(&mut self, member: Member) -> Arc<Server> {
        let parts = member.parts;
        let key = (Arc::clone(&parts.url.text), parts.address);
        let same = self.servers.get(&key).map_or(&[][..], Vec::as_slice);
        if let Some(server) = same.iter().find(|server| server.serves(&parts)) {
            return Arc::clone(server);
        }
        let health = match same.iter().find(|server| server.is_same_server(&parts)) {
            Some(server) => server.health.successor(parts.passive),
            None if self.joins && !self.checked => Health::newcomer(self.now, parts.passive),
            None => Health::new(self.now, parts.passive),
        };
        // Nobody knows the server yet, so it can be in its condition at once.
        drop(health.set_condition(&member.condition, self.now));
        let server = Arc::new(Server::new(parts, health, self.slots));
        self.add(&server);
        server
    }

    fn add(&mut self, server: &Arc<Server>) {
        let key = (Arc::clone(&server.name), server.address);
        self.servers
            .entry(key)
            .or_default()
            .push(Arc::clone(server));
    }
}

#[cfg(test)]
mod tests;
