//! The options of the provider in the form they are used in.

use std::collections::BTreeMap;

use super::container::Container;
use crate::config::{
    Diagnostic, Labelled,
    constraints::Constraint,
    install::DockerProvider,
    labels::decode_labels,
    routing::Hold,
    template::{RuleTemplate, Value},
};

/// The options that say what becomes of a container.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) exposed_by_default: bool,
    pub(super) network: String,
    pub(super) use_bind_port_ip: bool,
    pub(super) hold: Hold,
    rule: RuleTemplate,
    constraint: Option<Constraint>,
}

/// What becomes of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Served,
    /// Not meant for us, and what was found while deciding that.
    Ignored(Vec<Diagnostic>),
}

impl Settings {
    /// The settings, or what is wrong with which option.
    pub(super) fn new(options: &DockerProvider) -> Result<Self, (&'static str, String)> {
        Ok(Self {
            exposed_by_default: options.exposed_by_default,
            network: options.network.clone(),
            use_bind_port_ip: options.use_bind_port_ip,
            hold: options.hold,
            rule: RuleTemplate::parse(&options.default_rule)
                .map_err(|wrong| ("defaultRule", wrong))?,
            constraint: Constraint::parse(&options.constraints)
                .map_err(|wrong| ("constraints", wrong))?,
        })
    }

    /// Whether a container with these labels is for us.
    pub(super) fn judge(&self, of: &Labelled, labels: &BTreeMap<String, String>) -> Verdict {
        let switch = labels
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(ENABLE));
        let switch = switch.map(|(key, value)| (key.as_str(), value.as_str()));
        let decoded = decode_labels(of, switch);
        let found = decoded.decoded.diagnostics;
        // Somebody who misspells `false` must not be exposed for that.
        let enabled = match decoded.enable {
            Some(enabled) => enabled,
            None => self.exposed_by_default && found.is_empty(),
        };
        let label = |key: &str| labels.get(key).map(String::as_str);
        let fits = |constraint: &Constraint| constraint.matches(&label);
        match enabled && self.constraint.as_ref().is_none_or(fits) {
            true => Verdict::Served,
            false => Verdict::Ignored(found),
        }
    }

    /// Whether a container stays in the configuration whatever its state, by its label.
    pub(super) fn keeps_stopped(labels: &BTreeMap<String, String>) -> bool {
        is_set(labels, ALLOW_NON_RUNNING)
    }

    /// Whether the swarm itself is to balance a service, by its label.
    pub(super) fn balanced_by_swarm(labels: &BTreeMap<String, String>) -> bool {
        LBSWARM.iter().any(|name| is_set(labels, name))
    }

    /// The rule of a router that has none.
    pub(super) fn default_rule(&self, container: &Container, base: &str) -> Result<String, String> {
        let text = |text: &str| Value::Text(text.to_owned());
        let labels = container.labels.iter();
        let labels = labels.map(|(key, value)| (key.clone(), text(value)));
        let data = Value::Map(BTreeMap::from([
            ("Name".to_owned(), text(base)),
            ("ContainerName".to_owned(), text(&container.name)),
            ("Labels".to_owned(), Value::Map(labels.collect())),
        ]));
        let env = |name: &str| std::env::var(name).ok();
        match self.rule.render(&data, &env) {
            Ok(rule) if rule.trim().is_empty() => {
                Err("has no rule, and the default rule gives none".to_owned())
            }
            Ok(rule) => Ok(rule),
            Err(wrong) => Err(format!("the default rule cannot be made: {wrong}")),
        }
    }
}

fn is_set(labels: &BTreeMap<String, String>, name: &str) -> bool {
    let mut labels = labels.iter();
    let label = labels.find(|(key, _)| key.eq_ignore_ascii_case(name));
    label.is_some_and(|(_, value)| ["true", "1", "t"].contains(&&*value.to_ascii_lowercase()))
}

const ENABLE: &str = "traefik.enable";
const LBSWARM: [&str; 2] = ["traefik.swarm.lbswarm", "traefik.docker.lbswarm"];
const ALLOW_NON_RUNNING: &str = "traefik.docker.allownonrunning";
