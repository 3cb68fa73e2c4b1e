//! The journey of one request: route, plan, service, answer. The whole life of a request is readable here.

mod around;
mod attempt;
mod group;
mod hedge;
mod hold;
pub mod layer;
mod record;
mod timeouts;
mod trace;
mod worker;

use std::{rc::Rc, sync::Arc};

use http::StatusCode;

use crate::{
    exchange::{Body, Exchange, Fault, Response, fault, forwarded},
    middleware::{Flow, Middleware, detect_type},
    observe::{Part, ServiceMetrics, Trace},
    rule::{Facts, normalise_host, routing_path},
    service::{InFlight, Service},
    snapshot::{EntryPoint, Internal, Route, RouteTarget, Snapshot},
    upstream::{Interim, Tunnel},
};

pub use record::Sent;
pub use worker::{Internals, Parts, Worker};

/// A request under way, from its head to the last byte of its answer.
pub struct Journey {
    worker: Rc<Worker>,
    /// The configuration this request lives by, whatever is swapped in meanwhile.
    snapshot: Arc<Snapshot>,
    entry_point: usize,
    pub exchange: Exchange,
    route: Option<Arc<Route>>,
    /// The service that the request was sent to, if it is another than its route names.
    service: Option<Arc<Service>>,
    server: Option<InFlight>,
    /// Copies for mirrors, sent when the client has its answer.
    mirrors: Vec<group::Pending>,
    /// Whether it is such a copy: nobody waits for its answer.
    is_copy: bool,
    /// How many requests of our own stand in the place of the client's, one within the other.
    own_requests: u8,
    /// Servers that were tried before the plan ran once more; `None` unless it may.
    avoided: Option<Box<attempt::Tried>>,
    /// Set when the server agreed to speak another protocol.
    pub tunnel: Option<Tunnel>,
    arrival: Option<record::Arrival>,
    origin: record::Origin,
    /// None: the request is not traced.
    trace: Option<Box<Trace>>,
}

impl Journey {
    /// A request that just came in by the entry point with index `entry_point`.
    pub fn new(worker: &Rc<Worker>, entry_point: usize, exchange: Exchange) -> Self {
        Self {
            worker: Rc::clone(worker),
            snapshot: worker.snapshot(),
            entry_point,
            exchange,
            route: None,
            service: None,
            server: None,
            mirrors: Vec::new(),
            is_copy: false,
            own_requests: 0,
            avoided: None,
            tunnel: None,
            arrival: None,
            origin: record::Origin::default(),
            trace: None,
        }
    }

    /// The answer for the client. Interim answers go to `interim`.
    pub async fn respond(&mut self, interim: Option<&dyn Interim>) -> Response {
        let options = self.worker.forwarding(self.entry_point);
        let arrived = forwarded::arrive(
            &mut self.exchange.request,
            &self.exchange.connection,
            options,
        );
        if arrived.is_err() {
            return fault::text_response(StatusCode::BAD_REQUEST, "Bad Request\n");
        }
        if self.exchange.request.target.as_str() == "*" {
            // `OPTIONS *` asks about the proxy, not about anything behind it.
            return empty(StatusCode::OK);
        }
        self.arrival = Some(self.arrived(&self.exchange.request));
        let mut response = match self.worker.stack.clone() {
            None => self.route_and_answer(interim).await,
            Some(stack) => Box::pin(self.through(&stack, interim)).await,
        };
        self.departs(&mut response);
        response
    }

    async fn route_and_answer(&mut self, interim: Option<&dyn Interim>) -> Response {
        if self.worker.challenges.any()
            && let Some(answer) = self.challenge()
        {
            return answer;
        }
        let Some(route) = self.find_route() else {
            self.entry_point().metrics.unmatched();
            self.begin_trace(self.entry_point().signals.traces, None);
            return fault::not_found();
        };
        self.route = Some(Arc::clone(&route));
        self.begin_trace(route.signals.traces, Some(&route));
        if let Some(refusal) = self.refused_by(&route) {
            return refusal;
        }
        let leg = Leg {
            steps: &route.plan,
            names: &route.steps,
            target: &route.target,
        };
        match route.timeouts.total {
            None => self.run(leg, interim).await,
            Some(total) => {
                let run = async |this: &mut Self| this.run(leg, interim).await;
                Box::pin(self.within_route(&route, total, run)).await
            }
        }
    }

    /// Runs the steps of a leg and reaches what it leads to, then the response hooks of the steps that were passed.
    async fn run(&mut self, leg: Leg<'_>, interim: Option<&dyn Interim>) -> Response {
        let position = self.trace.as_ref().map(|trace| trace.position());
        let (passed, end) = self.run_plan(leg).await;
        let mut response = match end {
            End::Passed => self.reach(leg.target, interim).await,
            End::Answered(response) => *response,
            End::Around => Box::pin(self.around(leg.from(passed), interim)).await,
        };
        if self.exchange.detect_type {
            Box::pin(detect_type(&mut response)).await;
        }
        for step in leg.steps[..passed].iter().rev() {
            step.response(&mut self.exchange, &mut response);
        }
        if let Some((trace, position)) = self.trace.as_mut().zip(position) {
            trace.back_to(position);
        }
        response
    }

