//! Those who change zones: one file each.

mod api;
mod cloudflare;
mod digitalocean;
mod hetzner;
mod hooks;
mod ovh;
mod porkbun;
mod rfc2136;
mod route53;

use std::time::Duration;

use super::TxtRecord;
use crate::config::{
    dns::{DnsProvider, Variables},
    units::Secret,
};
use api::Api;
use cloudflare::Cloudflare;
use digitalocean::DigitalOcean;
use hetzner::{Hetzner, HetznerConsole};
use hooks::{Exec, HttpReq};
use ovh::Ovh;
use porkbun::Porkbun;
use rfc2136::Rfc2136;
use route53::Route53;

/// A provider, set up.
#[derive(Debug)]
pub(super) struct Provider {
    known: &'static DnsProvider,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Cloudflare(Cloudflare),
    DigitalOcean(DigitalOcean),
    Exec(Exec),
    Hetzner(Hetzner),
    HetznerConsole(HetznerConsole),
    HttpReq(HttpReq),
    Ovh(Ovh),
    Porkbun(Porkbun),
    Rfc2136(Box<Rfc2136>),
    Route53(Route53),
}

impl Provider {
    /// Sets a provider up.
    pub(super) fn new(
        known: &'static DnsProvider,
        variables: &Variables<'_>,
    ) -> Result<Self, String> {
        let setup = Setup { known, variables };
        let way = match known.name {
            "cloudflare" => Way::Cloudflare(Cloudflare::new(&setup)?),
            "digitalocean" => Way::DigitalOcean(DigitalOcean::new(&setup)?),
            "exec" => Way::Exec(Exec::new(&setup)?),
            "hetzner" if setup.has("HETZNER_API_TOKEN")? => Way::Hetzner(Hetzner::new(&setup)?),
            "hetzner" => Way::HetznerConsole(HetznerConsole::new(&setup)?),
            "httpreq" => Way::HttpReq(HttpReq::new(&setup)?),
            "ovh" => Way::Ovh(Ovh::new(&setup)?),
            "porkbun" => Way::Porkbun(Porkbun::new(&setup)?),
            "rfc2136" => Way::Rfc2136(Box::new(Rfc2136::new(&setup)?)),
            "route53" => Way::Route53(Route53::new(&setup)?),
            name => return Err(format!("there is no provider {name:?}")),
        };
        Ok(Self { known, way })
    }

    pub(super) fn name(&self) -> &'static str {
        self.known.name
    }

    /// Whether it must be told the zone.
    pub(super) fn needs_zone(&self) -> bool {
        match &self.way {
            Way::Exec(_) | Way::HttpReq(_) | Way::Rfc2136(_) => false,
            Way::Route53(route53) => route53.needs_zone(),
            _ => true,
        }
    }

    /// Adds a record beside those of its name; if it is there already that is fine. Says what is needed to find it again.
    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, String> {
        let added = match &self.way {
            Way::Cloudflare(way) => way.add(record).await,
            Way::DigitalOcean(way) => way.add(record).await,
            Way::Exec(way) => way.run("present", record).await,
            Way::Hetzner(way) => way.add(record).await,
            Way::HetznerConsole(way) => way.add(record).await,
            Way::HttpReq(way) => way.post("present", record).await,
            Way::Ovh(way) => way.add(record).await,
            Way::Porkbun(way) => way.add(record).await,
            Way::Rfc2136(way) => way.add(record).await,
            Way::Route53(way) => way.add(record).await,
        };
        added.map_err(|trouble| format!("{}: {trouble}", self.known.name))
    }

    /// Takes a record away, and no other.
    pub(super) async fn remove(&self, record: &TxtRecord, mark: &str) -> Result<(), String> {
        let removed = match &self.way {
            Way::Cloudflare(way) => way.remove(record).await,
            Way::DigitalOcean(way) => way.remove(record).await,
            Way::Exec(way) => way.run("cleanup", record).await.map(drop),
            Way::Hetzner(way) => way.remove(record).await,
            Way::HetznerConsole(way) => way.remove(record).await,
            Way::HttpReq(way) => way.post("cleanup", record).await.map(drop),
            Way::Ovh(way) => way.remove(record, mark).await,
            Way::Porkbun(way) => way.remove(record).await,
            Way::Rfc2136(way) => way.remove(record).await,
            Way::Route53(way) => way.remove(record).await,
        };
        removed.map_err(|trouble| format!("{}: {trouble}", self.known.name))
    }
}

/// What a provider is set up with.
struct Setup<'a> {
    known: &'static DnsProvider,
    variables: &'a Variables<'a>,
}

impl Setup<'_> {
    fn has(&self, name: &str) -> Result<bool, String> {
        Ok(self.variables.get(name)?.is_some())
    }

    /// A variable that may be missing.
    fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.variables.get(name)
    }

    /// A variable that must be there and may be logged.
    fn needed(&self, name: &str) -> Result<String, String> {
        self.variables
            .get(name)?
            .ok_or_else(|| format!("{name} is missing"))
    }

    /// A variable that must be there and is nobody's business.
    fn secret(&self, name: &str) -> Result<Secret, String> {
        self.needed(name).map(|text| Secret::from(text.as_str()))
    }

    /// How long a record may be remembered, in seconds.
    fn ttl(&self) -> Result<u32, String> {
        let span = self.variables.span(self.known, "TTL")?;
        let seconds = span.map(|span| span.at_least_zero().as_secs());
        Ok(seconds.map_or(self.known.ttl, |seconds| {
            u32::try_from(seconds).unwrap_or(u32::MAX)
        }))
    }

    fn span(&self, setting: &str, default: u64) -> Result<Duration, String> {
        let span = self.variables.span(self.known, setting)?;
        Ok(span.map_or_else(|| Duration::from_secs(default), |span| span.at_least_zero()))
    }

    /// The interface at the URL that one of these variables has, or else at `base`; nothing that it says is logged with `secrets` in it.
    fn api(&self, names: &[&str], base: &str, secrets: &[&Secret]) -> Result<Api, String> {
        let mut url = base.to_owned();
        for name in names.iter().rev() {
            if let Some(own) = self.text(name)? {
                url = own;
            }
        }
        let patience = self.span("HTTP_TIMEOUT", 30)?;
        Ok(Api::new(&url, patience, secrets))
    }
}

#[cfg(test)]
mod tests;
