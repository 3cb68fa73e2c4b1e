//! `headers`: sets and removes header fields, answers CORS preflights, adds security headers and refuses unknown hosts.
//!
//! Outside in: CORS, custom fields, security. So a custom response field wins over a security header, and an allowed host is checked
//! after a custom `Host` was set.

mod cors;
mod security;

use std::collections::BTreeMap;

use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, header};

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
        warn_of_inert_options(config, report);
        let request = RequestEdits::build(&config.custom_request_headers, report);
        let response = response_edits(&config.custom_response_headers, report);
        let cors = Cors::build(config, report);
        let security = Security::build(config, report);
        Some(Self {
            request: request?,
            response: response?,
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
    fn build(config: &BTreeMap<String, String>, report: &mut Report<'_>) -> Option<Self> {
        let mut edits = Self::default();
        let mut usable = true;
        for (name, value) in config {
            let field = format!("customRequestHeaders.{name}");
            let Some((header, parsed)) = edit(&field, name, value, report) else {
                usable = false;
                continue;
            };
            if header == header::HOST {
                edits.host = (!value.is_empty()).then(|| value.as_str().into());
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
        usable.then_some(edits)
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

fn response_edits(config: &BTreeMap<String, String>, report: &mut Report<'_>) -> Option<Vec<Edit>> {
    let mut edits = Vec::with_capacity(config.len());
    let mut usable = true;
    for (name, value) in config {
        let field = format!("customResponseHeaders.{name}");
        match edit(&field, name, value, report) {
            None => usable = false,
            Some((header, _)) if is_of_the_hop(&header) => {
                report.warning(&field, "is decided per connection and is not set");
            }
            Some(edit) => edits.push(edit),
        }
    }
    usable.then_some(edits)
}

fn edit(field: &str, name: &str, value: &str, report: &mut Report<'_>) -> Option<Edit> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        report.error(field, format!("{name:?} is not a header name"));
        return None;
    };
    if value.is_empty() {
        return Some((header, None));
    }
    Some((header, Some(header_value(field, value, report)?)))
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

fn warn_of_inert_options(config: &Config, report: &mut Report<'_>) {
    let inert = [
        ("featurePolicy", config.feature_policy.is_some()),
        ("sslForceHost", config.ssl_force_host.is_some()),
        ("sslHost", config.ssl_host.is_some()),
        ("sslRedirect", config.ssl_redirect.is_some()),
        (
            "sslTemporaryRedirect",
            config.ssl_temporary_redirect.is_some(),
        ),
    ];
    for (field, _) in inert.into_iter().filter(|(_, set)| *set) {
        report.warning(
            field,
            if field == "featurePolicy" {
                "is without effect; its successor is `permissionsPolicy`"
            } else {
                "is without effect; use a `redirectScheme` middleware"
            },
        );
    }
}

#[cfg(test)]
mod tests;
