//! `forwardAuth` as clients, servers and authorities see it. What it says in which words is compared with Traefik side by side.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use crate::support::{
    Authority, Backend, Proxy, Raw, Reply, Seen, backend, eventually, free_port, loopback, proxy,
};

/// A proxy that asks `authority` (with further `options`) before it lets anybody to `server`.
async fn guarded(authority: &str, options: &str, server: &Backend) -> Proxy {
    proxy(&routing(authority, options, server)).run().await
}

fn routing(authority: &str, options: &str, server: &Backend) -> String {
    format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all, middlewares: [auth]}}}}\n  middlewares: {{auth: {{forwardAuth: {{address: '{authority}'{options}}}}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\n",
        server.url()
    )
}

async fn lenient() -> Backend {
    backend("authority")
        .reply(|_| Reply::status(200, "yes"))
        .run()
        .await
}

#[tokio::test]
async fn a_yes_lets_pass_over_connections_that_stay() {
    let (authority, server) = (lenient().await, backend("server").run().await);
    let proxy = guarded(&(authority.url() + "/check?a=1"), "", &server).await;
    for number in 0..20 {
        let answer = proxy.client().post("/x?y", "load").await;
        assert_eq!(
            (answer.status, answer.backend()),
            (200, "server"),
            "{number}"
        );
    }
    let (asked, sent) = (authority.last(), server.last());
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("GET", "/check?a=1")
    );
    assert_eq!(asked.header("x-forwarded-uri"), Some("/x?y"));
    assert_eq!(asked.header("x-forwarded-method"), Some("POST"));
    assert_eq!(asked.header("host"), Some(&*authority.addr.to_string()));
    assert_eq!((asked.body.len(), asked.count("content-length")), (0, 0));
    assert_eq!(
        (&*sent.body, sent.count("x-forwarded-for")),
        (&b"load"[..], 1)
    );
    assert_eq!(sent.count("x-forwarded-uri"), 0);
    let workers = std::thread::available_parallelism().unwrap().get();
    assert!(
        authority.connections() <= workers,
        "{}",
        authority.connections()
    );
}

#[tokio::test]
async fn whatever_goes_wrong_ends_the_request() {
    let server = backend("server").run().await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let proxy = guarded(&nobody, "", &server).await;
    let answer = proxy.client().get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (500, ""));
    for rubbish in [
        Reply::raw("rubbish\r\n\r\n"),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").close(),
        Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ),
        Reply::default().close(),
    ] {
        let what = format!("{rubbish:?}");
        let authority = backend("authority")
            .reply(move |_| rubbish.clone())
            .run()
            .await;
        let proxy = guarded(&authority.url(), "", &server).await;
        assert_eq!(proxy.client().get("/").await.status, 500, "{what}");
    }
    assert_eq!(server.hits(), 0);
}

#[tokio::test]
async fn an_authority_that_restarts_is_waited_for() {
    let (port, server) = (free_port(), backend("server").run().await);
    let start = || {
        backend("authority")
            .at(loopback(port))
            .reply(|_| Reply::status(200, ""))
            .run()
    };
    let authority = start().await;
    let proxy = guarded(&authority.url(), "", &server).await;
    assert_eq!(proxy.client().get("/").await.status, 200);
    drop(authority);
    let client = proxy.client();
    let back = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        start().await
    };
    let (answer, _authority) = tokio::join!(async { client.get("/").await }, back);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_refusal_is_the_authoritys_answer() {
    let refuse = |seen: &Seen| match seen.header("x-forwarded-uri") {
        Some("/long") => Reply::status(403, &"no".repeat(100_000)),
        Some("/chunked") => Reply::raw(
            "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\nX-T: 1\r\n\r\n",
        ),
        _ => Reply::with(
            401,
            &[
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
                ("WWW-Authenticate", "Basic"),
                ("Location", "/login"),
            ],
            "no",
        ),
    };
    let (authority, server) = (
        backend("authority").reply(refuse).run().await,
        backend("server").run().await,
    );
    let proxy = guarded(&authority.url(), "", &server).await;
    let answer = proxy.client().get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(
        answer.header("location"),
        Some(&*(authority.url() + "/login"))
    );
    let answer = proxy.client().get("/long").await;
    assert_eq!((answer.status, answer.body.len()), (403, 200_000));
    let answer = proxy.client().get("/chunked").await;
    assert_eq!(
        (answer.text().as_str(), answer.header("content-length")),
        ("no", Some("2"))
    );
    let answer = proxy.client().call("HEAD", "/").await;
    assert_eq!((answer.status, answer.text().as_str()), (401, ""));
    assert_eq!(server.hits(), 0);
    let metrics = proxy.metrics().await;
    assert!(
        !metrics.contains("traefik_service_requests_total{"),
        "{metrics}"
    );
}

