use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode, header::COOKIE};

use super::{
    BudgetSettings, Condition, HealthCheck, HoldSettings, Outcome, OutlierSettings,
    PassiveSettings, PickKey, Readiness, Scheme, ServerId, ServerSettings, ServerUrl,
    ServerUrlError, Service, ServiceSettings, Slots, StickySettings, Strategy, Thresholds,
    Timeouts, Transport,
};
use crate::{
    exchange::{Fault, FaultKind},
    observe::ServerView as _,
};

/// A service under construction, with everything that outlives it.
struct Lab {
    settings: ServiceSettings,
    slots: Slots,
    now: Instant,
}

impl Lab {
    /// `urls` is `url` or `url*weight`, separated by blanks.
    fn new(strategy: Strategy, urls: &str) -> Self {
        Self {
            settings: ServiceSettings {
                name: "st@file".into(),
                servers: servers(urls),
                strategy,
                sticky: None,
                pass_host_header: true,
                transport: Arc::new(Transport::plain("default@internal".into())),
                health_check: None,
                passive: None,
                flush_interval: None,
                budget: BudgetSettings::default(),
                hold: HoldSettings::default(),
                warm_up: None,
                timeouts: Timeouts::default(),
                outliers: None,
                hedge: None,
            },
            slots: Slots::default(),
            now: Instant::now(),
        }
    }

    fn sticky(mut self) -> Self {
        self.settings.sticky = Some(StickySettings::default());
        self
    }

    fn checked(mut self) -> Self {
        self.settings.health_check = Some(Arc::new(HealthCheck::default()));
        self
    }

    fn build(&self, previous: Option<&Service>) -> Service {
        Service::build(self.settings.clone(), previous, &self.slots, self.now)
    }
}

fn servers(urls: &str) -> Vec<ServerSettings> {
    urls.split_whitespace()
        .map(|url| {
            let (url, weight) = url.split_once('*').unwrap_or((url, "1"));
            ServerSettings {
                url: ServerUrl::parse(url).unwrap(),
                weight: weight.parse().unwrap(),
                preserve_path: false,
                addresses: Vec::new(),
                condition: Condition::Ready,
            }
        })
        .collect()
}

fn named(url: &str, addresses: &[&str]) -> ServerSettings {
    ServerSettings {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        ..servers(url).remove(0)
    }
}

fn key<'a>(headers: &'a HeaderMap, exclude: &'a [ServerId]) -> PickKey<'a> {
    PickKey {
        client_ip: IpAddr::from([192, 0, 2, 7]),
        headers,
        exclude,
    }
}

fn pick(service: &Service) -> Option<Arc<str>> {
    let headers = HeaderMap::new();
    let pick = service.pick(&key(&headers, &[]))?;
    Some(Arc::clone(&pick.server.name))
}

fn shares(service: &Service, picks: usize) -> HashMap<Arc<str>, usize> {
    let mut shares = HashMap::new();
    for name in (0..picks).filter_map(|_| pick(service)) {
        *shares.entry(name).or_default() += 1;
    }
    shares
}

fn with_cookie(set_cookie: &HeaderValue) -> HeaderMap {
    let text = set_cookie.to_str().unwrap();
    let pair = text.split(';').next().unwrap();
    HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(pair).unwrap())])
}

fn fail(service: &Service, index: usize) {
    let fault = Fault::server(FaultKind::Connect);
    service.servers[index].observe(Outcome::Failed(fault));
}

const THREE: &str = "http://10.0.0.1 http://10.0.0.2 http://10.0.0.3";
const EVERY: [Strategy; 4] = [
    Strategy::RoundRobin,
    Strategy::PowerOfTwo,
    Strategy::Rendezvous,
    Strategy::LeastTime,
];

