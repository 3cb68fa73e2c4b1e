//! One question over plain HTTP, for commands that talk to a running instance. No proxy, no redirections, no connection kept.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use crate::config::{Install, install::INTERNAL};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) body: Vec<u8>,
}

/// Asks whoever listens at `authority` (this machine if it names no host).
pub(super) fn ask(
    method: &str,
    authority: &str,
    target: &str,
    patience: Duration,
) -> io::Result<Answer> {
    let authority = complete(authority);
    let mut stream = connect(&authority, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // HTTP/1.0: the answer ends with the connection, whatever its framing.
    let request = format!(
        "{method} {target} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: portway/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    parse(&answer)
}

/// Asks the API at a URL (`http://127.0.0.1:8080`) for what it has at `path` below `/api/`.
pub(super) fn ask_api(api: &str, path: &str) -> Result<Answer, String> {
    let rest = api
        .strip_prefix("http://")
        .ok_or_else(|| format!("--api {api}: only http:// addresses can be asked"))?;
    let (authority, base) = rest.split_once('/').unwrap_or((rest, ""));
    let base = base
        .trim_end_matches('/')
        .trim_end_matches("api")
        .trim_end_matches('/');
    let slash = if base.is_empty() { "" } else { "/" };
    let target = format!("/{base}{slash}api/{path}");
    ask("GET", authority, &target, PATIENCE).map_err(|error| format!("{api}: {error}"))
}

/// Where the API of the instance with this configuration can be asked, if it can without further ado.
pub(super) fn api_of(install: &Install) -> Option<String> {
    let api = install.api.as_ref().filter(|api| api.insecure)?;
    let address = &install.entry_points.get(INTERNAL)?.address;
    let host = match address.host.as_str() {
        "" | "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Some(format!(
        "http://{host}:{}{}",
        address.port,
        api.base_path.trim_end_matches('/')
    ))
}

fn complete(authority: &str) -> String {
    match authority.strip_prefix(':') {
        Some(port) => format!("localhost:{port}"),
        None => authority.to_owned(),
    }
}

/// Connects to whoever listens at `authority` (this machine if it names no host).
pub(super) fn connect(authority: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other(format!("{authority} has no address"));
    for address in complete(authority).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn parse(answer: &[u8]) -> io::Result<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(answer).map_err(io::Error::other)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    Ok(Answer {
        status: head.code.unwrap_or_default(),
        reason: head.reason.unwrap_or_default().to_owned(),
        body: answer[length..].to_vec(),
    })
}

const PATIENCE: Duration = Duration::from_secs(3);
const LONGEST_ANSWER: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_the_end_of_the_connection() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\nX: y\r\n\r\nbody").unwrap();
        assert_eq!(
            (answer.status, &*answer.reason, &*answer.body),
            (404, "Not Found", &b"body"[..])
        );
        for wrong in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_api_is_asked_where_it_is_open() {
        let mut install = Install::default();
        assert_eq!(api_of(&install), None);
        install.api = Some(crate::config::install::Api {
            insecure: true,
            base_path: "/admin/".to_owned(),
            ..Default::default()
        });
        install.add_implicit_entry_points();
        assert_eq!(
            api_of(&install).as_deref(),
            Some("http://127.0.0.1:8080/admin")
        );
    }
}
