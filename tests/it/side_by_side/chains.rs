//! Random chains of middlewares.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::cases::Case;
use super::outcome::{Allowance, Needed};
use super::variants::{Both, Variant};

/// Middlewares that chains are made of.
const STEPS: &[&str] = &[
    "addPrefix: {prefix: /added}",
    "stripPrefix: {prefixes: [/app, /added]}",
    "stripPrefixRegex: {regex: ['/[a-z]+/']}",
    "replacePath: {path: /replaced}",
    "replacePathRegex: {regex: '^/app/(.*)', replacement: '/seen/$1'}",
    "headers: {customRequestHeaders: {X-From: chain, X-Drop: ''}, customResponseHeaders: {X-Answer: chain, Server: ''}}",
    "headers: {accessControlAllowOriginList: ['https://a.test'], accessControlAllowMethods: [GET], addVaryHeader: true}",
    "headers: {frameDeny: true, stsSeconds: 10, contentTypeNosniff: true}",
    "basicAuth: {users: ['user:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00='], headerField: X-User, removeHeader: true}",
    "ipAllowList: {sourceRange: ['127.0.0.0/8']}",
    "ipAllowList: {sourceRange: ['10.0.0.0/8']}",
    "rateLimit: {average: 100000, burst: 100000}",
    "inFlightReq: {amount: 100}",
    "redirectScheme: {scheme: https, port: '8443'}",
    "redirectRegex: {regex: '/old(.*)$', replacement: '/new$1', permanent: true}",
    "compress: {minResponseBodyBytes: 100}",
    "retry: {attempts: 2, status: ['500-599']}",
    "buffering: {maxRequestBodyBytes: 1000}",
    "circuitBreaker: {expression: 'LatencyAtQuantileMS(50.0) > 100000'}",
    "contentType: {}",
    "encodedCharacters: {allowEncodedSlash: false}",
    "errors: {status: ['404', '500-599'], service: app, query: '/page/{status}?u={url}'}",
    "forwardAuth: {address: 'http://127.0.0.1:9002/auth', authResponseHeaders: [Server]}",
    "grpcWeb: {allowOrigins: ['*']}",
    "passTLSClientCert: {pem: true}",
];

/// What may differ besides.
const ORDER: &[Allowance] = &[
    (
        97,
        "what a compressed answer varies by is said in another order",
        |_, difference| {
            let names = |text: &str| {
                let names = text.split([',', '|']);
                let names = names.map(|name| name.trim().to_owned());
                names.collect::<BTreeSet<String>>()
            };
            difference.is("header", "vary")
                && names(&difference.traefik) == names(&difference.portway)
        },
    ),
    (
        153,
        "Traefik invents a User-Agent for the service it asks",
        |_, difference| {
            difference.is("server saw", "user-agent")
                && difference.traefik.starts_with("Go-http-client")
                && difference.portway.is_empty()
        },
    ),
    (
        106,
        "types of answers of middlewares behind retry and buffering",
        |_, difference| {
            let (theirs, ours) = (&*difference.traefik, &*difference.portway);
            let text = "text/plain; charset=utf-8";
            difference.is("header", "content-type")
                && ((theirs.is_empty() && ours == text) || (theirs == text && ours.is_empty()))
        },
    ),
];

fn requests() -> Vec<Case> {
    vec![
        Case::get("", "/app/hello?x=1"),
        Case::get("", "/app/large").header("Accept-Encoding", "gzip"),
        Case::get("", "/added/old/missing")
            .header("Authorization", "Basic dXNlcjpoZWxsbw==")
            .header("X-Drop", "1"),
        Case::get("", "/app/b%2Fc/broken?a=b&c").header("Authorization", "Basic dXNlcjp3cm9uZw=="),
        Case::get("", "/app/many").method("POST").body("some body"),
        Case::get("", "/elsewhere")
            .method("OPTIONS")
            .header("Origin", "https://a.test")
            .header("Access-Control-Request-Method", "GET"),
    ]
}

/// The seed unless the environment variable `SEED` says another.
const SEED: u64 = 5;

/// A hundred chains of two to four middlewares.
fn chains(seed: u64) -> Vec<(Variant, String)> {
    let mut random = Rng::with_seed(seed);
    let chain = |number| {
        let length = random.usize(2..=4);
        let steps: Vec<&str> = (0..length)
            .map(|_| STEPS[random.usize(..STEPS.len())])
            .collect();
        (
            Variant::chain(&format!("c{number}"), &steps),
            steps.join("; "),
        )
    };
    (0..100).map(chain).collect()
}

#[tokio::test]
async fn a_hundred_random_chains_do_the_same() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(SEED);
    let chains = chains(seed);
    let variants: Vec<Variant> = chains.iter().map(|(variant, _)| variant.clone()).collect();
    let both = Both::start(&variants).await;
    let mut report = Vec::new();
    let mut needed = Needed::default();
    for (variant, steps) in &chains {
        for case in &requests() {
            let found = both.compare((variant, case), ORDER, &mut needed).await;
            report.extend(found.map(|found| format!("{steps}\n{found}")));
        }
    }
    assert!(
        report.is_empty(),
        "seed {seed}: {} of {} requests differ:\n{}",
        report.len(),
        chains.len() * requests().len(),
        report.join("\n")
    );
    if seed == SEED {
        needed.hold_true(ORDER);
    }
}
