//! Services made of services: weighted, highestRandomWeight, mirroring, failover.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{
    Backend, Proxy, Reply, backend, eventually, proxy, subject_is_traefik, without_hold,
};

/// A router for every host below `test`, leading to the service of that name; `services` is YAML in braces, where `{a}` is a server's URL.
fn kinds(services: &[(&str, String)]) -> String {
    let mut text = "http:\n  routers:\n".to_owned();
    for (name, _) in services {
        text += &format!("    {name}: {{rule: 'Host(`{name}.test`)', service: {name}}}\n");
    }
    text += "  services:\n";
    for (name, service) in services {
        text += &format!("    {name}: {{{service}}}\n");
    }
    text
}

fn balancer(server: &Backend, more: &str) -> String {
    format!(
        "loadBalancer: {{servers: [{{url: '{}'}}]{more}}}",
        server.url()
    )
}

async fn answers(proxy: &Proxy, host: &str, count: usize) -> Vec<String> {
    let client = proxy.client().host(&format!("{host}.test"));
    let mut answers = Vec::new();
    for _ in 0..count {
        let answer = client.get("/").await;
        answers.push(format!("{} {}", answer.status, answer.backend()));
    }
    answers
}

async fn two() -> (Backend, Backend) {
    (backend("one").run().await, backend("two").run().await)
}

const CHECKED: &str =
    ", healthCheck: {path: /health, interval: 50ms, unhealthyInterval: 50ms, timeout: 2s}";

/// A server whose health can be turned off.
async fn patient(name: &str) -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&well);
    let own = name.to_owned();
    let server = backend(name).reply(move |seen| {
        let sick = seen.path() == "/health" && !state.load(Ordering::SeqCst);
        Reply::with(if sick { 500 } else { 200 }, &[("X-Backend", &own)], "")
    });
    (server.run().await, well)
}

