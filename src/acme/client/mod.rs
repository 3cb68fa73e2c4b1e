//! The protocol with an authority (RFC 8555): accounts, orders, authorizations.
//!
//! Nothing here decides when to ask for what; see [docs/decisions](../../../docs/decisions/) for why it is our own.

mod failure;
mod http;
mod jws;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use ::http::{Method, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::advice::Window;
use crate::config::install::AcmeResolver;
use http::{Answer, Http};

pub(super) use failure::{Failure, Problem, retry_after};
pub(super) use jws::AccountKey;

/// An authority, reached with an account.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    directory: Directory,
    key: AccountKey,
    account: String,
    nonces: Mutex<Vec<String>>,
}

/// What an authority says where to ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    renewal_info: Option<String>,
}

/// An account as the authority knows it.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) url: String,
    pub(super) body: Value,
}

impl Client {
    /// Finds the authority, and registers the key unless `account` says that it is.
    pub(super) async fn open(
        config: &AcmeResolver,
        key: AccountKey,
        account: Option<String>,
    ) -> Result<(Self, Option<Registered>), Failure> {
        let own = config.clone();
        let http = tokio::task::spawn_blocking(move || Http::new(&own));
        let http = http
            .await
            .map_err(|error| Failure::Own(error.to_string()))?;
        let http = http.map_err(Failure::Own)?;
        let answer = http.send(Method::GET, &config.ca_server, None).await;
        let answer = answer.map_err(Failure::Unreachable)?;
        let directory = serde_json::from_slice(&answer.body).map_err(|_| {
            let what = format!("{} is not the directory of one", config.ca_server);
            Failure::Unreachable(what)
        })?;
        let mut client = Self {
            http,
            directory,
            key,
            account: account.unwrap_or_default(),
            nonces: Mutex::default(),
        };
        if !client.account.is_empty() {
            return Ok((client, None));
        }
        let registered = client.register(config).await?;
        client.account.clone_from(&registered.url);
        Ok((client, Some(registered)))
    }

    async fn register(&self, config: &AcmeResolver) -> Result<Registered, Failure> {
        let url = &self.directory.new_account;
        let mut wanted = json!({ "termsOfServiceAgreed": true });
        if !config.email.is_empty() {
            wanted["contact"] = json!([format!("mailto:{}", config.email)]);
        }
        if let (Some(eab), Some(key)) = (&config.eab, config.eab_key()) {
            wanted["externalAccountBinding"] = self.key.bind(&eab.kid, &key, url);
        }
        let answer = self.post(None, url, Some(&wanted)).await?;
        Ok(Registered {
            url: location(&answer)?,
            body: decode(&answer)?,
        })
    }

    /// Asks for a certificate.
    pub(super) async fn new_order(
        &self,
        names: &[String],
        profile: &str,
        replaces: Option<&str>,
    ) -> Result<(String, Order), Failure> {
        let identifiers: Vec<Value> = names
            .iter()
            .map(|name| json!({ "type": "dns", "value": name }))
            .collect();
        let mut wanted = json!({ "identifiers": identifiers });
        if !profile.is_empty() {
            wanted["profile"] = profile.into();
        }
        let url = &self.directory.new_order;
        let replaces = replaces.filter(|_| self.directory.renewal_info.is_some());
        if let Some(replaces) = replaces {
            wanted["replaces"] = replaces.into();
        }
        let mut answer = self.post(Some(&self.account), url, Some(&wanted)).await;
        let unwilling = |failure: &Failure| UNWILLING.iter().any(|kind| failure.is(kind));
        if let (Some(fields), Err(failure)) = (wanted.as_object_mut(), &answer)
            && replaces.is_some()
            && unwilling(failure)
        {
            // It may know nothing of the old certificate, or have been told already.
            fields.remove("replaces");
            answer = self.post(Some(&self.account), url, Some(&wanted)).await;
        }
        let answer = answer?;
        Ok((location(&answer)?, decode(&answer)?))
    }

