//! One order, from the first request to the certificate. What must not be lost is written down before the next step.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::info;

use super::{
    client::{Authorization, Challenge, Client, Failure, Order, Status},
    keys,
    memory::{OpenOrder, key_of},
    now,
    resolver::Resolver,
    solver::{Answer, Proof, Solver},
};
use crate::tls::Certificate;

/// A certificate that was issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) certificate: Certificate,
}

/// Gets a certificate for `names`: by an order that is under way, or by a new one.
pub(super) async fn obtain(
    resolver: &Resolver,
    client: &Client,
    names: &[String],
) -> Result<Issued, Failure> {
    let mut run = match resume(resolver, client, names).await? {
        Some(run) => run,
        None => begin(resolver, client, names).await?,
    };
    run.authorize().await?;
    run.finalize().await?;
    run.download().await
}

/// An order under way.
struct Run<'a> {
    resolver: &'a Resolver,
    client: &'a Client,
    names: &'a [String],
    open: OpenOrder,
    order: Order,
}

async fn resume<'a>(
    resolver: &'a Resolver,
    client: &'a Client,
    names: &'a [String],
) -> Result<Option<Run<'a>>, Failure> {
    let Some(open) = resolver.memory().orders.remove(&key_of(names)) else {
        return Ok(None);
    };
    let order = match client.order(&open.url).await {
        Ok((order, _)) if order.status != Status::Invalid => order,
        Err(failure @ Failure::Unreachable(_)) => return Err(failure),
        _ => {
            resolver.drop_order(names).await;
            return Ok(None);
        }
    };
    info!(
        resolver = resolver.name(),
        ?names,
        "an order under way is taken up again"
    );
    Ok(Some(Run {
        resolver,
        client,
        names,
        open,
        order,
    }))
}

async fn begin<'a>(
    resolver: &'a Resolver,
    client: &'a Client,
    names: &'a [String],
) -> Result<Run<'a>, Failure> {
    let key_type = resolver.config().key_type.clone();
    let key = spawn_blocking(move || keys::generate(&key_type)).await;
    let key = key.map_err(|error| Failure::Own(error.to_string()))?;
    let key = key.map_err(Failure::Own)?;
    info!(
        resolver = resolver.name(),
        ?names,
        "a certificate is ordered"
    );
    let replaces = resolver.replaced_by(names);
    let profile = &resolver.config().profile;
    let (url, order) = client
        .new_order(names, profile, replaces.as_deref())
        .await?;
    info!(
        resolver = resolver.name(),
        ?names,
        order = url,
        replaces = replaces.as_deref(),
        "the authority has taken the order"
    );
    let open = OpenOrder {
        at: now(),
        url,
        key,
    };
    resolver.keep_order(names, open.clone()).await;
    Ok(Run {
        resolver,
        client,
        names,
        open,
        order,
    })
}

