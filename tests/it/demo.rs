//! The demo does what it prints: replicas in turn, a sticky cookie, a rate limit, a replica that leaves and returns.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::support::{Answer, Client, binary, eventually, free_port, loopback, subject_is_traefik};

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A port whose neighbours that the demo uses are free too.
fn base_port() -> u16 {
    loop {
        let base = free_port();
        if [80, 101, 102, 103]
            .iter()
            .all(|offset| TcpListener::bind(loopback(base + offset)).is_ok())
        {
            return base;
        }
    }
}

/// Which replica answered: the first word.
fn who(answer: &Answer) -> String {
    answer
        .text()
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

async fn replicas(client: &Client) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..9 {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 200);
        seen.insert(who(&answer));
    }
    seen
}

#[tokio::test]
async fn the_demo_keeps_its_word() {
    if subject_is_traefik() {
        return;
    }
    let port = base_port();
    let mut demo = Demo(
        Command::new(binary())
            .args(["demo", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let client = Client::new(loopback(port));
    eventually("the demo answers", async || {
        client
            .get("/")
            .try_send()
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    })
    .await;
    let all = eventually("three replicas take turns", async || {
        let seen = replicas(&client).await;
        (seen.len() == 3).then_some(seen)
    })
    .await;

    let first = client.get("/sticky").await;
    let cookie = first.cookie().expect("a sticky cookie").to_owned();
    for _ in 0..6 {
        let again = client.get("/sticky").header("Cookie", &cookie).await;
        assert_eq!(who(&again), who(&first));
    }

    let mut limited = Vec::new();
    for _ in 0..12 {
        limited.push(client.get("/limited").await.status);
    }
    assert!(limited[0] == 200 && limited.contains(&429), "{limited:?}");

    let second = Client::new(loopback(port + 102));
    assert!(second.post("/fail", "").await.status < 300);
    eventually("the failed replica leaves", async || {
        (replicas(&client).await.len() == 2).then_some(())
    })
    .await;
    assert!(second.post("/recover", "").await.status < 300);
    eventually("it returns", async || {
        (replicas(&client).await == all).then_some(())
    })
    .await;

    let status = Command::new("kill")
        .args(["-TERM", &demo.0.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    eventually("the demo ends", async || demo.0.try_wait().unwrap()).await;
}
