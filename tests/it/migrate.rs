//! `portway migrate`: stacks of Traefik 2 in, stacks of Traefik 3 out, which `portway check` and Traefik have nothing to say about.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::side_by_side::traefik;
use crate::support::{binary, subject_is_traefik};

/// Files of Traefik 2, what `migrate` and `check` are told, and lines that the files have afterwards.
struct Fragment {
    files: &'static [(&'static str, &'static str)],
    migrate: &'static [&'static str],
    check: &'static [&'static str],
    new: &'static [&'static str],
    /// What is said of what has no new form.
    said: &'static [&'static str],
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output: Output = Command::new("timeout")
        .arg("20")
        .arg(binary())
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env_remove("COMPOSE_PROFILES")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn ten_fragments_of_traefik_2() {
    if subject_is_traefik() {
        return;
    }
    assert!(FRAGMENTS.len() >= 10);
    for (number, fragment) in FRAGMENTS.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, fragment.files);
        let (_, before) = run(folder, fragment.check);
        assert!(
            before.contains("warning: "),
            "fragment {number} is not of old:\n{before}"
        );

        let command = [&["migrate"], fragment.migrate].concat();
        let (code, diff) = run(folder, &command);
        assert_eq!(code, Some(1), "{number}: {diff}");
        for said in fragment.said {
            assert!(diff.contains(said), "{number}: {said}\n{diff}");
        }
        for (name, text) in fragment.files {
            let now = std::fs::read_to_string(folder.join(name)).unwrap();
            assert_eq!(now, *text, "{number}: a diff changes nothing");
        }
        let patched = patched(folder, &diff);

        let (code, said) = run(folder, &[&command[..], &["--write"]].concat());
        assert_eq!(code, Some(0), "{number}: {said}");
        let mut all = String::new();
        for (name, old) in fragment.files {
            let now = std::fs::read_to_string(folder.join(name)).unwrap();
            if let Some(patched) = &patched {
                let patched = std::fs::read_to_string(patched.path().join(name)).unwrap();
                assert_eq!(patched, now, "{number}: {diff}");
            }
            if now != *old {
                let kept = std::fs::read_to_string(folder.join(format!("{name}.bak"))).unwrap();
                assert_eq!(kept, *old, "{number}");
            }
            all.push_str(&now);
        }
        for line in fragment.new {
            assert!(all.contains(line), "{number}: {line}\n{all}");
        }
        assert_eq!(
            run(folder, &command),
            (Some(0), String::new()),
            "{number}: a second time"
        );
        let (code, after) = run(folder, fragment.check);
        assert_eq!(code, Some(0), "{number}: {after}\n{all}");
        assert!(
            after.ends_with("0 errors, 0 warnings\n"),
            "{number}: {after}\n{all}"
        );
    }
}

/// A copy of the folder to which `patch` applied the diff; nothing where there is no `patch`.
fn patched(folder: &Path, diff: &str) -> Option<tempfile::TempDir> {
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(folder.join("."))
        .arg(copy.path())
        .status();
    assert!(copied.unwrap().success());
    std::fs::write(copy.path().join("it.diff"), diff).unwrap();
    let patch = Command::new("patch")
        .args(["-p0", "-i", "it.diff"])
        .current_dir(copy.path())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&patch.stdout);
    assert!(patch.status.success(), "{said}\n{diff}");
    Some(copy)
}

/// Traefik, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The new form starts with Traefik 3, which serves every router of it and logs no error.
#[test]
fn traefik_takes_the_new_form() {
    if subject_is_traefik() {
        return;
    }
    for (start, routing, others) in TAKEN {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &[*start, *routing]);
        let (name, _) = start;
        let (code, said) = run(folder, &["migrate", name, "--write"]);
        assert_eq!(code, Some(0), "{said}");
        let log = folder.join("traefik.log");
        let child = Command::new(traefik())
            .arg(format!("--configFile={name}"))
            .current_dir(folder)
            .stdout(std::fs::File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _running = Running(child);
        let end = Instant::now() + Duration::from_secs(60);
        let text = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            // All routers are in place when the last words about them are said.
            if others.iter().all(|said| text.contains(said)) {
                break text;
            }
            assert!(Instant::now() < end, "{name}: {text}");
            std::thread::sleep(Duration::from_millis(50));
        };
        // What is deprecated is a warning.
        let bad = |line: &&str| {
            let warns = line.contains("\"level\":\"warn\"") && line.contains("eprecat");
            warns || line.contains("\"level\":\"error\"") || line.contains("\"level\":\"fatal\"")
        };
        let lines: Vec<&str> = text.lines().filter(bad).collect();
        assert_eq!(lines, [""; 0], "{name}");
    }
}

