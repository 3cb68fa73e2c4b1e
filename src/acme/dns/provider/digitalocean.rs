//! DigitalOcean.

use http::Method;
use serde_json::{Value, json};

use super::{
    Setup, TxtRecord,
    api::{AUTHORIZATION, Api, Call, Trouble, escaped},
};
use crate::{acme::dns::servers::bare, config::units::Secret};

/// DigitalOcean's interface.
#[derive(Debug)]
pub(super) struct DigitalOcean {
    pub(super) api: Api,
    token: Secret,
    ttl: u32,
}

impl DigitalOcean {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let token = setup.secret("DO_AUTH_TOKEN")?;
        Ok(Self {
            api: setup.api(&["DO_API_URL"], BASE, &[&token])?,
            token,
            ttl: setup.ttl()?.max(LEAST_TTL),
        })
    }

    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        if !self.find(record).await?.is_empty() {
            return Ok(String::new());
        }
        let zone = record.zone_name();
        let body = json!({
            "type": "TXT",
            "name": record.below_zone(),
            "data": record.value,
            "ttl": self.ttl,
        });
        let path = format!("/v2/domains/{}/records", escaped(&zone));
        let call = self.call().json(&body);
        let added = self.api.json(Method::POST, &path, call).await;
        added.map(|_| String::new())
    }

    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), Trouble> {
        let zone = escaped(&record.zone_name());
        for id in self.find(record).await? {
            let path = format!("/v2/domains/{zone}/records/{id}");
            self.api.json(Method::DELETE, &path, self.call()).await?;
        }
        Ok(())
    }

    /// The identities of records like this one.
    async fn find(&self, record: &TxtRecord) -> Result<Vec<u64>, Trouble> {
        let zone = record.zone_name();
        let name = escaped(&bare(&record.name));
        let path = format!(
            "/v2/domains/{}/records?type=TXT&name={name}&per_page=200",
            escaped(&zone)
        );
        let found = match self.api.json(Method::GET, &path, self.call()).await {
            Err(Trouble::Refused(404, _)) => return Err(Trouble::NoZone(zone)),
            found => found?,
        };
        let records = found["domain_records"].as_array().into_iter().flatten();
        let same = records.filter(|one| one["data"].as_str() == Some(&record.value));
        Ok(same.filter_map(|one: &Value| one["id"].as_u64()).collect())
    }

    fn call(&self) -> Call {
        let token = self.token.expose().trim();
        Call::default().header(AUTHORIZATION, &format!("Bearer {token}"))
    }
}

const BASE: &str = "https://api.digitalocean.com";
const LEAST_TTL: u32 = 30;
