//! `basicAuth`: lets known users pass.
//!
//! Slow hashes are computed on the blocking pool, a few at a time, and a password that was right is not hashed again for a while.

mod hash;
mod verified;

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytestring::ByteString;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};

use self::{hash::Hash, verified::Verified};
use super::{Flow, ReadFile, Resume, report::Report};
use crate::{
    config::routing::BasicAuth as Config,
    exchange::{Body, Exchange, Response},
};

/// Asks for a name and a password.
#[derive(Debug)]
pub struct BasicAuth {
    gate: Arc<Gate>,
    /// Outlives a reload.
    verified: Arc<Verified>,
}

#[derive(Debug)]
struct Gate {
    users: Users,
    /// Stands in for the hash of an unknown user, so that guessing names takes as long as guessing passwords.
    decoy: Arc<Hash>,
    challenge: HeaderValue,
    remove_header: bool,
    header_field: Option<HeaderName>,
}

type Users = HashMap<String, Arc<Hash>>;

/// What a client says it is.
struct Credentials {
    user: String,
    password: Vec<u8>,
}

impl BasicAuth {
    pub(super) fn build(
        config: &Config,
        read: ReadFile<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let users = users(config, read, report)?;
        let decoy = users.values().max_by_key(|hash| hash.cost()).cloned();
        let Some(decoy) = decoy else {
            report.error_with_hint(
                "users",
                "there is no user, so nobody could pass",
                "add `name:hash`, with the hash by `htpasswd -nB name`",
            );
            return None;
        };
        let realm = if config.realm.is_empty() {
            "traefik"
        } else {
            &config.realm
        };
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\""))
            .map_err(|_| report.error("realm", "holds characters that no header may hold"));
        let header_field = header_field(&config.header_field, report)?;
        Some(Self {
            gate: Arc::new(Gate {
                users,
                decoy,
                challenge: challenge.ok()?,
                remove_header: config.remove_header,
                header_field,
            }),
            verified: Arc::default(),
        })
    }

    /// Goes on knowing which passwords were right. What is known is bound to the hash, so a changed one is asked for again.
    pub(super) fn adopt(&mut self, previous: &Self) {
        self.verified = Arc::clone(&previous.verified);
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let header = exchange.request.headers.get(AUTHORIZATION);
        let Some(credentials) = header.and_then(Credentials::read) else {
            return self.gate.refuse();
        };
        let Credentials { user, password } = credentials;
        let (hash, known) = match self.gate.users.get(&user) {
            Some(hash) => (Arc::clone(hash), true),
            None => (Arc::clone(&self.gate.decoy), false),
        };
        if hash.is_quick() {
            let right = hash.verify(&password);
            return self.gate.decide(exchange, &user, right && known);
        }
        let proof = self.verified.proof(&user, &password, &hash);
        if known && self.verified.contains(&proof) {
            return self.gate.decide(exchange, &user, true);
        }
        let (gate, verified) = (Arc::clone(&self.gate), Arc::clone(&self.verified));
        Flow::Later(Box::pin(async move {
            let right = verified.check(proof, hash, password).await && known;
            let resume: Resume = Box::new(move |exchange| gate.decide(exchange, &user, right));
            resume
        }))
    }
}

impl Gate {
    fn decide(&self, exchange: &mut Exchange, user: &str, right: bool) -> Flow {
        if !right {
            return self.refuse();
        }
        let headers = &mut exchange.request.headers;
        if let Some(name) = &self.header_field {
            headers.remove(name);
            if let Ok(value) = HeaderValue::from_str(user) {
                headers.insert(name, value);
            }
        }
        if self.remove_header {
            headers.remove(AUTHORIZATION);
        }
        exchange.user = Some(ByteString::from(user));
        Flow::Continue
    }

    fn refuse(&self) -> Flow {
        let mut response = Response::new(Body::from("401 Unauthorized\n"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, self.challenge.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Flow::respond(response)
    }
}

impl Credentials {
    /// Reads `Basic base64(name:password)`.
    fn read(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(encoded).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(Self {
            user: String::from_utf8(decoded[..colon].to_vec()).ok()?,
            password: decoded[colon + 1..].to_vec(),
        })
    }
}

fn header_field(name: &str, report: &mut Report<'_>) -> Option<Option<HeaderName>> {
    if name.is_empty() {
        return Some(None);
    }
    HeaderName::from_bytes(name.as_bytes())
        .map(Some)
        .map_err(|_| report.error("headerField", format!("{name:?} is not a header name")))
        .ok()
}

/// The users of the file and, over them, those written inline.
fn users(config: &Config, read: ReadFile<'_>, report: &mut Report<'_>) -> Option<Users> {
    let mut users = Users::new();
    let mut usable = true;
    if !config.users_file.is_empty() {
        match read(&config.users_file) {
            Err(reason) => {
                usable = false;
                report.error("usersFile", reason);
            }
            Ok(content) => {
                for (index, line) in content.lines().enumerate() {
                    let line = line.trim();
                    if !line.is_empty() && !line.starts_with('#') {
                        let place = format!(" in line {}", index + 1);
                        usable &= add_user(&mut users, line, "usersFile", &place, report);
                    }
                }
            }
        }
    }
    for (index, entry) in config.users.iter().enumerate() {
        let field = format!("users[{index}]");
        usable &= add_user(&mut users, entry.expose(), &field, "", report);
    }
    usable.then_some(users)
}

fn add_user(
    users: &mut Users,
    entry: &str,
    field: &str,
    place: &str,
    report: &mut Report<'_>,
) -> bool {
    // A hash holds no colon: a second one means that something else was written here.
    let Some((name, hash)) = entry
        .split_once(':')
        .filter(|(_, hash)| !hash.contains(':'))
    else {
        report.error_with_hint(
            field,
            format!("expected `name:hash`{place}"),
            "`htpasswd -nB name` prints one; in a Compose file write `$$` for each `$`",
        );
        return false;
    };
    let hash = Hash::read(hash);
    if matches!(hash, Hash::Unknown) {
        report.warning_with_hint(
            field,
            format!("user {name:?}{place} cannot pass: the hash is none of bcrypt, `$apr1$`, `$1$`, `{{SHA}}`"),
            "in a Compose file write `$$` for each `$`",
        );
    }
    users.insert(name.to_owned(), Arc::new(hash));
    true
}

#[cfg(test)]
mod tests;
