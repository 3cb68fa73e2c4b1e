//! Whole projects, each compared with what `docker compose config` (v5.6.1) makes of it.

use std::fs;

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn read(&self, files: &[&str], environment: &[(&str, &str)]) -> Project {
        let files: Vec<PathBuf> = files.iter().map(|file| self.0.path().join(file)).collect();
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Project::read(&Wanted {
            files: &files,
            env_files: &[],
            profiles: &[],
            environment: &environment,
        })
    }

    /// Findings with paths that begin at the folder.
    fn findings(&self, project: &Project) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        let all = project.diagnostics.iter();
        all.map(|found| found.to_string().replace(&folder, ""))
            .collect()
    }
}

fn labels(project: &Project, service: &str) -> Vec<String> {
    let mut labels: Vec<String> = named(project, service)
        .labels
        .iter()
        .map(|pair| format!("{}={}", pair.name, pair.value))
        .collect();
    labels.sort();
    labels
}

fn named<'p>(project: &'p Project, service: &str) -> &'p Service {
    project
        .services
        .iter()
        .find(|found| found.name == service)
        .unwrap()
}

const ANCHORS: &str = r#"x-l: &l
  traefik.enable: true
  a.b: 1.50
  a.c: 0x10
  a.d: 010
  a.e: 1e3
  a.f: yes
  a.g: ~
  a.h: True
  a.j: 12345678901234567890
  a.k: .5
  a.l: 1_000
services:
  web:
    image: nginx
    labels:
      <<: *l
      ${FOO}: x
      bar: "$$x ${Y:-a}"
      a.e: 5
  w2:
    image: nginx
    labels: [a=1, "b", "c=", "d = 2", a=3]
    profiles: [dbg]
"#;

const WEB: [&str; 13] = [
    "${FOO}=x",
    "a.b=1.5",
    "a.c=16",
    "a.d=8",
    "a.e=5",
    "a.f=yes",
    "a.g=",
    "a.h=true",
    "a.j=12345678901234567890",
    "a.k=0.5",
    "a.l=1000",
    "bar=$x a",
    "traefik.enable=true",
];

#[test]
fn labels_are_what_compose_makes_of_them() {
    let folder = Folder::with(&[("a.yml", ANCHORS)]);
    let project = folder.read(&["a.yml"], &[]);
    assert_eq!(folder.findings(&project), [""; 0]);
    assert_eq!(labels(&project, "web"), WEB);
    assert_eq!(labels(&project, "w2"), ["a=3", "b=", "c=", "d = 2"]);
    assert!(!named(&project, "w2").enabled && named(&project, "web").enabled);
    let enable = &named(&project, "web").labels.iter();
    let enable = enable.clone().find(|pair| pair.name == "traefik.enable");
    assert!(enable.unwrap().key.to_string().ends_with("a.yml:2:3"));
    assert!(enable.unwrap().place.to_string().ends_with("a.yml:2:19"));
    let project = folder.read(&["a.yml"], &[("COMPOSE_PROFILES", "x, dbg")]);
    assert!(named(&project, "w2").enabled);
}

#[test]
fn later_files_win_by_key() {
    let over = r#"services:
  web:
    labels: ["bar=2", "new", "a.c=$Y"]
    command: x
  w2:
    labels: !override
      z: 1
"#;
    let folder = Folder::with(&[("a.yml", ANCHORS), ("b.yml", over)]);
    let project = folder.read(&["a.yml", "b.yml"], &[("Y", "y")]);
    let mut expected: Vec<&str> = WEB.to_vec();
    expected.retain(|label| !label.starts_with("bar") && !label.starts_with("a.c"));
    expected.extend(["a.c=y", "bar=2", "new="]);
    expected.sort_unstable();
    assert_eq!(labels(&project, "web"), expected);
    assert_eq!(labels(&project, "w2"), ["z=1"]);
    let bar = named(&project, "web").labels.iter();
    let bar = bar.clone().find(|pair| pair.name == "bar").unwrap();
    assert!(bar.key.to_string().ends_with("b.yml:3:14"), "{}", bar.key);
}

#[test]
fn extends_and_include_bring_their_services() {
    let folder = Folder::with(&[
        ("sub/a.yml", ANCHORS),
        ("sub/.env", "Y=from-sub"),
        (
            "ext.yml",
            "services:\n  a:\n    extends: b\n    labels: [x=1]\n  b:\n    extends: {file: ./sub/a.yml, service: web}\n    labels: {x: 2, bar: !reset null}\n",
        ),
        (
            "inc.yml",
            "include: [./sub/a.yml]\nservices:\n  web:\n    image: httpd\n    labels: {q: 1}\n",
        ),
    ]);
    let project = folder.read(&["ext.yml"], &[]);
    assert_eq!(folder.findings(&project), [""; 0]);
    let mut expected: Vec<&str> = WEB.to_vec();
    expected.retain(|label| !label.starts_with("bar"));
    expected.push("x=1");
    assert_eq!(labels(&project, "a"), expected);
    assert_eq!(named(&project, "a").image_name(), "nginx");

    let project = folder.read(&["inc.yml"], &[]);
    assert_eq!(folder.findings(&project), [""; 0]);
    assert_eq!(named(&project, "web").image_name(), "httpd");
    let labels = labels(&project, "web");
    assert!(labels.contains(&"q=1".to_owned()), "{labels:?}");
    assert!(labels.contains(&"bar=$x from-sub".to_owned()), "{labels:?}");
}

