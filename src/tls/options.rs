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
use crate::config::routing::{TlsOptions, TlsVersion};

/// Name of the options a router uses when it names none.
pub const DEFAULT_OPTIONS: &str = "default";

/// One options object as configured, with the files it names already read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionsSpec {
    /// As configured.
    pub options: TlsOptions,
    /// PEM text of each of `clientAuth.caFiles`, in order.
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
        let options = &spec.options;
        let versions = versions(options, &mut findings);
        let cipher_suites = cipher_suites(options, &versions, &mut findings);
        let kx_groups = curves(options, &mut findings);
        let provider = Arc::new(CryptoProvider {
            cipher_suites,
            kx_groups,
            ..aws_lc_rs::default_provider()
        });
        let client = client_auth::decode(spec, &provider, &mut findings);
        let (Some((verifier, policy)), false) =
            (client, findings.iter().any(|finding| finding.fatal))
        else {
            return (None, findings);
        };
        let settings = Self {
            sni_strict: options.sni_strict,
            ticket_policy: (!options.disable_session_tickets).then_some(policy),
            versions,
            provider,
            verifier,
            alpn: alpn(options),
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

fn versions(
    options: &TlsOptions,
    findings: &mut Vec<Finding>,
) -> Vec<&'static SupportedProtocolVersion> {
    let min = options.min_version.unwrap_or(TlsVersion::Tls12);
    let max = options.max_version.unwrap_or(TlsVersion::Tls13);
    if max < TlsVersion::Tls12 {
        findings.push(Finding::error(
            "maxVersion",
            "no version is left that is still secure",
            "use VersionTLS12 or VersionTLS13",
        ));
    } else if min < TlsVersion::Tls12 {
        findings.push(Finding::warning(
            "minVersion",
            "TLS 1.0 and 1.1 are broken and not spoken; the lowest version is TLS 1.2",
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
    [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, version)| version)
        .collect()
}

/// The configured list concerns TLS 1.2; those of TLS 1.3 are all safe and always on.
fn cipher_suites(
    options: &TlsOptions,
    versions: &[&'static SupportedProtocolVersion],
    findings: &mut Vec<Finding>,
) -> Vec<SupportedCipherSuite> {
    let mut chosen: Vec<CipherSuite> = Vec::new();
    for (index, name) in options.cipher_suites.iter().enumerate() {
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
    if options.cipher_suites.is_empty() {
        return all;
    }
    let usable: Vec<_> = all
        .into_iter()
        .filter(|suite| suite.tls13().is_some() || chosen.contains(&suite.suite()))
        .collect();
    let refused = findings.iter().any(|finding| finding.fatal);
    if !refused && usable.iter().all(|suite| suite.tls13().is_some()) && versions.contains(&&TLS12)
    {
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
    options: &TlsOptions,
    findings: &mut Vec<Finding>,
) -> Vec<&'static dyn rustls::crypto::SupportedKxGroup> {
    let mut chosen = Vec::new();
    for (index, name) in options.curve_preferences.iter().enumerate() {
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
    if options.curve_preferences.is_empty() {
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

/// `acme-tls/1` is not offered even if listed: a handshake that is to be answered so never gets here, and a client that finds the
/// protocol refused learns at once that there is nothing for it.
fn alpn(options: &TlsOptions) -> Vec<Vec<u8>> {
    match &options.alpn_protocols {
        None => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Some(protocols) => protocols
            .iter()
            .filter(|protocol| !protocol.is_empty() && *protocol != "acme-tls/1")
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::routing::{ClientAuth, ClientAuthType};

    fn decode(options: TlsOptions) -> (Option<Settings>, Vec<String>) {
        let spec = OptionsSpec {
            options,
            authorities: Vec::new(),
        };
        let (settings, findings) = Settings::decode(&spec);
        let fatal = findings.iter().any(|finding| finding.fatal);
        assert_eq!(settings.is_none(), fatal, "{findings:?}");
        (settings, findings.iter().map(ToString::to_string).collect())
    }

    fn suites(names: &[&str]) -> TlsOptions {
        TlsOptions {
            cipher_suites: names.iter().map(ToString::to_string).collect(),
            ..TlsOptions::default()
        }
    }

    /// Whether `options` can be served, and what the findings say; no text means no findings.
    fn check(options: TlsOptions, usable: bool, text: &str) {
        let shown = format!("{options:?}");
        let (settings, findings) = decode(options);
        assert_eq!(settings.is_some(), usable, "{shown}: {findings:?}");
        assert_eq!(
            findings.is_empty(),
            text.is_empty(),
            "{shown}: {findings:?}"
        );
        assert!(findings.join("\n").contains(text), "{shown}: {findings:?}");
    }

    #[test]
    fn limits_versions() {
        use TlsVersion::{Tls10, Tls11, Tls12, Tls13};
        let versions = |min_version, max_version| TlsOptions {
            min_version,
            max_version,
            ..TlsOptions::default()
        };
        check(TlsOptions::default(), true, "");
        check(
            versions(Some(Tls10), None),
            true,
            "minVersion: TLS 1.0 and 1.1 are broken",
        );
        check(
            versions(None, Some(Tls11)),
            false,
            "maxVersion: no version is left",
        );
        check(versions(Some(Tls13), Some(Tls12)), false, "swap");
    }

    #[test]
    fn knows_the_names_of_suites_and_curves() {
        let only12 = |names: &[&str]| TlsOptions {
            max_version: Some(TlsVersion::Tls12),
            ..suites(names)
        };
        check(suites(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]), true, "");
        let weak = ["TLS_RSA_WITH_AES_256_CBC_SHA"];
        check(
            suites(&weak),
            true,
            "cipherSuites[0]: `TLS_RSA_WITH_AES_256_CBC_SHA` is weak",
        );
        check(suites(&weak), true, "only TLS 1.3 is spoken");
        check(only12(&weak), false, "no suite is left");
        let typo = suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265"]);
        check(
            typo,
            false,
            "did you mean `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`?",
        );

        let curves = |names: &[&str]| TlsOptions {
            curve_preferences: names.iter().map(ToString::to_string).collect(),
            ..TlsOptions::default()
        };
        check(curves(&["CurveP256", "secp384r1", "x25519"]), true, "");
        let mixed = curves(&["CurveP521", "X25519"]);
        check(
            mixed,
            true,
            "curvePreferences[0]: `CurveP521` is not spoken",
        );
        check(curves(&["CurveP521"]), false, "no curve is left");
        check(curves(&["CurveP257"]), false, "did you mean `CurveP256`?");
    }

    #[test]
    fn needs_authorities_to_verify_clients() {
        let client = |kind| TlsOptions {
            client_auth: ClientAuth {
                ca_files: Vec::new(),
                client_auth_type: Some(kind),
            },
            ..TlsOptions::default()
        };
        check(client(ClientAuthType::NoClientCert), true, "");
        check(client(ClientAuthType::RequireAnyClientCert), true, "");
        let verify = client(ClientAuthType::VerifyClientCertIfGiven);
        check(
            verify,
            false,
            "clientAuth.caFiles: clients cannot be verified",
        );
    }

    #[test]
    fn keeps_the_suites_of_tls13_whatever_the_list_says() {
        let (settings, _) = decode(suites(&["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]));
        let names: Vec<_> = settings
            .unwrap()
            .provider
            .cipher_suites
            .iter()
            .map(|suite| suites::suite_name(suite.suite()))
            .collect();
        assert_eq!(
            names,
            [
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
            ]
        );
    }

    #[test]
    fn shares_tickets_only_among_equal_demands_on_clients() {
        let ca = include_str!("../../tests/fixtures/tls/ec.crt");
        let other = include_str!("../../tests/fixtures/tls/rsa.crt");
        let policy = |authorities: &[&str], disable_session_tickets| {
            let spec = OptionsSpec {
                options: TlsOptions {
                    disable_session_tickets,
                    ..TlsOptions::default()
                },
                authorities: authorities.iter().map(|text| Arc::from(*text)).collect(),
            };
            Settings::decode(&spec).0.unwrap().ticket_policy
        };
        assert_eq!(policy(&[ca], false), policy(&[ca], false));
        assert_ne!(policy(&[ca], false), policy(&[], false));
        assert_ne!(policy(&[ca], false), policy(&[other], false));
        assert_eq!(policy(&[], true), None);
    }
}
