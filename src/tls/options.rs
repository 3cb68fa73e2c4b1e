//! TLS options (`tls.options.<name>`): from configured names to what rustls needs, with a finding for whatever cannot be had.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::client_auth;
use super::finding::Finding;
use super::suites::{self, Named};

/// Name of the options a router uses when it names none.
pub const DEFAULT_OPTIONS: &str = "default";

/// One options object as configured, certificate files already read; empty means absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionsSpec {
    /// `minVersion`, e.g. `VersionTLS12`.
    pub min_version: String,
    /// `maxVersion`, e.g. `VersionTLS13`.
    pub max_version: String,
    /// `cipherSuites`, Go's names; they concern TLS 1.2 only.
    pub cipher_suites: Vec<String>,
    /// `curvePreferences`.
    pub curve_preferences: Vec<String>,
    /// `clientAuth`.
    pub client_auth: ClientAuth,
    /// `sniStrict`.
    pub sni_strict: bool,
    /// `alpnProtocols`; `None` for the default.
    pub alpn_protocols: Option<Vec<String>>,
    /// `disableSessionTickets`.
    pub disable_session_tickets: bool,
}

/// Which client certificates are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientAuth {
    /// `clientAuthType`.
    pub kind: String,
    /// PEM text of each of `caFiles`.
    pub authorities: Vec<Arc<str>>,
}

/// Options that can be served: everything of a [`ServerConfig`] but the certificates and the ticket keys.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) sni_strict: bool,
    /// `None` if sessions must not be resumed; else whoever shares this value may resume each other's sessions.
    pub(super) ticket_policy: Option<[u8; 32]>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    alpn: Vec<Vec<u8>>,
}

impl Settings {
    /// Decodes `spec`; `None` if it cannot be served, and then one of the findings is fatal.
    pub(super) fn decode(spec: &OptionsSpec) -> (Option<Self>, Vec<Finding>) {
        let mut findings = Vec::new();
        let versions = versions(spec, &mut findings);
        let cipher_suites = cipher_suites(spec, &versions, &mut findings);
        let kx_groups = curves(spec, &mut findings);
        let provider = Arc::new(CryptoProvider {
            cipher_suites,
            kx_groups,
            ..aws_lc_rs::default_provider()
        });
        let client = client_auth::decode(&spec.client_auth, &provider, &mut findings);
        let (Some((verifier, policy)), false) =
            (client, findings.iter().any(|finding| finding.fatal))
        else {
            return (None, findings);
        };
        let settings = Self {
            sni_strict: spec.sni_strict,
            ticket_policy: (!spec.disable_session_tickets).then_some(policy),
            versions,
            provider,
            verifier,
            alpn: alpn(spec),
        };
        (Some(settings), findings)
    }

    /// A configuration that takes its certificates from `resolver` and its ticket keys from `tickets`.
    pub(super) fn server_config(
        &self,
        resolver: Arc<dyn ResolvesServerCert>,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&self.versions)?
            .with_client_cert_verifier(Arc::clone(&self.verifier))
            .with_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&self.alpn);
        config.ignore_client_order = true;
        // Tickets carry the session, so that every worker (and the next configuration) can resume it; a cache could not.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // One ticket as Go sends: each costs an encryption per full handshake, and clients that want more ask again.
        config.send_tls13_tickets = usize::from(tickets.is_some());
        if let Some(tickets) = tickets {
            config.ticketer = tickets;
        }
        Ok(config)
    }
}

/// Position of a configured version among 1.0 to 1.3; `None` if absent or unknown.
fn version(field: &str, value: &str, findings: &mut Vec<Finding>) -> Option<u8> {
    const NAMES: [&str; 4] = [
        "VersionTLS10",
        "VersionTLS11",
        "VersionTLS12",
        "VersionTLS13",
    ];
    if value.is_empty() {
        return None;
    }
    let position = (0..).zip(NAMES).find(|(_, name)| *name == value);
    if position.is_none() {
        let hint = suites::nearest(value, NAMES).map_or_else(
            || "use VersionTLS12 or VersionTLS13".to_owned(),
            |name| format!("did you mean `{name}`?"),
        );
        findings.push(Finding::warning(
            field,
            format!("`{value}` is not a TLS version; the default is used"),
            hint,
        ));
    }
    position.map(|(position, _)| position)
}

