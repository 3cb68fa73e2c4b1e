//! Hetzner: the DNS of its cloud, and the console that came before.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Setup, TxtRecord,
    api::{AUTHORIZATION, Api, Call, Trouble, escaped},
};
use crate::config::units::Secret;

/// The cloud's interface.
#[derive(Debug)]
pub(super) struct Hetzner {
    pub(super) api: Api,
    token: Secret,
    ttl: u32,
    pause: Duration,
}

impl Hetzner {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let token = setup.secret("HETZNER_API_TOKEN")?;
        Ok(Self {
            api: setup.api(&[], "https://api.hetzner.cloud/v1", &[&token])?,
            token,
            ttl: setup.ttl()?.max(LEAST_TTL),
            pause: setup.span("POLLING_INTERVAL", setup.known.interval)?,
        })
    }

    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let body = json!({ "ttl": self.ttl, "records": records(record) });
        match self.act("add_records", record, &body).await {
            Err(Trouble::Refused(404, _)) => Err(Trouble::NoZone(record.zone_name())),
            // It is there already.
            Err(Trouble::Refused(_, text)) if text.contains("uniqueness_error") => {
                Ok(String::new())
            }
            added => added.map(|()| String::new()),
        }
    }

    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), Trouble> {
        let body = json!({ "records": records(record) });
        match self.act("remove_records", record, &body).await {
            Err(Trouble::Refused(404, _)) => Ok(()),
            removed => removed,
        }
    }

    /// Begins an action and waits for its end.
    async fn act(&self, what: &str, record: &TxtRecord, body: &Value) -> Result<(), Trouble> {
        let (zone, name) = (escaped(&record.zone_name()), escaped(&record.below_zone()));
        let path = format!("/zones/{zone}/rrsets/{name}/TXT/actions/{what}");
        let call = self.call().json(body);
        let mut state = self.api.json(Method::POST, &path, call).await?;
        for _ in 0..MOST_LOOKS {
            let action = &state["action"];
            match action["status"].as_str() {
                Some("running") => {}
                Some("error") => {
                    let text = action["error"]["message"].as_str().unwrap_or_default();
                    return Err(Trouble::Own(format!("the action failed: {text}")));
                }
                _ => return Ok(()),
            }
            let path = format!("/actions/{}", action["id"].as_u64().unwrap_or_default());
            sleep(self.pause).await;
            state = self.api.json(Method::GET, &path, self.call()).await?;
        }
        Err(Trouble::Own("the action does not end".to_owned()))
    }

    fn call(&self) -> Call {
        let token = self.token.expose().trim();
        Call::default().header(AUTHORIZATION, &format!("Bearer {token}"))
    }
}

fn records(record: &TxtRecord) -> Value {
    json!([{ "value": format!("\"{}\"", record.value) }])
}

/// The console's interface.
#[derive(Debug)]
pub(super) struct HetznerConsole {
    pub(super) api: Api,
    key: Secret,
    ttl: u32,
}

impl HetznerConsole {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let key = setup.secret("HETZNER_API_KEY")?;
        Ok(Self {
            api: setup.api(&[], "https://dns.hetzner.com/api/v1", &[&key])?,
            key,
            ttl: setup.ttl()?.max(LEAST_TTL),
        })
    }

    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let zone = self.zone(record).await?;
        if !self.find(record, &zone).await?.is_empty() {
            return Ok(String::new());
        }
        let body = json!({
            "zone_id": zone,
            "type": "TXT",
            "name": record.below_zone(),
            "value": record.value,
            "ttl": self.ttl,
        });
        let call = self.call().json(&body);
        let added = self.api.json(Method::POST, "/records", call).await;
        added.map(|_| String::new())
    }

    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), Trouble> {
        let zone = self.zone(record).await?;
        for id in self.find(record, &zone).await? {
            let path = format!("/records/{}", escaped(&id));
            self.api.json(Method::DELETE, &path, self.call()).await?;
        }
        Ok(())
    }

    async fn zone(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let name = record.zone_name();
        let path = format!("/zones?name={}", escaped(&name));
        let found = match self.api.json(Method::GET, &path, self.call()).await {
            Err(Trouble::Refused(404, _)) => return Err(Trouble::NoZone(name)),
            found => found?,
        };
        let mut zones = found["zones"].as_array().into_iter().flatten();
        let zone = zones.find(|zone| zone["name"].as_str() == Some(&name));
        let id = zone.and_then(|zone| zone["id"].as_str());
        id.map(str::to_owned).ok_or(Trouble::NoZone(name))
    }

    /// The identities of records like this one.
    async fn find(&self, record: &TxtRecord, zone: &str) -> Result<Vec<String>, Trouble> {
        let path = format!("/records?zone_id={}", escaped(zone));
        let found = self.api.json(Method::GET, &path, self.call()).await?;
        let name = record.below_zone();
        let same = |one: &&Value| {
            one["type"] == "TXT"
                && one["name"].as_str() == Some(&name)
                && one["value"].as_str().map(|text| text.trim_matches('"')) == Some(&record.value)
        };
        let records = found["records"].as_array().into_iter().flatten();
        let ids = records.filter(same).filter_map(|one| one["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    fn call(&self) -> Call {
        Call::default().header("auth-api-token", self.key.expose())
    }
}

const LEAST_TTL: u32 = 60;
const MOST_LOOKS: usize = 60;