#[test]
fn urls() {
    for (text, expected) in [
        ("http://a", Ok((Scheme::Http, "a", 80, "a", ""))),
        (
            "https://a:8443/x/?q#f",
            Ok((Scheme::Https, "a", 8443, "a:8443", "/x/")),
        ),
        (
            "h2c://u:p@[::1]:1/",
            Ok((Scheme::H2c, "::1", 1, "[::1]:1", "/")),
        ),
        ("HTTPS://b", Ok((Scheme::Https, "b", 443, "b", ""))),
        ("10.0.0.1:80", Err(ServerUrlError::NoScheme)),
        ("://a", Err(ServerUrlError::NoScheme)),
        ("ftp://a", Err(ServerUrlError::Scheme("ftp".into()))),
        ("http://", Err(ServerUrlError::NoHost)),
        ("http://:80", Err(ServerUrlError::NoHost)),
        ("http://a:99999", Err(ServerUrlError::Port("99999".into()))),
        ("http://a b", Err(ServerUrlError::Host("a b".into()))),
        ("http://[::1", Err(ServerUrlError::Host("[::1".into()))),
    ] {
        let url = ServerUrl::parse(text);
        let got = url.as_ref().map(|url| {
            let authority = url.authority.to_str().unwrap();
            (
                url.scheme,
                &url.host[..],
                url.port,
                authority,
                &url.path[..],
            )
        });
        assert_eq!(got, expected.as_ref().copied(), "{text}");
    }
}

#[test]
fn every_strategy_skips_what_is_down_excluded_or_weightless() {
    for strategy in EVERY {
        let service = Lab::new(strategy, THREE).build(None);
        let headers = HeaderMap::new();
        let mut tried: Vec<ServerId> = Vec::new();
        while let Some(pick) = service.pick(&key(&headers, &tried)) {
            assert!(!tried.contains(&pick.server.id), "{strategy:?}");
            tried.push(pick.server.id);
        }
        assert_eq!(tried.len(), 3, "{strategy:?}");

        let now = Instant::now();
        for server in &service.servers {
            assert!(service.up(), "{strategy:?}");
            server.health.probe_failed("x", Thresholds::default(), now);
        }
        assert!(pick(&service).is_none() && !service.up(), "{strategy:?}");

        let weightless = Lab::new(strategy, "http://10.0.0.1*0 http://10.0.0.2*-3").build(None);
        let picked = pick(&weightless).is_some();
        assert_eq!(picked, strategy == Strategy::PowerOfTwo, "{strategy:?}");
        assert!(
            pick(&Lab::new(strategy, "").build(None)).is_none(),
            "{strategy:?}"
        );
    }
}

#[test]
fn looking_for_another_server_costs_no_turn() {
    let service = Lab::new(Strategy::RoundRobin, THREE).build(None);
    let (headers, mut tried) = (HeaderMap::new(), Vec::new());
    let mut names = Vec::new();
    for _ in 0..6 {
        assert!(service.can_pick(&key(&headers, &[])));
        names.push(pick(&service).unwrap());
    }
    assert_eq!(names[..3], names[3..]);
    for server in &service.servers {
        assert!(service.can_pick(&key(&headers, &tried)));
        tried.push(server.id);
    }
    assert!(!service.can_pick(&key(&headers, &tried)));
    let now = Instant::now();
    for server in &service.servers {
        server.health.probe_failed("x", Thresholds::default(), now);
    }
    assert!(!service.can_pick(&key(&headers, &[])));
}

#[test]
fn round_robin_by_weight() {
    let service = Lab::new(
        Strategy::RoundRobin,
        "http://10.0.0.1*30 http://10.0.0.2*10",
    )
    .build(None);
    let names: Vec<_> = (0..8).map(|_| pick(&service).unwrap()).collect();
    let expected = [1, 1, 2, 1, 1, 1, 2, 1].map(|n| Arc::from(format!("http://10.0.0.{n}")));
    assert_eq!(names, expected);
}

#[test]
fn a_url_listed_twice_is_one_server_with_two_shares() {
    let service = Lab::new(
        Strategy::RoundRobin,
        "http://10.0.0.1 http://10.0.0.1 http://10.0.0.2",
    )
    .build(None);
    assert_eq!(service.servers[0].id, service.servers[1].id);
    assert_eq!(shares(&service, 300)["http://10.0.0.1"], 200);
}

#[test]
fn power_of_two_prefers_the_less_busy() {
    let service = Lab::new(Strategy::PowerOfTwo, "http://10.0.0.1 http://10.0.0.2").build(None);
    let busy = service.servers[0].begin();
    assert_eq!(shares(&service, 50)["http://10.0.0.2"], 50);
    drop(busy);
    assert_eq!(service.servers[0].in_flight(), 0);
    assert_eq!(shares(&service, 200).len(), 2);
}

