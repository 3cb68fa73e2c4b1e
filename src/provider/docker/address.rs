//! Which address and port of a container its servers have.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::container::{Attachment, Container, Port};

/// What matters about the place where we run ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Identifiers of the networks that our own container is on; none if we are in no container.
    pub(super) networks: BTreeSet<String>,
    /// Where ports of the host are reached.
    pub(super) host: IpAddr,
}

/// An address, how it came about, and what there is to say about that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) address: IpAddr,
    /// The identifier of the network it belongs to.
    pub(super) network: Option<String>,
    pub(super) remark: Option<String>,
}

/// Chooses the address of a container. `wanted` is the network that its label or the provider's option names, if any.
pub(super) fn choose(
    container: &Container,
    wanted: &str,
    around: &Surroundings,
) -> Result<Chosen, String> {
    let usable = container.networks.iter();
    let usable: Vec<Candidate<'_>> = usable
        .filter_map(|(name, attachment)| Some((name.as_str(), attachment, attachment.address()?)))
        .collect();
    if let Some(named) = usable.iter().find(|(name, ..)| *name == wanted) {
        return Ok(chosen(named, None));
    }
    if container.network_mode == "host" {
        return Ok(Chosen {
            address: around.host,
            network: None,
            remark: None,
        });
    }
    if let Some(other) = container.network_mode.strip_prefix("container:") {
        return shared(container, other, wanted, around);
    }
    let remark = absent(wanted, &usable);
    let mut near = usable
        .iter()
        .filter(|(_, attachment, _)| around.networks.contains(&attachment.network));
    match (near.next(), usable.as_slice()) {
        (Some(near), _) => Ok(chosen(near, remark)),
        (None, []) => Err("is on no network that gives it an address".to_owned()),
        (None, [only]) => Ok(chosen(only, remark)),
        (None, [first, ..]) => {
            let several = format!(
                "is on several networks ({}) and says none; {} is taken",
                names(&usable),
                first.0
            );
            Ok(chosen(first, remark.or(Some(several))))
        }
    }
}

/// The address of the container whose network this one shares; what that one's label says comes first.
fn shared(
    container: &Container,
    other: &str,
    wanted: &str,
    around: &Surroundings,
) -> Result<Chosen, String> {
    let Some(peer) = &container.peer else {
        return Err(format!(
            "shares the network of container {other}, which is not there"
        ));
    };
    if peer.network_mode.starts_with("container:") {
        return Err(format!(
            "shares the network of {}, which has none itself",
            peer.name
        ));
    }
    let its = peer.labels.get("traefik.docker.network");
    choose(peer, its.map_or(wanted, String::as_str), around)
}

/// A network's name, and what the container has there.
type Candidate<'a> = (&'a str, &'a Attachment, IpAddr);

fn chosen((_, attachment, address): &Candidate<'_>, remark: Option<String>) -> Chosen {
    Chosen {
        address: *address,
        network: Some(attachment.network.clone()),
        remark,
    }
}

