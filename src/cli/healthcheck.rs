//! `portway healthcheck`: asks the running instance that has the same configuration whether it is well.

use std::{io, process::ExitCode, time::Duration};

use super::{
    ask::{Answer, ask},
    complain, offline, say,
};
use crate::config::Install;

/// Asks `/ping`.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let loaded = match offline::load(arguments) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            offline::print(&diagnostics);
            return ExitCode::FAILURE;
        }
    };
    let (text, well) = verdict(&loaded.install, |authority| {
        ask("HEAD", authority, "/ping", PATIENCE)
    });
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
    let authority = match door.address.host.contains(':') {
        true => format!("[{}]:{}", door.address.host, door.address.port),
        false => format!("{}:{}", door.address.host, door.address.port),
    };
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
}
