//! The security half of `headers`: fields that browsers heed, and hosts that are refused.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::header_value;
use crate::{
    config::routing::Headers as Config,
    exchange::{Exchange, Response, fault::text_response},
    middleware::{random, report::Report},
};

#[derive(Debug)]
pub(super) struct Security {
    /// Fields of every answer.
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Fields of answers over HTTPS only.
    https_fields: Vec<(HeaderName, HeaderValue)>,
    nonce_fields: Vec<NonceField>,
    /// Request fields that mean HTTPS.
    https_signs: Vec<(HeaderName, HeaderValue)>,
    allowed_hosts: Vec<String>,
    host_fields: Vec<HeaderName>,
}

/// A field whose value holds a nonce: the parts of the text around it.
type NonceField = (HeaderName, Vec<String>);

impl Security {
    /// `Some(None)` if no security option is set, `None` if one is unusable.
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Option<Self>> {
        let mut fields = Fields::new(report);
        fields.transport_security(config);
        fields.plain(config);
        fields.policies(config);
        let signs = fields.signs(config);
        let host_fields = fields.names("hostsProxyHeaders", &config.hosts_proxy_headers);
        let security = Self {
            fields: fields.always,
            https_fields: fields.https,
            nonce_fields: fields.nonce,
            https_signs: signs,
            allowed_hosts: if config.is_development {
                Vec::new()
            } else {
                config.allowed_hosts.clone()
            },
            host_fields,
        };
        if !fields.usable {
            return None;
        }
        let idle = security.fields.is_empty()
            && security.https_fields.is_empty()
            && security.nonce_fields.is_empty()
            && security.allowed_hosts.is_empty();
        Some((!idle).then_some(security))
    }

    /// The answer to a request for a host that is not allowed.
    pub(super) fn refuse(&self, exchange: &Exchange) -> Option<Response> {
        if self.allowed_hosts.is_empty() {
            return None;
        }
        let head = &exchange.request;
        let proxied = self
            .host_fields
            .iter()
            .filter_map(|name| head.headers.get(name))
            .find(|value| !value.is_empty());
        let host = match proxied {
            Some(value) => value.as_bytes(),
            None => head.host.as_bytes().as_ref(),
        };
        let allowed = self
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(host));
        (!allowed).then(|| text_response(StatusCode::INTERNAL_SERVER_ERROR, "Bad Host\n"))
    }

    /// Adds the fields, over whatever the server said.
    pub(super) fn decorate(&self, exchange: &Exchange, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.insert(name, value.clone());
        }
        if !self.https_fields.is_empty() && self.is_https(exchange) {
            for (name, value) in &self.https_fields {
                headers.insert(name, value.clone());
            }
        }
        if !self.nonce_fields.is_empty() {
            let nonce = nonce();
            for (name, parts) in &self.nonce_fields {
                if let Ok(value) = HeaderValue::try_from(parts.join(&nonce)) {
                    headers.insert(name, value);
                }
            }
        }
    }

    fn is_https(&self, exchange: &Exchange) -> bool {
        exchange.connection.is_tls()
            || self
                .https_signs
                .iter()
                .any(|(name, value)| exchange.request.headers.get(name) == Some(value))
    }
}

/// Collects the fields of an answer while the configuration is read.
struct Fields<'r, 'a> {
    report: &'r mut Report<'a>,
    always: Vec<(HeaderName, HeaderValue)>,
    https: Vec<(HeaderName, HeaderValue)>,
    nonce: Vec<NonceField>,
    usable: bool,
}

impl<'r, 'a> Fields<'r, 'a> {
    fn new(report: &'r mut Report<'a>) -> Self {
        Self {
            report,
            always: Vec::new(),
            https: Vec::new(),
            nonce: Vec::new(),
            usable: true,
        }
    }