/// A remark that the network asked for is not among those it is on.
fn absent(wanted: &str, usable: &[Candidate<'_>]) -> Option<String> {
    (!wanted.is_empty()).then(|| {
        let prefixed = usable.iter().find(|(name, ..)| {
            let rest = name.strip_suffix(wanted);
            rest.is_some_and(|rest| rest.ends_with('_'))
        });
        let meant = prefixed.map(|(name, ..)| format!("; did you mean `{name}`?"));
        format!(
            "is not on the network `{wanted}`, only on {}{}",
            names(usable),
            meant.unwrap_or_default()
        )
    })
}

fn names(usable: &[Candidate<'_>]) -> String {
    let names: Vec<&str> = usable.iter().map(|(name, ..)| *name).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

/// The port to use when no label says: the lowest TCP port, else the lowest at all.
pub(super) fn lowest(ports: &[Port]) -> Option<u16> {
    let tcp = ports.iter().find(|port| !port.udp);
    tcp.or_else(|| ports.first()).map(|port| port.number)
}

/// Where a port of the container is published on one particular address of the host.
pub(super) fn published(ports: &[Port], number: u16) -> Option<SocketAddr> {
    let port = ports
        .iter()
        .find(|port| port.number == number && !port.udp)?;
    let mut bindings = port.bindings.iter();
    bindings.find_map(|(address, number)| {
        let address = (*address)?;
        (!address.is_unspecified()).then(|| SocketAddr::new(address, *number))
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn container(networks: &[(&str, &str)]) -> Container {
        let networks = networks.iter().map(|(name, address)| {
            let attachment = Attachment {
                network: format!("id-{name}"),
                v4: address.parse().ok(),
                v6: address.parse().ok(),
            };
            ((*name).to_owned(), attachment)
        });
        Container {
            networks: networks.collect(),
            ..Container::default()
        }
    }

    fn around(networks: &[&str]) -> Surroundings {
        Surroundings {
            networks: networks.iter().map(|name| (*name).to_owned()).collect(),
            host: Ipv4Addr::new(192, 0, 2, 1).into(),
        }
    }

    fn address(container: &Container, wanted: &str, own: &[&str]) -> String {
        match choose(container, wanted, &around(own)) {
            Ok(chosen) => match chosen.remark {
                Some(remark) => format!("{} {remark}", chosen.address),
                None => chosen.address.to_string(),
            },
            Err(wrong) => wrong,
        }
    }

    #[test]
    fn one_network_is_chosen_always_the_same_way() {
        let two = [("b", "10.0.2.2"), ("a", "10.0.1.2")];
        for (networks, wanted, own, expected) in [
            (&two[..1], "", &[][..], "10.0.2.2"),
            (&two, "b", &[], "10.0.2.2"),
            (&two, "a", &["id-b"], "10.0.1.2"),
            (&two, "", &["id-b", "id-x"], "10.0.2.2"),
            (
                &two,
                "",
                &["id-x"],
                "10.0.1.2 is on several networks (a, b) and says none; a is taken",
            ),
            (
                &two,
                "c",
                &["id-b"],
                "10.0.2.2 is not on the network `c`, only on a, b",
            ),
            (
                &[("shop_web", "10.0.3.2")],
                "web",
                &[],
                "10.0.3.2 is not on the network `web`, only on shop_web; did you mean `shop_web`?",
            ),
            (&[("six", "fd00::2")], "", &[], "fd00::2"),
            (
                &[("none", "")],
                "",
                &[],
                "is on no network that gives it an address",
            ),
            (&[], "", &[], "is on no network that gives it an address"),
        ] {
            assert_eq!(address(&container(networks), wanted, own), expected);
        }
    }

    #[test]
    fn modes_lead_elsewhere() {
        let mut host = container(&[("host", "")]);
        host.network_mode = "host".to_owned();
        assert_eq!(address(&host, "", &[]), "192.0.2.1");

        let mut guest = container(&[]);
        guest.network_mode = "container:abc".to_owned();
        assert!(address(&guest, "", &[]).contains("not there"));
        let mut peer = container(&[("a", "10.0.1.2"), ("b", "10.0.2.2")]);
        let label = ("traefik.docker.network".to_owned(), "b".to_owned());
        peer.labels.extend([label]);
        guest.peer = Some(Box::new(peer.clone()));
        assert_eq!(address(&guest, "a", &[]), "10.0.2.2");
        peer.network_mode = "container:other".to_owned();
        guest.peer = Some(Box::new(peer));
        assert!(address(&guest, "", &[]).contains("none itself"));
    }

    #[test]
    fn ports() {
        let port = |number, udp, bindings: &[(&str, u16)]| Port {
            number,
            udp,
            bindings: bindings
                .iter()
                .map(|(ip, port)| (ip.parse().ok(), *port))
                .collect(),
        };
        let ports = [
            port(53, true, &[]),
            port(80, false, &[("0.0.0.0", 8080), ("127.0.0.1", 8081)]),
            port(443, false, &[("::", 8443)]),
        ];
        assert_eq!(lowest(&ports), Some(80));
        assert_eq!(lowest(&ports[..1]), Some(53));
        assert_eq!(lowest(&[]), None);
        assert_eq!(
            published(&ports, 80),
            Some("127.0.0.1:8081".parse().unwrap())
        );
        assert_eq!((published(&ports, 443), published(&ports, 1)), (None, None));
    }
}
