//! A back end under the test's control: a small HTTP/1.1 server that keeps the exact bytes it saw and answers what a script says.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::loopback;

/// One request as the back end saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: String,
    /// Field lines in order and in the spelling that arrived.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Which connection of the back end carried it, counted from one.
    pub connection: usize,
    /// How many requests that connection had carried, this one included.
    pub nth: usize,
}

impl Seen {
    /// The first field with that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn count(&self, name: &str) -> usize {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .count()
    }

    /// The path of the target, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// One thing a scripted answer does.
#[derive(Clone, Debug)]
pub enum Step {
    Write(Vec<u8>),
    Pause(Duration),
    /// Closes the connection at once.
    Close,
    /// Sends everything the client sends from now on back to it, until it closes.
    Echo,
    /// Keeps the connection open without a byte until the peer closes it.
    Hang,
}

/// What the back end does for one request.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub steps: Vec<Step>,
}

impl Reply {
    /// Raw bytes, sent as they are.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::default().write(bytes)
    }

    /// An ordinary answer with a Content-Length.
    pub fn status(status: u16, body: &str) -> Self {
        Self::with(status, &[], body)
    }

    pub fn with(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let fields: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        Self::raw(format!(
            "HTTP/1.1 {status} Scripted\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    pub fn write(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Write(bytes.as_ref().to_vec()));
        self
    }

    pub fn pause(mut self, time: Duration) -> Self {
        self.steps.push(Step::Pause(time));
        self
    }

    pub fn close(mut self) -> Self {
        self.steps.push(Step::Close);
        self
    }

    pub fn echo(mut self) -> Self {
        self.steps.push(Step::Echo);
        self
    }

    pub fn hang(mut self) -> Self {
        self.steps.push(Step::Hang);
        self
    }
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// A back end about to be started.
pub struct BackendBuilder {
    name: String,
    at: Option<SocketAddr>,
    script: Script,
    tls: Option<TlsAcceptor>,
    reads_body: bool,
}

/// A running back end; it ends when dropped.
pub struct Backend {
    pub name: String,
    pub addr: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    accept: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// Everything received, connection by connection, framed or not.
    bytes: Mutex<Vec<Vec<u8>>>,
}

/// Prepares a back end that echoes what it saw as JSON and calls itself `name` in `X-Backend`.
pub fn backend(name: &str) -> BackendBuilder {
    let own = name.to_owned();
    BackendBuilder {
        name: name.to_owned(),
        at: None,
        script: Arc::new(move |seen| echo(&own, seen)),
        tls: None,
        reads_body: true,
    }
}

fn echo(name: &str, seen: &Seen) -> Reply {
    if seen.method == "HEAD" {
        return Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nX-Backend: {name}\r\nContent-Type: application/json\r\nContent-Length: 1234\r\n\r\n"
        ));
    }
    let body = json!({
        "name": name,
        "method": seen.method,
        "target": seen.target,
        "headers": seen.headers,
        "body": String::from_utf8_lossy(&seen.body),
        "trailers": seen.trailers,
    });
    Reply::with(
        200,
        &[("X-Backend", name), ("Content-Type", "application/json")],
        &body.to_string(),
    )
}

impl BackendBuilder {
    /// Answers with what `script` says for each request.
    pub fn reply(mut self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        self.script = Arc::new(script);
        self
    }

    /// Listens on a given address: the same server, back again.
    pub fn at(mut self, addr: SocketAddr) -> Self {
        self.at = Some(addr);
        self
    }

    pub fn tls(mut self, acceptor: TlsAcceptor) -> Self {
        self.tls = Some(acceptor);
        self
    }

    /// Answers as soon as the head is there, while the body is still coming.
    pub fn early(mut self) -> Self {
        self.reads_body = false;
        self
    }

    pub async fn run(self) -> Backend {
        let listener = listen(self.at.unwrap_or_else(|| loopback(0)));
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let name = self.name.clone();
        let accept = tokio::spawn(accept(listener, Arc::clone(&shared), self));
        tokio::task::yield_now().await;
        Backend {
            name,
            addr,
            scheme,
            shared,
            accept,
        }
    }
}

