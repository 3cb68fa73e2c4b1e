//! Routing configuration from a URL.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{
    Authority, Backend, Proxy, ProxyBuilder, Reply, Seen, backend, eventually, proxy,
};

/// What the endpoint answers from now on.
#[derive(Clone)]
struct Said(Arc<Mutex<Reply>>);

impl Said {
    fn new(reply: Reply) -> Self {
        Self(Arc::new(Mutex::new(reply)))
    }

    fn now(&self, reply: Reply) {
        *self.0.lock().unwrap() = reply;
    }

    async fn endpoint(&self) -> Backend {
        let said = Arc::clone(&self.0);
        let endpoint = backend("endpoint").reply(move |_: &Seen| said.lock().unwrap().clone());
        endpoint.run().await
    }
}

fn says(kind: &str, text: &str) -> Reply {
    Reply::with(200, &[("Content-Type", kind)], text)
}

/// One router for a path, to a server.
fn routed(path: &str, server: &Backend) -> String {
    format!(
        "http:\n  routers:\n    app:\n      rule: Path(`{path}`)\n      service: app\n  services:\n    app:\n      loadBalancer:\n        servers:\n        - url: {}\n",
        server.url()
    )
}

fn from(endpoint: &str) -> ProxyBuilder {
    proxy("").install(&json!({"providers": {"http": {
        "endpoint": endpoint, "pollInterval": "100ms", "pollTimeout": "2s",
    }}}))
}

async fn serves(proxy: &Proxy, path: &str) {
    eventually(&format!("{path} is served"), async || {
        (proxy.client().get(path).await.status == 200).then_some(())
    })
    .await;
}

async fn findings(proxy: &Proxy) -> String {
    proxy.admin().get("/api/diagnostics").await.text()
}

#[tokio::test]
async fn what_the_endpoint_says_is_served_and_its_last_good_word_goes_on() {
    let server = backend("server").run().await;
    let said = Said::new(says("application/yaml", &routed("/one", &server)));
    let endpoint = said.endpoint().await;
    let url = endpoint.url().replace("http://", "http://me:pass%21@");
    let options =
        json!({"providers": {"http": {"headers": {"X-Token": "t", "Host": "config.test"}}}});
    let proxy = from(&format!("{url}/c?key=secret")).install(&options);
    let proxy = proxy.run().await;
    serves(&proxy, "/one").await;
    let asked = endpoint.seen().remove(0);
    assert_eq!(asked.target, "/c?key=secret");
    assert_eq!(asked.header("authorization"), Some("Basic bWU6cGFzcyE="));
    assert_eq!(asked.header("x-token"), Some("t"));
    assert_eq!(
        (asked.header("host"), asked.count("host")),
        (Some("config.test"), 1)
    );

    let json: Value = json!({"http": {
        "routers": {"app": {"rule": "Path(`/two`)", "service": "app"}},
        "services": {"app": {"loadBalancer": {"servers": [{"url": server.url()}]}}},
    }});
    said.now(says("application/json", &json.to_string()));
    serves(&proxy, "/two").await;
    assert_eq!(proxy.client().get("/one").await.status, 404);

    said.now(says("text/plain", "http: [nonsense"));
    eventually("the mistake is told", async || {
        let told = findings(&proxy).await;
        (told.contains("/c") && told.contains("goes on serving")).then_some(())
    })
    .await;
    assert!(!findings(&proxy).await.contains("secret"));
    serves(&proxy, "/two").await;

    said.now(Reply::with(503, &[], "away"));
    eventually("the endpoint counts as away", async || {
        let overview: Value = proxy.admin().get("/api/overview").await.json();
        let source = &overview["sources"][0];
        let away =
            source["connected"] == false && source["error"] == "answered 503 Service Unavailable";
        (source["provider"] == "http" && away).then_some(())
    })
    .await;
    serves(&proxy, "/two").await;
    assert!(
        proxy
            .metrics()
            .await
            .contains("portway_provider_connected{provider=\"http\"} 0")
    );

    said.now(says("application/toml", &format!(
        "[http.routers.app]\nrule = 'Path(`/three`)'\nservice = 'app'\n[[http.services.app.loadBalancer.servers]]\nurl = '{}'\n",
        server.url()
    )));
    serves(&proxy, "/three").await;
    let overview: Value = proxy.admin().get("/api/overview").await.json();
    assert_eq!(overview["providers"], json!(["File", "HTTP"]));
    assert!(!proxy.log().contains("secret") && !proxy.log().contains("pass"));
}

#[tokio::test]
async fn an_answer_without_end_is_refused_and_a_template_is_not_run() {
    let server = backend("server").run().await;
    let said = Said::new(says("text/plain", &routed("/good", &server)));
    let endpoint = said.endpoint().await;
    let bound = json!({"providers": {"http": {"maxResponseBodySize": 2000}}});
    let proxy = from(&endpoint.url()).install(&bound).run().await;
    serves(&proxy, "/good").await;
    let long = format!("{}# {}", routed("/long", &server), "x".repeat(4000));
    said.now(says("text/plain", &long));
    eventually("the answer is too long", async || {
        let overview: Value = proxy.admin().get("/api/overview").await.json();
        (overview["sources"][0]["connected"] == false).then_some(())
    })
    .await;
    serves(&proxy, "/good").await;
    let template = routed("/{{ env `HOME` }}", &server);
    said.now(says("text/plain", &template));
    eventually("the answer arrived", async || {
        let overview: Value = proxy.admin().get("/api/overview").await.json();
        (overview["sources"][0]["connected"] == true).then_some(())
    })
    .await;
    let routers = proxy.rawdata().await["routers"].to_string();
    assert!(
        !routers.contains("/root") && !routers.contains("/home"),
        "{routers}"
    );
}

#[tokio::test]
async fn the_endpoint_may_speak_tls_and_come_late() {
    let server = backend("server").run().await;
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("config-ca");
    let ca = authority.write(dir.path(), "ca.pem");
    let identity = authority.issue(&["localhost"]);
    let (cert, key) = identity.write(dir.path(), "edge");
    let said = Said::new(Reply::with(500, &[], "not yet"));
    let reply = Arc::clone(&said.0);
    let endpoint = backend("endpoint")
        .reply(move |_: &Seen| reply.lock().unwrap().clone())
        .tls(identity.acceptor(Some(&authority), &[b"http/1.1"]))
        .run()
        .await;
    let url = format!(
        "https://localhost:{}/",
        endpoint
            .url()
            .rsplit(":")
            .next()
            .unwrap()
            .trim_end_matches("/")
    );
    let tls = json!({"providers": {"http": {"tls": {"ca": ca, "cert": cert, "key": key}}}});
    let proxy = from(&url).install(&tls).run().await;
    said.now(says("text/plain", &routed("/", &server)));
    serves(&proxy, "/").await;
}
