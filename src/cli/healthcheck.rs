//! `portway healthcheck`: asks the running instance that has the same configuration whether it is well.

use std::{fs, io, path::Path, process::ExitCode, time::Duration};

use super::{
    ask::{Answer, ask, connect},
    complain, offline,
    replica::Options,
    say,
};
use crate::config::{Install, units::Address};

/// Asks `/ping`.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let mut loaded = offline::load(arguments);
    let unclear = loaded
        .as_ref()
        .map_or(true, |loaded| loaded.install.ping.is_none());
    // Images have one check for every command line: it goes by that of the process.
    let running = match arguments.is_empty() && unclear {
        true => running(Path::new("/proc")),
        false => None,
    };
    match &running {
        Some(Running::Proxy(options)) => loaded = offline::load(options),
        Some(Running::Replica(port)) => return replica(*port),
        None => {}
    }
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            offline::print(&diagnostics);
            return ExitCode::FAILURE;
        }
    };
    let (text, well) = match &loaded.install.ping {
        None if running.is_some() => {
            open_door(&loaded.install, |authority| connect(authority, PATIENCE))
        }
        _ => verdict(&loaded.install, |authority| {
            ask("HEAD", authority, "/ping", PATIENCE)
        }),
    };
    say(&text);
    for warning in loaded.diagnostics.iter().filter(|_| !well) {
        complain(&warning.to_string());
    }
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn verdict(install: &Install, ask: impl FnOnce(&str) -> io::Result<Answer>) -> (String, bool) {
    let failed = |why: String| (format!("Error calling healthcheck: {why}"), false);
    let Some(ping) = &install.ping else {
        return failed("please enable `ping` to use health check".to_owned());
    };
    let Some(door) = install.entry_points.get(&ping.entry_point) else {
        return failed(format!("ping: missing {} entry point", ping.entry_point));
    };
    let authority = authority(&door.address);
    let url = format!("http://{authority}/ping");
    match ask(&authority) {
        Ok(answer) if answer.status == 200 => (format!("OK: {url}"), true),
        Ok(answer) => (
            format!(
                "Bad healthcheck status: {} {}",
                answer.status, answer.reason
            ),
            false,
        ),
        Err(error) => failed(format!("Head \"{url}\": {error}")),
    }
}

/// Whether some entry point accepts connections.
fn open_door<C>(install: &Install, connect: impl Fn(&str) -> io::Result<C>) -> (String, bool) {
    for (name, door) in &install.entry_points {
        if connect(&authority(&door.address)).is_ok() {
            return (format!("OK: entry point {name} accepts connections"), true);
        }
    }
    let text = "Error calling healthcheck: no entry point accepts connections";
    (text.to_owned(), false)
}

fn authority(address: &Address) -> String {
    match address.host.contains(':') {
        true => format!("[{}]:{}", address.host, address.port),
        false => format!("{}:{}", address.host, address.port),
    }
}

/// The options of the proxy that was started first here, if one runs.
pub(super) fn running_proxy() -> Option<Vec<String>> {
    match running(Path::new("/proc"))? {
        Running::Proxy(options) => Some(options),
        Running::Replica(_) => None,
    }
}

/// A Portway that runs.
#[derive(Debug, PartialEq, Eq)]
enum Running {
    /// With these options.
    Proxy(Vec<String>),
    /// On this port.
    Replica(u16),
}

/// The Portway that was started first, if there is one. It also goes by the name of Traefik.
fn running(processes: &Path) -> Option<Running> {
    let found = fs::read_dir(processes).ok()?.flatten();
    let mut ids: Vec<u32> = found
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id| *id != std::process::id())
        .collect();
    ids.sort_unstable();
    ids.into_iter().find_map(|id| {
        let line = fs::read(processes.join(id.to_string()).join("cmdline")).ok()?;
        understood(&line)
    })
}

