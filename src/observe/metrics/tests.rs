use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method};

use super::{
    CertificateExpiry, Exported, Metrics, Reload, ServerState, ServerView, Signal, WatchedLog,
};
use crate::config::install::{self, MetricsOtlp, Prometheus};
use crate::observe::{
    CertificateState, Counter, Protocol, Resolvers, Responders, Sample, Sources, StapleState,
    TlsLabel, names,
};

fn sample(method: &[u8], code: u16, milliseconds: u64) -> Sample {
    let method = Method::from_bytes(method).unwrap();
    let duration = Duration::from_millis(milliseconds);
    Sample {
        bytes_in: 10,
        bytes_out: 100,
        ..Sample::new(&method, Protocol::Http, code, duration)
    }
}

/// The lines of `metrics` that start with `prefix`.
fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
    let text = metrics.exposition();
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    lines.map(str::to_owned).collect()
}

struct Down;

impl ServerView for Down {
    fn state(&self) -> ServerState {
        ServerState {
            up: false,
            reason: "probe_failed",
            detail: Some("status 500".into()),
            since: SystemTime::UNIX_EPOCH,
            in_flight: 3,
            checked: true,
        }
    }
}

#[test]
fn requests_are_exported_as_traefik_does() {
    let metrics = Metrics::new(&Prometheus::default());
    let web = metrics.entry_point(&"web".into());
    web.traffic().record(&sample(b"GET", 200, 50));
    web.traffic().record(&sample(b"GET", 200, 400));
    web.traffic().record(&Sample {
        tls: Some(TlsLabel::of("1.3", "TLS_AES_128_GCM_SHA256")),
        ..sample(b"BREW", 418, 6000)
    });
    assert_eq!(
        lines(&metrics, "traefik_entrypoint_"),
        [
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="200",entrypoint="web",method="GET",protocol="http",le="0.1"} 1"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="200",entrypoint="web",method="GET",protocol="http",le="0.3"} 1"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="200",entrypoint="web",method="GET",protocol="http",le="1.2"} 2"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="200",entrypoint="web",method="GET",protocol="http",le="5"} 2"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="200",entrypoint="web",method="GET",protocol="http",le="+Inf"} 2"#,
            r#"traefik_entrypoint_request_duration_seconds_sum{code="200",entrypoint="web",method="GET",protocol="http"} 0.45"#,
            r#"traefik_entrypoint_request_duration_seconds_count{code="200",entrypoint="web",method="GET",protocol="http"} 2"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http",le="0.1"} 0"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http",le="0.3"} 0"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http",le="1.2"} 0"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http",le="5"} 0"#,
            r#"traefik_entrypoint_request_duration_seconds_bucket{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http",le="+Inf"} 1"#,
            r#"traefik_entrypoint_request_duration_seconds_sum{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http"} 6"#,
            r#"traefik_entrypoint_request_duration_seconds_count{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http"} 1"#,
            r#"traefik_entrypoint_requests_bytes_total{code="200",entrypoint="web",method="GET",protocol="http"} 20"#,
            r#"traefik_entrypoint_requests_bytes_total{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http"} 10"#,
            r#"traefik_entrypoint_requests_tls_total{entrypoint="web",tls_cipher="TLS_AES_128_GCM_SHA256",tls_version="1.3"} 1"#,
            r#"traefik_entrypoint_requests_total{code="200",entrypoint="web",method="GET",protocol="http"} 2"#,
            r#"traefik_entrypoint_requests_total{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http"} 1"#,
            r#"traefik_entrypoint_responses_bytes_total{code="200",entrypoint="web",method="GET",protocol="http"} 200"#,
            r#"traefik_entrypoint_responses_bytes_total{code="418",entrypoint="web",method="EXTENSION_METHOD",protocol="http"} 100"#,
        ]
    );
}

#[test]
fn every_combination_and_thread_is_counted() {
    let metrics = Metrics::new(&Prometheus::default());
    let service = metrics.service(&"s@file".into());
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for code in 100..600 {
                    for method in methods {
                        let traffic = service.traffic();
                        traffic.record(&sample(method.as_bytes(), code, 1));
                    }
                }
            });
        }
    });
    let lines = lines(&metrics, "traefik_service_requests_total{");
    assert_eq!(lines.len(), methods.len() * 500);
    assert!(lines.iter().all(|line| line.ends_with("} 4")));
}

