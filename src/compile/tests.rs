use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use http::HeaderMap;
use proptest::prelude::*;

use super::{Compiled, Input, Workshop, catalog, compile, files::Files};
use crate::{
    config::{
        Diagnostic, Install, Severity, Sources, definitions::Definitions, load_install,
        parse_routing_file,
    },
    middleware::Middleware,
    rule::Facts,
    snapshot::{GroupKind, Route, RouteTarget},
    tls::{Staple, Staples},
    upstream::resolve::Addresses,
};

/// Compiles one configuration after the other, as control does.
struct Bench {
    install: Arc<Install>,
    workshop: Workshop,
    files: Files,
    staples: Staples,
    live: Option<Compiled>,
}

impl Bench {
    fn new(flags: &[&str]) -> Self {
        let arguments: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let sources = Sources {
            arguments: &arguments,
            environment: &[],
            directory: Path::new("/nonexistent"),
            root: crate::config::Root::Here,
        };
        Self {
            install: Arc::new(load_install(&sources).unwrap().install),
            workshop: Workshop::default(),
            files: Files::default(),
            staples: Staples::default(),
            live: None,
        }
    }

    fn web() -> Self {
        Self::new(&["--entrypoints.web.address=:80"])
    }

    /// Compiles routing configuration of the file provider.
    fn load(&mut self, yaml: &str) -> &Compiled {
        let decoded = parse_routing_file("r.yml", yaml, &|_| None).unwrap();
        let found = decoded.diagnostics.clone();
        let definitions = Definitions::of(&"file".into(), decoded);
        self.compile(&definitions, &found)
    }

    fn compile(&mut self, definitions: &Definitions, found: &[Diagnostic]) -> &Compiled {
        let compiled = compile(
            definitions.clone(),
            &Input {
                install: &self.install,
                files: &self.files,
                addresses: &Addresses::default(),
                staples: &self.staples,
                found,
                previous: self.live.as_ref(),
                workshop: &self.workshop,
                now: Instant::now(),
                wall_clock: 1_700_000_000,
            },
        );
        self.live.insert(compiled)
    }

    fn route(&self, name: &str) -> &Arc<Route> {
        self.live.as_ref().unwrap().snapshot.route(name).unwrap()
    }

    /// The name of the route that a request for `http://host/path` to an entry point takes.
    fn find(&self, entry_point: &str, url: &str) -> Option<String> {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let facts = Facts {
            host,
            path,
            query: None,
            method: "GET",
            headers: &HeaderMap::new(),
            peer: [127, 0, 0, 1].into(),
        };
        let snapshot = &self.live.as_ref().unwrap().snapshot;
        let index = snapshot
            .entry_points
            .iter()
            .position(|door| &*door.name == entry_point)
            .unwrap();
        snapshot
            .find(index, scheme == "https", &facts)
            .map(|route| route.name.to_string())
    }

    /// Everything found, as text.
    fn found(&self) -> Vec<String> {
        let diagnostics = self.live.as_ref().unwrap().diagnostics();
        diagnostics.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn assert_found(&self, expected: &[&str]) {
        let found = self.found();
        for part in expected {
            assert!(
                found.iter().any(|line| line.contains(part)),
                "{part:?} is not in {found:#?}"
            );
        }
    }
}

const APP: &str = "
http:
  routers:
    app: {rule: Host(`app.test`), service: app}
  services:
    app: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
";

#[test]
fn a_router_leads_to_its_service() {
    let mut bench = Bench::web();
    bench.load(APP);
    assert_eq!(bench.found(), [""; 0]);
    assert_eq!(
        bench.find("web", "http://app.test/").as_deref(),
        Some("app@file")
    );
    assert_eq!(bench.find("web", "http://other.test/"), None);
    assert_eq!(bench.find("web", "https://app.test/"), None);
    let route = bench.route("app@file");
    assert_eq!(
        (&*route.service, route.priority, route.internal),
        ("app@file", 16, false)
    );
    let RouteTarget::Service(service) = &route.target else {
        panic!("{:?}", route.target)
    };
    assert_eq!(&*service.servers[0].name, "http://10.0.0.1:80");
}

#[test]
fn broken_objects_are_named_and_nothing_else_suffers() {
    let mut bench = Bench::web();
    bench.load(
        "
http:
  routers:
    good: {rule: Host(`good.test`), service: good}
    rule: {rule: Host(`a`, service: good}
    norule: {service: good}
    noservice: {rule: Host(`b.test`)}
    missing: {rule: Host(`c.test`), service: god}
    middleware: {rule: Host(`d.test`), service: good, middlewares: [strp]}
    door: {rule: Host(`e.test`), service: good, entryPoints: [wbe]}
    doors: {rule: Host(`f.test`), service: good, entryPoints: [web, other]}
    priority: {rule: Host(`g.test`), service: good, priority: 9223372036854775807}
    circle: {rule: Host(`h.test`), service: good, middlewares: [c1]}
    uses-bad: {rule: Host(`i.test`), service: bad}
    api: {rule: Host(`j.test`), service: api@internal}
    parent: {rule: Host(`k.test`), service: good, parentRefs: [good]}
  services:
    good: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
    bad: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}, {url: '10.0.0.1'}]}}
    later: {weighted: {services: []}}
    transport: {loadBalancer: {serversTransport: nope}}
  middlewares:
    strip: {stripPrefix: {prefixes: [/x]}}
    c1: {chain: {middlewares: [c2]}}
    c2: {chain: {middlewares: [strip, c1]}}
    regex: {redirectRegex: {regex: '(', replacement: x}}
