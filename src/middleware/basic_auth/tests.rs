use base64::{Engine, engine::general_purpose::STANDARD};

use super::BasicAuth;
use crate::{
    config::Diagnostic,
    exchange::Exchange,
    middleware::{
        Flow, Middleware,
        testing::{Answer, Fixture, placed, problems},
    },
};

const SHA: &str = "sha:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=";
const APR1: &str = "apr:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/";

fn build(options: &str) -> BasicAuth {
    let (auth, findings) = build_with(options, "");
    auth.unwrap_or_else(|| panic!("{findings:?}"))
}

fn build_with(options: &str, file: &str) -> (Option<BasicAuth>, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let config = placed(&format!(r#"{{"basicAuth":{options}}}"#));
    let read = |path: &str| {
        assert_eq!(path, "/users");
        Ok(file.to_owned())
    };
    let auth = match Middleware::build("m@file", &config, &read, &mut findings) {
        Some(Middleware::BasicAuth(it)) => Some(*it),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    (auth, findings)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn exchange(authorization: &str) -> Exchange {
    Fixture::get("/")
        .with("authorization", authorization)
        .exchange()
}

/// Runs the hook to its end; the answer if it refused, and whether something had to be awaited.
async fn run(auth: &BasicAuth, exchange: &mut Exchange) -> (Option<Answer>, bool) {
    let (flow, awaited) = match auth.request(exchange) {
        Flow::Later(later) => (later.await(exchange), true),
        flow => (flow, false),
    };
    match flow {
        Flow::Continue => (None, awaited),
        Flow::Respond(response) => (Some(Answer::new(*response)), awaited),
        other => panic!("{other:?}"),
    }
}

async fn passes(auth: &BasicAuth, authorization: &str) -> bool {
    run(auth, &mut exchange(authorization)).await.0.is_none()
}

#[tokio::test]
async fn known_users_pass() {
    let auth = build(&format!(r#"{{"users":["{SHA}","{APR1}","odd:plain"]}}"#));
    for (header, expected) in [
        (basic("sha", "test"), true),
        (basic("apr", "test"), true),
        (basic("sha", "Test"), false),
        (basic("apr", "Test"), false),
        (basic("odd", "plain"), false),
        (basic("nobody", "test"), false),
        (basic("nobody", ""), false),
        (basic("sha", "test").replace("Basic", "bAsIc"), true),
        (basic("sha", "test").replace("Basic", "Basic "), false),
        (basic("sha", "test") + " x", false),
        ("Basic xxx".to_owned(), false),
        ("Basic".to_owned(), false),
        ("Bearer abc".to_owned(), false),
        (format!("Basic {}", STANDARD.encode("sha")), false),
    ] {
        assert_eq!(passes(&auth, &header).await, expected, "{header}");
    }
}

#[tokio::test]
async fn the_challenge() {
    let auth = build(&format!(r#"{{"users":["{SHA}"],"realm":"my \"realm\""}}"#));
    let (answer, _) = run(&auth, &mut Fixture::get("/").exchange()).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status(), answer.text()),
        (401, "401 Unauthorized\n".into())
    );
    assert_eq!(
        answer.header("www-authenticate"),
        Some(r#"Basic realm="my "realm"""#)
    );
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let auth = build(&format!(r#"{{"users":["{SHA}"]}}"#));
    let (answer, _) = run(&auth, &mut exchange("x")).await;
    assert_eq!(
        answer.unwrap().header("www-authenticate"),
        Some(r#"Basic realm="traefik""#)
    );
}

#[tokio::test]
async fn the_server_learns_who_it_is() {
    let auth = build(&format!(
        r#"{{"users":["{APR1}"],"headerField":"X-User","removeHeader":true}}"#
    ));
    let mut exchange = Fixture::get("/")
        .with("authorization", &basic("apr", "test"))
        .with("x-user", "evil")
        .exchange();
    assert!(run(&auth, &mut exchange).await.0.is_none());
    let headers = &exchange.request.headers;
    assert_eq!(
        headers.get_all("x-user").iter().collect::<Vec<_>>(),
        ["apr"]
    );
    assert!(!headers.contains_key("authorization"));
    assert_eq!(exchange.user.as_deref(), Some("apr"));
    let plain = build(&format!(r#"{{"users":["{SHA}"]}}"#));
    let mut exchange = self::exchange(&basic("sha", "test"));
    assert!(run(&plain, &mut exchange).await.0.is_none());
    assert!(exchange.request.headers.contains_key("authorization"));
}

#[tokio::test]
async fn slow_hashes_are_computed_once() {
    let auth = build(&format!(r#"{{"users":["{APR1}"]}}"#));
    let awaited = |auth: BasicAuth, password: &'static str| async move {
        let result = run(&auth, &mut exchange(&basic("apr", password))).await;
        (auth, result.0.is_none(), result.1)
    };
    let (auth, passed, slow) = awaited(auth, "test").await;
    assert!(passed && slow);
    let (auth, passed, slow) = awaited(auth, "test").await;
    assert!(passed && !slow);
    let (auth, passed, slow) = awaited(auth, "wrong").await;
    assert!(!passed && slow);
    let (auth, passed, slow) = awaited(auth, "wrong").await;
    assert!(!passed && slow, "a wrong password is never remembered");
    let mut reloaded = build(&format!(r#"{{"users":["{APR1}"]}}"#));
    reloaded.adopt(&auth);
    let (_, passed, slow) = awaited(reloaded, "test").await;
    assert!(passed && !slow);
    let mut changed = build(r#"{"users":["apr:$1$abcdefgh$Xn1VjM0h5EHkZTiGyFBpb."]}"#);
    changed.adopt(&auth);
    let (_, passed, slow) = awaited(changed, "test").await;
    assert!(
        !passed && slow,
        "what was right for the old hash says nothing about the new"
    );
}

#[tokio::test]
async fn unknown_users_take_as_long() {
    let auth = build(&format!(r#"{{"users":["{SHA}","{APR1}"]}}"#));
    let (answer, awaited) = run(&auth, &mut exchange(&basic("nobody", "test"))).await;
    assert!(answer.is_some() && awaited);
}

#[tokio::test]
async fn users_come_from_a_file_too() {
    let file = format!("# staff\n\n  {SHA}  \n{APR1}\n");
    let options = r#"{"usersFile":"/users","users":["apr:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="]}"#;
    let auth = build_with(options, &file).0.unwrap();
    assert!(passes(&auth, &basic("sha", "test")).await);
    let (answer, awaited) = run(&auth, &mut exchange(&basic("apr", "test"))).await;
    assert!(answer.is_none() && !awaited, "the inline user wins");
    let (auth, findings) = build_with(r#"{"usersFile":"/users"}"#, "a:b\nbroken\n");
    assert!(auth.is_none());
    assert!(
        findings[1]
            .to_string()
            .contains("usersFile: expected `name:hash` in line 2")
    );
}

#[test]
fn findings() {
    for (options, expected) in [
        ("{}", "basicAuth.users: there is no user"),
        (
            r#"{"users":["a"]}"#,
            "basicAuth.users[0]: expected `name:hash`",
        ),
        (
            r#"{"users":["a:b:c"]}"#,
            "basicAuth.users[0]: expected `name:hash`",
        ),
        (
            r#"{"users":["a:secret"]}"#,
            "warning: http.middlewares.m@file.basicAuth.users[0]: user \"a\" cannot pass",
        ),
        (
            // What Compose leaves of `$apr1$salt$hash`.
            r#"{"users":["a:/hash."]}"#,
            "(in a Compose file write `$$` for each `$`)",
        ),
        (r#"{"usersFile":"/x"}"#, "basicAuth.usersFile: no such file"),
        (
            r#"{"users":["a:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="],"headerField":"a b"}"#,
            "basicAuth.headerField: \"a b\"",
        ),
        (
            r#"{"users":["a:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="],"realm":"a\nb"}"#,
            "basicAuth.realm: holds",
        ),
    ] {
        let lines = problems(&format!(r#"{{"basicAuth":{options}}}"#));
        assert!(
            lines.len() == 1 && lines[0].contains(expected),
            "{options}: {lines:?}"
        );
        assert!(!lines[0].contains("secret"), "{lines:?}");
    }
}
