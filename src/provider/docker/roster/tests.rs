use std::net::Ipv4Addr;

use super::*;
use crate::{
    config::{install::DockerProvider, routing::Hold, units::Span},
    provider::docker::container::{Attachment, Health, Port},
};

/// A roster and a clock.
struct Bench {
    roster: Roster,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(&DockerProvider::default())
    }

    fn with(options: &DockerProvider) -> Self {
        let around = Surroundings {
            networks: BTreeSet::new(),
            host: Ipv4Addr::LOCALHOST.into(),
        };
        let settings = Settings::new(options).unwrap();
        Self {
            roster: Roster::new(settings, around, Some("us".to_owned())),
            now: Instant::now(),
        }
    }

    fn event(&mut self, id: &str, change: Change) -> Vec<String> {
        let id = id.into();
        asked(&self.roster.happened(Event { id, change }, self.now))
    }

    /// The engine's answer to a question that was asked.
    fn answer(&mut self, container: Container) {
        let id = Arc::clone(&container.id);
        let wants = self.roster.inspected(&id, Ok(Some(container)), self.now);
        assert_eq!(wants, Wants::default());
    }

    /// Starts a container and answers the question for it.
    fn start(&mut self, container: Container) {
        let id = Arc::clone(&container.id);
        assert_eq!(self.event(&id, Change::Started), [&*id]);
        self.answer(container);
    }

    fn wait(&mut self, millis: u64) -> Wants {
        self.now += Duration::from_millis(millis);
        self.roster.pass(self.now)
    }

    /// `service: url condition` for every server, `service:` for none.
    fn servers(&self) -> Vec<String> {
        let decoded = self.roster.routing();
        let mut lines = Vec::new();
        for (name, service) in &decoded.routing.http.services {
            let ServiceKind::LoadBalancer(balancer) = &service.value.kind else {
                continue;
            };
            let servers = balancer.servers.iter().map(|server| {
                let condition = match &server.condition {
                    Condition::Ready => "ready".to_owned(),
                    other => format!("{other:?}"),
                };
                format!(" {} {condition}", server.url.trim_start_matches("http://"))
            });
            lines.push(format!("{name}:{}", servers.collect::<String>()));
        }
        lines
    }

    fn findings(&self) -> Vec<String> {
        let decoded = self.roster.routing();
        decoded
            .diagnostics
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

fn asked(wants: &Wants) -> Vec<String> {
    wants.inspect.iter().map(ToString::to_string).collect()
}

/// A replica of the Compose service `web` of the project `p`.
fn replica(number: u8) -> Container {
    let id = format!("c{number}");
    let labels = [
        ("com.docker.compose.project", "p"),
        ("com.docker.compose.service", "web"),
    ];
    let attachment = Attachment {
        network: "id-net".to_owned(),
        v4: Some(Ipv4Addr::new(10, 0, 0, number)),
        v6: None,
    };
    Container {
        id: id.into(),
        name: format!("p-web-{number}").into(),
        created: number.into(),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        stop_signal: 15,
        stop_timeout: Duration::from_secs(10),
        networks: [("net".to_owned(), attachment)].into(),
        ports: vec![Port {
            number: 80,
            udp: false,
            bindings: Vec::new(),
        }],
        ..Container::default()
    }
}

fn listed(container: &Container) -> Listed {
    Listed {
        id: Arc::clone(&container.id),
        name: Arc::clone(&container.name),
        labels: container.labels.clone(),
        status: container.status,
        health: container.health,
        networks: container.networks.clone(),
    }
}

#[test]
fn containers_come_and_go_and_the_service_lingers() {
    let mut bench = Bench::new();
    bench.start(replica(1));
    bench.start(replica(2));
    assert_eq!(
        bench.servers(),
        ["web-p: 10.0.0.1:80 ready 10.0.0.2:80 ready"]
    );
    assert_eq!(bench.roster.take_change(), Some(Urgency::Soon));

    assert_eq!(bench.event("c1", Change::Died), [""; 0]);
    assert_eq!(bench.roster.take_change(), Some(Urgency::Now));
    assert_eq!(bench.servers(), ["web-p: 10.0.0.2:80 ready"]);
    bench.event("c2", Change::Died);
    assert_eq!(
        bench.servers(),
        ["web-p:"],
        "router and service stay for a while"
    );
    bench.event("c2", Change::Destroyed);
    bench.wait(9_999);
    assert_eq!(bench.servers(), ["web-p:"]);
    bench.wait(1);
    assert_eq!(bench.servers(), [""; 0]);
    assert_eq!(bench.roster.take_change(), Some(Urgency::Now));
    assert_eq!(bench.roster.next(), None);
}

#[test]
fn a_recreation_within_the_time_is_a_pause() {
    let mut bench = Bench::new();
    bench.start(replica(1));
    bench.event("c1", Change::Died);
    bench.wait(5_000);
    bench.start(replica(2));
    assert_eq!(bench.servers(), ["web-p: 10.0.0.2:80 ready"]);
    bench.wait(20_000);
    assert_eq!(bench.servers(), ["web-p: 10.0.0.2:80 ready"]);
}

#[test]
fn the_time_is_that_of_the_service_then_of_the_provider() {
    for (provider, label, lingers) in [
        (Some(2), None, 2),
        (Some(2), Some("3s"), 3),
        (Some(0), None, 0),
        (None, Some("0"), 0),
        (Some(3600), None, 600),
        (None, Some("9223372036s"), 600),
    ] {
        let mut bench = Bench::with(&DockerProvider {
            hold: Hold {
                timeout: provider.map(Span::from_secs),
                max_requests: None,
            },
            ..DockerProvider::default()
        });
        let mut container = replica(1);
        container.labels.extend(label.map(|time| {
            let key = "traefik.http.services.s.loadbalancer.hold.timeout";
            (key.to_owned(), time.to_owned())
        }));
        bench.start(container);
        bench.event("c1", Change::Died);
        assert_eq!(
            bench.servers().is_empty(),
            lingers == 0,
            "{provider:?} {label:?}"
        );
        bench.wait(lingers * 1000);
        assert_eq!(bench.servers(), [""; 0], "{provider:?} {label:?}");
    }
}

#[test]
fn health_pause_and_signals_are_conditions() {
    let mut bench = Bench::new();
    let starting = Container {
        health: Health::Starting,
        ..replica(1)
    };
    bench.start(starting);
    assert!(
        bench.servers()[0].contains("Waiting"),
        "{:?}",
        bench.servers()
    );
    for (change, expected) in [
        (Change::Health(Some(Health::Healthy)), "ready"),
        (Change::Health(Some(Health::Unhealthy)), "HEALTHCHECK fails"),
        (Change::Health(Some(Health::Healthy)), "ready"),
        (Change::Paused, "is paused"),
    ] {
        assert_eq!(bench.event("c1", change.clone()), [""; 0], "{change:?}");
        assert!(
            bench.servers()[0].contains(expected),
            "{:?}",
            bench.servers()
        );
        assert_eq!(bench.roster.take_change().map(|_| ()), Some(()));
    }
    bench.start(replica(1));
    assert_eq!(bench.servers(), ["web-p: 10.0.0.1:80 ready"]);

    // Reloads, reports and dumps.
    for signal in [1, 2, 3, 10, 12, 28] {
        bench.event("c1", Change::Killed(signal));
        assert_eq!(bench.servers(), ["web-p: 10.0.0.1:80 ready"], "{signal}");
    }
}

#[test]
fn whoever_is_told_to_stop_leaves_until_it_has_stopped_or_started() {
    const LEAVING: &str = "web-p: 10.0.0.1:80 Leaving(\"was sent SIGTERM\")";
    const READY: &str = "web-p: 10.0.0.1:80 ready";
    let mut bench = Bench::new();
    bench.start(replica(1));
    bench.event("c1", Change::Killed(15));
    assert_eq!(bench.servers(), [LEAVING]);
    // Whoever stops it may have given it more than its own stop timeout.
    bench.wait(3_600_000);
    assert_eq!(bench.servers(), [LEAVING]);
    bench.event("c1", Change::Killed(9));
    bench.wait(60_000);
    assert_eq!(bench.servers(), [LEAVING], "the first signal counts");
    // A container that is paused is let go on to stop.
    assert_eq!(bench.event("c1", Change::Unpaused), ["c1"]);
    bench.answer(replica(1));
    assert_eq!(bench.servers(), [LEAVING]);
    bench.roster.take_change();
    bench.start(replica(1));
    assert_eq!(bench.servers(), [READY]);
    assert_eq!(bench.roster.take_change(), Some(Urgency::Soon));
    // Not for ever, though: the signal may have come from somebody who did not mean to stop it.
    bench.event("c1", Change::Killed(15));
    bench.wait(24 * 3_600_000);
    assert_eq!(bench.servers(), [READY]);
    assert_eq!(bench.roster.next(), None);
}

#[test]
fn whoever_survives_a_signal_that_is_not_its_own_gets_requests_again() {
    for (stop_timeout, survives) in [
        (Duration::from_secs(10), 10_999),
        (Duration::ZERO, 999),
        (Duration::MAX, 24 * 3_600_000),
    ] {
        let mut bench = Bench::new();
        bench.start(Container {
            stop_signal: 3,
            stop_timeout,
            ..replica(1)
        });
        bench.event("c1", Change::Killed(15));
        bench.wait(survives);
        assert!(
            bench.servers()[0].contains("Leaving"),
            "the engine may still be killing it"
        );
        bench.wait(1_000);
        assert_eq!(bench.servers(), ["web-p: 10.0.0.1:80 ready"]);
    }
}

#[test]
fn a_start_that_was_not_told_of_ends_the_leaving() {
    let mut bench = Bench::new();
    let started = |started| Container {
        started,
        ..replica(1)
    };
    bench.start(started(1));
    bench.event("c1", Change::Killed(15));
    let list = || vec![listed(&replica(1))];
    assert_eq!(asked(&bench.roster.listed(list())), ["c1"]);
    bench.answer(started(1));
    assert!(bench.servers()[0].contains("Leaving"));
    assert_eq!(asked(&bench.roster.listed(list())), ["c1"]);
    bench.roster.take_change();
    bench.answer(started(2));
    assert_eq!(bench.servers(), ["web-p: 10.0.0.1:80 ready"]);
    assert_eq!(bench.roster.take_change(), Some(Urgency::Soon));
    assert_eq!(asked(&bench.roster.listed(list())), [""; 0]);
}

#[test]
fn a_container_has_a_signal_of_its_own() {
    let mut bench = Bench::new();
    let quits = Container {
        stop_signal: 10,
        stop_timeout: Duration::from_secs(1),
        ..replica(1)
    };
    bench.start(quits);
    bench.event("c1", Change::Killed(10));
    assert!(
        bench.servers()[0].contains("SIGUSR1"),
        "{:?}",
        bench.servers()
    );
    // A restart ends the leaving.
    bench.start(replica(1));
    assert_eq!(bench.servers(), ["web-p: 10.0.0.1:80 ready"]);
}

#[test]
fn whoever_crashes_and_is_started_again_keeps_its_service() {
    let mut bench = Bench::new();
    let restarts = Container {
        restarts: true,
        ..replica(1)
    };
    bench.start(restarts.clone());
    assert_eq!(bench.event("c1", Change::Died), ["c1"]);
    assert_eq!(bench.servers(), ["web-p:"]);
    bench.answer(Container {
        status: Status::Restarting,
        ports: Vec::new(),
        networks: BTreeMap::new(),
        ..restarts.clone()
    });
    bench.wait(60_000);
    assert_eq!(
        bench.servers(),
        ["web-p:"],
        "503 and not 404, however long the back-off"
    );
    bench.start(restarts);
    // One that was told to stop is not started again.
    bench.event("c1", Change::Killed(15));
    assert_eq!(bench.event("c1", Change::Died), [""; 0]);
}

#[test]
fn a_label_keeps_a_container_that_does_not_run() {
    let mut bench = Bench::new();
    let mut stopped = Container {
        status: Status::Stopped,
        ..replica(1)
    };
    assert!(asked(&bench.roster.listed(vec![listed(&stopped)])).is_empty());
    let label = "traefik.docker.allowNonRunning".to_owned();
    stopped.labels.insert(label, "true".to_owned());
    assert_eq!(asked(&bench.roster.listed(vec![listed(&stopped)])), ["c1"]);
    bench.answer(stopped);
    assert_eq!(bench.servers(), ["web-p:"]);
}

#[test]
fn networks_come_and_go() {
    let mut bench = Bench::new();
    bench.start(replica(1));
    bench.roster.take_change();
    assert_eq!(
        bench.event("c1", Change::Disconnected("other".to_owned())),
        ["c1"]
    );
    assert_eq!(bench.roster.take_change(), None);
    bench.answer(replica(1));
    let lost = Change::Disconnected("id-net".to_owned());
    assert_eq!(bench.event("c1", lost), ["c1"]);
    assert_eq!(bench.roster.take_change(), Some(Urgency::Now));
    assert_eq!(bench.servers(), ["web-p:"]);
    bench.answer(replica(1));
    assert_eq!(bench.servers(), ["web-p: 10.0.0.1:80 ready"]);
    // Before its start, a container is connected: that is not worth a question.
    assert_eq!(bench.event("c9", Change::Connected), [""; 0]);
}

#[test]
fn our_own_networks_are_looked_up_in_the_list() {
    let mut bench = Bench::new();
    let mut two = replica(1);
    let other = Attachment {
        network: "id-shared".to_owned(),
        v4: Some(Ipv4Addr::new(10, 9, 0, 1)),
        v6: None,
    };
    two.networks.insert("shared".to_owned(), other.clone());
    bench.start(two.clone());
    assert!(bench.findings()[0].contains("several networks (net, shared)"));
    let us = Listed {
        id: "us-long".into(),
        networks: [("shared".to_owned(), other)].into(),
        ..Listed::default()
    };
    bench.roster.listed(vec![us, listed(&two)]);
    assert_eq!(bench.servers(), ["web-p: 10.9.0.1:80 ready"]);
    assert_eq!(bench.findings(), [""; 0]);
    let moved = Event {
        id: "us-long".into(),
        change: Change::Connected,
    };
    assert!(bench.roster.happened(moved, bench.now).list);
}

#[test]
fn the_list_asks_only_for_what_is_new() {
    let mut bench = Bench::new();
    let list = || vec![listed(&replica(1)), listed(&replica(2))];
    assert_eq!(asked(&bench.roster.listed(list())).len(), 2);
    assert!(!bench.roster.is_settled());
    assert!(
        asked(&bench.roster.listed(list())).is_empty(),
        "it is being asked for already"
    );
    bench.answer(replica(1));
    bench.answer(replica(2));
    assert!(bench.roster.is_settled());
    assert!(asked(&bench.roster.listed(list())).is_empty());
    let mut changed = list();
    changed[0].health = Health::Unhealthy;
    assert_eq!(asked(&bench.roster.listed(changed)), ["c1"]);
    bench.answer(replica(1));
    // What the list lacks is asked for: it may be newer than the list.
    assert_eq!(
        asked(&bench.roster.listed(vec![listed(&replica(1))])),
        ["c2"]
    );
    bench.roster.inspected(&"c2".into(), Ok(None), bench.now);
    assert_eq!(bench.servers(), ["web-p: 10.0.0.1:80 ready"]);
}

#[test]
fn an_answer_older_than_the_last_event_is_asked_for_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.event("c1", Change::Started), ["c1"]);
    bench.event("c1", Change::Died);
    let wants = bench
        .roster
        .inspected(&"c1".into(), Ok(Some(replica(1))), bench.now);
    assert_eq!(asked(&wants), ["c1"]);
    assert_eq!(bench.servers(), [""; 0]);
    bench.answer(Container {
        status: Status::Stopped,
        ..replica(1)
    });
    assert_eq!(bench.servers(), [""; 0]);
}