",
    );
    bench.assert_found(&[
        "error: http.routers.norule@file.rule: the router has no rule",
        "error: http.routers.noservice@file.service: the router has no service",
        "error: http.routers.missing@file.service: the service `god@file` does not exist (did you mean `good`?)",
        "http.routers.middleware@file.middlewares[0]: the middleware `strp@file` does not exist (did you mean `strip`?)",
        "http.routers.door@file.entryPoints[0]: the entry point `wbe` does not exist (did you mean `web`?)",
        "warning: http.routers.doors@file.entryPoints[1]: the entry point `other` does not exist",
        "http.routers.priority@file.priority: the priority 9223372036854775807 is above",
        "http.routers.circle@file.middlewares[0]: the middleware `c1@file` cannot be used",
        "http.middlewares.c2@file.chain.middlewares[1]: the chain contains itself: c1@file -> c2@file -> c1@file",
        "http.routers.uses-bad@file.service: the service `bad@file` cannot be used",
        "http.services.bad@file.loadBalancer.servers[1].url: the URL \"10.0.0.1\" cannot be used",
        "http.services.transport@file.loadBalancer.serversTransport: the serversTransport `nope@file` does not exist",
        "`api@internal` is not enabled",
        "http.routers.parent@file.parentRefs",
        "http.middlewares.regex@file",
        "http.routers.rule@file.rule",
    ]);
    let later = |line: &&String| line.contains("http.services.later");
    assert_eq!(
        bench.found().iter().filter(later).count(),
        1,
        "told once: {:#?}",
        bench.found()
    );
    let snapshot = &bench.live.as_ref().unwrap().snapshot;
    let mounted: Vec<&str> = snapshot.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(mounted, ["doors@file", "good@file"]);
    assert_eq!(snapshot.services.len(), 1);
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a configuration and what is expected of it"
)]
fn the_last_good_form_of_a_broken_object_goes_on() {
    let good = "
http:
  routers:
    app: {rule: Host(`app.test`), service: app, middlewares: [strip]}
    gone: {rule: Host(`gone.test`), service: app}
  services:
    app: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
  middlewares:
    strip: {stripPrefix: {prefixes: [/x]}}
";
    for (what, from, to, path) in [
        (
            "a rule",
            "Host(`app.test`)",
            "Host(`app.test`",
            "http.routers.app@file",
        ),
        (
            "a reference",
            "middlewares: [strip]",
            "middlewares: [strop]",
            "http.routers.app@file",
        ),
        (
            "a type",
            "service: app, middlewares",
            "service: [1, {}], middlewares",
            "http.routers.app",
        ),
        (
            "a server",
            "http://10.0.0.1:80",
            "ftp://10.0.0.1:80",
            "http.services.app@file",
        ),
        (
            "a middleware",
            "stripPrefix: {prefixes: [/x]}",
            "stripPrefixRegex: {regex: ['(']}",
            "http.middlewares.strip@file",
        ),
        (
            "two kinds",
            "{stripPrefix:",
            "{compress: {}, stripPrefix:",
            "http.middlewares.strip",
        ),
    ] {
        let mut bench = Bench::web();
        bench.load(good);
        assert_eq!(bench.found(), [""; 0], "{what}");
        let before = Arc::clone(bench.route("app@file"));
        let broken = good
            .replace(from, to)
            .replace("    gone: {rule: Host(`gone.test`), service: app}\n", "");
        // The second time, the last good form is not that of the snapshot before but the one before that.
        for _ in 0..2 {
            bench.load(&broken);
            let after = bench.route("app@file");
            assert_eq!(
                (&after.rule, &after.steps),
                (&before.rule, &before.steps),
                "{what}"
            );
            assert_eq!(
                bench.find("web", "http://app.test/").as_deref(),
                Some("app@file"),
                "{what}"
            );
            assert_eq!(
                bench.find("web", "http://gone.test/"),
                None,
                "{what}: removed on purpose"
            );
            bench.assert_found(&["goes on serving", path]);
            let compiled = bench.live.as_ref().unwrap();
            assert!(
                compiled
                    .diagnostics()
                    .iter()
                    .any(|found| found.severity == Severity::Error),
                "{what}"
            );
        }
        bench.load(good);
        assert_eq!(bench.found(), [""; 0], "{what}: healed");
    }
}

#[test]
fn a_broken_object_without_a_good_past_is_not_mounted() {
    let mut bench = Bench::web();
    bench.load(&APP.replace("Host(`app.test`)", "Host("));
    assert_eq!(bench.find("web", "http://app.test/"), None);
}

#[test]
fn entry_points_add_their_own_to_routers() {
    let mut bench = Bench::new(&[
        "--entrypoints.web.address=:80",
        "--entrypoints.plain.address=:81",
        "--entrypoints.secure.address=:443",
        "--entrypoints.secure.http.tls=true",
        "--entrypoints.secure.http.middlewares=strip@file",
        "--entrypoints.secure.http.encodedcharacters.allowencodedslash=false",
        "--entrypoints.secure.observability.accesslogs=false",
    ]);
    bench.load(
        "
http:
  routers:
    all: {rule: Host(`all.test`), service: app, middlewares: [own]}
    one: {rule: Host(`one.test`), service: app, entryPoints: [secure]}
  services:
    app: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
  middlewares:
    strip: {stripPrefix: {prefixes: [/x]}}
    own: {addPrefix: {prefix: /y}}
",
    );
    assert_eq!(bench.found(), [""; 0]);
    for (entry_point, url, expected) in [
        ("web", "http://all.test/", Some("all@file")),
        ("plain", "http://all.test/", Some("all@file")),
        ("secure", "https://all.test/", Some("secure-all@file")),
        ("secure", "http://all.test/", None),
        ("secure", "https://one.test/", Some("one@file")),
    ] {
        assert_eq!(
            bench.find(entry_point, url).as_deref(),
            expected,
            "{entry_point} {url}"
        );
    }
    let split = bench.route("secure-all@file");
    assert_eq!(
        split.steps.iter().map(|step| &**step).collect::<Vec<_>>(),
        ["strip@file", "own@file"]
    );
    assert_eq!(
        (split.signals.access_log, split.signals.metrics),
        (false, true)
    );
    assert!(split.denied.occurs_in("/a%2Fb"));
    assert_eq!(split.tls_options.as_deref(), Some("default"));
    let plain = bench.route("all@file");
    assert_eq!(
        (
            plain.steps.len(),
            plain.denied.is_empty(),
            plain.signals.access_log
        ),
        (1, true, true)
    );
}

#[test]
fn a_core_that_is_written_splits_routers_and_so_do_names_that_lead_nowhere() {
    let routers = "
http:
  routers:
    a: {rule: Host(`a.test`), service: s, entryPoints: [web, alt]}
    badep: {rule: Host(`b.test`), service: s, entryPoints: [web, nope]}
    one: {rule: Host(`c.test`), service: s, entryPoints: [web]}
  services:
    s: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
";
    let syntax = "--core.defaultrulesyntax=v3";
    let workers = "--core.workers=2";
    let slash = "--entrypoints.web.http.encodedcharacters.allowencodedslash=true";
    let split = ["alt-a@file", "one@file", "web-a@file", "web-badep@file"];
    for (flag, expected) in [
        ("--ping=false", &["a@file", "badep@file", "one@file"][..]),
        (workers, &["a@file", "badep@file", "one@file"]),
        (syntax, &split),
        ("--core.stricttlsoptions=false", &split),
        (
            slash,
            &["a@file", "one@file", "web-a@file", "web-badep@file"],
        ),
    ] {
        let flags = [
            "--entrypoints.web.address=:80",
            "--entrypoints.alt.address=:81",
        ];
        let mut bench = Bench::new(&[&flags[..], &[flag]].concat());
        let snapshot = Arc::clone(&bench.load(routers).snapshot);
        let mut names: Vec<&str> = snapshot.routes.iter().map(|route| &*route.name).collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{flag}");
        let catalog = catalog(&snapshot);
        let said = catalog.routers.values().map(|router| router.rule_syntax);
        let by_core = flag.contains("syntax") || flag.contains("strict");
        let wanted = by_core.then_some("v3");
        assert!(said.into_iter().all(|syntax| syntax == wanted), "{flag}");
    }
}

#[test]
fn what_an_entry_point_has_wrong_is_told_there_and_once() {
    let mut bench = Bench::new(&[
        "--entrypoints.web.address=:80",
        "--entrypoints.web.http.middlewares=ok@file,mw2@file",
        "--entrypoints.web.http.tls.options=nope@file",
    ]);
    bench.load(
        "
http:
  routers:
    a: {rule: Host(`a.test`), service: s}
    b: {rule: Host(`b.test`), service: s}
    own: {rule: Host(`c.test`), service: s, tls: {options: mine}}
  services:
    s: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
  middlewares:
    ok: {compress: {}}
",
    );
    assert_eq!(
        bench.found(),
        [
            "--entrypoints.web.http.tls.options: error: entryPoints.web.http.tls.options: the TLS options `nope@file` do not exist",
            "--entrypoints.web.http.middlewares: error: entryPoints.web.http.middlewares[1]: the middleware `mw2@file` does not exist",
            "r.yml:6:60: error: http.routers.own@file.tls.options: the TLS options `mine@file` do not exist",
        ]
    );
    let catalog = catalog(&bench.live.as_ref().unwrap().snapshot);
    assert_eq!(catalog.routers["a@file"].diagnostics.len(), 2);
    assert_eq!(catalog.routers["own@file"].diagnostics.len(), 3);
}

