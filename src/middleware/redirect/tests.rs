use crate::middleware::testing::{Fixture, problems};

/// `status location` or `pass`.
fn outcome(fixture: Fixture, config: &str) -> String {
    match fixture.answer(config) {
        None => "pass".to_owned(),
        Some(answer) => {
            assert_eq!(answer.header("content-type"), None);
            match answer.header("location") {
                Some(location) => format!("{} {location}", answer.status()),
                None => answer.status().to_string(),
            }
        }
    }
}

fn to_https(host: &'static str, proto: &'static str, port: &str) -> String {
    let fixture = Fixture::get("/x?y").host(host);
    let fixture = if proto.is_empty() {
        fixture
    } else {
        fixture.with("x-forwarded-proto", proto)
    };
    outcome(
        fixture,
        &format!(r#"{{"redirectScheme":{{"scheme":"https","port":"{port}"}}}}"#),
    )
}

#[test]
fn to_another_scheme() {
    for (host, location) in [
        ("a.test", "302 https://a.test/x?y"),
        ("A.test:8080", "302 https://A.test/x?y"),
        ("a.test:443", "302 https://a.test/x?y"),
        ("[::1]", "302 https://[::1]/x?y"),
        ("[::1]:8000", "302 https://[::1]/x?y"),
    ] {
        assert_eq!(to_https(host, "", ""), location, "{host}");
        assert_eq!(to_https(host, "", "443"), location, "{host}");
    }
    assert_eq!(
        to_https("a.test:8080", "", "9443"),
        "302 https://a.test:9443/x?y"
    );
}

#[test]
fn a_request_that_is_there_passes() {
    for (host, proto, port, expected) in [
        ("a.test", "https", "", "pass"),
        ("a.test", "wss", "", "pass"),
        ("a.test:443", "HTTPS", "", "pass"),
        ("a.test:443", "https", "443", "pass"),
        ("a.test:9443", "https", "9443", "pass"),
        ("a.test:8443", "https", "", "302 https://a.test/x?y"),
        ("a.test", "https", "9443", "302 https://a.test:9443/x?y"),
        ("a.test", "ws", "", "302 https://a.test/x?y"),
        ("a.test", "foo", "", "302 https://a.test/x?y"),
    ] {
        assert_eq!(
            to_https(host, proto, port),
            expected,
            "{host} {proto} {port}"
        );
    }
    let tls = Fixture::get("/").host("a.test").tls();
    assert_eq!(
        outcome(tls, r#"{"redirectScheme":{"scheme":"https"}}"#),
        "pass"
    );
}

#[test]
fn by_expression() {
    for (replacement, location) in [
        (
            "https://new.test/a b/$1",
            "302 https://new.test/a%20b/p%20q/r?s=t",
        ),
        ("http://[::1/$1", "502"),
        ("/rel/$1#fr ag", "302 /rel/p%20q%2Fr?s=t#fr%20ag"),
        ("HTTPS://User:pa@NEW.test:99/%zz", "502"),
        (
            "HTTPS://User:pa@NEW.test:99/",
            "302 https://User:pa@NEW.test:99/",
        ),
        ("https://é.test/é", "302 https://%C3%A9.test/%C3%A9"),
        ("https://new.test", "302 https://new.test"),
        ("foo:bar", "302 foo:bar"),
        ("", "302 "),
        ("http://a.test:80/$1", "pass"),
    ] {
        let config = format!(
            r#"{{"redirectRegex":{{"regex":"^http://[^/]+/(.*)","replacement":"{replacement}"}}}}"#
        );
        let fixture = Fixture::get("/p%20q%2Fr?s=t").host("a.test:80");
        assert_eq!(outcome(fixture, &config), location, "{replacement}");
    }
}

#[test]
fn the_expression_sees_the_connections_scheme_and_the_whole_host() {
    let config = r#"{"redirectRegex":{"regex":"^http://a.test/","replacement":"/"}}"#;
    for (fixture, expected) in [
        (Fixture::get("/").host("a.test"), "302 /"),
        (Fixture::get("/").host("a.test:80"), "pass"),
        (Fixture::get("/").host("a.test").tls(), "pass"),
        (
            Fixture::get("/")
                .host("a.test")
                .with("x-forwarded-proto", "https"),
            "302 /",
        ),
    ] {
        assert_eq!(outcome(fixture, config), expected);
    }
}

#[test]
fn codes_depend_on_method_and_permanence() {
    for (method, permanent, status) in [
        ("GET", false, 302),
        ("GET", true, 301),
        ("HEAD", false, 307),
        ("POST", true, 308),
    ] {
        let config =
            format!(r#"{{"redirectScheme":{{"scheme":"https","permanent":{permanent}}}}}"#);
        let answer = Fixture::get("/")
            .host("a")
            .method(method)
            .answered_by(&config);
        assert_eq!(answer.status(), status, "{method} {permanent}");
    }
    let answer = Fixture::get("/")
        .host("a")
        .answered_by(r#"{"redirectScheme":{"scheme":"https"}}"#);
    assert_eq!(answer.text(), "Found");
}

#[test]
fn findings() {
    assert_eq!(
        problems(r#"{"redirectScheme":{}}"#),
        ["error: http.middlewares.m@file.redirectScheme.scheme: is required (usually `https`)"]
    );
    assert!(problems(r#"{"redirectRegex":{"regex":"(?=x)"}}"#)[0].contains("redirectRegex.regex"));
}