#[tokio::test]
async fn weights_share_requests_and_a_reload_goes_on() {
    let (one, two) = two().await;
    let services = |other: &str| {
        kinds(&[
            ("a", balancer(&one, "")),
            ("b", balancer(&two, "")),
            (
                "w",
                "weighted: {services: [{name: a, weight: 3}, {name: b}]}".to_owned(),
            ),
            (other, balancer(&one, "")),
        ])
    };
    let proxy = proxy(&services("x")).run().await;
    let mut seen = answers(&proxy, "w", 5).await;
    if !subject_is_traefik() {
        proxy.write_routing("main.yml", &services("y"));
        eventually("the other router is live", async || {
            let answer = proxy.client().host("y.test").get("/").await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
    seen.extend(answers(&proxy, "w", 3).await);
    let (a, b) = ("200 one", "200 two");
    assert_eq!(seen, [a, a, b, a, a, a, b, a]);
}

#[tokio::test]
async fn every_level_has_its_cookie() {
    let (one, two) = two().await;
    let sticky = ", sticky: {cookie: {name: child}}";
    let text = kinds(&[
        ("a", balancer(&one, sticky)),
        ("b", balancer(&two, sticky)),
        (
            "w",
            "weighted: {services: [{name: a}, {name: b}], sticky: {cookie: {name: parent}}}"
                .to_owned(),
        ),
    ]);
    let proxy = proxy(&text).run().await;
    let client = proxy.client().host("w.test");
    let first = client.get("/").await;
    let cookies: Vec<String> = first
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|value| {
            value
                .to_str()
                .unwrap()
                .split(';')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    let parent = cookies.iter().find(|it| it.starts_with("parent=")).unwrap();
    for _ in 0..4 {
        let again = client.get("/").header("Cookie", parent).await;
        assert_eq!(again.backend(), first.backend());
        let set = again.header("set-cookie").unwrap();
        assert!(set.starts_with("child="), "{set}");
        let both = cookies.join("; ");
        let again = client.get("/").header("Cookie", &both).await;
        assert_eq!(
            (again.backend(), again.header("set-cookie")),
            (first.backend(), None)
        );
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_skipped_and_parents_tell() {
    if subject_is_traefik() {
        return;
    }
    let (one, one_is_well) = patient("one").await;
    let (two, two_is_well) = patient("two").await;
    let text = kinds(&[
        ("a", balancer(&one, CHECKED)),
        ("b", balancer(&two, CHECKED)),
        (
            "inner",
            "weighted: {services: [{name: a}], healthCheck: {}}".to_owned(),
        ),
        (
            "w",
            "weighted: {services: [{name: inner}, {name: b}], healthCheck: {}}".to_owned(),
        ),
        ("f", "failover: {service: w, fallback: spare}".to_owned()),
        ("spare", balancer(&two, "")),
    ]);
    let proxy = proxy(&text).run().await;
    let until = async |host: &str, expected: &[&str]| {
        eventually(&format!("{host} answers {expected:?}"), async || {
            let mut seen = answers(&proxy, host, 4).await;
            seen.sort();
            seen.dedup();
            (seen == expected).then_some(())
        })
        .await;
    };
    until("w", &["200 one", "200 two"]).await;
    one_is_well.store(false, Ordering::SeqCst);
    until("w", &["200 two"]).await;
    let metric = async |name: &str, value: u32| {
        let line = format!("portway_service_up{{service=\"{name}@file\"}} {value}");
        eventually(&line, async || {
            proxy.metrics().await.contains(&line).then_some(())
        })
        .await;
    };
    metric("inner", 0).await;
    metric("w", 1).await;
    until("f", &["200 two"]).await;
    two_is_well.store(false, Ordering::SeqCst);
    metric("w", 0).await;
    until("f", &["200 two"]).await;
    one_is_well.store(true, Ordering::SeqCst);
    until("f", &["200 one"]).await;
    metric("w", 1).await;
    let told = |text: &str| {
        proxy
            .log()
            .lines()
            .any(|line| line.contains(text) && line.contains("w@file"))
    };
    assert!(
        told("the service is down") && told("the service is up"),
        "{}",
        proxy.log()
    );
}

#[tokio::test]
async fn a_client_belongs_to_one_service() {
    let (one, two) = two().await;
    let text = kinds(&[
        ("a", balancer(&one, "")),
        ("b", balancer(&two, "")),
        (
            "h",
            "highestRandomWeight: {services: [{name: a}, {name: b}]}".to_owned(),
        ),
    ]);
    let proxy = proxy(&text).run().await;
    let seen = answers(&proxy, "h", 6).await;
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn mirrors_get_their_exact_share_and_bodies() {
    let (one, two) = two().await;
    let three = backend("three").run().await;
    let text = kinds(&[
        ("a", balancer(&one, "")),
        ("b", balancer(&two, "")),
        ("c", balancer(&three, "")),
        (
            "m",
            "mirroring: {service: a, maxBodySize: 6, mirrors: [{name: b, percent: 30}, {name: c, percent: 100}]}"
                .to_owned(),
        ),
    ]);
    let proxy = proxy(&text).run().await;
    let client = proxy.client().host("m.test");
    for number in 1..=10 {
        let answer = client.post(&format!("/{number}"), "body").await;
        assert_eq!((answer.status, answer.backend()), (200, "one"));
    }
    client.post("/large", "larger").await;
    client.post("/too-large", "too large").await;
    client.get("/last").await;
    eventually("the last request is mirrored", async || {
        three.targets().contains(&"/last".to_owned()).then_some(())
    })
    .await;
    let mut targets = two.targets();
    targets.sort();
    // Of 13, the 1st, 4th, 7th and 11th.
    assert_eq!(targets, ["/1", "/4", "/7", "/large"]);
    eventually("all are mirrored", async || {
        (three.hits() == 12).then_some(())
    })
    .await;
    let bodies: BTreeMap<String, String> = three
        .seen()
        .iter()
        .map(|seen| {
            (
                seen.target.clone(),
                String::from_utf8_lossy(&seen.body).into_owned(),
            )
        })
        .collect();
    assert_eq!(bodies["/4"], "body");
    assert_eq!(bodies["/large"], "larger");
    assert!(!bodies.contains_key("/too-large"));
    assert_eq!(three.seen()[0].header("x-forwarded-for"), Some("127.0.0.1"));
    if !subject_is_traefik() {
        let page = proxy.metrics().await;
        let line = "portway_service_mirrors_given_up_total{reason=\"body\",service=\"m@file\"} 1";
        assert!(page.contains(line), "{page}");
        for (service, count) in [("a", 12), ("c", 11), ("b", 4)] {
            let line = format!("service=\"{service}@file\"}} {count}");
            let posts = page.lines().filter(|line| {
                line.starts_with("traefik_service_requests_total") && line.contains("\"POST\"")
            });
            let posts: Vec<&str> = posts.collect();
            assert!(
                posts.iter().any(|post| post.ends_with(&line)),
                "{line}: {posts:#?}"
            );
        }
    }
}

#[tokio::test]
async fn a_mirror_holds_nobody_up() {
    if subject_is_traefik() {
        return;
    }
    let one = backend("one").run().await;
    let stuck = backend("stuck")
        .reply(|_| Reply::default().hang())
        .run()
        .await;
    let text = kinds(&[
        ("a", balancer(&one, "")),
        ("b", balancer(&stuck, "")),
        (
            "m",
            "mirroring: {service: a, mirrors: [{name: b, percent: 100}], timeout: 700ms, maxInFlight: 3}"
                .to_owned(),
        ),
    ]);
    let proxy = proxy(&text).run().await;
    let start = Instant::now();
    assert_eq!(answers(&proxy, "m", 8).await, ["200 one"; 8]);
    // What is beyond three is given up while they hang, and those are after their time.
    let given_up = async |reason: &str, at_least: f64| {
        let series = format!(
            "portway_service_mirrors_given_up_total{{reason=\"{reason}\",service=\"m@file\"}} "
        );
        eventually(&series, async || {
            let page = proxy.metrics().await;
            let value = page.lines().find_map(|line| line.strip_prefix(&series))?;
            (value.parse::<f64>().unwrap() >= at_least).then_some(())
        })
        .await;
    };
    if start.elapsed() < Duration::from_millis(600) {
        given_up("busy", 5.0).await;
    }
    given_up("timeout", 3.0).await;
    assert!(
        proxy.log().contains("mirroring.maxInFlight"),
        "{}",
        proxy.log()
    );
}

#[tokio::test]
async fn mirrored_uploads_stay_within_their_memory() {
    if subject_is_traefik() {
        return;
    }
    let sink = || backend("sink").reply(|seen| Reply::status(200, &seen.body.len().to_string()));
    let (one, two) = (sink().run().await, sink().run().await);
    let text = kinds(&[
        ("a", balancer(&one, "")),
        ("b", balancer(&two, "")),
        (
            "m",
            "mirroring: {service: a, mirrors: [{name: b, percent: 100}]}".to_owned(),
        ),
    ]);
    let proxy = proxy(&text)
        .install(&json!({"core": {"workers": 1}}))
        .run()
        .await;
    let client = proxy.client().host("m.test");
    client.post("/small", vec![b'x'; 3 << 20]).await;
    eventually("the small one is mirrored", async || {
        two.seen()
            .first()
            .map(|seen| assert_eq!(seen.body.len(), 3 << 20))
    })
    .await;
    let before = peak(&proxy);
    let large = Bytes::from(vec![b'x'; 160 << 20]);
    let answer = client.post("/large", large).await;
    assert_eq!(answer.text(), (160 << 20).to_string());
    let grown = peak(&proxy) - before;
    assert!(grown < 110 << 10, "{grown} KiB more for 64 MiB of copies");
    let page = proxy.metrics().await;
    let line = "portway_service_mirrors_given_up_total{reason=\"memory\",service=\"m@file\"} 1";
    assert!(page.contains(line), "{page}");
    client.post("/again", vec![b'x'; 3 << 20]).await;
    eventually("the room is free again", async || {
        (two.hits() == 2).then_some(())
    })
    .await;
}

/// The most memory the process has had, in KiB.
fn peak(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

async fn failing(name: &str, status: u16) -> Backend {
    let own = name.to_owned();
    let server = backend(name).reply(move |seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        Reply::with(status, &[("X-Backend", &own)], &body)
    });
    server.run().await
}

#[tokio::test]
async fn the_fallback_gets_what_the_main_service_failed_at() {
    let (bad, good) = (failing("bad", 500).await, failing("good", 200).await);
    let text = kinds(&[
        ("bad", balancer(&bad, "")),
        ("good", balancer(&good, "")),
        (
            "f",
            "failover: {service: bad, fallback: good, errors: {status: ['500-503'], maxRequestBodyBytes: 5}}"
                .to_owned(),
        ),
        (
            "any",
            "failover: {service: bad, fallback: good, errors: {status: ['500']}}".to_owned(),
        ),
        (
            "other",
            "failover: {service: bad, fallback: good, errors: {status: ['502']}}".to_owned(),
        ),
        (
            "nested",
            "failover: {service: inner, fallback: good, errors: {status: ['500']}}".to_owned(),
        ),
        (
            "inner",
            "failover: {service: bad, fallback: bad, errors: {status: ['500']}}".to_owned(),
        ),
    ]);
    let proxy = proxy(&text)
        .install(&json!({"accessLog": {"filePath": "{dir}/access.log", "format": "json"}}))
        .run()
        .await;
    let post = async |host: &str, body: &'static str, chunked: bool| {
        let client = proxy.client().host(&format!("{host}.test"));
        let call = match chunked {
            false => client.post("/", body),
            true => client.call("POST", "/").stream(chunks(body)),
        };
        let answer = call.await;
        let text = answer.text();
        (
            answer.status,
            answer.header("x-backend").map(str::to_owned),
            text,
        )
    };
    for chunked in [false, true] {
        for (host, body, expected) in [
            ("f", "12345", (200, Some("good"), "12345")),
            ("f", "123456", (413, None, "Request body too large\n")),
            ("any", "123456", (200, Some("good"), "123456")),
            ("other", "123456", (500, Some("bad"), "123456")),
            ("nested", "123456", (200, Some("good"), "123456")),
        ] {
            bad.reset();
            let (status, from, text) = post(host, body, chunked).await;
            assert_eq!(
                (status, from.as_deref(), text.as_str()),
                expected,
                "{host} {body} {chunked}"
            );
            assert_eq!(bad.hits() == 0, status == 413);
        }
    }
    assert_eq!(good.last().count("x-forwarded-for"), 1);
    assert_eq!(good.last().header("x-forwarded-for"), Some("127.0.0.1"));
    let line: Value = eventually("the access log is written", async || {
        let text = std::fs::read_to_string(proxy.dir().join("access.log")).ok()?;
        let line = text.lines().find(|line| line.contains("f.test"))?;
        serde_json::from_str(line).ok()
    })
    .await;
    assert_eq!(line["ServiceName"], "good@file");
    assert_eq!(line["OriginStatus"], 200);
}

fn chunks(
    body: &'static str,
) -> http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible> {
    use http_body_util::{BodyExt, StreamBody};
    let pieces = body
        .as_bytes()
        .chunks(2)
        .map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece))));
    StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
}

#[tokio::test]
async fn parts_have_middlewares_of_their_own() {
    let (one, two) = two().await;
    let mut text = kinds(&[
        ("a", balancer(&one, "") + ", middlewares: [own]"),
        ("b", balancer(&two, "")),
        (
            "w",
            "weighted: {services: [{name: a}, {name: b}]}, middlewares: [all]".to_owned(),
        ),
        (
            "m",
            "mirroring: {service: w, mirrors: [{name: a, percent: 100}]}".to_owned(),
        ),
    ]);
    text += "  middlewares:\n    own: {headers: {customRequestHeaders: {X-Own: '1'}, customResponseHeaders: {X-Left: '1'}}}\n    all: {headers: {customRequestHeaders: {X-All: '1'}}}\n";
    let proxy = proxy(&text).run().await;
    let client = proxy.client().host("w.test");
    for (name, left) in [("one", Some("1")), ("two", None)] {
        let answer = client.get("/").await;
        assert_eq!((answer.backend(), answer.header("x-left")), (name, left));
    }
    assert_eq!(
        (one.last().count("x-own"), one.last().count("x-all")),
        (1, 1)
    );
    assert_eq!(
        (two.last().count("x-own"), two.last().count("x-all")),
        (0, 1)
    );
    one.reset();
    two.reset();
    let client = proxy.client().host("m.test");
    client.get("/").await;
    client.get("/").await;
    eventually("both are mirrored", async || {
        (one.hits() == 3).then_some(())
    })
    .await;
    let own = one
        .seen()
        .iter()
        .filter(|seen| seen.count("x-all") == 0)
        .count();
    assert_eq!(
        own, 2,
        "the copy is the request as it came to the mirroring service"
    );
}

#[tokio::test]
async fn a_part_that_restarts_is_waited_for() {
    if subject_is_traefik() {
        return;
    }
    let one = backend("one").run().await;
    let text = |server: &Backend| {
        kinds(&[
            ("a", balancer(server, "")),
            ("w", "weighted: {services: [{name: a}]}".to_owned()),
        ])
    };
    let proxy = proxy(&text(&one)).run().await;
    assert_eq!(answers(&proxy, "w", 1).await, ["200 one"]);
    one.kill().await;
    let call = proxy.client().host("w.test").get("/");
    let waiting = tokio::spawn(async move { call.await });
    eventually("the request waits", async || {
        let page = proxy.metrics().await;
        let line = "portway_service_held_requests{service=\"a@file\"} 1";
        page.contains(line).then_some(())
    })
    .await;
    let two = backend("two").run().await;
    proxy.write_routing("main.yml", &text(&two));
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, answer.backend()), (200, "two"));
}

