//! A service of a swarm is updated and scaled, its tasks one by one and the new ones first, while requests come in.

#[path = "../it/docker/private.rs"]
mod private;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    load::{Load, Sample},
    portway, pressure,
    stack::IMAGES,
    turn,
};
use private::Engine;

const HOST: &str = "swarm.localhost";
const PER_SECOND: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_a_swarm_is_updated_and_scaled() {
    let _place = turn().await;
    let failures = |samples: &Vec<Sample>| -> Vec<Sample> {
        let failed = samples.iter().filter(|sample| sample.failed());
        failed.cloned().collect()
    };
    let (samples, log) =
        pressure::steady(changes, |(samples, _)| failures(samples).is_empty()).await;
    let failed = failures(&samples);
    let longest = samples.iter().map(|sample| sample.took).max();
    eprintln!(
        "an update and two scalings of a service of a swarm: {} requests, {} failed, the longest took {:?}",
        samples.len(),
        failed.len(),
        longest.unwrap_or_default(),
    );
    assert!(failed.is_empty(), "{failed:?}\n{log}");
    assert!(samples.len() >= 1000, "only {} requests", samples.len());
}

/// All of it: what came of the requests, and what the edge has written.
async fn changes() -> (Vec<Sample>, String) {
    let engine = Engine::start(IMAGES[0]);
    engine.init();
    let [address, _] = engine.edge(IMAGES[0], portway(), &["--log.level=DEBUG"]);
    let rule = format!("traefik.http.routers.web.rule=Host(`{HOST}`)");
    let port = "traefik.http.services.web.loadbalancer.server.port=80";
    let options = [
        "--label",
        &*rule,
        "--label",
        port,
        "--replicas",
        "3",
        "--no-healthcheck",
        "--update-order",
        "start-first",
        "--stop-grace-period",
        "5s",
    ];
    engine.service("web", &options, &[IMAGES[0], "replica"]);
    let first = served_by(address, 3).await;
    let load = load(address).start();
    sleep(Duration::from_secs(1)).await;
    for change in [
        &["update", "--quiet", "--force"][..],
        &["update", "--quiet", "--replicas", "5"],
        &["update", "--quiet", "--replicas", "2"],
    ] {
        let change = [&["service"], change, &["web"]].concat();
        tokio::task::block_in_place(|| engine.docker(&change));
    }
    let last = served_by(address, 2).await;
    assert!(first.is_disjoint(&last), "{first:?} {last:?}");
    sleep(Duration::from_secs(1)).await;
    let samples = load.finish().await;
    let log = engine.docker(&["logs", "edge"]);
    let lines: Vec<&str> = log.lines().collect();
    (samples, lines[lines.len().saturating_sub(60)..].join("\n"))
}

/// Waits until so many tasks answer; their names.
async fn served_by(address: SocketAddr, tasks: usize) -> BTreeSet<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let running = load(address).start();
        sleep(Duration::from_millis(300)).await;
        let samples = running.finish().await;
        let well = samples.iter().all(|sample| !sample.failed());
        let names: BTreeSet<String> = samples.into_iter().map(|sample| sample.server).collect();
        if well && names.len() == tasks {
            return names;
        }
        assert!(
            Instant::now() < deadline,
            "{tasks} tasks should answer, but: {names:?}"
        );
    }
}

fn load(address: SocketAddr) -> Load {
    Load {
        address,
        host: HOST.to_owned(),
        per_second: PER_SECOND,
        idempotency_key: false,
    }
}
