//! The replica: what it answers, and that it ends in order.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, binary, eventually, free_port, loopback, subject_is_traefik};

struct Replica(Child);

impl Drop for Replica {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Replica {
    async fn start(port: u16) -> Self {
        let replica = Self(
            Command::new(binary())
                .args(["replica", "--port", &port.to_string(), "--name=one"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let client = Client::new(loopback(port));
        eventually("the replica answers", async || {
            client.get("/health").try_send().await.ok()
        })
        .await;
        replica
    }

    fn terminate(&self) {
        let status = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(status.unwrap().success());
    }
}

#[tokio::test]
async fn a_replica_says_who_and_how_it_is() {
    if subject_is_traefik() {
        return;
    }
    let port = free_port();
    let _replica = Replica::start(port).await;
    let client = Client::new(loopback(port));
    let health = client.get("/health").await;
    assert_eq!(health.header("content-type"), Some("application/json"));
    let health = health.json();
    assert_eq!(health["status"], "healthy");
    assert!(health["timestamp"].as_str().unwrap().ends_with('Z'));
    let answer = client.post("/x?y=1", "body").await.text();
    assert!(answer.starts_with("one answered POST "), "{answer}");
    assert!(
        answer.contains("/x?y=1 (") && answer.contains("4 bytes"),
        "{answer}"
    );
    assert_eq!(client.post("/fail", "").await.status, 200);
    assert_eq!(client.get("/health").await.status, 503);
}

#[tokio::test]
async fn a_replica_ends_what_it_has_begun() {
    if subject_is_traefik() {
        return;
    }
    let port = free_port();
    let mut replica = Replica::start(port).await;
    let client = Client::new(loopback(port));
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/ws"))
        .await
        .unwrap();
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.get("/wait/600").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    replica.terminate();
    eventually("nothing new is accepted", async || {
        client.get("/").try_send().await.err()
    })
    .await;
    assert_eq!(slow.await.unwrap().status, 200);
    for text in ["a".to_owned(), "b".repeat(300), "c".repeat(70_000)] {
        socket.send(Message::text(text.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    assert!(
        replica.0.try_wait().unwrap().is_none(),
        "it waits for the WebSocket"
    );
    socket.close(None).await.unwrap();
    let status = eventually("the replica ends", async || replica.0.try_wait().unwrap()).await;
    assert!(status.success());
}
