use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use async_compression::tokio::write::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use futures_util::poll;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::{
    exchange::{Body, Fault, FaultKind, Response},
    middleware::testing::{Fixture, built, collect, problems},
};

/// Frames that come one by one; `None` is a pause.
struct Frames(VecDeque<Option<Piece>>);

type Piece = Result<Frame<Bytes>, Fault>;

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Some(frame)) => Poll::Ready(Some(frame)),
        }
    }
}

fn data(text: &str) -> Option<Piece> {
    Some(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes()))))
}

fn stream(frames: impl IntoIterator<Item = Option<Piece>>) -> Body {
    Body::stream(Frames(frames.into_iter().collect()))
}

struct Case {
    options: &'static str,
    accept: Option<&'static str>,
    request: Fixture,
    response: Response,
}

/// `compress` with gzip for a client that accepts everything, and a server that sends `size` bytes.
fn case(size: usize) -> Case {
    Case {
        options: "{}",
        accept: Some("gzip"),
        request: Fixture::get("/"),
        response: Response::new(Body::Full(Bytes::from("a".repeat(size)))),
    }
}

impl Case {
    fn options(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }

    fn accept(mut self, accept: &'static str) -> Self {
        self.accept = Some(accept);
        self
    }

    fn request(mut self, change: impl FnOnce(Fixture) -> Fixture) -> Self {
        self.request = change(self.request);
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.response.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        self
    }

    fn status(mut self, status: u16) -> Self {
        *self.response.status_mut() = status.try_into().unwrap();
        self
    }

    fn body(mut self, body: Body) -> Self {
        *self.response.body_mut() = body;
        self
    }

