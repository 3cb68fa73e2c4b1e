//! DNS-01: names, wildcards too, are proven by TXT records in their zone.
//!
//! [`Dns`] is the solver: it finds where the record belongs (`servers`), has it put there (`provider`), and waits until those see it whom
//! an authority would ask. `ask` and `tsig` speak the protocol.

mod ask;
#[cfg(test)]
mod fake;
mod provider;
mod servers;
mod tsig;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use futures_util::future::join_all;
use hickory_resolver::proto::rr::{Name, RecordType};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::solver::Proof;
use crate::config::{
    dns::{DnsProvider, Variables},
    install::{AcmeResolver, DnsChallenge},
};
use provider::Provider;
use servers::{Server, Servers, bare, said, values};

/// Proves names by records in the DNS.
#[derive(Debug)]
pub(super) struct Dns {
    provider: Provider,
    servers: Servers,
    /// Whether aliases of `_acme-challenge` names are followed.
    follow: bool,
    looks: Looks,
}

/// When the authority is told.
#[derive(Debug, Clone, Copy)]
struct Looks {
    delay: Duration,
    /// Whether the zone's own servers must see the record.
    own: bool,
    /// Whether those that resolve for us must see it.
    resolving: bool,
    timeout: Duration,
    interval: Duration,
}

/// A TXT record that proves a name.
#[derive(Debug)]
pub(super) struct TxtRecord {
    /// Where it is, behind all aliases.
    pub(super) name: Name,
    /// The zone that is in; known if the provider needs it.
    pub(super) zone: Option<Name>,
    pub(super) value: String,
    pub(super) proof: Proof,
}

impl TxtRecord {
    /// The name of its zone.
    fn zone_name(&self) -> String {
        self.zone.as_ref().map(bare).unwrap_or_default()
    }

    /// Its own name without the zone's.
    fn below_zone(&self) -> String {
        let name = bare(&self.name);
        let below = name.strip_suffix(&self.zone_name());
        match below.and_then(|below| below.strip_suffix('.')) {
            Some(below) => below.to_owned(),
            None => "@".to_owned(),
        }
    }
}

/// A record that is in its place.
#[derive(Debug)]
pub(super) struct Placed {
    dns: Arc<Dns>,
    record: TxtRecord,
    /// What the provider needs to find it again.
    mark: String,
}

impl Dns {
    /// The solver of a resolver, if it has one.
    pub(super) fn of(
        config: &AcmeResolver,
        variables: &Variables<'_>,
    ) -> Result<Option<Arc<Self>>, String> {
        let challenge = config.dns_challenge.as_ref();
        let dns = challenge.map(|challenge| Self::new(challenge, variables));
        Ok(dns.transpose()?.map(Arc::new))
    }

    /// As configured; `variables` set up the provider.
    fn new(config: &DnsChallenge, variables: &Variables<'_>) -> Result<Self, String> {
        let known = DnsProvider::find(&config.provider);
        let known = known.ok_or_else(|| format!("there is no provider {:?}", config.provider))?;
        let seconds = |setting, default| -> Result<Duration, String> {
            let span = variables.span(known, setting)?;
            let default = Duration::from_secs(default);
            Ok(span.map_or(default, |span| span.at_least_zero()))
        };
        let checked = config.is_checked();
        let looks = Looks {
            delay: config.delay(),
            own: checked && !config.propagation.disable_ans_checks,
            resolving: checked && config.propagation.require_all_rns,
            timeout: seconds("PROPAGATION_TIMEOUT", known.timeout)?,
            interval: seconds("POLLING_INTERVAL", known.interval)?.max(SHORTEST_INTERVAL),
        };
        let straight = variables.get("LEGO_DISABLE_CNAME_SUPPORT")?;
        Ok(Self {
            provider: Provider::new(known, variables)?,
            servers: Servers::new(&config.resolvers),
            follow: straight.is_none_or(|text| !is_true(&text)),
            looks,
        })
    }

    /// Puts the record into the zone.
    pub(super) async fn present(self: &Arc<Self>, proof: &Proof) -> Result<Placed, String> {
        let name = Name::from_ascii(format!("_acme-challenge.{}.", proof.name));
        let asked = name.map_err(|error| format!("{}: {error}", proof.name))?;
        let name = match self.follow {
            true => self.servers.follow(&asked).await?,
            false => asked.clone(),
        };
        if name != asked {
            info!(
                name = bare(&asked),
                leads_to = bare(&name),
                "the name is an alias"
            );
        }
        let zone = match self.provider.needs_zone() {
            true => Some(self.servers.zone(&name).await?),
            false => None,
        };
        let record = TxtRecord {
            name,
            zone,
            value: BASE64.encode(Sha256::digest(&proof.authorization)),
            proof: proof.clone(),
        };
        let mark = self.provider.add(&record).await?;
        let provider = self.provider.name();
        info!(
            name = bare(&record.name),
            provider, "the TXT record is handed in"
        );
        Ok(Placed {
            dns: Arc::clone(self),
            record,
            mark,
        })
    }

