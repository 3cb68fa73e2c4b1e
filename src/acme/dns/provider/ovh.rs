//! OVH: with an application's key and signed requests, with a client of OAuth 2, or with an access token.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::{
    Setup, TxtRecord,
    api::{AUTHORIZATION, Api, Call, Trouble, escaped},
};
use crate::config::units::Secret;

/// OVH's interface.
#[derive(Debug)]
pub(super) struct Ovh {
    pub(super) api: Api,
    access: Access,
    ttl: u32,
}

#[derive(Debug)]
enum Access {
    Application {
        key: Secret,
        secret: Secret,
        consumer: Secret,
    },
    Client {
        id: Secret,
        secret: Secret,
        tokens: Api,
    },
    Token(Secret),
}

impl Ovh {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let endpoint = setup.needed("OVH_ENDPOINT")?;
        let (base, tokens) = match ENDPOINTS.iter().find(|(name, _, _)| *name == endpoint) {
            Some((_, base, tokens)) => ((*base).to_owned(), *tokens),
            None if endpoint.contains("://") => (endpoint, "https://www.ovh.com"),
            None => return Err(format!("OVH_ENDPOINT: there is no endpoint {endpoint:?}")),
        };
        let access = if setup.has("OVH_APPLICATION_KEY")? {
            Access::Application {
                key: setup.secret("OVH_APPLICATION_KEY")?,
                secret: setup.secret("OVH_APPLICATION_SECRET")?,
                consumer: setup.secret("OVH_CONSUMER_KEY")?,
            }
        } else if setup.has("OVH_CLIENT_ID")? {
            let secret = setup.secret("OVH_CLIENT_SECRET")?;
            Access::Client {
                id: setup.secret("OVH_CLIENT_ID")?,
                tokens: setup.api(&["OVH_TOKEN_URL"], tokens, &[&secret])?,
                secret,
            }
        } else {
            Access::Token(setup.secret("OVH_ACCESS_TOKEN")?)
        };
        let secrets = match &access {
            Access::Application {
                key,
                secret,
                consumer,
            } => vec![key, secret, consumer],
            Access::Client { secret, .. } => vec![secret],
            Access::Token(token) => vec![token],
        };
        Ok(Self {
            api: setup.api(&[], &base, &secrets)?,
            ttl: setup.ttl()?,
            access,
        })
    }

    /// Says the new record's identity: credentials for this need not be good for a search.
    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let zone = record.zone_name();
        let path = format!("/domain/zone/{}/record", escaped(&zone));
        let body = json!({
            "fieldType": "TXT",
            "subDomain": record.below_zone(),
            "target": record.value,
            "ttl": self.ttl,
        });
        let added = match self.send(Method::POST, &path, Some(&body)).await {
            Err(Trouble::Refused(404, _)) => return Err(Trouble::NoZone(zone)),
            added => added?,
        };
        self.refresh(&zone).await?;
        Ok(added["id"]
            .as_u64()
            .map(|id| id.to_string())
            .unwrap_or_default())
    }

    pub(super) async fn remove(&self, record: &TxtRecord, id: &str) -> Result<(), Trouble> {
        let zone = record.zone_name();
        let path = format!("/domain/zone/{}/record/{}", escaped(&zone), escaped(id));
        self.send(Method::DELETE, &path, None).await?;
        self.refresh(&zone).await
    }

    /// Has the zone published as it is now.
    async fn refresh(&self, zone: &str) -> Result<(), Trouble> {
        let path = format!("/domain/zone/{}/refresh", escaped(zone));
        self.send(Method::POST, &path, None).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let mut call = Call::default();
        let text = body.map(Value::to_string).unwrap_or_default();
        if body.is_some() {
            call = call.body("application/json", text.clone());
        }
        call = match &self.access {
            Access::Application {
                key,
                secret,
                consumer,
            } => {
                let time = self.time().await?;
                let url = format!("{}{path}", self.api.base);
                let signed = [
                    secret.expose().trim(),
                    consumer.expose().trim(),
                    method.as_str(),
                    &url,
                    &text,
                    &time,
                ];
                call.header("x-ovh-application", key.expose())
                    .header("x-ovh-consumer", consumer.expose())
                    .header("x-ovh-timestamp", &time)
                    .header("x-ovh-signature", &signature(&signed))
            }
            Access::Client { id, secret, tokens } => {
                let token = Self::token(tokens, id, secret).await?;
                call.header(AUTHORIZATION, &format!("Bearer {token}"))
            }
            Access::Token(token) => {
                call.header(AUTHORIZATION, &format!("Bearer {}", token.expose().trim()))
            }
        };
        let sent = self.api.json(method, path, call).await;
        sent.map_err(|trouble| match trouble {
            // An application that is not known is refused as a mistake of the request.
            Trouble::Refused(400, text) if text.contains("signature") => Trouble::Denied(text),
            trouble => trouble,
        })
    }

    /// What time it is for OVH; our own clock may differ.
    async fn time(&self) -> Result<String, Trouble> {
        let time = self
            .api
            .json(Method::GET, "/auth/time", Call::default())
            .await?;
        let own = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs()
        };
        Ok(time.as_u64().unwrap_or_else(own).to_string())
    }

    async fn token(tokens: &Api, id: &Secret, secret: &Secret) -> Result<String, Trouble> {
        let form = format!(
            "grant_type=client_credentials&scope=all&client_id={}&client_secret={}",
            escaped(id.expose().trim()),
            escaped(secret.expose().trim())
        );
        let call = Call::default().body("application/x-www-form-urlencoded", form);
        let answer = tokens.json(Method::POST, "/auth/oauth2/token", call).await;
        let answer = answer.map_err(|trouble| match trouble {
            Trouble::Refused(400, text) => Trouble::Denied(text),
            trouble => trouble,
        })?;
        let token = answer["access_token"].as_str();
        token
            .map(str::to_owned)
            .ok_or_else(|| Trouble::Denied("no token is given".to_owned()))
    }
}

fn signature(parts: &[&str]) -> String {
    let digest = Sha1::digest(parts.join("+"));
    let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("$1${}", hex.concat())
}

/// Name, interface, and where tokens come from.
const ENDPOINTS: [(&str, &str, &str); 7] = [
    (
        "ovh-eu",
        "https://eu.api.ovh.com/1.0",
        "https://www.ovh.com",
    ),
    ("ovh-ca", "https://ca.api.ovh.com/1.0", "https://ca.ovh.com"),
    (
        "ovh-us",
        "https://api.us.ovhcloud.com/1.0",
        "https://us.ovhcloud.com",
    ),
    (
        "kimsufi-eu",
        "https://eu.api.kimsufi.com/1.0",
        "https://www.ovh.com",
    ),
    (
        "kimsufi-ca",
        "https://ca.api.kimsufi.com/1.0",
        "https://ca.ovh.com",
    ),
    (
        "soyoustart-eu",
        "https://eu.api.soyoustart.com/1.0",
        "https://www.ovh.com",
    ),
    (
        "soyoustart-ca",
        "https://ca.api.soyoustart.com/1.0",
        "https://ca.ovh.com",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_as_the_interface_documents_it() {
        // The example of OVH's guide.
        let parts = [
            "EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF",
            "MtSwSrPpNjqfVSmJhLbPyr2i45lSwPU1",
            "GET",
            "https://eu.api.ovh.com/1.0/domains/",
            "",
            "1366560945",
        ];
        assert_eq!(
            signature(&parts),
            "$1$d3705e8afb27a0d2970a322b96550abfc67bb798"
        );
    }
}
