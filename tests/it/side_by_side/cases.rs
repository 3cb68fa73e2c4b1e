//! The requests of the side by side test.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Where a request enters.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    Web,
    Secure,
    Plain,
}

/// How it is spoken.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Raw,
    Http1,
    Http2,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub door: Door,
    pub protocol: Protocol,
    pub method: String,
    pub target: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub from: Option<IpAddr>,
    /// We may refuse it although Traefik does not.
    pub strict: bool,
    /// How long to wait for servers that are asked behind the client's back.
    pub settle: Duration,
    pub version: &'static str,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}/{:?} {} {} at {} {:?}",
            self.door, self.protocol, self.method, self.target, self.host, self.headers
        )
    }
}

impl Case {
    pub fn get(host: &str, target: &str) -> Self {
        Self {
            door: Door::Web,
            protocol: Protocol::Raw,
            method: "GET".to_owned(),
            target: target.to_owned(),
            host: host.to_owned(),
            headers: Vec::new(),
            body: String::new(),
            from: None,
            strict: false,
            settle: Duration::ZERO,
            version: "HTTP/1.1",
        }
    }

    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub fn through(mut self, door: Door, protocol: Protocol) -> Self {
        (self.door, self.protocol) = (door, protocol);
        self
    }

    pub fn trusted(mut self) -> Self {
        self.from = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
        self
    }

    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// The request as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} {}\r\nHost: {}\r\n",
            self.method, self.target, self.version, self.host
        );
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("connection"))
        {
            text += "Connection: close\r\n";
        }
        let chunked = self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        if !self.body.is_empty() && !chunked {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        text += "\r\n";
        if chunked {
            text += &format!("{:x}\r\n{}\r\n0\r\n\r\n", self.body.len(), self.body);
        } else {
            text += &self.body;
        }
        text.into_bytes()
    }
}

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(hosts_and_paths());
    cases.extend(path_forms());
    cases.extend(methods_and_bodies());
    cases.extend(client_claims());
    cases.extend(connection_fields());
    cases.extend(cross_origin());
    cases.extend(compression());
    cases.extend(passwords());
    cases.extend(moved());
    cases.extend(answers());
    cases.extend(doors());
    cases.extend(oddities());
    cases
}

fn hosts_and_paths() -> Vec<Case> {
    let hosts = [
        "app.localhost",
        "SHOP.localhost",
        "app.localhost:8000",
        "app.localhost.",
        "unknown.localhost",
        "a.tenants.localhost",
        "A-1.tenants.localhost",
        "a.b.tenants.localhost",
        "x.customers.localhost",
        "x.y.customers.localhost",
        "customers.localhost",
        "static.localhost",
        "old-app.localhost",
        "secure.localhost",
        "office.localhost",
    ];
    let paths = [
        "/",
        "/api/",
        "/api",
        "/api/items?x=1&y=%20",
        "/app",
        "/v2/x",
        "/legacy/a/b",
    ];
    hosts
        .iter()
        .flat_map(|host| paths.iter().map(|path| Case::get(host, path)))
        .collect()
}

