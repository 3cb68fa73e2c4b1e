//! What can be said about an install configuration without touching anything outside: contradictions, names that lead nowhere,
//! options without effect, options that are gone.

use super::constraints::Constraint;
use super::decode::{did_you_mean, join};
use super::diagnostic::{About, Diagnostic, Places};
use super::install::{EntryPoint, Install, RuleSyntax};
use super::resolvers;
use super::template::RuleTemplate;
use super::tree::{Node, Value};

/// Everything found, errors and warnings.
pub(super) fn check(install: &Install, places: &Places) -> Vec<Diagnostic> {
    let mut check = Check {
        install,
        places,
        found: Vec::new(),
    };
    for (name, door) in &install.entry_points {
        check.entry_point(name, door);
        check.unsupported_here(name, door);
    }
    check.addresses();
    check.internal_services();
    check.api();
    check.providers();
    check.metrics();
    check.core();
    let mut found = check.found;
    found.extend(resolvers::check(install, places));
    found
}

struct Check<'a> {
    install: &'a Install,
    places: &'a Places,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    fn entry_point(&mut self, name: &str, door: &EntryPoint) {
        let path = format!("entryPoints.{name}");
        if door.address.is_empty() {
            let address = join(&path, "address");
            self.warning(
                &address,
                "has no address and listens on a port chosen by the system",
                None,
            );
        }
        if let Some(proxy) = &door.proxy_protocol
            && !proxy.insecure
            && proxy.trusted_ips.is_empty()
        {
            let hint = "set `trustedIPs` to the addresses of the balancer in front";
            self.error(&join(&path, "proxyProtocol"), "trusts nobody", Some(hint));
        }
        if let Some(redirections) = &door.http.redirections {
            let path = join(&path, "http.redirections.entryPoint");
            match &redirections.entry_point {
                Some(redirect) => self.redirect_target(&join(&path, "to"), name, &redirect.to),
                None => self.error(&path, "is missing: where to redirect", None),
            }
        }
        let aliases = &door.http.alias_headers_strategy;
        let underscores = &door.http.underscore_headers_strategy;
        if underscores.is_some() {
            let path = join(&path, "http.underscoreHeadersStrategy");
            self.warning(&path, "is deprecated", Some("use `aliasHeadersStrategy`"));
        }
        if aliases.is_some() && underscores.is_some() && aliases != underscores {
            let path = join(&path, "http.aliasHeadersStrategy");
            self.error(
                &path,
                "contradicts `underscoreHeadersStrategy`",
                Some("remove the latter"),
            );
        }
    }

    fn redirect_target(&mut self, path: &str, own_name: &str, to: &str) {
        let port = to.strip_prefix(':').map(str::parse::<u16>);
        match port {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.error(path, &format!("{to:?} is not a port"), None),
            None if to.is_empty() => {
                self.error(
                    path,
                    "is missing: an entry point's name or a port such as `:443`",
                    None,
                );
            }
            None if to == own_name => self.error(path, "redirects to itself", None),
            None => self.named_entry_point(path, to),
        }
    }

    /// A reference to an entry point.
    fn named_entry_point(&mut self, path: &str, name: &str) {
        if !self.install.entry_points.contains_key(name) {
            let known: Vec<&str> = self
                .install
                .entry_points
                .keys()
                .map(String::as_str)
                .collect();
            let hint = did_you_mean(name, &known);
            self.error(
                path,
                &format!("there is no entry point {name:?}"),
                hint.as_deref(),
            );
        }
    }

    /// Known parts of an entry point that do nothing yet.
    fn unsupported_here(&mut self, name: &str, door: &EntryPoint) {
        let path = format!("entryPoints.{name}");
        let detailed = door.observability.as_ref().is_some_and(|o| o.tracing);
        let unsupported = [
            (
                true,
                "http2.maxEncoderHeaderTableSize",
                "has no effect: clients decide the size of their tables",
            ),
            (
                door.is_udp(),
                "address",
                "UDP is not supported by this version: it is not opened",
            ),
            (true, "udp.timeout", UNSUPPORTED),
            (detailed, "observability.tracing", UNSUPPORTED),
            (true, "observability.traceVerbosity", UNSUPPORTED),
        ];
        for (given, field, message) in unsupported {
            let path = join(&path, field);
            if given && self.places.wrote(&path) {
                self.unsupported(&path, message);
            }
        }
    }

    fn addresses(&mut self) {
        let doors: Vec<_> = self.install.entry_points.iter().collect();
        for (index, (name, door)) in doors.iter().enumerate() {
            let earlier = doors[..index]
                .iter()
                .find(|(_, other)| collide(other, door));
            if let Some((other, _)) = earlier {
                let path = format!("entryPoints.{name}.address");
                let message = format!("{} is taken by entry point `{other}`", door.address);
                self.error(&path, &message, Some("give each entry point its own port"));
            }
        }
    }

    fn internal_services(&mut self) {
        if let Some(ping) = &self.install.ping {
            if !ping.manual_routing {
                self.named_entry_point("ping.entryPoint", &ping.entry_point);
            }
            if !(100..1000).contains(&ping.terminating_status_code) {
                self.error("ping.terminatingStatusCode", "is not an HTTP status", None);
            }
        }
        if let Some(prometheus) = &self.install.metrics.prometheus
            && !prometheus.manual_routing
        {
            self.named_entry_point("metrics.prometheus.entryPoint", &prometheus.entry_point);
        }
    }

    fn api(&mut self) {
        let Some(api) = &self.install.api else { return };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/_.:~-".contains(c);
        if !api.base_path.starts_with('/') || !api.base_path.chars().all(allowed) {
            let message = "must begin with `/` and hold only letters, digits and `/_.:~-`";
            self.error("api.basePath", message, None);
        }
        if api.dashboard && self.places.wrote("api.dashboard") {
            let message = "there is no dashboard in this version, the API answers JSON";
            self.unsupported("api.dashboard", message);
        }
        if api.debug {
            self.unsupported("api.debug", UNSUPPORTED);
        }
    }

    fn providers(&mut self) {
        let providers = &self.install.providers;
        if let Some(file) = &providers.file {
            match (file.directory.is_empty(), file.filename.is_empty()) {
                (true, true) => {
                    let message = "needs `filename` or `directory`";
                    self.error("providers.file", message, None);
                }
                (false, false) => {
                    let message = "is ignored, because `directory` is set too";
                    self.warning("providers.file.filename", message, None);
                }
                _ => {}
            }
        }
        if let Some(docker) = &providers.docker {
            if let Err(wrong) = RuleTemplate::parse(&docker.default_rule) {
                self.error("providers.docker.defaultRule", &wrong, None);
            }
            if let Err(wrong) = Constraint::parse(&docker.constraints) {
                self.error("providers.docker.constraints", &wrong, None);
            }
        }
        for (index, name) in providers.precedence.iter().enumerate() {
            if !PROVIDERS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
            {
                let hint = did_you_mean(name, PROVIDERS);
                let path = format!("providers.precedence[{index}]");
                self.error(
                    &path,
                    &format!("there is no provider {name:?}"),
                    hint.as_deref(),
                );
            }
        }
    }

    fn metrics(&mut self) {
        let Some(prometheus) = &self.install.metrics.prometheus else {
            return;
        };
        let rising = prometheus.buckets.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising {
            let message = "the bounds must rise";
            self.error("metrics.prometheus.buckets", message, None);
        }
        for label in prometheus.header_labels.keys() {
            let mut chars = label.chars();
            let starts = chars
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !starts || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let path = format!("metrics.prometheus.headerLabels.{label}");
                self.error(&path, "is not a label name: letters, digits and `_`", None);
            }
        }
    }

    fn core(&mut self) {
        let (core, global) = (&self.install.core, &self.install.global);
        if core.default_rule_syntax == RuleSyntax::V2 {
            let hint =
                "write the rules in v3 syntax, or set `ruleSyntax: v2` on the routers that need it";
            self.warning("core.defaultRuleSyntax", "v2 is deprecated", Some(hint));
        }
        if core.retry_budget.percent < 0.0 {
            self.error("core.retryBudget.percent", "cannot be negative", None);
        }
        for (asked, path) in [
            (global.check_new_version, "global.checkNewVersion"),
            (global.send_anonymous_usage, "global.sendAnonymousUsage"),
        ] {
            if asked {
                self.warning(path, "has no effect: Portway does not call home", None);
            }
        }
    }

    fn error(&mut self, path: &str, message: &str, hint: Option<&str>) {
        let mut found = Diagnostic::error(self.places.at(path).clone(), path, message);
        found.hint = hint.map(str::to_owned);
        self.found.push(found);
    }

    fn unsupported(&mut self, path: &str, message: &str) {
        let found = Diagnostic::warning(self.places.at(path).clone(), path, message);
        self.found.push(found.about(About::Unsupported));
    }

    fn warning(&mut self, path: &str, message: &str, hint: Option<&str>) {
        let mut found = Diagnostic::warning(self.places.at(path).clone(), path, message);
        found.hint = hint.map(str::to_owned);
        self.found.push(found);
    }
}

/// Whether two entry points cannot both listen.
fn collide(a: &EntryPoint, b: &EntryPoint) -> bool {
    let (one, other) = (&a.address, &b.address);
    let same_port = one.port == other.port && one.port != 0 && one.protocol == other.protocol;
    let same_host = one.host == other.host || one.host.is_empty() || other.host.is_empty();
    same_port && same_host && !(a.reuse_port && b.reuse_port)
}

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

const UNSUPPORTED: &str = "is known, but not supported by this version";

/// What `providers.precedence` may name.
const PROVIDERS: &[&str] = &[
    "consul",
    "consulcatalog",
    "docker",
    "ecs",
    "etcd",
    "file",
    "http",
    "knative",
    "kubernetes",
    "kubernetescrd",
    "kubernetesgateway",
    "kubernetesingressnginx",
    "nomad",
    "redis",
    "rest",
    "swarm",
    "zookeeper",
];

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
