//! What a handshake gets: server name -> TLS options -> a ready rustls configuration.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::{CipherSuite, ServerConfig};

use super::certificate::Certificate;
use super::finding::Finding;
use super::options::{DEFAULT_OPTIONS, OptionsSpec, Settings};
use super::selection::{Always, CertificateTable};
use super::tickets::Tickets;

/// The compiled `tls` section of one snapshot; shared by its entry points.
#[derive(Debug)]
pub struct Tls {
    certificates: Arc<CertificateTable>,
    options: BTreeMap<Arc<str>, Options>,
    by_digest: HashMap<[u8; 32], Arc<Certificate>>,
    generated: Option<Arc<Certificate>>,
    validity: Vec<bool>,
    tickets: Tickets,
}

/// What compile hands in: everything parsed, in the order of the configuration.
#[derive(Debug, Default)]
pub struct TlsInputs {
    /// Certificates of the default store.
    pub certificates: Vec<Arc<Certificate>>,
    /// `stores.default.defaultCertificate`; without it one is generated.
    pub default_certificate: Option<Arc<Certificate>>,
    /// Options by qualified name; `None` for a name that must not be served (defined twice, say).
    /// `default` need not be there.
    pub options: BTreeMap<Arc<str>, Option<OptionsSpec>>,
    /// Seconds since 1970.
    pub now: i64,
}

impl Tls {
    /// Parses a pair of PEM texts, or finds what `previous` parsed from the same texts.
    pub fn parse(
        previous: Option<&Self>,
        chain: &[u8],
        key: &[u8],
    ) -> Result<Arc<Certificate>, Finding> {
        let known = previous.and_then(|tls| tls.by_digest.get(&Certificate::digest_of(chain, key)));
        known.map_or_else(
            || Certificate::parse(chain, key).map(Arc::new),
            |known| Ok(Arc::clone(known)),
        )
    }

    /// Compiles the section. What did not change is taken over from `previous`, and with it every session that can be resumed.
    pub fn build(mut inputs: TlsInputs, previous: Option<&Self>) -> Self {
        let generated = generated(&inputs, previous);
        let default = generated.as_ref().or(inputs.default_certificate.as_ref());
        let certificates = certificate_table(&inputs, default.cloned(), previous);
        let by_digest = inputs
            .certificates
            .iter()
            .chain(&inputs.default_certificate);
        let by_digest = by_digest
            .map(|one| (*one.digest(), Arc::clone(one)))
            .collect();
        inputs
            .options
            .entry(DEFAULT_OPTIONS.into())
            .or_insert_with(|| Some(OptionsSpec::default()));
        let mut tls = Self {
            validity: validity(&inputs),
            certificates,
            options: BTreeMap::new(),
            by_digest,
            generated,
            tickets: Tickets::default(),
        };
        for (name, spec) in inputs.options {
            let options = tls.options(&name, spec, previous);
            tls.options.insert(name, options);
        }
        tls
    }

