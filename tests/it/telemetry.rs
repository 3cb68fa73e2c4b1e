//! Traces, metrics and logs over OTLP, as a receiver gets them whose decoding is not ours; beside the real Traefik.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::side_by_side::traefik;
use crate::support::{
    Backend, Client, Proxy, Reply, backend, binary, free_port, loopback, proxy, within,
};

/// `tests/clients/otlp_receiver.py`.
struct Receiver {
    child: Child,
    http: u16,
    grpc: u16,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Receiver {
    fn start() -> Self {
        let here = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let mut child = Command::new(here("target/venv/bin/python"))
            .arg(here("tests/clients/otlp_receiver.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("target/venv is missing: run tests/setup");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut ports = line.split_whitespace().map(|port| port.parse().unwrap());
        Self {
            http: ports
                .next()
                .expect("the receiver needs what tests/setup installs"),
            grpc: ports.next().unwrap(),
            child,
        }
    }

    /// Every export so far.
    async fn seen(&self) -> Vec<Value> {
        let answer = Client::new(loopback(self.http)).get("/seen").await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The exports of a signal.
    async fn of(&self, signal: &str) -> Vec<Value> {
        let mut seen = self.seen().await;
        seen.retain(|export| export["signal"] == signal);
        seen
    }

    async fn spans(&self) -> Vec<Span> {
        let exports = self.of("traces").await;
        inner(&exports, "resourceSpans", "scopeSpans", "spans")
            .map(Span::new)
            .collect()
    }

    /// Waits until there are as many traces with their own span of the request.
    async fn traces(&self, count: usize) -> Vec<Vec<Span>> {
        within(PATIENCE, "all traces arrive", async || {
            let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
            for span in self.spans().await {
                traces.entry(span.trace.clone()).or_default().push(span);
            }
            let whole = |spans: &&Vec<Span>| spans.iter().any(|span| span.kind == "SERVER");
            (traces.values().filter(whole).count() >= count).then(|| {
                let mut traces: Vec<_> = traces.into_values().collect();
                traces.sort_by_key(|spans| spans.iter().map(|span| span.start).min());
                traces
            })
        })
        .await
    }
}

/// What is two levels below the exports of a signal.
fn inner<'e>(
    exports: &'e [Value],
    resource: &'static str,
    scope: &'static str,
    item: &'static str,
) -> impl Iterator<Item = &'e Value> {
    let all = |value: &'e Value, name: &str| value[name].as_array().into_iter().flatten();
    exports
        .iter()
        .flat_map(move |export| all(&export["message"], resource))
        .flat_map(move |resource| all(resource, scope))
        .flat_map(move |scope| all(scope, item))
}

#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: String,
    start: u64,
    end: u64,
    status: String,
    flags: u64,
    attributes: BTreeMap<String, String>,
}

impl Span {
    fn new(span: &Value) -> Self {
        let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
        let time = |name: &str| text(name).parse().unwrap();
        Self {
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            name: text("name"),
            kind: text("kind").replace("SPAN_KIND_", ""),
            start: time("startTimeUnixNano"),
            end: time("endTimeUnixNano"),
            status: format!("{}", span["status"]),
            flags: span["flags"].as_u64().unwrap_or_default(),
            attributes: attributes(span),
        }
    }
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let all = of["attributes"].as_array().into_iter().flatten();
    all.map(|attribute| {
        let name = attribute["key"].as_str().unwrap().to_owned();
        (name, attribute["value"].to_string())
    })
    .collect()
}

/// A trace as text, children below their parents, without what is different each time.
fn tree(spans: &[Span], subject: &Proxy) -> String {
    let mut text = String::new();
    let known: BTreeSet<&str> = spans.iter().map(|span| &*span.id).collect();
    for root in spans.iter().filter(|span| !known.contains(&*span.parent)) {
        branch(root, spans, subject, 0, &mut text);
    }
    text
}

fn branch(span: &Span, spans: &[Span], subject: &Proxy, depth: usize, text: &mut String) {
    // What Traefik tells of its own counting is no part of the way: docs/compatibility.md, 130.
    let ours = span.name != "Metrics";
    if ours {
        let mut attributes = span.attributes.clone();
        for (name, value) in &mut attributes {
            if matches!(&**name, "client.port" | "network.peer.port") && span.kind == "SERVER" {
                value.clear();
            }
        }
        let status = span.status.split("Rejecting IP").next().unwrap();
        let line = format!(
            "{}{} {} {status} {} {attributes:?}\n",
            "  ".repeat(depth),
            span.name,
            span.kind,
            span.flags
        );
        let port = |name: &str| subject.addr(name).port().to_string();
        *text += &line
            .replace(&port("web"), "PORT")
            .replace(&port("quiet"), "PORT");
    }
    let mut children: Vec<&Span> = spans.iter().filter(|it| it.parent == span.id).collect();
    children.sort_by_key(|child| child.start);
    for child in children {
        assert!(child.start >= span.start && child.end >= child.start);
        branch(child, spans, subject, depth + usize::from(ours), text);
    }
}

const PATIENCE: Duration = Duration::from_secs(40);

const ROUTING: &str = r#"
http:
  routers:
    plain: {rule: "PathPrefix(`/plain`)", service: s}
    steps: {rule: "PathPrefix(`/steps`)", service: s, middlewares: [strip, head, local, pack, add, rate, busy]}
    paths: {rule: "PathPrefix(`/paths`)", service: s, middlewares: [other, regex, cut, elsewhere, secure]}
    short: {rule: "PathPrefix(`/short`)", service: s, middlewares: [strip], observability: {traceVerbosity: minimal}}
    untold: {rule: "PathPrefix(`/untold`)", service: s, observability: {tracing: false}}
    dead: {rule: "PathPrefix(`/dead`)", service: dead}
    again: {rule: "PathPrefix(`/again`)", service: dead, middlewares: [again]}
    auth: {rule: "PathPrefix(`/auth`)", service: s, middlewares: [head, auth]}
    away: {rule: "PathPrefix(`/away`)", service: s, middlewares: [away]}
    chain: {rule: "PathPrefix(`/chain`)", service: s, middlewares: [chain]}
    api: {rule: "PathPrefix(`/ping`)", service: ping@internal}
  middlewares:
    strip: {stripPrefix: {prefixes: [/steps, /short]}}
    head: {headers: {customRequestHeaders: {X-Cap: mine}}}
    local: {ipAllowList: {sourceRange: [127.0.0.1/32]}}
    away: {ipAllowList: {sourceRange: [10.0.0.0/8]}}
    pack: {compress: {}}
    add: {addPrefix: {prefix: /p}}
    rate: {rateLimit: {average: 10000}}
    busy: {inFlightReq: {amount: 100}}
    other: {replacePath: {path: /other}}
    regex: {replacePathRegex: {regex: "^/other", replacement: /else}}
    cut: {stripPrefixRegex: {regex: ["/zzz"]}}
    elsewhere: {redirectRegex: {regex: nomatch, replacement: x}}
    secure: {redirectScheme: {scheme: https}}
    again: {retry: {attempts: 2, initialInterval: 1ms}}
    auth: {basicAuth: {users: ["u:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"]}}
    chain: {chain: {middlewares: [head, local]}}
  services:
    s: {loadBalancer: {servers: [{url: "{server}"}]}}
    dead: {loadBalancer: {servers: [{url: "http://127.0.0.1:1"}]}}
"#;

/// Method, target and headers.
type Case = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const CASES: &[Case] = &[
    ("GET", "/plain/x?ok=1&secret=2", &[("x-cap", "a")]),
    ("GET", "/plain/a%20b?z=1&a=2&ok=3&flag&a=5&%20=x", &[]),
    ("GET", "/plain?status=404", &[("user-agent", "me")]),
    ("GET", "/plain?status=500", &[]),
    ("PURGE", "/plain", &[]),
    (
        "GET",
        "/plain",
        &[("traceparent", CALLER), ("tracestate", "a=b")],
    ),
    ("GET", "/plain", &[("traceparent", "garbage")]),
    ("GET", "/plain", &[("x-forwarded-proto", "https")]),
    ("GET", "/steps/y", &[]),
    ("GET", "/paths/y", &[]),
    ("GET", "/short/y", &[]),
    ("GET", "/dead", &[]),
    ("GET", "/again", &[]),
    ("GET", "/auth", &[]),
    ("GET", "/auth", &[("authorization", "Basic dTpu")]),
    ("GET", "/away", &[]),
    ("GET", "/chain", &[]),
    ("GET", "/nothing", &[]),
];

async fn server() -> Backend {
    backend("server")
        .reply(|seen| {
            let status = seen.target.split("status=").nth(1);
            let status = status.map_or(200, |status| status.parse().unwrap());
            let parent = seen.header("traceparent").unwrap_or_default().to_owned();
            Reply::with(status, &[("X-Up", "1"), ("X-Parent", &parent)], "hello")
        })
        .run()
        .await
}

/// A proxy that tells `receiver` everything.
async fn told(receiver: &Receiver, server: &Backend, program: PathBuf, otlp: &Value) -> Proxy {
    let routing = ROUTING.replace("{server}", &server.url());
    proxy(&routing)
        .program(program)
        .entry_point(
            "web",
            &json!({"observability": {"traceVerbosity": "detailed"}}),
        )
        .entry_point("quiet", &json!({}))
        .install(&json!({
            "experimental": {"otlpLogs": true},
            "log": {"otlp": otlp},
            "accessLog": {"otlp": otlp},
            "metrics": {"otlp": otlp},
        }))
        .install(&json!({
            "metrics": {"otlp": {"pushInterval": "1s", "addRoutersLabels": true, "explicitBoundaries": [0.1, 1.5]}},
            "tracing": {
                "capturedRequestHeaders": ["X-Cap", "User-Agent"],
                "capturedResponseHeaders": ["X-Up", "Content-Length"],
                "safeQueryParams": ["ok"],
                "resourceAttributes": {"team": "edge"},
                "otlp": otlp,
            },
        }))
        .env("OTEL_RESOURCE_ATTRIBUTES", &format!("receiver={}", receiver.http))
        // Traefik takes its time.
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .run()
        .await
}

async fn play(subject: &Proxy, entry_point: &str, (method, target, headers): &Case) {
    let mut call = Client::new(subject.addr(entry_point)).call(method, target);
    for (name, value) in *headers {
        call = call.header(name, value);
    }
    call.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_those_of_traefik() {
    let server = server().await;
    let mut told_by = Vec::new();
    for program in [traefik(), binary()] {
        let receiver = Receiver::start();
        let otlp = json!({"http": {"endpoint": format!("http://127.0.0.1:{}", receiver.http)}});
        let subject = told(&receiver, &server, program, &otlp).await;
        for case in CASES {
            play(&subject, "web", case).await;
        }
        play(&subject, "quiet", &CASES[0]).await;
        play(&subject, "quiet", &("GET", "/nothing", &[])).await;
        // Neither these.
        play(&subject, "web", &("GET", "/untold", &[])).await;
        play(&subject, "web", &("GET", "/ping", &[])).await;
        let traces = receiver.traces(CASES.len() + 2).await;
        assert_eq!(traces.len(), CASES.len() + 2);
        let trees: Vec<String> = traces.iter().map(|it| tree(it, &subject)).collect();
        told_by.push(trees);
    }
    let ours = told_by.pop().unwrap();
    for (index, (theirs, ours)) in told_by[0].iter().zip(&ours).enumerate() {
        assert_eq!(ours, theirs, "{:?}", CASES.get(index));
    }
}

/// Name, kind, unit and attribute names of a metric.
fn metrics(exports: &[Value]) -> BTreeMap<String, String> {
    let last: Vec<Value> = exports.last().cloned().into_iter().collect();
    inner(&last, "resourceMetrics", "scopeMetrics", "metrics")
        .map(|metric| {
            let kinds = ["sum", "gauge", "histogram"];
            let kind = kinds.into_iter().find(|kind| metric[kind].is_object());
            let data = &metric[kind.unwrap()];
            let point = &data["dataPoints"][0];
            let names: Vec<String> = attributes(point).into_keys().collect();
            let shape = format!(
                "{} {} {names:?} {} {} {}",
                kind.unwrap(),
                metric["unit"],
                data["aggregationTemporality"],
                data["isMonotonic"],
                point["explicitBounds"],
            );
            (metric["name"].as_str().unwrap().to_owned(), shape)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_lines_are_those_of_traefik() {
    let server = server().await;
    let mut told_by = Vec::new();
    for program in [traefik(), binary()] {
        let receiver = Receiver::start();
        // Over gRPC, which nothing else here uses.
        let otlp = json!({"grpc": {"endpoint": format!("127.0.0.1:{}", receiver.grpc), "insecure": true, "headers": {"x-token": "t"}}});
        let subject = told(&receiver, &server, program, &otlp).await;
        play(&subject, "web", &CASES[0]).await;
        let traces = receiver.traces(1).await;
        let shapes = within(PATIENCE, "metrics arrive", async || {
            let shapes = metrics(&receiver.of("metrics").await);
            shapes
                .contains_key("traefik_service_requests_total")
                .then_some(shapes)
        })
        .await;
        let line = within(PATIENCE, "the line arrives", async || {
            let exports = receiver.of("logs").await;
            let mut lines = inner(&exports, "resourceLogs", "scopeLogs", "logRecords");
            let line = lines.find(|line| attributes(line).contains_key("RequestPath"));
            line.cloned()
        })
        .await;
        let exports = receiver.of("logs").await;
        let mut lines = inner(&exports, "resourceLogs", "scopeLogs", "logRecords");
        assert!(lines.any(|line| !attributes(line).contains_key("RequestPath")));
        let request = traces[0].iter().find(|span| span.kind == "SERVER").unwrap();
        assert_eq!(line["traceId"], request.trace);
        assert_eq!(line["spanId"], request.id);
        let exports = receiver.of("traces").await;
        let headers = &exports[0]["headers"];
        assert_eq!(headers["x-token"], "t", "{headers}");
        let mut fields = attributes(&line);
        for value in fields.values_mut() {
            value.retain(|c| !c.is_ascii_digit() && !('a'..='f').contains(&c));
        }
        told_by.push((
            shapes,
            fields,
            line["severityNumber"].clone(),
            line["flags"].clone(),
        ));
    }
    let (ours, theirs) = (told_by.pop().unwrap(), told_by.pop().unwrap());
    for (name, shape) in &theirs.0 {
        // docs/compatibility.md, 134.
        if name.starts_with("http.") {
            continue;
        }
        assert_eq!(ours.0.get(name), Some(shape), "{name}");
    }
    assert_eq!(ours.1, theirs.1);
    assert_eq!((ours.2, ours.3), (theirs.2, theirs.3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_go_on_in_every_form() {
    let server = backend("server").run().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let span = "b7ad6b7169203331";
    for (propagators, name, value) in [
        ("", "traceparent", format!("00-{trace}-{span}-01")),
        ("b3", "b3", format!("{trace}-{span}-1")),
        ("b3multi", "x-b3-traceid", trace.to_owned()),
        ("jaeger", "uber-trace-id", format!("{trace}:{span}:0:1")),
        ("none", "traceparent", format!("00-{trace}-{span}-01")),
    ] {
        let mut answers = Vec::new();
        for program in [traefik(), binary()] {
            let receiver = Receiver::start();
            let endpoint = format!("http://127.0.0.1:{}", receiver.http);
            let subject = proxy(&ROUTING.replace("{server}", &server.url()))
                .program(program)
                .install(&json!({"tracing": {"otlp": {"http": {"endpoint": endpoint}}}}))
                .env("OTEL_PROPAGATORS", propagators)
                .env("OTEL_BSP_SCHEDULE_DELAY", "200")
                .run()
                .await;
            server.reset();
            let call = subject.client().get("/plain").header(name, &value);
            call.header("x-b3-spanid", span)
                .header("x-b3-sampled", "1")
                .await;
            let seen = server.last();
            let mut told = BTreeMap::new();
            for name in [
                "traceparent",
                "b3",
                "x-b3-traceid",
                "x-b3-sampled",
                "uber-trace-id",
            ] {
                let value = seen.header(name).unwrap_or_default();
                // Our span is another one each time; it is not the caller's unless nothing is carried on.
                let known = value.contains(span);
                let parts: Vec<&str> = value
                    .split(['-', ':'])
                    .filter(|it| it.len() != 16)
                    .collect();
                told.insert(name, (parts.join(" "), known));
            }
            let traces = receiver.traces(1).await;
            let request = traces[0].iter().find(|span| span.kind == "SERVER").unwrap();
            told.insert(
                "parent",
                (request.parent.clone(), request.parent.is_empty()),
            );
            answers.push(told);
        }
        assert_eq!(answers[1], answers[0], "{propagators:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_no_request() {
    let server = server().await;
    let away = format!("http://127.0.0.1:{}", free_port());
    let otlp = json!({"http": {"endpoint": away}});
    let mut subject = proxy(&ROUTING.replace("{server}", &server.url()))
        .install(&json!({
            "log": {"level": "WARN", "otlp": otlp},
            "accessLog": {"otlp": otlp, "filePath": "{dir}/access.log", "dualOutput": true},
            "metrics": {"otlp": otlp},
            "tracing": {"otlp": otlp},
        }))
        .run()
        .await;
    for _ in 0..50 {
        assert_eq!(subject.client().get("/plain").await.status, 200);
    }
    let warned = |log: &str| log.matches("tracing.otlp.http.endpoint").count();
    within(PATIENCE, "a warning names the option", async || {
        (warned(&subject.log()) == 1).then_some(())
    })
    .await;
    within(PATIENCE, "both logs are told of too", async || {
        let log = subject.log();
        let told = log.contains("log.otlp.http.endpoint");
        (told && log.contains("accessLog.otlp.http.endpoint")).then_some(())
    })
    .await;
    assert_eq!(subject.client().get("/plain").await.status, 200);
    let lines = std::fs::read_to_string(subject.dir().join("access.log")).unwrap();
    assert!(lines.lines().count() >= 50);
    assert!(
        subject
            .metrics()
            .await
            .contains("portway_otlp_dropped_total{signal=\"traces\"}")
    );
    let began = Instant::now();
    subject.signal("TERM");
    assert!(subject.exited().await.success());
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(warned(&subject.log()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_last_is_told_at_the_end() {
    let (server, receiver) = (server().await, Receiver::start());
    let endpoint = format!("http://127.0.0.1:{}", receiver.http);
    let mut subject = told(
        &receiver,
        &server,
        binary(),
        &json!({"http": {"endpoint": endpoint}}),
    )
    .await;
    for _ in 0..20 {
        subject.client().get("/plain").await;
    }
    subject.signal("TERM");
    assert!(subject.exited().await.success());
    let spans = receiver.spans().await;
    let requests = spans.iter().filter(|span| span.kind == "SERVER");
    assert_eq!(requests.count(), 20);
    let exports = receiver.of("logs").await;
    let lines = inner(&exports, "resourceLogs", "scopeLogs", "logRecords");
    let lines = lines.filter(|line| attributes(line).contains_key("RequestPath"));
    assert_eq!(lines.count(), 20);
    let resource = &exports[0]["message"]["resourceLogs"][0]["resource"];
    let resource = attributes(resource);
    assert!(resource["receiver"].contains(&receiver.http.to_string()));
    assert!(resource["service.name"].contains("traefik"));
}
