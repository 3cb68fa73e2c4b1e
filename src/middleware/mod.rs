//! One file per middleware: configuration to behaviour.
//!
//! A route's plan is a list of [`Middleware`]s. [`Hook::request`] runs in order, [`Hook::response`] in reverse for those whose request
//! hook ran. Everything a middleware needs is computed when the configuration is compiled.

use std::{future::Future, pin::Pin, time::Duration};

use crate::exchange::{Exchange, Response};

/// What happens after a request hook.
pub enum Flow {
    /// Go on to the next step.
    Continue,
    /// Answer the client now; response hooks of the steps before still run.
    Respond(Box<Response>),
    /// Hold the request for this long, then go on.
    Wait(Duration),
    /// Something must be awaited first (a password hash on the blocking pool, an auth service).
    Later(Pin<Box<dyn Future<Output = Resume>>>),
}

/// What to do with the exchange once the awaited result is there.
pub type Resume = Box<dyn FnOnce(&mut Exchange) -> Flow>;

/// A step of a plan. Implement this to add a middleware of your own (`App::builder().middleware(...)`).
pub trait Hook: Send + Sync {
    /// Looks at the request, edits it, or answers it.
    fn request(&self, exchange: &mut Exchange) -> Flow {
        let _ = exchange;
        Flow::Continue
    }

    /// Edits the response. `exchange.request` still holds the request as it was sent on.
    fn response(&self, exchange: &mut Exchange, response: &mut Response) {
        let _ = (exchange, response);
    }
}
