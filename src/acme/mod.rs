//! Certificates from authorities that speak ACME, as Let's Encrypt does.
//!
//! [`Acme`] is a provider of certificates: what routers demand comes from the snapshot in force, what is issued goes the way of all
//! configuration. `plan` decides what to order when and is pure; `resolver` acts on it; `order` walks through one order; `solver` proves
//! names, by way of `dns` if need be; `client` speaks the protocol. `vault`, `store` and `stored` keep accounts and certificates in Traefik's
//! `acme.json`, and see to it that of several edges on one storage one orders; `memory` and `limits` are what must not be forgotten beside
//! them; `advice` is what authorities say about renewals; `report` is what is told of it all. `board` is what every edge answers challenges
//! with; they are given by whoever looks into [`crate::challenge`].

mod advice;
mod board;
mod client;
mod dns;
mod held;
mod keys;
mod limits;
mod memory;
mod offline;
mod order;
mod plan;
mod report;
mod resolver;
mod solver;
mod store;
mod stored;
mod vault;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, task::JoinSet};

use crate::{
    challenge::Challenges,
    config::{
        Diagnostic, Install, Root,
        dns::Variables,
        routing::{Certificate, Routing, Tls},
    },
    observe::{Resolvers, clock_text},
    provider::{Provider, Running, Updates},
    snapshot::SnapshotCell,
};

use dns::Dns;
pub use offline::Storages;
use resolver::{Resolver, Shared, Vaults};
use stored::Stored;

/// All certificates resolvers.
#[derive(Debug)]
pub struct Acme {
    resolvers: Vec<Arc<Resolver>>,
    vaults: Vaults,
    news: Arc<Notify>,
}

impl Acme {
    /// The resolvers of an install configuration, to meet the demands of the snapshots in `cell`.
    ///
    /// `resolvers` are told how they are.
    pub fn new(
        install: &Install,
        cell: Arc<SnapshotCell>,
        challenges: Challenges,
        resolvers: &Resolvers,
    ) -> Self {
        let mut vaults = Vaults::new();
        let news = Arc::new(Notify::new());
        let shared = Shared {
            cell,
            challenges,
            resolvers: resolvers.clone(),
            news: Arc::clone(&news),
        };
        let environment = environment();
        let variables = Variables::new(&environment, Root::Here);
        let mut acting = Vec::new();
        for (name, resolver) in &install.certificates_resolvers {
            let Some(config) = &resolver.acme else {
                continue;
            };
            // Most of what can be wrong was reported where it stands.
            let problems = config.problems(&variables);
            let dns = match problems.first() {
                Some((field, wrong)) => Err(format!("{field} {wrong}")),
                None => Dns::of(config, &variables),
            };
            match dns {
                Ok(dns) => {
                    let ways = (config, dns);
                    acting.push(Resolver::new(name, ways, &mut vaults, &shared));
                }
                Err(wrong) => {
                    tracing::error!(resolver = name, %wrong, "the resolver cannot act");
                }
            }
        }
        Self {
            resolvers: acting,
            vaults,
            news,
        }
    }

    /// All certificates, as configuration.
    fn routing(&self) -> Routing {
        let stored: Vec<_> = self.resolvers.iter().map(|one| one.stored()).collect();
        certificates_of(&stored)
    }
}

impl Provider for Acme {
    fn name(&self) -> &str {
        "acme"
    }

    fn run(self: Box<Self>, updates: Updates) -> Running {
        Box::pin(async move {
            let mut tasks = JoinSet::new();
            for vault in self.vaults.values() {
                vault.start().await;
                tasks.spawn(Arc::clone(vault).keep());
            }
            for resolver in &self.resolvers {
                tasks.spawn(Arc::clone(resolver).run());
            }
            while updates.send(self.routing()).await {
                self.news.notified().await;
            }
        })
    }
}

/// What keeps resolvers from acting and shows only when they are set up: credentials that are there and make no sense. Each at the place of
/// its provider.
pub fn unusable(install: &Install, variables: &Variables<'_>) -> Vec<Diagnostic> {
    if !variables.are_whole() {
        return Vec::new();
    }
    let resolvers = install.certificates_resolvers.iter();
    let configured = resolvers.filter_map(|(name, resolver)| {
        let config = resolver.acme.as_ref()?;
        // Said already, with more.
        let silent = config.dns_challenge.is_none() || !config.problems(variables).is_empty();
        (!silent).then_some((name, config))
    });
    let wrong = configured.filter_map(|(name, config)| {
        let wrong = Dns::of(config, variables).err()?;
        let path = format!("certificatesResolvers.{name}.acme.dnsChallenge.provider");
        Some(Diagnostic::warning(
            install.places.at(&path).clone(),
            path,
            wrong,
        ))
    });
    wrong.collect()
}

/// The certificates of storages, as configuration.
fn certificates_of<'a>(stored: impl IntoIterator<Item = &'a Stored>) -> Routing {
    let pairs = stored.into_iter().flat_map(Stored::pairs);
    let certificates = pairs.filter_map(|pair| {
        let (chain, key) = pair.texts()?;
        let certificate = Certificate {
            cert_file: chain.as_str().into(),
            key_file: key.as_str().into(),
            stores: Vec::new(),
        };
        // Anything else would be taken for a path.
        let inline =
            certificate.cert_file.content().is_some() && certificate.key_file.content().is_some();
        inline.then(|| certificate.into())
    });
    Routing {
        tls: Tls {
            certificates: certificates.collect(),
            ..Tls::default()
        },
        ..Routing::default()
    }
}

/// The environment, as far as it is text.
fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// A time in seconds since 1970, for people.
fn time(seconds: i64) -> String {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    clock_text(SystemTime::UNIX_EPOCH + seconds)
}
