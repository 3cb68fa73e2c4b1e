use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{
    exchange::{Body, Response},
    middleware::testing::{Answer, Fixture, built, problems},
};

fn config(options: &str) -> String {
    format!(r#"{{"headers":{options}}}"#)
}

/// What becomes of a server's answer with these header lines, in lines sorted by name.
fn decorated(options: &str, fixture: Fixture, server: &[(&'static str, &str)]) -> Vec<String> {
    let middleware = built(&config(options));
    let mut exchange = fixture.exchange();
    let flow = middleware.request(&mut exchange);
    assert!(
        matches!(flow, crate::middleware::Flow::Continue),
        "{flow:?}"
    );
    let mut response = Response::new(Body::Empty);
    for (name, value) in server {
        let value = HeaderValue::from_str(value).unwrap();
        response
            .headers_mut()
            .append(HeaderName::from_static(name), value);
    }
    middleware.response(&mut exchange, &mut response);
    lines(response.headers())
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

fn preflight(options: &str, origin: &str, asked: &str) -> Vec<String> {
    let fixture = Fixture::get("/")
        .method("OPTIONS")
        .with("origin", origin)
        .with("access-control-request-method", "PUT");
    let fixture = if asked.is_empty() {
        fixture
    } else {
        fixture.with("access-control-request-headers", asked)
    };
    let answer = fixture.answered_by(&config(options));
    assert_eq!((answer.status(), answer.text()), (200, String::new()));
    lines(answer.headers())
}

#[test]
fn request_fields_are_set_and_removed() {
    let options =
        r#"{"customRequestHeaders":{"X-Set":"new","x-add":"1","X-Gone":"","Host":"other.test"}}"#;
    let fixture = Fixture::get("/")
        .with("x-set", "a")
        .with("x-set", "b")
        .with("x-gone", "1");
    let sent = fixture.through(&config(options));
    assert_eq!(sent.header("x-set"), Some("new"));
    assert_eq!(sent.header("x-add"), Some("1"));
    assert_eq!(sent.header("x-gone"), None);
    assert_eq!(&*sent.0.request.host, "other.test");
    let empty_host = r#"{"customRequestHeaders":{"Host":""}}"#;
    assert_eq!(
        &*Fixture::get("/")
            .through(&config(empty_host))
            .0
            .request
            .host,
        "app.test"
    );
}

#[test]
fn an_empty_x_forwarded_for_keeps_the_peer_out() {
    for (name, omitted) in [("X-Forwarded-For", true), ("x-forwarded-for", false)] {
        let options = format!(r#"{{"customRequestHeaders":{{"{name}":""}}}}"#);
        let sent = Fixture::get("/")
            .with("x-forwarded-for", "1.1.1.1")
            .through(&config(&options));
        assert_eq!(sent.header("x-forwarded-for"), None, "{name}");
        assert_eq!(sent.0.omit_forwarded_for, omitted, "{name}");
    }
    let set = config(r#"{"customRequestHeaders":{"X-Forwarded-For":"2.2.2.2"}}"#);
    assert!(!Fixture::get("/").through(&set).0.omit_forwarded_for);
}

#[test]
fn fields_of_the_hop_are_left_alone() {
    let options = r#"{"customRequestHeaders":{"Connection":"X-Foo","Keep-Alive":"1","Content-Length":"9","TE":"trailers"},
        "customResponseHeaders":{"Connection":"close","Content-Length":"3","X-R":"1"}}"#;
    let sent = Fixture::get("/").through(&config(options));
    assert!(sent.0.request.headers.is_empty());
    assert!(sent.0.request.accepts_trailers);
    assert_eq!(decorated(options, Fixture::get("/"), &[]), ["x-r: 1"]);
    let warnings = problems(&config(options));
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    assert!(warnings.iter().all(|line| line.starts_with("warning")));
}

#[test]
fn response_fields_are_set_and_removed() {
    let options = r#"{"customResponseHeaders":{"X-R":"1","Server":""}}"#;
    let server = [("server", "app"), ("x-r", "0"), ("x-other", "1")];
    assert_eq!(
        decorated(options, Fixture::get("/"), &server),
        ["x-other: 1", "x-r: 1"]
    );
}

const CORS: &str = r#"{"accessControlAllowOriginList":["http://a.test"],"accessControlAllowMethods":["GET","PUT"],
    "accessControlAllowHeaders":["*"],"accessControlMaxAge":100,"addVaryHeader":true,
    "accessControlExposeHeaders":["X-E","X-F"]}"#;
const CREDENTIALS: &str = r#"{"accessControlAllowOriginList":["*"],"accessControlAllowCredentials":true,
    "accessControlAllowMethods":["*"],"accessControlAllowHeaders":["*"],"accessControlExposeHeaders":["*"]}"#;
const EXPRESSION: &str =
    r#"{"accessControlAllowOriginListRegex":["^http://.*\\.a\\.test$"],"accessControlMaxAge":-1}"#;

#[test]
fn preflights_are_answered() {
    assert_eq!(
        preflight(CORS, "http://a.test", "x-q"),
        [
            "access-control-allow-headers: *",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-origin: http://a.test",
            "access-control-expose-headers: X-E,X-F",
            "access-control-max-age: 100",
        ]
    );
    assert_eq!(
        preflight(CORS, "http://b.test", ""),
        [
            "access-control-allow-headers: *",
            "access-control-allow-methods: GET,PUT",
            "access-control-expose-headers: X-E,X-F",
            "access-control-max-age: 100",
        ]
    );
    assert_eq!(
        preflight(CREDENTIALS, "http://b.test", "x-q"),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: x-q",
            "access-control-allow-methods: PUT",
            "access-control-allow-origin: http://b.test",
        ]
    );
    assert_eq!(preflight(CREDENTIALS, "http://b.test", "").len(), 3);
    assert_eq!(
        preflight(EXPRESSION, "http://b.a.test", ""),
        [
            "access-control-allow-origin: http://b.a.test",
            "access-control-max-age: -1"
        ]
    );
    assert_eq!(
        preflight(EXPRESSION, "http://b.test", ""),
        ["access-control-max-age: -1"]
    );
}

#[test]
fn only_preflights_are_answered() {
    let asks = |fixture: Fixture| fixture.answer(&config(CORS)).is_some();
    let full = || {
        Fixture::get("/")
            .with("origin", "o")
            .with("access-control-request-method", "GET")
    };
    assert!(asks(full().method("OPTIONS")));
    assert!(!asks(full()));
    assert!(!asks(
        Fixture::get("/").method("OPTIONS").with("origin", "o")
    ));
    let custom = config(r#"{"customResponseHeaders":{"X":"1"}}"#);
    assert!(full().method("OPTIONS").answer(&custom).is_none());
}

#[test]
fn answers_say_who_may_read_them() {
    let from = |origin: &str| Fixture::get("/").with("origin", origin);
    let server = [
        ("vary", "Accept"),
        ("access-control-allow-origin", "server"),
        ("access-control-expose-headers", "server"),
    ];
    assert_eq!(
        decorated(CORS, from("http://a.test"), &server),
        [
            "access-control-allow-origin: http://a.test",
            "access-control-expose-headers: X-E,X-F",
            "vary: Accept,Origin",
        ]
    );
    assert_eq!(
        decorated(CORS, from("http://no.test"), &server)[0],
        "access-control-allow-origin: server"
    );
    assert_eq!(
        decorated(CREDENTIALS, Fixture::get("/"), &server),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-origin: ",
            "access-control-expose-headers: server",
            "vary: Accept",
        ]
    );
    let star = r#"{"accessControlAllowOriginList":["*"]}"#;
    assert_eq!(
        decorated(star, from("http://x"), &[]),
        ["access-control-allow-origin: *"]
    );
}

#[test]
fn vary_names_origin_once() {
    let vary = |server: &[(&'static str, &str)]| {
        decorated(r#"{"addVaryHeader":true}"#, Fixture::get("/"), server).join(" | ")
    };
    assert_eq!(vary(&[]), "vary: Origin");
    assert_eq!(vary(&[("vary", "Origin")]), "vary: Origin");
    assert_eq!(
        vary(&[("vary", "Accept, Origin")]),
        "vary: Accept, Origin,Origin"
    );
    assert_eq!(
        vary(&[("vary", "A"), ("vary", "B")]),
        "vary: A | vary: B | vary: Origin"
    );
}

#[test]
fn security_fields_overwrite_the_servers() {
    let options = r#"{"frameDeny":true,"contentTypeNosniff":true,"browserXssFilter":true,"referrerPolicy":"no",
        "permissionsPolicy":"p","contentSecurityPolicy":"default-src 'self'; 100%"}"#;
    let server = [("x-frame-options", "a"), ("x-frame-options", "b")];
    assert_eq!(
        decorated(options, Fixture::get("/"), &server),
        [
            "content-security-policy: default-src 'self'; 100%",
            "permissions-policy: p",
            "referrer-policy: no",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "x-xss-protection: 1; mode=block",
        ]
    );
    let custom = r#"{"frameDeny":true,"customFrameOptionsValue":"S","browserXssFilter":true,"customBrowserXSSValue":"0",
        "customResponseHeaders":{"X-Frame-Options":"outer"}}"#;
    assert_eq!(
        decorated(custom, Fixture::get("/"), &[]),
        ["x-frame-options: outer", "x-xss-protection: 0"]
    );
}

#[test]
fn transport_security_needs_https() {
    let sts = |more: &str| format!(r#"{{"stsSeconds":100,"publicKey":"pk"{more}}}"#);
    let plain = || Fixture::get("/");
    let signs = r#","sslProxyHeaders":{"X-Forwarded-Proto":"https"}"#;
    let both = [
        "public-key-pins: pk",
        "strict-transport-security: max-age=100",
    ];
    assert_eq!(decorated(&sts(""), plain(), &[]), [] as [&str; 0]);
    assert_eq!(decorated(&sts(""), plain().tls(), &[]), both);
    assert_eq!(
        decorated(&sts(signs), plain().with("x-forwarded-proto", "https"), &[]),
        both
    );
    assert!(decorated(&sts(signs), plain().with("x-forwarded-proto", "HTTPS"), &[]).is_empty());
    let forced = r#","forceSTSHeader":true,"stsIncludeSubdomains":true,"stsPreload":true"#;
    assert_eq!(
        decorated(&sts(forced), plain(), &[]),
        ["strict-transport-security: max-age=100; includeSubDomains; preload"]
    );
    assert!(decorated(&sts(r#","isDevelopment":true"#), plain().tls(), &[]).is_empty());
}

#[test]
fn nonces_are_new_for_each_answer() {
    let options = r#"{"contentSecurityPolicy":"script-src $NONCE 50%","contentSecurityPolicyReportOnly":"img-src $NONCE"}"#;
    let run = || decorated(options, Fixture::get("/"), &[]);
    let (first, second) = (run(), run());
    let nonce = |line: &str| line.split('\'').nth(1).unwrap().to_owned();
    assert_eq!(nonce(&first[0]).len(), "nonce-".len() + 22);
    assert_eq!(nonce(&first[0]), nonce(&first[1]));
    assert_ne!(nonce(&first[0]), nonce(&second[0]));
    assert!(first[1].ends_with("' 50%"), "{first:?}");
}

#[test]
fn unknown_hosts_are_refused() {
    let options = r#"{"allowedHosts":["q.test","Ok.test"],"hostsProxyHeaders":["X-H1","X-H2"],
        "frameDeny":true,"customResponseHeaders":{"X-R":"1"}}"#;
    let refused = |fixture: Fixture| fixture.answer(&config(options)).is_some();
    assert!(!refused(Fixture::get("/").host("q.test")));
    assert!(!refused(Fixture::get("/").host("OK.test")));
    assert!(refused(Fixture::get("/").host("q.test:80")));
    assert!(!refused(
        Fixture::get("/").host("no.test").with("x-h2", "Q.test")
    ));
    assert!(refused(
        Fixture::get("/")
            .host("q.test")
            .with("x-h1", "no")
            .with("x-h2", "q.test")
    ));
    let answer: Answer = Fixture::get("/")
        .host("no.test")
        .answered_by(&config(options));
    assert_eq!((answer.status(), answer.text()), (500, "Bad Host\n".into()));
    assert_eq!(answer.header("x-r"), Some("1"));
    assert_eq!(answer.header("x-frame-options"), None);
    let development = config(r#"{"allowedHosts":["q.test"],"isDevelopment":true}"#);
    assert!(Fixture::get("/").answer(&development).is_none());
    let renamed = config(r#"{"allowedHosts":["q.test"],"customRequestHeaders":{"Host":"q.test"}}"#);
    assert!(Fixture::get("/").host("no.test").answer(&renamed).is_none());
}

#[test]
fn findings() {
    for (options, expected) in [
        (
            "{}",
            "error: http.middlewares.m@file.headers: has no option set",
        ),
        (
            r#"{"customRequestHeaders":{"a b":"1"}}"#,
            "headers.customRequestHeaders.a b: \"a b\" is not a header name",
        ),
        (
            r#"{"customResponseHeaders":{"X":"a\nb"}}"#,
            "warning: http.middlewares.m@file.headers.customResponseHeaders.X: holds a line break",
        ),
        (
            r#"{"accessControlAllowOriginListRegex":["("]}"#,
            "accessControlAllowOriginListRegex[0]: bad regular",
        ),
        (
            r#"{"referrerPolicy":"a\nb"}"#,
            "headers.referrerPolicy: holds characters",
        ),
        (
            r#"{"hostsProxyHeaders":["a b"]}"#,
            "headers.hostsProxyHeaders: \"a b\" is not",
        ),
    ] {
        let lines = problems(&config(options));
        assert!(
            lines.len() == 1 && lines[0].contains(expected),
            "{options}: {lines:?}"
        );
    }
}

#[test]
fn an_agreement_to_another_protocol_is_left_alone() {
    let middleware = built(
        r#"{"headers":{"customResponseHeaders":{"X-A":"1","Server":""},"frameDeny":true,"addVaryHeader":true}}"#,
    );
    for (status, touched) in [(200, true), (101, false)] {
        let mut exchange = Fixture::get("/").exchange();
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
            .headers_mut()
            .insert("server", HeaderValue::from_static("own"));
        middleware.response(&mut exchange, &mut response);
        let headers = response.headers();
        assert_eq!(headers.contains_key("x-a"), touched, "{status}");
        assert_eq!(headers.contains_key("server"), !touched, "{status}");
        assert_eq!(headers.len() == 1, !touched, "{headers:?}");
    }
}
