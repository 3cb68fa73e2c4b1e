//! Metrics written down in Prometheus' text format.

use std::{
    collections::BTreeMap,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::{
    TextEncoder,
    core::Collector,
    process_collector::ProcessCollector,
    proto::{self, LabelPair, MetricFamily, MetricType},
};

use super::{
    labels::{HeaderLabelSet, HeaderLabels, TLS_LABELS},
    metrics::{
        CIRCUIT_STATES, CertificateExpiry, Metrics, Registry, Series, Signal, View, WatchedLog,
    },
    names::{self, Kind, Metric, TrafficNames},
    resolvers::{Phase, Resolvers},
    responders::Responders,
    traffic::{Bounds, Key, Numbers, Totals},
};

impl Metrics {
    /// Everything counted so far, in the text format version 0.0.4. Series whose subject is gone are in it for the last time.
    pub fn exposition(&self) -> String {
        let Some(registry) = self.registry() else {
            return String::new();
        };
        let Some(view) = &registry.prometheus else {
            return String::new();
        };
        let families = gather(registry, view);
        let mut text = String::with_capacity(16 * 1024);
        // Names and labels are constants of this room and every family has a row, so encoding cannot fail.
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!("metrics could not be written: {error}");
        }
        text
    }

    /// Everything counted so far, for a collector.
    pub fn pushed(&self) -> Vec<MetricFamily> {
        let registry = self.registry();
        let view = registry.and_then(|registry| Some((registry, registry.otlp.as_ref()?)));
        view.map_or_else(Vec::new, |(registry, view)| gather(registry, view))
    }
}

fn gather(registry: &Registry, view: &View) -> Vec<MetricFamily> {
    let mut page = Page::new(view);
    let mut series = registry.series();
    entry_points(registry, &series, &mut page);
    for ((router, service), traffic) in series.routers.iter().filter(|_| view.routers) {
        page.traffic(
            registry,
            &names::ROUTER,
            &[router, service],
            &traffic.totals(),
        );
    }
    if view.services {
        services(registry, &series, &mut page);
    }
    middlewares(&series, &mut page);
    configuration(&series, &mut page);
    certificates(&series.certificates, &mut page);
    resolvers(&series.resolvers, &mut page);
    responders(&series.responders, &mut page);
    series.forget_vanished();
    drop(series);
    page.into_families()
}

fn entry_points(registry: &Registry, series: &Series, page: &mut Page<'_>) {
    for (name, entry_point) in series.entry_points.iter() {
        if page.view.entry_points
            && let Some(totals) = entry_point.traffic.totals()
        {
            page.traffic(registry, &names::ENTRY_POINT, &[name], &totals);
        }
        page.number(
            &names::OPEN_CONNECTIONS,
            &[name, "TCP"],
            entry_point.open_connections.get() as f64,
        );
        page.number(
            &names::UNMATCHED,
            &[name],
            entry_point.unmatched.get() as f64,
        );
        for (reason, count) in entry_point.refused.get() {
            page.number(&names::CONNECTIONS_REFUSED, &[name, reason], count as f64);
        }
        for (phase, count) in entry_point.timeouts.get() {
            page.number(&names::TIMEOUTS, &[name, phase], count as f64);
        }
    }
}