/// A static file, its dynamic file, and words of Traefik's log that show that it has read both.
type Taken = (
    (&'static str, &'static str),
    (&'static str, &'static str),
    &'static [&'static str],
);

const TAKEN: &[Taken] = &[
    (
        ("traefik.yml", "log: {level: DEBUG, format: json}
global: {checkNewVersion: false, sendAnonymousUsage: false}
pilot: {token: x}
core: {defaultRuleSyntax: v2}
experimental: {http3: true}
entryPoints: {web: {address: '127.0.0.1:0', http: {aliasHeadersStrategy: keep}}}
providers: {file: {filename: routing.yml}}
"),
        ("routing.yml", "http:
  routers:
    a: {rule: 'Host(`a.test`, `b.test`) && HostRegexp(`{s:[a-z]+}.test`)', service: s, middlewares: [gone, white]}
    b: {rule: 'Path(`/x/{id:[0-9]+}`) && Query(`a=b`, `c={v:[0-9]+}`) && Headers(`X-A`, `1`)', service: s, ruleSyntax: v2}
    c: {rule: '!HostHeader(`c.test`) && HeadersRegexp(`X-A`, `^[0-9]+$`) || Method(`GET`, `PUT`)', service: s}
  middlewares:
    gone: {headers: {sslRedirect: true}}
    white: {ipWhiteList: {sourceRange: ['10.0.0.0/8']}}
  services:
    s: {loadBalancer: {servers: [{url: 'http://127.0.0.1:1'}]}}
"),
        &["\"routerName\":\"a@file\"", "\"routerName\":\"b@file\"", "\"routerName\":\"c@file\""],
    ),
    (
        ("traefik.toml", "[log]
  level = \"DEBUG\"
  format = \"json\"
[global]
  checkNewVersion = false
  sendAnonymousUsage = false
[pilot]
  token = \"x\"
[experimental]
  http3 = true
[entryPoints.web]
  address = \"127.0.0.1:0\"
  [entryPoints.web.http]
    aliasHeadersStrategy = \"keep\"
[providers.file]
  filename = \"routing.toml\"
"),
        ("routing.toml", "[http.routers.a]
  rule = \"PathPrefix(`/a`, `/b/{x}`)\"
  ruleSyntax = \"v2\"
  service = \"s\"
  middlewares = [\"white\"]
[http.middlewares.white.ipWhiteList]
  sourceRange = [\"10.0.0.0/8\"]
[[http.services.s.loadBalancer.servers]]
  url = \"http://127.0.0.1:1\"
"),
        &["\"routerName\":\"a@file\""],
    ),
];

const STACK: &[&str] = &["-f", "docker-compose.yml"];
const CHECK: &[&str] = &["check", "-f", "docker-compose.yml"];

const FRAGMENTS: &[Fragment] = &[
    // Labels as a list, quoted in every way.
    Fragment {
        files: &[("docker-compose.yml", "services:
  traefik:
    image: traefik:v2.10
    command:
      - --providers.docker=true
      - --providers.docker.exposedByDefault=false
      - \"--pilot.token=9f1c\"   # dashboard
      - --entryPoints.web.address=:80
  app:
    image: app
    labels:
      - traefik.enable=true
      # both names
      - \"traefik.http.routers.app.rule=Host(`a.test`, `www.a.test`) && PathPrefix(`/`)\"
      - 'traefik.http.routers.app.middlewares=local'
      - traefik.http.middlewares.local.ipwhitelist.sourcerange=10.0.0.0/8,192.168.0.0/16
      - traefik.http.services.app.loadbalancer.server.port=80
")],
        migrate: STACK,
        check: CHECK,
        new: &[
            "      # both names\n      - \"traefik.http.routers.app.rule=(Host(`a.test`) || Host(`www.a.test`)) && PathPrefix(`/`)\"\n",
            "local.ipallowlist.sourcerange=10.0.0.0/8,192.168.0.0/16\n",
            "exposedByDefault=false\n      - --entryPoints",
        ],
        said: &["docker-compose.yml:7:9: pilot.token: is gone"],
    },
    // Labels as a mapping, with variables and dollar signs.
    Fragment {
        files: &[("docker-compose.yml", "services:
  app:
    image: app
    labels:
      traefik.enable: \"true\"
      traefik.http.routers.app.entrypoints: web
      traefik.http.routers.app.rule: HostRegexp(`{sub:[a-z0-9-]+}.${DOMAIN:-a.test}`) || Path(`/x{end:(/.*)?}`)
      traefik.http.routers.app.middlewares: users,head
      traefik.http.middlewares.users.basicauth.users: 'u:$$apr1$$x$$0123456789012345678901'
      traefik.http.middlewares.head.headers.sslredirect: \"true\"
      traefik.http.middlewares.head.headers.featurepolicy: camera none
      traefik.http.middlewares.head.headers.framedeny: \"true\"
      traefik.http.services.app.loadbalancer.server.port: 80
")],
        migrate: STACK,
        check: CHECK,
        new: &[
            "rule: HostRegexp(`^[a-z0-9-]+\\.\\Q${DOMAIN:-a.test}\\E$$`) || PathRegexp(`^/x(/.*)?$$`)\n",
            "users.basicauth.users: 'u:$$apr1$$x$$0123456789012345678901'\n      traefik.http.middlewares.head.headers.framedeny: \"true\"\n",
        ],
        said: &["redirectScheme", "permissionsPolicy"],
    },
    // A swarm.
    Fragment {
        files: &[("docker-compose.yml", "name: shop
services:
  traefik:
    image: traefik:v2.10
    command:
      - --providers.docker.swarmMode=true
      - --providers.docker.swarmModeRefreshSeconds=20
      - --providers.docker.exposedbydefault=false
      - --entryPoints.web.address=:80
    networks: [front]
  app:
    image: app
    networks: [front]
    deploy:
      labels:
        - traefik.enable=true
        - traefik.docker.network=shop_front
        - traefik.docker.lbswarm=true
        - traefik.http.routers.app.rule=Host(`a.test`)
        - traefik.http.routers.app.middlewares=strip@docker
        - traefik.http.middlewares.strip.stripprefix.prefixes=/a
        - traefik.http.middlewares.strip.stripprefix.forceslash=false
        - traefik.http.services.app.loadbalancer.server.port=80
networks: {front: {}}
")],
        migrate: STACK,
        check: CHECK,
        new: &[
            "--providers.swarm.refreshSeconds=20\n      - --providers.swarm.exposedbydefault=false\n",
            "traefik.swarm.network=shop_front",
            "traefik.swarm.lbswarm=true",
            "middlewares=strip@swarm\n        - traefik.http.middlewares.strip.stripprefix.prefixes=/a\n        - traefik.http.services",
        ],
        said: &["forceslash: has no effect"],
    },
    // A command of one line, and flow style.
    Fragment {
        files: &[("docker-compose.yml", "services:
  traefik:
    image: traefik:v2.9
    command: >
      --pilot.dashboard=false --experimental.http3=true
      --providers.docker --tracing.jaeger.localagenthostport=a:6831
      --entrypoints.web.address=:80
  app:
    image: app
    labels: [\"traefik.http.routers.app.rule=Host(`a.test`,`b.test`)\", other=x, 'traefik.http.services.app.loadbalancer.server.port=80']
")],
        migrate: STACK,
        check: CHECK,
        new: &[
            "--providers.docker --entrypoints.web.address=:80\n",
            "[\"traefik.http.routers.app.rule=Host(`a.test`) || Host(`b.test`)\", other=x, 'traefik",
        ],
        said: &["tracing.otlp"],
    },
    // Variables of the proxy, and labels from an anchor.
    Fragment {
        files: &[("docker-compose.yml", "x-labels: &labels
  traefik.http.middlewares.local.ipWhiteList.sourceRange: 127.0.0.1/32 # loopback
services:
  traefik:
    image: traefik:v2.10
    environment:
      TRAEFIK_PROVIDERS_DOCKER: \"true\"
      TRAEFIK_PILOT_TOKEN: x
      TRAEFIK_CORE_DEFAULTRULESYNTAX: v2
      TRAEFIK_ENTRYPOINTS_WEB_ADDRESS: \":80\"
  app:
    image: app
    labels:
      <<: *labels
      traefik.http.routers.app.rule: 'HostRegexp(`{any:.+}`) && Method(`GET`, `HEAD`)'
      traefik.http.routers.app.middlewares: local
      traefik.http.services.app.loadbalancer.server.port: '80'
")],
        migrate: STACK,
        check: CHECK,
        new: &[
            "local.ipAllowList.sourceRange: 127.0.0.1/32 # loopback\n",
            "rule: 'HostRegexp(`^.+$$`) && (Method(`GET`) || Method(`HEAD`))'\n",
            "TRAEFIK_PROVIDERS_DOCKER: \"true\"\n      TRAEFIK_ENTRYPOINTS",
        ],
        said: &[],
    },
    // Files that are mounted into the proxy.
    Fragment {
        files: &[
            ("docker-compose.yml", "services:
  traefik:
    image: traefik:v2.10
    volumes:
      - ./traefik.yml:/etc/traefik/traefik.yml:ro
      - ./dynamic:/dynamic:ro
"),
            ("traefik.yml", "# static
core:
  defaultRuleSyntax: v2
entryPoints:
  web:
    address: :80
providers:
  file:
    directory: /dynamic
"),
            ("dynamic/app.yml", "http:
  routers:
    app:
      rule: Host(`a.test`, `b.test`)   # two
      service: app
  services:
    app:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:1
"),
        ],
        migrate: STACK,
        check: CHECK,
        new: &["# static\nentryPoints:", "rule: Host(`a.test`) || Host(`b.test`)   # two\n"],
        said: &[],
    },
    // Static and dynamic TOML.
    Fragment {
        files: &[
            ("traefik.toml", "[pilot]
token = \"x\"
[entryPoints.web]
address = \":80\" # plain
[providers.file]
filename = \"dynamic.toml\"
"),
            ("dynamic.toml", "[http.routers.app]
rule = \"Host(`a.test`) && Headers(`X-A`, `1`)\"
service = \"app\"
[[http.services.app.loadBalancer.servers]]
url = \"http://127.0.0.1:1\"
"),
        ],
        migrate: &["traefik.toml"],
        check: &["check", "traefik.toml"],
        new: &["[entryPoints.web]\naddress = \":80\" # plain\n", "rule = \"Host(`a.test`) && Header(`X-A`, `1`)\"\n"],
        said: &[],
    },
    // A dynamic file alone.
    Fragment {
        files: &[("dynamic.yml", "http:
  routers:
    a:
      ruleSyntax: v2
      rule: \"Query(`a=b`) && PathPrefix(`/v{n:[0-9]}`, `/w`)\"
      service: app
      middlewares: [head]
  middlewares:
    head:
      headers:
        accessControlAllowOrigin: \"*\"
        sslTemporaryRedirect: false
  services:
    app: {loadBalancer: {servers: [{url: \"http://127.0.0.1:1\"}]}}
tls:
  options:
    default: {preferServerCipherSuites: true, minVersion: VersionTLS12}
")],
        migrate: &["dynamic.yml"],
        check: &["check", "dynamic.yml"],
        new: &[
            "rule: \"Query(`a`, `b`) && (PathRegexp(`^/v[0-9]`) || PathPrefix(`/w`))\"\n",
            "accessControlAllowOriginList: [\"*\"]\n",
            "default: {minVersion: VersionTLS12}\n",
        ],
        said: &["preferServerCipherSuites: has no effect"],
    },
    // JSON.
    Fragment {
        files: &[("dynamic.json", "{\"http\": {\"routers\": {\"a\": {\"rule\": \"Host(`a`, `b`)\", \"service\": \"s\", \"middlewares\": [\"m\"]}},
  \"middlewares\": {\"m\": {\"ipWhiteList\": {\"sourceRange\": [\"::1/128\"]}}},
  \"services\": {\"s\": {\"loadBalancer\": {\"servers\": [{\"url\": \"http://127.0.0.1:1\"}]}}}}}
")],
        migrate: &["dynamic.json"],
        check: &["check", "dynamic.json"],
        new: &["\"rule\": \"Host(`a`) || Host(`b`)\"", "{\"ipAllowList\": {\"sourceRange\""],
        said: &[],
    },
    // Several files of a project, and a flag with its value as a word of its own.
    Fragment {
        files: &[
            ("docker-compose.yml", "include: [apps.yml]
services:
  traefik:
    image: traefik:v2.10
    command: [\"--providers.docker\", \"--pilot.token\", \"x\", \"--entryPoints.web.address=:80\"]
"),
            ("apps.yml", "services:
  base:
    image: app
    labels:
      - traefik.http.middlewares.gone.headers.sslredirect=true
      - traefik.http.middlewares.gone.headers.sslhost=a.test
  app:
    extends: base
    labels:
      - traefik.http.routers.${NAME:-app}.rule=HostHeader(`a.test`)
      - traefik.http.routers.${NAME:-app}.middlewares=gone
      - traefik.http.services.app.loadbalancer.server.port=80
"),
        ],
        migrate: STACK,
        check: CHECK,
        new: &[
            "command: [\"--providers.docker\", \"--entryPoints.web.address=:80\"]",
            "rule=Host(`a.test`)\n",
            "- traefik.http.middlewares.gone.headers.isdevelopment=true\n  app:",
        ],
        said: &["`isDevelopment` keeps it"],
    },
];
