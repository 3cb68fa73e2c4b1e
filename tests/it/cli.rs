//! The command line: check, explain, healthcheck, version, help, flags and environment, errors at start.

use std::path::Path;
use std::process::{Command, Output};

use regex::Regex;
use serde_json::json;

use crate::support::{
    Client, all_to, backend, binary, eventually, free_port, loopback, proxy, subject_is_traefik,
};

/// Runs the program to its end.
fn run(dir: &Path, arguments: &[&str]) -> (Output, String) {
    let output = Command::new("timeout")
        .arg("20")
        .arg(binary())
        .args(arguments)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn install(dir: &Path, routing: &str) -> String {
    let routing = write(dir, "routing.yml", routing);
    write(
        dir,
        "install.yml",
        &format!(
            "entryPoints:\n  web: {{address: '127.0.0.1:{}'}}\nping: {{}}\nproviders: {{file: {{filename: {routing}}}}}\n",
            free_port()
        ),
    )
}

const MISTAKES: &str = include_str!("../fixtures/mistakes.yml");

#[test]
fn check_says_which_certificate_each_host_gets() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let install = install(
        dir.path(),
        "http:
  routers:
    a: {rule: 'Host(`a.test`)', service: s, tls: {certResolver: le}}
    b: {rule: 'Host(`b.test`)', service: s, tls: {}}
  services: {s: {loadBalancer: {servers: [{url: 'http://127.0.0.1:1'}]}}}
",
    );
    let flags = format!("--configFile={install}");
    let (output, text) = run(dir.path(), &["check", &flags]);
    // The file names no resolver.
    assert!(
        text.contains("there is no certificates resolver `le`"),
        "{text}"
    );
    assert!(text.contains("a.test  the default certificate\n"), "{text}");
    assert!(output.status.success(), "{text}");
    let resolver = "certificatesResolvers: {le: {acme: {tlsChallenge: {}}}}\n";
    let known = std::fs::read_to_string(&install).unwrap() + resolver;
    write(dir.path(), "install.yml", &known);
    let (_, text) = run(dir.path(), &["check", &flags]);
    for line in [
        "Certificates:\n",
        "  a.test  from resolver `le` by tls-alpn-01\n",
        "  b.test  the default certificate\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let stack = "services:
  edge:
    image: portway
    command: [--providers.docker=true, '--entryPoints.web.address=:443', --certificatesResolvers.le.acme.tlsChallenge=true]
  app:
    image: app
    labels:
      traefik.enable: 'true'
      traefik.http.routers.app.rule: Host(`app.test`)
      traefik.http.routers.app.tls.certResolver: le
      traefik.http.services.app.loadBalancer.server.port: '80'
";
    let stack = write(dir.path(), "compose.yml", stack);
    let (_, text) = run(dir.path(), &["check", "-f", &stack]);
    assert!(
        text.contains("app.test  from resolver `le` by tls-alpn-01"),
        "{text}"
    );
}

#[test]
fn check_passes_good_files() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let install = install(dir.path(), &all_to(&["http://127.0.0.1:1".to_owned()]));
    let (output, text) = run(dir.path(), &["check", &format!("--configFile={install}")]);
    assert!(output.status.success(), "{text}");
}

#[test]
fn check_names_each_of_ten_mistakes_at_its_place() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let install = install(
        dir.path(),
        &MISTAKES.replace("{server}", "http://127.0.0.1:1"),
    );
    let (output, text) = run(dir.path(), &["check", &format!("--configFile={install}")]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for (line, wrong, suggestion) in [
        (9, "servce", "service"),
        (11, "Hots", "Host"),
        (14, "rule", ""),
        (18, "shpo", "shop"),
        (22, "strp", "strip"),
        (26, "wbe", "web"),
        (36, "rateLimits", "rateLimit"),
        (40, "regex", ""),
        (44, "10.0.0.0/33", ""),
        (54, "10 seconds", "30s"),
    ] {
        let place = Regex::new(&format!(r"routing\.yml:{line}:(\d+)")).unwrap();
        let found = text
            .lines()
            .find(|said| place.is_match(said))
            .unwrap_or_else(|| panic!("nothing is said about line {line}:\n{text}"));
        let column: usize = place.captures(found).unwrap()[1].parse().unwrap();
        let source = MISTAKES.lines().nth(line - 1).unwrap();
        let indent = source.len() - source.trim_start().len();
        assert!(
            column > indent && column <= source.len(),
            "column {column} of line {line} ({source:?})"
        );
        assert!(
            found.contains(wrong),
            "line {line} does not name {wrong:?}: {found}"
        );
        assert!(
            found.contains(suggestion),
            "line {line} does not suggest {suggestion:?}: {found}"
        );
    }
}

