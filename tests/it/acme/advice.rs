//! Renewal information (RFC 9773). Debian's Pebble has none, so something in front of it adds that and hands on everything else.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{FAST, edge, pebble::Pebble, routing, tls};
use crate::support::{Authority, Client, Trust, backend, loopback, within};

/// What the front has been told, by certificate.
#[derive(Default)]
struct Seen {
    asked: Vec<String>,
    replaced: Vec<String>,
}

/// How a front gives advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Well,
    Fails,
    Rubbish,
    Hangs,
}

/// A front before Pebble.
#[derive(Clone)]
struct Front {
    port: u16,
    pebble: u16,
    manner: Manner,
    seen: Arc<Mutex<Seen>>,
}

impl Front {
    async fn start(pebble: &Pebble, site: &Authority, manner: Manner) -> Self {
        let listener = TcpListener::bind(loopback(0)).await.unwrap();
        let front = Self {
            port: listener.local_addr().unwrap().port(),
            pebble: pebble.ports.pebble,
            manner,
            seen: Arc::default(),
        };
        let (this, acceptor) = (
            front.clone(),
            site.issue(&["127.0.0.1"]).acceptor(None, &[]),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().serve(stream, acceptor.clone()));
            }
        });
        front
    }

    async fn serve(self, stream: TcpStream, acceptor: TlsAcceptor) -> Option<()> {
        let mut stream = acceptor.accept(stream).await.ok()?;
        let (method, path, body) = request(&mut stream).await?;
        let answer = self.answer(&method, &path, body).await?;
        stream.write_all(&answer).await.ok()?;
        stream.shutdown().await.ok()
    }

    async fn answer(&self, method: &str, path: &str, body: Vec<u8>) -> Option<Vec<u8>> {
        if let Some(id) = path.strip_prefix("/renewal/") {
            let window = self.window(id);
            return match self.manner {
                Manner::Well => Some(written(
                    200,
                    &[("retry-after", "3600")],
                    window.to_string().as_bytes(),
                )),
                Manner::Fails => Some(written(500, &[], b"{}")),
                Manner::Rubbish => Some(written(200, &[], b"{\"suggestedWindow\": 7")),
                Manner::Hangs => std::future::pending().await,
            };
        }
        self.note(&body);
        let authority = format!("127.0.0.1:{}", self.port);
        let client = Client::new(loopback(self.pebble)).host(&authority);
        let call = client
            .tls(Trust::anyone().sni("localhost"))
            .call(method, path);
        let call = call
            .header("content-type", "application/jose+json")
            .body(body);
        let answer = call.try_send().await.ok()?;
        let names = ["replay-nonce", "location", "link", "content-type"];
        let headers = names
            .iter()
            .filter_map(|name| Some((*name, answer.header(name)?)));
        let headers: Vec<(&str, &str)> = headers.collect();
        let mut text = answer.body.to_vec();
        if path == "/dir" {
            let mut directory: Value = serde_json::from_slice(&text).ok()?;
            directory["renewalInfo"] = format!("https://{authority}/renewal").into();
            text = directory.to_string().into_bytes();
        }
        Some(written(answer.status, &headers, &text))
    }

    /// The first certificate is to go at once, those that follow may stay for years.
    fn window(&self, id: &str) -> Value {
        let mut seen = self.seen.lock().unwrap();
        if !seen.asked.iter().any(|asked| asked == id) {
            seen.asked.push(id.to_owned());
        }
        let year = match seen.asked.first().is_some_and(|first| first == id) {
            true => 2001,
            false => 2101,
        };
        json!({
            "suggestedWindow": {"start": format!("{year}-01-02T04:00:00Z"), "end": format!("{year}-01-03T04:00:00.5Z")},
            "explanationURL": "https://example.com/why",
        })
    }

    /// The first certificate, and no other, was replaced.
    fn check(&self) {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.replaced, seen.asked[..1]);
    }

    /// Notes which certificate an order is to replace.
    fn note(&self, body: &[u8]) {
        let signed: Value = serde_json::from_slice(body).unwrap_or_default();
        let payload = BASE64.decode(signed["payload"].as_str().unwrap_or_default());
        let payload: Value =
            serde_json::from_slice(&payload.unwrap_or_default()).unwrap_or_default();
        if let Some(replaced) = payload["replaces"].as_str() {
            self.seen.lock().unwrap().replaced.push(replaced.to_owned());
        }
    }
}

