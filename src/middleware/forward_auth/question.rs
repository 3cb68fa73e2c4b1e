//! What the authority is asked: the request's head, with the forwarding headers that it may believe.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use super::header_names;
use crate::{
    config::routing::ForwardAuth as Config,
    exchange::{
        Exchange, RequestHead, Target,
        forwarded::{
            X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO,
            append_forwarded_for, is_managed, port_of, shared_value,
        },
    },
    middleware::report::Report,
};

/// How requests are turned into questions.
#[derive(Debug)]
pub(super) struct Question {
    target: Target,
    trust: Trust,
    /// The only fields of the client that are sent; `None` for all.
    only: Option<Box<[HeaderName]>>,
    same_method: bool,
}

/// `trustForwardHeader`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Not set: what is not overwritten is sent as it came.
    Partly,
    Never,
    Fully,
}

impl Question {
    pub(super) fn build(config: &Config, target: Target, report: &mut Report<'_>) -> Option<Self> {
        let only = match &*config.auth_request_headers {
            [] => None,
            names => Some(header_names(names, "authRequestHeaders", report)?.into()),
        };
        Some(Self {
            target,
            trust: match config.trust_forward_header {
                None => Trust::Partly,
                Some(false) => Trust::Never,
                Some(true) => Trust::Fully,
            },
            only,
            same_method: config.preserve_request_method,
        })
    }

    pub(super) fn about(&self, exchange: &Exchange) -> RequestHead {
        let request = &exchange.request;
        let mut headers = self.of_client(&request.headers);
        self.set_forwarded(exchange, &mut headers);
        RequestHead {
            method: match self.same_method {
                true => request.method.clone(),
                false => Method::GET,
            },
            version: Version::HTTP_11,
            host: bytestring::ByteString::new(),
            target: self.target.clone(),
            headers,
            upgrade: None,
            accepts_trailers: false,
            expects_continue: false,
        }
    }

    /// What the client said, as far as the authority gets to see it.
    fn of_client(&self, said: &HeaderMap) -> HeaderMap {
        let mut headers = match &self.only {
            None => said.clone(),
            Some(only) => {
                let wanted = |name: &HeaderName| {
                    only.contains(name) || (self.trust == Trust::Fully && is_managed(name))
                };
                let fields = said.iter().filter(|(name, _)| wanted(name));
                let fields = fields.map(|(name, value)| (name.clone(), value.clone()));
                fields.collect()
            }
        };
        if let Some(kept) = headers.remove(header::CONNECTION) {
            let names = kept.as_bytes().split(|byte| *byte == b',');
            for name in names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()) {
                headers.remove(name);
            }
        }
        // They are about the body, which is framed anew if it is sent at all.
        for name in [header::CONTENT_LENGTH, header::TRAILER, header::EXPECT] {
            headers.remove(name);
        }
        if self.trust == Trust::Never {
            let managed = headers.keys().filter(|name| is_managed(name)).cloned();
            let managed: Vec<HeaderName> = managed.collect();
            for name in managed {
                headers.remove(name);
            }
        }
        headers
    }

    fn set_forwarded(&self, exchange: &Exchange, headers: &mut HeaderMap) {
        let (request, connection) = (&exchange.request, &exchange.connection);
        let fully = self.trust == Trust::Fully;
        headers.remove(&X_FORWARDED_FOR);
        if fully {
            for prior in request.headers.get_all(&X_FORWARDED_FOR) {
                headers.append(&X_FORWARDED_FOR, prior.clone());
            }
        }
        append_forwarded_for(headers, &connection.peer_ip);
        let mut set = |name: &HeaderName, value: &dyn Fn() -> Option<HeaderValue>| {
            let said = request.headers.get(name).filter(|said| !said.is_empty());
            match said.filter(|_| fully).cloned().or_else(value) {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        };
        set(&X_FORWARDED_METHOD, &|| {
            HeaderValue::from_str(request.method.as_str()).ok()
        });
        let proto = if connection.is_tls() { "https" } else { "http" };
        set(&X_FORWARDED_PROTO, &|| {
            Some(HeaderValue::from_static(proto))
        });
        set(&X_FORWARDED_HOST, &|| {
            shared_value(&request.host).filter(|host| !host.is_empty())
        });
        set(&X_FORWARDED_URI, &|| shared_value(request.target.text()));
        if self.trust != Trust::Partly {
            let default = if connection.is_tls() { "443" } else { "80" };
            set(&X_FORWARDED_PORT, &|| match port_of(&request.host) {
                Some(port) => HeaderValue::from_str(port).ok(),
                None => Some(HeaderValue::from_static(default)),
            });
        }
    }
}

static X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
