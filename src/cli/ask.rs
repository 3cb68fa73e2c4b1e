//! One question over plain HTTP, for commands that talk to a running instance. No proxy, no redirections, no connection kept.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

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
}