#[test]
fn rendezvous_moves_only_the_clients_of_a_lost_server() {
    let all = Lab::new(
        Strategy::Rendezvous,
        "http://10.0.0.1:80*2 http://10.0.0.2:80 http://10.0.0.3:80",
    )
    .build(None);
    let headers = HeaderMap::new();
    let server_of = |client: u32| {
        let key = PickKey {
            client_ip: IpAddr::from(client.to_be_bytes()),
            ..key(&headers, &[])
        };
        all.pick(&key).unwrap().server.id
    };
    let before: Vec<ServerId> = (0..4000).map(server_of).collect();
    let lost = all.servers[1].id;
    all.servers[1]
        .health
        .probe_failed("x", Thresholds::default(), Instant::now());
    let after: Vec<ServerId> = (0..4000).map(server_of).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(*before == lost || before == after);
        assert_ne!(*after, lost);
    }
    let first = before.iter().filter(|id| **id == all.servers[0].id).count();
    assert!(
        (1800..2200).contains(&first),
        "half of the weight, {first} of 4000"
    );
}

#[test]
fn least_time_takes_the_quick_and_idle() {
    let service = Lab::new(Strategy::LeastTime, "http://10.0.0.1 http://10.0.0.2").build(None);
    assert_eq!(
        shares(&service, 10)["http://10.0.0.1"],
        5,
        "no samples: in turn"
    );
    let answered = |millis| Outcome::Answered {
        status: StatusCode::OK,
        ttfb: Duration::from_millis(millis),
    };
    service.servers[0].observe(answered(10));
    service.servers[1].observe(answered(25));
    assert_eq!(shares(&service, 10)["http://10.0.0.1"], 10);
    let busy = [service.servers[0].begin(), service.servers[0].begin()];
    assert_eq!(
        shares(&service, 10)["http://10.0.0.2"],
        10,
        "10 ms x 3 > 25 ms x 1"
    );
    drop(busy);
    (0..100).for_each(|_| drop(service.servers[0].observe(answered(40))));
    assert_eq!(
        shares(&service, 10)["http://10.0.0.2"],
        10,
        "old samples are forgotten"
    );
}

#[test]
fn a_cookie_keeps_its_server_until_that_is_down() {
    let service = Lab::new(Strategy::RoundRobin, THREE).sticky().build(None);
    let none = HeaderMap::new();
    let first = service.pick(&key(&none, &[])).unwrap();
    let headers = with_cookie(&first.set_cookie.unwrap());
    for _ in 0..5 {
        let again = service.pick(&key(&headers, &[])).unwrap();
        assert_eq!(again.server.id, first.server.id);
        assert_eq!(again.set_cookie, None, "an ordinary hit");
    }
    let other = service.pick(&key(&headers, &[first.server.id])).unwrap();
    assert_ne!(other.server.id, first.server.id);
    assert!(other.set_cookie.is_some(), "a fresh pick");

    first
        .server
        .health
        .probe_failed("x", Thresholds::default(), Instant::now());
    let other = service.pick(&key(&headers, &[])).unwrap();
    assert_ne!(other.server.id, first.server.id);
    assert!(other.set_cookie.is_some());

    let legacy =
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("_da847=http://10.0.0.3"))]);
    let renewed = service.pick(&key(&legacy, &[])).unwrap();
    assert_eq!(&*renewed.server.name, "http://10.0.0.3");
    assert!(renewed.set_cookie.is_some(), "an old value is replaced");
}

#[test]
fn hrw_ignores_cookies() {
    let service = Lab::new(Strategy::Rendezvous, THREE).sticky().build(None);
    assert!(
        service
            .pick(&key(&HeaderMap::new(), &[]))
            .unwrap()
            .set_cookie
            .is_none()
    );
}

