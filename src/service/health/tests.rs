use std::time::{Duration, Instant};

use super::{Condition, Failure, Health, PassiveSettings, Readiness, Thresholds};

/// Feeds events to one server's health; time stands still unless told.
struct Bench {
    health: Health,
    now: Instant,
    thresholds: Thresholds,
}

impl Bench {
    fn new(passive: Option<(u64, usize)>) -> Self {
        let now = Instant::now();
        let passive = passive.map(|(seconds, max_failed_attempts)| PassiveSettings {
            failure_window: Duration::from_secs(seconds),
            max_failed_attempts,
        });
        Self {
            health: Health::new(now, passive),
            now,
            thresholds: Thresholds::default(),
        }
    }

    fn probing(mut self, rise: u32, fall: u32) -> Self {
        self.thresholds = Thresholds { rise, fall };
        self.health.start_probing(self.now);
        self
    }

    /// `+` probe succeeded, `-` probe failed, `5` request failed, `2` request answered, `.` a second passes; what the provider says: `w`
    /// starting, `u` unhealthy, `l` leaving, `r` ready; `c` the first connect succeeded, `x` it did not.
    fn feed(&mut self, events: &str) -> String {
        events.chars().map(|event| self.event(event)).collect()
    }

    fn event(&mut self, event: char) -> char {
        let now = self.now;
        match event {
            '+' => drop(self.health.probe_succeeded(self.thresholds, now)),
            '-' => drop(self.health.probe_failed("status 503", self.thresholds, now)),
            '5' => drop(self.health.request_failed(Failure::Status(502), || now)),
            '2' => self.health.request_succeeded(),
            '.' => self.now += Duration::from_secs(1),
            'c' => self.health.connected(Ok(()), now),
            'x' => self.health.connected(Err("refused"), now),
            'w' | 'u' | 'l' | 'r' => drop(self.health.set_condition(&condition(event), now)),
            other => panic!("unknown event {other}"),
        }
        match self.health.readiness_at(self.now) {
            Readiness::Ready => 'R',
            Readiness::Waiting => 'W',
            Readiness::Down => 'D',
        }
    }
}

#[test]
fn probes() {
    for (rise, fall, events, expected) in [
        (1, 1, "+-+--+", "RDRDDR"),
        (1, 1, "-+", "DR"),
        (2, 3, "+--+---", "RRRRRRD"),
        // A server that was never up needs its first success only.
        (3, 3, "--+", "WWR"),
        (2, 1, "+-+-++", "RDDDDR"),
        (3, 2, "--++-+++", "WDDDDDDR"),
    ] {
        let mut bench = Bench::new(None).probing(rise, fall);
        assert_eq!(
            bench.feed(events),
            expected,
            "rise {rise} fall {fall}: {events}"
        );
    }
}

#[test]
fn passive_failures() {
    for (window, attempts, events, expected) in [
        (3, 1, "5...5", "DDDRD"),
        (3, 2, "55...", "RDDDR"),
        // Too far apart.
        (3, 2, "5...5", "RRRRR"),
        // Any good answer starts the count anew.
        (3, 2, "525", "RRR"),
        (3, 3, "5.5.5...", "RRRRDDDR"),
        // Failures of requests still under way do not prolong the trip.
        (3, 1, "5..5.", "DDDDR"),
        (0, 1, "5", "R"),
    ] {
        let mut bench = Bench::new(Some((window, attempts)));
        let got = bench.feed(events);
        assert_eq!(got, expected, "{attempts} in {window} s: {events}");
    }
}

#[test]
fn an_active_check_owns_recovery() {
    let mut bench = Bench::new(Some((3, 2))).probing(2, 1);
    assert_eq!(bench.feed("+55......"), "RRDDDDDDD");
    assert_eq!(bench.feed("++"), "DR");
    // Successes from before a trip do not count towards recovery.
    assert_eq!(bench.feed("++++55+"), "RRRRRDD");
    assert_eq!(bench.feed("+"), "R");
}

#[test]
fn without_passive_settings_failures_change_nothing() {
    assert_eq!(Bench::new(None).feed("5555"), "RRRR");
}

#[test]
fn changes_are_reported_once() {
    let bench = Bench::new(Some((3, 1)));
    let (one, now) = (Thresholds::default(), bench.now);
    let health = &bench.health;
    assert_eq!(health.probe_succeeded(one, now), None);
    let down = health.probe_failed("status 503", one, now).unwrap();
    assert_eq!((down.up, down.reason.as_str()), (false, "status 503"));
    assert_eq!(health.probe_failed("timeout", one, now), None);
    assert_eq!(health.report(now).reason, "timeout");
    assert!(health.probe_succeeded(one, now).unwrap().up);
    let trip = health.request_failed(Failure::NoAnswer, || now).unwrap();
    assert_eq!(
        trip.reason,
        "1 failed request(s), the last without an answer"
    );
    assert_eq!(health.request_failed(Failure::NoAnswer, || now), None);
    assert!(health.probe_succeeded(one, now).unwrap().up);
}

