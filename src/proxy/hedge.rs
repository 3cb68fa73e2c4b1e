//! Asks a second server when the first one takes long; the first answer is taken, and the other request is given up.

use std::{future::Future, pin::pin, sync::Arc, time::Instant};

use http::Method;

use super::{Journey, attempt::Tried};
use crate::{
    exchange::{Body, Response},
    service::{Hedge, InFlight, Server, Service},
    upstream::{Answer, Failure, Interim},
};

/// A request to one server, begun.
struct Begun {
    seat: InFlight,
    at: Instant,
}

/// What one of two requests came to.
type Came = (Begun, Result<Answer, Failure>);

impl Journey {
    /// Whether the request may be sent twice: it only reads, has no body, and its client belongs to no server.
    pub(super) fn may_hedge(&self, service: &Service, body: &Body) -> bool {
        let request = &self.exchange.request;
        matches!(request.method, Method::GET | Method::HEAD)
            && matches!(body, Body::Empty)
            && request.upgrade.is_none()
            && !service.is_sticky()
    }

    /// Sends the request to `server`, and to another one too when that takes long. A server that is asked so is added to `tried`.
    pub(super) async fn hedged(
        &mut self,
        service: &Service,
        (server, hedge): (&Arc<Server>, &Hedge),
        interim: Option<&dyn Interim>,
        tried: &mut Tried,
    ) -> Result<Response, Failure> {
        let patience = hedge.begin();
        self.begin_call(server);
        let (came, lost) = self
            .ask_both(service, (server, hedge, patience), interim, tried)
            .await;
        if let Some((begun, Err(failure))) = lost {
            self.came(service, begun, Err(failure)).ok();
        }
        let (begun, result) = came;
        let took = begun.at.elapsed();
        let second = !Arc::ptr_eq(begun.seat.server(), server);
        let outcome = self.came(service, begun, result);
        if outcome.is_ok() {
            hedge.answered(took);
            if second {
                service.metrics.hedge_won();
            }
        }
        outcome
    }

    fn came(
        &mut self,
        service: &Service,
        begun: Begun,
        result: Result<Answer, Failure>,
    ) -> Result<Response, Failure> {
        let server = Arc::clone(begun.seat.server());
        self.server = Some(begun.seat);
        self.concluded(service, &server, (begun.at, result))
    }

    /// What counts, and a failure that came before it.
    async fn ask_both(
        &self,
        service: &Service,
        (server, hedge, patience): (&Arc<Server>, &Hedge, Option<std::time::Duration>),
        interim: Option<&dyn Interim>,
        tried: &mut Tried,
    ) -> (Came, Option<Came>) {
        let first = Begun::now(server);
        let mut one = pin!(self.send(service, server, Body::Empty, interim));
        let early = match patience {
            None => Some(one.as_mut().await),
            Some(patience) => tokio::select! {
                biased;
                answer = one.as_mut() => Some(answer),
                () = tokio::time::sleep(patience) => None,
            },
        };
        if let Some(answer) = early {
            return ((first, answer), None);
        }
        let Some(other) = self.second(service, hedge, tried) else {
            return ((first, one.await), None);
        };
        let second = Begun::now(&other);
        let two = pin!(self.send(service, &other, Body::Empty, None));
        first_answer((first, one), (second, two)).await
    }

    /// The server to ask too, if there is another one and not too many requests are sent twice already.
    fn second(&self, service: &Service, hedge: &Hedge, tried: &mut Tried) -> Option<Arc<Server>> {
        if tried.is_full() || !service.can_pick(&self.key(tried.ids())) {
            return None;
        }
        if !hedge.withdraw() {
            service.metrics.hedge_refused();
            return None;
        }
        let (server, _) = self.pick(service, tried.ids())?;
        tried.add(server.id);
        service.metrics.hedged();
        Some(server)
    }
}

impl Begun {
    fn now(server: &Arc<Server>) -> Self {
        Self {
            seat: server.begin(),
            at: Instant::now(),
        }
    }
}

/// The first answer of the two, with the failure of the other one if that came first; if both fail, both failures.
async fn first_answer(
    (first, mut one): (Begun, impl Future<Output = Result<Answer, Failure>> + Unpin),
    (second, mut two): (Begun, impl Future<Output = Result<Answer, Failure>> + Unpin),
) -> (Came, Option<Came>) {
    tokio::select! {
        biased;
        answer = &mut one => match answer {
            Ok(answer) => ((first, Ok(answer)), None),
            failed => ((second, two.await), Some((first, failed))),
        },
        answer = &mut two => match answer {
            Ok(answer) => ((second, Ok(answer)), None),
            failed => ((first, one.await), Some((second, failed))),
        },
    }
}
