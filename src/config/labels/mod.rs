//! Labels of a container or of a Swarm service to routing configuration.
//!
//! Pure: what a label provider adds (addresses, default rules, implicit services) is its own business.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::decode::{decode, did_you_mean};
use super::diagnostic::{About, Diagnostic, Labelled, Place};
use super::routing::{DecodedRouting, Kind, Service, decode_routing};
use super::shape::Placed;
use super::tree::{Branch, Node, Parsed, Repeat, Scalar, Style, Value, split_path};

/// What labels say.
#[derive(Debug, Clone, Default)]
pub struct DecodedLabels {
    /// Routers, services and middlewares. Services have no servers yet.
    pub decoded: DecodedRouting,
    /// `loadbalancer.server.…` of each service that has it, by the service's name.
    pub servers: BTreeMap<String, Placed<LabelServer>>,
    /// `traefik.enable`.
    pub enable: Option<bool>,
    /// `traefik.docker.…`
    pub docker: DockerLabels,
    /// `traefik.swarm.…`
    pub swarm: SwarmLabels,
}

/// The one server that labels describe: the container itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelServer {
    /// `port`. Empty means the container's lowest exposed port.
    pub port: String,
    /// `scheme`. Empty means `http`.
    pub scheme: String,
    /// `url`: instead of address, port and scheme.
    pub url: String,
    /// `weight`.
    pub weight: Option<i64>,
    /// `preservePath`. Default false.
    pub preserve_path: bool,
}

/// `traefik.docker.…`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DockerLabels {
    /// `network` whose address to use.
    pub network: String,
    /// `allowNonRunning`: keep the container whatever its state. Default false.
    pub allow_non_running: bool,
    /// `lbswarm`: balance by the swarm. Default false.
    pub lbswarm: bool,
}

/// `traefik.swarm.…`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SwarmLabels {
    /// `network` whose address to use.
    pub network: String,
    /// `lbswarm`: balance by the swarm. Default false.
    pub lbswarm: bool,
}

/// Decodes the labels of one container or service.
pub fn decode_labels<'a>(
    of: &Labelled,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> DecodedLabels {
    let mut labels: Vec<_> = labels.into_iter().collect();
    // The first spelling of a name in this order stays, and the last value.
    labels.sort_unstable();
    let mut reader = Reader::new(of);
    for (key, value) in labels {
        reader.label(key, value);
    }
    reader.finish()
}

struct Reader {
    of: Labelled,
    tree: Branch,
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn new(of: &Labelled) -> Self {
        Self {
            of: of.clone(),
            tree: Branch::default(),
            diagnostics: Vec::new(),
        }
    }

    fn label(&mut self, key: &str, value: &str) {
        let place = Place::Label {
            of: self.of.clone(),
            key: key.into(),
        };
        if !is_ours(key) {
            self.not_ours(key, place);
            return;
        }
        let Some(path) = key.strip_prefix("traefik.") else {
            let wrong = Diagnostic::error(
                place,
                "",
                "a label must begin with `traefik.` in lower case",
            );
            self.diagnostics.push(wrong);
            return;
        };
        match split_path(path) {
            Ok(path) => {
                let value = Scalar::new(value, Style::Quoted);
                self.tree.insert(&path, value, &place, Repeat::Replace);
            }
            Err(wrong) => self.diagnostics.push(Diagnostic::error(place, path, wrong)),
        }
    }

    /// Traefik ignores these; some are mistakes.
    fn not_ours(&mut self, key: &str, place: Place) {
        let lower = key.to_ascii_lowercase();
        if lower.starts_with("traefik.tls.") {
            let ignored =
                Diagnostic::warning(place, "tls", "cannot be set by a label and is ignored")
                    .about(About::UnknownOption);
            let hint = "define it in a file and refer to it as `name@file`";
            self.diagnostics.push(ignored.with_hint(hint));
            return;
        }
        let mut names = lower.split('.');
        let (root, section) = (
            names.next().unwrap_or_default(),
            names.next().unwrap_or_default(),
        );
        let near = |name: &str, known: &str| strsim::damerau_levenshtein(name, known) == 1;
        let misspelt = match root {
            "traefik" => ["http", "tcp", "udp", "enable"]
                .iter()
                .any(|known| near(section, known)),
            _ => near(root, "traefik") && SECTIONS.contains(&section),
        };
        if misspelt {
            let mut ignored = Diagnostic::warning(place, "", "is not a known label and is ignored")
                .about(About::UnknownOption);
            ignored.hint = match root {
                "traefik" => did_you_mean(section, SECTIONS),
                _ => did_you_mean(root, &["traefik"]),
            };
            self.diagnostics.push(ignored);
        }
    }

