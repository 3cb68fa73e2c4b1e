//! Steps of a plan that see to the rest of it themselves: they run it more than once, or talk to servers of their own.
//!
//! What they do is decided in `middleware`; here is the traffic.

mod retry;

use std::sync::Arc;

use super::Journey;
use crate::{
    exchange::{Fault, FaultKind, Response},
    middleware::Middleware,
    snapshot::Route,
    upstream::Interim,
};

impl Journey {
    /// Goes on where the step at `index` answered [`Flow::Around`](crate::middleware::Flow::Around).
    pub(super) async fn around(
        &mut self,
        route: &Arc<Route>,
        index: usize,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let rest = index + 1;
        match &route.plan[index] {
            Middleware::Retry(retry) => self.retry(retry, (route, rest), interim).await,
            _ => self.give_up(Fault::ours(FaultKind::Internal)),
        }
    }
}
