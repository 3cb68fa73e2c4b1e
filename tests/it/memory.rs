//! Whatever is sent through the middlewares that look at bodies, the process keeps little of it.
//!
//! The bound: at most [`GROWTH`] more than the idle process has, at any time. It leaves room for the buffers of sockets and of the
//! coders, and for the megabytes per request that the options allow.

use std::{io::Write as _, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Proxy, proxy};

/// In KiB.
const GROWTH: u64 = 96 * 1024;
const MIB: usize = 1 << 20;

/// A server that throws away what it is sent, and answers with as many MiB as the path says: of `z`eros, with an `e`rror too, or of a
/// `b`omb that says it is gzip.
async fn sink() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    url
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    let head = head(&mut stream).await?;
    let mut left = length(&head);
    let mut block = vec![0; MIB];
    while left > 0 {
        let count = stream
            .read(&mut block)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        left = left.saturating_sub(count);
    }
    let path = head.split(' ').nth(1)?;
    let pieces: usize = path.get(2..)?.parse().ok()?;
    let (piece, coding) = match path.get(1..2)? {
        "b" => (bomb(), "Content-Encoding: gzip\r\n"),
        _ => (vec![0; MIB], ""),
    };
    let status = match path.get(1..2)? {
        "e" => "500 Internal Server Error",
        _ => "200 OK",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n{coding}Content-Length: {}\r\n\r\n",
        piece.len() * pieces
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    for _ in 0..pieces {
        stream.write_all(&piece).await.ok()?;
    }
    Some(())
}

/// A small file that unpacks to 64 MiB.
fn bomb() -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..64 {
        packer.write_all(&vec![0; MIB]).unwrap();
    }
    packer.finish().unwrap()
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths
        .next()
        .map_or(0, |(_, value)| value.parse().unwrap())
}

async fn start() -> Proxy {
    let url = sink().await;
    let routing = format!(
        "http:\n  routers:\n    whole: {{rule: 'Host(`whole`)', service: sink, middlewares: [whole]}}\n    passing: {{rule: 'Host(`passing`)', service: sink, middlewares: [again, packed]}}\n    all: {{rule: 'Host(`all`)', service: sink, middlewares: [again, packed, whole]}}\n    paged: {{rule: 'Host(`paged`)', service: sink, middlewares: [paged]}}\n    copied: {{rule: 'Host(`copied`)', service: copied}}\n  middlewares:\n    whole: {{buffering: {{memRequestBodyBytes: 1000000, retryExpression: 'IsNetworkError() && Attempts() < 3'}}}}\n    again: {{retry: {{attempts: 3, status: ['500-599']}}}}\n    packed: {{compress: {{}}}}\n    paged: {{errors: {{status: ['500'], statusRewrites: {{'500': 200}}, service: sink, query: /z2}}}}\n  services:\n    sink: {{loadBalancer: {{servers: [{{url: '{url}'}}]}}}}\n    other: {{loadBalancer: {{servers: [{{url: '{url}'}}]}}}}\n    copied: {{mirroring: {{service: sink, mirrors: [{{name: other, percent: 100}}]}}}}\n"
    );
    proxy(&routing.replace("compress: {}", "compress: {minResponseBodyBytes: 10}"))
        .run()
        .await
}

/// The most memory that the process ever had, in KiB.
fn most(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// Uploads so many MiB of random bytes, and reads the answer; its status and how much came.
async fn exchange(proxy: &Proxy, host: &str, path: &str, upload: usize) -> (String, usize) {
    let mut stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        upload * MIB
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut block = vec![0; MIB];
    fastrand::Rng::with_seed(7).fill(&mut block);
    for _ in 0..upload {
        stream.write_all(&block).await.unwrap();
    }
    let head = head(&mut stream).await.unwrap();
    let mut came = 0;
    loop {
        match stream.read(&mut block).await.unwrap() {
            0 => return (head.lines().next().unwrap().to_owned(), came),
            count => came += count,
        }
    }
}

async fn bounded(proxy: &Proxy, what: &str, work: impl Future<Output = (String, usize)>) -> usize {
    let before = most(proxy);
    let done = tokio::time::timeout(Duration::from_secs(110), work).await;
    let (status, came) = done.unwrap_or_else(|_| panic!("{what} takes too long"));
    assert_eq!(status, "HTTP/1.1 200 OK", "{what}");
    let grown = most(proxy) - before;
    assert!(grown < GROWTH, "{what}: {grown} KiB more");
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_passes_through_a_file_and_none_of_it_stays() {
    let proxy = start().await;
    bounded(&proxy, "buffering", exchange(&proxy, "whole", "/z0", 1024)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_passes_through_retry_and_compress() {
    let proxy = start().await;
    bounded(&proxy, "retry", exchange(&proxy, "passing", "/z0", 1024)).await;
    let came = bounded(&proxy, "compress", exchange(&proxy, "passing", "/z256", 0)).await;
    assert!(came < 16 * MIB, "{came} bytes are not compressed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_passes_through_errors_and_mirroring() {
    let proxy = start().await;
    let came = bounded(&proxy, "errors", exchange(&proxy, "paged", "/e1", 1024)).await;
    assert_eq!(
        came,
        2 * MIB,
        "the page, and nothing of the answer before it"
    );
    // Kept for the mirror until it is clear that it is too much.
    bounded(&proxy, "mirroring", exchange(&proxy, "copied", "/z0", 1024)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_are_not_unpacked() {
    let proxy = start().await;
    for host in ["whole", "passing", "all", "paged", "copied"] {
        let came = bounded(&proxy, host, exchange(&proxy, host, "/b40", 40)).await;
        assert_eq!(came, bomb().len() * 40, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_cost_nothing_and_stop_nothing() {
    let proxy = start().await;
    let before = most(&proxy);
    let mut random = fastrand::Rng::with_seed(99);
    for round in 0..200 {
        let mut stream = TcpStream::connect(proxy.addr("web")).await.unwrap();
        let mut bytes = vec![0; random.usize(..65_536)];
        random.fill(&mut bytes);
        let host = ["whole", "passing", "all", "paged", "copied"][round % 5];
        if round % 2 == 0 {
            // A head that is right, and a body that is anything but.
            let head = format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n"
            );
            bytes.splice(..0, head.into_bytes());
        }
        // A proxy that has seen enough may close at any time.
        stream.write_all(&bytes).await.ok();
    }
    let grown = most(&proxy) - before;
    assert!(grown < GROWTH, "{grown} KiB more");
    bounded(
        &proxy,
        "an ordinary request",
        exchange(&proxy, "all", "/z1", 1),
    )
    .await;
}
