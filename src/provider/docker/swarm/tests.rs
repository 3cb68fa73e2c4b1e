//! Answers of a manager, as engines give them, become routing configuration.

use serde_json::{Value, json};
use std::net::Ipv4Addr;
use tokio::time::Instant;

use super::*;
use crate::{
    config::{
        install::SwarmProvider,
        routing::{Condition, ServiceKind},
    },
    provider::docker::{
        address::Surroundings,
        container::{Change, Event},
        roster::Roster,
        settings::Settings,
    },
};

/// A swarm, and what follows it.
struct Bench {
    roster: Roster,
    now: Instant,
    services: Vec<Value>,
    tasks: Vec<Value>,
    networks: Value,
}

impl Bench {
    fn new(services: Vec<Value>, tasks: Vec<Value>) -> Self {
        Self::with(SwarmProvider::default(), services, tasks)
    }

    fn with(options: SwarmProvider, services: Vec<Value>, tasks: Vec<Value>) -> Self {
        let around = Surroundings {
            networks: BTreeSet::new(),
            host: Ipv4Addr::LOCALHOST.into(),
        };
        let settings = Settings::new(&options.into()).unwrap();
        let networks = json!([
            {"Id": "id-net", "Name": "net", "Ingress": false, "Scope": "swarm"},
            {"Id": "id-in", "Name": "ingress", "Ingress": true, "Scope": "swarm"},
        ]);
        let mut bench = Self {
            roster: Roster::new(settings, around, None),
            now: Instant::now(),
            services,
            tasks,
            networks,
        };
        bench.ask();
        bench
    }

    fn view(&self, own: Option<&str>) -> View {
        let services: Vec<Service> = read(json!(self.services));
        let tasks: Vec<Task> = read(json!(self.tasks));
        let networks: Vec<Network> = read(self.networks.clone());
        view(&services, &tasks, &networks, own)
    }

    fn ask(&mut self) {
        let view = self.view(None);
        self.roster.surveyed(view, self.now);
    }

    fn event(&mut self, task: &str, change: Change) {
        let id = task.into();
        self.roster.happened_to_task(Event { id, change }, self.now);
    }