    fn finish(self) -> DecodedLabels {
        let mut diagnostics = self.diagnostics;
        let mut decoded = DecodedLabels::default();
        let mut sections = match self.tree.into_node().value {
            Value::Map { children, .. } => children,
            _ => Vec::new(),
        };
        sections.retain(|section| match section.name.to_ascii_lowercase().as_str() {
            "enable" => {
                decoded.enable = whole(section, "enable", &mut diagnostics);
                false
            }
            "docker" => {
                decoded.docker = whole(section, "docker", &mut diagnostics).unwrap_or_default();
                false
            }
            "swarm" => {
                decoded.swarm = whole(section, "swarm", &mut diagnostics).unwrap_or_default();
                false
            }
            "http" | "tcp" | "udp" | "tls" => true,
            name => {
                let place = section.key.clone();
                let mut unknown =
                    Diagnostic::error(place, name, "unknown label").about(About::UnknownOption);
                unknown.hint = did_you_mean(name, SECTIONS);
                diagnostics.push(unknown);
                false
            }
        });
        let servers = sections.iter_mut().flat_map(take_servers).collect();
        decoded.decoded = decode_routing(Parsed {
            root: Some(Node::root(sections)),
            diagnostics,
        });
        decoded.refuse_lists();
        decoded.add_servers(servers);
        for found in &mut decoded.decoded.diagnostics {
            name_blanks(found);
        }
        decoded
    }
}

impl DecodedLabels {
    /// Labels speak of one server, the container; a list of them would be silently replaced by it.
    fn refuse_lists(&mut self) {
        const FIELD: &str = "loadBalancer.servers";
        let Self { decoded, .. } = self;
        let services = &mut decoded.routing.http.services;
        let written = |service: &Placed<Service>| service.places.wrote(FIELD);
        let names: Vec<String> = services
            .iter()
            .filter(|(_, service)| written(service))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(service) = services.remove(&name) else {
                continue;
            };
            let place = service.at("loadBalancer.servers[0].url").clone();
            let path = format!("http.services.{name}.{FIELD}");
            let message = "is not known in labels: a container is one server";
            let unknown = Diagnostic::error(place, path, message).about(About::UnknownOption);
            let hint = "write `loadbalancer.server.url` or `loadbalancer.server.port`";
            decoded.diagnostics.push(unknown.with_hint(hint));
            decoded.broken.insert((Kind::Service, name));
        }
    }

    fn add_servers(&mut self, servers: Vec<(String, Node)>) {
        for (service, node) in servers {
            let path = format!("http.services.{service}.loadBalancer.server");
            let server = decode::<LabelServer>(&node, &path);
            let broken = server.has_errors();
            self.decoded.diagnostics.extend(server.diagnostics);
            if broken {
                self.decoded.routing.http.services.remove(&service);
                self.decoded.broken.insert((Kind::Service, service));
            } else if let Some(value) = server.value {
                self.servers
                    .insert(service, Placed::new(value, server.places));
            }
        }
        let diagnostics = &mut self.decoded.diagnostics;
        diagnostics.sort_by(|a, b| a.place.cmp(&b.place));
    }
}

/// Says of a name that is not known for the blank at its end that it is for that: one does not see it.
fn name_blanks(found: &mut Diagnostic) {
    let Place::Label { key, .. } = &found.place else {
        return;
    };
    let trimmed = key.trim_end();
    if found.about == About::UnknownOption && trimmed.len() != key.len() {
        found.message = "unknown label: there is a blank before the `=`".to_owned();
        found.hint = Some(format!("write `{trimmed}=…`"));
    }
}

/// Takes `loadbalancer.server` out of every service, and gives names that stand alone (`…routers.app=`) their empty object.
fn take_servers(http: &mut Node) -> Vec<(String, Node)> {
    if !http.name.eq_ignore_ascii_case("http") {
        return Vec::new();
    }
    let mut servers = Vec::new();
    for section in children_mut(http) {
        let is_services = section.name.eq_ignore_ascii_case("services");
        for object in children_mut(section) {
            if matches!(object.value, Value::Scalar(_)) {
                object.value = Value::map(Vec::new());
            }
            if is_services && let Some(server) = take_server(object) {
                servers.push((String::from(&*object.name), server));
            }
        }
    }
    servers
}

fn take_server(service: &mut Node) -> Option<Node> {
    let mut balancers = children_mut(service);
    let balancer = balancers.find(|child| child.name.eq_ignore_ascii_case("loadBalancer"))?;
    let Value::Map { children, .. } = &mut balancer.value else {
        return None;
    };
    let index = children
        .iter()
        .position(|child| child.name.eq_ignore_ascii_case("server"))?;
    Some(children.remove(index))
}

fn children_mut(node: &mut Node) -> std::slice::IterMut<'_, Node> {
    match &mut node.value {
        Value::Map { children, .. } => children.iter_mut(),
        _ => [].iter_mut(),
    }
}

fn whole<T: serde::de::DeserializeOwned>(
    node: &Node,
    path: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let decoded = decode::<T>(node, path);
    diagnostics.extend(decoded.diagnostics);
    decoded.value
}

/// Whether a label counts at all, right or wrong.
pub fn is_label(key: &str) -> bool {
    is_ours(key)
}

/// A plain test of the beginning, as in Traefik: `traefik.enabled` is a mistake, `traefik.team` somebody else's label.
fn is_ours(key: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        let start = key.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

const PREFIXES: &[&str] = &[
    "traefik.http",
    "traefik.tcp",
    "traefik.udp",
    "traefik.tls.stores.default",
    "traefik.enable",
    "traefik.docker.",
    "traefik.swarm.",
];

const SECTIONS: &[&str] = &["http", "tcp", "udp", "tls", "enable", "docker", "swarm"];

#[cfg(test)]
mod tests;
