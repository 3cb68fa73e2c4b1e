use super::*;

const LIMITS: Limits = Limits {
    max_head: 4096,
    path: PathOptions {
        sanitize: true,
        encode_semicolons: false,
    },
};

fn read(text: &str) -> Result<Option<Parsed>, Refusal> {
    parse(&mut BytesMut::from(text), &LIMITS, &mut 0)
}

fn status(text: &str) -> u16 {
    match read(text) {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(refusal) => refusal.status.as_u16(),
    }
}

fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")
}

#[test]
fn reads_a_plain_request() {
    let parsed =
        read("GET /a/../b?c;d HTTP/1.1\r\nHost: Example.org:80\r\nX-One: 1\r\nX-One: 2\r\n\r\n")
            .unwrap()
            .unwrap();
    assert_eq!(parsed.head.target.as_str(), "/b?c&d");
    assert_eq!(&*parsed.head.host, "Example.org:80");
    assert_eq!(parsed.head.headers.get_all("x-one").iter().count(), 2);
    assert!(parsed.keep_alive);
    assert_eq!(parsed.framing, Framing::None);
}

#[test]
fn what_follows_a_head_stays_in_the_buffer() {
    let mut buffer = BytesMut::from("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\n");
    assert!(parse(&mut buffer, &LIMITS, &mut 0).unwrap().is_some());
    assert_eq!(&buffer[..], b"GET /2 HTTP/1.1\r\n");
    assert!(parse(&mut buffer, &LIMITS, &mut 0).unwrap().is_none());
}

#[test]
fn a_head_that_comes_byte_by_byte_is_the_same() {
    let text = "\r\nGET /a HTTP/1.1\r\nHost: x\r\nX: 1\r\n\r\n";
    let (mut buffer, mut scanned) = (BytesMut::new(), 0);
    for (at, byte) in text.bytes().enumerate() {
        buffer.extend_from_slice(&[byte]);
        let parsed = parse(&mut buffer, &LIMITS, &mut scanned).unwrap();
        assert_eq!(parsed.is_some(), at + 1 == text.len(), "byte {at}");
    }
    for text in ["GET / HTTP/1.1\nHost: x\n", "GET / HTTP/1.1\r\nHost: x\n"] {
        let (mut buffer, mut scanned) = (BytesMut::new(), 0);
        let refused = text.bytes().any(|byte| {
            buffer.extend_from_slice(&[byte]);
            parse(&mut buffer, &LIMITS, &mut scanned).is_err()
        });
        assert!(refused, "{text:?}");
    }
}

#[test]
fn doubtful_length_is_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length:",
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 0x5",
        "Content-Length: 5_0",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked, xchunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
    ] {
        assert_eq!(status(&with(fields)), 400, "{fields:?}");
    }
    assert_eq!(
        status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400
    );
    assert_eq!(
        read(&with("Transfer-Encoding: Chunked"))
            .unwrap()
            .unwrap()
            .framing,
        Framing::Chunked
    );
    assert_eq!(
        read(&with("Content-Length:  7 ")).unwrap().unwrap().framing,
        Framing::Length(7)
    );
}

#[test]
fn malformed_fields_are_refused() {
    for fields in [
        "X : 1",
        "X",
        ": 1",
        " X: 1",
        "X: 1\r\n folded",
        "X: a\0b",
        "X: a\rb",
        "X: 1\nY: 2",
        "X\u{e9}: 1",
        "X: a\u{7f}b",
        "Host: y",
    ] {
        assert_eq!(status(&with(fields)), 400, "{fields:?}");
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / HTTP/2.0",
        "GET /",
        "GET / HTTP/1.1 x",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET http://a@b/ HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://x:99999/ HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
    ] {
        assert_eq!(
            status(&format!("{line}\r\nHost: x\r\n\r\n")),
            400,
            "{line:?}"
        );
    }
    assert_eq!(status("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"), 501);
    assert_eq!(
        status("\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        400
    );
    assert_eq!(status("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    assert_eq!(status("GET / HTTP/1.1\nHost: x\n\n"), 400);
}

#[test]
fn hosts() {
    for host in [
        "a",
        "a:80",
        "a.b-c_d",
        "[::1]",
        "[::1]:80",
        "1.2.3.4:5",
        "",
        "a:",
    ] {
        assert!(is_host(host), "{host:?}");
    }
    for host in [
        "a/b",
        "a@b",
        "a b",
        "[::1",
        "[::1%eth0]",
        "a:b",
        "a:99999",
        "[::1]x",
        "a:1:2",
        "a#b",
        "a?b",
        "a\\b",
        "<a>",
    ] {
        assert!(!is_host(host), "{host:?}");
    }
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
    let absolute = read("GET http://Other:81/x HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(
        (&*absolute.head.host, absolute.head.target.as_str()),
        ("Other:81", "/x")
    );
}

#[test]
fn heads_are_bounded() {
    assert_eq!(status(&with(&format!("X: {}", "a".repeat(5000)))), 431);
    assert_eq!(status(&format!("GET /{}", "a".repeat(5000))), 431);
    let many: String = (0..300).map(|n| format!("X{n}: 1\r\n")).collect();
    assert_eq!(status(&with(many.trim_end())), 431);
    let some: String = (0..100).map(|n| format!("X{n}: 1\r\n")).collect();
    assert_eq!(status(&with(some.trim_end())), 200);
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let keep = |text: &str| read(text).unwrap().unwrap().keep_alive;
    assert!(!keep("GET / HTTP/1.0\r\nHost: x\r\n\r\n"));
    assert!(keep(
        "GET / HTTP/1.0\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n"
    ));
    assert!(!keep(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"
    ));
    assert!(!keep(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: x, close\r\n\r\n"
    ));
}
