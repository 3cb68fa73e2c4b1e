//! The `tls` section: certificates, the default store and the options, built once for all entry points.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Stage, fallback};
use crate::{
    config::{
        Diagnostic, Kind, Place,
        definitions::{Defined, Definitions},
        routing::{Certificate as Config, GeneratedCertificate, TlsOptions},
        units::FileOrContent,
    },
    tls::{Certificate, DEFAULT_OPTIONS, Finding, OptionsSpec, Tls, TlsInputs},
};

/// Certificates by the texts of their `certFile` and `keyFile`.
pub type Certificates = BTreeMap<CertificateKey, Arc<Certificate>>;

/// The texts of `certFile` and `keyFile`.
pub type CertificateKey = (String, String);

/// What became of the `tls` section.
pub(super) struct TlsStage {
    pub(super) tls: Arc<Tls>,
    pub(super) good: Certificates,
    /// The certificates that responders are to be asked about.
    pub(super) stapling: Arc<[Arc<Certificate>]>,
}

impl TlsStage {
    /// Builds the section.
    pub(super) fn build(
        stage: &Stage<'_>,
        good: &mut Definitions,
        findings: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut reader = Reader {
            stage,
            findings,
            good: Certificates::new(),
            stapling: Vec::new(),
        };
        let certificates = reader.certificates(good);
        let default_certificate = reader.default_certificate(good, &certificates);
        let (good_certificates, stapling) = (reader.good, reader.stapling.into());
        let previous = stage
            .input
            .previous
            .and_then(|previous| previous.snapshot.tls.as_deref());
        let options = Options {
            stage,
            certificates,
            default_certificate,
        };
        let tls = options.build(previous, good, findings);
        Self {
            tls: Arc::new(tls),
            good: good_certificates,
            stapling,
        }
    }
}

/// Reads certificates.
struct Reader<'a> {
    stage: &'a Stage<'a>,
    findings: &'a mut Vec<Diagnostic>,
    good: Certificates,
    stapling: Vec<Arc<Certificate>>,
}

impl<'a> Reader<'a> {
    fn certificates(&mut self, good: &mut Definitions) -> Vec<Arc<Certificate>> {
        let mut certificates = Vec::new();
        let wanted = self.stage.wanted.certificates.iter();
        for definition in wanted.chain(self.lost()) {
            let stores = &definition.object.stores;
            if !stores.is_empty() && !stores.iter().any(|store| store == DEFAULT_STORE) {
                let message = "the certificate is in no store that is served: only `default` is";
                self.findings
                    .push(definition.warning(Kind::Certificate, "stores", message));
                continue;
            }
            let error =
                |field: &str, message: String| definition.error(Kind::Certificate, field, message);
            let said = self.findings.len();
            if let Some(certificate) = self.certificate(&definition.object, &error) {
                certificates.push(self.stapled(&certificate, *definition.provider == *ACME));
                good.certificates.push(definition.clone());
            }
            if *definition.provider == *ACME {
                // There is no file to replace.
                for finding in self.findings.iter_mut().skip(said) {
                    finding.hint = Some(RENEWED.to_owned());
                }
            }
        }
        certificates
    }

