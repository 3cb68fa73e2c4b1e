//! The proxy under test: the real binary, started on free ports with files generated into a temporary directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Client, eventually, free_port, loopback, within};

/// A running proxy. It is killed when dropped; its log is printed when the test panics.
pub struct Proxy {
    child: Child,
    dir: TempDir,
    ports: BTreeMap<String, u16>,
}

/// A proxy about to be started.
pub struct ProxyBuilder {
    install: Value,
    routing: String,
    dir: TempDir,
    ports: BTreeMap<String, u16>,
    environment: Vec<(String, String)>,
    binary: PathBuf,
    /// What a shell does before it becomes the proxy.
    prelude: String,
    wait_ready: bool,
}

/// Prepares a proxy with one plain entry point `web` and the routing configuration `routing`.
pub fn proxy(routing: &str) -> ProxyBuilder {
    raise_open_files();
    ProxyBuilder {
        install: json!({
            "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
            "ping": {},
            "api": {"insecure": true},
            "metrics": {"prometheus": {"addRoutersLabels": true}},
            "log": {"level": "INFO"},
        }),
        routing: routing.to_owned(),
        dir: tempfile::tempdir().unwrap(),
        ports: BTreeMap::new(),
        environment: Vec::new(),
        binary: binary(),
        prelude: String::new(),
        wait_ready: true,
    }
    .entry_point("web", &json!({}))
    .entry_point("traefik", &json!({}))
}

/// The binary under test: ours, or whatever `PORTWAY_TEST_BINARY` names (the real Traefik, to try the tests themselves).
pub fn binary() -> PathBuf {
    std::env::var_os("PORTWAY_TEST_BINARY").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_portway")),
        PathBuf::from,
    )
}

/// Install options: a service without a usable server answers at once, as Traefik does. Traefik itself does not know the option.
pub fn without_hold() -> Value {
    match subject_is_traefik() {
        true => json!({}),
        false => json!({"providers": {"file": {"hold": {"timeout": 0}}}}),
    }
}

/// Whether the tests are being tried against Traefik, which gives no promise about readiness.
pub fn subject_is_traefik() -> bool {
    is_traefik(&binary())
}

impl ProxyBuilder {
    /// Adds an entry point on a free loopback port; `options` are merged into it.
    pub fn entry_point(mut self, name: &str, options: &Value) -> Self {
        let port = *self.ports.entry(name.to_owned()).or_insert_with(free_port);
        let mut entry_point = json!({"address": format!("127.0.0.1:{port}")});
        merge(&mut entry_point, options);
        self.install(&json!({"entryPoints": {name: entry_point}}))
    }

    /// Moves an entry point to a port that the test chose.
    pub fn port(mut self, name: &str, port: u16) -> Self {
        self.ports.insert(name.to_owned(), port);
        self.entry_point(name, &json!({}))
    }

    /// Merges `options` into the install configuration.
    pub fn install(mut self, options: &Value) -> Self {
        merge(&mut self.install, options);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it with so many file descriptors at most.
    pub fn max_files(mut self, limit: u32) -> Self {
        self.prelude += &format!("ulimit -n {limit}; ");
        self
    }

    /// Starts it with this signal ignored.
    pub fn ignoring(mut self, signal: &str) -> Self {
        self.prelude += &format!("trap '' {signal}; ");
        self
    }

    /// Starts another program than the one under test.
    pub fn program(mut self, path: PathBuf) -> Self {
        self.binary = path;
        self
    }

    /// Does not wait for `/ping`; for proxies that are expected to refuse to start.
    pub fn no_wait(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Writes the files, starts the program and waits until it is ready.
    pub async fn run(mut self) -> Proxy {
        let dir = self.dir.path().display().to_string();
        let routing = self.dir.path().join("routing");
        std::fs::create_dir_all(&routing).unwrap();
        std::fs::write(
            routing.join("main.yml"),
            self.routing.replace("{dir}", &dir),
        )
        .unwrap();
        let given = |option| self.install.pointer(option).is_some();
        if !given("/providers/file/directory") && !given("/providers/file/filename") {
            merge(
                &mut self.install,
                &json!({"providers": {"file": {"directory": routing, "watch": true}}}),
            );
        }
        let install = serde_json::to_string_pretty(&self.install)
            .unwrap()
            .replace("{dir}", &dir);
        let install_path = self.dir.path().join("install.yml");
        std::fs::write(&install_path, install).unwrap();
        let log = std::fs::File::create(self.dir.path().join("proxy.log")).unwrap();
        let mut command = match self.prelude.as_str() {
            "" => Command::new(&self.binary),
            prelude => {
                let mut shell = Command::new("bash");
                shell
                    .args(["-c", &format!("{prelude}exec \"$0\" \"$@\"")])
                    .arg(&self.binary);
                shell
            }
        };
        let child = command
            .arg(format!("--configFile={}", install_path.display()))
            .current_dir(self.dir.path())
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.binary.display()));
        let mut proxy = Proxy {
            child,
            dir: self.dir,
            ports: self.ports,
        };
        if self.wait_ready {
            proxy
                .ready(is_traefik(&self.binary) && self.routing.contains("rule:"))
                .await;
        }
        proxy
    }
}

impl Proxy {
    /// A client of entry point `web`.
    pub fn client(&self) -> Client {
        Client::new(self.addr("web"))
    }

    /// A client of the administrative entry point.
    pub fn admin(&self) -> Client {
        Client::new(self.addr("traefik"))
    }

    pub fn addr(&self, entry_point: &str) -> SocketAddr {
        loopback(self.ports[entry_point])
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Replaces a routing file the way `cat > file` does.
    pub fn write_routing(&self, name: &str, text: &str) {
        std::fs::write(self.routing_path(name), text).unwrap();
    }

    pub fn routing_path(&self, name: &str) -> PathBuf {
        self.dir.path().join("routing").join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("proxy.log")).unwrap_or_default()
    }

    /// Sends a signal by name ("TERM", "USR1").
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Waits until the process has ended.
    pub async fn exited(&mut self) -> ExitStatus {
        let child = &mut self.child;
        within(Duration::from_secs(20), "the proxy ends", async || {
            child.try_wait().unwrap()
        })
        .await
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `/api/rawdata` as JSON.
    pub async fn rawdata(&self) -> Value {
        self.admin().get("/api/rawdata").await.json()
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        self.admin().get("/metrics").await.text()
    }

    async fn ready(&mut self, wait_for_routers: bool) {
        let admin = self.admin();
        let child = &mut self.child;
        eventually("the proxy is ready", async || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the proxy ended instead of starting"
            );
            let answer = admin.get("/ping").try_send().await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        if wait_for_routers {
            eventually("the routers are live", async || {
                let raw = self.admin().get("/api/rawdata").await.text();
                (raw.contains("@file\"") || raw.contains("@file'")).then_some(())
            })
            .await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let fate = ended.map_or_else(
                || "running".to_owned(),
                |status| format!("{status} (signal {:?})", status.signal()),
            );
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- log of the proxy ({fate})");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
            eprintln!("--- end of log");
        }
    }
}

/// Tests run side by side and some hold hundreds of connections: where more open files are to be had, they are taken.
fn raise_open_files() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).ok();
    });
}

fn is_traefik(binary: &Path) -> bool {
    binary.file_name().is_some_and(|name| name == "traefik")
}

/// Deep merge of JSON objects; other values replace.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
