//! What is told to collectors over OTLP: traces, metrics, lines of logs. Runs on the control thread, behind bounded queues.
//!
//! A collector that is away costs nobody anything but what could not be kept for it, and that is counted.

mod batch;
mod client;
mod logs;
mod metrics;
mod resource;
mod spans;
mod values;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    config::{Install, install::LogOtlp},
    drain::Tasks,
    observe::{Counter, Exported, LogQueue, Metrics, Queue, Signal, Tracer},
};

use batch::{Batches, Delivery};
use client::Client;
use logs::Lines;
use resource::resource;
use spans::Spans;

/// Everything that is to be exported. Made before anything is served, run by [`Exports::start`].
#[derive(Debug, Default)]
pub struct Exports {
    tasks: Vec<Pending>,
    flushes: Vec<Flushes>,
    exported: Vec<(Signal, Exported)>,
    /// What cannot be exported, and why.
    problems: Vec<String>,
}

/// Asks a task to deliver what it has, and to say so.
type Flushes = mpsc::Sender<oneshot::Sender<()>>;

#[derive(Debug)]
enum Pending {
    Traces(Box<Batches<Spans>>),
    Metrics(Box<metrics::Push>),
    Lines(Signal, Box<Batches<Lines>>),
}

impl Exports {
    /// What begins the traces of requests, as configured.
    pub fn tracer(&mut self, install: &Install) -> Tracer {
        let Some(options) = &install.tracing else {
            return Tracer::default();
        };
        let otlp = options.otlp.clone().unwrap_or_default();
        let client = Client::new(Signal::Traces, otlp.http.as_ref(), otlp.grpc.as_ref());
        let Some(client) = self.usable("tracing.otlp", client) else {
            return Tracer::default();
        };
        let (queue, outlet) = Queue::new(TRACES);
        let delivery = self.delivery(client, &outlet.dropped);
        let mut attributes = options.global_attributes.clone();
        attributes.extend(options.resource_attributes.clone());
        let spans = Spans::new(options, resource(&options.service_name, &attributes));
        let batches = Batches::new(spans, outlet.receiver, delivery);
        self.tasks.push(Pending::Traces(Box::new(batches)));
        let environment = std::env::var("OTEL_PROPAGATORS").unwrap_or_default();
        let (tracer, unknown) = Tracer::new(options, &environment, queue);
        self.problems.extend(unknown.iter().map(|name| {
            format!("OTEL_PROPAGATORS: {name:?} is not supported: use tracecontext, baggage, b3, b3multi, jaeger or none")
        }));
        tracer
    }

    /// Where the program's log queues its lines, if a collector is to have them.
    pub fn log(&mut self, install: &Install) -> Option<LogQueue> {
        self.lines(Signal::Log, "log.otlp", install.log.otlp.as_deref()?)
    }

    /// The same for the access log.
    pub fn access_log(&mut self, install: &Install) -> Option<LogQueue> {
        let options = install.access_log.as_ref()?.otlp.as_deref()?;
        self.lines(Signal::AccessLog, "accessLog.otlp", options)
    }

    /// Tells a collector the metrics of this process, if that is configured; and lets them tell how exporting goes.
    pub fn metrics(&mut self, install: &Install, metrics: &Metrics) {
        if let Some(options) = &install.metrics.otlp {
            let client = Client::new(
                Signal::Metrics,
                options.http.as_ref(),
                options.grpc.as_ref(),
            );
            if let Some(client) = self.usable("metrics.otlp", client) {
                let delivery = self.delivery(client, &Arc::default());
                let push = metrics::Push::new(options, metrics.clone(), delivery);
                self.tasks.push(Pending::Metrics(Box::new(push)));
            }
        }
        for (signal, exported) in &self.exported {
            metrics.watch_export(*signal, exported);
        }
    }

    /// Exports from now on, until the tasks end.
    pub fn start(&mut self, tasks: &mut Tasks) {
        for problem in self.problems.drain(..) {
            tracing::error!("{problem}");
        }
        for pending in self.tasks.drain(..) {
            match pending {
                Pending::Traces(batches) => tasks.spawn("otlp traces", batches.run()),
                Pending::Metrics(push) => tasks.spawn("otlp metrics", push.run()),
                Pending::Lines(signal, batches) => {
                    tasks.spawn(format!("otlp {signal:?}"), batches.run())
                }
            };
        }
    }

    /// Delivers what is left, as far as that can be done within `limit`.
    pub async fn flush(&self, limit: Duration) {
        let all = async {
            let mut done = Vec::new();
            for flushes in &self.flushes {
                let (sender, receiver) = oneshot::channel();
                if flushes.send(sender).await.is_ok() {
                    done.push(receiver);
                }
            }
            for receiver in done {
                // A task that ended has nothing left.
                receiver.await.ok();
            }
        };
        if timeout(limit, all).await.is_err() {
            tracing::warn!("a collector does not answer: what was left for it is lost");
        }
    }

    fn lines(&mut self, signal: Signal, option: &str, options: &LogOtlp) -> Option<LogQueue> {
        let client = Client::new(signal, options.http.as_ref(), options.grpc.as_ref());
        let client = self.usable(option, client)?;
        let (queue, outlet) = Queue::new(LINES);
        let delivery = self.delivery(client, &outlet.dropped);
        let lines = Lines(resource(
            &options.service_name,
            &options.resource_attributes,
        ));
        let batches = Batches::new(lines, outlet.receiver, delivery);
        self.tasks.push(Pending::Lines(signal, Box::new(batches)));
        Some(queue)
    }

    fn usable(&mut self, option: &str, client: Result<Client, String>) -> Option<Client> {
        client
            .map_err(|reason| {
                let problem = format!("{option}: {reason}: nothing is exported");
                self.problems.push(problem);
            })
            .ok()
    }

    fn delivery(&mut self, client: Client, dropped: &Arc<Counter>) -> Delivery {
        let exported = Exported::counting(dropped);
        self.exported.push((client.signal, exported.clone()));
        let (sender, flushes) = mpsc::channel(1);
        self.flushes.push(sender);
        Delivery::new(client, exported, flushes)
    }
}

/// Requests whose traces may wait to be sent.
const TRACES: usize = 8 * 1024;
/// Lines of a log that may.
const LINES: usize = 8 * 1024;

#[cfg(test)]
mod tests;
