//! What is wrong with `certificatesResolvers`. A resolver that cannot act costs nobody but itself, so these are warnings.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    decode::{did_you_mean, join},
    diagnostic::{About, Diagnostic, Places},
    dns::{DNS_PROVIDERS, DnsProvider, Variables},
    install::{AcmeResolver, DnsChallenge, Install, KEY_TYPES},
};

/// Everything there is to say.
pub(super) fn check(
    install: &Install,
    places: &Places,
    variables: &Variables<'_>,
) -> Vec<Diagnostic> {
    let mut check = Check {
        install,
        places,
        variables,
        found: Vec::new(),
    };
    for (name, resolver) in &install.certificates_resolvers {
        let path = format!("certificatesResolvers.{name}");
        match &resolver.acme {
            Some(acme) => check.acme(&join(&path, "acme"), acme),
            None if resolver.tailscale.is_some() => {}
            None => check.say(&path, "has no `acme` and issues nothing", None),
        }
    }
    for (name, door) in &install.entry_points {
        let resolver = door.http.tls.as_ref().map(|tls| &tls.cert_resolver);
        if let Some(resolver) = resolver.filter(|name| !name.is_empty()) {
            check.named(
                &format!("entryPoints.{name}.http.tls.certResolver"),
                resolver,
            );
        }
    }
    check.found
}

struct Check<'a> {
    install: &'a Install,
    places: &'a Places,
    variables: &'a Variables<'a>,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    /// A reference to a resolver.
    fn named(&mut self, path: &str, name: &str) {
        let resolvers = &self.install.certificates_resolvers;
        if !resolvers.contains_key(name) {
            let known: Vec<&str> = resolvers.keys().map(String::as_str).collect();
            let message = format!("there is no certificates resolver `{name}`");
            self.say(path, &message, did_you_mean(name, &known));
        }
    }

    fn acme(&mut self, path: &str, acme: &AcmeResolver) {
        for (field, wrong) in acme.problems(self.variables) {
            self.say(&join(path, field), &wrong, None);
        }
        if let Some(dns) = &acme.dns_challenge {
            self.dns(&join(path, "dnsChallenge"), dns);
        }
        if !KEY_TYPES.contains(&acme.key_type.as_str()) {
            let message = format!("there is no key type {:?}: RSA4096 is used", acme.key_type);
            let hint = did_you_mean(&acme.key_type, &KEY_TYPES);
            self.say(&join(path, "keyType"), &message, hint);
        }
        if let Some(http) = &acme.http_challenge
            && !self.install.entry_points.contains_key(&http.entry_point)
        {
            let known: Vec<&str> = self
                .install
                .entry_points
                .keys()
                .map(String::as_str)
                .collect();
            let message = match http.entry_point.as_str() {
                "" => "is missing: the entry point that listens on port 80".to_owned(),
                name => format!("there is no entry point {name:?}"),
            };
            let hint = did_you_mean(&http.entry_point, &known);
            self.say(&join(path, "httpChallenge.entryPoint"), &message, hint);
        }
        let server = acme.ca_server.strip_prefix("https://").unwrap_or_default();
        let host = server.split(['/', ':']).next().unwrap_or_default();
        if acme.eab.is_none() && NEEDS_EAB.contains(&host) {
            let message = "is missing, and this authority registers no new account without it";
            let hint = "it shows `kid` and `hmacEncoded` on its own site";
            self.say(&join(path, "eab"), message, Some(hint.to_owned()));
        }
        let duration = join(path, "certificatesDuration");
        if self.places.wrote(&duration) {
            let message = "has no effect: certificates say themselves when they end";
            self.say(&duration, message, None);
        }
        if !acme.email_addresses.is_empty() {
            let path = join(path, "emailAddresses");
            let message = "is known, but not supported by this version";
            let found = Diagnostic::warning(self.places.at(&path).clone(), path, message);
            self.found.push(found.about(About::Unsupported));
        }
        let local = acme.http_challenge.is_some() || acme.tls_challenge.is_some();
        if !local && acme.dns_challenge.is_none() {
            let hint = "add `httpChallenge`, `tlsChallenge` or `dnsChallenge`";
            let message = "has no challenge, and gets no certificate";
            self.say(path, message, Some(hint.to_owned()));
        }
    }

    fn dns(&mut self, path: &str, dns: &DnsChallenge) {
        if !dns.provider.is_empty() && DnsProvider::find(&dns.provider).is_none() {
            let known: Vec<&str> = DNS_PROVIDERS.iter().map(|one| one.name).collect();
            let near = did_you_mean(&dns.provider, &known);
            let others = "`exec` and `httpreq` serve all that are not built in".to_owned();
            let message = format!("there is no provider {:?}", dns.provider);
            self.say(&join(path, "provider"), &message, near.or(Some(others)));
        }
        for (old, new) in [
            ("delayBeforeCheck", "propagation.delayBeforeChecks"),
            ("disablePropagationCheck", "propagation.disableChecks"),
        ] {
            let old = join(path, old);
            if self.places.wrote(&old) {
                self.say(&old, "is deprecated", Some(format!("use `{new}`")));
            }
        }
    }

    fn say(&mut self, path: &str, message: &str, hint: Option<String>) {
        let mut found = Diagnostic::warning(self.places.at(path).clone(), path, message);
        found.hint = hint;
        self.found.push(found);
    }
}

