//! `grpcWeb`: lets browsers call gRPC services. A call in gRPC-Web goes on as gRPC, and the answer's trailers become the last part of
//! its body, where scripts can read them.

mod body;
mod cors;

use std::sync::atomic::{AtomicU64, Ordering};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER},
};

use self::cors::Cors;
use super::Flow;
use crate::{
    config::routing::GrpcWeb as Config,
    exchange::{Exchange, Response},
};

/// Translates between gRPC-Web and gRPC.
#[derive(Debug)]
pub struct GrpcWeb {
    cors: Cors,
    /// A number no other instance has.
    id: u64,
}

/// Notes that a request was translated, for its answer.
struct Translated {
    by: u64,
    coding: Coding,
    /// The origin, if it may read the answer.
    origin: Option<HeaderValue>,
}

/// How the bytes of a body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Binary,
    /// In base64, for browsers that could not read bytes.
    Text,
}

impl Coding {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Binary => WEB,
            Self::Text => WEB_TEXT,
        }
    }
}

impl GrpcWeb {
    pub(super) fn build(config: &Config) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            cors: Cors::new(&config.allow_origins),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let head = &exchange.request;
        if head.method == Method::OPTIONS {
            return match self.cors.preflight(&head.headers) {
                Some(answer) => Flow::respond(answer),
                None => Flow::Continue,
            };
        }
        let Some((coding, content_type)) = recognised(&head.method, &head.headers) else {
            return Flow::Continue;
        };
        if self.translated(exchange).is_none() {
            exchange.hold(Translated {
                by: self.id,
                coding,
                origin: self.cors.allowed(&exchange.request.headers).cloned(),
            });
        }
        let head = &mut exchange.request;
        head.headers.insert(CONTENT_TYPE, content_type);
        head.headers.remove(CONTENT_LENGTH);
        // Servers demand this of every call, and scripts cannot say it.
        head.accepts_trailers = true;
        exchange.body = body::request(exchange.body.take(), coding);
        Flow::Continue
    }

    pub(super) fn response(&self, exchange: &mut Exchange, response: &mut Response) {
        let Some(translated) = self.translated(exchange) else {
            return;
        };
        let coding = translated.coding;
        let status = response.status();
        let headers = response.headers_mut();
        if let Some(answered) = replaced(headers, GRPC, coding.content_type()) {
            headers.insert(CONTENT_TYPE, answered);
        }
        headers.remove(TRAILER);
        cors::decorate(headers, translated.origin.as_ref());
        let may_have_body = !status.is_informational()
            && status != StatusCode::NO_CONTENT
            && status != StatusCode::NOT_MODIFIED;
        if may_have_body {
            // The trailers make the body longer.
            headers.remove(CONTENT_LENGTH);
            let inner = response.body_mut().take();
            *response.body_mut() = body::answer(inner, coding);
        }
    }

    fn translated<'e>(&self, exchange: &'e Exchange) -> Option<&'e Translated> {
        exchange.held(|note: &Translated| note.by == self.id)
    }
}

/// How a call in gRPC-Web is written, and its content type in gRPC.
fn recognised(method: &Method, headers: &HeaderMap) -> Option<(Coding, HeaderValue)> {
    if method != Method::POST {
        return None;
    }
    let content_type = headers.get(CONTENT_TYPE)?.as_bytes();
    let coding = if content_type.starts_with(WEB_TEXT.as_bytes()) {
        Coding::Text
    } else if content_type.starts_with(WEB.as_bytes()) {
        Coding::Binary
    } else {
        return None;
    };
    Some((coding, replaced(headers, coding.content_type(), GRPC)?))
}

/// The content type with `to` in place of `from`, with what follows it, such as `+proto`.
fn replaced(headers: &HeaderMap, from: &str, to: &str) -> Option<HeaderValue> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    content_type
        .contains(from)
        .then(|| HeaderValue::try_from(content_type.replacen(from, to, 1)).ok())
        .flatten()
}

/// A field's name as it is usually written: `Grpc-Status`.
fn usual_spelling(name: &HeaderName) -> String {
    let mut upper = true;
    let letters = name.as_str().chars().map(|letter| {
        let written = if upper {
            letter.to_ascii_uppercase()
        } else {
            letter
        };
        upper = letter == '-';
        written
    });
    letters.collect()
}

const GRPC: &str = "application/grpc";
const WEB: &str = "application/grpc-web";
const WEB_TEXT: &str = "application/grpc-web-text";

#[cfg(test)]
mod tests;
