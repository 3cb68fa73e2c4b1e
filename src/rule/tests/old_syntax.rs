//! Rule syntax 2.

use super::*;

#[test]
fn hosts() {
    v2("Host(`a`, `B`)", &["a", "b", "b."], &["c", "-"]);
    v2("Host(`*.x`)", &["*.x"], &["a.x"]);
    v2("Host(`*`)", &["*"], &["a.x", "-"]);
    v2("HostHeader(`a`)", &["a"], &["b"]);
    v2(
        "HostRegexp(`{s:[a-z]+}.x`, `y`)",
        &["a.x", "A.X:80", "y"],
        &["1.x", "a.x.", "axx", "zy", "zz.a.x"],
    );
    v2("HostRegexp(`{any}.x`)", &["a.x"], &["a.b.x", ".x"]);
    v2("HostRegexp(`{any:.+}`)", &["a.x"], &["-"]);
    v2("HostRegexp(`{any:.*}`)", &["a.x", "-"], &[]);
    v2("HostRegexp(`{a:(?:x|y)}`)", &["x", "x:80"], &["z"]);
    v2("HostRegexp(`{a:[0-9]{2}}.x`)", &["12.x"], &["123.x"]);
    v2("HostRegexp(`(a`)", &["(a"], &["a"]);
    v2("!Host(`a`, `b`)", &["c"], &["a", "b"]);
}

#[test]
fn paths() {
    v2(
        "Path(`/a`, `/b/{id:[0-9]+}`)",
        &["h/a", "h/b/12"],
        &["h/b/12/", "h/b/x", "h/a/"],
    );
    v2("Path(`/{x}`)", &["h/a"], &["h/a/b", "h/"]);
    v2(
        "Path(`/css{path:(/.*)?}`)",
        &["h/css", "h/css/a/b"],
        &["h/css.css"],
    );
    v2(
        "PathPrefix(`/p/{x}/q`)",
        &["h/p/a/q", "h/p/a/qq"],
        &["h/p/a/b/q"],
    );
    v2("PathPrefix(`/a`, `/b`)", &["h/a", "h/bc"], &["h/c"]);
    v2("Path(`/a b`)", &["h/a%20b"], &["h/a"]);
    v2("Path(`/a.b`)", &["h/a.b"], &["h/axb"]);
    v2("Path(`/{x}.b`)", &["h/a.b"], &["h/axb"]);
    v2("!Path(`/a`, `/b`)", &["h/c"], &["h/a", "h/b"]);
}

#[test]
fn methods_and_headers() {
    v2(
        "Method(`get`, `POST`)",
        &["h", "h =POST"],
        &["h =PUT", "h =get"],
    );
    v2(
        "Headers(`X-A`, `1`, `X-B`, `2`)",
        &["h X-A:1 X-B:2"],
        &["h X-A:1", "h"],
    );
    v2(
        "Headers(`X-A`, `1`, `X-A`, `2`)",
        &["h X-A:2", "h X-A:1 x-a:2"],
        &["h X-A:1"],
    );
    v2(
        "Headers(`X-A`, `1`, `x-a`, `2`)",
        &["h X-A:1 x-a:2"],
        &["h X-A:1", "h X-A:2"],
    );
    v2("Headers(`Host`, `h`)", &[], &["h Host:h"]);
    v2(
        "HeadersRegexp(`X-A`, `^[0-9]+$`, `X-B`, `b`)",
        &["h X-A:12 X-B:abc"],
        &["h X-A:1a X-B:b"],
    );
    v2(
        "HeadersRegexp(`X-A`, `^1$`, `X-A`, `^2$`)",
        &["h X-A:2"],
        &["h X-A:1"],
    );
    v2(
        "!Headers(`X-A`, `1`, `X-B`, `2`)",
        &["h X-A:1", "h"],
        &["h X-A:1 X-B:2"],
    );
}

#[test]
fn queries_and_addresses() {
    v2(
        "Query(`a=1`, `b=2`)",
        &["h/?a=1&b=2", "h/?b=2&a=1"],
        &["h/?a=1", "h/"],
    );
    v2(
        "Query(`a=1`)",
        &[
            "h/?a=1&a=2",
            "h/?a=%31",
            "h/?%61=1",
            "h/?a=%zz&a=1",
            "h/?x;a=1",
        ],
        &["h/?a=2&a=1", "h/?a=11"],
    );
    v2("Query(`a=`)", &["h/?a=1", "h/?a", "h/?a="], &["h/", "h/?b"]);
    v2("Query(`a`, `b`)", &["h/?a=b"], &["h/?a&b"]);
    v2("Query(`a={v:[0-9]+}`)", &["h/?a=12"], &["h/?a=1x", "h/?a"]);
    v2("Query(`a={v}`)", &["h/?a=12", "h/?a="], &["h/"]);
    v2("Query(`a=b c`)", &["h/?a=b+c", "h/?a=b%20c"], &["h/?a=bc"]);
    v2("Query(`a=b=c`)", &["h/?a=b=c", "h/?a=b%3Dc"], &["h/?a=b"]);
    v2("Query(`=c`)", &["h/?=c"], &["h/?c"]);
    v2("Query(`{k}=c`)", &["h/?{k}=c"], &["h/?a=c", "h/"]);
    v2(
        "ClientIP(`10.0.0.1`, `127.0.0.0/8`)",
        &["h @10.0.0.1", "h @127.0.0.1"],
        &["h"],
    );
}