#[test]
fn an_inspection_that_fails_is_repeated_and_costs_nobody_else() {
    let mut bench = Bench::new();
    bench.start(replica(2));
    bench.event("c1", Change::Started);
    let failed = Err("status 500: oh".to_owned());
    let wants = bench.roster.inspected(&"c1".into(), failed, bench.now);
    assert_eq!(wants, Wants::default());
    assert_eq!(bench.servers(), ["web-p: 10.0.0.2:80 ready"]);
    assert_eq!(
        bench.findings(),
        ["container c1: warning: cannot be inspected: status 500: oh (it is tried again)"]
    );
    assert!(asked(&bench.wait(150)).is_empty());
    assert_eq!(asked(&bench.wait(50)), ["c1"]);
    bench.answer(replica(1));
    assert_eq!(bench.findings(), [""; 0]);
    assert_eq!(
        bench.servers(),
        ["web-p: 10.0.0.1:80 ready 10.0.0.2:80 ready"]
    );
}

#[test]
fn an_engine_that_goes_away_is_asked_again_for_what_it_owes() {
    for under_way in [false, true] {
        let mut bench = Bench::new();
        bench.start(replica(2));
        bench.event("c1", Change::Started);
        let failed = Err("status 500: oh".to_owned());
        bench.roster.inspected(&"c1".into(), failed, bench.now);
        if under_way {
            assert_eq!(asked(&bench.wait(200)), ["c1"]);
        }
        bench.roster.abandon(bench.now);
        assert!(bench.roster.is_settled());
        assert_eq!(bench.wait(3_600_000), Wants::default(), "nobody is there");
        assert_eq!(bench.roster.next(), None);
        let list = vec![listed(&replica(1)), listed(&replica(2))];
        bench.roster.listed(list);
        assert!(bench.roster.next().is_some_and(|at| at <= bench.now));
        assert_eq!(asked(&bench.wait(0)), ["c1"], "{under_way}");
        bench.answer(replica(1));
        assert_eq!(bench.findings(), [""; 0]);
        assert_eq!(
            bench.servers(),
            ["web-p: 10.0.0.1:80 ready 10.0.0.2:80 ready"]
        );
    }
}

