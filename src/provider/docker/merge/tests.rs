use super::*;
use crate::config::{labels::decode_labels, routing::LoadBalancer};

/// A container called after its group, with these labels; `made` orders them.
fn voice(group: &str, made: i64, labels: &[(&str, &str)], url: &str) -> Voice {
    let name = format!("{group}-{made}");
    let of = Labelled::Container(name.clone().into());
    let labels = decode_labels(&of, labels.iter().copied());
    let mut decoded = labels.decoded;
    if decoded.routing.http.services.is_empty() && decoded.broken.is_empty() {
        let service = Service::from(LoadBalancer::default());
        decoded
            .routing
            .http
            .services
            .insert("s".to_owned(), service.into());
    }
    let server = Server {
        url: url.to_owned(),
        ..Server::default()
    };
    let contribution = Contribution {
        id: name.into(),
        of,
        group: group.into(),
        created: made,
        servers: [("s".to_owned(), server)].into(),
        decoded,
        ..Contribution::default()
    };
    Voice {
        contribution: Arc::new(contribution),
        condition: Condition::Ready,
        gone: false,
        since: made,
    }
}

fn servers(decoded: &DecodedRouting) -> Vec<&str> {
    match &decoded.routing.http.services["s"].kind {
        ServiceKind::LoadBalancer(balancer) => balancer
            .servers
            .iter()
            .map(|server| server.url.as_str())
            .collect(),
        _ => Vec::new(),
    }
}

fn found(decoded: &DecodedRouting) -> Vec<String> {
    decoded
        .diagnostics
        .iter()
        .map(ToString::to_string)
        .collect()
}

const RULE: &str = "traefik.http.routers.r.rule";
const INTERVAL: &str = "traefik.http.services.s.loadbalancer.healthcheck.interval";
const PASS_HOST: &str = "traefik.http.services.s.loadbalancer.passhostheader";

#[test]
fn replicas_share_a_service() {
    let merged = merge(vec![
        voice("web", 2, &[], "http://b"),
        voice("web", 1, &[], "http://a"),
        voice("web", 3, &[], "http://a"),
    ]);
    assert_eq!(servers(&merged), ["http://a", "http://b"]);
    assert_eq!(found(&merged), [""; 0]);
}

#[test]
fn the_newest_generation_says_what_holds_and_all_serve() {
    let old = [(RULE, "Path(`/old`)"), (PASS_HOST, "true")];
    let new = [(RULE, "Path(`/new`)"), (PASS_HOST, "false")];
    let since = |voice: Voice| Voice { since: 1, ..voice };
    let merged = merge(vec![
        since(voice("web", 1, &old, "http://a")),
        since(voice("web", 2, &new, "http://b")),
    ]);
    assert_eq!(merged.routing.http.routers["r"].rule, "Path(`/new`)");
    assert_eq!(servers(&merged), ["http://a", "http://b"]);
    let ServiceKind::LoadBalancer(balancer) = &merged.routing.http.services["s"].kind else {
        panic!()
    };
    assert!(!balancer.pass_host_header);
    assert_eq!(found(&merged), [""; 0]);
}

#[test]
fn the_older_group_keeps_its_name() {
    let first = [(RULE, "Path(`/first`)"), (PASS_HOST, "true")];
    let second = [(RULE, "Path(`/second`)"), (PASS_HOST, "false")];
    for swapped in [false, true] {
        let mut voices = vec![
            voice("first", 1, &first, "http://a"),
            voice("second", 2, &second, "http://b"),
        ];
        if swapped {
            voices.reverse();
        }
        let merged = merge(voices);
        assert_eq!(merged.routing.http.routers["r"].rule, "Path(`/first`)");
        assert_eq!(servers(&merged), ["http://a"]);
        assert_eq!(
            found(&merged),
            [
                "container second-2, label traefik.http.routers.r.rule: error: http.routers.r: is defined otherwise by container first-1, and this definition is not used (give one of the two another name)",
                "container second-2, label traefik.http.services.s.loadbalancer.passhostheader: error: http.services.s: is defined otherwise by container first-1, and this definition is not used (give one of the two another name)",
            ]
        );
    }
    // Those who say the same share.
    let merged = merge(vec![
        voice("first", 1, &first, "http://a"),
        voice("second", 2, &first, "http://b"),
    ]);
    assert_eq!(
        (servers(&merged), found(&merged)),
        (vec!["http://a", "http://b"], vec![])
    );
}

