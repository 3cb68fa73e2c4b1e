//! Cloudflare, with a token, two tokens, or the key of an account.

use http::Method;
use serde_json::{Value, json};

use super::{
    Setup, TxtRecord,
    api::{AUTHORIZATION, Api, Call, Trouble, escaped},
};
use crate::{acme::dns::servers::bare, config::units::Secret};

/// Cloudflare's interface.
#[derive(Debug)]
pub(super) struct Cloudflare {
    pub(super) api: Api,
    records: Access,
    /// For finding zones.
    zones: Access,
    ttl: u32,
}

#[derive(Debug, Clone)]
enum Access {
    Token(Secret),
    Account(String, Secret),
}

impl Access {
    fn call(&self) -> Call {
        match self {
            Self::Token(token) => {
                Call::default().header(AUTHORIZATION, &format!("Bearer {}", token.expose().trim()))
            }
            Self::Account(email, key) => Call::default()
                .header("x-auth-email", email)
                .header("x-auth-key", key.expose()),
        }
    }
}

impl Cloudflare {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let mut secrets = Vec::new();
        let (records, zones) = if setup.has("CF_API_EMAIL")? && setup.has("CF_API_KEY")? {
            let key = setup.secret("CF_API_KEY")?;
            secrets.push(key.clone());
            let access = Access::Account(setup.needed("CF_API_EMAIL")?, key);
            (access.clone(), access)
        } else {
            let token = setup.secret("CF_DNS_API_TOKEN")?;
            let zones = match setup.has("CF_ZONE_API_TOKEN")? {
                true => setup.secret("CF_ZONE_API_TOKEN")?,
                false => token.clone(),
            };
            secrets.extend([token.clone(), zones.clone()]);
            (Access::Token(token), Access::Token(zones))
        };
        let secrets: Vec<&Secret> = secrets.iter().collect();
        Ok(Self {
            api: setup.api(&["CLOUDFLARE_BASE_URL", "CF_BASE_URL"], BASE, &secrets)?,
            records,
            zones,
            ttl: setup.ttl()?.max(LEAST_TTL),
        })
    }

    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let path = format!("/zones/{}/dns_records", self.zone(record).await?);
        let body = json!({
            "type": "TXT",
            "name": bare(&record.name),
            "content": format!("\"{}\"", record.value),
            "ttl": self.ttl,
        });
        let call = self.records.call().json(&body);
        match self.api.json(Method::POST, &path, call).await {
            // It is there already.
            Err(Trouble::Refused(_, text)) if text.contains("81057") || text.contains("81058") => {
                Ok(String::new())
            }
            added => added.map(|_| String::new()),
        }
    }

    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), Trouble> {
        let zone = self.zone(record).await?;
        let name = escaped(&bare(&record.name));
        let path = format!("/zones/{zone}/dns_records?type=TXT&name={name}&per_page=100");
        let call = self.records.call();
        let found = self.api.json(Method::GET, &path, call).await?;
        for one in found["result"].as_array().into_iter().flatten() {
            let content = one["content"].as_str().map(|text| text.trim_matches('"'));
            if let (true, Some(id)) = (content == Some(&record.value), one["id"].as_str()) {
                let path = format!("/zones/{zone}/dns_records/{}", escaped(id));
                let call = self.records.call();
                self.api.json(Method::DELETE, &path, call).await?;
            }
        }
        Ok(())
    }

    /// The identity of the record's zone.
    async fn zone(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let zone = record.zone_name();
        let path = format!("/zones?name={}&per_page=50", escaped(&zone));
        let found: Value = self.api.json(Method::GET, &path, self.zones.call()).await?;
        let id = found["result"][0]["id"].as_str();
        id.map(escaped).ok_or(Trouble::NoZone(zone))
    }
}

const BASE: &str = "https://api.cloudflare.com/client/v4";
const LEAST_TTL: u32 = 120;
