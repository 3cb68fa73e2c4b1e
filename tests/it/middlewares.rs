//! The middlewares as a client sees them; their fine print is compared with Traefik side by side.

use std::time::Duration;

use serde_json::json;

use crate::support::{Backend, Proxy, Reply, backend, eventually, proxy};

/// One router with `middlewares` (YAML flow map) in their order of `names`.
async fn with(names: &str, middlewares: &str) -> (Proxy, Backend) {
    let server = backend("server")
        .reply(|seen| match seen.path() {
            "/large" => Reply::with(
                200,
                &[("Content-Type", "text/plain")],
                &"squeeze me ".repeat(1000),
            ),
            "/slow" => Reply::default()
                .pause(Duration::from_millis(600))
                .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            _ => Reply::with(
                200,
                &[
                    ("X-Backend", "server"),
                    ("Server", "scripted"),
                    ("X-Path", &seen.target),
                ],
                "hello",
            ),
        })
        .run()
        .await;
    (
        proxy(&routing(&server, names, middlewares)).run().await,
        server,
    )
}

fn routing(server: &Backend, names: &str, middlewares: &str) -> String {
    format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all, middlewares: [{names}]}}}}\n  middlewares: {middlewares}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\n",
        server.url()
    )
}

#[tokio::test]
async fn rate_limit_answers_429_with_when_to_come_back() {
    let (proxy, server) = with(
        "limit",
        "{limit: {rateLimit: {average: 1, period: 1m, burst: 3}}}",
    )
    .await;
    for number in 0..3 {
        assert_eq!(
            proxy.client().get("/").await.status,
            200,
            "request {number} is within the burst"
        );
    }
    let refused = proxy.client().get("/").await;
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (429, "Too Many Requests")
    );
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&seconds), "{seconds}");
    assert!(refused.header("x-retry-in").is_some());
    assert_eq!(server.hits(), 3);
}

#[tokio::test]
async fn rate_limit_survives_a_reload() {
    if crate::support::subject_is_traefik() {
        return;
    }
    let (proxy, server) = with(
        "limit",
        "{limit: {rateLimit: {average: 1, period: 1m, burst: 2}}}",
    )
    .await;
    assert_eq!(proxy.client().get("/").await.status, 200);
    assert_eq!(proxy.client().get("/").await.status, 200);
    let more = routing(
        &server,
        "limit",
        "{limit: {rateLimit: {average: 1, period: 1m, burst: 2}}, other: {addPrefix: {prefix: /x}}}",
    );
    proxy.write_routing("main.yml", &more);
    eventually("the new middleware is live", async || {
        proxy.rawdata().await["middlewares"]
            .get("other@file")
            .map(|_| ())
    })
    .await;
    assert_eq!(
        proxy.client().get("/").await.status,
        429,
        "an unrelated change refilled the bucket"
    );
}

