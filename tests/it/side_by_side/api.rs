//! `/api` of both programs on the same configuration. What differs on purpose is in [`ALLOWED`], each with its reason.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

use super::subject::traefik;
use crate::support::{Answer, Proxy, ProxyBuilder, eventually, proxy, subject_is_traefik};

/// Where two answers differ.
struct Difference {
    request: &'static str,
    /// Keys to the value, joined by slashes; an object of a list goes by its name.
    path: String,
    traefik: Option<Value>,
    portway: Option<Value>,
}

impl Difference {
    fn ends(&self, end: &str) -> bool {
        self.path.ends_with(end)
    }

    fn only_ours(&self) -> bool {
        self.traefik.is_none()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            request,
            path,
            traefik,
            portway,
        } = self;
        write!(
            f,
            "{request} {path}: Traefik {traefik:?}, Portway {portway:?}"
        )
    }
}

type Allowance = (&'static str, fn(&Difference) -> bool);

const ALLOWED: &[Allowance] = &[
    ("another program, started at another time", |it| {
        it.request == "version"
    }),
    (
        "we have no dashboard, and so none of its routers, services and middlewares",
        |it| it.path.contains("dashboard") || it.request == "overview" && it.ends("/total"),
    ),
    (
        "we tell more: findings with their places, what servers do, the steps of a router",
        |it| {
            let more = ["/diagnostics", "/servers", "/plan"];
            it.only_ours() && more.iter().any(|end| it.ends(end))
        },
    ),
    ("findings have other words", |it| {
        let words = |side: &Option<Value>| {
            let words = side.as_ref().and_then(Value::as_array);
            words.is_some_and(|words| !words.is_empty())
        };
        it.ends("/error") && words(&it.traefik) && words(&it.portway)
    }),
    ("hashes of passwords are not shown", |it| {
        it.ends("/basicAuth/users") && it.portway == Some(json!(["REDACTED"]))
    }),
    (
        "a middleware that cannot work is told of itself, not only by its routers",
        |it| {
            let told = it.path.contains("broken@file");
            told || it.request == "overview" && it.ends("/middlewares/errors")
        },
    ),
    (
        "Traefik's own routers have a rule syntax that nobody can write",
        |it| it.ends("@internal/ruleSyntax"),
    ),
    (
        "timeouts are those of our own codec, see docs/compatibility.md 10",
        |it| it.path.contains("/respondingTimeouts/"),
    ),
];

const ROUTING: &str = "
http:
  routers:
    app: {rule: 'Host(`app.test`) && PathPrefix(`/a`)', service: app, middlewares: [auth, strip, lim], entryPoints: [web], observability: {accessLogs: false}}
    two: {rule: 'Path(`/two`)', service: two@file, middlewares: [ch], priority: 7, ruleSyntax: v3}
    tls: {rule: 'Host(`tls.test`)', service: app, tls: {}}
    bad: {rule: 'Hots(`a`)', service: app}
    gone-service: {rule: 'Path(`/n`)', service: gone}
    gone-middleware: {rule: 'Path(`/m`)', service: app, middlewares: [gone]}
    gone-door: {rule: 'Path(`/e`)', service: app, entryPoints: [nope]}
    half-door: {rule: 'Path(`/h`)', service: app, entryPoints: [web, nope]}
  middlewares:
    auth: {basicAuth: {users: ['u:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/']}}
    strip: {stripPrefix: {prefixes: [/a]}}
    lim: {rateLimit: {average: 100, burst: 50}}
    ch: {chain: {middlewares: [strip, lim@file]}}
    hdr: {headers: {customRequestHeaders: {X-A: b}, stsSeconds: 5}}
    unused: {compress: {}}
    broken: {addPrefix: {prefix: ''}}
  services:
    app: {loadBalancer: {servers: [{url: 'http://127.0.0.1:1'}, {url: 'http://127.0.0.1:2', weight: 3}], sticky: {cookie: {name: c}}}}
    two: {loadBalancer: {servers: [{url: 'http://127.0.0.1:3'}]}}
    lonely: {loadBalancer: {servers: [{url: 'http://127.0.0.1:4'}]}}
";

/// Below `/api/`.
const REQUESTS: &[&str] = &[
    "version",
    "overview",
    "entrypoints",
    "entrypoints/web",
    "entrypoints/none",
    "http/routers",
    "http/services",
    "http/middlewares",
    "http/routers/app@file",
    "http/routers/app%40file",
    "http/routers/half-door@file",
    "http/routers/none",
    "http/services/app@file",
    "http/services/none@file",
    "http/middlewares/ch@file",
    "http/middlewares/none",
    "http/routers?search=@file&per_page=2",
    "http/routers?search=@file&per_page=2&page=2",
    "http/routers?search=@file&per_page=100&page=1",
    "http/routers?page=9",
    "http/routers?page=x",
    "http/routers?per_page=0",
    "http/services?search=@file&per_page=2&page=2",
    "http/middlewares?search=@file&per_page=3&page=2",
    "http/routers?search=TLS.TEST",
    "http/routers?search=nothing",
    "http/routers?status=disabled",
    "http/routers?status=WARNING",
    "http/routers?serviceName=app@file",
    "http/routers?serviceName=app",
    "http/routers?serviceName=two@file",
    "http/routers?middlewareName=lim@file",
    "http/routers?middlewareName=lim",
    "http/routers?search=@file&sortBy=name&direction=desc",
    "http/routers?search=@file&sortBy=priority",
    "http/routers?search=@file&sortBy=priority&direction=desc",
    "http/routers?search=@file&sortBy=rule",
    "http/routers?search=@file&sortBy=service&direction=desc",
    "http/routers?search=@file&sortBy=status",
    "http/routers?search=@file&sortBy=provider",
    "http/routers?search=@file&sortBy=entryPoints",
    "http/routers?search=@file&sortBy=nonsense&direction=nonsense",
    "http/services?search=@file&sortBy=servers",
    "http/services?search=@file&sortBy=type&direction=desc",
    "http/middlewares?search=@file&sortBy=type",
    "http/middlewares?search=ST",
    "tcp/routers",
    "tcp/services",
    "tcp/middlewares",
    "tcp/routers/none",
    "udp/routers",
    "udp/services",
    "certificates",
    "nonsense",
    "http",
    "http/routers/",
    // Last, because Traefik adds TLS options to its routers the first time it lists them.
    "rawdata",
];

fn subject() -> ProxyBuilder {
    proxy(ROUTING)
        .entry_point(
            "secure",
            &json!({"http": {"tls": {}, "middlewares": ["hdr@file"]}}),
        )
        .install(&json!({"accessLog": {}}))
}

async fn live(proxy: &Proxy) {
    eventually("the routers are live", async || {
        let routers = &proxy.rawdata().await["routers"];
        (routers["secure-two@file"]["status"] == "enabled").then_some(())
    })
    .await;
}

/// An answer as JSON: status, headers that say something, and the body, with the subject's own ports and paths replaced.
async fn asked(proxy: &Proxy, request: &str) -> Value {
    let answer = proxy.admin().get(&format!("/api/{request}")).await;
    let mut text = answer.text();
    for door in ["web", "secure", "traefik"] {
        text = text.replace(&proxy.addr(door).to_string(), door);
    }
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    let header = |name: &str| Answer::header(&answer, name).map(str::to_owned);
    json!({
        "status": answer.status,
        "content-type": header("content-type"),
        "x-next-page": header("x-next-page"),
        "body": by_name(body),
    })
}

/// A list of named objects as a map, with their order.
fn by_name(body: Value) -> Value {
    let Value::Array(items) = body else {
        return body;
    };
    // What is not there cannot be in the same place.
    let items = items.into_iter();
    let items = items.filter(|item| {
        !item["name"]
            .as_str()
            .is_some_and(|it| it.contains("dashboard"))
    });
    let mut order = Vec::new();
    let mut objects = Map::new();
    for item in items {
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        order.push(name.clone());
        objects.insert(name, item);
    }
    json!({"order": order, "objects": objects})
}

fn compare(
    request: &'static str,
    path: &str,
    sides: [Option<&Value>; 2],
    found: &mut Vec<Difference>,
) {
    match sides {
        [Some(Value::Object(traefik)), Some(Value::Object(portway))] => {
            let keys: BTreeSet<&String> = traefik.keys().chain(portway.keys()).collect();
            for key in keys {
                let sides = [traefik.get(key), portway.get(key)];
                compare(request, &format!("{path}/{key}"), sides, found);
            }
        }
        [traefik, portway] if traefik != portway => found.push(Difference {
            request,
            path: path.to_owned(),
            traefik: traefik.cloned(),
            portway: portway.cloned(),
        }),
        _ => {}
    }
}

#[tokio::test]
async fn the_api_answers_as_traefik_does() {
    if subject_is_traefik() {
        return;
    }
    let (traefik, portway) = tokio::join!(subject().program(traefik()).run(), subject().run());
    live(&traefik).await;
    live(&portway).await;
    let mut found = Vec::new();
    for request in REQUESTS {
        let (theirs, ours) = tokio::join!(asked(&traefik, request), asked(&portway, request));
        compare(request, "", [Some(&theirs), Some(&ours)], &mut found);
    }
    let allowed = |difference: &Difference| ALLOWED.iter().any(|(_, allows)| allows(difference));
    let wrong: Vec<String> = found
        .iter()
        .filter(|difference| !allowed(difference))
        .map(ToString::to_string)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (reason, allows) in ALLOWED {
        assert!(found.iter().any(allows), "no longer true: {reason}");
    }
}

#[tokio::test]
async fn a_router_lists_its_middlewares_as_they_run() {
    if subject_is_traefik() {
        return;
    }
    let portway = subject().run().await;
    live(&portway).await;
    let plan = async |router: &str| {
        let path = format!("/api/http/routers/{router}");
        portway.admin().get(&path).await.json()["plan"].clone()
    };
    let strip =
        json!({"name": "strip@file", "type": "stripprefix", "options": {"prefixes": ["/a"]}});
    let limit = json!({"name": "lim@file", "type": "ratelimit", "options": {"average": 100, "period": "1s", "burst": 50}});
    let headers = json!({"name": "hdr@file", "type": "headers", "options": {"customRequestHeaders": {"X-A": "b"}, "stsSeconds": 5}});
    assert_eq!(plan("two@file").await, json!([strip, limit]));
    assert_eq!(
        plan("secure-two@file").await,
        json!([headers, strip, limit])
    );
    let guarded = plan("app@file").await;
    assert_eq!(guarded[0]["options"]["users"], json!(["REDACTED"]));
    assert_eq!(plan("gone-middleware@file").await, Value::Null);
}

#[tokio::test]
async fn a_support_dump_is_an_archive_without_secrets() {
    let portway = subject().run().await;
    live(&portway).await;
    let dump = portway.admin().get("/api/support-dump").await;
    assert_eq!(dump.header("content-type"), Some("application/gzip"));
    let attachment = "attachment; filename=support-dump.tar.gz";
    assert_eq!(dump.header("content-disposition"), Some(attachment));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.tar.gz");
    std::fs::write(&path, &dump.body).unwrap();
    let unpacked = std::process::Command::new("tar")
        .args(["-xzf", "dump.tar.gz"])
        .current_dir(dir.path())
        .status();
    assert!(unpacked.unwrap().success());
    let read = |name: &str| {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert!(read("version.json")["version"].is_string());
    let install = read("static-config.json");
    assert_eq!(install["entryPoints"]["web"]["address"], "xxxx");
    assert_eq!(install["ping"]["entryPoint"], "traefik");
    let runtime = read("runtime-config.json");
    assert_eq!(runtime["routers"]["two@file"]["status"], "enabled");
    if !subject_is_traefik() {
        assert!(!runtime.to_string().contains("H6uskkkW"));
    }
}
