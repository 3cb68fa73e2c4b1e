use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::{Call, Captured, Part, ServerCall, Trace, TraceRecord, Tracer};
use crate::{
    config::install::Tracing,
    observe::queue::{Outlet, Queue},
};

fn tracer(options: &Tracing) -> (Tracer, Outlet<Box<TraceRecord>>) {
    let (queue, outlet) = Queue::new(64);
    (Tracer::new(options, "", queue).0, outlet)
}

fn begin(tracer: &Tracer, parent: Option<&str>, detailed: bool) -> Box<Trace> {
    let mut headers = HeaderMap::new();
    if let Some(parent) = parent {
        headers.insert("traceparent", parent.parse().unwrap());
        headers.insert("tracestate", "a=b".parse().unwrap());
    }
    tracer
        .begin(Instant::now(), &headers, detailed, arrival)
        .unwrap()
}

fn arrival() -> ServerCall {
    ServerCall {
        entry_point: "web".into(),
        method: Method::GET,
        version: Version::HTTP_11,
        size: Some(0),
        target: "/".into(),
        scheme: HeaderValue::from_static("http"),
        user_agent: None,
        host: "a.test".into(),
        peer: ([127, 0, 0, 1], 4000).into(),
        headers: Captured::default(),
    }
}

fn call() -> Call {
    Call {
        name: "ReverseProxy",
        method: Method::GET,
        url: "http://10.0.0.1".into(),
        target: "/".into(),
        user_agent: None,
        headers: Captured::default(),
        status: None,
        response_headers: Captured::default(),
    }
}

fn step(name: &str) -> Part {
    Part::Service(name.into())
}

#[test]
fn off_begins_nothing() {
    assert!(
        Tracer::default()
            .begin(Instant::now(), &HeaderMap::new(), true, arrival)
            .is_none()
    );
}

#[test]
fn spans_form_a_tree() {
    let (tracer, mut outlet) = tracer(&Tracing::default());
    let mut trace = begin(&tracer, None, true);
    trace.enter(step("router"));
    let top = trace.position();
    trace.enter(step("first"));
    let below = trace.position();
    trace.enter(step("refused"));
    trace.failed("no");
    trace.back_to(below);
    trace.again(1);
    let mut headers = HeaderMap::new();
    trace.call(&mut headers, call);
    trace.answered(&"http://10.0.0.2".into(), StatusCode::OK, None);
    trace.back_to(top);
    trace.enter(step("last"));
    trace.back_to(top);
    let id = trace.ids().trace;
    trace.finish(200);
    let record = outlet.receiver.try_recv().unwrap();
    let parents: Vec<_> = record.spans.iter().map(|span| span.parent).collect();
    assert_eq!(parents, [None, Some(0), Some(1), Some(0), Some(3), Some(0)]);
    assert_eq!(record.spans[2].error, Some("no"));
    assert_eq!(record.spans[3].resent, 1);
    // Only what the last answer came through lasts as long as the request.
    let ended: Vec<bool> = record.spans.iter().map(|span| span.end.is_some()).collect();
    assert_eq!(ended, [false, true, true, true, true, false]);
    let named = headers["traceparent"].to_str().unwrap();
    assert_eq!(named, format!("00-{id}-{}-01", record.spans[4].id));
    assert!(record.took >= Duration::ZERO && record.parent.is_none());
}

#[test]
fn without_detail_there_are_only_calls() {
    let (tracer, mut outlet) = tracer(&Tracing::default());
    let mut trace = begin(&tracer, None, false);
    trace.enter(step("router"));
    trace.call(&mut HeaderMap::new(), call);
    trace.answered(&"http://10.0.0.2".into(), StatusCode::BAD_GATEWAY, None);
    trace.again(1);
    trace.finish(502);
    let record = outlet.receiver.try_recv().unwrap();
    assert_eq!(record.spans.len(), 1);
    assert_eq!(record.spans[0].parent, None);
}

#[test]
fn who_calls_decides_and_else_the_rate() {
    let caller = |flag| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flag}");
    for (rate, parent, expected) in [
        (1.0, None, true),
        (0.0, None, false),
        (0.0, Some(caller("01")), true),
        (1.0, Some(caller("00")), false),
    ] {
        let options = Tracing {
            sample_rate: rate,
            ..Tracing::default()
        };
        let (tracer, mut outlet) = tracer(&options);
        let mut trace = begin(&tracer, parent.as_deref(), true);
        assert_eq!(trace.is_sampled(), expected, "{rate} {parent:?}");
        assert_eq!(trace.is_detailed(), expected);
        let mut headers = HeaderMap::new();
        trace.call(&mut headers, call);
        trace.answered(&"http://10.0.0.2".into(), StatusCode::OK, None);
        let flag = if expected { "-01" } else { "-00" };
        assert!(headers["traceparent"].to_str().unwrap().ends_with(flag));
        assert_eq!(headers.contains_key("tracestate"), parent.is_some());
        trace.finish(200);
        assert_eq!(outlet.receiver.try_recv().is_ok(), expected);
    }
}

#[test]
fn a_rate_is_a_share() {
    let options = Tracing {
        sample_rate: 0.25,
        ..Tracing::default()
    };
    let (tracer, _outlet) = tracer(&options);
    let sampled = (0..4000).filter(|_| begin(&tracer, None, false).is_sampled());
    let sampled = sampled.count();
    assert!((800..1200).contains(&sampled), "{sampled}");
}

#[test]
fn only_the_named_headers_are_taken() {
    let options = Tracing {
        captured_request_headers: ["X-A", "user-agent", "not a name"]
            .map(str::to_owned)
            .to_vec(),
        ..Tracing::default()
    };
    let (tracer, _outlet) = tracer(&options);
    let mut headers = HeaderMap::new();
    headers.append("x-a", HeaderValue::from_static("1"));
    headers.append("x-a", HeaderValue::from_static("2"));
    headers.append("x-b", HeaderValue::from_static("3"));
    headers.append("user-agent", HeaderValue::from_static("u"));
    let trace = tracer.begin(Instant::now(), &headers, false, arrival);
    let arrived = trace.unwrap().arrival.unwrap();
    assert_eq!(arrived.headers.len(), 1);
    assert_eq!(arrived.headers[0].1, ["1", "2"]);
    assert_eq!(arrived.user_agent.unwrap(), "u");
}
