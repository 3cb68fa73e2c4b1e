//! Where in the DNS something is, and who says what about it: the name servers that resolve for us, and those of a zone.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::{
    proto::{
        op::{Message, ResponseCode},
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use tokio::net::lookup_host;

use super::ask::ask;

/// The name servers that resolve for us.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    /// As configured, `host` or `host:port`; none for those of the system.
    configured: Vec<String>,
}

/// A name server with the addresses it can be asked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether it asks others.
    pub(super) recursive: bool,
}

impl Servers {
    pub(super) fn new(configured: &[String]) -> Self {
        let configured = configured.iter().map(|one| one.trim().to_owned());
        Self {
            configured: configured.filter(|one| !one.is_empty()).collect(),
        }
    }

    /// They themselves.
    pub(super) async fn all(&self) -> Result<Vec<Server>, String> {
        let mut servers = Vec::new();
        for text in &self.configured {
            let found = lookup_host(with_port(text)).await;
            let addresses: Vec<SocketAddr> = found
                .map_err(|error| format!("the name server {text} is not found: {error}"))?
                .collect();
            servers.push(Server::recursive(text, addresses));
        }
        if servers.is_empty() {
            let (config, _) = read_system_conf().map_err(|error| error.to_string())?;
            for server in config.name_servers() {
                let port = server.connections.first().map_or(PORT, |one| one.port);
                let address = SocketAddr::new(server.ip, port);
                servers.push(Server::recursive(&server.ip.to_string(), vec![address]));
            }
        }
        match servers.is_empty() {
            true => Err("there is no name server to ask".to_owned()),
            false => Ok(servers),
        }
    }

    /// Where a name leads to: the end of its CNAMEs.
    pub(super) async fn follow(&self, name: &Name) -> Result<Name, String> {
        let mut at = name.clone();
        for _ in 0..MOST_ALIASES {
            let answer = self.resolve(&at, RecordType::CNAME).await?;
            let aliases = answer.answers.iter().filter(|record| record.name == at);
            let mut targets = aliases.filter_map(|record| match &record.data {
                RData::CNAME(target) => Some(target.0.clone()),
                _ => None,
            });
            match targets.next() {
                Some(target) => at = target,
                None => return Ok(at),
            }
        }
        Err(format!("the aliases of {name} lead nowhere"))
    }

    /// The zone that a name is in.
    pub(super) async fn zone(&self, name: &Name) -> Result<Name, String> {
        let mut at = name.clone();
        while !at.is_root() {
            let answer = self.resolve(&at, RecordType::SOA).await?;
            let records = answer.answers.iter().chain(&answer.authorities);
            let starts = records.filter(|record| matches!(record.data, RData::SOA(_)));
            let mut zones = starts.map(|record| &record.name);
            if let Some(zone) = zones.find(|zone| !zone.is_root() && zone.zone_of(&at)) {
                return Ok(zone.to_lowercase());
            }
            at = at.base_name();
        }
        Err(format!("no zone is found for {name}"))
    }

    /// The name servers of a zone.
    pub(super) async fn of_zone(&self, zone: &Name) -> Result<Vec<Server>, String> {
        let answer = self.resolve(zone, RecordType::NS).await?;
        let names = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(name) => Some(name.0.clone()),
                _ => None,
            });
        let ports = self.all().await?;
        let mut servers = Vec::new();
        for name in names {
            let mut addresses = Vec::new();
            for kind in [RecordType::A, RecordType::AAAA] {
                let answer = self.resolve(&name, kind).await?;
                let found = answer.answers.iter().filter_map(|one| one.data.ip_addr());
                addresses.extend(found.map(|ip| SocketAddr::new(ip, port_of(ip, &ports))));
            }
            if addresses.is_empty() {
                return Err(format!("{name}, a name server of {zone}, has no address"));
            }
            servers.push(Server {
                name: bare(&name),
                addresses,
                recursive: false,
            });
        }
        match servers.is_empty() {
            true => Err(format!("the zone {zone} has no name servers")),
            false => Ok(servers),
        }
    }

    /// What the first one says that knows.
    async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Message, String> {
        let mut wrong = String::new();
        for server in self.all().await? {
            match server.ask(name, kind).await {
                Ok(answer) if is_definite(&answer) => return Ok(answer),
                Ok(answer) => wrong = format!("{}: {}", server.name, said(&answer)),
                Err(error) => wrong = format!("{}: {error}", server.name),
            }
        }
        Err(format!("{name} {kind}: {wrong}"))
    }
}

impl Server {
    fn recursive(name: &str, addresses: Vec<SocketAddr>) -> Self {
        Self {
            name: name.to_owned(),
            addresses,
            recursive: true,
        }
    }