impl Run<'_> {
    /// Proves the names that the authority does not take for proven.
    async fn authorize(&mut self) -> Result<(), Failure> {
        if self.order.status != Status::Pending {
            return Ok(());
        }
        let mut pending: Vec<(String, Authorization)> = Vec::new();
        for url in &self.order.authorizations {
            let (authorization, _) = self.client.authorization(url).await?;
            match authorization.status {
                Status::Valid => {}
                Status::Pending => pending.push((url.clone(), authorization)),
                _ => return Err(self.not_validated(&authorization).await),
            }
        }
        let solver = self.solver(&pending)?;
        // Answers are given until all are validated, or one is not.
        let mut answers = Vec::with_capacity(pending.len());
        let proven = self.prove(&solver, &pending, &mut answers).await;
        for answer in answers {
            answer.withdraw().await;
        }
        proven
    }

    /// The first solver of the resolver for whose challenge the authority asks for every name.
    fn solver(&self, pending: &[(String, Authorization)]) -> Result<Arc<Solver>, Failure> {
        let solvers = self.resolver.solvers_for(self.names);
        let missing = |solver: &Solver| {
            let mut authorizations = pending.iter().map(|(_, authorization)| authorization);
            authorizations.find(|one| one.challenge(solver.kind()).is_none())
        };
        if let Some(solver) = solvers.iter().find(|solver| missing(solver).is_none()) {
            return Ok(Arc::clone(solver));
        }
        let name = solvers.iter().find_map(|solver| missing(solver));
        let name = name.map_or(&*self.names[0], Authorization::name);
        let wrong = format!("the authority offers no challenge for {name} that the resolver has");
        Err(Failure::Own(wrong))
    }

    async fn prove(
        &self,
        solver: &Solver,
        pending: &[(String, Authorization)],
        answers: &mut Vec<Answer>,
    ) -> Result<(), Failure> {
        let kind = solver.kind();
        for (_, authorization) in pending {
            let name = authorization.name();
            let Some(challenge) = authorization.challenge(kind) else {
                continue;
            };
            let proof = Proof {
                name: name.to_owned(),
                token: challenge.token.clone(),
                authorization: self.client.authorize(challenge),
            };
            answers.push(solver.present(&proof).await.map_err(Failure::Own)?);
            info!(
                resolver = self.resolver.name(),
                name,
                challenge = kind,
                entry_point = solver.entry_point(),
                "the challenge is answered"
            );
        }
        solver.settle(answers).await.map_err(Failure::Own)?;
        for (url, authorization) in pending {
            if let Some(challenge) = authorization.challenge(kind) {
                self.ready(url, challenge).await?;
            }
        }
        let deadline = Instant::now() + VALIDATION;
        for (url, authorization) in pending {
            self.validated(url, authorization.name(), deadline).await?;
        }
        Ok(())
    }

    /// Tells the authority to look. In an order that is taken up again it may have been told before, and refuse to be told again.
    async fn ready(&self, url: &str, challenge: &Challenge) -> Result<(), Failure> {
        if challenge.status != Status::Pending {
            return Ok(());
        }
        let Err(failure) = self.client.ready(challenge).await else {
            return Ok(());
        };
        if let Failure::Unreachable(_) = failure {
            return Err(failure);
        }
        let (authorization, _) = self.client.authorization(url).await?;
        let mut challenges = authorization.challenges.iter();
        let told =
            challenges.any(|one| one.token == challenge.token && one.status != Status::Pending);
        if told { Ok(()) } else { Err(failure) }
    }

    async fn validated(&self, url: &str, name: &str, deadline: Instant) -> Result<(), Failure> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let (authorization, asked) = self.client.authorization(url).await?;
            match authorization.status {
                Status::Valid => {
                    info!(
                        resolver = self.resolver.name(),
                        name, "the name is validated"
                    );
                    return Ok(());
                }
                Status::Pending | Status::Processing => {}
                _ => return Err(self.not_validated(&authorization).await),
            }
            pause = wait(pause, asked, deadline, "the validation takes too long").await?;
        }
    }

    async fn not_validated(&self, authorization: &Authorization) -> Failure {
        self.resolver.drop_order(self.names).await;
        Failure::NotValidated {
            name: authorization.name().to_owned(),
            problem: Box::new(authorization.problem()),
        }
    }

    /// Asks for the certificate and waits until it is issued.
    async fn finalize(&mut self) -> Result<(), Failure> {
        let config = self.resolver.config();
        let patience = config.certificate_timeout.positive();
        let deadline = Instant::now() + patience.unwrap_or(VALIDATION);
        let (mut pause, mut finalized) = (SHORTEST_PAUSE, false);
        loop {
            let (order, asked) = self.client.order(&self.open.url).await?;
            self.order = order;
            match self.order.status {
                Status::Valid => return Ok(()),
                Status::Ready if !finalized => {
                    let csr =
                        keys::request(self.names, !config.disable_common_name, &self.open.key);
                    let csr = csr.map_err(Failure::Own)?;
                    self.client.finalize(&self.order, &csr).await?;
                    finalized = true;
                    continue;
                }
                Status::Invalid => {
                    self.resolver.drop_order(self.names).await;
                    let problem = self.order.error.clone().unwrap_or_default();
                    return Err(Failure::Refused(Box::new(problem)));
                }
                _ => {}
            }
            pause = wait(pause, asked, deadline, "the certificate takes too long").await?;
        }
    }

    async fn download(&self) -> Result<Issued, Failure> {
        let url = self.order.certificate.as_deref();
        let url =
            url.ok_or_else(|| Failure::Unreachable("its order has no certificate".to_owned()))?;
        let wanted = self.resolver.config().preferred_chain.as_str();
        let fits =
            |chain: &str| wanted.is_empty() || topmost_issuer(chain).as_deref() == Some(wanted);
        let chain = self.client.certificate(url, fits).await?;
        if !fits(&chain) {
            tracing::warn!(
                resolver = self.resolver.name(),
                preferred = wanted,
                "preferredChain: the authority offers no such chain"
            );
        }
        let parsed = Certificate::parse(chain.as_bytes(), self.open.key.as_bytes());
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(finding) => return Err(self.useless(&finding.to_string()).await),
        };
        let names = &parsed.facts().names;
        if let Some(missing) = self.names.iter().find(|name| !names.contains(name)) {
            return Err(self.useless(&format!("{missing} is missing")).await);
        }
        Ok(Issued {
            chain,
            key: self.open.key.clone(),
            certificate: parsed,
        })
    }

    async fn useless(&self, why: &str) -> Failure {
        self.resolver.drop_order(self.names).await;
        Failure::Own(format!("the certificate cannot be used: {why}"))
    }
}

/// Waits before the authority is asked again; the next pause, or a failure when the deadline has passed.
async fn wait(
    pause: Duration,
    asked: Option<Duration>,
    deadline: Instant,
    late: &str,
) -> Result<Duration, Failure> {
    let pause = asked.map_or(pause, |asked| asked.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    if Instant::now() + pause > deadline {
        // The order stays open and is taken up again later.
        return Err(Failure::Own(late.to_owned()));
    }
    sleep(pause).await;
    Ok((pause * 2).min(LONGEST_PAUSE))
}

/// Common name of the issuer of the last certificate in a chain.
fn topmost_issuer(chain: &str) -> Option<String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let last = CertificateDer::pem_slice_iter(chain.as_bytes())
        .last()?
        .ok()?;
    let (_, last) = x509_parser::parse_x509_certificate(&last).ok()?;
    let name = last.issuer().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// How long an authority may take to look for all answers.
const VALIDATION: Duration = Duration::from_secs(180);
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
