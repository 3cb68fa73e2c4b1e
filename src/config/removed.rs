//! Options that are gone since Traefik 2, or stand in the wrong place.

use super::decode::join;
use super::diagnostic::{About, Diagnostic};
use super::tree::{Node, Value};

/// Takes options that are gone, or stand in the wrong place, out of the tree; each is an error that says what to write instead.
pub(super) fn take_removed(root: &mut Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let gone = REMOVED
        .iter()
        .map(|entry| (entry, "is gone since Traefik 3"));
    let misplaced = MISPLACED
        .iter()
        .map(|entry| (entry, "does not belong here"));
    for ((path, instead), message) in gone.chain(misplaced) {
        let names: Vec<&str> = path.split('.').collect();
        let mut taken = Vec::new();
        take(root, &names, "", &mut taken);
        let errors = taken
            .into_iter()
            .map(|(path, node)| Diagnostic::error(node.key, path, message).with_hint(*instead))
            .map(|found| found.about(About::UnknownOption));
        found.extend(errors);
    }
    found
}

/// Removes what a path leads to; `*` stands for any name.
fn take(node: &mut Node, names: &[&str], path: &str, taken: &mut Vec<(String, Node)>) {
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
            taken.push((path, child));
            continue;
        }
        if fits {
            take(&mut child, rest, &path, taken);
        }
        children.push(child);
    }
}

/// Options of Traefik 2 that Traefik 3 refuses, and what to do instead.
const REMOVED: &[(&str, &str)] = &[
    ("pilot", "remove it"),
    ("hub", "remove it"),
    (
        "experimental.http3",
        "remove it, and set `http3: {}` on the entry points",
    ),
    ("experimental.hub", "remove it"),
    ("metrics.influxDB", "use `metrics.influxDB2`"),
    ("providers.consul.namespace", "use `namespaces`"),
    ("providers.consulCatalog.namespace", "use `namespaces`"),
    ("providers.nomad.namespace", "use `namespaces`"),
    ("providers.docker.swarmMode", "use `providers.swarm`"),
    (
        "providers.docker.swarmModeRefreshSeconds",
        "use `providers.swarm.refreshSeconds`",
    ),
    ("providers.marathon", "remove it"),
    ("providers.rancher", "remove it"),
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
