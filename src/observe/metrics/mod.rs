//! The registry: hands out what the other rooms count with, and writes everything down for Prometheus.
//!
//! Handles are taken when a configuration is compiled and live as long as what they count for. A series whose last handle is gone is
//! written once more and then forgotten. Without `metrics` in the install configuration every handle is empty and counting costs a
//! branch.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use http::HeaderMap;

use super::{
    counter::{Counter, Gauge, ReasonCounter},
    labels::{HeaderLabelSet, HeaderLabels},
    resolvers::Resolvers,
    responders::Responders,
    sources::Sources,
    traffic::{Bounds, Traffic, TrafficMetrics},
};
use crate::config::install::{self, MetricsOtlp, Prometheus};

/// All metrics of the process. Cheap to clone; the default counts nothing.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Option<Arc<Registry>>);

impl Metrics {
    /// Metrics for Prometheus.
    pub fn new(options: &Prometheus) -> Self {
        Self(Some(Arc::new(Registry::new(Some(options), None))))
    }

    /// Metrics as configured; the default if nobody is to be told any.
    pub fn configured(options: &install::Metrics) -> Self {
        let (prometheus, otlp) = (options.prometheus.as_ref(), options.otlp.as_deref());
        let told = prometheus.is_some() || otlp.is_some();
        Self(told.then(|| Arc::new(Registry::new(prometheus, otlp))))
    }

    /// Whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether labels from request headers are configured, so that [`Metrics::header_labels`] has something to say.
    pub fn has_header_labels(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|registry| !registry.header_labels.is_empty())
    }

    /// The labels this request's headers stand for.
    pub fn header_labels(&self, host: &str, headers: &HeaderMap) -> HeaderLabels {
        match &self.0 {
            Some(registry) if !registry.header_labels.is_empty() => {
                registry.header_labels.of(host, headers)
            }
            _ => HeaderLabels::default(),
        }
    }

    /// What an entry point counts with.
    pub fn entry_point(&self, name: &Arc<str>) -> EntryPointMetrics {
        EntryPointMetrics(self.0.as_ref().map(|registry| {
            let traffic = match registry.entry_points_labels {
                true => registry.traffic(),
                false => TrafficMetrics::default(),
            };
            let new = || EntryPointSeries {
                traffic,
                ..EntryPointSeries::default()
            };
            registry.series().entry_points.find(name, new)
        }))
    }

    /// What a router counts its requests with; empty unless `addRoutersLabels` is set.
    pub fn router(&self, router: &Arc<str>, service: &Arc<str>) -> TrafficMetrics {
        let Some(registry) = self.0.as_ref().filter(|registry| registry.routers_labels) else {
            return TrafficMetrics::default();
        };
        let key = (Arc::clone(router), Arc::clone(service));
        let traffic = || Traffic::new(&registry.bounds);
        TrafficMetrics::on(&registry.series().routers.find(&key, traffic))
    }

    /// What a service counts with; empty if `addServicesLabels` is off.
    pub fn service(&self, name: &Arc<str>) -> ServiceMetrics {
        let registry = self.0.as_ref().filter(|registry| registry.services_labels);
        ServiceMetrics(registry.map(|registry| {
            registry.series().services.find(name, || ServiceSeries {
                traffic: registry.traffic(),
                ..ServiceSeries::default()
            })
        }))
    }

    /// What a server of a service counts with; empty if `addServicesLabels` is off.
    pub fn server(&self, service: &Arc<str>, url: &Arc<str>) -> ServerMetrics {
        let registry = self.0.as_ref().filter(|registry| registry.services_labels);
        let key = (Arc::clone(service), Arc::clone(url));
        ServerMetrics(
            registry.map(|registry| registry.series().servers.find(&key, ServerSeries::default)),
        )
    }

    /// What a middleware of the given type (`ratelimit`) counts with.
    pub fn middleware(&self, name: &Arc<str>, kind: &'static str) -> MiddlewareMetrics {
        let key = (Arc::clone(name), kind);
        MiddlewareMetrics(self.0.as_ref().map(|registry| {
            registry
                .series()
                .middlewares
                .find(&key, MiddlewareSeries::default)
        }))
    }

    /// Notes that a configuration went live.
    pub fn reloaded(&self, reload: &Reload) {
        if let Some(registry) = &self.0 {
            registry.reloaded(reload);
        }
    }

    /// Replaces the list of certificates in use.
    pub fn set_certificates(&self, certificates: Vec<CertificateExpiry>) {
        if let Some(registry) = &self.0 {
            registry.series().certificates = certificates;
        }
    }

    /// Lets a log report how many lines it gave up.
    pub fn watch_log(&self, log: WatchedLog, dropped: &Arc<Counter>) {
        if let Some(registry) = &self.0 {
            registry.series().logs.insert(log, Arc::clone(dropped));
        }
    }

    /// Lets what is told to a collector report how that goes.
    pub fn watch_export(&self, signal: Signal, exported: &Exported) {
        if let Some(registry) = &self.0 {
            registry.series().exports.insert(signal, exported.clone());
        }
    }

    /// Lets the sources of configuration report how they are.
    pub fn watch_sources(&self, sources: &Sources) {
        if let Some(registry) = &self.0 {
            registry.series().sources = sources.clone();
        }
    }

    /// Lets the certificates resolvers report how they are.
    pub fn watch_resolvers(&self, resolvers: &Resolvers) {
        if let Some(registry) = &self.0 {
            registry.series().resolvers = resolvers.clone();
        }
    }

    /// Lets OCSP responders report what they say.
    pub fn watch_responders(&self, responders: &Responders) {
        if let Some(registry) = &self.0 {
            registry.series().responders = responders.clone();
        }
    }

    pub(super) fn registry(&self) -> Option<&Arc<Registry>> {
        self.0.as_ref()
    }
}

