//! For tests: a name server, and an interface of somebody who changes zones.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record,
        rdata::{A, CNAME, NS, SOA, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// A name server on loopback with a few records; it takes updates from anybody.
pub(super) struct NameServer {
    address: SocketAddr,
    records: Records,
    _tasks: JoinSet<()>,
}

type Records = Arc<Mutex<Vec<Record>>>;

impl NameServer {
    /// Records are name, type and value. A TXT record with the value `cut` does not fit into a datagram.
    pub(super) fn start(records: &[(&str, &str, &str)]) -> Self {
        let records = records
            .iter()
            .map(|(name, kind, value)| record(name, kind, value));
        let records: Records = Arc::new(Mutex::new(records.collect()));
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (udp, tcp) = (
            UdpSocket::from_std(udp).unwrap(),
            TcpListener::from_std(tcp).unwrap(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(udp, Arc::clone(&records)));
        tasks.spawn(streams(tcp, Arc::clone(&records)));
        Self {
            address,
            records,
            _tasks: tasks,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The TXT values of a name.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let name = Name::from_ascii(name).unwrap();
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let here = records.iter().filter(|record| record.name == name);
        let texts = here.filter_map(|record| match &record.data {
            RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
            _ => None,
        });
        texts.collect()
    }

    pub(super) fn add(&self, name: &str, kind: &str, value: &str) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(record(name, kind, value));
    }
}

/// One port for both, which another test may be quicker to take.
fn sockets() -> (std::net::UdpSocket, std::net::TcpListener) {
    let both = || {
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let udp = std::net::UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
        Some((udp, tcp))
    };
    (0..100).find_map(|_| both()).unwrap()
}

fn record(name: &str, kind: &str, value: &str) -> Record {
    let target = || Name::from_ascii(value).unwrap();
    let owner = Name::from_ascii(name).unwrap();
    let data = match kind {
        "TXT" => RData::TXT(TXT::new(vec![value.to_owned()])),
        "CNAME" => RData::CNAME(CNAME(target())),
        "NS" => RData::NS(NS(target())),
        "A" => RData::A(A(value.parse().unwrap())),
        "SOA" => RData::SOA(SOA::new(owner.clone(), owner.clone(), 1, 1, 1, 1, 1)),
        kind => panic!("{kind}"),
    };
    Record::from_rdata(owner, 60, data)
}

async fn datagrams(socket: UdpSocket, records: Records) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let mut answer = answer(&buffer[..length], &records);
        let cut = answer.answers.iter().any(|record| match &record.data {
            RData::TXT(text) => &*text.txt_data.concat() == b"cut",
            _ => false,
        });
        if cut {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        // Somebody else's answer comes first.
        let mut other = answer.clone();
        other.metadata.id = other.metadata.id.wrapping_add(1);
        socket.send_to(&other.to_vec().unwrap(), from).await.ok();
        socket.send_to(&answer.to_vec().unwrap(), from).await.ok();
    }
}

async fn streams(listener: TcpListener, records: Records) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Ok(length) = stream.read_u16().await else {
            continue;
        };
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await.ok();
        let answer = answer(&question, &records).to_vec().unwrap();
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        stream
            .write_all(&[&length[..], &answer].concat())
            .await
            .ok();
    }
}

fn answer(question: &[u8], records: &Records) -> Message {
    let question = Message::from_vec(question).unwrap();
    let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
    let mut answer = Message::new(
        question.metadata.id,
        MessageType::Response,
        question.metadata.op_code,
    );
    answer.queries.clone_from(&question.queries);
    if question.metadata.op_code == OpCode::Update {
        for change in question.authorities {
            records.retain(|one| one.name != change.name || one.data != change.data);
            if change.dns_class == DNSClass::IN {
                records.push(change);
            }
        }
        return answer;
    }
    let query = &question.queries[0];
    let here: Vec<&Record> = records
        .iter()
        .filter(|one| one.name == query.name)
        .collect();
    let found = here
        .iter()
        .filter(|one| one.record_type() == query.query_type);
    answer.answers = found.map(|one| Record::clone(one)).collect();
    if here.is_empty() {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer
}

/// An interface on loopback that answers as it is told, and remembers what it was asked.
pub(super) struct Interface {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

/// What it was asked.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method and path.
    pub(super) line: String,
    /// All header fields, lower-case names.
    pub(super) headers: String,
    pub(super) body: String,
}

/// What it answers: the beginning of the request line, the status with further header lines, and the body.
pub(super) type Script = &'static [(&'static str, &'static str, &'static str)];

impl Interface {
    /// Of entries that fit, each is used once but for the last.
    pub(super) fn start(script: Script) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let remembered = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut used = vec![false; script.len()];
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(asked) = read(&mut stream).await else {
                    continue;
                };
                let fits = |at: &usize| asked.line.starts_with(script[*at].0);
                let fitting: Vec<usize> = (0..script.len()).filter(fits).collect();
                let fresh = fitting.iter().find(|at| !used[**at]).or_else(|| fitting.last());
                let (status, body) = match fresh {
                    Some(at) => (script[*at].1, script[*at].2),
                    None => ("404 Not Found", "{\"message\": \"nothing here\"}"),
                };
                if let Some(at) = fresh {
                    used[*at] = true;
                }
                remembered.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Method, path and body of all requests.
    pub(super) fn lines(&self) -> Vec<String> {
        let seen = self.seen().into_iter();
        seen.map(|one| format!("{} {}", one.line, one.body).trim_end().to_owned())
            .collect()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = stream
            .read(&mut buffer)
            .await
            .ok()
            .filter(|length| *length > 0)?;
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8(bytes.clone()).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let (line, headers) = head.split_once("\r\n")?;
        let headers = headers.to_ascii_lowercase();
        let length = headers
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            return Some(Seen {
                line: line.trim_end_matches(" HTTP/1.1").to_owned(),
                headers: head.split_once("\r\n")?.1.to_owned(),
                body: body.to_owned(),
            });
        }
    }
}
