use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{Addresses, Answer, Answering, Entry, Lookup, LookupError, Resolver};

type Told = Result<Answer, LookupError>;

/// What to say, and how often it was asked for.
type Lines = HashMap<Arc<str>, (Told, usize)>;

/// A name server that says what it was told to say.
#[derive(Debug, Clone, Default)]
struct Script(Arc<Mutex<Lines>>);

impl Script {
    fn say(&self, name: &str, told: Told) {
        let mut script = self.0.lock().unwrap();
        let entry = script.entry(name.into());
        entry.or_insert_with(|| (failed(), 0)).0 = told;
    }

    fn asked(&self, name: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .get(name)
            .map_or(0, |(_, asked)| *asked)
    }
}

impl Lookup for Script {
    fn lookup(&self, name: Arc<str>) -> Answering {
        let mut script = self.0.lock().unwrap();
        let told = script.get_mut(&name).map(|(told, asked)| {
            *asked += 1;
            told.clone()
        });
        Box::pin(async move {
            match told {
                Some(told) => told,
                None => std::future::pending().await,
            }
        })
    }
}

fn answer(addresses: &[&str], seconds: u64) -> Told {
    Ok(Answer {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        lifetime: Duration::from_secs(seconds),
    })
}

fn failed() -> Told {
    Err(LookupError::Failed("timeout".into()))
}

fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn texts(addresses: Option<&[IpAddr]>) -> Option<Vec<String>> {
    addresses.map(|ips| ips.iter().map(ToString::to_string).collect())
}

fn of(addresses: &Addresses, name: &str) -> Option<Vec<String>> {
    texts(addresses.get(name).map(|ips| &ips[..]))
}

const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn names_are_asked_again_when_their_answers_expire() {
    let script = Script::default();
    script.say("app", answer(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 3));
    let (resolver, work) = Resolver::new(script.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(work);
    let first = resolver.resolve(names(&["app"]), PATIENCE).await;
    assert_eq!(of(&first, "app").unwrap(), ["10.0.0.1", "10.0.0.2"]);

    // Turned round is not changed.
    script.say("app", answer(&["10.0.0.1", "10.0.0.2"], 3));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(script.asked("app"), 2);
    assert!(Arc::ptr_eq(&first, &resolver.addresses()));

    script.say("app", answer(&["10.0.0.3"], 3));
    let started = Instant::now();
    let second = resolver.changed(&first).await;
    assert_eq!(of(&second, "app").unwrap(), ["10.0.0.3"]);
    assert!(started.elapsed() <= Duration::from_secs(3));

    resolver.resolve(names(&[]), PATIENCE).await;
    let asked = script.asked("app");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        script.asked("app"),
        asked,
        "forgotten names are not asked for"
    );
    assert_eq!(of(&resolver.addresses(), "app"), None);
}

#[tokio::test(start_paused = true)]
async fn doubts_have_a_name_asked_for_again_but_not_often() {
    let script = Script::default();
    script.say("app", answer(&["10.0.0.1"], 30));
    let (resolver, work) = Resolver::new(script.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(work);
    let first = resolver.resolve(names(&["app"]), PATIENCE).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(script.asked("app"), 1);

    script.say("app", answer(&["10.0.0.2"], 30));
    let doubts = resolver.doubts();
    for host in ["app", "nobody", "10.0.0.1", "app"] {
        doubts.raise(host);
    }
    let second = tokio::time::timeout(Duration::from_secs(1), resolver.changed(&first)).await;
    assert_eq!(of(&second.unwrap(), "app").unwrap(), ["10.0.0.2"]);
    assert_eq!(script.asked("app"), 2);
    // A hundred failures a second are one question a second.
    for _ in 0..300 {
        doubts.raise("app");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked = script.asked("app");
    assert!((4..=6).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_server_holds_nobody_up() {
    let script = Script::default();
    script.say("quick", answer(&["10.0.0.1"], 3));
    let (resolver, work) = Resolver::new(script);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(work);
    let started = Instant::now();
    let known = resolver
        .resolve(names(&["quick", "silent"]), PATIENCE)
        .await;
    assert_eq!(started.elapsed().as_secs(), PATIENCE.as_secs());
    assert_eq!(
        (of(&known, "quick").unwrap().len(), of(&known, "silent")),
        (1, None)
    );
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_resolver() {
    let (resolver, work) = Resolver::new(Script::default());
    drop(resolver);
    work.await;
}

#[test]
fn an_entry_survives_failures_and_ends_with_its_name() {
    let gone = Err(LookupError::NoSuchName);
    // (answer, seconds until asked again, addresses then)
    let steps = [
        (failed(), 1, None),
        (answer(&["10.0.0.1"], 600), 30, Some(1)),
        (failed(), 1, Some(1)),
        (failed(), 2, Some(1)),
        (answer(&["10.0.0.1", "10.0.0.2"], 0), 1, Some(2)),
        (gone.clone(), 1, Some(2)),
        (gone.clone(), 2, Some(2)),
        (gone.clone(), 4, Some(2)),
        // Denied for seven seconds by now.
        (gone.clone(), 8, Some(0)),
        (failed(), 16, Some(0)),
        (answer(&["10.0.0.3"], 5), 5, Some(1)),
    ];
    let mut now = Instant::now();
    let mut entry = Entry::new(now);
    for (step, (result, pause, count)) in steps.into_iter().enumerate() {
        entry.take(result, now);
        assert_eq!((entry.due - now).as_secs(), pause, "step {step}");
        assert_eq!(
            entry.addresses.as_ref().map(|ips| ips.len()),
            count,
            "step {step}"
        );
        now = entry.due;
    }
    let mut never = Entry::new(now);
    never.take(gone, now);
    assert_eq!(never.addresses.map(|ips| ips.len()), Some(0));
}