/// A configuration that went live.
#[derive(Debug, Clone, Copy)]
pub struct Reload {
    /// Number of the configuration, counted from the start of the process.
    pub generation: u64,
    /// From the arrival of the last update to the swap.
    pub took: Duration,
    pub errors: usize,
    pub warnings: usize,
}

/// Validity of a certificate in use.
#[derive(Debug, Clone)]
pub struct CertificateExpiry {
    pub common_name: String,
    /// Decimal, as other tools print it.
    pub serial: String,
    pub sans: Vec<String>,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// A log whose lost lines are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchedLog {
    Access,
    Program,
}

/// Something that is told to a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    Traces,
    Metrics,
    AccessLog,
    Log,
}

/// How telling it goes, in items: traces, points of metrics, lines.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    pub sent: Arc<Counter>,
    /// Given up, because the collector or the way there could not keep up.
    pub dropped: Arc<Counter>,
}

/// The state of a server as the outside sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Whether it gets requests.
    pub up: bool,
    /// Why it is in this state: a word of the program such as `probe_failed`, not a message.
    pub reason: &'static str,
    /// More about the reason, for people; not exported as a metric.
    pub detail: Option<String>,
    pub since: SystemTime,
    /// Requests it is handling.
    pub in_flight: u64,
    /// Whether an active health check watches it.
    pub checked: bool,
}

/// A server that can be asked for its state at any time.
pub trait ServerView: Send + Sync {
    /// The state now.
    fn state(&self) -> ServerState;
}

/// What an entry point counts with.
#[derive(Debug, Clone, Default)]
pub struct EntryPointMetrics(Option<Arc<EntryPointSeries>>);

impl EntryPointMetrics {
    /// Where its requests are counted.
    pub fn traffic(&self) -> &TrafficMetrics {
        match &self.0 {
            Some(series) => &series.traffic,
            None => TrafficMetrics::off(),
        }
    }

    /// A connection was accepted.
    pub fn connection_opened(&self) {
        self.with(|series| series.open_connections.add(1));
    }

    /// A connection ended.
    pub fn connection_closed(&self) {
        self.with(|series| series.open_connections.add(-1));
    }

    /// A connection was closed before its first request: `max_connections`, `open_files`, `accept_failed`.
    pub fn connection_refused(&self, reason: &'static str) {
        self.with(|series| series.refused.increment(reason));
    }

    /// A client was too slow: `tls`, `header`, `body`.
    pub fn timed_out(&self, phase: &'static str) {
        self.with(|series| series.timeouts.increment(phase));
    }

    /// No router matched a request.
    pub fn unmatched(&self) {
        self.with(|series| series.unmatched.increment());
    }

    fn with(&self, count: impl FnOnce(&EntryPointSeries)) {
        if let Some(series) = &self.0 {
            count(series);
        }
    }
}

/// What a service counts with.
#[derive(Debug, Clone, Default)]
pub struct ServiceMetrics(Option<Arc<ServiceSeries>>);

impl ServiceMetrics {
    /// Where its requests are counted.
    pub fn traffic(&self) -> &TrafficMetrics {
        match &self.0 {
            Some(series) => &series.traffic,
            None => TrafficMetrics::off(),
        }
    }

    /// An attempt after the first one was made.
    pub fn retried(&self) {
        self.with(|series| series.retries.increment());
    }

