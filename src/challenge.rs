//! Challenges of certificate authorities: who orders certificates presents what is to be answered, entry points look it up.
//!
//! As long as nothing is presented a look costs one load. Nothing here knows authorities, configuration or sockets.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use rustls::ServerConfig;

/// What is to be answered now. Clones share it.
#[derive(Clone, Default)]
pub struct Challenges(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many answers are presented.
    pending: AtomicUsize,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    /// HTTP-01 by token.
    http: HashMap<Box<str>, Arc<HttpAnswer>>,
    /// TLS-ALPN-01 by server name.
    tls: HashMap<Box<str>, Arc<ServerConfig>>,
}

struct HttpAnswer {
    entry_point: Box<str>,
    host: Box<str>,
    body: Bytes,
}

impl Challenges {
    /// Whether anything is to be answered.
    pub fn any(&self) -> bool {
        self.0.pending.load(Ordering::Relaxed) > 0
    }

    /// Answers HTTP-01 for `host` on one entry point for as long as what is returned lives.
    pub fn present_http(
        &self,
        entry_point: &str,
        host: &str,
        token: &str,
        body: String,
    ) -> Presented {
        let answer = Arc::new(HttpAnswer {
            entry_point: entry_point.into(),
            host: host.into(),
            body: body.into(),
        });
        self.answers()
            .http
            .insert(token.into(), Arc::clone(&answer));
        self.presented(What::Http(token.into(), answer))
    }

    /// Answers TLS-ALPN-01 for `name` for as long as what is returned lives.
    pub fn present_tls(&self, name: &str, config: Arc<ServerConfig>) -> Presented {
        self.answers().tls.insert(name.into(), Arc::clone(&config));
        self.presented(What::Tls(name.into(), config))
    }

    /// The answer to a plain request for `path` at `host` (lower-case, no port).
    pub fn http(&self, entry_point: &str, host: &str, path: &str) -> Option<Bytes> {
        let token = path.strip_prefix(HTTP_PATH)?;
        let token = token.strip_suffix('/').unwrap_or(token);
        let answer = self.answers().http.get(token).cloned()?;
        let ours = *answer.entry_point == *entry_point && *answer.host == *host;
        ours.then(|| answer.body.clone())
    }

    /// What a handshake for `name` that offers [`ALPN`] is answered with.
    pub fn tls(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.answers().tls.get(name).cloned()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        let answers = self.0.answers.lock();
        answers.unwrap_or_else(PoisonError::into_inner)
    }

    fn presented(&self, what: What) -> Presented {
        self.0.pending.fetch_add(1, Ordering::Relaxed);
        Presented {
            challenges: self.clone(),
            what,
        }
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.0.pending.load(Ordering::Relaxed);
        f.debug_tuple("Challenges").field(&pending).finish()
    }
}

/// An answer that is given until this is dropped.
#[must_use = "the answer is withdrawn when this is dropped"]
pub struct Presented {
    challenges: Challenges,
    what: What,
}

enum What {
    Http(Box<str>, Arc<HttpAnswer>),
    Tls(Box<str>, Arc<ServerConfig>),
}

impl Drop for Presented {
    fn drop(&mut self) {
        {
            let mut answers = self.challenges.answers();
            // A later answer for the same name stays.
            match &self.what {
                What::Http(token, ours) => {
                    if answers
                        .http
                        .get(token)
                        .is_some_and(|one| Arc::ptr_eq(one, ours))
                    {
                        answers.http.remove(token);
                    }
                }
                What::Tls(name, ours) => {
                    if answers
                        .tls
                        .get(name)
                        .is_some_and(|one| Arc::ptr_eq(one, ours))
                    {
                        answers.tls.remove(name);
                    }
                }
            }
        }
        self.challenges.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, key) = match &self.what {
            What::Http(token, _) => ("http", token),
            What::Tls(name, _) => ("tls", name),
        };
        f.debug_tuple("Presented").field(&kind).field(key).finish()
    }
}

/// The protocol that a TLS-ALPN-01 handshake offers (RFC 8737).
pub const ALPN: &[u8] = b"acme-tls/1";

const HTTP_PATH: &str = "/.well-known/acme-challenge/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_where_it_belongs_and_as_long_as_it_is_presented() {
        let challenges = Challenges::default();
        assert!(!challenges.any());
        let presented = challenges.present_http("web", "a.test", "token", "answer".to_owned());
        assert!(challenges.any());
        for (entry_point, host, path, expected) in [
            ("web", "a.test", "/.well-known/acme-challenge/token", true),
            ("web", "a.test", "/.well-known/acme-challenge/token/", true),
            ("web", "b.test", "/.well-known/acme-challenge/token", false),
            ("alt", "a.test", "/.well-known/acme-challenge/token", false),
            ("web", "a.test", "/.well-known/acme-challenge/other", false),
            ("web", "a.test", "/token", false),
        ] {
            let answer = challenges.http(entry_point, host, path);
            assert_eq!(answer.is_some(), expected, "{entry_point} {host} {path}");
        }
        let again = challenges.present_http("web", "a.test", "token", "later".to_owned());
        drop(presented);
        let answer = challenges.http("web", "a.test", "/.well-known/acme-challenge/token");
        assert_eq!(answer.as_deref(), Some(&b"later"[..]));
        drop(again);
        assert!(!challenges.any());
    }
}
