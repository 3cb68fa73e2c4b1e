use futures_util::FutureExt;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::*;
use crate::{
    exchange::Fault,
    middleware::{
        Middleware,
        testing::{Answer, Fixture, Sent, built, placed, problems},
    },
};

pub(super) fn base(address: &str) -> Base {
    let config = placed(r#"{"forwardAuth": {}}"#);
    let mut findings = Vec::new();
    let report = &mut Report::new("m@file", &config, &mut findings);
    Base::of(address, report).unwrap()
}

fn auth(options: &str) -> ForwardAuth {
    let config =
        format!(r#"{{"forwardAuth": {{"address": "http://auth:9000/verify", {options}}}}}"#);
    match built(&config.replace(", }", "}")) {
        Middleware::ForwardAuth(auth) => *auth,
        other => panic!("{other:?}"),
    }
}

fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> (Parts, Body) {
    let mut response = Response::new(Body::from("said"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_static(value);
        response.headers_mut().append(*name, value);
    }
    response.into_parts()
}

/// A request from 192.0.2.7 that says everything about where it comes from.
fn well_travelled() -> Fixture {
    Fixture::get("/a?b")
        .with("x-forwarded-for", "1.1.1.1, 2.2.2.2")
        .with("x-forwarded-proto", "https")
        .with("x-forwarded-host", "other.test")
        .with("x-forwarded-port", "99")
        .with("x-forwarded-method", "PATCH")
        .with("x-forwarded-uri", "/other")
        .with("x-forwarded-prefix", "/p")
        .with("x-forwarded-user", "free")
        .with("x-real-ip", "1.1.1.1")
}

/// The forwarding headers of the question, as `name=value`.
fn forwarded(options: &str, request: Fixture) -> Vec<String> {
    let question = auth(options).question(&request.exchange());
    let fields = question.headers.iter();
    let mut fields: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
        .map(|field| field.replace("x-forwarded-", ""))
        .collect();
    fields.sort();
    fields
}

#[test]
fn the_authority_is_told_what_the_configuration_trusts() {
    let unset = [
        "for=192.0.2.7",
        "host=app.test",
        "method=GET",
        "port=99",
        "prefix=/p",
        "proto=http",
        "uri=/a?b",
        "user=free",
        "x-real-ip=1.1.1.1",
    ];
    assert_eq!(forwarded("", well_travelled()), unset);
    let never = [
        "for=192.0.2.7",
        "host=app.test",
        "method=GET",
        "port=80",
        "proto=http",
        "uri=/a?b",
        "user=free",
    ];
    assert_eq!(
        forwarded(r#""trustForwardHeader": false"#, well_travelled()),
        never
    );
    let fully = [
        "for=1.1.1.1, 2.2.2.2, 192.0.2.7",
        "host=other.test",
        "method=PATCH",
        "port=99",
        "prefix=/p",
        "proto=https",
        "uri=/other",
        "user=free",
        "x-real-ip=1.1.1.1",
    ];
    assert_eq!(
        forwarded(r#""trustForwardHeader": true"#, well_travelled()),
        fully
    );
    let bare = Fixture::get("/").host("app.test:8443").tls().method("PUT");
    let absent = [
        "for=192.0.2.7",
        "host=app.test:8443",
        "method=PUT",
        "port=8443",
        "proto=https",
        "uri=/",
    ];
    assert_eq!(forwarded(r#""trustForwardHeader": true"#, bare), absent);
    let bare = Fixture::get("/").tls();
    let absent = [
        "for=192.0.2.7",
        "host=app.test",
        "method=GET",
        "port=443",
        "proto=https",
        "uri=/",
    ];
    assert_eq!(forwarded(r#""trustForwardHeader": false"#, bare), absent);
}

#[test]
fn the_question_is_a_request_of_its_own() {
    let request = || {
        let fixture = Fixture::get("/a").method("POST").with("cookie", "c=1");
        let mut exchange = fixture
            .with("authorization", "Basic x")
            .with("content-length", "3")
            .with("trailer", "x-sum")
            .with("connection", "x-hop")
            .with("x-hop", "1")
            .exchange();
        exchange.request.upgrade = Some(HeaderValue::from_static("websocket"));
        exchange.request.expects_continue = true;
        exchange
    };
    let question = auth("").question(&request());
    assert_eq!(question.method, Method::GET);
    assert_eq!(question.target.as_str(), "/verify");
    assert!(question.upgrade.is_none() && !question.expects_continue);
    for gone in ["content-length", "trailer", "connection", "x-hop"] {
        assert!(!question.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(question.headers["cookie"], "c=1");
    assert_eq!(question.headers["authorization"], "Basic x");
    let same = auth(r#""preserveRequestMethod": true"#).question(&request());
    assert_eq!(same.method, Method::POST);
    let few = auth(r#""authRequestHeaders": ["Cookie", "X-None", "Content-Length"]"#);
    let few = few.question(&request());
    assert!(few.headers.contains_key("cookie") && few.headers.contains_key("x-forwarded-uri"));
    assert!(!few.headers.contains_key("authorization"));
    assert!(!few.headers.contains_key("content-length"));
    // Those that it is told of the way here are no matter of the list.
    let told = forwarded(
        r#""authRequestHeaders": ["Cookie"], "trustForwardHeader": true"#,
        well_travelled(),
    );
    assert!(
        told.contains(&"prefix=/p".to_owned()) && told.contains(&"x-real-ip=1.1.1.1".to_owned()),
        "{told:?}"
    );
    assert!(!told.contains(&"user=free".to_owned()), "{told:?}");
}

/// The request after a `200` with these headers.
fn admitted(options: &str, request: Fixture, headers: &[(&'static str, &'static str)]) -> Sent {
    let mut exchange = request.exchange();
    let (head, body) = answer(200, headers);
    let verdict = auth(options).judge(&mut exchange, head, body);
    assert!(matches!(verdict, Verdict::Pass(_)));
    Sent(exchange)
}

#[test]
fn what_the_authority_vouches_for_no_client_can_say() {
    let forger = || {
        Fixture::get("/")
            .with("remote-user", "root")
            .with("remote_user", "root")
            .with("remote.user", "root")
            .with("x-auth-mail", "root")
            .with("x_auth_mail", "root")
            .with("x-other", "own")
    };
    let by_name = r#""authResponseHeaders": ["Remote-User", "X-Auth-Mail"]"#;
    let by_pattern = r#""authResponseHeadersRegex": "^(Remote|X-Auth)-""#;
    let by_both = r#""authResponseHeaders": ["Remote-User"], "authResponseHeadersRegex": "^(Remote|X-Auth)-""#;
    for options in [by_name, by_pattern, by_both] {
        let sent = admitted(options, forger(), &[]);
        for name in [
            "remote-user",
            "remote_user",
            "remote.user",
            "x-auth-mail",
            "x_auth_mail",
        ] {
            assert_eq!(sent.header(name), None, "{options} {name}");
        }
        assert_eq!(sent.header("x-other"), Some("own"));
        let said = [
            ("remote-user", "joe"),
            ("x-auth-mail", "joe@a"),
            ("x-more", "1"),
        ];
        let sent = admitted(options, forger(), &said);
        assert_eq!(sent.header("remote-user"), Some("joe"), "{options}");
        assert_eq!(sent.header("x-auth-mail"), Some("joe@a"), "{options}");
        assert_eq!(
            (sent.header("remote_user"), sent.header("x-more")),
            (None, None)
        );
    }
    let groups = [("remote-user", "a"), ("remote-user", "b")];
    let sent = admitted(by_both, forger(), &groups);
    let values = sent.0.request.headers.get_all("remote-user").iter();
    assert_eq!(values.collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn an_answer_does_not_reframe_a_request() {
    let everything = r#""authResponseHeadersRegex": ".*""#;
    let request = || Fixture::get("/").with("content-length", "3");
    let said = [
        ("content-length", "0"),
        ("host", "other"),
        ("trailer", "x"),
        ("x-user", "joe"),
    ];
    let sent = admitted(everything, request(), &said);
    assert_eq!(sent.header("content-length"), Some("3"));
    assert_eq!((sent.header("host"), sent.header("trailer")), (None, None));
    assert_eq!(sent.header("x-user"), Some("joe"));
    let listed = admitted(
        r#""authResponseHeaders": ["Host", "Content-Length"]"#,
        request(),
        &said,
    );
    assert_eq!(
        (listed.header("host"), listed.header("content-length")),
        (None, Some("3"))
    );
}

#[test]
fn trailers_say_nothing_in_the_authoritys_name() {
    let mut trailers = HeaderMap::new();
    for name in ["remote-user", "remote_user", "x-sum"] {
        trailers.insert(name, HeaderValue::from_static("root"));
    }
    let frames = [
        Ok::<_, Fault>(Frame::data("abc".into())),
        Ok(Frame::trailers(trailers)),
    ];
    let mut exchange = Fixture::get("/").exchange();
    exchange.body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
    let (head, body) = answer(200, &[]);
    let auth = auth(r#""authResponseHeaders": ["Remote-User"]"#);
    auth.judge(&mut exchange, head, body);
    let collected = exchange.body.collect().now_or_never().unwrap().unwrap();
    let left: Vec<&str> = collected
        .trailers()
        .unwrap()
        .keys()
        .map(HeaderName::as_str)
        .collect();
    assert_eq!(left, ["x-sum"]);
    assert_eq!(collected.to_bytes(), "abc");
}

fn refused(options: &str, status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
    let (head, body) = answer(status, headers);
    match auth(options).judge(&mut Fixture::get("/").exchange(), head, body) {
        Verdict::Refuse(response) => Answer::new(*response),
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_other_answer_goes_to_the_client() {
    let keep = r#""preserveLocationHeader": true"#;
    for (options, status, location, got) in [
        ("", 302, "/login?rd=1", "http://auth:9000/login?rd=1"),
        ("", 302, "https://portal.test/", "https://portal.test/"),
        (keep, 302, "/login?rd=1", "/login?rd=1"),
    ] {
        let answer = refused(options, status, &[("location", location), ("trailer", "x")]);
        assert_eq!(
            (answer.status(), answer.header("location")),
            (status, Some(got))
        );
        assert_eq!(
            (answer.text().as_str(), answer.header("trailer")),
            ("said", None)
        );
    }
    for status in [199, 300, 304, 401, 403, 500] {
        let answer = refused("", status, &[("x-why", "because")]);
        assert_eq!(
            (answer.status(), answer.header("x-why")),
            (status, Some("because"))
        );
    }
    let signin = r#""authSigninURL": "https://portal.test/start?rd={url}""#;
    let answer = refused(signin, 401, &[("x-why", "because")]);
    assert_eq!((answer.status(), answer.text().as_str()), (302, ""));
    assert_eq!(
        answer.header("location"),
        Some("https://portal.test/start?rd={url}")
    );
    assert_eq!(answer.header("x-why"), None);
    assert_eq!(refused(signin, 403, &[]).status(), 403);
}

#[test]
fn cookies_of_the_authority_replace_those_of_the_server() {
    let options = r#""addAuthCookiesToResponse": ["session", "csrf"]"#;
    for (given, set, got) in [
        (
            &["session=new; Path=/", "other=1"][..],
            &["session=old", "mine=1"][..],
            &["mine=1", "session=new; Path=/"][..],
        ),
        (&["other=1"], &["session=old", "mine=1"], &["mine=1"]),
        (&[], &["session=old", "mine=1"], &["session=old", "mine=1"]),
    ] {
        let given: Vec<_> = given.iter().map(|cookie| ("set-cookie", *cookie)).collect();
        let auth = auth(options);
        let (head, body) = answer(200, &given);
        let Verdict::Pass(cookies) = auth.judge(&mut Fixture::get("/").exchange(), head, body)
        else {
            panic!("refused");
        };
        let mut response = Response::new(Body::Empty);
        for cookie in set {
            let cookie = HeaderValue::from_static(cookie);
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        auth.add_cookies(cookies, &mut response);
        let left: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, got);
    }
}

#[test]
fn the_users_name_is_known_afterwards() {
    let mut exchange = Fixture::get("/").exchange();
    let (head, body) = answer(200, &[("remote-user", "joe")]);
    auth(r#""headerField": "Remote-User""#).judge(&mut exchange, head, body);
    assert_eq!(exchange.user.as_deref(), Some("joe"));
}

#[test]
fn limits_are_those_of_the_configuration_or_ours() {
    for (options, body, answer, strict) in [
        ("", None, AWAITED, false),
        (r#""maxBodySize": 10"#, None, AWAITED, false),
        (r#""forwardBody": true"#, Some(MOST_KEPT), AWAITED, false),
        (
            r#""forwardBody": true, "maxBodySize": 0"#,
            Some(0),
            AWAITED,
            false,
        ),
        (
            r#""forwardBody": true, "maxBodySize": 10, "maxResponseBodySize": 20"#,
            Some(10),
            20,
            true,
        ),
    ] {
        let auth = auth(options);
        let got = (
            auth.keeps_bodies(),
            auth.keeps_answers(),
            auth.limits_answers(),
        );
        assert_eq!(got, (body, answer, strict), "{options}");
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    for (options, field) in [
        ("{}", "forwardAuth.address"),
        (r#"{"address": "auth:9000"}"#, "forwardAuth.address"),
        (r#"{"address": "ftp://auth"}"#, "forwardAuth.address"),
        (r#"{"address": "http://auth/a b"}"#, "forwardAuth.address"),
        (
            r#"{"address": "http://auth", "authResponseHeadersRegex": "("}"#,
            "forwardAuth.authResponseHeadersRegex",
        ),
        (
            r#"{"address": "http://auth", "authResponseHeaders": ["a", "b c"]}"#,
            "forwardAuth.authResponseHeaders[1]",
        ),
        (
            r#"{"address": "http://auth", "authRequestHeaders": [""]}"#,
            "forwardAuth.authRequestHeaders[0]",
        ),
        (
            r#"{"address": "http://auth", "headerField": "b c"}"#,
            "forwardAuth.headerField",
        ),
        (
            r#"{"address": "http://auth", "authSigninURL": "a\nb"}"#,
            "forwardAuth.authSigninURL",
        ),
        (
            r#"{"address": "http://auth", "authResponseHeaders": ["Host"]}"#,
            "has no effect",
        ),
        (
            r#"{"address": "http://auth", "tls": {"caOptional": true}}"#,
            "has no effect",
        ),
        (r#"{"address": "http://a:b@auth"}"#, "are not sent"),
    ] {
        let found = problems(&format!("{{\"forwardAuth\": {options}}}"));
        assert!(
            found.iter().any(|it| it.contains(field)),
            "{options}: {found:?}"
        );
    }
}