impl AcmeResolver {
    /// Why it cannot act, by option.
    pub fn problems(&self, variables: &Variables<'_>) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut add = |field, wrong: &str| problems.push((field, wrong.to_owned()));
        if self.storage.is_empty() {
            add("storage", "is missing: the file that keeps certificates");
        }
        let server = self.ca_server.strip_prefix("https://");
        if server.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            add("caServer", "must be a URL that begins with `https://`");
        }
        if self.client_response_header_timeout.nanos() > self.client_timeout.nanos() {
            let wrong = "must not be longer than `clientTimeout`";
            add("clientResponseHeaderTimeout", wrong);
        }
        if !self.email.is_empty() && !is_email(&self.email) {
            add("email", "is not an email address");
        }
        if let Some(eab) = &self.eab {
            if eab.kid.is_empty() {
                add("eab.kid", "is missing");
            }
            if self.eab_key().is_none_or(|key| key.is_empty()) {
                add("eab.hmacEncoded", "is not a key in base64url form");
            }
        }
        if let Some(dns) = &self.dns_challenge {
            let provider = DnsProvider::find(&dns.provider);
            match provider.map(|provider| provider.problem(variables)) {
                Some(Some(wrong)) => add("dnsChallenge.provider", &wrong),
                Some(None) => {}
                None if dns.provider.is_empty() => {
                    add("dnsChallenge.provider", "is missing: who changes the zone");
                }
                // Said with a suggestion.
                None => {}
            }
        }
        problems
    }

    /// The challenges by which `names` can be proven, as authorities call them, the preferred one first.
    pub fn challenges_for(&self, names: &[String]) -> impl Iterator<Item = &'static str> {
        let wildcard = names.iter().any(|name| name.starts_with("*."));
        let tls = self.tls_challenge.as_ref().map(|_| "tls-alpn-01");
        let http = self.http_challenge.as_ref().map(|_| "http-01");
        let dns = self.dns_challenge.as_ref().map(|_| "dns-01");
        let plain = tls.into_iter().chain(http);
        dns.into_iter().chain(plain.filter(move |_| !wildcard))
    }

    /// The decoded key of the external account.
    pub fn eab_key(&self) -> Option<Vec<u8>> {
        let text = self.eab.as_ref()?.hmac_encoded.expose().trim();
        LENIENT.decode(text).ok()
    }
}

fn is_email(text: &str) -> bool {
    let parts = text.split_once('@');
    let plain = !text.contains(|c: char| c.is_whitespace() || c == ',');
    plain && parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
}

/// Authorities that know their accounts by other means first.
const NEEDS_EAB: [&str; 4] = [
    "acme.zerossl.com",
    "dv.acme-v02.api.pki.goog",
    "acme.ssl.com",
    "acme.sectigo.com",
];

/// Base64url with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Root;
    use crate::config::install::ExternalAccount;
    use crate::config::units::Span;

    /// What is changed in the default, and the options that are wrong then.
    type Case = (fn(&mut AcmeResolver), &'static [&'static str]);

    #[test]
    fn what_keeps_a_resolver_from_acting_is_named() {
        fn eab(resolver: &mut AcmeResolver, kid: &str, key: &str) {
            resolver.eab = Some(ExternalAccount {
                kid: kid.to_owned(),
                hmac_encoded: key.into(),
            });
        }
        fn dns(resolver: &mut AcmeResolver, provider: &str) {
            resolver.dns_challenge = Some(DnsChallenge {
                provider: provider.to_owned(),
                ..DnsChallenge::default()
            });
        }
        let environment = [("DO_AUTH_TOKEN".to_owned(), "t".to_owned())];
        let variables = Variables::new(&environment, Root::Here);
        let cases: [Case; 11] = [
            (|_| {}, &[]),
            (|acme| acme.storage.clear(), &["storage"]),
            (
                |acme| acme.ca_server = "http://ca/dir".to_owned(),
                &["caServer"],
            ),
            (|acme| acme.email = "me".to_owned(), &["email"]),
            (
                |acme| acme.client_timeout = Span::from_secs(5),
                &["clientResponseHeaderTimeout"],
            ),
            (|acme| eab(acme, "", "%"), &["eab.kid", "eab.hmacEncoded"]),
            (
                |acme| eab(acme, "kid", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"),
                &[],
            ),
            (|acme| eab(acme, "kid", "YQ=="), &[]),
            (|acme| dns(acme, "digitalocean"), &[]),
            (|acme| dns(acme, "cloudflare"), &["dnsChallenge.provider"]),
            (|acme| dns(acme, ""), &["dnsChallenge.provider"]),
        ];
        for (change, expected) in cases {
            let mut acme = AcmeResolver::default();
            change(&mut acme);
            let problems = acme.problems(&variables);
            let found: Vec<&str> = problems.iter().map(|(field, _)| *field).collect();
            assert_eq!(found, expected, "{acme:?}");
        }
    }
}
