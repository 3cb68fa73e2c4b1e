//! The files in `golden/` are what Traefik 3.7.15 answered for the configuration they show; ours must be the same, additions and
//! hidden secrets aside.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytestring::ByteString;
use http::{HeaderMap, Method, Version};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ExplainRequest, Explainer};
use crate::{
    admin::{Admin, Readiness},
    config::{
        Diagnostic, Install, Place, Placed, Routing,
        install::{AccessLog, Api, EntryPoint, FileProvider, Prometheus},
    },
    exchange::{Body, RequestHead, Response, Target},
    observe::{CertificateState, Metrics, Phase, Resolvers, ServerState, ServerView, Sources},
    snapshot::catalog::{
        Catalog, CertificateEntry, MiddlewareEntry, RouterEntry, ServerEntry, ServiceEntry, Status,
    },
};

const ROUTERS: &str = include_str!("golden/routers.json");
const SERVICES: &str = include_str!("golden/services.json");
const MIDDLEWARES: &str = include_str!("golden/middlewares.json");
const RAW_DATA: &str = include_str!("golden/rawdata.json");
const OVERVIEW: &str = include_str!("golden/overview.json");

struct Up;

impl ServerView for Up {
    fn state(&self) -> ServerState {
        ServerState {
            up: true,
            reason: "probe_passed",
            detail: None,
            since: UNIX_EPOCH + Duration::from_secs(60),
            in_flight: 2,
            checked: true,
        }
    }
}

