use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::*;
use crate::{
    exchange::{Body, Fault, FaultKind},
    middleware::testing::{Answer, Fixture, collect},
};

fn web(origins: &[&str]) -> GrpcWeb {
    let allow_origins = origins.iter().map(|it| (*it).to_owned()).collect();
    GrpcWeb::build(&Config { allow_origins })
}

fn call(content_type: &'static str, body: Body) -> Exchange {
    let mut exchange = Fixture::get("/a.Service/Call")
        .method("POST")
        .with("content-type", content_type)
        .with("content-length", "5")
        .with("origin", "https://a.test")
        .exchange();
    exchange.body = body;
    exchange
}

/// A body of these pieces, and trailers if there are any.
fn streamed(pieces: &[&'static str], trailers: &[(&'static str, &'static str)]) -> Body {
    let mut fields = HeaderMap::new();
    for (name, value) in trailers {
        fields.append(*name, HeaderValue::from_static(value));
    }
    let data = pieces
        .iter()
        .map(|piece| Ok(Frame::data(Bytes::from(*piece))));
    let end = (!fields.is_empty()).then(|| Ok(Frame::trailers(fields)));
    let frames: Vec<Result<Frame<Bytes>, Fault>> = data.chain(end).collect();
    Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

fn answered(web: &GrpcWeb, exchange: &mut Exchange, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/grpc+proto"),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
    headers.insert(TRAILER, HeaderValue::from_static("grpc-status"));
    web.response(exchange, &mut response);
    response
}

#[tokio::test]
async fn a_call_becomes_grpc_and_its_answer_grpc_web() {
    for (sent, received, answer, body, expected) in [
        (
            "application/grpc-web+proto",
            "application/grpc+proto",
            "application/grpc-web+proto",
            Body::from("hello"),
            b"abc\x80\0\0\0\x2agrpc-message: no\r\ngrpc-status: 5\r\nx-a: 1\r\n".to_vec(),
        ),
        (
            "application/grpc-web-text",
            "application/grpc",
            "application/grpc-web-text+proto",
            Body::from("aGVsbG8="),
            b"YWJjgAAAACpncnBjLW1lc3NhZ2U6IG5vDQpncnBjLXN0YXR1czogNQ0KeC1hOiAxDQo=".to_vec(),
        ),
    ] {
        let web = web(&["*"]);
        let mut exchange = call(sent, body);
        assert!(matches!(web.request(&mut exchange), Flow::Continue));
        let headers = &exchange.request.headers;
        assert_eq!(headers[CONTENT_TYPE], received);
        assert!(!headers.contains_key(CONTENT_LENGTH) && exchange.request.accepts_trailers);
        assert_eq!(exchange.body.length(), None);
        assert_eq!(collect(exchange.body.take()).await, b"hello");
        let trailers = [("x-a", "1"), ("grpc-status", "5"), ("grpc-message", "no")];
        let response = answered(&web, &mut exchange, streamed(&["abc"], &trailers));
        let headers = response.headers();
        assert_eq!(headers[CONTENT_TYPE], answer);
        assert!(!headers.contains_key(TRAILER) && !headers.contains_key(CONTENT_LENGTH));
        let whole = response.into_body().collect().await.unwrap();
        assert!(whole.trailers().is_none());
        assert_eq!(
            whole.to_bytes().escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
}

#[tokio::test]
async fn base64_in_any_pieces() {
    for (pieces, expected) in [
        (&["aGVsbG8="][..], Some("hello")),
        (&["a", "GV", "sbG", "8="], Some("hello")),
        (&["aGVs", "bG8=", "aGVs", "bG8="], Some("hellohello")),
        (&["aA==aA==aGVs"], Some("hhhel")),
        (&["aGVs\r\nbG8="], Some("hello")),
        (&[], Some("")),
        (&["!!!!"], None),
        (&["aGVsbG8"], None),
        (&["aG=sbG8="], None),
    ] {
        let mut exchange = call("application/grpc-web-text", streamed(pieces, &[]));
        assert!(matches!(web(&[]).request(&mut exchange), Flow::Continue));
        let found = exchange.body.take().collect().await.map(|it| it.to_bytes());
        match expected {
            Some(expected) => assert_eq!(found.unwrap(), expected, "{pieces:?}"),
            None => assert_eq!(found.unwrap_err(), Fault::client(FaultKind::BadBody)),
        }
    }
    let long = "QUJD".repeat(5000) + "QQ==";
    let mut exchange = call("application/grpc-web-text", Body::from(long));
    assert!(matches!(web(&[]).request(&mut exchange), Flow::Continue));
    let expected = "ABC".repeat(5000) + "A";
    assert_eq!(collect(exchange.body.take()).await, expected.as_bytes());
}

#[tokio::test]
async fn the_first_piece_does_not_wait_for_the_last() {
    let web = web(&[]);
    let mut exchange = call("application/grpc-web-text", Body::Empty);
    assert!(matches!(web.request(&mut exchange), Flow::Continue));
    let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"ab")))]);
    let frames = futures_util::StreamExt::chain(first, futures_util::stream::pending());
    let response = answered(&web, &mut exchange, Body::stream(StreamBody::new(frames)));
    let mut body = response.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "YWI=");
    assert!(futures_util::poll!(body.frame()).is_pending());
}

