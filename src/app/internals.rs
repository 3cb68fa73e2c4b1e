//! Answers for `api@internal`, `ping@internal` and `prometheus@internal`.

use std::{future::Future, pin::Pin, sync::Arc};

use http::StatusCode;

use crate::{
    admin::Admin,
    compile::catalog,
    exchange::{Body, Exchange, Response, fault},
    explain::Running,
    proxy::Internals,
    snapshot::{Internal, Snapshot},
};

/// Asks [`Admin`]; what takes long, on another thread.
pub(super) struct Answers {
    admin: Arc<Admin>,
}

impl Answers {
    pub(super) fn new(admin: Admin) -> Self {
        Self {
            admin: Arc::new(admin),
        }
    }
}

impl Internals for Answers {
    fn answer(
        &self,
        internal: Internal,
        snapshot: &Arc<Snapshot>,
        exchange: &Exchange,
    ) -> Pin<Box<dyn Future<Output = Response>>> {
        let (admin, request, snapshot) = (
            Arc::clone(&self.admin),
            exchange.request.clone(),
            Arc::clone(snapshot),
        );
        Box::pin(async move {
            match internal {
                Internal::Ping => admin.ping(),
                Internal::Noop => fault::status_response(StatusCode::IM_A_TEAPOT),
                Internal::Prometheus => elsewhere(move || admin.prometheus(&request)).await,
                Internal::Api => {
                    let make = move || {
                        let catalog = catalog(&snapshot);
                        let running = Running {
                            install: admin.install(),
                            snapshot: &snapshot,
                            catalog: &catalog,
                        };
                        admin.api(&request, &catalog, Some(&running))
                    };
                    elsewhere(make).await
                }
            }
        })
    }
}

/// Makes a response on the blocking pool: writing down thousands of objects must not keep requests waiting.
async fn elsewhere(make: impl FnOnce() -> Response + Send + 'static) -> Response {
    let made = tokio::task::spawn_blocking(move || {
        let (parts, body) = make().into_parts();
        let bytes = match body {
            Body::Full(bytes) => bytes,
            // Admin's answers are in memory.
            _ => bytes::Bytes::new(),
        };
        (parts, bytes)
    });
    match made.await {
        Ok((parts, bytes)) => Response::from_parts(parts, Body::Full(bytes)),
        Err(_) => {
            fault::text_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
        }
    }
}
