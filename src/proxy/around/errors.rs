//! `errors`: fetches a page in place of an answer.

use std::sync::Arc;

use http::{StatusCode, header::CONTENT_LENGTH};

use crate::{
    exchange::{Body, Response, forwarded::X_FORWARDED_FOR},
    middleware::errors::Errors,
    proxy::{Journey, Leg},
    upstream::Interim,
};

impl Journey {
    /// Runs the `rest` of the way and hands the answer on, unless it is one to be replaced.
    pub(super) async fn errors(
        &mut self,
        errors: &Errors,
        rest: Leg<'_>,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let forwarded_for = self.exchange.request.headers.get(&X_FORWARDED_FOR).cloned();
        let response = self.run(rest, interim).await;
        let status = response.status();
        // A page within a page within a page is a configuration that goes round in circles.
        if !errors.catches(status) || self.tunnel.is_some() || self.own_requests >= DEEPEST {
            return response;
        }
        let Some(pages) = self.snapshot.pages_of(errors.service()).map(Arc::clone) else {
            // The configuration that came while the request waited does not know the service any more.
            return response;
        };
        drop(response);
        let request = errors.page(&self.exchange, status, forwarded_for);
        let aside = self.set_aside(request, Body::Empty);
        let leg = Leg {
            steps: &pages.plan,
            names: &pages.steps,
            target: &pages.target,
        };
        let mut page = self.run(leg, None).await;
        if let Some(server) = self.server.take() {
            // It is at work until the page is sent.
            self.exchange.hold(server);
        }
        self.take_back(aside);
        *page.status_mut() = errors.shown(status);
        if matches!(
            page.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            // These have no body, whatever the page has.
            *page.body_mut() = Body::Empty;
            page.headers_mut().remove(CONTENT_LENGTH);
        }
        page
    }
}

/// How many requests of our own may stand within each other.
const DEEPEST: u8 = 4;
