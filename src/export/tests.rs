use std::{
    convert::Infallible,
    io::Read,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};

use super::Exports;
use crate::{
    config::{
        Install,
        install::{OtlpHttp, Tracing, TracingOtlp},
    },
    drain::Tasks,
    observe::{Captured, Metrics, ServerCall, Tracer},
};

/// A collector that answers with a status until told another one, and counts the spans it took.
struct Collector {
    address: std::net::SocketAddr,
    status: Arc<AtomicU16>,
    seen: Arc<Mutex<Vec<String>>>,
    asked: Arc<AtomicU16>,
    _serving: JoinSet<()>,
}

async fn collector(status: u16) -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let status = Arc::new(AtomicU16::new(status));
    let (seen, asked) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicU16::new(0)),
    );
    let (told, names, times) = (Arc::clone(&status), Arc::clone(&seen), Arc::clone(&asked));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut lines = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (told, names, times) = (told.clone(), names.clone(), times.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (told, names, times) = (told.clone(), names.clone(), times.clone());
                async move {
                    assert_eq!(request.headers()["content-encoding"], "gzip");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    times.fetch_add(1, Relaxed);
                    let status = told.load(Relaxed);
                    if status == 200 {
                        names.lock().unwrap().extend(spans(&body));
                    }
                    let answer = Response::builder().status(status);
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap())
                }
            });
            lines.spawn(async move {
                let io = TokioIo::new(stream);
                drop(http1::Builder::new().serve_connection(io, answer).await);
            });
        }
    });
    Collector {
        address,
        status,
        seen,
        asked,
        _serving: serving,
    }
}

fn spans(packed: &[u8]) -> Vec<String> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let request = ExportTraceServiceRequest::decode(&*bytes).unwrap();
    let scopes = request.resource_spans.into_iter();
    let scopes = scopes.flat_map(|it| it.scope_spans);
    scopes
        .flat_map(|it| it.spans)
        .map(|span| span.name)
        .collect()
}

fn exports(endpoint: String) -> (Exports, Tracer, Metrics) {
    let http = OtlpHttp {
        endpoint,
        ..OtlpHttp::default()
    };
    let tracing = Tracing {
        otlp: Some(TracingOtlp {
            http: Some(http),
            grpc: None,
        }),
        ..Tracing::default()
    };
    let mut install = Install {
        tracing: Some(Box::new(tracing)),
        ..Install::default()
    };
    install.metrics.prometheus = Some(Default::default());
    let metrics = Metrics::configured(&install.metrics);
    let mut exports = Exports::default();
    let tracer = exports.tracer(&install);
    exports.metrics(&install, &metrics);
    (exports, tracer, metrics)
}

fn trace(tracer: &Tracer, count: usize) {
    for _ in 0..count {
        let arrival = || ServerCall {
            entry_point: "web".into(),
            method: http::Method::GET,
            version: http::Version::HTTP_11,
            size: None,
            target: "/".into(),
            scheme: http::HeaderValue::from_static("http"),
            user_agent: None,
            host: "a.test".into(),
            peer: ([127, 0, 0, 1], 1).into(),
            headers: Captured::default(),
        };
        let trace = tracer.begin(Instant::now(), &HeaderMap::new(), false, arrival);
        trace.unwrap().finish(200);
    }
}

fn counted(metrics: &Metrics, name: &str) -> String {
    let page = metrics.exposition();
    let start = format!("portway_otlp_{name}_total{{signal=\"traces\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_default().to_owned()
}

async fn until(what: &str, happened: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_end_tells_everything() {
    let collector = collector(200).await;
    let (mut exports, tracer, metrics) = exports(format!("http://{}", collector.address));
    let mut tasks = Tasks::default();
    exports.start(&mut tasks);
    trace(&tracer, 1300);
    exports.flush(Duration::from_secs(30)).await;
    assert_eq!(collector.seen.lock().unwrap().len(), 1300);
    // 1300 fit into three messages of at most 512.
    assert!(collector.asked.load(Relaxed) >= 3);
    assert_eq!(counted(&metrics, "exported"), "1300");
    assert_eq!(counted(&metrics, "dropped"), "0");
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again() {
    let collector = collector(503).await;
    let (mut exports, tracer, metrics) = exports(format!("http://{}", collector.address));
    let mut tasks = Tasks::default();
    exports.start(&mut tasks);
    trace(&tracer, 2);
    until("it is asked", || collector.asked.load(Relaxed) > 0).await;
    collector.status.store(200, Relaxed);
    until("it takes them", || {
        collector.seen.lock().unwrap().len() == 2
    })
    .await;
    until("that is counted", || counted(&metrics, "exported") == "2").await;
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_and_counted() {
    let collector = collector(400).await;
    let (mut exports, tracer, metrics) = exports(format!("http://{}", collector.address));
    let mut tasks = Tasks::default();
    exports.start(&mut tasks);
    trace(&tracer, 3);
    until("they are given up", || counted(&metrics, "dropped") == "3").await;
    assert_eq!(collector.asked.load(Relaxed), 1);
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_collector_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (mut exports, tracer, metrics) = exports(format!("http://{address}"));
    let mut tasks = Tasks::default();
    exports.start(&mut tasks);
    // More than fit into the queue: nobody waits for room.
    trace(&tracer, super::TRACES + 1000);
    exports.flush(Duration::from_secs(30)).await;
    assert_eq!(counted(&metrics, "exported"), "0");
    let dropped = counted(&metrics, "dropped").parse::<usize>().unwrap();
    assert_eq!(dropped, super::TRACES + 1000);
}

#[test]
fn an_endpoint_that_is_none_turns_tracing_off() {
    let (exports, tracer, _) = exports("nonsense".to_owned());
    assert!(exports.tasks.is_empty() && exports.problems.len() == 1);
    assert!(exports.problems[0].contains("tracing.otlp"));
    let none = tracer.begin(Instant::now(), &HeaderMap::new(), true, || unreachable!());
    assert!(none.is_none());
}
