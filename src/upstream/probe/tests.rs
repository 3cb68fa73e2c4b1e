use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use super::{Checker, Rhythm, probe};
use crate::{
    service::{
        BudgetSettings, CheckMode, Condition, HealthCheck, HoldSettings, PassiveSettings,
        Readiness, Scheme, Server, ServerSettings, ServerUrl, Service, ServiceSettings, Slots,
        Strategy, Timeouts, Transport,
    },
    upstream::transport::TransportSettings,
};

/// A server that answers each path with fixed bytes, and remembers what it was asked.
struct Canned {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Canned {
    async fn run(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(head) = read_head(&mut stream).await else {
                    continue;
                };
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                notes.lock().unwrap().push(head);
                let answer = answer(&path);
                if stream.write_all(&answer).await.is_err() || answer.ends_with(ENDLESS) {
                    while stream.write_all(ENDLESS).await.is_ok() {}
                }
                if answer.is_empty() && path == "/silent" {
                    // Holds the connection until the other side gives up.
                    drop(stream.read(&mut [0]).await);
                }
            }
        });
        Self {
            address,
            heard,
            _task: task,
        }
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

const ENDLESS: &[u8] = b"4\r\nmore\r\n";

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn status(line: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\n{headers}content-length: 0\r\n\r\n").into_bytes()
}

fn settings(url: &str, check: HealthCheck, transport: Arc<Transport>) -> ServiceSettings {
    ServiceSettings {
        name: "st@file".into(),
        servers: vec![ServerSettings {
            url: ServerUrl::parse(url).unwrap(),
            weight: 1,
            preserve_path: false,
            addresses: vec!["127.0.0.1".parse().unwrap()],
            condition: Condition::Ready,
        }],
        strategy: Strategy::RoundRobin,
        sticky: None,
        pass_host_header: true,
        transport,
        health_check: Some(Arc::new(check)),
        passive: None,
        flush_interval: None,
        budget: BudgetSettings::default(),
        hold: HoldSettings::default(),
        warm_up: None,
        timeouts: Timeouts::default(),
        outliers: None,
        hedge: None,
    }
}

fn plain() -> Arc<Transport> {
    Arc::new(Transport::plain("default@internal".into()))
}

fn server(url: &str, transport: Arc<Transport>) -> Arc<Server> {
    let settings = settings(url, HealthCheck::default(), transport);
    let service = Service::build(settings, None, &Slots::default(), Instant::now());
    Arc::clone(&service.servers[0])
}

async fn ask(canned: &Canned, check: HealthCheck) -> Result<(), String> {
    let url = format!("http://{}", canned.address);
    probe(&server(&url, plain()), &check).await
}

fn at(path: &str) -> HealthCheck {
    HealthCheck {
        path: path.to_owned(),
        ..HealthCheck::default()
    }
}

#[tokio::test]
async fn verdicts() {
    let canned = Canned::run(|path| match path {
        "/ok" => status("200 OK", ""),
        "/399" => status("399 Odd", ""),
        "/404" => status("404 Not Found", ""),
        "/endless" => [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            ENDLESS,
        ]
        .concat(),
        "/huge" => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1_000_000)).into_bytes(),
        "/garbage" => b"SSH-2.0-OpenSSH\r\n".to_vec(),
        "/hop" => status("302 Found", "location: ok\r\n"),
        "/round" => status("307 Again", "location: /round\r\n"),
        "/away" => status("302 Found", "location: http://198.51.100.1/\r\n"),
        _ => Vec::new(),
    })
    .await;
    let wanting = |path, status| HealthCheck {
        status: Some(status),
        ..at(path)
    };
    for (check, expected) in [
        (at("/ok"), ""),
        (at("/399"), ""),
        (at("/404"), "status 404"),
        (wanting("/404", 404), ""),
        (wanting("/ok", 204), "status 200, expected 204"),
        (at("/endless"), ""),
        (at("/huge"), "too large"),
        (at("/garbage"), "the exchange failed"),
        (at("/hop"), ""),
        (wanting("/hop", 200), ""),
        (
            HealthCheck {
                follow_redirects: false,
                ..wanting("/hop", 302)
            },
            "",
        ),
        (at("/round"), "more than 10 redirects"),
        // Somebody else's answer would say nothing about this server.
        (wanting("/away", 302), ""),
        (wanting("/away", 200), "status 302, expected 200"),
        (at("/closed"), "closed without an answer"),
        (
            HealthCheck {
                timeout: Duration::from_millis(50),
                ..at("/silent")
            },
            "no answer within 50ms",
        ),
        (at("http://elsewhere/"), "is not a path"),
    ] {
        let got = ask(&canned, check.clone()).await.err().unwrap_or_default();
        let same = if expected.is_empty() {
            got.is_empty()
        } else {
            got.contains(expected)
        };
        assert!(same, "{}: {got:?}, expected {expected:?}", check.path);
    }
}

