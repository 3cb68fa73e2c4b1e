//! Which certificate every host of a configuration would have, and where it would come from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{cli::offline::Offline, observe::clock_text, snapshot::Demand, tls::Certificate};

/// What a host would be served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) source: Source,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// It is configured.
    Configured { names: Vec<String>, until: String },
    /// A resolver obtains it.
    Resolver {
        name: String,
        challenge: Option<&'static str>,
        names: Vec<String>,
    },
    /// There is none but the default one.
    Default,
}

impl Host {
    /// Every host that is asked for over TLS, and every name that a resolver is asked for.
    pub(super) fn all(offline: &Offline) -> Vec<Self> {
        let snapshot = &offline.compiled.snapshot;
        let mut names: BTreeMap<String, Option<&Demand>> = BTreeMap::new();
        for route in snapshot.routes.iter() {
            let secure = route.tls_options.is_some() && !route.internal;
            for host in route.matcher.hosts().into_iter().filter(|_| secure) {
                names.insert(host.to_ascii_lowercase(), None);
            }
        }
        for demand in snapshot.demands.iter() {
            for name in &demand.names {
                names.entry(name.clone()).or_default().get_or_insert(demand);
            }
        }
        let all = names.into_iter().map(|(name, demand)| {
            let demand = demand.or_else(|| {
                let mut demands = snapshot.demands.iter();
                demands.find(|demand| demand.names.iter().any(|own| covers(own, &name)))
            });
            let source = Source::of(offline, &name, demand);
            Self { name, source }
        });
        all.collect()
    }

    pub(super) fn as_json(&self) -> Value {
        match &self.source {
            Source::Configured { names, until } => {
                json!({"host": self.name, "source": "configured", "names": names, "until": until})
            }
            Source::Resolver {
                name,
                challenge,
                names,
            } => {
                json!({"host": self.name, "source": "resolver", "resolver": name, "challenge": challenge, "names": names})
            }
            Source::Default => json!({"host": self.name, "source": "default"}),
        }
    }

    fn what(&self) -> String {
        match &self.source {
            Source::Configured { names, until } => {
                format!(
                    "the configured certificate for {} (until {until})",
                    names.join(", ")
                )
            }
            Source::Resolver {
                name,
                challenge,
                names,
            } => {
                let others = names.iter().filter(|name| **name != self.name);
                let others: Vec<&str> = others.map(String::as_str).collect();
                let with = match others.is_empty() {
                    true => String::new(),
                    false => format!(", together with {}", others.join(", ")),
                };
                match challenge {
                    Some(challenge) => format!("from resolver `{name}` by {challenge}{with}"),
                    None => format!(
                        "the default certificate: resolver `{name}` has no challenge for it"
                    ),
                }
            }
            Source::Default => "the default certificate".to_owned(),
        }
    }
}

impl Source {
    /// What is configured and valid is not ordered.
    fn of(offline: &Offline, name: &str, demand: Option<&Demand>) -> Self {
        let tls = offline.compiled.snapshot.tls.as_deref();
        let table = tls.map(|tls| tls.certificates());
        let table = table.filter(|table| table.covers(Some(name), None));
        let configured = table.and_then(|table| table.certificate(Some(name), None));
        let found = |certificate: &Certificate| {
            let facts = certificate.facts();
            let seconds = u64::try_from(facts.not_after).unwrap_or_default();
            let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let valid = end > std::time::SystemTime::now();
            let until = clock_text(end).chars().take(10).collect();
            let names = facts.names.clone();
            (valid, Self::Configured { names, until })
        };
        match (configured.map(|one| found(one)), demand) {
            (Some((true, configured)), _) | (Some((_, configured)), None) => configured,
            (_, Some(demand)) => {
                let resolvers = &offline.install.certificates_resolvers;
                let acme = resolvers.get(&*demand.resolver);
                let acme = acme.and_then(|resolver| resolver.acme.as_ref());
                Self::Resolver {
                    name: demand.resolver.to_string(),
                    challenge: acme.and_then(|acme| acme.challenges_for(&demand.names).next()),
                    names: demand.names.clone(),
                }
            }
            (None, None) => Self::Default,
        }
    }
}

/// The lines for people; none if there are no hosts.
pub(super) fn lines(hosts: &[Host]) -> Vec<String> {
    let width = hosts.iter().map(|host| host.name.chars().count()).max();
    let line = |host: &Host| {
        let width = width.unwrap_or(0);
        format!("  {:width$}  {}", host.name, host.what())
    };
    let heading = (!hosts.is_empty()).then(|| "Certificates:".to_owned());
    heading.into_iter().chain(hosts.iter().map(line)).collect()
}