#[tokio::test]
async fn bodies_go_to_both_within_the_limit() {
    let (authority, server) = (lenient().await, backend("server").run().await);
    let options = ", forwardBody: true, maxBodySize: 5, preserveRequestMethod: true";
    let proxy = guarded(&authority.url(), options, &server).await;
    assert_eq!(
        proxy.client().call("PUT", "/").body("12345").await.status,
        200
    );
    let (asked, sent) = (authority.last(), server.last());
    assert_eq!(
        (asked.method.as_str(), &*asked.body),
        ("PUT", &b"12345"[..])
    );
    assert_eq!(&*sent.body, b"12345");
    let answer = proxy.client().call("PUT", "/").body("123456").await;
    assert_eq!((answer.status, answer.text().as_str()), (401, ""));
    assert_eq!((authority.hits(), server.hits()), (1, 1));
    let long = backend("authority")
        .reply(|_| Reply::status(200, "123456"))
        .run()
        .await;
    let proxy = guarded(&long.url(), ", maxResponseBodySize: 5", &server).await;
    assert_eq!(proxy.client().get("/").await.status, 401);
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn a_websocket_is_opened_for_those_who_may() {
    let ask = |seen: &Seen| match seen.header("cookie") {
        Some("session=1") => Reply::with(200, &[("Remote-User", "joe")], ""),
        _ => Reply::status(401, ""),
    };
    let switch = |seen: &Seen| {
        assert_eq!(seen.header("remote-user"), Some("joe"));
        Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .echo()
    };
    let authority = backend("authority").reply(ask).run().await;
    let server = backend("server").reply(switch).run().await;
    let proxy = guarded(
        &authority.url(),
        ", authResponseHeaders: [Remote-User]",
        &server,
    )
    .await;
    for (cookie, status) in [("", "401"), ("Cookie: session=1\r\n", "101")] {
        let mut client = Raw::open(proxy.addr("web")).await;
        let head = format!(
            "GET /chat HTTP/1.1\r\nHost: a\r\n{cookie}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.send(&head).await;
        let answer = client.head().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        if status == "101" {
            client.send("ping\r\n\r\n").await;
            assert_eq!(client.head().await, "ping\r\n\r\n");
        }
    }
    assert_eq!(authority.last().count("upgrade"), 0);
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn a_client_cannot_speak_in_the_authoritys_name() {
    let (authority, server) = (lenient().await, backend("server").run().await);
    let options = ", authResponseHeaders: [Remote-User], authResponseHeadersRegex: '^X-Auth-'";
    let proxy = guarded(&authority.url(), options, &server).await;
    let mut client = Raw::open(proxy.addr("web")).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nRemote-User: root\r\nREMOTE_USER: root\r\nX-Auth-Mail: root\r\nX_Auth_Mail: root\r\nTrailer: Remote-User\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nRemote-User: root\r\nX-Sum: 1\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    let sent = server.last();
    let said: Vec<_> = sent
        .headers
        .iter()
        .chain(&sent.trailers)
        .filter(|(_, value)| value == "root")
        .collect();
    assert!(said.is_empty(), "{said:?}");
    assert_eq!((&*sent.body, sent.trailers.len()), (&b"abc"[..], 1));
}

#[tokio::test]
async fn the_authority_is_reached_over_tls_with_a_certificate() {
    let ca = Authority::new("ca");
    let acceptor = ca.issue(&["localhost"]).acceptor(Some(&ca), &[b"http/1.1"]);
    let authority = backend("authority")
        .tls(acceptor)
        .reply(|_| Reply::status(200, ""))
        .run()
        .await;
    let server = backend("server").run().await;
    let dir = tempfile::tempdir().unwrap();
    let root = ca.write(dir.path(), "ca.crt");
    let (cert, key) = ca.issue(&["portway"]).write(dir.path(), "client");
    let url = format!("https://localhost:{}", authority.addr.port());
    let tls = format!(
        "ca: '{}', cert: '{}', key: '{}'",
        root.display(),
        cert.display(),
        key.display()
    );
    for (tls, status) in [
        (tls.as_str(), 200),
        (&format!("ca: '{}'", root.display()), 500),
        (
            &format!("cert: '{}', key: '{}'", cert.display(), key.display()),
            500,
        ),
        (
            &format!(
                "insecureSkipVerify: true, cert: '{}', key: '{}'",
                cert.display(),
                key.display()
            ),
            200,
        ),
    ] {
        let proxy = guarded(&url, &format!(", tls: {{{tls}}}"), &server).await;
        assert_eq!(proxy.client().get("/").await.status, status, "{tls}");
    }
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn a_broken_one_costs_its_routers_only() {
    let server = backend("server").run().await;
    let proxy = proxy(&format!(
        "http:\n  routers:\n    guarded: {{rule: 'PathPrefix(`/private`)', service: all, middlewares: [auth]}}\n    open: {{rule: 'PathPrefix(`/open`)', service: all}}\n  middlewares: {{auth: {{forwardAuth: {{address: 'nowhere'}}}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}}}\n",
        server.url()
    ))
    .run()
    .await;
    eventually("the other router is there", async || {
        (proxy.client().get("/open").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(proxy.client().get("/private").await.status, 404);
}

/// How a portal of some make behaves: what it says to those who have no session, and where they get one.
struct Portal {
    name: &'static str,
    /// Below `forwardAuth`, behind the address.
    options: &'static str,
    /// What is asked there.
    check: &'static str,
    /// What those without a session are told.
    stranger: fn(&Seen, portal: &str) -> Reply,
}

/// Where somebody who wanted to see this should come back to.
fn wanted(seen: &Seen) -> String {
    let field = |name: &str| seen.header(name).unwrap_or_default().to_owned();
    let (proto, host) = (field("x-forwarded-proto"), field("x-forwarded-host"));
    escaped(&format!("{proto}://{host}{}", field("x-forwarded-uri")))
}

fn escaped(url: &str) -> String {
    ESCAPES
        .iter()
        .fold(url.to_owned(), |url, (letter, escape)| {
            url.replace(letter, escape)
        })
}

const ESCAPES: [(&str, &str); 4] = [("/", "%2F"), (":", "%3A"), ("?", "%3F"), ("=", "%3D")];

static PORTALS: [Portal; 3] = [
    Portal {
        name: "authelia",
        options: ", trustForwardHeader: true, authResponseHeaders: [Remote-User, Remote-Groups]",
        check: "/api/authz/forward-auth",
        stranger: |seen, portal| {
            let to = format!(
                "{portal}/?rd={}&rm={}",
                wanted(seen),
                seen.header("x-forwarded-method").unwrap_or_default()
            );
            Reply::with(
                302,
                &[("Location", &to), ("Content-Type", "text/html")],
                "<a>302 Found</a>",
            )
        },
    },
    Portal {
        name: "authentik",
        options: ", trustForwardHeader: true, authResponseHeadersRegex: '^(Remote|X-Authentik)-', addAuthCookiesToResponse: [refreshed]",
        check: "/outpost.goauthentik.io/auth/traefik",
        stranger: |seen, portal| {
            let to = format!("{portal}/outpost.goauthentik.io/start?rd={}", wanted(seen));
            Reply::with(
                302,
                &[
                    ("Location", &to),
                    ("Set-Cookie", "state=1; Path=/; HttpOnly; SameSite=Lax"),
                ],
                "",
            )
        },
    },
    Portal {
        name: "oauth2-proxy",
        options: ", trustForwardHeader: false, authResponseHeaders: [Remote-User, X-Auth-Request-Email], authSigninURL: 'PORTAL/oauth2/sign_in?rd=PAGE'",
        check: "/oauth2/auth",
        stranger: |_, _| Reply::with(401, &[("Content-Type", "text/plain")], "Unauthorized\n"),
    },
];

/// The portal behind its own address: it checks sessions, and gives one to whoever signs in.
async fn portal(kind: &'static Portal, address: Arc<Mutex<String>>) -> Backend {
    let script = move |seen: &Seen| {
        let cookies = seen.header("cookie").unwrap_or_default();
        let known = cookies.split("; ").any(|cookie| cookie == "session=secret");
        match (seen.path() == kind.check, known) {
            (true, true) => Reply::with(
                200,
                &[
                    ("Remote-User", "joe"),
                    ("Remote-Groups", "staff"),
                    ("X-Auth-Request-Email", "joe@app.test"),
                    ("Set-Cookie", "refreshed=1; Path=/"),
                ],
                "",
            ),
            (true, false) => (kind.stranger)(seen, &address.lock().unwrap()),
            (false, _) if seen.method == "POST" => {
                assert_eq!(seen.body, b"user=joe&password=pass");
                let query = seen.target.split_once("rd=").unwrap().1;
                let back = query.split('&').next().unwrap().to_owned();
                let back = ESCAPES
                    .iter()
                    .fold(back, |url, (letter, escape)| url.replace(escape, letter));
                Reply::with(
                    303,
                    &[
                        ("Set-Cookie", "session=secret; Path=/; HttpOnly"),
                        ("Location", &back),
                    ],
                    "",
                )
            }
            (false, _) => Reply::with(200, &[("Content-Type", "text/html")], "sign in, please"),
        }
    };
    backend("portal").reply(script).run().await
}

/// A browser, as far as cookies and redirects make one: it opens a page, signs in where it is sent to, and tells what it got.
const BROWSER: &str = r#"
import http.cookiejar, json, sys, urllib.request
url, jar = sys.argv[1], http.cookiejar.CookieJar()
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
def seen(answer):
    return {"url": answer.geturl(), "status": answer.status, "text": answer.read().decode()}
first = browser.open(url, timeout=30)
form = seen(first)
inside = seen(browser.open(form["url"], data=b"user=joe&password=pass", timeout=30))
again = seen(browser.open(url, timeout=30))
print(json.dumps({"form": form, "inside": inside, "again": again, "cookies": sorted(c.name for c in jar)}))
"#;

/// What the browser tells of a visit.
async fn visit(url: &str) -> serde_json::Value {
    let run = Command::new("python3").args(["-c", BROWSER, url]).output();
    let output = run.await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_browser_signs_in_at_portals_of_every_make() {
    for kind in &PORTALS {
        let address = Arc::new(Mutex::new(String::new()));
        let portal = portal(kind, Arc::clone(&address)).await;
        // A browser keeps cookies by host, whatever the port.
        *address.lock().unwrap() = portal.url();
        let server = backend("app").run().await;
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}/private/page?a=1");
        let options = kind.options.replace("PORTAL", &portal.url());
        let options = options.replace("PAGE", &escaped(&url));
        let routing = routing(&(portal.url() + kind.check), &options, &server);
        let proxy = proxy(&routing).port("web", port).run().await;
        let told = visit(&url).await;
        let name = kind.name;
        assert_eq!(told["form"]["text"], "sign in, please", "{name}: {told}");
        assert!(
            told["form"]["url"]
                .as_str()
                .unwrap()
                .starts_with(&portal.url()),
            "{name}: {told}"
        );
        for page in ["inside", "again"] {
            assert_eq!(
                (&told[page]["url"], &told[page]["status"]),
                (&json!(url), &json!(200)),
                "{name}: {told}"
            );
        }
        let cookies = told["cookies"].as_array().unwrap();
        assert!(cookies.contains(&json!("session")), "{name}: {told}");
        assert_eq!(
            cookies.contains(&json!("refreshed")),
            name == "authentik",
            "{name}: {told}"
        );
        assert_eq!(
            cookies.contains(&json!("state")),
            name == "authentik",
            "{name}: {told}"
        );
        for seen in server.seen() {
            assert_eq!(
                (seen.target.as_str(), seen.header("remote-user")),
                ("/private/page?a=1", Some("joe")),
                "{name}"
            );
        }
        assert_eq!(server.hits(), 2, "{name}");
        drop(proxy);
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_question_along() {
    let left = Arc::new(AtomicBool::new(false));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::clone(&left);
    let authority = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = Raw { stream };
        connection.head().await;
        asked.store(true, Ordering::SeqCst);
        connection.rest_for(Duration::from_secs(20)).await.closed
    });
    let server = backend("server").run().await;
    let proxy = guarded(&url, "", &server).await;
    let mut client = Raw::open(proxy.addr("web")).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the authority is asked", async || {
        left.load(Ordering::SeqCst).then_some(())
    })
    .await;
    drop(client);
    assert!(authority.await.unwrap(), "the question goes on");
    assert_eq!(server.hits(), 0);
}
