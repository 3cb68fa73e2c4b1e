//! Item 5 of what must be shown: steady traffic through reloads, a server that dies and returns, and one that fails its check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Client, Reply, backend, eventually, proxy, routed};

const SECONDS: u64 = 30;
const PER_SECOND: u64 = 200;

async fn traffic(
    client: Client,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    done: Arc<AtomicUsize>,
) {
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(Arc::new(tokio::sync::Mutex::new(
            client.connect().await.unwrap(),
        )));
    }
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / PER_SECOND));
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..SECONDS * PER_SECOND {
        ticks.tick().await;
        let (client, failures, done) = (client.clone(), Arc::clone(&failures), Arc::clone(&done));
        // Three of four requests reuse a connection, the fourth opens its own; each tenth carries a body,
        // except while a server is killed: what has been sent and may have been processed must not be sent twice.
        let kept = (number % 4 != 0).then(|| Arc::clone(&connections[(number % 8) as usize]));
        requests.spawn(async move {
            let (method, body) =
                if number % 10 == 0 && !(6 * PER_SECOND..9 * PER_SECOND).contains(&number) {
                    ("POST", Some(crate::support::full("body".into())))
                } else {
                    ("GET", None)
                };
            let answer = match kept {
                None if method == "POST" => client.post("/", "body").try_send().await,
                None => client.get("/").try_send().await,
                Some(connection) => {
                    let mut connection = connection.lock().await;
                    let request = connection.request(method, "/", &[], body);
                    let mut answer = connection.send(request).await;
                    if answer.is_err() && connection.is_closed() {
                        // The proxy may end a connection between requests, never within one: a fresh one must serve.
                        *connection = client.connect().await.unwrap();
                        let request = connection.request(method, "/", &[], None);
                        answer = connection.send(request).await;
                    }
                    answer
                }
            };
            match answer {
                Ok(answer) if answer.status == 200 => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => failures.lock().unwrap().push(format!(
                    "request {number}: {} {}",
                    answer.status,
                    answer.text()
                )),
                Err(error) => failures
                    .lock()
                    .unwrap()
                    .push(format!("request {number}: {error:?}")),
            }
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_storm() {
    let healthy = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&healthy);
    let checked = backend("checked")
        .reply(move |seen| {
            let failing = seen.path() == "/health" && !flag.load(Ordering::SeqCst);
            Reply::with(
                if failing { 500 } else { 200 },
                &[("X-Backend", "checked")],
                "fine",
            )
        })
        .run()
        .await;
    let steady = backend("steady").run().await;
    let mortal = backend("mortal").run().await;
    let mortal_addr = mortal.addr;
    let urls = [checked.url(), steady.url(), mortal.url()];
    let text = |round: usize| {
        let options = format!(
            "        healthCheck: {{path: /health, interval: 200ms, timeout: 1s}}\n  middlewares: {{m{round}: {{addPrefix: {{prefix: /x{round}}}}}}}\n"
        );
        routed("PathPrefix(`/`)", &urls, &options)
    };
    let proxy = proxy(&text(0)).run().await;
    let (failures, done) = (
        Arc::new(std::sync::Mutex::new(Vec::new())),
        Arc::new(AtomicUsize::new(0)),
    );
    let traffic = tokio::spawn(traffic(
        proxy.client(),
        Arc::clone(&failures),
        Arc::clone(&done),
    ));
    let mut mortal = Some(mortal);
    for round in 1..=100 {
        tokio::time::sleep(Duration::from_millis(SECONDS * 1000 / 101)).await;
        proxy.write_routing("main.yml", &text(round));
        match round {
            25 => mortal.take().expect("still alive").kill().await,
            50 => mortal = Some(backend("mortal").at(mortal_addr).run().await),
            60 => healthy.store(false, Ordering::SeqCst),
            85 => healthy.store(true, Ordering::SeqCst),
            _ => {}
        }
    }
    traffic.await.unwrap();
    let failures = failures.lock().unwrap().clone();
    assert!(
        failures.is_empty(),
        "{} failed, {} answered: {:#?}",
        failures.len(),
        done.load(Ordering::Relaxed),
        &failures[..failures.len().min(10)]
    );
    assert_eq!(done.load(Ordering::Relaxed) as u64, SECONDS * PER_SECOND);
    // The last write may be a moment old only: on a busy machine the rounds outlast the traffic.
    eventually("the last of the reloads is live", async || {
        let raw = proxy.rawdata().await;
        let live = raw["middlewares"].get("m100@file").is_some();
        (live || crate::support::subject_is_traefik()).then_some(())
    })
    .await;
    assert!(
        mortal.is_some_and(|mortal| mortal.hits() > 0),
        "the server that returned gets traffic again"
    );
}