fn versions(
    spec: &OptionsSpec,
    findings: &mut Vec<Finding>,
) -> Vec<&'static SupportedProtocolVersion> {
    const TLS12_POSITION: u8 = 2;
    const TLS13_POSITION: u8 = 3;
    let min = version("minVersion", &spec.min_version, findings).unwrap_or(TLS12_POSITION);
    let max = version("maxVersion", &spec.max_version, findings).unwrap_or(TLS13_POSITION);
    if max < TLS12_POSITION {
        findings.push(Finding::error(
            "maxVersion",
            format!(
                "`{}` leaves no version that is still secure",
                spec.max_version
            ),
            "use VersionTLS12 or VersionTLS13",
        ));
    } else if min < TLS12_POSITION {
        findings.push(Finding::warning(
            "minVersion",
            format!(
                "`{}` is broken and not spoken; TLS 1.2 is the lowest version",
                spec.min_version
            ),
            "set VersionTLS12; clients that cannot do better are refused",
        ));
    }
    if min > max {
        findings.push(Finding::error(
            "minVersion",
            "the lowest version is above the highest",
            "swap minVersion and maxVersion",
        ));
    }
    [(TLS13_POSITION, &TLS13), (TLS12_POSITION, &TLS12)]
        .into_iter()
        .filter(|(position, _)| (min..=max).contains(position))
        .map(|(_, version)| version)
        .collect()
}

/// The configured list concerns TLS 1.2; those of TLS 1.3 are all safe and always on.
fn cipher_suites(
    spec: &OptionsSpec,
    versions: &[&'static SupportedProtocolVersion],
    findings: &mut Vec<Finding>,
) -> Vec<SupportedCipherSuite> {
    let mut chosen: Vec<CipherSuite> = Vec::new();
    for (index, name) in spec.cipher_suites.iter().enumerate() {
        let field = format!("cipherSuites[{index}]");
        match suites::suite(name) {
            Named::Known(suite) => chosen.push(suite),
            Named::Unsupported => findings.push(Finding::warning(
                field,
                format!("`{name}` is weak and not spoken; it is left out"),
                "remove it; every client of the last ten years speaks an ECDHE suite with GCM",
            )),
            Named::Unknown(nearest) => findings.push(unknown(field, name, "cipher suite", nearest)),
        }
    }
    let all: Vec<_> = suites::SUITES.iter().map(|(_, suite)| *suite).collect();
    if spec.cipher_suites.is_empty() {
        return all;
    }
    let usable: Vec<_> = all
        .into_iter()
        .filter(|suite| suite.tls13().is_some() || chosen.contains(&suite.suite()))
        .collect();
    if usable.iter().all(|suite| suite.tls13().is_some()) && versions.contains(&&TLS12) {
        findings.push(only_tls13(versions));
    }
    usable
}

fn only_tls13(versions: &[&'static SupportedProtocolVersion]) -> Finding {
    let hint =
        "add TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 and TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    if versions.contains(&&TLS13) {
        Finding::warning(
            "cipherSuites",
            "no suite of TLS 1.2 is left; only TLS 1.3 is spoken",
            hint,
        )
    } else {
        Finding::error("cipherSuites", "no suite is left that can be spoken", hint)
    }
}

fn curves(
    spec: &OptionsSpec,
    findings: &mut Vec<Finding>,
) -> Vec<&'static dyn rustls::crypto::SupportedKxGroup> {
    let mut chosen = Vec::new();
    for (index, name) in spec.curve_preferences.iter().enumerate() {
        let field = format!("curvePreferences[{index}]");
        match suites::curve(name) {
            Named::Known(group) => chosen.push(group),
            Named::Unsupported => findings.push(Finding::warning(
                field,
                format!("`{name}` is not spoken; it is left out"),
                "use X25519MLKEM768, X25519, CurveP256 or CurveP384",
            )),
            Named::Unknown(nearest) => findings.push(unknown(field, name, "curve", nearest)),
        }
    }
    if spec.curve_preferences.is_empty() {
        return suites::default_curves();
    }
    if chosen.is_empty() {
        findings.push(Finding::error(
            "curvePreferences",
            "no curve is left that can be spoken",
            "add X25519 or CurveP256, or remove the option",
        ));
    }
    chosen
}

fn unknown(field: String, name: &str, what: &str, nearest: Option<&'static str>) -> Finding {
    let hint = nearest.map_or_else(
        || format!("remove it, or use the name of a {what} as Go writes it"),
        |name| format!("did you mean `{name}`?"),
    );
    Finding::error(field, format!("`{name}` is not a known {what}"), hint)
}

/// `acme-tls/1` is not offered even if listed: nothing answers such a handshake, and a client that finds the protocol
/// refused learns so at once.
fn alpn(spec: &OptionsSpec) -> Vec<Vec<u8>> {
    match &spec.alpn_protocols {
        None => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Some(protocols) => protocols
            .iter()
            .filter(|protocol| !protocol.is_empty() && *protocol != "acme-tls/1")
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect(),
    }
}