    /// The last good certificates of the providers that have one which cannot be read: it may be any of them.
    fn lost(&self) -> Vec<&'a Defined<Config>> {
        let wanted = self.stage.wanted;
        let broken = wanted
            .broken
            .iter()
            .filter(|(kind, _)| *kind == Kind::Certificate);
        let providers: BTreeSet<&str> = broken
            .filter_map(|(_, name)| Some(name.rsplit_once('@')?.1))
            .collect();
        let last = self
            .stage
            .last
            .into_iter()
            .flat_map(|last| &last.certificates);
        let lost = last.filter(|last| providers.contains(&*last.provider));
        lost.filter(|last| {
            !wanted
                .certificates
                .iter()
                .any(|wanted| wanted.object == last.object)
        })
        .collect()
    }

    fn default_certificate(
        &mut self,
        good: &mut Definitions,
        certificates: &[Arc<Certificate>],
    ) -> Option<Arc<Certificate>> {
        for (name, store) in &self.stage.wanted.tls_stores {
            if &**name != DEFAULT_STORE {
                let message = "the store is not served: only `default` is";
                self.findings
                    .push(store.warning(Kind::TlsStore, "", message));
            }
        }
        let wanted = self.stage.wanted.tls_stores.get(DEFAULT_STORE);
        let last = || self.stage.last?.tls_stores.get(DEFAULT_STORE);
        let broken = self
            .stage
            .wanted
            .broken
            .contains(&(Kind::TlsStore, DEFAULT_STORE.into()));
        let store = if broken { last() } else { wanted }?;
        good.tls_stores
            .insert(Arc::clone(&store.name), store.clone());
        let Some(config) = store.object.default_certificate.as_ref() else {
            let generated = store.object.default_generated_cert.as_ref()?;
            return obtained(generated, certificates);
        };
        let error = |field: &str, message: String| {
            store.error(
                Kind::TlsStore,
                &format!("defaultCertificate.{field}"),
                message,
            )
        };
        let certificate = self.certificate(config, &error)?;
        Some(self.stapled(&certificate, false))
    }

    /// The certificate with what its responder said. The responders of certificates that were `obtained` are always asked: whoever issued
    /// those has been talked to anyway.
    fn stapled(&mut self, certificate: &Arc<Certificate>, obtained: bool) -> Arc<Certificate> {
        let input = self.stage.input;
        if !obtained && input.install.ocsp.is_none() {
            return certificate.stapled(None);
        }
        self.stapling.push(Arc::clone(certificate));
        certificate.stapled(input.staples.get(&certificate.facts().fingerprint))
    }

    /// The certificate, or the last one that these files held.
    fn certificate(&mut self, config: &Config, error: Report<'_>) -> Option<Arc<Certificate>> {
        let key = (config.cert_file.to_string(), config.key_file.to_string());
        let inline = config.cert_file.content().is_some() || config.key_file.content().is_some();
        let certificate = self.read(config, error);
        let last = || {
            let last = self.stage.input.previous?.certificates.get(&key)?;
            Some(Arc::clone(last))
        };
        let certificate = match certificate {
            Some(certificate) => certificate,
            // Inline texts are not told apart by how they print.
            None if inline => return None,
            None => {
                let last = last()?;
                let finding = error(
                    "certFile",
                    "the last good certificate goes on serving".to_owned(),
                );
                self.findings.push(Diagnostic {
                    severity: crate::config::Severity::Info,
                    ..finding
                });
                last
            }
        };
        if let Some(finding) = certificate.check_validity(self.stage.input.wall_clock) {
            self.findings.push(placed(finding, error));
        }
        if !inline {
            self.good.insert(key, Arc::clone(&certificate));
        }
        Some(certificate)
    }

    fn read(&mut self, config: &Config, error: Report<'_>) -> Option<Arc<Certificate>> {
        let chain = self.text("certFile", &config.cert_file, error);
        let key = self.text("keyFile", &config.key_file, error);
        let previous = self
            .stage
            .input
            .previous
            .and_then(|previous| previous.snapshot.tls.as_deref());
        let parsed = Tls::parse(previous, chain?.as_bytes(), key?.as_bytes());
        parsed
            .map_err(|finding| self.findings.push(placed(finding, error)))
            .ok()
    }

    fn text(&mut self, field: &str, source: &FileOrContent, error: Report<'_>) -> Option<Arc<str>> {
        let text = self.stage.input.files.content(source);
        text.map_err(|message| self.findings.push(error(field, message)))
            .ok()
    }
}

/// The certificate that a resolver obtained for the default store, as soon as there is one.
fn obtained(
    wanted: &GeneratedCertificate,
    certificates: &[Arc<Certificate>],
) -> Option<Arc<Certificate>> {
    let names = wanted.domain.as_ref()?.names();
    let fits = |one: &&Arc<Certificate>| {
        let own = &one.facts().names;
        !names.is_empty()
            && names
                .iter()
                .all(|name| own.contains(&name.to_ascii_lowercase()))
    };
    let fitting = certificates.iter().filter(fits);
    fitting.max_by_key(|one| one.facts().not_after).cloned()
}

/// The provider of certificates that are obtained.
const ACME: &str = "acme";
const RENEWED: &str =
    "it is renewed by itself: the log says why the last attempt failed, and when the next one is";

/// Makes an error about a field.
type Report<'a> = &'a dyn Fn(&str, String) -> Diagnostic;

fn placed(finding: Finding, error: Report<'_>) -> Diagnostic {
    let severity = match finding.fatal {
        true => crate::config::Severity::Error,
        false => crate::config::Severity::Warning,
    };
    Diagnostic {
        severity,
        hint: finding.hint,
        ..error(&finding.field, finding.message)
    }
}

