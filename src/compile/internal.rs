//! The objects we add ourselves, qualified `@internal`: routers for ping, metrics and API, redirections of entry points, and the
//! services they and the users' routers lead to.

use std::{borrow::Cow, sync::Arc};

use super::{Input, doors::Door};
use crate::{
    config::{
        Diagnostic, Install, Place,
        definitions::{Defined, Definitions},
        install::{INTERNAL, RedirectEntryPoint},
        routing::{Middleware, RedirectScheme, Router},
    },
    snapshot::Internal,
};

/// The provider of what we add ourselves.
pub(super) const PROVIDER: &str = "internal";

/// What the providers want together with what the install configuration asks for.
pub(super) fn with_internal(
    mut wanted: Definitions,
    input: &Input<'_>,
    doors: &[Door<'_>],
    findings: &mut Vec<Diagnostic>,
) -> Definitions {
    let provider: Arc<str> = PROVIDER.into();
    for (name, router) in fixed_routers(input.install) {
        insert_router(&mut wanted, &provider, name, router);
    }
    for door in doors {
        let redirect = door.config.http.redirections.as_ref();
        let Some(redirect) = redirect.and_then(|redirections| redirections.entry_point.as_ref())
        else {
            continue;
        };
        match redirect_port(redirect, input.install) {
            Ok(port) => insert_redirect(&mut wanted, &provider, door, (redirect, port)),
            Err(message) => {
                let path = format!("entryPoints.{}.http.redirections.entryPoint.to", door.name);
                let finding = Diagnostic::error(Place::Builtin, path, message);
                findings.push(
                    finding.with_hint("name another entry point, or write a port such as `:443`"),
                );
            }
        }
    }
    wanted
}

/// The internal service that a router refers to as `name@internal`, or why it cannot be had.
pub(super) fn service(base: &str, install: &Install) -> Result<Internal, Cow<'static, str>> {
    let enabled = |is_on: bool, service, option| match is_on {
        true => Ok(service),
        false => Err(Cow::Owned(format!(
            "`{base}@internal` is not enabled: it needs `{option}` in the install configuration"
        ))),
    };
    match base {
        "noop" => Ok(Internal::Noop),
        "api" => enabled(install.api.is_some(), Internal::Api, "api"),
        "ping" => enabled(install.ping.is_some(), Internal::Ping, "ping"),
        "prometheus" => enabled(
            install.metrics.prometheus.is_some(),
            Internal::Prometheus,
            "metrics.prometheus",
        ),
        "dashboard" => {
            Err("the dashboard is not supported yet; `api@internal` serves the JSON API".into())
        }
        "rest" | "acme-http" => Err(Cow::Owned(format!(
            "`{base}@internal` is not supported yet"
        ))),
        _ => Err(Cow::Owned(format!("`{base}@internal` does not exist"))),
    }
}

fn fixed_routers(install: &Install) -> Vec<(&'static str, Router)> {
    let mut routers = Vec::new();
    let mut add = |name, entry_point: &str, prefix: &str, priority| {
        let router = Router {
            entry_points: vec![entry_point.to_owned()],
            service: format!("{name}@{PROVIDER}"),
            rule: format!("PathPrefix(`{prefix}`)"),
            priority,
            ..Router::default()
        };
        routers.push((name, router));
    };
    if let Some(ping) = install.ping.as_ref().filter(|ping| !ping.manual_routing) {
        add("ping", &ping.entry_point, "/ping", i64::MAX);
    }
    if let Some(prometheus) = install
        .metrics
        .prometheus
        .as_ref()
        .filter(|prometheus| !prometheus.manual_routing)
    {
        add("prometheus", &prometheus.entry_point, "/metrics", i64::MAX);
    }
    if install.api.as_ref().is_some_and(|api| api.insecure) {
        add("api", INTERNAL, "/api", i64::MAX - 1);
    }
    routers
}

/// The port a redirection leads to.
fn redirect_port(redirect: &RedirectEntryPoint, install: &Install) -> Result<String, String> {
    if redirect.to.is_empty() {
        return Err("says nowhere to redirect to".to_owned());
    }
    if let Some(port) = redirect.to.strip_prefix(':') {
        let port: u16 = port
            .parse()
            .map_err(|_| format!("`{port}` is not a port"))?;
        return Ok(port.to_string());
    }
    match install.entry_points.get(&redirect.to) {
        Some(target) => Ok(target.address.port.to_string()),
        None => Err(format!("the entry point `{}` does not exist", redirect.to)),
    }
}

fn insert_redirect(
    wanted: &mut Definitions,
    provider: &Arc<str>,
    door: &Door<'_>,
    to: (&RedirectEntryPoint, String),
) {
    let (redirect, port) = to;
    let name = normalise(&format!("{}-to-{}", door.name, redirect.to));
    let middleware = format!("redirect-{name}");
    let challenge = match door.config.allow_acme_by_pass {
        true => " && !PathPrefix(`/.well-known/acme-challenge/`)",
        false => "",
    };
    let router = Router {
        entry_points: vec![door.name.to_string()],
        middlewares: vec![format!("{middleware}@{PROVIDER}")],
        service: format!("noop@{PROVIDER}"),
        rule: format!("HostRegexp(`^.+$`){challenge}"),
        priority: redirect.priority,
        ..Router::default()
    };
    insert_router(wanted, provider, &name, router);
    let scheme = RedirectScheme {
        scheme: redirect.scheme.clone(),
        port,
        permanent: redirect.permanent,
    };
    let name: Arc<str> = format!("{middleware}@{PROVIDER}").into();
    let defined = Defined::new(
        Arc::clone(&name),
        Arc::clone(provider),
        Middleware::RedirectScheme(scheme).into(),
    );
    wanted.middlewares.insert(name, defined);
}

fn insert_router(wanted: &mut Definitions, provider: &Arc<str>, name: &str, router: Router) {
    let name: Arc<str> = format!("{name}@{PROVIDER}").into();
    let defined = Defined::new(Arc::clone(&name), Arc::clone(provider), router.into());
    wanted.routers.insert(name, defined);
}

/// Letters and digits stay; whatever stands between them becomes one `-`.
fn normalise(name: &str) -> String {
    let words = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_redirections_are_normalised() {
        for (name, expected) in [
            ("web-to-websecure", "web-to-websecure"),
            ("web-to-:443", "web-to-443"),
            ("a.b-to-c_d", "a-b-to-c-d"),
        ] {
            assert_eq!(normalise(name), expected);
        }
    }
}
