//! Which router answers: host, path, method, header, query, priority, and what an unmatched request gets.

use std::fmt::Write as _;

use serde_json::json;

use crate::support::{Backend, Proxy, all_to, backend, proxy, routed, subject_is_traefik};

/// A proxy with one router per line, each marking its answers with its name; `options` is extra YAML of that router.
async fn routers(lines: &[(&str, &str, &str)]) -> (Proxy, Backend) {
    let server = backend("server").run().await;
    let (mut routers, mut marks) = (String::new(), String::new());
    for (name, rule, options) in lines {
        writeln!(
            routers,
            "    {name}: {{rule: '{rule}', service: server, middlewares: [mark-{name}]{options}}}"
        )
        .unwrap();
        writeln!(
            marks,
            "    mark-{name}: {{headers: {{customResponseHeaders: {{X-Router: {name}}}}}}}"
        )
        .unwrap();
    }
    let routing = format!(
        "http:\n  routers:\n{routers}  middlewares:\n{marks}  services:\n    server: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n",
        server.url()
    );
    (proxy(&routing).run().await, server)
}

#[tokio::test]
async fn forwards_to_the_server() {
    let one = backend("one").run().await;
    let proxy = proxy(&all_to(&[one.url()])).run().await;
    let answer = proxy.client().get("/hello?x=1").await;
    assert_eq!((answer.status, answer.backend()), (200, "one"));
    assert_eq!(one.last().target, "/hello?x=1");
}

#[tokio::test]
async fn every_matcher_selects_its_router() {
    let (proxy, _server) = routers(&[
        ("host", "Host(`a.test`)", ""),
        ("wildcard", "Host(`*.w.test`)", ""),
        (
            "exact-below-wildcard",
            "Host(`x.w.test`)",
            ", priority: 100",
        ),
        ("host-regexp", "HostRegexp(`^r[0-9]+\\.test$`)", ""),
        ("path", "Host(`p.test`) && Path(`/exact`)", ""),
        ("prefix", "Host(`p.test`) && PathPrefix(`/pre`)", ""),
        (
            "path-regexp",
            "Host(`p.test`) && PathRegexp(`^/[0-9]+$`)",
            "",
        ),
        ("space", "Host(`p.test`) && Path(`/a b`)", ""),
        ("encoded-slash", "Host(`p.test`) && Path(`/c%2Fd`)", ""),
        ("method", "Host(`m.test`) && Method(`DELETE`)", ""),
        ("header", "Host(`h.test`) && Header(`X-Key`, `v`)", ""),
        (
            "header-regexp",
            "Host(`h.test`) && HeaderRegexp(`X-Key`, `^w+$`)",
            "",
        ),
        ("query", "Host(`q.test`) && Query(`k`, `v`)", ""),
        (
            "query-regexp",
            "Host(`q.test`) && QueryRegexp(`k`, `^[0-9]+$`)",
            "",
        ),
        ("query-flag", "Host(`q.test`) && Query(`flag`)", ""),
        ("client-ip", "Host(`i.test`) && ClientIP(`127.0.0.0/8`)", ""),
        (
            "not-client-ip",
            "Host(`i.test`) && ClientIP(`10.0.0.0/8`)",
            ", priority: 1000",
        ),
        ("or", "Host(`o1.test`) || Host(`o2.test`)", ""),
        ("not", "Host(`n.test`) && !PathPrefix(`/private`)", ""),
        (
            "low",
            "Host(`prio.test`) && PathPrefix(`/looooooooooong`)",
            ", priority: 1",
        ),
        ("high", "Host(`prio.test`)", ", priority: 2"),
        ("short", "Host(`len.test`)", ""),
        ("longer", "Host(`len.test`) && PathPrefix(`/`)", ""),
    ])
    .await;
    for (method, host, target, header, expected) in [
        ("GET", "a.test", "/", "", "host"),
        ("GET", "A.TEST", "/", "", "host"),
        ("GET", "a.test:8080", "/", "", "host"),
        ("GET", "a.test.", "/", "", "host"),
        ("GET", "b.test", "/", "", "404"),
        ("GET", "y.w.test", "/", "", "wildcard"),
        ("GET", "x.w.test", "/", "", "exact-below-wildcard"),
        ("GET", "w.test", "/", "", "404"),
        ("GET", "a.b.w.test", "/", "", "404"),
        ("GET", "r12.test", "/", "", "host-regexp"),
        ("GET", "rx.test", "/", "", "404"),
        ("GET", "p.test", "/exact", "", "path"),
        ("GET", "p.test", "/exact/", "", "404"),
        ("GET", "p.test", "/Exact", "", "404"),
        ("GET", "p.test", "/x/../exact?q", "", "path"),
        ("GET", "p.test", "/prefixed/x", "", "prefix"),
        ("GET", "p.test", "/42", "", "path-regexp"),
        ("GET", "p.test", "/42x", "", "404"),
        ("GET", "p.test", "/a%20b", "", "space"),
        ("GET", "p.test", "/c%2fd", "", "encoded-slash"),
        ("GET", "p.test", "/c/d", "", "404"),
        ("DELETE", "m.test", "/", "", "method"),
        ("GET", "m.test", "/", "", "404"),
        ("GET", "h.test", "/", "v", "header"),
        ("GET", "h.test", "/", "V", "404"),
        ("GET", "h.test", "/", "www", "header-regexp"),
        ("GET", "q.test", "/?x=1&k=v", "", "query"),
        ("GET", "q.test", "/?k=%76", "", "query"),
        ("GET", "q.test", "/?K=v", "", "404"),
        ("GET", "q.test", "/?k=12", "", "query-regexp"),
        ("GET", "q.test", "/?flag", "", "query-flag"),
        ("GET", "q.test", "/?flag=1", "", "404"),
        ("GET", "i.test", "/", "", "client-ip"),
        ("GET", "o1.test", "/", "", "or"),
        ("GET", "o2.test", "/", "", "or"),
        ("GET", "n.test", "/public", "", "not"),
        ("GET", "n.test", "/private/x", "", "404"),
        ("GET", "prio.test", "/looooooooooong", "", "high"),
        ("GET", "len.test", "/", "", "longer"),
    ] {
        let mut call = proxy.client().call(method, target).host(host);
        if !header.is_empty() {
            call = call.header("x-key", header);
        }
        let answer = call.await;
        let got = answer
            .header("x-router")
            .map_or_else(|| answer.status.to_string(), str::to_owned);
        assert_eq!(got, expected, "{method} {host}{target} {header}");
    }
}