#[test]
fn labels_follow_the_options() {
    let cases = [
        (false, false, false),
        (true, false, true),
        (true, true, true),
    ];
    for (entry_points, routers, services) in cases {
        let metrics = Metrics::new(&Prometheus {
            add_entry_points_labels: entry_points,
            add_routers_labels: routers,
            add_services_labels: services,
            ..Prometheus::default()
        });
        let sample = sample(b"GET", 200, 1);
        let entry_point = metrics.entry_point(&"web".into());
        let router = metrics.router(&"r@file".into(), &"s@file".into());
        let service = metrics.service(&"s@file".into());
        for traffic in [entry_point.traffic(), &router, service.traffic()] {
            traffic.record(&sample);
        }
        let has = |prefix| !lines(&metrics, prefix).is_empty();
        assert_eq!(has("traefik_entrypoint_requests_total{"), entry_points);
        assert_eq!(has("traefik_router_requests_total{"), routers);
        assert_eq!(has("traefik_service_requests_total{"), services);
        assert!(has("traefik_open_connections{"));
    }
    assert_eq!(Metrics::default().exposition(), "");
    assert!(
        !Metrics::default()
            .entry_point(&"web".into())
            .traffic()
            .is_on()
    );
}

#[test]
fn labels_from_headers_are_on_the_request_count_only() {
    let metrics = Metrics::new(&Prometheus {
        header_labels: [("tenant".into(), "X-Tenant".into())].into(),
        ..Prometheus::default()
    });
    let service = metrics.service(&"s@file".into());
    for tenant in ["a\"", "b"] {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(tenant.as_bytes()).unwrap();
        headers.insert("x-tenant", value);
        service.traffic().record(&Sample {
            headers: metrics.header_labels("h", &headers),
            ..sample(b"GET", 200, 1)
        });
    }
    let mut counts = lines(&metrics, "traefik_service_requests_total{");
    counts.sort();
    let expected = [
        r#"traefik_service_requests_total{code="200",method="GET",protocol="http",service="s@file",tenant="a\""} 1"#,
        r#"traefik_service_requests_total{code="200",method="GET",protocol="http",service="s@file",tenant="b"} 1"#,
    ];
    assert_eq!(counts, expected);
    let bytes = lines(&metrics, "traefik_service_requests_bytes_total{");
    assert_eq!(bytes.len(), 1);
    assert!(bytes[0].ends_with("service=\"s@file\"} 20"));
}

#[test]
fn vanished_series_are_shown_once_more() {
    let metrics = Metrics::new(&Prometheus::default());
    let old = metrics.service(&"old@docker".into());
    old.traffic().record(&sample(b"GET", 200, 1));
    let again = metrics.service(&"old@docker".into());
    drop(old);
    again.traffic().record(&sample(b"GET", 200, 1));
    let prefix = "traefik_service_requests_total{";
    assert!(lines(&metrics, prefix)[0].ends_with("} 2"));
    drop(again);
    assert_eq!(lines(&metrics, prefix).len(), 1);
    assert_eq!(lines(&metrics, prefix).len(), 0);
}

#[test]
fn vanished_series_are_bounded_without_a_scraper() {
    let metrics = Metrics::new(&Prometheus::default());
    let kept = metrics.service(&"kept".into());
    for number in 0..=super::MAX_VANISHED {
        metrics.service(&format!("s{number}").into());
    }
    metrics.reloaded(&RELOAD);
    let registry = metrics.registry().unwrap();
    assert_eq!(registry.series().services.iter().count(), 1);
    drop(kept);
}