    /// What it says at the first of its addresses that answers.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, String> {
        let mut wrong = "it has no address".to_owned();
        for address in &self.addresses {
            match ask(*address, name, kind, self.recursive).await {
                Ok(answer) => return Ok(answer),
                Err(error) => wrong = format!("{address}: {error}"),
            }
        }
        Err(wrong)
    }
}

/// The values of a TXT record in an answer.
pub(super) fn values(answer: &Message, name: &Name) -> Vec<String> {
    let records = answer.answers.iter().filter(|record| record.name == *name);
    let texts = records.filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    });
    texts
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .collect()
}

/// How an answer is called in a log.
pub(super) fn said(answer: &Message) -> &'static str {
    match answer.metadata.response_code {
        ResponseCode::NoError => "no such record",
        ResponseCode::NXDomain => "no such name (NXDOMAIN)",
        ResponseCode::ServFail => "it cannot tell (SERVFAIL)",
        ResponseCode::Refused => "it refuses (REFUSED)",
        ResponseCode::NotAuth => "it is not in charge (NOTAUTH)",
        ResponseCode::NotZone => "the name is not in its zone (NOTZONE)",
        ResponseCode::FormErr => "it does not understand (FORMERR)",
        _ => "an error",
    }
}

/// A name without the dot at its end.
pub(super) fn bare(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

fn is_definite(answer: &Message) -> bool {
    let code = answer.metadata.response_code;
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// A name server of a zone that resolves for us too is asked at the port that is configured; all others are where they must be.
fn port_of(ip: IpAddr, resolving: &[Server]) -> u16 {
    let mut addresses = resolving.iter().flat_map(|server| &server.addresses);
    let known = addresses.find(|address| address.ip() == ip);
    known.map_or(PORT, SocketAddr::port)
}

/// `host:port`, with the usual port if there is none.
pub(super) fn with_port(text: &str) -> String {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return SocketAddr::new(ip, PORT).to_string();
    }
    let port = text
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok());
    match port {
        Some(_) => text.to_owned(),
        None => format!("{text}:{PORT}"),
    }
}

const PORT: u16 = 53;
const MOST_ALIASES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::dns::fake::NameServer;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn ports_are_added_where_they_are_missing() {
        for (text, expected) in [
            ("1.1.1.1", "1.1.1.1:53"),
            ("1.1.1.1:5353", "1.1.1.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
            ("dns.test", "dns.test:53"),
            ("dns.test:54", "dns.test:54"),
        ] {
            assert_eq!(with_port(text), expected);
        }
    }

    #[tokio::test]
    async fn aliases_are_followed_and_zones_found() {
        let server = NameServer::start(&[
            ("example.test.", "SOA", ""),
            ("sub.example.test.", "SOA", ""),
            ("other.test.", "SOA", ""),
            (
                "_acme-challenge.a.example.test.",
                "CNAME",
                "b.example.test.",
            ),
            ("b.example.test.", "CNAME", "c.other.test."),
            ("loop.example.test.", "CNAME", "loop.example.test."),
            ("example.test.", "NS", "ns.example.test."),
            ("ns.example.test.", "A", "127.0.0.1"),
            ("other.test.", "NS", "nowhere.test."),
        ]);
        let servers = Servers::new(&[server.address().to_string()]);
        for (from, to) in [
            ("_acme-challenge.a.example.test.", "c.other.test."),
            (
                "_acme-challenge.x.example.test.",
                "_acme-challenge.x.example.test.",
            ),
        ] {
            assert_eq!(servers.follow(&name(from)).await, Ok(name(to)));
        }
        let wrong = servers
            .follow(&name("loop.example.test."))
            .await
            .unwrap_err();
        assert!(wrong.contains("lead nowhere"), "{wrong}");
        for (of, zone) in [
            ("_acme-challenge.example.test.", Ok("example.test.")),
            ("x.y.example.test.", Ok("example.test.")),
            ("x.sub.example.test.", Ok("sub.example.test.")),
            ("c.other.test.", Ok("other.test.")),
            ("a.nobody.", Err("no zone is found")),
        ] {
            match (servers.zone(&name(of)).await, zone) {
                (Ok(found), Ok(zone)) => assert_eq!(found, name(zone), "{of}"),
                (Err(wrong), Err(part)) => assert!(wrong.contains(part), "{wrong}"),
                (found, _) => panic!("{of}: {found:?}"),
            }
        }
        // The zone's own server has the port of the one that is configured with its address.
        let own = servers.of_zone(&name("example.test.")).await.unwrap();
        assert_eq!(own[0].addresses, [server.address()]);
        assert_eq!(own[0].name, "ns.example.test");
        let wrong = servers.of_zone(&name("other.test.")).await.unwrap_err();
        assert!(wrong.contains("has no address"), "{wrong}");
    }
}
