//! One request and its response: leaf types the traffic rooms share.
//!
//! An [`Exchange`] is what a middleware sees of a request: its head, its body, and the connection it came by. It imports nothing of
//! ours, so every room may use it.

pub mod body;
pub mod fault;
pub mod forwarded;
pub mod gather;
mod memo;
pub mod path;
pub mod spool;
pub mod target;
pub mod transcript;

use std::{
    any::Any,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

pub use body::Body;
pub use fault::{Blame, Fault, FaultKind};
pub use gather::{Gathered, Whole};
pub use memo::Memo;
pub use target::Target;
pub use transcript::{Lost, Transcript, TranscriptRoom};

/// A response on its way to the client.
pub type Response = http::Response<Body>;

/// One request, from the moment its head was read until its response has been sent.
#[derive(Debug)]
pub struct Exchange {
    /// The request head, edited in place by middlewares; what stands here when the plan has run is what the server gets.
    pub request: RequestHead,
    /// The request body; `Body::Empty` once it was handed on.
    pub body: Body,
    /// The connection the request came by.
    pub connection: Rc<Connection>,
    /// When the request head was complete.
    pub started: Instant,
    /// The authenticated user, for the access log.
    pub user: Option<ByteString>,
    /// Set when a middleware wants the peer's address not to be appended to `X-Forwarded-For`.
    pub omit_forwarded_for: bool,
    /// `Accept-Encoding` as the client sent it, noted by a middleware that will compress the answer.
    pub accept_encoding: Option<HeaderValue>,
    /// Set when a middleware wants the type of an answer without one to be found out.
    pub detect_type: bool,
    guards: Vec<Box<dyn Any>>,
}

impl Exchange {
    /// A new exchange for a request that was just read.
    pub fn new(request: RequestHead, body: Body, connection: Rc<Connection>) -> Self {
        Self {
            request,
            body,
            connection,
            started: Instant::now(),
            user: None,
            omit_forwarded_for: false,
            accept_encoding: None,
            detect_type: false,
            guards: Vec::new(),
        }
    }

    /// Keeps `guard` alive until the response has been sent (or given up), then drops it.
    pub fn hold(&mut self, guard: impl Any) {
        self.guards.push(Box::new(guard));
    }

    /// The guard of this type that `is_it`.
    pub fn held<T: Any>(&self, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let mut guards = self.guards.iter();
        guards.find_map(|guard| guard.downcast_ref::<T>().filter(|guard| is_it(guard)))
    }

    /// What the request is now, body apart.
    pub fn save(&self) -> Saved {
        Saved {
            request: self.request.clone(),
            omit_forwarded_for: self.omit_forwarded_for,
            accept_encoding: self.accept_encoding.clone(),
            held: self.guards.len(),
        }
    }

    /// Makes the request what it was; guards that came since are dropped, because what they stand for is over.
    pub fn restore(&mut self, saved: &Saved) {
        self.request = saved.request.clone();
        self.omit_forwarded_for = saved.omit_forwarded_for;
        self.accept_encoding = saved.accept_encoding.clone();
        self.guards.truncate(saved.held);
    }
}

/// A request as it was at some moment, so that it can be sent on once more from there.
#[derive(Debug)]
pub struct Saved {
    request: RequestHead,
    omit_forwarded_for: bool,
    accept_encoding: Option<HeaderValue>,
    held: usize,
}

impl Saved {
    pub fn method(&self) -> &Method {
        &self.request.method
    }
}

/// The head of a request, in one form for every protocol.
///
/// `headers` holds neither `Host` (see `host`) nor hop-by-hop fields: those were taken off when the request came in.
#[derive(Debug, Clone)]
pub struct RequestHead {
    pub method: Method,
    /// The version the client spoke.
    pub version: Version,
    /// The `Host` field or `:authority` as the client sent it, port included; empty if there was none.
    pub host: ByteString,
    /// Path (escaped, normalised) and query.
    pub target: Target,
    pub headers: HeaderMap,
    /// The protocol of an upgrade request (`websocket`, ...), from `Upgrade` or an extended CONNECT.
    pub upgrade: Option<HeaderValue>,
    /// Whether the client takes trailers (`TE: trailers`).
    pub accepts_trailers: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

impl RequestHead {
    /// Whether doing it twice is the same as doing it once (RFC 9110 section 9.2.2).
    pub fn is_repeatable(&self) -> bool {
        let safe = matches!(
            self.method,
            Method::GET
                | Method::HEAD
                | Method::OPTIONS
                | Method::TRACE
                | Method::PUT
                | Method::DELETE
        );
        (safe && self.upgrade.is_none())
            || IDEMPOTENCY_KEYS
                .iter()
                .any(|name| self.headers.contains_key(name))
    }
}

static IDEMPOTENCY_KEYS: [HeaderName; 2] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-idempotency-key"),
];

/// What is known of a client connection; one per connection, shared by its exchanges.
#[derive(Debug)]
pub struct Connection {
    /// Name of the entry point.
    pub entry_point: Arc<str>,
    /// The client: the TCP peer, or what a trusted PROXY header said.
    pub peer: SocketAddr,
    /// The address the client connected to.
    pub local: SocketAddr,
    /// The peer's IP without zone, ready to be sent in a header.
    pub peer_ip: HeaderValue,
    /// Whether the peer may send `X-Forwarded-*` (entry point `forwardedHeaders`).
    pub trusted: bool,
    /// How long a body may stand still (`bodyProgressTimeout`, or the `readTimeout` that replaces it).
    pub patience: Option<Duration>,
    /// The TLS session, if the connection is encrypted.
    pub tls: Option<TlsSession>,
    /// What middlewares computed for this connection.
    pub memo: Memo,
}

/// What the TLS handshake settled.
#[derive(Debug)]
pub struct TlsSession {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// IANA name of the cipher suite.
    pub cipher: &'static str,
    /// Server name sent by the client, lower-case.
    pub sni: Option<ByteString>,
    /// Name of the TLS options the handshake used.
    pub options: Arc<str>,
    /// DER of the client's certificates, leaf first.
    pub client_certificates: Vec<Vec<u8>>,
    /// Subject of the client's certificate, as in `CN=me,O=us`.
    pub client_subject: Option<Arc<str>>,
    /// Whether HTTP/2 was negotiated.
    pub h2: bool,
}

impl Connection {
    /// Whether the client's connection to us is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}
