//! Whom a request comes from: the client address by `ipStrategy`, and the key that limits count by (`sourceCriterion`).

use std::{
    borrow::Cow,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use http::{HeaderName, HeaderValue};

use super::report::Report;
use crate::{
    config::{
        routing::{IpStrategy, SourceCriterion},
        units::Cidr,
    },
    exchange::{Exchange, forwarded::X_FORWARDED_FOR},
};

/// Selects the client's address (`ipStrategy`).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClientIp {
    strategy: Strategy,
    /// Bits of an IPv6 address that count.
    subnet: Option<u8>,
}

#[derive(Debug, Clone, PartialEq)]
enum Strategy {
    /// The connection's peer.
    Peer,
    /// The n-th entry of `X-Forwarded-For` from the right.
    Depth(usize),
    /// The first entry of `X-Forwarded-For` from the right outside of these.
    Excluded(Vec<Cidr>),
}

/// A selected client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client<'a> {
    Address(IpAddr),
    /// An entry of `X-Forwarded-For` as it stands; empty if there was none.
    Entry(&'a str),
}

impl ClientIp {
    pub(super) fn peer() -> Self {
        Self {
            strategy: Strategy::Peer,
            subnet: None,
        }
    }

    /// Reads `ipStrategy`, which stands at `field`.
    pub(super) fn build(
        config: Option<&IpStrategy>,
        field: &str,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let Some(config) = config else {
            return Some(Self::peer());
        };
        let subnet = match config.ipv6_subnet.map(u8::try_from) {
            None => None,
            Some(Ok(bits @ 1..=128)) => Some(bits),
            Some(_) => {
                report.error(
                    &format!("{field}.ipv6Subnet"),
                    "expected a number of bits from 1 to 128",
                );
                return None;
            }
        };
        let depth = usize::try_from(config.depth).unwrap_or_else(|_| {
            let message = "is below zero: it counts as 0, so that no depth is meant";
            report.warning(&format!("{field}.depth"), message);
            0
        });
        let strategy = match depth {
            0 if config.excluded_ips.is_empty() => Strategy::Peer,
            0 => Strategy::Excluded(config.excluded_ips.clone()),
            depth => Strategy::Depth(depth),
        };
        Some(Self { strategy, subnet })
    }

    /// The client of a request.
    pub(super) fn select<'a>(&self, exchange: &'a Exchange) -> Client<'a> {
        let chain = || {
            exchange
                .request
                .headers
                .get(&X_FORWARDED_FOR)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .rsplit(',')
                .map(str::trim)
        };
        match &self.strategy {
            Strategy::Peer => {
                Client::Address(self.masked(exchange.connection.peer.ip().to_canonical()))
            }
            Strategy::Depth(depth) => {
                let entry = chain().nth(depth - 1).unwrap_or_default();
                match entry.parse::<IpAddr>() {
                    Ok(address) if self.subnet.is_some() => {
                        Client::Address(self.masked(address.to_canonical()))
                    }
                    _ => Client::Entry(entry),
                }
            }
            Strategy::Excluded(networks) => Client::Entry(
                chain()
                    .find(|entry| !entry.is_empty() && !is_in(networks, entry))
                    .unwrap_or_default(),
            ),
        }
    }

    fn masked(&self, address: IpAddr) -> IpAddr {
        match (address, self.subnet) {
            (IpAddr::V6(address), Some(bits)) => {
                let mask = u128::MAX << (128 - u32::from(bits));
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
            (address, _) => address,
        }
    }
}

impl Client<'_> {
    /// The address, if the client is known by one.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Entry(entry) => address_of(entry),
        }
    }
}

/// An address with or without port and zone.
fn address_of(entry: &str) -> Option<IpAddr> {
    let entry = entry.split_once('%').map_or(entry, |(address, _)| address);
    entry
        .parse::<IpAddr>()
        .or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()))
        .map(|address| address.to_canonical())
        .ok()
}

fn is_in(networks: &[Cidr], entry: &str) -> bool {
    address_of(entry)
        .is_some_and(|address| networks.iter().any(|network| network.contains(address)))
}

