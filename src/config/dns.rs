//! The providers of `dnsChallenge`, and the environment variables they are set up with, by the names that Traefik's users know.

use std::path::Path;

use super::load::Root;
use super::units::Span;

/// A DNS provider.
#[derive(Debug, PartialEq, Eq)]
pub struct DnsProvider {
    /// What `provider` says.
    pub name: &'static str,
    /// What its other variables begin with, as in `CLOUDFLARE_TTL`.
    pub prefixes: &'static [&'static str],
    /// The variables it cannot do without: one of these sets.
    pub needs: &'static [&'static [&'static str]],
    /// Lifetime of its records in seconds, unless `PREFIX_TTL` says otherwise.
    pub ttl: u32,
    /// How many seconds a record may take until it is seen, unless `PREFIX_PROPAGATION_TIMEOUT` says otherwise.
    pub timeout: u64,
    /// How many seconds to wait between two looks, unless `PREFIX_POLLING_INTERVAL` says otherwise.
    pub interval: u64,
}

/// All of them.
pub const DNS_PROVIDERS: [DnsProvider; 9] = [
    DnsProvider {
        name: "cloudflare",
        prefixes: &["CLOUDFLARE", "CF"],
        needs: &[&["CF_API_EMAIL", "CF_API_KEY"], &["CF_DNS_API_TOKEN"]],
        ttl: 120,
        timeout: 120,
        interval: 2,
    },
    DnsProvider {
        name: "digitalocean",
        prefixes: &["DO"],
        needs: &[&["DO_AUTH_TOKEN"]],
        ttl: 30,
        timeout: 60,
        interval: 5,
    },
    DnsProvider {
        name: "exec",
        prefixes: &["EXEC"],
        needs: &[&["EXEC_PATH"]],
        ttl: 120,
        timeout: 60,
        interval: 2,
    },
    DnsProvider {
        name: "hetzner",
        prefixes: &["HETZNER"],
        needs: &[&["HETZNER_API_TOKEN"], &["HETZNER_API_KEY"]],
        ttl: 60,
        timeout: 120,
        interval: 2,
    },
    DnsProvider {
        name: "httpreq",
        prefixes: &["HTTPREQ"],
        needs: &[&["HTTPREQ_ENDPOINT"]],
        ttl: 120,
        timeout: 60,
        interval: 2,
    },
    DnsProvider {
        name: "ovh",
        prefixes: &["OVH"],
        needs: &[
            &[
                "OVH_ENDPOINT",
                "OVH_APPLICATION_KEY",
                "OVH_APPLICATION_SECRET",
                "OVH_CONSUMER_KEY",
            ],
            &["OVH_ENDPOINT", "OVH_CLIENT_ID", "OVH_CLIENT_SECRET"],
            &["OVH_ENDPOINT", "OVH_ACCESS_TOKEN"],
        ],
        ttl: 120,
        timeout: 60,
        interval: 2,
    },
    DnsProvider {
        name: "porkbun",
        prefixes: &["PORKBUN"],
        needs: &[&["PORKBUN_API_KEY", "PORKBUN_SECRET_API_KEY"]],
        // The least that it accepts; it is slow to show what it was told.
        ttl: 300,
        timeout: 600,
        interval: 10,
    },
    DnsProvider {
        name: "rfc2136",
        prefixes: &["RFC2136"],
        needs: &[&["RFC2136_NAMESERVER"]],
        ttl: 120,
        timeout: 60,
        interval: 2,
    },
    DnsProvider {
        name: "route53",
        prefixes: &["AWS"],
        needs: &[
            &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            &["AWS_SHARED_CREDENTIALS_FILE"],
        ],
        ttl: 10,
        timeout: 120,
        interval: 4,
    },
];

/// The environment that providers are set up with.
#[derive(Debug, Clone, Copy)]
pub struct Variables<'a> {
    environment: &'a [(String, String)],
    /// Where the files are that `..._FILE` variables name.
    root: Root<'a>,
}

impl<'a> Variables<'a> {
    /// The variables of an environment.
    pub fn new(environment: &'a [(String, String)], root: Root<'a>) -> Self {
        Self { environment, root }
    }

    /// What a variable says, or the file that the variable `NAME_FILE` names; nothing if there is neither.
    pub fn get(&self, name: &str) -> Result<Option<String>, String> {
        let alias = ALIASES.iter().find(|(known, _)| *known == name);
        let names = alias.map(|(_, alias)| *alias).into_iter().chain([name]);
        for name in names {
            if let Some(value) = self.plain(name) {
                return Ok(Some(value.to_owned()));
            }
            let file = format!("{name}_FILE");
            if let Some(path) = self.plain(&file) {
                return self
                    .read(path)
                    .map(Some)
                    .map_err(|wrong| format!("{file}: {wrong}"));
            }
        }
        Ok(None)
    }