fn services(registry: &Registry, series: &Series, page: &mut Page<'_>) {
    for (name, service) in series.services.iter() {
        if let Some(totals) = service.traffic.totals() {
            page.traffic(registry, &names::SERVICE, &[name], &totals);
        }
        page.event(&names::RETRIES, &[name], service.retries.get());
        page.event(&names::RETRIES_EXHAUSTED, &[name], service.exhausted.get());
        page.event(&names::RETRY_BUDGET, &[name], service.budget.get());
        page.number(&names::HELD, &[name], service.held.get() as f64);
        let holds = service.holds.get();
        page.event(&names::HOLDS, &[name], holds);
        if holds > 0 {
            let held = Duration::from_micros(service.held_micros.get());
            page.number(&names::HELD_SECONDS, &[name], held.as_secs_f64());
        }
        page.event(&names::HOLD_REFUSALS, &[name], service.hold_refusals.get());
        page.event(&names::HEDGED, &[name], service.hedged.get());
        page.event(&names::HEDGE_WINS, &[name], service.hedge_wins.get());
        page.event(
            &names::HEDGE_REFUSALS,
            &[name],
            service.hedge_refusals.get(),
        );
        page.event(&names::PANICS, &[name], service.panics.get());
        for (reason, count) in service.faults.get() {
            page.number(&names::FAULTS, &[name, reason], count as f64);
        }
        for (reason, count) in service.mirrors.get() {
            page.number(&names::MIRRORS_GIVEN_UP, &[name, reason], count as f64);
        }
        if let Some(up) = service.is_up() {
            page.number(&names::SERVICE_UP, &[name], f64::from(u8::from(up)));
        }
    }
    for ((service, url), server) in series.servers.iter() {
        let labels = &[&**service, &**url];
        if let Some(state) = server.state() {
            let up = f64::from(u8::from(state.up));
            if state.checked {
                page.number(&names::SERVER_UP, labels, up);
            }
            page.number(&names::SERVER_STATE, &[service, url, state.reason], up);
            page.number(&names::SERVER_IN_FLIGHT, labels, state.in_flight as f64);
        }
        page.number(&names::SERVER_OPEN, labels, server.open.get() as f64);
        page.number(&names::SERVER_IDLE, labels, server.idle() as f64);
        page.event(&names::SERVER_EJECTIONS, labels, server.ejections.get());
        page.event(&names::SERVER_OPENED, labels, server.opened.get());
        page.event(&names::SERVER_REUSED, labels, server.reused.get());
    }
}

fn middlewares(series: &Series, page: &mut Page<'_>) {
    for ((name, kind), middleware) in series.middlewares.iter() {
        page.event(&names::REFUSALS, &[name, kind], middleware.refused.get());
        page.event(&names::DELAYED, &[name, kind], middleware.delayed.get());
        for (state, count) in CIRCUIT_STATES.iter().zip(&middleware.circuit) {
            page.event(&names::CIRCUIT_CHANGES, &[name, state], count.get());
        }
        let away = middleware.redis_away.get();
        page.event(&names::REDIS_AWAY, &[name, kind], away);
    }
}

