//! The files in `config/`, run by the real Traefik and by us at the same time: hundreds of requests go to both, and everything
//! a client or a server can see is compared. What differs on purpose is in [`ALLOWED`], each with its reason.

mod cases;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Backend, Client, Reply, Seen, Trust, backend, binary, eventually, free_port, loopback,
    parse_answers,
};
use cases::{Case, Door, Protocol};

/// What we do differently on purpose.
const ALLOWED: &[(&str, fn(&Case, &Difference) -> bool)] = &[
    (
        "Traefik asks servers for gzip when the client did not, and unpacks the answer; we pass on what the client said",
        |case, difference| {
            let silent = !case.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("accept-encoding") && !value.is_empty()
            });
            silent
                && (difference.is("server saw", "accept-encoding")
                    || case.target.contains("packed"))
        },
    ),
    ("how long to wait depends on the moment", |_, difference| {
        difference.is("header", "retry-after") || difference.is("header", "x-retry-in")
    }),
    (
        "Traefik drops the trailers of requests, we forward them and their announcement",
        |_, difference| {
            difference.is("server saw", "trailers") || difference.is("server saw", "trailer")
        },
    ),
    (
        "what is ambiguous we refuse, and after that nothing else can be compared",
        |case, difference| case.strict && difference.portway_status == 400,
    ),
    (
        "requests that cannot be parsed are answered before any router: only the status counts",
        |_, difference| {
            difference.portway_status == 400
                && difference.traefik_status == 400
                && difference.place != "status"
        },
    ),
    (
        "Traefik puts its cookie before those of the server, we put it behind them",
        |_, difference| {
            let sorted = |text: &str| {
                let mut cookies: Vec<String> = text.split(" | ").map(str::to_owned).collect();
                cookies.sort();
                cookies
            };
            difference.is("header", "set-cookie")
                && sorted(&difference.traefik) == sorted(&difference.portway)
        },
    ),
];

/// One of the two programs, running the example files on ports of its own.
struct Subject {
    child: Child,
    dir: tempfile::TempDir,
    ports: BTreeMap<u16, u16>,
    /// The servers of the service `api`: which of them was chosen is not compared.
    api: Vec<String>,
}

/// What a client and a server could see of one request.
#[derive(Debug, Clone, Default)]
struct Outcome {
    status: u16,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
    seen: Option<Sight>,
}

#[derive(Debug, Clone, Default)]
struct Sight {
    line: String,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
    trailers: String,
}

struct Difference {
    place: &'static str,
    name: String,
    traefik: String,
    portway: String,
    traefik_status: u16,
    portway_status: u16,
}