/// What a limit counts by (`sourceCriterion`).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    Client(ClientIp),
    /// The first value of a header.
    Header(HeaderName),
    /// `Host` as sent, port included.
    Host,
}

impl Source {
    /// Reads `sourceCriterion`; `default` applies when it names none.
    pub(super) fn build(
        config: Option<&SourceCriterion>,
        default: Self,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        const FIELD: &str = "sourceCriterion";
        let Some(config) = config else {
            return Some(default);
        };
        let named = !config.request_header_name.is_empty();
        let chosen = [config.ip_strategy.is_some(), named, config.request_host];
        match chosen.iter().filter(|chosen| **chosen).count() {
            0 => return Some(default),
            1 => {}
            _ => {
                report.error_with_hint(
                    FIELD,
                    "has more than one criterion",
                    "keep one of `ipStrategy`, `requestHeaderName`, `requestHost`",
                );
                return None;
            }
        }
        if config.request_host {
            return Some(Self::Host);
        }
        if named {
            let name = HeaderName::from_bytes(config.request_header_name.as_bytes());
            return name
                .map_err(|_| {
                    report.error(
                        &format!("{FIELD}.requestHeaderName"),
                        "is not a header name",
                    );
                })
                .map(Self::Header)
                .ok();
        }
        let field = format!("{FIELD}.ipStrategy");
        ClientIp::build(config.ip_strategy.as_ref(), &field, report).map(Self::Client)
    }

    /// A fingerprint of the request's source: requests of one source have the same, others practically never.
    ///
    /// Tables hold fingerprints instead of names, so that a source costs the same few bytes whatever a client sends. The hash is
    /// keyed, so that nobody can make two names meet on purpose.
    pub(super) fn fingerprint(&self, exchange: &Exchange, keys: &RandomState) -> u64 {
        let mut hasher = keys.build_hasher();
        match self {
            Self::Client(client) => client.select(exchange).hash(&mut hasher),
            Self::Host => exchange.request.host.hash(&mut hasher),
            Self::Header(name) => exchange
                .request
                .headers
                .get(name)
                .map_or(&[][..], HeaderValue::as_bytes)
                .hash(&mut hasher),
        }
        hasher.finish()
    }

