//! Header fields that only the authority may set: taken off the request, in every spelling that a server may take for them, and put
//! on again from its answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName,
    header::{CONTENT_LENGTH, HOST, TRAILER},
};
use http_body::{Frame, SizeHint};
use regex::bytes::Regex;

use super::header_names;
use crate::{
    config::routing::ForwardAuth as Config,
    exchange::{Body, Fault, forwarded::is_hop_by_hop},
    middleware::report::Report,
};

/// The names of `authResponseHeaders` and `authResponseHeadersRegex`.
#[derive(Debug)]
pub(super) struct Vouched {
    names: Box<[HeaderName]>,
    pattern: Option<Regex>,
}

impl Vouched {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        const OPTION: &str = "authResponseHeaders";
        let mut names = header_names(&config.auth_response_headers, OPTION, report)?;
        for (position, name) in names.iter().enumerate() {
            if is_framing(name) {
                let field = format!("{OPTION}[{position}]");
                report.warning(&field, "has no effect: it is not a field to be handed on");
            }
        }
        names.retain(|name| !is_framing(name));
        let pattern = match &*config.auth_response_headers_regex {
            "" => None,
            pattern => Some(report.regex("authResponseHeadersRegex", pattern)?),
        };
        Some(Self {
            names: names.into(),
            pattern,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.pattern.is_none()
    }

    /// Takes off what the client, or a middleware before, said in the authority's name.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.names {
            headers.remove(name);
        }
        if self.pattern.is_none() && !headers.keys().any(is_odd) {
            return;
        }
        let mistakable = headers.keys().filter(|name| self.could_be_meant(name));
        let mistakable: Vec<HeaderName> = mistakable.cloned().collect();
        for name in mistakable {
            headers.remove(name);
        }
    }

    /// Puts on what the authority said.
    pub(super) fn copy(&self, answer: &HeaderMap, headers: &mut HeaderMap) {
        for name in &self.names {
            for value in answer.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        let Some(pattern) = &self.pattern else { return };
        for name in answer.keys() {
            let listed = self.names.contains(name);
            if listed || is_framing(name) || !pattern.is_match(&canonical(name)) {
                continue;
            }
            for value in answer.get_all(name) {
                headers.append(name, value.clone());
            }
        }
    }

    /// A body whose trailers say nothing in the authority's name: there are servers that read trailers as headers.
    pub(super) fn guard(vouched: &Arc<Self>, body: Body) -> Body {
        Body::stream(Guarded {
            vouched: Arc::clone(vouched),
            body,
        })
    }

    /// Whether a server could take this name for one that the authority vouches for. Many read `X_User` and `X.User` as `X-User`.
    fn could_be_meant(&self, name: &HeaderName) -> bool {
        if is_framing(name) {
            return false;
        }
        let odd = is_odd(name);
        let same = |own: &HeaderName| {
            let (own, name) = (own.as_str(), name.as_str());
            own.len() == name.len() && own.bytes().map(folded).eq(name.bytes().map(folded))
        };
        if self.names.contains(name) || (odd && self.names.iter().any(same)) {
            return true;
        }
        let Some(pattern) = &self.pattern else {
            return false;
        };
        pattern.is_match(&canonical(name)) || (odd && pattern.is_match(&straightened(name)))
    }
}

/// The spelling that expressions are written for: `X-Remote-User`.
fn canonical(name: &HeaderName) -> Vec<u8> {
    in_capitals(name.as_str().bytes())
}

/// The canonical form of what an odd name may be taken for.
fn straightened(name: &HeaderName) -> Vec<u8> {
    in_capitals(name.as_str().bytes().map(folded))
}

fn in_capitals(bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut begins = true;
    let letters = bytes.map(|byte| {
        let capital = begins;
        begins = byte == b'-';
        if capital {
            byte.to_ascii_uppercase()
        } else {
            byte
        }
    });
    letters.collect()
}

fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte
    } else {
        b'-'
    }
}

/// Whether the name holds something besides letters, digits and `-`.
fn is_odd(name: &HeaderName) -> bool {
    name.as_str().bytes().any(|byte| byte != folded(byte))
}

/// Fields that say how a message is to be read, and to whom it goes: never another message's.
fn is_framing(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, TRAILER].contains(name) || is_hop_by_hop(name)
}

struct Guarded {
    vouched: Arc<Vouched>,
    body: Body,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(mut frame)) = frame else {
            return Poll::Ready(frame);
        };
        if let Some(trailers) = frame.trailers_mut() {
            self.vouched.strip(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
