//! A WebSocket is no request that ends soon: it lives until its container is killed.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    edge::Edge,
    portway,
    stack::{Application, Stack},
    turn,
};

const STOP_GRACE: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_lives_until_the_stop_timeout() {
    let _place = turn().await;
    let stack = Stack::new("zero-websocket", None).unwrap();
    let application = Application {
        stop_grace: STOP_GRACE,
        ..Application::default()
    };
    stack.write(application).unwrap();
    stack.compose(&["up", "-d"]).await.unwrap();
    let edge = Edge::start(portway(), &stack).unwrap();
    edge.serves(3).await.unwrap();

    let tcp = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    let request = format!("ws://{}/ws", stack.host());
    let (mut socket, _) = client_async(request.into_client_request().unwrap(), tcp)
        .await
        .unwrap();
    let load = edge.load(50).start();
    // All replicas are told to stop, and new ones take their place: whichever holds the WebSocket has to wait for it.
    let begun = Instant::now();
    let recreated = async {
        stack
            .compose(&["up", "-d", "--force-recreate"])
            .await
            .unwrap();
    };
    let echoes = async {
        let mut last = Instant::now();
        for number in 0.. {
            let sent = socket.send(Message::text(format!("{number}"))).await;
            let answer = timeout(Duration::from_secs(2), socket.next()).await;
            match (sent, answer) {
                (Ok(()), Ok(Some(Ok(Message::Text(_))))) => last = Instant::now(),
                _ => break,
            }
            sleep(Duration::from_millis(100)).await;
        }
        last
    };
    let ((), last) = tokio::join!(recreated, echoes);
    let lived = last - begun;
    edge.serves(3).await.unwrap();
    let samples = load.finish().await;
    let failed: Vec<_> = samples.iter().filter(|sample| sample.failed()).collect();
    assert!(failed.is_empty(), "{failed:?}\n{}", edge.log());
    let due = Duration::from_secs(u64::from(STOP_GRACE));
    // From the signal on; until that is sent, Compose takes a moment.
    assert!(
        lived > due - Duration::from_millis(500) && lived < due + Duration::from_secs(5),
        "it lived for {lived:?}\n{}",
        edge.log()
    );
}
