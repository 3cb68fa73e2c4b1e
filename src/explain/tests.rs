use std::time::Instant;

use http::Method;

use super::*;
use crate::{
    compile::{Compiled, Input, Workshop, compile, files::Files},
    config::{definitions::Definitions, install, parse_routing_file},
    tls::Staples,
    upstream::resolve::Addresses,
};

const ROUTING: &str = "http:
  routers:
    api: {rule: 'Host(`app.test`) && PathPrefix(`/api`)', service: api, middlewares: [strip, auth]}
    app: {rule: 'Host(`app.test`)', service: app}
    post: {rule: 'Host(`app.test`) && Method(`POST`) && PathPrefix(`/api/x`)', service: app}
    alt: {rule: 'Host(`app.test`) && PathPrefix(`/api`)', service: app, entryPoints: [alt]}
    secure: {rule: 'Host(`app.test`) && Path(`/s`)', service: app, tls: {}}
    bad: {rule: 'Host(`app.test`)', service: missing}
    other: {rule: 'Host(`other.test`)', service: app}
    none: {rule: 'Host(`none.test`)', service: none}
  middlewares:
    strip: {stripPrefix: {prefixes: [/api]}}
    auth: {basicAuth: {users: ['a:$apr1$x$secret']}}
  services:
    api: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9001'}, {url: 'http://127.0.0.1:9002'}]}}
    app: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9003'}]}}
    none: {loadBalancer: {servers: []}}
";

struct World {
    install: Arc<Install>,
    wanted: Definitions,
    compiled: Compiled,
}

impl World {
    fn new() -> Self {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let mut install = Install {
            ping: Some(install::Ping::default()),
            ..Install::default()
        };
        for (name, address) in [("web", ":8000"), ("alt", ":8001")] {
            let mut door = install::EntryPoint {
                address: address.parse().unwrap(),
                ..Default::default()
            };
            // It has copies of its routers.
            door.http.encoded_characters = (name == "alt").then(Default::default);
            install.entry_points.insert(name.to_owned(), door);
        }
        install.add_implicit_entry_points();
        let install = Arc::new(install);
        let decoded = parse_routing_file("r.yml", ROUTING, &|_| None).unwrap();
        assert_eq!(decoded.diagnostics, []);
        let wanted = Definitions::of(&"file".into(), decoded);
        let compiled = compile(
            wanted.clone(),
            &Input {
                install: &install,
                files: &Files::default(),
                addresses: &Addresses::default(),
                staples: &Staples::default(),
                found: &[],
                previous: None,
                workshop: &Workshop::default(),
                now: Instant::now(),
                wall_clock: 1_700_000_000,
            },
        );
        Self {
            install,
            wanted,
            compiled,
        }
    }

    fn explain(&self, request: &str) -> Result<Explanation, String> {
        let (method, url) = request.split_once(' ').unwrap();
        let request = ExplainRequest {
            url: url.to_owned(),
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            headers: Vec::new(),
            client_ip: None,
            entry_point: None,
        };
        explain(&self.configuration(true), &request)
    }

    fn configuration(&self, live: bool) -> Configuration<'_> {
        Configuration {
            install: &self.install,
            snapshot: &self.compiled.snapshot,
            written: self,
            diagnostics: self.compiled.diagnostics(),
            live,
        }
    }
}

impl Written for World {
    fn routers(&self) -> Vec<(&str, &Router)> {
        let routers = self.wanted.routers.iter();
        routers
            .map(|(name, router)| (&**name, &router.object.value))
            .collect()
    }

    fn middleware(&self, name: &str) -> Option<&Middleware> {
        self.wanted
            .middlewares
            .get(name)
            .map(|middleware| &middleware.object.value)
    }
}

#[test]
fn every_router_is_told_with_its_reason() {
    let explained = World::new()
        .explain("GET http://app.test:8000/api/x")
        .unwrap();
    let told: Vec<(&str, Outcome)> = explained
        .routers
        .iter()
        .map(|one| (one.router.as_str(), one.outcome))
        .collect();
    assert_eq!(
        told,
        [
            ("post@file", Outcome::NoMatch),
            ("api@file", Outcome::Wins),
            ("other@file", Outcome::NoMatch),
            ("none@file", Outcome::NoMatch),
            ("app@file", Outcome::Outranked),
            ("secure@file", Outcome::OtherScheme),
            ("bad@file", Outcome::Refused),
            ("alt@file", Outcome::OtherEntryPoint),
            ("ping@internal", Outcome::OtherEntryPoint),
        ]
    );
    for (router, words) in [
        ("post@file", &["Method(`POST`)", "`GET`"][..]),
        ("app@file", &["matches too", "api@file"]),
        ("secure@file", &["only requests over TLS"]),
        ("bad@file", &["missing", "r.yml:8:", "would match"]),
        ("alt@file", &["`alt`", "would match"]),
    ] {
        let candidate = explained
            .routers
            .iter()
            .find(|one| one.router == router)
            .unwrap();
        for word in words {
            assert!(
                candidate.reason.contains(word),
                "{word:?} is not in {:?}",
                candidate.reason
            );
        }
    }
    let far: Vec<_> = explained
        .routers
        .iter()
        .filter(|one| !one.near)
        .map(|one| &*one.router)
        .collect();
    assert_eq!(far, ["other@file", "none@file"]);
}

