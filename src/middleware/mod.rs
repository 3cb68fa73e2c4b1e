//! One file per middleware: configuration to behaviour.
//!
//! A route's plan is a list of [`Middleware`]s. `request` runs in order, `response` in reverse for those whose request hook ran and let
//! the request pass. Everything a middleware needs is computed when the configuration is compiled; what must outlive a reload is handed
//! over by [`Middleware::adopt`].

mod add_prefix;
mod basic_auth;
pub mod buffering;
mod circuit_breaker;
mod compress;
mod content_type;
mod digest_auth;
mod encoded_characters;
pub mod errors;
mod escape;
pub mod forward_auth;
mod grpc_web;
mod headers;
mod in_flight;
mod ip_allow;
mod pass_tls_client_cert;
mod predicate;
mod random;
mod rate_limit;
mod redirect;
mod replace_path;
mod report;
pub mod retry;
mod source;
mod spans;
mod strip_prefix;
#[cfg(test)]
mod testing;
mod users;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{
    config::{Diagnostic, Placed, routing::Middleware as Config},
    exchange::{Exchange, Response},
    observe::MiddlewareMetrics,
};

use add_prefix::AddPrefix;
use basic_auth::BasicAuth;
use buffering::Buffering;
use circuit_breaker::CircuitBreaker;
use compress::Compress;
use content_type::ContentType;
pub use content_type::detect_type;
use digest_auth::DigestAuth;
pub use encoded_characters::EncodedCharacters;
use errors::Errors;
use forward_auth::ForwardAuth;
use grpc_web::GrpcWeb;
use headers::Headers;
use in_flight::InFlight;
use ip_allow::IpAllow;
use pass_tls_client_cert::PassTlsClientCert;
use rate_limit::RateLimit;
pub use rate_limit::Stores;
use redirect::Redirect;
use replace_path::{ReplacePath, ReplacePathRegex};
use report::Report;
use retry::Retry;
use strip_prefix::{StripPrefix, StripPrefixRegex};

/// One step of a plan.
#[derive(Debug)]
pub enum Middleware {
    AddPrefix(AddPrefix),
    BasicAuth(Box<BasicAuth>),
    Buffering(Box<Buffering>),
    CircuitBreaker(Box<CircuitBreaker>),
    Compress(Box<Compress>),
    ContentType(ContentType),
    DigestAuth(Box<DigestAuth>),
    EncodedCharacters(EncodedCharacters),
    GrpcWeb(Box<GrpcWeb>),
    Errors(Box<Errors>),
    ForwardAuth(Box<ForwardAuth>),
    Headers(Box<Headers>),
    InFlight(Box<InFlight>),
    IpAllow(Box<IpAllow>),
    PassTlsClientCert(Box<PassTlsClientCert>),
    RateLimit(Box<RateLimit>),
    Redirect(Box<Redirect>),
    ReplacePath(ReplacePath),
    ReplacePathRegex(Box<ReplacePathRegex>),
    Retry(Box<Retry>),
    StripPrefix(StripPrefix),
    StripPrefixRegex(StripPrefixRegex),
    /// One that the embedder brought.
    Custom(Arc<dyn Hook>),
}

/// Reads a file that a middleware names (`usersFile`): its content, or why it cannot be had.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, String>;

