//! The entry points as routers see them: which a router is bound to, and what each of them adds to its routers.

use std::sync::Arc;

use crate::{
    config::{
        Install,
        definitions::Name,
        install::{self, ObservabilityDefaults, RuleSyntax},
        routing::{Observability, RouterTls, TraceVerbosity},
    },
    middleware::EncodedCharacters,
    snapshot::{Signals, Traces},
};

/// One entry point.
#[derive(Debug)]
pub(super) struct Door<'a> {
    pub(super) name: Arc<str>,
    pub(super) config: &'a install::EntryPoint,
    /// Whether routers that do not say use it.
    pub(super) is_default: bool,
    /// Whether it adds anything to its routers. A router on several entry points is split where this is so.
    pub(super) has_model: bool,
    /// Whether there is tracing at all.
    pub(super) traced: bool,
}

/// The entry points in the order of the install configuration.
pub(super) fn doors(install: &Install) -> Vec<Door<'_>> {
    let defaults = install.default_entry_points();
    let core = default_syntax(install).is_some();
    let doors = install.entry_points.iter();
    doors
        .map(|(name, config)| Door {
            name: name.as_str().into(),
            is_default: defaults.contains(&name.as_str()),
            has_model: core
                || config.http.tls.is_some()
                || !config.http.middlewares.is_empty()
                || config.http.encoded_characters.is_some()
                || config.observability.is_some(),
            traced: install.tracing.is_some(),
            config,
        })
        .collect()
}

/// The rule syntax that `core` gives to routers without one. With Traefik it is there as soon as `core` is, whatever that says.
pub(super) fn default_syntax(install: &Install) -> Option<RuleSyntax> {
    let (core, places) = (&install.core, &install.places);
    let ours = places.wrote("core.workers") || places.wrote("core.retryBudget");
    let theirs = places.wrote("core.defaultRuleSyntax") || places.wrote("core.strictTLSOptions");
    let changed = core.default_rule_syntax != RuleSyntax::default() || core.strict_tls_options;
    let written = places.wrote("core") && (theirs || !ours);
    (changed || written).then_some(core.default_rule_syntax)
}

/// A name, and the entry points that a router of this name is bound to.
pub(super) type Part = (Name, Vec<usize>);

/// The routers that one router becomes: one for each entry point that adds something, under a name of its own if there are several
/// entry points, and one for all the others. `named` is how many entry points it names, those that do not exist included.
pub(super) fn split(
    doors: &[Door<'_>],
    name: &Name,
    entry_points: &[usize],
    named: usize,
) -> Vec<Part> {
    let (with_model, plain): (Vec<usize>, Vec<usize>) = entry_points
        .iter()
        .partition(|index| doors[**index].has_model);
    let mut parts = Vec::with_capacity(with_model.len() + 1);
    for index in with_model {
        let name = match entry_points.len().max(named) {
            1 => Arc::clone(name),
            _ => format!("{}-{name}", doors[index].name).into(),
        };
        parts.push((name, vec![index]));
    }
    if !plain.is_empty() {
        parts.push((Arc::clone(name), plain));
    }
    parts
}

impl Door<'_> {
    /// The TLS settings of a router here: its own, or else the entry point's.
    pub(super) fn tls<'r>(&'r self, router: Option<&'r RouterTls>) -> Option<&'r RouterTls> {
        router.or(self.config.http.tls.as_ref())
    }

    /// The signals that a router here shows up in, as far as the two decide it.
    pub(super) fn signals(&self, router: Option<&Observability>) -> Signals {
        let defaults = self.config.observability.clone().unwrap_or_default();
        Signals {
            access_log: router
                .and_then(|router| router.access_logs)
                .unwrap_or(defaults.access_logs),
            metrics: router
                .and_then(|router| router.metrics)
                .unwrap_or(defaults.metrics),
            traces: self.traces(router, &defaults),
        }
    }

    fn traces(&self, router: Option<&Observability>, defaults: &ObservabilityDefaults) -> Traces {
        let wanted = router.and_then(|router| router.tracing);
        if !self.traced || !wanted.unwrap_or(defaults.tracing) {
            return Traces::Off;
        }
        let verbosity = router.and_then(|router| router.trace_verbosity);
        match verbosity.unwrap_or(defaults.trace_verbosity) {
            TraceVerbosity::Minimal => Traces::Minimal,
            TraceVerbosity::Detailed => Traces::Detailed,
        }
    }

    /// Escapes that paths here may not hold.
    pub(super) fn denied(&self) -> EncodedCharacters {
        let allowed = self.config.http.encoded_characters.unwrap_or_default();
        EncodedCharacters::default()
            .with(EncodedCharacters::SLASH, !allowed.allow_encoded_slash)
            .with(
                EncodedCharacters::BACKSLASH,
                !allowed.allow_encoded_back_slash,
            )
            .with(
                EncodedCharacters::NULL,
                !allowed.allow_encoded_null_character,
            )
            .with(
                EncodedCharacters::SEMICOLON,
                !allowed.allow_encoded_semicolon,
            )
            .with(EncodedCharacters::PERCENT, !allowed.allow_encoded_percent)
            .with(
                EncodedCharacters::QUESTION_MARK,
                !allowed.allow_encoded_question_mark,
            )
            .with(EncodedCharacters::HASH, !allowed.allow_encoded_hash)
    }
}