#[test]
fn each_address_of_a_name_is_a_server() {
    let mut lab = Lab::new(Strategy::RoundRobin, "").sticky();
    lab.settings.servers = vec![named(
        "http://app:8080",
        &["10.0.0.2", "10.0.0.1", "10.0.0.2"],
    )];
    let service = lab.build(None);
    let addresses: Vec<_> = service
        .servers
        .iter()
        .map(|s| s.address.unwrap().to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.1:8080", "10.0.0.2:8080"]);
    // The cookie a Traefik gave out for the name: any address, then that one for good.
    let value = "_da847=http://app:8080";
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(value))]);
    let pick = service.pick(&key(&headers, &[])).unwrap();
    let headers = with_cookie(&pick.set_cookie.unwrap());
    for _ in 0..5 {
        let again = service.pick(&key(&headers, &[])).unwrap();
        assert_eq!((again.server.id, again.set_cookie), (pick.server.id, None));
    }

    // One address is named exactly as Traefik does.
    lab.settings.servers = vec![named("http://app:8080", &["10.0.0.1"])];
    let single = lab.build(Some(&service));
    assert_eq!(
        single.servers[0].id, service.servers[0].id,
        "the same server as before"
    );
    let cookie = single
        .pick(&key(&HeaderMap::new(), &[]))
        .unwrap()
        .set_cookie
        .unwrap();
    let text = cookie.to_str().unwrap();
    assert!(
        text.starts_with("_da847=991436ded51ad1ce;"),
        "sha256sum of the URL: {text}"
    );
}

#[test]
fn one_family_of_addresses_counts() {
    for (addresses, expected, alternate) in [
        (
            &["::1", "127.0.0.1"][..],
            &["127.0.0.1:80"][..],
            Some("[::1]:80"),
        ),
        (&["::2", "::1"], &["[::1]:80", "[::2]:80"], None),
        (
            &["::1", "10.0.0.1", "10.0.0.2"],
            &["10.0.0.1:80", "10.0.0.2:80"],
            None,
        ),
    ] {
        let mut lab = Lab::new(Strategy::RoundRobin, "");
        lab.settings.servers = vec![named("http://app", addresses)];
        let service = lab.build(None);
        let got: Vec<_> = service
            .servers
            .iter()
            .map(|s| s.address.unwrap().to_string())
            .collect();
        assert_eq!(got, expected, "{addresses:?}");
        let got = service.servers[0]
            .alternate
            .map(|address| address.to_string());
        assert_eq!(got.as_deref(), alternate, "{addresses:?}");
    }
}

#[test]
fn a_name_that_does_not_resolve_is_the_last_resort() {
    let mut lab = Lab::new(Strategy::RoundRobin, "http://10.0.0.1");
    lab.settings.servers.push(named("http://nowhere", &[]));
    let service = lab.build(None);
    assert_eq!(shares(&service, 10)["http://10.0.0.1"], 10);
    service.servers[0]
        .health
        .probe_failed("x", Thresholds::default(), lab.now);
    assert_eq!(pick(&service).as_deref(), Some("http://nowhere"));
}

#[test]
fn a_reload_keeps_servers_place_and_budget() {
    let mut lab = Lab::new(Strategy::RoundRobin, THREE).checked();
    let before = lab.build(None);
    pick(&before);
    before.servers[1]
        .health
        .probe_failed("x", Thresholds::default(), lab.now);
    lab.settings.servers = servers("http://10.0.0.2*5 http://10.0.0.4 http://10.0.0.1");
    let after = lab.build(Some(&before));
    assert!(
        Arc::ptr_eq(&after.servers[0], &before.servers[1]),
        "a new weight is no new server"
    );
    assert!(Arc::ptr_eq(&after.servers[2], &before.servers[0]));
    assert!(Arc::ptr_eq(&after.budget, &before.budget));
    assert_eq!(after.servers[1].id, ServerId(3));

    let unchanged = lab.build(Some(&after));
    drop((before, after));
    pick(&unchanged);
    assert_eq!(
        lab.build(Some(&unchanged)).servers[0].readiness(),
        Readiness::Down
    );
}

