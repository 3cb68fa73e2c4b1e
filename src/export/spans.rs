//! Traces of requests in the words of OpenTelemetry and of Traefik: names, kinds and attributes.

use std::{collections::BTreeSet, time::Duration};

use http::{HeaderValue, Version};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::KeyValue,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use prost::Message;

use super::{
    batch::Encode,
    values::{nanoseconds, number, scope, text, texts},
};
use crate::{
    config::install::Tracing,
    observe::{Call, Captured, Part, ServerCall, SpanId, SpanRecord, TraceRecord},
};

/// Turns traces into messages.
#[derive(Debug)]
pub(super) struct Spans {
    resource: Resource,
    /// Query parameters whose values may be shown.
    safe: BTreeSet<String>,
}

impl Spans {
    pub(super) fn new(options: &Tracing, resource: Resource) -> Self {
        Self {
            resource,
            safe: options.safe_query_params.iter().cloned().collect(),
        }
    }

    fn spans(&self, record: &TraceRecord, into: &mut Vec<Span>) {
        let server = record.parent.map_or(0, |_| IS_REMOTE);
        let mut span = base(
            record,
            record.span,
            record.parent,
            Duration::ZERO..record.took,
        );
        span.name = record.arrival.method.to_string();
        span.kind = SpanKind::Server.into();
        span.flags |= server;
        span.attributes = self.arrival(&record.arrival);
        span.attributes
            .push(number("http.response.status_code", record.status.into()));
        headers(
            &mut span.attributes,
            "http.response.header",
            &record.response_headers,
        );
        if record.status >= 500 {
            span.status = Some(failed(""));
        }
        into.push(span);
        for child in &record.spans {
            into.push(self.child(record, child));
        }
    }

    fn child(&self, record: &TraceRecord, child: &SpanRecord) -> Span {
        let parent = child.parent.and_then(|index| record.spans.get(index));
        let parent = parent.map_or(record.span, |parent| parent.id);
        let times = child.start..child.end.unwrap_or(record.took);
        let mut span = base(record, child.id, Some(parent), times);
        if let Some(error) = child.error {
            span.status = Some(failed(error));
        }
        let (name, kind, attributes) = match &child.part {
            Part::Router {
                router,
                service,
                rule,
            } => (
                "Router",
                SpanKind::Internal,
                vec![
                    text("traefik.service.name", &**service),
                    text("traefik.router.name", &**router),
                    text("http.route", &**rule),
                ],
            ),
            Part::Service(service) => (
                "Service",
                SpanKind::Internal,
                vec![text("traefik.service.name", &**service)],
            ),
            Part::Middleware { name, kind } => (
                *kind,
                SpanKind::Internal,
                vec![text("traefik.middleware.name", &**name)],
            ),
            Part::Call(call) => {
                let failing = call.status.is_some_and(|status| status.as_u16() >= 400);
                if failing {
                    span.status = Some(failed(""));
                }
                (call.name, SpanKind::Client, self.call(call))
            }
        };
        span.name = name.to_owned();
        span.kind = kind.into();
        span.attributes = attributes;
        if child.resent > 0 {
            let resent = number("http.request.resend_count", child.resent.into());
            span.attributes.push(resent);
        }
        span
    }

    fn arrival(&self, call: &ServerCall) -> Vec<KeyValue> {
        let (path, query) = split(&call.target);
        let path = percent_decode_str(path).decode_utf8_lossy();
        let (peer, port) = (call.peer.ip().to_string(), call.peer.port().into());
        let mut attributes = vec![
            text("entry_point", &*call.entry_point),
            text("http.request.method", call.method.as_str()),
            text("network.protocol.version", version(call.version)),
            number(
                "http.request.body.size",
                call.size
                    .map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)),
            ),
            text("url.path", path),
            text("url.query", self.redacted(query)),
            text("url.scheme", value(&call.scheme)),
            text("user_agent.original", agent(call.user_agent.as_ref())),
            text("server.address", &*call.host),
            text("network.peer.address", &*peer),
            text("client.address", peer.clone()),
            number("client.port", port),
            number("network.peer.port", port),
        ];
        headers(&mut attributes, "http.request.header", &call.headers);
        attributes
    }

    fn call(&self, call: &Call) -> Vec<KeyValue> {
        let server = Address::of(&call.url);
        let (path, query) = split(&call.target);
        let mut url = format!("{}://{}{path}", server.scheme, server.authority);
        if !query.is_empty() {
            url = format!("{url}?{}", self.redacted(query));
        }
        let mut attributes = vec![
            text("http.request.method", call.method.as_str()),
            text("network.protocol.version", "1.1"),
            text("url.full", url),
            text("url.scheme", server.scheme),
            text("user_agent.original", agent(call.user_agent.as_ref())),
            text("network.peer.address", server.host),
            number("network.peer.port", server.port.into()),
            text("server.address", server.host),
            number("server.port", server.port.into()),
        ];
        headers(&mut attributes, "http.request.header", &call.headers);
        if let Some(status) = call.status {
            let status = number("http.response.status_code", status.as_u16().into());
            attributes.push(status);
        }
        headers(
            &mut attributes,
            "http.response.header",
            &call.response_headers,
        );
        attributes
    }

    /// A query by its names in order, with what may not be shown replaced.
    fn redacted(&self, query: &str) -> String {
        let decoded = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let mut pairs: Vec<(String, String)> = pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let name = decoded(name);
                let value = match self.safe.contains(&name) {
                    true => decoded(value),
                    false => "REDACTED".to_owned(),
                };
                (name, value)
            })
            .collect();
        pairs.sort_by(|one, other| one.0.cmp(&other.0));
        // How often something secret was said is nobody's business either.
        pairs.dedup_by(|one, other| one.0 == other.0 && !self.safe.contains(&one.0));
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        pairs.join("&")
    }
}