fn path_forms() -> Vec<Case> {
    let forms = [
        "//",
        "//api/x",
        "/./x",
        "/../x",
        "/x/..",
        "/x/../",
        "/x/.",
        "/x/./",
        "/a/../api/x",
        "/a/%2e%2e/api/x",
        "/api/../x",
        "/api%2fx",
        "/api/%2fx",
        "/api/a%2Fb",
        "/api/..%2fx",
        "/%61pi/x",
        "/api/a%20b",
        "/api/%c3%a4",
        "/api/%C3%A4",
        "/api/a+b",
        "/api/a;b",
        "/api/a,b=c:d@e!$&'()*",
        "/api/~user",
        "/api/%7Euser",
        "/api/%5bx%5d",
        "/api/[x]",
        "/api/a%25b",
        "/api/%00",
        "/api/?",
        "/api/x?",
        "/api/x?a=1;b=2",
        "/api/x?a=%zz",
        "/api/x?a=b?c",
        "/api/x?a=%2f&b=+",
        "/api/x?ä",
        "/api/ä",
        "/api/a|b",
        "/api/a\"b",
        "/api/<x>",
        "/api/{x}",
        "/api/a^b",
        "/api/a`b",
        "/api/a\\b",
        "/%zz",
        "/x%2",
        "/x%",
        "/x#y",
        "/legacy/a%2Fb",
        "/legacy/",
        "/legacy",
        "/v1",
        "/v12/",
        "/v1/a/../b",
        "/api//double//",
        "/api/..;/x",
        "/api/%2e%2e%2fx",
        "/api./x",
        "/api../x",
        "/API/x",
    ];
    let mut cases: Vec<Case> = forms
        .iter()
        .map(|form| Case::get("app.localhost", form))
        .collect();
    cases.push(Case::get("static.localhost", "/a%20b/c?d"));
    cases.push(Case::get("static.localhost", "/../../etc/passwd"));
    cases.push(Case::get("static.localhost", "/app?x=1"));
    cases.push(Case::get("static.localhost", "/app/"));
    for (host, target) in [
        ("app.localhost", "http://app.localhost/abs?x"),
        ("other.localhost", "http://app.localhost/abs"),
        ("app.localhost", "http://other.localhost/abs"),
        ("app.localhost", "http://app.localhost"),
    ] {
        cases.push(Case::get(host, target));
    }
    cases
}

fn methods_and_bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in [
        "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW",
    ] {
        for (host, target) in [
            ("app.localhost", "/api/x"),
            ("app.localhost", "/"),
            ("office.localhost", "/reports/1"),
            ("static.localhost", "/x"),
            ("old-app.localhost", "/x"),
            ("secure.localhost", "/x"),
        ] {
            cases.push(Case::get(host, target).method(method));
        }
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
        cases.push(
            Case::get("app.localhost", "/api/x")
                .method(method)
                .body("name=value&more=yes")
                .header("Content-Type", "application/x-www-form-urlencoded"),
        );
        cases.push(
            Case::get("app.localhost", "/api/x")
                .method(method)
                .body("some chunks")
                .header("Transfer-Encoding", "chunked"),
        );
    }
    cases.push(
        Case::get("app.localhost", "/api/x")
            .method("POST")
            .header("Content-Length", "0"),
    );
    cases.push(
        Case::get("app.localhost", "/api/x")
            .method("POST")
            .body("expected")
            .header("Expect", "100-continue"),
    );
    cases
}

fn client_claims() -> Vec<Case> {
    let claims = [
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-For", "9.9.9.9, 8.8.8.8"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Proto", "wss"),
        ("X-Forwarded-Host", "claimed.test"),
        ("X-Forwarded-Port", "444"),
        ("X-Forwarded-Prefix", "/claimed"),
        ("X-Forwarded-Server", "claimed"),
        ("X-Forwarded-Uri", "/claimed"),
        ("X-Forwarded-Method", "PUT"),
        ("X-Forwarded-Tls-Client-Cert", "claimed"),
        ("X-Real-Ip", "9.9.9.9"),
        ("Forwarded", "for=9.9.9.9"),
        ("Via", "1.1 claimed"),
        ("X_Forwarded_For", "9.9.9.9"),
        ("X-Forwarded-Scheme", "https"),
        ("X-Original-Url", "/claimed"),
        ("CF-Connecting-IP", "9.9.9.9"),
    ];
    let mut cases = Vec::new();
    for (name, value) in claims {
        cases.push(Case::get("app.localhost", "/api/x").header(name, value));
        cases.push(
            Case::get("app.localhost", "/api/x")
                .header(name, value)
                .trusted(),
        );
    }
    cases.push(
        Case::get("secure.localhost", "/x")
            .header("X-Forwarded-Proto", "https")
            .trusted(),
    );
    cases.push(
        Case::get("a.tenants.localhost", "/")
            .header("X-Internal", "secret")
            .header("X-Tenant-Door", "no"),
    );
    cases.push(Case::get("app.localhost", "/").header("X-Preview", "yes"));
    cases.push(Case::get("app.localhost", "/?preview=yes"));
    cases.push(Case::get("app.localhost", "/api/x?preview=yes&z"));
    cases.push(Case::get("app.localhost", "/odd").header("x-preview", "yes"));
    cases
}

