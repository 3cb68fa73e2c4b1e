//! A Docker engine of our own, which can be stopped without taking anybody else's containers along.

use std::{
    fs::File,
    io,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::stack::{docker, said};

/// An engine that leaves containers running when it ends.
pub struct Engine {
    folder: tempfile::TempDir,
    child: Child,
    /// As the CLI and proxies want it.
    pub address: String,
}

impl Engine {
    pub async fn start() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = format!("unix://{}/docker.sock", folder.path().display());
        bridge().await?;
        let child = spawn(folder.path(), &address)?;
        let mut engine = Self {
            folder,
            child,
            address,
        };
        engine.answers().await?;
        Ok(engine)
    }

    /// Is away for a while.
    pub async fn restart(&mut self, away: Duration) -> io::Result<()> {
        self.stop().await?;
        sleep(away).await;
        self.child = spawn(self.folder.path(), &self.address)?;
        self.answers().await
    }

    async fn stop(&mut self) -> io::Result<()> {
        if let Some(pid) = self.child.id() {
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        self.child.wait().await.map(drop)
    }

    async fn answers(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = docker(Some(&self.address), &["version"]).await {
            if Instant::now() > deadline || self.child.try_wait()?.is_some() {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                return Err(io::Error::other(format!(
                    "{error}\n{}",
                    log.unwrap_or_default()
                )));
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id() {
            let kill = std::process::Command::new("kill")
                .arg(pid.to_string())
                .status();
            let deadline = Instant::now() + Duration::from_secs(10);
            while kill.is_ok()
                && matches!(self.child.try_wait(), Ok(None))
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let mut remove = std::process::Command::new("ip");
        // What cannot be removed now cannot be later either.
        remove.args(["link", "delete", BRIDGE]).status().ok();
    }
}

/// The engine needs a bridge of its own: told to have none, it would remove that of the usual engine.
async fn bridge() -> io::Result<()> {
    // One that an interrupted run has left behind.
    let remove = Command::new("ip").args(["link", "delete", BRIDGE]).output();
    remove.await?;
    for arguments in [
        &["link", "add", BRIDGE, "type", "bridge"][..],
        &["address", "add", "10.253.253.1/24", "dev", BRIDGE],
        &["link", "set", BRIDGE, "up"],
    ] {
        let output = Command::new("ip").args(arguments).output().await?;
        said(&output, arguments)?;
    }
    Ok(())
}

const BRIDGE: &str = "portway-zero";

/// Its packet filter stays as it is: two engines that both write it undo each other's rules.
fn spawn(folder: &Path, address: &str) -> io::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    Command::new("dockerd")
        .arg("--host")
        .arg(address)
        .args([
            "--live-restore",
            "--bridge",
            BRIDGE,
            "--iptables=false",
            "--ip6tables=false",
        ])
        .arg("--data-root")
        .arg(folder.join("data"))
        .arg("--exec-root")
        .arg(folder.join("exec"))
        .arg("--pidfile")
        .arg(folder.join("pid"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}
