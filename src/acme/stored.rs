//! The form of `acme.json`, as Traefik reads and writes it. What we do not know stays as it is.

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::{AccountKey, Registered};

/// What is stored for one resolver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Stored {
    /// The account.
    #[serde(default)]
    pub(super) account: Option<Account>,
    #[serde(default)]
    certificates: Option<Vec<Pair>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Account {
    #[serde(default)]
    email: String,
    #[serde(default)]
    registration: Option<Registration>,
    /// Base64 of PKCS#1.
    #[serde(default)]
    private_key: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Registration {
    #[serde(default)]
    body: Value,
    #[serde(default)]
    uri: String,
}

impl Account {
    /// An account that is yet to be registered.
    pub(super) fn new(email: &str, key: &AccountKey) -> Self {
        Self {
            email: email.to_owned(),
            private_key: BASE64.encode(key.der()),
            ..Self::default()
        }
    }

    /// Notes what the authority calls it; none if it does not know it any more.
    pub(super) fn register(&mut self, registered: Option<Registered>) {
        self.registration = registered.map(|registered| Registration {
            body: registered.body,
            uri: registered.url,
        });
    }

    /// Its URL, if it was registered with the authority at `server`.
    pub(super) fn url(&self, server: &str) -> Option<&str> {
        let url = self.registration.as_ref()?.uri.as_str();
        (host(url).is_some() && host(url) == host(server)).then_some(url)
    }

    /// Its key.
    pub(super) fn key(&self) -> Result<AccountKey, String> {
        let der = BASE64.decode(&self.private_key);
        AccountKey::from_der(&der.map_err(|error| error.to_string())?)
    }
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Pair {
    #[serde(default)]
    domain: Domain,
    /// Base64 of PEM, leaf first.
    #[serde(default)]
    certificate: String,
    /// Base64 of PEM.
    #[serde(default)]
    key: String,
    #[serde(default, rename = "Store")]
    store: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Domain {
    #[serde(default)]
    main: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sans: Vec<String>,
}

impl Pair {
    /// PEM texts of chain and key.
    pub(super) fn texts(&self) -> Option<(String, String)> {
        let text = |encoded| String::from_utf8(BASE64.decode(encoded).ok()?).ok();
        Some((text(&self.certificate)?, text(&self.key)?))
    }
}

impl Stored {
    /// Whether the authority at `server` knows the account.
    pub(super) fn is_registered(&self, server: &str) -> bool {
        let account = self.account.as_ref();
        account.is_some_and(|account| account.url(server).is_some())
    }

    /// The certificates.
    pub(super) fn pairs(&self) -> &[Pair] {
        self.certificates.as_deref().unwrap_or_default()
    }

    /// Adds what somebody else has that is newer than this.
    pub(super) fn absorb(&mut self, newer: Self) {
        if self.account.is_none() {
            self.account = newer.account;
        }
        let pairs = self.certificates.get_or_insert_default();
        for pair in newer.certificates.into_iter().flatten() {
            match pairs.iter_mut().find(|old| same(&old.domain, &pair.domain)) {
                Some(old) => *old = pair,
                None => pairs.push(pair),
            }
        }
    }

    /// Stores a certificate for `names`, in the place of the one for the same names.
    pub(super) fn put(&mut self, names: &[String], chain: &str, key: &str) {
        let Some((main, sans)) = names.split_first() else {
            return;
        };
        let domain = Domain {
            main: main.clone(),
            sans: sans.to_owned(),
        };
        let pairs = self.certificates.get_or_insert_default();
        let new = Pair {
            certificate: BASE64.encode(chain),
            key: BASE64.encode(key),
            store: "default".to_owned(),
            domain,
            rest: Map::new(),
        };
        match pairs.iter_mut().find(|old| same(&old.domain, &new.domain)) {
            Some(old) => *old = new,
            None => pairs.push(new),
        }
    }
}

fn same(one: &Domain, other: &Domain) -> bool {
    let set = |domain: &Domain| {
        let names = domain.sans.iter().chain([&domain.main]).cloned();
        names.collect::<std::collections::BTreeSet<String>>()
    };
    set(one) == set(other)
}

/// Host and port of a URL.
fn host(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_traefik_wrote_is_written_again_as_it_was() {
        let text = r#"{
          "Account": {
            "Email": "me@a.test",
            "Registration": { "body": { "status": "valid", "contact": ["mailto:me@a.test"] }, "uri": "https://ca:14000/my-account/1" },
            "PrivateKey": "AAAA", "KeyType": "4096"
          },
          "Certificates": [
            { "domain": { "main": "a.test", "sans": ["b.test"] }, "certificate": "YQ==", "key": "Yg==", "Store": "default" },
            { "domain": { "main": "c.test" }, "certificate": "YQ==", "key": "Yg==", "Store": "default", "New": 1 }
          ],
          "Later": true
        }"#;
        let stored: Stored = serde_json::from_str(text).unwrap();
        let before: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&stored).unwrap(), before);
        let account = stored.account.unwrap();
        assert_eq!(
            account.url("https://ca:14000/dir"),
            Some("https://ca:14000/my-account/1")
        );
        assert_eq!(account.url("https://other/dir"), None);
        assert_eq!(
            serde_json::from_str::<Stored>(r#"{"Account":null,"Certificates":null}"#)
                .unwrap()
                .pairs(),
            []
        );
    }

    #[test]
    fn a_certificate_takes_the_place_of_the_one_for_the_same_names() {
        let mut stored = Stored::default();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        stored.put(&names(&["a.test", "b.test"]), "one", "key");
        stored.put(&names(&["c.test"]), "two", "key");
        stored.put(&names(&["b.test", "a.test"]), "three", "key");
        let chains: Vec<String> = stored
            .pairs()
            .iter()
            .map(|pair| pair.texts().unwrap().0)
            .collect();
        assert_eq!(chains, ["three", "two"]);
    }
}