    fn transport_security(&mut self, config: &Config) {
        if config.is_development {
            return;
        }
        if config.sts_seconds > 0 {
            let mut text = format!("max-age={}", config.sts_seconds);
            if config.sts_include_subdomains {
                text.push_str("; includeSubDomains");
            }
            if config.sts_preload {
                text.push_str("; preload");
            }
            if let Some(value) = self.value("stsSeconds", &text) {
                let list = if config.force_sts_header {
                    &mut self.always
                } else {
                    &mut self.https
                };
                list.push((header::STRICT_TRANSPORT_SECURITY, value));
            }
        }
        if let Some(pins) = self.value("publicKey", &config.public_key) {
            let name = HeaderName::from_static("public-key-pins");
            self.https.push((name, pins));
        }
    }

    fn plain(&mut self, config: &Config) {
        let frame = if config.custom_frame_options_value.is_empty() && config.frame_deny {
            "DENY"
        } else {
            &config.custom_frame_options_value
        };
        let xss = if config.custom_browser_xss_value.is_empty() && config.browser_xss_filter {
            "1; mode=block"
        } else {
            &config.custom_browser_xss_value
        };
        let nosniff = if config.content_type_nosniff {
            "nosniff"
        } else {
            ""
        };
        for (field, name, text) in [
            ("customFrameOptionsValue", header::X_FRAME_OPTIONS, frame),
            ("customBrowserXSSValue", header::X_XSS_PROTECTION, xss),
            (
                "contentTypeNosniff",
                header::X_CONTENT_TYPE_OPTIONS,
                nosniff,
            ),
        ] {
            if let Some(value) = self.value(field, text) {
                self.always.push((name, value));
            }
        }
    }

    fn policies(&mut self, config: &Config) {
        for (field, name, text) in [
            (
                "contentSecurityPolicy",
                header::CONTENT_SECURITY_POLICY,
                &config.content_security_policy,
            ),
            (
                "contentSecurityPolicyReportOnly",
                header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
                &config.content_security_policy_report_only,
            ),
            (
                "referrerPolicy",
                header::REFERRER_POLICY,
                &config.referrer_policy,
            ),
            (
                "permissionsPolicy",
                HeaderName::from_static("permissions-policy"),
                &config.permissions_policy,
            ),
        ] {
            let Some(value) = self.value(field, text) else {
                continue;
            };
            if field.starts_with("content") && text.contains("$NONCE") {
                let parts = text.trim().split("$NONCE").map(str::to_owned).collect();
                self.nonce.push((name, parts));
            } else {
                self.always.push((name, value));
            }
        }
    }

    fn signs(&mut self, config: &Config) -> Vec<(HeaderName, HeaderValue)> {
        let mut signs = Vec::new();
        for (name, text) in &config.ssl_proxy_headers {
            let field = format!("sslProxyHeaders.{name}");
            let names = self.names(&field, std::slice::from_ref(name));
            let value = self.value(&field, text);
            signs.extend(names.into_iter().zip(value));
        }
        signs
    }

    fn names(&mut self, field: &str, names: &[String]) -> Vec<HeaderName> {
        let mut known = Vec::with_capacity(names.len());
        for name in names {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => known.push(name),
                Err(_) => {
                    self.usable = false;
                    self.report
                        .error(field, format!("{name:?} is not a header name"));
                }
            }
        }
        known
    }

    /// The text as a value; `None` if it is empty or unusable.
    fn value(&mut self, field: &str, text: &str) -> Option<HeaderValue> {
        if text.is_empty() {
            return None;
        }
        let value = header_value(field, text, self.report);
        self.usable &= value.is_some();
        value
    }
}

/// `'nonce-…'` with 128 random bits.
fn nonce() -> String {
    let mut bytes = [0; 16];
    if !random::fill(&mut bytes) {
        // A policy without a nonce lets no script run, which is the safe side.
        return "'none'".to_owned();
    }
    format!("'nonce-{}'", STANDARD_NO_PAD.encode(bytes))
}
