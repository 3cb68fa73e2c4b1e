//! `digestAuth`: lets known users pass whose password never crosses the wire (RFC 7616, with MD5 and `qop=auth` only, as in Traefik).

mod answer;
mod nonces;

use std::{collections::HashMap, sync::Arc};

use http::{HeaderValue, header::AUTHORIZATION};

use self::{
    answer::Answer,
    nonces::{Nonces, Verdict},
};
use super::{
    Flow, ReadFile,
    report::Report,
    users::{self, Admission, Entry},
};
use crate::{config::routing::DigestAuth as Config, exchange::Exchange};

/// Asks for a proof that the client knows a password.
#[derive(Debug)]
pub struct DigestAuth {
    /// The hash of `name:realm:password` by name; hexadecimal digits.
    users: HashMap<String, String>,
    realm: String,
    admission: Admission,
    /// Outlives a reload.
    nonces: Arc<Nonces>,
}

impl DigestAuth {
    pub(super) fn build(
        config: &Config,
        read: ReadFile<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let realm = match &*config.realm {
            "" => "traefik",
            realm => realm,
        };
        if HeaderValue::from_str(realm).is_err() {
            report.error("realm", "holds characters that no header may hold");
            return None;
        }
        let users = users_of(config, realm, read, report)?;
        let admission = Admission::build(&config.header_field, config.remove_header, report)?;
        let Some(nonces) = Nonces::new() else {
            report.error("", "the system has no randomness to make nonces of");
            return None;
        };
        Some(Self {
            users,
            realm: realm.to_owned(),
            admission,
            nonces: Arc::new(nonces),
        })
    }

    /// Goes on with the nonces that clients have. They say nothing about users, so changed users do not matter.
    pub(super) fn adopt(&mut self, previous: &Self) {
        if self.realm == previous.realm {
            self.nonces = Arc::clone(&previous.nonces);
        }
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        // A copy of the field shares its text; the exchange is about to be edited.
        let header = exchange.request.headers.get(AUTHORIZATION).cloned();
        let Some(answer) = header.as_ref().and_then(Answer::read) else {
            return self.challenge(false);
        };
        let user = answer.get("username");
        users::claim(exchange, user);
        let known = self.users.get(user);
        // An unknown name takes as long as a wrong password.
        let hash = known.map_or(DECOY, |hash| hash);
        let right = answer.is_for(self.nonces.opaque(), &exchange.request)
            & answer.proves(hash, &exchange.request.method);
        if !right || known.is_none() {
            return self.challenge(false);
        }
        let Some(count) = answer.count() else {
            return self.challenge(false);
        };
        match self.nonces.spend(answer.get("nonce"), count) {
            Verdict::Good => self.admission.admit(exchange, user),
            Verdict::Repeated => self.challenge(false),
            Verdict::Stale => self.challenge(true),
        }
    }

    fn challenge(&self, stale: bool) -> Flow {
        let stale = if stale { r#"stale="true", "# } else { "" };
        let text = format!(
            r#"Digest realm="{}", nonce="{}", opaque="{}", {stale}algorithm="MD5", qop="auth""#,
            self.realm,
            self.nonces.issue(),
            self.nonces.opaque(),
        );
        // The realm was looked at when the middleware was made, and the rest is ours.
        users::refuse(HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Digest")))
    }
}

/// The users of the realm.
fn users_of(
    config: &Config,
    realm: &str,
    read: ReadFile<'_>,
    report: &mut Report<'_>,
) -> Option<HashMap<String, String>> {
    let mut known = HashMap::new();
    let before = report.findings();
    let lists = (&*config.users, &*config.users_file);
    let usable = users::each_entry(lists, read, report, |entry, report| {
        let Some((name, hash)) = user(entry, realm, report) else {
            return false;
        };
        known.extend(hash.map(|hash| (name.to_owned(), hash.to_owned())));
        true
    });
    if usable && known.is_empty() && report.findings() == before {
        let message = "there is no user, so nobody can pass";
        report.warning_with_hint("users", message, "add `name:realm:hash`");
    }
    usable.then_some(known)
}

/// The name and, if it can be used, the hash of an entry.
fn user<'e>(
    entry: &Entry<'e>,
    realm: &str,
    report: &mut Report<'_>,
) -> Option<(&'e str, Option<&'e str>)> {
    let line = entry.line;
    let parts: Vec<&str> = entry.text.split(':').collect();
    let &[name, its_realm, hash] = &*parts else {
        let message = format!("expected `name:realm:hash`{line}");
        let hint = "`htdigest -c FILE REALM NAME` writes one";
        report.error_with_hint(entry.field, message, hint);
        return None;
    };
    if its_realm != realm {
        let message =
            format!("user {name:?}{line} cannot pass: the realm is {realm:?}, not {its_realm:?}");
        report.warning(entry.field, message);
        return Some((name, None));
    }
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hash.len() != DECOY.len() || !hash.bytes().all(digit) {
        let message = format!(
            "user {name:?}{line} cannot pass: the hash is not an MD5 in 32 lower-case digits"
        );
        report.warning(entry.field, message);
        return Some((name, None));
    }
    Some((name, Some(hash)))
}

/// Stands in for the hash of an unknown user.
const DECOY: &str = "00000000000000000000000000000000";

#[cfg(test)]
mod tests;