#[test]
fn an_answer_that_does_not_come_is_a_failure_until_it_comes() {
    let mut bench = Bench::new();
    bench
        .roster
        .listed(vec![listed(&replica(1)), listed(&replica(2))]);
    bench.answer(replica(2));
    bench.roster.lose_patience();
    assert_eq!(
        bench.findings(),
        ["container c1: warning: cannot be inspected: no answer yet (it is tried again)"]
    );
    assert_eq!(bench.servers(), ["web-p: 10.0.0.2:80 ready"]);
    assert_eq!(bench.wait(60_000), Wants::default(), "it is under way");
    bench.answer(replica(1));
    assert_eq!(bench.findings(), [""; 0]);
    assert_eq!(
        bench.servers(),
        ["web-p: 10.0.0.1:80 ready 10.0.0.2:80 ready"]
    );
}

#[test]
fn a_container_that_is_younger_than_the_list_is_not_forgotten() {
    let mut bench = Bench::new();
    bench.event("c1", Change::Started);
    let failed = Err("status 500: oh".to_owned());
    bench.roster.inspected(&"c1".into(), failed, bench.now);
    assert_eq!(asked(&bench.roster.listed(Vec::new())), ["c1"]);
    bench.roster.inspected(&"c1".into(), Ok(None), bench.now);
    assert_eq!(bench.findings(), [""; 0]);
    assert_eq!(bench.roster.next(), None);
}

