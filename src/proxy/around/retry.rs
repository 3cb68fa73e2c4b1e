//! `retry`: runs the rest of the plan again.

use std::time::Instant;

use crate::{
    exchange::{Gathered, Response, Whole},
    middleware::retry::{Attempt, Retry},
    proxy::{Journey, Leg},
    upstream::Interim,
};

impl Journey {
    /// Runs the `rest` of the way as often as `retry` says. Servers that were tried are left out while there are others.
    pub(super) async fn retry(
        &mut self,
        retry: &Retry,
        rest: Leg<'_>,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let saved = self.exchange.save();
        let method = saved.method();
        let whole = match self.keep_body(retry.keeps_bodies(method)).await {
            Ok(whole) => whole,
            Err(response) => return response,
        };
        let began = Instant::now();
        let outer = self.avoided.take();
        self.avoided = Some(outer.clone().unwrap_or_default());
        let mut number = 1;
        let response = loop {
            (self.origin.fault, self.origin.unsent) = (None, false);
            // What an attempt says before its answer is only true of the last one.
            let interim = interim.filter(|_| retry.is_last(number));
            let response = self.run(rest, interim).await;
            let made = Attempt {
                number,
                status: response.status(),
                unsent: self.origin.unsent,
                kept: whole.is_some(),
                elapsed: began.elapsed(),
            };
            let next = retry.next(method, made).filter(|_| self.tunnel.is_none());
            let Some(wait) = next else { break response };
            drop(response);
            self.server = None;
            tokio::time::sleep(wait).await;
            self.exchange.restore(&saved);
            if let Some(whole) = &whole {
                self.exchange.body = whole.body();
            }
            self.origin.retries += 1;
            if let Some(metrics) = self.service_metrics() {
                metrics.retried();
            }
            if let Some(trace) = &mut self.trace {
                trace.again(number);
            }
            number += 1;
        };
        self.avoided = outer;
        response
    }

    /// Reads the body into memory if it is to be kept and not larger than `limit`; else it stays what it was.
    async fn keep_body(&mut self, limit: Option<usize>) -> Result<Option<Whole>, Response> {
        let Some(limit) = limit else {
            return Ok(None);
        };
        match self.exchange.body.take().gather(limit).await {
            Gathered::Whole(whole) => {
                self.exchange.body = whole.body();
                Ok(Some(whole))
            }
            Gathered::Larger(body) => {
                self.exchange.body = body;
                Ok(None)
            }
            Gathered::Failed(fault) => Err(self.give_up(fault)),
        }
    }
}
