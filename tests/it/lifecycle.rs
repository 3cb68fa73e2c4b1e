//! Start and end: signals, draining, ports in use, idle connections.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{
    Backend, Proxy, Raw, Reply, all_to, backend, eventually, proxy, subject_is_traefik, within,
};

async fn slow_server() -> Backend {
    backend("slow")
        .reply(|seen| {
            if seen.path() == "/slow" {
                Reply::default()
                    .pause(Duration::from_millis(1200))
                    .write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            } else {
                Reply::status(200, "quick")
            }
        })
        .run()
        .await
}

async fn stage(server: &Backend, transport: serde_json::Value) -> Proxy {
    let life = if transport == json!({}) {
        transport
    } else {
        json!({"transport": transport})
    };
    proxy(&all_to(&[server.url()]))
        .entry_point("web", &life)
        .entry_point("traefik", &life)
        .run()
        .await
}

#[tokio::test]
async fn sigterm_finishes_what_was_begun() {
    let server = slow_server().await;
    let mut proxy = stage(
        &server,
        json!({"lifeCycle": {"requestAcceptGraceTimeout": "500ms", "graceTimeOut": "10s"}}),
    )
    .await;
    let client = proxy.client();
    let mut kept = client.connect().await.unwrap();
    assert_eq!(kept.get("/").await.status, 200);
    let in_flight = tokio::spawn({
        let client = client.clone();
        async move { client.get("/slow").await }
    });
    eventually("the slow request is at the server", async || {
        server.seen().len().ge(&1).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.signal("TERM");
    // Still accepting, but ping says that the end is near.
    let ping = eventually("ping tells the balancer in front", async || {
        proxy
            .admin()
            .get("/ping")
            .try_send()
            .await
            .ok()
            .filter(|answer| answer.status == 503)
    })
    .await;
    assert_eq!(ping.text(), "Service Unavailable");
    assert_eq!(
        client.get("/").await.status,
        200,
        "new requests are still served within requestAcceptGraceTimeout"
    );
    eventually("new connections are refused", async || {
        TcpStream::connect(proxy.addr("web"))
            .await
            .err()
            .map(|_| ())
    })
    .await;
    let answer = in_flight.await.unwrap();
    assert_eq!(
        (
            answer.status,
            answer.text().as_str(),
            answer.header("connection")
        ),
        (200, "done", Some("close"))
    );
    eventually("idle connections are closed", async || {
        kept.is_closed().then_some(())
    })
    .await;
    assert!(proxy.exited().await.success());
}

#[tokio::test]
async fn http2_clients_are_told_to_go() {
    let server = slow_server().await;
    let mut proxy = stage(&server, json!({"lifeCycle": {"graceTimeOut": "10s"}})).await;
    let mut connection = proxy.client().h2().connect().await.unwrap();
    assert_eq!(connection.get("/").await.status, 200);
    let request = connection.request("GET", "/slow", &[], None);
    let (answer, ()) = tokio::join!(connection.send(request), async {
        eventually("the slow request is at the server", async || {
            (server.hits() == 1).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.signal("TERM");
    });
    assert_eq!(answer.unwrap().text(), "done");
    eventually("GOAWAY ends the connection", async || {
        connection.is_closed().then_some(())
    })
    .await;
    assert!(proxy.exited().await.success());
}

#[tokio::test]
async fn the_grace_period_ends() {
    let server = backend("hang")
        .reply(|_| Reply::default().hang())
        .run()
        .await;
    let mut proxy = stage(&server, json!({"lifeCycle": {"graceTimeOut": "600ms"}})).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the request is at the server", async || {
        (server.hits() == 1).then_some(())
    })
    .await;
    let start = Instant::now();
    proxy.signal("TERM");
    assert!(proxy.exited().await.success());
    assert!(
        (Duration::from_millis(500)..Duration::from_secs(5)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert!(raw.rest().await.closed);
}

#[tokio::test]
async fn a_second_signal_forces_the_end() {
    if subject_is_traefik() {
        return;
    }
    let server = backend("hang")
        .reply(|_| Reply::default().hang())
        .run()
        .await;
    let mut proxy = stage(&server, json!({"lifeCycle": {"graceTimeOut": "60s"}})).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the request is at the server", async || {
        (server.hits() == 1).then_some(())
    })
    .await;
    proxy.signal("TERM");
    eventually("draining has begun", async || {
        TcpStream::connect(proxy.addr("web"))
            .await
            .err()
            .map(|_| ())
    })
    .await;
    assert!(proxy.is_running());
    let start = Instant::now();
    proxy.signal("TERM");
    proxy.exited().await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_drain_does_not_wait_for_connections_without_a_request() {
    let server = slow_server().await;
    for (what, bytes) in [
        ("silent", &b""[..]),
        (
            "half a handshake",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
        ("half a preface", b"PRI * HTTP/2.0\r\n"),
        (
            "HTTP/2 without settings",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        (
            "HTTP/2 that does not answer the farewell",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
    ] {
        let patient = json!({
            "lifeCycle": {"graceTimeOut": "60s"},
            "respondingTimeouts": {"headerTimeout": "60s", "idleTimeout": "60s"},
        });
        let mut proxy = stage(&server, patient).await;
        let mut raw = Raw::open(proxy.addr("web")).await;
        raw.send(bytes).await;
        // Long enough for the proxy to have read it.
        assert_eq!(proxy.client().get("/").await.status, 200);
        proxy.signal("TERM");
        let start = Instant::now();
        assert!(proxy.exited().await.success(), "{what}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{what}: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn a_request_that_has_arrived_before_the_drain_is_answered() {
    let server = slow_server().await;
    let patient = json!({"lifeCycle": {"graceTimeOut": "20s"}});
    let mut proxy = stage(&server, patient).await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HT").await;
    assert_eq!(proxy.client().get("/").await.status, 200);
    proxy.signal("TERM");
    raw.send("TP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    assert!(proxy.exited().await.success());
}

#[tokio::test]
async fn what_a_reload_leaves_behind_goes_without_another_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = format!("http://{}", listener.local_addr().unwrap());
    let server = slow_server().await;
    let proxy = proxy(&all_to(&[old])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut upstream = Raw { stream };
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    proxy.write_routing("main.yml", &all_to(&[server.url()]));
    // The connection is kept for the next request, until no configuration names its server.
    let closed = upstream.rest_for(Duration::from_secs(10)).await.closed;
    assert!(
        closed,
        "an idle worker keeps the configuration of yesterday"
    );
}

#[tokio::test]
async fn connections_have_a_life_time_and_a_number_of_requests() {
    let server = slow_server().await;
    let counted = stage(&server, json!({"keepAliveMaxRequests": 3})).await;
    let mut connection = counted.client().connect().await.unwrap();
    let mut closes = Vec::new();
    for _ in 0..3 {
        closes.push(
            connection
                .get("/")
                .await
                .header("connection")
                .map(str::to_owned),
        );
    }
    assert_eq!(closes, [None, None, Some("close".to_owned())]);
    let timed = stage(&server, json!({"keepAliveMaxTime": "300ms"})).await;
    let mut connection = timed.client().connect().await.unwrap();
    assert_eq!(connection.get("/").await.header("connection"), None);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(
        connection.get("/").await.header("connection"),
        Some("close")
    );
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let server = slow_server().await;
    let proxy = stage(
        &server,
        json!({"respondingTimeouts": {"idleTimeout": "400ms"}}),
    )
    .await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let start = Instant::now();
    let answer = raw.rest_for(Duration::from_secs(5)).await;
    assert_eq!(answer.statuses(), [200]);
    assert!(
        answer.closed
            && (Duration::from_millis(300)..Duration::from_secs(3)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn idle_connections_come_back_to_life() {
    // A connection that has been idle for a while gives its buffers back; the next request on it must not notice.
    let server = slow_server().await;
    let proxy = stage(&server, json!({})).await;
    let mut connection = proxy.client().connect().await.unwrap();
    for pause in [0, 300, 1500, 6000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        assert_eq!(
            connection.get("/").await.text(),
            "quick",
            "after {pause} ms"
        );
    }
}

#[test]
fn a_port_that_takes_a_privilege_is_a_clear_error() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first.is_ok_and(|port| port.trim() == "0") {
        // Here nobody needs a privilege.
        return;
    }
    // Where another user can get at it, unlike the directory that the tests are built in.
    let dir = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    let copy = dir.path().join("portway");
    std::fs::copy(crate::support::binary(), &copy).unwrap();
    let mut command = std::process::Command::new(copy);
    command
        .args(["--entryPoints.low.address=127.0.0.1:79"])
        .current_dir(dir.path());
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    }
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{log}");
    for word in [
        "entryPoints.low.address",
        "127.0.0.1:79",
        "NET_BIND_SERVICE",
    ] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut proxy = proxy(&all_to(&["http://127.0.0.1:1".to_owned()]))
        .entry_point("other", &json!({"address": address}))
        .no_wait()
        .run()
        .await;
    assert!(!proxy.exited().await.success());
    let log = proxy.log();
    assert!(
        log.contains(&address) && log.contains("in use") && log.contains("other"),
        "{log}"
    );
}

#[tokio::test]
async fn a_drain_serves_the_last_request_of_a_kept_connection() {
    if subject_is_traefik() {
        return;
    }
    let server = slow_server().await;
    let mut proxy = stage(&server, json!({"lifeCycle": {"graceTimeOut": "10s"}})).await;
    let client = proxy.client();
    let mut kept = client.connect().await.unwrap();
    assert_eq!(kept.get("/").await.header("connection"), None);
    proxy.signal("TERM");
    eventually("draining has begun", async || {
        TcpStream::connect(proxy.addr("web"))
            .await
            .err()
            .map(|_| ())
    })
    .await;
    // A client cannot know of the end yet: its request was on its way when the signal came.
    let last = kept.get("/").await;
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    assert!(proxy.exited().await.success());
}

#[tokio::test]
async fn an_entry_point_counts_its_own_connections() {
    if subject_is_traefik() {
        return;
    }
    let server = slow_server().await;
    let proxy = proxy(&all_to(&[server.url()]))
        .install(&json!({"core": {"workers": 3}}))
        .entry_point("small", &json!({"transport": {"maxConnections": 4}}))
        .run()
        .await;
    // Those of another entry point do not count, and the limit is not cut into shares of the workers.
    let mut others = Vec::new();
    for _ in 0..12 {
        others.push(TcpStream::connect(proxy.addr("web")).await.unwrap());
    }
    let mut ours = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::open(proxy.addr("small")).await;
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(raw.head().await.starts_with("HTTP/1.1 200"));
        ours.push(raw);
    }
    let mut one_more = Raw::open(proxy.addr("small")).await;
    one_more.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(one_more.head().await, "");
    let page = proxy.metrics().await;
    let refused = "portway_entrypoint_connections_refused_total{entrypoint=\"small\",reason=\"max_connections\"} 1";
    let lines: Vec<_> = page
        .lines()
        .filter(|line| line.contains("refused"))
        .collect();
    assert!(lines.contains(&refused), "{lines:?}");
    eventually("the log names the limit", async || {
        let log = proxy.log();
        log.contains("transport.maxConnections is reached")
            .then_some(())
    })
    .await;
    ours.pop();
    eventually("there is room again", async || {
        let mut raw = Raw::open(proxy.addr("small")).await;
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        raw.head().await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_can_connect_before_there_is_a_configuration() {
    if subject_is_traefik() {
        return;
    }
    let server = slow_server().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    // An engine that takes the connection and says nothing.
    let _engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let endpoint = format!("unix://{}", socket.display());
    let start = Instant::now();
    let proxy = proxy(&all_to(&[server.url()]))
        .install(&json!({"providers": {"docker": {"endpoint": endpoint}}}))
        .no_wait()
        .run()
        .await;
    eventually("it tells what it waits for", async || {
        let told = proxy.log().contains("waiting for the first configuration");
        assert!(
            told || TcpStream::connect(proxy.addr("web")).await.is_err(),
            "a client was let in before"
        );
        told.then_some(())
    })
    .await;
    // What the file says is not held up for ever.
    within(Duration::from_secs(30), "it serves", async || {
        let answer = proxy.client().get("/").try_send().await.ok()?;
        assert_eq!(answer.status, 200);
        Some(())
    })
    .await;
    assert!(start.elapsed() > Duration::from_secs(4));
}
