//! What becomes of a request, as spans: started on the worker that serves it, handed over whole when it is over.
//!
//! Names, attributes and kinds are for whoever exports them; here is what was seen, as cheaply as it can be kept.

mod context;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header::USER_AGENT};

use self::context::{Propagator, Remote};
use super::queue::Queue;
use crate::config::install::Tracing;

pub use context::{SpanId, TraceId};

/// Begins traces. Cheap to clone; the default begins none.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Options>>);

#[derive(Debug)]
struct Options {
    propagators: Vec<Propagator>,
    /// Half trace ids below this are recorded.
    bound: u64,
    request_headers: Box<[HeaderName]>,
    response_headers: Box<[HeaderName]>,
    queue: Queue<Box<TraceRecord>>,
}

impl Tracer {
    /// A tracer as configured, whose records go to `queue`; with the names in `propagators` (`OTEL_PROPAGATORS`) that mean nothing.
    pub fn new(
        options: &Tracing,
        propagators: &str,
        queue: Queue<Box<TraceRecord>>,
    ) -> (Self, Vec<String>) {
        let (propagators, unknown) = context::propagators(propagators);
        let tracer = Self(Some(Arc::new(Options {
            propagators,
            bound: bound(options.sample_rate),
            request_headers: names(&options.captured_request_headers),
            response_headers: names(&options.captured_response_headers),
            queue,
        })));
        (tracer, unknown)
    }

    /// Begins the trace of a request that arrived at `started` with these headers; none if there is no tracing. `detailed` records the
    /// steps between client and server too; `arrival` is asked only if anything is recorded.
    pub fn begin(
        &self,
        started: Instant,
        headers: &HeaderMap,
        detailed: bool,
        arrival: impl FnOnce() -> ServerCall,
    ) -> Option<Box<Trace>> {
        let options = self.0.as_ref()?;
        // Of several callers the one named last counts.
        let mut propagators = options.propagators.iter().rev();
        let remote = propagators.find_map(|propagator| propagator.extract(headers));
        let (trace, parent, decided, state) = match remote {
            Some(remote) => (
                remote.trace,
                Some(remote.span),
                remote.sampled,
                remote.state,
            ),
            None => (TraceId::random(), None, None, None),
        };
        // The lower half of the identity is what tracers of every language decide by, so that all decide alike.
        let sampled = decided.unwrap_or_else(|| (trace.0 as u64) >> 1 < options.bound);
        let arrival = sampled.then(|| ServerCall {
            headers: capture(headers, &options.request_headers),
            user_agent: headers.get(USER_AGENT).cloned(),
            ..arrival()
        });
        Some(Box::new(Trace {
            options: Arc::clone(options),
            trace,
            server: SpanId::random(),
            parent,
            arrival,
            state,
            started,
            began: SystemTime::now() - started.elapsed(),
            detailed: detailed && sampled,
            spans: Vec::new(),
            current: None,
            calling: None,
            response_headers: Captured::default(),
        }))
    }
}

/// The trace of a request under way.
#[derive(Debug)]
pub struct Trace {
    options: Arc<Options>,
    trace: TraceId,
    server: SpanId,
    parent: Option<SpanId>,
    /// None: nothing is recorded.
    arrival: Option<ServerCall>,
    state: Option<HeaderValue>,
    started: Instant,
    began: SystemTime,
    detailed: bool,
    spans: Vec<SpanRecord>,
    /// The span that the next one belongs under; none is the server's span.
    current: Option<usize>,
    /// The span of the request to a server under way.
    calling: Option<usize>,
    response_headers: Captured,
}

/// What a request is found by in a tracing system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceIds {
    pub trace: TraceId,
    pub span: SpanId,
    /// Whether anything is to be found there.
    pub sampled: bool,
}

/// Where in its tree a trace is.
#[derive(Debug, Clone, Copy)]
pub struct Position(Option<usize>);

impl Trace {
    /// The trace, and the span that stands for the whole request.
    pub fn ids(&self) -> TraceIds {
        TraceIds {
            trace: self.trace,
            span: self.server,
            sampled: self.is_sampled(),
        }
    }

    /// Whether steps between client and server are recorded.
    pub fn is_detailed(&self) -> bool {
        self.detailed
    }

    /// Whether anything is.
    pub fn is_sampled(&self) -> bool {
        self.arrival.is_some()
    }

    /// Where the trace is.
    pub fn position(&self) -> Position {
        Position(self.current)
    }

    /// A step begins; what begins from now on belongs under it.
    pub fn enter(&mut self, part: Part) {
        if self.detailed {
            self.current = Some(self.push(SpanId::random(), part));
        }
    }

    /// Everything that began since is over.
    pub fn back_to(&mut self, position: Position) {
        let now = self.started.elapsed();
        while self.current != position.0
            && let Some(span) = self.current.and_then(|index| self.spans.get_mut(index))
        {
            span.end.get_or_insert(now);
            self.current = span.parent;
        }
    }

    /// The step that the trace is at failed.
    pub fn failed(&mut self, error: &'static str) {
        if let Some(span) = self.current.and_then(|index| self.spans.get_mut(index)) {
            span.error = Some(error);
        }
    }

    /// The step that the trace is at begins once more.
    pub fn again(&mut self, count: u32) {
        let Some(span) = self.current.and_then(|index| self.spans.get_mut(index)) else {
            return;
        };
        span.end = Some(self.started.elapsed());
        let part = span.part.clone();
        self.current = span.parent;
        self.enter(part);
        if let Some(span) = self.spans.last_mut() {
            span.resent = count;
        }
    }

