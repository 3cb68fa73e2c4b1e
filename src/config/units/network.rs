//! Addresses to listen on, and networks.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An entry point's address: `[host]:port[/tcp|/udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// Host or IP to listen on without brackets; empty for all.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Transport protocol of an entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// TCP: HTTP and TCP routers.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Address {
    /// Whether the user gave one.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Every interface, a port chosen by the system.
impl Default for Address {
    fn default() -> Self {
        Self {
            text: String::new(),
            host: String::new(),
            port: 0,
            protocol: Protocol::Tcp,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As an unset variable leaves it.
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (address, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((address, name)) if name.eq_ignore_ascii_case("tcp") => (address, Protocol::Tcp),
            Some((address, name)) if name.eq_ignore_ascii_case("udp") => (address, Protocol::Udp),
            Some((_, name)) => {
                return Err(format!(
                    "unknown protocol {name:?}: expected `/tcp` or `/udp`"
                ));
            }
        };
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| format!("expected an address such as `:80`, found {text:?}"))?;
        let port = port
            .parse()
            .map_err(|_| format!("expected a port from 0 to 65535, found {port:?}"))?;
        let host = match host.strip_prefix('[') {
            Some(host) => host
                .strip_suffix(']')
                .ok_or_else(|| format!("missing `]` in {text:?}"))?,
            None if host.contains(':') => {
                return Err(format!("an IPv6 address needs brackets: `[{host}]:{port}`"));
            }
            None => host,
        };
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port,
            protocol,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An IP address or a network (`10.0.0.0/8`); an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(pub IpNet);

impl Cidr {
    /// Whether the address lies inside; IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected an IP address or a network such as `10.0.0.0/8`, found {text:?}");
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| wrong())?),
        };
        Ok(Self(unmapped(net)))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// IPv4-mapped IPv6 networks mean the IPv4 network.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped: Option<std::net::Ipv4Addr> = Ipv6Addr::to_ipv4_mapped(&v6.addr());
    match (mapped, v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => ipnet::Ipv4Net::new(v4, prefix).map_or(net, IpNet::V4),
        _ => net,
    }
}