impl Encode for Spans {
    type Item = Box<TraceRecord>;

    fn encode(&mut self, items: &[Box<TraceRecord>]) -> Vec<u8> {
        let mut spans = Vec::with_capacity(items.len() * 4);
        items
            .iter()
            .for_each(|record| self.spans(record, &mut spans));
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope()),
                    spans,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        request.encode_to_vec()
    }
}

fn base(
    record: &TraceRecord,
    id: SpanId,
    parent: Option<SpanId>,
    times: std::ops::Range<Duration>,
) -> Span {
    let state = record.state.as_ref().map(value).unwrap_or_default();
    Span {
        trace_id: record.trace.0.to_be_bytes().to_vec(),
        span_id: id.0.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |id| id.0.to_be_bytes().to_vec()),
        trace_state: state,
        status: Some(Status::default()),
        flags: SAMPLED | KNOWS_IF_REMOTE,
        start_time_unix_nano: nanoseconds(record.began + times.start),
        end_time_unix_nano: nanoseconds(record.began + times.end),
        ..Span::default()
    }
}

fn failed(message: &str) -> Status {
    Status {
        message: message.to_owned(),
        code: StatusCode::Error.into(),
    }
}

fn headers(attributes: &mut Vec<KeyValue>, prefix: &str, captured: &Captured) {
    attributes.extend(
        captured
            .iter()
            .map(|(name, values)| texts(&format!("{prefix}.{name}"), values.iter().map(value))),
    );
}

fn agent(value: Option<&HeaderValue>) -> String {
    value.map(self::value).unwrap_or_default()
}

fn value(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn split(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        // As Traefik writes it.
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// Who a server's URL names.
struct Address<'u> {
    scheme: &'u str,
    authority: &'u str,
    host: &'u str,
    port: u16,
}

impl<'u> Address<'u> {
    fn of(url: &'u str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        // A name and password in a URL are nobody's business.
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let usual = if scheme == "https" { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(usual)),
            _ => (authority, usual),
        };
        Self {
            scheme: if scheme == "h2c" { "http" } else { scheme },
            authority,
            host: host.trim_start_matches('[').trim_end_matches(']'),
            port,
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED)
        .to_string()
        .replace("%20", "+")
}

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Flags of a span (`SpanFlags` of the protocol).
const SAMPLED: u32 = 1;
const KNOWS_IF_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

#[cfg(test)]
mod tests {
    use super::{Address, Spans};
    use crate::config::install::Tracing;

    #[test]
    fn queries_keep_their_secrets() {
        let options = Tracing {
            safe_query_params: vec!["ok".to_owned()],
            ..Tracing::default()
        };
        let spans = Spans::new(&options, Default::default());
        for (query, expected) in [
            ("", ""),
            ("ok=1&secret=2", "ok=1&secret=REDACTED"),
            (
                "z=1&a=2&ok=3&flag&a=5&%20=x",
                "+=REDACTED&a=REDACTED&flag=REDACTED&ok=3&z=REDACTED",
            ),
            ("ok=b%20c&ok=%26&&", "ok=b+c&ok=%26"),
        ] {
            assert_eq!(spans.redacted(query), expected, "{query}");
        }
    }

    #[test]
    fn servers_are_named_by_their_urls() {
        for (url, scheme, authority, host, port) in [
            ("http://10.0.0.1:81", "http", "10.0.0.1:81", "10.0.0.1", 81),
            ("https://a.test/base", "https", "a.test", "a.test", 443),
            ("h2c://a.test", "http", "a.test", "a.test", 80),
            (
                "http://me:pw@[::1]:8080/x",
                "http",
                "[::1]:8080",
                "::1",
                8080,
            ),
            ("http://[::1]", "http", "[::1]", "::1", 80),
        ] {
            let found = Address::of(url);
            assert_eq!(
                (found.scheme, found.authority, found.host, found.port),
                (scheme, authority, host, port),
                "{url}"
            );
        }
    }
}