fn connection_fields() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("Connection", "close, X-Mine"),
        ("Connection", "close, X-Forwarded-For, X-Real-Ip, Host"),
        ("Connection", "keep-alive, close"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Te", "trailers"),
        ("TE", "gzip, trailers"),
        ("TE", "gzip"),
        ("Trailer", "X-Checksum"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
        ("Cookie", "a=1; b=2"),
        ("User-Agent", ""),
        ("Accept", "*/*"),
        ("Range", "bytes=0-3"),
        ("If-None-Match", "\"1\""),
        ("Authorization", "Bearer token"),
        ("x-lower-case", "kept"),
        ("X-Empty", ""),
        ("Cache-Control", "no-cache"),
    ] {
        cases.push(
            Case::get("app.localhost", "/api/x")
                .header(name, value)
                .header("X-Mine", "1"),
        );
    }
    cases.push(
        Case::get("app.localhost", "/api/x")
            .header("X-Twice", "1")
            .header("X-Twice", "2"),
    );
    cases
}

fn cross_origin() -> Vec<Case> {
    let mut cases = Vec::new();
    for origin in [
        "https://app.localhost",
        "https://evil.localhost",
        "null",
        "HTTPS://app.localhost",
    ] {
        cases.push(Case::get("app.localhost", "/api/x").header("Origin", origin));
        cases.push(Case::get("app.localhost", "/api/cors").header("Origin", origin));
        cases.push(
            Case::get("app.localhost", "/api/x")
                .method("OPTIONS")
                .header("Origin", origin)
                .header("Access-Control-Request-Method", "PUT"),
        );
        cases.push(
            Case::get("app.localhost", "/api/x")
                .method("OPTIONS")
                .header("Origin", origin)
                .header("Access-Control-Request-Method", "DELETE")
                .header("Access-Control-Request-Headers", "X-Own"),
        );
        cases.push(
            Case::get("app.localhost", "/api/x")
                .method("OPTIONS")
                .header("Origin", origin),
        );
    }
    cases.push(
        Case::get("app.localhost", "/api/x")
            .method("OPTIONS")
            .header("Access-Control-Request-Method", "PUT"),
    );
    cases
}

fn compression() -> Vec<Case> {
    let mut cases = Vec::new();
    for accepts in [
        "gzip",
        "br",
        "zstd",
        "gzip, br, zstd",
        "br, gzip",
        "gzip;q=0.5, br;q=0.9",
        "gzip;q=0",
        "identity",
        "deflate",
        "",
        "GZIP",
        "gzip, identity;q=0.5",
    ] {
        cases.push(Case::get("app.localhost", "/api/large").header("Accept-Encoding", accepts));
    }
    for target in [
        "/api/image",
        "/api/small",
        "/api/packed",
        "/api/chunked",
        "/api/untyped",
        "/api/empty",
        "/api/unchanged",
        "/api/missing",
    ] {
        cases.push(Case::get("app.localhost", target).header("Accept-Encoding", "gzip"));
        cases.push(Case::get("app.localhost", target).header("Accept-Encoding", "br"));
    }
    cases.push(
        Case::get("app.localhost", "/api/large")
            .method("HEAD")
            .header("Accept-Encoding", "gzip"),
    );
    cases.push(Case::get("app.localhost", "/api/large"));
    cases
}

