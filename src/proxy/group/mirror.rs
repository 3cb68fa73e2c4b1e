//! `mirroring`: copies of requests, sent when the client has its answer.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt;

use crate::{
    exchange::{Body, Connection, Exchange, Lost, RequestHead, Transcript},
    observe::{Protocol, Sample},
    proxy::{Journey, worker::Worker},
    service::Permit,
    snapshot::{Group, GroupKind, Mirroring, Route, Snapshot},
};

/// A request to be mirrored once it is answered.
pub(in crate::proxy) struct Pending {
    group: Arc<Group>,
    /// Positions of the mirrors that get it.
    mirrors: Vec<usize>,
    head: RequestHead,
    body: Copy,
    omit_forwarded_for: bool,
}

enum Copy {
    None,
    Bytes(Bytes),
    Transcript(Transcript),
}

impl Copy {
    /// The body for one mirror.
    fn body(&self) -> Result<Body, Lost> {
        match self {
            Self::None => Ok(Body::Empty),
            Self::Bytes(bytes) => Ok(Body::Full(bytes.clone())),
            Self::Transcript(transcript) => transcript.whole(),
        }
    }
}

impl Journey {
    /// Notes the request for the mirrors whose turn it is. Its body is copied on its way to the main service.
    pub(super) fn copy_for_mirrors(&mut self, group: &Arc<Group>, mirroring: &Mirroring) {
        if self.exchange.request.upgrade.is_some() {
            return;
        }
        let mirrors = mirroring.mirrors.iter().enumerate();
        let due = mirrors.filter(|(_, mirror)| mirror.share.takes());
        let mirrors: Vec<usize> = due.map(|(index, _)| index).collect();
        if mirrors.is_empty() {
            return;
        }
        let Some(body) = self.copy_body(mirroring) else {
            group.metrics.mirror_given_up("body");
            return;
        };
        let mut head = self.exchange.request.clone();
        head.expects_continue = false;
        self.mirrors.push(Pending {
            group: Arc::clone(group),
            mirrors,
            head,
            body,
            omit_forwarded_for: self.exchange.omit_forwarded_for,
        });
    }

    /// A copy of the body, or the beginning of one; `None` if it is too large.
    fn copy_body(&mut self, mirroring: &Mirroring) -> Option<Copy> {
        let Some(largest) = mirroring.largest_body else {
            return Some(Copy::None);
        };
        let body = self.exchange.body.take();
        if body.length().is_some_and(|length| length > largest) {
            self.exchange.body = body;
            return None;
        }
        let (body, copy) = match body {
            Body::Empty => (Body::Empty, Copy::None),
            Body::Full(bytes) => (Body::Full(bytes.clone()), Copy::Bytes(bytes)),
            body => {
                let (body, transcript) = Transcript::of(body, largest, &self.worker.transcripts);
                (body, Copy::Transcript(transcript))
            }
        };
        self.exchange.body = body;
        Some(copy)
    }

    /// Sends the copies, behind the back of the client.
    pub(in crate::proxy) fn send_copies(&mut self) {
        for pending in std::mem::take(&mut self.mirrors) {
            let GroupKind::Mirroring(mirroring) = &pending.group.kind else {
                continue;
            };
            if let Err(lost) = pending.body.body() {
                give_up(&pending.group, mirroring, lost.into());
                continue;
            }
            let Some(permit) = mirroring.allowance.begin(mirroring.max_in_flight) else {
                give_up(&pending.group, mirroring, Reason::Busy);
                continue;
            };
            let copies = Copies {
                worker: Rc::clone(&self.worker),
                snapshot: Arc::clone(&self.snapshot),
                entry_point: self.entry_point,
                connection: Rc::clone(&self.exchange.connection),
                route: self.route.clone(),
                pending,
                _permit: permit,
            };
            // It belongs to the worker like the connection it came by, and ends with its time limit.
            drop(tokio::task::spawn_local(copies.send()));
        }
    }

    /// Counts the answer of a service that no client gets.
    pub(super) fn count_unused(&mut self, status: http::StatusCode) {
        let counts = self.route.as_ref().is_some_and(|it| it.signals.metrics);
        // Nobody answered, then there is nothing to count.
        let answered = self.origin.forget_answer();
        let Some(service) = self.service.as_ref().filter(|_| counts && answered) else {
            return;
        };
        let request = &self.exchange.request;
        let protocol = Protocol::of(&request.headers, request.upgrade.as_ref());
        let taken = self.exchange.started.elapsed();
        let sample = Sample::new(&request.method, protocol, status.as_u16(), taken);
        service.metrics.traffic().record(&sample);
    }
}

/// The copies of one request under way.
struct Copies {
    worker: Rc<Worker>,
    snapshot: Arc<Snapshot>,
    entry_point: usize,
    connection: Rc<Connection>,
    route: Option<Arc<Route>>,
    pending: Pending,
    _permit: Permit,
}

impl Copies {
    /// One after the other.
    async fn send(self) {
        let GroupKind::Mirroring(mirroring) = &self.pending.group.kind else {
            return;
        };
        for index in &self.pending.mirrors {
            let (Ok(body), Some(mirror)) =
                (self.pending.body.body(), mirroring.mirrors.get(*index))
            else {
                continue;
            };
            let mut journey = self.journey(body);
            let send = async {
                let response = journey.visit(&mirror.member, None).await;
                let status = response.status();
                discard(response.into_body()).await;
                journey.count_unused(status);
            };
            if tokio::time::timeout(mirroring.timeout, send).await.is_err() {
                give_up(&self.pending.group, mirroring, Reason::Timeout);
            }
        }
    }

    fn journey(&self, body: Body) -> Journey {
        let head = self.pending.head.clone();
        let mut exchange = Exchange::new(head, body, Rc::clone(&self.connection));
        exchange.omit_forwarded_for = self.pending.omit_forwarded_for;
        Journey {
            snapshot: Arc::clone(&self.snapshot),
            route: self.route.clone(),
            is_copy: true,
            ..Journey::new(&self.worker, self.entry_point, exchange)
        }
    }
}

/// Reads an answer that nobody wants, so that its connection can be used again.
async fn discard(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// Why a request was not mirrored, or not to the end.
#[derive(Clone, Copy)]
enum Reason {
    Lost(Lost),
    Busy,
    Timeout,
}

impl From<Lost> for Reason {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

fn give_up(group: &Group, mirroring: &Mirroring, reason: Reason) {
    let service = &group.name;
    let word = match reason {
        Reason::Lost(Lost::Larger) => "body",
        Reason::Lost(Lost::NoRoom) => "memory",
        Reason::Lost(Lost::Unread) => "unread",
        Reason::Busy => "busy",
        Reason::Timeout => "timeout",
    };
    group.metrics.mirror_given_up(word);
    let speaks = !matches!(reason, Reason::Lost(Lost::Larger | Lost::Unread));
    if !speaks || !mirroring.allowance.may_complain(Instant::now()) {
        return;
    }
    let timeout: Duration = mirroring.timeout;
    match reason {
        Reason::Busy => tracing::warn!(
            %service,
            underWay = mirroring.max_in_flight,
            "requests are not mirrored, because too many are being mirrored: mirroring.maxInFlight sets how many"
        ),
        Reason::Timeout => tracing::warn!(
            %service,
            ?timeout,
            "a mirror takes too long, and what it is sent is given up: mirroring.timeout sets how long"
        ),
        Reason::Lost(_) => tracing::warn!(
            %service,
            "requests are not mirrored, because the bodies kept for that take all the room they may: mirroring.maxBodySize sets how large they may be"
        ),
    }
}
