//! `forwardAuth`: asks the authority, then runs the rest of the plan or answers what the authority says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{StatusCode, response::Parts};

use crate::{
    exchange::{Body, Fault, FaultKind, Gathered, Response},
    middleware::forward_auth::{ForwardAuth, Verdict, status},
    proxy::{Journey, Leg},
    service::Service,
    upstream::Interim,
};

/// What came of a question.
enum Asked {
    Answered(Box<Parts>, Body),
    TooLarge,
}

impl Journey {
    /// Runs the `rest` of the way if the authority says so. Whatever goes wrong on the way to it ends the request.
    pub(super) async fn forward_auth(
        &mut self,
        auth: &ForwardAuth,
        rest: Leg<'_>,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let Some(authority) = auth.authority() else {
            return self.give_up(Fault::ours(FaultKind::Internal));
        };
        let body = match self.body_for(auth).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let position = self.trace.as_ref().map(|trace| trace.position());
        let question = auth.question(&self.exchange);
        let aside = self.set_aside(question, body);
        let asked = tokio::time::timeout(PATIENCE, self.ask(auth, authority)).await;
        self.take_back(aside);
        if let Some((trace, position)) = self.trace.as_mut().zip(position) {
            trace.back_to(position);
        }
        let late = Err(Fault::server(FaultKind::ResponseTimeout));
        let (head, body) = match asked.unwrap_or(late) {
            Ok(Asked::Answered(head, body)) => (*head, body),
            Ok(Asked::TooLarge) => return status(StatusCode::UNAUTHORIZED),
            Err(fault) => return unanswered(authority, fault),
        };
        match auth.judge(&mut self.exchange, head, body) {
            Verdict::Refuse(response) => *response,
            Verdict::Pass(cookies) => {
                let mut response = self.run(rest, interim).await;
                auth.add_cookies(cookies, &mut response);
                response
            }
        }
    }

    /// The request's body as the authority gets it; the answer for the client if it is too large or broken.
    async fn body_for(&mut self, auth: &ForwardAuth) -> Result<Body, Response> {
        let Some(limit) = auth.keeps_bodies() else {
            return Ok(Body::Empty);
        };
        match self.exchange.body.take().gather(limit).await {
            Gathered::Whole(whole) => {
                self.exchange.body = whole.body();
                Ok(whole.without_trailers())
            }
            Gathered::Larger(_) => Err(status(StatusCode::UNAUTHORIZED)),
            Gathered::Failed(fault) => Err(self.give_up(fault)),
        }
    }

    /// Sends the question that stands in the place of the request.
    async fn ask(&mut self, auth: &ForwardAuth, authority: &Arc<Service>) -> Result<Asked, Fault> {
        let response = Box::pin(self.forward(authority, None)).await;
        if let Some(fault) = self.origin.fault {
            return Err(fault);
        }
        let (head, body) = response.into_parts();
        let head = Box::new(head);
        match body.gather(auth.keeps_answers()).await {
            Gathered::Whole(whole) => Ok(Asked::Answered(head, whole.without_trailers())),
            Gathered::Larger(_) if auth.limits_answers() => Ok(Asked::TooLarge),
            Gathered::Larger(body) => {
                if let Some(server) = self.server.take() {
                    // It has something to say for longer than the question lasts.
                    self.exchange.hold(server);
                }
                Ok(Asked::Answered(head, body))
            }
            Gathered::Failed(fault) => Err(fault),
        }
    }
}

fn unanswered(authority: &Service, fault: Fault) -> Response {
    if authority.room.may_complain(Instant::now()) {
        tracing::warn!(
            service = %authority.name,
            reason = fault.reason(),
            "the service that forwardAuth asks does not answer: requests are refused"
        );
    }
    status(StatusCode::INTERNAL_SERVER_ERROR)
}

/// How long an authority may take for its answer, waiting for it to be there included.
const PATIENCE: Duration = Duration::from_secs(30);
