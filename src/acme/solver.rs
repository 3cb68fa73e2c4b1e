//! How names are proven: one variant per kind of challenge.
//!
//! The walk through an order asks a solver in four steps: [`Solver::present`] puts the answer to a challenge where the authority will
//! look, [`Solver::settle`] waits until it can be seen there, then the authority is told, and when it has looked
//! [`Answer::withdraw`] takes the answer away.

use std::{future::ready, time::Duration};

use tokio::{task::spawn_blocking, time::sleep};

use super::keys;
use crate::{
    challenge::{Challenges, Presented},
    config::install::AcmeResolver,
};

/// A way to prove names that a resolver is configured with.
#[derive(Debug)]
pub(super) enum Solver {
    /// HTTP-01: a plain request to an entry point.
    Http {
        challenges: Challenges,
        entry_point: String,
        delay: Duration,
    },
    /// TLS-ALPN-01: a handshake with a protocol of its own.
    TlsAlpn {
        challenges: Challenges,
        delay: Duration,
    },
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
    /// Our own entry points give it.
    Local(#[expect(dead_code, reason = "given for as long as it lives")] Presented),
}

impl Solver {
    /// The solvers of a resolver, the preferred one first.
    pub(super) fn all(config: &AcmeResolver, challenges: &Challenges) -> Vec<Self> {
        let tls = config.tls_challenge.as_ref().map(|tls| Self::TlsAlpn {
            challenges: challenges.clone(),
            delay: tls.delay.positive().unwrap_or_default(),
        });
        let http = config.http_challenge.as_ref().map(|http| Self::Http {
            challenges: challenges.clone(),
            entry_point: http.entry_point.clone(),
            delay: http.delay.positive().unwrap_or_default(),
        });
        tls.into_iter().chain(http).collect()
    }

    /// What authorities call the challenge.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http-01",
            Self::TlsAlpn { .. } => "tls-alpn-01",
        }
    }

    /// Whether a wildcard can be proven.
    pub(super) fn proves_wildcards(&self) -> bool {
        match self {
            Self::Http { .. } | Self::TlsAlpn { .. } => false,
        }
    }

    /// Puts the answer into its place. Where an answer for the same name may be in the way of this one (as with TXT records of a name
    /// and its wildcard), both must be given.
    pub(super) async fn present(&self, proof: &Proof) -> Result<Answer, String> {
        match self {
            Self::Http {
                challenges,
                entry_point,
                ..
            } => {
                let body = proof.authorization.clone();
                let presented =
                    challenges.present_http(entry_point, &proof.name, &proof.token, body);
                Ok(Answer::Local(presented))
            }
            Self::TlsAlpn { challenges, .. } => {
                let (name, own) = (proof.name.clone(), proof.authorization.clone());
                let config = spawn_blocking(move || keys::challenge(&name, &own)).await;
                let config = config.map_err(|error| error.to_string())??;
                Ok(Answer::Local(challenges.present_tls(&proof.name, config)))
            }
        }
    }

    /// Waits until the authority will see the answers that were presented.
    pub(super) async fn settle(&self, _answers: &[Answer]) -> Result<(), String> {
        match self {
            Self::Http { delay, .. } | Self::TlsAlpn { delay, .. } => sleep(*delay).await,
        }
        Ok(())
    }
}

impl Answer {
    /// Takes the answer away; what cannot be taken away is logged.
    pub(super) fn withdraw(self) -> impl Future<Output = ()> + Send {
        drop(self);
        ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::install::{HttpChallenge, TlsChallenge};

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
        let solvers = Solver::all(&config, &challenges);
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
