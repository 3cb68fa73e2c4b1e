//! Who may call from other origins. Credentials may always be sent: a call may carry any field.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        CONTENT_TYPE, ORIGIN, VARY,
    },
};

use super::usual_spelling;
use crate::exchange::{Body, Response};

/// The origins that may call.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<String>,
}

impl Cors {
    pub(super) fn new(origins: &[String]) -> Self {
        Self {
            origins: origins.to_vec(),
        }
    }

    /// The request's origin, if it may call.
    pub(super) fn allowed<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        let mut origins = self.origins.iter();
        origins
            .any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
            .then_some(origin)
    }

    /// The answer to a browser that asks whether it may make a call in gRPC-Web.
    pub(super) fn preflight(&self, headers: &HeaderMap) -> Option<Response> {
        let fields = headers.get(ACCESS_CONTROL_REQUEST_HEADERS)?.to_str().ok()?;
        if !fields.to_ascii_lowercase().contains("x-grpc-web") {
            return None;
        }
        let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?;
        if method.is_empty() {
            return None;
        }
        let mut response = Response::new(Body::Empty);
        let answer = response.headers_mut();
        for vary in PREFLIGHT_VARY {
            answer.append(VARY, HeaderValue::from_static(vary));
        }
        let method = METHODS
            .iter()
            .find(|known| known.eq_ignore_ascii_case(method));
        if let (Some(origin), Some(method)) = (self.allowed(headers), method) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(method),
            );
            if let Ok(fields) = HeaderValue::try_from(listed(fields)) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields);
            }
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, YES);
            answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        Some(response)
    }
}

/// Lets scripts of `origin` read the answer, and all its fields.
pub(super) fn decorate(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.append(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.append(ACCESS_CONTROL_ALLOW_CREDENTIALS, YES);
    }
    let mut exposed: Vec<String> = headers.keys().map(usual_spelling).collect();
    if !headers.contains_key(CONTENT_TYPE) {
        exposed.push("Content-Type".to_owned());
    }
    exposed.extend(["grpc-status", "grpc-message"].map(str::to_owned));
    if let Ok(exposed) = HeaderValue::try_from(exposed.join(", ")) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The names of fields in their usual spelling; what is no name is left out.
fn listed(fields: &str) -> String {
    let names = fields.split([',', ' ']).filter(|name| !name.is_empty());
    let names = names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    names
        .map(|name| usual_spelling(&name))
        .collect::<Vec<_>>()
        .join(", ")
}

const YES: HeaderValue = HeaderValue::from_static("true");
/// Methods that may be asked for.
const METHODS: [&str; 4] = ["POST", "GET", "HEAD", "OPTIONS"];
const PREFLIGHT_VARY: [&str; 3] = [
    "Origin",
    "Access-Control-Request-Method",
    "Access-Control-Request-Headers",
];
