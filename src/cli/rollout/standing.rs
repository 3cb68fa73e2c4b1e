//! What a Portway's API says of a container: whether it gets requests, and whether anybody has seen it take a connection.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::stack::Container;

/// How a container stands, from good to bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It gets requests, and has been reached.
    Takes,
    /// It gets requests, but nobody has tried yet whether it takes connections there.
    Untried(SocketAddr),
    /// It gets none yet, for this reason.
    Waits(String),
    /// No service has it.
    Absent,
}

/// How a container stands that is to take the place of `old` ones: in every service, except those that the old ones do not serve either.
pub(super) fn standing(services: &[Value], container: &Container, old: &[Container]) -> Standing {
    let ours = std::slice::from_ref(container);
    let mut found = Vec::new();
    let mut excused = Vec::new();
    for service in services {
        let before: Vec<Server<'_>> = servers_of(service, old).collect();
        let joins = !before.is_empty();
        let unserved = joins && before.iter().all(|server| !server.up);
        for server in servers_of(service, ours) {
            match server.standing(joins) {
                waits @ Standing::Waits(_) if unserved => excused.push(waits),
                standing => found.push(standing),
            }
        }
    }
    let worst = |standings: Vec<Standing>| standings.into_iter().max_by_key(Standing::rank);
    worst(found)
        .or_else(|| worst(excused))
        .unwrap_or(Standing::Absent)
}

/// Whether a service has one of these containers, however that is.
pub(super) fn lists(service: &Value, containers: &[Container]) -> bool {
    servers_of(service, containers).next().is_some()
}

impl Standing {
    fn rank(&self) -> u8 {
        match self {
            Self::Takes => 0,
            Self::Untried(_) => 1,
            Self::Waits(_) => 2,
            Self::Absent => 3,
        }
    }
}

/// A server as the API shows it.
#[derive(Debug, Clone, Copy)]
struct Server<'a> {
    address: SocketAddr,
    up: bool,
    /// Why, in Portway's words; other proxies do not tell.
    reason: Option<&'a str>,
    detail: Option<&'a str>,
}

impl Server<'_> {
    /// `joins` if the service had others before: then Portway connects to a newcomer before it counts on it.
    fn standing(&self, joins: bool) -> Standing {
        let words = || {
            let reason = self.reason.unwrap_or("DOWN");
            match self.detail {
                Some(detail) => format!("{reason}: {detail}"),
                None => reason.to_owned(),
            }
        };
        match self.reason {
            _ if !self.up => Standing::Waits(words()),
            Some("not_reached" | "not_probed" | "unresolved") => Standing::Waits(words()),
            Some("unchecked") if joins => Standing::Takes,
            // The first servers of a service are taken for well unseen: there is nobody else to serve.
            Some("unchecked") | None => Standing::Untried(self.address),
            Some(_) => Standing::Takes,
        }
    }
}

/// The servers of a service that belong to one of the containers.
fn servers_of<'a>(
    service: &'a Value,
    containers: &'a [Container],
) -> impl Iterator<Item = Server<'a>> {
    let shown = service.get("servers").and_then(Value::as_array);
    let told = shown.into_iter().flatten().filter_map(|server| {
        let text = |name: &str| server.get(name).and_then(Value::as_str);
        Some(Server {
            address: address_of(text("url")?)?,
            up: text("status") == Some("UP"),
            reason: text("reason"),
            detail: text("detail").filter(|detail| !detail.is_empty()),
        })
    });
    let statuses = match shown {
        Some(_) => None,
        None => service.get("serverStatus").and_then(Value::as_object),
    };
    let bare = statuses.into_iter().flatten().filter_map(|(url, status)| {
        Some(Server {
            address: address_of(url)?,
            up: status.as_str() == Some("UP"),
            reason: None,
            detail: None,
        })
    });
    told.chain(bare).filter(|server| {
        containers
            .iter()
            .any(|container| container.addresses.contains(&server.address.ip()))
    })
}

/// Where a URL leads that names an address.
fn address_of(url: &str) -> Option<SocketAddr> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let usual = match scheme {
        "https" => 443,
        _ => 80,
    };
    let bare = authority.trim_start_matches('[').trim_end_matches(']');
    authority
        .parse()
        .ok()
        .or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, usual)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::rollout::stack::tests::container_at;

    #[test]
    fn urls_lead_to_addresses() {
        for (url, expected) in [
            ("http://10.0.0.2:81", Some("10.0.0.2:81")),
            ("http://10.0.0.2", Some("10.0.0.2:80")),
            ("https://[fd00::2]:8443/x", Some("[fd00::2]:8443")),
            ("https://[fd00::2]/x", Some("[fd00::2]:443")),
            ("http://name:80", None),
            ("nonsense", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(address_of(url), expected, "{url}");
        }
    }

    /// `old UP unchecked, new DOWN starting`: a service and its servers.
    fn service(line: &str) -> Value {
        let servers = line.split(", ").filter(|server| !server.is_empty());
        let servers = servers.map(|server| {
            let words: Vec<&str> = server.split(' ').collect();
            let url = match words[0] {
                "old" => "http://10.0.0.1:80",
                _ => "http://10.0.0.2:80",
            };
            json!({"url": url, "status": words[1], "reason": words[2], "detail": ""})
        });
        json!({"name": "app@docker", "servers": servers.collect::<Vec<_>>()})
    }

    /// Up is everything that is not known to be down, so it takes a reason to be taken for more.
    #[test]
    fn up_is_not_enough() {
        let new = container_at(&["10.0.0.2", "10.9.0.2"]);
        let old = [container_at(&["10.0.0.1"])];
        for (services, expected) in [
            ("", "absent"),
            ("old UP unchecked", "absent"),
            ("old UP unchecked, new UP not_reached", "not_reached"),
            ("new UP not_probed", "not_probed"),
            ("new UP unresolved", "unresolved"),
            ("new DOWN starting", "starting"),
            ("old UP unchecked, new UP unchecked", "takes"),
            ("new UP probe_succeeded", "takes"),
            // Nobody was there before, so nobody has asked.
            ("new UP unchecked", "untried"),
            // Every service counts, except one that the old containers do not serve either.
            (
                "old UP unchecked, new UP unchecked; old UP probe_succeeded, new DOWN probe_failed",
                "probe_failed",
            ),
            (
                "old UP unchecked, new UP unchecked; old DOWN probe_failed, new DOWN probe_failed",
                "takes",
            ),
            (
                "old DOWN probe_failed, new DOWN probe_failed",
                "probe_failed",
            ),
        ] {
            let listed: Vec<Value> = services.split("; ").map(service).collect();
            let found = match standing(&listed, &new, &old) {
                Standing::Takes => "takes".to_owned(),
                Standing::Untried(address) if address.port() == 80 => "untried".to_owned(),
                Standing::Waits(reason) => reason,
                Standing::Absent => "absent".to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(found, expected, "{services}");
        }
    }

    #[test]
    fn other_proxies_tell_less() {
        let new = container_at(&["10.0.0.2"]);
        for (status, expected) in [
            ("UP", Standing::Untried("10.0.0.2:80".parse().unwrap())),
            ("DOWN", Standing::Waits("DOWN".to_owned())),
        ] {
            let services = [json!({"name": "a", "serverStatus": {"http://10.0.0.2:80": status}})];
            assert_eq!(standing(&services, &new, &[]), expected);
        }
    }
}
