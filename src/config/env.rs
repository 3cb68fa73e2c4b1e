//! Environment variables to a tree: `TRAEFIK_A_B=value`, and `PORTWAY_A_B=value`, which wins.

use std::sync::Arc;

use super::decode::did_you_mean;
use super::diagnostic::{About, Diagnostic, Place};
use super::routing::INSTALL_SECTIONS;
use super::tree::{Branch, Node, Repeat, Scalar, Step, Style};

/// What the environment said.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) root: Node,
    /// The variables in `root`.
    pub(super) given: Vec<Arc<str>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Reads the variables that name options.
pub(super) fn parse(variables: &[(String, String)]) -> Environment {
    let mut tree = Branch::default();
    let mut given = Vec::new();
    let mut diagnostics = Vec::new();
    for prefix in ["TRAEFIK_", "PORTWAY_"] {
        let mut named: Vec<_> = variables
            .iter()
            .filter_map(|(name, value)| Some((name, name.strip_prefix(prefix)?, value)))
            .collect();
        named.sort();
        for (name, option, value) in named {
            if let Some(path) = path(name, option, value, &mut diagnostics) {
                let name: Arc<str> = name.as_str().into();
                let place = Place::Env(Arc::clone(&name));
                tree.insert(
                    &path,
                    Scalar::new(value, Style::Quoted),
                    &place,
                    Repeat::Replace,
                );
                given.push(name);
            }
        }
    }
    Environment {
        root: Node {
            value: tree.into_node().value,
            ..Node::root(Vec::new())
        },
        given,
        diagnostics,
    }
}

/// The option a variable names; nothing for one that is not ours, as those that orchestrators add.
fn path(
    name: &str,
    option: &str,
    value: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Step>> {
    let lower = option.to_ascii_lowercase();
    let names: Vec<&str> = lower.split('_').collect();
    let place = || Place::Env(name.into());
    if lower == "configfile" {
        let message = "has no effect, as in Traefik";
        let ignored = Diagnostic::warning(place(), "configFile", message);
        diagnostics.push(ignored.with_hint("use the flag --configFile"));
        return None;
    }
    let known = INSTALL_SECTIONS
        .iter()
        .any(|section| section.eq_ignore_ascii_case(names[0]));
    if is_service_link(&lower, value) || names.iter().any(|name| name.is_empty()) {
        return None;
    }
    if !known {
        let hint = did_you_mean(names[0], INSTALL_SECTIONS);
        if let Some(hint) = hint {
            let ignored = Diagnostic::warning(place(), names[0], "names no option and is ignored");
            diagnostics.push(ignored.with_hint(hint).about(About::UnknownOption));
        }
        return None;
    }
    Some(
        names
            .into_iter()
            .map(|name| Step::Field(name.into()))
            .collect(),
    )
}

/// Variables that Docker links and Kubernetes add for a service called `traefik` or `traefik-metrics`.
fn is_service_link(option: &str, value: &str) -> bool {
    let address = ["tcp://", "udp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let named = ["_port", "_service_host", "_service_port"]
        .iter()
        .any(|end| option.ends_with(end));
    (address && option.contains("port"))
        || (named && option.contains("_service_"))
        || (address && named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode;
    use crate::config::install::Install;

    fn read(variables: &[(&str, &str)]) -> (Option<Install>, Vec<String>) {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let environment = parse(&variables);
        let decoded = decode::<Install>(&environment.root, "");
        let all = environment
            .diagnostics
            .into_iter()
            .chain(decoded.diagnostics);
        (decoded.value, all.map(|found| found.to_string()).collect())
    }

    #[test]
    fn variables_name_options() {
        let (install, found) = read(&[
            ("TRAEFIK_ENTRYPOINTS_WEB_ADDRESS", ":80"),
            ("PORTWAY_ENTRYPOINTS_WEB_ADDRESS", ":81"),
            ("TRAEFIK_PING", ""),
            ("TRAEFIK_ENTRYPOINTS_WEB_HTTP_TLS_DOMAINS_0_MAIN", "a.test"),
            (
                "TRAEFIK_ENTRYPOINTS_WEB_FORWARDEDHEADERS_TRUSTEDIPS",
                "10.0.0.0/8, 192.168.0.0/16",
            ),
            ("TRAEFIK_PORT", "tcp://10.0.0.1:80"),
            ("TRAEFIK_METRICS_PORT", "tcp://10.0.0.1:80"),
            ("TRAEFIK_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("traefik_api", "true"),
            ("HOME", "/root"),
        ]);
        assert_eq!(found, [""; 0]);
        let install = install.unwrap();
        let web = &install.entry_points["web"];
        assert_eq!(web.address.port, 81);
        assert_eq!(web.http.tls.as_ref().unwrap().domains[0].main, "a.test");
        assert_eq!(web.forwarded_headers.trusted_ips.len(), 2);
        assert!(install.ping.is_some() && install.api.is_none());
    }

    #[test]
    fn mistakes_name_the_variable() {
        let (_, found) = read(&[
            ("TRAEFIK_CONFIGFILE", "/x"),
            ("TRAEFIK_ENTRYPOINT_WEB_ADDRESS", ":80"),
            ("TRAEFIK_LOG_LEVL", "info"),
            ("TRAEFIK_SOMETHING", "else"),
        ]);
        assert_eq!(
            found,
            [
                "$TRAEFIK_CONFIGFILE: warning: configFile: has no effect, as in Traefik (use the flag --configFile)",
                "$TRAEFIK_ENTRYPOINT_WEB_ADDRESS: warning: entrypoint: names no option and is ignored (did you mean `entryPoints`?)",
                "$TRAEFIK_LOG_LEVL: error: log.levl: unknown option (did you mean `level`?)",
            ]
        );
    }
}
