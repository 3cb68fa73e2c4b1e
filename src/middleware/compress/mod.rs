//! `compress`: gzip, Brotli or Zstandard for clients that take it.

mod body;
mod coding;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, VARY,
    },
};

use self::coding::{Choice, Coding, Preference};
use super::{Flow, report::Report};
use crate::{
    config::routing::Compress as Config,
    exchange::{
        Exchange, Response,
        forwarded::{has_token, joined},
    },
};

/// Compresses what servers send uncompressed.
#[derive(Debug)]
pub struct Compress {
    preference: Preference,
    types: Types,
    /// Smaller bodies of known size are left alone.
    at_least: u64,
}

/// Which content types are compressed.
#[derive(Debug)]
enum Types {
    AllExcept(Vec<String>),
    Only(Vec<String>),
}

impl Compress {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let (excluded, included) = (
            &config.excluded_content_types,
            &config.included_content_types,
        );
        if !excluded.is_empty() && !included.is_empty() {
            report.error_with_hint(
                "includedContentTypes",
                "cannot be used together with `excludedContentTypes`",
                "remove one of the two",
            );
            return None;
        }
        let types = if included.is_empty() {
            Types::AllExcept(media_types("excludedContentTypes", excluded, report)?)
        } else {
            Types::Only(media_types("includedContentTypes", included, report)?)
        };
        Some(Self {
            preference: Preference::build(config, report)?,
            types,
            at_least: match config.min_response_body_bytes {
                0 => DEFAULT_AT_LEAST,
                bytes => bytes,
            },
        })
    }

    /// Notes what the client accepts: later steps may ask the server for something else.
    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        if exchange.accept_encoding.is_none() {
            let said = exchange.request.headers.get_all(ACCEPT_ENCODING);
            exchange.accept_encoding = match said.iter().count() {
                0 => None,
                _ => joined(said.iter()),
            };
        }
        Flow::Continue
    }

    pub(super) fn response(&self, exchange: &mut Exchange, response: &mut Response) {
        if exchange.request.method == Method::HEAD || self.is_excluded_request(exchange) {
            return;
        }
        let said = exchange.accept_encoding.as_ref();
        let Some(choice) = self.preference.choose(said) else {
            return;
        };
        add_vary(response.headers_mut());
        if let Choice::Apply(coding) = choice
            && self.is_worth_it(response, coding)
        {
            compress(response, coding);
        }
    }

    fn is_excluded_request(&self, exchange: &Exchange) -> bool {
        let Some(media_type) = media_type(&exchange.request.headers) else {
            return false;
        };
        let listed = match &self.types {
            Types::AllExcept(excluded) => contains(excluded, media_type),
            Types::Only(_) => false,
        };
        listed || media_type.eq_ignore_ascii_case(GRPC)
    }

    fn is_worth_it(&self, response: &Response, coding: Coding) -> bool {
        let headers = response.headers();
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| !encoding.is_empty());
        // A part of something cannot be compressed on its own and still be that part.
        let untouchable = encoded
            || headers.contains_key(CONTENT_RANGE)
            || headers.contains_key(&NO_GZIP)
            || !may_have_body(response.status());
        !untouchable && self.takes_type(headers, coding) && self.takes_size(response)
    }

    fn takes_type(&self, headers: &HeaderMap, coding: Coding) -> bool {
        match (&self.types, media_type(headers)) {
            // Traefik guesses a missing type for gzip only, and a guess is rarely one of a list.
            (Types::Only(_), None) => coding != Coding::Gzip,
            (Types::Only(included), Some(found)) => contains(included, found),
            (Types::AllExcept(_), None) => true,
            (Types::AllExcept(excluded), Some(found)) => {
                !contains(excluded, found) && !found.eq_ignore_ascii_case(GRPC)
            }
        }
    }

    /// A body of unknown size is streamed: it is compressed whatever it will come to.
    fn takes_size(&self, response: &Response) -> bool {
        let announced = || {
            let value = response.headers().get(CONTENT_LENGTH)?;
            value.to_str().ok()?.parse::<u64>().ok()
        };
        match response.body().length().or_else(announced) {
            Some(0) => false,
            Some(length) => length >= self.at_least,
            None => true,
        }
    }
}

fn compress(response: &mut Response, coding: Coding) {
    let body = body::compressed(response.body_mut().take(), coding);
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    // Ranges of what the server has are no ranges of what the client gets.
    headers.remove(ACCEPT_RANGES);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
}

fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// Caches must know, also of an answer that was left as it is.
fn add_vary(headers: &mut HeaderMap) {
    if !has_token(headers.get_all(VARY).iter(), "accept-encoding") {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The content type without parameters.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next().unwrap_or_default().trim();
    (!media_type.is_empty()).then_some(media_type)
}

fn media_types(field: &str, list: &[String], report: &mut Report<'_>) -> Option<Vec<String>> {
    let mut types = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let media_type = text.split(';').next().unwrap_or_default().trim();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/*".contains(&byte);
        if media_type.is_empty() || !media_type.bytes().all(is_token) {
            report.error(
                &format!("{field}[{index}]"),
                format!("expected a media type such as `text/html`, found {text:?}"),
            );
        } else {
            types.push(media_type.to_owned());
        }
    }
    (types.len() == list.len()).then_some(types)
}

fn contains(list: &[String], media_type: &str) -> bool {
    list.iter()
        .any(|item| item.eq_ignore_ascii_case(media_type))
}

/// gRPC compresses message by message.
const GRPC: &str = "application/grpc";
const DEFAULT_AT_LEAST: u64 = 1024;
static NO_GZIP: HeaderName = HeaderName::from_static("no-gzip-compression");

#[cfg(test)]
mod tests;