impl Middleware {
    /// Builds the middleware `name` (qualified, `auth@file`), once per router that uses it. `None` if it is unusable; `findings` says
    /// why, and also what is merely doubtful. A chain is no step and must have been expanded before.
    pub fn build(
        name: &str,
        config: &Placed<Config>,
        read: ReadFile<'_>,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let report = &mut Report::new(name, config, findings);
        match &config.value {
            Config::AddPrefix(config) => AddPrefix::build(config, report).map(Self::AddPrefix),
            Config::Buffering(config) => {
                Buffering::build(config, report).map(|it| Self::Buffering(Box::new(it)))
            }
            Config::Compress(config) => {
                Compress::build(config, report).map(|it| Self::Compress(Box::new(it)))
            }
            Config::ContentType(config) => {
                Some(Self::ContentType(ContentType::build(config, report)))
            }
            Config::GrpcWeb(config) => Some(Self::GrpcWeb(Box::new(GrpcWeb::build(config)))),
            Config::Errors(config) => {
                Errors::build(config, report).map(|it| Self::Errors(Box::new(it)))
            }
            Config::ForwardAuth(config) => {
                ForwardAuth::build(config, report).map(|it| Self::ForwardAuth(Box::new(it)))
            }
            Config::Headers(config) => {
                Headers::build(config, report).map(|it| Self::Headers(Box::new(it)))
            }
            Config::PassTlsClientCert(config) => Some(Self::PassTlsClientCert(Box::new(
                PassTlsClientCert::build(config),
            ))),
            Config::RedirectRegex(config) => {
                Redirect::by_regex(config, report).map(|it| Self::Redirect(Box::new(it)))
            }
            Config::RedirectScheme(config) => {
                Redirect::to_scheme(config, report).map(|it| Self::Redirect(Box::new(it)))
            }
            Config::ReplacePath(config) => {
                ReplacePath::build(config, report).map(Self::ReplacePath)
            }
            Config::ReplacePathRegex(config) => ReplacePathRegex::build(config, report)
                .map(|it| Self::ReplacePathRegex(Box::new(it))),
            Config::Retry(config) => {
                Retry::build(config, report).map(|it| Self::Retry(Box::new(it)))
            }
            Config::StripPrefix(config) => {
                Some(Self::StripPrefix(StripPrefix::build(config, report)))
            }
            Config::StripPrefixRegex(config) => {
                StripPrefixRegex::build(config, report).map(Self::StripPrefixRegex)
            }
            other => Self::build_guard(other, read, report),
        }
    }

    /// Builds one of those that may refuse requests.
    fn build_guard(config: &Config, read: ReadFile<'_>, report: &mut Report<'_>) -> Option<Self> {
        match config {
            Config::BasicAuth(config) => {
                BasicAuth::build(config, read, report).map(|it| Self::BasicAuth(Box::new(it)))
            }
            Config::CircuitBreaker(config) => {
                CircuitBreaker::build(config, report).map(|it| Self::CircuitBreaker(Box::new(it)))
            }
            Config::DigestAuth(config) => {
                DigestAuth::build(config, read, report).map(|it| Self::DigestAuth(Box::new(it)))
            }
            Config::EncodedCharacters(config) => {
                Some(Self::EncodedCharacters(EncodedCharacters::build(*config)))
            }
            Config::InFlightReq(config) => {
                InFlight::build(config, report).map(|it| Self::InFlight(Box::new(it)))
            }
            Config::RateLimit(config) => {
                RateLimit::build(config, read, report).map(|it| Self::RateLimit(Box::new(it)))
            }
            Config::IpAllowList(config) | Config::IpWhiteList(config) => {
                IpAllow::build(config, report).map(|it| Self::IpAllow(Box::new(it)))
            }
            other => {
                report.unsupported(other.kind());
                None
            }
        }
    }

    /// Takes over what must outlive a reload (rate buckets, in-flight counts, verified passwords) from the instance that had the same
    /// name on the same router before.
    pub fn adopt(&mut self, previous: &Self) {
        match (self, previous) {
            (Self::BasicAuth(new), Self::BasicAuth(old)) => new.adopt(old),
            (Self::CircuitBreaker(new), Self::CircuitBreaker(old)) => new.adopt(old),
            (Self::DigestAuth(new), Self::DigestAuth(old)) => new.adopt(old),
            (Self::InFlight(new), Self::InFlight(old)) => new.adopt(old),
            (Self::RateLimit(new), Self::RateLimit(old)) => new.adopt(old),
            _ => {}
        }
    }

    /// Shares what the same middleware has elsewhere, on other routers and in the configuration before.
    pub fn share(&mut self, stores: &Stores) {
        if let Self::RateLimit(it) = self {
            it.share(stores);
        }
    }

