//! The metrics of this process, pushed at intervals.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prometheus::proto::{self, MetricFamily, MetricType};
use prost::Message;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    batch::Delivery,
    resource::resource,
    values::{nanoseconds, scope, text},
};
use crate::{config::install::MetricsOtlp, observe::Metrics};

/// Pushes metrics to a collector.
#[derive(Debug)]
pub(super) struct Push {
    metrics: Metrics,
    delivery: Delivery,
    every: Duration,
    resource: Resource,
    since: SystemTime,
}

impl Push {
    pub(super) fn new(options: &MetricsOtlp, metrics: Metrics, delivery: Delivery) -> Self {
        Self {
            metrics,
            delivery,
            every: options.push_interval.positive().unwrap_or(USUAL),
            resource: resource(&options.service_name, &options.resource_attributes),
            since: SystemTime::now(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once, when there is nothing to tell.
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.push().await,
                done = self.delivery.flushes.recv() => match done {
                    Some(done) => {
                        self.push().await;
                        // Whoever asked may have given up waiting.
                        done.send(()).ok();
                    }
                    None => std::future::pending().await,
                },
            }
        }
    }

    /// One try: what comes next tells the same and more.
    async fn push(&mut self) {
        let families = self.metrics.pushed();
        let points = families
            .iter()
            .map(|family| family.get_metric().len())
            .sum();
        let message = self.encode(&families, SystemTime::now());
        self.delivery.once(message.into(), points).await;
    }

    fn encode(&self, families: &[MetricFamily], now: SystemTime) -> Vec<u8> {
        let times = (nanoseconds(self.since), nanoseconds(now));
        let metrics = families.iter().map(|family| metric(family, times));
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: metrics.collect(),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        request.encode_to_vec()
    }
}

fn metric(family: &MetricFamily, times: (u64, u64)) -> Metric {
    let rows = family.get_metric();
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: rows
                .iter()
                .map(|row| number(row, row.get_counter().get_value(), times))
                .collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: rows.iter().map(|row| histogram(row, times)).collect(),
            aggregation_temporality: cumulative,
        }),
        _ => Data::Gauge(Gauge {
            data_points: rows
                .iter()
                .map(|row| number(row, row.get_gauge().get_value(), times))
                .collect(),
        }),
    };
    Metric {
        name: family.name().to_owned(),
        description: family.help().to_owned(),
        unit: unit(family.name()).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(row: &proto::Metric, value: f64, (since, now): (u64, u64)) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(row),
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// Buckets count what is in them alone here, and have one more for what is above all bounds.
fn histogram(row: &proto::Metric, (since, now): (u64, u64)) -> HistogramDataPoint {
    let histogram = row.get_histogram();
    let mut below = 0;
    let mut counts: Vec<u64> = histogram
        .get_bucket()
        .iter()
        .map(|bucket| {
            bucket.cumulative_count() - std::mem::replace(&mut below, bucket.cumulative_count())
        })
        .collect();
    let count = histogram.get_sample_count();
    counts.push(count - below);
    let bounds = histogram.get_bucket().iter();
    HistogramDataPoint {
        attributes: attributes(row),
        start_time_unix_nano: since,
        time_unix_nano: now,
        count,
        sum: Some(histogram.get_sample_sum()),
        bucket_counts: counts,
        explicit_bounds: bounds.map(|bucket| bucket.upper_bound()).collect(),
        ..HistogramDataPoint::default()
    }
}

fn attributes(row: &proto::Metric) -> Vec<KeyValue> {
    let labels = row.get_label().iter();
    labels
        .map(|label| text(label.name(), label.value()))
        .collect()
}

/// Collectors make names of units, so those of Traefik's metrics are Traefik's, right or wrong.
fn unit(name: &str) -> &'static str {
    match name {
        "traefik_config_last_reload_success" => "ms",
        _ if name.ends_with("_seconds") => "s",
        _ if name.starts_with("traefik_") => "1",
        _ if name.ends_with("_bytes") => "By",
        _ => "",
    }
}

/// Where the interval is none.
const USUAL: Duration = Duration::from_secs(10);
