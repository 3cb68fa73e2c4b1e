//! One of the two programs at work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cases::{Case, Door, Protocol};
use super::outcome::{Outcome, Sight};
use crate::support::{
    Backend, Client, Seen, Trust, eventually, free_port, loopback, parse_answers,
};

/// One of the two programs, running the example files on ports of its own.
pub struct Subject {
    child: Child,
    dir: tempfile::TempDir,
    ports: BTreeMap<u16, u16>,
    /// The servers of the service `api`: which of them was chosen is not compared.
    api: Vec<String>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log =
                std::fs::read_to_string(self.dir.path().join("proxy.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!(
                "--- log\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

/// The real Traefik: `TRAEFIK_BINARY`, or where `tests/setup` puts it.
pub fn traefik() -> PathBuf {
    let path = std::env::var_os("TRAEFIK_BINARY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/traefik"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} is missing: run tests/setup, or name it in TRAEFIK_BINARY",
        path.display()
    );
    path
}

impl Subject {
    /// Starts `program` on a copy of `config/` with other ports.
    pub async fn on_example(program: &Path, servers: &[Backend]) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let write = |to: &Path, ports: &_| copy(&source, &to.join("config"), ports);
        let subject = Self::start(program, servers, write);
        subject.until_live("secure.localhost", 302).await;
        subject
    }

    /// Starts `program` on a configuration that `write` puts into a folder, with the ports of the example replaced by those given.
    pub fn start(
        program: &Path,
        servers: &[Backend],
        write: impl FnOnce(&Path, &BTreeMap<u16, u16>),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports: BTreeMap<u16, u16> = [8000, 8443, 8081, 8082]
            .into_iter()
            .map(|port| (port, free_port()))
            .collect();
        let mut renamed = ports.clone();
        let addresses = servers.iter().map(|server| server.addr.port());
        renamed.extend((9001..).zip(addresses));
        write(dir.path(), &renamed);
        let log = std::fs::File::create(dir.path().join("proxy.log")).unwrap();
        let child = Command::new(program)
            .arg("--configFile=config/portway.yml")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            dir,
            ports,
            api: servers[3..]
                .iter()
                .map(|server| server.addr.to_string())
                .collect(),
        }
    }

    /// Waits until a request for this host gets this status.
    pub async fn until_live(&self, host: &str, status: u16) {
        eventually("the routers are live", async || {
            let call = self.client(8000).host(host).get("/");
            let answer = call.try_send().await.ok()?;
            (answer.status == status).then_some(())
        })
        .await;
    }

    pub fn addr(&self, port: u16) -> SocketAddr {
        loopback(self.ports[&port])
    }

    pub fn client(&self, port: u16) -> Client {
        Client::new(self.addr(port))
    }

    /// Sends one case and collects what there is to see, in terms of the ports of the example.
    pub async fn play(&self, case: &Case, servers: &[Backend]) -> Outcome {
        servers.iter().for_each(Backend::reset);
        let port = match case.door {
            Door::Web => 8000,
            Door::Secure => 8443,
            Door::Plain => 8081,
        };
        let mut outcome = match case.protocol {
            Protocol::Raw => self.play_raw(case, port).await,
            Protocol::Http1 | Protocol::Http2 => self.play_client(case, port).await,
        };
        if !case.settle.is_zero() {
            tokio::time::sleep(case.settle).await;
        }
        outcome.seen = self.seen(servers);
        outcome
    }

    /// What the servers have seen since they were reset, in the order of the servers.
    fn seen(&self, servers: &[Backend]) -> Vec<Sight> {
        let mut sights = Vec::new();
        for (server, backend) in servers.iter().enumerate() {
            let seen = backend.seen().into_iter();
            let seen = seen.filter(|seen| seen.path() != "/health");
            sights.extend(seen.map(|seen| self.sight(server, &seen)));
        }
        sights
    }