    /// The table of one entry point, from the options each of its hosts is served with (see [`super::agree`]).
    /// A host whose options are unknown or unusable is refused.
    pub fn sni_table<'a>(&self, hosts: impl IntoIterator<Item = (&'a str, &'a str)>) -> SniTable {
        let mut table = SniTable {
            certificates: Arc::clone(&self.certificates),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            fallback: self.ready(DEFAULT_OPTIONS),
        };
        for (host, options) in hosts {
            let ready = self.ready(options);
            match host.strip_prefix("*.") {
                Some(rest) => table.wildcard.insert(rest.into(), ready),
                None => table.exact.insert(host.into(), ready),
            };
        }
        table
    }

    /// Whether options of this name exist and can be served.
    pub fn is_usable(&self, options: &str) -> bool {
        self.options
            .get(options)
            .is_some_and(|options| options.ready.is_ok())
    }

    /// What was found wrong with the options, by their name.
    pub fn findings(&self) -> impl Iterator<Item = (&Arc<str>, &Finding)> {
        self.options
            .iter()
            .flat_map(|(name, options)| options.findings.iter().map(move |finding| (name, finding)))
    }

    /// The certificates.
    pub fn certificates(&self) -> &CertificateTable {
        &self.certificates
    }

    /// Whether the default certificate was generated because none is configured.
    pub fn default_is_generated(&self) -> bool {
        self.generated.is_some()
    }

    pub(super) fn ready(&self, name: &str) -> Outcome {
        match self.options.get(name) {
            Some(options) => options.ready.clone(),
            None => Err(Refusal::Options(name.into())),
        }
    }

    fn options(
        &mut self,
        name: &Arc<str>,
        spec: Option<OptionsSpec>,
        previous: Option<&Self>,
    ) -> Options {
        if let Some(old) = previous.and_then(|previous| self.unchanged(name, &spec, previous)) {
            return old;
        }
        let Some((settings, mut findings)) = spec.as_ref().map(Settings::decode) else {
            return Options::refused(name, None, Vec::new());
        };
        let Some(settings) = settings else {
            return Options::refused(name, spec, findings);
        };
        let previous = previous.map(|tls| &tls.tickets);
        let tickets = settings
            .ticket_policy
            .map(|policy| self.tickets.keys(policy, previous));
        let ready = tickets.transpose().and_then(|tickets| {
            let config = settings.server_config(Arc::clone(&self.certificates) as _, tickets)?;
            Ok(Ready::new(name, &settings, config, &self.certificates))
        });
        match ready {
            Ok(ready) => Options {
                spec,
                findings,
                ready: Ok(Arc::new(ready)),
            },
            Err(error) => {
                findings.push(Finding::error(
                    "",
                    format!("the options cannot be combined: {error}"),
                    "remove cipherSuites and curvePreferences to get the defaults",
                ));
                Options::refused(name, spec, findings)
            }
        }
    }

    /// The options as `previous` compiled them, if nothing they are made of has changed.
    fn unchanged(
        &mut self,
        name: &str,
        spec: &Option<OptionsSpec>,
        previous: &Self,
    ) -> Option<Options> {
        if !Arc::ptr_eq(&previous.certificates, &self.certificates) {
            return None;
        }
        let old = previous.options.get(name).filter(|old| old.spec == *spec)?;
        if let Some(policy) = old
            .ready
            .as_ref()
            .ok()
            .and_then(|ready| ready.ticket_policy)
        {
            self.tickets.keys(policy, Some(&previous.tickets)).ok()?;
        }
        Some(old.clone())
    }
}

fn validity(inputs: &TlsInputs) -> Vec<bool> {
    let certificates = inputs.certificates.iter();
    certificates
        .map(|one| (one.facts().not_before..=one.facts().not_after).contains(&inputs.now))
        .collect()
}

/// The certificate for names nobody configured: one per process, not one per reload; `None` if one is configured.
fn generated(inputs: &TlsInputs, previous: Option<&Tls>) -> Option<Arc<Certificate>> {
    if inputs.default_certificate.is_some() {
        return None;
    }
    let old = previous.and_then(|tls| tls.generated.clone());
    // Without a source of randomness nothing can be generated, and no handshake would succeed anyway.
    old.or_else(|| Certificate::generate().ok().map(Arc::new))
}

fn certificate_table(
    inputs: &TlsInputs,
    default: Option<Arc<Certificate>>,
    previous: Option<&Tls>,
) -> Arc<CertificateTable> {
    let same = |old: &[Arc<Certificate>], new: &[Arc<Certificate>]| {
        old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.is(new))
    };
    let unchanged = previous.filter(|tls| {
        let old = &tls.certificates;
        same(
            old.default_certificate().map_or(&[], slice::from_ref),
            default.as_slice(),
        ) && same(old.configured(), &inputs.certificates)
            && tls.validity == validity(inputs)
    });
    unchanged.map_or_else(
        || {
            Arc::new(CertificateTable::new(
                &inputs.certificates,
                default,
                inputs.now,
            ))
        },
        |tls| Arc::clone(&tls.certificates),
    )
}

/// One options object: what was configured, what is wrong with it, and what came of it.
#[derive(Debug, Clone)]
struct Options {
    spec: Option<OptionsSpec>,
    findings: Vec<Finding>,
    ready: Outcome,
}

impl Options {
    fn refused(name: &Arc<str>, spec: Option<OptionsSpec>, findings: Vec<Finding>) -> Self {
        Self {
            spec,
            findings,
            ready: Err(Refusal::Options(Arc::clone(name))),
        }
    }
}

/// Options ready to shake hands with.
#[derive(Debug)]
pub(super) struct Ready {
    name: Arc<str>,
    sni_strict: bool,
    ticket_policy: Option<[u8; 32]>,
    configs: Configs,
    /// For clients that name no server, where a certificate names the address they came to.
    by_address: HashMap<IpAddr, Configs>,
}