#[tokio::test]
async fn an_absolute_redirect_to_the_same_machine_is_followed() {
    let inner = Canned::run(|path| match path {
        "/in?x" => status("204 No Content", ""),
        _ => status("500 Oops", ""),
    })
    .await;
    let port = inner.address.port();
    for (host, expected) in [
        ("app.example", true),
        ("127.0.0.1", true),
        ("localhost", false),
    ] {
        let location = format!("location: http://{host}:{port}/a/../in?x\r\n");
        let outer = Canned::run(move |_| status("301 Moved", &location)).await;
        let check = HealthCheck {
            hostname: Some(HeaderValue::from_static("app.example")),
            status: Some(204),
            ..at("/")
        };
        assert_eq!(ask(&outer, check).await.is_ok(), expected, "{host}");
    }
}

#[tokio::test]
async fn the_request_is_as_configured() {
    let canned = Canned::run(|_| status("200 OK", "")).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-probe", HeaderValue::from_static("1"));
    headers.insert("host", HeaderValue::from_static("ignored"));
    let check = HealthCheck {
        method: Method::HEAD,
        headers,
        ..at("live?deep=1")
    };
    ask(&canned, check.clone()).await.unwrap();
    let head = canned.heard().remove(0);
    let own = format!("host: {}\r\n", canned.address);
    for part in [
        "HEAD /live?deep=1 HTTP/1.1\r\n",
        &own,
        "x-probe: 1\r\n",
        "user-agent: Portway-HealthCheck/",
        "connection: close\r\n",
    ] {
        assert!(head.contains(part), "{part:?} in {head}");
    }
    assert!(!head.contains("ignored"));

    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("mine"));
    let named = HealthCheck {
        hostname: Some(HeaderValue::from_static("app.example")),
        headers,
        ..check
    };
    ask(&canned, named).await.unwrap();
    let head = canned.heard().remove(0);
    assert!(
        head.contains("host: app.example\r\n") && head.contains("user-agent: mine\r\n"),
        "{head}"
    );
    assert!(!head.contains("Portway"), "{head}");
}

#[tokio::test]
async fn the_port_may_differ_and_refusals_are_named() {
    let canned = Canned::run(|_| status("200 OK", "")).await;
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let server = server(&format!("http://{free}"), plain());
    let reason = probe(&server, &at("/")).await.unwrap_err();
    assert!(
        reason.contains(&format!("cannot connect to {free}")),
        "{reason}"
    );
    let check = HealthCheck {
        port: Some(canned.address.port()),
        ..at("/")
    };
    probe(&server, &check).await.unwrap();
    assert!(canned.heard()[0].contains(&format!("host: {}\r\n", canned.address)));
}

/// A gRPC server whose health answer is `message`, with this status in its trailers (or its head, if there is no message).
async fn grpc_server(
    message: Option<&'static [u8]>,
    grpc_status: &'static str,
) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    let answer = move |request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&asked[..], [0; 5]);
        let status = HeaderValue::from_static(grpc_status);
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.clone())]);
        let mut response = Response::new(match message {
            Some(message) => Full::new(Bytes::from_static(message))
                .with_trailers(async move { Some(Ok(trailers)) })
                .boxed(),
            None => Full::default().boxed(),
        });
        if message.is_none() {
            response.headers_mut().insert("grpc-status", status);
        }
        Ok::<_, Infallible>(response)
    };
    task.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = http2::Builder::new(TokioExecutor::new());
            drop(
                connection
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await,
            );
        }
    });
    (address, task)
}

#[tokio::test]
async fn grpc() {
    let check = HealthCheck {
        mode: CheckMode::Grpc,
        ..HealthCheck::default()
    };
    for (message, grpc_status, expected) in [
        (Some(&[0, 0, 0, 0, 2, 8, 1][..]), "0", ""),
        (Some(&[0, 0, 0, 0, 2, 8, 2]), "0", "NOT_SERVING"),
        (Some(&[0, 0, 0, 0, 0]), "0", "serving status 0"),
        (Some(&[0, 0, 0, 0, 2, 8, 1]), "14", "gRPC status 14"),
        (None, "12", "does not offer grpc.health.v1"),
    ] {
        let (address, _task) = grpc_server(message, grpc_status).await;
        let server = server(&format!("http://{address}"), plain());
        let got = probe(&server, &check).await.err().unwrap_or_default();
        let same = if expected.is_empty() {
            got.is_empty()
        } else {
            got.contains(expected)
        };
        assert!(same, "{got:?}, expected {expected:?}");
    }
    let canned = Canned::run(|_| status("200 OK", "")).await;
    assert!(ask(&canned, check).await.is_err(), "HTTP/1.1 is no gRPC");
}

