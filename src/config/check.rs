//! What can be said about an install configuration without touching anything outside: contradictions, names that lead nowhere,
//! options without effect, options that are gone.

use http::{HeaderName, HeaderValue};

use super::constraints::Constraint;
use super::decode::{did_you_mean, join};
use super::diagnostic::{About, Diagnostic, Places};
use super::dns::Variables;
use super::install::{
    EntryPoint, EntryPointHttp, HttpProvider, INTERNAL, Install, OtlpGrpc, Ping, Prometheus,
    RedirectEntryPoint, RuleSyntax,
};
use super::resolvers;
use super::template::RuleTemplate;

/// Everything found, errors and warnings. What cannot mean anything, and what Traefik starts with all the same, costs a warning and is
/// taken out of `install`.
pub(super) fn check(
    install: &mut Install,
    places: &Places,
    variables: &Variables<'_>,
) -> Vec<Diagnostic> {
    let mut check = Check {
        install,
        places,
        found: Vec::new(),
        repairs: Vec::new(),
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
    check.telemetry();
    check.core();
    check.ocsp();
    let Check {
        mut found, repairs, ..
    } = check;
    found.extend(resolvers::check(install, places, variables));
    for repair in repairs {
        repair(install);
    }
    found
}

/// Gives options that are there and empty, as an unset variable leaves them, their defaults.
pub(super) fn fill_in(install: &mut Install) {
    if let Some(ping) = install.ping.as_mut().filter(|it| it.entry_point.is_empty()) {
        ping.entry_point = INTERNAL.to_owned();
    }
    let prometheus = install.metrics.prometheus.as_mut();
    if let Some(prometheus) = prometheus.filter(|it| it.entry_point.is_empty()) {
        prometheus.entry_point = INTERNAL.to_owned();
    }
    for door in install.entry_points.values_mut() {
        if door.http.max_header_bytes == 0 {
            door.http.max_header_bytes = EntryPointHttp::default().max_header_bytes;
        }
    }
}

struct Check<'a> {
    install: &'a Install,
    places: &'a Places,
    found: Vec<Diagnostic>,
    repairs: Vec<Repair>,
}