#[test]
fn the_way_is_told_without_secrets() {
    let world = World::new();
    let way = world
        .explain("GET http://app.test:8000/api/x")
        .unwrap()
        .way
        .unwrap();
    let steps: Vec<_> = way
        .middlewares
        .iter()
        .map(|step| (&*step.name, &*step.kind))
        .collect();
    assert_eq!(
        steps,
        [("strip@file", "stripPrefix"), ("auth@file", "basicAuth")]
    );
    let may_answer = |step: usize| way.middlewares[step].may_answer.as_deref();
    assert_eq!(may_answer(0), None);
    assert_eq!(may_answer(1), Some("401 without the right credentials"));
    assert!(way.middlewares[0].options.to_string().contains("/api"));
    assert!(
        !way.middlewares[1].options.to_string().contains("secret"),
        "{}",
        way.middlewares[1].options
    );
    let servers: Vec<_> = way
        .servers
        .iter()
        .map(|server| (&*server.url, server.state.as_deref()))
        .collect();
    assert_eq!(
        servers,
        [
            ("http://127.0.0.1:9001", Some("up")),
            ("http://127.0.0.1:9002", Some("up"))
        ]
    );
}

#[test]
fn answers() {
    let world = World::new();
    for (request, entry_point, answer) in [
        (
            "GET http://app.test:8000/",
            "web",
            "comes from the server of app@file",
        ),
        (
            "GET http://app.test:8001/api",
            "alt",
            "one of the 2 servers of api@file",
        ),
        (
            "GET http://app.test:8001/",
            "alt",
            "comes from the server of app@file",
        ),
        ("POST http://app.test:8000/api/x", "web", "app@file"),
        (
            "GET http://app.test:8000/a/../api",
            "web",
            "one of the 2 servers of api@file",
        ),
        ("GET http://nobody.test/", "alt", "404"),
        ("GET http://none.test/", "alt", "503"),
        (
            "GET http://localhost:8080/ping",
            "traefik",
            "Portway answers itself (ping@internal)",
        ),
        ("GET https://app.test/s", "alt", "app@file"),
    ] {
        let explained = world.explain(request).unwrap();
        assert_eq!(explained.entry_point.name, entry_point, "{request}");
        assert!(
            explained.answer.contains(answer),
            "{request}: {}",
            explained.answer
        );
    }
}

#[test]
fn a_host_header_and_an_entry_point_may_be_given() {
    let world = World::new();
    let request = ExplainRequest {
        url: "https://127.0.0.1/s".to_owned(),
        method: Method::GET,
        headers: vec![(HOST, "app.test:443".parse().unwrap())],
        client_ip: None,
        entry_point: Some("WEB".to_owned()),
    };
    let explained = explain(&world.configuration(false), &request).unwrap();
    assert_eq!(
        (&*explained.entry_point.name, &*explained.host),
        ("web", "app.test")
    );
    let way = explained.way.unwrap();
    assert_eq!(
        (&*way.router, &way.servers[0].state),
        ("secure@file", &None)
    );
    let certificate = explained.certificate.unwrap();
    assert!(
        certificate.default && certificate.options == "default",
        "{certificate:?}"
    );
    let wrong = ExplainRequest {
        entry_point: Some("wbe".to_owned()),
        ..request
    };
    assert!(
        explain(&world.configuration(false), &wrong)
            .unwrap_err()
            .contains("there are alt, traefik, web")
    );
}

#[test]
fn nonsense_is_refused() {
    let world = World::new();
    for url in ["ftp://a/", "nothing", "http://a/%zz", "http://a b/"] {
        assert!(world.explain(&format!("GET {url}")).is_err(), "{url}");
    }
}

#[test]
fn what_the_api_says_can_be_read_back() {
    let world = World::new();
    let explained = world.explain("GET https://app.test:8000/s").unwrap();
    let text = serde_json::to_string(&explained).unwrap();
    let mut read: Explanation = serde_json::from_str(&text).unwrap();
    read.entry_point.index = explained.entry_point.index;
    assert_eq!(read, explained);
}
