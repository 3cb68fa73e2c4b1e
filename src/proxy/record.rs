//! What is known of a request when it is over, and where that is written down.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};

use super::Journey;
use crate::{
    exchange::{Body, Fault, Response, TlsSession},
    observe::{
        self, AccessRecord, CapturedHeaders, HeaderLabels, Protocol, Sample, TlsLabel, TlsRecord,
    },
};

/// What was sent to the client.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub status: StatusCode,
    /// Body bytes received from the client.
    pub received: u64,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// Whether the answer went out whole.
    pub complete: bool,
}

/// What a request said before any middleware changed it.
#[derive(Debug)]
pub(super) struct Arrival {
    method: Method,
    protocol: Protocol,
    /// Labels that headers give to the request's metrics.
    labels: HeaderLabels,
    /// Only if the access log may want the request.
    logged: Option<Box<Logged>>,
}

#[derive(Debug)]
struct Logged {
    host: ByteString,
    target: ByteString,
    forwarded_for: Option<HeaderValue>,
    headers: CapturedHeaders,
}

/// What happened between us and the servers.
#[derive(Debug, Default)]
pub(super) struct Origin {
    status: Option<StatusCode>,
    url: Option<Arc<str>>,
    /// Time spent waiting for servers' heads.
    waited: Duration,
    pub(super) retries: u32,
    /// Time spent waiting for a usable server.
    pub(super) held: Duration,
    pub(super) fault: Option<Fault>,
    /// Whether the fault came before anything of the request can have reached a server.
    pub(super) unsent: bool,
    /// The protocol the server switched to.
    pub(super) upgrade: Option<HeaderValue>,
    headers: CapturedHeaders,
    /// Headers of the answer as the client got it.
    downstream: CapturedHeaders,
    grpc_status: Option<Rc<Cell<Option<u16>>>>,
}

impl Origin {
    pub(super) fn attempted(&mut self, url: &Arc<str>, since: Instant) {
        self.waited += since.elapsed();
        self.url = Some(Arc::clone(url));
    }

    /// The request goes on as if no server had been asked; whether one was.
    pub(super) fn forget_answer(&mut self) -> bool {
        self.status = None;
        self.url.take().is_some()
    }
}

impl Journey {
    /// Notes what the request is before middlewares change it.
    pub(super) fn arrived(&self, request: &crate::exchange::RequestHead) -> Arrival {
        let log = &self.worker.access_log;
        let logged = || {
            Box::new(Logged {
                host: request.host.clone(),
                target: request.target.text().clone(),
                forwarded_for: request.headers.get("x-forwarded-for").cloned(),
                headers: log.capture(&request.headers),
            })
        };
        Arrival {
            method: request.method.clone(),
            protocol: Protocol::of(&request.headers, request.upgrade.as_ref()),
            labels: self
                .worker
                .metrics
                .header_labels(&request.host, &request.headers),
            logged: log.is_on().then(logged),
        }
    }

    pub(super) fn answered(&mut self, response: &Response) {
        self.origin.status = Some(response.status());
        if self.worker.access_log.wants_headers() {
            self.origin.headers = self.worker.access_log.capture(response.headers());
        }
    }

    /// Looks at the answer as the client will get it.
    pub(super) fn departs(&mut self, response: &mut Response) {
        self.trace_departure(response);
        if self.worker.access_log.wants_headers() {
            self.origin.downstream = self.worker.access_log.capture(response.headers());
        }
        if self
            .arrival
            .as_ref()
            .is_some_and(|arrival| arrival.protocol == Protocol::Grpc)
        {
            let status = Rc::new(Cell::new(grpc_status(response.headers())));
            let body = response.body_mut().take();
            *response.body_mut() = Body::stream(GrpcBody {
                body,
                status: Rc::clone(&status),
            });
            self.origin.grpc_status = Some(status);
        }
    }

    /// The protocol the server switched to, for the client's `Upgrade` field.
    pub fn switched_to(&self) -> Option<HeaderValue> {
        let asked = || self.exchange.request.upgrade.clone();
        self.origin.upgrade.clone().or_else(asked)
    }

