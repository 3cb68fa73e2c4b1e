//! The process is killed at every step of an order, before and after the authority hears of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::gate::{Act, Gate};
use super::pebble::Pebble;
use super::{STEADY, at, edge, http, routing, stored};
use crate::support::{backend, within};

/// The requests of an order, by what is in their path and which of that kind they are.
const STEPS: [(&str, usize); 11] = [
    ("/dir", 1),
    ("/nonce-plz", 1),
    ("/sign-me-up", 1),
    ("/order-plz", 1),
    ("/authZ/", 1),
    ("/chalZ/", 1),
    ("/authZ/", 2),
    ("/my-order/", 1),
    ("/finalize-order/", 1),
    ("/my-order/", 2),
    ("/certZ/", 1),
];

#[tokio::test]
async fn a_kill_at_any_step_loses_nothing_and_costs_at_most_one_order() {
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let pebble = Pebble::new();
    let running = pebble.start(STEADY).await;
    let gate = Gate::new(&pebble).await;
    let routing = routing(&server, &["Host(`a.test`)"]);
    let mut key = Value::Null;
    for (index, step) in STEPS.iter().enumerate() {
        for after in [false, true] {
            let point = format!("{step:?}, after: {after}");
            let storage = dir.path().join(format!("{index}{after}.json"));
            // A key takes its time: from the first order on it is there, but the account is yet to be registered.
            if index > 2 {
                let account =
                    json!({"Email": "me@example.com", "Registration": null, "PrivateKey": key});
                let text = json!({"le": {"Account": account, "Certificates": null}});
                fs::write(&storage, text.to_string()).unwrap();
            }
            let (orders, accounts) = (running.orders(), running.accounts());
            let start =
                || edge(&pebble, &storage, &routing, &http()).install(&at(&gate.directory()));
            let pid = Arc::new(AtomicU32::new(0));
            gate.script(killing(*step, after, Arc::clone(&pid)));
            let mut first = start().no_wait().run().await;
            pid.store(first.pid(), Ordering::SeqCst);
            within(Duration::from_secs(60), &point, async || {
                (!first.is_running()).then_some(())
            })
            .await;
            drop(first);
            let known = account(&storage);
            gate.script(|_| Act::Pass);
            let second = start().run().await;
            pebble.serves(&second, "a.test", 120).await;
            key = account(&storage);
            assert!(
                known.is_null() || known == key,
                "{point}: an account was lost"
            );
            // An order that the authority made and we never heard of is made again, and so may be one whose answer the authority looked
            // for while nobody was there.
            let unheard = matches!((*step, after), (("/order-plz", _) | ("/chalZ/", _), true));
            let unanswered = *step == ("/authZ/", 2);
            let most = if unheard || unanswered { 2 } else { 1 };
            let made = running.orders() - orders;
            assert!(made <= most, "{point}: {made} orders");
            let registered = running.accounts() - accounts;
            assert!(registered <= 1, "{point}: {registered} accounts");
        }
    }
}

/// Kills a process at a moment of its order that nobody chose: so many milliseconds after so many requests.
fn killing_later(
    requests: usize,
    delay: Duration,
    pid: Arc<AtomicU32>,
) -> impl Fn(&str) -> Act + Send {
    let seen = AtomicUsize::new(0);
    move |_| {
        if seen.fetch_add(1, Ordering::SeqCst) + 1 == requests {
            let pid = Arc::clone(&pid);
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                let pid = Pid::from_raw(pid.load(Ordering::SeqCst).try_into().unwrap());
                kill_process(pid.unwrap(), Signal::KILL).ok();
            });
        }
        Act::Pass
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_and_costs_at_most_one_order() {
    let given = std::env::var("PORTWAY_TEST_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    // To be seen when it fails.
    eprintln!("PORTWAY_TEST_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let (server, dir) = (backend("server").run().await, tempfile::tempdir().unwrap());
    let pebble = Pebble::new();
    let running = pebble.start(STEADY).await;
    let gate = Gate::new(&pebble).await;
    let routing = routing(&server, &["Host(`a.test`)"]);
    let mut key = Value::Null;
    for round in 0..20 {
        let requests = chance.usize(1..=12);
        let delay = Duration::from_millis(chance.u64(0..120));
        let point = format!("round {round}: {delay:?} after request {requests}");
        let storage = dir.path().join(format!("random{round}.json"));
        if !key.is_null() {
            let account =
                json!({"Email": "me@example.com", "Registration": null, "PrivateKey": key});
            let text = json!({"le": {"Account": account, "Certificates": null}});
            fs::write(&storage, text.to_string()).unwrap();
        }
        let (orders, accounts) = (running.orders(), running.accounts());
        let start = || edge(&pebble, &storage, &routing, &http()).install(&at(&gate.directory()));
        let pid = Arc::new(AtomicU32::new(0));
        gate.script(killing_later(requests, delay, Arc::clone(&pid)));
        let mut first = start().no_wait().run().await;
        pid.store(first.pid(), Ordering::SeqCst);
        // An order may be over before it has made so many requests.
        let end = Instant::now() + Duration::from_secs(20);
        while first.is_running() && Instant::now() < end && !has_certificate(&storage) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.script(|_| Act::Pass);
        drop(first);
        let (known, had) = (account(&storage), has_certificate(&storage));
        let second = start().run().await;
        pebble.serves(&second, "a.test", 120).await;
        key = account(&storage);
        assert!(
            known.is_null() || known == key,
            "{point}: an account was lost"
        );
        let made = running.orders() - orders;
        assert!(made <= if had { 1 } else { 2 }, "{point}: {made} orders");
        let registered = running.accounts() - accounts;
        assert!(registered <= 1, "{point}: {registered} accounts");
    }
}

/// Whether a certificate is stored.
fn has_certificate(storage: &Path) -> bool {
    storage.exists() && stored(storage)["le"]["Certificates"].is_array()
}

/// A script that kills a process at one step.
fn killing(
    (path, nth): (&'static str, usize),
    after: bool,
    pid: Arc<AtomicU32>,
) -> impl Fn(&str) -> Act + Send {
    let seen = AtomicUsize::new(0);
    move |line| {
        if !line.contains(path) || seen.fetch_add(1, Ordering::SeqCst) + 1 != nth {
            return Act::Pass;
        }
        match (pid.load(Ordering::SeqCst), after) {
            (pid, false) => Act::KillBefore(pid),
            (pid, true) => Act::KillAfter(pid),
        }
    }
}

/// The key of the stored account.
fn account(storage: &Path) -> Value {
    match storage.exists() {
        true => stored(storage)["le"]["Account"]["PrivateKey"].clone(),
        false => Value::Null,
    }
}