#[test]
fn a_value_that_cannot_be_read_hides_no_other_mistake() {
    let mut bench = Bench::web();
    bench.load(
        "
http:
  routers:
    a: {rule: 'Host(`a', service: nope, middlewares: [nope2, ok], entryPoints: [webb], priority: high}
    b: {rule: [x], service: s, tls: {options: nope3, certResolvr: le}}
  services:
    s: {loadBalancer: {servers: [{url: '10.0.0.1', weight: x}], strategy: foo, serversTransport: nope4}, middlewares: [nope5]}
  middlewares:
    ok: {redirectRegex: {regex: '(', replacement: x, permanent: perhaps}}
",
    );
    let found: Vec<String> = bench.found();
    let paths = found.iter().map(|line| line.split(": ").nth(2).unwrap());
    let mut paths: Vec<&str> = paths.collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "http.middlewares.ok.redirectRegex.permanent",
            "http.middlewares.ok@file.redirectRegex.regex",
            "http.routers.a.priority",
            "http.routers.a@file.entryPoints[0]",
            "http.routers.a@file.middlewares[0]",
            "http.routers.a@file.middlewares[1]",
            "http.routers.a@file.rule",
            "http.routers.a@file.service",
            "http.routers.b.rule",
            "http.routers.b.tls.certResolvr",
            "http.routers.b@file.service",
            "http.services.s.loadBalancer.servers[0].weight",
            "http.services.s.loadBalancer.strategy",
            "http.services.s@file.loadBalancer.serversTransport",
            "http.services.s@file.loadBalancer.servers[0].url",
            "http.services.s@file.middlewares[0]",
        ],
        "{found:#?}"
    );
    assert!(bench.live.as_ref().unwrap().snapshot.services.is_empty());
}

/// What is written for a router, its service's balancer and its middleware, and what is said of it.
type Odd<'t> = (&'t str, &'t str, &'t str, &'t str);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of odd values")]
fn what_traefik_serves_is_served() {
    const MODE: &str = "healthCheck: {path: /h, mode: foo}";
    const OBSERVED: &str = "observability: {traceVerbosity: foo}";
    const NAME: &str = "headers: {customRequestHeaders: {'X A': b, X-C: d}}";
    const BREAK: &str = "headers: {customResponseHeaders: {X-A: \"b\\nc\"}}";
    const CONTROL: &str = "headers: {customRequestHeaders: {X-A: \"b\\u0001\"}}";
    const DEPTH: &str = "ipAllowList: {sourceRange: [10.0.0.0/8], ipStrategy: {depth: -1}}";
    let cases: &[Odd<'_>] = &[
        (
            "",
            "sticky: {cookie: {sameSite: foo}}",
            "",
            "the default is used",
        ),
        ("", "sticky: {cookie: {sameSite: ''}}", "", ""),
        ("", "strategy: ''", "", ""),
        ("", MODE, "", "healthCheck.mode: unknown value"),
        (
            "",
            "servers: [{url: 'http://10.0.0.1', scheme: https}]",
            "",
            "the `url` says it",
        ),
        ("priority: 1.0", "", "", ""),
        (OBSERVED, "", "", "traceVerbosity: unknown value"),
        ("parentRefs: []", "", "", ""),
        (
            "",
            "",
            "chain: {middlewares: []}",
            "the chain is empty and does nothing",
        ),
        (
            "",
            "",
            "compress: {encodings: []}",
            "gzip, br and zstd are used",
        ),
        ("", "", "compress: {defaultEncoding: ''}", ""),
        ("", "", DEPTH, "counts as 0"),
        ("", "", NAME, "is not a header name, and left out"),
        ("", "", BREAK, "sent as a blank"),
        ("", "", CONTROL, "the header is removed"),
    ];
    for (router, balancer, middleware, said) in cases {
        let servers = match balancer.starts_with("servers") {
            true => "",
            false => "servers: [{url: 'http://10.0.0.1'}], ",
        };
        let middleware = match *middleware {
            "" => "compress: {}",
            middleware => middleware,
        };
        let yaml = format!(
            "
http:
  routers:
    a: {{rule: Host(`a.test`), service: s, middlewares: [m], {router}}}
  services:
    s: {{loadBalancer: {{{servers}{balancer}}}}}
  middlewares:
    m: {{{middleware}}}
"
        );
        let mut bench = Bench::web();
        bench.load(&yaml);
        let found = bench.found();
        assert_eq!(found.is_empty(), said.is_empty(), "{yaml}{found:?}");
        assert!(
            found.iter().all(|line| line.contains("warning: ")),
            "{found:?}"
        );
        assert!(found.concat().contains(said), "{yaml}{found:?}");
        let served = bench.find("web", "http://a.test/");
        assert_eq!(served.as_deref(), Some("a@file"), "{yaml}");
    }
}