    /// When the authority would have the certificate with this name (RFC 9773) replaced, if it says so, and how long to wait before asking
    /// again.
    pub(super) async fn renewal(
        &self,
        id: &str,
    ) -> Result<(Option<Window>, Option<Duration>), Failure> {
        let Some(base) = &self.directory.renewal_info else {
            return Ok((None, Some(UNADVISED)));
        };
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let answer = self.http.send(Method::GET, &url, None).await;
        let answer = answer.map_err(Failure::Unreachable)?;
        if !answer.status.is_success() {
            return Err(Failure::Refused(Box::new(Problem::of(&answer))));
        }
        let pause = retry_after(&answer.headers, SystemTime::now());
        let info: RenewalInfo = decode(&answer)?;
        Ok((Some(info.window()?), pause))
    }

    /// What has become of an order, and how long to wait before asking again.
    pub(super) async fn order(&self, url: &str) -> Result<(Order, Option<Duration>), Failure> {
        self.get(url).await
    }

    /// What has become of an authorization, and how long to wait before asking again.
    pub(super) async fn authorization(
        &self,
        url: &str,
    ) -> Result<(Authorization, Option<Duration>), Failure> {
        self.get(url).await
    }

    /// Tells the authority that a challenge is answered.
    pub(super) async fn ready(&self, challenge: &Challenge) -> Result<(), Failure> {
        self.post(Some(&self.account), &challenge.url, Some(&json!({})))
            .await
            .map(drop)
    }

    /// Hands in the request for the certificate of an order.
    pub(super) async fn finalize(&self, order: &Order, csr: &[u8]) -> Result<(), Failure> {
        let request = json!({ "csr": BASE64.encode(csr) });
        self.post(Some(&self.account), &order.finalize, Some(&request))
            .await
            .map(drop)
    }

    /// The chain of a certificate in PEM form: the one whose topmost issuer `wanted` accepts, or else the first.
    pub(super) async fn certificate(
        &self,
        url: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, Failure> {
        let answer = self.post(Some(&self.account), url, None).await?;
        let first = text(&answer)?;
        if wanted(&first) {
            return Ok(first);
        }
        for url in alternates(&answer) {
            let other = text(&self.post(Some(&self.account), &url, None).await?)?;
            if wanted(&other) {
                return Ok(other);
            }
        }
        Ok(first)
    }

    /// What a challenge is answered with.
    pub(super) fn authorize(&self, challenge: &Challenge) -> String {
        self.key.authorize(&challenge.token)
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<(T, Option<Duration>), Failure> {
        let answer = self.post(Some(&self.account), url, None).await?;
        let pause = retry_after(&answer.headers, SystemTime::now());
        Ok((decode(&answer)?, pause))
    }

    /// A signed request. A nonce that is refused is replaced.
    async fn post(
        &self,
        account: Option<&str>,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut tries = MOST_NONCES;
        loop {
            let nonce = self.nonce().await?;
            let body = self.key.sign(account, &nonce, url, payload);
            let body = Bytes::from(body.map_err(Failure::Own)?);
            let sent = self.http.send(Method::POST, url, Some(body)).await;
            let answer = sent.map_err(Failure::Unreachable)?;
            self.keep_nonce(&answer);
            if answer.status.is_success() {
                return Ok(answer);
            }
            let failure = Failure::Refused(Box::new(Problem::of(&answer)));
            tries -= 1;
            if tries == 0 || !failure.is("badNonce") {
                return Err(failure);
            }
        }
    }

    async fn nonce(&self) -> Result<String, Failure> {
        let kept = self
            .nonces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(nonce) = kept {
            return Ok(nonce);
        }
        let sent = self
            .http
            .send(Method::HEAD, &self.directory.new_nonce, None)
            .await;
        let answer = sent.map_err(Failure::Unreachable)?;
        let missing = || Failure::Unreachable("it gives no nonce".to_owned());
        nonce_of(&answer).ok_or_else(missing)
    }

    fn keep_nonce(&self, answer: &Answer) {
        if let Some(nonce) = nonce_of(answer) {
            let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
            nonces.truncate(SPARE_NONCES - 1);
            nonces.push(nonce);
        }
    }
}

/// An order.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Order {
    pub(super) status: Status,
    #[serde(default)]
    pub(super) authorizations: Vec<String>,
    pub(super) finalize: String,
    pub(super) certificate: Option<String>,
    pub(super) error: Option<Problem>,
}

/// What an authority says about a renewal.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RenewalInfo {
    suggested_window: SuggestedWindow,
    #[serde(default, rename = "explanationURL")]
    explanation: String,
}