    /// A setting of a provider in seconds or as a duration, e.g. its `TTL`.
    pub fn span(&self, provider: &DnsProvider, setting: &str) -> Result<Option<Span>, String> {
        for prefix in provider.prefixes {
            let name = format!("{prefix}_{setting}");
            if let Some(text) = self.get(&name)? {
                let span = text.trim().parse::<Span>().ok();
                let span = span.filter(|span| !span.is_negative());
                return span
                    .map(Some)
                    .ok_or_else(|| format!("{name} is not a number of seconds: {text:?}"));
            }
        }
        Ok(None)
    }

    /// Whether every file that a variable names can be read here. A container may see others.
    pub fn are_whole(&self) -> bool {
        let mut files = self.environment.iter();
        files.all(|(name, path)| {
            !name.ends_with("_FILE") || self.root.find(Path::new(path)).is_some()
        })
    }

    fn plain(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.environment.iter();
        let (_, value) = pairs.find(|(known, value)| known == name && !value.is_empty())?;
        Some(value)
    }

    /// A file that only the container sees is there and says something, for all that is known.
    fn read(&self, path: &str) -> Result<String, String> {
        let Some(here) = self.root.find(Path::new(path)) else {
            return Ok(String::new());
        };
        let text = std::fs::read_to_string(here).map_err(|error| format!("{path}: {error}"))?;
        match text.trim() {
            "" => Err(format!("{path} is empty")),
            text => Ok(text.to_owned()),
        }
    }
}

impl DnsProvider {
    /// The provider of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        DNS_PROVIDERS.iter().find(|provider| provider.name == name)
    }

    /// What keeps it from acting in this environment.
    pub fn problem(&self, variables: &Variables<'_>) -> Option<String> {
        if let Err(wrong) = self.check(variables) {
            return Some(wrong);
        }
        let absent = |set: &&[&'static str]| {
            let mut names = set.to_vec();
            names.retain(|name| !matches!(variables.get(name), Ok(Some(_))));
            names
        };
        let sets: Vec<_> = self
            .needs
            .iter()
            .map(|set| (set.len(), absent(set)))
            .collect();
        if sets.iter().any(|(_, absent)| absent.is_empty()) {
            return None;
        }
        // Whoever has set a part is told of the rest.
        let begun = sets.iter().filter(|(all, absent)| absent.len() < *all);
        if let Some((_, absent)) = begun.min_by_key(|(_, absent)| absent.len()) {
            return Some(format!("needs {} too in the environment", listed(absent)));
        }
        let sets: Vec<String> = self.needs.iter().map(|set| listed(set)).collect();
        Some(format!(
            "needs {} in the environment (or the same with `_FILE`, naming a file)",
            sets.join(", or ")
        ))
    }

    /// What is there must be readable.
    fn check(&self, variables: &Variables<'_>) -> Result<(), String> {
        for name in self.needs.iter().copied().flatten() {
            variables.get(name)?;
        }
        for setting in [
            "TTL",
            "PROPAGATION_TIMEOUT",
            "POLLING_INTERVAL",
            "HTTP_TIMEOUT",
        ] {
            variables.span(self, setting)?;
        }
        Ok(())
    }
}

