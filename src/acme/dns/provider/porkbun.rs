//! Porkbun.

use http::Method;
use serde_json::{Value, json};

use super::{
    Setup, TxtRecord,
    api::{Api, Call, Trouble, escaped},
};
use crate::config::units::Secret;

/// Porkbun's interface: the credentials are in the body of every request.
#[derive(Debug)]
pub(super) struct Porkbun {
    pub(super) api: Api,
    key: Secret,
    secret: Secret,
    ttl: u32,
}

impl Porkbun {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let key = setup.secret("PORKBUN_API_KEY")?;
        let secret = setup.secret("PORKBUN_SECRET_API_KEY")?;
        Ok(Self {
            api: setup.api(&[], "https://api.porkbun.com/api/json/v3", &[&key, &secret])?,
            key,
            secret,
            ttl: setup.ttl()?.max(setup.known.ttl),
        })
    }

    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        if !self.find(record).await?.is_empty() {
            return Ok(String::new());
        }
        let path = format!("/dns/create/{}", escaped(&record.zone_name()));
        let body = json!({
            "name": record.below_zone(),
            "type": "TXT",
            "content": record.value,
            "ttl": self.ttl.to_string(),
        });
        self.post(&path, body).await.map(|_| String::new())
    }

    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), Trouble> {
        let zone = escaped(&record.zone_name());
        for id in self.find(record).await? {
            let path = format!("/dns/delete/{zone}/{}", escaped(&id));
            self.post(&path, json!({})).await?;
        }
        Ok(())
    }

    /// The identities of records like this one.
    async fn find(&self, record: &TxtRecord) -> Result<Vec<String>, Trouble> {
        let zone = record.zone_name();
        let path = format!(
            "/dns/retrieveByNameType/{}/TXT/{}",
            escaped(&zone),
            escaped(&record.below_zone())
        );
        let found = match self.post(&path, json!({})).await {
            Err(Trouble::Refused(_, text)) if text.to_lowercase().contains("invalid domain") => {
                return Err(Trouble::NoZone(zone));
            }
            found => found?,
        };
        let records = found["records"].as_array().into_iter().flatten();
        let same = records.filter(|one| one["content"].as_str() == Some(&record.value));
        Ok(same
            .filter_map(|one| one["id"].as_str().map(str::to_owned))
            .collect())
    }

    async fn post(&self, path: &str, mut body: Value) -> Result<Value, Trouble> {
        body["apikey"] = self.key.expose().trim().into();
        body["secretapikey"] = self.secret.expose().trim().into();
        let answer = self
            .api
            .json(Method::POST, path, Call::default().json(&body))
            .await;
        answer.map_err(|trouble| match trouble {
            // It says so with the status of any other mistake.
            Trouble::Refused(400, text) if text.contains("Invalid API key") => {
                Trouble::Denied(text)
            }
            trouble => trouble,
        })
    }
}
