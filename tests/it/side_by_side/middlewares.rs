//! Every middleware in at least six variants, each asked at least six things.

use super::cases::{Case, Door, Protocol};
use super::outcome::Allowance;
use super::variants::{Variant, compare};

/// Variants of one middleware, by their options.
pub fn of(kind: &str, options: &[&str]) -> Vec<Variant> {
    let variants = options.iter().enumerate();
    let variant = |(number, options): (usize, &&str)| {
        let name = format!("{}-{number}", kind.to_lowercase());
        Variant::middleware(&name, &format!("{kind}: {{{options}}}"))
    };
    variants.map(variant).collect()
}

pub fn get(target: &str) -> Case {
    Case::get("", target)
}

/// Paths of every shape.
fn paths() -> Vec<Case> {
    let targets = [
        "/",
        "/api",
        "/api/",
        "/apix/y",
        "/api/v1/users?q=a%20b&c=/api",
        "/API/x",
        "/other/api",
        "/api/a%2Fb",
        "/%61pi/x",
        "/api//x",
        "/api../x",
        "/api/%C3%A9/é",
        "/v1/api/7",
    ];
    let mut cases: Vec<Case> = targets.into_iter().map(get).collect();
    cases.push(get("/api/x").method("POST").body("a body"));
    cases.push(get("/api/x").header("X-Forwarded-Prefix", "/mine"));
    cases.push(
        get("/api/x")
            .header("X-Forwarded-Prefix", "/mine")
            .trusted(),
    );
    cases.push(get("/api/x").header("X-Replaced-Path", "/mine"));
    cases.push(get("/api/x").through(Door::Secure, Protocol::Http2));
    cases
}

#[tokio::test]
async fn add_prefix() {
    let options = [
        "prefix: /foo",
        "prefix: foo",
        "prefix: /foo/",
        "prefix: /a/b",
        "prefix: '/a b'",
        "prefix: '/50%25'",
        "prefix: /",
    ];
    compare(&of("addPrefix", &options), &paths(), &[]).await;
}

#[tokio::test]
async fn strip_prefix() {
    let options = [
        "prefixes: [/api]",
        "prefixes: [/api/]",
        "prefixes: [/v1, /api]",
        "prefixes: [/api/v1, /api]",
        "prefixes: [' /api ']",
        "prefixes: [/]",
        "prefixes: [/api], forceSlash: true",
        "prefixes: [/nothing]",
    ];
    compare(&of("stripPrefix", &options), &paths(), &[]).await;
}

#[tokio::test]
async fn strip_prefix_regex() {
    let options = [
        "regex: [/api]",
        "regex: ['/[a-z]+']",
        "regex: ['/[a-z]+/']",
        "regex: ['/v[0-9]/', /api]",
        "regex: ['^/api/v1']",
        "regex: ['(?i)/api']",
        "regex: ['/nothing']",
    ];
    compare(&of("stripPrefixRegex", &options), &paths(), &[]).await;
}

#[tokio::test]
async fn replace_path() {
    let options = [
        "path: /foo",
        "path: /foo/bar/",
        "path: '/foo?x=1'",
        "path: /",
        "path: '/a b'",
        "path: '/a%2Fb'",
    ];
    compare(&of("replacePath", &options), &paths(), &[]).await;
}

#[tokio::test]
async fn replace_path_regex() {
    let options = [
        "regex: '^/api/(.*)', replacement: '/new/$1'",
        "regex: /api, replacement: /x",
        "regex: '/(?P<first>[^/]+)/(?P<second>[^/]+)', replacement: '/${second}/${first}'",
        "regex: '^/api(.*)', replacement: '$1'",
        "regex: '^/api/(.*)', replacement: '/q?p=$1'",
        "regex: '^(.*)$', replacement: '$1/end'",
        "regex: '^/nothing', replacement: /x",
    ];
    compare(&of("replacePathRegex", &options), &paths(), RELATIVE).await;
}

/// `/apix/y` becomes `x/y` in one variant.
const RELATIVE: &[Allowance] = &[(
    96,
    "Traefik sends paths without their first slash",
    |case, difference| {
        case.target == "/apix/y" && difference.traefik.contains("x/y")
            || difference.is("header", "content-length")
    },
)];

