//! An engine that misbehaves in ways a real one cannot be made to: a small server that speaks just enough of its API.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

use super::{answers, ask, findings};
use crate::support::{Backend, Proxy, backend, eventually, proxy};

/// What the false engine does; changed while it runs.
#[derive(Default)]
struct State {
    containers: Vec<Value>,
    /// Paths that contain the first are answered with the second, byte for byte.
    faults: Vec<(&'static str, Vec<u8>)>,
    /// Paths that contain this are answered when it is gone.
    stuck: Option<&'static str>,
    seen: Vec<String>,
}

struct FalseEngine {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Option<String>>,
    running: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl FalseEngine {
    fn new() -> Self {
        let engine = Self {
            folder: tempfile::tempdir().unwrap(),
            state: Arc::default(),
            events: broadcast::channel(64).0,
            running: Mutex::default(),
        };
        engine.start();
        engine
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    fn start(&self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (state, events) = (Arc::clone(&self.state), self.events.clone());
        *self.running.lock().unwrap() = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state), events.subscribe()));
            }
        }));
    }

    /// The engine goes away, its streams too.
    fn stop(&self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.abort();
        }
        std::fs::remove_file(self.socket()).ok();
        self.cut();
    }

    /// Ends all streams of events.
    fn cut(&self) {
        self.events.send(None).ok();
    }

    fn event(&self, action: &str, id: &str, time: i64) {
        let event = json!({
            "Type": "container", "Action": action, "scope": "local", "time": time,
            "Actor": {"ID": id, "Attributes": {"signal": "15"}},
        });
        self.events.send(Some(format!("{event}\n"))).ok();
    }

    fn set(&self, containers: Vec<Value>) {
        self.state.lock().unwrap().containers = containers;
    }

    fn fault(&self, path: &'static str, answer: impl Into<Vec<u8>>) {
        self.state
            .lock()
            .unwrap()
            .faults
            .push((path, answer.into()));
    }

    /// Requests for such a path have no answer until the engine is healed.
    fn stick(&self, path: &'static str) {
        self.state.lock().unwrap().stuck = Some(path);
    }

    fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.stuck = None;
    }

    fn saw(&self, what: &str) -> bool {
        self.state
            .lock()
            .unwrap()
            .seen
            .iter()
            .any(|line| line.contains(what))
    }

    async fn proxy(&self, options: &Value) -> Proxy {
        let endpoint = format!("unix://{}", self.socket().display());
        proxy("")
            .install(&json!({"providers": {"docker": {"endpoint": endpoint}}}))
            .install(&json!({"providers": {"docker": options}}))
            .run()
            .await
    }
}

