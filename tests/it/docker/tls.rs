//! An engine over TCP, with TLS and client certificates and without: a real one, with certificates made here.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    answers,
    engine::{IMAGE, SERVE, Stack},
    private::Engine,
};
use crate::support::{Authority, Proxy, eventually, proxy, within};

/// A container that is reached where it is published: the engine's networks are not ours.
fn serve(engine: &Engine) {
    let host = engine.ip();
    let published = format!("{host}:8000:80");
    engine.docker(&[
        "run",
        "-d",
        "-p",
        &published,
        "--env",
        "NAME=far",
        "--label",
        "traefik.http.routers.far.rule=Host(`far.test`)",
        IMAGE,
        "sh",
        "-c",
        SERVE,
    ]);
}

async fn follow(options: &Value) -> Proxy {
    proxy("")
        .install(&json!({"providers": {"docker": {"useBindPortIP": true}}}))
        .install(&json!({"providers": {"docker": options}}))
        .run()
        .await
}

/// Waits until the provider says what is wrong with the engine.
async fn fails(options: &Value, why: &str) {
    let proxy = follow(options).await;
    let mut last = String::new();
    within(
        std::time::Duration::from_secs(30),
        &format!("{why:?} is told"),
        async || {
            let source = proxy.admin().get("/api/overview").await.json()["sources"][0].clone();
            last = source["error"].as_str().unwrap_or_default().to_owned();
            (source["connected"] == false && last.to_lowercase().contains(why)).then_some(())
        },
    )
    .await;
    eventually("it is in the log", async || {
        proxy.log().to_lowercase().contains(why).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_engine_is_followed_over_tcp() {
    drop(Stack::new());
    let engine = Engine::with(
        IMAGE,
        &["--host", "tcp://0.0.0.0:2375", "--tls=false"],
        |_| {},
    );
    serve(&engine);
    let endpoint = format!("tcp://{}:2375", engine.ip());
    let proxy = follow(&json!({"endpoint": endpoint})).await;
    answers(&proxy, "far.test", 200, "far").await;
    fails(
        &json!({"endpoint": format!("tcp://{}:2377", engine.ip())}),
        "refused",
    )
    .await;
}

#[tokio::test]
async fn an_engine_is_followed_over_tls_with_a_client_certificate() {
    drop(Stack::new());
    let (authority, strangers) = (Authority::new("engines"), Authority::new("strangers"));
    let folder = tempfile::tempdir().unwrap();
    let options = ["--host", "tcp://0.0.0.0:2376", "--tlsverify"];
    let files = [
        ("--tlscacert", "ca.pem"),
        ("--tlscert", "engine.crt"),
        ("--tlskey", "engine.key"),
    ];
    let files: Vec<String> = files
        .iter()
        .map(|(option, name)| format!("{option}={}", folder.path().join(name).display()))
        .collect();
    let mut options = options.to_vec();
    options.extend(files.iter().map(String::as_str));
    let engine = Engine::with(IMAGE, &options, |ip| {
        authority.write(folder.path(), "ca.pem");
        authority
            .issue(&[&ip.to_string()])
            .write(folder.path(), "engine");
    });
    // As Docker's own client wants to find them.
    let certificates = folder.path().join("client");
    std::fs::create_dir(&certificates).unwrap();
    let ca = authority.write(&certificates, "ca.pem");
    let (cert, key) = authority
        .issue(&["portway"])
        .write(&certificates, "portway");
    std::fs::copy(&cert, certificates.join("cert.pem")).unwrap();
    std::fs::copy(&key, certificates.join("key.pem")).unwrap();
    serve(&engine);

    let endpoint = format!("tcp://{}:2376", engine.ip());
    let tls = json!({"ca": ca, "cert": cert, "key": key});
    let edge = follow(&json!({"endpoint": endpoint, "tls": tls})).await;
    answers(&edge, "far.test", 200, "far").await;
    // Events come as well.
    let container = engine.docker(&["ps", "-q"]);
    engine.docker(&["pause", &container]);
    let reason = async || edge.rawdata().await["services"].to_string();
    eventually("the pause shows", async || {
        reason().await.contains("is paused").then_some(())
    })
    .await;
    drop(edge);
    engine.docker(&["unpause", &container]);

    let by_env = proxy("")
        .install(&json!({"providers": {"docker": {"useBindPortIP": true}}}))
        .env("DOCKER_HOST", &endpoint)
        .env("DOCKER_CERT_PATH", &text(&certificates))
        .env("DOCKER_TLS_VERIFY", "1")
        .run()
        .await;
    answers(&by_env, "far.test", 200, "far").await;

    let stranger = strangers.write(folder.path(), "strangers.pem");
    let other = strangers
        .issue(&["stranger"])
        .write(folder.path(), "stranger");
    for (tls, why) in [
        (json!({"ca": ca}), "certificate"),
        (
            json!({"ca": ca, "cert": other.0, "key": other.1}),
            "certificate",
        ),
        (
            json!({"ca": stranger, "cert": cert, "key": key}),
            "unknownissuer",
        ),
        (json!({"ca": "/nonexistent/ca.pem"}), "/nonexistent/ca.pem"),
    ] {
        fails(&json!({"endpoint": endpoint, "tls": tls}), why).await;
    }
    fails(&json!({"endpoint": endpoint}), "http").await;
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