    /// The exchange is over: counts it and writes it down.
    pub fn finish(mut self, sent: Sent) {
        if !self.mirrors.is_empty() && sent.complete {
            self.send_copies();
        }
        let Some(arrival) = &self.arrival else { return };
        let duration = self.exchange.started.elapsed();
        self.count(arrival, &sent, duration);
        self.log(arrival, &sent, duration);
        if let Some(trace) = self.trace.take() {
            trace.finish(sent.status.as_u16());
        }
    }

    fn count(&self, arrival: &Arrival, sent: &Sent, duration: Duration) {
        let grpc = self.origin.grpc_status.as_ref();
        let code = match grpc {
            // A call that ends without saying how is "unknown" (the gRPC over HTTP/2 protocol), and never an HTTP status among these codes.
            Some(status) => status.get().unwrap_or(GRPC_UNKNOWN),
            None => sent.status.as_u16(),
        };
        let mut sample = Sample::new(&arrival.method, arrival.protocol, code, duration);
        sample.bytes_in = sent.received;
        sample.bytes_out = sent.bytes;
        sample.headers = arrival.labels;
        sample.tls = self
            .session()
            .map(|tls| TlsLabel::of(tls.version, tls.cipher));
        let entry_point = self.entry_point();
        let Some(route) = &self.route else {
            if entry_point.signals.metrics {
                entry_point.traffic.record(&sample);
            }
            return;
        };
        if route.signals.metrics {
            entry_point.traffic.record(&sample);
            route.router_traffic.record(&sample);
            // What a middleware answered, or nobody could, was not handled by the service.
            if self.origin.url.is_some() {
                match &self.service {
                    None => route.service_traffic.record(&sample),
                    Some(service) => service.metrics.traffic().record(&sample),
                }
            }
        }
    }

    fn log(&self, arrival: &Arrival, sent: &Sent, duration: Duration) {
        let Some(logged) = &arrival.logged else {
            return;
        };
        let signals = match &self.route {
            Some(route) => route.signals,
            None => self.entry_point().signals,
        };
        if !signals.access_log {
            return;
        }
        let log = &self.worker.access_log;
        let status = sent.status.as_u16();
        let Some(number) = log.wants(status, self.origin.retries, duration) else {
            return;
        };
        let connection = &self.exchange.connection;
        log.write(AccessRecord {
            number,
            started: SystemTime::now() - duration,
            duration,
            entry_point: Arc::clone(&connection.entry_point),
            router: self.route.as_ref().map(|route| Arc::clone(&route.name)),
            origin: self.origin_record(sent),
            peer: connection.peer,
            forwarded_for: logged.forwarded_for.clone(),
            user: self.exchange.user.clone(),
            host: logged.host.clone(),
            method: arrival.method.clone(),
            target: logged.target.clone(),
            version: self.exchange.request.version,
            request_size: sent.received,
            status,
            response_size: sent.bytes,
            retries: self.origin.retries,
            held: self.origin.held,
            trace: self.trace.as_ref().map(|trace| trace.ids()),
            tls: self.session().map(|tls| TlsRecord {
                version: tls.version,
                cipher: tls.cipher,
                client_subject: tls.client_subject.clone(),
            }),
            request_headers: logged.headers.clone(),
            response_headers: self.origin.downstream.clone(),
        });
    }

    fn origin_record(&self, sent: &Sent) -> Option<observe::Origin> {
        let (route, url) = (self.route.as_ref()?, self.origin.url.as_ref()?);
        Some(observe::Origin {
            service: Arc::clone(self.service.as_ref().map_or(&route.service, |it| &it.name)),
            url: Arc::clone(url),
            duration: self.origin.waited,
            status: self.origin.status.unwrap_or(sent.status).as_u16(),
            size: sent.bytes,
            headers: self.origin.headers.clone(),
        })
    }

    fn session(&self) -> Option<&TlsSession> {
        self.exchange.connection.tls.as_ref()
    }
}

/// The gRPC status of calls that gave none.
const GRPC_UNKNOWN: u16 = 2;

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Reads the status of a gRPC call out of the trailers as they pass.
struct GrpcBody {
    body: Body,
    status: Rc<Cell<Option<u16>>>,
}

impl http_body::Body for GrpcBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(status) = frame.trailers_ref().and_then(grpc_status)
        {
            self.status.set(Some(status));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