#[test]
fn some_containers_are_not_for_us() {
    let options = DockerProvider {
        constraints: "!Label(`tier`, `db`)".to_owned(),
        ..DockerProvider::default()
    };
    for (label, value, exposed, served) in [
        ("traefik.enable", "true", false, true),
        ("traefik.enable", "false", true, false),
        ("Traefik.Enable", "true", true, false),
        ("traefik.ENABLE", "false", true, false),
        ("traefik.enable", "ture", true, false),
        ("x", "", false, false),
        ("tier", "db", true, false),
        ("tier", "web", true, true),
    ] {
        let mut bench = Bench::with(&DockerProvider {
            exposed_by_default: exposed,
            ..options.clone()
        });
        let mut container = replica(1);
        container.labels.insert(label.to_owned(), value.to_owned());
        let asked = asked(&bench.roster.listed(vec![listed(&container)]));
        assert_eq!(asked.len(), usize::from(served), "{label}={value}");
        if served {
            bench.answer(container);
        } else {
            assert_eq!(bench.event("c1", Change::Started), [""; 0]);
        }
        assert_eq!(bench.servers().is_empty(), !served, "{label}={value}");
        assert_eq!(
            bench.findings().len(),
            usize::from(value == "ture" || label == "Traefik.Enable")
        );
    }
}

#[test]
fn a_group_that_was_first_stays_first_through_a_recreation() {
    let claim = |name: &str, made: u8, rule: &str| {
        let mut container = replica(made);
        container.name = name.into();
        container.labels = [("traefik.http.routers.r.rule".to_owned(), rule.to_owned())].into();
        container
    };
    let mut bench = Bench::new();
    bench.start(claim("bank", 1, "Host(`bank`)"));
    bench.start(claim("thief", 2, "Host(`thief`)"));
    bench.event("c1", Change::Died);
    bench.start(claim("bank", 3, "Host(`bank2`)"));
    let routing = bench.roster.routing();
    assert_eq!(routing.routing.http.routers["r"].rule, "Host(`bank2`)");
    let found = bench.findings();
    assert!(
        found[0].contains("container thief") && found[0].contains("by container bank"),
        "{found:?}"
    );
}
