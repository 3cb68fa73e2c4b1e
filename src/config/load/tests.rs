//! Sources on a temporary disk in, install configuration or diagnostics out.

use super::*;
use crate::config::units::Span;

/// A directory that stands for the current one, with a system directory in it.
struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { directory }
    }

    fn load(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Loaded, Vec<String>> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let environment: Vec<_> = environment
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        let sources = Sources {
            arguments: &arguments,
            environment: &environment,
            directory: self.directory.path(),
            root: Root::Here,
        };
        let search = Search {
            sources: &sources,
            system: &self.directory.path().join("etc"),
            diagnostics: Vec::new(),
        };
        let loaded = search.load();
        match loaded.diagnostics.iter().any(Diagnostic::is_error) {
            true => Err(loaded.diagnostics.iter().map(ToString::to_string).collect()),
            false => Ok(loaded),
        }
    }

    fn warnings(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
        let loaded = self.load(arguments, environment).expect("a configuration");
        loaded.diagnostics.iter().map(ToString::to_string).collect()
    }
}

fn errors(yaml: &str) -> Vec<String> {
    Disk::new(&[("traefik.yml", yaml)])
        .load(&[], &[])
        .expect_err(yaml)
}

fn warnings(yaml: &str) -> Vec<String> {
    Disk::new(&[("traefik.yml", yaml)]).warnings(&[], &[])
}