const SHOP: &str = r#"name: shop
services:
  a:
    image: registry.test:5000/x/traefik:v3@sha256:00
    deploy: {replicas: 3, labels: [q=1]}
    label_file: ./l.env
    labels: {a: 1}
    env_file: [{path: no.env, required: false}, l.env]
    environment: [zz=2]
    configs: [c1, {source: c2, target: /x}]
    secrets: [s1]
    ports: ["80", "127.0.0.1:81:8081/udp", "90-92:90-92", {target: 99}]
    expose: ["3000", "4000-4001"]
    volumes: ["./q:/x:ro", "n:/y", "/z", "../up:/up"]
    command: 'sh -c "echo $$X" --a=b'
    networks: [front, back, other]
networks:
  front: {name: proxy}
  other: {external: true}
configs: {c1: {content: "a: ${H:-1}"}, c2: {file: ./f}}
secrets: {s1: {file: ./f}}
"#;

#[test]
fn a_service_has_what_matters_to_a_proxy() {
    let folder = Folder::with(&[("a.yml", SHOP), ("l.env", "zz=1\na=9\n")]);
    let project = folder.read(&["a.yml"], &[]);
    assert_eq!(folder.findings(&project), [""; 0]);
    let a = named(&project, "a");
    assert_eq!(a.image_name(), "traefik");
    assert_eq!(labels(&project, "a"), ["a=1", "zz=1"]);
    assert_eq!(a.deploy_labels[0].name, "q");
    assert_eq!(a.replicas, 3);
    assert_eq!(a.ports, [80, 90, 99, 3000, 4000, 8081]);
    assert_eq!(a.networks, ["proxy", "shop_back", "other"]);
    let command = a.command.as_ref().unwrap().iter();
    let command: Vec<&str> = command.map(|word| word.text.as_str()).collect();
    assert_eq!(command, ["sh", "-c", "echo $X", "--a=b"]);
    let mounts: Vec<_> = a
        .mounts
        .iter()
        .map(|mount| {
            let source = match &mount.source {
                Source::Host(path) => path.strip_prefix(folder.0.path()).unwrap(),
                Source::Elsewhere => Path::new("-"),
            };
            format!("{} {}", mount.target.display(), source.display())
        })
        .collect();
    assert_eq!(
        mounts,
        [
            "/x q",
            "/y -",
            "/z -",
            "/up ../up",
            "/c1 -",
            "/x f",
            "/run/secrets/s1 f"
        ]
    );
    assert_eq!(a.environment.len(), 2);
    assert_eq!(a.environment[0].value, "2");
}

/// Name and text of a file, and what `a.yml` is told.
const BROKEN: &[(&str, &str, &str)] = &[
    (
        "a.yml",
        "services:\n  web: {image: x\n",
        "a.yml:3:1: error: services.web: is not valid YAML",
    ),
    (
        "a.yml",
        "services: {web: {image: x, labels: {a: '${U:?set it}'}}}",
        "a.yml:1:40: error: the variable `U` is required and not set: set it",
    ),
    (
        "a.yml",
        "services: {web: {image: x, labels: {a: '${U'}}}",
        "a.yml:1:40: error: a `${` is not closed",
    ),
    (
        "a.yml",
        "include: [a.yml]\nservices: {}",
        "a.yml:1:11: error: include: includes itself: a.yml -> a.yml",
    ),
    (
        "a.yml",
        "include: [b.yml]\nservices: {}",
        "a.yml:1:11: error: include: there is no file b.yml",
    ),
    (
        "a.yml",
        "services:\n  a: {extends: b}\n  b: {extends: a}\n",
        "a.yml:3:16: error: extends: extends itself: a -> b -> a",
    ),
    (
        "a.yml",
        "services:\n  a: {extends: {service: b, file: c.yml}}\n",
        "a.yml:2:7: error: c.yml cannot be read",
    ),
    (
        "a.yml",
        "services:\n  a: {extends: b}\n",
        "a.yml:2:16: error: extends: there is no service `b` in a.yml",
    ),
    (
        "a.yml",
        "web: {image: x}\n",
        "a.yml:1:1: error: holds no services (is it a Compose file?)",
    ),
    (
        "a.yml",
        "services: {a: {env_file: x.env}}",
        "a.yml:1:26: error: x.env cannot be read",
    ),
    ("b.yml", "", "a.yml: error: cannot be read"),
];

#[test]
fn broken_projects_say_why() {
    for (name, text, expected) in BROKEN {
        let folder = Folder::with(&[(*name, *text)]);
        let project = folder.read(&["a.yml"], &[]);
        let found = folder.findings(&project);
        assert!(
            found.iter().any(|found| found.starts_with(expected)),
            "{text}\n{found:#?}"
        );
    }
    let folder = Folder::with(&[("a.yml", "")]);
    fs::write(folder.0.path().join("a.yml"), b"services:\n  a: \xff").unwrap();
    let found = folder.findings(&folder.read(&["a.yml"], &[]));
    assert_eq!(found, ["a.yml: error: is not UTF-8 text (line 2)"]);
    fs::write(folder.0.path().join("a.yml"), vec![b'#'; 10 << 20]).unwrap();
    let found = folder.findings(&folder.read(&["a.yml"], &[]));
    assert_eq!(
        found,
        ["a.yml: error: is larger than 4 MiB (is it a Compose file?)"]
    );
}

#[test]
fn files_that_name_each_other_many_times_come_to_an_end() {
    let files: Vec<(String, String)> = (0..20)
        .map(|n| {
            let next = n + 1;
            (
                format!("{n}.yml"),
                format!("include: [{next}.yml, ./{next}.yml]\n"),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (&**n, &**t)).collect();
    let folder = Folder::with(&files);
    let found = folder.findings(&folder.read(&["0.yml"], &[]));
    assert!(
        found
            .iter()
            .any(|found| found.contains("more than 200 files")),
        "{found:?}"
    );
}
