//! `basicAuth`: lets known users pass.
//!
//! Slow hashes are computed on the blocking pool, a few at a time, and a password that was right is not hashed again for a while.

mod hash;
mod verified;

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::AUTHORIZATION};

use self::{hash::Hash, verified::Verified};
use super::{
    Flow, ReadFile, Resume,
    report::Report,
    users::{self, Admission, Entry},
};
use crate::{config::routing::BasicAuth as Config, exchange::Exchange};

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
    admission: Admission,
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
        let admission = Admission::build(&config.header_field, config.remove_header, report)?;
        Some(Self {
            gate: Arc::new(Gate {
                users,
                decoy,
                challenge: challenge.ok()?,
                admission,
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
        users::claim(exchange, &user);
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
        match right {
            true => self.admission.admit(exchange, user),
            false => self.refuse(),
        }
    }

    fn refuse(&self) -> Flow {
        users::refuse(self.challenge.clone())
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

/// The users of the file and, over them, those written inline.
fn users(config: &Config, read: ReadFile<'_>, report: &mut Report<'_>) -> Option<Users> {
    let mut users = Users::new();
    let lists = (&*config.users, &*config.users_file);
    let usable = users::each_entry(lists, read, report, |entry, report| {
        add_user(&mut users, entry, report)
    });
    usable.then_some(users)
}

fn add_user(users: &mut Users, entry: &Entry<'_>, report: &mut Report<'_>) -> bool {
    let line = entry.line;
    // A hash holds no colon: a second one means that something else was written here.
    let Some((name, hash)) = entry
        .text
        .split_once(':')
        .filter(|(_, hash)| !hash.contains(':'))
    else {
        report.error_with_hint(
            entry.field,
            format!("expected `name:hash`{line}"),
            "`htpasswd -nB name` prints one; in a Compose file write `$$` for each `$`",
        );
        return false;
    };
    let hash = Hash::read(hash);
    if matches!(hash, Hash::Unknown) {
        report.warning_with_hint(
            entry.field,
            format!("user {name:?}{line} cannot pass: the hash is none of bcrypt, `$apr1$`, `$1$`, `{{SHA}}`"),
            "in a Compose file write `$$` for each `$`",
        );
    }
    users.insert(name.to_owned(), Arc::new(hash));
    true
}

#[cfg(test)]
mod tests;