#[test]
fn one_source_wins() {
    let web = "entryPoints: {web: {address: ':81'}}";
    let names = |disk: &Disk, arguments: &[&str], environment: &[(&str, &str)]| {
        let loaded = disk.load(arguments, environment).expect("a configuration");
        loaded
            .install
            .entry_points
            .into_keys()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let none = Disk::new(&[]);
    assert_eq!(names(&none, &[], &[]), "http");
    assert_eq!(
        names(&none, &[], &[("TRAEFIK_ENTRYPOINTS_E_ADDRESS", ":1")]),
        "e"
    );
    let flag = "--entryPoints.f.address=:2";
    assert_eq!(
        names(&none, &[flag], &[("TRAEFIK_ENTRYPOINTS_E_ADDRESS", ":1")]),
        "f"
    );
    let local = Disk::new(&[("traefik.yml", web)]);
    assert_eq!(names(&local, &[flag], &[]), "web");
    let system = Disk::new(&[
        ("traefik.yml", "a: 1"),
        (
            "etc/traefik/traefik.toml",
            "[entryPoints.sys]\naddress = ':3'",
        ),
        ("etc/traefik/traefik.yaml", "a: 1"),
    ]);
    assert_eq!(names(&system, &[], &[]), "sys");
    let named = Disk::new(&[
        ("etc/traefik/traefik.yml", "a: 1"),
        (
            "x/my.json",
            "{\n\t\"entryPoints\": {\"j\": {\"address\": \":4\"}}}",
        ),
    ]);
    assert_eq!(
        names(&named, &["--configfile", "$D/my.json"], &[("D", "x")]),
        "j"
    );
    let loaded = named.load(&["--configFile=x/my.json"], &[]).unwrap();
    assert_eq!(
        loaded.source_file.unwrap(),
        named.directory.path().join("x/my.json")
    );
    assert_eq!(
        loaded.places.at("entryPoints.j.address").to_string(),
        "x/my.json:2:35"
    );
    let home = Disk::new(&[("h/.config/traefik.yml", web)]);
    let path = home.directory.path().join("h").display().to_string();
    assert_eq!(names(&home, &[], &[("HOME", &path)]), "web");
}

#[test]
fn ignored_sources_are_named() {
    let disk = Disk::new(&[("traefik.yml", "ping: {}")]);
    assert_eq!(
        disk.warnings(&["--api", "--ping"], &[("TRAEFIK_PING", "true")]),
        [
            "--api: warning: ignored, because the file `traefik.yml` is used: --api, --ping (file, flags and environment do not add up: keep one of them)",
            "$TRAEFIK_PING: warning: ignored, because the file `traefik.yml` is used: TRAEFIK_PING (file, flags and environment do not add up: keep one of them)",
        ]
    );
    assert_eq!(
        Disk::new(&[]).warnings(
            &["--ping"],
            &[("TRAEFIK_API", "true"), ("TRAEFIK_PING", "true")]
        ),
        [
            "$TRAEFIK_API: warning: ignored, because there are flags: TRAEFIK_API, TRAEFIK_PING (file, flags and environment do not add up: keep one of them)"
        ]
    );
}

#[test]
fn files_that_cannot_be_used() {
    let disk = Disk::new(&[
        ("a.txt", "x"),
        ("empty.yml", "# nothing\n"),
        ("list.yml", "- a"),
        ("d/x", ""),
    ]);
    for (arguments, expected) in [
        (
            ["--configFile=no.yml"],
            "--configFile: error: configFile: the file `no.yml` does not exist",
        ),
        (
            ["--configFile=d"],
            "--configFile: error: configFile: the file `d` is not a file",
        ),
        (
            ["--configFile=a.txt"],
            "a.txt: error: is neither YAML, TOML nor JSON (name it `.yml`, `.yaml`, `.toml` or `.json`)",
        ),
        (
            ["--configFile=empty.yml"],
            "empty.yml: error: holds no configuration",
        ),
        (
            ["--configFile=list.yml"],
            "list.yml:1:1: error: expected options at the top, found a list",
        ),
    ] {
        assert_eq!(disk.load(&arguments, &[]).unwrap_err(), [expected]);
    }
}

#[test]
fn all_errors_at_once() {
    let yaml = "\
entryPoints:
  web:
    adress: :80
    proxyProtocol:
      trustedIPs: [10.0.0.0/8, nonsense]
  udp:
    address: 80
pilot: {}
log:
  level: LOUD
providers:
  docker:
    swarmMode: true
  fil: {}
accessLog:
  filters:
    statusCodes: 200,3xx
";
    assert_eq!(
        errors(yaml),
        [
            "traefik.yml:3:5: error: entryPoints.web.adress: unknown option (did you mean `address`?)",
            "traefik.yml:5:32: error: entryPoints.web.proxyProtocol.trustedIPs[1]: expected an IP address or a network such as `10.0.0.0/8`, found \"nonsense\"",
            "traefik.yml:7:14: error: entryPoints.udp.address: expected an address such as `:80`, found \"80\"",
            "traefik.yml:8:1: warning: pilot: is gone since Traefik 3, and ignored (remove it)",
            "traefik.yml:10:10: warning: log.level: unknown value \"LOUD\"; the default is used (expected `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL`, `PANIC` or `DISABLED`)",
            "traefik.yml:13:5: warning: providers.docker.swarmMode: is gone since Traefik 3, and read as `providers.swarm` (rename `providers.docker` to `providers.swarm`, and remove `swarmMode`)",
            "traefik.yml:14:3: error: providers.fil: unknown option (did you mean `file`?)",
            "traefik.yml:17:18: warning: accessLog.filters.statusCodes[1]: expected a status code or a range such as `500-599`, found \"3xx\"; it is left out",
        ]
    );
}

/// The flags, what is said of them (nothing if the text is empty), an option, and what it comes to.
type Tolerated<'t> = (&'t str, &'t str, &'t str, serde_json::Value);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of flags")]
fn what_traefik_starts_with_starts() {
    use serde_json::{Value, json};

    const TO: &str = "--entrypoints.web.http.redirections.entrypoint.to";
    let redirect = |to: &str| format!("{TO}={to}");
    let [nowhere, nope, case, itself, port] =
        ["", "nope", "Web2", "web", ":x"].map(|to| redirect(to) + " --entrypoints.web2.address=:2");
    let (level, log) = ("/log/level", "/accessLog");
    let (ping, metrics) = ("/ping/entryPoint", "/metrics/prometheus");
    let redirections = "/entryPoints/web/http/redirections";
    let at = |top: &str, rest: &str| format!("{top}{rest}");
    let cases: &[Tolerated<'_>] = &[
        ("--log.level=", "", level, json!("ERROR")),
        (
            "--log.level=WARNING",
            "the default is used (did you mean `WARN`?)",
            level,
            json!("ERROR"),
        ),
        (
            "--log.level=OFF",
            "the default is used",
            level,
            json!("ERROR"),
        ),
        ("--log.level=disabled", "", level, json!("DISABLED")),
        ("--log.format=", "", "/log/format", json!("common")),
        (
            "--log.format=text",
            "log.format: unknown value",
            "/log/format",
            json!("common"),
        ),
        (
            "--log.maxsize=-1",
            "log.maxSize",
            "/log/maxSize",
            Value::Null,
        ),
        (
            "--accesslog.format=",
            "",
            &at(log, "/format"),
            json!("common"),
        ),
        (
            "--accesslog.format=clf",
            "accessLog.format",
            &at(log, "/format"),
            json!("common"),
        ),
        (
            "--accesslog.filters.statuscodes=200,abc,500-599",
            "statusCodes[1]: expected a status code",
            &at(log, "/filters/statusCodes"),
            json!(["200", "500-599"]),
        ),
        (
            "--accesslog.fields.defaultmode=foo",
            "the default is used (expected `keep`",
            &at(log, "/fields/defaultMode"),
            json!("keep"),
        ),
        (
            "--accesslog.fields.headers.defaultmode=foo",
            "the default is used",
            &at(log, "/fields/headers/defaultMode"),
            json!("drop"),
        ),
        (
            "--accesslog.fields.headers.names.Authorization=redacted",
            "the field is redacted (did you mean `redact`?)",
            &at(log, "/fields/headers/names/Authorization"),
            json!("redact"),
        ),
        (
            "--accesslog.fields.names.ClientHost=foo",
            "the field is redacted",
            &at(log, "/fields/names/ClientHost"),
            json!("redact"),
        ),
        ("--ping.entrypoint=", "", ping, json!("traefik")),
        (
            "--ping.entrypoint=nope",
            "answered nowhere",
            "/ping/manualRouting",
            json!(true),
        ),
        (
            "--ping.terminatingstatuscode=99",
            "503 is used",
            "/ping/terminatingStatusCode",
            json!(503),
        ),
        (
            "--metrics.prometheus.entrypoint=",
            "",
            &at(metrics, "/entryPoint"),
            json!("traefik"),
        ),
        (
            "--metrics.prometheus.entrypoint=nope",
            "answered nowhere",
            &at(metrics, "/manualRouting"),
            json!(true),
        ),
        (
            "--metrics.prometheus.buckets=5,1,5",
            "they are sorted",
            &at(metrics, "/buckets"),
            json!([1.0, 5.0]),
        ),
        (
            "--entrypoints.alt.address=",
            "a port chosen by the system",
            "/entryPoints/alt/address",
            Value::Null,
        ),
        (
            &nowhere,
            "says nowhere to redirect to",
            redirections,
            Value::Null,
        ),
        (
            &nope,
            "there is no entry point \"nope\"",
            redirections,
            Value::Null,
        ),
        (&case, "did you mean `web2`?", redirections, Value::Null),
        (&port, "is not a port: nothing", redirections, Value::Null),
        (
            &itself,
            "redirects to itself",
            &at(redirections, "/entryPoint/to"),
            json!("web"),
        ),
        (
            "--providers.file.filename=",
            "reads nothing",
            "/providers/file",
            Value::Null,
        ),
        (
            "--entrypoints.web.http.maxheaderbytes=-1",
            "maxHeaderBytes",
            "/entryPoints/web/http/maxHeaderBytes",
            json!(1_048_576),
        ),
        (
            "--entrypoints.web.http.maxheaderbytes=0",
            "",
            "/entryPoints/web/http/maxHeaderBytes",
            json!(1_048_576),
        ),
        (
            "--entrypoints.web.observability.traceverbosity=foo",
            "traceVerbosity: unknown value",
            "/entryPoints/web/observability/traceVerbosity",
            json!("minimal"),
        ),
    ];
    let disk = Disk::new(&[]);
    for (flags, said, option, expected) in cases {
        let mut arguments: Vec<&str> = flags.split(' ').collect();
        arguments.push("--entrypoints.web.address=:81");
        let loaded = disk.load(&arguments, &[]).expect(flags);
        let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(found.is_empty(), said.is_empty(), "{flags}: {found:?}");
        assert!(found.concat().contains(said), "{flags}: {found:?}");
        let install = serde_json::to_value(&loaded.install).unwrap();
        let value = install.pointer(option).cloned().unwrap_or_default();
        assert_eq!(value, *expected, "{flags} {option}");
    }
}

