//! `rateLimit.redis`: several proxies and one real Redis.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::side_by_side::traefik;
use crate::support::{
    Authority, Backend, Proxy, Redis, backend, eventually, free_port, proxy, subject_is_traefik,
};

/// Routing configuration with the limiter `limit`, whose options these are.
fn limited(server: &Backend, options: &Value) -> String {
    json!({"http": {
        "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "all", "middlewares": ["limit"]}},
        "middlewares": {"limit": {"rateLimit": options}},
        "services": {"all": {"loadBalancer": {"servers": [{"url": server.url()}]}}},
    }})
    .to_string()
}

/// Six in an hour.
fn six(redis: &Value) -> Value {
    json!({"average": 1, "period": "1h", "burst": 6, "redis": redis})
}

async fn limiter(server: &Backend, options: &Value) -> Proxy {
    let one = json!({"core": {"workers": 1}});
    proxy(&limited(server, options)).install(&one).run().await
}

async fn statuses(proxies: &[&Proxy], requests: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for number in 0..requests {
        let proxy = proxies[number % proxies.len()];
        statuses.push(proxy.client().get("/").await.status);
    }
    statuses
}

fn passed(statuses: &[u16]) -> usize {
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(passed + refused, statuses.len(), "{statuses:?}");
    passed
}

/// How many requests were decided without Redis.
async fn away(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await;
    let name = "portway_middleware_redis_away_total{middleware=\"limit@file\",type=\"ratelimit\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn proxies_share_their_buckets_with_each_other_and_with_traefik() {
    if subject_is_traefik() {
        return;
    }
    let (server, redis) = (backend("server").run().await, Redis::start(&[]).await);
    let options = six(&json!({"endpoints": [redis.address()]}));
    let (one, two) = (
        limiter(&server, &options).await,
        limiter(&server, &options).await,
    );
    let other = proxy(&limited(&server, &options)).program(traefik());
    let other = other.run().await;
    eventually("the router of Traefik is live", async || {
        let routers = &other.rawdata().await["routers"];
        (routers["all@file"]["status"] == "enabled").then_some(())
    })
    .await;
    let answers = statuses(&[&one, &two, &other], 12).await;
    assert_eq!(answers[..6], [200; 6], "{answers:?}");
    assert_eq!(passed(&answers), 6, "{answers:?}");
    let bucket = redis.ask("HGETALL rate:limit@file:127.0.0.1").await;
    assert!(
        bucket.starts_with("*4") && bucket.contains("last") && bucket.contains("tokens"),
        "{bucket}"
    );
    assert!(away(&one).await + away(&two).await < 0.5);
    let refused = one.client().get("/").await;
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&seconds), "{seconds}");
    assert!(refused.header("x-retry-in").unwrap().contains('m'));
}

