//! A real Redis on loopback that keeps nothing.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{eventually, free_port, loopback};

/// A running Redis. It is killed when dropped.
pub struct Redis {
    child: Child,
    dir: TempDir,
    options: Vec<String>,
    pub port: u16,
}

impl Redis {
    pub async fn start(options: &[&str]) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let child = serve(&dir, port, &options);
        let redis = Self {
            child,
            dir,
            options,
            port,
        };
        redis.ready().await;
        redis
    }

    /// Kills it: connections end and everything is forgotten.
    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub async fn start_again(&mut self) {
        self.child = serve(&self.dir, self.port, &self.options);
        self.ready().await;
    }

    /// Sends it a signal: `STOP` makes it answer nobody.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    pub fn address(&self) -> String {
        loopback(self.port).to_string()
    }

    /// The answer to one command, as it comes over the wire.
    pub async fn ask(&self, command: &str) -> String {
        self.try_ask(command).await.unwrap()
    }

    async fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(loopback(self.port)).await?;
        let text = format!("{command}\r\nQUIT\r\n");
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn ready(&self) {
        eventually("Redis answers", async || {
            let answer = self.try_ask("PING").await.ok()?;
            (answer.starts_with('+') || answer.starts_with("-NOAUTH")).then_some(())
        })
        .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn serve(dir: &TempDir, port: u16, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(dir.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error} (tests/setup installs it)"))
}