#[test]
fn what_keeps_people_out_is_not_tolerated() {
    let disk = Disk::new(&[]);
    for flag in [
        "--entrypoints.web.forwardedheaders.trustedips=foo",
        "--entrypoints.web.proxyprotocol.trustedips=foo",
        "--entrypoints.web.proxyprotocol=true",
        "--entrypoints.web.http.aliasheadersstrategy=foo",
        "--metrics.prometheus.buckets=1,abc",
        "--core.defaultrulesyntax=foo",
        "--api.basepath=foo",
    ] {
        let errors = disk.load(&[flag, "--entrypoints.web.address=:81"], &[]);
        let errors = errors.expect_err(flag);
        assert_eq!(errors.len(), 1, "{flag}: {errors:?}");
    }
}

#[test]
fn contradictions() {
    let yaml = "\
entryPoints:
  web:
    address: :80
    proxyProtocol: {}
    http:
      redirections:
        entryPoint:
          to: websecur
      aliasHeadersStrategy: keep
      underscoreHeadersStrategy: reject
  websecure:
    address: 0.0.0.0:80
  loop:
    address: :82
    http: {redirections: {entryPoint: {to: loop}}}
  port:
    address: :83
    http: {redirections: {entryPoint: {to: ':99999'}}}
ping: {entryPoint: wep}
metrics: {prometheus: {entryPoint: web, buckets: [1, 0.5], headerLabels: {a-b: X}}}
api: {basePath: api}
providers: {file: {}, precedence: [file, dokcer], docker: {defaultRule: '{{ .Nam', constraints: 'Lable(`a`,`b`)'}}
";
    assert_eq!(
        errors(yaml),
        [
            "traefik.yml:4:5: error: entryPoints.web.proxyProtocol: trusts nobody (set `trustedIPs` to the addresses of the balancer in front)",
            "traefik.yml:8:15: warning: entryPoints.web.http.redirections.entryPoint.to: there is no entry point \"websecur\": nothing is redirected (did you mean `websecure`?)",
            "traefik.yml:9:29: error: entryPoints.web.http.aliasHeadersStrategy: contradicts `underscoreHeadersStrategy` (remove the latter)",
            "traefik.yml:10:34: warning: entryPoints.web.http.underscoreHeadersStrategy: is deprecated (use `aliasHeadersStrategy`)",
            "traefik.yml:12:14: error: entryPoints.websecure.address: 0.0.0.0:80 is taken by entry point `web` (give each entry point its own port)",
            "traefik.yml:15:44: warning: entryPoints.loop.http.redirections.entryPoint.to: redirects to itself",
            "traefik.yml:18:44: warning: entryPoints.port.http.redirections.entryPoint.to: \":99999\" is not a port: nothing is redirected (name an entry point or a port such as `:443`)",
            "traefik.yml:19:20: warning: ping.entryPoint: there is no entry point \"wep\": `/ping` is answered nowhere (did you mean `web`?)",
            "traefik.yml:20:41: warning: metrics.prometheus.buckets: the bounds do not rise: they are sorted",
            "traefik.yml:20:80: warning: metrics.prometheus.headerLabels.a-b: is not a label name, and left out (use letters, digits and `_`)",
            "traefik.yml:21:17: error: api.basePath: must begin with `/` and hold only letters, digits and `/_.:~-`",
            "traefik.yml:22:13: warning: providers.file: reads nothing: it has neither `filename` nor `directory`",
            "traefik.yml:22:42: error: providers.precedence[1]: there is no provider \"dokcer\" (did you mean `docker`?)",
            "traefik.yml:22:73: error: providers.docker.defaultRule: `{{` without `}}`",
            "traefik.yml:22:97: error: providers.docker.constraints: unknown function `Lable` (did you mean `Label`?) at character 6",
        ]
    );
}