#[test]
fn a_secret_of_a_check_is_not_repeated() {
    let mut bench = Bench::web();
    bench.load(
        "
http:
  routers:
    a: {rule: Host(`a.test`), service: s}
  services:
    s:
      loadBalancer:
        servers: [{url: 'http://10.0.0.1'}]
        healthCheck: {path: /h, headers: {Authorization: \"hidden\\n\"}}
",
    );
    let found = bench.found().concat();
    let said = "healthCheck.headers.Authorization: the value is not a header value";
    assert!(found.contains(said) && !found.contains("hidden"), "{found}");
}

#[test]
fn a_tls_version_that_nobody_knows_ends_nobodys_tls() {
    for (options, usable) in [
        ("minVersion: TLS12", true),
        ("minVersion: '1.2'", true),
        ("maxVersion: VersionSSL30", true),
        ("minVersion: ''", true),
        ("clientAuth: {clientAuthType: foo}", false),
    ] {
        let mut bench = Bench::new(&["--entrypoints.web.address=:443"]);
        let yaml = format!(
            "
http:
  routers:
    a: {{rule: Host(`a.test`), service: s, tls: {{}}}}
  services:
    s: {{loadBalancer: {{servers: [{{url: 'http://10.0.0.1'}}]}}}}
tls: {{options: {{default: {{{options}}}}}}}
"
        );
        bench.load(&yaml);
        let served = bench.find("web", "https://a.test/");
        assert_eq!(served.is_some(), usable, "{options}: {:?}", bench.found());
    }
}

#[test]
fn as_default_entry_points_take_routers_that_name_none() {
    let mut bench = Bench::new(&[
        "--entrypoints.web.address=:80",
        "--entrypoints.other.address=:81",
        "--entrypoints.other.asdefault=true",
        "--entrypoints.udp.address=:53/udp",
    ]);
    bench.load(APP);
    assert_eq!(
        bench.find("other", "http://app.test/").as_deref(),
        Some("app@file")
    );
    assert_eq!(bench.find("web", "http://app.test/"), None);
}

#[test]
fn redirections_and_internal_routers() {
    let mut bench = Bench::new(&[
        "--entrypoints.web.address=:80",
        "--entrypoints.web.http.redirections.entrypoint.to=secure",
        "--entrypoints.secure.address=:8443",
        "--entrypoints.bad.address=:82",
        "--entrypoints.bad.http.redirections.entrypoint.to=:443",
        "--ping=true",
        "--api.insecure=true",
        "--metrics.prometheus=true",
    ]);
    bench.load(APP);
    for (entry_point, url, expected) in [
        ("web", "http://app.test/", Some("web-to-secure@internal")),
        ("secure", "http://app.test/", Some("app@file")),
        ("bad", "http://app.test/", Some("bad-to-443@internal")),
        ("traefik", "http://any/ping", Some("ping@internal")),
        ("traefik", "http://any/metrics", Some("prometheus@internal")),
        ("traefik", "http://any/api/overview", Some("api@internal")),
        ("traefik", "http://app.test/", None),
    ] {
        assert_eq!(
            bench.find(entry_point, url).as_deref(),
            expected,
            "{entry_point} {url}"
        );
    }
    let route = bench.route("web-to-secure@internal");
    assert!(route.internal && !route.signals.metrics && !route.signals.access_log);
    assert_eq!(&*route.steps[0], "redirect-web-to-secure@internal");
}

#[test]
fn tls_options_of_a_host_must_agree() {
    let yaml = "
http:
  routers:
    strict: {rule: Host(`a.test`), service: app, tls: {options: strict}}
    other: {rule: Host(`a.test`) && Path(`/x`), service: app, tls: {}}
    alone: {rule: Host(`b.test`), service: app, tls: {options: strict}}
    nohost: {rule: PathPrefix(`/`), priority: 1, service: app, tls: {options: strict}}
    unknown: {rule: Host(`c.test`), service: app, tls: {options: stict}}
  services:
    app: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
tls:
  options:
    strict: {minVersion: VersionTLS13}
";
    let mut bench = Bench::new(&["--entrypoints.web.address=:443"]);
    bench.load(yaml);
    for (url, expected) in [
        ("https://a.test/", "web-conflicted-strict@file"),
        ("https://a.test/x", "web-conflicted-other@file"),
        ("https://b.test/", "alone@file"),
        ("https://z.test/", "web-conflicted-nohost@file"),
    ] {
        assert_eq!(bench.find("web", url).as_deref(), Some(expected), "{url}");
    }
    assert_eq!(
        bench.route("alone@file").tls_options.as_deref(),
        Some("strict@file")
    );
    assert_eq!(
        bench
            .route("web-conflicted-strict@file")
            .tls_options
            .as_deref(),
        Some("default")
    );
    bench.assert_found(&[
        "http.routers.strict@file.tls.options: served with the default TLS options on `web` instead of `strict@file`",
        "http.routers.unknown@file.tls.options: the TLS options `stict@file` do not exist (did you mean `strict`?)",
    ]);
    let tls = &bench.live.as_ref().unwrap().snapshot.entry_points[0].tls;
    assert_eq!(
        tls.options_for("b.test").map(|name| &**name),
        Ok("strict@file")
    );
    assert_eq!(tls.options_for("a.test").map(|name| &**name), Ok("default"));

    let mut strict = Bench::new(&[
        "--entrypoints.web.address=:443",
        "--core.stricttlsoptions=true",
    ]);
    strict.load(yaml);
    assert_eq!(strict.find("web", "https://a.test/"), None);
    assert_eq!(
        strict.find("web", "https://b.test/").as_deref(),
        Some("alone@file")
    );
}

#[test]
fn providers_do_not_share_names() {
    let mut bench = Bench::web();
    let of = |provider: &str, yaml: &str| {
        Definitions::of(
            &provider.into(),
            parse_routing_file("r.yml", yaml, &|_| None).unwrap(),
        )
    };
    let file = of("file", APP);
    let docker = of(
        "docker",
        "{http: {routers: {other: {rule: Host(`o.test`), service: app}, far: {rule: Host(`f.test`), service: app@file}}}}",
    );
    let (merged, _) = crate::control::merge::merge([file, docker].iter());
    bench.compile(&merged, &[]);
    assert_eq!(
        bench.find("web", "http://f.test/").as_deref(),
        Some("far@docker")
    );
    assert_eq!(&*bench.route("far@docker").service, "app@file");
    bench.assert_found(&["the service `app@docker` does not exist (did you mean `app@file`?)"]);
}

#[test]
fn what_did_not_change_is_taken_over() {
    let yaml = "
http:
  routers:
    app: {rule: Host(`app.test`), service: app, middlewares: [limit, strip]}
    other: {rule: Host(`other.test`), service: other, middlewares: [limit]}
  services:
    app: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
    other: {loadBalancer: {servers: [{url: 'http://10.0.0.2:80'}]}}
  middlewares:
    limit: {rateLimit: {average: 1}}
    strip: {stripPrefix: {prefixes: [/x]}}
";
    let mut bench = Bench::web();
    bench.load(yaml);
    let before = [
        Arc::clone(bench.route("app@file")),
        Arc::clone(bench.route("other@file")),
    ];
    bench.load(&yaml.replace("/x", "/y"));
    let after = [
        Arc::clone(bench.route("app@file")),
        Arc::clone(bench.route("other@file")),
    ];
    assert!(
        !Arc::ptr_eq(&before[0].plan, &after[0].plan),
        "a step has changed"
    );
    assert!(
        Arc::ptr_eq(&before[1].plan, &after[1].plan),
        "no step has changed"
    );
    for (before, after) in before.iter().zip(&after) {
        let (RouteTarget::Service(before), RouteTarget::Service(after)) =
            (&before.target, &after.target)
        else {
            panic!("not a service");
        };
        assert!(Arc::ptr_eq(&before.servers[0], &after.servers[0]));
    }
    assert_eq!(bench.live.as_ref().unwrap().snapshot.generation, 2);
}

#[test]
fn a_certificate_that_broke_is_replaced_by_its_last_good_form() {
    let pair = |name: &str| {
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    };
    let files = |chain: &str, key: &str| {
        let text = |text: &str| Ok(Arc::from(text));
        Files::new(BTreeMap::from([
            (PathBuf::from("c.pem"), text(chain)),
            (PathBuf::from("k.pem"), text(key)),
        ]))
    };
    let yaml = "{tls: {certificates: [{certFile: c.pem, keyFile: k.pem}]}}";
    let names = |bench: &Bench| -> Vec<String> {
        let tls = bench.live.as_ref().unwrap().snapshot.tls.clone().unwrap();
        tls.certificates()
            .configured()
            .iter()
            .flat_map(|one| one.facts().dns_names.clone())
            .collect()
    };
    let (first, second) = (pair("one.test"), pair("two.test"));
    let mut bench = Bench::web();
    bench.files = files(&first.0, &first.1);
    bench.load(yaml);
    assert_eq!(
        (names(&bench), bench.found().len()),
        (vec!["one.test".to_owned()], 0)
    );
    // The chain is new and the key is not yet.
    bench.files = files(&second.0, &first.1);
    bench.load(yaml);
    assert_eq!(names(&bench), ["one.test"]);
    bench.assert_found(&[
        "the last good certificate goes on serving",
        "tls.certificates.0@file.keyFile",
    ]);
    bench.files = files(&second.0, &second.1);
    bench.load(yaml);
    assert_eq!(
        (names(&bench), bench.found().len()),
        (vec!["two.test".to_owned()], 0)
    );
    bench.load("{}");
    assert_eq!(names(&bench), [""; 0]);
}

#[test]
fn nested_chains_cannot_take_up_all_memory() {
    let mut yaml = "{http: {middlewares: {c0: {stripPrefix: {prefixes: [/x]}}".to_owned();
    for level in 1..40 {
        let below = format!("c{}", level - 1);
        write!(
            yaml,
            ", c{level}: {{chain: {{middlewares: [{below}, {below}, {below}]}}}}"
        )
        .unwrap();
    }
    yaml += "}}}";
    let mut bench = Bench::web();
    bench.load(&yaml);
    bench.assert_found(&["the chain has more than 512 steps"]);
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a configuration and what is expected of it"
)]
fn the_catalog_tells_what_became_of_everything() {
    let mut bench = Bench::new(&[
        "--entrypoints.web.address=:80",
        "--entrypoints.secure.address=:443",
        "--entrypoints.secure.http.tls=true",
        "--ping=true",
    ]);
    bench.load(
        "
http:
  routers:
    app: {rule: Host(`app.test`), service: app, middlewares: [strip]}
    half: {rule: Host(`half.test`), service: app, entryPoints: [web, nope]}
    bad: {rule: Host(`, service: app}
    unreadable: {rule: [{}], service: app}
  services:
    app: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}
    spare: {loadBalancer: {servers: [{url: 'http://10.0.0.2:80'}]}}
    broken: {loadBalancer: {servers: [{url: ''}]}}
  middlewares:
    strip: {stripPrefix: {prefixes: [/x]}}
",
    );
    let catalog = catalog(&bench.live.as_ref().unwrap().snapshot);
    let routers = catalog
        .routers
        .iter()
        .map(|(name, entry)| (&**name, entry.status.as_str(), entry.using.len()));
    let expected = [
        ("app@file", "enabled", 1),
        ("bad@file", "disabled", 1),
        ("half@file", "warning", 1),
        ("ping@internal", "enabled", 1),
        ("secure-app@file", "enabled", 1),
        ("secure-bad@file", "disabled", 1),
        ("unreadable@file", "disabled", 0),
    ];
    assert_eq!(routers.collect::<Vec<_>>(), expected);
    let split = &catalog.routers["secure-app@file"];
    assert_eq!(
        (split.written_as.as_deref(), split.tls_options.as_deref()),
        (Some("app@file"), Some("default"))
    );
    assert_eq!(split.middlewares[..], [Arc::from("strip@file")]);
    let services = catalog.services.iter().map(|(name, entry)| {
        (
            &**name,
            entry.status.as_str(),
            entry.servers.len(),
            entry.used_by.len(),
        )
    });
    let expected = [
        ("app@file", "enabled", 1, 5),
        ("broken@file", "disabled", 0, 0),
        ("noop@internal", "enabled", 0, 0),
        ("ping@internal", "enabled", 0, 1),
        ("spare@file", "enabled", 0, 0),
    ];
    assert_eq!(services.collect::<Vec<_>>(), expected);
    assert_eq!(catalog.middlewares["strip@file"].used_by.len(), 2);
    assert_eq!(catalog.diagnostics, []);
    assert!(catalog.routing.http.routers.contains_key("app@file"));
}

/// A configuration with references that may or may not lead anywhere.
#[expect(
    clippy::too_many_lines,
    reason = "a configuration and what is expected of it"
)]
fn configurations() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "a@file",
        "x@docker",
        "noop@internal",
        "",
    ]);
    let names = prop::collection::vec(name.clone(), 0..3);
    let rule = prop::sample::select(vec![
        "Host(`a.test`)",
        "PathPrefix(`/`)",
        "Host(`a.test`) && !Path(`/x`)",
        "Host(",
        "HostRegexp(`.`)",
        "",
    ]);
    let tls = prop::sample::select(vec![
        "",
        ", tls: {}",
        ", tls: {options: a}",
        ", tls: {options: default}",
    ]);
    let router =
        (rule, name.clone(), names.clone(), tls).prop_map(|(rule, service, middlewares, tls)| {
            format!("{{rule: '{rule}', service: '{service}', middlewares: {middlewares:?}{tls}}}")
        });
    let service = prop::sample::select(vec![
        "{loadBalancer: {servers: [{url: 'http://10.0.0.1'}]}}",
        "{loadBalancer: {servers: [{url: 'http://a.test:1'}, {url: x}]}}",
        "{loadBalancer: {serversTransport: a, healthCheck: {interval: 0}}}",
        "{weighted: {}}",
        "{}",
        "[]",
    ]);
    let leaf = prop::sample::select(vec![
        "{stripPrefix: {prefixes: [/a]}}",
        "{rateLimit: {average: 1}}",
        "{retry: {}}",
        "{}",
        "3",
    ]);
    let middleware = prop_oneof![
        leaf.prop_map(str::to_owned),
        names.prop_map(|names| format!("{{chain: {{middlewares: {names:?}}}}}")),
    ];
    let options = prop::sample::select(vec![
        "{}",
        "{minVersion: VersionTLS13}",
        "{cipherSuites: [nope]}",
    ]);
    let key = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let map = |entries: BTreeMap<&'static str, String>| {
        entries
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let maps = (
        prop::collection::btree_map(key(), router, 0..4),
        prop::collection::btree_map(key(), service.prop_map(str::to_owned), 0..3),
        prop::collection::btree_map(key(), middleware, 0..4),
        prop::collection::btree_map(key(), options.prop_map(str::to_owned), 0..2),
    );
    maps.prop_map(move |(routers, services, middlewares, options)| {
        format!(
            "{{http: {{routers: {{{}}}, services: {{{}}}, middlewares: {{{}}}}}, tls: {{options: {{{}}}}}}}",
            map(routers), map(services), map(middlewares), map(options)
        )
    })
}

fn shape(compiled: &Compiled) -> (Vec<String>, Vec<String>) {
    let routes = compiled.snapshot.routes.iter();
    let routes = routes.map(|route| {
        format!(
            "{} {} {:?} {:?}",
            route.name, route.rule, route.steps, route.tls_options
        )
    });
    let diagnostics = compiled.diagnostics().iter().map(ToString::to_string);
    (routes.collect(), diagnostics.collect())
}

/// An install configuration with the resolver `le`.
const RESOLVER: [&str; 3] = [
    "--entrypoints.tls.address=:443",
    "--certificatesresolvers.le.acme.email=me@a.test",
    "--certificatesresolvers.le.acme.tlschallenge=true",
];

#[test]
fn certificates_with_too_many_names_are_told_where_they_are_asked_for() {
    let mut bench = Bench::new(&RESOLVER);
    for (count, asked, expected) in [
        (64, 1, None),
        (
            65,
            1,
            Some("http.routers.r@file.rule: asks for one certificate with 65 names"),
        ),
        (
            101,
            0,
            Some("http.routers.r@file.rule: no certificate is asked for: 101 names"),
        ),
    ] {
        let hosts: Vec<String> = (0..count).map(|n| format!("Host(`h{n}.test`)")).collect();
        let rule = hosts.join(" || ");
        let compiled = bench.load(&format!(
            "{{http: {{routers: {{r: {{rule: '{rule}', service: s, tls: {{certResolver: le}}}}}}, services: {{s: {{loadBalancer: {{servers: [{{url: 'http://10.0.0.1'}}]}}}}}}}}}}"
        ));
        assert_eq!(compiled.snapshot.demands.len(), asked, "{count}");
        let found = bench.found();
        let told = found.iter().find(|found| found.contains("names"));
        assert_eq!(told.is_some(), expected.is_some(), "{found:?}");
        let fits =
            told.is_none_or(|told| told.contains(expected.unwrap()) && told.contains("r.yml:1"));
        assert!(fits, "{told:?}");
    }
}

#[test]
fn the_default_store_asks_for_a_certificate() {
    let mut bench = Bench::new(&RESOLVER);
    for (store, asked, told) in [
        (
            "{resolver: le, domain: {main: A.test, sans: [b.test]}}",
            vec!["a.test", "b.test"],
            None,
        ),
        (
            "{resolver: le}",
            vec![],
            Some("defaultGeneratedCert.domain: is missing"),
        ),
        (
            "{resolver: xx, domain: {main: a.test}}",
            vec![],
            Some("no certificates resolver `xx`"),
        ),
        (
            "{resolver: le, domain: {main: '*.test'}}",
            vec![],
            Some("no certificate is asked for `*.test`"),
        ),
    ] {
        let compiled = bench.load(&format!(
            "{{tls: {{stores: {{default: {{defaultGeneratedCert: {store}}}}}}}}}"
        ));
        let names: Vec<_> = compiled
            .snapshot
            .demands
            .iter()
            .flat_map(|one| &one.names)
            .collect();
        assert_eq!(names, asked, "{store}");
        let found = bench.found().join("\n");
        assert!(found.contains(told.unwrap_or_default()), "{found}");
        assert_eq!(found.is_empty(), told.is_none(), "{found}");
    }
}

#[test]
fn staples_go_to_certificates_that_were_obtained_and_to_all_with_ocsp() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let pair = serde_json::json!({"certFile": certificate.pem(), "keyFile": key.serialize_pem()});
    let text = serde_json::json!({"tls": {"certificates": [pair]}}).to_string();
    for (provider, flag, wanted) in [
        ("file", "--log.level=INFO", false),
        ("file", "--ocsp", true),
        ("acme", "--log.level=INFO", true),
        ("acme", "--ocsp", true),
    ] {
        let decoded = parse_routing_file("r.yml", &text, &|_| None).unwrap();
        let definitions = Definitions::of(&provider.into(), decoded);
        let mut bench = Bench::new(&["--entrypoints.web.address=:80", flag]);
        let stapling = &bench.compile(&definitions, &[]).snapshot.stapling;
        assert_eq!(stapling.len(), usize::from(wanted), "{provider} {flag}");
        let shown = |bench: &Bench| {
            let tls = bench.live.as_ref().unwrap().snapshot.tls.clone().unwrap();
            let certificate = Arc::clone(&tls.certificates().configured()[0]);
            let sent = certificate.key().ocsp.clone();
            (tls, certificate.facts().fingerprint.clone(), sent)
        };
        let (before, fingerprint, sent) = shown(&bench);
        assert_eq!(sent, None);
        let staple = |byte| {
            let staple = Staple {
                der: [byte].into(),
                from: 0,
                until: 1,
            };
            Staples::from_iter([(fingerprint.clone(), Arc::new(staple))])
        };
        // It comes, is replaced, and goes.
        for (staples, expected) in [
            (staple(1), Some(vec![1])),
            (staple(2), Some(vec![2])),
            (Staples::default(), None),
        ] {
            bench.staples = staples;
            bench.compile(&definitions, &[]);
            assert_eq!(
                shown(&bench).2,
                expected.filter(|_| wanted),
                "{provider} {flag}"
            );
        }
        // What does not change is not made anew.
        let (now, ..) = shown(&bench);
        let same = std::ptr::eq(before.certificates(), now.certificates());
        assert_eq!(same, !wanted);
    }
}

#[test]
fn an_expired_certificate_that_was_obtained_is_not_to_be_replaced_by_hand() {
    let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let pair = serde_json::json!({"certFile": certificate.pem(), "keyFile": key.serialize_pem()});
    let text = serde_json::json!({"tls": {"certificates": [pair]}}).to_string();
    for (provider, expected) in [("file", "replace the file"), ("acme", "renewed by itself")] {
        let decoded = parse_routing_file("r.yml", &text, &|_| None).unwrap();
        let definitions = Definitions::of(&provider.into(), decoded);
        let mut bench = Bench::new(&RESOLVER);
        bench.compile(&definitions, &[]);
        let found = bench.live.as_ref().unwrap().diagnostics();
        let hints: Vec<_> = found.iter().filter_map(|one| one.hint.as_deref()).collect();
        assert!(
            hints.iter().any(|hint| hint.contains(expected)),
            "{provider}: {hints:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn compiling_is_deterministic_and_never_panics(first in configurations(), second in configurations()) {
        let flags = ["--entrypoints.web.address=:80", "--entrypoints.tls.address=:443", "--entrypoints.tls.http.tls=true"];
        let run = || {
            let mut bench = Bench::new(&flags);
            let first = shape(bench.load(&first));
            (first, shape(bench.load(&second)))
        };
        let once = run();
        prop_assert_eq!(&once, &run());
        // Whoever is mounted has a service and all of its steps.
        let mut bench = Bench::new(&flags);
        bench.load(&first);
        for route in &bench.load(&second).snapshot.routes {
            prop_assert_eq!(route.steps.len(), route.plan.len());
        }
    }
}

/// Rules of Traefik 2 serve with their old meaning, and one warning gives the new form.
#[test]
fn rules_of_traefik_2_are_understood() {
    for (rule, syntax, host, warning) in [
        (
            "Host(`a.test`, `b.test`) && PathPrefix(`/`, `/x`)",
            "",
            "b.test",
            "r.yml:4:13: warning: http.routers.r@file.rule: is written in rule syntax 2, and read with its old meaning (write (Host(`a.test`) || Host(`b.test`)) && (PathPrefix(`/`) || PathPrefix(`/x`)))",
        ),
        (
            "HostRegexp(`{s:[a-z]+}.test`)",
            "",
            "b.test",
            "r.yml:4:13: warning: http.routers.r@file.rule: {name:regexp} is rule syntax 2, and read with its old meaning; write HostRegexp(`^[a-z]+\\.test$`) (column 12 of the rule)",
        ),
        (
            "HostRegexp(`{s:[a-z]+}.test`)",
            "v2",
            "b.test",
            "r.yml:6:19: warning: http.routers.r@file.ruleSyntax: rule syntax 2 is deprecated (remove it, and write the rule as HostRegexp(`^[a-z]+\\.test$`))",
        ),
        (
            "Host(`b.test`)",
            "v2",
            "b.test",
            "r.yml:6:19: warning: http.routers.r@file.ruleSyntax: rule syntax 2 is deprecated (remove it: the rule means the same in syntax 3)",
        ),
    ] {
        let mut bench = Bench::web();
        let yaml = format!(
            "http:
  routers:
    r:
      rule: '{rule}'
      service: s
      ruleSyntax: '{syntax}'
  services:
    s: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:1'}}]}}}}
"
        );
        let compiled = bench.load(&yaml);
        let found: Vec<String> = compiled
            .diagnostics()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, [warning], "{rule}");
        let route = bench.route("r@file");
        let facts = Facts {
            host,
            path: "/",
            query: None,
            method: "GET",
            headers: &HeaderMap::new(),
            peer: [127, 0, 0, 1].into(),
        };
        assert!(route.matcher.matches(&facts), "{rule}");
    }
}

/// Services `a`, `b` (health-checked: `ah`, `bh`) and whatever else is given.
fn of_services(services: &str) -> String {
    let server = "servers: [{url: 'http://10.0.0.1:80'}]";
    format!(
        "
http:
  routers:
    app: {{rule: Host(`app.test`), service: app}}
  services:
    a: {{loadBalancer: {{{server}}}}}
    b: {{loadBalancer: {{{server}}}, middlewares: [tag]}}
    ah: {{loadBalancer: {{{server}, healthCheck: {{}}}}}}
    bh: {{loadBalancer: {{{server}, healthCheck: {{}}}}}}
{services}
  middlewares:
    tag: {{inFlightReq: {{amount: 3}}}}
"
    )
}

/// What may be wrong with a service of services, and how it is told.
const MISTAKES: &[(&str, &str)] = &[
    (
        "    app: {weighted: {services: [{name: a}, {name: nope}]}}",
        "error: http.services.app@file.weighted.services[1].name: the service `nope@file` does not exist",
    ),
    (
        "    app: {highestRandomWeight: {services: [{name: ''}]}}",
        "error: http.services.app@file.highestRandomWeight.services[0].name: names no service",
    ),
    (
        "    app: {weighted: {services: [{name: b2}]}}\n    b2: {weighted: {services: [{name: app}]}}",
        "error: http.services.b2@file.weighted.services[0].name: the service contains itself: app@file -> b2@file -> app@file",
    ),
    (
        "    app: {mirroring: {service: app}}",
        "error: http.services.app@file.mirroring.service: the service contains itself: app@file -> app@file",
    ),
    (
        "    app: {weighted: {services: [{name: ah}, {name: b}], healthCheck: {}}}",
        "error: http.services.app@file.weighted.services[1].name: the health of `b@file` is not checked",
    ),
    (
        "    app: {weighted: {services: [{name: w}], healthCheck: {}}}\n    w: {weighted: {services: [{name: ah}]}}",
        "error: http.services.app@file.weighted.services[0].name: the health of `w@file` is not checked",
    ),
    (
        "    app: {weighted: {services: [{name: w}]}}\n    w: {loadBalancer: {servers: [{url: x}]}}",
        "error: http.services.app@file.weighted.services[0].name: the service `w@file` cannot be used",
    ),
    (
        "    app: {mirroring: {service: a, mirrors: [{name: b, percent: 101}]}}",
        "error: http.services.app@file.mirroring.mirrors[0].percent: 101 is not from 0 to 100",
    ),
    (
        "    app: {mirroring: {service: a, mirrors: [{name: nope}]}}",
        "error: http.services.app@file.mirroring.mirrors[0].name: the service `nope@file` does not exist",
    ),
    (
        "    app: {failover: {service: a, fallback: b}}",
        "error: http.services.app@file.failover.service: the health of `a@file` is not checked",
    ),
    (
        "    app: {failover: {service: ah, fallback: b, healthCheck: {}}}",
        "error: http.services.app@file.failover.fallback: the health of `b@file` is not checked",
    ),
    (
        "    app: {failover: {service: ah}}",
        "error: http.services.app@file.failover.fallback: names no service",
    ),
    (
        "    app: {failover: {service: a, fallback: b, errors: {status: [5xx]}}}",
        "error: http.services.app@file.failover.errors.status[0]: expected a status code or a range",
    ),
    (
        "    app: {weighted: {services: [{name: api@internal}]}}",
        "error: http.services.app@file.weighted.services[0].name: `api@internal` is not enabled",
    ),
    (
        "    app: {weighted: {services: [{name: a}]}, middlewares: [gone]}",
        "error: http.services.app@file.middlewares[0]: the middleware `gone@file` does not exist",
    ),
];

#[test]
fn mistakes_in_services_of_services_are_told_at_their_place() {
    for (services, found) in MISTAKES {
        let mut bench = Bench::web();
        bench.load(&of_services(services));
        bench.assert_found(&[found]);
        assert_eq!(bench.find("web", "http://app.test/"), None, "{services}");
    }
}

#[test]
fn services_of_services_that_are_right_serve() {
    for (services, warned) in [
        (
            "    app: {weighted: {services: [{name: a}, {name: b, weight: 0}]}}",
            0,
        ),
        ("    app: {weighted: {services: []}}", 1),
        ("    app: {weighted: {services: [{name: a, weight: 0}]}}", 1),
        (
            "    app: {weighted: {services: [{name: noop@internal}]}}",
            0,
        ),
        (
            "    app: {weighted: {services: [{name: w}], healthCheck: {}}}\n    w: {failover: {service: ah, fallback: bh, healthCheck: {}}}",
            0,
        ),
        ("    app: {mirroring: {service: a}}", 0),
        ("    app: {failover: {service: ah, fallback: b}}", 0),
        (
            "    app: {failover: {service: a, fallback: b, errors: {status: ['500-599', '404']}}}",
            0,
        ),
    ] {
        let mut bench = Bench::web();
        bench.load(&of_services(services));
        assert_eq!(
            bench.found().len(),
            warned,
            "{services}: {:#?}",
            bench.found()
        );
        assert_eq!(
            bench.find("web", "http://app.test/").as_deref(),
            Some("app@file")
        );
    }
    let deep: String = (0..40)
        .map(|depth| {
            format!(
                "    s{depth}: {{weighted: {{services: [{{name: s{}}}]}}}}\n",
                depth + 1
            )
        })
        .collect();
    let mut bench = Bench::web();
    bench.load(&of_services(&format!(
        "{deep}    s40: {{mirroring: {{service: a}}}}\n    app: {{mirroring: {{service: s0}}}}"
    )));
    bench.assert_found(&["services lie within services more than 16 deep"]);
    assert_eq!(bench.find("web", "http://app.test/"), None);
}

#[test]
fn parts_of_services_are_shared_and_keep_their_state() {
    let services = |percent: u8| {
        of_services(&format!(
            "    app: {{weighted: {{services: [{{name: m}}, {{name: b}}]}}}}
    m: {{mirroring: {{service: a, mirrors: [{{name: b, percent: {percent}}}, {{name: a, percent: 5}}]}}}}"
        ))
    };
    let parts = |bench: &Bench| {
        let RouteTarget::Group(group) = bench.route("app@file").target.clone() else {
            panic!("not a group");
        };
        let RouteTarget::Group(mirroring) = group.members()[0].target.clone() else {
            panic!("not a group");
        };
        (group, mirroring)
    };
    let mut bench = Bench::web();
    bench.load(&services(30));
    let (before, mirroring) = parts(&bench);
    let snapshot = Arc::clone(&bench.live.as_ref().unwrap().snapshot);
    let names: Vec<&str> = snapshot.services.iter().map(|it| &*it.name).collect();
    assert_eq!(
        names,
        ["a@file", "b@file"],
        "the leaves are services like others"
    );
    let names: Vec<&str> = snapshot.groups.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["app@file", "m@file"]);
    let RouteTarget::Service(leaf) = &before.members()[1].target else {
        panic!("not a service");
    };
    assert!(Arc::ptr_eq(leaf, snapshot.service("b@file").unwrap()));
    assert_eq!(before.members()[1].plan.len(), 1, "middlewares of its own");
    bench.load(&services(31));
    let (after, later) = parts(&bench);
    assert!(
        Arc::ptr_eq(&before.members()[1].plan, &after.members()[1].plan),
        "no step has changed"
    );
    let (GroupKind::Mirroring(before), GroupKind::Mirroring(after)) =
        (&mirroring.kind, &later.kind)
    else {
        panic!("not a mirroring");
    };
    assert!(!Arc::ptr_eq(
        &before.mirrors[0].share,
        &after.mirrors[0].share
    ));
    assert!(Arc::ptr_eq(
        &before.mirrors[1].share,
        &after.mirrors[1].share
    ));
    assert!(Arc::ptr_eq(&before.allowance, &after.allowance));
}

fn guarded(address: &str, more: &str) -> String {
    format!(
        "
http:
  routers:
    a: {{rule: Host(`a.test`), service: app, middlewares: [auth]}}
    b: {{rule: Host(`b.test`), service: app, middlewares: [auth]}}
  services:
    app: {{loadBalancer: {{servers: [{{url: 'http://10.0.0.1'}}]}}}}
  middlewares:
    auth: {{forwardAuth: {{address: '{address}'{more}}}}}
"
    )
}

#[test]
fn who_is_asked_is_one_for_all_routers_and_survives_reloads() {
    let mut bench = Bench::web();
    let asked = |bench: &Bench, route: &str| match &bench.route(route).plan[0] {
        Middleware::ForwardAuth(auth) => Arc::clone(auth.authority().unwrap()),
        other => panic!("{other:?}"),
    };
    bench.load(&guarded("http://10.0.0.2:9000/verify?a=b", ""));
    let first = asked(&bench, "a@file");
    assert!(Arc::ptr_eq(&first, &asked(&bench, "b@file")));
    assert_eq!(&*first.servers[0].name, "http://10.0.0.2:9000/verify?a=b");
    let plan = Arc::clone(&bench.route("a@file").plan);
    bench.load(&guarded("http://10.0.0.2:9000/verify?a=b", ""));
    assert!(Arc::ptr_eq(&plan, &bench.route("a@file").plan));
    bench.load(&guarded(
        "http://10.0.0.2:9000/verify?a=b",
        ", trustForwardHeader: true",
    ));
    assert!(
        Arc::ptr_eq(&first, &asked(&bench, "a@file")),
        "the connections stay"
    );
    bench.load(&guarded("http://10.0.0.3:9000", ""));
    assert!(!Arc::ptr_eq(
        &first.servers[0],
        &asked(&bench, "a@file").servers[0]
    ));
    let snapshot = &bench.live.as_ref().unwrap().snapshot;
    let names: Vec<&str> = snapshot
        .services
        .iter()
        .map(|service| &*service.name)
        .collect();
    assert_eq!(names, ["app@file", "auth@file@forwardAuth"]);
    // One that breaks goes on as it was.
    bench.load(&guarded("nowhere", ""));
    assert_eq!(
        &*asked(&bench, "a@file").servers[0].name,
        "http://10.0.0.3:9000"
    );
    bench.assert_found(&["http.middlewares.auth@file.forwardAuth.address"]);
}

#[test]
fn who_is_asked_over_tls_needs_what_is_named() {
    for (tls, field) in [
        ("ca: /nothing.pem", "forwardAuth.tls.ca"),
        ("cert: /nothing.pem", "forwardAuth.tls.key"),
        ("key: /nothing.pem", "forwardAuth.tls.cert"),
    ] {
        let mut bench = Bench::web();
        bench.load(&guarded("https://10.0.0.2", &format!(", tls: {{{tls}}}")));
        bench.assert_found(&[field]);
        assert!(bench.live.unwrap().snapshot.routes.is_empty(), "{tls}");
    }
}

#[test]
fn pages_of_errors_lead_somewhere_and_not_in_circles() {
    let mut bench = Bench::web();
    let config = "
http:
  routers:
    sound: {rule: Host(`a.test`), service: app, middlewares: [sound]}
    internal: {rule: Host(`b.test`), service: app, middlewares: [internal]}
    circle: {rule: Host(`c.test`), service: app, middlewares: [one]}
    leads: {rule: Host(`d.test`), service: app, middlewares: [three]}
    missing: {rule: Host(`e.test`), service: app, middlewares: [missing]}
    broken: {rule: Host(`f.test`), service: app, middlewares: [broken]}
  services:
    app: {loadBalancer: {servers: [{url: 'http://10.0.0.1'}]}}
    pages: {middlewares: [limit], loadBalancer: {servers: [{url: 'http://10.0.0.2'}]}}
    a: {middlewares: [two], loadBalancer: {servers: [{url: 'http://10.0.0.3'}]}}
    b: {middlewares: [one], loadBalancer: {servers: [{url: 'http://10.0.0.3'}]}}
    bad: {loadBalancer: {servers: [{url: nowhere}]}}
  middlewares:
    sound: {errors: {status: [404], service: pages}}
    internal: {errors: {status: [404], service: noop@internal}}
    one: {errors: {status: [404], service: a}}
    two: {errors: {status: [404], service: b}}
    three: {errors: {status: [404], service: a}}
    missing: {errors: {status: [404], service: nobody}}
    broken: {errors: {status: [404], service: bad}}
    limit: {rateLimit: {average: 1}}
";
    bench.load(config);
    bench.assert_found(&[
        "http.middlewares.one@file.errors.service: the service's pages have pages of their own: one@file -> a@file -> two@file -> b@file -> one@file",
        "http.middlewares.three@file.errors.service: leads to a middleware that cannot be used",
        "http.middlewares.missing@file.errors.service: the service `nobody@file` does not exist",
        "http.middlewares.broken@file.errors.service: the service `bad@file` cannot be used",
        "http.routers.circle@file.middlewares",
    ]);
    let snapshot = |bench: &Bench| Arc::clone(&bench.live.as_ref().unwrap().snapshot);
    let first = snapshot(&bench);
    let mounted: Vec<&str> = first.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(mounted, ["internal@file", "sound@file"]);
    let pages = first.pages_of("pages@file").unwrap();
    assert_eq!((pages.steps.len(), pages.plan.len()), (1, 1));
    assert!(first.pages_of("noop@internal").is_some());
    bench.load(config);
    let again = snapshot(&bench);
    assert!(Arc::ptr_eq(
        &pages.plan,
        &again.pages_of("pages@file").unwrap().plan
    ));
}