    /// The answer to a certificate authority that looks for one here.
    #[cold]
    fn challenge(&self) -> Option<Response> {
        if self.exchange.connection.is_tls() {
            return None;
        }
        let request = &self.exchange.request;
        let answer = self.worker.challenges.http(
            &self.entry_point().name,
            &normalise_host(&request.host),
            request.target.path(),
        )?;
        Some(Response::new(Body::Full(answer)))
    }

    fn entry_point(&self) -> &EntryPoint {
        &self.snapshot.entry_points[self.entry_point]
    }

    fn find_route(&self) -> Option<Arc<Route>> {
        let request = &self.exchange.request;
        let (host, path) = (
            normalise_host(&request.host),
            routing_path(request.target.path()),
        );
        let facts = Facts {
            host: &host,
            path: &path,
            query: request.target.query(),
            method: request.method.as_str(),
            headers: &request.headers,
            peer: self.exchange.connection.peer.ip(),
        };
        self.snapshot
            .find(self.entry_point, self.exchange.connection.is_tls(), &facts)
            .cloned()
    }

    /// Checks that come before every middleware: forbidden escapes, and a TLS connection that was made for other options.
    fn refused_by(&self, route: &Route) -> Option<Response> {
        if route.denied.occurs_in(self.exchange.request.target.path()) {
            return Some(empty(StatusCode::BAD_REQUEST));
        }
        match (&self.exchange.connection.tls, &route.tls_options) {
            (Some(session), Some(options)) if *session.options != **options => Some(
                fault::text_response(StatusCode::MISDIRECTED_REQUEST, "Misdirected Request\n"),
            ),
            _ => None,
        }
    }

    /// Runs the request hooks; the step that ended this, and how.
    async fn run_plan(&mut self, leg: Leg<'_>) -> (usize, End) {
        for (index, step) in leg.steps.iter().enumerate() {
            if let Some(trace) = &mut self.trace {
                trace::enter_step(trace, step, &leg.names[index]);
            }
            let mut flow = step.request(&mut self.exchange);
            loop {
                match flow {
                    Flow::Continue => break,
                    Flow::Respond(response) => {
                        if let (Some(trace), Some(error)) = (&mut self.trace, step.refusal()) {
                            trace.failed(error);
                        }
                        return (index, End::Answered(response));
                    }
                    Flow::Wait(time) => {
                        tokio::time::sleep(time).await;
                        break;
                    }
                    Flow::Later(result) => flow = (result.await)(&mut self.exchange),
                    Flow::Around => return (index, End::Around),
                }
            }
        }
        (leg.steps.len(), End::Passed)
    }

    /// The answer of `target` to the request as it is now.
    async fn reach(&mut self, target: &RouteTarget, interim: Option<&dyn Interim>) -> Response {
        match target {
            RouteTarget::Service(service) => {
                self.leads_to(service);
                if let Some(trace) = &mut self.trace {
                    trace.enter(Part::Service(Arc::clone(&service.name)));
                }
                self.forward(service, interim).await
            }
            RouteTarget::Group(group) => self.enter(group, interim).await,
            RouteTarget::Internal(Internal::Noop) => empty(StatusCode::IM_A_TEAPOT),
            RouteTarget::Internal(internal) => {
                self.worker
                    .internal(*internal, &self.snapshot, &self.exchange)
                    .await
            }
        }
    }

    /// Notes the service that the request is counted for, unless it is the one its route names.
    fn leads_to(&mut self, service: &Arc<Service>) {
        let route = self.route.as_ref();
        let own = route.is_some_and(|route| route.leads_to(service));
        self.service = (!own).then(|| Arc::clone(service));
    }

    /// What the service counts with that the request was sent to, or is meant for.
    fn service_metrics(&self) -> Option<&ServiceMetrics> {
        let meant = || self.route.as_ref().map(|route| &route.service_metrics);
        let reached = self.service.as_ref().map(|service| &service.metrics);
        reached.or_else(meant)
    }

    fn give_up(&mut self, fault: Fault) -> Response {
        self.origin.fault = Some(fault);
        fault.response()
    }
}

/// What is left of the way of a request: steps, and what they lead to.
#[derive(Clone, Copy)]
struct Leg<'a> {
    steps: &'a [Middleware],
    /// The name of each step.
    names: &'a [Arc<str>],
    target: &'a RouteTarget,
}

impl Leg<'_> {
    /// The way from the step at `index` on.
    fn from(self, index: usize) -> Self {
        Self {
            steps: &self.steps[index..],
            names: &self.names[index..],
            ..self
        }
    }
}

/// How the request hooks of a plan ended.
enum End {
    /// All let the request pass.
    Passed,
    Answered(Box<Response>),
    /// This step goes on by itself.
    Around,
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

impl std::fmt::Debug for Journey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journey")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