#[tokio::test]
async fn v2_syntax_by_router_and_by_default() {
    let (proxy, _server) = routers(&[
        ("several", "Host(`a.test`, `b.test`)", ", ruleSyntax: v2"),
        (
            "template",
            "Host(`p.test`) && Path(`/users/{id:[0-9]+}`)",
            ", ruleSyntax: v2",
        ),
        (
            "subdomain",
            "HostRegexp(`{sub:[a-z]+}.s.test`)",
            ", ruleSyntax: v2",
        ),
        (
            "headers",
            "Host(`h.test`) && Headers(`X-Key`, `v`)",
            ", ruleSyntax: v2",
        ),
    ])
    .await;
    for (host, target, expected) in [
        ("a.test", "/", "several"),
        ("b.test", "/", "several"),
        ("p.test", "/users/7", "template"),
        ("p.test", "/users/x", "404"),
        ("x.s.test", "/", "subdomain"),
        ("x1.s.test", "/", "404"),
        ("h.test", "/", "headers"),
    ] {
        let answer = proxy
            .client()
            .get(target)
            .host(host)
            .header("x-key", "v")
            .await;
        assert_eq!(
            answer.header("x-router").unwrap_or("404"),
            expected,
            "{host}{target}"
        );
    }
    let server = backend("server").run().await;
    let by_default =
        crate::support::proxy(&routed("Host(`a.test`, `b.test`)", &[server.url()], ""))
            .install(&json!({"core": {"defaultRuleSyntax": "v2"}}))
            .run()
            .await;
    assert_eq!(
        by_default.client().get("/").host("b.test").await.status,
        200
    );
}

#[tokio::test]
async fn v2_templates_in_a_v3_host_regexp_keep_their_v2_meaning() {
    if subject_is_traefik() {
        return;
    }
    let (proxy, _server) =
        routers(&[("legacy", "HostRegexp(`{name:[a-z]+}.legacy.test`)", "")]).await;
    assert_eq!(
        proxy
            .client()
            .get("/")
            .host("x.legacy.test")
            .await
            .header("x-router"),
        Some("legacy")
    );
    assert_eq!(
        proxy.client().get("/").host("x1.legacy.test").await.status,
        404
    );
}

#[tokio::test]
async fn an_unmatched_request_gets_the_plain_404() {
    let server = backend("server").run().await;
    let proxy = proxy(&routed("Host(`known`)", &[server.url()], ""))
        .run()
        .await;
    let answer = proxy.client().get("/").host("unknown").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (404, "404 page not found\n")
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_service_without_servers_is_a_503() {
    let proxy = proxy("http:\n  routers: {all: {rule: 'PathPrefix(`/`)', service: empty}}\n  services: {empty: {loadBalancer: {servers: []}}}\n").run().await;
    let answer = proxy.client().get("/").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (503, "no available server\n")
    );
}