fn configuration(series: &Series, page: &mut Page<'_>) {
    page.number(&names::BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
    page.number(&names::CONFIG_RELOADS, &[], series.reloads as f64);
    if let Some((reload, at)) = &series.last_reload {
        page.number(
            &names::CONFIG_LAST_SUCCESS,
            &[],
            seconds_since_1970(*at).floor(),
        );
        page.number(&names::GENERATION, &[], reload.generation as f64);
        page.number(&names::RELOAD_SECONDS, &[], reload.took.as_secs_f64());
        page.number(&names::DIAGNOSTICS, &["error"], reload.errors as f64);
        page.number(&names::DIAGNOSTICS, &["warning"], reload.warnings as f64);
    }
    for (provider, state) in series.sources.states() {
        let connected = f64::from(u8::from(state.connected));
        page.number(&names::SOURCE_CONNECTED, &[&provider], connected);
        if let Some(at) = state.last_sync {
            let at = seconds_since_1970(at);
            page.number(&names::SOURCE_LAST_SYNC, &[&provider], at);
        }
    }
    for (log, dropped) in &series.logs {
        let metric = match log {
            WatchedLog::Access => &names::ACCESS_LINES_DROPPED,
            WatchedLog::Program => &names::LOG_LINES_DROPPED,
        };
        page.number(metric, &[], dropped.get() as f64);
    }
    for (signal, exported) in &series.exports {
        let signal = match signal {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::AccessLog => "access_log",
            Signal::Log => "log",
        };
        let (sent, dropped) = (exported.sent.get(), exported.dropped.get());
        page.number(&names::EXPORTED, &[signal], sent as f64);
        page.number(&names::EXPORTS_DROPPED, &[signal], dropped as f64);
    }
}

fn certificates(certificates: &[CertificateExpiry], page: &mut Page<'_>) {
    let now = seconds_since_1970(SystemTime::now());
    let mut counts = BTreeMap::from([("valid", 0_u32), ("expiring", 0), ("expired", 0)]);
    // The same certificate may be named twice; a series may not.
    let mut seen = BTreeMap::new();
    for certificate in certificates {
        let mut sans = certificate.sans.clone();
        sans.sort();
        let labels = (
            certificate.common_name.clone(),
            certificate.serial.clone(),
            sans.join(","),
        );
        if seen.insert(labels, certificate.not_after).is_none() {
            *counts
                .entry(validity(certificate.not_after as f64 - now))
                .or_default() += 1;
        }
    }
    for ((common_name, serial, sans), not_after) in &seen {
        page.number(
            &names::CERTIFICATE_NOT_AFTER,
            &[common_name, serial, sans],
            *not_after as f64,
        );
    }
    for (status, count) in counts {
        page.number(&names::CERTIFICATES, &[status], f64::from(count));
    }
}

fn resolvers(resolvers: &Resolvers, page: &mut Page<'_>) {
    for (resolver, state) in resolvers.states() {
        // From the start, so that the first failure is an increase.
        for outcome in ["issued", "failed", "unreachable"] {
            let count = state.orders.get(outcome).copied().unwrap_or_default();
            page.number(&names::ACME_ORDERS, &[&resolver, outcome], count as f64);
        }
        let registered = f64::from(u8::from(state.registered));
        page.number(&names::ACME_REGISTERED, &[&resolver], registered);
        for phase in Phase::ALL {
            let certificates = state.certificates.iter();
            let count = certificates.filter(|one| one.phase == phase).count();
            let labels = [&*resolver, phase.as_str()];
            page.number(&names::ACME_CERTIFICATES, &labels, count as f64);
        }
        if let Some(next) = state.next() {
            page.number(&names::ACME_NEXT, &[&resolver], next as f64);
        }
    }
}

fn responders(responders: &Responders, page: &mut Page<'_>) {
    let state = responders.state();
    if state.certificates.is_empty() && state.asked.is_empty() {
        return;
    }
    for outcome in ["good", "revoked", "failed"] {
        let count = state.asked.get(outcome).copied().unwrap_or_default();
        page.number(&names::OCSP_REQUESTS, &[outcome], count as f64);
    }
    for one in &state.certificates {
        let Some(until) = one.until else { continue };
        let sans = one.sans.join(",");
        let labels = [&*one.common_name, &one.serial, &sans];
        page.number(&names::OCSP_NEXT_UPDATE, &labels, until as f64);
    }
    if let Some(next) = state.certificates.iter().map(|one| one.next).min() {
        page.number(&names::OCSP_NEXT, &[], next as f64);
    }
}

fn validity(seconds_left: f64) -> &'static str {
    const MONTH: f64 = 30.0 * 24.0 * 3600.0;
    match seconds_left {
        left if left <= 0.0 => "expired",
        left if left < MONTH => "expiring",
        _ => "valid",
    }
}

type Rows = (Metric, Vec<proto::Metric>);

/// Families in the making, by name.
struct Page<'v> {
    view: &'v View,
    families: BTreeMap<&'static str, Rows>,
}

impl<'v> Page<'v> {
    fn new(view: &'v View) -> Self {
        Self {
            view,
            families: BTreeMap::new(),
        }
    }

    /// A counter of something that may never happen: shown once it did, as Traefik does with its own.
    fn event(&mut self, metric: &Metric, labels: &[&str], count: u64) {
        if count > 0 {
            self.number(metric, labels, count as f64);
        }
    }

    fn number(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let pairs = metric.labels.iter().copied().zip(labels.iter().copied());
        self.row(metric, pairs.map(pair).collect(), value);
    }

