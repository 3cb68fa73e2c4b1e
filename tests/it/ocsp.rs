//! Staples, from the responder of OpenSSL to its client.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    Backend, Proxy, ProxyBuilder, Trust, backend, free_port, loopback, proxy, within,
};

/// An authority made with OpenSSL, in a folder, with one certificate for `a.test` that names a responder.
struct Authority {
    dir: tempfile::TempDir,
    port: u16,
}

impl Authority {
    fn new() -> Self {
        let authority = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
        };
        let url = format!("http://127.0.0.1:{}/", authority.port);
        authority.write(
            "leaf.ext",
            &format!("subjectAltName=DNS:a.test\nauthorityInfoAccess=OCSP;URI:{url}\n"),
        );
        authority.write("responder.ext", "extendedKeyUsage=OCSPSigning\n");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        authority.openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 30"
        ));
        for (name, subject, serial) in [("leaf", "a.test", "0x1001"), ("responder", "r", "0x1002")]
        {
            authority.openssl(&format!(
                "req {key} -keyout {name}.key -out {name}.csr -subj /CN={subject}"
            ));
            authority.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -days 30 -extfile {name}.ext -out {name}.pem"
            ));
        }
        let chain = authority.read("leaf.pem") + &authority.read("ca.pem");
        authority.write("chain.pem", &chain);
        authority
    }

    /// Starts its responder; `state` is the certificate's.
    async fn responder(&self, state: State) -> Responder {
        let dir = self.dir.path();
        write_index(&dir.join("index.txt"), "1001", state);
        Responder::start(
            self.port,
            &dir.join("index.txt"),
            &dir.join("ca.pem"),
            (&dir.join("responder.pem"), &dir.join("responder.key")),
        )
        .await
    }

    /// A proxy that serves the certificate.
    fn proxy(&self, server: &Backend) -> ProxyBuilder {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        proxy(&format!(
            "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all, tls: {{}}}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\ntls: {{certificates: [{{certFile: '{}', keyFile: '{}'}}]}}\n",
            server.url(),
            file("chain.pem"),
            file("leaf.key"),
        ))
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

/// What the responder says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Good,
    Revoked,
}

/// Writes the list of certificates that a responder knows: one, with this number.
pub fn write_index(path: &Path, serial: &str, state: State) {
    let line = match state {
        State::Good => format!("V\t491231235959Z\t\t{serial}\tunknown\t/CN=a.test\n"),
        State::Revoked => {
            format!(
                "R\t491231235959Z\t260101000000Z,keyCompromise\t{serial}\tunknown\t/CN=a.test\n"
            )
        }
    };
    fs::write(path, line).unwrap();
}

/// The responder of OpenSSL; it is killed when dropped.
pub struct Responder(Child);