#[tokio::test]
async fn entry_points_separate_routers() {
    let (a, b) = (backend("a").run().await, backend("b").run().await);
    let routing = format!(
        "http:\n  routers:\n    a: {{rule: 'PathPrefix(`/`)', service: a, entryPoints: [web]}}\n    b: {{rule: 'PathPrefix(`/`)', service: b, entryPoints: [other]}}\n  services:\n    a: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n    b: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n",
        a.url(),
        b.url()
    );
    let proxy = proxy(&routing).entry_point("other", &json!({})).run().await;
    assert_eq!(proxy.client().get("/").await.backend(), "a");
    assert_eq!(
        crate::support::Client::new(proxy.addr("other"))
            .get("/")
            .await
            .backend(),
        "b"
    );
}

#[tokio::test]
async fn entry_point_redirection_and_middlewares() {
    let server = backend("server").run().await;
    let routing = all_to(&[server.url()])
        + "  middlewares:\n    stamp: {headers: {customResponseHeaders: {X-Stamp: ours}}}\n";
    let proxy = proxy(&routing)
        .entry_point("secure", &json!({"http": {"middlewares": ["stamp@file"]}}))
        .entry_point(
            "plain",
            &json!({"http": {"redirections": {"entryPoint": {"to": "secure", "scheme": "https"}}}}),
        )
        .run()
        .await;
    let client = crate::support::Client::new(proxy.addr("plain"));
    let port = proxy.addr("secure").port();
    let answer = client.get("/x?y=1").host("shop.test").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (
            301,
            Some(format!("https://shop.test:{port}/x?y=1").as_str())
        )
    );
    assert_eq!(client.post("/x", "b").host("shop.test").await.status, 308);
    let answer = crate::support::Client::new(proxy.addr("secure"))
        .get("/")
        .await;
    assert_eq!(
        (answer.status, answer.header("x-stamp")),
        (200, Some("ours"))
    );
    assert_eq!(proxy.client().get("/").await.header("x-stamp"), None);
}

#[tokio::test]
async fn hosts_and_paths_upstream() {
    let server = backend("server").run().await;
    let own = proxy(&routed(
        "PathPrefix(`/`)",
        &[format!("{}/ignored", server.url())],
        "        passHostHeader: false\n",
    ))
    .run()
    .await;
    own.client().get("/x").host("shop.test").await;
    assert_eq!(
        (server.last().header("host"), server.last().target.as_str()),
        (Some(server.addr.to_string().as_str()), "/x")
    );
    let kept = format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}/base/', preservePath: true}}]}}}}}}\n",
        server.url()
    );
    let kept = proxy(&kept).run().await;
    kept.client().get("/x?y").host("shop.test").await;
    assert_eq!(
        (server.last().header("host"), server.last().target.as_str()),
        (Some("shop.test"), "/base/x?y")
    );
}

#[tokio::test]
async fn faults_of_servers_have_traefiks_answers() {
    let dead = crate::support::loopback(crate::support::free_port());
    let cut = backend("cut")
        .reply(|_| crate::support::Reply::default().close())
        .run()
        .await;
    let slow = backend("slow")
        .reply(|_| crate::support::Reply::default().hang())
        .run()
        .await;
    let routing = format!(
        "http:\n  routers:\n    dead: {{rule: 'Path(`/dead`)', service: dead}}\n    cut: {{rule: 'Path(`/cut`)', service: cut}}\n    slow: {{rule: 'Path(`/slow`)', service: slow}}\n  services:\n    dead: {{loadBalancer: {{servers: [{{url: 'http://{dead}'}}]}}}}\n    cut: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n    slow: {{loadBalancer: {{serversTransport: hasty, servers: [{{url: '{}'}}]}}}}\n  serversTransports: {{hasty: {{forwardingTimeouts: {{responseHeaderTimeout: 200ms}}}}}}\n",
        cut.url(),
        slow.url()
    );
    let proxy = proxy(&routing).run().await;
    for (target, status, body) in [
        ("/dead", 502, "Bad Gateway"),
        ("/cut", 502, "Bad Gateway"),
        ("/slow", 504, "Gateway Timeout"),
    ] {
        let answer = proxy.client().get(target).await;
        assert_eq!(
            (
                answer.status,
                answer.text().as_str(),
                answer.header("content-type")
            ),
            (status, body, None),
            "{target}"
        );
    }
}
