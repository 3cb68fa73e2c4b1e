//! Transports: how servers are reached. Every one is built, used or not; one that did not change is taken over, and its connections
//! with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Stage,
    fallback::{self, Built},
    internal::PROVIDER,
    middlewares::Missing,
};
use crate::{
    config::{
        About, Diagnostic, Kind,
        definitions::{Defined, Definitions, Suggestions, qualify},
        routing::{ServersTransport, TlsVersion},
        units::{FileOrContent, Span},
    },
    service::Transport,
    tls::{NamedSuite, cipher_suite},
    upstream::transport::{KeyPair, TransportSettings, Version},
};

/// Every transport that can be used.
pub(super) struct Transports<'a> {
    stage: &'a Stage<'a>,
    built: BTreeMap<Arc<str>, Arc<Transport>>,
    suggestions: Suggestions<'a>,
}

impl<'a> Transports<'a> {
    /// Builds the named transports and the default one of the install configuration.
    pub(super) fn build(
        stage: &'a Stage<'a>,
        good: &mut Definitions,
        findings: &mut Vec<Diagnostic>,
    ) -> Self {
        let wanted = &stage.wanted.servers_transports;
        let mut transports = Self {
            stage,
            built: BTreeMap::new(),
            suggestions: Suggestions::new(wanted.keys().map(|name| &**name)),
        };
        transports.build_default(findings);
        let last = stage.last.map(|last| &last.servers_transports);
        for forms in fallback::forms(Kind::ServersTransport, wanted, stage.wanted, last) {
            let name = Arc::clone(forms.name);
            let built = forms.build(findings, |definition, findings| {
                transports.transport(definition, findings)
            });
            if let Some((transport, definition)) =
                built.or_else(|| transports.last(&name, findings))
            {
                good.servers_transports
                    .insert(Arc::clone(&name), definition);
                transports.built.insert(name, transport);
            }
        }
        transports
    }

    /// The transport a service of `provider` means; an empty name is the default one.
    pub(super) fn find(&self, name: &str, provider: &str) -> Result<Arc<Transport>, Missing> {
        let name = match name {
            "" => DEFAULT.into(),
            name => qualify(name, provider),
        };
        if let Some(transport) = self.built.get(&*name) {
            return Ok(Arc::clone(transport));
        }
        let known = self.stage.wanted.servers_transports.contains_key(&*name)
            || self
                .stage
                .wanted
                .broken
                .contains(&(Kind::ServersTransport, (*name).into()));
        Err(match known || name == DEFAULT {
            true => Missing {
                about: About::Value,
                message: format!("the serversTransport `{name}` cannot be used"),
                hint: None,
            },
            false => Missing {
                about: About::Value,
                message: format!("the serversTransport `{name}` does not exist"),
                hint: self.suggestions.hint(&name),
            },
        })
    }

    /// All that were built.
    pub(super) fn all(&self) -> &BTreeMap<Arc<str>, Arc<Transport>> {
        &self.built
    }

    /// The transport of this name in the previous snapshot: its definition may still be good while a file it names no longer is.
    fn last(&self, name: &Arc<str>, findings: &mut Vec<Diagnostic>) -> Option<BuiltTransport> {
        let definition = self.stage.last?.servers_transports.get(name)?;
        let transport = self.stage.input.previous?.transports.get(name)?;
        findings.push(fallback::went_on(Kind::ServersTransport, definition));
        Some((Arc::clone(transport), definition.clone()))
    }

    fn build_default(&mut self, findings: &mut Vec<Diagnostic>) {
        let config = ServersTransport::from(&self.stage.input.install.servers_transport);
        let definition = Defined::new(DEFAULT.into(), PROVIDER.into(), config.into());
        if let Some(transport) = self.transport(&definition, findings) {
            self.built.insert(Arc::clone(&definition.name), transport);
        }
    }

    fn transport(
        &self,
        definition: &Defined<ServersTransport>,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Arc<Transport>> {
        let settings = Draft {
            stage: self.stage,
            definition,
            findings,
        }
        .settings()?;
        let previous = self
            .stage
            .input
            .previous
            .and_then(|previous| previous.transports.get(&definition.name));
        let built = settings.build(previous, &self.stage.input.workshop.system_roots);
        built
            .map_err(|error| {
                findings.push(definition.error(Kind::ServersTransport, error.option, error.message))
            })
            .ok()
    }
}

type BuiltTransport = Built<Arc<Transport>, ServersTransport>;

/// One transport on its way from configuration to settings.
struct Draft<'a> {
    stage: &'a Stage<'a>,
    definition: &'a Defined<ServersTransport>,
    findings: &'a mut Vec<Diagnostic>,
}