/// The options by name; `None` for those that cannot be read.
type Forms = BTreeMap<Arc<str>, Option<Defined<TlsOptions>>>;

/// The options and what they are combined with.
struct Options<'a> {
    stage: &'a Stage<'a>,
    certificates: Vec<Arc<Certificate>>,
    default_certificate: Option<Arc<Certificate>>,
}

impl Options<'_> {
    /// Builds with the wanted options, and once more with the last good form of those that turn out to be unusable.
    fn build(
        &self,
        previous: Option<&Tls>,
        good: &mut Definitions,
        findings: &mut Vec<Diagnostic>,
    ) -> Tls {
        let wanted = &self.stage.wanted.tls_options;
        let last = self.stage.last.map(|last| &last.tls_options);
        let all = fallback::forms(Kind::TlsOptions, wanted, self.stage.wanted, last);
        let named = all
            .iter()
            .map(|forms| (Arc::clone(forms.name), forms.wanted().cloned()));
        let mut forms: Forms = named.collect();
        let tls = self.build_with(&forms, previous, findings);
        self.report(&tls, &forms, findings);
        let unusable = all
            .iter()
            .map(|forms| forms.name)
            .filter(|name| !tls.is_usable(name));
        let mut replaced = false;
        for name in unusable {
            let last = self.stage.last.and_then(|last| last.tls_options.get(name));
            let is_new = |last: &&Defined<TlsOptions>| {
                forms
                    .get(name)
                    .and_then(Option::as_ref)
                    .is_none_or(|form| form.object != last.object)
            };
            if let Some(last) = last.filter(is_new).cloned() {
                findings.push(fallback::went_on(Kind::TlsOptions, &last));
                forms.insert(Arc::clone(name), Some(last));
                replaced = true;
            }
        }
        let tls = match replaced {
            true => self.build_with(&forms, previous, &mut Vec::new()),
            false => tls,
        };
        let usable = forms.into_iter().filter(|(name, _)| tls.is_usable(name));
        good.tls_options
            .extend(usable.filter_map(|(name, form)| Some((name, form?))));
        tls
    }

    fn build_with(
        &self,
        forms: &Forms,
        previous: Option<&Tls>,
        findings: &mut Vec<Diagnostic>,
    ) -> Tls {
        let specs = forms.iter().map(|(name, form)| {
            let spec = form.as_ref().and_then(|form| self.spec(form, findings));
            (Arc::clone(name), spec)
        });
        let mut options: BTreeMap<Arc<str>, Option<OptionsSpec>> = specs.collect();
        if self
            .stage
            .wanted
            .clashing
            .contains(&(Kind::TlsOptions, DEFAULT_OPTIONS.into()))
        {
            options.insert(DEFAULT_OPTIONS.into(), None);
        }
        let inputs = TlsInputs {
            certificates: self.certificates.clone(),
            default_certificate: self.default_certificate.clone(),
            options,
            now: self.stage.input.wall_clock,
        };
        Tls::build(inputs, previous)
    }

    fn spec(
        &self,
        form: &Defined<TlsOptions>,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<OptionsSpec> {
        let mut authorities = Vec::new();
        let sources = &form.object.client_auth.ca_files;
        for (position, source) in sources.iter().enumerate() {
            match self.stage.input.files.content(source) {
                Ok(text) => authorities.push(text),
                Err(message) => {
                    let field = format!("clientAuth.caFiles[{position}]");
                    findings.push(form.error(Kind::TlsOptions, &field, message));
                }
            }
        }
        // Without one of its authorities a server would refuse clients that it should let in.
        (authorities.len() == sources.len()).then(|| OptionsSpec {
            options: form.object.value.clone(),
            authorities,
        })
    }

    fn report(&self, tls: &Tls, forms: &Forms, findings: &mut Vec<Diagnostic>) {
        for (name, finding) in tls.findings() {
            let form = forms.get(name).and_then(Option::as_ref);
            let error = |field: &str, message: String| match form {
                Some(form) => form.error(Kind::TlsOptions, field, message),
                None => Diagnostic::error(
                    Place::Builtin,
                    format!("{}.{name}.{field}", Kind::TlsOptions),
                    message,
                ),
            };
            findings.push(placed(finding.clone(), &error));
        }
    }
}

const DEFAULT_STORE: &str = "default";