#[test]
fn a_definition_that_cannot_be_read_leaves_the_older_one() {
    let since = |voice: Voice| Voice { since: 1, ..voice };
    let merged = merge(vec![
        since(voice("web", 1, &[(INTERVAL, "5s")], "http://a")),
        since(voice("web", 2, &[(INTERVAL, "soon")], "http://b")),
    ]);
    assert_eq!(servers(&merged), ["http://a", "http://b"], "both serve");
    assert!(merged.broken.is_empty());
    let found = found(&merged);
    assert!(found[0].contains("label traefik.http.services.s.loadbalancer.healthcheck.interval"));
    assert!(
        found[1].contains("what another container says of it goes on"),
        "{found:?}"
    );

    let alone = merge(vec![voice("web", 2, &[(INTERVAL, "soon")], "http://b")]);
    assert!(alone.broken.contains(&(Kind::Service, "s".to_owned())));
    // A stranger's server does not come in by a broken definition.
    let stranger = voice("other", 3, &[(INTERVAL, "soon")], "http://c");
    let merged = merge(vec![voice("web", 1, &[], "http://a"), stranger]);
    assert_eq!(servers(&merged), ["http://a"]);
}

#[test]
fn what_has_gone_leaves_everything_but_its_servers() {
    let ghost = Voice {
        gone: true,
        ..voice(
            "web",
            1,
            &[(RULE, "Path(`/`)"), (PASS_HOST, "true")],
            "http://a",
        )
    };
    let merged = merge(vec![ghost.clone()]);
    assert!(merged.routing.http.routers.contains_key("r"));
    assert_eq!(servers(&merged), [""; 0]);
    // Whoever lives has the name, however old the ghost.
    let other = voice(
        "other",
        9,
        &[(RULE, "Path(`/other`)"), (PASS_HOST, "false")],
        "http://b",
    );
    let merged = merge(vec![ghost, other]);
    assert_eq!(merged.routing.http.routers["r"].rule, "Path(`/other`)");
    assert_eq!(
        (servers(&merged), found(&merged)),
        (vec!["http://b"], vec![])
    );
}

#[test]
fn an_address_that_changed_hands_is_the_ready_ones() {
    let leaving = Voice {
        condition: Condition::Leaving("x".into()),
        ..voice("web", 1, &[], "http://a")
    };
    let ready = voice("web", 2, &[], "http://a");
    for voices in [vec![leaving.clone(), ready.clone()], vec![ready, leaving]] {
        let merged = merge(voices);
        let ServiceKind::LoadBalancer(balancer) = &merged.routing.http.services["s"].kind else {
            panic!()
        };
        assert_eq!(balancer.servers.len(), 1);
        assert_eq!(balancer.servers[0].condition, Condition::Ready);
    }
}

#[test]
fn the_same_rule_elsewhere_is_refused_to_whoever_comes_later() {
    let name = |name: &str, more: &str| format!("traefik.http.routers.{name}.{more}");
    let bank = name("zbank", "rule");
    let owner = [(bank.as_str(), "Host(`bank`)")];
    let rule = name("aaa", "rule");
    let priority = name("aaa", "priority");
    let doors = name("aaa", "entrypoints");
    let thief = [(rule.as_str(), "Host(`bank`)")];
    let merged = merge(vec![
        voice("thief", 2, &thief, "http://b"),
        voice("bank", 1, &owner, "http://a"),
    ]);
    assert_eq!(
        merged.routing.http.routers.keys().collect::<Vec<_>>(),
        ["zbank"]
    );
    assert_eq!(
        found(&merged),
        [
            "container thief-2, label traefik.http.routers.aaa.rule: error: http.routers.aaa.rule: is that of the router `zbank` of container bank-1, which was first: this router is not served (give it a priority of its own if it is meant to come before or after)"
        ]
    );
    // Whoever says a priority knows what he does; another entry point is another matter; and one container may do as it likes.
    let maintenance = [thief[0], (priority.as_str(), "9")];
    let merged = merge(vec![
        voice("bank", 1, &owner, "http://a"),
        voice("page", 2, &maintenance, "http://b"),
    ]);
    assert_eq!(merged.routing.http.routers.len(), 2);
    let owner_doors = name("zbank", "entrypoints");
    let elsewhere = [thief[0], (doors.as_str(), "other")];
    let here = [owner[0], (owner_doors.as_str(), "web,websecure")];
    let merged = merge(vec![
        voice("bank", 1, &here, "http://a"),
        voice("page", 2, &elsewhere, "http://b"),
    ]);
    assert_eq!(merged.routing.http.routers.len(), 2);
    let both = [owner[0], thief[0]];
    let merged = merge(vec![voice("bank", 1, &both, "http://a")]);
    assert_eq!(merged.routing.http.routers.len(), 2);
}
