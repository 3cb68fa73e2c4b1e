//! `portway check -f`: every label of a stack with its state, at its line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{binary, subject_is_traefik};

/// The folder of a stack.
fn stack(name: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    top.join("tests/it/stacks").join(name)
}

fn check(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Output, String) {
    let output = Command::new("timeout")
        .arg("20")
        .arg(binary())
        .args(["check", "-f", "docker-compose.yml"])
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env_remove("COMPOSE_PROFILES")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

/// `PLACE STATE NAME` of every label and option.
fn states(folder: &Path) -> Vec<String> {
    let (output, text) = check(folder, &["--json"], &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}"));
    let services = report["services"].as_array().unwrap();
    let entries = services.iter().flat_map(|service| {
        let both = ["labels", "options"].map(|kind| service[kind].as_array().unwrap());
        both.into_iter().flatten().map(|entry| {
            let field = |name: &str| entry[name].as_str().unwrap();
            format!("{} {} {}", field("place"), field("state"), field("name"))
        })
    });
    let mut entries: Vec<String> = entries.collect();
    entries.sort();
    entries.dedup();
    entries
}

/// Every line of a stack's files that sets a label or an option, and what becomes of it: supported, unless `others` has the line.
fn assert_states(name: &str, marks: &[&str], others: &[(&str, &str)]) {
    let folder = stack(name);
    let found = states(&folder);
    let mut wrong = Vec::new();
    for entry in &found {
        let place = entry.split(' ').next().unwrap();
        let line = place.rsplit_once(':').unwrap().0;
        let expected = others.iter().find(|(at, _)| *at == line);
        let expected = expected.map_or("supported", |(_, state)| *state);
        if !entry[place.len() + 1..].starts_with(&format!("{expected} ")) {
            wrong.push(entry.clone());
        }
        let (file, number) = line.split_once(':').unwrap();
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let text = text
            .lines()
            .nth(number.parse::<usize>().unwrap() - 1)
            .unwrap();
        let written = entry.rsplit(' ').next().unwrap();
        assert!(text.contains(written), "{entry}: {text}");
    }
    assert_eq!(wrong, [""; 0]);
    for (line, state) in others {
        let has = found
            .iter()
            .any(|entry| entry.starts_with(&format!("{line}:")));
        assert!(has, "{line} {state} is not reported");
    }
    // No label is left out.
    let text = std::fs::read_to_string(folder.join("docker-compose.yml")).unwrap();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start_matches([' ', '-', '"']);
        if marks.iter().any(|mark| trimmed.starts_with(mark)) {
            let place = format!("docker-compose.yml:{}:", index + 1);
            assert!(
                found.iter().any(|entry| entry.starts_with(&place)),
                "{place} {line}"
            );
        }
    }
}

#[test]
fn a_shop_with_flags_and_redirects() {
    if subject_is_traefik() {
        return;
    }
    let different = [39, 57, 58, 82, 83].map(|line| (line, "different"));
    let later = [23].map(|line| (line, "not yet supported"));
    let others = different.into_iter().chain(later);
    let others = others.chain([(24, "different")]);
    let others: Vec<(String, &str)> = others
        .map(|(line, state)| (format!("docker-compose.yml:{line}"), state))
        .collect();
    let others: Vec<(&str, &str)> = others.iter().map(|(at, state)| (&**at, *state)).collect();
    assert_states("shop", &["traefik.http.", "traefik.enable", "--"], &others);
    let (output, text) = check(&stack("shop"), &[], &[]);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("edge (the edge):\n"), "{text}");
    assert!(text.contains("shop (3 replicas):\n"), "{text}");
    assert!(
        text.contains("mailhog (not started without --profile debug):\n"),
        "{text}"
    );
    assert!(!text.contains("error:"), "{text}");
}