#[tokio::test]
async fn a_file_with_ten_mistakes_serves_what_is_not_broken() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("server").run().await;
    let proxy = proxy(&MISTAKES.replace("{server}", &server.url()))
        .run()
        .await;
    for host in ["good.test", "also-good.test"] {
        assert_eq!(
            proxy.client().get("/api/x").host(host).await.status,
            200,
            "{host}"
        );
    }
    for host in [
        "bad-matcher.test",
        "open-bracket.test",
        "no-service.test",
        "no-middleware.test",
    ] {
        assert_eq!(
            proxy.client().get("/").host(host).await.status,
            404,
            "{host}"
        );
    }
}

#[test]
fn check_takes_what_run_takes() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (output, text) = run(
        dir.path(),
        &[
            "check",
            "--entryPoints.web.adress=:8000",
            "--log.levle=DEBUG",
            "--entryPoints.web.transport.respondingTimeouts.idleTimeout=soon",
        ],
    );
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in ["adress", "address", "levle", "level", "soon"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}

#[tokio::test]
async fn wrong_starts_are_refused_with_all_reasons_at_once() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let broken = write(
        dir.path(),
        "broken.yml",
        "entryPoints:\n  web:\n    adress: ':80'\nlog:\n  levle: INFO\n",
    );
    for (arguments, words) in [
        (
            vec!["--configFile=/nowhere/portway.yml"],
            vec!["/nowhere/portway.yml"],
        ),
        (vec!["--ping", "stray", "--api"], vec!["stray"]),
        (
            vec!["--pingg", "--entrypoints.web.adress=:1"],
            vec!["pingg", "ping", "adress", "address"],
        ),
        (
            vec!["--configFile", broken.as_str()],
            vec![
                "broken.yml:3:",
                "adress",
                "address",
                "broken.yml:5:",
                "levle",
                "level",
            ],
        ),
    ] {
        let (output, text) = run(dir.path(), &arguments);
        assert!(!output.status.success(), "{arguments:?}: {text}");
        for word in words {
            assert!(
                text.contains(word),
                "{arguments:?}: {word:?} is not in\n{text}"
            );
        }
    }
}

#[test]
fn explain_says_why_each_router_won_or_lost() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let install = install(
        dir.path(),
        "http:\n  routers:\n    api: {rule: 'Host(`app.localhost`) && PathPrefix(`/api`)', service: api, middlewares: [strip]}\n    app: {rule: 'Host(`app.localhost`)', service: app}\n    other: {rule: 'Host(`other.localhost`)', service: app}\n    post: {rule: 'Host(`app.localhost`) && Method(`POST`) && PathPrefix(`/api/x`)', service: app}\n  middlewares: {strip: {stripPrefix: {prefixes: [/api]}}}\n  services:\n    api: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9001'}]}}\n    app: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9002'}]}}\n",
    );
    let flag = format!("--configFile={install}");
    let (output, text) = run(
        dir.path(),
        &["explain", &flag, "http://app.localhost/api/x"],
    );
    assert!(output.status.success(), "{text}");
    for word in [
        "web",
        "api@file",
        "strip@file",
        "http://127.0.0.1:9001",
        "app@file",
        "post@file",
        "Method(`POST`)",
    ] {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    let (_, text) = run(
        dir.path(),
        &[
            "explain",
            &flag,
            "http://app.localhost/api/x",
            "--method",
            "POST",
        ],
    );
    assert!(text.contains("http://127.0.0.1:9002"), "{text}");
    let (_, text) = run(dir.path(), &["explain", &flag, "http://nobody.localhost/"]);
    assert!(text.contains("404"), "{text}");
}

#[tokio::test]
async fn healthcheck_asks_the_running_proxy() {
    let mut proxy = proxy(&all_to(&["http://127.0.0.1:1".to_owned()]))
        .run()
        .await;
    let flag = format!("--configFile={}", proxy.dir().join("install.yml").display());
    let (output, text) = run(proxy.dir(), &["healthcheck", &flag]);
    assert!(
        output.status.success()
            && text.contains(&format!("OK: http://{}/ping", proxy.addr("traefik"))),
        "{text}"
    );
    proxy.signal("TERM");
    proxy.exited().await;
    let (output, text) = run(proxy.dir(), &["healthcheck", &flag]);
    assert_eq!(output.status.code(), Some(1), "{text}");
}