    async fn play_raw(&self, case: &Case, port: u16) -> Outcome {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        if let Some(from) = case.from {
            socket.bind(SocketAddr::new(from, 0)).unwrap();
        }
        let mut stream = socket.connect(self.addr(port)).await.unwrap();
        stream.write_all(&case.bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
            .await
            .ok();
        let Some(answer) = parse_answers(&bytes)
            .into_iter()
            .find(|answer| answer.status >= 200 || answer.status == 101)
        else {
            return Outcome::default();
        };
        self.outcome(answer.status, answer.headers, answer.body)
    }

    async fn play_client(&self, case: &Case, port: u16) -> Outcome {
        let mut client = self.client(port).host(&case.host);
        if matches!(case.door, Door::Secure) {
            client = client.tls(Trust::anyone());
        }
        if matches!(case.protocol, Protocol::Http2) {
            client = client.h2();
        }
        let mut call = client.call(&case.method, &case.target);
        for (name, value) in &case.headers {
            call = call.header(name, value);
        }
        if !case.body.is_empty() {
            call = call.body(case.body.clone());
        }
        let Ok(answer) = call.try_send().await else {
            return Outcome::default();
        };
        let headers = answer
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        self.outcome(answer.status, headers, answer.body.to_vec())
    }

    fn outcome(&self, status: u16, fields: Vec<(String, String)>, body: Vec<u8>) -> Outcome {
        let mut headers = self.sorted(fields);
        // The moment, and how the body happens to be cut, are nobody's business; the coding of a packed body is compared by its content.
        for name in ["date", "connection", "transfer-encoding"] {
            headers.remove(name);
        }
        let coding = headers
            .get("content-encoding")
            .and_then(|values| values.first().cloned());
        if coding.is_some() {
            headers.remove("content-length");
        }
        if let Some(cookies) = headers.get_mut("set-cookie") {
            // Which replica is first is a matter of luck in Traefik; that cookies are understood both ways has a test of its own.
            cookies.iter_mut().for_each(|cookie| {
                *cookie = regex::Regex::new("shop=[0-9a-f]{16}")
                    .unwrap()
                    .replace(cookie, "shop=*")
                    .into_owned()
            });
        }
        let body = String::from_utf8_lossy(&unpack(coding.as_deref(), body)).into_owned();
        Outcome {
            status,
            headers,
            body: self.canonical(&body),
            seen: Vec::new(),
        }
    }

    fn sight(&self, server: usize, seen: &Seen) -> Sight {
        let mut headers = self.sorted(seen.headers.clone());
        // Framing towards the server is the proxy's own affair; the body is compared.
        for name in ["transfer-encoding", "connection"] {
            headers.remove(name);
        }
        if headers
            .get("content-length")
            .is_some_and(|values| values[0] == "0")
        {
            headers.remove("content-length");
        }
        let trailers = seen
            .trailers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect::<Vec<_>>()
            .join(", ");
        Sight {
            server,
            line: format!("{} {} {}", seen.method, seen.target, seen.version),
            headers,
            body: String::from_utf8_lossy(&seen.body).into_owned(),
            trailers,
        }
    }

    fn sorted(&self, fields: Vec<(String, String)>) -> BTreeMap<String, Vec<String>> {
        let mut sorted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in fields {
            sorted
                .entry(name.to_ascii_lowercase())
                .or_default()
                .push(self.canonical(&value));
        }
        sorted
    }

    /// Writes the ports of the example in place of those of this subject.
    fn canonical(&self, text: &str) -> String {
        let text = self.api.iter().fold(text.to_owned(), |text, server| {
            text.replace(server, "api-server")
        });
        self.ports.iter().fold(text, |text, (example, actual)| {
            text.replace(&format!(":{actual}"), &format!(":{example}"))
        })
    }
}

fn copy(from: &Path, to: &Path, ports: &BTreeMap<u16, u16>) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target, ports);
        } else {
            let mut text = std::fs::read_to_string(entry.path()).unwrap();
            for (example, actual) in ports {
                text = text
                    .replace(
                        &format!("127.0.0.1:{example}\""),
                        &format!("127.0.0.1:{actual}\""),
                    )
                    .replace(
                        &format!("port: \"{example}\""),
                        &format!("port: \"{actual}\""),
                    );
            }
            std::fs::write(target, text).unwrap();
        }
    }
}

fn unpack(coding: Option<&str>, body: Vec<u8>) -> Vec<u8> {
    use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
    let mut unpacked = Vec::new();
    let read = |reader: &mut (dyn tokio::io::AsyncRead + Unpin), into: &mut Vec<u8>| {
        futures_util::FutureExt::now_or_never(async { reader.read_to_end(into).await })
            .expect("memory is always ready")
            .is_ok()
    };
    let good = match coding {
        Some("gzip") => read(&mut GzipDecoder::new(body.as_slice()), &mut unpacked),
        Some("br") => read(&mut BrotliDecoder::new(body.as_slice()), &mut unpacked),
        Some("zstd") => read(&mut ZstdDecoder::new(body.as_slice()), &mut unpacked),
        _ => return body,
    };
    if good {
        unpacked
    } else {
        format!("cannot be unpacked as {coding:?}").into_bytes()
    }
}