#[test]
fn a_report_tells_reason_and_time() {
    let mut bench = Bench::new(Some((3, 1)));
    bench.feed("..5");
    let report = bench.health.report(bench.now);
    assert_eq!(report.readiness, Readiness::Down);
    assert!(!report.up() && !report.checked);
    assert_eq!(report.cause, "requests_failed");
    assert_eq!(
        report.reason,
        "1 failed request(s), the last with status 502"
    );
    assert_eq!(report.since, bench.now);
    bench.feed("...");
    assert!(bench.health.report(bench.now).up());
}

#[test]
fn without_a_check_the_server_counts_as_up_again() {
    let mut bench = Bench::new(Some((3, 1))).probing(1, 1);
    assert_eq!(bench.feed("-5"), "DD");
    bench.health.stop_probing(bench.now);
    assert_eq!(bench.feed("2"), "R");
    bench.health.start_probing(bench.now);
    assert!(bench.health.awaits_first_probe());
}

#[test]
fn a_successor_knows_what_is_known() {
    let mut bench = Bench::new(None).probing(1, 1);
    bench.feed("-");
    let settings = PassiveSettings {
        failure_window: Duration::from_secs(1),
        max_failed_attempts: 1,
    };
    let successor = bench.health.successor(Some(settings));
    assert_eq!(successor.readiness_at(bench.now), Readiness::Down);
    successor.start_probing(bench.now);
    assert!(!successor.awaits_first_probe(), "known to be down, not new");
}

fn condition(letter: char) -> Condition {
    match letter {
        'w' => Condition::Waiting("health: starting".into()),
        'u' => Condition::Unhealthy("health: unhealthy".into()),
        'l' => Condition::Leaving("it was told to stop".into()),
        _ => Condition::Ready,
    }
}

#[test]
fn provider_probes_and_traffic_make_one_state() {
    for (events, expected) in [
        ("wr", "DR"),
        ("ur", "DR"),
        ("lr", "DR"),
        // Each can keep the server out by itself, and what it said is remembered.
        ("-u+r", "DDDR"),
        ("u-r+", "DDDR"),
        ("5u...r", "DDDDDR"),
        ("l+", "DD"),
        ("wul", "DDD"),
    ] {
        let mut bench = Bench::new(Some((3, 1)));
        assert_eq!(bench.feed(events), expected, "{events}");
    }
}

#[test]
fn the_reason_is_that_of_whoever_keeps_it_out() {
    let mut bench = Bench::new(None).probing(1, 1);
    for (events, cause, reason) in [
        ("-", "probe_failed", "status 503"),
        ("u", "unhealthy", "health: unhealthy"),
        ("w", "starting", "health: starting"),
        ("l", "leaving", "it was told to stop"),
        ("r", "probe_failed", "status 503"),
    ] {
        bench.feed(events);
        let report = bench.health.report(bench.now);
        assert_eq!((report.cause, &*report.reason), (cause, reason), "{events}");
        assert!(!report.up() && report.checked);
    }
    bench.feed("..l");
    assert_eq!(bench.health.report(bench.now).since, bench.now);
    assert!(bench.health.is_leaving());
    assert!(bench.health.successor(None).is_leaving());
    let again = bench.health.set_condition(&condition('l'), bench.now);
    assert_eq!(again, None, "nothing new");
    let before = bench.health.set_condition(&condition('r'), bench.now);
    assert_eq!(before, Some(condition('l')));
}

#[test]
fn a_newcomer_waits_for_its_first_connect() {
    let newcomer = || {
        let mut bench = Bench::new(Some((3, 1)));
        bench.health = Health::newcomer(
            bench.now,
            Some(PassiveSettings {
                failure_window: Duration::from_secs(3),
                max_failed_attempts: 1,
            }),
        );
        bench
    };
    for (events, expected) in [
        ("xxc", "WWR"),
        // Its first request may fail too; time heals that, for nobody probes.
        ("5...", "DDDW"),
        ("wcr", "DDR"),
        ("cx", "RR"),
    ] {
        assert_eq!(newcomer().feed(events), expected, "{events}");
    }
    let bench = newcomer();
    let report = bench.health.report(bench.now);
    assert_eq!((report.cause, report.checked), ("not_reached", false));
    bench.health.stop_probing(bench.now);
    assert!(
        bench.health.awaits_first_connect(),
        "a reload does not vouch for it"
    );
    bench.health.start_probing(bench.now);
    assert!(bench.health.awaits_first_probe());
}

#[test]
fn readiness_has_an_age() {
    let age = |bench: &Bench| bench.health.ready_for(bench.now).as_secs();
    let mut bench = Bench::new(Some((3, 1)));
    for (events, seconds) in [
        ("..", 2),
        ("u.r", 0),
        (".....", 5),
        // A trip that ended by itself two seconds ago.
        ("5.....", 2),
        ("r.", 3),
    ] {
        bench.feed(events);
        assert_eq!(age(&bench), seconds, "{events}");
    }
    let mut checked = Bench::new(Some((3, 1))).probing(1, 1);
    checked.feed("..+.");
    assert_eq!(age(&checked), 1);
    checked.feed("5..+");
    assert_eq!(age(&checked), 0, "the probe that ended the trip");
}
