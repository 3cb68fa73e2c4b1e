//! Builds what services are made from, parts before wholes.

use std::{collections::BTreeMap, sync::Arc};

use super::{Form, INTERNAL_SUFFIX, Ready, balancer, group, missing, service_steps};
use crate::{
    compile::{
        Stage,
        fallback::{self, Forms},
        internal,
        middlewares::{Middlewares, Missing},
        transports::Transports,
    },
    config::{
        About, Diagnostic, Kind,
        definitions::{Defined, Definitions, Name, Suggestions, base_name, qualify},
        routing::{self, ServiceKind},
    },
};

/// What is known of a service that another one names: whether its health can be followed, or why it cannot be used.
pub(super) type Known<'k> = &'k dyn Fn(&str) -> Result<bool, Missing>;

/// Services on their way from configuration to settings.
pub(super) struct Builder<'a, 'b> {
    stage: &'a Stage<'a>,
    transports: &'b Transports<'b>,
    middlewares: &'b Middlewares<'b>,
    /// Those that were not looked at yet.
    forms: BTreeMap<&'a str, Forms<'a, routing::Service>>,
    suggestions: Suggestions<'a>,
    good: &'b mut Definitions,
    pub(super) ready: BTreeMap<Name, Ready>,
    /// Those being looked at, each a part of the one before.
    open: Vec<Name>,
}

impl<'a, 'b> Builder<'a, 'b> {
    pub(super) fn new(
        stage: &'a Stage<'a>,
        transports: &'b Transports<'b>,
        middlewares: &'b Middlewares<'b>,
        good: &'b mut Definitions,
    ) -> Self {
        let wanted = &stage.wanted.services;
        let last = stage.last.map(|last| &last.services);
        let forms = fallback::forms(Kind::Service, wanted, stage.wanted, last);
        Self {
            stage,
            transports,
            middlewares,
            forms: forms
                .into_iter()
                .map(|forms| (&**forms.name, forms))
                .collect(),
            suggestions: Suggestions::new(wanted.keys().map(|name| &**name)),
            good,
            ready: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn build_all(&mut self, findings: &mut Vec<Diagnostic>) {
        let names: Vec<&str> = self.forms.keys().copied().collect();
        for name in names {
            self.settle(name, findings);
        }
    }

    /// Builds one service, after all that it is made of.
    fn settle(&mut self, name: &str, findings: &mut Vec<Diagnostic>) {
        let Some(forms) = self.forms.remove(name) else {
            return;
        };
        let name = Arc::clone(forms.name);
        self.open.push(Arc::clone(&name));
        let built = forms.build(findings, |definition, findings| {
            self.ready(definition, findings)
        });
        self.open.pop();
        if let Some((service, definition)) = built {
            self.good.services.insert(Arc::clone(&name), definition);
            self.ready.insert(name, service);
        }
    }

    fn ready(
        &mut self,
        definition: &Defined<routing::Service>,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Ready> {
        if self.open.len() < DEEPEST {
            for child in group::children(&definition.object.kind) {
                self.settle(&qualify(child, &definition.provider), findings);
            }
        }
        let known = |name: &str| self.known(name);
        let rooms = (self.transports, &known as Known<'_>);
        let form = form(self.stage, definition, rooms, findings);
        let steps = service_steps(definition, self.middlewares, findings);
        Some(Ready {
            form: form?,
            steps: steps?,
        })
    }

    fn known(&self, name: &str) -> Result<bool, Missing> {
        let value = |message| Missing {
            about: About::Value,
            message,
            hint: None,
        };
        if name.ends_with(INTERNAL_SUFFIX) {
            let found = internal::service(base_name(name), self.stage.input.install);
            return found
                .map(|_| false)
                .map_err(|message| value(message.into_owned()));
        }
        if let Some(ready) = self.ready.get(name) {
            return Ok(ready.is_checked());
        }
        if let Some(from) = self.open.iter().position(|open| **open == *name) {
            let mut circle = self.open[from..].join(" -> ");
            circle.push_str(" -> ");
            circle.push_str(name);
            return Err(value(format!("the service contains itself: {circle}")));
        }
        if self.open.len() >= DEEPEST {
            let message = format!("services lie within services more than {DEEPEST} deep");
            return Err(value(message));
        }
        Err(missing(self.stage, &self.suggestions, name))
    }
}

/// What a service is made from, if nothing is wrong with it.
pub(super) fn form(
    stage: &Stage<'_>,
    definition: &Defined<routing::Service>,
    (transports, known): (&Transports<'_>, Known<'_>),
    findings: &mut Vec<Diagnostic>,
) -> Option<Form> {
    match &definition.object.kind {
        ServiceKind::LoadBalancer(options) => {
            let mut draft = balancer::Draft {
                stage,
                definition,
                findings,
            };
            let settings = draft.settings(options, transports)?;
            Some(Form::Balancer(Box::new(settings)))
        }
        _ => {
            let mut draft = group::Draft {
                definition,
                known,
                findings,
            };
            draft.settings().map(Form::Group)
        }
    }
}

/// More is taken for a mistake: every request walks down this far.
const DEEPEST: usize = 16;