#[tokio::test]
async fn redirect_scheme() {
    let options = [
        "scheme: https",
        "scheme: https, permanent: true",
        "scheme: https, port: '8443'",
        "scheme: https, port: '443'",
        "scheme: http",
        "scheme: http, port: '80', permanent: true",
    ];
    let mut cases = paths();
    for method in ["HEAD", "POST", "PUT", "OPTIONS"] {
        cases.push(get("/a?b").method(method));
    }
    cases.push(get("/a").header("X-Forwarded-Proto", "https"));
    cases.push(get("/a").header("X-Forwarded-Proto", "https").trusted());
    cases.push(get("/a").header("X-Forwarded-Proto", "wss").trusted());
    cases.push(get("/a").through(Door::Secure, Protocol::Http1));
    compare(&of("redirectScheme", &options), &cases, &[]).await;
}

#[tokio::test]
async fn redirect_regex() {
    let options = [
        "regex: '^http://([^/]+)/api/(.*)', replacement: 'https://$1/new/$2'",
        "regex: '^http://([^/]+)/api/(.*)', replacement: 'https://$1/new/$2', permanent: true",
        "regex: '/api', replacement: '/x'",
        "regex: '^https?://(?P<host>[^/]+)/(.*)', replacement: 'http://www.${host}/$2'",
        "regex: '\\?.*$', replacement: ''",
        "regex: '^http://nobody', replacement: 'http://somebody'",
    ];
    let mut cases = paths();
    cases.push(get("/api/x").method("POST").body("x"));
    cases.push(get("/api/x").through(Door::Secure, Protocol::Http1));
    compare(&of("redirectRegex", &options), &cases, &[]).await;
}

#[tokio::test]
async fn headers() {
    let options = [
        "customRequestHeaders: {X-One: '1', X-Gone: ''}, customResponseHeaders: {X-Two: '2', Server: ''}",
        "customRequestHeaders: {Host: other.test}",
        "frameDeny: true, contentTypeNosniff: true, browserXssFilter: true, referrerPolicy: same-origin",
        "stsSeconds: 100, stsIncludeSubdomains: true, stsPreload: true, forceSTSHeader: true",
        "stsSeconds: 100, customFrameOptionsValue: SAMEORIGIN, customBrowserXSSValue: '0'",
        "accessControlAllowOriginList: ['https://a.test'], accessControlAllowMethods: [GET, PUT], accessControlAllowHeaders: [X-A], accessControlMaxAge: 7, addVaryHeader: true",
        "accessControlAllowOriginList: ['*'], accessControlAllowCredentials: true, accessControlExposeHeaders: [X-E]",
        "accessControlAllowOriginListRegex: ['^https://[a-z]+\\.test$'], accessControlAllowMethods: [GET]",
        "allowedHosts: [nobody.test]",
        "sslProxyHeaders: {X-Forwarded-Proto: https}, stsSeconds: 5",
        "contentSecurityPolicy: \"default-src 'self'\", permissionsPolicy: 'camera=()', publicKey: pin",
    ];
    let cases = [
        get("/hello"),
        get("/odd").header("X-Gone", "1").header("X-One", "0"),
        get("/cors").header("Origin", "https://a.test"),
        get("/hello").header("Origin", "https://b.test"),
        get("/hello").header("Origin", "https://B.TEST:1"),
        get("/hello")
            .method("OPTIONS")
            .header("Origin", "https://a.test")
            .header("Access-Control-Request-Method", "PUT"),
        get("/hello")
            .method("OPTIONS")
            .header("Origin", "https://a.test"),
        get("/missing"),
        get("/unchanged"),
        get("/hello").header("X-Forwarded-Proto", "https").trusted(),
        get("/hello").through(Door::Secure, Protocol::Http2),
    ];
    compare(&of("headers", &options), &cases, &[]).await;
}

