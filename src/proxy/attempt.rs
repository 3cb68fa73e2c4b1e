//! Picks a server, sends the request, and decides whether another server may be tried.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, header::SET_COOKIE};

use super::Journey;
use crate::{
    exchange::{Blame, Body, Fault, FaultKind, Response, fault, forwarded},
    service::{Outcome, PickKey, Server, ServerId, Service},
    upstream::{Answer, Failure, Interim, Outgoing},
};

/// Servers one request is sent to at most.
const MAX_ATTEMPTS: usize = 6;

/// The servers a request has tried, without an allocation.
#[derive(Clone, Default)]
pub(super) struct Tried {
    ids: [ServerId; MAX_ATTEMPTS],
    count: usize,
}

impl Tried {
    pub(super) fn add(&mut self, id: ServerId) {
        if self.count < MAX_ATTEMPTS {
            self.ids[self.count] = id;
            self.count += 1;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == MAX_ATTEMPTS
    }

    pub(super) fn ids(&self) -> &[ServerId] {
        &self.ids[..self.count]
    }
}

/// What comes after an attempt that failed.
enum Next {
    Same,
    Other,
    /// No server is left; one may come.
    Later,
}

/// How far a request has come with the servers of its service.
pub(super) struct Course {
    tried: Tried,
    attempts: u32,
    /// Attempts that failed after something was sent.
    pub(super) sent: u32,
    pub(super) fault: Fault,
    /// The body, as long as the request may be sent.
    pub(super) body: Option<Body>,
    /// The body when it is whole and the request may not be sent any more by us; a step around may know better.
    spare: Option<Body>,
}

impl Course {
    fn new(body: Body) -> Self {
        Self {
            tried: Tried::default(),
            attempts: 0,
            sent: 0,
            fault: Fault::ours(FaultKind::NoServer),
            body: Some(body),
            spare: None,
        }
    }

    /// Every server may be tried again.
    pub(super) fn forget(&mut self) {
        self.tried = Tried::default();
    }

    /// Whether no further server can be tried before some are forgotten.
    pub(super) fn is_full(&self) -> bool {
        self.tried.is_full()
    }
}

/// A server, and the cookie that keeps the client on it.
pub(super) type Picked = (Arc<Server>, Option<HeaderValue>);

impl Journey {
    /// Sends the request to a server of `service`, to another one where that is safe, and later where that is worth waiting for.
    pub(super) async fn forward(
        &mut self,
        service: &Arc<Service>,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let limits = self.limits(service);
        if limits.idle.is_none() && limits.total.is_none() {
            return self.send_on(service, interim).await;
        }
        let work = async |this: &mut Self| this.send_on(service, interim).await;
        Box::pin(self.within_service(service, limits, work)).await
    }

    async fn send_on(&mut self, service: &Arc<Service>, interim: Option<&dyn Interim>) -> Response {
        let append = !self.exchange.omit_forwarded_for
            && !self.worker.forwarding(self.entry_point).not_append;
        forwarded::depart(
            &mut self.exchange.request,
            &self.exchange.connection,
            append,
        );
        service.budget.request();
        let mut course = Course::new(self.exchange.body.take());
        self.avoid(service, &mut course);
        if let Some(response) = self.attempts(service, interim, &mut course).await {
            self.remember(&mut course);
            return response;
        }
        self.server = None;
        if course.body.is_some()
            && !self.is_copy
            && let Some(response) = Box::pin(self.hold(service, interim, &mut course)).await
        {
            self.remember(&mut course);
            return response;
        }
        self.remember(&mut course);
        if course.attempts == 0 {
            self.count_failure(service, course.fault);
        }
        if self.origin.retries > 0 {
            service.metrics.retries_exhausted();
        }
        self.server = None;
        match service.excuse() {
            Some(reason) if course.fault.kind == FaultKind::NoServer => {
                self.origin.fault = Some(course.fault);
                fault::unavailable(Some(reason))
            }
            _ => self.give_up(course.fault),
        }
    }

    /// Lets servers be that were tried when the plan ran before, as long as there are others.
    fn avoid(&self, service: &Service, course: &mut Course) {
        if let Some(avoided) = &self.avoided
            && avoided.count < MAX_ATTEMPTS / 2
            && service.can_pick(&self.key(avoided.ids()))
        {
            course.tried = (**avoided).clone();
        }
    }

