//! Sources on a temporary disk in, install configuration or diagnostics out.

use super::*;

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
            "traefik.yml:8:1: error: pilot: is gone since Traefik 3 (remove it)",
            "traefik.yml:10:10: error: log.level: unknown value \"LOUD\" (expected `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL` or `PANIC`)",
            "traefik.yml:13:5: error: providers.docker.swarmMode: is gone since Traefik 3 (use `providers.swarm`)",
            "traefik.yml:14:3: error: providers.fil: unknown option (did you mean `file`?)",
            "traefik.yml:17:18: error: accessLog.filters.statusCodes[1]: expected a status code or a range such as `500-599`, found \"3xx\"",
        ]
    );
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
            "traefik.yml:8:15: error: entryPoints.web.http.redirections.entryPoint.to: there is no entry point \"websecur\" (did you mean `websecure`?)",
            "traefik.yml:9:29: error: entryPoints.web.http.aliasHeadersStrategy: contradicts `underscoreHeadersStrategy` (remove the latter)",
            "traefik.yml:10:34: warning: entryPoints.web.http.underscoreHeadersStrategy: is deprecated (use `aliasHeadersStrategy`)",
            "traefik.yml:12:14: error: entryPoints.websecure.address: 0.0.0.0:80 is taken by entry point `web` (give each entry point its own port)",
            "traefik.yml:15:44: error: entryPoints.loop.http.redirections.entryPoint.to: redirects to itself",
            "traefik.yml:18:44: error: entryPoints.port.http.redirections.entryPoint.to: \":99999\" is not a port",
            "traefik.yml:19:20: error: ping.entryPoint: there is no entry point \"wep\" (did you mean `web`?)",
            "traefik.yml:20:41: error: metrics.prometheus.buckets: the bounds must rise",
            "traefik.yml:20:80: error: metrics.prometheus.headerLabels.a-b: is not a label name: letters, digits and `_`",
            "traefik.yml:21:17: error: api.basePath: must begin with `/` and hold only letters, digits and `/_.:~-`",
            "traefik.yml:22:13: error: providers.file: needs `filename` or `directory`",
            "traefik.yml:22:42: error: providers.precedence[1]: there is no provider \"dokcer\" (did you mean `docker`?)",
            "traefik.yml:22:73: error: providers.docker.defaultRule: `{{` without `}}`",
            "traefik.yml:22:97: error: providers.docker.constraints: unknown function `Lable` (did you mean `Label`?) at character 6",
        ]
    );
}

#[test]
fn known_options_without_support_warn_once_each() {
    let yaml = "\
entryPoints:
  web: {address: ':80', http3: {}, http2: {maxEncoderHeaderTableSize: 4096}}
  dns: {address: ':53/udp', udp: {timeout: 1}}
certificatesResolvers:
  le: {acme: {email: a b}}
tracing: {}
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
            "traefik.yml:5:8: warning: certificatesResolvers.le.acme: has no challenge that is supported, and gets no certificate (add `httpChallenge` or `tlsChallenge`)",
            "traefik.yml:5:22: warning: certificatesResolvers.le.acme.email: is not an email address",
            "traefik.yml:6:1: warning: tracing: is known, but not supported by this version",
            "traefik.yml:8:3: warning: providers.nomad: is known, but not supported by this version",
            "traefik.yml:9:27: warning: global.checkNewVersion: has no effect: Portway does not call home",
            "traefik.yml:10:1: warning: experimental: is known, but not supported by this version",
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
