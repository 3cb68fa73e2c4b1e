//! The gate on memory: how many allocations, and how many bytes, one proxied request may cost.
//!
//! Counts, not times, so the result is the same on every machine. Who adds an allocation to the request path finds out here, and
//! either does that work when the configuration is compiled or raises the limit with a reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use portway::{
    app::App,
    config::{Sources, load_install},
};

/// Counts what the proxy's threads ask for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Set by the threads of client and server, which are not measured.
    static UNCOUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count(bytes: usize) {
    if !UNCOUNTED.try_with(Cell::get).unwrap_or(true) {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

#[allow(
    unsafe_code,
    reason = "a global allocator cannot be had without; this one hands every call on unchanged"
)]
// SAFETY: all four functions pass their arguments to `System` as they came, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests before counting starts: pools fill, tables grow.
const WARM_UP: u64 = 300;
/// Requests counted in one round.
const COUNTED: u64 = 1000;
/// Other threads may do something of their own meanwhile (read files, make a certificate); the round with the least of it counts.
const ROUNDS: usize = 5;

/// One way of asking, and what it may cost.
struct Case {
    name: &'static str,
    request: &'static str,
    allocations: u64,
    /// In an unoptimised build, whose futures are several times as large as those of a release.
    bytes: u64,
}

const CASES: &[Case] = &[
    Case {
        name: "plain",
        request: "GET / HTTP/1.1\r\nHost: plain.test\r\nUser-Agent: gate\r\nAccept: */*\r\n\r\n",
        allocations: 4,
        bytes: 13_500,
    },
    Case {
        name: "a browser's headers",
        request: "GET /a/b?c=d HTTP/1.1\r\nHost: plain.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html\r\n\
                  Accept-Language: en\r\nAccept-Encoding: gzip, br\r\nCookie: a=b; c=d\r\nReferer: http://plain.test/\r\n\
                  Cache-Control: no-cache\r\nPragma: no-cache\r\nDNT: 1\r\n\r\n",
        allocations: 4,
        bytes: 13_500,
    },
    Case {
        name: "a body",
        request: "POST / HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 11\r\n\r\nhello there",
        allocations: 4,
        bytes: 13_500,
    },
    Case {
        name: "middlewares",
        request: "GET /api/x HTTP/1.1\r\nHost: full.test\r\nUser-Agent: gate\r\n\r\n",
        allocations: 8,
        bytes: 13_500,
    },
    Case {
        // One new path, one header that says what was taken off it, and a new place for each map of headers that grows.
        name: "five cheap middlewares",
        request: "GET /api/x HTTP/1.1\r\nHost: five.test\r\nUser-Agent: gate\r\n\r\n",
        allocations: 7,
        bytes: 13_500,
    },
    Case {
        name: "sticky",
        request: "GET / HTTP/1.1\r\nHost: sticky.test\r\nCookie: stuck=http://nowhere\r\n\r\n",
        allocations: 4,
        bytes: 13_500,
    },
];

const ROUTING: &str = r#"
http:
  routers:
    plain: { rule: "Host(`plain.test`)", service: app }
    full:
      rule: "Host(`full.test`) && PathPrefix(`/api`)"
      service: app
      middlewares: [strip, head, limit, flight]
    five:
      rule: "Host(`five.test`)"
      service: app
      middlewares: [one, strip, limit, allow, scheme]
    sticky: { rule: "Host(`sticky.test`)", service: sticky }
  middlewares:
    strip: { stripPrefix: { prefixes: [/api] } }
    head: { headers: { customRequestHeaders: { X-Script: "1" }, frameDeny: true } }
    limit: { rateLimit: { average: 1000000, burst: 1000000 } }
    one: { headers: { customRequestHeaders: { X-Script: "1" } } }
    allow: { ipAllowList: { sourceRange: [127.0.0.0/8] } }
    scheme: { redirectScheme: { scheme: http } }
    flight: { inFlightReq: { amount: 1000 } }
  services:
    app: { loadBalancer: { servers: [{ url: "http://SERVER" }] } }
    sticky: { loadBalancer: { sticky: { cookie: { name: stuck } }, servers: [{ url: "http://SERVER" }] } }
"#;

#[test]
fn a_proxied_request_allocates_no_more_than_agreed() {
    UNCOUNTED.set(true);
    let server = serve();
    let proxy = start_proxy(server);
    let mut over = Vec::new();
    for case in CASES {
        ask(&mut connect(proxy), case.request, WARM_UP);
    }
    for case in CASES {
        let (allocations, bytes) = (0..ROUNDS)
            .map(|_| measure(proxy, case.request))
            .min()
            .unwrap();
        let line = format!(
            "{}: {allocations} allocations, {bytes} bytes per request; agreed are {} and {}",
            case.name, case.allocations, case.bytes
        );
        // Written at once: the proxy's own panic hook would keep the text of a failed assertion to its log.
        writeln!(std::io::stderr(), "{line}").unwrap();
        if allocations > case.allocations || bytes > case.bytes {
            over.push(line);
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

/// Allocations and bytes per request.
fn measure(proxy: SocketAddr, request: &str) -> (u64, u64) {
    let mut client = connect(proxy);
    ask(&mut client, request, WARM_UP);
    let before = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
    ask(&mut client, request, COUNTED);
    let allocations = (ALLOCATIONS.load(Relaxed) - before.0) / COUNTED;
    (allocations, (BYTES.load(Relaxed) - before.1) / COUNTED)
}

/// A server that answers every head it reads, and never allocates for the count.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        UNCOUNTED.set(true);
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || {
                UNCOUNTED.set(true);
                while read_message(&mut stream).is_some() {
                    let answer =
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Starts the proxy as an embedder would, and waits until it answers.
fn start_proxy(server: SocketAddr) -> SocketAddr {
    let directory = tempfile::tempdir().unwrap().keep();
    let routing = directory.join("routing.yml");
    std::fs::write(&routing, ROUTING.replace("SERVER", &server.to_string())).unwrap();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let arguments = [
        "--core.workers=1".to_owned(),
        "--log.level=ERROR".to_owned(),
        "--metrics.prometheus=true".to_owned(),
        format!("--entryPoints.web.address={address}"),
        "--entryPoints.traefik.address=127.0.0.1:0".to_owned(),
        format!("--providers.file.filename={}", routing.display()),
    ];
    let sources = Sources {
        arguments: &arguments,
        environment: &[],
        directory: &directory,
        root: portway::config::Root::Here,
    };
    let loaded = load_install(&sources).expect("the gate's own configuration is right");
    thread::spawn(move || {
        App::new(loaded.install, loaded.diagnostics).run().unwrap();
    });
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "the proxy does not listen");
        thread::park_timeout(Duration::from_millis(20));
    }
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// Sends the request `times` times on one connection, each after the answer to the one before.
fn ask(client: &mut TcpStream, request: &str, times: u64) {
    for _ in 0..times {
        client.write_all(request.as_bytes()).unwrap();
        let head = read_message(client).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

/// Reads one head and the body it announces; the head, or nothing at the end of the connection.
fn read_message(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let mut block = [0; 4096];
    loop {
        let count = stream.read(&mut block).ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&block[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().unwrap());
        if body.len() >= length {
            return Some(head.to_owned());
        }
    }
}