#[tokio::test]
async fn a_login_a_database_and_tls() {
    if subject_is_traefik() {
        return;
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let authority = Authority::new("redis-ca");
    let ca = authority.write(dir.path(), "ca.pem");
    let (cert, key) = authority.issue(&["localhost"]).write(dir.path(), "redis");
    let (ca, cert, key) = (ca.display(), cert.display(), key.display());
    let options = [
        format!("--tls-port {port}"),
        format!("--tls-cert-file {cert}"),
        format!("--tls-key-file {key}"),
        format!("--tls-ca-cert-file {ca}"),
        "--user default off".to_owned(),
        "--user edge on >secret ~* &* +@all".to_owned(),
    ];
    let words: Vec<&str> = options.iter().flat_map(|line| line.split(' ')).collect();
    let redis = Redis::start(&words).await;
    let server = backend("server").run().await;
    let tls = json!({"ca": ca.to_string(), "cert": cert.to_string(), "key": key.to_string()});
    let secure = json!({
        "endpoints": [format!("localhost:{port}")],
        "tls": tls, "username": "edge", "password": "secret", "db": 3,
    });
    let one = limiter(&server, &six(&secure)).await;
    assert_eq!(passed(&statuses(&[&one], 8).await), 6);
    assert!(away(&one).await < 0.5);
    let asked = redis
        .ask("AUTH edge secret\r\nSELECT 3\r\nEXISTS rate:limit@file:127.0.0.1")
        .await;
    assert!(asked.contains(":1"), "{asked}");
    let shown = one.admin().get("/api/http/middlewares/limit@file").await;
    assert!(!shown.text().contains("secret"), "{}", shown.text());

    // A certificate that nobody vouches for is none: the limit holds locally.
    let mut wary = secure.clone();
    wary["tls"] = json!({});
    let wary = limiter(&server, &six(&wary)).await;
    assert_eq!(passed(&statuses(&[&wary], 8).await), 6);
    assert!(away(&wary).await > 7.5);
    assert!(
        wary.log().contains("rateLimit.redis.onError: local"),
        "{}",
        wary.log()
    );
}

#[tokio::test]
async fn a_cluster() {
    if subject_is_traefik() {
        return;
    }
    let mut nodes = Vec::new();
    for slots in ["0 5460", "5461 10922", "10923 16383"] {
        let bus = free_port().to_string();
        let node = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
        let added = node.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}")).await;
        assert!(added.starts_with("+OK"), "{added}");
        nodes.push((node, bus));
    }
    for (node, bus) in &nodes[1..] {
        let met = format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port);
        assert!(nodes[0].0.ask(&met).await.starts_with("+OK"));
    }
    for (node, _) in &nodes {
        eventually("the cluster is whole", async || {
            let info = node.ask("CLUSTER INFO").await;
            (info.contains("cluster_state:ok") && info.contains("known_nodes:3")).then_some(())
        })
        .await;
    }
    let server = backend("server").run().await;
    let endpoints: Vec<String> = nodes.iter().map(|(node, _)| node.address()).collect();
    let criterion = json!({"requestHeaderName": "X-Key"});
    let mut options = six(&json!({"endpoints": endpoints}));
    options["sourceCriterion"] = criterion;
    let one = limiter(&server, &options).await;
    for key in ["a", "b", "c", "d", "e"] {
        let mut answers = Vec::new();
        for _ in 0..8 {
            answers.push(one.client().get("/").header("X-Key", key).await.status);
        }
        assert_eq!(passed(&answers), 6, "{key}: {answers:?}");
    }
    assert!(away(&one).await < 0.5);
    let mut keys = String::new();
    for (node, _) in &nodes {
        keys += &node.ask("KEYS rate:limit@file:*").await;
    }
    for key in ["a", "b", "c", "d", "e"] {
        assert!(keys.contains(&format!("rate:limit@file:{key}")), "{keys}");
    }
}

#[tokio::test]
async fn connections_and_buckets_outlive_a_reload() {
    if subject_is_traefik() {
        return;
    }
    let (server, redis) = (backend("server").run().await, Redis::start(&[]).await);
    let mut options = six(&json!({"endpoints": [redis.address()]}));
    let one = limiter(&server, &options).await;
    assert_eq!(passed(&statuses(&[&one], 3).await), 3);
    let clients = async || {
        let list = redis.ask("CLIENT LIST").await;
        let lines = list.lines().filter(|line| line.contains("cmd=evalsha"));
        let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        lines.map(id).collect::<Vec<_>>()
    };
    let before = clients().await;
    assert_eq!(before.len(), 1);
    options["burst"] = json!(5);
    one.write_routing("main.yml", &limited(&server, &options));
    eventually("the new limit is live", async || {
        let raw = one.rawdata().await;
        (raw["middlewares"]["limit@file"]["rateLimit"]["burst"] == 5).then_some(())
    })
    .await;
    assert_eq!(passed(&statuses(&[&one], 6).await), 3);
    assert_eq!(clients().await, before);
}

