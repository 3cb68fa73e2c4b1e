//! `portway replica`: a small application to put behind the proxy, alone in a container or three at a time in the demo.

mod websocket;

use std::{
    convert::Infallible,
    future::Future,
    io::{self, Write as _},
    net::{Ipv6Addr, SocketAddr},
    pin::pin,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use crate::runtime;

/// Serves until it is told to stop, and until what runs then has ended.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let served = Options::of(arguments)
        .map_err(io::Error::other)
        .and_then(|options| runtime::control(options.serve())?);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&format!("replica: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) port: u16,
    name: Option<String>,
}

impl Options {
    pub(super) fn of(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            port: PORT,
            name: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), rest.next().cloned()),
            };
            match (flag, value) {
                ("--port", Some(value)) => {
                    let wrong = |_| format!("--port: `{value}` is not a port");
                    options.port = value.parse().map_err(wrong)?;
                }
                ("--name", Some(value)) => options.name = Some(value),
                _ => {
                    return Err(format!(
                        "only --port N and --name NAME are understood, not `{argument}`"
                    ));
                }
            }
        }
        Ok(options)
    }

    async fn serve(self) -> io::Result<()> {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.port));
        // A machine without IPv6 refuses the one, every other takes both with it.
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind(("0.0.0.0", self.port)).await?,
        };
        let name = self.name.unwrap_or_else(|| {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        });
        let bound = listener.local_addr()?;
        // Nobody has to read it.
        drop(writeln!(io::stdout(), "{name} listens at {bound}"));
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Arc::new(Replica::new(name)).serve(listener, stop).await
    }
}

/// One copy of the application.
#[derive(Debug)]
pub(super) struct Replica {
    name: String,
    failed: AtomicBool,
    /// The end has come: every answer is the last one of its connection.
    leaving: AtomicBool,
    served: AtomicU64,
}

/// Connections that have become WebSockets, for whoever owns the tasks.
type Sockets = mpsc::Sender<OnUpgrade>;

impl Replica {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            failed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            served: AtomicU64::new(0),
        }
    }

    /// Serves until `stop`, and a moment longer: whoever sends us requests hears of it later than we do. Then nothing new is accepted,
    /// requests that run end, and WebSockets stay for as long as their clients wish.
    pub(super) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (sockets, mut opened) = mpsc::channel(SOCKETS_AT_ONCE);
        let (stopping, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        let serve = |socket| Arc::clone(&self).connection(socket, sockets.clone(), stopped.clone());
        let stop = async {
            stop.await;
            self.leaving.store(true, Relaxed);
            sleep(LAST_CALL).await;
        };
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => drop(tasks.spawn(serve(socket))),
                    // Out of descriptors, or a client that has left: neither is a reason to end.
                    Err(_) => sleep(REST).await,
                },
                Some(upgrade) = opened.recv() => drop(tasks.spawn(websocket::serve(upgrade))),
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                () = &mut stop => break,
            }
        }
        // What the kernel has accepted for us has been told that we are here.
        while let Some(Ok((socket, _))) = listener.accept().now_or_never() {
            tasks.spawn(serve(socket));
        }
        drop((listener, stopping, sockets));
        // No connection is left that could become a WebSocket when nobody can tell us of one.
        while let Some(upgrade) = opened.recv().await {
            tasks.spawn(websocket::serve(upgrade));
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn connection(
        self: Arc<Self>,
        socket: TcpStream,
        sockets: Sockets,
        mut stopped: watch::Receiver<()>,
    ) {
        // An answer that waits for more to send only waits.
        socket.set_nodelay(true).ok();
        let service = service_fn(|request| {
            let (replica, sockets) = (Arc::clone(&self), sockets.clone());
            async move {
                let leaving = replica.leaving.load(Relaxed);
                let mut response = replica.answer(request, &sockets).await;
                if leaving {
                    let headers = response.headers_mut();
                    headers
                        .entry(header::CONNECTION)
                        .or_insert(HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades()
        );
        // What went wrong with one connection is its client's to know.
        tokio::select! {
            ended = connection.as_mut() => return drop(ended),
            _ = stopped.changed() => {}
        }
        connection.as_mut().graceful_shutdown();
        drop(connection.await);
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        sockets: &Sockets,
    ) -> Response<Full<Bytes>> {
        let failed = self.failed.load(Relaxed);
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/fail") => {
                self.failed.store(true, Relaxed);
                text(StatusCode::OK, "failing from now on\n")
            }
            (&Method::POST, "/recover") => {
                self.failed.store(false, Relaxed);
                text(StatusCode::OK, "well again\n")
            }
            (_, "/health") => health(failed),
            (&Method::GET, "/ws") => websocket::accept(&mut request, sockets),
            (_, path) => {
                sleep(pause(path)).await;
                self.tell(request).await
            }
        }
    }

    /// Says who answers, and what was asked.
    async fn tell(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "too much\n");
        };
        let host = head.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let served = self.served.fetch_add(1, Relaxed) + 1;
        let answer = format!(
            "{} answered {} {host}{} (its request number {served}, {} bytes)\n",
            self.name,
            head.method,
            head.uri,
            body.to_bytes().len(),
        );
        text(StatusCode::OK, answer)
    }
}

fn health(failed: bool) -> Response<Full<Bytes>> {
    let (status, word) = match failed {
        true => (StatusCode::SERVICE_UNAVAILABLE, "failing"),
        false => (StatusCode::OK, "healthy"),
    };
    let body = serde_json::json!({
        "status": word,
        "timestamp": jiff::Timestamp::now().to_string(),
    });
    let mut response = text(status, body.to_string());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// How long `/wait/MILLISECONDS` takes.
fn pause(path: &str) -> Duration {
    let asked = path
        .strip_prefix("/wait/")
        .and_then(|text| text.parse().ok());
    asked
        .map_or(Duration::ZERO, Duration::from_millis)
        .min(LONGEST_PAUSE)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// What images of applications listen on.
const PORT: u16 = 80;
const SOCKETS_AT_ONCE: usize = 64;
/// How long a proxy may take to hear that we are leaving.
const LAST_CALL: Duration = Duration::from_millis(500);
const REST: Duration = Duration::from_millis(50);
const LONGEST_BODY: usize = 16 << 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<(u16, Option<String>), String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::of(&words).map(|options| (options.port, options.name))
    }

    #[test]
    fn options_have_defaults() {
        assert_eq!(options(""), Ok((80, None)));
        assert_eq!(
            options("--port 8080 --name=a"),
            Ok((8080, Some("a".to_owned())))
        );
        for wrong in ["--port", "--port x", "--port=70000", "8080", "--name"] {
            assert!(options(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_one_path_waits() {
        for (path, expected) in [
            ("/", 0),
            ("/wait/250", 250),
            ("/wait/x", 0),
            ("/wait/99999999", 60_000),
        ] {
            assert_eq!(pause(path), Duration::from_millis(expected), "{path}");
        }
    }
}
