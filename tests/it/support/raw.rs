//! Raw sockets for the requests that no well-behaved client would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An open socket that sends any bytes.
pub struct Raw {
    pub stream: TcpStream,
}

/// Everything that came back on a raw connection.
#[derive(Debug)]
pub struct RawAnswer {
    pub bytes: Vec<u8>,
    /// Whether the proxy closed the connection.
    pub closed: bool,
}

/// One answer cut out of raw bytes.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing said.
    pub complete: bool,
}

/// How long a silent connection is listened to before it counts as left open.
const QUIET: Duration = Duration::from_millis(700);

/// Sends `bytes` on a fresh connection and reads until it closes or falls silent.
pub async fn exchange(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> RawAnswer {
    let mut raw = Raw::open(addr).await;
    raw.send(bytes).await;
    raw.rest().await
}

impl Raw {
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends; a peer that has already closed is not an error here.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads until the connection closes or stays silent.
    pub async fn rest(&mut self) -> RawAnswer {
        self.rest_for(QUIET).await
    }

    pub async fn rest_for(&mut self, quiet: Duration) -> RawAnswer {
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
        loop {
            match tokio::time::timeout(quiet, self.stream.read(&mut chunk)).await {
                Err(_) => {
                    return RawAnswer {
                        bytes,
                        closed: false,
                    };
                }
                Ok(Ok(0) | Err(_)) => {
                    return RawAnswer {
                        bytes,
                        closed: true,
                    };
                }
                Ok(Ok(read)) => bytes.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Reads one head (up to the empty line) and nothing more.
    pub async fn head(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(Duration::from_secs(10), self.stream.read_u8()).await;
            match byte {
                Ok(Ok(byte)) => bytes.push(byte),
                _ => break,
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl RawAnswer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn answers(&self) -> Vec<Parsed> {
        parse_answers(&self.bytes)
    }

    /// The status codes in order.
    pub fn statuses(&self) -> Vec<u16> {
        self.answers().iter().map(|answer| answer.status).collect()
    }

    pub fn status(&self) -> u16 {
        self.statuses().first().copied().unwrap_or(0)
    }

    /// Whether the request was turned away for its form: at most one answer, a 4xx or 5xx of ours, then the end of the connection.
    pub fn refused(&self) -> bool {
        let statuses = self.statuses();
        self.closed
            && statuses.len() <= 1
            && statuses
                .iter()
                .all(|status| [400, 413, 414, 417, 431, 501, 505].contains(status))
    }
}

impl Parsed {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Cuts a byte stream into HTTP/1 answers.
pub fn parse_answers(mut bytes: &[u8]) -> Vec<Parsed> {
    let mut answers = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut answer = Parsed {
            status,
            headers,
            body: Vec::new(),
            complete: true,
        };
        if !(100..200).contains(&status) && status != 204 && status != 304 {
            bytes = take_body(&mut answer, bytes);
        }
        answers.push(answer);
    }
    answers
}

fn take_body<'a>(answer: &mut Parsed, bytes: &'a [u8]) -> &'a [u8] {
    if answer.header("transfer-encoding").is_some() {
        return take_chunks(answer, bytes);
    }
    let length = answer
        .header("content-length")
        .and_then(|length| length.parse::<usize>().ok());
    let taken = length.unwrap_or(bytes.len()).min(bytes.len());
    answer.complete = length.is_none_or(|length| length == taken);
    answer.body = bytes[..taken].to_vec();
    &bytes[taken..]
}

fn take_chunks<'a>(answer: &mut Parsed, mut bytes: &'a [u8]) -> &'a [u8] {
    answer.complete = false;
    while let Some(end) = find(bytes, b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end])
            .split(';')
            .next()
            .and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let Some(size) = size else { return &[] };
        bytes = &bytes[end + 2..];
        if size == 0 {
            let Some(end) = find(bytes, b"\r\n") else {
                return &[];
            };
            if end == 0 {
                answer.complete = true;
                return &bytes[2..];
            }
            let Some(end) = find(bytes, b"\r\n\r\n") else {
                return &[];
            };
            answer.complete = true;
            return &bytes[end + 4..];
        }
        let taken = size.min(bytes.len());
        answer.body.extend_from_slice(&bytes[..taken]);
        bytes = bytes.get(taken + 2..).unwrap_or_default();
    }
    bytes
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}