    /// `router: rule -> service`, `service: servers`, and what was found.
    fn lines(&self) -> Vec<String> {
        let decoded = self.roster.routing();
        let http = &decoded.routing.http;
        let routers = http.routers.iter();
        let mut lines: Vec<String> = routers
            .map(|(name, router)| format!("{name}: {} -> {}", router.rule, router.service))
            .collect();
        for (name, service) in &http.services {
            let ServiceKind::LoadBalancer(balancer) = &service.value.kind else {
                continue;
            };
            let servers = balancer.servers.iter().map(|server| {
                let url = &server.url;
                match &server.condition {
                    Condition::Ready => format!(" {url}"),
                    Condition::Waiting(why) => format!(" {url} waits ({why})"),
                    Condition::Leaving(why) => format!(" {url} leaves ({why})"),
                    Condition::Unhealthy(why) => format!(" {url} is unwell ({why})"),
                }
            });
            lines.push(format!("{name}:{}", servers.collect::<String>()));
        }
        lines.extend(decoded.diagnostics.iter().map(ToString::to_string));
        lines
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn service(name: &str, replicas: u64, labels: &[(&str, &str)]) -> Value {
    let labels = labels.iter();
    let labels: serde_json::Map<String, Value> = labels
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    json!({
        "ID": format!("s-{name}"),
        "Version": {"Index": 14},
        "CreatedAt": "2026-11-21T17:41:11.821870295Z",
        "Spec": {
            "Name": name,
            "Labels": labels,
            "TaskTemplate": {"ContainerSpec": {"Image": "app:1"}},
            "Mode": {"Replicated": {"Replicas": replicas}},
            "EndpointSpec": {"Mode": "vip"},
        },
        "Endpoint": {
            "Spec": {"Mode": "vip"},
            "VirtualIPs": [
                {"NetworkID": "id-in", "Addr": "10.0.0.9/24"},
                {"NetworkID": "id-net", "Addr": "10.0.1.2/24"},
            ],
        },
    })
}

fn task(service: &str, slot: u64, state: &str, addresses: &[(&str, &str)]) -> Value {
    let addresses = addresses.iter();
    let attachments: Vec<Value> = addresses
        .map(|(network, address)| {
            json!({
                "Network": {
                    "ID": format!("id-{network}"),
                    "Spec": {"Name": network, "Ingress": *network == "ingress", "Scope": "swarm"},
                },
                "Addresses": [format!("{address}/24")],
            })
        })
        .collect();
    json!({
        "ID": format!("t-{service}-{slot}"),
        "ServiceID": format!("s-{service}"),
        "Slot": slot,
        "Labels": null,
        "Spec": {"ContainerSpec": {"StopGracePeriod": 3_000_000_000_u64, "StopSignal": "SIGQUIT"}},
        "Status": {
            "State": state,
            "ContainerStatus": {"ContainerID": format!("c-{service}-{slot}"), "PID": 1},
        },
        "DesiredState": "running",
        "NetworksAttachments": attachments,
    })
}

const PORT: (&str, &str) = ("traefik.http.services.web.loadbalancer.server.port", "80");

fn web(replicas: u64, more: &[(&str, &str)]) -> Value {
    service("shop_web", replicas, &[&[PORT], more].concat())
}

fn running(slot: u64, address: &str) -> Value {
    task("shop_web", slot, "running", &[("net", address)])
}

const ROUTER: &str = "shop-web: Host(`shop-web`) -> web";

#[test]
fn tasks_are_servers_of_what_their_service_says() {
    let mut starting = running(3, "10.0.1.5");
    starting["Status"]["State"] = json!("starting");
    let mut preparing = running(4, "10.0.1.6");
    preparing["Status"]["State"] = json!("preparing");
    let mut bench = Bench::new(
        vec![web(4, &[])],
        vec![
            running(1, "10.0.1.3"),
            running(2, "10.0.1.4"),
            starting,
            preparing,
        ],
    );
    let waiting = " http://10.0.1.5:80 waits (its HEALTHCHECK has not passed yet)";
    let servers = format!("web: http://10.0.1.3:80 http://10.0.1.4:80{waiting}");
    assert_eq!(bench.lines(), [ROUTER, servers.as_str()]);
    assert!(!bench.view(None).settled);

    // A service that has no task keeps its router.
    bench.tasks.clear();
    bench.services = vec![web(0, &[])];
    bench.ask();
    assert_eq!(bench.lines(), [ROUTER, "web:"]);
    assert!(bench.view(None).settled);

    // And lingers when it is gone.
    bench.services.clear();
    bench.ask();
    assert_eq!(bench.lines(), [ROUTER, "web:"]);
    bench.now += Duration::from_secs(11);
    bench.roster.pass(bench.now);
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn names_and_default_rules_are_those_of_the_service() {
    let options = SwarmProvider {
        default_rule: "Host(`{{ .ContainerName }}.{{ index .Labels \"zone\" }}.test`)".to_owned(),
        ..SwarmProvider::default()
    };
    let mut global = service("agent", 0, &[("zone", "a"), PORT]);
    global["Spec"]["Mode"] = json!({"Global": {}});
    let mut on_node = task("agent", 0, "running", &[("net", "10.0.1.9")]);
    on_node["Slot"] = Value::Null;
    let bench = Bench::with(options, vec![global], vec![on_node]);
    let expected = [
        "agent: Host(`agent.a.test`) -> web",
        "web: http://10.0.1.9:80",
    ];
    assert_eq!(bench.lines(), expected);
    let view = bench.view(None);
    assert_eq!(&*view.parts[1].name, "agent.t-agent-0");
    assert!(view.settled);
}

#[test]
fn mistakes_are_told_once_with_service_and_label() {
    let bench = Bench::new(
        vec![
            service("bare", 2, &[("traefik.http.routers.bare.rul", "Host(`x`)")]),
            service("silent", 1, &[]),
            web(1, &[("traefik.enable", "fasle")]),
            service(
                "nowhere",
                2,
                &[("traefik.http.services.n.loadbalancer.server.port", "80")],
            ),
        ],
        vec![
            task("bare", 1, "running", &[("net", "10.0.1.3")]),
            task("bare", 2, "running", &[("net", "10.0.1.4")]),
            running(1, "10.0.1.7"),
            task("nowhere", 1, "running", &[]),
            task("nowhere", 2, "running", &[]),
        ],
    );
    let found: Vec<String> = bench
        .lines()
        .into_iter()
        .filter(|line| line.contains("service "))
        .collect();
    assert_eq!(
        found,
        [
            "service bare, label traefik.http.routers.bare.rul: error: http.routers.bare.rul: unknown option (did you mean `rule`?)",
            "service silent: info: has no labels and no port that could be served (set `traefik.enable=false`, or `exposedByDefault: false`)",
            "service bare: error: http.services.bare.loadBalancer.server.port: the port is missing: a swarm does not tell what images expose, so a label `loadbalancer.server.port` must say it",
            "service nowhere, label traefik.http.services.n.loadbalancer.server.port: error: http.services.n.loadBalancer.server: the task is on no network that gives it an address",
            "service shop_web, label traefik.enable: error: enable: expected `true` or `false`, found \"fasle\"",
        ]
    );
}

#[test]
fn options_choose_services() {
    let options = SwarmProvider {
        exposed_by_default: false,
        constraints: "Label(`zone`, `a`)".to_owned(),
        ..SwarmProvider::default()
    };
    let on = ("traefik.enable", "true");
    let mut bench = Bench::with(
        options,
        vec![
            web(1, &[on, ("zone", "a")]),
            service("b", 1, &[on, ("zone", "b"), PORT]),
            service("c", 1, &[("zone", "a"), PORT]),
        ],
        vec![running(1, "10.0.1.3")],
    );
    assert_eq!(bench.lines(), [ROUTER, "web: http://10.0.1.3:80"]);
    bench.services[0] = web(1, &[on, ("zone", "b")]);
    bench.ask();
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn networks_are_those_of_the_swarm() {
    let two = [
        ("ingress", "10.0.0.7"),
        ("net", "10.0.1.3"),
        ("other", "10.0.2.3"),
    ];
    let of = |labels: &[(&str, &str)], addresses: &[(&str, &str)], option: &str| {
        let options = SwarmProvider {
            network: option.to_owned(),
            ..SwarmProvider::default()
        };
        let tasks = vec![task("shop_web", 1, "running", addresses)];
        let lines = Bench::with(options, vec![web(1, labels)], tasks).lines();
        lines[1..].join("; ")
    };
    assert_eq!(of(&[], &two[..2], ""), "web: http://10.0.1.3:80");
    assert_eq!(of(&[], &two[..1], ""), "web: http://10.0.0.7:80");
    let several = "web: http://10.0.1.3:80; service shop_web: warning: swarm.network: is on several networks (net, other) and says none; net is taken (name one with the label `traefik.swarm.network`)";
    assert_eq!(of(&[], &two, ""), several);
    assert_eq!(of(&[], &two, "other"), "web: http://10.0.2.3:80");
    let net = ("traefik.swarm.network", "net");
    assert_eq!(of(&[net], &two, "other"), "web: http://10.0.1.3:80");
    let old = ("traefik.docker.network", "net");
    assert_eq!(of(&[old], &two, "other"), "web: http://10.0.1.3:80");
    let both = of(&[("traefik.swarm.network", "other"), old], &two, "");
    assert!(
        both.starts_with("web: http://10.0.2.3:80; service shop_web: warning: swarm:"),
        "{both}"
    );

    // The one we are on ourselves.
    let tasks = vec![
        task("shop_web", 1, "running", &two),
        task("edge", 1, "running", &[("other", "10.0.2.9")]),
    ];
    let mut bench = Bench::new(vec![web(1, &[])], tasks);
    let view = bench.view(Some("c-edge-1"));
    assert_eq!(view.own, Some(["id-other".to_owned()].into()));
    bench.roster.surveyed(view, bench.now);
    assert_eq!(bench.lines()[1..], ["web: http://10.0.2.3:80"]);
}

#[test]
fn a_virtual_address_is_a_server_while_it_leads_somewhere() {
    for label in ["traefik.swarm.lbswarm", "traefik.docker.lbswarm"] {
        let mut bench = Bench::new(
            vec![web(2, &[(label, "true")])],
            vec![running(1, "10.0.1.3"), running(2, "10.0.1.4")],
        );
        assert_eq!(bench.lines(), [ROUTER, "web: http://10.0.1.2:80"]);
        bench.tasks.clear();
        bench.ask();
        assert_eq!(bench.lines(), [ROUTER, "web:"]);
    }
    let mut dnsrr = web(1, &[("traefik.swarm.lbswarm", "true")]);
    dnsrr["Endpoint"] = json!({"Spec": {"Mode": "dnsrr"}, "VirtualIPs": null});
    let bench = Bench::new(vec![dnsrr], vec![running(1, "10.0.1.3")]);
    let expected = [
        ROUTER,
        "web: http://10.0.1.3:80",
        "service shop_web: warning: swarm.lbswarm: the service has no virtual address: its tasks are served one by one (that takes `endpoint_mode: vip` and a network of the swarm)",
    ];
    assert_eq!(bench.lines(), expected);
}

#[test]
fn the_engine_here_tells_of_its_tasks_before_managers_know() {
    let tasks = vec![running(1, "10.0.1.3"), running(2, "10.0.1.4")];
    let mut bench = Bench::new(vec![web(2, &[])], tasks);
    let condition = |bench: &Bench| bench.lines()[1].clone();
    bench.event("t-shop_web-1", Change::Killed(3));
    let leaving = "web: http://10.0.1.3:80 leaves (was sent SIGQUIT) http://10.0.1.4:80";
    assert_eq!(condition(&bench), leaving);
    bench.ask();
    assert_eq!(condition(&bench), leaving, "managers still say running");
    bench.event("t-shop_web-1", Change::Died);
    assert_eq!(condition(&bench), "web: http://10.0.1.4:80");
    bench.ask();
    assert_eq!(
        condition(&bench),
        "web: http://10.0.1.4:80",
        "it does not come back"
    );

    bench.event("t-shop_web-2", Change::Paused);
    bench.ask();
    assert_eq!(
        condition(&bench),
        "web: http://10.0.1.4:80 is unwell (is paused)"
    );
    bench.event("t-shop_web-2", Change::Started);
    bench.event("t-shop_web-2", Change::Health(Some(Health::Unhealthy)));
    bench.ask();
    assert_eq!(
        condition(&bench),
        "web: http://10.0.1.4:80 is unwell (its HEALTHCHECK fails)"
    );

    let mut third = running(3, "10.0.1.5");
    third["Status"]["State"] = json!("starting");
    bench.tasks = vec![third];
    bench.ask();
    bench.event("t-shop_web-3", Change::Health(Some(Health::Healthy)));
    assert_eq!(condition(&bench), "web: http://10.0.1.5:80");
    bench.ask();
    assert_eq!(condition(&bench), "web: http://10.0.1.5:80");
    for change in [
        Change::Elsewhere,
        Change::Died,
        Change::Killed(9),
        Change::Paused,
    ] {
        bench.event("of nobody", change);
    }
    assert_eq!(condition(&bench), "web: http://10.0.1.5:80");
}

#[test]
fn a_swarm_is_settled_when_all_is_as_it_should_be() {
    let settled = |service: Value, tasks: Vec<Value>| {
        let bench = Bench::new(vec![service], tasks);
        bench.view(None).settled
    };
    let state = |state: &str| {
        let mut service = web(1, &[]);
        service["UpdateStatus"] = json!({"State": state, "Message": "update in progress"});
        service
    };
    let one = || vec![running(1, "10.0.1.3")];
    assert!(settled(state("completed"), one()));
    assert!(settled(state("paused"), one()));
    assert!(!settled(state("updating"), one()));
    assert!(!settled(state("rollback_started"), one()));
    assert!(!settled(web(2, &[]), one()));
    assert!(!settled(
        web(1, &[]),
        vec![running(1, "10.0.1.3"), running(2, "10.0.1.4")]
    ));
    let mut job = web(1, &[]);
    job["Spec"]["Mode"] = json!({"ReplicatedJob": {"MaxConcurrent": 1}});
    assert!(settled(job, vec![]));
}

#[test]
fn two_services_that_claim_one_name_do_not_mix() {
    let mut younger = service(
        "other",
        1,
        &[
            PORT,
            (
                "traefik.http.services.web.loadbalancer.passhostheader",
                "false",
            ),
        ],
    );
    younger["CreatedAt"] = json!("2026-12-01T00:00:00Z");
    let tasks = vec![
        running(1, "10.0.1.3"),
        task("other", 1, "running", &[("net", "10.0.1.9")]),
    ];
    let lines = Bench::new(vec![younger, web(1, &[])], tasks).lines();
    assert_eq!(lines[2], "web: http://10.0.1.3:80");
    assert!(
        lines[3].starts_with("service other, label traefik.http.services.web.")
            && lines[3].contains("is defined otherwise by service shop_web"),
        "{lines:?}"
    );
}

#[test]
fn answers_may_lack_whatever_they_like() {
    let least = json!([{"ID": "a", "Spec": {"Name": "a"}}]);
    let services: Vec<Service> = read(least);
    let tasks: Vec<Task> = read(json!([
        {"ID": "t"},
        {"ID": "u", "ServiceID": "a", "Status": {"State": "running"}, "NetworksAttachments": [
            {}, {"Network": {"ID": "n"}, "Addresses": ["", "x/24", "fd00::2/64"]},
        ]},
        {"ID": "v", "ServiceID": "a", "Status": {"State": "of tomorrow"}},
    ]));
    let networks: Vec<Network> = read(json!([{"Id": "n"}]));
    let view = view(&services, &tasks, &networks, Some("x"));
    assert_eq!(view.parts.len(), 2);
    let address = view.parts[1].networks["n"].address();
    assert_eq!(address, Some("fd00::2".parse().unwrap()));
}
