//! `contentType`: names the type of answers whose server did not, by what their bodies begin with.
//!
//! The hook only notes that it was passed. The journey then looks at the answer before any response hook does, so that what depends on
//! the type (such as compression) sees it.

mod signature;

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::{Flow, report::Report};
use crate::{
    config::routing::ContentType as Config,
    exchange::{Body, Exchange, Fault, Response},
};

/// Asks for the detection of missing types.
#[derive(Debug)]
pub struct ContentType {
    detect: bool,
}

impl ContentType {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Self {
        if config.auto_detect.is_some() {
            report.warning_with_hint(
                "autoDetect",
                "is deprecated: the middleware detects types when it is used, and with `false` it does nothing",
                "remove the option, or the middleware",
            );
        }
        Self {
            detect: config.auto_detect != Some(false),
        }
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        exchange.detect_type |= self.detect;
        Flow::Continue
    }
}

/// Names the type of an answer that has none. Waits for the beginning of a streamed body, but not for long.
pub async fn detect_type(response: &mut Response) {
    if !is_nameless(response) {
        return;
    }
    let named = match response.body_mut() {
        Body::Empty => None,
        Body::Full(bytes) => named(bytes),
        body @ Body::Stream(_) => {
            let Ok(first) = tokio::time::timeout(PATIENCE, body.frame()).await else {
                return;
            };
            let data = first.as_ref().and_then(|frame| frame.as_ref().ok());
            let named = data.and_then(Frame::data_ref).and_then(|data| named(data));
            let rest = body.take();
            *body = Body::stream(Begun { first, rest });
            named
        }
    };
    if let Some(named) = named {
        let value = HeaderValue::from_static(named);
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
}

fn is_nameless(response: &Response) -> bool {
    let headers = response.headers();
    let status = response.status();
    let encoded = headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.is_empty());
    // Of packed bytes nothing can be told.
    !encoded
        && !headers.contains_key(CONTENT_TYPE)
        && !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

fn named(data: &[u8]) -> Option<&'static str> {
    (!data.is_empty()).then(|| signature::detect(data))
}

/// A body whose first frame was read already.
struct Begun {
    first: Option<Result<Frame<Bytes>, Fault>>,
    rest: Body,
}

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|frame| frame.as_ref().ok());
        let read = first.and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

/// How long an answer may be held back until its first bytes tell what it is: Traefik sends a head on after as long.
const PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::testing::{Fixture, built, collect, problems};

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(*name, value);
        }
        response
    }

    fn noted(options: &str) -> bool {
        let mut exchange = Fixture::get("/").exchange();
        let middleware = built(&format!(r#"{{"contentType":{options}}}"#));
        assert!(matches!(middleware.request(&mut exchange), Flow::Continue));
        exchange.detect_type
    }

    #[test]
    fn only_false_switches_it_off() {
        for (options, detects, findings) in [
            ("{}", true, 0),
            (r#"{"autoDetect":true}"#, true, 1),
            (r#"{"autoDetect":false}"#, false, 1),
        ] {
            assert_eq!(noted(options), detects, "{options}");
            let found = problems(&format!(r#"{{"contentType":{options}}}"#));
            assert_eq!(found.len(), findings, "{found:?}");
            let warned = "warning: http.middlewares.m@file.contentType.autoDetect: is deprecated";
            assert!(found.iter().all(|it| it.starts_with(warned)), "{found:?}");
        }
    }

    #[tokio::test]
    async fn names_what_has_no_name() {
        let html = || Body::from("<html>");
        for (status, headers, body, expected) in [
            (200, &[][..], html(), Some("text/html; charset=utf-8")),
            (404, &[], html(), Some("text/html; charset=utf-8")),
            (200, &[("content-type", "a/b")], html(), Some("a/b")),
            (200, &[("content-type", "")], html(), Some("")),
            (200, &[("content-encoding", "gzip")], html(), None),
            (200, &[], Body::Empty, None),
            (200, &[], Body::from(""), None),
            (304, &[], html(), None),
            (101, &[], html(), None),
        ] {
            let mut response = answer(status, headers, body);
            detect_type(&mut response).await;
            let found = response.headers().get(CONTENT_TYPE);
            assert_eq!(found.map(|it| it.to_str().unwrap()), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_looked_at_and_stays_whole() {
        let frames = |list: Vec<&'static str>| {
            let frames = list
                .into_iter()
                .map(|text| Ok(Frame::data(Bytes::from(text))));
            Body::stream(http_body_util::StreamBody::new(futures_util::stream::iter(
                frames,
            )))
        };
        let mut response = answer(200, &[], frames(vec!["%PDF-", "1.4"]));
        detect_type(&mut response).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/pdf");
        assert_eq!(collect(response.into_body()).await, b"%PDF-1.4");
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, Fault>>();
        let mut silent = answer(
            200,
            &[],
            Body::stream(http_body_util::StreamBody::new(never)),
        );
        detect_type(&mut silent).await;
        assert!(!silent.headers().contains_key(CONTENT_TYPE));
    }
}