/// One request: method, path, body.
async fn request(stream: &mut TlsStream<TcpStream>) -> Option<(String, String, Vec<u8>)> {
    let mut text = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(end) = head.parse(&text).ok()? {
            let mut lengths = head
                .headers
                .iter()
                .filter(|one| one.name.eq_ignore_ascii_case("content-length"));
            let length = lengths
                .next()
                .map_or("0", |one| std::str::from_utf8(one.value).unwrap());
            let length: usize = length.parse().ok()?;
            if text.len() >= end + length {
                let (method, path) = (head.method?.to_owned(), head.path?.to_owned());
                return Some((method, path, text.split_off(end)));
            }
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
}

fn written(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    let fields = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields: String = fields.collect();
    [head.as_bytes(), fields.as_bytes(), b"\r\n", body].concat()
}

fn seconds(time: &Value) -> i64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_second()
}

#[tokio::test]
async fn a_certificate_is_renewed_when_the_authority_says_so() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::with_validity(200), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let site = Authority::new("the front");
    let front = Front::start(&pebble, &site, Manner::Well).await;
    let through = json!({
        "caServer": format!("https://127.0.0.1:{}/dir", front.port),
        "caCertificates": [site.write(dir.path(), "front.pem")],
    });
    let proxy = edge(
        &pebble,
        &storage,
        &routing(&server, &["Host(`a.test`)"]),
        &tls(),
    )
    .install(&json!({"certificatesResolvers": {"le": {"acme": through}}}))
    .run()
    .await;
    pebble.serves(&proxy, "a.test", 60).await;
    // Sooner than a third of its life allows, but no certificate goes as soon as it has come.
    let advised = within(Duration::from_secs(60), "the advice is seen", async || {
        let all: Value = proxy.admin().get("/api/certificates").await.json();
        let first = all.as_array()?.first()?.clone();
        (first["advised"] == true).then_some(first)
    })
    .await;
    assert_eq!(advised["explanation"], "https://example.com/why");
    let early = seconds(&advised["nextAttempt"]) - seconds(&advised["notBefore"]);
    assert!((19..=20).contains(&early), "{advised}");
    assert!(proxy.log().contains("the authority has said when to renew"));
    // A third of its life left would be 67 seconds later still.
    within(Duration::from_secs(100), "the renewal", async || {
        (running.issued() > 1).then_some(())
    })
    .await;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(i64::try_from(now).unwrap() < seconds(&advised["notAfter"]));
    within(Duration::from_secs(30), "the next advice", async || {
        (front.seen.lock().unwrap().asked.len() > 1).then_some(())
    })
    .await;
    front.check();
    // The advice on the second one does not let it expire.
    let second = within(
        Duration::from_secs(30),
        "the second is served",
        async || {
            let all: Value = proxy.admin().get("/api/certificates").await.json();
            let first = all.as_array()?.first()?.clone();
            (first["name"] != advised["name"] && first["advised"] == true).then_some(first)
        },
    )
    .await;
    let left = seconds(&second["notAfter"]) - seconds(&second["nextAttempt"]);
    assert!((30..=101).contains(&left), "{second}");
}

/// An authority of which no advice can be had, whose certificates last for a minute.
async fn without_advice(manner: Manner) {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let (pebble, storage) = (Pebble::with_validity(60), dir.path().join("acme.json"));
    let running = pebble.start(FAST).await;
    let site = Authority::new("the front");
    let front = Front::start(&pebble, &site, manner).await;
    let through = json!({
        "caServer": format!("https://127.0.0.1:{}/dir", front.port),
        "caCertificates": [site.write(dir.path(), "front.pem")],
    });
    let routing = routing(&server, &["Host(`a.test`)"]);
    let proxy = edge(&pebble, &storage, &routing, &tls())
        .install(&json!({"certificatesResolvers": {"le": {"acme": through}}}))
        .run()
        .await;
    pebble.serves(&proxy, "a.test", 60).await;
    within(Duration::from_secs(30), "advice is asked for", async || {
        (!front.seen.lock().unwrap().asked.is_empty()).then_some(())
    })
    .await;
    let first = within(
        Duration::from_secs(30),
        "the certificate is told",
        async || {
            let all: Value = proxy.admin().get("/api/certificates").await.json();
            let first = all.as_array()?.first()?.clone();
            (first["notAfter"].is_string() && first["nextAttempt"].is_string()).then_some(first)
        },
    )
    .await;
    // With a third of the life left, or a twentieth of it earlier.
    let left = seconds(&first["notAfter"]) - seconds(&first["nextAttempt"]);
    assert!((19..=24).contains(&left), "{manner:?}: {first}");
    assert_ne!(first["advised"], true, "{manner:?}: {first}");
    within(Duration::from_secs(100), "the renewal", async || {
        (running.issued() > 1).then_some(())
    })
    .await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    assert!(now < seconds(&first["notAfter"]), "{manner:?}: {first}");
}

#[tokio::test]
async fn without_advice_a_third_of_the_life_decides() {
    let manners = [Manner::Fails, Manner::Rubbish, Manner::Hangs];
    futures_util::future::join_all(manners.map(without_advice)).await;
}