/// What the command line of a process says, if it is one of ours.
fn understood(line: &[u8]) -> Option<Running> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_terminator('\0');
    let program = Path::new(words.next()?).file_name()?;
    if program != "portway" && program != "traefik" {
        return None;
    }
    let mut options: Vec<String> = words.map(str::to_owned).collect();
    match options.first().map(String::as_str) {
        Some("run") => drop(options.remove(0)),
        Some("replica") => return Some(Running::Replica(Options::of(&options[1..]).ok()?.port)),
        // Another subcommand: this one, perhaps.
        Some(word) if !word.starts_with('-') => return None,
        _ => {}
    }
    Some(Running::Proxy(options))
}

/// The verdict on a replica.
fn replica(port: u16) -> ExitCode {
    match ask("GET", &format!(":{port}"), "/health", PATIENCE) {
        Ok(answer) if answer.status == 200 => say("OK: the replica is healthy"),
        Ok(answer) => {
            say(&format!("the replica says {}", answer.status));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("the replica does not answer: {error}"));
            ExitCode::FAILURE
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::install::{EntryPoint, Ping};

    fn install(address: Option<&str>) -> Install {
        let mut install = Install {
            ping: Some(Ping::default()),
            ..Install::default()
        };
        if let Some(address) = address {
            let door = EntryPoint {
                address: address.parse().unwrap(),
                ..EntryPoint::default()
            };
            install.entry_points.insert("traefik".to_owned(), door);
        }
        install
    }

    fn answer(status: u16, reason: &str) -> io::Result<Answer> {
        Ok(Answer {
            status,
            reason: reason.to_owned(),
            body: Vec::new(),
        })
    }

    #[test]
    fn verdicts_are_worded_as_scripts_expect() {
        let refused = || Err(io::Error::other("connection refused"));
        for (install, answer, text) in [
            (
                install(Some(":8080")),
                answer(200, "OK"),
                "OK: http://:8080/ping",
            ),
            (
                install(Some("[::1]:8080")),
                answer(200, "OK"),
                "OK: http://[::1]:8080/ping",
            ),
            (
                install(Some(":8080")),
                answer(404, "Not Found"),
                "Bad healthcheck status: 404 Not Found",
            ),
            (
                install(Some("a:80")),
                refused(),
                "Error calling healthcheck: Head \"http://a:80/ping\": connection refused",
            ),
            (
                install(None),
                refused(),
                "Error calling healthcheck: ping: missing traefik entry point",
            ),
            (
                Install::default(),
                refused(),
                "Error calling healthcheck: please enable `ping` to use health check",
            ),
        ] {
            assert_eq!(
                verdict(&install, |_| answer),
                (text.to_owned(), text.starts_with("OK"))
            );
        }
    }
    #[test]
    fn the_command_line_of_a_running_proxy_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let process = |id: u32, line: &str| {
            let folder = folder.path().join(id.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("cmdline"), line.replace(' ', "\0") + "\0").unwrap();
        };
        assert_eq!(running(folder.path()), None);
        process(1, "/sbin/docker-init -- /entrypoint.sh --ping");
        process(12, "/usr/local/bin/traefik --ping --log.level=INFO");
        process(7, "portway healthcheck");
        process(20, "portway run --api");
        fs::create_dir(folder.path().join("self")).unwrap();
        let proxy = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned());
            Some(Running::Proxy(words.collect()))
        };
        assert_eq!(
            running(folder.path()),
            proxy(&["--ping", "--log.level=INFO"])
        );
        assert_eq!(understood(b"portway\0run\0--api\0"), proxy(&["--api"]));
        assert_eq!(understood(b"traefik\0"), proxy(&[]));
        assert_eq!(
            understood(b"portway\0replica\0--port=81\0"),
            Some(Running::Replica(81))
        );
        for other in [&b""[..], b"sh\0-c\0traefik\0", b"portway\0check\0", b"\xff"] {
            assert_eq!(understood(other), None);
        }
    }

    #[test]
    fn an_open_door_is_enough_without_ping() {
        let install = install(Some(":8080"));
        let answer = |open: bool| match open {
            true => Ok(()),
            false => Err(io::Error::other("refused")),
        };
        let (text, well) = open_door(&install, |_| answer(true));
        assert_eq!(
            (&*text, well),
            ("OK: entry point traefik accepts connections", true)
        );
        assert!(!open_door(&install, |_| answer(false)).1);
    }
}
