//! Amazon Route 53, with an access key from the environment or from a file of credentials.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use http::Method;
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, time::sleep};

use super::{
    Setup, TxtRecord,
    api::{AUTHORIZATION, Api, Call, Trouble, element, elements, escaped},
};
use crate::config::units::Secret;

/// Route 53's interface.
#[derive(Debug)]
pub(super) struct Route53 {
    pub(super) api: Api,
    access: Access,
    region: String,
    /// The zone's identity, if it is configured.
    zone: Option<String>,
    ttl: u32,
    /// How long to wait until a change is everywhere, and between two looks.
    patience: Option<(Duration, Duration)>,
    /// A change is made of what was read before: one at a time.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Access {
    id: String,
    secret: Secret,
    session: Option<Secret>,
}

/// The TXT records of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    ttl: u32,
    values: Vec<String>,
}

impl Route53 {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let access = Access::new(setup)?;
        let region = setup.text("AWS_REGION")?.unwrap_or_default();
        // The service has one place in each part of the world that has its own law.
        let (base, region) = match region.split('-').next() {
            Some("cn") => ("https://route53.amazonaws.com.cn", "cn-northwest-1"),
            Some("us") if region.starts_with("us-gov-") => {
                ("https://route53.us-gov.amazonaws.com", "us-gov-west-1")
            }
            _ => ("https://route53.amazonaws.com", "us-east-1"),
        };
        let waits = setup.text("AWS_WAIT_FOR_RECORD_SETS_CHANGED")?;
        let patience = (
            setup.span("PROPAGATION_TIMEOUT", setup.known.timeout)?,
            setup.span("POLLING_INTERVAL", setup.known.interval)?,
        );
        let secrets: Vec<&Secret> = [Some(&access.secret), access.session.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        Ok(Self {
            api: setup.api(
                &["AWS_ENDPOINT_URL_ROUTE_53", "AWS_ENDPOINT_URL"],
                base,
                &secrets,
            )?,
            region: region.to_owned(),
            zone: setup.text("AWS_HOSTED_ZONE_ID")?,
            ttl: setup.ttl()?,
            patience: (waits.as_deref() != Some("false")).then_some(patience),
            changing: Mutex::default(),
            access,
        })
    }

