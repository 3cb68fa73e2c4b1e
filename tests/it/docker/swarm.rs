//! The Swarm provider against a real swarm of one node.
//!
//! The edge is a container on an overlay network beside the tasks, as it has to be: addresses of such networks exist nowhere else. Kernels
//! without IPVS lead virtual addresses nowhere, so that a test of those gives the address to a task.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    engine::{IMAGE, Stack},
    private::{Engine, NETWORK},
};
use crate::support::{Client, binary, eventually, proxy, within};

/// What an edge and a swarm say about each other may take its time where everything is slow.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Answers its task's name, and ends at once when told to.
const SERVE: [&str; 4] = [
    IMAGE,
    "sh",
    "-c",
    "cat /etc/hostname > /www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait",
];
const TASK_NAME: &str = "{{.Task.Name}}";

struct Edge {
    web: SocketAddr,
    api: SocketAddr,
}

impl Edge {
    fn start(engine: &Engine, options: &[&str]) -> Self {
        let [web, api] = engine.edge(IMAGE, &binary(), options);
        Self { web, api }
    }

    /// The status, and the text without white space around it.
    async fn ask(&self, host: &str) -> (u16, String) {
        let answer = Client::new(self.web).get("/").host(host).try_send().await;
        answer.map_or((0, String::new()), |answer| {
            (answer.status, answer.text().trim().to_owned())
        })
    }

    async fn answers(&self, host: &str, status: u16, text: &str) {
        let mut last = (0, String::new());
        within(
            LIMIT,
            &format!("{host} answers {status} {text:?}"),
            async || {
                last = self.ask(host).await;
                (last.0 == status && last.1.contains(text)).then_some(())
            },
        )
        .await;
    }

    /// Waits until the API tells of so many servers of a service; their URLs.
    async fn servers(&self, service: &str, count: usize) -> Vec<String> {
        within(
            LIMIT,
            &format!("{service} has {count} servers"),
            async || {
                let told = self.api(&format!("/api/http/services/{service}")).await?;
                let servers = told["loadBalancer"]["servers"].as_array().cloned();
                let urls = servers.unwrap_or_default();
                let urls: Vec<String> = urls
                    .iter()
                    .filter_map(|server| Some(server["url"].as_str()?.to_owned()))
                    .collect();
                (urls.len() == count).then_some(urls)
            },
        )
        .await
    }

    /// Asks until so many different tasks have answered, and none more does.
    async fn shared_by(&self, host: &str, tasks: usize) {
        let mut last = Vec::new();
        within(
            LIMIT,
            &format!("{tasks} tasks of {host} share"),
            async || {
                let mut names = Vec::new();
                for _ in 0..3 * tasks.max(2) {
                    names.push(self.ask(host).await);
                }
                let well = names.iter().all(|(status, _)| *status == 200);
                names.sort();
                names.dedup();
                last = names;
                (well && last.len() == tasks).then_some(())
            },
        )
        .await;
    }

    async fn api(&self, path: &str) -> Option<Value> {
        let answer = Client::new(self.api).get(path).try_send().await.ok()?;
        (answer.status == 200).then(|| answer.json())
    }
}

#[tokio::test]
async fn tasks_share_and_every_change_shows() {
    drop(Stack::new());
    let engine = Engine::start(IMAGE);
    engine_that_is_no_manager_is_told_of(&engine).await;
    let edge = Edge::start(
        &engine,
        &[
            "--providers.swarm.hold.timeout=0",
            "--providers.swarm.refreshSeconds=600",
        ],
    );
    let labels = [
        "--label",
        "traefik.http.routers.web.rule=Host(`web.test`)",
        "--label",
        "traefik.http.services.web.loadbalancer.server.port=80",
        "--label",
        "traefik.http.routers.typo.rul=Host(`typo.test`)",
        "--hostname",
        TASK_NAME,
        "--stop-grace-period",
        "2s",
        "--replicas",
    ];
    engine.service("web", &[&labels[..], &["3"]].concat(), &SERVE);
    edge.servers("web@swarm", 3).await;
    edge.shared_by("web.test", 3).await;
    let found = edge.api("/api/diagnostics").await.unwrap().to_string();
    let label = "service web, label traefik.http.routers.typo.rul";
    assert!(
        found.contains(label) && found.contains("did you mean `rule`?"),
        "{found}"
    );

    engine.docker(&["service", "scale", "--detach", "web=5"]);
    edge.shared_by("web.test", 5).await;
    engine.docker(&["service", "scale", "--detach", "web=2"]);
    edge.servers("web@swarm", 2).await;
    edge.shared_by("web.test", 2).await;

    a_killed_task_leaves_at_once(&engine, &edge).await;

    engine.docker(&["service", "scale", "--detach", "web=0"]);
    edge.answers("web.test", 503, "").await;
    engine.docker(&[
        "service",
        "update",
        "--detach",
        "--label-add",
        "traefik.http.routers.web.rule=Host(`new.test`)",
        "web",
    ]);
    edge.answers("new.test", 503, "").await;
    assert_eq!(edge.ask("web.test").await.0, 404);
    engine.docker(&["service", "rm", "web"]);
    edge.answers("new.test", 404, "").await;
}