async fn serve(
    mut stream: UnixStream,
    state: Arc<Mutex<State>>,
    mut events: broadcast::Receiver<Option<String>>,
) {
    let mut head = vec![0; 8192];
    let read = stream.read(&mut head).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_stuck = || {
        let state = state.lock().unwrap();
        state.stuck.is_some_and(|path| target.contains(path))
    };
    while is_stuck() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = reply(&target, &mut state.lock().unwrap());
    stream.write_all(&answer).await.ok();
    if target.contains("/events") && answer.starts_with(b"HTTP/1.1 200") {
        while let Ok(Some(event)) = events.recv().await {
            if stream.write_all(event.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn reply(target: &str, state: &mut State) -> Vec<u8> {
    state.seen.push(target.to_owned());
    let fault = state.faults.iter().find(|(path, _)| target.contains(path));
    if let Some((_, answer)) = fault {
        return answer.clone();
    }
    if target.contains("/events") {
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
            .to_vec();
    }
    if target.contains("/version") {
        return answer(200, &json!({"ApiVersion": "1.41", "MinAPIVersion": "1.12"}));
    }
    if target.contains("/containers/json") {
        let list: Vec<Value> = state.containers.iter().map(summary).collect();
        return answer(200, &json!(list));
    }
    let id = target
        .split("/containers/")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let found = state
        .containers
        .iter()
        .find(|container| container["Id"].as_str() == id);
    found.map_or_else(
        || answer(404, &json!({"message": "no such container"})),
        |it| answer(200, it),
    )
}

fn answer(status: u16, body: &Value) -> Vec<u8> {
    raw(status, body.to_string().as_bytes())
}

fn raw(status: u16, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// What the list tells of an inspected container.
fn summary(container: &Value) -> Value {
    json!({
        "Id": container["Id"],
        "Names": [container["Name"]],
        "Labels": container["Config"]["Labels"],
        "State": container["State"]["Status"],
        "Status": "Up 2 minutes",
        "NetworkSettings": {"Networks": container["NetworkSettings"]["Networks"]},
    })
}

/// A container that serves `host` at the address of a back end.
fn container(name: &str, host: &str, server: &Backend) -> Value {
    json!({
        "Id": format!("id-{name}"),
        "Name": format!("/{name}"),
        "Created": "2026-01-01T00:00:00.5Z",
        "State": {"Status": "running", "Running": true},
        "HostConfig": {"NetworkMode": "net"},
        "Config": {"Labels": {
            (format!("traefik.http.routers.{name}.rule")): format!("Host(`{host}`)"),
            (format!("traefik.http.services.{name}.loadbalancer.server.port")):
                server.addr.port().to_string(),
        }},
        "NetworkSettings": {"Ports": {}, "Networks": {"net": {
            "NetworkID": "n1", "IPAddress": "127.0.0.1",
        }}},
    })
}

async fn hello(proxy: &Proxy, host: &str, name: &str) {
    answers(proxy, host, 200, &format!("\"name\":\"{name}\"")).await;
}

async fn overview(proxy: &Proxy) -> Value {
    proxy.admin().get("/api/overview").await.json()["sources"][0].clone()
}

#[tokio::test]
async fn an_engine_that_answers_500_leaves_the_routes_and_is_asked_again() {
    let (one, two) = (backend("one").run().await, backend("two").run().await);
    let engine = FalseEngine::new();
    engine.set(vec![container("one", "one.test", &one)]);
    let proxy = engine.proxy(&json!({"reconcileInterval": "1s"})).await;
    hello(&proxy, "one.test", "one").await;
    assert_eq!(overview(&proxy).await["connected"], true);

    engine.fault(
        "/containers/json",
        answer(500, &json!({"message": "out of order"})),
    );
    engine.set(vec![container("two", "two.test", &two)]);
    eventually("the loss shows", async || {
        let source = overview(&proxy).await;
        let error = source["error"].as_str().unwrap_or_default().to_owned();
        (source["connected"] == false && error.contains("out of order")).then_some(())
    })
    .await;
    assert!(
        proxy
            .metrics()
            .await
            .contains("portway_provider_connected{provider=\"docker\"} 0")
    );
    hello(&proxy, "one.test", "one").await;
    engine.heal();
    hello(&proxy, "two.test", "two").await;
    assert_eq!(overview(&proxy).await["connected"], true);
}

#[tokio::test]
async fn one_container_that_cannot_be_inspected_costs_nobody_else() {
    let (one, two) = (backend("one").run().await, backend("two").run().await);
    let engine = FalseEngine::new();
    engine.set(vec![
        container("one", "one.test", &one),
        container("two", "two.test", &two),
    ]);
    engine.fault(
        "/containers/id-one/",
        answer(500, &json!({"message": "broken"})),
    );
    let proxy = engine.proxy(&json!({})).await;
    hello(&proxy, "two.test", "two").await;
    let found = findings(&proxy).await;
    assert!(
        found.iter().any(|line| line.contains("id-one")
            && line.contains("cannot be inspected: status 500: broken")),
        "{found:?}"
    );
    engine.heal();
    hello(&proxy, "one.test", "one").await;
}

#[tokio::test]
async fn answers_cut_short_or_garbled_change_nothing() {
    let one = backend("one").run().await;
    let engine = FalseEngine::new();
    engine.set(vec![container("one", "one.test", &one)]);
    let proxy = engine.proxy(&json!({"reconcileInterval": "1s"})).await;
    hello(&proxy, "one.test", "one").await;
    let whole = json!([summary(&container("one", "one.test", &one))]).to_string();
    let mut bytes = whole.clone().into_bytes();
    bytes.insert(9, 0xff);
    let short = raw(200, whole.as_bytes());
    for garbled in [
        raw(200, &whole.as_bytes()[..whole.len() / 2]),
        short[..short.len() - 20].to_vec(),
        raw(200, &bytes),
        raw(200, b""),
        raw(200, b"{\"a\": 1}"),
        b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(),
        b"\x00\x01\x02".to_vec(),
    ] {
        engine.state.lock().unwrap().seen.clear();
        engine.heal();
        engine.fault("/containers/json", garbled);
        eventually("the list is asked for twice more", async || {
            let state = engine.state.lock().unwrap();
            let lists = state
                .seen
                .iter()
                .filter(|line| line.contains("/containers/json"));
            (lists.count() >= 2).then_some(())
        })
        .await;
        assert_eq!(ask(&proxy, "one.test").await.0, 200);
    }
    engine.heal();
    eventually("the engine is back", async || {
        (overview(&proxy).await["connected"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_events_that_breaks_is_opened_again_and_nothing_is_missed() {
    let (one, two) = (backend("one").run().await, backend("two").run().await);
    let engine = FalseEngine::new();
    engine.set(vec![container("one", "one.test", &one)]);
    let proxy = engine.proxy(&json!({})).await;
    hello(&proxy, "one.test", "one").await;
    engine.set(vec![
        container("one", "one.test", &one),
        container("two", "two.test", &two),
    ]);
    engine.cut();
    hello(&proxy, "two.test", "two").await;
    // Half an event, then the end; and one that is no event at all.
    for broken in ["{\"Type\": \"container\", \"Act", "[1, 2]\n", "nonsense\n"] {
        engine.events.send(Some(broken.to_owned())).ok();
        engine.cut();
        eventually("both answer", async || {
            let all = [
                ask(&proxy, "one.test").await.0,
                ask(&proxy, "two.test").await.0,
            ];
            (all == [200, 200]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_orders_nothing() {
    let (one, two) = (backend("one").run().await, backend("two").run().await);
    let engine = FalseEngine::new();
    engine.set(vec![container("one", "one.test", &one)]);
    let proxy = engine.proxy(&json!({"hold": {"timeout": "0"}})).await;
    hello(&proxy, "one.test", "one").await;
    let mut second = container("two", "two.test", &two);
    second["Created"] = json!("1969-01-01T00:00:00Z");
    engine.set(vec![container("one", "one.test", &one), second]);
    engine.event("start", "id-two", 1_000);
    hello(&proxy, "two.test", "two").await;
    engine.set(vec![container("one", "one.test", &one)]);
    engine.event("die", "id-two", 10);
    answers(&proxy, "two.test", 404, "").await;
    hello(&proxy, "one.test", "one").await;
}

#[tokio::test]
async fn no_network_and_no_port_are_told() {
    let one = backend("one").run().await;
    let engine = FalseEngine::new();
    let mut lonely = container("lonely", "lonely.test", &one);
    lonely["NetworkSettings"]["Networks"] = json!({});
    let mut portless = container("portless", "portless.test", &one);
    let labels = portless["Config"]["Labels"].as_object_mut().unwrap();
    labels.retain(|key, _| key.contains("routers"));
    let mut nothing = json!({"Id": "id-nothing", "State": {"Status": "running"}});
    nothing["Config"] = json!({"Labels": null});
    engine.set(vec![
        container("one", "one.test", &one),
        lonely,
        portless,
        nothing,
    ]);
    let proxy = engine.proxy(&json!({})).await;
    hello(&proxy, "one.test", "one").await;
    let found = findings(&proxy).await;
    for (container, message) in [
        (
            "container lonely",
            "is on no network that gives it an address",
        ),
        ("container portless", "the port is missing"),
    ] {
        assert!(
            found
                .iter()
                .any(|line| line.starts_with(container) && line.contains(message)),
            "{container}: {found:?}"
        );
    }
}

#[tokio::test]
async fn the_version_is_agreed_on_both_ways() {
    let one = backend("one").run().await;
    for (told, spoken) in [
        (
            answer(200, &json!({"ApiVersion": "1.24", "MinAPIVersion": "1.12"})),
            "/v1.24/containers/json",
        ),
        (
            answer(200, &json!({"ApiVersion": "9.90", "MinAPIVersion": "9.80"})),
            "/v9.80/containers/json",
        ),
        (
            answer(403, &json!({"message": "not allowed"})),
            "/containers/json",
        ),
    ] {
        let engine = FalseEngine::new();
        engine.set(vec![container("one", "one.test", &one)]);
        engine.fault("/version", told);
        let proxy = engine.proxy(&json!({})).await;
        hello(&proxy, "one.test", "one").await;
        assert!(
            engine.saw(spoken),
            "{spoken}: {:?}",
            engine.state.lock().unwrap().seen
        );
    }
}

#[tokio::test]
async fn what_was_known_is_served_until_the_engine_comes() {
    let (one, two) = (backend("one").run().await, backend("two").run().await);
    let engine = FalseEngine::new();
    let cache = engine.folder.path().join("cache.json");
    let options = json!({"cache": cache});
    engine.set(vec![container("one", "one.test", &one)]);
    let first = engine.proxy(&options).await;
    hello(&first, "one.test", "one").await;
    written(&cache).await;
    drop(first);

    engine.stop();
    let second = engine.proxy(&options).await;
    hello(&second, "one.test", "one").await;
    let found = findings(&second).await;
    assert!(
        found
            .iter()
            .any(|line| line.contains("containers are served as they were on")),
        "{found:?}"
    );
    assert_eq!(overview(&second).await["connected"], false);
    engine.set(vec![container("two", "two.test", &two)]);
    engine.start();
    hello(&second, "two.test", "two").await;
    assert_eq!(findings(&second).await, [""; 0]);
    drop(second);

    engine.stop();
    std::fs::write(&cache, "{").unwrap();
    let third = engine.proxy(&options).await;
    assert_eq!(ask(&third, "one.test").await.0, 404);
    assert!(third.log().contains("the cache cannot be read"));
}

async fn written(path: &Path) {
    eventually("the cache is written", async || path.exists().then_some(())).await;
}

#[tokio::test]
async fn containers_that_stay_while_the_engine_is_away_go_on() {
    let one = backend("one").run().await;
    let engine = FalseEngine::new();
    engine.set(vec![container("one", "one.test", &one)]);
    let proxy = engine.proxy(&json!({})).await;
    hello(&proxy, "one.test", "one").await;
    engine.stop();
    for _ in 0..20 {
        assert_eq!(ask(&proxy, "one.test").await.0, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    engine.set(Vec::new());
    engine.start();
    eventually("it is gone", async || {
        (ask(&proxy, "one.test").await.0 != 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_goes_away_while_it_owes_an_inspection_is_asked_again() {
    let (one, two) = (backend("one").run().await, backend("two").run().await);
    let engine = FalseEngine::new();
    engine.set(vec![container("one", "one.test", &one)]);
    let proxy = engine.proxy(&json!({"reconcileInterval": "1s"})).await;
    hello(&proxy, "one.test", "one").await;
    engine.fault(
        "/containers/id-two/",
        answer(500, &json!({"message": "broken"})),
    );
    engine.set(vec![
        container("one", "one.test", &one),
        container("two", "two.test", &two),
    ]);
    engine.event("start", "id-two", 1);
    eventually("the failure is told", async || {
        let found = findings(&proxy).await;
        found
            .iter()
            .any(|line| line.contains("id-two"))
            .then_some(())
    })
    .await;
    engine.stop();
    // The next try falls due meanwhile.
    tokio::time::sleep(Duration::from_secs(2)).await;
    engine.heal();
    engine.start();
    hello(&proxy, "two.test", "two").await;
    assert_eq!(findings(&proxy).await, [""; 0]);
}

#[tokio::test]
async fn a_time_to_stop_that_is_beyond_all_reckoning_costs_its_own_container() {
    let (one, two) = (backend("one").run().await, backend("two").run().await);
    let engine = FalseEngine::new();
    let mut endless = container("one", "one.test", &one);
    endless["Config"]["StopTimeout"] = json!(i64::MAX);
    endless["Config"]["StopSignal"] = json!("SIGQUIT");
    engine.set(vec![endless, container("two", "two.test", &two)]);
    let proxy = engine.proxy(&json!({"hold": {"timeout": "0"}})).await;
    hello(&proxy, "one.test", "one").await;
    engine.event("kill", "id-one", 1);
    answers(&proxy, "one.test", 503, "").await;
    hello(&proxy, "two.test", "two").await;
}

#[tokio::test]
async fn containers_that_the_engine_is_stuck_on_keep_nobody_else_waiting() {
    let servers = [
        backend("one").run().await,
        backend("two").run().await,
        backend("stuck").run().await,
    ];
    let engine = FalseEngine::new();
    let name = |number: u8| format!("stuck{number}");
    let mut all: Vec<Value> = (0..10)
        .map(|number| {
            let name = name(number);
            container(&name, &format!("{name}.test"), &servers[2])
        })
        .collect();
    all.push(container("one", "one.test", &servers[0]));
    engine.set(all.clone());
    engine.stick("/containers/id-stuck");
    let proxy = engine.proxy(&json!({})).await;
    hello(&proxy, "one.test", "one").await;
    let found = findings(&proxy).await;
    assert!(
        found
            .iter()
            .any(|line| line.contains("id-stuck0") && line.contains("no answer")),
        "{found:?}"
    );
    all.push(container("two", "two.test", &servers[1]));
    engine.set(all);
    engine.event("start", "id-two", 1);
    hello(&proxy, "two.test", "two").await;
    engine.heal();
    for number in 0..10 {
        hello(&proxy, &format!("{}.test", name(number)), "stuck").await;
    }
}

#[tokio::test]
async fn a_restart_that_the_events_missed_ends_the_leaving() {
    let one = backend("one").run().await;
    let engine = FalseEngine::new();
    let started = |time: &str| {
        let mut container = container("one", "one.test", &one);
        container["State"]["StartedAt"] = json!(time);
        container["Config"]["StopTimeout"] = json!(600);
        vec![container]
    };
    engine.set(started("2026-01-01T00:00:01Z"));
    let proxy = engine.proxy(&json!({"hold": {"timeout": "0"}})).await;
    hello(&proxy, "one.test", "one").await;
    engine.event("kill", "id-one", 1);
    answers(&proxy, "one.test", 503, "").await;
    engine.set(started("2026-01-01T00:00:09Z"));
    engine.cut();
    hello(&proxy, "one.test", "one").await;
}
