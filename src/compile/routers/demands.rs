//! Which certificates the routers ask certificates resolvers for, and what is wrong with what they ask.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::draft::Draft;
use crate::{
    compile::Stage,
    config::{
        Diagnostic, Kind,
        definitions::nearest,
        install::AcmeResolver,
        routing::{Domain, RouterTls},
    },
    snapshot::Demand,
};

/// The certificates that `drafts` ask for, each set of names once per resolver.
pub(super) fn collect(
    stage: &Stage<'_>,
    drafts: &[Draft],
    findings: &mut Vec<Diagnostic>,
) -> Arc<[Demand]> {
    let mut demands = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |demand: Demand| {
        let set: BTreeSet<String> = demand.names.iter().cloned().collect();
        if seen.insert((Arc::clone(&demand.resolver), set)) {
            demands.push(demand);
        }
    };
    for draft in drafts {
        of(stage, draft, findings).into_iter().for_each(&mut add);
    }
    if let Some(demand) = of_default_store(stage, findings) {
        add(demand);
    }
    demands.into()
}

/// What the default store asks for, to serve where no other certificate does.
fn of_default_store(stage: &Stage<'_>, findings: &mut Vec<Diagnostic>) -> Option<Demand> {
    let store = stage.wanted.tls_stores.get(DEFAULT_STORE)?;
    let wanted = store.object.default_generated_cert.as_ref()?;
    if store.object.default_certificate.is_some() {
        // It wins.
        return None;
    }
    let mut warn = |field: &str, message: String| {
        let field = format!("defaultGeneratedCert.{field}");
        findings.push(store.warning(Kind::TlsStore, &field, message));
    };
    let resolvers = &stage.input.install.certificates_resolvers;
    let Some(resolver) = resolvers.get(&wanted.resolver) else {
        let name = &wanted.resolver;
        warn(
            "resolver",
            format!("there is no certificates resolver `{name}`"),
        );
        return None;
    };
    let names = wanted
        .domain
        .as_ref()
        .map(Domain::names)
        .unwrap_or_default();
    if names.is_empty() {
        warn(
            "domain",
            "is missing: no certificate is asked for".to_owned(),
        );
    }
    let resolver = resolver.acme.as_ref()?;
    let check = |name: &String| {
        checked(name, resolver)
            .map_err(|wrong| format!("no certificate is asked for `{name}`: {wrong}"))
    };
    let checked: Result<Vec<String>, String> = names.iter().map(check).collect();
    match checked {
        Ok(names) => (!names.is_empty()).then(|| Demand {
            resolver: wanted.resolver.as_str().into(),
            names,
            router: store.path(Kind::TlsStore, "").into(),
        }),
        Err(wrong) => {
            warn("domain", wrong);
            None
        }
    }
}

/// What one router asks for.
fn of(stage: &Stage<'_>, draft: &Draft, findings: &mut Vec<Diagnostic>) -> Vec<Demand> {
    let Some(door) = draft.entry_points.first().map(|door| &stage.doors[*door]) else {
        return Vec::new();
    };
    let own = draft.definition.object.tls.as_ref();
    let Some(tls) = door.tls(own).filter(|tls| !tls.cert_resolver.is_empty()) else {
        return Vec::new();
    };
    let mut asking = Asking {
        stage,
        draft,
        own: own.is_some(),
        findings,
    };
    let Some(resolver) = asking.resolver(&tls.cert_resolver) else {
        return Vec::new();
    };
    let demands = asking.sets(tls, resolver).into_iter();
    demands
        .map(|names| Demand {
            resolver: tls.cert_resolver.as_str().into(),
            names,
            router: Arc::clone(&draft.name),
        })
        .collect()
}

struct Asking<'a> {
    stage: &'a Stage<'a>,
    draft: &'a Draft,
    /// Whether the router says itself what it asks for, or its entry point for it.
    own: bool,
    findings: &'a mut Vec<Diagnostic>,
}

