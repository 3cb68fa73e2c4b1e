//! Options that are gone since Traefik 2, or stand in the wrong place.

use super::decode::join;
use super::diagnostic::{About, Diagnostic};
use super::tree::{Node, Value};

/// Takes options that are gone, or stand in the wrong place, out of the tree. What is gone costs a warning that gives its form in
/// Traefik 3, as long as the configuration means something without it; everything else is an error that says what to write instead.
pub(super) fn take_removed(root: &mut Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (path, instead) in REMOVED {
        let before = found.len();
        take_all(root, path, &mut |path, node| {
            let message = "is gone since Traefik 3, and ignored";
            let gone = Diagnostic::warning(node.key, path, message).with_hint(*instead);
            found.push(gone.about(About::UnknownOption));
        });
        if found.len() > before {
            drop_empty(root, path);
        }
    }
    read_swarm_mode(root, &mut found);
    for (path, instead) in REFUSED {
        take_all(root, path, &mut |path, node| {
            let message = "is gone since Traefik 3";
            let gone = Diagnostic::error(node.key, path, message).with_hint(*instead);
            found.push(gone.about(About::UnknownOption));
        });
    }
    for (path, instead) in MISPLACED {
        take_all(root, path, &mut |path, node| {
            let message = "does not belong here";
            let misplaced = Diagnostic::error(node.key, path, message).with_hint(*instead);
            found.push(misplaced.about(About::UnknownOption));
        });
    }
    found
}

/// Drops a section that held nothing else: one without options would mean something of its own.
fn drop_empty(root: &mut Node, path: &str) {
    let section = path.split('.').next().unwrap_or_default();
    let sections = ["experimental", "tracing"];
    if let Some(children) = children_of(root).filter(|_| sections.contains(&section)) {
        children.retain(|child| {
            let is_empty = matches!(&child.value, Value::Map { children, switch: None } if children.is_empty());
            !(is_empty && child.name.eq_ignore_ascii_case(section))
        });
    }
}

/// A Docker provider in swarm mode is the Swarm provider of Traefik 3.
fn read_swarm_mode(root: &mut Node, found: &mut Vec<Diagnostic>) {
    let mut is_on = false;
    take_all(root, "providers.docker.swarmMode", &mut |path, node| {
        is_on = node.text() != Some("false");
        let gone = match is_on {
            true => Diagnostic::warning(
                node.key,
                path,
                "is gone since Traefik 3, and read as `providers.swarm`",
            )
            .with_hint("rename `providers.docker` to `providers.swarm`, and remove `swarmMode`"),
            false => Diagnostic::warning(node.key, path, "is gone since Traefik 3, and ignored")
                .with_hint("remove it"),
        };
        found.push(gone);
    });
    let mut seconds = None;
    let path = "providers.docker.swarmModeRefreshSeconds";
    take_all(root, path, &mut |path, node| {
        let message = "is the old name of `providers.swarm.refreshSeconds`";
        let old = Diagnostic::warning(node.key.clone(), path, message);
        found.push(old.with_hint("rename it"));
        seconds = Some(node);
    });
    if !is_on {
        return;
    }
    let providers = children_of(root).and_then(|all| find(all, "providers"));
    let Some(providers) = providers.and_then(children_of) else {
        return;
    };
    if find(providers, "swarm").is_some() {
        return;
    }
    if let Some(docker) = find(providers, "docker") {
        docker.name = "swarm".into();
        if let (Some(mut seconds), Some(options)) = (seconds, children_of(docker)) {
            seconds.name = "refreshSeconds".into();
            options.push(seconds);
        }
    }
}

fn children_of(node: &mut Node) -> Option<&mut Vec<Node>> {
    match &mut node.value {
        Value::Map { children, .. } => Some(children),
        _ => None,
    }
}

fn find<'n>(nodes: &'n mut [Node], name: &str) -> Option<&'n mut Node> {
    let mut nodes = nodes.iter_mut();
    nodes.find(|node| node.name.eq_ignore_ascii_case(name))
}

/// Removes what a path leads to; `*` stands for any name.
fn take_all(root: &mut Node, path: &str, taken: &mut dyn FnMut(String, Node)) {
    let names: Vec<&str> = path.split('.').collect();
    take(root, &names, "", taken);
}

fn take(node: &mut Node, names: &[&str], path: &str, taken: &mut dyn FnMut(String, Node)) {
    let Some((name, rest)) = names.split_first() else {
        return;
    };
    let Value::Map { children, .. } = &mut node.value else {
        return;
    };
    for mut child in std::mem::take(children) {
        let path = join(path, &child.name);
        let fits = *name == "*" || child.name.eq_ignore_ascii_case(name);
        if fits && rest.is_empty() {
            taken(path, child);
            continue;
        }
        if fits {
            take(&mut child, rest, &path, taken);
        }
        children.push(child);
    }
}

/// Options of Traefik 2 that Traefik 3 refuses to start with, and what to do instead.
const REMOVED: &[(&str, &str)] = &[
    ("pilot", "remove it"),
    ("hub", "remove it"),
    (
        "experimental.http3",
        "remove it, and set `http3: {}` on the entry points",
    ),
    ("experimental.hub", "remove it"),
    (
        "entryPoints.*.enableHTTP3",
        "write `http3: {}` below the entry point",
    ),
    ("metrics.influxDB", "use `metrics.influxDB2`"),
    ("providers.*.tls.caOptional", "remove it"),
    ("providers.*.endpoint.tls.caOptional", "remove it"),
    ("tracing.datadog", "use `tracing.otlp`"),
    ("tracing.elastic", "use `tracing.otlp`"),
    ("tracing.haystack", "use `tracing.otlp`"),
    ("tracing.instana", "use `tracing.otlp`"),
    ("tracing.jaeger", "use `tracing.otlp`"),
    ("tracing.zipkin", "use `tracing.otlp`"),
    ("tracing.spanNameLimit", "remove it"),
];

/// Options without which the configuration would mean something else: providers that are no more.
const REFUSED: &[(&str, &str)] = &[
    ("providers.consul.namespace", "use `namespaces`"),
    ("providers.consulCatalog.namespace", "use `namespaces`"),
    ("providers.nomad.namespace", "use `namespaces`"),
    ("providers.marathon", "remove it"),
    ("providers.rancher", "remove it"),
];

/// Options often written one level too high, and where they belong.
const MISPLACED: &[(&str, &str)] = &[
    (
        "entryPoints.*.tls",
        "write `http.tls` below the entry point",
    ),
    (
        "entryPoints.*.middlewares",
        "write `http.middlewares` below the entry point",
    ),
    (
        "entryPoints.*.redirections",
        "write `http.redirections` below the entry point",
    ),
    (
        "entryPoints.*.redirect",
        "write `http.redirections.entryPoint` below the entry point",
    ),
    (
        "entryPoints.*.trustedIPs",
        "write `forwardedHeaders.trustedIPs` below the entry point",
    ),
];
