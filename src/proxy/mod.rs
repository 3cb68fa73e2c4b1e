//! The journey of one request: route, plan, service, answer. The whole life of a request is readable here.

mod around;
mod attempt;
mod hold;
pub mod layer;
mod record;
mod worker;

use std::{rc::Rc, sync::Arc};

use http::StatusCode;

use crate::{
    exchange::{Body, Exchange, Fault, Response, fault, forwarded},
    middleware::{Flow, detect_type},
    rule::{Facts, normalise_host, routing_path},
    service::InFlight,
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
    server: Option<InFlight>,
    /// Servers that were tried before the plan ran once more; `None` unless it may.
    avoided: Option<Box<attempt::Tried>>,
    /// Set when the server agreed to speak another protocol.
    pub tunnel: Option<Tunnel>,
    arrival: Option<record::Arrival>,
    origin: record::Origin,
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
            server: None,
            avoided: None,
            tunnel: None,
            arrival: None,
            origin: record::Origin::default(),
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
            return fault::not_found();
        };
        self.route = Some(Arc::clone(&route));
        if let Some(refusal) = self.refused_by(&route) {
            return refusal;
        }
        self.run(&route, 0, interim).await
    }

    /// Runs the plan from the step `first` on and reaches what it leads to, then the response hooks of the steps that were passed.
    async fn run(
        &mut self,
        route: &Arc<Route>,
        first: usize,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let (passed, end) = self.run_plan(route, first).await;
        let mut response = match end {
            End::Passed => self.reach(route, interim).await,
            End::Answered(response) => *response,
            End::Around => Box::pin(self.around(route, passed, interim)).await,
        };
        if self.exchange.detect_type {
            Box::pin(detect_type(&mut response)).await;
        }
        for step in route.plan[first..passed].iter().rev() {
            step.response(&mut self.exchange, &mut response);
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

    /// Runs the request hooks from the step `first` on; the step that ended this, and how.
    async fn run_plan(&mut self, route: &Route, first: usize) -> (usize, End) {
        for (index, step) in route.plan.iter().enumerate().skip(first) {
            let mut flow = step.request(&mut self.exchange);
            loop {
                match flow {
                    Flow::Continue => break,
                    Flow::Respond(response) => return (index, End::Answered(response)),
                    Flow::Wait(time) => {
                        tokio::time::sleep(time).await;
                        break;
                    }
                    Flow::Later(result) => flow = (result.await)(&mut self.exchange),
                    Flow::Around => return (index, End::Around),
                }
            }
        }
        (route.plan.len(), End::Passed)
    }

    async fn reach(&mut self, route: &Route, interim: Option<&dyn Interim>) -> Response {
        match &route.target {
            RouteTarget::Service(service) => self.forward(route, service, interim).await,
            RouteTarget::Internal(Internal::Noop) => empty(StatusCode::IM_A_TEAPOT),
            RouteTarget::Internal(internal) => {
                self.worker
                    .internal(*internal, &self.snapshot, &self.exchange)
                    .await
            }
        }
    }

    fn give_up(&mut self, fault: Fault) -> Response {
        self.origin.fault = Some(fault);
        fault.response()
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