#[tokio::test]
async fn ip_allow_list() {
    let options = [
        "sourceRange: [127.0.0.1/32]",
        "sourceRange: [10.0.0.0/8]",
        "sourceRange: [10.0.0.0/8], rejectStatusCode: 404",
        "sourceRange: [10.0.0.0/8], ipStrategy: {depth: 1}",
        "sourceRange: [10.0.0.0/8], ipStrategy: {depth: 2}",
        "sourceRange: [10.0.0.0/8], ipStrategy: {excludedIPs: [192.168.0.0/16]}",
        "sourceRange: ['2001:db8::/32'], ipStrategy: {depth: 1, ipv6Subnet: 64}",
    ];
    let claim = |addresses: &str| get("/").header("X-Forwarded-For", addresses).trusted();
    let cases = [
        get("/"),
        get("/").trusted(),
        get("/").header("X-Forwarded-For", "10.1.1.1"),
        claim("10.1.1.1"),
        claim("10.1.1.1, 192.168.1.1"),
        claim("11.1.1.1, 10.1.1.1"),
        claim("10.1.1.1, 11.1.1.1, 192.168.1.1"),
        claim("nonsense"),
        claim("2001:db8::7"),
        get("/").through(Door::Secure, Protocol::Http2),
    ];
    compare(&of("ipAllowList", &options), &cases, &[]).await;
}

#[tokio::test]
async fn basic_auth() {
    // The password is `hello` for all of them.
    let options = [
        "users: ['user:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=']",
        "users: ['user:$apr1$8eVScY4k$PaQW9zgXEHnqTvIFBEWLs1']",
        "users: ['user:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00='], realm: 'my realm'",
        "users: ['user:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00='], headerField: X-WebAuth-User",
        "users: ['user:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00='], removeHeader: true",
        "users: ['user:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=', 'other:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=']",
        "users: ['nobody:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=']",
    ];
    let says = |value: &str| get("/").header("Authorization", value);
    let cases = [
        get("/"),
        says("Basic dXNlcjpoZWxsbw=="),
        says("basic dXNlcjpoZWxsbw=="),
        says("Basic dXNlcjp3cm9uZw=="),
        says("Basic b3RoZXI6aGVsbG8="),
        says("Basic !!!"),
        says("Bearer abc"),
        says("Basic dXNlcg=="),
        says("Basic dXNlcjpoZWxsbw==").header("X-WebAuth-User", "root"),
        says("Basic dXNlcjpoZWxsbw==").method("POST").body("x"),
    ];
    compare(&of("basicAuth", &options), &cases, &[]).await;
}

#[tokio::test]
async fn rate_limit() {
    let options = [
        "average: 1, period: 1h, burst: 1",
        "average: 1, period: 1h, burst: 3",
        "average: 1, period: 1h, burst: 2, sourceCriterion: {requestHeaderName: X-Who}",
        "average: 1, period: 1h, burst: 2, sourceCriterion: {requestHost: true}",
        "average: 1, period: 1h, burst: 2, sourceCriterion: {ipStrategy: {depth: 1}}",
        "average: 0, burst: 1",
        "average: 1, period: 1h, burst: 0",
    ];
    let who = |name: &str| get("/").header("X-Who", name);
    let cases = [
        get("/"),
        who("a"),
        who("b"),
        who("a"),
        get("/").trusted(),
        get("/").header("X-Forwarded-For", "10.1.1.1").trusted(),
        get("/").header("X-Forwarded-For", "10.1.1.2").trusted(),
        get("/").method("POST").body("x"),
    ];
    compare(&of("rateLimit", &options), &cases, &[]).await;
}

#[tokio::test]
async fn in_flight_requests() {
    let options = [
        "amount: 0",
        "amount: 1",
        "amount: 10",
        "amount: 1, sourceCriterion: {requestHeaderName: X-Who}",
        "amount: 0, sourceCriterion: {requestHost: true}",
        "amount: 1, sourceCriterion: {ipStrategy: {depth: 1}}",
    ];
    let cases = [
        get("/"),
        get("/large"),
        get("/chunked"),
        get("/").header("X-Who", "a"),
        get("/").method("HEAD"),
        get("/missing").method("POST").body("x"),
    ];
    compare(&of("inFlightReq", &options), &cases, &[]).await;
}

