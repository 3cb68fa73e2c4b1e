//! What a service of a Compose file says, as far as it matters to a proxy in front of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::normal::{get, scalar_text};
use crate::config::{
    Place,
    tree::{Node, Value},
};

/// A service: one or more containers that are alike.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    /// Where its name stands.
    pub place: Place,
    pub image: Option<Text>,
    /// Labels of its containers.
    pub labels: Vec<Pair>,
    /// Labels of the Swarm service.
    pub deploy_labels: Vec<Pair>,
    pub entrypoint: Option<Vec<Text>>,
    pub command: Option<Vec<Text>>,
    pub environment: Vec<Pair>,
    pub working_dir: String,
    /// What is mounted into its containers.
    pub mounts: Vec<Mount>,
    /// Ports of its containers that the file names: TCP and UDP, published or exposed.
    pub ports: Vec<u16>,
    /// Networks by the names that the engine knows.
    pub networks: Vec<String>,
    pub network_mode: Option<String>,
    pub replicas: usize,
    /// Whether a profile that it needs is wanted, or it needs none.
    pub enabled: bool,
    pub profiles: Vec<String>,
}

/// A text, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub place: Place,
}

/// A named value: a label, a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub name: String,
    pub value: String,
    /// Where the name was written.
    pub key: Place,
    /// Where the value was written.
    pub place: Place,
}

/// Something that a container sees at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub target: PathBuf,
    pub source: Source,
    pub place: Place,
}

/// Where what is mounted comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or directory here.
    Host(PathBuf),
    /// Something that only the engine knows: a named volume, a secret from elsewhere.
    Elsewhere,
}

/// What of the rest of the project a service needs.
pub(super) struct Project<'a> {
    pub(super) root: &'a Node,
    pub(super) name: &'a str,
    pub(super) profiles: &'a [String],
}

impl Service {
    pub(super) fn of(node: &Node, project: &Project<'_>) -> Self {
        let profiles: Vec<String> = get(node, "profiles").map(texts).unwrap_or_default();
        let wanted = |profile: &String| {
            let mut all = project.profiles.iter();
            all.any(|wanted| wanted == profile || wanted == "*")
        };
        let deploy = get(node, "deploy");
        let pairs_of = |node: Option<&Node>| node.map(pairs).unwrap_or_default();
        Self {
            name: node.name.to_string(),
            place: node.key.clone(),
            image: get(node, "image").and_then(text),
            labels: pairs_of(get(node, "labels")),
            deploy_labels: pairs_of(deploy.and_then(|deploy| get(deploy, "labels"))),
            entrypoint: get(node, "entrypoint").and_then(words),
            command: get(node, "command").and_then(words),
            environment: pairs_of(get(node, "environment")),
            working_dir: string(node, "working_dir").unwrap_or_else(|| "/".to_owned()),
            mounts: mounts(node, project.root),
            ports: ports(node),
            networks: networks(node, project),
            network_mode: string(node, "network_mode"),
            replicas: replicas(node),
            enabled: profiles.is_empty() || profiles.iter().any(wanted),
            profiles,
        }
    }

    /// The image's name without registry, path, tag and digest.
    pub fn image_name(&self) -> &str {
        let image = self.image.as_ref().map_or("", |image| &image.text);
        let image = image.split('@').next().unwrap_or_default();
        let name = image.rsplit('/').next().unwrap_or_default();
        name.split(':').next().unwrap_or_default()
    }
}

fn text(node: &Node) -> Option<Text> {
    let place = node.place.clone();
    scalar_text(node).map(|text| Text { text, place })
}

fn string(node: &Node, name: &str) -> Option<String> {
    get(node, name).and_then(scalar_text)
}

fn texts(node: &Node) -> Vec<String> {
    match &node.value {
        Value::List(items) => items.iter().filter_map(scalar_text).collect(),
        _ => scalar_text(node).into_iter().collect(),
    }
}

fn pairs(node: &Node) -> Vec<Pair> {
    let children = node.children().iter();
    let pair = |child: &Node| Pair {
        name: child.name.to_string(),
        value: scalar_text(child).unwrap_or_default(),
        key: child.key.clone(),
        place: child.place.clone(),
    };
    children.map(pair).collect()
}