    /// The type under which this one's refusals are counted; `None` if there is nothing to count.
    pub fn metrics_kind(&self) -> Option<&'static str> {
        match self {
            Self::CircuitBreaker(_) => Some("circuitbreaker"),
            Self::InFlight(_) => Some("inflightreq"),
            Self::RateLimit(_) => Some("ratelimit"),
            _ => None,
        }
    }

    /// Gives the counters of [`Middleware::metrics_kind`].
    pub fn count_with(&mut self, metrics: MiddlewareMetrics) {
        match self {
            Self::CircuitBreaker(it) => it.count_with(metrics),
            Self::InFlight(it) => it.count_with(metrics),
            Self::RateLimit(it) => it.count_with(metrics),
            _ => {}
        }
    }

    /// Tells the router that this instance belongs to.
    pub fn belong_to(&mut self, router: &str) {
        if let Self::CircuitBreaker(it) = self {
            it.belong_to(router);
        }
    }

    /// What a circuit breaker does with requests now; `None` if it is none.
    pub fn circuit(&self) -> Option<&'static str> {
        match self {
            Self::CircuitBreaker(it) => Some(it.mode()),
            _ => None,
        }
    }

    /// Runs the request hook.
    pub fn request(&self, exchange: &mut Exchange) -> Flow {
        match self {
            Self::AddPrefix(it) => it.request(exchange),
            Self::BasicAuth(it) => it.request(exchange),
            Self::Buffering(_) => Flow::Around,
            Self::CircuitBreaker(it) => it.request(exchange),
            Self::Compress(it) => it.request(exchange),
            Self::ContentType(it) => it.request(exchange),
            Self::DigestAuth(it) => it.request(exchange),
            Self::EncodedCharacters(it) => it.request(exchange),
            Self::GrpcWeb(it) => it.request(exchange),
            Self::Errors(_) | Self::ForwardAuth(_) => Flow::Around,
            Self::Headers(it) => it.request(exchange),
            Self::InFlight(it) => it.request(exchange),
            Self::IpAllow(it) => it.request(exchange),
            Self::PassTlsClientCert(it) => it.request(exchange),
            Self::RateLimit(it) => it.request(exchange),
            Self::Redirect(it) => it.request(exchange),
            Self::ReplacePath(it) => it.request(exchange),
            Self::ReplacePathRegex(it) => it.request(exchange),
            Self::Retry(it) if it.is_on() => Flow::Around,
            Self::Retry(_) => Flow::Continue,
            Self::StripPrefix(it) => it.request(exchange),
            Self::StripPrefixRegex(it) => it.request(exchange),
            Self::Custom(it) => it.request(exchange),
        }
    }

    /// Runs the response hook.
    pub fn response(&self, exchange: &mut Exchange, response: &mut Response) {
        match self {
            Self::AddPrefix(_)
            | Self::BasicAuth(_)
            | Self::Buffering(_)
            | Self::ContentType(_)
            | Self::DigestAuth(_)
            | Self::EncodedCharacters(_)
            | Self::Errors(_)
            | Self::ForwardAuth(_)
            | Self::InFlight(_)
            | Self::IpAllow(_)
            | Self::PassTlsClientCert(_)
            | Self::RateLimit(_)
            | Self::Redirect(_)
            | Self::ReplacePath(_)
            | Self::ReplacePathRegex(_)
            | Self::Retry(_)
            | Self::StripPrefix(_)
            | Self::StripPrefixRegex(_) => {}
            Self::CircuitBreaker(it) => it.response(exchange, response),
            Self::Compress(it) => it.response(exchange, response),
            Self::GrpcWeb(it) => it.response(exchange, response),
            Self::Headers(it) => it.response(exchange, response),
            Self::Custom(it) => it.response(exchange, response),
        }
    }
}

/// What happens after a request hook.
pub enum Flow {
    /// Go on to the next step.
    Continue,
    /// Answer the client now; response hooks of the steps before still run.
    Respond(Box<Response>),
    /// Hold the request for this long, then go on.
    Wait(Duration),
    /// Something must be awaited first (a password hash on the blocking pool).
    Later(Pin<Box<dyn Future<Output = Resume>>>),
    /// The step wants to see to the rest of the plan itself: it talks to a server of its own, or runs the rest more than once. How is
    /// in `proxy::around`.
    Around,
}

impl Flow {
    /// Answers the client now.
    pub fn respond(response: Response) -> Self {
        Self::Respond(Box::new(response))
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Respond(response) => f.debug_tuple("Respond").field(response).finish(),
            Self::Wait(delay) => f.debug_tuple("Wait").field(delay).finish(),
            Self::Later(_) => f.write_str("Later"),
            Self::Around => f.write_str("Around"),
        }
    }
}

/// What to do with the exchange once the awaited result is there.
pub type Resume = Box<dyn FnOnce(&mut Exchange) -> Flow>;

/// A step of a plan. Implement this to add a middleware of your own (`App::builder().middleware(...)`).
pub trait Hook: Send + Sync {
    /// Looks at the request, edits it, or answers it.
    fn request(&self, exchange: &mut Exchange) -> Flow {
        let _ = exchange;
        Flow::Continue
    }

    /// Edits the response. `exchange.request` still holds the request as it was sent on.
    fn response(&self, exchange: &mut Exchange, response: &mut Response) {
        let _ = (exchange, response);
    }
}

impl fmt::Debug for dyn Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
