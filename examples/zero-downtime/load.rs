//! A steady load: so many requests a second, whatever comes back, over kept and fresh connections. Nothing is ever repeated, so that
//! every failure counts.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// What to ask, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub host: String,
    pub per_second: u32,
    /// Whether POSTs say that they may be repeated, as clients do that cannot lose one.
    pub idempotency_key: bool,
}

/// One request and what came of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was sent, from the start of the load.
    pub at: Duration,
    pub took: Duration,
    /// The status, or what went wrong.
    pub outcome: Result<u16, String>,
    /// Who answered.
    pub server: String,
}

impl Sample {
    pub fn failed(&self) -> bool {
        self.outcome != Ok(200)
    }
}

/// A load under way.
pub struct Running {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<Sample>>,
    pub started: Instant,
}

impl Running {
    /// Stops asking, and waits for the answers that are due.
    pub async fn finish(self) -> Vec<Sample> {
        self.stop.store(true, Relaxed);
        self.task.await.unwrap_or_default()
    }
}

impl Load {
    /// Asks once, over a connection of its own; the status.
    pub async fn once(self) -> Result<u16, String> {
        let client = Client::new(self);
        let asked = timeout(PATIENCE, client.ask(0)).await;
        let answer = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        answer.map(|(status, _)| status)
    }

    /// Begins.
    pub fn start(self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let task = tokio::spawn(self.run(started, Arc::clone(&stop)));
        Running {
            stop,
            task,
            started,
        }
    }

    async fn run(self, started: Instant, stop: Arc<AtomicBool>) -> Vec<Sample> {
        let client = Arc::new(Client::new(self));
        let mut ticks = interval(Duration::from_secs(1) / client.load.per_second.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut running, mut samples) = (JoinSet::new(), Vec::new());
        for number in 0_u64.. {
            ticks.tick().await;
            if stop.load(Relaxed) {
                break;
            }
            let client = Arc::clone(&client);
            running.spawn(async move {
                let at = started.elapsed();
                let asked = timeout(PATIENCE, client.ask(number)).await;
                let answer = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
                let took = started.elapsed() - at;
                let (outcome, server) = match answer {
                    Ok((status, server)) => (Ok(status), server),
                    Err(wrong) => (Err(wrong), String::new()),
                };
                Sample {
                    at,
                    took,
                    outcome,
                    server,
                }
            });
            while let Some(Ok(sample)) = running.try_join_next() {
                samples.push(sample);
            }
        }
        samples.extend(running.join_all().await);
        samples.sort_by_key(|sample| sample.at);
        samples
    }
}

struct Client {
    load: Load,
    /// Connections that may be used again, the last one on top.
    idle: Mutex<Vec<(TcpStream, Instant)>>,
    /// The last sticky cookie.
    cookie: Mutex<Option<String>>,
}

/// A status and who answered.
type Answer = Result<(u16, String), String>;

impl Client {
    fn new(load: Load) -> Self {
        Self {
            load,
            idle: Mutex::default(),
            cookie: Mutex::default(),
        }
    }

    async fn ask(&self, number: u64) -> Answer {
        let fresh = number.is_multiple_of(2);
        let kept = if fresh { None } else { self.kept() };
        let kind = if kept.is_some() { "kept" } else { "fresh" };
        let wrong = |what: &str, error: io::Error| format!("{kind} connection, {what}: {error}");
        let mut stream = match kept {
            Some(stream) => stream,
            None => self
                .connect()
                .await
                .map_err(|error| wrong("connect", error))?,
        };
        let request = self.request(number, fresh);
        let sent = stream.write_all(request.as_bytes()).await;
        sent.map_err(|error| wrong("send", error))?;
        let received = read(&mut stream).await;
        let (head, body) = received.map_err(|error| wrong("receive", error))?;
        let status = head
            .get(9..12)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| "not an answer".to_owned())?;
        if let Some(cookie) = field(&head, "set-cookie") {
            let value = cookie.split(';').next().unwrap_or_default().to_owned();
            if let Ok(mut kept) = self.cookie.lock() {
                *kept = Some(value);
            }
        }
        let closes =
            field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !fresh
            && !closes
            && let Ok(mut idle) = self.idle.lock()
        {
            idle.push((stream, Instant::now()));
        }
        let server = body.split(' ').next().unwrap_or_default().to_owned();
        Ok((status, server))
    }

    /// Every second request is the only one of its connection, every tenth a POST, every fourth one of a client that has a cookie.
    fn request(&self, number: u64, fresh: bool) -> String {
        let post = matches!(number % 20, 3 | 8);
        let mut request = format!(
            "{} /{number} HTTP/1.1\r\nHost: {}\r\n",
            if post { "POST" } else { "GET" },
            self.load.host
        );
        if fresh {
            request.push_str("Connection: close\r\n");
        }
        if post {
            request.push_str("Content-Length: 4\r\n");
        }
        if post && self.load.idempotency_key {
            request.push_str(&format!("Idempotency-Key: {number}\r\n"));
        }
        if number.is_multiple_of(4)
            && let Some(cookie) = self.cookie.lock().ok().and_then(|cookie| cookie.clone())
        {
            request.push_str(&format!("Cookie: {cookie}\r\n"));
        }
        request.push_str(if post { "\r\nbody" } else { "\r\n" });
        request
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.load.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection that the other side has not closed, as far as one can know.
    fn kept(&self) -> Option<TcpStream> {
        let mut idle = self.idle.lock().ok()?;
        idle.retain(|(_, since)| since.elapsed() < LONGEST_IDLE);
        // The oldest first, so that many connections are in use.
        while !idle.is_empty() {
            let (stream, _) = idle.remove(0);
            let alive = matches!(
                stream.try_read(&mut [0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock
            );
            if alive {
                return Some(stream);
            }
        }
        None
    }
}

/// The head and the body of an answer.
async fn read(stream: &mut TcpStream) -> io::Result<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = field(&head, "content-length").and_then(|text| text.parse().ok());
        let whole = end + 4 + length.unwrap_or(0_usize);
        while bytes.len() < whole {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let body = String::from_utf8_lossy(&bytes[end + 4..whole]).into_owned();
        return Ok((head, body));
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    Some(found.1.trim())
}

/// What counts as a failure of patience.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_IDLE: Duration = Duration::from_secs(5);