/// A command as a list, or as a line for a shell to split.
fn words(node: &Node) -> Option<Vec<Text>> {
    match &node.value {
        Value::List(items) => Some(items.iter().filter_map(text).collect()),
        Value::Null => None,
        _ => {
            let line = text(node)?;
            let word = |text| Text {
                text,
                place: line.place.clone(),
            };
            Some(split(&line.text).into_iter().map(word).collect())
        }
    }
}

/// Splits as a shell does, quotes and backslashes taken off.
fn split(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn mounts(node: &Node, root: &Node) -> Vec<Mount> {
    let volumes = items(node, "volumes").filter_map(|item| {
        let source = match (string(item, "type").as_deref(), string(item, "source")) {
            (Some("bind"), Some(source)) => Source::Host(source.into()),
            _ => Source::Elsewhere,
        };
        mount(item, source)
    });
    let granted = ["configs", "secrets"].into_iter().flat_map(|kind| {
        items(node, kind).filter_map(move |item| {
            let name = string(item, "source")?;
            let definition = get(root, kind).and_then(|all| get(all, &name));
            let file = definition.and_then(|definition| string(definition, "file"));
            let source = file.map_or(Source::Elsewhere, |file| Source::Host(file.into()));
            mount(item, source)
        })
    });
    volumes.chain(granted).collect()
}

fn mount(item: &Node, source: Source) -> Option<Mount> {
    Some(Mount {
        target: string(item, "target")?.into(),
        source,
        place: item.place.clone(),
    })
}

fn items<'n>(node: &'n Node, name: &str) -> impl Iterator<Item = &'n Node> {
    let list = match get(node, name).map(|found| &found.value) {
        Some(Value::List(items)) => items.as_slice(),
        _ => &[],
    };
    list.iter()
}

/// The ports on the container's side.
fn ports(node: &Node) -> Vec<u16> {
    let published = items(node, "ports").filter_map(|item| match scalar_text(item) {
        Some(text) => first_port(text.rsplit(':').next()?),
        None => string(item, "target")?.parse().ok(),
    });
    let exposed = items(node, "expose").filter_map(|item| first_port(&scalar_text(item)?));
    let mut ports: Vec<u16> = published.chain(exposed).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// `80`, `80/tcp`, `80-90`.
fn first_port(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

fn networks(node: &Node, project: &Project<'_>) -> Vec<String> {
    let named = get(node, "networks").map_or(&[][..], Node::children);
    let mut names: Vec<String> = named
        .iter()
        .map(|network| network.name.to_string())
        .collect();
    if names.is_empty() && get(node, "network_mode").is_none() {
        names.push("default".to_owned());
    }
    let real = |name: String| {
        let definition = get(project.root, "networks").and_then(|all| get(all, &name));
        let external = definition.and_then(|definition| string(definition, "external"));
        let given = definition.and_then(|definition| string(definition, "name"));
        match given {
            Some(given) => given,
            None if external.as_deref() == Some("true") => name,
            None => format!("{}_{name}", project.name),
        }
    };
    names.into_iter().map(real).collect()
}

fn replicas(node: &Node) -> usize {
    let deploy = get(node, "deploy");
    let wanted = deploy.and_then(|deploy| string(deploy, "replicas"));
    let wanted = wanted.or_else(|| string(node, "scale"));
    let wanted = wanted.and_then(|text| text.parse::<usize>().ok());
    // What is checked does not depend on how many there are.
    wanted.unwrap_or(1).min(MOST_REPLICAS)
}

/// The name of each label or variable once: what later ones say counts.
pub(super) fn put_missing(pairs: &mut Vec<Pair>, more: impl Iterator<Item = Pair>) {
    let known: BTreeMap<String, ()> = pairs.iter().map(|pair| (pair.name.clone(), ())).collect();
    let mut added: BTreeMap<String, Pair> = BTreeMap::new();
    for pair in more.filter(|pair| !known.contains_key(&pair.name)) {
        added.insert(pair.name.clone(), pair);
    }
    pairs.extend(added.into_values());
}

const MOST_REPLICAS: usize = 100;
