//! Seen from outside: access log, metrics, ping, API.

use regex::Regex;
use serde_json::{Value, json};

use crate::support::{
    Backend, Proxy, Reply, all_to, backend, eventually, proxy, routed, subject_is_traefik,
};

async fn logged(options: &Value) -> (Proxy, Backend) {
    let server = backend("server")
        .reply(|seen| {
            if seen.path() == "/bad" {
                Reply::status(500, "bad")
            } else {
                Reply::with(200, &[("X-Origin", "o"), ("X-Secret", "s")], "hello")
            }
        })
        .run()
        .await;
    let mut access = json!({"filePath": "{dir}/access.log"});
    access
        .as_object_mut()
        .unwrap()
        .extend(options.as_object().unwrap().clone());
    let proxy = proxy(&routed("Host(`shop.test`)", &[server.url()], ""))
        .install(&json!({"accessLog": access}))
        .run()
        .await;
    (proxy, server)
}

/// Waits until the access log has `count` lines.
async fn lines(proxy: &Proxy, count: usize) -> Vec<String> {
    let path = proxy.dir().join("access.log");
    eventually(&format!("{count} lines in the access log"), async || {
        let text = std::fs::read_to_string(&path).ok()?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn access_log_in_common_form() {
    let (proxy, server) = logged(
        &json!({"fields": {"headers": {"names": {"User-Agent": "keep", "Referer": "keep"}}}}),
    )
    .await;
    let client = proxy.client().host("shop.test");
    client
        .get("/x?y=1")
        .header("User-Agent", "tester \"1\"")
        .header("Referer", "http://r.test/")
        .await;
    client.get("/bad").await;
    client.get("/x").host("unknown.test").await;
    let lines = lines(&proxy, 3).await;
    let server = regex::escape(&server.url());
    for (line, pattern) in lines.iter().zip([
        format!(r#"^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d:\d\d \+0000\] "GET /x\?y=1 HTTP/1\.1" 200 5 "http://r\.test/" "tester \\"1\\"" 1 "all@file" "{server}" \d+ms$"#),
        format!(r#""GET /bad HTTP/1\.1" 500 3 "-" "-" 2 "all@file" "{server}" \d+ms$"#),
        r#""GET /x HTTP/1\.1" 404 19 "-" "-" 3 "-" "-" \d+ms$"#.to_owned(),
    ]) {
        assert!(Regex::new(&pattern).unwrap().is_match(line), "{line}\nis not\n{pattern}");
    }
}

#[tokio::test]
async fn access_log_in_generic_form() {
    let (proxy, _server) = logged(&json!({"format": "genericCLF"})).await;
    proxy.client().host("shop.test").get("/x").await;
    let line = &lines(&proxy, 1).await[0];
    assert!(
        Regex::new(r#"^127\.0\.0\.1 - - \[[^\]]+\] "GET /x HTTP/1\.1" 200 5 "-" "-"$"#)
            .unwrap()
            .is_match(line),
        "{line}"
    );
}

#[tokio::test]
async fn access_log_as_json_with_fields_and_headers() {
    let fields = json!({"names": {"ClientUsername": "drop"}, "headers": {"defaultMode": "drop", "names": {"X-Origin": "keep", "Authorization": "redact", "X-In": "keep"}}});
    let (proxy, server) = logged(&json!({"format": "json", "fields": fields})).await;
    proxy
        .client()
        .host("shop.test:81")
        .post("/x?y=1", "body!")
        .header("Authorization", "Basic abc")
        .header("X-In", "<&>")
        .header("X-Other", "1")
        .await;
    let line = lines(&proxy, 1).await.remove(0);
    let entry: Value = serde_json::from_str(&line).unwrap();
    for (field, expected) in [
        ("RouterName", json!("all@file")),
        ("ServiceName", json!("all@file")),
        ("ServiceURL", json!(server.url())),
        ("ServiceAddr", json!(server.addr.to_string())),
        ("ClientHost", json!("127.0.0.1")),
        ("RequestAddr", json!("shop.test:81")),
        ("RequestHost", json!("shop.test")),
        ("RequestPort", json!("81")),
        ("RequestMethod", json!("POST")),
        ("RequestPath", json!("/x?y=1")),
        ("RequestProtocol", json!("HTTP/1.1")),
        ("RequestScheme", json!("http")),
        ("RequestContentSize", json!(5)),
        ("OriginStatus", json!(200)),
        ("OriginContentSize", json!(5)),
        ("DownstreamStatus", json!(200)),
        ("DownstreamContentSize", json!(5)),
        ("RequestCount", json!(1)),
        ("RetryAttempts", json!(0)),
        ("entryPointName", json!("web")),
        ("level", json!("info")),
        ("msg", json!("")),
        ("request_Authorization", json!("REDACTED")),
        ("request_X-In", json!("<&>")),
        ("origin_X-Origin", json!("o")),
        ("downstream_X-Origin", json!("o")),
        ("ClientUsername", Value::Null),
        ("request_X-Other", Value::Null),
        ("origin_X-Secret", Value::Null),
    ] {
        assert_eq!(entry[field], expected, "{field} in {line}");
    }
    for field in [
        "StartUTC",
        "StartLocal",
        "Duration",
        "Overhead",
        "OriginDuration",
        "ClientAddr",
        "ClientPort",
        "time",
    ] {
        assert!(!entry[field].is_null(), "{field} in {line}");
    }
    assert!(line.contains(r"\u003c\u0026\u003e"), "{line}");
    let keys: Vec<usize> = [
        "\"ClientAddr\"",
        "\"DownstreamStatus\"",
        "\"RouterName\"",
        "\"entryPointName\"",
        "\"level\"",
        "\"time\"",
    ]
    .iter()
    .map(|key| line.find(key).unwrap())
    .collect();
    assert!(keys.is_sorted(), "keys are in order: {line}");
}

#[tokio::test]
async fn access_log_filters_are_alternatives() {
    let (proxy, _server) = logged(&json!({"format": "json", "filters": {"statusCodes": ["404", "500-599"], "minDuration": "10s"}})).await;
    let client = proxy.client().host("shop.test");
    client.get("/fine").await;
    client.get("/bad").await;
    client.get("/fine").await;
    client.get("/").host("unknown.test").await;
    let lines = lines(&proxy, 2).await;
    // A line is written when its answer is out, by whichever worker: the order is not that of the requests.
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(
        lines.len() == 2 && has("/bad") && has("unknown.test"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn access_log_is_reopened_on_usr1() {
    let (proxy, _server) = logged(&json!({})).await;
    let client = proxy.client().host("shop.test");
    client.get("/before").await;
    lines(&proxy, 1).await;
    std::fs::rename(
        proxy.dir().join("access.log"),
        proxy.dir().join("access.log.1"),
    )
    .unwrap();
    proxy.signal("USR1");
    eventually("the log file is there again", async || {
        proxy.dir().join("access.log").exists().then_some(())
    })
    .await;
    client.get("/after").await;
    let now = lines(&proxy, 1).await;
    assert!(now[0].contains("/after"), "{now:?}");
    assert!(
        !std::fs::read_to_string(proxy.dir().join("access.log.1"))
            .unwrap()
            .contains("/after")
    );
}

#[tokio::test]
async fn log_lines_cannot_be_forged() {
    let (proxy, _server) =
        logged(&json!({"fields": {"headers": {"names": {"User-Agent": "keep"}}}})).await;
    proxy
        .client()
        .host("shop.test")
        .get("/%0a127.0.0.1%20-%20forged%1b[31m")
        .header("User-Agent", "x\" 200 \"")
        .await;
    let lines = lines(&proxy, 1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains('\u{1b}'), "{lines:?}");
    assert!(lines[0].contains(r#""x\" 200 \"""#), "{lines:?}");
}

#[tokio::test]
async fn metrics_have_traefiks_names_and_labels() {
    let server = backend("server").run().await;
    let options = "        healthCheck: {path: /, interval: 200ms}\n";
    let proxy = proxy(&routed("Host(`shop.test`)", &[server.url()], options))
        .run()
        .await;
    let client = proxy.client().host("shop.test");
    client.get("/").await;
    client.post("/", "body").await;
    client.call("BREW", "/").await;
    client.get("/").host("unknown.test").await;
    let call = client.post("/", "").host("unknown.test");
    call.header("Content-Type", "application/grpc").await;
    client.get("/").header("Accept", "text/event-stream").await;
    let metrics = eventually("the last request is counted", async || {
        let text = proxy.metrics().await;
        (text.contains("protocol=\"sse\"") && text.contains("server_up{")).then_some(text)
    })
    .await;
    let url = server.url();
    for series in [
        r#"traefik_entrypoint_requests_total{code="200",entrypoint="web",method="GET",protocol="http"} 1"#,
        r#"traefik_entrypoint_requests_total{code="200",entrypoint="web",method="POST",protocol="http"} 1"#,
        r#"traefik_entrypoint_requests_total{code="200",entrypoint="web",method="EXTENSION_METHOD",protocol="http"} 1"#,
        r#"traefik_entrypoint_requests_total{code="404",entrypoint="web",method="GET",protocol="http"} 1"#,
        // A gRPC call that ends without a gRPC status is "unknown".
        r#"traefik_entrypoint_requests_total{code="2",entrypoint="web",method="POST",protocol="grpc"} 1"#,
        r#"traefik_entrypoint_requests_total{code="200",entrypoint="web",method="GET",protocol="sse"} 1"#,
        r#"traefik_entrypoint_requests_bytes_total{code="200",entrypoint="web",method="POST",protocol="http"} 4"#,
        r#"traefik_entrypoint_request_duration_seconds_bucket{code="200",entrypoint="web",method="GET",protocol="http",le="0.1"} 1"#,
        r#"traefik_entrypoint_request_duration_seconds_bucket{code="200",entrypoint="web",method="GET",protocol="http",le="+Inf"} 1"#,
        r#"traefik_entrypoint_request_duration_seconds_count{code="200",entrypoint="web",method="GET",protocol="http"} 1"#,
        r#"traefik_router_requests_total{code="200",method="GET",protocol="http",router="all@file",service="all@file"} 1"#,
        r#"traefik_service_requests_total{code="200",method="GET",protocol="http",service="all@file"} 1"#,
        &format!(r#"traefik_service_server_up{{service="all@file",url="{url}"}} 1"#),
    ] {
        assert!(
            metrics.lines().any(|line| line == series),
            "{series} is not in\n{}",
            metrics
                .lines()
                .filter(|line| line.starts_with("traefik_"))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
    for name in [
        "traefik_config_reloads_total",
        "traefik_config_last_reload_success",
        "traefik_open_connections",
        "traefik_entrypoint_responses_bytes_total",
        "traefik_service_responses_bytes_total",
        "traefik_service_request_duration_seconds_sum",
        "traefik_router_request_duration_seconds_sum",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}");
    }
    assert!(metrics.contains("traefik_open_connections{entrypoint=\"web\",protocol=\"TCP\"}"));
    let answer = proxy.admin().get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
}

#[tokio::test]
async fn metrics_do_not_grow_with_what_clients_send() {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    proxy.client().call("BREW", "/").await;
    proxy.client().get("/").await;
    let before = proxy
        .metrics()
        .await
        .lines()
        .filter(|line| line.starts_with("traefik_"))
        .count();
    for number in 0..200 {
        proxy
            .client()
            .call(&format!("M{number}"), &format!("/{number}"))
            .host(&format!("h{number}.test"))
            .header("X", &number.to_string())
            .await;
    }
    let after = proxy
        .metrics()
        .await
        .lines()
        .filter(|line| line.starts_with("traefik_"))
        .count();
    assert!(after <= before + 5, "{before} series became {after}");
}

#[tokio::test]
async fn vanished_services_leave_the_metrics() {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    proxy.client().get("/").await;
    eventually("the service is counted", async || {
        proxy
            .metrics()
            .await
            .contains("service=\"all@file\"")
            .then_some(())
    })
    .await;
    proxy.write_routing(
        "main.yml",
        &all_to(&[server.url()])
            .replace("all:", "new:")
            .replace("service: all", "service: new"),
    );
    eventually("the old series are gone", async || {
        (!proxy.metrics().await.contains("service=\"all@file\"")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ping_answers() {
    let proxy = proxy(&all_to(&["http://127.0.0.1:1".to_owned()]))
        .run()
        .await;
    let answer = proxy.admin().get("/ping").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "OK"));
    assert_eq!(proxy.admin().call("HEAD", "/ping").await.status, 200);
}

#[tokio::test]
async fn api_speaks_traefiks_json() {
    let server = backend("server").run().await;
    let routing = format!(
        "http:\n  routers:\n    a: {{rule: 'Host(`a.test`)', service: s, middlewares: [m], entryPoints: [web]}}\n    b: {{rule: 'Host(`b.test`)', service: s, priority: 7, tls: {{}}}}\n    bad: {{rule: 'Host(`c.test`)', service: nobody}}\n  middlewares: {{m: {{stripPrefix: {{prefixes: [/api]}}}}}}\n  services: {{s: {{loadBalancer: {{healthCheck: {{path: /}}, servers: [{{url: '{}'}}]}}}}}}\n",
        server.url()
    );
    let proxy = proxy(&routing).run().await;
    let get = async |path: &str| {
        let answer = proxy.admin().get(path).await;
        assert_eq!(
            (
                answer.status,
                answer
                    .header("content-type")
                    .map(|kind| kind.split(';').next().unwrap_or_default())
            ),
            (200, Some("application/json")),
            "{path}: {}",
            answer.text()
        );
        answer.json()
    };
    let router = get("/api/http/routers/a@file").await;
    for (key, expected) in [
        ("entryPoints", json!(["web"])),
        ("middlewares", json!(["m@file"])),
        ("service", json!("s")),
        ("rule", json!("Host(`a.test`)")),
        ("priority", json!(14)),
        ("status", json!("enabled")),
        ("using", json!(["web"])),
        ("name", json!("a@file")),
        ("provider", json!("file")),
    ] {
        assert_eq!(router[key], expected, "{key} in {router}");
    }
    let other = get("/api/http/routers/b%40file").await;
    assert_eq!(
        (&other["priority"], &other["tls"]["options"]),
        (&json!(7), &json!("default"))
    );
    let broken = get("/api/http/routers/bad@file").await;
    assert_eq!(broken["status"], "disabled");
    assert!(
        broken["error"][0].as_str().unwrap().contains("nobody"),
        "{broken}"
    );
    let service = get("/api/http/services/s@file").await;
    assert_eq!(
        (
            &service["type"],
            &service["status"],
            &service["serverStatus"][server.url()]
        ),
        (&json!("loadbalancer"), &json!("enabled"), &json!("UP"))
    );
    assert_eq!(
        (
            &service["loadBalancer"]["strategy"],
            &service["loadBalancer"]["passHostHeader"]
        ),
        (&json!("wrr"), &json!(true))
    );
    let middleware = get("/api/http/middlewares/m@file").await;
    assert_eq!(
        (
            &middleware["type"],
            &middleware["stripPrefix"]["prefixes"][0],
            &middleware["usedBy"][0]
        ),
        (&json!("stripprefix"), &json!("/api"), &json!("a@file"))
    );
    let overview = get("/api/overview").await;
    assert_eq!(
        (
            &overview["http"]["routers"]["errors"],
            &overview["features"]["metrics"],
            &overview["providers"][0]
        ),
        (&json!(1), &json!("Prometheus"), &json!("File"))
    );
    assert!(get("/api/version").await["Version"].is_string());
    let entry_points = get("/api/entrypoints").await;
    let names: Vec<&Value> = entry_points
        .as_array()
        .unwrap()
        .iter()
        .map(|entry_point| &entry_point["name"])
        .collect();
    assert_eq!(names, ["traefik", "web"]);
    assert_eq!(
        get("/api/entrypoints/web").await["transport"]["respondingTimeouts"]["idleTimeout"],
        "3m0s"
    );
    let raw = get("/api/rawdata").await;
    assert!(
        raw["routers"]["a@file"].is_object()
            && raw["services"]["s@file"].is_object()
            && raw["middlewares"]["m@file"].is_object()
    );
}

#[tokio::test]
async fn api_lists_in_pages_with_filters() {
    let routers: String = (0..25)
        .map(|number| format!("    r{number:02}: {{rule: 'Host(`h{number}.test`)', service: s}}\n"))
        .collect();
    let proxy = proxy(&format!("http:\n  routers:\n{routers}  services: {{s: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:1'}}]}}}}}}\n")).run().await;
    let page = proxy
        .admin()
        .get("/api/http/routers?per_page=10&search=@file")
        .await;
    assert_eq!(
        (
            page.json().as_array().unwrap().len(),
            page.header("x-next-page"),
            &page.json()[0]["name"]
        ),
        (10, Some("2"), &json!("r00@file"))
    );
    let last = proxy
        .admin()
        .get("/api/http/routers?per_page=10&page=3&search=@file")
        .await;
    assert_eq!(
        (
            last.json().as_array().unwrap().len(),
            last.header("x-next-page")
        ),
        (5, Some("1"))
    );
    assert_eq!(
        proxy
            .admin()
            .get("/api/http/routers?search=h7.test")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let bad = proxy
        .admin()
        .get("/api/http/routers?page=9&per_page=10&search=@file")
        .await;
    assert_eq!(
        (bad.status, bad.json()["message"].as_str()),
        (400, Some("invalid request: page: 9, per_page: 10"))
    );
    let missing = proxy.admin().get("/api/http/routers/nobody@file").await;
    assert_eq!(missing.status, 404);
    assert!(missing.json()["message"].is_string());
    assert_eq!(proxy.admin().post("/api/overview", "").await.status, 405);
}

#[tokio::test]
async fn internal_services_can_be_routed_to() {
    let routing = "http:\n  routers:\n    api: {rule: 'Host(`admin.test`)', service: api@internal, middlewares: [auth]}\n    ping: {rule: 'Path(`/health`)', service: ping@internal}\n  middlewares: {auth: {ipAllowList: {sourceRange: [127.0.0.1]}}}\n";
    let proxy = proxy(routing).run().await;
    assert!(
        proxy
            .client()
            .host("admin.test")
            .get("/api/version")
            .await
            .json()["Version"]
            .is_string()
    );
    assert_eq!(proxy.client().get("/health").await.text(), "OK");
    if !subject_is_traefik() {
        assert_eq!(
            proxy
                .client()
                .host("other.test")
                .get("/api/version")
                .await
                .status,
            404
        );
    }
}

#[tokio::test]
async fn an_entry_point_may_keep_its_requests_out_of_sight() {
    let server = backend("server").run().await;
    let proxy = proxy(&routed("Host(`shop.test`)", &[server.url()], ""))
        .install(&json!({"accessLog": {"filePath": "{dir}/access.log"}}))
        .entry_point(
            "quiet",
            &json!({"observability": {"accessLogs": false, "metrics": false}}),
        )
        .run()
        .await;
    for host in ["shop.test", "unknown.test"] {
        let quiet = crate::support::Client::new(proxy.addr("quiet"));
        quiet.host(host).get("/quiet").await;
    }
    proxy.client().host("unknown.test").get("/seen").await;
    let logged = lines(&proxy, 1).await.join("\n");
    assert!(
        logged.contains("/seen") && !logged.contains("/quiet"),
        "{logged}"
    );
    let page = proxy.metrics().await;
    let of = |name: &str| {
        let series = format!("entrypoint=\"{name}\",method");
        page.lines()
            .any(|line| line.contains("requests_total") && line.contains(&series))
    };
    assert!(of("web") && !of("quiet"), "{page}");
}