fn passwords() -> Vec<Case> {
    let mut cases = Vec::new();
    for credentials in [
        "Basic YWRtaW46cG9ydHdheQ==",
        "basic YWRtaW46cG9ydHdheQ==",
        "Basic YWRtaW46d3Jvbmc=",
        "Basic bm9ib2R5OnBvcnR3YXk=",
        "Basic ???",
        "Basic",
        "Bearer YWRtaW46cG9ydHdheQ==",
        "Basic YWRtaW4=",
    ] {
        cases.push(Case::get("office.localhost", "/desk").header("Authorization", credentials));
    }
    cases.push(
        Case::get("office.localhost", "/desk")
            .header("Authorization", "Basic YWRtaW46cG9ydHdheQ==")
            .header("X-Office-User", "forged"),
    );
    cases.push(Case::get("office.localhost", "/reports/7"));
    cases
}

fn moved() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in ["/", "/a/b?c=d", "/%20x", "/a%2Fb", "/?", "/ä", "//x"] {
        cases.push(Case::get("old-app.localhost", target));
        cases.push(Case::get("old-app.localhost:8000", target));
        cases.push(Case::get("secure.localhost", target));
        cases.push(Case::get("secure.localhost:8000", target));
    }
    cases
}

fn answers() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in [
        "/large",
        "/image",
        "/packed",
        "/chunked",
        "/empty",
        "/unchanged",
        "/missing",
        "/broken",
        "/away",
        "/hop",
        "/many",
        "/cors",
        "/untyped",
        "/odd",
    ] {
        cases.push(Case::get("app.localhost", target));
        cases.push(
            Case::get("app.localhost", target)
                .header("Accept-Encoding", "identity")
                .method("POST")
                .body("x"),
        );
        cases.push(Case::get("a.tenants.localhost", target));
    }
    for version in ["HTTP/1.0"] {
        for target in ["/", "/large", "/chunked", "/empty", "/api/x"] {
            cases.push(
                Case::get("app.localhost", target)
                    .version(version)
                    .header("Accept-Encoding", "identity"),
            );
        }
    }
    cases
}

fn doors() -> Vec<Case> {
    let mut cases = Vec::new();
    for (door, protocol) in [
        (Door::Secure, Protocol::Http1),
        (Door::Secure, Protocol::Http2),
        (Door::Web, Protocol::Http2),
        (Door::Plain, Protocol::Raw),
    ] {
        for (host, target) in [
            ("app.localhost", "/"),
            ("app.localhost", "/api/x?y=1"),
            ("app.localhost", "/api/large"),
            ("app.localhost", "/many"),
            ("unknown.localhost", "/"),
            ("a.tenants.localhost", "/"),
            ("app.localhost", "/missing"),
        ] {
            cases.push(Case::get(host, target).through(door, protocol));
            cases.push(
                Case::get(host, target)
                    .through(door, protocol)
                    .method("POST")
                    .body("posted")
                    .header("Accept-Encoding", "gzip")
                    .header("X-Forwarded-Proto", "http")
                    .header("Cookie", "a=1"),
            );
        }
        cases.push(Case::get("app.localhost:8443", "/api/x").through(door, protocol));
        cases.push(
            Case::get("app.localhost", "/api/x")
                .through(door, protocol)
                .method("HEAD"),
        );
    }
    cases
}

fn oddities() -> Vec<Case> {
    let mut cases = Vec::new();
    for host in [
        "",
        "app.localhost:",
        "app.localhost:80",
        "app.localhost:http",
        "[::1]",
        "[::1]:8000",
        "127.0.0.1",
        "shop_x.localhost",
        "-.tenants.localhost",
        "xn--mnchen-3ya.tenants.localhost",
    ] {
        cases.push(Case::get(host, "/").strict());
    }
    cases.push(Case::get("app.localhost", "*").method("OPTIONS"));
    cases.push(
        Case::get("app.localhost", "app.localhost:443")
            .method("CONNECT")
            .strict(),
    );
    cases.push(Case::get("app.localhost", "/api/x").method("get"));
    cases.push(Case::get("app.localhost", "x").strict());
    cases.push(Case::get("app.localhost", "*").strict());
    cases
}
