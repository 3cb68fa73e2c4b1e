use std::net::Ipv4Addr;

use super::*;
use crate::{
    config::install::DockerProvider,
    provider::docker::container::{Attachment, Port},
};

fn container(labels: &[(&str, &str)], ports: &[u16]) -> Container {
    let attachment = Attachment {
        network: "id-net".to_owned(),
        v4: Some(Ipv4Addr::new(10, 0, 0, 2)),
        v6: None,
    };
    let port = |number: &u16| Port {
        number: *number,
        udp: false,
        bindings: vec![(Some(Ipv4Addr::new(127, 0, 0, 1).into()), *number + 8000)],
    };
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Container {
        id: "id".into(),
        name: "plain_name.x".into(),
        labels: labels.collect(),
        networks: [("net".to_owned(), attachment)].into(),
        ports: ports.iter().map(port).collect(),
        ..Container::default()
    }
}

fn of(container: &Container, options: &DockerProvider) -> Contribution {
    let around = Surroundings {
        networks: BTreeSet::new(),
        host: Ipv4Addr::LOCALHOST.into(),
    };
    contribute(container, &Settings::new(options).unwrap(), &around)
}

/// `router: rule -> service`, `service = url`, and what was found.
fn lines(contribution: &Contribution) -> Vec<String> {
    let http = &contribution.decoded.routing.http;
    let routers = http.routers.iter();
    let routers = routers.map(|(name, r)| format!("{name}: {} -> {}", r.rule, r.service));
    let services = http.services.keys().map(|name| {
        let server = contribution.servers.get(name);
        format!("{name} = {}", server.map_or("none", |server| &server.url))
    });
    let found = contribution
        .decoded
        .diagnostics
        .iter()
        .map(ToString::to_string);
    routers.chain(services).chain(found).collect()
}

fn check(labels: &[(&str, &str)], ports: &[u16], expected: &[&str]) {
    let found = lines(&of(&container(labels, ports), &DockerProvider::default()));
    assert_eq!(found, expected, "{labels:?}");
}

#[test]
fn a_container_without_labels_is_served_by_its_name() {
    check(
        &[],
        &[443, 80],
        &[
            "plain-name-x: Host(`plain-name-x`) -> plain-name-x",
            "plain-name-x = http://10.0.0.2:443",
        ],
    );
    check(
        &[
            ("com.docker.compose.project", "proj"),
            ("com.docker.compose.service", "web"),
        ],
        &[80],
        &[
            "web-proj: Host(`web-proj`) -> web-proj",
            "web-proj = http://10.0.0.2:80",
        ],
    );
    check(
        &[],
        &[],
        &[
            "container plain_name.x: info: has no labels and no port that could be served (set `traefik.enable=false`, or `exposedByDefault: false`)",
        ],
    );
}

#[test]
fn what_is_not_said_is_filled_in() {
    check(
        &[("traefik.http.routers.r.rule", "Path(`/`)")],
        &[80],
        &[
            "r: Path(`/`) -> plain-name-x",
            "plain-name-x = http://10.0.0.2:80",
        ],
    );
    check(
        &[
            ("traefik.http.services.s.loadbalancer.server.port", "81"),
            ("traefik.http.services.s.loadbalancer.server.scheme", "h2c"),
        ],
        &[80],
        &[
            "plain-name-x: Host(`plain-name-x`) -> s",
            "s = h2c://10.0.0.2:81",
        ],
    );
    check(
        &[("traefik.http.middlewares.m.addprefix.prefix", "/x")],
        &[80],
        &[
            "plain-name-x: Host(`plain-name-x`) -> plain-name-x",
            "plain-name-x = http://10.0.0.2:80",
        ],
    );
    check(
        &[(
            "traefik.http.services.s.loadbalancer.server.url",
            "http://other:1",
        )],
        &[],
        &[
            "plain-name-x: Host(`plain-name-x`) -> s",
            "s = http://other:1",
        ],
    );
    // Labels of TCP alone want nothing of HTTP.
    check(
        &[("traefik.tcp.routers.r.rule", "HostSNI(`*`)")],
        &[80],
        &[
            "container plain_name.x, label traefik.tcp.routers.r.rule: warning: tcp.routers.r: is known, but not supported by this version",
        ],
    );
}

#[test]
fn of_several_services_a_router_names_one() {
    let two = [
        ("traefik.http.services.a.loadbalancer.server.port", "1"),
        ("traefik.http.services.b.loadbalancer.server.port", "2"),
    ];
    check(
        &two,
        &[],
        &[
            "a = http://10.0.0.2:1",
            "b = http://10.0.0.2:2",
            "container plain_name.x: info: http.routers: has several services and no router: none is reachable",
        ],
    );
    let labels = [
        two[0],
        two[1],
        ("traefik.http.routers.r.rule", "Path(`/`)"),
        ("traefik.http.routers.q.rule", "Path(`/q`)"),
        ("traefik.http.routers.q.service", "a"),
    ];
    check(
        &labels,
        &[],
        &[
            "q: Path(`/q`) -> a",
            "a = http://10.0.0.2:1",
            "b = http://10.0.0.2:2",
            "container plain_name.x, label traefik.http.routers.r.rule: error: http.routers.r.service: needs `service`: one of `a`, `b`",
        ],
    );
}