    /// Waits until the records are seen.
    pub(super) async fn settle(&self, placed: &[&Placed]) -> Result<(), String> {
        sleep(self.looks.delay).await;
        if !self.looks.own && !self.looks.resolving {
            return Ok(());
        }
        let mut wanted: BTreeMap<&Name, Vec<&str>> = BTreeMap::new();
        for one in placed {
            let values = wanted.entry(&one.record.name).or_default();
            values.push(&one.record.value);
        }
        let deadline = Instant::now() + self.looks.timeout;
        let mut watches: Vec<Watch<'_>> = wanted.into_iter().map(Watch::new).collect();
        loop {
            for watch in &mut watches {
                watch.look(self).await;
            }
            watches.retain(|watch| !watch.missing.is_empty());
            let Some(watch) = watches.first() else {
                return Ok(());
            };
            if Instant::now() + self.looks.interval > deadline {
                let (name, seconds) = (bare(watch.name), self.looks.timeout.as_secs());
                return Err(format!(
                    "the TXT record of {name} is not seen after {seconds} s: {}",
                    watch.missing.join("; ")
                ));
            }
            sleep(self.looks.interval).await;
        }
    }

    /// Those that must see a record.
    async fn judges(&self, name: &Name) -> Result<Vec<Server>, String> {
        let mut judges = Vec::new();
        if self.looks.resolving {
            judges.extend(self.servers.all().await?);
        }
        if self.looks.own {
            let zone = self.servers.zone(name).await?;
            judges.extend(self.servers.of_zone(&zone).await?);
        }
        Ok(judges)
    }
}

impl Placed {
    /// Takes the record away; if that fails it is logged.
    pub(super) async fn withdraw(self) {
        let provider = &self.dns.provider;
        let name = bare(&self.record.name);
        match provider.remove(&self.record, &self.mark).await {
            Ok(()) => info!(
                name,
                provider = provider.name(),
                "the TXT record is taken away"
            ),
            Err(error) => {
                warn!(name, %error, "the TXT record stays: it does no harm, and may be deleted by hand");
            }
        }
    }
}

/// One name that is looked at until all see its values.
struct Watch<'a> {
    name: &'a Name,
    values: Vec<&'a str>,
    judges: Vec<Server>,
    /// What each said last.
    said: BTreeMap<String, String>,
    /// Who does not see the values, and what it says instead.
    missing: Vec<String>,
}

impl<'a> Watch<'a> {
    fn new((name, values): (&'a Name, Vec<&'a str>)) -> Self {
        Self {
            name,
            values,
            judges: Vec::new(),
            said: BTreeMap::new(),
            missing: Vec::new(),
        }
    }

    async fn look(&mut self, dns: &Dns) {
        if self.judges.is_empty() {
            match dns.judges(self.name).await {
                Ok(judges) => self.judges = judges,
                Err(wrong) => {
                    self.missing = vec![wrong];
                    return;
                }
            }
        }
        let asked = self.judges.iter().map(|judge| async {
            let answer = judge.ask(self.name, RecordType::TXT).await;
            let answer = answer.map(|answer| (values(&answer, self.name), said(&answer)));
            (judge.name.clone(), answer)
        });
        let answers = join_all(asked).await;
        self.missing.clear();
        for (server, answer) in answers {
            let (seen, text) = self.verdict(answer);
            if !seen {
                self.missing.push(format!("{server}: {text}"));
            }
            let before = self.said.insert(server.clone(), text.clone());
            if before.as_ref() != Some(&text) {
                info!(
                    name = bare(self.name),
                    server,
                    answer = text,
                    "a name server was asked"
                );
            }
        }
    }

    /// Whether an answer has all values, and how to put it.
    fn verdict(&self, answer: Result<(Vec<String>, &str), String>) -> (bool, String) {
        match answer {
            Err(wrong) => (false, wrong),
            Ok((found, said)) if found.is_empty() => (false, said.to_owned()),
            Ok((found, _)) => {
                let has = |value: &&&str| found.iter().any(|one| one == **value);
                let seen = self.values.iter().filter(has).count();
                let text = format!("{seen} of our {} values", self.values.len());
                let others = found.len().saturating_sub(seen);
                let text = match others {
                    0 => text,
                    others => format!("{text}, {others} of others"),
                };
                (seen == self.values.len(), text)
            }
        }
    }
}

/// As Go reads booleans.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