impl Ready {
    fn new(
        name: &Arc<str>,
        settings: &Settings,
        config: ServerConfig,
        certificates: &CertificateTable,
    ) -> Self {
        let by_address = certificates.addresses().map(|(address, certificate)| {
            let mut config = config.clone();
            config.cert_resolver = Arc::new(Always(certificate)) as Arc<dyn ResolvesServerCert>;
            (address, Configs::new(config))
        });
        Self {
            name: Arc::clone(name),
            sni_strict: settings.sni_strict,
            ticket_policy: settings.ticket_policy,
            by_address: by_address.collect(),
            configs: Configs::new(config),
        }
    }

    fn select(&self, hello: &ClientHello<'_>, local: IpAddr) -> Selected<'_> {
        let configs = match hello.server_name() {
            None => self
                .by_address
                .get(&local.to_canonical())
                .unwrap_or(&self.configs),
            Some(_) => &self.configs,
        };
        Selected {
            config: configs.choose(hello.cipher_suites()),
            options: &self.name,
        }
    }
}

/// The same configuration twice: in our order of cipher suites, and in the client's.
#[derive(Debug)]
struct Configs {
    ours: Arc<ServerConfig>,
    clients: Arc<ServerConfig>,
}

impl Configs {
    fn new(config: ServerConfig) -> Self {
        let mut clients = config.clone();
        clients.ignore_client_order = false;
        Self {
            ours: Arc::new(config),
            clients: Arc::new(clients),
        }
    }

    /// A client that puts ChaCha20 before AES has no AES in hardware, and knows best; for all others AES-128 is the cheapest.
    fn choose(&self, offered: &[CipherSuite]) -> &Arc<ServerConfig> {
        let first = offered.iter().find_map(|suite| match suite {
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(&self.clients),
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(&self.ours),
            _ => None,
        });
        first.unwrap_or(&self.ours)
    }
}

/// What becomes of a handshake with some options.
pub(super) type Outcome = Result<Arc<Ready>, Refusal>;
type ByHost = HashMap<Box<str>, Outcome>;

/// What one entry point does with a handshake; held by the snapshot.
#[derive(Debug)]
pub struct SniTable {
    certificates: Arc<CertificateTable>,
    exact: ByHost,
    /// Keyed by what follows `*.`.
    wildcard: ByHost,
    fallback: Outcome,
}

/// What a connection is served with.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    /// Ready to shake hands with.
    pub config: &'a Arc<ServerConfig>,
    /// Name of the TLS options.
    pub options: &'a Arc<str>,
}

impl SniTable {
    /// The configuration for a client's first message; `local` is the address it connected to.
    pub fn config_for(
        &self,
        hello: &ClientHello<'_>,
        local: IpAddr,
    ) -> Result<Selected<'_>, Refusal> {
        let name = hello.server_name();
        let ready = self.find(name).as_ref().map_err(Refusal::clone)?;
        if ready.sni_strict && !self.certificates.covers(name, Some(local)) {
            return Err(Refusal::UnrecognizedName);
        }
        Ok(ready.select(hello, local))
    }

    /// Name of the options that connections for `host` (lower-case) are served with; the refusal if there are none.
    pub fn options_for(&self, host: &str) -> Result<&Arc<str>, &Refusal> {
        self.find(Some(host)).as_ref().map(|ready| &ready.name)
    }

    /// The certificates it chooses from.
    pub fn certificates(&self) -> &CertificateTable {
        &self.certificates
    }

    fn find(&self, name: Option<&str>) -> &Outcome {
        let Some(name) = name else {
            return &self.fallback;
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact
            .get(name)
            .or_else(wildcard)
            .unwrap_or(&self.fallback)
    }
}

/// Why a handshake is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `sniStrict`, and no certificate for the name.
    UnrecognizedName,
    /// The options of this name do not exist or cannot be served.
    Options(Arc<str>),
}

impl Refusal {
    /// The TLS record to send before closing.
    pub fn alert(&self) -> &'static [u8] {
        match self {
            // alert, TLS 1.2 framing, two bytes: fatal, unrecognized_name.
            Self::UnrecognizedName => &[21, 3, 3, 0, 2, 2, 112],
            // Nothing: the client learns no more than that this host is not served.
            Self::Options(_) => &[],
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnrecognizedName => f.write_str("no certificate for the server name (sniStrict)"),
            Self::Options(name) => write!(f, "TLS options `{name}` cannot be used"),
        }
    }
}