    /// Keeps what a step needs that may run the plan once more.
    fn remember(&mut self, course: &mut Course) {
        let Some(avoided) = &mut self.avoided else {
            return;
        };
        **avoided = course.tried.clone();
        self.origin.unsent = course.sent == 0 && course.fault.nothing_sent();
        if let Some(body) = course.body.take().or_else(|| course.spare.take()) {
            self.exchange.body = body;
        }
    }

    /// Sends the request to one server after the other; none if no answer came of it. Then `course` says why, and whether the request
    /// may still be sent.
    pub(super) async fn attempts(
        &mut self,
        service: &Service,
        interim: Option<&dyn Interim>,
        course: &mut Course,
    ) -> Option<Response> {
        let mut again: Option<Picked> = None;
        while !course.is_full() {
            let picked = again
                .take()
                .or_else(|| self.pick(service, course.tried.ids()));
            let (server, cookie) = picked?;
            let body = course.body.take()?;
            course.tried.add(server.id);
            course.attempts += 1;
            if course.attempts > 1 {
                self.origin.retries += 1;
                service.metrics.retried();
            }
            let kept = replayable(&body);
            let outcome = match &service.hedge {
                Some(hedge) if self.may_hedge(service, &body) => {
                    let tried = &mut course.tried;
                    Box::pin(self.hedged(service, (&server, hedge), interim, tried)).await
                }
                _ => self.attempt(service, &server, body, interim).await,
            };
            match outcome {
                Ok(mut response) => {
                    if let Some(cookie) = cookie {
                        response.headers_mut().append(SET_COOKIE, cookie);
                    }
                    return Some(response);
                }
                Err(mut failure) => {
                    course.fault = failure.fault;
                    self.count_failure(service, failure.fault);
                    course.sent += u32::from(!failure.unprocessed);
                    let whole = kept.or_else(|| failure.body.take())?;
                    let Some(next) = self.next_try(service, course, &failure) else {
                        course.spare = Some(whole);
                        return None;
                    };
                    course.body = Some(whole);
                    again = match next {
                        Next::Same => Some((server, cookie)),
                        Next::Other => None,
                        Next::Later => return None,
                    };
                }
            }
        }
        None
    }

    pub(super) fn count_failure(&self, service: &Service, fault: Fault) {
        service.metrics.failed(fault.reason());
        if fault.kind == FaultKind::BodyTimeout && fault.blame == Blame::Client {
            self.worker.timed_out(
                self.entry_point,
                "body",
                "readTimeout or bodyProgressTimeout",
                &self.exchange.connection.peer,
            );
        }
    }

    pub(super) fn pick(&self, service: &Service, tried: &[ServerId]) -> Option<Picked> {
        let pick = service.pick(&self.key(tried))?;
        if pick.in_panic {
            self.panicked(service);
        }
        Some((Arc::clone(pick.server), pick.set_cookie))
    }

    pub(super) fn key<'a>(&'a self, tried: &'a [ServerId]) -> PickKey<'a> {
        PickKey {
            client_ip: self.exchange.connection.peer.ip(),
            headers: &self.exchange.request.headers,
            exclude: tried,
        }
    }

    async fn attempt(
        &mut self,
        service: &Service,
        server: &Arc<Server>,
        body: Body,
        interim: Option<&dyn Interim>,
    ) -> Result<Response, Failure> {
        self.server = Some(server.begin());
        self.begin_call(server);
        let sent = Instant::now();
        let result = self.send(service, server, body, interim).await;
        self.concluded(service, server, (sent, result))
    }

    /// Sends the request as it is to `server`.
    pub(super) async fn send(
        &self,
        service: &Service,
        server: &Arc<Server>,
        body: Body,
        interim: Option<&dyn Interim>,
    ) -> Result<Answer, Failure> {
        let joined = server
            .preserve_path
            .then(|| join_paths(&server.path, self.exchange.request.target.as_str()));
        let head = &self.exchange.request;
        let limits = self.limits(service);
        let transport = &service.transport;
        let outgoing = Outgoing {
            head,
            host: if service.pass_host_header && !head.host.is_empty() {
                head.host.as_bytes()
            } else {
                server.authority.as_bytes()
            },
            target: joined.as_deref().unwrap_or(head.target.as_str()),
            interim,
            response_timeout: limits.response_header.or(transport.response_header_timeout),
            patience: limits.idle.or(self.exchange.connection.patience),
        };
        self.worker.upstream.send(server, outgoing, body).await
    }

