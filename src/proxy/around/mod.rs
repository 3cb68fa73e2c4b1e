//! Steps of a plan that see to the rest of it themselves: they run it more than once, or talk to servers of their own.
//!
//! What they do is decided in `middleware`; here is the traffic.

mod aside;
mod buffering;
mod errors;
mod forward_auth;
mod retry;

use super::{Journey, Leg};
use crate::{
    exchange::{Fault, FaultKind, Response},
    middleware::Middleware,
    upstream::Interim,
};

impl Journey {
    /// Goes on where the first step of `leg` answered [`Flow::Around`](crate::middleware::Flow::Around).
    pub(super) async fn around(&mut self, leg: Leg<'_>, interim: Option<&dyn Interim>) -> Response {
        let rest = leg.from(1);
        match &leg.steps[0] {
            Middleware::Buffering(it) => self.buffer(it, rest, interim).await,
            Middleware::Errors(errors) => self.errors(errors, rest, interim).await,
            Middleware::ForwardAuth(auth) => self.forward_auth(auth, rest, interim).await,
            Middleware::Retry(retry) => self.retry(retry, rest, interim).await,
            _ => self.give_up(Fault::ours(FaultKind::Internal)),
        }
    }
}
