//! One question to one name server: over UDP, and over TCP if the answer is too long for that.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Edns, Message, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// What `server` says about `name`; `recursive` if it shall ask others for it.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    recursive: bool,
) -> Result<Message, String> {
    let mut question = Message::query();
    question.metadata.recursion_desired = recursive;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(LONGEST_DATAGRAM);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let answer = exchange(server, &bytes).await?;
    let answer = Message::from_vec(&answer)
        .map_err(|error| format!("its answer cannot be read: {error}"))?;
    match answer.queries.first() {
        Some(query) if query.name == *name && query.query_type == kind => Ok(answer),
        // A refusal may come without the question.
        None if answer.answers.is_empty() => Ok(answer),
        _ => Err("it answers another question".to_owned()),
    }
}

/// Sends a message and waits for the one that answers it.
pub(super) async fn exchange(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, String> {
    let mut wrong = "it does not answer".to_owned();
    for _ in 0..TRIES {
        match timeout(PATIENCE, over_udp(server, message)).await {
            Ok(Ok(answer)) if is_cut(&answer) => {
                let whole = timeout(PATIENCE, over_tcp(server, message)).await;
                let whole = whole.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                return whole.map_err(|error| format!("over TCP: {error}"));
            }
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => wrong = error.to_string(),
            Err(_) => {}
        }
    }
    Err(wrong)
}

async fn over_udp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Whatever else arrives was not sent by whom we asked, or late.
        if answers(message, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match answers(message, &answer) {
        true => Ok(answer),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether `answer` is a response with the identity of `message`.
fn answers(message: &[u8], answer: &[u8]) -> bool {
    answer.len() >= HEADER && answer[..2] == message[..2] && answer[2] & 0x80 != 0
}

fn is_cut(answer: &[u8]) -> bool {
    answer[2] & 0x02 != 0
}

const HEADER: usize = 12;
/// What passes everywhere in one piece.
const LONGEST_DATAGRAM: u16 = 1232;
const PATIENCE: Duration = Duration::from_secs(4);
const TRIES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::dns::fake::NameServer;

    #[tokio::test]
    async fn a_long_answer_comes_over_tcp_and_a_foreign_one_is_overheard() {
        let server =
            NameServer::start(&[("long.test.", "TXT", "cut"), ("a.test.", "TXT", "value")]);
        for (name, expected) in [("long.test.", 1), ("a.test.", 1), ("b.test.", 0)] {
            let name = Name::from_ascii(name).unwrap();
            let answer = ask(server.address(), &name, RecordType::TXT, true)
                .await
                .unwrap();
            assert_eq!(answer.answers.len(), expected, "{name}");
        }
    }
}