    pub(super) fn needs_zone(&self) -> bool {
        self.zone.is_none()
    }

    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let change = {
            let _one = self.changing.lock().await;
            let zone = self.zone(record).await?;
            let mut set = self.read(&zone, record).await?.unwrap_or(Set {
                ttl: self.ttl,
                values: Vec::new(),
            });
            let value = quoted(record);
            if set.values.contains(&value) {
                return Ok(String::new());
            }
            set.values.push(value);
            self.change(&zone, "UPSERT", record, &set).await?
        };
        self.wait(&change).await?;
        Ok(String::new())
    }

    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), Trouble> {
        let _one = self.changing.lock().await;
        let zone = self.zone(record).await?;
        let Some(set) = self.read(&zone, record).await? else {
            return Ok(());
        };
        let value = quoted(record);
        let mut rest = set.clone();
        rest.values.retain(|one| *one != value);
        if rest == set {
            return Ok(());
        }
        // What is deleted must be named as it is.
        let (action, set) = match rest.values.is_empty() {
            true => ("DELETE", &set),
            false => ("UPSERT", &rest),
        };
        self.change(&zone, action, record, set).await.map(drop)
    }

    /// The identity of the record's zone.
    async fn zone(&self, record: &TxtRecord) -> Result<String, Trouble> {
        if let Some(zone) = &self.zone {
            return Ok(zone.trim_start_matches("/hostedzone/").to_owned());
        }
        let name = record.zone_name();
        let query = format!("dnsname={}", escaped(&name));
        let found = self
            .send(Method::GET, "/2013-04-01/hostedzonesbyname", &query, "")
            .await?;
        let zones = elements(&found, "HostedZone");
        let public = zones.iter().find(|zone| {
            let same = element(zone, "Name").as_deref() == Some(&format!("{name}."));
            same && element(zone, "PrivateZone").as_deref() != Some("true")
        });
        let id = public.and_then(|zone| element(zone, "Id"));
        let id = id.map(|id| escaped(id.trim_start_matches("/hostedzone/")));
        id.ok_or(Trouble::NoZone(name))
    }

    /// The TXT records that the name has.
    async fn read(&self, zone: &str, record: &TxtRecord) -> Result<Option<Set>, Trouble> {
        let name = record.name.to_ascii().to_ascii_lowercase();
        let query = format!("maxitems=1&name={}&type=TXT", escaped(&name));
        let path = format!("/2013-04-01/hostedzone/{zone}/rrset");
        let found = self.send(Method::GET, &path, &query, "").await?;
        let sets = elements(&found, "ResourceRecordSet");
        let own = sets.iter().find(|set| {
            let kind = element(set, "Type");
            element(set, "Name").as_deref() == Some(&name) && kind.as_deref() == Some("TXT")
        });
        Ok(own.map(|set| Set {
            ttl: element(set, "TTL")
                .and_then(|ttl| ttl.parse().ok())
                .unwrap_or(self.ttl),
            values: elements(set, "Value")
                .iter()
                .map(|value| plain(value))
                .collect(),
        }))
    }

    /// Asks for a change; its identity.
    async fn change(
        &self,
        zone: &str,
        action: &str,
        record: &TxtRecord,
        set: &Set,
    ) -> Result<String, Trouble> {
        let name = record.name.to_ascii().to_ascii_lowercase();
        let values = set.values.iter();
        let values: String = values
            .map(|value| {
                format!(
                    "<ResourceRecord><Value>{}</Value></ResourceRecord>",
                    xml(value)
                )
            })
            .collect();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <ChangeBatch><Changes><Change><Action>{action}</Action><ResourceRecordSet><Name>{name}</Name>\
             <Type>TXT</Type><TTL>{}</TTL><ResourceRecords>{values}</ResourceRecords></ResourceRecordSet>\
             </Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>",
            set.ttl
        );
        let path = format!("/2013-04-01/hostedzone/{zone}/rrset/");
        let answer = match self.send(Method::POST, &path, "", &body).await {
            Err(Trouble::Refused(404, _)) => return Err(Trouble::NoZone(zone.to_owned())),
            answer => answer?,
        };
        let id = element(&answer, "Id").unwrap_or_default();
        Ok(id.trim_start_matches("/change/").to_owned())
    }

    /// Waits until a change is everywhere.
    async fn wait(&self, change: &str) -> Result<(), Trouble> {
        let Some((patience, pause)) = self.patience.filter(|_| !change.is_empty()) else {
            return Ok(());
        };
        let path = format!("/2013-04-01/change/{}", escaped(change));
        let looks = patience.as_millis() / pause.as_millis().max(1);
        for _ in 0..looks.clamp(1, MOST_LOOKS) {
            let state = self.send(Method::GET, &path, "", "").await?;
            if element(&state, "Status").as_deref() != Some("PENDING") {
                return Ok(());
            }
            sleep(pause).await;
        }
        Err(Trouble::Own(format!(
            "change {change} is pending for too long"
        )))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: &str,
    ) -> Result<String, Trouble> {
        let now = SystemTime::now();
        let stamp = stamp(now);
        let host = self.api.base.split("://").last().unwrap_or_default();
        let request = Request {
            method: method.as_str(),
            host,
            path,
            query,
            body,
            stamp: &stamp,
        };
        let mut call = Call::default()
            .header("x-amz-date", &stamp)
            .header(AUTHORIZATION, &self.access.sign(&self.region, &request));
        if let Some(session) = &self.access.session {
            call = call.header("x-amz-security-token", session.expose());
        }
        if !body.is_empty() {
            call = call.body("application/xml", body.to_owned());
        }
        let url = match query {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        self.api.send(method, &url, call).await
    }
}

/// What is signed of a request.
struct Request<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    /// Sorted.
    query: &'a str,
    body: &'a str,
    stamp: &'a str,
}

impl Access {
    fn new(setup: &Setup<'_>) -> Result<Self, String> {
        if setup.has("AWS_ACCESS_KEY_ID")? {
            let session = setup.text("AWS_SESSION_TOKEN")?;
            return Ok(Self {
                id: setup.needed("AWS_ACCESS_KEY_ID")?.trim().to_owned(),
                secret: setup.secret("AWS_SECRET_ACCESS_KEY")?,
                session: session.map(|text| Secret::from(text.as_str())),
            });
        }
        let path = setup.needed("AWS_SHARED_CREDENTIALS_FILE")?;
        let text = std::fs::read_to_string(Path::new(&path))
            .map_err(|error| format!("AWS_SHARED_CREDENTIALS_FILE: {path}: {error}"))?;
        let profile = setup
            .text("AWS_PROFILE")?
            .unwrap_or_else(|| "default".to_owned());
        let found = Self::of_profile(&text, &profile);
        found.ok_or_else(|| format!("{path} has no credentials of the profile {profile}"))
    }

