use std::{fs, path::Path};

use http::HeaderMap;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::{
    config::{
        Routing, Sources as InstallSources, load_install,
        routing::{self, Condition, LoadBalancer, Router, Server},
    },
    observe::Sources as SourceStates,
    provider::{FileProvider, Provider, Reload, Updates},
    rule::Facts,
    snapshot::Snapshot,
    upstream::resolve::{Answer, Answering, Lookup},
};

/// Control and a file provider at work on a directory of their own.
struct Bench {
    directory: tempfile::TempDir,
    cell: Arc<SnapshotCell>,
    reload: Reload,
    /// Stands in for a provider that knows the state of its servers.
    updates: Updates,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Bench {
    async fn start(yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("r.yml"), yaml).unwrap();
        let install = install(directory.path());
        let cell = Arc::new(SnapshotCell::new(Arc::default()));
        let (sender, updates) = mpsc::channel(4);
        let reload = Reload::default();
        let (resolver, resolving) = Resolver::new(Localhost);
        let file = install.providers.file.clone().unwrap();
        let provider = Box::new(FileProvider::new(&file, reload.signal()).unwrap());
        let control = Control::new(Parts {
            providers: vec![provider.name().into()],
            install: Arc::new(install),
            workshop: Arc::default(),
            cell: Arc::clone(&cell),
            resolver,
            staples: watch::Sender::default().subscribe(),
            updates,
            reload: reload.signal(),
        });
        let tasks = vec![
            tokio::task::spawn_local(resolving),
            tokio::task::spawn_local(provider.run(Updates::new(
                "file",
                sender.clone(),
                &SourceStates::default(),
            ))),
            tokio::task::spawn_local(control.await.run()),
        ];
        Self {
            directory,
            cell,
            reload,
            updates: Updates::new("file", sender, &SourceStates::default()),
            tasks,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Waits for a snapshot that satisfies `condition`.
    #[track_caller]
    fn eventually<'b>(
        &'b self,
        condition: impl Fn(&Snapshot) -> bool + 'b,
    ) -> impl Future<Output = Arc<Snapshot>> + 'b {
        let caller = std::panic::Location::caller();
        async move {
            let mut changes = self.cell.subscribe();
            let waiting = changes.wait_for(|_| condition(&self.cell.load_full()));
            assert!(
                timeout(Duration::from_secs(10), waiting)
                    .await
                    .is_ok_and(|waited| waited.is_ok()),
                "{caller}"
            );
            self.cell.load_full()
        }
    }
}

fn install(directory: &Path) -> Install {
    let arguments = [
        "--entrypoints.web.address=:80".to_owned(),
        format!(
            "--providers.file.filename={}",
            directory.join("r.yml").display()
        ),
    ];
    let sources = InstallSources {
        arguments: &arguments,
        environment: &[],
        directory,
        root: crate::config::Root::Here,
    };
    load_install(&sources).unwrap().install
}

/// Knows one name.
struct Localhost;

impl Lookup for Localhost {
    fn lookup(&self, _: Arc<str>) -> Answering {
        Box::pin(async {
            Ok(Answer {
                addresses: vec![[127, 0, 0, 1].into()],
                lifetime: Duration::from_secs(60),
            })
        })
    }
}

fn routed(snapshot: &Snapshot, host: &str) -> bool {
    let headers = HeaderMap::new();
    let facts = Facts {
        host,
        path: "/",
        query: None,
        method: "GET",
        headers: &headers,
        peer: [127, 0, 0, 1].into(),
    };
    snapshot.find(0, false, &facts).is_some()
}