#[test]
fn version_and_help_are_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let (output, text) = run(dir.path(), &["version"]);
    assert!(
        output.status.success() && text.contains("Version:"),
        "{text}"
    );
    let (output, text) = run(dir.path(), &["--help"]);
    assert!(output.status.success(), "{text}");
    if !subject_is_traefik() {
        for word in [
            "check",
            "explain",
            "demo",
            "healthcheck",
            "version",
            "--configFile",
        ] {
            assert!(text.contains(word), "{word:?} is not in\n{text}");
        }
    }
}

/// A program that is killed at the end of a test.
struct Started(std::process::Child);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn flags_alone_and_environment_alone_configure_it() {
    let server = backend("server").run().await;
    let dir = tempfile::tempdir().unwrap();
    let routing = write(dir.path(), "routing.yml", &all_to(&[server.url()]));
    let (by_flags, by_environment) = (free_port(), free_port());
    let flags = [
        format!("--entryPoints.web.address=127.0.0.1:{by_flags}"),
        format!("--providers.file.fileName={routing}"),
        "--ENTRYPOINTS.web.transport.respondingTimeouts.idleTimeout=30s".to_owned(),
        "--global.checkNewVersion=false".to_owned(),
        "--global.sendAnonymousUsage=false".to_owned(),
    ];
    let _flags = Started(
        Command::new(binary())
            .args(flags)
            .current_dir(dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    );
    let environment = [
        (
            "TRAEFIK_ENTRYPOINTS_WEB_ADDRESS",
            format!("127.0.0.1:{by_environment}"),
        ),
        ("TRAEFIK_PROVIDERS_FILE_FILENAME", routing),
        ("TRAEFIK_GLOBAL_CHECKNEWVERSION", "false".to_owned()),
        ("TRAEFIK_GLOBAL_SENDANONYMOUSUSAGE", "false".to_owned()),
    ];
    let _environment = Started(
        Command::new(binary())
            .envs(environment)
            .current_dir(dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    );
    for port in [by_flags, by_environment] {
        eventually("it serves", async || {
            Client::new(loopback(port))
                .get("/")
                .try_send()
                .await
                .ok()
                .filter(|answer| answer.status == 200)
        })
        .await;
    }
}

#[tokio::test]
async fn files_flags_and_values_in_two_words() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("server").run().await;
    let dir = tempfile::tempdir().unwrap();
    let routing = write(dir.path(), "routing.yml", &all_to(&[server.url()]));
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let flags = [
        "--entryPoints.web.address",
        &address,
        "--providers.file.filename",
        &routing,
    ];
    let _started = Started(
        Command::new(binary())
            .args(flags)
            .current_dir(dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    );
    eventually("it serves", async || {
        Client::new(loopback(port))
            .get("/")
            .try_send()
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn options_that_do_not_act_yet_are_said_once() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()]))
        .entry_point("web", &json!({"http3": {}}))
        .install(&json!({"metrics": {"statsD": {}}}))
        .run()
        .await;
    assert_eq!(proxy.client().get("/").await.status, 200);
    let log = proxy.log();
    assert!(
        log.contains("http3") && log.contains("statsD") && log.contains("install.yml:"),
        "{log}"
    );
}

#[test]
fn check_names_broken_certificates() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = crate::support::Authority::new("root");
    let (certificate, _) = authority.issue(&["a.test"]).write(dir.path(), "a");
    let (_, other_key) = authority.issue(&["b.test"]).write(dir.path(), "b");
    let garbage = write(
        dir.path(),
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n",
    );
    let encrypted = write(
        dir.path(),
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nZ2FyYmFnZQ==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let (certificate, other_key) = (certificate.display(), other_key.display());
    for (what, files, words) in [
        (
            "a key of another certificate",
            format!("certFile: {certificate}, keyFile: {other_key}"),
            vec!["key"],
        ),
        (
            "no such file",
            format!("certFile: {certificate}, keyFile: /nowhere.key"),
            vec!["/nowhere.key"],
        ),
        (
            "garbage",
            format!("certFile: {garbage}, keyFile: {other_key}"),
            vec!["certificate"],
        ),
        (
            "an encrypted key",
            format!("certFile: {certificate}, keyFile: {encrypted}"),
            vec!["encrypted"],
        ),
    ] {
        let routing = all_to(&["http://127.0.0.1:1".to_owned()])
            + &format!("tls:\n  certificates:\n    - {{{files}}}\n");
        let line = routing.lines().count();
        let install = install(dir.path(), &routing);
        let (output, text) = run(dir.path(), &["check", &format!("--configFile={install}")]);
        assert_eq!(output.status.code(), Some(1), "{what}: {text}");
        let said = text
            .lines()
            .find(|said| said.contains(&format!("routing.yml:{line}:")))
            .unwrap_or_else(|| panic!("{what}: nothing is said about line {line}:\n{text}"));
        for word in words {
            assert!(said.contains(word), "{what}: {word:?} is not in {said}");
        }
    }
}

#[test]
fn check_names_duplicates_across_files() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let routing = dir.path().join("routing");
    std::fs::create_dir(&routing).unwrap();
    write(
        &routing,
        "a.yml",
        &all_to(&["http://127.0.0.1:1".to_owned()]),
    );
    write(
        &routing,
        "b.yml",
        &all_to(&["http://127.0.0.1:2".to_owned()]),
    );
    let install = write(
        dir.path(),
        "install.yml",
        &format!(
            "entryPoints:\n  web: {{address: '127.0.0.1:{}'}}\nproviders: {{file: {{directory: routing}}}}\n",
            free_port()
        ),
    );
    let (output, text) = run(dir.path(), &["check", &format!("--configFile={install}")]);
    assert!(output.status.code().is_some_and(|code| code < 2), "{text}");
    assert!(
        text.contains("b.yml") && text.contains("a.yml") && text.contains("all"),
        "{text}"
    );
}

