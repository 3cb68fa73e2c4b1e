//! Chunked bodies that two parsers would read differently, and trailers that want to be headers (6, 31).

use super::Stage;
use crate::support::exchange;

const HEAD: &str = "POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn attack_06_malformed_chunk_sizes() {
    let stage = Stage::new().await;
    let padded = format!("{}5", "0".repeat(70_000));
    for size in [
        "0x5",
        "+5",
        "-5",
        "5_0",
        " 5",
        "\t5",
        "",
        "g",
        "5 5",
        "10000000000000005",
        "fffffffffffffffff",
        "ffffffffffffffff",
        "\u{b}5",
        "5\u{0}",
        padded.as_str(),
    ] {
        let what = format!("chunk size {:?}", &size[..size.len().min(20)]);
        stage
            .refuses(
                &what,
                format!("{HEAD}{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
            )
            .await;
    }
}

#[tokio::test]
async fn attack_06_malformed_chunk_extensions_and_ends() {
    let stage = Stage::new().await;
    let endless = format!("5;{}", "x".repeat(200_000));
    for (what, body) in [
        (
            "bare CR in an extension",
            "5;a\rb\r\nhello\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "bare LF in an extension",
            "5;a\nhello\r\n0\r\n\r\n".to_owned(),
        ),
        ("bare LF after the size", "5\nhello\r\n0\r\n\r\n".to_owned()),
        ("bare LF after the data", "5\r\nhello\n0\r\n\r\n".to_owned()),
        ("no CRLF after the data", "5\r\nhello0\r\n\r\n".to_owned()),
        (
            "more data than announced",
            "5\r\nhelloworld\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "bare LF after the last chunk",
            "5\r\nhello\r\n0\n\n".to_owned(),
        ),
        (
            "control byte in an extension",
            "5;a\u{1}b\r\nhello\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "endless extension",
            format!("{endless}\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "trailer without colon",
            "5\r\nhello\r\n0\r\nBad\r\n\r\n".to_owned(),
        ),
        (
            "trailer with a space before the colon",
            "5\r\nhello\r\n0\r\nX : y\r\n\r\n".to_owned(),
        ),
        (
            "endless trailers",
            format!("5\r\nhello\r\n0\r\n{}\r\n", "X-T: y\r\n".repeat(400_000)),
        ),
    ] {
        stage.refuses(what, format!("{HEAD}{body}{SMUGGLED}")).await;
    }
}

#[tokio::test]
async fn attack_06_many_small_extensions_are_bounded() {
    // One byte of data for each few hundred bytes of extension: amplification that must end, not be read for ever.
    let stage = Stage::new().await;
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(250));
    stage
        .refuses(
            "extensions without end",
            format!("{HEAD}{}0\r\n\r\n", chunk.repeat(20_000)),
        )
        .await;
}

#[tokio::test]
async fn legal_chunk_extensions_and_sizes_pass() {
    let stage = Stage::new().await;
    let body = "5;name=value\r\nhello\r\n0006\r\n world\r\nA\r\n, and more\r\n0;last\r\n\r\n";
    stage
        .serves(
            "extensions",
            format!("{HEAD}{body}GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            &["/first", "/second"],
        )
        .await;
    assert_eq!(stage.server.seen()[0].body, b"hello world, and more");
}

#[tokio::test]
async fn attack_31_trailers_do_not_become_headers() {
    let stage = Stage::new().await;
    let trailers = "Content-Length: 100\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Real-Ip: 6.6.6.6\r\nAuthorization: Basic ZTpl\r\nCookie: a=b\r\nConnection: close\r\nX-Checksum: 42\r\n";
    let request = format!(
        "{HEAD}5\r\nhello\r\n0\r\n{trailers}\r\nGET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    let answer = exchange(stage.proxy.addr("web"), request).await;
    if answer.refused() {
        assert_eq!(stage.server.hits(), 0);
        return;
    }
    let seen = stage.server.seen();
    assert_eq!(
        seen.iter()
            .map(|seen| seen.target.as_str())
            .collect::<Vec<_>>(),
        ["/first", "/second"]
    );
    assert_eq!(seen[0].header("host"), Some("a"));
    assert_eq!(seen[0].header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen[0].header("authorization"), None);
    for name in [
        "content-length",
        "transfer-encoding",
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "authorization",
        "cookie",
        "connection",
    ] {
        assert!(
            !seen[0]
                .trailers
                .iter()
                .any(|(key, _)| key.eq_ignore_ascii_case(name)),
            "trailer {name} reached the server"
        );
    }
}
