//! Every metric there is: its name, type, labels and meaning, once. `docs/metrics.md` says the same in more words.

/// What is known of a metric before it has a value.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The five metrics of requests at one stage of their way.
#[derive(Debug)]
pub(super) struct TrafficNames {
    pub(super) requests: Metric,
    pub(super) requests_tls: Metric,
    pub(super) duration: Metric,
    pub(super) bytes_in: Metric,
    pub(super) bytes_out: Metric,
}

impl TrafficNames {
    const fn all(&self) -> [Metric; 5] {
        [
            self.requests,
            self.requests_tls,
            self.duration,
            self.bytes_in,
            self.bytes_out,
        ]
    }
}

macro_rules! traffic_names {
    ($stage:literal, $subject:literal, $($label:literal),+) => {
        TrafficNames {
            requests: counter(
                concat!("traefik_", $stage, "_requests_total"),
                &["code", "method", "protocol", $($label),+],
                concat!("Requests ", $subject, "."),
            ),
            requests_tls: counter(
                concat!("traefik_", $stage, "_requests_tls_total"),
                &["tls_version", "tls_cipher", $($label),+],
                concat!("Requests ", $subject, " that came over TLS, by TLS version and cipher suite."),
            ),
            duration: Metric {
                name: concat!("traefik_", $stage, "_request_duration_seconds"),
                kind: Kind::Histogram,
                labels: &["code", "method", "protocol", $($label),+],
                help: concat!("Time from the request's arrival to the end of its response, for requests ", $subject, "."),
            },
            bytes_in: counter(
                concat!("traefik_", $stage, "_requests_bytes_total"),
                &["code", "method", "protocol", $($label),+],
                concat!("Bytes of the bodies of requests ", $subject, "."),
            ),
            bytes_out: counter(
                concat!("traefik_", $stage, "_responses_bytes_total"),
                &["code", "method", "protocol", $($label),+],
                concat!("Bytes of the bodies of responses to requests ", $subject, "."),
            ),
        }
    };
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

pub(super) const ENTRY_POINT: TrafficNames = traffic_names!(
    "entrypoint",
    "that arrived at the entry point",
    "entrypoint"
);
pub(super) const ROUTER: TrafficNames =
    traffic_names!("router", "taken by the router", "router", "service");
pub(super) const SERVICE: TrafficNames =
    traffic_names!("service", "handled by the service", "service");

pub(super) const CONFIG_RELOADS: Metric = counter(
    "traefik_config_reloads_total",
    &[],
    "Configurations that went live since the start.",
);
pub(super) const CONFIG_LAST_SUCCESS: Metric = gauge(
    "traefik_config_last_reload_success",
    &[],
    "When the last configuration went live, in seconds since 1970.",
);
pub(super) const OPEN_CONNECTIONS: Metric = gauge(
    "traefik_open_connections",
    &["entrypoint", "protocol"],
    "Connections open at the entry point.",
);
pub(super) const CERTIFICATE_NOT_AFTER: Metric = gauge(
    "traefik_tls_certs_not_after",
    &["cn", "serial", "sans"],
    "When the certificate expires, in seconds since 1970.",
);
pub(super) const RETRIES: Metric = counter(
    "traefik_service_retries_total",
    &["service"],
    "Attempts after the first one.",
);
pub(super) const SERVER_UP: Metric = gauge(
    "traefik_service_server_up",
    &["service", "url"],
    "1 if the health check finds the server usable, else 0.",
);

pub(super) const BUILD: Metric = gauge(
    "portway_build_info",
    &["version"],
    "Always 1; the label says which Portway this is.",
);
pub(super) const GENERATION: Metric = gauge(
    "portway_config_generation",
    &[],
    "Number of the configuration in use, counted from the start.",
);
pub(super) const RELOAD_SECONDS: Metric = gauge(
    "portway_config_last_reload_duration_seconds",
    &[],
    "How long the last configuration took from its arrival to being live.",
);
pub(super) const DIAGNOSTICS: Metric = gauge(
    "portway_config_diagnostics",
    &["severity"],
    "Findings about the configuration in use.",
);
pub(super) const SOURCE_CONNECTED: Metric = gauge(
    "portway_provider_connected",
    &["provider"],
    "1 if the provider's source answers, else 0.",
);
pub(super) const SOURCE_LAST_SYNC: Metric = gauge(
    "portway_provider_last_sync_timestamp_seconds",
    &["provider"],
    "When the provider's source last told everything, in seconds since 1970.",
);
pub(super) const UNMATCHED: Metric = counter(
    "portway_entrypoint_unmatched_requests_total",
    &["entrypoint"],
    "Requests that no router matched.",
);
pub(super) const CONNECTIONS_REFUSED: Metric = counter(
    "portway_entrypoint_connections_refused_total",
    &["entrypoint", "reason"],
    "Connections closed before their first request, by reason.",
);
pub(super) const TIMEOUTS: Metric = counter(
    "portway_entrypoint_timeouts_total",
    &["entrypoint", "phase"],
    "Clients that were too slow, by what was waited for.",
);
pub(super) const REFUSALS: Metric = counter(
    "portway_middleware_refusals_total",
    &["middleware", "type"],
    "Requests the middleware refused.",
);
pub(super) const DELAYED: Metric = counter(
    "portway_middleware_delayed_requests_total",
    &["middleware", "type"],
    "Requests the middleware held back for a while.",
);
pub(super) const CIRCUIT_CHANGES: Metric = counter(
    "portway_circuit_breaker_changes_total",
    &["middleware", "state"],
    "How often the circuit breaker got into the state.",
);
pub(super) const REDIS_AWAY: Metric = counter(
    "portway_middleware_redis_away_total",
    &["middleware", "type"],
    "Requests the middleware decided without the Redis it should have asked.",
);
pub(super) const RETRIES_EXHAUSTED: Metric = counter(
    "portway_service_retries_exhausted_total",
    &["service"],
    "Requests that failed although every allowed retry was made.",
);
pub(super) const RETRY_BUDGET: Metric = counter(
    "portway_service_retry_budget_refusals_total",
    &["service"],
    "Retries not made because too many requests were being retried already.",
);
pub(super) const HEDGED: Metric = counter(
    "portway_service_hedged_requests_total",
    &["service"],
    "Requests that were sent to a second server because the first one took long.",
);
pub(super) const HEDGE_WINS: Metric = counter(
    "portway_service_hedge_wins_total",
    &["service"],
    "Requests that the second server answered first.",
);
pub(super) const HEDGE_REFUSALS: Metric = counter(
    "portway_service_hedge_refusals_total",
    &["service"],
    "Requests not sent to a second server because too many others were.",
);
pub(super) const PANICS: Metric = counter(
    "portway_service_panic_picks_total",
    &["service"],
    "Servers picked whatever their health, because too few were well.",
);
pub(super) const FAULTS: Metric = counter(
    "portway_service_faults_total",
    &["service", "reason"],
    "Attempts that failed, by reason.",
);
pub(super) const HELD: Metric = gauge(
    "portway_service_held_requests",
    &["service"],
    "Requests that wait for a usable server now.",
);
pub(super) const HOLDS: Metric = counter(
    "portway_service_holds_total",
    &["service"],
    "Requests that had to wait for a usable server.",
);
pub(super) const HELD_SECONDS: Metric = counter(
    "portway_service_held_seconds_total",
    &["service"],
    "Time that requests spent waiting for a usable server, in seconds.",
);
pub(super) const HOLD_REFUSALS: Metric = counter(
    "portway_service_hold_refusals_total",
    &["service"],
    "Requests answered at once because too many others waited for a usable server.",
);
pub(super) const SERVICE_UP: Metric = gauge(
    "portway_service_up",
    &["service"],
    "1 if a service made of services, with a health check, can answer, else 0.",
);
pub(super) const MIRRORS_GIVEN_UP: Metric = counter(
    "portway_service_mirrors_given_up_total",
    &["service", "reason"],
    "Copies of requests that a mirroring service did not send, or not to their end, by reason.",
);
pub(super) const SERVER_STATE: Metric = gauge(
    "portway_service_server_state",
    &["service", "url", "reason"],
    "1 if the server gets requests, else 0; the label says why.",
);
pub(super) const SERVER_EJECTIONS: Metric = counter(
    "portway_service_server_ejections_total",
    &["service", "url"],
    "Times that the server was left out for a while because it stood out by failing.",
);
pub(super) const SERVER_IN_FLIGHT: Metric = gauge(
    "portway_service_server_in_flight_requests",
    &["service", "url"],
    "Requests being handled by the server.",
);
pub(super) const SERVER_OPEN: Metric = gauge(
    "portway_service_server_open_connections",
    &["service", "url"],
    "Connections open to the server.",
);
pub(super) const SERVER_IDLE: Metric = gauge(
    "portway_service_server_idle_connections",
    &["service", "url"],
    "Connections to the server that wait for a request.",
);
pub(super) const SERVER_OPENED: Metric = counter(
    "portway_service_server_connections_total",
    &["service", "url"],
    "Connections opened to the server.",
);
pub(super) const SERVER_REUSED: Metric = counter(
    "portway_service_server_connections_reused_total",
    &["service", "url"],
    "Requests sent over a connection that had served another one before.",
);
pub(super) const ACME_ORDERS: Metric = counter(
    "portway_acme_orders_total",
    &["resolver", "outcome"],
    "Attempts to obtain a certificate since the start, by outcome.",
);
pub(super) const ACME_REGISTERED: Metric = gauge(
    "portway_acme_account_registered",
    &["resolver"],
    "1 if the authority knows the resolver's account, else 0.",
);
pub(super) const ACME_CERTIFICATES: Metric = gauge(
    "portway_acme_certificates",
    &["resolver", "state"],
    "Certificates that the resolver obtained or is asked for, by what is going on with them.",
);
pub(super) const ACME_NEXT: Metric = gauge(
    "portway_acme_next_attempt_timestamp_seconds",
    &["resolver"],
    "When the resolver obtains, renews or retries a certificate next, in seconds since 1970.",
);
pub(super) const OCSP_REQUESTS: Metric = counter(
    "portway_ocsp_requests_total",
    &["outcome"],
    "Attempts to learn from OCSP responders whether a certificate is good, by outcome.",
);
pub(super) const OCSP_NEXT_UPDATE: Metric = gauge(
    "portway_ocsp_next_update_timestamp_seconds",
    &["cn", "serial", "sans"],
    "Until when the staple that is sent with the certificate holds, in seconds since 1970.",
);
pub(super) const OCSP_NEXT: Metric = gauge(
    "portway_ocsp_next_attempt_timestamp_seconds",
    &[],
    "When an OCSP responder is asked next, in seconds since 1970.",
);
pub(super) const CERTIFICATES: Metric = gauge(
    "portway_tls_certificates",
    &["status"],
    "Certificates in use: valid, expiring within 30 days, or expired.",
);
pub(super) const ACCESS_LINES_DROPPED: Metric = counter(
    "portway_access_log_lines_dropped_total",
    &[],
    "Access log lines given up because the writer could not keep up.",
);
pub(super) const EXPORTED: Metric = counter(
    "portway_otlp_exported_total",
    &["signal"],
    "Traces, points of metrics and lines of logs that a collector took.",
);
pub(super) const EXPORTS_DROPPED: Metric = counter(
    "portway_otlp_dropped_total",
    &["signal"],
    "Those given up because the collector could not be reached, could not keep up or did not want them.",
);
pub(super) const LOG_LINES_DROPPED: Metric = counter(
    "portway_log_lines_dropped_total",
    &[],
    "Log lines given up because the writer could not keep up.",
);

/// The metrics of the process, which the `prometheus` crate reads from `/proc`.
const PROCESS: [Metric; 7] = [
    counter(
        "process_cpu_seconds_total",
        &[],
        "Total user and system CPU time spent in seconds.",
    ),
    gauge("process_open_fds", &[], "Number of open file descriptors."),
    gauge(
        "process_max_fds",
        &[],
        "Maximum number of open file descriptors.",
    ),
    gauge(
        "process_virtual_memory_bytes",
        &[],
        "Virtual memory size in bytes.",
    ),
    gauge(
        "process_resident_memory_bytes",
        &[],
        "Resident memory size in bytes.",
    ),
    gauge(
        "process_start_time_seconds",
        &[],
        "Start time of the process since unix epoch in seconds.",
    ),
    gauge(
        "process_threads",
        &[],
        "Number of OS threads in the process.",
    ),
];

/// All metrics, sorted by name.
#[expect(clippy::too_many_lines, reason = "a list")]
pub fn all() -> Vec<Metric> {
    let mut all = vec![
        CONFIG_RELOADS,
        CONFIG_LAST_SUCCESS,
        OPEN_CONNECTIONS,
        CERTIFICATE_NOT_AFTER,
        RETRIES,
        SERVER_UP,
        BUILD,
        GENERATION,
        RELOAD_SECONDS,
        DIAGNOSTICS,
        SOURCE_CONNECTED,
        SOURCE_LAST_SYNC,
        UNMATCHED,
        CONNECTIONS_REFUSED,
        TIMEOUTS,
        REFUSALS,
        DELAYED,
        CIRCUIT_CHANGES,
        REDIS_AWAY,
        RETRIES_EXHAUSTED,
        RETRY_BUDGET,
        HEDGED,
        HEDGE_WINS,
        HEDGE_REFUSALS,
        PANICS,
        FAULTS,
        HELD,
        HOLDS,
        HELD_SECONDS,
        HOLD_REFUSALS,
        SERVICE_UP,
        MIRRORS_GIVEN_UP,
        SERVER_STATE,
        SERVER_EJECTIONS,
        SERVER_IN_FLIGHT,
        SERVER_OPEN,
        SERVER_IDLE,
        SERVER_OPENED,
        SERVER_REUSED,
        CERTIFICATES,
        ACME_ORDERS,
        ACME_REGISTERED,
        ACME_CERTIFICATES,
        ACME_NEXT,
        OCSP_REQUESTS,
        OCSP_NEXT_UPDATE,
        OCSP_NEXT,
        ACCESS_LINES_DROPPED,
        LOG_LINES_DROPPED,
        EXPORTED,
        EXPORTS_DROPPED,
    ];
    all.extend(
        [ENTRY_POINT, ROUTER, SERVICE]
            .iter()
            .flat_map(TrafficNames::all),
    );
    all.extend(PROCESS);
    all.sort_by_key(|metric| metric.name);
    all
}

#[cfg(test)]
mod tests {
    use super::all;

    /// The rows of the tables of metrics: name, type, labels.
    fn documented() -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let (name, kind) = (cells.next()?, cells.next()?);
            let is_metric = ["counter", "gauge", "histogram"].contains(&kind);
            let labels = cells.next()?;
            is_metric.then(|| {
                format!(
                    "{} {kind} {}",
                    name.replace('`', ""),
                    labels.replace('`', "")
                )
            })
        });
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        rows
    }

    #[test]
    fn code_and_documentation_name_the_same_metrics() {
        let mut metrics: Vec<String> = all()
            .iter()
            .map(|metric| {
                format!(
                    "{} {} {}",
                    metric.name,
                    metric.kind.as_str(),
                    metric.labels.join(" ")
                )
            })
            .collect();
        metrics.sort();
        assert_eq!(documented(), metrics);
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in all() {
            let counter = metric.kind.as_str() == "counter";
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
