//! `headers`: sets and removes header fields, answers CORS preflights, adds security headers and refuses unknown hosts.
//!
//! Outside in: CORS, custom fields, security. So a custom response field wins over a security header, and an allowed host is checked
//! after a custom `Host` was set.

mod cors;
mod security;

use std::collections::BTreeMap;

use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use self::{cors::Cors, security::Security};
use super::{Flow, report::Report};
use crate::{
    config::routing::Headers as Config,
    exchange::{Exchange, Response, forwarded::is_hop_by_hop},
};

/// Edits header fields both ways.
#[derive(Debug)]
pub struct Headers {
    request: RequestEdits,
    response: Vec<Edit>,
    cors: Option<Cors>,
    security: Option<Security>,
}

/// `customRequestHeaders`, taken apart.
#[derive(Debug, Default)]
struct RequestEdits {
    fields: Vec<Edit>,
    host: Option<ByteString>,
    /// `Te: trailers`, the one hop-by-hop field that may be asked for.
    trailers: bool,
    /// `X-Forwarded-For: ""` also keeps the peer out of it.
    omit_forwarded_for: bool,
}

/// Sets a field, or removes it.
type Edit = (HeaderName, Option<HeaderValue>);

impl Headers {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        if *config == Config::default() {
            report.error("", "has no option set");
            return None;
        }
        let request = RequestEdits::build(&config.custom_request_headers, report);
        let response = response_edits(&config.custom_response_headers, report);
        let cors = Cors::build(config, report);
        let security = Security::build(config, report);
        Some(Self {
            request,
            response,
            cors: cors?,
            security: security?,
        })
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        if let Some(answer) = self.cors.as_ref().and_then(|cors| cors.preflight(exchange)) {
            return Flow::respond(answer);
        }
        self.request.apply(exchange);
        if let Some(security) = &self.security
            && let Some(mut refusal) = security.refuse(exchange)
        {
            self.outer(exchange, &mut refusal);
            return Flow::respond(refusal);
        }
        Flow::Continue
    }

    pub(super) fn response(&self, exchange: &mut Exchange, response: &mut Response) {
        // As in Traefik, the server's agreement to another protocol is passed on as it is.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        if let Some(security) = &self.security {
            security.decorate(exchange, response.headers_mut());
        }
        self.outer(exchange, response);
    }

    fn outer(&self, exchange: &Exchange, response: &mut Response) {
        let headers = response.headers_mut();
        for edit in &self.response {
            apply(headers, edit);
        }
        if let Some(cors) = &self.cors {
            cors.decorate(exchange, headers);
        }
    }
}

impl RequestEdits {
    fn build(config: &BTreeMap<String, String>, report: &mut Report<'_>) -> Self {
        let mut edits = Self::default();
        for (name, value) in config {
            let field = format!("customRequestHeaders.{name}");
            // What a client says under a name that was to be set must not pass for what was to be said.
            let Some((header, parsed)) = edit(&field, name, value, report) else {
                continue;
            };
            if header == header::HOST {
                let host = parsed.as_ref().and_then(|host| host.to_str().ok());
                edits.host = host.map(Into::into);
            } else if header == header::TE && value.eq_ignore_ascii_case("trailers") {
                edits.trailers = true;
            } else if is_of_the_hop(&header) {
                report.warning(&field, "is decided per connection and is not sent on");
            } else {
                // Only the usual spelling has this second meaning in Traefik.
                edits.omit_forwarded_for |= name == "X-Forwarded-For" && value.is_empty();
                edits.fields.push((header, parsed));
            }
        }
        edits
    }

    fn apply(&self, exchange: &mut Exchange) {
        let head = &mut exchange.request;
        for edit in &self.fields {
            apply(&mut head.headers, edit);
        }
        if let Some(host) = &self.host {
            head.host = host.clone();
        }
        head.accepts_trailers |= self.trailers;
        exchange.omit_forwarded_for |= self.omit_forwarded_for;
    }
}

fn response_edits(config: &BTreeMap<String, String>, report: &mut Report<'_>) -> Vec<Edit> {
    let mut edits = Vec::with_capacity(config.len());
    for (name, value) in config {
        let field = format!("customResponseHeaders.{name}");
        match edit(&field, name, value, report) {
            None => {}
            Some((header, _)) if is_of_the_hop(&header) => {
                report.warning(&field, "is decided per connection and is not set");
            }
            Some(edit) => edits.push(edit),
        }
    }
    edits
}

/// What to do to a field. One that cannot be sent is left out, as the others are of use without it.
fn edit(field: &str, name: &str, value: &str, report: &mut Report<'_>) -> Option<Edit> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        let message = format!("{name:?} is not a header name, and left out");
        report.warning(field, message);
        return None;
    };
    // As Go does where it does not refuse them.
    let text = value.trim().replace(['\r', '\n'], " ");
    if text != value.trim() {
        report.warning(field, "holds a line break, which is sent as a blank");
    }
    if value.is_empty() {
        return Some((header, None));
    }
    let parsed = HeaderValue::from_str(&text).ok();
    if parsed.is_none() {
        let message = "holds characters that no header may hold: the header is removed";
        report.warning(field, message);
    }
    Some((header, parsed))
}

/// A value to be sent in a header.
fn header_value(field: &str, value: &str, report: &mut Report<'_>) -> Option<HeaderValue> {
    HeaderValue::from_str(value.trim())
        .map_err(|_| report.error(field, "holds characters that no header may hold"))
        .ok()
}

/// Framing and connection fields: what they say must be what we do.
fn is_of_the_hop(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || *name == header::CONTENT_LENGTH
}

fn apply(headers: &mut HeaderMap, (name, value): &Edit) {
    match value {
        Some(value) => headers.insert(name, value.clone()),
        None => headers.remove(name),
    };
}

#[cfg(test)]
mod tests;