    /// The credentials of a profile in an INI file.
    fn of_profile(text: &str, profile: &str) -> Option<Self> {
        let header = format!("[{profile}]");
        let lines = text
            .lines()
            .map(str::trim)
            .skip_while(|line| *line != header)
            .skip(1);
        let pairs: Vec<(&str, &str)> = lines
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let value = |wanted: &str| {
            pairs
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| *value)
        };
        Some(Self {
            id: value("aws_access_key_id")?.to_owned(),
            secret: value("aws_secret_access_key")?.into(),
            session: value("aws_session_token").map(Secret::from),
        })
    }

    /// The header field that signs a request (Signature Version 4).
    fn sign(&self, region: &str, request: &Request<'_>) -> String {
        let Request {
            method,
            host,
            path,
            query,
            body,
            stamp,
        } = request;
        let session = self.session.as_ref().map(Secret::expose);
        let (token, names) = match session {
            Some(token) => (
                format!("x-amz-security-token:{}\n", token.trim()),
                "host;x-amz-date;x-amz-security-token",
            ),
            None => (String::new(), "host;x-amz-date"),
        };
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-date:{stamp}\n{token}\n{names}\n{}",
            hex(&Sha256::digest(body))
        );
        let day = &stamp[..8];
        let scope = format!("{day}/{region}/route53/aws4_request");
        let text = format!(
            "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
            hex(&Sha256::digest(canonical))
        );
        let secret = format!("AWS4{}", self.secret.expose().trim());
        let parts = [day, region, "route53", "aws4_request", &text];
        let signature = parts.iter().fold(secret.into_bytes(), |key, part| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            hmac::sign(&key, part.as_bytes()).as_ref().to_vec()
        });
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.id,
            hex(&signature)
        )
    }
}

/// A moment as `20150830T123600Z`.
fn stamp(now: SystemTime) -> String {
    let now = jiff::Timestamp::try_from(now).unwrap_or_default();
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn quoted(record: &TxtRecord) -> String {
    format!("\"{}\"", record.value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn plain(text: &str) -> String {
    let text = text
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    text.replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

const MOST_LOOKS: u128 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_so_that_one_byte_makes_a_difference() {
        let access = Access {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session: None,
        };
        let request = |path| Request {
            method: "GET",
            host: "route53.amazonaws.com",
            path,
            query: "",
            body: "",
            stamp: "20150830T123600Z",
        };
        let signed = access.sign("us-east-1", &request("/2013-04-01/change/C1"));
        let head = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/route53/aws4_request, SignedHeaders=host;x-amz-date, Signature=";
        let signature = signed.strip_prefix(head).unwrap();
        assert_eq!(signature, SIGNATURE);
        assert_ne!(
            signed,
            access.sign("us-east-1", &request("/2013-04-01/change/C2"))
        );
        assert_ne!(
            signed,
            access.sign("cn-northwest-1", &request("/2013-04-01/change/C1"))
        );
    }

    /// Computed by another implementation of the same algorithm.
    const SIGNATURE: &str = "f8c856d2119b8b4fb1ac536661fdc76ab68214a8059bf2dbad57452f6cb02a3d";

    #[test]
    fn files_of_credentials_are_read() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[other]\naws_access_key_id=C\naws_secret_access_key=D\naws_session_token = E\n[half]\naws_access_key_id=F\n";
        for (profile, expected) in [
            ("default", Some(("A", "B", None))),
            ("other", Some(("C", "D", Some("E")))),
            ("half", None),
            ("none", None),
        ] {
            let found = Access::of_profile(text, profile);
            let found = found.as_ref().map(|one| {
                let session = one.session.as_ref().map(Secret::expose);
                (one.id.as_str(), one.secret.expose(), session)
            });
            assert_eq!(found, expected, "{profile}");
        }
    }

    #[test]
    fn values_survive_xml() {
        let text = "\"a<b>&'c\"";
        assert_eq!(plain(&xml(text)), text);
    }
}