    fn row(&mut self, metric: &Metric, labels: Vec<LabelPair>, value: f64) {
        let mut row = proto::Metric::from_label(labels);
        match metric.kind {
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                row.set_gauge(gauge);
            }
            Kind::Counter | Kind::Histogram => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                row.set_counter(counter);
            }
        }
        self.push(metric, row);
    }

    fn push(&mut self, metric: &Metric, mut row: proto::Metric) {
        // In the order in which Traefik's client library writes them.
        row.mut_label().sort_by(|a, b| a.name().cmp(b.name()));
        let family = self.families.entry(metric.name);
        family.or_insert_with(|| (*metric, Vec::new())).1.push(row);
    }

    fn traffic(
        &mut self,
        registry: &Registry,
        names: &TrafficNames,
        subject: &[&str],
        totals: &Totals,
    ) {
        // Labels from headers belong to the request count only, so the other metrics are summed over them.
        let mut plain: BTreeMap<Key, Numbers> = BTreeMap::new();
        for (key, numbers) in &totals.requests {
            let labels = request_labels(&names.requests, key, subject);
            if self.view.header_labels {
                let labels = with_headers(labels, &registry.header_labels, key.headers);
                self.row(&names.requests, labels, numbers.requests() as f64);
            }
            let key = Key {
                headers: HeaderLabels::default(),
                ..*key
            };
            plain.entry(key).or_default().add(numbers.as_slice());
        }
        for (key, numbers) in &plain {
            let labels = |metric| request_labels(metric, key, subject);
            if !self.view.header_labels {
                let requests = numbers.requests() as f64;
                self.row(&names.requests, labels(&names.requests), requests);
            }
            let histogram = histogram(
                labels(&names.duration),
                (&registry.bounds, &self.view.bounds),
                numbers,
            );
            self.push(&names.duration, histogram);
            self.row(
                &names.bytes_in,
                labels(&names.bytes_in),
                numbers.bytes_in() as f64,
            );
            self.row(
                &names.bytes_out,
                labels(&names.bytes_out),
                numbers.bytes_out() as f64,
            );
        }
        for ((version, cipher), count) in TLS_LABELS.into_iter().zip(totals.tls) {
            let labels: Vec<&str> = [version, cipher]
                .into_iter()
                .chain(subject.iter().copied())
                .collect();
            self.event(&names.requests_tls, &labels, count);
        }
    }

    fn into_families(self) -> Vec<MetricFamily> {
        let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
        for (name, (metric, rows)) in self.families {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(rows);
            families.insert(name.to_owned(), family);
        }
        families.extend(
            process()
                .into_iter()
                .map(|family| (family.name().to_owned(), family)),
        );
        families.into_values().collect()
    }
}

fn request_labels(metric: &Metric, key: &Key, subject: &[&str]) -> Vec<LabelPair> {
    let code = key.code.to_string();
    let values = [&*code, key.method.as_str(), key.protocol.as_str()];
    let values = values.into_iter().chain(subject.iter().copied());
    metric
        .labels
        .iter()
        .copied()
        .zip(values)
        .map(pair)
        .collect()
}

fn with_headers(
    mut labels: Vec<LabelPair>,
    set: &HeaderLabelSet,
    headers: HeaderLabels,
) -> Vec<LabelPair> {
    labels.extend(set.texts(headers).map(pair));
    labels
}

/// By those of the bounds that are `shown`.
fn histogram(
    labels: Vec<LabelPair>,
    (bounds, shown): (&Bounds, &[f64]),
    numbers: &Numbers,
) -> proto::Metric {
    let mut histogram = proto::Histogram::default();
    let mut cumulated = 0;
    let buckets = bounds
        .seconds
        .iter()
        .zip(numbers.buckets())
        .map(|(bound, count)| {
            cumulated += count;
            (bound, cumulated)
        })
        .filter(|(bound, _)| shown.contains(bound))
        .map(|(bound, cumulated)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulated);
            bucket
        });
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(numbers.requests());
    histogram.set_sample_sum(numbers.seconds());
    let mut row = proto::Metric::from_label(labels);
    row.set_histogram(histogram);
    row
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn seconds_since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Memory, CPU and files of the process.
fn process() -> Vec<MetricFamily> {
    static COLLECTOR: OnceLock<ProcessCollector> = OnceLock::new();
    let collector = COLLECTOR.get_or_init(ProcessCollector::for_self);
    let mut families = collector.collect();
    // The collector counts whole seconds, too coarse for a rate over a scrape interval.
    let mut named = families.iter_mut();
    let cpu = named.find(|family| family.name() == "process_cpu_seconds_total");
    if let Some((cpu, seconds)) = cpu.zip(cpu_seconds()) {
        let mut counter = proto::Counter::default();
        counter.set_value(seconds);
        for row in cpu.mut_metric() {
            row.set_counter(counter.clone());
        }
    }
    families
}

/// User and system time of the process so far.
fn cpu_seconds() -> Option<f64> {
    // The kernel counts in hundredths for user space, whatever its own clock does.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let total = ticks()? + ticks()?;
    Some(total as f64 / TICKS_PER_SECOND)
}