#[tokio::test]
async fn tls_as_the_transport_says() {
    let key = rcgen::generate_simple_self_signed(["app.example".to_owned()]).unwrap();
    let pem = key.cert.pem().into_bytes();
    let config = ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![key.cert.der().clone()], key.signing_key.into())
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                drop(stream.write_all(&status("200 OK", "")).await);
                drop(stream.read(&mut [0; 1024]).await);
            }
        }
    });
    let mut trusting = TransportSettings::new("t@file".into());
    trusting.root_cas = vec![pem];
    trusting.server_name = "app.example".into();
    let roots = Arc::new(rustls::RootCertStore::empty());
    let transport = trusting.build(None, &roots).unwrap();
    probe(&server(&format!("https://{address}"), transport), &at("/"))
        .await
        .unwrap();

    let reason = probe(&server(&format!("https://{address}"), plain()), &at("/"))
        .await
        .unwrap_err();
    assert!(reason.contains("TLS handshake failed"), "{reason}");
}

#[tokio::test]
async fn a_checker_follows_servers_and_configuration() {
    let well = Arc::new(Mutex::new(true));
    let state = Arc::clone(&well);
    let canned = Canned::run(move |_| match *state.lock().unwrap() {
        true => status("200 OK", ""),
        false => status("500 Oops", ""),
    })
    .await;
    let url = format!("http://{}", canned.address);
    let check = HealthCheck {
        interval: Duration::from_millis(5),
        unhealthy_interval: Duration::from_millis(5),
        ..at("/")
    };
    let (events, mut heard) = mpsc::channel(100);
    let mut checker = Checker::new(move |service, server, change| {
        let event = (service.to_owned(), Arc::clone(&server.name), change.up);
        events.try_send(event).unwrap();
    });
    let slots = Slots::default();
    let service = Arc::new(Service::build(
        settings(&url, check.clone(), plain()),
        None,
        &slots,
        Instant::now(),
    ));
    let server = Arc::clone(&service.servers[0]);
    checker.reconcile([&service]);
    assert_eq!(checker.len(), 1);
    for up in [false, true] {
        *well.lock().unwrap() = up;
        let event = heard.recv().await.unwrap();
        assert_eq!(event, ("st@file".to_owned(), Arc::from(url.as_str()), up));
        assert_eq!(server.usable(), up);
    }

    // The same check on the same server goes on, another one starts anew.
    let task = checker.running[&server.serial()].task.id();
    let again = Service::build(
        settings(&url, check.clone(), plain()),
        None,
        &slots,
        Instant::now(),
    );
    let kept = Service::build(
        ServiceSettings {
            transport: Arc::clone(&service.transport),
            ..settings(&url, check.clone(), plain())
        },
        Some(&service),
        &slots,
        Instant::now(),
    );
    checker.reconcile([&Arc::new(kept)]);
    assert_eq!(checker.running[&server.serial()].task.id(), task);
    checker.reconcile([&Arc::new(again)]);
    assert!(!checker.running.contains_key(&server.serial()));
    checker.reconcile([]);
    assert!(checker.is_empty());
}

