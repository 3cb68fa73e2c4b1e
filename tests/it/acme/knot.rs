//! A real authoritative name server on loopback: Knot, whose zone may be changed with a key.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{free_port, loopback, within};

/// A name server with the zone `example.test`.
pub struct Knot {
    child: Child,
    dir: TempDir,
    pub port: u16,
}

/// The key that lets the zone be changed.
pub const KEY: &str = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=";

const ZONE: &str = "$ORIGIN example.test.
$TTL 1
@ SOA ns me 1 3600 600 86400 1
@ NS ns
ns A 127.0.0.1
_acme-challenge.alias CNAME challenges.elsewhere
";

impl Knot {
    pub async fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let here = dir.path().display().to_string();
        let config = CONFIG.replace("DIR", &here).replace("KEY", KEY);
        let config = config.replace("PORT", &port.to_string());
        std::fs::write(dir.path().join("knot.conf"), config).unwrap();
        std::fs::write(dir.path().join("example.test.zone"), ZONE).unwrap();
        let log = std::fs::File::create(dir.path().join("knot.log")).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(dir.path().join("knot.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("knotd: {error} (tests/setup installs it)"));
        let knot = Self { child, dir, port };
        within(
            Duration::from_secs(30),
            "the name server answers",
            async || knot.ask("example.test", SOA).filter(|count| *count == 1),
        )
        .await;
        knot
    }

    pub fn address(&self) -> String {
        loopback(self.port).to_string()
    }

    /// How many TXT records a name has.
    pub fn texts(&self, name: &str) -> Option<u16> {
        self.ask(name, TXT)
    }

    fn ask(&self, name: &str, kind: u16) -> Option<u16> {
        let mut question = vec![7, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend_from_slice(label.as_bytes());
        }
        question.push(0);
        question.extend_from_slice(&kind.to_be_bytes());
        question.extend_from_slice(&1u16.to_be_bytes());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        socket.send_to(&question, loopback(self.port)).ok()?;
        let mut answer = [0; 1500];
        socket.recv(&mut answer).ok()?;
        Some(u16::from_be_bytes([answer[6], answer[7]]))
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("knot.log"));
            eprintln!("--- log of the name server\n{}", log.unwrap_or_default());
        }
    }
}

/// Debian keeps it where only administrators look.
fn program() -> PathBuf {
    let usual = PathBuf::from("/usr/sbin/knotd");
    match usual.exists() {
        true => usual,
        false => PathBuf::from("knotd"),
    }
}

const SOA: u16 = 6;
const TXT: u16 = 16;

const CONFIG: &str = r#"
server:
    rundir: "DIR"
    listen: "127.0.0.1@PORT"
log:
  - target: "stderr"
    any: "info"
database:
    storage: "DIR"
key:
  - id: "portway"
    algorithm: "hmac-sha256"
    secret: "KEY"
acl:
  - id: "changes"
    key: "portway"
    action: "update"
zone:
  - domain: "example.test"
    storage: "DIR"
    file: "example.test.zone"
    acl: "changes"
    zonefile-sync: "-1"
"#;
