//! A step sends a request of its own, and leaves no trace of that in the request under way.

use crate::{
    exchange::{Body, RequestHead},
    proxy::{Journey, attempt::Tried, record::Origin},
    service::{InFlight, Service},
};
use std::sync::Arc;

/// The request under way, while another one has its place.
pub(super) struct Aside {
    request: RequestHead,
    body: Body,
    omit_forwarded_for: bool,
    origin: Origin,
    service: Option<Arc<Service>>,
    server: Option<InFlight>,
    avoided: Option<Box<Tried>>,
}

impl Journey {
    /// Puts another request, which is our own, in the place of the one under way.
    pub(super) fn set_aside(&mut self, request: RequestHead, body: Body) -> Aside {
        self.own_requests += 1;
        Aside {
            request: std::mem::replace(&mut self.exchange.request, request),
            body: std::mem::replace(&mut self.exchange.body, body),
            // Whose address would it be?
            omit_forwarded_for: std::mem::replace(&mut self.exchange.omit_forwarded_for, true),
            origin: std::mem::take(&mut self.origin),
            service: self.service.take(),
            server: self.server.take(),
            avoided: self.avoided.take(),
        }
    }

    /// Goes on with what was put aside.
    pub(super) fn take_back(&mut self, aside: Aside) {
        self.own_requests -= 1;
        self.exchange.request = aside.request;
        self.exchange.body = aside.body;
        self.exchange.omit_forwarded_for = aside.omit_forwarded_for;
        self.origin = aside.origin;
        self.service = aside.service;
        self.server = aside.server;
        self.avoided = aside.avoided;
    }
}