    fn run(self) -> Response {
        let middleware = built(&format!(r#"{{"compress":{}}}"#, self.options));
        let request = match self.accept {
            Some(accept) => self.request.with("accept-encoding", accept),
            None => self.request,
        };
        let mut exchange = request.exchange();
        middleware.request(&mut exchange);
        // What another step tells the server does not matter.
        exchange.request.headers.remove("accept-encoding");
        let mut response = self.response;
        middleware.response(&mut exchange, &mut response);
        response
    }

    /// The coding, `plain` if only Vary was added, `-` if nothing was done.
    fn outcome(self) -> String {
        let response = self.run();
        let headers = response.headers();
        let vary = headers.get("vary").is_some();
        match headers.get("content-encoding") {
            Some(coding) => {
                assert!(vary);
                assert!(!headers.contains_key("content-length"));
                assert!(!headers.contains_key("accept-ranges"));
                coding.to_str().unwrap().to_owned()
            }
            None if vary => "plain".to_owned(),
            None => "-".to_owned(),
        }
    }
}

async fn decode(coding: &str, bytes: &[u8]) -> Vec<u8> {
    macro_rules! through {
        ($decoder:ident) => {{
            let mut decoder = $decoder::new(Vec::new());
            decoder.write_all(bytes).await.unwrap();
            decoder.flush().await.unwrap();
            decoder.into_inner()
        }};
    }
    match coding {
        "gzip" => through!(GzipDecoder),
        "br" => through!(BrotliDecoder),
        "zstd" => through!(ZstdDecoder),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_compressed() {
    assert_eq!(case(2000).outcome(), "gzip");
    assert_eq!(case(2000).accept("br").outcome(), "br");
    assert_eq!(case(2000).accept("zstd").outcome(), "zstd");
    assert_eq!(case(2000).status(404).outcome(), "gzip");
    assert_eq!(case(1024).outcome(), "gzip");
    assert_eq!(case(1023).outcome(), "plain");
    assert_eq!(
        case(10).options(r#"{"minResponseBodyBytes":10}"#).outcome(),
        "gzip"
    );
    assert_eq!(
        case(0).options(r#"{"minResponseBodyBytes":1}"#).outcome(),
        "plain"
    );
    assert_eq!(
        case(2000).header("content-length", "2000").outcome(),
        "gzip"
    );
    assert_eq!(
        case(2000).header("accept-ranges", "bytes").outcome(),
        "gzip"
    );
    assert_eq!(
        case(2000).header("content-type", "image/png").outcome(),
        "gzip"
    );
    assert_eq!(
        case(2000).header("cache-control", "no-transform").outcome(),
        "gzip"
    );
    assert_eq!(
        case(2000)
            .header("content-type", "application/grpc+proto")
            .outcome(),
        "gzip"
    );
}

#[test]
fn what_is_left_as_it_is() {
    for (name, value) in [
        ("content-encoding", "deflate"),
        ("content-range", "bytes 0-1999/3000"),
        ("no-gzip-compression", "1"),
        ("content-type", "application/grpc"),
        ("content-type", "Application/GRPC; x=y"),
    ] {
        let response = case(2000)
            .header(name, value)
            .header("accept-ranges", "bytes")
            .run();
        assert_eq!(response.headers().get(name).unwrap(), value);
        assert_eq!(
            response.headers().get("vary").unwrap(),
            "Accept-Encoding",
            "{name}"
        );
        assert!(response.headers().contains_key("accept-ranges"));
        assert_eq!(response.body().length(), Some(2000), "{name}");
    }
    for status in [101, 204, 304] {
        assert_eq!(case(2000).status(status).outcome(), "plain", "{status}");
    }
}

#[test]
fn requests_that_are_not_looked_at() {
    assert_eq!(case(2000).request(|it| it.method("HEAD")).outcome(), "-");
    let grpc = |it: Fixture| it.with("content-type", "application/grpc");
    assert_eq!(case(2000).request(grpc).outcome(), "-");
    assert_eq!(case(2000).accept("").outcome(), "-");
    assert_eq!(case(2000).accept("deflate").outcome(), "-");
    let mut silent = case(2000);
    silent.accept = None;
    assert_eq!(silent.outcome(), "-");
    let mut silent = case(2000).options(r#"{"defaultEncoding":"br"}"#);
    silent.accept = None;
    assert_eq!(silent.outcome(), "br");
}

#[test]
fn content_types_may_be_excluded_or_included() {
    let excluded = r#"{"excludedContentTypes":["text/html","text/plain; charset=x"]}"#;
    let included = r#"{"includedContentTypes":["text/html"]}"#;
    for (options, content_type, accept, expected) in [
        (excluded, "TEXT/HTML; charset=utf-8", "gzip", "plain"),
        (excluded, "text/plain", "br", "plain"),
        (excluded, "text/css", "gzip", "gzip"),
        (excluded, "", "gzip", "gzip"),
        (included, "text/html; charset=utf-8", "gzip", "gzip"),
        (included, "text/css", "gzip", "plain"),
        (included, "application/grpc", "br", "plain"),
        (included, "", "gzip", "plain"),
        (included, "", "br", "br"),
    ] {
        let case = case(2000).options(options).accept(accept);
        let case = if content_type.is_empty() {
            case
        } else {
            case.header("content-type", content_type)
        };
        assert_eq!(
            case.outcome(),
            expected,
            "{options} {content_type} {accept}"
        );
    }
    let html = |it: Fixture| it.with("content-type", "text/html");
    assert_eq!(case(2000).options(excluded).request(html).outcome(), "-");
    assert_eq!(
        case(2000).options(included).request(html).outcome(),
        "plain"
    );
}

#[test]
fn vary_is_said_once() {
    let response = case(2000).header("vary", "Origin, accept-encoding").run();
    assert_eq!(response.headers().get_all("vary").iter().count(), 1);
    let response = case(2000).header("vary", "Origin").run();
    assert_eq!(response.headers().get_all("vary").iter().count(), 2);
}

#[tokio::test]
async fn bodies_come_out_the_same() {
    let text: String = (0..60_000).map(|n| format!("line {n}\n")).collect();
    for coding in ["gzip", "br", "zstd"] {
        for chunk in [500_usize, 100_000, 1_000_000] {
            let mut frames: Vec<_> = text
                .as_bytes()
                .chunks(chunk)
                .map(|part| data(std::str::from_utf8(part).unwrap()))
                .collect();
            frames.insert(1, None);
            let response = case(0).accept(coding).body(stream(frames)).run();
            let bytes = collect(response.into_body()).await;
            assert!(bytes.len() < text.len() / 3, "{coding} {}", bytes.len());
            assert_eq!(
                decode(coding, &bytes).await,
                text.as_bytes(),
                "{coding} {chunk}"
            );
        }
        let small = case(3000).accept(coding).run().into_body();
        assert!(small.length().is_some());
        assert_eq!(decode(coding, &collect(small).await).await, [b'a'; 3000]);
        let large = case(300_000).accept(coding).run().into_body();
        assert_eq!(large.length(), None);
        assert_eq!(decode(coding, &collect(large).await).await, [b'a'; 300_000]);
    }
}

#[tokio::test]
async fn what_came_in_goes_out_at_once() {
    for coding in ["gzip", "br", "zstd"] {
        let frames = [data("data: 1\n\n"), None, data("data: 2\n\n"), None, None];
        let mut body = case(0)
            .accept(coding)
            .body(stream(frames))
            .run()
            .into_body();
        let mut sent = Vec::new();
        for expected in ["data: 1\n\n", "data: 1\n\ndata: 2\n\n"] {
            let frame = body.frame().await.unwrap().unwrap();
            sent.extend_from_slice(&frame.into_data().unwrap());
            assert_eq!(decode(coding, &sent).await, expected.as_bytes(), "{coding}");
        }
        // Nothing new: nothing is sent, not even an empty block.
        assert!(poll!(body.frame()).is_pending());
        sent.extend_from_slice(&collect(body).await);
        assert_eq!(decode(coding, &sent).await, b"data: 1\n\ndata: 2\n\n");
    }
}

#[tokio::test]
async fn trailers_pass_and_faults_are_told() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let frames = [data("abc"), Some(Ok(Frame::trailers(trailers)))];
    let body = case(0).body(stream(frames)).run().into_body();
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap().get("x-sum").unwrap(), "1");
    assert_eq!(decode("gzip", &collected.to_bytes()).await, b"abc");

    let fault = Fault::server(FaultKind::Reset);
    let frames = [data("abc"), Some(Err(fault))];
    let body = case(0).body(stream(frames)).run().into_body();
    assert_eq!(body.collect().await.unwrap_err(), fault);
}

#[tokio::test]
async fn an_endless_body_lets_others_run() {
    let body = Body::stream(Frames(
        (0..64).map(|_| data(&"a".repeat(64 * 1024))).collect(),
    ));
    let mut body = case(0).body(body).run().into_body();
    assert!(poll!(body.frame()).is_pending());
    assert_eq!(
        decode("gzip", &collect(body).await).await.len(),
        64 * 64 * 1024
    );
}

#[test]
fn findings() {
    for (options, expected) in [
        (
            r#"{"includedContentTypes":["a/b"],"excludedContentTypes":["c/d"]}"#,
            "cannot be used together",
        ),
        (
            r#"{"includedContentTypes":["a b"]}"#,
            "includedContentTypes[0]: expected a media type",
        ),
        (
            r#"{"excludedContentTypes":[""]}"#,
            "excludedContentTypes[0]: expected a media type",
        ),
        (r#"{"encodings":[]}"#, "compress.encodings: is empty"),
        (
            r#"{"encodings":["br"],"defaultEncoding":"gzip"}"#,
            "defaultEncoding: is not one of",
        ),
    ] {
        let lines = problems(&format!(r#"{{"compress":{options}}}"#));
        assert!(
            lines.len() == 1 && lines[0].contains(expected),
            "{options}: {lines:?}"
        );
    }
}
