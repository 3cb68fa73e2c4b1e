//! Picks a server, sends the request, and decides whether another server may be tried.

use std::{sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Method, header::SET_COOKIE};

use super::Journey;
use crate::{
    exchange::{Blame, Body, Fault, FaultKind, RequestHead, Response, forwarded},
    service::{Outcome, PickKey, Server, ServerId, Service},
    snapshot::Route,
    upstream::{Answer, Failure, Interim, Outgoing},
};

/// Servers one request is sent to at most.
const MAX_ATTEMPTS: usize = 6;

/// The servers a request has tried, without an allocation.
#[derive(Default)]
struct Tried {
    ids: [ServerId; MAX_ATTEMPTS],
    count: usize,
}

impl Tried {
    fn add(&mut self, id: ServerId) {
        if self.count < MAX_ATTEMPTS {
            self.ids[self.count] = id;
            self.count += 1;
        }
    }

    fn ids(&self) -> &[ServerId] {
        &self.ids[..self.count]
    }
}

/// A server, and the cookie that keeps the client on it.
type Picked = (Arc<Server>, Option<HeaderValue>);

impl Journey {
    /// Sends the request to a server of `service`, and to another one where that is safe.
    pub(super) async fn forward(
        &mut self,
        route: &Route,
        service: &Service,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let append = !self.exchange.omit_forwarded_for
            && !self.worker.forwarding(self.entry_point).not_append;
        forwarded::depart(
            &mut self.exchange.request,
            &self.exchange.connection,
            append,
        );
        service.budget.request();
        let mut tried = Tried::default();
        let mut fault = Fault::ours(FaultKind::NoServer);
        let mut body = self.exchange.body.take();
        let mut again: Option<Picked> = None;
        while tried.count < MAX_ATTEMPTS {
            let (server, cookie) = match again.take() {
                Some(picked) => picked,
                None => match self.pick(service, tried.ids()) {
                    Some(picked) => picked,
                    None => break,
                },
            };
            tried.add(server.id);
            if tried.count > 1 {
                self.origin.retries += 1;
                route.service_metrics.retried();
            }
            let kept = replayable(&body);
            match self.attempt(service, &server, body, interim).await {
                Ok(mut response) => {
                    if let Some(cookie) = cookie {
                        response.headers_mut().append(SET_COOKIE, cookie);
                    }
                    return response;
                }
                Err(mut failure) => {
                    fault = failure.fault;
                    self.count_failure(route, fault);
                    let Some(whole) = kept.or_else(|| failure.body.take()) else {
                        break;
                    };
                    let Some(same) = self.next_try(route, service, &tried, &failure) else {
                        break;
                    };
                    body = whole;
                    again = same.then_some((server, cookie));
                }
            }
        }
        if tried.count == 0 {
            self.count_failure(route, fault);
        }
        if self.origin.retries > 0 {
            route.service_metrics.retries_exhausted();
        }
        self.server = None;
        self.give_up(fault)
    }

    fn count_failure(&self, route: &Route, fault: Fault) {
        route.service_metrics.failed(fault.reason());
        if fault.kind == FaultKind::BodyTimeout && fault.blame == Blame::Client {
            self.worker.timed_out(
                self.entry_point,
                "body",
                "readTimeout or bodyProgressTimeout",
                &self.exchange.connection.peer,
            );
        }
    }

    fn pick(&self, service: &Service, tried: &[ServerId]) -> Option<Picked> {
        let pick = service.pick(&self.key(tried))?;
        Some((Arc::clone(pick.server), pick.set_cookie))
    }

    fn key<'a>(&'a self, tried: &'a [ServerId]) -> PickKey<'a> {
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
        let joined = server
            .preserve_path
            .then(|| join_paths(&server.path, self.exchange.request.target.as_str()));
        let head = &self.exchange.request;
        let outgoing = Outgoing {
            head,
            host: if service.pass_host_header && !head.host.is_empty() {
                head.host.as_bytes()
            } else {
                server.authority.as_bytes()
            },
            target: joined.as_deref().unwrap_or(head.target.as_str()),
            interim,
            response_timeout: service.transport.response_header_timeout,
            patience: self.exchange.connection.patience,
        };
        let sent = Instant::now();
        let answer = self.worker.upstream.send(server, outgoing, body).await;
        self.origin.attempted(&server.name, sent);
        match answer {
            Ok(answer) => Ok(self.accept(server, answer, sent)),
            Err(failure) => {
                note(server.observe(Outcome::Failed(failure.fault)), server);
                Err(failure)
            }
        }
    }

    fn accept(&mut self, server: &Arc<Server>, answer: Answer, sent: Instant) -> Response {
        let mut response = match answer {
            Answer::Response(response) => response,
            Answer::Switched(response, tunnel) => {
                self.tunnel = Some(tunnel);
                response
            }
        };
        self.answered(&response);
        note(
            server.observe(Outcome::Answered {
                status: response.status(),
                ttfb: sent.elapsed(),
            }),
            server,
        );
        let upgrade = forwarded::strip_response_hop_by_hop(response.headers_mut());
        if self.tunnel.is_some() {
            self.origin.upgrade = upgrade;
        }
        response
    }

    /// Whether there is a next try, and whether it goes to the same server.
    fn next_try(
        &self,
        route: &Route,
        service: &Service,
        tried: &Tried,
        failure: &Failure,
    ) -> Option<bool> {
        let elsewhere = service.can_pick(&self.key(tried.ids()));
        // A connection that went stale says nothing about its server, and no client loses its session over it.
        let same =
            failure.fault.kind == FaultKind::StaleConnection && (service.is_sticky() || !elsewhere);
        let possible = tried.count < MAX_ATTEMPTS && (same || elsewhere);
        (possible && self.may_retry(route, service, failure)).then_some(same)
    }

    /// Whether the request may be sent once more: never when it may have been processed and repeating it could do harm, and never
    /// beyond the budget.
    fn may_retry(&self, route: &Route, service: &Service, failure: &Failure) -> bool {
        if failure.answered {
            return false;
        }
        let head = &self.exchange.request;
        let allowed = match failure.fault.kind {
            // The request went nowhere. A refused connect costs the next server nothing it would not have had to do anyway, so it
            // needs no budget; a connect that timed out held the client up.
            FaultKind::Connect | FaultKind::Tls => return true,
            FaultKind::ConnectTimeout => true,
            FaultKind::StaleConnection if failure.unprocessed || is_repeatable(head) => {
                return true;
            }
            FaultKind::Reset => is_repeatable(head),
            _ => false,
        };
        if allowed && !service.budget.withdraw() {
            route.service_metrics.retry_refused();
            return false;
        }
        allowed
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

static IDEMPOTENCY_KEYS: [HeaderName; 2] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-idempotency-key"),
];

/// Whether doing it twice is the same as doing it once (RFC 9110 section 9.2.2).
fn is_repeatable(head: &RequestHead) -> bool {
    let safe = matches!(
        head.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    (safe && head.upgrade.is_none())
        || IDEMPOTENCY_KEYS
            .iter()
            .any(|name| head.headers.contains_key(name))
}

fn note(change: Option<crate::service::HealthChange>, server: &Server) {
    if let Some(change) = change {
        tracing::warn!(server = %server.name, ?change, "server health changed");
    }
}

/// The path of the server's URL before that of the request, with one slash between.
fn join_paths(base: &str, target: &str) -> String {
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
