//! A gate in front of an authority: at any request it does what a test wants to see survived.

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::pebble::Pebble;
use crate::support::loopback;

/// What happens at a request.
pub enum Act {
    Pass,
    /// This process is killed before the authority hears of the request.
    KillBefore(u32),
    /// This process is killed when the authority has answered, and never hears the answer.
    KillAfter(u32),
    /// The authority is not asked.
    Answer(String),
}

type Script = Box<dyn Fn(&str) -> Act + Send>;

/// A gate; its clones share everything.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    port: u16,
    script: Mutex<Script>,
    inwards: TlsAcceptor,
    outwards: TlsConnector,
    authority: u16,
}

impl Gate {
    /// In front of this one; everything passes.
    pub async fn new(pebble: &Pebble) -> Self {
        let listener = TcpListener::bind(loopback(0)).await.unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(pebble.site.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let outwards = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let gate = Self(Arc::new(Inner {
            port: listener.local_addr().unwrap().port(),
            script: Mutex::new(Box::new(|_| Act::Pass)),
            inwards: pebble.site.issue(&["127.0.0.1"]).acceptor(None, &[]),
            outwards: TlsConnector::from(Arc::new(outwards)),
            authority: pebble.ports.pebble,
        }));
        let own = gate.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gate = own.clone();
                // Who is killed does not read to the end.
                tokio::spawn(async move { gate.serve(stream).await.ok() });
            }
        });
        gate
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.0.port)
    }

    /// From now on the script says what happens at each request; it is told the first line.
    pub fn script(&self, script: impl Fn(&str) -> Act + Send + 'static) {
        *self.0.script.lock().unwrap() = Box::new(script);
    }

    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut client = self.0.inwards.accept(stream).await?;
        let request = read_request(&mut client).await?;
        let line = String::from_utf8_lossy(&request);
        let line = line.lines().next().unwrap_or_default();
        let act = (self.0.script.lock().unwrap())(line);
        let answer = match act {
            Act::Answer(answer) => answer.into_bytes(),
            Act::Pass => self.ask(&request).await?,
            Act::KillBefore(pid) => return kill(pid),
            Act::KillAfter(pid) => {
                self.ask(&request).await?;
                return kill(pid);
            }
        };
        client.write_all(&answer).await?;
        client.shutdown().await
    }

    async fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let tcp = TcpStream::connect(loopback(self.0.authority)).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut pebble = self.0.outwards.connect(name, tcp).await?;
        let end = request.windows(2).position(|two| two == b"\r\n").unwrap();
        pebble.write_all(&request[..end]).await?;
        pebble.write_all(b"\r\nConnection: close").await?;
        pebble.write_all(&request[end..]).await?;
        let mut answer = Vec::new();
        pebble.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        if request.len() >= end + 4 + length {
            return Ok(request);
        }
    }
}

fn kill(pid: u32) -> io::Result<()> {
    Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status()
        .map(drop)
}