impl Draft<'_> {
    fn settings(&mut self) -> Option<TransportSettings> {
        let config = &self.definition.object.value;
        let before = self.findings.len();
        let root_cas = config.root_cas.iter().enumerate();
        let root_cas = root_cas
            .filter_map(|(position, source)| self.text(&format!("rootCAs[{position}]"), source))
            .collect();
        let certificates = config.certificates.iter().enumerate();
        let certificates = certificates.filter_map(|(position, pair)| {
            let chain = self.text(
                &format!("certificates[{position}].certFile"),
                &pair.cert_file,
            );
            let key = self.text(&format!("certificates[{position}].keyFile"), &pair.key_file);
            Some(KeyPair {
                chain: chain?,
                key: key?,
            })
        });
        let certificates = certificates.collect();
        let cipher_suites = config.cipher_suites.iter().enumerate();
        let cipher_suites = cipher_suites
            .filter_map(|(position, name)| self.suite(position, name))
            .collect();
        let versions = (
            self.version("minVersion", config.min_version),
            self.version("maxVersion", config.max_version),
        );
        if self.findings[before..].iter().any(Diagnostic::is_error) {
            return None;
        }
        let timeouts = &config.forwarding_timeouts;
        Some(TransportSettings {
            name: Arc::clone(&self.definition.name),
            server_name: config.server_name.clone(),
            insecure_skip_verify: config.insecure_skip_verify,
            root_cas,
            certificates,
            cipher_suites,
            min_version: versions.0,
            max_version: versions.1,
            peer_cert_uri: config.peer_cert_uri.clone(),
            max_idle_per_host: max_idle(config.max_idle_conns_per_host),
            disable_http2: config.disable_http2,
            dial_timeout: timeouts.dial_timeout.positive(),
            response_header_timeout: timeouts.response_header_timeout.positive(),
            idle_timeout: timeouts.idle_conn_timeout.positive(),
            read_idle_timeout: timeouts.read_idle_timeout.positive(),
            ping_timeout: ping_timeout(timeouts.ping_timeout),
        })
    }

    fn text(&mut self, field: &str, source: &FileOrContent) -> Option<Vec<u8>> {
        match self.stage.input.files.content(source) {
            Ok(text) => Some(text.as_bytes().to_vec()),
            Err(message) => {
                self.error(field, message);
                None
            }
        }
    }

    fn suite(&mut self, position: usize, name: &str) -> Option<rustls::CipherSuite> {
        let field = format!("cipherSuites[{position}]");
        match cipher_suite(name) {
            NamedSuite::Known(suite) => Some(suite),
            NamedSuite::Unsupported => {
                let message = format!("the cipher suite `{name}` is not offered: it is weak");
                self.findings.push(self.definition.warning(
                    Kind::ServersTransport,
                    &field,
                    message,
                ));
                None
            }
            NamedSuite::Unknown(nearest) => {
                let finding = self.definition.error(
                    Kind::ServersTransport,
                    &field,
                    format!("unknown cipher suite `{name}`"),
                );
                let hint = nearest.map(|nearest| format!("did you mean `{nearest}`?"));
                self.findings.push(Diagnostic { hint, ..finding });
                None
            }
        }
    }

    /// Versions below 1.2 are not spoken: a floor there is no floor, a ceiling there leaves nothing.
    fn version(&mut self, field: &str, version: Option<TlsVersion>) -> Option<Version> {
        match version? {
            TlsVersion::Tls13 => Some(Version::Tls13),
            TlsVersion::Tls12 => Some(Version::Tls12),
            TlsVersion::Tls10 | TlsVersion::Tls11 if field == "minVersion" => {
                let message = "TLS 1.0 and 1.1 are not spoken; 1.2 is the lowest";
                self.findings.push(
                    self.definition
                        .warning(Kind::ServersTransport, field, message),
                );
                None
            }
            TlsVersion::Tls10 | TlsVersion::Tls11 => {
                self.error(
                    field,
                    "TLS 1.0 and 1.1 are not spoken, so no version is left",
                );
                None
            }
        }
    }

    fn error(&mut self, field: &str, message: impl Into<String>) {
        self.findings.push(
            self.definition
                .error(Kind::ServersTransport, field, message),
        );
    }
}

/// 0 means what Go's transport keeps by default; a negative number none.
fn max_idle(configured: i64) -> usize {
    match configured {
        0 => GO_IDLE_CONNECTIONS,
        configured => usize::try_from(configured).unwrap_or(0),
    }
}

fn ping_timeout(span: Span) -> Duration {
    span.positive().unwrap_or(PING_TIMEOUT)
}

/// The transport of services that name none.
const DEFAULT: &str = "default@internal";
const GO_IDLE_CONNECTIONS: usize = 2;
const PING_TIMEOUT: Duration = Duration::from_secs(15);
