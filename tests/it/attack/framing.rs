//! Where a request ends: Content-Length, Transfer-Encoding, field syntax, bodies nobody expects, pipelining after an error (1-5, 7, 8).

use super::Stage;
use crate::support::{backend, exchange, proxy, routed};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn attack_01_content_length_with_transfer_encoding() {
    let stage = Stage::new().await;
    for (what, fields) in [
        (
            "length first",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "coding first",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        (
            "length zero",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "odd case",
            "content-length: 5\r\ntRANSFER-eNCODING: Chunked\r\n",
        ),
    ] {
        stage
            .refuses(
                what,
                format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}"),
            )
            .await;
    }
}

#[tokio::test]
async fn attack_02_duplicate_content_length() {
    let stage = Stage::new().await;
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5\r\nX: y\r\ncontent-length: 0\r\n",
    ] {
        stage
            .refuses(
                fields,
                format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nhello{SMUGGLED}"),
            )
            .await;
    }
}

#[tokio::test]
async fn attack_03_malformed_content_length() {
    let stage = Stage::new().await;
    for value in [
        "",
        "+5",
        "-0",
        "-5",
        "0x5",
        "5_0",
        "5 5",
        "5.0",
        "5e0",
        "five",
        "'5'",
        "\"5\"",
        "5;",
        ",5",
        "5,",
        "\u{b}5",
        "5\u{c}",
        "18446744073709551616",
        "99999999999999999999999999",
        "18446744073709551621",
    ] {
        stage
            .refuses(
                value,
                format!(
                    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\nhello{SMUGGLED}"
                ),
            )
            .await;
    }
    stage.serves("leading zeros and white space are just digits", "POST /z HTTP/1.1\r\nHost: a\r\nContent-Length: \t005 \r\nConnection: close\r\n\r\nhello", &["/z"]).await;
    assert_eq!(stage.server.last().body, b"hello");
}

#[tokio::test]
async fn attack_04_obscured_transfer_encoding() {
    let stage = Stage::new().await;
    for value in [
        "",
        ",chunked",
        "chunked,",
        "chunked, xchunked",
        "xchunked",
        "xchunked, chunked",
        "chunked;q=1",
        "\u{b}chunked",
        "chunked\u{c}",
        "\u{c}chunked",
        "chunk\ted",
        "\"chunked\"",
        "'chunked'",
        "identity",
        "identity, chunked",
        "chunked, chunked",
        "chunked, identity",
        "chunked\u{0}",
        "gzip, chunked",
        "cow",
        "chunked\u{a0}",
    ] {
        stage.refuses(value, format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
    }
    let two = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    stage
        .refuses(
            "two lines",
            format!("POST / HTTP/1.1\r\nHost: a\r\n{two}\r\n0\r\n\r\n{SMUGGLED}"),
        )
        .await;
    let two = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    stage
        .refuses(
            "two equal lines",
            format!("POST / HTTP/1.1\r\nHost: a\r\n{two}\r\n0\r\n\r\n{SMUGGLED}"),
        )
        .await;
    stage.refuses("on HTTP/1.0", format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
    stage.serves("the name has no case", "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n", &["/c"]).await;
    assert_eq!(stage.server.last().body, b"hello");
}

#[tokio::test]
async fn attack_05_malformed_fields() {
    let stage = Stage::new().await;
    for line in [
        &b"Content-Length : 5"[..],
        b"Content-Length\t: 5",
        b"NoColon",
        b": empty",
        b" Leading: space",
        b"Host: b\r\n folded",
        b"X: y\r\n\tfolded",
        b"X: a\0b",
        b"X: a\rb",
        b"X: a\r",
        b"X: a\nContent-Length: 5",
        b"X: a\n",
        b"X\0: a",
        b"X\x80: a",
        b"X y: a",
        b"X(: a",
        b"X@: a",
        b"\x01: a",
        b"X: a\x01b",
        b"X: a\x7fb",
    ] {
        let request = [
            b"POST / HTTP/1.1\r\nHost: a\r\n",
            line,
            b"\r\n\r\nhello",
            SMUGGLED.as_bytes(),
        ]
        .concat();
        stage.refuses(&String::from_utf8_lossy(line), request).await;
    }
    stage
        .refuses("bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n")
        .await;
    stage
        .refuses(
            "bare LF at the end of the head",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        )
        .await;
    stage
        .refuses(
            "first field starts with a space",
            "GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n",
        )
        .await;
    // Bytes above 0x7f are legal in values (RFC 9110 5.5): they arrive as they were sent.
    stage
        .serves(
            "opaque bytes in a value",
            b"GET /o HTTP/1.1\r\nHost: a\r\nX-Opaque: \xc3\xa4\r\nConnection: close\r\n\r\n",
            &["/o"],
        )
        .await;
    assert_eq!(stage.server.last().header("x-opaque"), Some("ä"));
}

#[tokio::test]
async fn attack_07_get_and_head_with_a_body_then_reuse() {
    let stage = Stage::new().await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        stage.server.reset();
        let request = format!(
            "{method} /first HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{SMUGGLED}GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            SMUGGLED.len()
        );
        let answer = exchange(stage.proxy.addr("web"), request).await;
        let seen = stage.server.seen();
        assert!(
            !stage.server.targets().contains(&"/smuggled".to_owned()),
            "{method}: the body became a request"
        );
        if answer.refused() {
            continue;
        }
        assert_eq!(
            seen.iter()
                .map(|seen| seen.target.as_str())
                .collect::<Vec<_>>(),
            ["/first", "/second"],
            "{method}"
        );
        assert_eq!(seen[0].body, SMUGGLED.as_bytes(), "{method}");
        assert!(seen[1].body.is_empty(), "{method}");
    }
}

#[tokio::test]
async fn attack_08_pipelining_after_an_error() {
    let stage = Stage::new().await;
    stage
        .refuses(
            "a good request behind a bad one",
            format!("GET / HTTP/1.1\r\nHost: a\r\nBad\r\n\r\n{SMUGGLED}"),
        )
        .await;
    stage
        .refuses(
            "a good request behind a bad length",
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n{SMUGGLED}"),
        )
        .await;
}

#[tokio::test]
async fn attack_08_unread_body_of_a_refused_request() {
    let server = backend("server").run().await;
    let proxy = proxy(&routed("Host(`known`)", &[server.url()], ""))
        .run()
        .await;
    for fields in [
        format!("Content-Length: {}", SMUGGLED.len()),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        let body = if fields.starts_with('C') {
            SMUGGLED
                .replace("Host: a", "Host: k")
                .replace("/smuggled", "/smuggle")
        } else {
            format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())
        };
        let body = body.replace("/smuggle ", "/smuggled ");
        let request = format!(
            "POST /nowhere HTTP/1.1\r\nHost: unknown\r\n{fields}\r\n\r\n{body}GET /after HTTP/1.1\r\nHost: known\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(proxy.addr("web"), request).await;
        assert_eq!(answer.status(), 404, "{fields}");
        // Either the body was read to its end and the next request answered, or the connection was closed: never a request out of a body.
        assert!(answer.closed, "{fields}");
        assert!(
            !server.targets().contains(&"/smuggled".to_owned()),
            "{fields}: the unread body became a request"
        );
        assert!(
            answer.statuses().len() <= 2,
            "{fields}: {:?}",
            answer.text()
        );
    }
}