/// Takes something out of an install configuration that nothing can be done with.
type Repair = Box<dyn FnOnce(&mut Install)>;

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
                Some(redirect) => self.redirect(&join(&path, "to"), name, redirect),
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

    /// Traefik serves an entry point whose redirection leads nowhere without one.
    fn redirect(&mut self, path: &str, own_name: &str, redirect: &RedirectEntryPoint) {
        let to = redirect.to.as_str();
        let port = to.strip_prefix(':').map(str::parse::<u16>);
        let (wrong, hint) = match port {
            Some(Ok(_)) => return,
            Some(Err(_)) => (format!("{to:?} is not a port"), None),
            None if to.is_empty() => ("says nowhere to redirect to".to_owned(), None),
            None if to == own_name => {
                self.warning(path, "redirects to itself", None);
                return;
            }
            None => match self.missing_entry_point(to) {
                None => return,
                Some(missing) => missing,
            },
        };
        let hint = hint.or_else(|| Some("name an entry point or a port such as `:443`".to_owned()));
        let message = format!("{wrong}: nothing is redirected");
        self.warning(path, &message, hint.as_deref());
        let name = own_name.to_owned();
        self.repair(move |install| {
            if let Some(door) = install.entry_points.get_mut(&name) {
                door.http.redirections = None;
            }
        });
    }

    /// What is wrong with a reference to an entry point, and what may have been meant.
    fn missing_entry_point(&self, name: &str) -> Option<(String, Option<String>)> {
        let doors = &self.install.entry_points;
        if doors.contains_key(name) {
            return None;
        }
        let known: Vec<&str> = doors.keys().map(String::as_str).collect();
        let message = format!("there is no entry point {name:?}");
        Some((message, did_you_mean(name, &known)))
    }

    /// Known parts of an entry point that do nothing yet.
    fn unsupported_here(&mut self, name: &str, door: &EntryPoint) {
        let path = format!("entryPoints.{name}");
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
        let install = self.install;
        if let Some(ping) = &install.ping {
            self.ping(ping);
        }
        if let Some(prometheus) = &install.metrics.prometheus {
            self.metrics_entry_point(prometheus);
        }
    }

    fn ping(&mut self, ping: &Ping) {
        if !ping.manual_routing
            && let Some((missing, hint)) = self.missing_entry_point(&ping.entry_point)
        {
            let message = format!("{missing}: `/ping` is answered nowhere");
            self.warning("ping.entryPoint", &message, hint.as_deref());
            self.repair(|install| {
                if let Some(ping) = &mut install.ping {
                    ping.manual_routing = true;
                }
            });
        }
        if !(100..1000).contains(&ping.terminating_status_code) {
            let usual = Ping::default().terminating_status_code;
            let message = format!("is not an HTTP status: {usual} is used");
            self.warning("ping.terminatingStatusCode", &message, None);
            self.repair(move |install| {
                if let Some(ping) = &mut install.ping {
                    ping.terminating_status_code = usual;
                }
            });
        }
    }

    fn metrics_entry_point(&mut self, prometheus: &Prometheus) {
        if !prometheus.manual_routing
            && let Some((missing, hint)) = self.missing_entry_point(&prometheus.entry_point)
        {
            let message = format!("{missing}: `/metrics` is answered nowhere");
            let path = "metrics.prometheus.entryPoint";
            self.warning(path, &message, hint.as_deref());
            self.repair_metrics(|prometheus| prometheus.manual_routing = true);
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
                    let message = "reads nothing: it has neither `filename` nor `directory`";
                    self.warning("providers.file", message, None);
                    self.repair(|install| install.providers.file = None);
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
        if let Some(http) = &providers.http {
            self.http_provider(http);
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

    fn http_provider(&mut self, http: &HttpProvider) {
        let endpoint = http.endpoint.expose();
        let usable = endpoint.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if endpoint.is_empty() {
            self.error("providers.http.endpoint", "is missing", None);
        } else if !usable {
            let hint = "an example: `https://config.example.com/portway.yml`";
            let message = "is not a URL of http or https";
            self.error("providers.http.endpoint", message, Some(hint));
        }
        if http.poll_interval.positive().is_none() {
            self.error("providers.http.pollInterval", "must be above 0", None);
        }
        if http.poll_timeout.is_negative() {
            self.error("providers.http.pollTimeout", "must not be negative", None);
        }
        for (name, value) in &http.headers {
            let path = format!("providers.http.headers.{name}");
            if HeaderName::try_from(name.as_str()).is_err() {
                self.error(&path, "is not the name of a header", None);
            } else if HeaderValue::try_from(value.expose()).is_err() {
                self.error(&path, "holds characters that no header may hold", None);
            }
        }
    }

    fn metrics(&mut self) {
        let Some(prometheus) = &self.install.metrics.prometheus else {
            return;
        };
        let rising = prometheus.buckets.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising {
            let message = "the bounds do not rise: they are sorted";
            self.warning("metrics.prometheus.buckets", message, None);
            self.repair_metrics(|prometheus| {
                prometheus.buckets.sort_by(f64::total_cmp);
                prometheus.buckets.dedup();
            });
        }
        for label in prometheus.header_labels.keys() {
            let mut chars = label.chars();
            let starts = chars
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !starts || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let path = format!("metrics.prometheus.headerLabels.{label}");
                let message = "is not a label name, and left out";
                self.warning(&path, message, Some("use letters, digits and `_`"));
                let label = label.clone();
                self.repair_metrics(move |prometheus| {
                    prometheus.header_labels.remove(&label);
                });
            }
        }
    }

    fn telemetry(&mut self) {
        let install = self.install;
        if let Some(tracing) = &install.tracing {
            if !(0.0..=1.0).contains(&tracing.sample_rate) {
                self.error("tracing.sampleRate", "must be between 0 and 1", None);
            }
            if !tracing.global_attributes.is_empty() {
                let hint = "use `resourceAttributes`";
                self.warning("tracing.globalAttributes", "is deprecated", Some(hint));
            }
            let otlp = tracing.otlp.as_ref();
            self.collector("tracing.otlp", otlp.and_then(|otlp| otlp.grpc.as_ref()));
        }
        if let Some(otlp) = &install.metrics.otlp {
            self.collector("metrics.otlp", otlp.grpc.as_ref());
            if otlp.push_interval.positive().is_none() {
                self.error("metrics.otlp.pushInterval", "must be more than 0", None);
            }
        }
        if let Some(otlp) = &install.log.otlp {
            self.collector("log.otlp", otlp.grpc.as_ref());
        }
        let access_log = install.access_log.as_ref();
        if let Some(otlp) = access_log.and_then(|log| log.otlp.as_ref()) {
            self.collector("accessLog.otlp", otlp.grpc.as_ref());
        }
    }

    fn collector(&mut self, path: &str, grpc: Option<&OtlpGrpc>) {
        if grpc.is_some_and(|grpc| grpc.insecure && grpc.tls.is_some()) {
            let path = join(path, "grpc");
            let hint = "remove `insecure` or `tls`";
            self.error(&path, "has `tls` and is `insecure`", Some(hint));
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

    fn ocsp(&mut self) {
        let Some(ocsp) = &self.install.ocsp else {
            return;
        };
        for (responder, instead) in &ocsp.responder_overrides {
            let path = format!("ocsp.responderOverrides.{responder}");
            if instead.is_empty() {
                self.error(
                    &path,
                    "cannot be empty",
                    Some("write the URL to ask instead"),
                );
            } else if !instead.starts_with("http://") {
                let message =
                    "is no http:// URL: certificates that name this responder get no staple";
                self.warning(&path, message, None);
            }
        }
    }

    fn repair(&mut self, repair: impl FnOnce(&mut Install) + 'static) {
        self.repairs.push(Box::new(repair));
    }

    fn repair_metrics(&mut self, repair: impl FnOnce(&mut Prometheus) + 'static) {
        self.repair(|install| {
            if let Some(prometheus) = &mut install.metrics.prometheus {
                repair(prometheus);
            }
        });
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
