//! `buffering`: reads requests and answers whole, and runs the rest of the plan once or more.

use http::{Method, StatusCode, header};

use crate::{
    exchange::{
        Response,
        fault::status_response,
        spool::{Unspooled, scratch},
    },
    middleware::buffering::{Buffering, Made},
    proxy::{Journey, Leg},
    upstream::Interim,
};

impl Journey {
    /// Reads the request, runs the `rest` of the way, and reads the answer. Switched connections and event streams pass.
    pub(super) async fn buffer(
        &mut self,
        buffering: &Buffering,
        rest: Leg<'_>,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let body = self.exchange.body.take();
        let kept = match body.spool(buffering.request, scratch).await {
            Ok(kept) => kept,
            Err(why) => return self.unbuffered(why, StatusCode::PAYLOAD_TOO_LARGE),
        };
        // The body is here: nobody needs to wait for leave to send it.
        self.exchange.request.expects_continue = false;
        self.exchange.body = kept.body();
        // Requests without a body are never repeated, as in Traefik.
        let repeatable = buffering.may_repeat() && !kept.is_empty();
        let saved = repeatable.then(|| self.exchange.save());
        // What an attempt says before its answer is only true of the last one, and nobody knows which that is.
        let interim = interim.filter(|_| !repeatable);
        let mut number = 1;
        loop {
            (self.origin.fault, self.origin.unsent) = (None, false);
            let response = self.run(rest, interim).await;
            if self.tunnel.is_some() {
                return response;
            }
            let made = |method| Made {
                number,
                status: response.status(),
                method,
            };
            let again = saved.as_ref();
            let Some(saved) = again.filter(|saved| buffering.repeats(made(saved.method()))) else {
                return self.buffer_answer(buffering, response).await;
            };
            drop(response);
            self.server = None;
            self.exchange.restore(saved);
            self.exchange.body = kept.body();
            self.origin.retries += 1;
            if let Some(metrics) = self.service_metrics() {
                metrics.retried();
            }
            number += 1;
        }
    }

    async fn buffer_answer(&mut self, buffering: &Buffering, response: Response) -> Response {
        if !self.has_body(&response) || is_event_stream(&response) {
            return response;
        }
        let (head, body) = response.into_parts();
        match body.spool(buffering.response, scratch).await {
            Ok(kept) => {
                // The server has done its work, however slowly the client reads.
                self.server = None;
                Response::from_parts(head, kept.body())
            }
            Err(why) => self.unbuffered(why, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn has_body(&self, response: &Response) -> bool {
        self.exchange.request.method != Method::HEAD
            && !matches!(
                response.status(),
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
    }

    /// The answer instead of one that could not be kept, or to a request that could not.
    fn unbuffered(&mut self, why: Unspooled, too_large: StatusCode) -> Response {
        self.server = None;
        match why {
            Unspooled::TooLarge => status_response(too_large),
            Unspooled::Failed(fault) => self.give_up(fault),
            Unspooled::Disk(error) => {
                if self.worker.may_warn() {
                    let folder = std::env::temp_dir();
                    tracing::error!(folder = %folder.display(), %error, "buffering: a body cannot be kept in a file: there must be a folder with room for it, which TMPDIR names");
                }
                status_response(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// Whether the answer is a stream of events, which ends when somebody leaves.
fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| {
        let name = kind.as_bytes().split(|byte| *byte == b';').next();
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
    })
}