    /// Learns from what a request to `server` came to.
    pub(super) fn concluded(
        &mut self,
        service: &Service,
        server: &Arc<Server>,
        (sent, result): (Instant, Result<Answer, Failure>),
    ) -> Result<Response, Failure> {
        self.origin.attempted(&server.name, sent);
        self.end_call(server, &result);
        match result {
            Ok(answer) => {
                service.room.prove();
                Ok(self.accept(service, server, (answer, sent)))
            }
            Err(failure) => {
                learn(service, server, Outcome::Failed(failure.fault));
                self.was_late(service, failure.fault);
                Err(failure)
            }
        }
    }

    fn accept(
        &mut self,
        service: &Service,
        server: &Arc<Server>,
        (answer, sent): (Answer, Instant),
    ) -> Response {
        let mut response = match answer {
            Answer::Response(response) => response,
            Answer::Switched(response, tunnel) => {
                self.tunnel = Some(tunnel);
                response
            }
        };
        self.answered(&response);
        let outcome = Outcome::Answered {
            status: response.status(),
            ttfb: sent.elapsed(),
        };
        learn(service, server, outcome);
        let upgrade = forwarded::strip_response_hop_by_hop(response.headers_mut());
        if self.tunnel.is_some() {
            self.origin.upgrade = upgrade;
        }
        response
    }

    #[cold]
    fn panicked(&self, service: &Service) {
        service.metrics.panicked();
        if self.worker.may_warn() {
            tracing::warn!(service = %service.name, "so few servers are well that all of them get requests: loadBalancer.outlierDetection.panicThreshold sets how few");
        }
    }

    /// What comes after a failure; none if that was the last try.
    fn next_try(&self, service: &Service, course: &Course, failure: &Failure) -> Option<Next> {
        let other = service.can_pick(&self.key(course.tried.ids()));
        // A connection that went stale says nothing about its server, and no client loses its session over it.
        let same =
            failure.fault.kind == FaultKind::StaleConnection && (service.is_sticky() || !other);
        let next = match (course.is_full(), same, other) {
            (false, true, _) => Next::Same,
            (false, false, true) => Next::Other,
            _ if service.may_hold() || self.is_outdated() => Next::Later,
            _ => return None,
        };
        self.may_retry(service, failure).then_some(next)
    }

    /// Whether the request may be sent once more: never when it may have been processed and repeating it could do harm, and never
    /// beyond the budget.
    fn may_retry(&self, service: &Service, failure: &Failure) -> bool {
        if failure.answered {
            return false;
        }
        let head = &self.exchange.request;
        let allowed = match failure.fault.kind {
            // The request went nowhere. A refused connect costs the next server nothing it would not have had to do anyway, so it
            // needs no budget; a connect that timed out held the client up.
            FaultKind::Connect | FaultKind::Tls => return true,
            FaultKind::ConnectTimeout => true,
            FaultKind::StaleConnection if failure.unprocessed || head.is_repeatable() => {
                return true;
            }
            FaultKind::Reset => head.is_repeatable(),
            _ => false,
        };
        if allowed && !service.budget.withdraw() {
            service.metrics.retry_refused();
            return false;
        }
        allowed
    }
}

/// Tells server and service what a request came to, and the log what follows from that.
fn learn(service: &Service, server: &Arc<Server>, outcome: Outcome) {
    if let Some(change) = server.observe(outcome) {
        change.log(&service.name, &server.name);
    }
    if let Some(change) = service.judge(server, outcome) {
        server.metrics().ejected();
        change.log(&service.name, &server.name);
    }
}

/// A copy of a body that can be sent again; streams cannot.
fn replayable(body: &Body) -> Option<Body> {
    match body {
        Body::Empty => Some(Body::Empty),
        Body::Full(bytes) => Some(Body::Full(bytes.clone())),
        Body::Stream(_) => None,
    }
}

/// The path of the server's URL before that of the request, with one slash between.
pub(super) fn join_paths(base: &str, target: &str) -> String {
    format!(
        "{}/{}",
        base.trim_end_matches('/'),
        target.trim_start_matches('/')
    )
}

#[cfg(test)]
mod tests {
    use super::join_paths;

    #[test]
    fn paths_join_with_one_slash() {
        for (base, target, joined) in [
            ("/base", "/x?y", "/base/x?y"),
            ("/base/", "/x", "/base/x"),
            ("", "/x", "/x"),
            ("/b", "/", "/b/"),
        ] {
            assert_eq!(join_paths(base, target), joined);
        }
    }
}
