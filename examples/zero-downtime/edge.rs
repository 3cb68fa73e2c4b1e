//! A proxy as a process of this machine: Portway or Traefik, with the same flags.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::{
    load::Load,
    stack::{LABEL, Stack},
};

/// A proxy that follows the containers of one stack.
pub struct Edge {
    child: Child,
    /// Where clients ask.
    pub address: SocketAddr,
    /// Where its API is.
    pub api: SocketAddr,
    host: String,
    log: PathBuf,
}

impl Edge {
    /// Starts a proxy on a free port.
    pub fn start(binary: &Path, stack: &Stack) -> io::Result<Self> {
        let address = free()?;
        Self::start_at(binary, stack, address, false)
    }

    /// Starts a proxy at an address that it shares with others if so told.
    pub fn start_at(
        binary: &Path,
        stack: &Stack,
        address: SocketAddr,
        shared: bool,
    ) -> io::Result<Self> {
        let api = free()?;
        let log = stack.folder().join(format!("edge-{}.log", api.port()));
        let file = File::create(&log)?;
        let mut command = Command::new(binary);
        command.args([
            format!("--entryPoints.web.address={address}"),
            format!("--entryPoints.web.reusePort={shared}"),
            format!("--entryPoints.traefik.address={api}"),
            "--providers.docker.exposedByDefault=false".to_owned(),
            format!(
                "--providers.docker.constraints=Label(`{LABEL}`,`{}`)",
                stack.name
            ),
            "--api.insecure=true".to_owned(),
            "--ping=true".to_owned(),
            "--log.level=INFO".to_owned(),
            "--global.checkNewVersion=false".to_owned(),
            "--global.sendAnonymousUsage=false".to_owned(),
        ]);
        if let Some(engine) = stack.engine() {
            command.arg(format!("--providers.docker.endpoint={engine}"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            child,
            address,
            api,
            host: stack.host(),
            log,
        })
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// A load on it.
    pub fn load(&self, per_second: u32) -> Load {
        Load {
            address: self.address,
            host: self.host.clone(),
            per_second,
            idempotency_key: false,
        }
    }

    /// Waits until so many replicas answer.
    pub async fn serves(&self, replicas: usize) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let running = self.load(100).start();
            sleep(Duration::from_millis(200)).await;
            let samples = running.finish().await;
            let mut servers: Vec<&str> = samples.iter().map(|sample| &*sample.server).collect();
            servers.sort_unstable();
            servers.dedup();
            if servers.len() == replicas && samples.iter().all(|sample| !sample.failed()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "{replicas} replicas should answer, but: {servers:?}\n{}",
                    self.log()
                )));
            }
        }
    }

    /// Tells it to end, and waits until it has.
    pub async fn end(mut self) -> io::Result<()> {
        if let Some(pid) = self.child.id() {
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        self.child.wait().await?;
        Ok(())
    }
}

/// An address that nobody uses. Its port is below those that outgoing connections get, so that none of these takes it meanwhile.
pub fn free() -> io::Result<SocketAddr> {
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(10_240..32_000)));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}