#[test]
fn the_http_provider_needs_a_url_that_can_be_asked() {
    for (options, expected) in [
        ("{}", "providers.http.endpoint: is missing"),
        ("{endpoint: 'ftp://h/'}", "endpoint: is not a URL of http"),
        ("{endpoint: 'config.yml'}", "endpoint: is not a URL of http"),
        (
            "{endpoint: 'http://h/', pollInterval: 0}",
            "pollInterval: must be above 0",
        ),
        (
            "{endpoint: 'http://h/', pollTimeout: -1}",
            "pollTimeout: must not be negative",
        ),
        (
            "{endpoint: 'http://h/', headers: {'a b': c}}",
            "is not the name of a header",
        ),
        (
            "{endpoint: 'http://h/', headers: {a: \"b\\nc\"}}",
            "no header may hold",
        ),
    ] {
        let found = errors(&format!("providers: {{http: {options}}}"));
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{options}: {found:?}"
        );
    }
}

#[test]
fn known_options_without_support_warn_once_each() {
    let yaml = "\
entryPoints:
  web: {address: ':80', http3: {}, http2: {maxEncoderHeaderTableSize: 4096}}
  dns: {address: ':53/udp', udp: {timeout: 1}}
certificatesResolvers:
  le: {acme: {email: a b}}
spiffe: {}
providers:
  nomad: {exposedByDefault: false}
global: {checkNewVersion: true, sendAnonymousUsage: false}
experimental: {plugins: {x: {moduleName: m}}}
api: {dashboard: true}
htttp: {}
x-anchors: {}
http: {routers: {}}
";
    assert_eq!(
        warnings(yaml),
        [
            "traefik.yml:2:25: warning: entryPoints.web.http3: is known, but not supported by this version",
            "traefik.yml:2:71: warning: entryPoints.web.http2.maxEncoderHeaderTableSize: has no effect: clients decide the size of their tables",
            "traefik.yml:3:18: warning: entryPoints.dns.address: UDP is not supported by this version: it is not opened",
            "traefik.yml:3:44: warning: entryPoints.dns.udp.timeout: is known, but not supported by this version",
            "traefik.yml:5:8: warning: certificatesResolvers.le.acme: has no challenge, and gets no certificate (add `httpChallenge`, `tlsChallenge` or `dnsChallenge`)",
            "traefik.yml:5:22: warning: certificatesResolvers.le.acme.email: is not an email address",
            "traefik.yml:6:1: warning: spiffe: is known, but not supported by this version",
            "traefik.yml:8:3: warning: providers.nomad: is known, but not supported by this version",
            "traefik.yml:9:27: warning: global.checkNewVersion: has no effect: Portway does not call home",
            "traefik.yml:10:16: warning: experimental.plugins: is known, but not supported by this version",
            "traefik.yml:11:18: warning: api.dashboard: there is no dashboard in this version, the API answers JSON",
            "traefik.yml:12:1: warning: htttp: unknown section, ignored",
            "traefik.yml:14:1: warning: http: belongs to the routing configuration and is ignored here (move it to a file that `providers.file` reads)",
        ]
    );
    let both = "providers: {file: {filename: traefik.yml}}\nhttp: {routers: {}}";
    assert_eq!(warnings(both), [""; 0]);
    assert_eq!(
        errors("entryPoints: {web: {address: ':1', tls: {}}}"),
        [
            "traefik.yml:1:36: error: entryPoints.web.tls: does not belong here (write `http.tls` below the entry point)"
        ]
    );
}