    /// A request failed although every allowed retry was made.
    pub fn retries_exhausted(&self) {
        self.with(|series| series.exhausted.increment());
    }

    /// A retry was not made because the budget was used up.
    pub fn retry_refused(&self) {
        self.with(|series| series.budget.increment());
    }

    /// A request begins to wait for a usable server.
    pub fn hold_began(&self) {
        self.with(|series| series.holds.increment());
    }

    /// A request waits for a usable server until the guard is dropped.
    pub fn held(&self) -> Held {
        self.with(|series| series.held.add(1));
        Held {
            metrics: self.clone(),
            since: Instant::now(),
        }
    }

    /// A request could not wait because too many others did.
    pub fn hold_refused(&self) {
        self.with(|series| series.hold_refusals.increment());
    }

    /// A service made of services is up, or is not.
    pub fn is_up(&self, up: bool) {
        self.with(|series| series.up.set(if up { UP } else { DOWN }));
    }

    /// A request was not mirrored that should have been, or not to its end: `busy`, `body`, `memory`, `unread`, `timeout`.
    pub fn mirror_given_up(&self, reason: &'static str) {
        self.with(|series| series.mirrors.increment(reason));
    }

    /// A request was sent to a second server too.
    pub fn hedged(&self) {
        self.with(|series| series.hedged.increment());
    }

    /// The second server answered first.
    pub fn hedge_won(&self) {
        self.with(|series| series.hedge_wins.increment());
    }

    /// A request was not sent to a second server because too many others were.
    pub fn hedge_refused(&self) {
        self.with(|series| series.hedge_refusals.increment());
    }

    /// A server was picked whatever its health.
    pub fn panicked(&self) {
        self.with(|series| series.panics.increment());
    }

    /// An attempt failed; `reason` is the fault's.
    pub fn failed(&self, reason: &'static str) {
        self.with(|series| series.faults.increment(reason));
    }

    fn with(&self, count: impl FnOnce(&ServiceSeries)) {
        if let Some(series) = &self.0 {
            count(series);
        }
    }
}

/// A request that waits for a usable server, counted while it does.
#[derive(Debug)]
#[must_use]
pub struct Held {
    metrics: ServiceMetrics,
    since: Instant,
}

impl Drop for Held {
    fn drop(&mut self) {
        let waited = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.metrics.with(|series| {
            series.held.add(-1);
            series.held_micros.add(waited);
        });
    }
}

/// What a server and its connections are counted with.
#[derive(Debug, Clone, Default)]
pub struct ServerMetrics(Option<Arc<ServerSeries>>);

impl ServerMetrics {
    /// The server was left out because it stood out by failing.
    pub fn ejected(&self) {
        self.with(|series| series.ejections.increment());
    }

    /// Says where the server's state can be read, until `server` is gone. Several addresses may share a URL.
    pub fn watch(&self, server: &Arc<impl ServerView + 'static>) {
        self.with(|series| {
            let server: Weak<dyn ServerView> = Arc::downgrade(server) as _;
            let mut views = series.views();
            views.retain(|view| view.0.strong_count() > 0);
            views.push(Watched(server));
        });
    }

    /// One that counts nothing.
    pub fn off() -> &'static Self {
        static OFF: ServerMetrics = ServerMetrics(None);
        &OFF
    }

    /// A connection to the server was opened; it counts as open until the guard is dropped.
    pub fn connection_opened(&self) -> OpenConnection {
        self.with(|series| {
            series.open.add(1);
            series.opened.increment();
        });
        OpenConnection(self.clone())
    }

    /// A request went over a connection that had served another one.
    pub fn connection_reused(&self) {
        self.with(|series| series.reused.increment());
    }

    /// Connections were put into the pool (positive) or taken out (negative).
    pub fn idle_changed(&self, by: i64) {
        self.with(|series| {
            if by >= 0 {
                series.parked.add(by.unsigned_abs());
            } else {
                series.unparked.add(by.unsigned_abs());
            }
        });
    }

    fn with(&self, count: impl FnOnce(&ServerSeries)) {
        if let Some(series) = &self.0 {
            count(series);
        }
    }
}

/// A connection to a server, counted while it is open.
#[derive(Debug)]
#[must_use]
pub struct OpenConnection(ServerMetrics);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.with(|series| series.open.add(-1));
    }
}

/// What a middleware counts with.
#[derive(Debug, Clone, Default)]
pub struct MiddlewareMetrics(Option<Arc<MiddlewareSeries>>);

impl MiddlewareMetrics {
    /// The middleware answered a request instead of letting it pass.
    pub fn refused(&self) {
        if let Some(series) = &self.0 {
            series.refused.increment();
        }
    }