#[tokio::test]
async fn compress() {
    let options = [
        "minResponseBodyBytes: 1",
        "minResponseBodyBytes: 2700",
        "minResponseBodyBytes: 2701",
        "encodings: [br, gzip]",
        "encodings: [zstd]",
        "defaultEncoding: br",
        "defaultEncoding: gzip",
        "encodings: [br, gzip], defaultEncoding: gzip",
        "excludedContentTypes: [text/plain]",
        "includedContentTypes: [text/plain]",
    ];
    let mut cases = Vec::new();
    for accepts in [
        "gzip",
        "br",
        "zstd",
        "gzip, br;q=0.5",
        "gzip;q=0.1, br;q=0.5, zstd;q=0.3",
        "identity",
        "gzip;q=0",
        "GZIP",
        "identity;q=0.9, gzip;q=0.5",
        "*",
        "gzip;q=0.1, *",
        "br;q=0.1, *",
        "gzip;q=0, *",
        "br;q=0, *",
        "*;q=0",
    ] {
        cases.push(get("/large").header("Accept-Encoding", accepts));
        cases.push(get("/chunked").header("Accept-Encoding", accepts));
    }
    for target in [
        "/image",
        "/packed",
        "/empty",
        "/unchanged",
        "/missing",
        "/untyped",
    ] {
        cases.push(get(target).header("Accept-Encoding", "gzip"));
    }
    cases.push(get("/large"));
    cases.push(
        get("/large")
            .method("HEAD")
            .header("Accept-Encoding", "gzip"),
    );
    compare(&of("compress", &options), &cases, REFUSED).await;
}

/// Brotli first, and a client that does not want it.
const REFUSED: &[Allowance] = &[(
    105,
    "Traefik uses a coding that the client refuses",
    |case, difference| {
        let refused = ("Accept-Encoding".to_owned(), "br;q=0, *".to_owned());
        case.headers.contains(&refused) && difference.portway_status == 200
    },
)];

#[tokio::test]
async fn retry() {
    let options = [
        "attempts: 1",
        "attempts: 2, status: ['500']",
        "attempts: 3, status: ['500-599']",
        "attempts: 3, status: ['404', '500']",
        "attempts: 3, status: ['500'], retryNonIdempotentMethod: true",
        "attempts: 3, status: ['500'], retryNonIdempotentMethod: true, maxRequestBodyBytes: 3",
        "attempts: 2, status: ['200'], initialInterval: 1ms",
        "attempts: 2, status: ['500'], disableRetryOnNetworkError: true",
    ];
    let cases = [
        get("/hello"),
        get("/broken"),
        get("/missing?x=1"),
        get("/broken").method("POST").body("1234"),
        get("/broken").method("PUT").body("1234"),
        get("/broken").method("DELETE"),
        get("/broken").method("PATCH").body("12"),
        get("/broken").through(Door::Secure, Protocol::Http2),
    ];
    compare(&of("retry", &options), &cases, &[]).await;
}

#[tokio::test]
async fn load_balancer() {
    let services = [
        "NAME: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9002'}]}}",
        "NAME: {loadBalancer: {passHostHeader: false, servers: [{url: 'http://127.0.0.1:9004'}]}}",
        "NAME: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9002/base?x=1'}]}}",
        "NAME: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9002/base', preservePath: true}]}}",
        "NAME: {loadBalancer: {servers: []}}",
        "NAME: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9002', weight: 0}]}}",
        "NAME: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9002', weight: 0}, {url: 'http://127.0.0.1:9003'}]}}",
        "NAME: {loadBalancer: {sticky: {cookie: {name: stick, httpOnly: true, secure: true, sameSite: lax, maxAge: 9, domain: a.test, path: /p}}, servers: [{url: 'http://127.0.0.1:9004'}]}}",
        "NAME: {loadBalancer: {strategy: hrw, servers: [{url: 'http://127.0.0.1:9004'}, {url: 'http://127.0.0.1:9005'}]}}",
    ];
    let variants: Vec<Variant> = (0..)
        .zip(services)
        .map(|(number, service): (u32, _)| Variant::service(&format!("balancer-{number}"), service))
        .collect();
    let cases = [
        get("/hello"),
        get("/a%2Fb?q=1"),
        get("/many"),
        get("/broken").method("POST").body("body"),
        get("/hello").header("Cookie", "stick=nobody"),
        get("/hello").through(Door::Secure, Protocol::Http2),
    ];
    compare(&variants, &cases, &[]).await;
}