#[tokio::test]
async fn an_answer_without_trailers_has_an_empty_list() {
    for (status, body) in [(200, "\u{0}"), (404, "not found")] {
        let web = web(&[]);
        let mut exchange = call("application/grpc-web", Body::Empty);
        assert!(matches!(web.request(&mut exchange), Flow::Continue));
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        web.response(&mut exchange, &mut response);
        let expected = [body.as_bytes(), b"\x80\0\0\0\0"].concat();
        assert_eq!(collect(response.into_body()).await, expected);
    }
}

#[test]
fn other_requests_are_left_alone() {
    for (method, content_type) in [
        ("PUT", "application/grpc-web"),
        ("POST", "application/grpc"),
        ("POST", "Application/grpc-web"),
        ("POST", "text/plain"),
        ("GET", "application/grpc-web"),
    ] {
        let web = web(&["*"]);
        let mut exchange = Fixture::get("/")
            .method(method)
            .with("content-type", content_type)
            .with("origin", "https://a.test")
            .exchange();
        assert!(matches!(web.request(&mut exchange), Flow::Continue));
        assert_eq!(exchange.request.headers[CONTENT_TYPE], content_type);
        let mut response = Response::new(Body::from("text"));
        web.response(&mut exchange, &mut response);
        assert!(response.headers().is_empty());
        assert_eq!(response.body().length(), Some(4));
    }
}

#[test]
fn origins() {
    for (allowed, origin, expected) in [
        (&["*"][..], Some("https://a.test"), true),
        (&["https://a.test"], Some("https://a.test"), true),
        (&["https://a.test"], Some("https://A.test"), false),
        (&["https://b.test"], Some("https://a.test"), false),
        (&[], Some("https://a.test"), false),
        (&["*"], None, false),
    ] {
        let web = web(allowed);
        let mut exchange = call("application/grpc-web", Body::Empty);
        let headers = &mut exchange.request.headers;
        headers.remove("origin");
        if let Some(origin) = origin {
            headers.insert("origin", HeaderValue::from_static(origin));
        }
        assert!(matches!(web.request(&mut exchange), Flow::Continue));
        let response = answered(&web, &mut exchange, Body::Empty);
        let header = |name: &str| response.headers().get(name).map(|it| it.to_str().unwrap());
        assert_eq!(header("vary"), Some("Origin"));
        assert_eq!(
            header("access-control-allow-origin"),
            origin.filter(|_| expected)
        );
        assert_eq!(
            header("access-control-allow-credentials"),
            expected.then_some("true")
        );
        let exposed = header("access-control-expose-headers").unwrap();
        assert!(
            exposed.contains("Content-Type") && exposed.ends_with(", grpc-status, grpc-message"),
            "{exposed}"
        );
    }
}

#[test]
fn preflights() {
    let ask = |origin: &'static str, method: &'static str, fields: &'static str| {
        let fixture = Fixture::get("/")
            .method("OPTIONS")
            .with("origin", origin)
            .with("access-control-request-headers", fields);
        let mut exchange = match method {
            "" => fixture,
            method => fixture.with("access-control-request-method", method),
        }
        .exchange();
        match web(&["https://a.test"]).request(&mut exchange) {
            Flow::Respond(answer) => Some(Answer::new(*answer)),
            Flow::Continue => None,
            other => panic!("{other:?}"),
        }
    };
    let fields = "x-grpc-web,content-type, X-USER-agent";
    let answer = ask("https://a.test", "post", fields).unwrap();
    assert_eq!((answer.status(), answer.text()), (200, String::new()));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.test"),
        ("access-control-allow-methods", "POST"),
        (
            "access-control-allow-headers",
            "X-Grpc-Web, Content-Type, X-User-Agent",
        ),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.headers().get_all("vary").iter().count(), 3);
    for (origin, method) in [("https://b.test", "POST"), ("https://a.test", "DELETE")] {
        let answer = ask(origin, method, fields).unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.headers().get_all("vary").iter().count(), 3);
    }
    assert!(ask("https://a.test", "POST", "content-type").is_none());
    assert!(ask("https://a.test", "", fields).is_none());
}
