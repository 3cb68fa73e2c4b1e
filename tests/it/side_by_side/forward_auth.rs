//! `forwardAuth` and `errors`, which talk to servers of their own, in variants beside the real Traefik.

use super::cases::{Case, Door, Protocol};
use super::outcome::Allowance;
use super::script::script;
use super::variants::{Variant, compare_with, routers};
use crate::support::{Reply, Seen};

/// The first server is the application. The second says who may pass, the third has pages for errors, both by their path.
fn reply(seen: &Seen) -> Reply {
    let first = seen.path().split('/').nth(1).unwrap_or_default();
    match first {
        "auth" => verdict(seen),
        "pages" => page(seen),
        _ => script(seen),
    }
}

fn verdict(seen: &Seen) -> Reply {
    let mode = seen.header("x-mode").unwrap_or("yes");
    let with = |status, headers: &[(&str, &str)], body: &str| {
        if seen.method == "HEAD" {
            return Reply::with(status, headers, "");
        }
        Reply::with(status, headers, body)
    };
    match mode {
        "no" => with(
            401,
            &[
                ("Content-Type", "text/plain"),
                ("Set-Cookie", "state=1; Path=/; HttpOnly; SameSite=Lax"),
                ("Set-Cookie", "csrf=2"),
                ("WWW-Authenticate", "Basic realm=\"portal\""),
                ("X-Why", "nobody knows you"),
            ],
            "sign in",
        ),
        "away" => with(302, &[("Location", "/login?rd=%2Fx")], "away"),
        "portal" => with(
            303,
            &[
                ("Location", "https://portal.test/?rd=x"),
                ("Set-Cookie", "s=1"),
            ],
            "",
        ),
        "relative" => with(307, &[("Location", "../in?y#z")], ""),
        "long" => with(403, &[("Content-Type", "text/plain")], &"long ".repeat(50)),
        "fault" => with(503, &[("Retry-After", "3")], "later"),
        "unchanged" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
        "cookies" => with(
            200,
            &[
                ("Set-Cookie", "a=portal; Path=/"),
                ("Set-Cookie", "c=portal"),
                ("Remote-User", "joe"),
            ],
            "",
        ),
        "chunked" => Reply::raw(
            "HTTP/1.1 403 No\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ),
        _ => with(
            if mode == "odd" { 299 } else { 200 },
            &[
                ("Remote-User", "joe"),
                ("Remote-Groups", "staff"),
                ("Remote-Groups", "ops"),
                ("X-Auth-Mail", "joe@app.test"),
                ("Content-Type", "text/plain"),
            ],
            "welcome",
        ),
    }
}

fn page(seen: &Seen) -> Reply {
    let status = if seen.path().contains("410") {
        500
    } else {
        200
    };
    Reply::with(
        status,
        &[
            ("Content-Type", "text/html"),
            ("X-Page", "1"),
            ("Set-Cookie", "page=1"),
        ],
        &format!("<p>{}</p>", seen.target),
    )
}

fn get(target: &str) -> Case {
    Case::get("", target)
}

fn everything_forwarded(case: Case) -> Case {
    case.header("X-Forwarded-For", "1.1.1.1, 2.2.2.2")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "other.test")
        .header("X-Forwarded-Port", "99")
        .header("X-Forwarded-Uri", "/other")
        .header("X-Forwarded-Method", "PATCH")
        .header("X-Forwarded-Prefix", "/p")
        .header("X-Forwarded-User", "free")
        .header("X-Real-Ip", "1.1.1.1")
}

const REASONS: [Allowance; 2] = [
    (
        153,
        "Traefik invents a User-Agent for the service it asks",
        |_, difference| {
            difference.is("server saw", "user-agent")
                && difference.traefik.starts_with("Go-http-client")
        },
    ),
    (
        150,
        "no client can say what only the authority may, however it spells it",
        |case, difference| {
            case.target.contains("forged")
                && difference.place == "server saw"
                && difference.portway.is_empty()
        },
    ),
];

