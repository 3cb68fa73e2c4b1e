//! Requests that take too long: ended with a 504 before their answer has begun, cut off afterwards.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use super::{Journey, Worker};
use crate::{
    exchange::{Body, Fault, FaultKind, Response},
    observe::ServiceMetrics,
    service::{Service, Timeouts},
    snapshot::Route,
    wire::Deadline,
};

/// The option that ends a request, and whose it is.
#[derive(Debug, Clone)]
struct Knob {
    option: &'static str,
    owner: Arc<str>,
    time: Duration,
}

impl Journey {
    /// The limits for an attempt: the router's, or else the service's. The total is the service's alone, for that of the router has begun
    /// before.
    pub(super) fn limits(&self, service: &Service) -> Timeouts {
        let own = self.route.as_ref().map(|route| route.timeouts);
        let own = own.unwrap_or_default();
        Timeouts {
            response_header: own.response_header.or(service.timeouts.response_header),
            idle: own.idle.or(service.timeouts.idle),
            total: service.timeouts.total,
        }
    }

    /// Awaits what `work` makes of the request, at most for as long as the router may take.
    pub(super) async fn within_route(
        &mut self,
        route: &Arc<Route>,
        total: Duration,
        work: impl AsyncFnOnce(&mut Self) -> Response,
    ) -> Response {
        let knob = Knob {
            option: "timeouts.total",
            owner: Arc::clone(&route.name),
            time: total,
        };
        self.within(knob, work).await
    }

    /// Awaits an answer of `service`, at most for as long as it may take, and watches over its body.
    pub(super) async fn within_service(
        &mut self,
        service: &Arc<Service>,
        limits: Timeouts,
        work: impl AsyncFnOnce(&mut Self) -> Response,
    ) -> Response {
        let response = match limits.total {
            None => work(self).await,
            Some(time) => {
                let knob = Knob {
                    option: "loadBalancer.timeouts.total",
                    owner: Arc::clone(&service.name),
                    time,
                };
                self.within(knob, work).await
            }
        };
        let Some(time) = limits.idle else {
            return response;
        };
        let own = self
            .route
            .as_ref()
            .filter(|route| route.timeouts.idle.is_some());
        let (option, owner) = match own {
            Some(route) => ("timeouts.idle", &route.name),
            None => ("loadBalancer.timeouts.idle", &service.name),
        };
        let knob = Knob {
            option,
            owner: Arc::clone(owner),
            time,
        };
        self.watched(response, knob, Limit::Idle)
    }

    async fn within(
        &mut self,
        knob: Knob,
        work: impl AsyncFnOnce(&mut Self) -> Response,
    ) -> Response {
        let end = Instant::from_std(self.exchange.started) + knob.time;
        match timeout_at(end, work(self)).await {
            Ok(response) => self.watched(response, knob, Limit::Total(end)),
            Err(_) => {
                // What was under way is gone with its future.
                (self.server, self.avoided) = (None, None);
                let fault = Fault::server(FaultKind::TotalTimeout);
                if let Some(metrics) = self.service_metrics() {
                    metrics.failed(fault.reason());
                }
                late(&self.worker, &knob);
                self.give_up(fault)
            }
        }
    }

    /// Tells of a server that did not answer in time, and which option gave it so long.
    pub(super) fn was_late(&self, service: &Service, fault: Fault) {
        let route = self.route.as_ref();
        let (option, owner) = match fault.kind {
            FaultKind::ConnectTimeout => {
                ("forwardingTimeouts.dialTimeout", &service.transport.name)
            }
            FaultKind::ResponseTimeout => match (route, service.timeouts.response_header) {
                (Some(route), _) if route.timeouts.response_header.is_some() => {
                    ("timeouts.responseHeader", &route.name)
                }
                (_, Some(_)) => ("loadBalancer.timeouts.responseHeader", &service.name),
                _ => (
                    "forwardingTimeouts.responseHeaderTimeout or respondingTimeouts.bodyProgressTimeout",
                    &service.transport.name,
                ),
            },
            _ => return,
        };
        if self.worker.may_warn() {
            tracing::warn!(service = %service.name, owner = %owner, reason = fault.reason(), "a server was too slow for {option}");
        }
    }

    fn watched(&self, mut response: Response, knob: Knob, limit: Limit) -> Response {
        if let Body::Stream(_) = response.body() {
            let deadline = Deadline::new();
            if let Limit::Total(end) = limit {
                deadline.set(Some(end.duration_since(Instant::now()).max(SOON)));
            }
            let watched = Watched {
                body: response.body_mut().take(),
                deadline,
                limit,
                knob,
                metrics: self.service_metrics().cloned(),
                worker: Rc::clone(&self.worker),
            };
            *response.body_mut() = Body::stream(watched);
        }
        response
    }
}

/// A deadline of no time at all would be none.
const SOON: Duration = Duration::from_millis(1);

fn late(worker: &Worker, knob: &Knob) {
    if worker.may_warn() {
        tracing::warn!(owner = %knob.owner, time = ?knob.time, "a request took too long for {}", knob.option);
    }
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    /// While nothing comes.
    Idle,
    /// However much comes.
    Total(Instant),
}

/// The body of an answer that may not take for ever.
struct Watched {
    body: Body,
    deadline: Deadline,
    limit: Limit,
    knob: Knob,
    metrics: Option<ServiceMetrics>,
    worker: Rc<Worker>,
}

impl Watched {
    /// The body ends here, without its end: whoever sends it on cuts the client off.
    fn cut(&mut self) -> Fault {
        self.body = Body::Empty;
        self.deadline.clear();
        late(&self.worker, &self.knob);
        let fault = Fault::server(match self.limit {
            Limit::Idle => FaultKind::IdleTimeout,
            Limit::Total(_) => FaultKind::TotalTimeout,
        });
        if let Some(metrics) = &self.metrics {
            metrics.failed(fault.reason());
        }
        fault
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if matches!(this.limit, Limit::Total(_)) && this.deadline.poll_expired(cx).is_ready() {
            return Poll::Ready(Some(Err(this.cut())));
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if !matches!(this.limit, Limit::Idle) {
            return frame;
        }
        if frame.is_ready() {
            // The time that the client takes is not the server's.
            this.deadline.clear();
            return frame;
        }
        if this.deadline.poll_expired(cx).is_ready() {
            return Poll::Ready(Some(Err(this.cut())));
        }
        if !this.deadline.is_set() {
            this.deadline.set(Some(this.knob.time));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