#[test]
fn a_team_with_files_and_old_labels() {
    if subject_is_traefik() {
        return;
    }
    let mut others = vec![("docker-compose.yml:49", "different")];
    for line in ["40", "41", "42"] {
        others.push((line, "not yet supported"));
    }
    for line in ["62", "63", "64"] {
        others.push((line, "unknown"));
    }
    let others: Vec<(String, &str)> = others
        .into_iter()
        .map(|(line, state)| match line.contains(':') {
            true => (line.to_owned(), state),
            false => (format!("docker-compose.yml:{line}"), state),
        })
        .collect();
    let others: Vec<(&str, &str)> = others.iter().map(|(at, state)| (&**at, *state)).collect();
    assert_states("team", &["traefik."], &others);
    let (_, text) = check(&stack("team"), &[], &[]);
    // The files that are mounted belong to the proxy.
    let proxy = text
        .split("proxy (the edge):\n")
        .nth(1)
        .unwrap_or_else(|| panic!("{text}"));
    assert!(proxy.starts_with("  proxy/traefik.yml:"), "{text}");
    // What the file provider has is found: no complaint about secure@file.
    assert!(!text.contains("secure@file"), "{text}");
    assert!(!text.contains("com.example.backup"), "{text}");
}

#[test]
fn a_home_of_several_files() {
    if subject_is_traefik() {
        return;
    }
    assert_states(
        "media",
        &["traefik."],
        &[
            ("docker-compose.yml:14", "different"),
            ("docker-compose.yml:32", "not yet supported"),
            ("docker-compose.yml:34", "not yet supported"),
        ],
    );
    let found = states(&stack("media"));
    for place in [
        "common.yml:5:7 supported traefik.enable",
        "music.labels:1:1 supported traefik.http.routers.music.middlewares",
        "edge/edge.env:1:1 supported TRAEFIK_LOG_LEVEL",
    ] {
        assert!(found.contains(&place.to_owned()), "{place} in {found:#?}");
    }
}

#[test]
fn every_mistake_is_found_at_its_place() {
    if subject_is_traefik() {
        return;
    }
    let (output, text) = check(&stack("mistakes"), &[], &[]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for (place, said) in [
        ("8:9", "did you mean `address`"),
        ("9:9", "unknown value \"LOUD\""),
        ("11:9", "there is no file missing.yml"),
        ("17:9", "unknown matcher `Hots`"),
        (
            "25:7",
            "`auht@docker` does not exist (did you mean `auth`?)",
        ),
        (
            "33:9",
            "`thre@docker` does not exist (did you mean `three`?)",
        ),
        ("34:9", "\"eighty\" is not a port"),
        ("40:9", "expected `,` or `)`"),
        ("41:9", "did you mean `http`"),
        ("43:9", "did you mean `priority`"),
        ("56:9", "expected a duration"),
        ("62:9", "did you mean `web`"),
        ("63:9", "is that of the router `same` of container five"),
        (
            "64:9",
            "the variable `SEVEN_PORT` is required and not set: say it",
        ),
    ] {
        let line = format!("docker-compose.yml:{place}: ");
        let found = text
            .lines()
            .any(|found| found.contains(&line) && found.contains(said));
        assert!(found, "{place} {said} in\n{text}");
    }
    let same = text
        .lines()
        .find(|line| line.contains("is defined otherwise by"));
    let same = same.unwrap_or_else(|| panic!("{text}"));
    assert!(
        same.contains("yml:55:9") || same.contains("yml:49:9"),
        "{text}"
    );
    assert!(!text.contains("traefik.http.routers.five"), "{text}");
}

#[test]
fn broken_files_are_refused_clearly() {
    if subject_is_traefik() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("docker-compose.yml");
    let large = format!("#{}", "x".repeat(10 << 20));
    for (text, expected) in [
        (
            b"services:\n  web: {image: x\n".as_slice(),
            "docker-compose.yml:3:1: error: services.web: is not valid YAML",
        ),
        (
            b"services:\n  a: \xff\n",
            "docker-compose.yml: error: is not UTF-8 text (line 2)",
        ),
        (
            b"include: [docker-compose.yml]\n",
            "docker-compose.yml:1:11: error: include: includes itself",
        ),
        (
            large.as_bytes(),
            "docker-compose.yml: error: is larger than 4 MiB",
        ),
        (b"a: &a [*b]\n", "docker-compose.yml:1:8: error: "),
    ] {
        std::fs::write(&file, text).unwrap();
        let (output, text) = check(folder.path(), &[], &[]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with(expected)),
            "{expected} in\n{text}"
        );
    }
    let (output, text) = check(folder.path(), &["--env-file"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("--env-file needs a value"), "{text}");
    let (_, text) = check(folder.path(), &["--env-file=none.env"], &[]);
    assert!(text.contains("none.env: error: cannot be read"), "{text}");
}

#[test]
fn a_stack_that_is_well_is_said_to_be() {
    if subject_is_traefik() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "docker-compose.yml",
        r#"services:
  edge:
    build: .
    image: portway
    command: ["--configFile=/etc/portway/portway.yml"]
    ports: ["80:80"]
    volumes: ["./config:/etc/portway:ro"]
  web:
    image: portway
    command: [replica]
    deploy: {replicas: 3}
    labels:
      - traefik.enable=true
      - traefik.http.routers.app.rule=Host(`jackcwf.com`)
      - traefik.http.routers.app.middlewares=secure@file
      - traefik.http.services.app.loadbalancer.server.port=80
      - traefik.http.services.app.loadbalancer.sticky.cookie=true
      - traefik.http.services.app.loadbalancer.healthcheck.path=/health
"#,
    );
    write(
        "config/portway.yml",
        "entryPoints:\n  web: {address: ':80'}\nproviders:\n  docker: {exposedByDefault: false}\n  file: {directory: /etc/portway/routing}\n",
    );
    write(
        "config/routing/secure.yml",
        "http: {middlewares: {secure: {headers: {frameDeny: true}}}}\n",
    );
    let (output, text) = check(folder.path(), &[], &[]);
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("0 errors, 0 warnings\n"), "{text}");
    assert!(
        text.contains("edge (the edge):") && text.contains("web (3 replicas):"),
        "{text}"
    );
    // A file that has nothing of the kind is not silently passed over.
    write("config/routing/secure.yml", "http: {}\n");
    let (output, text) = check(folder.path(), &[], &[]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("yml:15:9: wrong: ") && text.contains("`secure@file` does not exist"),
        "{text}"
    );
}

