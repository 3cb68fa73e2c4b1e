//! Many containers at once, and how much the engine is asked for them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{answers, ask, docker, engine::Stack};
use crate::support::within;

const CONTAINERS: usize = 300;

/// Passes requests on to the engine and counts the inspections among them.
fn counting(path: &std::path::Path) -> Arc<AtomicUsize> {
    let inspections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&inspections);
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, Arc::clone(&count)));
        }
    });
    inspections
}

async fn pass(mut client: UnixStream, inspections: Arc<AtomicUsize>) {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let path = host
        .strip_prefix("unix://")
        .unwrap_or("/var/run/docker.sock")
        .to_owned();
    let mut engine = UnixStream::connect(path).await.unwrap();
    let mut head = vec![0; 4096];
    let read = client.read(&mut head).await.unwrap_or(0);
    let line = String::from_utf8_lossy(&head[..read]).into_owned();
    let target = line.split(' ').nth(1).unwrap_or_default();
    if target.contains("/containers/")
        && target.contains("/json")
        && !target.contains("/containers/json")
    {
        inspections.fetch_add(1, Ordering::SeqCst);
    }
    if engine.write_all(&head[..read]).await.is_ok() {
        tokio::io::copy_bidirectional(&mut client, &mut engine)
            .await
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_containers_are_routable_within_seconds_and_one_more_costs_one_inspection() {
    let stack = Stack::new();
    let started = Instant::now();
    let run = stack.run.clone();
    let script = format!(
        "seq 1 {CONTAINERS} | xargs -P 4 -I N docker run -d --name {run}-N --label portway.test={run} \
         --label 'traefik.http.routers.rN.rule=Host(`hN.test`)' \
         --label traefik.http.services.sN.loadbalancer.server.port=80 --stop-timeout 1 \
         {} sh -c 'echo N > /www/index.html; trap exit TERM; httpd -f -p 80 -h /www & wait' >/dev/null",
        super::engine::IMAGE
    );
    let status = Command::new("bash").args(["-c", &script]).status().unwrap();
    assert!(status.success());
    eprintln!(
        "{CONTAINERS} containers started within {:?}",
        started.elapsed()
    );

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let inspections = counting(&socket);
    let started = Instant::now();
    let endpoint = format!("unix://{}", socket.display());
    let proxy = docker(&stack, &json!({"endpoint": endpoint})).run().await;
    within(Duration::from_secs(20), "all are routable", async || {
        let routers = proxy.rawdata().await["routers"]
            .as_object()
            .map_or(0, serde_json::Map::len);
        (routers >= CONTAINERS).then_some(())
    })
    .await;
    for number in [1, CONTAINERS / 2, CONTAINERS] {
        let host = format!("h{number}.test");
        assert_eq!(ask(&proxy, &host).await, (200, number.to_string()));
    }
    let took = started.elapsed();
    eprintln!("routable within {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(inspections.swap(0, Ordering::SeqCst), CONTAINERS);

    let labels = [
        ("traefik.http.routers.more.rule", "Host(`more.test`)"),
        ("traefik.http.services.more.loadbalancer.server.port", "80"),
    ];
    stack.serve("more", &labels, &[]);
    answers(&proxy, "more.test", 200, "more").await;
    assert_eq!(inspections.load(Ordering::SeqCst), 1);
}