impl Difference {
    fn is(&self, place: &str, name: &str) -> bool {
        self.place == place && self.name == name
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: Traefik {:?}, Portway {:?}",
            self.place, self.name, self.traefik, self.portway
        )
    }
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
fn traefik() -> PathBuf {
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
    /// Copies `config/` with other ports and starts `program` on it.
    async fn start(program: &Path, servers: &[Backend]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports: BTreeMap<u16, u16> = [8000, 8443, 8081, 8082]
            .into_iter()
            .map(|port| (port, free_port()))
            .collect();
        let mut renamed = ports.clone();
        renamed.extend(
            servers
                .iter()
                .enumerate()
                .map(|(index, server)| (9001 + index as u16, server.addr.port())),
        );
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        copy(&source, &dir.path().join("config"), &renamed);
        let log = std::fs::File::create(dir.path().join("proxy.log")).unwrap();
        let child = Command::new(program)
            .arg("--configFile=config/portway.yml")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let subject = Self {
            child,
            dir,
            ports,
            api: servers[3..]
                .iter()
                .map(|server| server.addr.to_string())
                .collect(),
        };
        eventually("the routers are live", async || {
            let answer = subject
                .client(8000)
                .host("secure.localhost")
                .get("/")
                .try_send()
                .await
                .ok()?;
            (answer.status == 302).then_some(())
        })
        .await;
        subject
    }

    fn addr(&self, port: u16) -> SocketAddr {
        loopback(self.ports[&port])
    }

    fn client(&self, port: u16) -> Client {
        Client::new(self.addr(port))
    }

    /// Sends one case and collects what there is to see, in terms of the ports of the example.
    async fn play(&self, case: &Case, servers: &[Backend]) -> Outcome {
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
        let seen: Vec<Seen> = servers
            .iter()
            .flat_map(Backend::seen)
            .filter(|seen| seen.path() != "/health")
            .collect();
        assert!(seen.len() <= 1, "{case}: reached {} servers", seen.len());
        outcome.seen = seen.first().map(|seen| self.sight(seen));
        outcome
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
            seen: None,
        }
    }

    fn sight(&self, seen: &Seen) -> Sight {
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

/// What the servers of the example answer, by the last word of the path.
fn script(seen: &Seen) -> Reply {
    let text = [("Content-Type", "text/plain"), ("Server", "scripted")];
    match seen.path().rsplit('/').next().unwrap_or_default() {
        _ if seen.method == "HEAD" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 77\r\n\r\n")
        }
        "large" => Reply::with(
            200,
            &[("Content-Type", "text/plain"), ("ETag", "\"1\"")],
            &"a line that compresses well\n".repeat(100),
        ),
        "image" => Reply::with(200, &[("Content-Type", "image/png")], &"p".repeat(2000)),
        "packed" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n")
                .write([
                    31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 203, 72, 205, 201, 201, 7, 0, 134, 166, 16,
                    54, 5, 0, 0, 0,
                ])
        }
        "chunked" => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        ),
        "empty" => Reply::raw("HTTP/1.1 204 No Content\r\nX-Empty: yes\r\n\r\n"),
        "unchanged" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"),
        "missing" => Reply::with(404, &text, "not here"),
        "broken" => Reply::with(500, &text, "broken"),
        "away" => Reply::with(302, &[("Location", "/elsewhere?x=1")], ""),
        "hop" => Reply::with(
            200,
            &[
                ("Connection", "X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=3"),
                ("Proxy-Authenticate", "Basic"),
                ("X-Stay", "1"),
            ],
            "hop",
        ),
        "many" => Reply::with(
            200,
            &[
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2; Path=/"),
                ("Vary", "Accept"),
                ("Link", "<a>"),
                ("Link", "<b>"),
            ],
            "many",
        ),
        "cors" => Reply::with(
            200,
            &[
                ("Access-Control-Allow-Origin", "https://server.own"),
                ("Vary", "Origin"),
            ],
            "cors",
        ),
        "untyped" => Reply::with(200, &[], "<html>typed by nobody</html>"),
        "odd" => Reply::with(
            299,
            &[
                ("x-lower", "1"),
                ("X_Under", "2"),
                ("X-Frame-Options", "SAMEORIGIN"),
            ],
            "odd",
        ),
        _ => Reply::with(
            200,
            &text,
            &format!("hello from the server: {} {}\n", seen.method, seen.target),
        ),
    }
}

async fn both() -> (Vec<Backend>, Subject, Subject) {
    let mut servers = Vec::new();
    for number in 0..5 {
        servers.push(
            backend(&format!("server{number}"))
                .reply(script)
                .run()
                .await,
        );
    }
    let traefik = Subject::start(&traefik(), &servers).await;
    let portway = Subject::start(&binary(), &servers).await;
    (servers, traefik, portway)
}