#[test]
fn what_the_documents_show_is_what_is_said() {
    if subject_is_traefik() {
        return;
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(top.join("docs/migrating-from-traefik.md")).unwrap();
    let block = |start: &str| {
        let rest = page.split_once(start).unwrap().1;
        rest.split_once("\n```").unwrap().0.to_owned()
    };
    let folder = stack("migrating");
    let file = std::fs::read_to_string(folder.join("docker-compose.yml")).unwrap();
    assert_eq!(block("For this file\n\n```yaml\n"), file.trim_end());
    let (output, text) = check(&folder, &[], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(block("it says\n\n```text\n"), text.trim_end());
}

/// A router has no label that says its service, and the first of its labels is not at fault.
#[test]
fn a_service_that_cannot_be_used_is_told_at_its_own_label() {
    if subject_is_traefik() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = "services:
  app:
    image: app
    labels:
      - traefik.http.routers.app.entrypoints=web
      - traefik.http.routers.app.rule=Host(`app.test`)
      - traefik.http.services.app.loadbalancer.server.port=80
      - traefik.http.services.app.loadbalancer.stiky.cookie=true
  named:
    image: app
    labels:
      - traefik.http.routers.named.entrypoints=web
      - traefik.http.routers.named.rule=Host(`named.test`)
      - traefik.http.routers.named.service=other
      - traefik.http.services.other.weighted.services[0].name=x
";
    std::fs::write(folder.path().join("docker-compose.yml"), text).unwrap();
    let (_, text) = check(folder.path(), &[], &[]);
    let lines = text.lines().filter(|line| line.contains("cannot be used"));
    let lines: Vec<&str> = lines.map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "docker-compose.yml:8:9: unknown: traefik.http.services.app.loadbalancer.stiky.cookie: error: the service `app@docker` cannot be used",
            "docker-compose.yml:14:9: wrong: traefik.http.routers.named.service: error: the service `other@docker` cannot be used",
        ],
        "{text}"
    );
}