#[test]
fn the_outside_sees_state_and_cause() {
    let mut lab = Lab::new(Strategy::RoundRobin, "http://10.0.0.1").checked();
    lab.settings.servers.push(named("http://nowhere", &[]));
    let service = lab.build(None);
    let seen = |index: usize| {
        let state = service.servers[index].state();
        (state.up, state.reason, state.checked, state.in_flight)
    };
    assert_eq!(seen(0), (true, "not_probed", true, 0));
    let _busy = service.servers[0].begin();
    let health = &service.servers[0].health;
    health.probe_failed("status 503", Thresholds::default(), lab.now);
    assert_eq!(seen(0), (false, "probe_failed", true, 1));
    assert_eq!(
        service.servers[0].state().detail.as_deref(),
        Some("status 503")
    );
    lab.settings.health_check = None;
    let service = lab.build(None);
    let state = service.servers[1].state();
    assert_eq!(
        (state.up, state.reason, state.checked),
        (true, "unresolved", false)
    );
}

#[test]
fn numbers_are_used_again_but_serials_are_not() {
    let mut lab = Lab::new(Strategy::RoundRobin, THREE);
    let before = lab.build(None);
    let (id, serial) = (before.servers[0].id, before.servers[0].serial());
    drop(before);
    lab.settings.servers = servers("http://10.0.0.9");
    let after = lab.build(None);
    assert_eq!(after.servers[0].id, id);
    assert_ne!(after.servers[0].serial(), serial);
}

#[test]
fn new_settings_make_a_new_server_that_knows_its_health() {
    let mut lab = Lab::new(Strategy::RoundRobin, THREE).checked();
    let before = lab.build(None);
    before.servers[0]
        .health
        .probe_failed("x", Thresholds::default(), lab.now);
    lab.settings.transport = Arc::new(Transport::plain("other@file".into()));
    let after = lab.build(Some(&before));
    assert!(
        !Arc::ptr_eq(&after.servers[0], &before.servers[0]),
        "connections must not be shared"
    );
    assert_eq!(after.servers[0].readiness(), Readiness::Down);
    assert_eq!(after.servers[1].readiness(), Readiness::Waiting);
}

#[test]
fn a_new_server_waits_for_its_first_probe_while_others_are_well() {
    let mut lab = Lab::new(Strategy::RoundRobin, "http://10.0.0.1").checked();
    let alone = lab.build(None);
    assert!(pick(&alone).is_some(), "alone it is trusted");
    alone.servers[0]
        .health
        .probe_succeeded(Thresholds::default(), lab.now);
    lab.settings.servers = servers("http://10.0.0.1 http://10.0.0.2");
    let two = lab.build(Some(&alone));
    assert_eq!(shares(&two, 10)["http://10.0.0.1"], 10);
    two.servers[1]
        .health
        .probe_succeeded(Thresholds::default(), lab.now);
    assert_eq!(shares(&two, 10)["http://10.0.0.2"], 5);

    lab.settings.health_check = None;
    two.servers[1]
        .health
        .probe_failed("x", Thresholds::default(), lab.now);
    let unchecked = lab.build(Some(&two));
    assert_eq!(
        shares(&unchecked, 10).len(),
        2,
        "without a check nobody is down"
    );
}

#[test]
fn passive_failures_take_a_server_down() {
    let mut lab = Lab::new(Strategy::RoundRobin, "http://10.0.0.1 http://10.0.0.2");
    lab.settings.passive = Some(PassiveSettings {
        failure_window: Duration::from_secs(60),
        max_failed_attempts: 2,
    });
    let service = lab.build(None);
    fail(&service, 0);
    for fault in [
        Fault::client(FaultKind::ClientGone),
        Fault::server(FaultKind::StaleConnection),
    ] {
        service.servers[0].observe(Outcome::Failed(fault));
    }
    assert!(service.servers[0].usable());
    fail(&service, 0);
    assert_eq!(shares(&service, 10)["http://10.0.0.2"], 10);
    assert!(!service.servers[0].status().up());
}

/// What the provider says of each server, in order.
fn conditioned(urls: &str, conditions: &[Condition]) -> Vec<ServerSettings> {
    let mut servers = servers(urls);
    for (server, condition) in servers.iter_mut().zip(conditions) {
        server.condition = condition.clone();
    }
    servers
}

fn leaving() -> Condition {
    Condition::Leaving("it was told to stop".into())
}

