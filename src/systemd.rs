//! What systemd hands to a service and wants to hear from it: inherited sockets, readiness, watchdog. Without systemd nothing happens.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use socket2::{Domain, Type};

/// A socket that was opened for us.
#[derive(Debug)]
pub struct Inherited {
    /// `FileDescriptorName=` of the socket unit: the entry point it is for.
    pub name: String,
    /// The socket; an error if it is not a TCP listener.
    pub listener: io::Result<TcpListener>,
}

/// The sockets of socket activation (`LISTEN_FDS`). To be called once, before any thread is started.
pub fn inherited_sockets() -> Vec<Inherited> {
    let mut sockets = ListenFd::from_env();
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = socket_names(&names, sockets.len());
    let inherit = |(index, name)| Inherited {
        listener: take(&mut sockets, index),
        name,
    };
    names.into_iter().enumerate().map(inherit).collect()
}

fn take(sockets: &mut ListenFd, index: usize) -> io::Result<TcpListener> {
    let mut of_family = |family: Domain| {
        let taken = sockets.take_custom::<TcpListener>(
            index,
            family.into(),
            Type::STREAM.into(),
            "TCP listener",
        );
        taken.and_then(|listener| listener.ok_or_else(|| io::ErrorKind::NotFound.into()))
    };
    let listener = of_family(Domain::IPV4).or_else(|_| of_family(Domain::IPV6))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// systemd names a socket without a name `unknown`, as we do one it gave no name for.
fn socket_names(list: &str, count: usize) -> Vec<String> {
    list.split(':')
        .map(|name| if name.is_empty() { "unknown" } else { name })
        .chain(std::iter::repeat("unknown"))
        .take(count)
        .map(str::to_owned)
        .collect()
}

/// Tells systemd how the service is.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`; none if nobody listens.
    pub fn from_env() -> io::Result<Option<Self>> {
        let Some(to) = env::var_os("NOTIFY_SOCKET").filter(|to| !to.is_empty()) else {
            return Ok(None);
        };
        let watchdog = watchdog(
            env::var("WATCHDOG_USEC").ok().as_deref(),
            env::var("WATCHDOG_PID").ok().as_deref(),
            std::process::id(),
        );
        Self::new(&to, watchdog).map(Some)
    }

    fn new(to: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A notification is worth no wait.
        socket.set_nonblocking(true)?;
        Ok(Self {
            to: address(to)?,
            socket,
            watchdog,
        })
    }

    /// The first configuration is live.
    pub fn ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// The process drains.
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    /// The process is alive; to be said every [`Self::watchdog`].
    pub fn alive(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }

    /// How often systemd wants to hear that we are alive; half of the time after which it would kill us.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.to)?;
        Ok(())
    }
}

/// A path, or with a leading `@` a name in Linux's abstract namespace.
fn address(to: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = to.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(to)
}

fn watchdog(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let for_us = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let micros: u64 = micros.filter(|_| for_us)?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_has_a_name() {
        let cases = [
            ("web:websecure", 2, "web websecure"),
            ("web", 2, "web unknown"),
            ("web::x", 3, "web unknown x"),
            ("", 1, "unknown"),
            ("web:websecure", 0, ""),
        ];
        for (list, count, expected) in cases {
            assert_eq!(socket_names(list, count).join(" "), expected, "{list}");
        }
    }

    #[test]
    fn watchdog_is_for_the_process_it_names() {
        let cases = [
            (Some("3000000"), None, Some(1500)),
            (Some("3000000"), Some("7"), Some(1500)),
            (Some("3000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ];
        for (micros, pid, expected) in cases {
            assert_eq!(
                watchdog(micros, pid, 7),
                expected.map(Duration::from_millis)
            );
        }
    }

    fn notifies(to: &OsStr, receiver: &UnixDatagram) {
        let notifier = Notifier::new(to, None).unwrap();
        notifier.ready().unwrap();
        notifier.alive().unwrap();
        notifier.stopping().unwrap();
        for expected in ["READY=1", "WATCHDOG=1", "STOPPING=1"] {
            let mut buffer = [0; 64];
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }

    #[test]
    fn notifies_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        notifies(path.as_os_str(), &receiver);
        drop(receiver);
        assert!(
            Notifier::new(path.as_os_str(), None)
                .unwrap()
                .ready()
                .is_err()
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn notifies_by_abstract_name() {
        let name = format!("@portway-test-{}", std::process::id());
        let to = address(name.as_ref()).unwrap();
        let receiver = UnixDatagram::bind_addr(&to).unwrap();
        notifies(name.as_ref(), &receiver);
    }
}