impl Backend {
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the back end saw a request")
    }

    pub fn hits(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// All bytes received on all connections, as text.
    pub fn received(&self) -> String {
        self.shared
            .bytes
            .lock()
            .unwrap()
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }

    /// Forgets what was seen.
    pub fn reset(&self) {
        self.shared.seen.lock().unwrap().clear();
        self.shared.bytes.lock().unwrap().clear();
    }

    /// The different targets seen, sorted.
    pub fn targets(&self) -> Vec<String> {
        let set: HashSet<String> = self.seen().into_iter().map(|seen| seen.target).collect();
        let mut targets: Vec<String> = set.into_iter().collect();
        targets.sort();
        targets
    }

    /// Stops listening and cuts every connection, as a killed process would.
    pub async fn kill(self) {
        self.accept.abort();
        while !self.accept.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

fn listen(addr: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    socket.listen(1024).unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, settings: BackendBuilder) {
    let settings = Arc::new(settings);
    // Dropping the set (when the accept task is aborted) cuts the connections too.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        connections.spawn(serve(stream, Arc::clone(&shared), Arc::clone(&settings)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, settings: Arc<BackendBuilder>) {
    let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
    let slot = {
        let mut all = shared.bytes.lock().unwrap();
        all.push(Vec::new());
        all.len() - 1
    };
    match &settings.tls {
        None => converse(stream, shared, &settings, number, slot).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                converse(stream, shared, &settings, number, slot).await;
            }
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: Arc<Shared>,
    settings: &BackendBuilder,
    number: usize,
    slot: usize,
) {
    let mut wire = Wire {
        stream,
        buffer: Vec::new(),
        shared: Arc::clone(&shared),
        slot,
    };
    let mut nth = 0;
    while let Some(mut seen) = wire.head().await {
        nth += 1;
        (seen.connection, seen.nth) = (number, nth);
        let (reads_body, wants_continue) = (settings.reads_body, seen.header("expect").is_some());
        if reads_body {
            if wants_continue
                && wire
                    .stream
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                    .await
                    .is_err()
            {
                return;
            }
            if wire.body(&mut seen).await.is_none() {
                return;
            }
        }
        let last = seen
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let reply = (settings.script)(&seen);
        shared.seen.lock().unwrap().push(seen);
        if !wire.play(reply).await || last {
            wire.stream.shutdown().await.ok();
            return;
        }
    }
}

struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
    slot: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    async fn fill(&mut self) -> Option<()> {
        let mut chunk = vec![0; 16 * 1024];
        let read = self
            .stream
            .read(&mut chunk)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        if let Some(bytes) = self.shared.bytes.lock().unwrap().get_mut(self.slot) {
            bytes.extend_from_slice(&chunk[..read.min(4096)]);
        }
        Some(())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill().await?;
        }
    }

    async fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    async fn head(&mut self) -> Option<Seen> {
        let line = self.line().await?;
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (method, target, version) = (
            words.next()?,
            words.next()?,
            words.next().unwrap_or_default(),
        );
        let headers = self.fields().await?;
        Some(Seen {
            method,
            target,
            version,
            headers,
            ..Seen::default()
        })
    }

    async fn body(&mut self, seen: &mut Seen) -> Option<()> {
        if seen.header("transfer-encoding").is_some() {
            loop {
                let size =
                    usize::from_str_radix(self.line().await?.split(';').next()?.trim(), 16).ok()?;
                if size == 0 {
                    seen.trailers = self.fields().await?;
                    return Some(());
                }
                let chunk = self.take(size).await?;
                seen.body.extend_from_slice(&chunk);
                self.line().await?;
            }
        }
        let length = seen
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        seen.body = self.take(length).await?;
        Some(())
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Plays a reply; false when the connection is over.
    async fn play(&mut self, reply: Reply) -> bool {
        for step in reply.steps {
            match step {
                Step::Write(bytes) => {
                    if self.stream.write_all(&bytes).await.is_err()
                        || self.stream.flush().await.is_err()
                    {
                        return false;
                    }
                }
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::Close => return false,
                Step::Echo => loop {
                    let bytes = std::mem::take(&mut self.buffer);
                    if self.stream.write_all(&bytes).await.is_err() || self.fill().await.is_none() {
                        return false;
                    }
                },
                Step::Hang => {
                    while self.fill().await.is_some() {}
                    return false;
                }
            }
        }
        true
    }
}
