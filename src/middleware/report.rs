//! Findings about one middleware's configuration, each at the place of its field.

use regex::bytes::Regex;

use crate::{
    config::{About, Diagnostic, Placed, routing::Middleware as Config},
    rule::regexp,
};

/// Collects what is wrong with one middleware.
pub(super) struct Report<'a> {
    name: &'a str,
    config: &'a Placed<Config>,
    findings: &'a mut Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        name: &'a str,
        config: &'a Placed<Config>,
        findings: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self {
            name,
            config,
            findings,
        }
    }

    /// The provider whose objects its names mean.
    pub(super) fn provider(&self) -> &'a str {
        self.name
            .rsplit_once('@')
            .map_or("", |(_, provider)| provider)
    }

    /// The middleware cannot be used. `field` is relative to the kind: `users[0]`; empty for the whole.
    pub(super) fn error(&mut self, field: &str, message: impl Into<String>) {
        let (place, path) = self.locate(field);
        self.findings.push(Diagnostic::error(place, path, message));
    }

    /// The middleware is of a kind that this version does not have.
    pub(super) fn unsupported(&mut self, kind: &str) {
        let (place, path) = self.locate("");
        let message = format!("`{kind}` is not supported yet");
        self.findings
            .push(Diagnostic::error(place, path, message).about(About::Unsupported));
    }

    /// As [`Report::error`], with what to do about it.
    pub(super) fn error_with_hint(
        &mut self,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (place, path) = self.locate(field);
        self.findings
            .push(Diagnostic::error(place, path, message).with_hint(hint));
    }

    /// The middleware works, but not as the text suggests.
    pub(super) fn warning(&mut self, field: &str, message: impl Into<String>) {
        let (place, path) = self.locate(field);
        self.findings
            .push(Diagnostic::warning(place, path, message));
    }

    /// As [`Report::warning`], with what to do about it.
    pub(super) fn warning_with_hint(
        &mut self,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (place, path) = self.locate(field);
        self.findings
            .push(Diagnostic::warning(place, path, message).with_hint(hint));
    }

    /// The qualified name of the middleware.
    pub(super) fn name(&self) -> &str {
        self.name
    }

    /// How many findings there are, on whatever middleware.
    pub(super) fn findings(&self) -> usize {
        self.findings.len()
    }

    /// Compiles a regular expression in Go's syntax.
    pub(super) fn regex(&mut self, field: &str, pattern: &str) -> Option<Regex> {
        regexp::compile(pattern)
            .map_err(|error| self.error(field, format!("bad regular expression: {error}")))
            .ok()
    }

    fn locate(&self, field: &str) -> (crate::config::Place, String) {
        let kind = self.config.kind();
        let field = if field.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{field}")
        };
        let path = format!("http.middlewares.{}.{field}", self.name);
        (self.config.at(&field).clone(), path)
    }
}