impl Responder {
    /// On this port of the loopback, for certificates of `authority`, with a certificate and key to sign with.
    pub async fn start(
        port: u16,
        index: &Path,
        authority: &Path,
        (signer, key): (&Path, &Path),
    ) -> Self {
        let said: PathBuf = index.with_extension("log");
        let log = fs::File::create(&said).unwrap();
        let child = Command::new("openssl")
            .args(["ocsp", "-port", &port.to_string(), "-nmin", "60", "-index"])
            .arg(index)
            .arg("-CA")
            .arg(authority)
            .arg("-rsigner")
            .arg(signer)
            .arg("-rkey")
            .arg(key)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let responder = Self(child);
        // A connection without a request would keep it busy for ever.
        within(
            Duration::from_secs(30),
            "the responder listens",
            async || {
                let said = fs::read_to_string(&said).ok()?;
                said.contains("waiting for").then_some(())
            },
        )
        .await;
        responder
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What OpenSSL's client says of the staple for `host`.
pub fn staple(address: SocketAddr, host: &str) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-status", "-servername", host, "-connect"])
        .arg(address.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub const GOOD: &str = "Cert Status: good";
const NONE: &str = "OCSP response: no response sent";

async fn logs(proxy: &Proxy, text: &str) {
    within(Duration::from_secs(60), text, async || {
        proxy.log().contains(text).then_some(())
    })
    .await;
}

async fn stapled(proxy: &Proxy) {
    within(Duration::from_secs(60), "a staple", async || {
        staple(proxy.addr("web"), "a.test")
            .contains(GOOD)
            .then_some(())
    })
    .await;
}

fn on() -> Value {
    json!({"ocsp": {}})
}

#[tokio::test]
async fn a_staple_is_fetched_in_the_background_and_survives_its_responder() {
    let (server, authority) = (backend("server").run().await, Authority::new());
    // Nobody is there yet: that costs nothing but a line of the log.
    let proxy = authority.proxy(&server).install(&on()).run().await;
    let client = proxy.client().host("a.test").tls(Trust::anyone());
    assert_eq!(client.get("/").await.status, 200);
    assert!(staple(proxy.addr("web"), "a.test").contains(NONE));
    logs(&proxy, "no staple: the certificate serves without one").await;
    let responder = authority.responder(State::Good).await;
    stapled(&proxy).await;
    assert!(proxy.log().contains("the staple is fetched"));
    assert_eq!(client.get("/").await.status, 200);
    let metrics = proxy.metrics().await;
    let shown = |name: &str| metrics.lines().any(|line| line.starts_with(name));
    assert!(
        shown("portway_ocsp_requests_total{outcome=\"good\"} 1"),
        "{metrics}"
    );
    assert!(shown(
        "portway_ocsp_next_update_timestamp_seconds{cn=\"a.test\""
    ));
    assert!(shown("portway_ocsp_next_attempt_timestamp_seconds "));
    let all: Value = proxy.admin().get("/api/certificates").await.json();
    assert!(all[0]["stapleUntil"].is_string(), "{all}");
    // Gone again; what it said holds. A configuration that changes does not ask anew.
    drop(responder);
    proxy.write_routing(
        "more.yml",
        "http: {middlewares: {m: {addPrefix: {prefix: /x}}}}",
    );
    within(Duration::from_secs(30), "the reload", async || {
        let raw = proxy.rawdata().await;
        raw["middlewares"]["m@file"].is_object().then_some(())
    })
    .await;
    assert!(staple(proxy.addr("web"), "a.test").contains(GOOD));
}

#[tokio::test]
async fn a_revoked_certificate_is_shouted_about_and_has_no_staple() {
    let (server, authority) = (backend("server").run().await, Authority::new());
    let _responder = authority.responder(State::Revoked).await;
    let proxy = authority.proxy(&server).install(&on()).run().await;
    logs(&proxy, "THE CERTIFICATE IS REVOKED").await;
    assert!(proxy.log().contains("KeyCompromise"));
    assert!(staple(proxy.addr("web"), "a.test").contains(NONE));
    let client = proxy.client().host("a.test").tls(Trust::anyone());
    assert_eq!(client.get("/").await.status, 200);
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("portway_ocsp_requests_total{outcome=\"revoked\"} 1"));
}

#[tokio::test]
async fn a_responder_that_never_answers_delays_nothing() {
    let (server, authority) = (backend("server").run().await, Authority::new());
    // The system accepts, and that is all.
    let silent = TcpListener::bind(loopback(authority.port)).await.unwrap();
    let proxy = authority.proxy(&server).install(&on()).run().await;
    let (_held, _) = silent.accept().await.unwrap();
    let client = proxy.client().host("a.test").tls(Trust::anyone());
    assert_eq!(client.get("/").await.status, 200);
    proxy.write_routing(
        "more.yml",
        "http: {middlewares: {m: {addPrefix: {prefix: /x}}}}",
    );
    within(Duration::from_secs(30), "the reload", async || {
        let raw = proxy.rawdata().await;
        raw["middlewares"]["m@file"].is_object().then_some(())
    })
    .await;
    // All of that while it was being asked.
    assert!(!proxy.log().contains("no staple"), "{}", proxy.log());
    logs(&proxy, "no staple: the certificate serves without one").await;
    assert!(staple(proxy.addr("web"), "a.test").contains(NONE));
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    use tokio::io::AsyncWriteExt;

    let (server, authority) = (backend("server").run().await, Authority::new());
    let endless = TcpListener::bind(loopback(authority.port)).await.unwrap();
    let proxy = authority.proxy(&server).install(&on()).run().await;
    let (mut stream, _) = endless.accept().await.unwrap();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n";
    stream.write_all(head).await.unwrap();
    while stream.write_all(&[0; 4096]).await.is_ok() {}
    logs(&proxy, "no staple: the certificate serves without one").await;
    assert!(proxy.log().contains("limit"), "{}", proxy.log());
}

#[tokio::test]
async fn responders_of_files_are_asked_only_where_that_is_wanted_and_may_be_replaced() {
    let (server, authority) = (backend("server").run().await, Authority::new());
    let original = TcpListener::bind(loopback(authority.port)).await.unwrap();
    let asked = async || {
        let accepted = tokio::time::timeout(Duration::from_secs(2), original.accept());
        accepted.await.is_ok()
    };
    let off = authority.proxy(&server).run().await;
    assert!(!asked().await);
    assert!(staple(off.addr("web"), "a.test").contains(NONE));
    let elsewhere = Authority {
        port: free_port(),
        ..Authority::new()
    };
    // The certificates of the one, the port of the other.
    let named = format!("http://127.0.0.1:{}/", authority.port);
    let instead = format!("http://127.0.0.1:{}/", elsewhere.port);
    let replaced = json!({"ocsp": {"responderOverrides": {named: instead}}});
    let original_port = authority.port;
    let authority = Authority {
        port: elsewhere.port,
        ..authority
    };
    let _responder = authority.responder(State::Good).await;
    let proxy = authority.proxy(&server).install(&replaced).run().await;
    stapled(&proxy).await;
    assert!(!asked().await, "{original_port}");
}