#[test]
fn a_condition_acts_when_its_snapshot_goes_live_and_keeps_the_server() {
    let mut lab = Lab::new(Strategy::RoundRobin, "http://10.0.0.1 http://10.0.0.2").sticky();
    let before = lab.build(None);
    let none = HeaderMap::new();
    let first = before.pick(&key(&none, &[])).unwrap();
    let cookie = with_cookie(&first.set_cookie.unwrap());
    let urls = "http://10.0.0.1 http://10.0.0.2";
    lab.settings.servers = conditioned(urls, &[leaving(), Condition::Ready]);
    let after = lab.build(Some(&before));
    assert!(Arc::ptr_eq(&before.servers[0], &after.servers[0]));
    assert!(before.servers[0].usable(), "not live yet");
    let changes = after.enact(lab.now);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].now, leaving());
    assert!(after.room.is_proven(), "it was ready until it had to go");
    assert_eq!(shares(&after, 10)["http://10.0.0.2"], 10);
    // The client of the server that leaves moves once, and stays there.
    let moved = after.pick(&key(&cookie, &[])).unwrap();
    assert_eq!(&*moved.server.name, "http://10.0.0.2");
    let cookie = with_cookie(&moved.set_cookie.unwrap());
    assert_eq!(after.pick(&key(&cookie, &[])).unwrap().set_cookie, None);
    assert!(after.enact(lab.now).is_empty(), "said once");
}

#[test]
fn a_new_server_is_in_its_condition_before_its_first_request() {
    let mut lab = Lab::new(Strategy::RoundRobin, "http://10.0.0.1");
    let before = lab.build(None);
    let starting = Condition::Waiting("web-2 is starting".into());
    let urls = "http://10.0.0.1 http://10.0.0.2";
    lab.settings.servers = conditioned(urls, &[Condition::Ready, starting.clone()]);
    let after = lab.build(Some(&before));
    assert_eq!(after.servers[1].readiness(), Readiness::Down);
    assert_eq!(after.servers[1].status().cause, "starting");
    assert!(after.enact(lab.now).is_empty());

    lab.settings.servers = conditioned("http://10.0.0.2", &[starting]);
    let alone = lab.build(Some(&after));
    assert!(pick(&alone).is_none());
    assert_eq!(&**alone.excuse().unwrap(), "web-2 is starting");
    assert!(!alone.room.is_proven(), "nothing was ever of use");
    assert!(
        Arc::ptr_eq(&alone.room, &before.room),
        "the room outlives its snapshots"
    );
    lab.settings.servers = conditioned("http://10.0.0.2", &[leaving()]);
    assert_eq!(lab.build(Some(&alone)).excuse(), None);
    lab.settings.servers = conditioned("http://10.0.0.2", &[Condition::Ready]);
    let ready = lab.build(Some(&alone));
    let changes = ready.enact(lab.now);
    assert_eq!((changes.len(), ready.room.is_proven()), (1, true));
}

#[test]
fn a_server_that_joins_others_must_be_reached_first() {
    let mut lab = Lab::new(Strategy::RoundRobin, "http://10.0.0.1");
    let one = lab.build(None);
    assert!(one.servers[0].usable(), "who else");
    lab.settings.servers = servers("http://10.0.0.1 http://10.0.0.2");
    let two = lab.build(Some(&one));
    assert_eq!(shares(&two, 10)["http://10.0.0.1"], 10);
    two.servers[1].health.connected(Ok(()), lab.now);
    assert_eq!(shares(&two, 10)["http://10.0.0.2"], 5);
    lab.settings.servers = servers("http://10.0.0.3");
    let alone = lab.build(Some(&two));
    assert!(pick(&alone).is_some(), "the last resort");
}