    /// A circuit breaker got into the state of this name.
    pub fn circuit(&self, state: &'static str) {
        if let Some(series) = &self.0
            && let Some(place) = CIRCUIT_STATES.iter().position(|known| *known == state)
        {
            series.circuit[place].increment();
        }
    }

    /// The middleware held a request back for a while.
    pub fn delayed(&self) {
        if let Some(series) = &self.0 {
            series.delayed.increment();
        }
    }

    /// The middleware decided without the Redis that it should have asked.
    pub fn redis_away(&self) {
        if let Some(series) = &self.0 {
            series.redis_away.increment();
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Registry {
    /// Those of all views.
    pub(super) bounds: Arc<Bounds>,
    pub(super) prometheus: Option<View>,
    pub(super) otlp: Option<View>,
    pub(super) header_labels: HeaderLabelSet,
    entry_points_labels: bool,
    routers_labels: bool,
    services_labels: bool,
    series: Mutex<Series>,
}

impl Registry {
    fn new(prometheus: Option<&Prometheus>, otlp: Option<&MetricsOtlp>) -> Self {
        let labels = prometheus.map(|options| HeaderLabelSet::new(&options.header_labels));
        let prometheus = prometheus.map(View::of_prometheus);
        let otlp = otlp.map(View::of_otlp);
        let views = [prometheus.as_ref(), otlp.as_ref()];
        let any = |shows: fn(&View) -> bool| views.into_iter().flatten().any(shows);
        let bounds = views.into_iter().flatten().flat_map(|view| &view.bounds);
        let bounds: Vec<f64> = bounds.copied().collect();
        Self {
            bounds: Arc::new(Bounds::new(&bounds)),
            header_labels: labels.unwrap_or_default(),
            entry_points_labels: any(|view| view.entry_points),
            routers_labels: any(|view| view.routers),
            services_labels: any(|view| view.services),
            series: Mutex::default(),
            prometheus,
            otlp,
        }
    }

    fn traffic(&self) -> TrafficMetrics {
        TrafficMetrics::on(&Arc::new(Traffic::new(&self.bounds)))
    }

    /// The series behind their lock, which nothing of the request path takes.
    pub(super) fn series(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reloaded(&self, reload: &Reload) {
        let mut series = self.series();
        series.reloads += 1;
        series.last_reload = Some((*reload, SystemTime::now()));
        // Nobody scrapes: the vanished must not pile up until somebody does.
        if series.vanished() > MAX_VANISHED {
            series.forget_vanished();
        }
    }
}

/// What one of those who are told metrics is told: what is counted is what any of them wants.
#[derive(Debug)]
pub(super) struct View {
    /// Upper bounds of its histograms, in order.
    pub(super) bounds: Vec<f64>,
    pub(super) entry_points: bool,
    pub(super) routers: bool,
    pub(super) services: bool,
    /// Whether it knows labels from headers.
    pub(super) header_labels: bool,
}

impl View {
    fn of_prometheus(options: &Prometheus) -> Self {
        Self {
            bounds: Bounds::new(&options.buckets).seconds,
            entry_points: options.add_entry_points_labels,
            routers: options.add_routers_labels,
            services: options.add_services_labels,
            header_labels: true,
        }
    }

    fn of_otlp(options: &MetricsOtlp) -> Self {
        Self {
            bounds: Bounds::new(&options.explicit_boundaries).seconds,
            entry_points: options.add_entry_points_labels,
            routers: options.add_routers_labels,
            services: options.add_services_labels,
            header_labels: false,
        }
    }
}

/// Router and service, or service and URL.
type Pair = (Arc<str>, Arc<str>);
/// Middleware and its type.
type Kinded = (Arc<str>, &'static str);

/// All series, by their labels.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) entry_points: Family<Arc<str>, EntryPointSeries>,
    pub(super) routers: Family<Pair, Traffic>,
    pub(super) services: Family<Arc<str>, ServiceSeries>,
    pub(super) servers: Family<Pair, ServerSeries>,
    pub(super) middlewares: Family<Kinded, MiddlewareSeries>,
    pub(super) certificates: Vec<CertificateExpiry>,
    pub(super) logs: BTreeMap<WatchedLog, Arc<Counter>>,
    pub(super) exports: BTreeMap<Signal, Exported>,
    pub(super) sources: Sources,
    pub(super) resolvers: Resolvers,
    pub(super) responders: Responders,
    pub(super) reloads: u64,
    pub(super) last_reload: Option<(Reload, SystemTime)>,
}

impl Series {
    fn vanished(&self) -> usize {
        self.entry_points.vanished()
            + self.routers.vanished()
            + self.services.vanished()
            + self.servers.vanished()
            + self.middlewares.vanished()
    }

    /// Drops every series nobody counts with any more.
    pub(super) fn forget_vanished(&mut self) {
        self.entry_points.forget_vanished();
        self.routers.forget_vanished();
        self.services.forget_vanished();
        self.servers.forget_vanished();
        self.middlewares.forget_vanished();
    }
}

/// Series of one kind.
#[derive(Debug)]
pub(super) struct Family<K, S>(BTreeMap<K, Arc<S>>);

impl<K: Ord + Clone, S> Family<K, S> {
    fn find(&mut self, key: &K, new: impl FnOnce() -> S) -> Arc<S> {
        if let Some(series) = self.0.get(key) {
            return Arc::clone(series);
        }
        let series = Arc::new(new());
        self.0.insert(key.clone(), Arc::clone(&series));
        series
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &S)> {
        self.0.iter().map(|(key, series)| (key, &**series))
    }

    fn vanished(&self) -> usize {
        self.0
            .values()
            .filter(|series| Arc::strong_count(series) == 1)
            .count()
    }

    fn forget_vanished(&mut self) {
        self.0.retain(|_, series| Arc::strong_count(series) > 1);
    }
}

impl<K, S> Default for Family<K, S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[derive(Debug, Default)]
pub(super) struct EntryPointSeries {
    pub(super) traffic: TrafficMetrics,
    pub(super) open_connections: Gauge,
    pub(super) refused: ReasonCounter,
    pub(super) timeouts: ReasonCounter,
    pub(super) unmatched: Counter,
}

#[derive(Debug, Default)]
pub(super) struct ServiceSeries {
    pub(super) traffic: TrafficMetrics,
    pub(super) retries: Counter,
    pub(super) exhausted: Counter,
    pub(super) budget: Counter,
    pub(super) faults: ReasonCounter,
    /// Requests that wait now.
    pub(super) held: Gauge,
    pub(super) holds: Counter,
    pub(super) held_micros: Counter,
    pub(super) hold_refusals: Counter,
    pub(super) hedged: Counter,
    pub(super) hedge_wins: Counter,
    pub(super) hedge_refusals: Counter,
    pub(super) panics: Counter,
    pub(super) mirrors: ReasonCounter,
    /// [`UP`] or [`DOWN`] of a service made of services; of others nothing.
    up: Gauge,
}

const UP: i64 = 1;
const DOWN: i64 = -1;

impl ServiceSeries {
    pub(super) fn is_up(&self) -> Option<bool> {
        match self.up.get() {
            UP => Some(true),
            DOWN => Some(false),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct ServerSeries {
    views: Mutex<Vec<Watched>>,
    pub(super) open: Gauge,
    pub(super) opened: Counter,
    pub(super) ejections: Counter,
    pub(super) reused: Counter,
    parked: Counter,
    unparked: Counter,
}

impl ServerSeries {
    /// The state of the server, while there is one. If a URL has several addresses it is up while one of them is, and the reason is
    /// that of the address that decides.
    pub(super) fn state(&self) -> Option<ServerState> {
        let servers: Vec<_> = self
            .views()
            .iter()
            .filter_map(|view| view.0.upgrade())
            .collect();
        let states = servers.iter().map(|server| server.state());
        states.reduce(|one, other| {
            let in_flight = one.in_flight + other.in_flight;
            let decisive = if other.up && !one.up { other } else { one };
            ServerState {
                in_flight,
                ..decisive
            }
        })
    }

    fn views(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections waiting in pools. The two sides are read one after the other, so a busy pool could seem to hold less than nothing.
    pub(super) fn idle(&self) -> u64 {
        let unparked = self.unparked.get();
        self.parked.get().saturating_sub(unparked)
    }
}

struct Watched(Weak<dyn ServerView>);

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

#[derive(Debug, Default)]
pub(super) struct MiddlewareSeries {
    pub(super) refused: Counter,
    pub(super) delayed: Counter,
    /// How often it got into each of [`CIRCUIT_STATES`].
    pub(super) circuit: [Counter; CIRCUIT_STATES.len()],
    pub(super) redis_away: Counter,
}

/// The states of circuit breakers.
pub(super) const CIRCUIT_STATES: [&str; 3] = ["standby", "tripped", "recovering"];

/// How many vanished series may wait for the scrape that shows them a last time.
const MAX_VANISHED: usize = 10_000;

#[cfg(test)]
mod tests;
