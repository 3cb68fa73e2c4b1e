//! The closed sets a request may appear under in a metric: method, protocol, TLS session, values of configured headers.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, OnceLock},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use memchr::memmem::Finder;

/// A method as a label. Methods nobody registered share one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Pri,
    Extension,
}

impl MethodLabel {
    /// The label of `method`.
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::DELETE => Self::Delete,
            Method::CONNECT => Self::Connect,
            Method::OPTIONS => Self::Options,
            Method::TRACE => Self::Trace,
            Method::PATCH => Self::Patch,
            _ if method.as_str() == "PRI" => Self::Pri,
            _ => Self::Extension,
        }
    }

    /// The label's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Pri => "PRI",
            Self::Extension => "EXTENSION_METHOD",
        }
    }
}

/// What a request's headers say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Protocol {
    #[default]
    Http,
    WebSocket,
    Sse,
    Grpc,
    GrpcWeb,
}

impl Protocol {
    /// The protocol of a request with these headers, of which `upgrade` was taken off before.
    pub fn of(headers: &HeaderMap, upgrade: Option<&HeaderValue>) -> Self {
        if upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Self::WebSocket;
        }
        if let Some(accept) = headers.get(ACCEPT)
            && EVENT_STREAM.find(accept.as_bytes()).is_some()
        {
            return Self::Sse;
        }
        match headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) {
            Some(kind) if kind.starts_with(b"application/grpc-web") => Self::GrpcWeb,
            Some(kind) if kind.starts_with(b"application/grpc") => Self::Grpc,
            _ => Self::Http,
        }
    }

    /// The label's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
        }
    }
}

/// Built once: building a searcher costs more than searching.
static EVENT_STREAM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("text/event-stream"));

/// Version and cipher suite of a TLS session; looked up once per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsLabel(u8);

