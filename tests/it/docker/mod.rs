//! The Docker provider against a real engine, and against a false one for what a real one cannot be made to do.

mod engine;
mod faults;
mod hostile;
mod many;
mod private;
mod provider;
mod swarm;
mod tls;

use serde_json::json;

use crate::support::{Proxy, ProxyBuilder, eventually, proxy};
use engine::Stack;

/// A proxy that serves the containers of one test and none else.
fn docker(stack: &Stack, options: &serde_json::Value) -> ProxyBuilder {
    let constraint = format!("Label(`{}`, `{}`)", engine::LABEL, stack.run);
    proxy("")
        .install(&json!({"providers": {"docker": {"constraints": constraint}}}))
        .install(&json!({"providers": {"docker": options}}))
}

/// Asks for `/` at a host: the status, and the text without white space around it.
async fn ask(proxy: &Proxy, host: &str) -> (u16, String) {
    let answer = proxy.client().get("/").host(host).try_send().await;
    answer.map_or((0, String::new()), |answer| {
        (answer.status, answer.text().trim().to_owned())
    })
}

/// Waits until a host answers like this.
async fn answers(proxy: &Proxy, host: &str, status: u16, text: &str) {
    let mut last = (0, String::new());
    let what = format!("{host} answers {status} {text:?}");
    eventually(&what, async || {
        last = ask(proxy, host).await;
        (last.0 == status && last.1.contains(text)).then_some(())
    })
    .await;
}

/// Every finding as `place: path: message`.
async fn findings(proxy: &Proxy) -> Vec<String> {
    let found = proxy.admin().get("/api/diagnostics").await.json();
    let found = found["diagnostics"].as_array().cloned().unwrap_or_default();
    let text = |finding: &serde_json::Value, name: &str| {
        finding[name].as_str().unwrap_or_default().to_owned()
    };
    let lines = found.iter().map(|finding| {
        let [place, path, message, hint] =
            ["place", "path", "message", "hint"].map(|name| text(finding, name));
        format!("{place}: {path}: {message} ({hint})")
    });
    lines.collect()
}
