//! Black-box tests on a real Docker engine: while a stack changes, requests come in at a steady rate, and none may fail.
//!
//! They are a program of their own, because they need the machine for themselves. What is done, and with what load, is that of
//! `examples/zero-downtime`, which does the same to Traefik.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and says what it measured"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "connections of a test end with its runtime"
)]
#![allow(missing_debug_implementations, reason = "test types are never printed")]
#![allow(dead_code, reason = "the example uses what we do not")]

#[path = "../../examples/zero-downtime/edge.rs"]
mod edge;
#[path = "../../examples/zero-downtime/engine.rs"]
mod engine;
#[path = "../../examples/zero-downtime/load.rs"]
mod load;
#[path = "../../examples/zero-downtime/scenarios.rs"]
mod scenarios;
#[path = "../../examples/zero-downtime/stack.rs"]
mod stack;

mod certificates;
mod image;
mod pressure;
mod rollout;
mod swarm;
mod websocket;

use std::{path::Path, process::Command};

use scenarios::{AT_LEAST, Scenario};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

/// The program under test.
pub fn portway() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portway"))
}

/// Waits for an engine, the images, and its turn: stacks disturb each other on small machines.
pub async fn turn() -> SemaphorePermit<'static> {
    static READY: OnceCell<()> = OnceCell::const_new();
    static PLACES: Semaphore = Semaphore::const_new(1);
    READY
        .get_or_init(|| async {
            let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/setup");
            assert!(Command::new(setup).status().unwrap().success());
            stack::images(portway()).await.unwrap();
        })
        .await;
    PLACES.acquire().await.unwrap()
}

async fn loses_nothing(scenario: Scenario) {
    let _place = turn().await;
    let report = pressure::steady(
        || async {
            scenarios::run(scenario, portway(), Some(portway()))
                .await
                .unwrap()
        },
        |report| report.failures().is_empty(),
    )
    .await;
    let (all, failures) = (report.samples.len(), report.failures());
    let (begun, ended) = report.change;
    eprintln!(
        "{}: {all} requests, {} failed, the longest took {:?}, the change {:?}",
        scenario.title(),
        report.failed(),
        report.longest(),
        ended - begun,
    );
    if !failures.is_empty() {
        for sample in report
            .samples
            .iter()
            .filter(|sample| sample.failed())
            .take(20)
        {
            eprintln!(
                "  at {:?} after {:?}: {:?}",
                sample.at, sample.took, sample.outcome
            );
        }
        let lines: Vec<&str> = report.log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(60)..];
        panic!(
            "{failures:?} (the change from {begun:?} to {ended:?})\n{}",
            tail.join("\n")
        );
    }
    assert!(all >= AT_LEAST, "only {all} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_replica_is_restarted_in_turn() {
    loses_nothing(Scenario::Restarts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_container_is_recreated() {
    loses_nothing(Scenario::Recreate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_grows_and_shrinks() {
    loses_nothing(Scenario::Scale).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_killed() {
    loses_nothing(Scenario::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_changes() {
    loses_nothing(Scenario::NewImage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_rolled_over() {
    loses_nothing(Scenario::Rollout).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_is_away() {
    loses_nothing(Scenario::EngineAway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_edges_is_replaced() {
    loses_nothing(Scenario::NewEdge).await;
}