#[tokio::test]
async fn forward_auth() {
    let options = [
        "authResponseHeaders: [Remote-User, Remote-Groups]",
        "trustForwardHeader: false, authResponseHeaders: [remote-user, X-Missing]",
        "trustForwardHeader: true, preserveLocationHeader: true",
        "trustForwardHeader: true, authRequestHeaders: [X-Mode, Cookie, X-Forwarded-User]",
        "trustForwardHeader: false, authRequestHeaders: [x-mode]",
        "trustForwardHeader: false, authResponseHeadersRegex: '^(Remote|X-Auth)-', addAuthCookiesToResponse: [a, c]",
        "trustForwardHeader: false, authResponseHeadersRegex: '^X-', authResponseHeaders: [Remote-User]",
        "trustForwardHeader: false, forwardBody: true, maxBodySize: 10, preserveRequestMethod: true",
        "trustForwardHeader: false, forwardBody: true",
        "trustForwardHeader: false, authSigninURL: 'https://portal.test/in?rd={url}', maxResponseBodySize: 20",
        "trustForwardHeader: false, headerField: Remote-User, preserveRequestMethod: true",
    ];
    let variant = |(number, options): (usize, &&str)| {
        let options =
            format!("forwardAuth: {{address: 'http://127.0.0.1:9002/auth/check?a=b', {options}}}");
        Variant::middleware(&format!("auth-{number}"), &options)
    };
    let mut variants: Vec<Variant> = options.iter().enumerate().map(variant).collect();
    let ask = "forwardAuth: {address: 'http://127.0.0.1:9002/auth/', trustForwardHeader: false}";
    variants.push(Variant::chain(
        "auth-after",
        &["stripPrefix: {prefixes: [/api]}", ask],
    ));
    variants.push(Variant::chain(
        "auth-before",
        &[ask, "stripPrefix: {prefixes: [/api]}"],
    ));
    variants.push(Variant::chain("auth-twice", &[ask, ask]));
    variants.push(Variant::middleware(
        "auth-away",
        "forwardAuth: {address: 'http://127.0.0.1:1', trustForwardHeader: false}",
    ));
    let modes = [
        "no",
        "away",
        "portal",
        "relative",
        "long",
        "fault",
        "unchanged",
        "cookies",
        "chunked",
        "odd",
    ];
    let mut cases: Vec<Case> = modes
        .map(|mode| get("/api/many?q=1").header("X-Mode", mode))
        .into();
    cases.extend([
        get("/api/x?q=a%20b"),
        get("/api/x").method("POST").body("a body"),
        get("/api/x")
            .method("PUT")
            .body("a longer body")
            .header("Content-Type", "text/plain"),
        get("/api/x").method("HEAD"),
        get("/api/x").method("HEAD").header("X-Mode", "no"),
        get("/api/x")
            .header("Cookie", "a=1")
            .header("Authorization", "Basic YTpi")
            .header("X-Other", "1"),
        get("/api/forged")
            .header("Remote-User", "root")
            .header("Remote_User", "root")
            .header("X-Auth-Mail", "root"),
        everything_forwarded(get("/api/x")),
        everything_forwarded(get("/api/x")).trusted(),
        get("/api/x").through(Door::Secure, Protocol::Http2),
        get("/api/x")
            .through(Door::Secure, Protocol::Http2)
            .header("X-Mode", "away"),
        get("/api/missing"),
    ]);
    compare_with(&variants, &cases, &REASONS, reply).await;
}

/// A variant with a service that has pages.
fn paged(name: &str, middlewares: &str, options: &str, service: &str) -> Variant {
    let http = routers(&format!("service: {service}, middlewares: [{middlewares}]"))
        + &format!(
            "  middlewares:\n    NAME-pages: {{errors: {{{options}}}}}\n    NAME-strip: {{stripPrefix: {{prefixes: [/api]}}}}\n    NAME-deny: {{ipAllowList: {{sourceRange: [10.0.0.0/8], rejectStatusCode: 404}}}}\n    NAME-add: {{headers: {{customRequestHeaders: {{X-Added: '1'}}}}}}\n"
        )
        + "  services:\n    NAME-html: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9003'}]}}\n    NAME-gone: {loadBalancer: {servers: [{url: 'http://127.0.0.1:1'}]}}\n    NAME-none: {loadBalancer: {servers: []}}\n";
    Variant::http(name, &http)
}

#[tokio::test]
async fn errors() {
    const PLAIN: &str = "status: ['404', '500-599'], service: NAME-html, query: '/pages/{status}?u={url}&o={originalStatus}'";
    let variants = [
        paged("err-plain", "NAME-pages", PLAIN, "app"),
        paged(
            "err-one",
            "NAME-pages",
            "status: ['404'], service: NAME-html, query: pages/x",
            "app",
        ),
        paged(
            "err-root",
            "NAME-pages",
            "status: ['404'], service: NAME-html",
            "app",
        ),
        paged(
            "err-rewrites",
            "NAME-pages",
            "status: ['200-203', '404', '500'], service: NAME-html, query: '/pages/{status}', statusRewrites: {'404': 410, '500-503': 200}",
            "app",
        ),
        paged(
            "err-fields",
            "NAME-pages",
            "status: ['404', '500-599'], service: NAME-html, query: '/pages/{url}', errorRequestHeaders: [x-keep, Cookie]",
            "app",
        ),
        paged(
            "err-gone",
            "NAME-pages",
            "status: ['404', '500-599'], service: NAME-gone, query: /pages/x",
            "app",
        ),
        paged(
            "err-nobody",
            "NAME-pages",
            "status: ['404', '500-599'], service: NAME-none, query: /pages/x",
            "app",
        ),
        paged(
            "err-strip",
            "NAME-pages, NAME-strip, NAME-add",
            PLAIN,
            "app",
        ),
        paged("err-late", "NAME-strip, NAME-pages", PLAIN, "app"),
        paged("err-deny", "NAME-pages, NAME-deny", PLAIN, "app"),
        paged("err-dead", "NAME-pages", PLAIN, "NAME-gone"),
        paged("err-empty", "NAME-pages", PLAIN, "NAME-none"),
    ];
    let cases = [
        get("/api/missing?a=b%20c&d=e+f"),
        get("/api/broken"),
        get("/api/x"),
        get("/api/empty"),
        get("/api/unchanged"),
        get("/api/large"),
        get("/api/missing")
            .method("POST")
            .body("a body")
            .header("Content-Type", "text/plain"),
        get("/api/missing")
            .header("Cookie", "a=1")
            .header("X-Keep", "1")
            .header("X-Drop", "1"),
        get("/api/x").method("HEAD"),
        get("/api/broken")
            .header("If-None-Match", "\"1\"")
            .header("Range", "bytes=0-1"),
        everything_forwarded(get("/api/missing")),
        everything_forwarded(get("/api/missing")).trusted(),
        get("/api/missing").through(Door::Secure, Protocol::Http2),
    ];
    compare_with(&variants, &cases, &[], reply).await;
}
