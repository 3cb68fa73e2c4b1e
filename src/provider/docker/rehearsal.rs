//! What the provider would say if certain containers ran: for checks of files that describe them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{
    address::Surroundings,
    container::{Attachment, Container, Part, Port, Status},
    contribution::{VIRTUAL, contribute},
    merge::{Voice, merge},
    settings::{Settings, Verdict},
};
use crate::config::{DecodedRouting, Labelled, install, labels::decode_labels, routing::Condition};

/// A container as a file describes it, or a service of a swarm.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    /// What findings call it; of a service, its name.
    pub of: Labelled,
    pub labels: BTreeMap<String, String>,
    /// The names of its networks.
    pub networks: Vec<String>,
    /// Whether it is on the host's network.
    pub on_host: bool,
    pub ports: Vec<u16>,
    /// How many there are that are alike.
    pub replicas: usize,
}

/// What the provider would say.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    pub decoded: DecodedRouting,
    /// Those that are not meant for it.
    pub left_out: Vec<Labelled>,
}

/// What the provider would say with these options if these containers ran, seen from a container that is on `networks`. Of two that
/// claim one name the earlier has it. Options that cannot be used have their defaults.
pub fn rehearse(
    options: &install::DockerProvider,
    networks: &[String],
    sketches: &[Sketch],
) -> Rehearsal {
    let settings = Settings::new(options).or_else(|_| Settings::new(&Default::default()));
    let Ok(settings) = settings else {
        return Rehearsal::default();
    };
    let around = Surroundings {
        networks: networks.iter().cloned().collect::<BTreeSet<_>>(),
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let mut voices = Vec::new();
    let mut left_out = Vec::new();
    let mut found = Vec::new();
    for (position, sketch) in (0..).zip(sketches) {
        if let Verdict::Ignored(why) = settings.judge(&sketch.of, &sketch.labels) {
            let labels = sketch.labels.iter();
            let labels = labels.map(|(key, value)| (key.as_str(), value.as_str()));
            found.extend(decode_labels(&sketch.of, labels).decoded.diagnostics);
            found.extend(why);
            left_out.push(sketch.of.clone());
            continue;
        }
        // Without replicas its routers are known all the same.
        let replicas = (0..sketch.replicas.clamp(1, usize::from(u8::MAX) - 3)).zip(2..);
        let replicas = replicas.map(|(replica, host)| container(sketch, position, replica, host));
        voices.extend(
            service(sketch, position)
                .into_iter()
                .chain(replicas)
                .map(|container| Voice {
                    contribution: Arc::new(contribute(&container, &settings, &around)),
                    condition: Condition::Ready,
                    gone: sketch.replicas == 0,
                    since: position,
                }),
        );
    }
    let mut decoded = merge(voices);
    decoded.diagnostics.extend(found);
    Rehearsal { decoded, left_out }
}

/// The service that defines what its tasks serve, in a swarm.
fn service(sketch: &Sketch, position: i64) -> Option<Container> {
    let Labelled::Service(name) = &sketch.of else {
        return None;
    };
    Some(Container {
        id: format!("{position:08}").into(),
        name: Arc::clone(name),
        created: position,
        labels: sketch.labels.clone(),
        status: Status::Stopped,
        // A swarm gives every service an address on the networks it shares with others, unless it is told not to.
        network_mode: match sketch.networks.is_empty() {
            true => String::new(),
            false => VIRTUAL.to_owned(),
        },
        part: Some(Part::Service),
        ..Container::default()
    })
}

/// One replica, with an address of its own.
fn container(sketch: &Sketch, position: i64, replica: usize, host: u8) -> Container {
    let attachment = |(subnet, name): (u8, &String)| {
        let place = u8::try_from(position % 250).unwrap_or_default();
        let attachment = Attachment {
            network: name.clone(),
            v4: Some(Ipv4Addr::new(172, 16 + subnet % 16, place, host)),
            v6: None,
        };
        (name.clone(), attachment)
    };
    let networks = (0..=u8::MAX).zip(&sketch.networks).map(attachment);
    let port = |number: &u16| Port {
        number: *number,
        udp: false,
        bindings: Vec::new(),
    };
    let (Labelled::Container(name) | Labelled::Service(name)) = &sketch.of;
    Container {
        id: format!("{position:08}-{replica:08}").into(),
        name: Arc::clone(name),
        part: match &sketch.of {
            Labelled::Container(_) => None,
            Labelled::Service(name) => Some(Part::Task(Arc::clone(name))),
        },
        created: position,
        labels: sketch.labels.clone(),
        network_mode: match sketch.on_host {
            true => "host".to_owned(),
            false => String::new(),
        },
        networks: networks.collect(),
        ports: sketch.ports.iter().map(port).collect(),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(name: &str, replicas: usize, labels: &[(&str, &str)]) -> Sketch {
        let labels = labels.iter().copied();
        Sketch {
            of: Labelled::Container(name.into()),
            labels: labels
                .chain([
                    ("com.docker.compose.project", "p"),
                    ("com.docker.compose.service", name),
                ])
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            networks: vec!["p_default".to_owned()],
            ports: vec![80],
            replicas,
            ..Sketch::default()
        }
    }

    #[test]
    fn replicas_are_servers_and_findings_name_the_service() {
        let options = install::DockerProvider::default();
        let sketches = [
            sketch("web", 3, &[]),
            sketch("off", 1, &[("traefik.enable", "false")]),
            sketch(
                "two",
                0,
                &[
                    ("traefik.http.routers.web-p.rule", "Host(`x`)"),
                    ("traefik.http.routers.two.rul", "Host(`x`)"),
                ],
            ),
        ];
        let said = rehearse(&options, &[], &sketches);
        let http = &said.decoded.routing.http;
        assert_eq!(http.routers["web-p"].rule, "Host(`web-p`)");
        let service = serde_json::to_value(&http.services["web-p"].value).unwrap();
        let servers = service["loadBalancer"]["servers"].as_array().unwrap();
        assert_eq!(servers.len(), 3, "{service}");
        assert_eq!(said.left_out, [Labelled::Container("off".into())]);
    }
}
