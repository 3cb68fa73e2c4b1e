//! `Expect: 100-continue`, honest and twisted (9).

use std::time::Duration;

use super::Stage;
use crate::support::{Raw, Reply, all_to, backend, exchange, proxy};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn expect_100_continue_is_honoured_in_any_case() {
    let stage = Stage::new().await;
    for value in ["100-continue", "100-Continue", "100-CONTINUE"] {
        let mut raw = Raw::open(stage.proxy.addr("web")).await;
        raw.send(format!("POST /e HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")).await;
        let interim = raw.head().await;
        assert!(interim.starts_with("HTTP/1.1 100 "), "{value}: {interim:?}");
        raw.send("hello").await;
        let answer = raw.rest().await;
        assert_eq!(answer.statuses(), [200], "{value}: {:?}", answer.text());
        assert_eq!(stage.server.last().body, b"hello");
    }
}

#[tokio::test]
async fn attack_09_expect_with_a_final_answer_before_the_body() {
    let server = backend("server")
        .early()
        .reply(|_| Reply::status(403, "no"))
        .run()
        .await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    let mut raw = Raw::open(proxy.addr("web")).await;
    raw.send(format!(
        "POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        SMUGGLED.len()
    ))
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Whether the client now sends the body or not is in doubt: what follows must never be taken for a request.
    raw.send(SMUGGLED).await;
    let answer = raw.rest().await;
    let finals: Vec<u16> = answer
        .statuses()
        .into_iter()
        .filter(|status| *status != 100)
        .collect();
    assert_eq!(finals, [403], "{:?}", answer.text());
    assert!(!server.targets().contains(&"/smuggled".to_owned()));
}

#[tokio::test]
async fn attack_09_expect_without_a_body() {
    let stage = Stage::new().await;
    for length in ["", "Content-Length: 0\r\n"] {
        stage.server.reset();
        let request = format!(
            "GET /first HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{length}\r\nGET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(stage.proxy.addr("web"), request).await;
        let finals: Vec<u16> = answer
            .statuses()
            .into_iter()
            .filter(|status| *status != 100)
            .collect();
        assert_eq!(finals, [200, 200], "{length:?}: {:?}", answer.text());
        assert_eq!(stage.server.targets(), ["/first", "/second"], "{length:?}");
    }
}

#[tokio::test]
async fn attack_09_unknown_expectations() {
    let stage = Stage::new().await;
    for value in [
        "200-ok",
        "100-continue, 100-continue",
        "100-continue, x",
        "y 100-continue",
    ] {
        stage.server.reset();
        let request = format!(
            "POST /e HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        );
        let answer = exchange(stage.proxy.addr("web"), request).await;
        let finals: Vec<u16> = answer
            .statuses()
            .into_iter()
            .filter(|status| *status != 100)
            .collect();
        assert!(
            finals == [417] || finals == [200] || finals == [400],
            "{value}: {:?}",
            answer.text()
        );
        assert!(
            !stage.server.targets().contains(&"/smuggled".to_owned()),
            "{value}"
        );
    }
}