fn yaml(host: &str) -> String {
    format!(
        "http:
  routers:
    app: {{rule: Host(`{host}`), service: app}}
  services:
    app: {{loadBalancer: {{servers: [{{url: 'http://backend:8080'}}]}}}}
"
    )
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_written_file_goes_live_and_a_broken_one_does_not() {
    local(async {
        let bench = Bench::start(&yaml("a.test")).await;
        let first = bench
            .eventually(|snapshot| routed(snapshot, "a.test"))
            .await;
        assert_eq!(first.generation, 1);
        let address = first.services[0].servers[0].address;
        assert_eq!(
            address,
            Some(([127, 0, 0, 1], 8080).into()),
            "names of servers are resolved before they go live"
        );
        bench.write("r.yml", &yaml("b.test"));
        let second = bench
            .eventually(|snapshot| routed(snapshot, "b.test"))
            .await;
        assert!(!routed(&second, "a.test"));
        assert!(Arc::ptr_eq(
            &first.services[0].servers[0],
            &second.services[0].servers[0]
        ));
        bench.write("r.yml", "http: {routers: [");
        let third = bench
            .eventually(|snapshot| snapshot.generation > second.generation)
            .await;
        assert!(routed(&third, "b.test"), "the last good content goes on");
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_renewed_when_its_file_changes() {
    local(async {
        let pem = |name: &str| {
            let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            pair.cert.pem() + &pair.signing_key.serialize_pem()
        };
        let names = |snapshot: &Snapshot| {
            let tls = snapshot.tls.clone();
            let names = tls.iter().flat_map(|tls| tls.certificates().configured());
            names
                .flat_map(|one| one.facts().dns_names.clone())
                .collect::<Vec<_>>()
        };
        let bench = Bench::start("{}").await;
        bench.write("c.pem", &pem("one.test"));
        let path = bench.directory.path().join("c.pem").display().to_string();
        bench.write(
            "r.yml",
            &format!("{{tls: {{certificates: [{{certFile: {path}, keyFile: {path}}}]}}}}"),
        );
        bench
            .eventually(|snapshot| names(snapshot) == ["one.test"])
            .await;
        bench.write("c.pem", &pem("two.test"));
        bench
            .eventually(|snapshot| names(snapshot) == ["two.test"])
            .await;
        // Half a certificate is none.
        bench.write("c.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
        let before = bench.cell.version();
        let after = bench
            .eventually(|snapshot| snapshot.generation > before)
            .await;
        assert_eq!(names(&after), ["two.test"]);
    })
    .await;
}

#[tokio::test]
async fn a_reload_that_changes_nothing_is_no_reload() {
    local(async {
        let bench = Bench::start(&yaml("a.test")).await;
        bench.eventually(|snapshot| snapshot.generation == 1).await;
        bench.reload.request();
        bench.write("r.yml", &yaml("b.test"));
        let live = bench
            .eventually(|snapshot| routed(snapshot, "b.test"))
            .await;
        assert_eq!(live.generation, 2);
    })
    .await;
}

/// A service `app` with servers at these ports of this machine.
fn servers(servers: &[(u16, Condition)]) -> Routing {
    let servers = servers.iter().map(|(port, condition)| Server {
        url: format!("http://127.0.0.1:{port}"),
        condition: condition.clone(),
        ..Server::default()
    });
    let balancer = LoadBalancer {
        servers: servers.collect(),
        ..LoadBalancer::default()
    };
    let router = Router {
        rule: "Host(`a.test`)".to_owned(),
        service: "app".to_owned(),
        ..Router::default()
    };
    let mut routing = Routing::default();
    let http = &mut routing.http;
    http.routers.insert("app".to_owned(), router.into());
    let service = routing::Service::from(balancer);
    http.services.insert("app".to_owned(), service.into());
    routing
}

#[tokio::test]
async fn conditions_act_with_the_swap_and_servers_that_go_are_told() {
    local(async {
        let bench = Bench::start("{}").await;
        bench.eventually(|snapshot| snapshot.generation == 1).await;
        let leaving = || Condition::Leaving("was told to stop".into());
        let live = async |listed: &[(u16, Condition)]| {
            let before = bench.cell.version();
            assert!(bench.updates.send(servers(listed)).await);
            bench
                .eventually(|snapshot| {
                    snapshot.generation > before && !snapshot.services.is_empty()
                })
                .await
        };
        let first = live(&[(1, Condition::Ready), (2, Condition::Ready)]).await;
        let [one, two] = &*first.services[0].servers else {
            panic!("two servers");
        };
        assert!(one.usable() && two.usable());
        let second = live(&[(1, leaving()), (2, Condition::Ready), (3, leaving())]).await;
        let service = &second.services[0];
        assert!(Arc::ptr_eq(one, &service.servers[0]), "the same server");
        assert!(one.is_leaving() && two.usable() && service.servers[2].is_leaving());
        assert_eq!(one.status().reason, "was told to stop");
        assert!(service.room.is_proven(), "what had to go was of use");
        // It changed its mind, and another one is gone without a word.
        let third = live(&[(1, Condition::Ready)]).await;
        assert!(one.usable() && two.is_leaving());
        assert_eq!(two.status().reason, "no configuration names it any more");
        assert!(Arc::ptr_eq(&third.services[0].room, &service.room));
    })
    .await;
}