#[test]
fn servers_say_why_they_are_down() {
    let metrics = Metrics::new(&Prometheus::default());
    let handle = metrics.server(&"s@file".into(), &"http://127.0.0.1:1".into());
    let server = Arc::new(Down);
    handle.watch(&server);
    let open = handle.connection_opened();
    handle.idle_changed(1);
    handle.idle_changed(-1);
    handle.connection_reused();
    handle.idle_changed(1);
    let labels = r#"service="s@file",url="http://127.0.0.1:1""#;
    assert_eq!(
        lines(&metrics, "traefik_service_server_up"),
        [format!("traefik_service_server_up{{{labels}}} 0")]
    );
    assert_eq!(
        lines(&metrics, "portway_service_server"),
        [
            format!("portway_service_server_connections_reused_total{{{labels}}} 1"),
            format!("portway_service_server_connections_total{{{labels}}} 1"),
            format!("portway_service_server_idle_connections{{{labels}}} 1"),
            format!("portway_service_server_in_flight_requests{{{labels}}} 3"),
            format!("portway_service_server_open_connections{{{labels}}} 1"),
            format!("portway_service_server_state{{reason=\"probe_failed\",{labels}}} 0"),
        ]
    );
    drop((server, open));
    assert!(lines(&metrics, "portway_service_server_state").is_empty());
    let closed = format!("portway_service_server_open_connections{{{labels}}} 0");
    assert_eq!(lines(&metrics, "portway_service_server_open"), [closed]);
}

const RELOAD: Reload = Reload {
    generation: 2,
    took: Duration::from_millis(20),
    errors: 1,
    warnings: 0,
};

fn logs_and_sources(metrics: &Metrics) {
    let dropped = Arc::new(Counter::default());
    metrics.watch_log(WatchedLog::Access, &dropped);
    metrics.watch_log(WatchedLog::Program, &dropped);
    metrics.watch_export(Signal::Traces, &Exported::counting(&dropped));
    let sources = Sources::default();
    metrics.watch_sources(&sources);
    sources.source(&"docker".into()).synced();
    let resolvers = Resolvers::default();
    metrics.watch_resolvers(&resolvers);
    resolvers.count("le", "issued");
    let certificate = CertificateState {
        next: Some(2_000_000),
        ..CertificateState::default()
    };
    resolvers.set_certificates("le", true, vec![certificate]);
    let responders = Responders::default();
    metrics.watch_responders(&responders);
    responders.count("good");
    responders.set(vec![StapleState {
        common_name: "a.example".into(),
        serial: "17".into(),
        sans: vec!["a.example".into(), "b.example".into()],
        until: Some(4_000_000),
        next: 3_000_000,
    }]);
}

fn everything_of(service: &super::ServiceMetrics) {
    service.hedged();
    service.hedge_won();
    service.hedge_refused();
    service.panicked();
    service.retried();
    service.retries_exhausted();
    service.retry_refused();
    service.hold_began();
    service.hold_refused();
    drop(service.held());
    service.failed("reset");
    service.is_up(false);
    service.mirror_given_up("busy");
}

#[test]
fn every_metric_can_appear_and_only_known_ones_do() {
    let metrics = Metrics::new(&Prometheus {
        add_routers_labels: true,
        ..Prometheus::default()
    });
    let entry_point = metrics.entry_point(&"web".into());
    entry_point.connection_refused("connection_limit");
    entry_point.timed_out("header");
    let service = metrics.service(&"s".into());
    everything_of(&service);
    let router = metrics.router(&"r".into(), &"s".into());
    for traffic in [entry_point.traffic(), &router, service.traffic()] {
        traffic.record(&Sample {
            tls: Some(TlsLabel::of("1.2", "?")),
            ..sample(b"GET", 200, 1)
        });
    }
    let server = Arc::new(Down);
    let handle = metrics.server(&"s".into(), &"http://a".into());
    handle.watch(&server);
    let _open = handle.connection_opened();
    handle.connection_reused();
    handle.ejected();
    let limit = metrics.middleware(&"m@file".into(), "ratelimit");
    limit.refused();
    limit.delayed();
    limit.circuit("tripped");
    limit.redis_away();
    metrics.reloaded(&RELOAD);
    metrics.set_certificates(vec![CertificateExpiry {
        common_name: "a.example".into(),
        serial: "17".into(),
        sans: vec!["b.example".into(), "a.example".into()],
        not_after: 1_000_000,
    }]);
    logs_and_sources(&metrics);

    let text = metrics.exposition();
    let typed: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(str::to_owned)
        .collect();
    let known: Vec<String> = names::all()
        .iter()
        .map(|metric| format!("{} {}", metric.name, metric.kind.as_str()))
        .collect();
    assert_eq!(typed, known);
    for metric in names::all() {
        assert!(
            text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)),
            "{}",
            metric.name
        );
    }
    certificates_are_written(&text);
}