#[test]
fn a_cold_server_takes_a_smaller_share() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::PowerOfTwo,
        Strategy::LeastTime,
    ] {
        let mut lab = Lab::new(strategy, "http://10.0.0.1 http://10.0.0.2");
        lab.settings.warm_up = Some(Duration::from_secs(100));
        let service = lab.build(None);
        let cold = &service.servers[1].health;
        let unwell = Condition::Unhealthy("x".into());
        let now = Instant::now();
        let past = now.checked_sub(Duration::from_secs(3600)).unwrap_or(now);
        // Both count from their epoch; the warm one has been there for longer than any warm-up.
        let warm = Lab { now: past, ..lab }.build(None);
        assert_eq!(shares(&warm, 100).len(), 2, "{strategy:?}: all are warm");
        drop(cold.set_condition(&unwell, now));
        drop(cold.set_condition(&Condition::Ready, now));
        drop(warm.servers[1].health.set_condition(&unwell, now));
        drop(warm.servers[1].health.set_condition(&Condition::Ready, now));
        let share = shares(&warm, 2000)["http://10.0.0.2"];
        // Of its turns one in ten; with p2c and leasttime whoever is admitted is chosen among.
        assert!((30..420).contains(&share), "{strategy:?}: {share} of 2000");
    }
}

fn outlier_lab(urls: &str, most: u32, panic: u32) -> Lab {
    let mut lab = Lab::new(Strategy::RoundRobin, urls);
    lab.settings.outliers = Some(OutlierSettings {
        errors: 2,
        gateway_errors: 0,
        error_rate: 0,
        min_requests: 1,
        interval: Duration::from_secs(10),
        base: Duration::from_secs(30),
        longest: Duration::from_secs(300),
        most,
        panic,
    });
    lab
}

/// Two bad answers of the server at `index`; whether that took it out.
fn fail_twice(service: &Service, index: usize) -> bool {
    let bad = Outcome::Answered {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        ttfb: Duration::ZERO,
    };
    let server = &service.servers[index];
    let changes = [service.judge(server, bad), service.judge(server, bad)];
    changes.iter().flatten().next().is_some()
}

#[test]
fn outliers_are_left_out_up_to_a_share() {
    let urls = "http://10.0.0.1:1 http://10.0.0.2:1 http://10.0.0.3:1 http://10.0.0.4:1";
    for (most, out) in [(50, 2), (25, 1), (10, 1), (100, 3), (0, 0)] {
        let service = outlier_lab(urls, most, 0).build(None);
        let ejected = (0..4).filter(|index| fail_twice(&service, *index)).count();
        assert_eq!(
            (ejected, shares(&service, 32).len()),
            (out, 4 - out),
            "{most} %"
        );
    }
    let alone = outlier_lab("http://10.0.0.1:1", 100, 0).build(None);
    assert!(!fail_twice(&alone, 0), "the last one stays");
}

#[test]
fn an_ejection_survives_a_reload_and_is_told() {
    let mut lab = outlier_lab("http://10.0.0.1:1 http://10.0.0.2:1", 50, 0);
    let service = lab.build(None);
    assert!(fail_twice(&service, 0));
    let report = service.servers[0].status();
    assert_eq!(
        (report.cause, report.reason.as_str()),
        ("ejected", "2 failed request(s) in a row: ejected for 30s")
    );
    let next = lab.build(Some(&service));
    assert_eq!(shares(&next, 32).len(), 1);
    lab.settings.passive = Some(PassiveSettings {
        failure_window: Duration::from_secs(1),
        max_failed_attempts: 100,
    });
    let next = lab.build(Some(&next));
    assert_eq!(shares(&next, 32).len(), 1, "also with other settings");
    lab.settings.outliers = None;
    let next = lab.build(Some(&next));
    assert_eq!(shares(&next, 32).len(), 2, "nobody looks any more");
}

#[test]
fn with_too_few_well_health_is_ignored_but_not_the_provider() {
    let service = outlier_lab(
        "http://10.0.0.1:1 http://10.0.0.2:1 http://10.0.0.3:1",
        100,
        50,
    )
    .build(None);
    assert!(fail_twice(&service, 0));
    assert_eq!(shares(&service, 32).len(), 2, "two of three are enough");
    assert!(fail_twice(&service, 1));
    assert_eq!(shares(&service, 32).len(), 3, "one is not");
    let leaving = Condition::Leaving("it was told to stop".into());
    drop(
        service.servers[1]
            .health
            .set_condition(&leaving, Instant::now()),
    );
    assert_eq!(shares(&service, 32).len(), 1, "one of two is enough");
    assert!(service.up());
}
