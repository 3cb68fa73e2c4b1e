//! `redirectRegex` and `redirectScheme`: answer with another URL.

mod location;

use std::borrow::Cow;

use http::{HeaderValue, Method, StatusCode, header::LOCATION};
use regex::bytes::Regex;

use super::{Flow, report::Report};
use crate::{
    config::routing::{RedirectRegex, RedirectScheme},
    exchange::{
        Exchange, RequestHead,
        fault::status_response,
        forwarded::{X_FORWARDED_PROTO, port_of},
    },
};

/// Answers with another URL, or lets the request pass if that would be the one it came for.
#[derive(Debug)]
pub struct Redirect {
    to: Destination,
    permanent: bool,
}

#[derive(Debug)]
enum Destination {
    /// What becomes of the request's URL when the expression is replaced in it.
    Replaced {
        expression: Regex,
        replacement: String,
    },
    /// The request's URL with another scheme and port.
    Scheme {
        scheme: String,
        /// `:port`, or empty for the scheme's own.
        port: String,
    },
}

impl Redirect {
    pub(super) fn by_regex(config: &RedirectRegex, report: &mut Report<'_>) -> Option<Self> {
        Some(Self {
            to: Destination::Replaced {
                expression: report.regex("regex", &config.regex)?,
                replacement: config.replacement.clone(),
            },
            permanent: config.permanent,
        })
    }

    pub(super) fn to_scheme(config: &RedirectScheme, report: &mut Report<'_>) -> Option<Self> {
        if config.scheme.is_empty() {
            report.error_with_hint("scheme", "is required", "usually `https`");
            return None;
        }
        let (scheme, port) = (config.scheme.clone(), config.port.as_str());
        let port = if port.is_empty() || default_port(&scheme) == Some(port) {
            String::new()
        } else {
            format!(":{port}")
        };
        Some(Self {
            to: Destination::Scheme { scheme, port },
            permanent: config.permanent,
        })
    }

    /// Whether it is a `redirectRegex`.
    pub(super) fn is_by_regex(&self) -> bool {
        matches!(self.to, Destination::Replaced { .. })
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let tls = exchange.connection.is_tls();
        let head = &exchange.request;
        let location = match &self.to {
            Destination::Replaced {
                expression,
                replacement,
            } => replaced(expression, replacement, &url(head, tls)),
            Destination::Scheme { scheme, port } => with_scheme(head, tls, scheme, port),
        };
        match location {
            Outcome::Pass => Flow::Continue,
            Outcome::Malformed => Flow::respond(status_response(StatusCode::BAD_GATEWAY)),
            Outcome::Location(location) => {
                let mut response = status_response(self.status(&head.method));
                response.headers_mut().insert(LOCATION, location);
                Flow::respond(response)
            }
        }
    }

    /// Only GET may be repeated as GET, so every other method gets a code that keeps it.
    fn status(&self, method: &Method) -> StatusCode {
        match (self.permanent, *method == Method::GET) {
            (false, true) => StatusCode::FOUND,
            (false, false) => StatusCode::TEMPORARY_REDIRECT,
            (true, true) => StatusCode::MOVED_PERMANENTLY,
            (true, false) => StatusCode::PERMANENT_REDIRECT,
        }
    }
}

enum Outcome {
    Pass,
    Location(HeaderValue),
    Malformed,
}

/// The URL as the expression sees it: its scheme says how the client reached us, whatever proxies before us said.
fn url(head: &RequestHead, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}{}", head.host, head.target.as_str())
}

fn replaced(expression: &Regex, replacement: &str, url: &str) -> Outcome {
    let Cow::Owned(replaced) = expression.replace_all(url.as_bytes(), replacement.as_bytes())
    else {
        return Outcome::Pass;
    };
    if replaced == url.as_bytes() {
        return Outcome::Pass;
    }
    std::str::from_utf8(&replaced)
        .ok()
        .and_then(location::normal_form)
        .and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok())
        .map_or(Outcome::Malformed, Outcome::Location)
}

fn with_scheme(head: &RequestHead, tls: bool, scheme: &str, port: &str) -> Outcome {
    let current = client_scheme(head, tls);
    let client_port = port_of(&head.host);
    let host = client_port.map_or(&*head.host, |port| {
        &head.host[..head.host.len() - port.len() - 1]
    });
    let same_port = match client_port {
        Some(client_port) if default_port(current) != Some(client_port) => {
            port.strip_prefix(':') == Some(client_port)
        }
        _ => port.is_empty(),
    };
    if current == scheme && same_port {
        return Outcome::Pass;
    }
    let location = format!("{scheme}://{host}{port}{}", head.target.as_str());
    HeaderValue::try_from(location).map_or(Outcome::Malformed, Outcome::Location)
}

/// The scheme the client used: what a trusted proxy says, else that of the connection. A WebSocket starts as HTTP.
pub(super) fn client_scheme(head: &RequestHead, tls: bool) -> &'static str {
    let said = head
        .headers
        .get(&X_FORWARDED_PROTO)
        .map_or(&[][..], HeaderValue::as_bytes);
    let is = |name: &str| said.eq_ignore_ascii_case(name.as_bytes());
    if is("http") || is("ws") {
        "http"
    } else if is("https") || is("wss") || tls {
        "https"
    } else {
        "http"
    }
}

fn default_port(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