#[test]
fn unknown_flags_are_errors() {
    let disk = Disk::new(&[]);
    assert_eq!(
        disk.load(&["--pimg", "--entrypoints.web.address=:80", "web"], &[])
            .unwrap_err(),
        [
            "--pimg: error: pimg: unknown option (did you mean `ping`?)",
            "web: error: unexpected word among the flags (after `--entrypoints.web.address`: write lists with commas, quote values with blanks)",
        ]
    );
}

/// What ships as an example must load without an error.
#[test]
fn shipped_files_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut installs = vec![root.join("config/portway.yml")];
    let examples = std::fs::read_dir(root.join("examples")).unwrap();
    installs.extend(examples.map(|entry| entry.unwrap().path().join("portway.yml")));
    for install in installs.into_iter().filter(|path| path.is_file()) {
        let arguments = [format!("--configFile={}", install.display())];
        let sources = Sources {
            arguments: &arguments,
            environment: &[],
            directory: root,
            root: Root::Here,
        };
        let loaded = load_install(&sources).unwrap_or_else(|found| panic!("{found:#?}"));
        let warnings: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [""; 0], "{}", install.display());
        let routing = std::fs::read_dir(install.with_file_name("routing")).unwrap();
        for file in routing.map(|entry| entry.unwrap().path()) {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).unwrap();
            let decoded = crate::config::parse_routing_file(&name, &text, &|_| None);
            let decoded = decoded.unwrap_or_else(|found| panic!("{found:#?}"));
            assert!(!decoded.has_errors(), "{:#?}", decoded.diagnostics);
        }
    }
}

