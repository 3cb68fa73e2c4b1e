//! What counting one request costs: entry point, router, service, and the connection to the server.
//!
//! `cargo bench --bench metrics` prints nanoseconds per request, alone and with all cores counting the same router, and fails if a
//! request costs more than its budget.

use std::{
    hint::black_box,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method};
use portway::{
    config::install::Prometheus,
    observe::{
        EntryPointMetrics, Metrics, Protocol, Sample, ServerMetrics, ServiceMetrics, TlsLabel,
        TrafficMetrics,
    },
};

fn main() -> ExitCode {
    let on = Metrics::new(&Prometheus {
        add_routers_labels: true,
        ..Prometheus::default()
    });
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let alone = request_cost(&on, 1);
    let together = request_cost(&on, cores);
    let off = request_cost(&Metrics::default(), 1);
    let report = format!(
        "metrics on, one core:     {alone:6.1} ns per request\nmetrics on, {cores} cores:     {together:6.1} ns per request\nmetrics off:              {off:6.1} ns per request\n"
    );
    if io::stdout().write_all(report.as_bytes()).is_err()
        || alone > BUDGET
        || together > 2.0 * BUDGET
    {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Everything a proxied request counts with.
#[derive(Clone)]
struct Handles {
    entry_point: EntryPointMetrics,
    router: TrafficMetrics,
    service: ServiceMetrics,
    server: ServerMetrics,
    /// Looked up once per connection.
    tls: TlsLabel,
}

impl Handles {
    fn new(metrics: &Metrics) -> Self {
        let service: Arc<str> = "app@file".into();
        Self {
            entry_point: metrics.entry_point(&"web".into()),
            router: metrics.router(&"app@file".into(), &service),
            service: metrics.service(&service),
            server: metrics.server(&service, &"http://10.0.0.1:80".into()),
            tls: TlsLabel::of("1.3", "TLS_AES_128_GCM_SHA256"),
        }
    }

    fn count(&self, headers: &HeaderMap, number: u64) {
        if self.entry_point.traffic().is_on() {
            self.record(headers, number);
        }
        self.server.idle_changed(-1);
        self.server.connection_reused();
        self.server.idle_changed(1);
    }

    fn record(&self, headers: &HeaderMap, number: u64) {
        let protocol = Protocol::of(headers, None);
        let code = if number.is_multiple_of(16) { 304 } else { 200 };
        let sample = Sample {
            bytes_out: 1000 + number % 100,
            tls: Some(self.tls),
            ..Sample::new(
                &Method::GET,
                protocol,
                code,
                Duration::from_micros(number % 2000),
            )
        };
        self.entry_point.traffic().record(&sample);
        self.router.record(&sample);
        self.service.traffic().record(&sample);
    }
}

/// Nanoseconds per request while `threads` threads count requests of one router.
fn request_cost(metrics: &Metrics, threads: usize) -> f64 {
    let handles = Handles::new(metrics);
    let mut headers = HeaderMap::new();
    headers.insert(
        "accept",
        HeaderValue::from_static("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    );
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    let times = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| time(&handles, &headers)))
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .collect::<Vec<f64>>()
    });
    times.iter().sum::<f64>() / times.len() as f64
}

/// The fastest batch counts: in the others the thread had to share its core.
fn time(handles: &Handles, headers: &HeaderMap) -> f64 {
    let batch = || {
        let start = Instant::now();
        for number in 0..BATCH {
            black_box(handles).count(black_box(headers), black_box(number));
        }
        start.elapsed().as_nanos() as f64 / BATCH as f64
    };
    (0..BATCHES).map(|_| batch()).fold(f64::INFINITY, f64::min)
}

const BATCH: u64 = 10_000;
const BATCHES: usize = 300;
/// Nanoseconds that counting a request may cost.
const BUDGET: f64 = 200.0;
