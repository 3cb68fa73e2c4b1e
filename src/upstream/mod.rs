//! Sockets out: dial, pools, one exchange with a server, health probes.
//!
//! Every worker has an [`Upstream`] of its own, so that a request takes a connection without a lock or a wake-up of another thread.

pub mod connect;
mod early;
pub mod http1;
pub mod http2;
pub mod pool;
pub mod probe;
pub mod resolve;
pub mod transport;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

pub use pool::Upstream;

use crate::{
    exchange::{Body, Fault, RequestHead, Response},
    http1::write::BodyFrame,
    observe::OpenConnection,
    wire::Stream,
};
use std::time::Duration;

/// A request as it goes to a server: the head, and what changes from server to server beside it.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub head: &'a RequestHead,
    /// The `Host` to send.
    pub host: &'a [u8],
    /// Path and query to send.
    pub target: &'a str,
    /// Where interim responses go.
    pub interim: Option<&'a dyn Interim>,
    /// Time for the head of the answer, once the request has been sent.
    pub response_timeout: Option<Duration>,
    /// How long the server may take nothing of the request.
    pub patience: Option<Duration>,
}

/// Takes 1xx responses while a request is under way.
pub trait Interim {
    fn send(&self, status: StatusCode, headers: &HeaderMap);
}

impl std::fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Outgoing<'_> {
    /// What is said about a body that is not there: methods that usually have one say its length is zero.
    fn empty_frame(&self) -> BodyFrame {
        let usual = matches!(self.head.method, Method::POST | Method::PUT | Method::PATCH);
        if usual || self.head.headers.contains_key(header::CONTENT_LENGTH) {
            BodyFrame::Length(0)
        } else {
            BodyFrame::Unsaid
        }
    }
}

/// What a server answered.
#[derive(Debug)]
pub enum Answer {
    Response(Response),
    /// 101: the connection now speaks another protocol.
    Switched(Response, Tunnel),
}

/// A connection that was switched to another protocol.
#[derive(Debug)]
pub struct Tunnel {
    pub stream: Stream,
    /// Bytes that came right behind the head.
    pub early: Bytes,
    /// Counts the connection as open as long as it is.
    pub open: OpenConnection,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    pub fault: Fault,
    /// The request's body, if nothing of it was read yet.
    pub body: Option<Body>,
    /// Whether any byte of an answer came.
    pub answered: bool,
    /// Whether the server cannot have acted on the request: it was not sent, or the server said so. Then any request may be sent again.
    pub unprocessed: bool,
}

impl Failure {
    /// Nothing was sent; the body is as it was.
    pub fn before_sending(fault: Fault, body: Body) -> Self {
        Self {
            fault,
            body: Some(body),
            answered: false,
            unprocessed: true,
        }
    }
}