fn golden(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn name(object: &Value) -> Arc<str> {
    object["name"].as_str().unwrap().into()
}

fn names(object: &Value, key: &str) -> Vec<Arc<str>> {
    let names = object[key].as_array().into_iter().flatten();
    names.map(|name| name.as_str().unwrap().into()).collect()
}

fn status(object: &Value) -> Status {
    match object["status"].as_str().unwrap() {
        "enabled" => Status::Enabled,
        "warning" => Status::Warning,
        _ => Status::Disabled,
    }
}

fn diagnostics(object: &Value) -> Vec<Diagnostic> {
    let errors = names(object, "error");
    let errors = errors
        .iter()
        .map(|error| Diagnostic::error(Place::Builtin, "x", &**error));
    errors.collect()
}

fn written<T: DeserializeOwned>(objects: &[Value]) -> BTreeMap<String, Placed<T>> {
    let objects = objects.iter().filter_map(|object| {
        let config: T = serde_json::from_value(object.clone()).ok()?;
        Some((name(object).to_string(), Placed::from(config)))
    });
    objects.collect()
}

fn router(object: &Value) -> RouterEntry {
    RouterEntry {
        written_as: None,
        status: status(object),
        diagnostics: diagnostics(object),
        entry_points: names(object, "entryPoints"),
        using: names(object, "using"),
        middlewares: names(object, "middlewares"),
        priority: object["priority"].as_i64().unwrap(),
        tls_options: object["tls"]["options"].as_str().map(Arc::from),
        ..RouterEntry::default()
    }
}

fn service(object: &Value) -> ServiceEntry {
    let urls = object["serverStatus"].as_object().into_iter().flatten();
    let servers = urls.map(|(url, _)| ServerEntry {
        url: url.as_str().into(),
        address: None,
        view: Arc::new(Up),
    });
    ServiceEntry {
        status: status(object),
        diagnostics: diagnostics(object),
        used_by: names(object, "usedBy"),
        servers: servers.collect(),
    }
}

/// The configuration that the golden answers are about.
fn catalog() -> Catalog {
    let (routers, services, middlewares) = (golden(ROUTERS), golden(SERVICES), golden(MIDDLEWARES));
    let mut routing = Routing::default();
    routing.http.routers = written(&routers);
    routing.http.services = written(&services);
    routing.http.middlewares = written(&middlewares);
    Catalog {
        generation: 3,
        routing: Arc::new(routing),
        routers: routers
            .iter()
            .map(|object| (name(object), router(object)))
            .collect(),
        services: services
            .iter()
            .map(|object| (name(object), service(object)))
            .collect(),
        middlewares: middlewares
            .iter()
            .map(|object| {
                let entry = MiddlewareEntry {
                    status: status(object),
                    diagnostics: diagnostics(object),
                    used_by: names(object, "usedBy"),
                    circuits: Vec::new(),
                };
                (name(object), entry)
            })
            .collect(),
        certificates: Vec::new(),
        diagnostics: Vec::new(),
    }
}

fn admin(base_path: &str) -> Admin {
    let mut install = Install {
        api: Some(Api {
            base_path: base_path.to_owned(),
            ..Api::default()
        }),
        access_log: Some(AccessLog::default()),
        ..Install::default()
    };
    install.metrics.prometheus = Some(Prometheus::default());
    install.providers.file = Some(FileProvider::default());
    for (name, address) in [("web", "127.0.0.1:18080"), ("a", ":1")] {
        let door: EntryPoint = serde_json::from_value(json!({"address": address})).unwrap();
        install.entry_points.insert(name.to_owned(), door);
    }
    Admin::new(
        Arc::new(install),
        Vec::new(),
        Metrics::default(),
        Arc::new(Readiness::default()),
        Sources::default(),
    )
}

fn request(method: Method, target: &str) -> RequestHead {
    RequestHead {
        method,
        version: Version::HTTP_11,
        host: ByteString::new(),
        target: Target::new(ByteString::from(target)),
        headers: HeaderMap::new(),
        upgrade: None,
        accepts_trailers: false,
        expects_continue: false,
    }
}

fn ask_of(catalog: &Catalog, target: &str) -> (u16, HeaderMap, String) {
    parts(admin("/").api(&request(Method::GET, target), catalog, None))
}

fn ask(target: &str) -> (u16, HeaderMap, String) {
    ask_of(&catalog(), target)
}

fn parts(response: Response) -> (u16, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let text = match body {
        Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Body::Empty => String::new(),
        Body::Stream(_) => panic!("API answers are in memory"),
    };
    (head.status.as_u16(), head.headers, text)
}

fn json_of(target: &str) -> Value {
    let (status, headers, text) = ask(target);
    assert_eq!(
        (status, &headers["content-type"]),
        (200, &"application/json".parse().unwrap()),
        "{target}"
    );
    assert!(text.ends_with('\n'));
    serde_json::from_str(&text).unwrap()
}

fn names_of(target: &str) -> Vec<String> {
    let list = json_of(target);
    let list = list.as_array().unwrap().iter();
    list.map(|object| object["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Takes off what Portway adds, and hides in `expected` what Portway hides.
fn like_traefik(mut ours: Value, expected: &mut Value) -> Value {
    if let Some(fields) = ours.as_object_mut() {
        for addition in ["diagnostics", "servers"] {
            fields.shift_remove(addition);
        }
    }
    if let Some(users) = expected.pointer_mut("/basicAuth/users") {
        *users = json!(["REDACTED"]);
    }
    ours
}

#[test]
fn objects_have_traefiks_shape_and_order() {
    for (kind, text) in [
        ("routers", ROUTERS),
        ("services", SERVICES),
        ("middlewares", MIDDLEWARES),
    ] {
        let list = json_of(&format!("/api/http/{kind}"));
        let list = list.as_array().unwrap();
        let expected = golden(text);
        assert_eq!(list.len(), expected.len());
        for (ours, mut expected) in list.iter().zip(expected) {
            let alone = json_of(&format!(
                "/api/http/{kind}/{}",
                name(ours).replace('@', "%40")
            ));
            assert_eq!(alone, *ours);
            let ours = like_traefik(ours.clone(), &mut expected);
            // The texts tell the order of fields, which values do not.
            assert_eq!(ours.to_string(), expected.to_string());
        }
    }
}

#[test]
fn raw_data_has_traefiks_shape_and_order() {
    let ours = json_of("/api/rawdata");
    let expected: Value = serde_json::from_str(RAW_DATA).unwrap();
    let kinds =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(kinds(&ours), kinds(&expected));
    for (kind, objects) in expected.as_object().unwrap() {
        for (name, object) in objects.as_object().unwrap() {
            let mut expected = object.clone();
            let ours = like_traefik(ours[kind][name].clone(), &mut expected);
            assert_eq!(ours.to_string(), expected.to_string());
        }
    }
}

#[test]
fn overview_counts() {
    let (_, _, text) = ask("/api/overview");
    assert_eq!(text, OVERVIEW);
}

type Names = &'static [&'static str];

#[test]
fn lists_are_filtered_and_sorted() {
    let cases: [(&str, Names); 11] = [
        ("routers?status=DISABLED&search=MISS", &[]),
        (
            "routers?status=disabled&search=Q.TEST",
            &["nosvc@file", "websecure-nosvc@file"],
        ),
        ("routers?search=ch%40", &["ch@file", "websecure-ch@file"]),
        (
            "routers?serviceName=dead",
            &["dead@file", "websecure-dead@file"],
        ),
        (
            "routers?serviceName=dead@file&direction=desc",
            &["websecure-dead@file", "dead@file"],
        ),
        ("routers?serviceName=dead@docker", &[]),
        ("routers?middlewareName=auth@file", &["a@file"]),
        (
            "routers?sortBy=priority&direction=desc&per_page=3",
            &["prometheus@internal", "ping@internal", "api@internal"],
        ),
        (
            "routers?sortBy=service&per_page=3&page=2",
            &["websecure-dead@file", "nosvc@file", "websecure-nosvc@file"],
        ),
        (
            "services?sortBy=servers&direction=desc&per_page=2",
            &["unused@file", "s@file"],
        ),
        (
            "middlewares?sortBy=type&per_page=5",
            &["auth@file", "ch@file", "hd@file", "rl@file", "badre@file"],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(names_of(&format!("/api/http/{query}")), expected, "{query}");
    }
    let order = |key: &str| names_of(&format!("/api/http/routers?sortBy={key}"));
    assert_eq!(
        order("rule")[..3],
        ["a@file", "ch@file", "websecure-ch@file"]
    );
    assert_eq!(order("status")[..2], ["badmw@file", "broken@file"]);
    assert_eq!(order("provider").last().unwrap(), "prometheus@internal");
    assert_eq!(order("entryPoints"), order("nonsense"));
    assert_eq!(names_of("/api/entrypoints"), ["a", "web"]);
}

#[test]
fn next_page_is_always_told() {
    let next = |target: &str| ask(target).1["x-next-page"].to_str().unwrap().to_owned();
    assert_eq!(next("/api/http/routers"), "1");
    assert_eq!(next("/api/http/routers?per_page=3&page=2"), "3");
    assert_eq!(next("/api/tcp/routers"), "1");
    assert!(ask("/api/overview").1.get("x-next-page").is_none());
}

#[test]
fn what_cannot_be_answered_says_why() {
    let plain = "404 page not found\n";
    let cases = [
        ("/api", 404, plain.to_owned()),
        ("/api/", 404, plain.to_owned()),
        ("/api/nope", 404, plain.to_owned()),
        ("/api/overview/", 404, plain.to_owned()),
        ("/api/http/services/", 404, plain.to_owned()),
        ("/api/explain?url=http://a", 404, plain.to_owned()),
        ("/other", 404, plain.to_owned()),
        (
            "/api/http/routers/nope@file",
            404,
            "{\"message\":\"router not found: nope@file\"}\n".to_owned(),
        ),
        (
            "/api/http/services/nope",
            404,
            "{\"message\":\"service not found: nope\"}\n".to_owned(),
        ),
        (
            "/api/http/middlewares/x@y",
            404,
            "{\"message\":\"middleware not found: x@y\"}\n".to_owned(),
        ),
        (
            "/api/udp/services/x",
            404,
            "{\"message\":\"service not found: x\"}\n".to_owned(),
        ),
        (
            "/api/entrypoints/nope",
            404,
            "{\"message\":\"entry point not found: nope\"}\n".to_owned(),
        ),
        (
            "/api/certificates/nope",
            404,
            "{\"message\":\"certificate not found: nope\"}\n".to_owned(),
        ),
        (
            "/api/http/routers?page=0",
            400,
            "{\"message\":\"invalid request: page: 0\"}\n".to_owned(),
        ),
    ];
    for (target, expected_status, expected) in cases {
        let (status, headers, text) = ask(target);
        assert_eq!((status, text), (expected_status, expected), "{target}");
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::DELETE] {
        let response = admin("/").api(&request(method, "/api/overview"), &catalog(), None);
        let (status, headers, text) = parts(response);
        assert_eq!((status, headers.len(), text.as_str()), (405, 0, ""));
    }
}

#[test]
fn the_base_path_is_honoured() {
    let status = |base: &str, target: &str| {
        admin(base)
            .api(&request(Method::GET, target), &catalog(), None)
            .status()
            .as_u16()
    };
    assert_eq!(status("/base", "/base/api/overview"), 200);
    assert_eq!(status("/base/", "/base/api/overview"), 200);
    assert_eq!(status("/base", "/api/overview"), 404);
}

#[test]
fn version_is_traefiks_shape() {
    let (_, headers, text) = ask("/api/version");
    assert_eq!(headers["content-type"], "application/json; charset=UTF-8");
    let version: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<_> = version.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["Version", "Codename", "startDate"]);
}

#[test]
fn entry_points_are_shown_with_their_names() {
    let door = json_of("/api/entrypoints/web");
    assert_eq!(door["address"], "127.0.0.1:18080");
    assert_eq!(
        door.as_object().unwrap().keys().next_back().unwrap(),
        "name"
    );
}

#[test]
fn servers_are_shown_with_their_state() {
    let service = json_of("/api/http/services/s@file");
    assert_eq!(
        service["servers"],
        json!([{
            "url": "http://127.0.0.1:19001",
            "status": "UP",
            "reason": "probe_passed",
            "since": "1970-01-01T00:01:00Z",
            "inFlight": 2,
        }])
    );
}

#[test]
fn diagnostics_are_gathered_worst_first() {
    let mut catalog = catalog();
    catalog.routers.clear();
    let place = Place::whole_file("a.yml");
    catalog.diagnostics = vec![Diagnostic::warning(
        place.clone(),
        "tcp",
        "not supported yet",
    )];
    let broken = Diagnostic::error(place, "http.routers.a.rule", "unknown matcher")
        .with_hint("did you mean `Host`?");
    for name in ["a@file", "websecure-a@file"] {
        let entry = RouterEntry {
            status: Status::Disabled,
            diagnostics: vec![broken.clone()],
            ..RouterEntry::default()
        };
        catalog.routers.insert(name.into(), entry);
    }
    let (_, _, text) = ask_of(&catalog, "/api/diagnostics");
    let expected = json!({"generation": 3, "diagnostics": [
        {"severity": "error", "place": "a.yml", "path": "http.routers.a.rule", "message": "unknown matcher", "hint": "did you mean `Host`?"},
        {"severity": "warning", "place": "a.yml", "path": "tcp", "message": "not supported yet"},
    ]});
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    let (_, _, text) = ask_of(&catalog, "/api/http/routers/a@file");
    let router: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(router["error"], json!(["unknown matcher"]));
    assert_eq!(router["diagnostics"][0]["place"], "a.yml");
}

fn certificate(common_name: &str, days_left: i64) -> CertificateEntry {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    CertificateEntry {
        common_name: common_name.to_owned(),
        issuer_common_name: "ca".to_owned(),
        sans: vec!["b.example".into(), "10.0.0.1".into()],
        fingerprint: format!("fp-{common_name}"),
        key_type: "ECDSA".to_owned(),
        key_size: 256,
        not_after: now.as_secs().cast_signed() + days_left * 24 * 3600,
        ..CertificateEntry::default()
    }
}

fn certificates() -> Catalog {
    Catalog {
        certificates: vec![
            certificate("old", -1),
            certificate("fresh", 60),
            certificate("soon", 10),
        ],
        ..Catalog::default()
    }
}

#[test]
fn certificates_tell_their_validity() {
    let catalog = certificates();
    let shown = |query: &str| -> Vec<String> {
        let (_, _, text) = ask_of(&catalog, &format!("/api/certificates{query}"));
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        let word = |object: &Value, key: &str| object[key].as_str().unwrap().to_owned();
        list.iter()
            .map(|object| word(object, "commonName") + " " + &word(object, "status"))
            .collect()
    };
    let expected = ["fresh enabled", "old expired", "soon warning"];
    assert_eq!(shown(""), expected);
    assert_eq!(shown("?sortBy=validUntil")[0], expected[1]);
    assert_eq!(shown("?search=SOON"), expected[2..]);
    assert_eq!(shown("?status=expired"), expected[1..2]);
    assert_eq!(shown("?sortBy=cn&direction=desc")[0], expected[2]);
    let (_, _, overview) = ask_of(&catalog, "/api/overview");
    assert!(overview.contains(r#""certificates":{"total":3,"warnings":1,"errors":1}"#));
}

#[test]
fn resolvers_tell_what_they_are_about_to_do() {
    let resolvers = Resolvers::default();
    let row = |names: &[&str], fingerprint: Option<&str>| CertificateState {
        names: names.iter().map(ToString::to_string).collect(),
        fingerprint: fingerprint.map(str::to_owned),
        challenge: Some("http-01"),
        next: Some(1_800_000_000),
        ..CertificateState::default()
    };
    let missing = CertificateState {
        phase: Phase::Failing,
        failures: 2,
        error: Some("no address".to_owned()),
        ..row(&["*.b.test", "c.test"], None)
    };
    let rows = vec![row(&["a.test"], Some("fp-fresh")), missing];
    resolvers.set_certificates("le", true, rows);
    resolvers.count("le", "issued");
    let ask = |target: &str| {
        let admin = admin("/").with_resolvers(&resolvers);
        let answer = admin.api(&request(Method::GET, target), &certificates(), None);
        let (status, _, text) = parts(answer);
        assert_eq!(status, 200, "{target}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let fresh = ask("/api/certificates/fp-fresh");
    let told = json!([
        fresh["resolver"],
        fresh["state"],
        fresh["challenge"],
        fresh["nextAttempt"]
    ]);
    let expected = json!(["le", "valid", "http-01", "2027-01-15T08:00:00Z"]);
    assert_eq!((told, &fresh["status"]), (expected, &json!("enabled")));
    assert_eq!(ask("/api/certificates/fp-old")["resolver"], Value::Null);
    assert_eq!(
        ask("/api/certificates/%2A.b.test,c.test"),
        json!({
            "name": "*.b.test,c.test", "sans": ["*.b.test", "c.test"], "commonName": "*.b.test",
            "status": "warning", "resolver": "le", "state": "failing", "challenge": "http-01",
            "nextAttempt": "2027-01-15T08:00:00Z", "failures": 2, "lastError": "no address",
        })
    );
    assert_eq!(ask("/api/certificates").as_array().unwrap().len(), 4);
    assert_eq!(
        ask("/api/certificates?search=c.test")[0]["state"],
        "failing"
    );
    assert_eq!(
        ask("/api/overview")["resolvers"],
        json!([{
            "name": "le", "registered": true, "orders": {"issued": 1}, "certificates": 2,
            "nextAttempt": "2027-01-15T08:00:00Z",
        }])
    );
}

#[test]
fn certificates_have_traefiks_fields() {
    let catalog = certificates();
    let (status, _, text) = ask_of(&catalog, "/api/certificates/fp-old");
    assert_eq!(status, 200);
    let object: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    let expected = [
        "name",
        "sans",
        "notAfter",
        "notBefore",
        "commonName",
        "issuerCN",
        "version",
        "keyType",
        "keySize",
        "certFingerprint",
        "status",
    ];
    assert_eq!(keys, expected);
    assert_eq!(object["sans"], json!(["10.0.0.1", "b.example"]));
    assert_eq!(catalog.certificates[0].expiry().sans, ["b.example"]);
}

#[test]
fn explain_passes_the_question_on() {
    struct Echo;
    impl Explainer for Echo {
        fn explain(&self, request: &ExplainRequest) -> Result<Value, String> {
            Ok(json!(format!("{request:?}")))
        }
    }
    let ask = |target: &str| {
        parts(admin("/").api(&request(Method::GET, target), &catalog(), Some(&Echo)))
    };
    let (status, _, text) =
        ask("/api/explain?url=http://a/x&method=PUT&header=X-A:%201&header=x-b:");
    assert_eq!(status, 200);
    assert!(
        text.contains("http://a/x") && text.contains("PUT") && text.contains("x-b"),
        "{text}"
    );
    for target in [
        "/api/explain",
        "/api/explain?url=a&method=a%20b",
        "/api/explain?url=a&header=nocolon",
    ] {
        assert_eq!(ask(target).0, 400, "{target}");
    }
}
