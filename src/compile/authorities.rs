//! The services that `forwardAuth` middlewares ask: one for each of them, shared by all routers that use it, with servers and their state
//! taken over from the previous snapshot as for any other service.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use super::{Stage, services};
use crate::{
    config::{
        Diagnostic, Kind,
        definitions::{Defined, Name},
        routing::{ForwardAuth, ForwardAuthTls, Middleware as Config},
        units::FileOrContent,
    },
    service::{
        BudgetSettings, Condition, ServerSettings, ServerUrl, Service, ServiceSettings, Strategy,
        Timeouts, Transport,
    },
    upstream::transport::{KeyPair, TransportSettings},
};

/// Every service that is asked, by the name of its middleware, with the options it was built from.
#[derive(Default)]
pub(super) struct Authorities(RefCell<BTreeMap<Name, (ForwardAuth, Arc<Service>)>>);

impl Authorities {
    /// The service that a middleware asks; none if it cannot be reached as configured, and then `findings` says why.
    pub(super) fn of(
        &self,
        stage: &Stage<'_>,
        definition: &Defined<Config>,
        config: &ForwardAuth,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Arc<Service>> {
        let known = self.0.borrow().get(&definition.name).cloned();
        if let Some((built_from, service)) = known
            && built_from == *config
        {
            return Some(service);
        }
        let draft = Draft {
            stage,
            definition,
            config,
        };
        let service = draft.service(findings)?;
        let built = (config.clone(), Arc::clone(&service));
        self.0
            .borrow_mut()
            .insert(Arc::clone(&definition.name), built);
        Some(service)
    }

    /// Whether a middleware asks the same service, over the same connections, as in the previous snapshot.
    pub(super) fn unchanged(&self, stage: &Stage<'_>, name: &str) -> bool {
        let now = self.0.borrow();
        let before = previous(stage, &service_name(name));
        match (now.get(name), before) {
            (Some((_, now)), Some(before)) => Arc::ptr_eq(now, before),
            _ => false,
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Service>> {
        let all = self.0.borrow();
        all.values()
            .map(|(_, service)| Arc::clone(service))
            .collect()
    }
}

/// No service of a user can be called so: their names hold one `@`.
fn service_name(middleware: &str) -> Name {
    format!("{middleware}@forwardAuth").into()
}

fn previous<'s>(stage: &Stage<'s>, name: &str) -> Option<&'s Arc<Service>> {
    stage.input.previous?.snapshot.service(name)
}

struct Draft<'a, 's> {
    stage: &'a Stage<'s>,
    definition: &'a Defined<Config>,
    config: &'a ForwardAuth,
}

impl Draft<'_, '_> {
    fn service(&self, findings: &mut Vec<Diagnostic>) -> Option<Arc<Service>> {
        let name = service_name(&self.definition.name);
        // What is wrong with the address has been told by the middleware.
        let url = ServerUrl::parse(&self.config.address).ok()?;
        let previous = previous(self.stage, &name);
        let transport = self.transport(&name, previous, findings)?;
        let input = self.stage.input;
        let hold = input.install.providers.hold(&self.definition.provider);
        let addresses = input.addresses.get(&*url.host);
        let settings = ServiceSettings {
            name: Arc::clone(&name),
            servers: vec![ServerSettings {
                addresses: addresses.map(|ips| ips.to_vec()).unwrap_or_default(),
                url,
                weight: 1,
                preserve_path: false,
                condition: Condition::Ready,
            }],
            strategy: Strategy::RoundRobin,
            sticky: None,
            pass_host_header: false,
            transport,
            health_check: None,
            passive: None,
            flush_interval: None,
            budget: BudgetSettings::default(),
            hold: services::hold(hold),
            warm_up: None,
            timeouts: Timeouts::default(),
            outliers: None,
            hedge: None,
        };
        let service = Service::build(
            settings,
            previous.map(|previous| &**previous),
            &input.workshop.slots,
            input.now,
        );
        if let Some(previous) = previous.filter(|previous| is_same(previous, &service)) {
            return Some(Arc::clone(previous));
        }
        let service = service.counted_with(input.workshop.metrics.service(&name));
        for server in &service.servers {
            server.count_with(|| input.workshop.metrics.server(&name, &server.name));
        }
        Some(Arc::new(service))
    }

    fn transport(
        &self,
        name: &Name,
        previous: Option<&Arc<Service>>,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Arc<Transport>> {
        let mut settings = TransportSettings::new(Arc::clone(name));
        if let Some(tls) = &self.config.tls {
            settings.insecure_skip_verify = tls.insecure_skip_verify;
            if !tls.ca.is_empty() {
                settings.root_cas = vec![self.text("ca", &tls.ca, findings)?];
            }
            settings.certificates = self.certificate(tls, findings)?;
        }
        let previous = previous.map(|service| &service.transport);
        let built = settings.build(previous, &self.stage.input.workshop.system_roots);
        built
            .map_err(|error| {
                let field = match error.option {
                    "rootCAs" => "ca",
                    _ => "cert",
                };
                findings.push(self.error(field, error.message));
            })
            .ok()
    }

    fn certificate(
        &self,
        tls: &ForwardAuthTls,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Vec<KeyPair>> {
        match (tls.cert.is_empty(), tls.key.is_empty()) {
            (true, true) => Some(Vec::new()),
            (true, false) => {
                findings.push(self.error("cert", "is missing: there is a key only"));
                None
            }
            (false, true) => {
                findings.push(self.error("key", "is missing: there is a certificate only"));
                None
            }
            (false, false) => {
                let chain = self.text("cert", &tls.cert, findings);
                let key = self.text("key", &tls.key, findings);
                Some(vec![KeyPair {
                    chain: chain?,
                    key: key?,
                }])
            }
        }
    }

    fn text(
        &self,
        field: &str,
        source: &FileOrContent,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Vec<u8>> {
        match self.stage.input.files.content(source) {
            Ok(text) => Some(text.as_bytes().to_vec()),
            Err(message) => {
                findings.push(self.error(field, message));
                None
            }
        }
    }

    fn error(&self, field: &str, message: impl Into<String>) -> Diagnostic {
        let field = format!("forwardAuth.tls.{field}");
        self.definition.error(Kind::Middleware, &field, message)
    }
}

/// Whether a service came out as the one it was built after: the same servers, reached in the same way.
fn is_same(before: &Service, now: &Service) -> bool {
    let servers = || before.servers.iter().zip(&now.servers);
    before.servers.len() == now.servers.len()
        && servers().all(|(before, now)| Arc::ptr_eq(before, now))
        && before.hold == now.hold
}
