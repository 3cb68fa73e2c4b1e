//! Slow peers, peers that do not read, and more connections than there are descriptors (38, 42).

use std::time::{Duration, Instant};

use serde_json::json;

use super::Stage;
use crate::support::{Proxy, Raw, Reply, all_to, backend, eventually, proxy, within};

fn memory_kib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Clock ticks of processor time used so far.
fn ticks(proxy: &Proxy) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

async fn hasty() -> (Proxy, crate::support::Backend) {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()]))
        .entry_point(
            "web",
            &json!({"transport": {"respondingTimeouts": {"readTimeout": "1s"}}}),
        )
        .run()
        .await;
    (proxy, server)
}

/// Feeds `drops` one by one until the proxy hangs up, and says how long that took.
async fn drip(proxy: &Proxy, start: &[u8], drop: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send(start).await;
    loop {
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "the proxy goes on listening to a slow peer"
        );
        let sent = raw.send(drop).await;
        if !sent || raw.rest_for(Duration::from_millis(100)).await.closed {
            return begun.elapsed();
        }
    }
}

#[tokio::test]
async fn attack_38_slow_heads_are_cut_by_a_total_timeout() {
    let (proxy, server) = hasty().await;
    let took = drip(&proxy, b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n").await;
    assert!(took > Duration::from_millis(700), "{took:?}");
    assert_eq!(server.hits(), 0);
    drip(&proxy, b"", b"G").await;
}

#[tokio::test]
async fn attack_38_slow_bodies_are_cut_when_a_read_timeout_is_set() {
    let (proxy, server) = hasty().await;
    drip(
        &proxy,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
        b"x",
    )
    .await;
    assert_eq!(server.hits(), 0);
}

#[tokio::test]
async fn attack_38_client_hello_in_drops() {
    let (proxy, _server) = hasty().await;
    drip(
        &proxy,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0",
    )
    .await;
}

#[tokio::test]
async fn attack_38_silent_connections_do_not_hinder_others() {
    let (proxy, _server) = hasty().await;
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut raw = Raw::open(proxy.addr("web")).await;
        if number % 2 == 0 {
            raw.send("GET / HTTP/1.1\r\nX: ").await;
        }
        silent.push(raw);
    }
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(proxy.client().get("/").await.status, 200);
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn attack_38_peers_that_do_not_read_do_not_fill_memory() {
    let block = "x".repeat(1 << 20);
    let server = backend("server")
        .reply(move |seen| {
            if seen.target != "/big" {
                return Reply::status(200, "small");
            }
            let mut reply = Reply::raw(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                64 << 20
            ));
            for _ in 0..64 {
                reply = reply.write(&block);
            }
            reply
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    assert_eq!(proxy.client().get("/").await.status, 200);
    let before = memory_kib(&proxy);
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::open(proxy.addr("web")).await;
        raw.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
        readers.push(raw);
    }
    eventually("all big answers have begun", async || {
        (server.hits() == 9).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = memory_kib(&proxy).saturating_sub(before);
    assert!(
        grown < 24 * 1024,
        "512 MiB that nobody reads cost {grown} KiB of memory"
    );
    assert_eq!(proxy.client().get("/").await.status, 200);
}

#[tokio::test]
async fn attack_38_uploads_that_the_server_does_not_read_do_not_fill_memory() {
    let server = backend("server")
        .early()
        .reply(|seen| {
            if seen.target == "/big" {
                Reply::default().pause(Duration::from_secs(60))
            } else {
                Reply::status(200, "small")
            }
        })
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    assert_eq!(proxy.client().get("/").await.status, 200);
    let before = memory_kib(&proxy);
    let block = vec![b'x'; 1 << 20];
    let upload = async {
        let mut raw = Raw::open(proxy.addr("web")).await;
        raw.send("POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
            .await;
        for _ in 0..256 {
            if !raw.send(&block).await {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(2), upload)
        .await
        .ok();
    let grown = memory_kib(&proxy).saturating_sub(before);
    assert!(
        grown < 24 * 1024,
        "an upload that nobody reads cost {grown} KiB of memory"
    );
}

/// Descriptors of the proxy in the test that takes them all. Few, so that this process has enough of its own where the limit is 1024,
/// and for two workers, because each of them needs some for itself.
const DESCRIPTORS: u32 = 400;

#[tokio::test]
async fn attack_42_descriptors_run_out() {
    let server = backend("server").run().await;
    let mut proxy = proxy(&all_to(&[server.url()]))
        .install(&json!({"core": {"workers": 2}}))
        .max_files(DESCRIPTORS)
        .run()
        .await;
    assert_eq!(proxy.client().get("/").await.status, 200);
    // All at once: the accept loop finds the whole crowd in its queue, before any of its connections has had its turn.
    proxy.signal("STOP");
    let hoard = hoard(&proxy, DESCRIPTORS as usize + 50).await;
    proxy.signal("CONT");
    within(
        Duration::from_secs(20),
        "the accept loop comes to rest",
        async || {
            let before = ticks(&proxy);
            tokio::time::sleep(Duration::from_secs(1)).await;
            (ticks(&proxy) - before < 40).then_some(())
        },
    )
    .await;
    assert!(proxy.is_running());
    let ping = tokio::time::timeout(
        Duration::from_secs(10),
        proxy.admin().get("/ping").try_send(),
    );
    let ping = ping.await.map(|answer| answer.map(|answer| answer.status));
    assert!(
        matches!(ping, Ok(Ok(200))),
        "health and administration must stay reachable: {ping:?}"
    );
    drop(hoard);
    within(
        Duration::from_secs(15),
        "service is back once the connections are gone",
        async || {
            let answer =
                tokio::time::timeout(Duration::from_secs(2), proxy.client().get("/").try_send())
                    .await;
            answer
                .ok()?
                .ok()
                .filter(|answer| answer.status == 200)
                .map(|_| ())
        },
    )
    .await;
}

/// Opens `count` connections and holds on to them, whether the proxy does or not.
async fn hoard(proxy: &Proxy, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut hoard = Vec::new();
    for _ in 0..count {
        let connecting = tokio::net::TcpStream::connect(proxy.addr("web"));
        match tokio::time::timeout(Duration::from_millis(50), connecting).await {
            Ok(Ok(stream)) => hoard.push(stream),
            // The proxy may leave connections waiting, but it is its descriptors that run out here, not ours.
            Ok(Err(error)) => assert_ne!(
                error.raw_os_error(),
                Some(rustix::io::Errno::MFILE.raw_os_error()),
                "the test has no descriptors left"
            ),
            Err(_) => {}
        }
    }
    hoard
}

#[tokio::test]
async fn attack_38_half_open_clients_are_let_go() {
    // The client sends its request and closes its sending side: it gets its answer or is given up, but the connection does not linger.
    let stage = Stage::new().await;
    let mut raw = Raw::open(stage.proxy.addr("web")).await;
    raw.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::io::AsyncWriteExt::shutdown(&mut raw.stream)
        .await
        .unwrap();
    let answer = raw.rest().await;
    assert!(answer.closed, "a half open connection lingers");
    assert!(
        matches!(answer.statuses()[..], [] | [200 | 499]),
        "{:?}",
        answer.text()
    );
}