    /// A request to a server begins: names our span in its headers.
    pub fn call(&mut self, headers: &mut HeaderMap, call: impl FnOnce() -> Call) {
        let ours = Remote {
            trace: self.trace,
            span: SpanId::random(),
            sampled: Some(self.is_sampled()),
            state: self.state.clone(),
        };
        if self.is_sampled() {
            let call = Call {
                headers: capture(headers, &self.options.request_headers),
                user_agent: headers.get(USER_AGENT).cloned(),
                ..call()
            };
            self.calling = Some(self.push(ours.span, Part::Call(Box::new(call))));
        }
        for propagator in &self.options.propagators {
            propagator.inject(&ours, headers);
        }
    }

    /// The server at `url` answered the request under way, or is taken to have.
    pub fn answered(&mut self, url: &Arc<str>, status: StatusCode, headers: Option<&HeaderMap>) {
        let now = self.started.elapsed();
        let calling = self.calling.take();
        let Some(span) = calling.and_then(|index| self.spans.get_mut(index)) else {
            return;
        };
        span.end = Some(now);
        if let Part::Call(call) = &mut span.part {
            call.url = Arc::clone(url);
            call.status = Some(status);
            if let Some(headers) = headers {
                call.response_headers = capture(headers, &self.options.response_headers);
            }
        }
    }

    /// The answer goes to the client.
    pub fn departs(&mut self, headers: &HeaderMap) {
        if self.is_sampled() {
            self.response_headers = capture(headers, &self.options.response_headers);
        }
    }

    /// The request is over.
    pub fn finish(mut self, status: u16) {
        let Some(arrival) = self.arrival else { return };
        // What the answer came through was busy for as long as it went out.
        let mut last = self.spans.len().checked_sub(1);
        while let Some(span) = last.and_then(|index| self.spans.get_mut(index)) {
            if !matches!(span.part, Part::Call(_)) && span.error.is_none() {
                span.end = None;
            }
            last = span.parent;
        }
        self.options.queue.push(Box::new(TraceRecord {
            trace: self.trace,
            span: self.server,
            parent: self.parent,
            state: self.state,
            began: self.began,
            took: self.started.elapsed(),
            arrival,
            status,
            response_headers: self.response_headers,
            spans: self.spans,
        }));
    }

    fn push(&mut self, id: SpanId, part: Part) -> usize {
        let span = SpanRecord {
            id,
            parent: self.current,
            start: self.started.elapsed(),
            end: None,
            part,
            error: None,
            resent: 0,
        };
        self.spans.push(span);
        self.spans.len() - 1
    }
}

/// Everything seen of one request.
#[derive(Debug, Clone)]
pub struct TraceRecord {
    pub trace: TraceId,
    /// The span of the whole request.
    pub span: SpanId,
    /// The caller's.
    pub parent: Option<SpanId>,
    pub state: Option<HeaderValue>,
    pub began: SystemTime,
    pub took: Duration,
    pub arrival: ServerCall,
    /// What the client was told.
    pub status: u16,
    pub response_headers: Captured,
    /// What happened below; parents come before their children.
    pub spans: Vec<SpanRecord>,
}

/// The request as it arrived.
#[derive(Debug, Clone)]
pub struct ServerCall {
    pub entry_point: Arc<str>,
    pub method: Method,
    pub version: Version,
    /// Length of the body, if it was announced.
    pub size: Option<u64>,
    pub target: ByteString,
    pub scheme: HeaderValue,
    pub user_agent: Option<HeaderValue>,
    pub host: ByteString,
    pub peer: SocketAddr,
    pub headers: Captured,
}

/// One span below that of the request.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    pub id: SpanId,
    /// Index of the span it belongs under; none is the span of the request.
    pub parent: Option<usize>,
    /// From the beginning of the request.
    pub start: Duration,
    /// None: with the request.
    pub end: Option<Duration>,
    pub part: Part,
    /// What went wrong.
    pub error: Option<&'static str>,
    /// How often the step was begun before.
    pub resent: u32,
}

/// What a span is of.
#[derive(Debug, Clone)]
pub enum Part {
    Router {
        router: Arc<str>,
        service: Arc<str>,
        rule: Arc<str>,
    },
    Service(Arc<str>),
    Middleware {
        name: Arc<str>,
        kind: &'static str,
    },
    Call(Box<Call>),
}

/// A request to a server.
#[derive(Debug, Clone)]
pub struct Call {
    /// The name of its span.
    pub name: &'static str,
    pub method: Method,
    /// The server's URL.
    pub url: Arc<str>,
    /// Path and query.
    pub target: ByteString,
    pub user_agent: Option<HeaderValue>,
    pub headers: Captured,
    pub status: Option<StatusCode>,
    pub response_headers: Captured,
}

/// Header fields that become attributes.
pub type Captured = Vec<(HeaderName, Vec<HeaderValue>)>;

fn capture(headers: &HeaderMap, wanted: &[HeaderName]) -> Captured {
    let present = wanted.iter().filter(|name| headers.contains_key(*name));
    present
        .map(|name| {
            (
                name.clone(),
                headers.get_all(name).iter().cloned().collect(),
            )
        })
        .collect()
}

/// What names no header is left out; the user agent has an attribute of its own.
fn names(texts: &[String]) -> Box<[HeaderName]> {
    let names = texts.iter().filter_map(|text| text.trim().parse().ok());
    names.filter(|name| *name != USER_AGENT).collect()
}

/// The share of 63-bit numbers below it is `rate`.
fn bound(rate: f64) -> u64 {
    (rate.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64
}

#[cfg(test)]
mod tests;