/// Labels that do something else than with Traefik, or nothing, are not called supported, and a mistake is told at its own label.
#[test]
fn labels_are_blamed_for_what_they_say_themselves() {
    if subject_is_traefik() {
        return;
    }
    let labels = [
        (
            "traefik.http.routers.app.rule=Host(`http://q.test`)",
            "supported",
        ),
        (
            "traefik.http.services.app.loadbalancer.server.port=80",
            "supported",
        ),
        (
            "traefik.http.services.app.loadbalancer.server.scheme=htps",
            "wrong",
        ),
        (
            "traefik.http.services.list.loadbalancer.servers[0].url=http://10.0.0.1",
            "unknown",
        ),
        ("traefik.http.routers.app.service=app", "supported"),
        (
            "traefik.http.serverstransports.t.insecureskipverify=true",
            "different",
        ),
        ("traefik.http.middlewares.none.stripprefix=", "different"),
        (
            "traefik.http.middlewares.ip.ipallowlist.sourcerange[0]=10.0.0.0/8",
            "different",
        ),
        (
            "traefik.http.middlewares.auth.basicauth.users=a:/hash.",
            "different",
        ),
        ("traefik.http.routers.app.priority =7", "unknown"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let lines = labels.map(|(label, _)| format!("      - \"{label}\"\n"));
    let text = format!(
        "services:\n  app:\n    image: app\n    labels:\n{}",
        lines.concat()
    );
    std::fs::write(folder.path().join("docker-compose.yml"), text).unwrap();
    let found = states(folder.path());
    for (line, (label, state)) in (5..).zip(labels) {
        let (name, _) = label.split_once('=').unwrap();
        let expected = format!("docker-compose.yml:{line}:9 {state} {name}");
        assert!(found.contains(&expected), "{expected}: {found:#?}");
    }
    let (_, text) = check(folder.path(), &[], &[]);
    for said in [
        "unknown scheme `htps`: expected http, https or h2c (did you mean `https`?)",
        "a container is one server (write `loadbalancer.server.url`",
        "there is a blank before the `=` (write `traefik.http.routers.app.priority=…`)",
        "in a Compose file write `$$` for each `$`",
        "write `q.test`",
    ] {
        assert_eq!(text.matches(said).count(), 1, "{said}: {text}");
    }
    assert!(!text.contains("lowest that the image exposes"), "{text}");
}

/// Below `deploy` are the labels of services, which a swarm reads, and names are those that `docker stack deploy` gives.
#[test]
fn a_stack_for_a_swarm_is_read_as_one() {
    if subject_is_traefik() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = "name: shop
services:
  edge:
    image: traefik:v3
    command: [--providers.swarm.exposedByDefault=false, --providers.swarm.refreshSeconds=20, '--entryPoints.web.address=:80']
    networks: [front]
  web:
    image: app
    networks: [front, back]
    deploy:
      replicas: 3
      labels:
        - traefik.enable=true
        - traefik.http.routers.web.rule=Host(`web.test`)
        - traefik.http.services.web.loadbalancer.server.port=80
        - traefik.swarm.network=shop_front
        - traefik.swarm.lbswarm=flase
  bare:
    image: app
    networks: [front]
    deploy:
      labels:
        traefik.enable: 'true'
  stray:
    image: app
    networks: [front]
    labels:
      traefik.http.routers.stray.rule: Host(`stray.test`)
networks: { front: {}, back: {} }
";
    std::fs::write(folder.path().join("docker-compose.yml"), text).unwrap();
    let (_, text) = check(folder.path(), &[], &[]);
    let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.retain(|line| line.contains("error") || line.contains("warning"));
    assert_eq!(
        lines,
        [
            "docker-compose.yml:17:11: wrong: traefik.swarm.lbswarm: error: expected `true` or `false`, found \"flase\"",
            "docker-compose.yml:18:3: error: http.services.shop-bare.loadBalancer.server.port: the port is missing: a swarm does not tell what images expose, so a label `loadbalancer.server.port` must say it",
            "docker-compose.yml:28:7: supported: traefik.http.routers.stray.rule: warning: labels outside `deploy` belong to containers, a swarm reads those of its services (move them to `deploy.labels`)",
            "2 errors, 1 warning",
        ],
        "{text}"
    );
}
