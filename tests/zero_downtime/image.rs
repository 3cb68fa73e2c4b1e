//! The image, and the Compose files that use it: what the README promises of them.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    edge::free,
    load::{Load, Sample},
    pressure::steady,
    stack::{IMAGES, LABEL},
    turn,
};

/// Runs the Docker CLI; what it printed, and whether it succeeded.
fn docker(environment: &[(&str, String)], arguments: &[&str]) -> (String, bool) {
    let output = Command::new("docker")
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8_lossy(&text).into_owned(),
        output.status.success(),
    )
}

/// A container, removed when dropped.
struct Container(String);

impl Container {
    fn run(options: &[&str], command: &[&str]) -> Self {
        let label = format!("{LABEL}=image");
        let run = ["run", "-d", "--label", &label];
        let (id, well) = docker(&[], &[&run, options, &[IMAGES[0]], command].concat());
        assert!(well, "{id}");
        Self(id.trim().to_owned())
    }

    fn exec(&self, command: &[&str]) -> (String, bool) {
        docker(&[], &[&["exec", &*self.0], command].concat())
    }

    async fn becomes(&self, command: &[&str], word: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (text, _) = self.exec(command);
            if text.contains(word) {
                return;
            }
            let log = docker(&[], &["logs", &self.0]).0;
            assert!(Instant::now() < deadline, "{command:?}: {text}\n{log}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&[], &["rm", "-f", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_taken_as_traefik_takes_them() {
    let _place = turn().await;
    for (command, expected) in [
        (&["version"][..], "Version:"),
        (&["traefik", "version"], "Version:"),
        (&["portway", "version"], "Version:"),
        (&["sh", "-c", "traefik version"], "Version:"),
        (&["/usr/local/bin/traefik", "version"], "Version:"),
        (&["vresion"], "did you mean `version`?"),
        (&["--help"], "reverse proxy"),
        (&["wget", "--help"], "BusyBox"),
        (&["ls", "/etc/ssl/certs"], "ca-certificates.crt"),
    ] {
        let run = ["run", "--rm", "--label", "portway.test=image", IMAGES[0]];
        let (text, _) = docker(&[], &[&run, command].concat());
        assert!(text.contains(expected), "{command:?}: {text}");
    }
    let flags = [
        "--entryPoints.web.address=:80",
        "--ping",
        "--ping.entryPoint=web",
    ];
    for (options, command) in [
        (&[][..], flags.to_vec()),
        (&[], [&["traefik"], &flags[..]].concat()),
        // Behind an init process, too.
        (&["--init"], flags.to_vec()),
    ] {
        let edge = Container::run(options, &command);
        edge.becomes(&["traefik", "healthcheck"], "OK: http://:80/ping")
            .await;
        assert!(
            edge.exec(&["wget", "-q", "-O", "-", "http://127.0.0.1/ping"])
                .1
        );
    }
    // Without `ping` there is still something to go by.
    let edge = Container::run(&[], &flags[..1]);
    edge.becomes(&["portway", "healthcheck"], "accepts connections")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_rights_are_enough() {
    let _place = turn().await;
    let (socket, group) = socket();
    let mount = format!("{socket}:/var/run/docker.sock:ro");
    let command = [
        "--entryPoints.web.address=:80",
        "--ping",
        "--api.insecure",
        "--providers.docker.constraints=Label(`portway.test`,`nothing`)",
        "--log.level=INFO",
    ];
    let least = [
        "--read-only",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_BIND_SERVICE",
        "-v",
        &mount,
    ];
    let user = ["--user", "65534:65534", "--group-add", &group];
    for options in [least.to_vec(), [&least[..], &user].concat()] {
        let edge = Container::run(&options, &command);
        edge.becomes(&["portway", "healthcheck"], "OK: http://:8080/ping")
            .await;
        // The routes of the file system and of the engine are known once the first view of it was complete.
        let log = docker(&[], &["logs", &edge.0]).0;
        assert!(log.contains("following the Docker engine"), "{log}");
    }
}

/// A network, removed when dropped.
struct Network(String);

impl Network {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let label = format!("{LABEL}=image");
        let (text, well) = docker(&[], &["network", "create", "--label", &label, &name]);
        assert!(well, "{text}");
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        docker(&[], &["network", "rm", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_that_the_edge_shares_is_taken() {
    let _place = turn().await;
    // By the order of names it would be the first, which the edge cannot reach.
    let (first, shared) = (Network::new("a-first"), Network::new("z-shared"));
    let only = format!("portway.test.shared={}", std::process::id());
    let labels = [
        "--label",
        &only,
        "--label",
        "traefik.http.routers.shared.rule=Host(`shared.test`)",
        "--label",
        "traefik.http.services.shared.loadbalancer.server.port=80",
    ];
    let network = ["--network", &first.0];
    let app = Container::run(
        &[&labels[..], &network].concat(),
        &["replica", "--port", "80"],
    );
    let (text, well) = docker(&[], &["network", "connect", &shared.0, &app.0]);
    assert!(well, "{text}");

    let mount = format!("{}:/var/run/docker.sock:ro", socket().0);
    let constraint = only.replace('=', "`,`");
    let edge = Container::run(
        &["--network", &shared.0, "-v", &mount],
        &[
            "--entryPoints.web.address=:80",
            &format!("--providers.docker.constraints=Label(`{constraint}`)"),
        ],
    );
    let ask = ["wget", "-q", "-O", "-", "--header", "Host: shared.test"];
    edge.becomes(
        &[&ask[..], &["http://127.0.0.1/"]].concat(),
        "answered GET shared.test/",
    )
    .await;
}

/// Where the engine's socket is, and the group that may use it.
fn socket() -> (String, String) {
    use std::os::unix::fs::MetadataExt as _;
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let path = host
        .strip_prefix("unix://")
        .unwrap_or("/var/run/docker.sock");
    let group = std::fs::metadata(path).unwrap().gid();
    (path.to_owned(), group.to_string())
}

/// A Compose file of the repository, brought up beside others of its kind.
pub struct Files {
    file: &'static str,
    /// Holds what overrides it.
    pub folder: tempfile::TempDir,
    project: String,
    environment: Vec<(&'static str, String)>,
}

impl Files {
    fn up(file: &'static str, ports: &[(&'static str, SocketAddr)]) -> Self {
        let files = Self::prepare(file, ports);
        files.compose(&["up", "-d", "--wait"]);
        files
    }

    /// Everything but `docker compose up`. What lies in `more.yml` is added, and `traefik.yml` may be changed.
    pub fn prepare(file: &'static str, ports: &[(&'static str, SocketAddr)]) -> Self {
        let mut environment = vec![
            ("PORTWAY_IMAGE", IMAGES[0].to_owned()),
            ("APP_IMAGE", IMAGES[0].to_owned()),
        ];
        let ports = ports
            .iter()
            .map(|(name, address)| (*name, address.port().to_string()));
        environment.extend(ports);
        let stem = Path::new(file).file_stem().unwrap().to_string_lossy();
        let files = Self {
            file,
            folder: tempfile::tempdir().unwrap(),
            project: format!("{}-{}", stem.replace('.', "-"), std::process::id()),
            environment,
        };
        files.keep_to_itself();
        std::fs::write(files.folder.path().join("more.yml"), "services: {}\n").unwrap();
        files
    }

    /// Other stacks of this engine have routers of the same name.
    fn keep_to_itself(&self) {
        let only = format!("Label(`com.docker.compose.project`,`{}`)", self.project);
        let path = self.folder.path().join("traefik.yml");
        let text = std::fs::read_to_string("config/ha/traefik.yml").unwrap();
        let expose = "exposedByDefault: false\n";
        assert!(text.contains(expose));
        let text = text.replace(expose, &format!("{expose}    constraints: {only}\n"));
        std::fs::write(&path, text).unwrap();
        let edges = match self.file.contains("two-edges") {
            true => ["edge-a", "edge-b"].map(|edge| {
                format!("  {edge}: {{ environment: {{ TRAEFIK_PROVIDERS_DOCKER_CONSTRAINTS: '{only}' }} }}\n")
            }),
            false => [
                "  edge:\n".to_owned(),
                format!("    volumes: ['{}:/etc/traefik/traefik.yml:ro']\n", path.display()),
            ],
        };
        let text = format!("services:\n{}", edges.concat());
        std::fs::write(self.folder.path().join("override.yml"), text).unwrap();
    }

    fn docker(&self, arguments: &[&str]) -> (String, bool) {
        let path = |name| self.folder.path().join(name).display().to_string();
        let (own, more) = (path("override.yml"), path("more.yml"));
        let compose = ["compose", "-p", &self.project, "-f", self.file];
        let all = [&compose[..], &["-f", &own, "-f", &more], arguments].concat();
        docker(&self.environment, &all)
    }

    pub fn compose(&self, arguments: &[&str]) -> String {
        let (text, well) = self.docker(arguments);
        assert!(well, "{arguments:?}: {text}");
        text
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.docker(&["logs", "--tail", "40"]).0);
        }
        self.docker(&["down", "-t", "0"]);
    }
}

fn load(address: SocketAddr) -> Load {
    Load {
        address,
        host: "jackcwf.com".to_owned(),
        per_second: 200,
        idempotency_key: false,
    }
}

/// Waits until so many replicas take turns.
async fn replicas(address: SocketAddr, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let running = load(address).start();
        sleep(Duration::from_millis(300)).await;
        let samples = running.finish().await;
        let servers: BTreeSet<&str> = samples
            .iter()
            .filter(|sample| !sample.failed())
            .map(|sample| &*sample.server)
            .collect();
        if servers.len() == count {
            return;
        }
        assert!(Instant::now() < deadline, "{count} replicas: {servers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stack_of_the_readme() {
    let _place = turn().await;
    let samples = steady(the_readme, |samples| {
        samples.iter().all(|sample| !sample.failed())
    })
    .await;
    nothing_failed("docker-compose.ha.yml", &samples);
}

async fn the_readme() -> Vec<Sample> {
    let (web, api) = (free().unwrap(), free().unwrap());
    let ports = [("PORTWAY_PORT", web), ("PORTWAY_API_PORT", api)];
    let files = Files::up("docker-compose.ha.yml", &ports);
    replicas(web, 3).await;

    let output = Command::new("curl")
        .args(["-si", "-H", "Host: jackcwf.com", &format!("http://{web}/")])
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).to_lowercase();
    for expected in [
        "200 ok",
        "set-cookie: _",
        "x-frame-options: deny",
        "answered get jackcwf.com/",
    ] {
        assert!(answer.contains(expected), "{expected}: {answer}");
    }

    let running = load(web).start();
    files.compose(&["up", "-d", "--no-recreate", "--scale", "web=5"]);
    replicas(web, 5).await;
    files.compose(&["up", "-d", "--no-deps", "--force-recreate", "web"]);
    replicas(web, 3).await;
    running.finish().await
}

fn nothing_failed(what: &str, samples: &[Sample]) {
    let failed: Vec<_> = samples.iter().filter(|sample| sample.failed()).collect();
    eprintln!(
        "{what}: {} requests, {} failed",
        samples.len(),
        failed.len()
    );
    let first = &failed[..failed.len().min(20)];
    assert!(failed.is_empty(), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_edges_in_containers() {
    let _place = turn().await;
    let samples = steady(two_edges, |samples| {
        samples.iter().all(|sample| !sample.failed())
    })
    .await;
    nothing_failed("docker-compose.two-edges.yml", &samples);
}

async fn two_edges() -> Vec<Sample> {
    let (web, a, b) = (free().unwrap(), free().unwrap(), free().unwrap());
    let ports = [
        ("PORTWAY_PORT", web),
        ("PORTWAY_API_PORT_A", a),
        ("PORTWAY_API_PORT_B", b),
    ];
    let files = Files::up("docker-compose.two-edges.yml", &ports);
    replicas(web, 3).await;
    let running = load(web).start();
    for edge in ["edge-a", "edge-b"] {
        files.compose(&["up", "-d", "--wait", "--no-deps", "--force-recreate", edge]);
        sleep(Duration::from_secs(1)).await;
    }
    running.finish().await
}
