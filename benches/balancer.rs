//! What a pick costs, by strategy and number of servers.
//!
//! `cargo bench --bench balancer`; nanoseconds per pick on one thread, best of several rounds.

use std::{
    fmt::Write as _,
    hint::black_box,
    io::Write as _,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use portway::service::{
    BudgetSettings, Condition, HoldSettings, PickKey, ServerSettings, ServerUrl, Service,
    ServiceSettings, Slots, StickySettings, Strategy, Thresholds, Timeouts, Transport,
};

const ROUNDS: usize = 7;
const PICKS: u32 = 200_000;

fn main() -> std::io::Result<()> {
    let mut table = String::from("strategy      servers  ns/pick  ns/pick, a third down\n");
    for (name, strategy) in [
        ("wrr", Strategy::RoundRobin),
        ("p2c", Strategy::PowerOfTwo),
        ("hrw", Strategy::Rendezvous),
        ("leasttime", Strategy::LeastTime),
    ] {
        for servers in [1, 3, 30] {
            let service = service(strategy, servers, false);
            let well = measure(&service, &HeaderMap::new());
            fail_a_third(&service);
            let ill = measure(&service, &HeaderMap::new());
            writeln!(table, "{name:<12} {servers:>8} {well:>8.1} {ill:>8.1}").map_err(to_io)?;
        }
    }
    let sticky = measure_sticky();
    writeln!(table, "sticky hit   {:>8} {sticky:>8.1}", 3).map_err(to_io)?;
    std::io::stdout().write_all(table.as_bytes())
}

fn to_io(error: std::fmt::Error) -> std::io::Error {
    std::io::Error::other(error)
}

fn service(strategy: Strategy, servers: usize, sticky: bool) -> Service {
    let server = |number: usize| ServerSettings {
        url: ServerUrl::parse(&format!("http://10.0.0.{number}:80")).expect("a valid URL"),
        weight: 1 + (number % 3) as i64,
        preserve_path: false,
        addresses: Vec::new(),
        condition: Condition::Ready,
    };
    let settings = ServiceSettings {
        name: "bench@file".into(),
        servers: (1..=servers).map(server).collect(),
        strategy,
        sticky: sticky.then(StickySettings::default),
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
    };
    Service::build(settings, None, &Slots::default(), Instant::now())
}

fn fail_a_third(service: &Service) {
    for server in service.servers.iter().skip(1).step_by(3) {
        let change = server
            .health
            .probe_failed("bench", Thresholds::default(), Instant::now());
        black_box(change);
    }
}

fn measure(service: &Service, headers: &HeaderMap) -> f64 {
    let round = || {
        let started = Instant::now();
        for number in 0..PICKS {
            let key = PickKey {
                client_ip: IpAddr::from(number.to_be_bytes()),
                headers,
                exclude: &[],
            };
            black_box(service.pick(&key));
        }
        started.elapsed()
    };
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or(Duration::ZERO);
    best.as_nanos() as f64 / f64::from(PICKS)
}

fn measure_sticky() -> f64 {
    let service = service(Strategy::RoundRobin, 3, true);
    let headers = HeaderMap::new();
    let key = PickKey {
        client_ip: IpAddr::from([10, 0, 0, 1]),
        headers: &headers,
        exclude: &[],
    };
    let cookie = service.pick(&key).and_then(|pick| pick.set_cookie);
    let cookie = cookie.expect("a sticky service issues a cookie");
    let pair = cookie.as_bytes().split(|byte| *byte == b';').next();
    let pair = HeaderValue::from_bytes(pair.unwrap_or_default()).expect("a part of a valid value");
    measure(&service, &HeaderMap::from_iter([(COOKIE, pair)]))
}
