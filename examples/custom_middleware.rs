//! Adds a middleware of its own and a tower layer, and is otherwise Portway: it takes the same flags, variables and files.
//!
//! ```yaml
//! http:
//!   middlewares:
//!     hello:
//!       plugin:
//!         greet: { name: world }
//! ```
//!
//! Run it with `cargo run --example custom_middleware -- --entryPoints.web.address=:8000 --providers.file.filename=routing.yml`.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use portway::{
    app::App,
    config::{Sources, load_install},
    exchange::{Exchange, Response},
    middleware::{Flow, Hook},
};

/// Greets whoever is named in the configuration: in a request header for the server, in a response header for the client.
struct Greet {
    greeting: HeaderValue,
}

static GREETING: HeaderName = HeaderName::from_static("x-greeting");

impl Greet {
    fn make(options: &serde_json::Value) -> Result<Arc<dyn Hook>, String> {
        let name = options
            .get("name")
            .and_then(|name| name.as_str())
            .ok_or("`name` is missing: say who is to be greeted")?;
        let greeting = HeaderValue::from_str(&format!("hello {name}"))
            .map_err(|_| "`name` cannot stand in a header")?;
        Ok(Arc::new(Self { greeting }))
    }
}

impl Hook for Greet {
    fn request(&self, exchange: &mut Exchange) -> Flow {
        exchange
            .request
            .headers
            .insert(&GREETING, self.greeting.clone());
        Flow::Continue
    }

    fn response(&self, _: &mut Exchange, response: &mut Response) {
        response
            .headers_mut()
            .insert(&GREETING, self.greeting.clone());
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let environment: Vec<_> = std::env::vars().collect();
    let directory = std::env::current_dir()?;
    let sources = Sources {
        arguments: &arguments,
        environment: &environment,
        directory: &directory,
        root: portway::config::Root::Here,
    };
    let loaded = load_install(&sources).map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
    let layer = tower::util::MapResponseLayer::new(|mut response: Response| {
        response
            .headers_mut()
            .insert("x-layer", HeaderValue::from_static("tower"));
        response
    });
    App::new(loaded.install, loaded.diagnostics)
        .middleware("greet", Greet::make)
        .layer(layer)
        .run()
}