fn certificates_are_written(text: &str) {
    assert!(text.contains("traefik_tls_certs_not_after{cn=\"a.example\",sans=\"a.example,b.example\",serial=\"17\"} 1000000\n"));
    assert!(text.contains("portway_tls_certificates{status=\"expired\"} 1\n"));
    for line in [
        "portway_acme_orders_total{outcome=\"issued\",resolver=\"le\"} 1",
        "portway_acme_orders_total{outcome=\"failed\",resolver=\"le\"} 0",
        "portway_acme_account_registered{resolver=\"le\"} 1",
        "portway_acme_certificates{resolver=\"le\",state=\"valid\"} 1",
        "portway_acme_certificates{resolver=\"le\",state=\"waiting\"} 0",
        "portway_acme_next_attempt_timestamp_seconds{resolver=\"le\"} 2000000",
        "portway_ocsp_requests_total{outcome=\"good\"} 1",
        "portway_ocsp_requests_total{outcome=\"revoked\"} 0",
        "portway_ocsp_requests_total{outcome=\"failed\"} 0",
        "portway_ocsp_next_update_timestamp_seconds{cn=\"a.example\",sans=\"a.example,b.example\",serial=\"17\"} 4000000",
        "portway_ocsp_next_attempt_timestamp_seconds 3000000",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}");
    }
}

#[test]
fn each_is_told_what_it_asked_for() {
    let mut options = install::Metrics {
        prometheus: Some(Prometheus {
            buckets: vec![0.1, 5.0],
            ..Prometheus::default()
        }),
        otlp: Some(Box::new(MetricsOtlp {
            explicit_boundaries: vec![1.0],
            add_entry_points_labels: false,
            add_routers_labels: true,
            ..MetricsOtlp::default()
        })),
        ..install::Metrics::default()
    };
    let counted = |options: &install::Metrics| {
        let metrics = Metrics::configured(options);
        let entry_point = metrics.entry_point(&"web".into());
        let router = metrics.router(&"r".into(), &"s".into());
        for milliseconds in [50, 500, 2000, 9000] {
            let sample = sample(b"GET", 200, milliseconds);
            entry_point.traffic().record(&sample);
            router.record(&sample);
        }
        // What nobody counts with any more is told once and forgotten.
        (metrics, entry_point, router)
    };
    let (metrics, ..) = &counted(&options);
    let page = metrics.exposition();
    let bucket = |bound: &str| {
        let start = "traefik_entrypoint_request_duration_seconds_bucket{";
        let le = format!("le=\"{bound}\"");
        let line = page
            .lines()
            .find(|line| line.starts_with(start) && line.contains(&le));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    let buckets = ["0.1", "1", "5", "+Inf"].map(bucket);
    let of = |count: &str| Some(count.to_owned());
    assert_eq!(buckets, [of("1"), None, of("3"), of("4")]);
    assert!(!page.contains("traefik_router_"), "{page}");
    let pushed = metrics.pushed();
    assert!(
        !pushed
            .iter()
            .any(|it| it.name().starts_with("traefik_entrypoint_requests"))
    );
    let mut durations = pushed.iter();
    let durations = durations.find(|it| it.name() == "traefik_router_request_duration_seconds");
    let histogram = durations.unwrap().get_metric()[0].get_histogram();
    let buckets = histogram.get_bucket().iter();
    let buckets: Vec<_> = buckets
        .map(|it| (it.upper_bound(), it.cumulative_count()))
        .collect();
    assert_eq!(buckets, [(1.0, 2)]);
    assert_eq!(histogram.get_sample_count(), 4);
    options.prometheus = None;
    let (metrics, ..) = &counted(&options);
    assert!(metrics.exposition().is_empty() && !metrics.pushed().is_empty());
    options.otlp = None;
    assert!(!Metrics::configured(&options).is_on());
}
