use super::*;
use crate::middleware::{
    Flow, Middleware,
    testing::{Fixture, built, problems},
};

const NOWHERE: &str = r#""endpoints":["127.0.0.1:1"]"#;

fn limiter(options: &str) -> Middleware {
    built(&format!(r#"{{"rateLimit":{options}}}"#))
}

/// What becomes of a request: `.` passes, `x` is refused.
async fn outcome(limiter: &Middleware) -> char {
    let mut exchange = Fixture::get("/").exchange();
    let mut flow = limiter.request(&mut exchange);
    loop {
        flow = match flow {
            Flow::Later(later) => (later.await)(&mut exchange),
            Flow::Respond(response) if response.status() == 429 => return 'x',
            Flow::Continue => return '.',
            other => panic!("{other:?}"),
        }
    }
}

fn alone(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn without_redis_the_policy_decides() {
    for (policy, instances, expected) in [
        ("local", 0, "....x"),
        ("local", 2, "..xxx"),
        ("deny", 0, "xxxxx"),
        ("allow", 0, "....."),
    ] {
        let options = format!(
            r#"{{"average":1,"period":"1h","burst":4,"redis":{{{NOWHERE},"onError":"{policy}","instances":{instances}}}}}"#
        );
        alone(async {
            let limiter = limiter(&options);
            let mut outcomes = String::new();
            for _ in 0..5 {
                outcomes.push(outcome(&limiter).await);
            }
            assert_eq!(outcomes, expected, "{options}");
        });
    }
}

#[test]
fn only_the_first_request_waits_for_a_redis_that_is_away() {
    alone(async {
        let limiter = limiter(&format!(r#"{{"average":1,"redis":{{{NOWHERE}}}}}"#));
        outcome(&limiter).await;
        let mut exchange = Fixture::get("/").exchange();
        assert!(
            !matches!(limiter.request(&mut exchange), Flow::Later(_)),
            "the circuit is closed"
        );
    });
}

#[test]
fn the_same_limiter_elsewhere_shares_its_buckets() {
    let options = |name: &str, header: &str| {
        format!(
            r#"{{"average":1,"period":"1h","redis":{{{NOWHERE},"username":"{name}"}},"sourceCriterion":{{"requestHeaderName":"{header}"}}}}"#
        )
    };
    alone(async {
        let stores = Stores::default();
        let made = |name, header| {
            let mut made = limiter(&options(name, header));
            made.share(&stores);
            made
        };
        let first = made("a", "X-A");
        assert_eq!(outcome(&first).await, '.');
        assert_eq!(outcome(&made("a", "X-A")).await, 'x', "another router's");
        assert_eq!(outcome(&made("b", "X-A")).await, '.', "other settings");
        assert_eq!(outcome(&made("a", "X-B")).await, '.', "another source");
        drop(first);
        assert_eq!(outcome(&made("a", "X-A")).await, '.', "after it has gone");
    });
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    for (redis, expected) in [
        (r#"{"endpoints":[]}"#, "redis.endpoints: names no endpoint"),
        (
            r#"{"endpoints":["a:1","redis"]}"#,
            "endpoints[1]: \"redis\" is not",
        ),
        (r#"{"endpoints":["redis://a:1"]}"#, "is not `host:port`"),
        (r#"{"endpoints":["::1:6379"]}"#, "is not `host:port`"),
        (r#"{"endpoints":["a:66000"]}"#, "is not `host:port`"),
        (r#"{"readTimeout":"-1s"}"#, "redis.readTimeout: must not be"),
        (
            r#"{"writeTimeout":"-1s"}"#,
            "redis.writeTimeout: must not be",
        ),
        (r#"{"dialTimeout":"-1s"}"#, "redis.dialTimeout: must not be"),
        (r#"{"db":-1}"#, "redis.db: must not be"),
        (r#"{"db":1,"endpoints":["a:1","b:1"]}"#, "warning: http"),
        (r#"{"tls":{"ca":"/ca.pem"}}"#, "redis.tls.ca: no such file"),
        (
            r#"{"tls":{"ca":"-----BEGIN CERTIFICATE-----"}}"#,
            "cannot be used",
        ),
        (
            r#"{"tls":{"cert":"-----BEGIN CERTIFICATE-----"}}"#,
            "redis.tls.cert: is of no use without `key`",
        ),
        (
            r#"{"tls":{"key":"-----BEGIN PRIVATE KEY-----"}}"#,
            "redis.tls.key: is of no use without `cert`",
        ),
    ] {
        let found = problems(&format!(
            r#"{{"rateLimit":{{"average":1,"redis":{redis}}}}}"#
        ));
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{redis}: {found:?}"
        );
    }
    let idle = problems(r#"{"rateLimit":{"redis":{}}}"#);
    assert!(
        idle.len() == 1 && idle[0].contains("is not asked"),
        "{idle:?}"
    );
    for fine in [
        r#"{}"#,
        r#"{"endpoints":["[::1]:6379","redis:6379"],"poolSize":3}"#,
        r#"{"tls":{},"readTimeout":"0s"}"#,
        r#"{"tls":{"insecureSkipVerify":true}}"#,
    ] {
        let config = format!(r#"{{"rateLimit":{{"average":1,"redis":{fine}}}}}"#);
        assert_eq!(problems(&config), [""; 0], "{fine}");
    }
}