fn listed(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// Variables with a second name, which comes first.
const ALIASES: [(&str, &str); 4] = [
    ("CF_API_EMAIL", "CLOUDFLARE_EMAIL"),
    ("CF_API_KEY", "CLOUDFLARE_API_KEY"),
    ("CF_DNS_API_TOKEN", "CLOUDFLARE_DNS_API_TOKEN"),
    ("CF_ZONE_API_TOKEN", "CLOUDFLARE_ZONE_API_TOKEN"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// A provider, its variables, and what is said of them.
    type Lack = (
        &'static str,
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
    );

    const LACKING: &[Lack] = &[
        ("cloudflare", &[("CF_DNS_API_TOKEN", "t")], None),
        ("cloudflare", &[("CLOUDFLARE_DNS_API_TOKEN", "t")], None),
        (
            "cloudflare",
            &[("CF_DNS_API_TOKEN_FILE", "DIR/token")],
            None,
        ),
        (
            "cloudflare",
            &[("CLOUDFLARE_EMAIL", "a@b"), ("CF_API_KEY", "k")],
            None,
        ),
        (
            "cloudflare",
            &[("CF_API_EMAIL", "a@b")],
            Some("needs `CF_API_KEY` too in the environment"),
        ),
        (
            "cloudflare",
            &[("CF_DNS_API_TOKEN", "")],
            Some("needs `CF_API_EMAIL` and `CF_API_KEY`, or `CF_DNS_API_TOKEN` in the environment"),
        ),
        (
            "cloudflare",
            &[("CF_DNS_API_TOKEN_FILE", "/none")],
            Some("CF_DNS_API_TOKEN_FILE: /none: "),
        ),
        (
            "cloudflare",
            &[("CF_DNS_API_TOKEN_FILE", "DIR/empty")],
            Some("is empty"),
        ),
        (
            "cloudflare",
            &[("CF_DNS_API_TOKEN", "t"), ("CLOUDFLARE_TTL", "soon")],
            Some("CLOUDFLARE_TTL is not"),
        ),
        (
            "cloudflare",
            &[("CF_DNS_API_TOKEN", "t"), ("CF_POLLING_INTERVAL", "-1")],
            Some("CF_POLLING_INTERVAL is"),
        ),
        (
            "cloudflare",
            &[
                ("CF_DNS_API_TOKEN", "t"),
                ("CLOUDFLARE_PROPAGATION_TIMEOUT", "300"),
            ],
            None,
        ),
        (
            "route53",
            &[("AWS_ACCESS_KEY_ID", "i")],
            Some("`AWS_SECRET_ACCESS_KEY` too"),
        ),
        (
            "ovh",
            &[("OVH_ENDPOINT", "ovh-eu"), ("OVH_CLIENT_ID", "i")],
            Some("`OVH_CLIENT_SECRET` too"),
        ),
        (
            "porkbun",
            &[],
            Some("`PORKBUN_API_KEY` and `PORKBUN_SECRET_API_KEY` in"),
        ),
        ("digitalocean", &[("DO_AUTH_TOKEN", "t")], None),
        ("hetzner", &[("HETZNER_API_KEY", "t")], None),
        ("exec", &[], Some("`EXEC_PATH`")),
        ("httpreq", &[], Some("`HTTPREQ_ENDPOINT`")),
        ("rfc2136", &[("RFC2136_NAMESERVER", "127.0.0.1")], None),
    ];

    #[test]
    fn what_a_provider_lacks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "secret\n").unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        let here = dir.path().to_str().unwrap();
        for (provider, pairs, expected) in LACKING {
            let mut environment = environment(pairs);
            for (_, value) in &mut environment {
                *value = value.replace("DIR", here);
            }
            let variables = Variables::new(&environment, Root::Here);
            let found = DnsProvider::find(provider).unwrap().problem(&variables);
            match (&found, *expected) {
                (None, None) => {}
                (Some(found), Some(part)) => assert!(found.contains(part), "{found}"),
                _ => panic!("{provider} {pairs:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_file_is_read_without_its_last_line_end_and_the_older_name_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "from a file\n").unwrap();
        let environment = environment(&[
            ("CF_DNS_API_TOKEN_FILE", file.to_str().unwrap()),
            ("CF_API_KEY", "ours"),
            ("CLOUDFLARE_API_KEY", "theirs"),
        ]);
        let variables = Variables::new(&environment, Root::Here);
        let token = variables.get("CF_DNS_API_TOKEN").unwrap();
        assert_eq!(token.as_deref(), Some("from a file"));
        assert_eq!(
            variables.get("CF_API_KEY").unwrap().as_deref(),
            Some("theirs")
        );
        // A container's file that cannot be seen from here is not blamed.
        let elsewhere = Variables::new(&environment, Root::Mounted(&[]));
        assert!(elsewhere.get("CF_DNS_API_TOKEN").unwrap().is_some());
    }

    #[test]
    fn the_page_has_every_provider_with_its_variables() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dns-challenge.md");
        let page = std::fs::read_to_string(page).unwrap();
        for provider in &DNS_PROVIDERS {
            let head = format!("| `{}` |", provider.name);
            let row = page.lines().find(|line| line.starts_with(&head));
            let row = row.unwrap_or_else(|| panic!("no row {head}"));
            for name in provider.needs.iter().copied().flatten() {
                assert!(row.contains(&format!("`{name}`")), "{head} {name}");
            }
            for prefix in provider.prefixes {
                assert!(page.contains(&format!("`{prefix}_`")), "{prefix}_");
            }
        }
        for (_, alias) in ALIASES {
            assert!(page.contains(&format!("`{alias}`")), "{alias}");
        }
    }

    #[test]
    fn no_two_providers_have_one_name() {
        let mut names: Vec<&str> = DNS_PROVIDERS.iter().map(|one| one.name).collect();
        names.dedup();
        assert_eq!(names.len(), DNS_PROVIDERS.len());
        assert!(names.is_sorted());
    }
}