impl TlsLabel {
    /// The label of a session, from its version (`1.3`) and the IANA name of its cipher suite.
    pub fn of(version: &str, cipher: &str) -> Self {
        let known = TLS_LABELS
            .iter()
            .position(|label| *label == (version, cipher));
        Self(known.unwrap_or(TLS_LABELS.len() - 1) as u8)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The sessions rustls can negotiate; the last entry stands for what a later version may add.
pub(super) const TLS_LABELS: [(&str, &str); 10] = [
    ("1.3", "TLS_AES_128_GCM_SHA256"),
    ("1.3", "TLS_AES_256_GCM_SHA384"),
    ("1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("1.2", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("unknown", "unknown"),
];

/// The values a request's headers have for the configured header labels, one byte per label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HeaderLabels([u8; MAX_HEADER_LABELS]);

impl HeaderLabels {
    pub(super) fn hash(self) -> usize {
        u64::from_le_bytes(self.0) as usize
    }
}

/// The configured header labels and every value seen so far. Values come from clients, so there is room for [`MAX_VALUES`] per label;
/// all further ones are called `other`.
#[derive(Debug, Default)]
pub(super) struct HeaderLabelSet {
    labels: Vec<HeaderLabel>,
}

impl HeaderLabelSet {
    /// The labels of `metrics.prometheus.headerLabels`, label name to header name. What cannot be a label is reported and left out.
    pub(super) fn new(configured: &BTreeMap<String, String>) -> Self {
        let mut labels = Vec::new();
        for (name, header) in configured {
            match HeaderLabel::new(name, header) {
                Ok(_) if labels.len() == MAX_HEADER_LABELS => {
                    tracing::warn!(
                        "metrics.prometheus.headerLabels.{name}: left out, at most {MAX_HEADER_LABELS} labels are exported"
                    );
                }
                Ok(label) => labels.push(label),
                Err(reason) => {
                    tracing::warn!("metrics.prometheus.headerLabels.{name}: left out, {reason}");
                }
            }
        }
        Self { labels }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels of a request.
    pub(super) fn of(&self, host: &str, headers: &HeaderMap) -> HeaderLabels {
        let mut found = HeaderLabels::default();
        for (place, label) in found.0.iter_mut().zip(&self.labels) {
            *place = if label.header == http::header::HOST {
                label.intern(host.as_bytes())
            } else {
                let value = headers.get(&label.header);
                label.intern(value.map_or(b"", HeaderValue::as_bytes))
            };
        }
        found
    }

    /// Names and values of `labels`.
    pub(super) fn texts(&self, labels: HeaderLabels) -> impl Iterator<Item = (&str, &str)> {
        let known = self.labels.iter().zip(labels.0);
        known.map(|(label, value)| (&*label.name, label.text(value)))
    }
}

#[derive(Debug)]
struct HeaderLabel {
    name: String,
    header: HeaderName,
    values: [OnceLock<Box<str>>; MAX_VALUES],
}

impl HeaderLabel {
    fn new(name: &str, header: &str) -> Result<Self, &'static str> {
        let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if name.starts_with(|letter: char| letter.is_ascii_digit())
            || !name.chars().all(letters)
            || name.is_empty()
        {
            return Err(
                "a label name consists of letters, digits and _ and does not start with a digit",
            );
        }
        if RESERVED.contains(&name) || name.starts_with("__") {
            return Err("the metric has a label of this name already");
        }
        Ok(Self {
            name: name.to_owned(),
            header: HeaderName::try_from(header).map_err(|_| "that is no header name")?,
            values: std::array::from_fn(|_| OnceLock::new()),
        })
    }

    /// 0 for no value, else the place of the value plus one, or [`OTHER`].
    fn intern(&self, value: &[u8]) -> u8 {
        if value.is_empty() {
            return 0;
        }
        let value = String::from_utf8_lossy(&value[..value.len().min(MAX_VALUE_LENGTH)]);
        let start = value.bytes().fold(0_usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        for step in 0..MAX_VALUES {
            let place = (start + step) % MAX_VALUES;
            if **self.values[place].get_or_init(|| (*value).into()) == *value {
                return place as u8 + 1;
            }
        }
        OTHER
    }

    fn text(&self, value: u8) -> &str {
        match value {
            0 => "",
            OTHER => "other",
            place => {
                let value = self.values[usize::from(place) - 1].get();
                value.map_or("", |value| value)
            }
        }
    }
}

/// Labels that request counts have anyway.
const RESERVED: [&str; 6] = [
    "code",
    "method",
    "protocol",
    "entrypoint",
    "router",
    "service",
];
/// How many header labels are exported.
const MAX_HEADER_LABELS: usize = 8;
/// How many different values of one header are exported.
const MAX_VALUES: usize = 100;
const MAX_VALUE_LENGTH: usize = 128;
const OTHER: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::{
        HeaderLabelSet, MAX_HEADER_LABELS, MAX_VALUES, MethodLabel, Protocol, TLS_LABELS, TlsLabel,
    };

    #[test]
    fn methods_outside_the_registered_ones_share_a_label() {
        let cases = [
            ("GET", "GET"),
            ("PATCH", "PATCH"),
            ("PRI", "PRI"),
            ("get", "EXTENSION_METHOD"),
            ("PROPFIND", "EXTENSION_METHOD"),
        ];
        for (method, expected) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(MethodLabel::of(&method).as_str(), expected);
        }
    }

    #[test]
    fn protocol_is_told_by_the_headers() {
        let cases = [
            ("x", "", None, "http"),
            ("x", "", Some("WebSocket"), "websocket"),
            ("x", "", Some("h2c"), "http"),
            ("accept", "text/html, text/event-stream;q=0.9", None, "sse"),
            ("content-type", "application/grpc+proto", None, "grpc"),
            (
                "content-type",
                "application/grpc-web-text",
                None,
                "grpc-web",
            ),
            ("content-type", "application/json", None, "http"),
        ];
        for (name, value, upgrade, expected) in cases {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_static(value);
            headers.insert(HeaderName::from_static(name), value);
            let upgrade = upgrade.map(HeaderValue::from_static);
            let protocol = Protocol::of(&headers, upgrade.as_ref());
            assert_eq!(protocol.as_str(), expected, "{headers:?} {upgrade:?}");
        }
    }

    #[test]
    fn tls_sessions_fall_back_to_unknown() {
        let text = |version, cipher| TLS_LABELS[TlsLabel::of(version, cipher).index()];
        assert_eq!(
            text("1.3", "TLS_AES_128_GCM_SHA256"),
            ("1.3", "TLS_AES_128_GCM_SHA256")
        );
        assert_eq!(text("1.2", "TLS_NEW"), ("unknown", "unknown"));
    }

    #[test]
    fn header_values_are_bounded_and_cleaned() {
        let header = HeaderName::from_static("x-tenant");
        let set = HeaderLabelSet::new(&BTreeMap::from([
            ("tenant".into(), "X-Tenant".into()),
            ("at".into(), "Host".into()),
        ]));
        let labels = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(header.clone(), HeaderValue::from_bytes(value).unwrap());
            set.of("h.example", &headers)
        };
        let text = |value: &[u8]| -> Vec<(String, String)> {
            let labels = labels(value);
            set.texts(labels)
                .map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        let expected = |value: &str| {
            vec![
                ("at".to_owned(), "h.example".to_owned()),
                ("tenant".to_owned(), value.to_owned()),
            ]
        };

        assert_eq!(text(b"blue"), expected("blue"));
        assert_eq!(labels(b"blue"), labels(b"blue"));
        assert_ne!(labels(b"blue"), labels(b"green"));
        assert_eq!(text(b""), expected(""));
        assert_eq!(text(b"a\xffb"), expected("a\u{fffd}b"));
        assert_eq!(labels(b"a\xffb"), labels(b"a\xffb"));
        assert_eq!(text(&[b'x'; 4000]), expected(&"x".repeat(128)));
        for number in 0..MAX_VALUES {
            labels(format!("value {number}").as_bytes());
        }
        assert_eq!(text(b"one too many"), expected("other"));
        assert_eq!(text(b"blue"), expected("blue"));
    }

    #[test]
    fn impossible_header_labels_are_left_out() {
        let mut labels: BTreeMap<String, String> = [
            ("code", "x"),
            ("", "x"),
            ("1a", "x"),
            ("a-b", "x"),
            ("__a", "x"),
            ("ok", "a b"),
            ("fine", "X-A"),
        ]
        .map(|(name, header)| (name.to_owned(), header.to_owned()))
        .into();
        let names = |labels: &BTreeMap<String, String>| -> Vec<String> {
            let set = HeaderLabelSet::new(labels);
            set.texts(set.of("", &HeaderMap::new()))
                .map(|(name, _)| name.to_owned())
                .collect()
        };
        assert_eq!(names(&labels), ["fine"]);
        labels.extend((0..20).map(|number| (format!("l{number}"), "x".to_owned())));
        assert_eq!(names(&labels).len(), MAX_HEADER_LABELS);
    }
}
