//! What Traefik 2 called differently, or had and Traefik 3 has not: one line for each.

use crate::rule::Protocol;

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// It goes, and why or what to use instead.
    Drop(&'static str),
    /// It has another last name.
    Rename(&'static str),
    /// It has another last name, and is a list.
    RenameToList(&'static str),
    /// It stands in a group of its own: the group and its name there.
    Nest(&'static str, &'static str),
    /// It is a rule.
    Rule(Protocol),
    /// It is a template of rules.
    DefaultRule,
    /// It says which syntax a rule has.
    Syntax,
    /// It is on or off.
    Http3,
    SwarmMode,
    /// It names objects, perhaps of the provider `docker`.
    References,
}

/// What there is to do about the option with this path; the names of objects are anything.
pub(super) fn about(path: &[&str]) -> Option<Advice> {
    let fits = |pattern: &str| {
        let mut names = path.iter();
        let mut wanted = pattern.split('.');
        loop {
            match (wanted.next(), names.next()) {
                (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(wanted), Some(name)) if wanted.eq_ignore_ascii_case(name) => {}
                _ => return false,
            }
        }
    };
    let mut table = TABLE.iter();
    let found = table.find(|(patterns, _)| patterns.iter().any(|pattern| fits(pattern)));
    found.map(|(_, advice)| *advice)
}

/// An option without which a group of options would have nothing left to do, and its value.
pub(super) const INERT_HEADERS: (&str, &str) = ("isDevelopment", "true");

const REDIRECT: &str = "has no effect since Traefik 3: to redirect to HTTPS, add a `redirectScheme` middleware (`scheme: https`, \
                        `permanent: true`) to the routers of plain requests, or `http.redirections.entryPoint` to their entry point";
const HOST: &str =
    "has no effect since Traefik 3: to redirect to another host, use a `redirectRegex` middleware";
const TRACING: &str = "is gone since Traefik 3: send traces to a collector with `tracing.otlp`";
const NOTHING: &str = "has no effect since Traefik 3";

const TABLE: &[(&[&str], Advice)] = &[
    (
        &[
            "http.middlewares.*.ipWhiteList",
            "tcp.middlewares.*.ipWhiteList",
        ],
        Advice::Rename("ipAllowList"),
    ),
    (&["http.routers.*.rule"], Advice::Rule(Protocol::Http)),
    (&["tcp.routers.*.rule"], Advice::Rule(Protocol::Tcp)),
    (
        &[
            "providers.docker.defaultRule",
            "providers.swarm.defaultRule",
        ],
        Advice::DefaultRule,
    ),
    (
        &[
            "http.routers.*.ruleSyntax",
            "tcp.routers.*.ruleSyntax",
            "core.defaultRuleSyntax",
        ],
        Advice::Syntax,
    ),
    (
        &[
            "http.middlewares.*.headers.sslRedirect",
            "http.middlewares.*.headers.sslTemporaryRedirect",
        ],
        Advice::Drop(REDIRECT),
    ),
    (
        &[
            "http.middlewares.*.headers.sslHost",
            "http.middlewares.*.headers.sslForceHost",
        ],
        Advice::Drop(HOST),
    ),
    (
        &["http.middlewares.*.headers.featurePolicy"],
        Advice::Drop(
            "has no effect since Traefik 3: write `permissionsPolicy`, whose syntax is another",
        ),
    ),
    (
        &["http.middlewares.*.headers.accessControlAllowOrigin"],
        Advice::RenameToList("accessControlAllowOriginList"),
    ),
    (
        &[
            "http.middlewares.*.stripPrefix.forceSlash",
            "tls.options.*.preferServerCipherSuites",
        ],
        Advice::Drop(NOTHING),
    ),
    (
        &[
            "http.middlewares.*.forwardAuth.tls.caOptional",
            "providers.*.tls.caOptional",
            "providers.*.endpoint.tls.caOptional",
        ],
        Advice::Drop("is gone since Traefik 3: it never meant anything for a client"),
    ),
    (
        &["pilot", "hub", "experimental.hub"],
        Advice::Drop("is gone since Traefik 3, as is the service that it was for"),
    ),
    (
        &["experimental.http3"],
        Advice::Drop("is gone since Traefik 3: entry points with `http3` need nothing else"),
    ),
    (&["entryPoints.*.enableHTTP3"], Advice::Http3),
    (
        &["metrics.influxDB"],
        Advice::Drop(
            "is gone since Traefik 3: use `metrics.influxDB2`, which needs an organisation, a bucket and a token",
        ),
    ),
    (
        &[
            "tracing.datadog",
            "tracing.elastic",
            "tracing.haystack",
            "tracing.instana",
            "tracing.jaeger",
            "tracing.zipkin",
        ],
        Advice::Drop(TRACING),
    ),
    (
        &["tracing.spanNameLimit"],
        Advice::Drop("is gone since Traefik 3"),
    ),
    (
        &["tracing.globalAttributes"],
        Advice::Rename("resourceAttributes"),
    ),
    (
        &["providers.marathon", "providers.rancher"],
        Advice::Drop("is gone since Traefik 3: what it discovered needs another provider"),
    ),
    (
        &[
            "providers.consul.namespace",
            "providers.consulCatalog.namespace",
            "providers.nomad.namespace",
        ],
        Advice::RenameToList("namespaces"),
    ),
    (&["providers.docker.swarmMode"], Advice::SwarmMode),
    (
        &["providers.docker.swarmModeRefreshSeconds"],
        Advice::Rename("refreshSeconds"),
    ),
    (
        &["certificatesResolvers.*.acme.dnsChallenge.delayBeforeCheck"],
        Advice::Nest("propagation", "delayBeforeChecks"),
    ),
    (
        &["certificatesResolvers.*.acme.dnsChallenge.disablePropagationCheck"],
        Advice::Nest("propagation", "disableChecks"),
    ),
    (
        &[
            "http.routers.*.middlewares",
            "http.routers.*.service",
            "http.middlewares.*.chain.middlewares",
            "http.middlewares.*.errors.service",
            "entryPoints.*.http.middlewares",
        ],
        Advice::References,
    ),
];