#[tokio::test]
async fn a_redis_that_hangs_holds_nobody_up_twice() {
    if subject_is_traefik() {
        return;
    }
    let (server, redis) = (backend("server").run().await, Redis::start(&[]).await);
    let options = json!({"average": 1000, "burst": 1000, "redis": {
        "endpoints": [redis.address()], "readTimeout": "1s", "dialTimeout": "1s",
    }});
    let one = limiter(&server, &options).await;
    assert_eq!(passed(&statuses(&[&one], 3).await), 3);
    redis.signal("STOP");
    let began = Instant::now();
    assert_eq!(passed(&statuses(&[&one], 100).await), 100);
    // Without a circuit this takes a hundred seconds.
    assert!(began.elapsed() < Duration::from_secs(50));
    assert!((away(&one).await - 100.0).abs() < 0.5);
    let warnings = one.log().matches("rateLimit.redis.onError").count();
    assert_eq!(warnings, 1, "{}", one.log());
    redis.signal("CONT");
    eventually("Redis decides again", async || {
        let before = away(&one).await;
        assert_eq!(passed(&statuses(&[&one], 1).await), 1);
        (away(&one).await - before < 0.5).then_some(())
    })
    .await;
    assert!(one.log().contains("Redis answers again"));
}

/// What a proxy answered to a steady stream of requests.
#[derive(Default)]
struct Load {
    passed: u32,
    refused: u32,
    others: Vec<u16>,
}

impl Load {
    /// About twice as many requests as the limit allows, until `end`.
    async fn on(proxy: &Proxy, end: Instant) -> Self {
        let mut load = Self::default();
        let mut connection = proxy.client().connect().await.unwrap();
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while Instant::now() < end {
            pace.tick().await;
            match connection.get("/").await.status {
                200 => load.passed += 1,
                429 => load.refused += 1,
                other => load.others.push(other),
            }
        }
        load
    }
}

#[tokio::test]
async fn a_restart_of_redis_under_load_fails_nothing_and_the_limit_holds() {
    const RATE: f64 = 50.0;
    const BURST: f64 = 5.0;
    if subject_is_traefik() {
        return;
    }
    let (server, mut redis) = (backend("server").run().await, Redis::start(&[]).await);
    let options = json!({"average": RATE as u32, "burst": BURST as u32,
        "redis": {"endpoints": [redis.address()]}});
    let (one, two) = (
        limiter(&server, &options).await,
        limiter(&server, &options).await,
    );
    // Both are known to Redis, and to each other after their second look.
    eventually("Redis knows both", async || {
        statuses(&[&one, &two], 2).await;
        let counted = redis.ask("ZCARD rate-instances:limit@file").await;
        counted.starts_with(":2").then_some(())
    })
    .await;
    let began = Instant::now();
    let end = began + Duration::from_secs(18);
    let restart = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        redis.stop();
        tokio::time::sleep(Duration::from_secs(5)).await;
        redis.start_again().await;
    };
    let (one_saw, two_saw, ()) = tokio::join!(Load::on(&one, end), Load::on(&two, end), restart);
    let lasted = began.elapsed().as_secs_f64();
    let others = [one_saw.others.clone(), two_saw.others.clone()].concat();
    assert_eq!(others, [0; 0], "nothing may fail");
    let passed = f64::from(one_saw.passed + two_saw.passed);
    let refused = f64::from(one_saw.refused + two_saw.refused);
    let allowed = RATE * lasted + BURST;
    assert!(
        passed <= allowed * 1.1,
        "{passed} passed, {allowed} are allowed, {refused} refused"
    );
    // On a machine that is too busy to ask often enough nothing can be said about this side.
    if passed + refused > allowed * 1.5 {
        assert!(
            passed >= allowed * 0.9,
            "{passed} passed, {allowed} are allowed, {refused} refused"
        );
    }
    assert!(away(&one).await > 0.5 && away(&two).await > 0.5);
    for proxy in [&one, &two] {
        assert!(proxy.log().contains("Redis answers again"));
    }
}
