//! How names are proven: one variant per kind of challenge.
//!
//! The walk through an order asks a solver in four steps: [`Solver::present`] puts the answer to a challenge where the authority will
//! look, [`Solver::settle`] waits until it can be seen there, then the authority is told, and when it has looked
//! [`Answer::withdraw`] takes the answer away.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    board::Post,
    dns::{Dns, Placed},
    vault::{Posted, Vault},
};
use crate::config::install::AcmeResolver;

/// A way to prove names that a resolver is configured with.
#[derive(Debug)]
pub(super) enum Solver {
    /// HTTP-01: a plain request to an entry point.
    Http {
        vault: Arc<Vault>,
        entry_point: String,
        delay: Duration,
    },
    /// TLS-ALPN-01: a handshake with a protocol of its own.
    TlsAlpn { vault: Arc<Vault>, delay: Duration },
    /// DNS-01: a TXT record.
    Dns(Arc<Dns>),
}

/// What is to be proven.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    /// The name, for a wildcard without the `*.`.
    pub(super) name: String,
    pub(super) token: String,
    /// What the challenge is answered with: the token and the account's key.
    pub(super) authorization: String,
}

/// An answer that is in its place.
#[derive(Debug)]
#[must_use = "the answer stays where it is until it is withdrawn"]
pub(super) enum Answer {
    /// The entry points of every edge on the storage give it.
    Posted(Posted),
    /// The zone has it.
    Placed(Box<Placed>),
}

impl Solver {
    /// The solvers of a resolver, the preferred one first.
    pub(super) fn all(
        config: &AcmeResolver,
        vault: &Arc<Vault>,
        dns: Option<Arc<Dns>>,
    ) -> Vec<Self> {
        let dns = dns.map(Self::Dns);
        let tls = config.tls_challenge.as_ref().map(|tls| Self::TlsAlpn {
            vault: Arc::clone(vault),
            delay: tls.delay.positive().unwrap_or_default(),
        });
        let http = config.http_challenge.as_ref().map(|http| Self::Http {
            vault: Arc::clone(vault),
            entry_point: http.entry_point.clone(),
            delay: http.delay.positive().unwrap_or_default(),
        });
        dns.into_iter().chain(tls).chain(http).collect()
    }

    /// What authorities call the challenge.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http-01",
            Self::TlsAlpn { .. } => "tls-alpn-01",
            Self::Dns(_) => "dns-01",
        }
    }

    /// The entry point on which it answers, if it is one in particular.
    pub(super) fn entry_point(&self) -> Option<&str> {
        if let Self::Http { entry_point, .. } = self {
            return Some(entry_point);
        }
        None
    }

    /// Whether a wildcard can be proven.
    pub(super) fn proves_wildcards(&self) -> bool {
        match self {
            Self::Http { .. } | Self::TlsAlpn { .. } => false,
            Self::Dns(_) => true,
        }
    }

    /// Puts the answer into its place. Where an answer for the same name may be in the way of this one (as with TXT records of a name
    /// and its wildcard), both must be given.
    pub(super) async fn present(&self, proof: &Proof) -> Result<Answer, String> {
        let (vault, post) = match self {
            Self::Http {
                vault, entry_point, ..
            } => {
                let post = Post::Http {
                    entry_point: entry_point.clone(),
                    host: proof.name.clone(),
                    token: proof.token.clone(),
                    answer: proof.authorization.clone(),
                };
                (vault, post)
            }
            Self::TlsAlpn { vault, .. } => {
                let post = Post::Tls {
                    name: proof.name.clone(),
                    answer: proof.authorization.clone(),
                };
                (vault, post)
            }
            Self::Dns(dns) => {
                let placed = dns.present(proof).await?;
                return Ok(Answer::Placed(Box::new(placed)));
            }
        };
        vault.post(post).await.map(Answer::Posted)
    }

    /// Waits until the authority will see the answers that were presented.
    pub(super) async fn settle(&self, answers: &[Answer]) -> Result<(), String> {
        match self {
            Self::Http { vault, delay, .. } | Self::TlsAlpn { vault, delay } => {
                vault.settled().await;
                sleep(*delay).await;
                Ok(())
            }
            Self::Dns(dns) => {
                let placed = answers.iter().filter_map(|answer| match answer {
                    Answer::Placed(placed) => Some(&**placed),
                    Answer::Posted(_) => None,
                });
                dns.settle(&placed.collect::<Vec<_>>()).await
            }
        }
    }
}

impl Answer {
    /// Takes the answer away; what cannot be taken away is logged.
    pub(super) async fn withdraw(self) {
        match self {
            Self::Posted(posted) => posted.withdraw().await,
            Self::Placed(placed) => placed.withdraw().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        acme::store::Files,
        challenge::Challenges,
        config::install::{HttpChallenge, TlsChallenge},
    };

    #[tokio::test]
    async fn an_answer_is_given_from_presenting_to_withdrawing() {
        let challenges = Challenges::default();
        let config = AcmeResolver {
            http_challenge: Some(HttpChallenge {
                entry_point: "web".to_owned(),
                ..HttpChallenge::default()
            }),
            tls_challenge: Some(TlsChallenge::default()),
            ..AcmeResolver::default()
        };
        let proof = Proof {
            name: "a.test".to_owned(),
            token: "token".to_owned(),
            authorization: "token.thumb".to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        let store = Files::new(&folder.path().join("acme.json"));
        let vault = Vault::new(store, challenges.clone(), Arc::default());
        vault.start().await;
        let solvers = Solver::all(&config, &vault, None);
        let kinds: Vec<&str> = solvers.iter().map(Solver::kind).collect();
        assert_eq!(kinds, ["tls-alpn-01", "http-01"]);
        for solver in &solvers {
            let answer = solver.present(&proof).await.unwrap();
            let http = challenges.http("web", "a.test", "/.well-known/acme-challenge/token");
            assert_eq!(http.is_some(), solver.kind() == "http-01");
            let tls = challenges.tls("a.test");
            assert_eq!(tls.is_some(), solver.kind() == "tls-alpn-01");
            let answers = [answer];
            solver.settle(&answers).await.unwrap();
            for answer in answers {
                answer.withdraw().await;
            }
            assert!(!challenges.any());
        }
    }
}
