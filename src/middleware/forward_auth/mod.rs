//! `forwardAuth`: asks another service whether a request may pass.
//!
//! What that service is asked, what its answer means and what the request takes along from it is decided here; `proxy::around` talks
//! to it.

mod location;
mod question;
mod vouched;

use std::sync::Arc;

use bytestring::ByteString;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{LOCATION, SET_COOKIE, TRAILER},
    response::Parts,
};

use self::{location::Base, question::Question, vouched::Vouched};
use super::report::Report;
use crate::{
    config::routing::ForwardAuth as Config,
    exchange::{Body, Exchange, RequestHead, Response},
    service::Service,
};

/// Lets pass what another service lets pass.
#[derive(Debug)]
pub struct ForwardAuth {
    /// The service that is asked; given by whoever compiles the configuration.
    authority: Option<Arc<Service>>,
    question: Question,
    vouched: Arc<Vouched>,
    /// Cookies of the authority that the client gets.
    cookies: Box<[Box<str>]>,
    user: Option<HeaderName>,
    /// The size up to which the request's body is kept for the authority; `None` if it does not get it.
    body: Option<usize>,
    answer: Option<usize>,
    /// Where redirects of the authority lead from; `None` if they are passed on as they are.
    base: Option<Base>,
    signin: Option<HeaderValue>,
}

/// What the authority said.
#[derive(Debug)]
pub enum Verdict {
    /// The request may pass, and these cookies go to the client.
    Pass(Box<[HeaderValue]>),
    Refuse(Box<Response>),
}

impl ForwardAuth {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let base = Base::of(&config.address, report)?;
        let signin = match &*config.auth_signin_url {
            "" => None,
            url => {
                let value = HeaderValue::from_str(url);
                Some(
                    value
                        .map_err(|_| report.error("authSigninURL", UNFIT))
                        .ok()?,
                )
            }
        };
        let user = match &*config.header_field {
            "" => None,
            name => Some(header_name(name, "headerField", report)?),
        };
        if let Some(tls) = &config.tls
            && tls.ca_optional.is_some()
        {
            report.warning("tls.caOptional", "has no effect");
        }
        let cookies = config.add_auth_cookies_to_response.iter();
        Some(Self {
            authority: None,
            question: Question::build(config, base.target.clone(), report)?,
            vouched: Arc::new(Vouched::build(config, report)?),
            cookies: cookies.map(|name| name.as_str().into()).collect(),
            user,
            body: config
                .forward_body
                .then(|| usize::try_from(config.max_body_size).unwrap_or(MOST_KEPT)),
            answer: config
                .max_response_body_size
                .and_then(|limit| usize::try_from(limit).ok()),
            base: (!config.preserve_location_header).then_some(base),
            signin,
        })
    }

    /// Says whom to ask.
    pub fn ask(&mut self, authority: Arc<Service>) {
        self.authority = Some(authority);
    }

    /// The service that is asked.
    pub fn authority(&self) -> Option<&Arc<Service>> {
        self.authority.as_ref()
    }

    /// The size up to which the request's body is kept for the authority; `None` if it does not get it.
    pub fn keeps_bodies(&self) -> Option<usize> {
        self.body
    }

    /// How much of the authority's answer is awaited before anything is decided.
    pub fn keeps_answers(&self) -> usize {
        self.answer.unwrap_or(AWAITED)
    }

    /// Whether an answer longer than [`Self::keeps_answers`] refuses the request.
    pub fn limits_answers(&self) -> bool {
        self.answer.is_some()
    }

    /// What the authority is asked about a request.
    pub fn question(&self, exchange: &Exchange) -> RequestHead {
        self.question.about(exchange)
    }

    /// Acts on the authority's answer: the request gets what it may take along from it, or the client gets the answer.
    pub fn judge(&self, exchange: &mut Exchange, mut head: Parts, body: Body) -> Verdict {
        if let Some(name) = &self.user
            && let Some(user) = head.headers.get(name)
            && let Ok(user) = ByteString::try_from(user.as_bytes())
        {
            exchange.user = Some(user);
        }
        if head.status.is_success() {
            self.admit(exchange, &head.headers);
            return Verdict::Pass(self.cookies(&head.headers));
        }
        if head.status == StatusCode::UNAUTHORIZED
            && let Some(url) = &self.signin
        {
            let mut response = status(StatusCode::FOUND);
            response.headers_mut().insert(LOCATION, url.clone());
            return Verdict::Refuse(Box::new(response));
        }
        // The body is sent on without what may follow it.
        head.headers.remove(TRAILER);
        if let Some(base) = &self.base
            && let Some(location) = head.headers.get(LOCATION)
            && let Some(resolved) = base.resolve(location)
        {
            head.headers.insert(LOCATION, resolved);
        }
        Verdict::Refuse(Box::new(Response::from_parts(head, body)))
    }

    /// Puts the authority's cookies into the answer, in place of those that the server gave the same names.
    pub fn add_cookies(&self, cookies: Box<[HeaderValue]>, response: &mut Response) {
        if cookies.is_empty() || self.cookies.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        let own = headers.get_all(SET_COOKIE).iter().cloned();
        let kept: Vec<HeaderValue> = own.filter(|cookie| !self.gives(cookie)).collect();
        headers.remove(SET_COOKIE);
        let given = cookies.into_iter().filter(|cookie| self.gives(cookie));
        for cookie in kept.into_iter().chain(given) {
            headers.append(SET_COOKIE, cookie);
        }
    }

    fn admit(&self, exchange: &mut Exchange, answer: &HeaderMap) {
        if self.vouched.is_empty() {
            return;
        }
        let headers = &mut exchange.request.headers;
        self.vouched.strip(headers);
        self.vouched.copy(answer, headers);
        if matches!(exchange.body, Body::Stream(_)) {
            exchange.body = Vouched::guard(&self.vouched, exchange.body.take());
        }
    }

    /// All of them: that there is one already changes the answer.
    fn cookies(&self, answer: &HeaderMap) -> Box<[HeaderValue]> {
        if self.cookies.is_empty() {
            return Box::default();
        }
        answer.get_all(SET_COOKIE).iter().cloned().collect()
    }

    fn gives(&self, cookie: &HeaderValue) -> bool {
        let text = cookie.as_bytes();
        let end = memchr::memchr2(b'=', b';', text).unwrap_or(text.len());
        let name = text[..end].trim_ascii();
        self.cookies.iter().any(|own| own.as_bytes() == name)
    }
}

/// An answer without a body.
pub fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

fn header_name(name: &str, field: &str, report: &mut Report<'_>) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| report.error(field, format!("{name:?} is not a header name")))
        .ok()
}

/// Names of header fields in a list option.
fn header_names(
    names: &[String],
    option: &str,
    report: &mut Report<'_>,
) -> Option<Vec<HeaderName>> {
    let names = names.iter().enumerate();
    names
        .map(|(position, name)| header_name(name, &format!("{option}[{position}]"), report))
        .collect()
}

const UNFIT: &str = "holds characters that no header may hold";
/// The largest body kept for an authority when the configuration sets no limit.
const MOST_KEPT: usize = 64 << 20;
/// How much of an answer of any size is awaited. What is longer is passed on as it comes, or not read.
const AWAITED: usize = 64 << 10;

#[cfg(test)]
mod tests;