#[test]
fn a_bad_label_costs_its_own_object() {
    let labels = [
        ("traefik.http.routers.good.rule", "Path(`/`)"),
        ("traefik.http.routers.bad.rul", "Path(`/`)"),
        ("traefik.http.services.s.loadbalancer.server.port", "http"),
    ];
    let made = of(&container(&labels, &[80]), &DockerProvider::default());
    assert_eq!(
        lines(&made),
        [
            "good: Path(`/`) -> s",
            "s = none",
            "container plain_name.x, label traefik.http.routers.bad.rul: error: http.routers.bad.rul: unknown option (did you mean `rule`?)",
            "container plain_name.x, label traefik.http.services.s.loadbalancer.server.port: error: http.services.s.loadBalancer.server.port: \"http\" is not a port",
        ]
    );
    assert!(
        made.decoded
            .broken
            .contains(&(Kind::Router, "bad".to_owned()))
    );
}

#[test]
fn missing_ports_and_networks_are_named() {
    check(
        &[("traefik.http.routers.r.rule", "Path(`/`)")],
        &[],
        &[
            "r: Path(`/`) -> plain-name-x",
            "plain-name-x = none",
            "container plain_name.x: error: http.services.plain-name-x.loadBalancer.server.port: the port is missing: the container exposes none, so a label `loadbalancer.server.port` must say it",
        ],
    );
    let mut lonely = container(&[("traefik.http.routers.r.rule", "Path(`/`)")], &[80]);
    lonely.networks.clear();
    let found = lines(&of(&lonely, &DockerProvider::default()));
    assert_eq!(
        found[2],
        "container plain_name.x: error: http.services.plain-name-x.loadBalancer.server: the container is on no network that gives it an address"
    );
    check(
        &[
            (
                "traefik.http.services.s.loadbalancer.server.url",
                "http://x",
            ),
            ("traefik.http.services.s.loadbalancer.server.port", "1"),
        ],
        &[],
        &[
            "plain-name-x: Host(`plain-name-x`) -> s",
            "s = none",
            "container plain_name.x, label traefik.http.services.s.loadbalancer.server.url: error: http.services.s.loadBalancer.server.url: cannot stand beside `port` or `scheme`",
        ],
    );
    for (field, value, wrong) in [
        (
            "scheme",
            "htps",
            "unknown scheme `htps`: expected http, https or h2c (did you mean `https`?)",
        ),
        (
            "url",
            "tcp://10.0.0.1",
            "unknown scheme `tcp`: expected http, https or h2c",
        ),
        (
            "url",
            "10.0.0.1:80",
            "expected a URL such as `http://10.0.0.1:80`, found \"10.0.0.1:80\"",
        ),
    ] {
        let label = format!("traefik.http.services.s.loadbalancer.server.{field}");
        let found = format!(
            "container plain_name.x, label {label}: error: http.services.s.loadBalancer.server.{field}: {wrong}"
        );
        let router = "plain-name-x: Host(`plain-name-x`) -> s";
        check(&[(&label, value)], &[80], &[router, "s = none", &found]);
    }
}

#[test]
fn options_change_address_and_rule() {
    let options = DockerProvider {
        use_bind_port_ip: true,
        default_rule: "Host(`{{ index .Labels \"host\" }}`)".to_owned(),
        ..DockerProvider::default()
    };
    let made = of(&container(&[("host", "a.test")], &[80]), &options);
    assert_eq!(
        lines(&made),
        [
            "plain-name-x: Host(`a.test`) -> plain-name-x",
            "plain-name-x = http://127.0.0.1:8080"
        ]
    );
    let injected = container(&[("host", "a`) || Host(`bank")], &[80]);
    let found = lines(&of(&injected, &options));
    assert!(found[1].contains("would end the quotes"), "{found:?}");
    let options = DockerProvider {
        network: "elsewhere".to_owned(),
        default_rule: "{{ index .Labels \"none\" }}".to_owned(),
        ..DockerProvider::default()
    };
    let found = lines(&of(
        &container(&[("traefik.http.routers.r", "")], &[80]),
        &options,
    ));
    assert!(
        found[1].contains("not on the network `elsewhere`"),
        "{found:?}"
    );
    assert!(
        found[2].contains("http.routers.r.rule: has no rule"),
        "{found:?}"
    );
}

#[test]
fn a_container_between_two_lives_has_no_server() {
    let mut restarting = container(&[("traefik.http.routers.r.rule", "Path(`/`)")], &[]);
    restarting.status = Status::Restarting;
    assert_eq!(
        lines(&of(&restarting, &DockerProvider::default())),
        ["r: Path(`/`) -> plain-name-x", "plain-name-x = none"]
    );
}