/// Neither fatal nor final.
async fn engine_that_is_no_manager_is_told_of(engine: &Engine) {
    let proxy = proxy("")
        .install(&json!({"providers": {"swarm": {"endpoint": engine.address()}}}))
        .run()
        .await;
    let source = async || proxy.admin().get("/api/overview").await.json()["sources"][0].clone();
    eventually("the engine is found to be no manager", async || {
        let error = source().await["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        error.contains("no manager of a swarm").then_some(())
    })
    .await;
    let log = proxy.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("run `docker swarm init` there"));
    assert_eq!(lines.count(), 1, "{log}");
    assert!(
        proxy
            .metrics()
            .await
            .contains("portway_provider_connected{provider=\"swarm\"} 0")
    );
    engine.init();
    within(LIMIT, "the swarm is followed", async || {
        (source().await["connected"] == true).then_some(())
    })
    .await;
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("portway_provider_last_sync_timestamp_seconds{provider=\"swarm\"}"));
}

/// The managers take seconds to hear of it, and every request to the old address would wait for an answer that nobody sends.
async fn a_killed_task_leaves_at_once(engine: &Engine, edge: &Edge) {
    let before = edge.servers("web@swarm", 2).await;
    let task = engine.docker(&["ps", "-q", "--filter", "name=web.1."]);
    engine.docker(&["kill", &task]);
    within(LIMIT, "the killed task is no server", async || {
        let told = edge.api("/api/http/services/web@swarm").await?;
        let servers = told["loadBalancer"]["servers"].to_string();
        let gone = before.iter().filter(|url| !servers.contains(*url)).count();
        (gone == 1).then_some(())
    })
    .await;
    let after = edge.servers("web@swarm", 2).await;
    assert_ne!(before, after);
    edge.shared_by("web.test", 2).await;
}

#[tokio::test]
async fn a_virtual_address_is_the_only_server() {
    drop(Stack::new());
    let engine = Engine::start(IMAGE);
    engine.init();
    let edge = Edge::start(
        &engine,
        &[
            "--providers.swarm.refreshSeconds=600",
            "--providers.swarm.exposedByDefault=false",
        ],
    );
    let labels = |name: &str| {
        [
            "traefik.enable=true".to_owned(),
            format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)"),
            format!("traefik.http.services.{name}.loadbalancer.server.port=80"),
            format!(
                "traefik.{}.lbswarm=true",
                if name == "old" { "docker" } else { "swarm" }
            ),
        ]
    };
    let names = ["vip", "old", "dnsrr", "hidden"];
    for name in names {
        let mut labels = labels(name);
        if name == "hidden" {
            labels[0] = "traefik.http.routers.hidden.middlewares=none".to_owned();
        }
        let mut options = vec!["--hostname", TASK_NAME, "--replicas", "2"];
        options.extend(labels.iter().flat_map(|label| ["--label", label]));
        options.extend([
            "--endpoint-mode",
            if name == "dnsrr" { "dnsrr" } else { "vip" },
        ]);
        engine.service(name, &options, &SERVE);
    }
    for name in ["vip", "old"] {
        let ask = "{{(index .Endpoint.VirtualIPs 0).Addr}}";
        let told = engine.docker(&["service", "inspect", "--format", ask, name]);
        let address = told.split('/').next().unwrap();
        let service = format!("{name}@swarm");
        assert_eq!(
            edge.servers(&service, 1).await,
            [format!("http://{address}:80")]
        );
        // Where the kernel balances, this changes nothing.
        let task = engine.docker(&["ps", "-q", "--filter", &format!("name={name}.1.")]);
        let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", &task]);
        engine.enter(
            &pid,
            &[
                "ip",
                "address",
                "add",
                &format!("{address}/24"),
                "dev",
                "eth0",
            ],
        );
        edge.answers(&format!("{name}.test"), 200, &format!("{name}."))
            .await;
    }
    edge.servers("dnsrr@swarm", 2).await;
    edge.shared_by("dnsrr.test", 2).await;
    let found = edge.api("/api/diagnostics").await.unwrap().to_string();
    assert!(
        found.contains("service dnsrr") && found.contains("no virtual address"),
        "{found}"
    );
    assert_eq!(edge.ask("hidden.test").await.0, 404);

    // Of several networks, the one that the edge is on itself is used, whatever they are called.
    engine.docker(&["network", "create", "-d", "overlay", "aside"]);
    engine.docker(&[
        "service",
        "update",
        "--quiet",
        "--network-add",
        "aside",
        "dnsrr",
    ]);
    let on_front = |urls: &[String]| {
        let subnet = engine.docker(&[
            "network",
            "inspect",
            "--format",
            "{{(index .IPAM.Config 0).Subnet}}",
            NETWORK,
        ]);
        let prefix = format!("http://{}", subnet.trim_end_matches("0/24"));
        urls.iter().all(|url| url.starts_with(&prefix))
    };
    edge.shared_by("dnsrr.test", 2).await;
    assert!(on_front(&edge.servers("dnsrr@swarm", 2).await));
}