/// What Traefik 2 had and Traefik 3 refuses: each name costs one warning that gives its form in Traefik 3.
#[test]
fn names_of_traefik_2_are_understood() {
    let disk = Disk::new(&[]);
    let flags = [
        "--providers.docker.swarmMode",
        "--providers.docker.swarmModeRefreshSeconds=20",
        "--providers.docker.exposedByDefault=false",
        "--providers.docker.network=front",
        "--experimental.http3=true",
        "--entryPoints.web.address=:80",
        "--entryPoints.web.enableHTTP3",
        "--pilot.token=x",
        "--pilot.dashboard=false",
        "--tracing.jaeger.localAgentHostPort=a:1",
        "--metrics.influxdb.address=a:1",
        "--providers.docker.tls.caOptional=true",
    ];
    let loaded = disk.load(&flags, &[]).unwrap();
    let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "--entryPoints.web.enableHTTP3: warning: entryPoints.web.enableHTTP3: is gone since Traefik 3, and ignored (write `http3: {}` below the entry point)",
            "--experimental.http3: warning: experimental.http3: is gone since Traefik 3, and ignored (remove it, and set `http3: {}` on the entry points)",
            "--metrics.influxdb.address: warning: metrics.influxdb: is gone since Traefik 3, and ignored (use `metrics.influxDB2`)",
            "--pilot.token: warning: pilot: is gone since Traefik 3, and ignored (remove it)",
            "--providers.docker.swarmMode: warning: providers.docker.swarmMode: is gone since Traefik 3, and read as `providers.swarm` (rename `providers.docker` to `providers.swarm`, and remove `swarmMode`)",
            "--providers.docker.swarmModeRefreshSeconds: warning: providers.docker.swarmModeRefreshSeconds: is the old name of `providers.swarm.refreshSeconds` (rename it)",
            "--providers.docker.tls.caOptional: warning: providers.docker.tls.caOptional: is gone since Traefik 3, and ignored (remove it)",
            "--tracing.jaeger.localAgentHostPort: warning: tracing.jaeger: is gone since Traefik 3, and ignored (use `tracing.otlp`)",
        ]
    );
    assert!(loaded.install.providers.docker.is_none());
    let swarm = loaded.install.providers.swarm.unwrap();
    assert!(!swarm.exposed_by_default);
    assert_eq!(swarm.network, "front");
    assert_eq!(swarm.refresh_seconds, Span::from_secs(20));
}

/// Providers that are no more are not left out in silence, and a mode that is off changes nothing.
#[test]
fn what_traefik_2_had_and_cannot_be_left_out() {
    assert_eq!(
        errors("providers:\n  marathon: {}\n  docker:\n    swarmMode: false\n    network: n\n"),
        [
            "traefik.yml:2:3: error: providers.marathon: is gone since Traefik 3 (remove it)",
            "traefik.yml:4:5: warning: providers.docker.swarmMode: is gone since Traefik 3, and ignored (remove it)",
        ]
    );
    let disk = Disk::new(&[(
        "traefik.yml",
        "providers:\n  docker:\n    swarmMode: false\n    network: n\n",
    )]);
    let loaded = disk.load(&[], &[]).unwrap();
    assert_eq!(loaded.install.providers.docker.unwrap().network, "n");
    assert!(loaded.install.providers.swarm.is_none());
}
