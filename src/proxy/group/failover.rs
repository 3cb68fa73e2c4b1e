//! `failover`: the fallback answers when the main service is down, and after certain of its answers.

use http::StatusCode;

use crate::{
    exchange::{Body, Gathered, Lost, Response, Transcript, fault},
    proxy::Journey,
    snapshot::{Failover, FailoverErrors},
    upstream::Interim,
};

/// What the fallback would get.
enum Spare {
    Body(Body),
    /// The body is on its way to the main service.
    Transcript(Transcript),
}

impl Journey {
    pub(super) async fn fail_over(
        &mut self,
        failover: &Failover,
        interim: Option<&dyn Interim>,
    ) -> Response {
        if !failover.main.target.up() {
            return self.visit(&failover.fallback, interim).await;
        }
        let Some(errors) = &failover.errors else {
            return self.visit(&failover.main, interim).await;
        };
        let saved = self.exchange.save();
        let spare = match self.spare(errors).await {
            Ok(spare) => spare,
            Err(refusal) => return *refusal,
        };
        // What is said before an answer is only true of the one that the client gets.
        let response = self.visit(&failover.main, None).await;
        if self.tunnel.is_some() || !errors.holds(response.status().as_u16()) {
            return response;
        }
        let body = match spare {
            Spare::Body(body) => body,
            Spare::Transcript(transcript) => match transcript.again() {
                Ok(body) => body,
                Err(lost) => {
                    self.cannot_fail_over(lost);
                    return response;
                }
            },
        };
        self.count_unused(response.status());
        drop(response);
        self.server = None;
        self.origin.fault = None;
        self.exchange.restore(&saved);
        self.exchange.body = body;
        self.visit(&failover.fallback, interim).await
    }

    /// Sees to it that the body can be sent twice. It is only waited for if its length is not known and must be.
    async fn spare(&mut self, errors: &FailoverErrors) -> Result<Spare, Box<Response>> {
        let largest = errors.largest_body.unwrap_or(u64::MAX);
        let body = self.exchange.body.take();
        let (body, spare) = match (body.length(), body) {
            (Some(length), _) if length > largest => return Err(Box::new(too_large())),
            (_, Body::Empty) => (Body::Empty, Spare::Body(Body::Empty)),
            (_, Body::Full(bytes)) => (Body::Full(bytes.clone()), Spare::Body(Body::Full(bytes))),
            (None, body) if errors.largest_body.is_some() => {
                let limit = usize::try_from(largest).unwrap_or(usize::MAX);
                match body.gather(limit).await {
                    Gathered::Whole(whole) => (whole.body(), Spare::Body(whole.body())),
                    Gathered::Larger(_) => return Err(Box::new(too_large())),
                    Gathered::Failed(fault) => return Err(Box::new(self.give_up(fault))),
                }
            }
            (_, body) => {
                let (body, transcript) = Transcript::of(body, largest, &self.worker.transcripts);
                (body, Spare::Transcript(transcript))
            }
        };
        self.exchange.body = body;
        Ok(spare)
    }

    /// Says why an answer is passed on that the fallback should have been asked after.
    fn cannot_fail_over(&self, lost: Lost) {
        let Some(service) = self.service.as_ref().filter(|_| lost == Lost::NoRoom) else {
            return;
        };
        if self.worker.may_warn() {
            tracing::warn!(service = %service.name, "a request could not go to the fallback, because the bodies kept for that take all the room they may: failover.errors.maxRequestBodyBytes sets how large they may be");
        }
    }
}

fn too_large() -> Response {
    fault::text_response(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large\n")
}