impl<'a> Asking<'a> {
    fn resolver(&mut self, name: &str) -> Option<&'a AcmeResolver> {
        let resolvers = &self.stage.input.install.certificates_resolvers;
        if let Some(resolver) = resolvers.get(name) {
            // One of another kind was reported where it stands.
            return resolver.acme.as_ref();
        }
        // What an entry point says is checked where it stands.
        if self.own {
            let message = format!(
                "there is no certificates resolver `{name}`: the certificate must come from `tls.certificates`"
            );
            let names = resolvers.keys().map(|name| (name.as_str(), name.as_str()));
            let near = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
            self.warn("tls.certResolver", message, near);
        }
        None
    }

    /// The sets of names to ask for.
    fn sets(&mut self, tls: &RouterTls, resolver: &AcmeResolver) -> Vec<Vec<String>> {
        let mut sets = Vec::new();
        for (index, domain) in tls.domains.iter().enumerate() {
            let field = format!("tls.domains[{index}]");
            sets.extend(self.set(&field, domain.names(), resolver));
        }
        if tls.domains.is_empty() {
            let hosts = self.draft.matching.matcher.hosts();
            if hosts.is_empty() && self.own {
                let message = "no certificate is asked for: the rule has no `Host`, and there are no `tls.domains`";
                self.warn("tls.certResolver", message.to_owned(), None);
            }
            let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
            sets.extend(self.set("rule", hosts, resolver));
        }
        sets
    }

    /// The usable ones of some names.
    fn set(
        &mut self,
        field: &str,
        names: Vec<String>,
        resolver: &AcmeResolver,
    ) -> Option<Vec<String>> {
        let mut usable: Vec<String> = Vec::with_capacity(names.len());
        for name in names {
            match checked(&name, resolver) {
                Ok(name) if !usable.contains(&name) => usable.push(name),
                Ok(_) => {}
                Err(wrong) => {
                    let message = format!("no certificate is asked for `{name}`: {wrong}");
                    self.warn(field, message, None);
                }
            }
        }
        if let Some(message) = too_many(usable.len()) {
            let hint = format!(
                "write them as several entries of `tls.domains`, up to {USUAL_NAMES} names each"
            );
            self.warn(field, message, Some(hint));
        }
        let fits = !usable.is_empty() && usable.len() <= MOST_NAMES;
        fits.then_some(usable)
    }

    fn warn(&mut self, field: &str, message: String, hint: Option<String>) {
        let finding = self.draft.definition.warning(Kind::Router, field, message);
        self.findings.push(Diagnostic { hint, ..finding });
    }
}

/// A name in the form it is ordered in, or why it cannot be.
fn checked(name: &str, resolver: &AcmeResolver) -> Result<String, &'static str> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() {
        return Err("certificates for IP addresses are not supported");
    }
    let rest = name.strip_prefix("*.");
    let labels = rest.unwrap_or(&name).split('.');
    if !name.is_ascii() {
        return Err("write it in its ASCII form (`xn--...`)");
    }
    if name.len() > 253 || !labels.clone().all(is_label) {
        return Err("it is not a domain name");
    }
    if rest.is_some() && labels.count() < 2 {
        return Err("the wildcard is too wide");
    }
    if rest.is_some() && resolver.dns_challenge.is_none() {
        return Err("a wildcard needs a resolver with `dnsChallenge`");
    }
    Ok(name)
}

/// What is to be said of one certificate with so many names.
fn too_many(count: usize) -> Option<String> {
    if count > MOST_NAMES {
        return Some(format!(
            "no certificate is asked for: {count} names are more than the {MOST_NAMES} that any authority puts into one"
        ));
    }
    (count > USUAL_NAMES).then(|| {
        format!(
            "asks for one certificate with {count} names: some authorities refuse more than {USUAL_NAMES}"
        )
    })
}

fn is_label(label: &str) -> bool {
    let letters = label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    letters && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

const DEFAULT_STORE: &str = "default";
/// More names in one certificate are unusual enough to say so.
const USUAL_NAMES: usize = 64;
/// More names than any public authority puts into one certificate.
const MOST_NAMES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::install::DnsChallenge;

    #[test]
    fn too_many_names_are_told_from_many() {
        for (count, expected) in [
            (64, None),
            (65, Some("asks for")),
            (100, Some("asks for")),
            (101, Some("no certificate")),
        ] {
            let found = too_many(count);
            assert_eq!(found.is_some(), expected.is_some(), "{count}");
            assert!(
                found.is_none_or(|text| text.starts_with(expected.unwrap())),
                "{count}"
            );
        }
    }

    #[test]
    fn names_are_checked() {
        let resolver = AcmeResolver::default();
        let with_dns = AcmeResolver {
            dns_challenge: Some(DnsChallenge::default()),
            ..AcmeResolver::default()
        };
        for name in ["*.example.com", "*.Example.com."] {
            assert_eq!(checked(name, &with_dns).as_deref(), Ok("*.example.com"));
        }
        assert!(checked("*.*.example.com", &with_dns).is_err());
        let long = "a".repeat(64);
        for (name, expected) in [
            ("A.Example.com.", Ok("a.example.com")),
            ("localhost", Ok("localhost")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("bücher.example", Err("ASCII")),
            ("10.0.0.1", Err("IP addresses")),
            ("::1", Err("IP addresses")),
            ("*.example.com", Err("dnsChallenge")),
            ("*.com", Err("too wide")),
            ("*.*.example.com", Err("not a domain")),
            ("a..example.com", Err("not a domain")),
            ("-a.example.com", Err("not a domain")),
            ("a_b.example.com", Err("not a domain")),
            ("", Err("not a domain")),
            (&long, Err("not a domain")),
        ] {
            match (checked(name, &resolver), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(part)) => assert!(found.contains(part), "{name}: {found}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }
}