#[derive(Debug, Deserialize)]
struct SuggestedWindow {
    start: String,
    end: String,
}

impl RenewalInfo {
    fn window(self) -> Result<Window, Failure> {
        let seconds = |text: &str| {
            let time = text.parse::<jiff::Timestamp>();
            time.map(|time| time.as_second()).map_err(|error| {
                Failure::Unreachable(format!("its advice cannot be read: {error}"))
            })
        };
        Ok(Window {
            start: seconds(&self.suggested_window.start)?,
            end: seconds(&self.suggested_window.end)?,
            explanation: self.explanation,
        })
    }
}

/// Whether the account may have certificates for a name.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Authorization {
    pub(super) status: Status,
    identifier: Identifier,
    #[serde(default)]
    pub(super) challenges: Vec<Challenge>,
}

impl Authorization {
    /// The name.
    pub(super) fn name(&self) -> &str {
        &self.identifier.value
    }

    /// The challenge of this type.
    pub(super) fn challenge(&self, kind: &str) -> Option<&Challenge> {
        self.challenges.iter().find(|one| one.kind == kind)
    }

    /// What the authority saw instead of the answer.
    pub(super) fn problem(&self) -> Problem {
        let mut problems = self.challenges.iter();
        problems
            .find_map(|challenge| challenge.error.clone())
            .unwrap_or_default()
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Identifier {
    value: String,
}

/// A way to prove a name.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Challenge {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    #[serde(default)]
    pub(super) token: String,
    #[serde(default)]
    pub(super) status: Status,
    error: Option<Problem>,
}

/// Where an order or an authorization stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Something is to be done.
    #[default]
    Pending,
    /// It can be finalized.
    Ready,
    /// The authority is at it.
    Processing,
    /// Done.
    Valid,
    /// It failed, or is of no more use.
    #[serde(other)]
    Invalid,
}

fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::Unreachable(format!("its answer cannot be read: {error}")))
}

fn text(answer: &Answer) -> Result<String, Failure> {
    String::from_utf8(answer.body.to_vec())
        .map_err(|_| Failure::Unreachable("its certificate is not text".to_owned()))
}

fn location(answer: &Answer) -> Result<String, Failure> {
    let location = answer.headers.get(header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    let missing = || Failure::Unreachable("its answer names no URL".to_owned());
    location.map(str::to_owned).ok_or_else(missing)
}

fn nonce_of(answer: &Answer) -> Option<String> {
    let nonce = answer.headers.get("replay-nonce")?.to_str().ok()?;
    Some(nonce.to_owned())
}

/// The URLs of other chains for the same certificate.
fn alternates(answer: &Answer) -> Vec<String> {
    let links = answer.headers.get_all(header::LINK).iter();
    let links = links.filter_map(|link| link.to_str().ok());
    let links = links.flat_map(|links| links.split(','));
    links
        .filter(|link| link.contains("rel=\"alternate\"") || link.contains("rel=alternate"))
        .filter_map(|link| Some(link.split_once('<')?.1.split_once('>')?.0.to_owned()))
        .collect()
}

/// Why an authority may refuse to take an order for the replacement of a certificate.
const UNWILLING: [&str; 4] = [
    "alreadyReplaced",
    "malformed",
    "unauthorized",
    "serverInternal",
];
/// When to look again whether an authority gives advice by now.
const UNADVISED: Duration = Duration::from_secs(24 * 3600);
/// How often a nonce may be refused before the request is given up.
const MOST_NONCES: u32 = 20;
/// How many nonces are kept.
const SPARE_NONCES: usize = 8;