#[tokio::test]
async fn explain_asks_a_running_instance_for_the_state_of_servers() {
    if subject_is_traefik() {
        return;
    }
    let (down, up) = (
        backend("down")
            .reply(|_| crate::support::Reply::status(500, "no"))
            .run()
            .await,
        backend("up").run().await,
    );
    let routing = crate::support::routed(
        "Host(`app.localhost`)",
        &[down.url(), up.url()],
        "        healthCheck: {path: /, interval: 100ms}\n",
    );
    let proxy = proxy(&routing).run().await;
    let flag = format!("--configFile={}", proxy.dir().join("install.yml").display());
    eventually("explain shows that a server is down", async || {
        let dir = proxy.dir().to_owned();
        let flag = flag.clone();
        let (_, text) = tokio::task::spawn_blocking(move || {
            run(&dir, &["explain", &flag, "http://app.localhost/api/x"])
        })
        .await
        .unwrap();
        let line = |url: &str| {
            text.lines()
                .find(|line| line.contains(url))
                .unwrap_or_default()
                .to_lowercase()
        };
        (line(&down.url()).contains("down") && line(&up.url()).contains("up")).then_some(())
    })
    .await;
}

#[test]
fn check_tries_the_credentials_of_dns_providers() {
    if subject_is_traefik() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("install.yml");
    let checked = |provider: &str, variables: &[(&str, &str)]| {
        let text = format!(
            "entryPoints: {{web: {{address: ':80'}}}}\ncertificatesResolvers:\n  le:\n    acme:\n      storage: acme.json\n      dnsChallenge:\n        provider: {provider}\n"
        );
        std::fs::write(&path, text).unwrap();
        let output = Command::new(binary())
            .args(["check", &format!("--configFile={}", path.display())])
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (provider, variables, expected) in [
        (
            "ovh",
            &[("OVH_ENDPOINT", "ovh-mars"), ("OVH_ACCESS_TOKEN", "t")][..],
            "there is no endpoint \"ovh-mars\"",
        ),
        (
            "httpreq",
            &[("HTTPREQ_ENDPOINT", "ftp://hook.test")],
            "HTTPREQ_ENDPOINT is not",
        ),
        (
            "rfc2136",
            &[
                ("RFC2136_NAMESERVER", "127.0.0.1"),
                ("RFC2136_TSIG_KEY", "k"),
                ("RFC2136_TSIG_SECRET", "not base64!"),
            ],
            "RFC2136_TSIG_",
        ),
        (
            "rfc2136",
            &[
                ("RFC2136_NAMESERVER", "127.0.0.1"),
                ("RFC2136_TSIG_KEY", "k"),
            ],
            "RFC2136_TSIG_SECRET is missing",
        ),
    ] {
        let said = checked(provider, variables);
        let line = said.lines().find(|line| line.contains(expected));
        let line = line.unwrap_or_else(|| panic!("{expected}: {said}"));
        let place =
            "install.yml:7:19: warning: certificatesResolvers.le.acme.dnsChallenge.provider: ";
        assert!(line.contains(place), "{line}");
        assert!(!said.contains("not base64!"), "{said}");
    }
    let good = checked(
        "ovh",
        &[("OVH_ENDPOINT", "ovh-eu"), ("OVH_ACCESS_TOKEN", "t")],
    );
    assert!(!good.contains("provider"), "{good}");
}
