//! What the servers answer.

use crate::support::{Reply, Seen};

/// What the servers of the example answer, by the last word of the path.
pub fn script(seen: &Seen) -> Reply {
    let text = [("Content-Type", "text/plain"), ("Server", "scripted")];
    match seen.path().rsplit('/').next().unwrap_or_default() {
        _ if seen.method == "HEAD" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 77\r\n\r\n")
        }
        "large" => Reply::with(
            200,
            &[("Content-Type", "text/plain"), ("ETag", "\"1\"")],
            &"a line that compresses well\n".repeat(100),
        ),
        "image" => Reply::with(200, &[("Content-Type", "image/png")], &"p".repeat(2000)),
        "packed" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n")
                .write([
                    31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 203, 72, 205, 201, 201, 7, 0, 134, 166, 16,
                    54, 5, 0, 0, 0,
                ])
        }
        "chunked" => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        ),
        "empty" => Reply::raw("HTTP/1.1 204 No Content\r\nX-Empty: yes\r\n\r\n"),
        "unchanged" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"),
        "missing" => Reply::with(404, &text, "not here"),
        "broken" => Reply::with(500, &text, "broken"),
        "away" => Reply::with(302, &[("Location", "/elsewhere?x=1")], ""),
        "hop" => Reply::with(
            200,
            &[
                ("Connection", "X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=3"),
                ("Proxy-Authenticate", "Basic"),
                ("X-Stay", "1"),
            ],
            "hop",
        ),
        "many" => Reply::with(
            200,
            &[
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2; Path=/"),
                ("Vary", "Accept"),
                ("Link", "<a>"),
                ("Link", "<b>"),
            ],
            "many",
        ),
        "cors" => Reply::with(
            200,
            &[
                ("Access-Control-Allow-Origin", "https://server.own"),
                ("Vary", "Origin"),
            ],
            "cors",
        ),
        "untyped" => Reply::with(200, &[], "<html>typed by nobody</html>"),
        "odd" => Reply::with(
            299,
            &[
                ("x-lower", "1"),
                ("X_Under", "2"),
                ("X-Frame-Options", "SAMEORIGIN"),
            ],
            "odd",
        ),
        _ => Reply::with(
            200,
            &text,
            &format!("hello from the server: {} {}\n", seen.method, seen.target),
        ),
    }
}
