//! A real authority: Pebble with its DNS server, on loopback.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Authority, Client, Proxy, Trust, free_port, loopback, within};

/// The ports that belong together: where Pebble looks is where the proxy listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub web: u16,
    pub secure: u16,
    pub pebble: u16,
    management: u16,
    dns: u16,
    /// Where the name server's answers are changed.
    names: u16,
}

impl Ports {
    pub fn new() -> Self {
        Self {
            web: free_port(),
            secure: free_port(),
            pebble: free_port(),
            management: free_port(),
            dns: free_port(),
            names: free_port(),
        }
    }
}

/// The files of an authority that may be started more than once.
pub struct Pebble {
    pub ports: Ports,
    dir: TempDir,
    pub site: Authority,
    /// The responder that its certificates name, if any.
    responder: String,
}

/// An authority at work.
pub struct Running {
    children: Vec<Child>,
    log: PathBuf,
}

/// Longer than anybody renews ahead, in seconds.
pub const YEARS: u64 = 157_766_400;

impl Pebble {
    /// Its certificates last for years.
    pub fn new() -> Self {
        Self::with_validity(YEARS)
    }

    /// Its certificates last for so many seconds.
    pub fn with_validity(seconds: u64) -> Self {
        let pebble = Self {
            ports: Ports::new(),
            dir: tempfile::tempdir().unwrap(),
            site: Authority::new("pebble's site"),
            responder: String::new(),
        };
        pebble.configure(seconds);
        pebble
    }

    /// Its certificates name this responder.
    pub fn with_responder(url: &str) -> Self {
        let mut pebble = Self::new();
        pebble.responder = url.to_owned();
        pebble.configure(YEARS);
        pebble
    }

    /// Started again, it has forgotten everything, and its certificates last for so many seconds.
    pub fn configure(&self, validity: u64) {
        let dir = self.dir.path();
        let (certificate, key) = self
            .site
            .issue(&["127.0.0.1", "localhost"])
            .write(dir, "site");
        self.site.write(dir, "site-root.pem");
        let config = json!({"pebble": {
            "listenAddress": loopback(self.ports.pebble).to_string(),
            "managementListenAddress": loopback(self.ports.management).to_string(),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": self.ports.web,
            "tlsPort": self.ports.secure,
            "ocspResponderURL": self.responder,
            "externalAccountBindingRequired": false,
            "domainBlocklist": ["blocked-domain.example"],
            "certificateValidityPeriod": validity,
        }});
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.ports.pebble)
    }

    /// Who signed the certificate of its site.
    pub fn site_root(&self) -> PathBuf {
        self.dir.path().join("site-root.pem")
    }

    /// Its name server.
    pub fn names(&self) -> String {
        loopback(self.ports.dns).to_string()
    }

    /// Where the answers of its name server are changed.
    pub fn management(&self) -> String {
        loopback(self.ports.names).to_string()
    }

    /// Starts it; every name has the address 127.0.0.1.
    pub async fn start(&self, environment: &[(&str, &str)]) -> Running {
        self.start_asking(environment, self.ports.dns).await
    }

    /// Starts it; it asks the name server on this port.
    pub async fn start_asking(&self, environment: &[(&str, &str)], server: u16) -> Running {
        let log = self.dir.path().join("pebble.log");
        let spawn = |command: &mut Command, log: &PathBuf| {
            let file = File::create(log).unwrap();
            command
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file)
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error} (tests/setup installs it)"))
        };
        let dns = loopback(self.ports.dns).to_string();
        let mut names = Command::new("pebble-challtestsrv");
        names.args([
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-dns01",
            &dns,
        ]);
        names.args([
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            &self.management(),
        ]);
        let mut pebble = Command::new("pebble");
        pebble
            .arg("-config")
            .arg(self.dir.path().join("config.json"))
            .args(["-dnsserver", &loopback(server).to_string()])
            .envs(environment.iter().copied());
        let running = Running {
            children: vec![
                spawn(&mut names, &self.dir.path().join("names.log")),
                spawn(&mut pebble, &log),
            ],
            log,
        };
        within(Duration::from_secs(60), "pebble answers", async || {
            let client = Client::new(loopback(self.ports.pebble)).host("localhost");
            let answer = client
                .tls(Trust::new(&self.site))
                .get("/dir")
                .try_send()
                .await;
            answer.is_ok().then_some(())
        })
        .await;
        running
    }

    /// Trust in what it issues.
    pub async fn trust(&self) -> Trust {
        Trust::pem(&self.management_page("/roots/0").await)
    }

    /// What it gives away of itself.
    pub async fn management_page(&self, path: &str) -> Vec<u8> {
        let client = Client::new(loopback(self.ports.management)).host("localhost");
        let answer = client.tls(Trust::new(&self.site)).get(path).await;
        answer.body.to_vec()
    }

    /// Waits until the proxy serves `host` with a certificate of this authority.
    pub async fn serves(&self, proxy: &Proxy, host: &str, limit: u64) -> Vec<u8> {
        let trust = self.trust().await;
        within(
            Duration::from_secs(limit),
            &format!("{host} has its certificate"),
            async || {
                let client = Client::new(proxy.addr("secure"))
                    .host(host)
                    .tls(trust.clone());
                client.connect().await.ok()?.certificate
            },
        )
        .await
    }
}

impl Running {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many orders were made.
    pub fn orders(&self) -> usize {
        self.log().matches("Added order ").count()
    }

    /// How many accounts were registered.
    pub fn accounts(&self) -> usize {
        self.log().matches(" accounts in memory").count()
    }

    /// How many certificates were issued.
    pub fn issued(&self) -> usize {
        self.log().matches("Issued certificate ").count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- log of pebble");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
