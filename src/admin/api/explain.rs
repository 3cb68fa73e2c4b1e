//! `/api/explain`: the way a request would take. The question is read here; the snapshot answers it.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::{error, ok, query::Query};
use crate::exchange::Response;

/// Whoever can tell the way of a request.
pub trait Explainer {
    /// The entry point, every candidate router with the reason it lost, and what the winner does; or why the question makes no sense.
    fn explain(&self, request: &ExplainRequest) -> Result<Value, String>;
}

/// A request to be explained: `?url=...&method=...&header=Name:value&header=...&clientIp=...&entryPoint=...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainRequest {
    pub url: String,
    pub method: Method,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who asks; this machine if unset.
    pub client_ip: Option<IpAddr>,
    /// The entry point to come in by; otherwise the URL decides.
    pub entry_point: Option<String>,
}

impl ExplainRequest {
    fn from_query(query: &Query) -> Result<Self, String> {
        let method = match query.get("method") {
            "" => Method::GET,
            method => Method::from_bytes(method.as_bytes())
                .map_err(|_| format!("invalid request: method: {method}"))?,
        };
        let url = query.get("url");
        if url.is_empty() {
            return Err("invalid request: url is missing".to_owned());
        }
        let client_ip = match query.get("clientIp") {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|_| format!("invalid request: clientIp: {text}"))?,
            ),
        };
        Ok(Self {
            client_ip,
            entry_point: Some(query.get("entryPoint").to_owned()).filter(|name| !name.is_empty()),
            url: url.to_owned(),
            method,
            headers: query.all("header").map(header).collect::<Result<_, _>>()?,
        })
    }
}

pub(super) fn answer(query: &Query, explainer: &dyn Explainer) -> Response {
    let explained =
        ExplainRequest::from_query(query).and_then(|request| explainer.explain(&request));
    match explained {
        Ok(explained) => ok(&explained),
        Err(reason) => error(StatusCode::BAD_REQUEST, &reason),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let field = text.split_once(':').and_then(|(name, value)| {
        let name = HeaderName::try_from(name.trim()).ok()?;
        Some((name, HeaderValue::try_from(value.trim()).ok()?))
    });
    field.ok_or_else(|| format!("invalid request: header: {text}"))
}