#[tokio::test]
async fn the_api_and_explain_tell_of_them() {
    if subject_is_traefik() {
        return;
    }
    let (one, two) = two().await;
    let text = kinds(&[
        ("a", balancer(&one, "")),
        ("b", balancer(&two, "")),
        (
            "w",
            "weighted: {services: [{name: a, weight: 3}, {name: b}]}".to_owned(),
        ),
        ("bad", "weighted: {services: [{name: nope}]}".to_owned()),
    ]);
    let proxy = proxy(&text).install(&without_hold()).run().await;
    let service = async |name: &str| {
        let path = format!("/api/http/services/{name}@file");
        proxy.admin().get(&path).await.json()
    };
    let w = service("w").await;
    assert_eq!(
        w["weighted"],
        json!({"services": [{"name": "a", "weight": 3}, {"name": "b", "weight": 1}]})
    );
    assert_eq!(
        (&w["type"], &w["status"]),
        (&json!("weighted"), &json!("enabled"))
    );
    assert_eq!(w["usedBy"], json!(["w@file"]));
    assert_eq!(service("a").await["serverStatus"], json!({one.url(): "UP"}));
    let bad = service("bad").await;
    assert_eq!(bad["status"], "disabled");
    assert_eq!(
        bad["error"],
        json!(["the service `nope@file` does not exist"])
    );
    assert_eq!(proxy.client().host("bad.test").get("/").await.status, 404);
    let asked = "/api/explain?url=http://w.test/&entryPoint=web";
    let way = proxy.admin().get(asked).await.json()["way"].clone();
    assert_eq!(
        (&way["service"], &way["internal"]),
        (&json!("w@file"), &json!(false))
    );
    for (part, (service, role)) in [("a@file", "weight 3"), ("b@file", "weight 1")]
        .iter()
        .enumerate()
    {
        let part = &way["parts"][part];
        assert_eq!(
            (&part["service"], &part["role"]),
            (&json!(service), &json!(role))
        );
        assert_eq!(
            (&part["kind"], &part["up"]),
            (&json!("loadBalancer"), &json!(true))
        );
        assert_eq!(part["servers"][0]["state"], "up");
    }
}