fn covers(own: &str, name: &str) -> bool {
    let wildcard = || own.strip_prefix("*.").zip(name.split_once('.'));
    own == name || wildcard().is_some_and(|(rest, (first, tail))| rest == tail && first != "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_its_certificate_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let own = rcgen::generate_simple_self_signed(["*.files.test".to_owned()]).unwrap();
        let certificate = write("a.crt", own.cert.pem());
        let key = write("a.key", own.signing_key.serialize_pem());
        let routing = write(
            "routing.yml",
            format!(
                "http:
  routers:
    a: {{rule: 'Host(`b.test`) || Host(`A.test`)', service: s, tls: {{certResolver: le}}}}
    b: {{rule: 'Host(`x.files.test`)', service: s, tls: {{certResolver: le}}}}
    c: {{rule: 'Host(`c.test`)', service: s, tls: {{}}}}
    d: {{rule: 'Host(`d.test`)', service: s, tls: {{certResolver: bare}}}}
    e: {{rule: 'PathPrefix(`/`)', service: s, tls: {{certResolver: le, domains: [{{main: e.test}}]}}}}
    plain: {{rule: 'Host(`plain.test`)', service: s}}
  services: {{s: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:1'}}]}}}}}}
tls: {{certificates: [{{certFile: '{certificate}', keyFile: '{key}'}}]}}
"
            ),
        );
        let arguments = [
            format!("--providers.file.filename={routing}"),
            "--entryPoints.web.address=:80".to_owned(),
            "--certificatesResolvers.le.acme.httpChallenge.entryPoint=web".to_owned(),
            "--certificatesResolvers.bare.acme.email=me@example.com".to_owned(),
        ];
        let hosts = Host::all(&Offline::of(&arguments));
        let lines = lines(&hosts);
        for (line, expected) in lines.iter().zip([
            "Certificates:",
            "  a.test        from resolver `le` by http-01, together with b.test",
            "  b.test        from resolver `le` by http-01, together with a.test",
            "  c.test        the default certificate",
            "  d.test        the default certificate: resolver `bare` has no challenge for it",
            "  e.test        from resolver `le` by http-01",
            "  x.files.test  the configured certificate for *.files.test, ",
        ]) {
            assert!(
                line.starts_with(expected)
                    || (expected.contains("*.files")
                        && line.contains("the configured certificate for")),
                "{line}\n{expected}"
            );
        }
        assert_eq!(lines.len(), 7, "{lines:#?}");
        let json = hosts[0].as_json();
        assert_eq!(
            (&json["resolver"], &json["challenge"]),
            (&json!("le"), &json!("http-01"))
        );
    }

    /// What is found in a router, and in options.
    fn findings(router: &str, options: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routing.yml");
        let text = format!(
            "http:
  services: {{s: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:1'}}]}}}}}}
  routers:
    r: {{service: s, {router}}}
"
        );
        std::fs::write(&path, text).unwrap();
        let mut arguments = vec![
            format!("--providers.file.filename={}", path.display()),
            "--entryPoints.web.address=:80".to_owned(),
            "--certificatesResolvers.le.acme.httpChallenge.entryPoint=web".to_owned(),
        ];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let offline = Offline::of(&arguments);
        let found = offline.compiled.diagnostics().iter();
        found.map(ToString::to_string).collect()
    }

    #[test]
    fn what_keeps_a_certificate_from_coming_is_told_at_its_place() {
        let sans = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("h{number}.test")).collect();
            format!(
                "rule: 'PathPrefix(`/`)', tls: {{certResolver: le, domains: [{{main: a.test, sans: [{}]}}]}}",
                names.join(", ")
            )
        };
        let (some, many, more) = (sans(63), sans(64), sans(100));
        for (router, place, parts) in [
            (
                "rule: 'Host(`a.test`)', tls: {certResolver: lee}",
                "routing.yml:4:",
                &[
                    "there is no certificates resolver `lee`",
                    "did you mean `le`?",
                ][..],
            ),
            (
                "rule: 'PathPrefix(`/`)', tls: {certResolver: le}",
                "routing.yml:4:",
                &["the rule has no `Host`"],
            ),
            (
                "rule: 'Host(`*.a.test`)', tls: {certResolver: le}",
                "routing.yml:4:",
                &[
                    "`*.a.test`",
                    "a wildcard needs a resolver with `dnsChallenge`",
                ],
            ),
            (
                "rule: 'Host(`a.test`)', tls: {certResolver: le, domains: [{main: a_b.test}]}",
                "routing.yml:4:",
                &["`a_b.test`", "it is not a domain name"],
            ),
            (&some, "", &[]),
            (
                &many,
                "routing.yml:4:",
                &["one certificate with 65 names", "up to 64 names each"],
            ),
            (
                &more,
                "routing.yml:4:",
                &["no certificate is asked for: 101 names"],
            ),
        ] {
            let found = findings(router, &[]);
            let fits = |line: &&String| {
                line.contains(place) && parts.iter().all(|part| line.contains(part))
            };
            assert_eq!(
                found.len(),
                usize::from(!parts.is_empty()),
                "{router}: {found:?}"
            );
            assert_eq!(found.iter().filter(fits).count(), found.len(), "{found:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_resolver_is_told_at_its_option() {
        let router = "rule: 'Host(`a.test`)', tls: {}";
        for (option, parts) in [
            (
                "--entryPoints.web.http.tls.certResolver=lo",
                &[
                    "there is no certificates resolver `lo`",
                    "did you mean `le`?",
                ][..],
            ),
            (
                "--certificatesResolvers.le.acme.keyType=RSA2049",
                &["there is no key type \"RSA2049\"", "RSA2048"],
            ),
            (
                "--certificatesResolvers.le.acme.email=me",
                &["is not an email address"],
            ),
            (
                "--certificatesResolvers.le.acme.eab.kid=k",
                &["eab.hmacEncoded"],
            ),
            (
                "--certificatesResolvers.le.acme.caServer=https://acme.zerossl.com/v2/DV90",
                &["acme.eab", "no new account without it"],
            ),
            (
                "--certificatesResolvers.other.acme.httpChallenge.entryPoint=wep",
                &["there is no entry point \"wep\"", "web"],
            ),
        ] {
            let found = findings(router, &[option]);
            let fits = |line: &&String| parts.iter().all(|part| line.contains(part));
            assert!(found.iter().any(|line| fits(&line)), "{option}: {found:?}");
        }
    }
}
