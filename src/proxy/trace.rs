//! What a traced request tells of itself. Of a request that is not traced this file sees nothing but a branch.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use http_body::Body as _;

use super::{Journey, attempt::join_paths};
use crate::{
    exchange::{Response, forwarded},
    middleware::Middleware,
    observe::{Call, Captured, Part, ServerCall, Trace},
    service::Server,
    snapshot::{Route, Traces},
    upstream::{Answer, Failure},
};

impl Journey {
    /// Begins the trace of a request that `route` took, if it is to have one.
    pub(super) fn begin_trace(&mut self, traces: Traces, route: Option<&Route>) {
        if traces == Traces::Off {
            return;
        }
        let (exchange, head) = (&self.exchange, &self.exchange.request);
        let connection = &exchange.connection;
        let arrival = || ServerCall {
            entry_point: Arc::clone(&connection.entry_point),
            method: head.method.clone(),
            version: head.version,
            size: exchange.body.size_hint().exact(),
            target: head.target.text().clone(),
            scheme: forwarded::proto(head, connection),
            user_agent: None,
            host: head.host.clone(),
            peer: connection.peer,
            headers: Captured::default(),
        };
        let tracer = &self.worker.tracer;
        let detailed = traces == Traces::Detailed;
        self.trace = tracer.begin(exchange.started, &head.headers, detailed, arrival);
        if let (Some(trace), Some(route)) = (&mut self.trace, route) {
            trace.enter(Part::Router {
                router: Arc::clone(&route.name),
                service: Arc::clone(&route.service),
                rule: Arc::clone(&route.rule),
            });
        }
    }

    /// A request to `server` begins.
    pub(super) fn begin_call(&mut self, server: &Server) {
        let Some(trace) = &mut self.trace else { return };
        let head = &mut self.exchange.request;
        let call = || Call {
            name: "ReverseProxy",
            method: head.method.clone(),
            url: Arc::clone(&server.name),
            target: match server.preserve_path {
                true => join_paths(&server.path, head.target.as_str()).into(),
                false => head.target.text().clone(),
            },
            user_agent: None,
            headers: Captured::default(),
            status: None,
            response_headers: Captured::default(),
        };
        trace.call(&mut head.headers, call);
    }

    /// The server answered, or did not. It may be another one than at first, if two were asked.
    pub(super) fn end_call(&mut self, server: &Server, answer: &Result<Answer, Failure>) {
        let Some(trace) = &mut self.trace else { return };
        let (status, headers): (StatusCode, Option<&HeaderMap>) = match answer {
            Ok(Answer::Response(response) | Answer::Switched(response, _)) => {
                (response.status(), Some(response.headers()))
            }
            Err(failure) => (failure.fault.status(), None),
        };
        trace.answered(&server.name, status, headers);
    }

    /// Looks at the answer as the client will get it.
    pub(super) fn trace_departure(&mut self, response: &Response) {
        if let Some(trace) = &mut self.trace {
            trace.departs(response.headers());
        }
    }
}

/// The step `name` begins.
pub(super) fn enter_step(trace: &mut Trace, step: &Middleware, name: &Arc<str>) {
    if trace.is_detailed()
        && let Some(kind) = step.span()
    {
        trace.enter(Part::Middleware {
            name: Arc::clone(name),
            kind,
        });
    }
}