fn differences(traefik: &Outcome, portway: &Outcome) -> Vec<Difference> {
    let mut found = Vec::new();
    let (traefik_status, portway_status) = (traefik.status, portway.status);
    let mut compare = |place, name: &str, traefik: &str, portway: &str| {
        if traefik != portway {
            found.push(Difference {
                place,
                name: name.to_owned(),
                traefik: traefik.to_owned(),
                portway: portway.to_owned(),
                traefik_status,
                portway_status,
            });
        }
    };
    compare(
        "status",
        "",
        &traefik.status.to_string(),
        &portway.status.to_string(),
    );
    compare("body", "", &traefik.body, &portway.body);
    let (nothing, none) = (Vec::new(), Sight::default());
    let mut maps = |place,
                    traefik: &BTreeMap<String, Vec<String>>,
                    portway: &BTreeMap<String, Vec<String>>| {
        let names: std::collections::BTreeSet<&String> =
            traefik.keys().chain(portway.keys()).collect();
        for name in names {
            compare(
                place,
                name,
                &traefik.get(name).unwrap_or(&nothing).join(" | "),
                &portway.get(name).unwrap_or(&nothing).join(" | "),
            );
        }
    };
    maps("header", &traefik.headers, &portway.headers);
    let (seen_by_traefik, seen_by_portway) = (
        traefik.seen.as_ref().unwrap_or(&none),
        portway.seen.as_ref().unwrap_or(&none),
    );
    maps(
        "server saw",
        &seen_by_traefik.headers,
        &seen_by_portway.headers,
    );
    compare(
        "server saw",
        "line",
        &seen_by_traefik.line,
        &seen_by_portway.line,
    );
    compare(
        "server saw",
        "body",
        &seen_by_traefik.body,
        &seen_by_portway.body,
    );
    compare(
        "server saw",
        "trailers",
        &seen_by_traefik.trailers,
        &seen_by_portway.trailers,
    );
    found
}

#[tokio::test]
async fn the_example_files_mean_the_same_to_both() {
    let (servers, traefik, portway) = both().await;
    let cases = cases::all();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let mut report = Vec::new();
    for case in &cases {
        if case.target.contains("/api/") {
            // Slower than the rate limit of the example, which has a test of its own.
            tokio::time::sleep(Duration::from_millis(21)).await;
        }
        let (theirs, ours) = (
            traefik.play(case, &servers).await,
            portway.play(case, &servers).await,
        );
        assert!(
            theirs.status != 0 || case.strict,
            "{case}: Traefik gave no answer"
        );
        let found: Vec<String> = differences(&theirs, &ours)
            .iter()
            .filter(|difference| !ALLOWED.iter().any(|(_, allowed)| allowed(case, difference)))
            .map(|difference| format!("    {difference}"))
            .collect();
        if !found.is_empty() {
            report.push(format!("{case}\n{}", found.join("\n")));
        }
    }
    assert!(
        report.is_empty(),
        "{} of {} requests differ:\n{}",
        report.len(),
        cases.len(),
        report.join("\n")
    );
}

#[tokio::test]
async fn sticky_cookies_are_understood_both_ways() {
    let (servers, traefik, portway) = both().await;
    for (issuer, reader) in [(&traefik, &portway), (&portway, &traefik)] {
        for _ in 0..6 {
            servers.iter().for_each(Backend::reset);
            let issued = issuer.client(8000).host("app.localhost").get("/").await;
            let chosen = servers
                .iter()
                .position(|server| server.seen().iter().any(|seen| seen.path() == "/"))
                .unwrap();
            for _ in 0..3 {
                servers.iter().for_each(Backend::reset);
                let answer = reader
                    .client(8000)
                    .host("app.localhost")
                    .get("/")
                    .header("Cookie", issued.cookie().unwrap())
                    .await;
                assert_eq!(
                    answer.header("set-cookie"),
                    None,
                    "a cookie of the other proxy is as good as our own"
                );
                assert!(
                    servers[chosen].seen().iter().any(|seen| seen.path() == "/"),
                    "the cookie leads to another server"
                );
            }
        }
    }
}

#[tokio::test]
async fn both_refuse_who_asks_too_fast() {
    let (_servers, traefik, portway) = both().await;
    let mut refusals = Vec::new();
    for subject in [&traefik, &portway] {
        let client = subject.client(8000).host("app.localhost");
        let answers = futures_util::future::join_all(
            (0..250).map(|number| client.get(&format!("/api/{number}")).try_send()),
        )
        .await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(
            (100..240).contains(&served),
            "{served} of 250 at once were served"
        );
        let refused = answers.iter().find(|answer| answer.status != 200).unwrap();
        assert!(refused.header("retry-after").is_some() && refused.header("x-retry-in").is_some());
        refusals.push((
            refused.status,
            refused.text(),
            refused.header("content-type").map(str::to_owned),
        ));
    }
    assert_eq!(refusals[0], refusals[1]);
}