    /// The request's source as Traefik writes it, for tables that others read too.
    pub(super) fn written<'a>(&self, exchange: &'a Exchange) -> Cow<'a, [u8]> {
        match self {
            Self::Client(client) => match client.select(exchange) {
                Client::Address(address) => address.to_string().into_bytes().into(),
                Client::Entry(entry) => entry.as_bytes().into(),
            },
            Self::Host => str::as_bytes(&exchange.request.host).into(),
            Self::Header(name) => exchange
                .request
                .headers
                .get(name)
                .map_or(&[][..], HeaderValue::as_bytes)
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::testing::{Fixture, problems};

    fn strategy(json: &str) -> ClientIp {
        let config: IpStrategy = serde_json::from_str(json).unwrap();
        let placed = crate::middleware::testing::placed(r#"{"ipAllowList":{}}"#);
        let mut findings = Vec::new();
        let mut report = Report::new("m", &placed, &mut findings);
        ClientIp::build(Some(&config), "ipStrategy", &mut report).unwrap()
    }

    fn select(json: &str, peer: &str, chain: &'static str) -> String {
        let fixture = Fixture::get("/").peer(peer);
        let exchange = if chain.is_empty() {
            fixture.exchange()
        } else {
            fixture.with("x-forwarded-for", chain).exchange()
        };
        match strategy(json).select(&exchange) {
            Client::Address(address) => address.to_string(),
            Client::Entry(entry) => entry.to_owned(),
        }
    }

    #[test]
    fn client_addresses() {
        let peer = "192.0.2.7:1";
        for (json, peer, chain, expected) in [
            ("{}", peer, "10.0.0.1", "192.0.2.7"),
            ("{}", "[::ffff:192.0.2.7]:1", "", "192.0.2.7"),
            (r#"{"depth":1}"#, peer, "10.0.0.1, 10.0.0.2", "10.0.0.2"),
            (r#"{"depth":2}"#, peer, "10.0.0.1, 10.0.0.2", "10.0.0.1"),
            (r#"{"depth":3}"#, peer, "10.0.0.1, 10.0.0.2", ""),
            (r#"{"depth":1}"#, peer, "", ""),
            (
                r#"{"depth":1,"excludedIPs":["10.0.0.2"]}"#,
                peer,
                "10.0.0.1, 10.0.0.2",
                "10.0.0.2",
            ),
            (
                r#"{"excludedIPs":["10.0.0.0/8"]}"#,
                peer,
                "1.1.1.1, 10.0.0.1 , , 10.0.0.2",
                "1.1.1.1",
            ),
            (
                r#"{"excludedIPs":["10.0.0.0/8"]}"#,
                peer,
                "junk, 10.0.0.2",
                "junk",
            ),
            (r#"{"excludedIPs":["10.0.0.0/8"]}"#, peer, "10.0.0.2", ""),
            (
                r#"{"ipv6Subnet":64}"#,
                "[2001:db8:1:2:3::4]:1",
                "",
                "2001:db8:1:2::",
            ),
            (r#"{"ipv6Subnet":64}"#, peer, "", "192.0.2.7"),
            (
                r#"{"ipv6Subnet":128}"#,
                "[2001:db8::1]:1",
                "",
                "2001:db8::1",
            ),
            (
                r#"{"depth":1,"ipv6Subnet":48}"#,
                peer,
                "2001:db8:1:2::4",
                "2001:db8:1::",
            ),
            (
                r#"{"depth":1,"ipv6Subnet":48}"#,
                peer,
                "10.1.2.3",
                "10.1.2.3",
            ),
        ] {
            assert_eq!(select(json, peer, chain), expected, "{json} {peer} {chain}");
        }
    }

    #[test]
    fn entries_may_carry_port_and_zone() {
        for (entry, address) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("10.0.0.1:80", Some("10.0.0.1")),
            ("[::1]:80", Some("::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("[10.0.0.1]", None),
            ("", None),
        ] {
            let found = Client::Entry(entry).address().map(|it| it.to_string());
            assert_eq!(found.as_deref(), address, "{entry}");
        }
    }

    #[test]
    fn fingerprints_follow_the_criterion() {
        let keys = RandomState::new();
        let of = |source: &Source, fixture: Fixture| source.fingerprint(&fixture.exchange(), &keys);
        let header = Source::Header(HeaderName::from_static("x-key"));
        let request = || Fixture::get("/").host("a.test:80").with("x-key", "1");
        assert_eq!(
            of(&header, request()),
            of(&header, request().with("x-key", "2"))
        );
        assert_eq!(
            of(&header, Fixture::get("/")),
            of(&header, Fixture::get("/x"))
        );
        assert_ne!(of(&header, request()), of(&header, Fixture::get("/")));
        assert_ne!(
            of(&Source::Host, request()),
            of(&Source::Host, request().host("a.test"))
        );
        let peer = Source::Client(ClientIp::peer());
        assert_eq!(
            of(&peer, request()),
            of(&peer, request().peer("192.0.2.7:9"))
        );
        assert_ne!(
            of(&peer, request()),
            of(&peer, request().peer("192.0.2.8:9"))
        );
    }

    #[test]
    fn findings() {
        for (criterion, expected) in [
            (
                r#"{"requestHost":true,"requestHeaderName":"x"}"#,
                "more than one criterion",
            ),
            (
                r#"{"ipStrategy":{},"requestHost":true}"#,
                "more than one criterion",
            ),
            (
                r#"{"requestHeaderName":"a b"}"#,
                "requestHeaderName: is not a header name",
            ),
            (
                r#"{"ipStrategy":{"ipv6Subnet":0}}"#,
                "ipv6Subnet: expected a number of bits",
            ),
            (
                r#"{"ipStrategy":{"ipv6Subnet":129}}"#,
                "ipv6Subnet: expected a number of bits",
            ),
        ] {
            let config = format!(r#"{{"rateLimit":{{"sourceCriterion":{criterion}}}}}"#);
            let problems = problems(&config);
            assert!(problems[0].contains(expected), "{criterion}: {problems:?}");
        }
        assert!(problems(r#"{"rateLimit":{"sourceCriterion":{}}}"#).is_empty());
    }
}
