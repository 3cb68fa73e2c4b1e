//! Adds a source of routing configuration: one router whose host changes every second, to show that updates go live.
//!
//! Run it with `cargo run --example custom_provider -- --entryPoints.web.address=127.0.0.1:8000`, then ask
//! `curl -i -H 'Host: tick-1.localhost' http://127.0.0.1:8000/` and again a little later: the answer is 418 while the router exists.

use std::time::Duration;

use portway::{
    app::App,
    config::{Routing, Sources, load_install, routing::Router},
    provider::{Provider, Running, Updates},
};

/// States one router, with another host every second.
struct Ticker;

impl Provider for Ticker {
    fn name(&self) -> &str {
        "ticker"
    }

    fn run(self: Box<Self>, updates: Updates) -> Running {
        Box::pin(async move {
            for tick in 1u64.. {
                if !updates.send(routing(tick)).await {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
    }
}

fn routing(tick: u64) -> Routing {
    let router = Router {
        rule: format!("HostRegexp(`^tick-[0-9]+\\.localhost$`) && Host(`tick-{tick}.localhost`)"),
        service: "noop@internal".to_owned(),
        ..Router::default()
    };
    let mut routing = Routing::default();
    routing
        .http
        .routers
        .insert("tick".to_owned(), router.into());
    routing
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
    App::new(loaded.install, loaded.diagnostics)
        .provider(Ticker)
        .run()
}