#[tokio::test]
async fn in_flight_limit() {
    let (proxy, _server) = with("limit", "{limit: {inFlightReq: {amount: 1}}}").await;
    let client = proxy.client();
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.get("/slow").await.status }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = client.get("/").await;
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (429, "max connections reached: 1")
    );
    assert_eq!(slow.await.unwrap(), 200);
    eventually("the place is free again", async || {
        (client.get("/").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn basic_auth_accepts_each_kind_of_hash() {
    // All are the password "test".
    let bcrypt = bcrypt::hash("test", 4).unwrap();
    let users = format!(
        "users: ['apr:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/', 'bcrypt:{bcrypt}', 'sha:{{SHA}}qUqP5cyxm6YcTAhz05Hph5gvu9M=']"
    );
    let (proxy, server) = with(
        "auth",
        &format!("{{auth: {{basicAuth: {{{users}, removeHeader: true, headerField: X-User}}}}}}"),
    )
    .await;
    let missing = proxy.client().get("/").await;
    assert_eq!(
        (
            missing.status,
            missing.text().as_str(),
            missing.header("www-authenticate")
        ),
        (401, "401 Unauthorized\n", Some("Basic realm=\"traefik\""))
    );
    for (credentials, status) in [
        ("YXByOnRlc3Q=", 200),
        ("c2hhOnRlc3Q=", 200),
        ("YmNyeXB0OnRlc3Q=", 200),
        ("YmNyeXB0Ondyb25n", 401),
        ("c2hhOndyb25n", 401),
        ("bm9ib2R5OnRlc3Q=", 401),
        ("garbage", 401),
    ] {
        let answer = proxy
            .client()
            .get("/")
            .header("Authorization", &format!("basic {credentials}"))
            .await;
        assert_eq!(answer.status, status, "{credentials}");
    }
    let seen = &server.seen()[1];
    assert_eq!(
        (seen.header("authorization"), seen.header("x-user")),
        (None, Some("sha"))
    );
}

#[tokio::test]
async fn redirects() {
    let (proxy, _server) = with(
        "scheme",
        "{scheme: {redirectScheme: {scheme: https, port: 8443, permanent: true}}}",
    )
    .await;
    let answer = proxy.client().get("/x?y").host("shop.test").await;
    assert_eq!(
        (
            answer.status,
            answer.header("location"),
            answer.text().as_str()
        ),
        (301, Some("https://shop.test:8443/x?y"), "Moved Permanently")
    );
    let (proxy, _server) = with("regex", "{regex: {redirectRegex: {regex: '^http://old.test/(.*)', replacement: 'https://new.test/${1}'}}}").await;
    let answer = proxy.client().post("/a?b", "").host("old.test").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (307, Some("https://new.test/a?b"))
    );
    assert_eq!(proxy.client().get("/").host("other.test").await.status, 200);
}

#[tokio::test]
async fn path_middlewares_in_order() {
    for (names, middlewares, target, seen, prefix) in [
        (
            "a, b",
            "{a: {addPrefix: {prefix: /one}}, b: {addPrefix: {prefix: /two}}}",
            "/x",
            "/two/one/x",
            None,
        ),
        (
            "s",
            "{s: {stripPrefix: {prefixes: [/api]}}}",
            "/api/x?y",
            "/x?y",
            Some("/api"),
        ),
        (
            "s",
            "{s: {stripPrefix: {prefixes: [/api]}}}",
            "/api",
            "/",
            Some("/api"),
        ),
        (
            "s",
            "{s: {stripPrefixRegex: {regex: ['^/v[0-9]+']}}}",
            "/v12/x",
            "/x",
            Some("/v12"),
        ),
        (
            "r",
            "{r: {replacePath: {path: /new}}}",
            "/old?q",
            "/new?q",
            None,
        ),
        (
            "r",
            "{r: {replacePathRegex: {regex: '^/old/(.*)', replacement: '/new/$1'}}}",
            "/old/a%20b",
            "/new/a%20b",
            None,
        ),
        (
            "c",
            "{c: {chain: {middlewares: [s, a]}}, s: {stripPrefix: {prefixes: [/api]}}, a: {addPrefix: {prefix: /v2}}}",
            "/api/x",
            "/v2/x",
            Some("/api"),
        ),
    ] {
        let (proxy, server) = with(names, middlewares).await;
        assert_eq!(
            proxy.client().get(target).await.status,
            200,
            "{middlewares}"
        );
        let last = server.last();
        assert_eq!(
            (last.target.as_str(), last.header("x-forwarded-prefix")),
            (seen, prefix),
            "{middlewares}"
        );
    }
}

#[tokio::test]
async fn a_stripped_rest_that_climbs_is_refused() {
    let (proxy, server) = with("s", "{s: {stripPrefix: {prefixes: [/api]}}}").await;
    assert_eq!(proxy.client().get("/api../secret").await.status, 400);
    assert_eq!(server.hits(), 0);
}

#[tokio::test]
async fn headers_are_set_and_removed() {
    let middleware = "{h: {headers: {customRequestHeaders: {X-In: in, X-Gone: '', Host: inner.test}, customResponseHeaders: {X-Out: out, Server: ''}, frameDeny: true, contentTypeNosniff: true, stsSeconds: 60, forceSTSHeader: true}}}";
    let (proxy, server) = with("h", middleware).await;
    let answer = proxy
        .client()
        .get("/")
        .host("outer.test")
        .header("X-Gone", "1")
        .await;
    let seen = server.last();
    assert_eq!(
        (
            seen.header("x-in"),
            seen.header("x-gone"),
            seen.header("host"),
            seen.header("x-forwarded-host")
        ),
        (Some("in"), None, Some("inner.test"), Some("outer.test"))
    );
    assert_eq!(
        (
            answer.header("x-out"),
            answer.header("server"),
            answer.header("x-frame-options")
        ),
        (Some("out"), None, Some("DENY"))
    );
    assert_eq!(
        (
            answer.header("x-content-type-options"),
            answer.header("strict-transport-security")
        ),
        (Some("nosniff"), Some("max-age=60"))
    );
}

#[tokio::test]
async fn cors_preflight_is_answered_here() {
    let (proxy, server) = with("cors", "{cors: {headers: {accessControlAllowMethods: [GET, PUT], accessControlAllowOriginList: ['https://app.test'], accessControlAllowHeaders: ['*'], accessControlMaxAge: 100, addVaryHeader: true}}}").await;
    let preflight = proxy
        .client()
        .call("OPTIONS", "/")
        .header("Origin", "https://app.test")
        .header("Access-Control-Request-Method", "PUT")
        .await;
    assert_eq!(
        (
            preflight.status,
            preflight.header("access-control-allow-origin"),
            preflight.header("access-control-allow-methods"),
            preflight.header("access-control-max-age")
        ),
        (200, Some("https://app.test"), Some("GET,PUT"), Some("100"))
    );
    assert_eq!(server.hits(), 0);
    let answer = proxy
        .client()
        .get("/")
        .header("Origin", "https://app.test")
        .await;
    assert_eq!(
        (
            answer.header("access-control-allow-origin"),
            answer.header("vary")
        ),
        (Some("https://app.test"), Some("Origin"))
    );
    assert_eq!(
        proxy
            .client()
            .get("/")
            .header("Origin", "https://evil.test")
            .await
            .header("access-control-allow-origin"),
        None
    );
}

#[tokio::test]
async fn ip_allow_list_under_both_names() {
    for kind in ["ipAllowList", "ipWhiteList"] {
        let (proxy, server) = with(
            "ip",
            &format!("{{ip: {{{kind}: {{sourceRange: [10.0.0.0/8]}}}}}}"),
        )
        .await;
        let answer = proxy.client().get("/").await;
        assert_eq!(
            (answer.status, answer.text().as_str(), server.hits()),
            (403, "Forbidden", 0),
            "{kind}"
        );
        let (proxy, _server) = with(
            "ip",
            &format!("{{ip: {{{kind}: {{sourceRange: [127.0.0.1]}}}}}}"),
        )
        .await;
        assert_eq!(proxy.client().get("/").await.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn compress_by_what_the_client_accepts() {
    let (proxy, _server) = with("zip", "{zip: {compress: {}}}").await;
    for (accepts, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("br;q=0.5, zstd", Some("zstd")),
        ("gzip;q=0", None),
        ("identity", None),
    ] {
        let answer = proxy
            .client()
            .get("/large")
            .header("Accept-Encoding", accepts)
            .await;
        assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
        if coding.is_some() {
            assert!(
                answer.body.len() < 1000,
                "{accepts}: {} bytes",
                answer.body.len()
            );
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{accepts}");
        } else {
            assert_eq!(answer.body.len(), 11_000);
        }
    }
    assert_eq!(
        proxy
            .client()
            .get("/")
            .header("Accept-Encoding", "gzip")
            .await
            .header("content-encoding"),
        None,
        "too small to be worth it"
    );
}

#[tokio::test]
async fn a_missing_or_broken_middleware_takes_out_its_router_only() {
    let server = backend("server").run().await;
    let routing = format!(
        "http:\n  routers:\n    missing: {{rule: 'Path(`/missing`)', service: all, middlewares: [nobody]}}\n    broken: {{rule: 'Path(`/broken`)', service: all, middlewares: [bad]}}\n    fine: {{rule: 'Path(`/fine`)', service: all}}\n  middlewares: {{bad: {{redirectRegex: {{regex: '(', replacement: x}}}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\n",
        server.url()
    );
    let proxy = proxy(&routing)
        .install(&json!({"log": {"level": "DEBUG"}}))
        .run()
        .await;
    assert_eq!(
        (
            proxy.client().get("/missing").await.status,
            proxy.client().get("/broken").await.status,
            proxy.client().get("/fine").await.status
        ),
        (404, 404, 200)
    );
    let raw = proxy.rawdata().await;
    assert_eq!(
        (
            &raw["routers"]["missing@file"]["status"],
            &raw["routers"]["fine@file"]["status"]
        ),
        (&json!("disabled"), &json!("enabled"))
    );
}

/// A server that fails when it is told to, behind a circuit breaker with these durations.
async fn behind_a_breaker(durations: &str) -> (Proxy, Backend, String) {
    let server = backend("server")
        .reply(|seen| match seen.path() {
            "/bad" => Reply::status(500, "bad"),
            _ => Reply::status(200, "good"),
        })
        .run()
        .await;
    let breaker = format!(
        "{{cut: {{circuitBreaker: {{expression: 'ResponseCodeRatio(500, 600, 0, 600) > 0.5', {durations}}}}}}}"
    );
    let proxy = proxy(&routing(&server, "cut", &breaker)).run().await;
    (proxy, server, breaker)
}

/// The state of the breaker, as the API tells it.
async fn circuit(proxy: &Proxy) -> serde_json::Value {
    proxy.rawdata().await["middlewares"]["cut@file"]["circuits"]["all@file"].clone()
}

#[tokio::test]
async fn an_open_circuit_outlives_a_reload() {
    if crate::support::subject_is_traefik() {
        return;
    }
    let (proxy, server, breaker) = behind_a_breaker("fallbackDuration: 10m").await;
    assert_eq!(circuit(&proxy).await, "standby");
    assert_eq!(proxy.client().get("/good").await.status, 200);
    assert_eq!(circuit(&proxy).await, "standby");
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(proxy.client().get("/bad").await.status, 500);
    }
    assert_eq!(circuit(&proxy).await, "tripped");
    let more = breaker.replace("{cut", "{other: {addPrefix: {prefix: /x}}, cut");
    proxy.write_routing("main.yml", &routing(&server, "cut", &more));
    eventually("the new middleware is live", async || {
        proxy.rawdata().await["middlewares"]
            .get("other@file")
            .map(|_| ())
    })
    .await;
    assert_eq!(circuit(&proxy).await, "tripped");
    let refused = proxy.client().get("/good").await;
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (503, "Service Unavailable")
    );
}

#[tokio::test]
async fn a_circuit_closes_again_and_is_counted() {
    if crate::support::subject_is_traefik() {
        return;
    }
    let durations = "fallbackDuration: 200ms, recoveryDuration: 200ms";
    let (proxy, _server, _) = behind_a_breaker(durations).await;
    assert_eq!(proxy.client().get("/bad").await.status, 500);
    eventually("it has closed again", async || {
        let answer = proxy.client().get("/good").await;
        (answer.status == 200 && circuit(&proxy).await == "standby").then_some(())
    })
    .await;
    let metrics = proxy.metrics().await;
    for state in ["tripped", "recovering", "standby"] {
        let line = format!(
            "portway_circuit_breaker_changes_total{{middleware=\"cut@file\",state=\"{state}\"}} 1"
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    let log = proxy.log();
    assert!(log.contains("the circuit breaker has opened"), "{log}");
}