#[test]
fn rhythm() {
    let rhythm = |known| Rhythm {
        started: tokio::time::Instant::now(),
        known,
    };
    let check = HealthCheck {
        interval: Duration::from_secs(30),
        unhealthy_interval: Duration::from_secs(4),
        ..HealthCheck::default()
    };
    for (known, readiness, percent, millis) in [
        (true, Readiness::Ready, 0, 30_000),
        (true, Readiness::Ready, 10, 33_000),
        (true, Readiness::Ready, -10, 27_000),
        (true, Readiness::Down, 0, 4_000),
        (false, Readiness::Waiting, 0, 250),
        (false, Readiness::Down, 0, 250),
    ] {
        let pause = rhythm(known).pause(&check, readiness, percent);
        assert_eq!(pause.as_millis(), millis, "{known} {readiness:?} {percent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_server_is_not_asked_hastily_for_ever() {
    let rhythm = Rhythm {
        started: tokio::time::Instant::now(),
        known: false,
    };
    tokio::time::advance(super::WARM_UP).await;
    let pause = rhythm.pause(&HealthCheck::default(), Readiness::Down, 0);
    assert_eq!(pause, HealthCheck::default().unhealthy_interval);
}

#[test]
fn a_check_of_another_scheme_follows_its_port() {
    let over_tls = HealthCheck {
        scheme: Some(Scheme::Https),
        ..HealthCheck::default()
    };
    for (url, port, host) in [
        ("http://app", 443, "app"),
        ("http://app:8080", 8080, "app:8080"),
        ("http://[::1]", 443, "[::1]"),
    ] {
        let server = server(url, plain());
        let line = super::line::Line::new(&server, &over_tls);
        assert_eq!(
            (line.port, line.host.to_str().unwrap()),
            (port, host),
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_trip_by_traffic_is_healed_by_a_probe() {
    let canned = Canned::run(|_| status("200 OK", "")).await;
    let url = format!("http://{}", canned.address);
    let check = HealthCheck {
        interval: Duration::from_secs(3600),
        unhealthy_interval: Duration::from_millis(5),
        ..at("/")
    };
    let passive = Some(PassiveSettings {
        failure_window: Duration::from_secs(3600),
        max_failed_attempts: 1,
    });
    let settings = ServiceSettings {
        passive,
        ..settings(&url, check, plain())
    };
    let service = Arc::new(Service::build(
        settings,
        None,
        &Slots::default(),
        Instant::now(),
    ));
    let (events, mut heard) = mpsc::channel(10);
    let mut checker = Checker::new(move |_, _, change| events.try_send(change.up).unwrap());
    checker.reconcile([&service]);
    while service.servers[0].health.awaits_first_probe() {
        tokio::task::yield_now().await;
    }
    let fault = crate::exchange::Fault::server(crate::exchange::FaultKind::Reset);
    service.servers[0].observe(crate::service::Outcome::Failed(fault));
    assert!(!service.servers[0].usable());
    assert_eq!(heard.recv().await, Some(true));
    assert!(service.servers[0].usable());
}

#[tokio::test]
async fn a_server_without_a_check_that_joins_others_is_reached_first() {
    let canned = Canned::run(|_| status("200 OK", "")).await;
    let url = format!("http://{}", canned.address);
    let unchecked = |url: &str| ServiceSettings {
        health_check: None,
        ..settings(url, HealthCheck::default(), plain())
    };
    let slots = Slots::default();
    let before = Service::build(
        unchecked("http://127.0.0.1:1"),
        None,
        &slots,
        Instant::now(),
    );
    let mut both = unchecked(&url);
    both.servers.extend(unchecked("http://127.0.0.1:2").servers);
    let service = Arc::new(Service::build(both, Some(&before), &slots, Instant::now()));
    let mut checker = Checker::new(|_, _, _| {});
    let mut seat = service.room.enter(1).unwrap();
    checker.reconcile([&service]);
    seat.called().await;
    let [there, absent] = &*service.servers else {
        panic!("two servers");
    };
    assert!(there.usable());
    while absent.status().reason != "it cannot be reached" {
        tokio::task::yield_now().await;
    }
    assert_eq!(absent.readiness(), Readiness::Waiting);
    let trying = checker.running[&absent.serial()].task.id();
    checker.reconcile([&service]);
    assert_eq!(checker.len(), 1, "who was reached is left alone");
    assert_eq!(checker.running[&absent.serial()].task.id(), trying);
}

#[tokio::test]
async fn a_server_that_requests_wait_for_is_asked_soon() {
    let well = Arc::new(Mutex::new(false));
    let state = Arc::clone(&well);
    let canned = Canned::run(move |_| match *state.lock().unwrap() {
        true => status("200 OK", ""),
        false => status("500 Oops", ""),
    })
    .await;
    let url = format!("http://{}", canned.address);
    let check = HealthCheck {
        unhealthy_interval: Duration::from_secs(3600),
        ..at("/")
    };
    let service = Arc::new(Service::build(
        settings(&url, check, plain()),
        None,
        &Slots::default(),
        Instant::now(),
    ));
    // Known before, so that nothing else makes the checker hurry.
    let health = &service.servers[0].health;
    drop(health.probe_failed("x", crate::service::Thresholds::default(), Instant::now()));
    let mut checker = Checker::new(|_, _, _| {});
    let mut seat = service.room.enter(1).unwrap();
    *well.lock().unwrap() = true;
    checker.reconcile([&service]);
    drop(seat);
    seat = service.room.enter(1).unwrap();
    tokio::time::timeout(Duration::from_secs(20), seat.called())
        .await
        .unwrap();
    assert!(service.servers[0].usable() && service.room.is_proven());
}
