//! A request whose service has no usable server waits for one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Journey, attempt::Course};
use crate::{
    exchange::{Fault, FaultKind, Response, fault},
    service::{Seat, Service},
    snapshot::RouteTarget,
    upstream::Interim,
};

/// Why a waiting request looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// A server may be usable that was not.
    Usable,
    /// A new configuration may name another server.
    Changed,
    /// Nobody called; a server that refused connections may take them again.
    Tick,
}

/// A request in the waiting room.
struct Waiting {
    service: Arc<Service>,
    seat: Seat,
    changes: watch::Receiver<u64>,
    deadline: Instant,
}

impl Journey {
    /// Waits for a usable server and sends the request to it; none if the request is not to wait, or no longer, and the fault in
    /// `course` is the answer. The body is not read meanwhile.
    pub(super) async fn hold(
        &mut self,
        service: &Arc<Service>,
        interim: Option<&dyn Interim>,
        course: &mut Course,
    ) -> Option<Response> {
        let changes = self.worker.changes();
        let mut service = Arc::clone(service);
        if let Some(newer) = self.renew(&service) {
            // It came under a configuration that was replaced while a middleware or another server had it.
            service = newer;
            if let Some(response) = self.resume(&service, interim, course).await {
                return Some(response);
            }
        }
        if !may_wait(&service, course) {
            return None;
        }
        let Some(seat) = service.room.enter(service.hold.max_requests) else {
            return Some(self.turned_away(&service));
        };
        self.announce(&service);
        let deadline = Instant::now() + service.hold.timeout;
        let waiting = Waiting {
            service,
            seat,
            changes,
            deadline,
        };
        self.wait(waiting, interim, course).await
    }

    async fn wait(
        &mut self,
        mut waiting: Waiting,
        interim: Option<&dyn Interim>,
        course: &mut Course,
    ) -> Option<Response> {
        let sent = course.sent;
        loop {
            let began = Instant::now();
            let call = self.pause(&mut waiting).await;
            self.origin.held += began.elapsed();
            if let Some(newer) = self.renew(&waiting.service) {
                if !Arc::ptr_eq(&newer.room, waiting.seat.room()) {
                    // The router leads elsewhere now.
                    waiting.seat = newer.room.enter(newer.hold.max_requests)?;
                }
                waiting.service = newer;
            }
            let (service, now) = (&waiting.service, Instant::now());
            let go = match call {
                Call::Usable => true,
                Call::Tick => service.room.may_scout(now),
                Call::Changed => !course.is_full(),
            };
            if call != Call::Changed {
                course.forget();
            }
            if go {
                let answer = self.resume(service, interim, course).await;
                if answer.is_some() {
                    if call != Call::Usable {
                        // The others need not find out for themselves.
                        service.room.wake();
                    }
                    return answer;
                }
                // A server that breaks every connection is not worth more waiting.
                if course.body.is_none() || course.sent > sent + 1 || !is_passing(course.fault) {
                    return None;
                }
            }
            if now >= waiting.deadline {
                return Some(self.waited_in_vain(service));
            }
        }
    }

    /// Waits until it is worth looking up.
    async fn pause(&self, waiting: &mut Waiting) -> Call {
        let _held = waiting.service.metrics.held();
        let left = waiting.deadline.saturating_duration_since(Instant::now());
        // Not all at the same time.
        let tick = TICK.mul_f64(0.5 + fastrand::f64());
        tokio::select! {
            () = waiting.seat.called() => Call::Usable,
            _ = waiting.changes.changed() => Call::Changed,
            () = tokio::time::sleep(left.min(tick)) => Call::Tick,
        }
    }

    async fn resume(
        &mut self,
        service: &Arc<Service>,
        interim: Option<&dyn Interim>,
        course: &mut Course,
    ) -> Option<Response> {
        let response = self.attempts(service, interim, course).await;
        if response.is_none() {
            self.server = None;
        }
        response
    }

    /// Goes on with the newest configuration; the service that the request's router leads to now, if there is a newer one.
    fn renew(&mut self, service: &Arc<Service>) -> Option<Arc<Service>> {
        if !self.is_outdated() {
            return None;
        }
        let newest = self.worker.snapshot();
        let route = self.route.as_ref()?;
        let newer = newest.route(&route.name).map(Arc::clone);
        let found = match newer.as_ref().map(|newer| &newer.target) {
            // Where the router leads now, if what is waited for is what it led to.
            Some(RouteTarget::Service(now)) if route.leads_to(service) => Arc::clone(now),
            // Without its router the service may still be there; without either, the request waits for them to come back.
            target => {
                let same = newest.service(&service.name).map(Arc::clone);
                // One of several services may be replaced by another.
                same.or_else(|| self.replacement(target))?
            }
        };
        if let Some(newer) = newer {
            self.route = Some(newer);
        }
        self.snapshot = newest;
        self.leads_to(&found);
        Some(found)
    }

    /// What stands for a service that is gone. Not for a request of our own: what one of our middlewares asks must not be answered by a
    /// server that it is not meant for.
    fn replacement(&self, target: Option<&RouteTarget>) -> Option<Arc<Service>> {
        let meant = target.filter(|_| self.own_requests == 0)?;
        meant.leaf().map(Arc::clone)
    }

    /// Whether the configuration was replaced since the request began.
    pub(super) fn is_outdated(&self) -> bool {
        self.worker.snapshot().generation != self.snapshot.generation
    }

    fn announce(&self, service: &Service) {
        service.metrics.hold_began();
        if service.room.may_announce(Instant::now()) {
            tracing::warn!(service = %service.name, timeout = ?service.hold.timeout, "no server is usable: requests wait");
        }
    }

    /// The room is full.
    fn turned_away(&mut self, service: &Service) -> Response {
        service.metrics.hold_refused();
        if service.room.may_complain(Instant::now()) {
            tracing::warn!(
                service = %service.name,
                waiting = service.room.waiting(),
                "no server is usable and no more requests may wait: loadBalancer.hold.maxRequests sets how many"
            );
        }
        self.unavailable(service)
    }

    fn waited_in_vain(&mut self, service: &Service) -> Response {
        if service.room.may_complain(Instant::now()) {
            tracing::warn!(
                service = %service.name,
                timeout = ?service.hold.timeout,
                "requests waited in vain for a usable server: loadBalancer.hold.timeout sets how long"
            );
        }
        self.unavailable(service)
    }

    fn unavailable(&mut self, service: &Service) -> Response {
        let fault = Fault::ours(FaultKind::NoServer);
        self.count_failure(service, fault);
        self.origin.fault = Some(fault);
        fault::unavailable(service.excuse().map(|reason| &**reason))
    }
}

fn may_wait(service: &Service, course: &Course) -> bool {
    service.may_hold() && course.body.is_some() && is_passing(course.fault)
}

/// Whether the fault is of the kind that a restart brings about. A failed handshake is not, and a connect that timed out has cost the
/// client enough.
fn is_passing(fault: Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::NoServer | FaultKind::Connect | FaultKind::StaleConnection | FaultKind::Reset
    )
}

/// Mean time between two looks around.
const TICK: Duration = Duration::from_millis(75);
