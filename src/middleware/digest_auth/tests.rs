use md5::{Digest, Md5};

use super::*;
use crate::{
    config::Diagnostic,
    middleware::{
        Middleware,
        testing::{Answer, Fixture, placed},
    },
};

/// `user:traefik:pass` and its hash.
const USER: &str = "user:traefik:6f5ce9b6bc09ed89b9d7e8a4f0f1b9a7";

fn hash(text: &str) -> String {
    let digest = Md5::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(user: &str, realm: &str) -> String {
    format!("{user}:{realm}:{}", hash(&format!("{user}:{realm}:pass")))
}

fn build(options: &str, file: &str) -> (Option<DigestAuth>, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let config = placed(&format!(r#"{{"digestAuth":{options}}}"#));
    let read = |_: &str| Ok(file.to_owned());
    let built = match Middleware::build("m@file", &config, &read, &mut findings) {
        Some(Middleware::DigestAuth(it)) => Some(*it),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    (built, findings)
}

fn auth() -> DigestAuth {
    let options = format!(
        r#"{{"users":["{}","{}"]}}"#,
        entry("user", "traefik"),
        entry("other", "elsewhere")
    );
    build(&options, "").0.unwrap()
}

/// What a client sends; `change` edits the parameters before the proof is made.
struct Login {
    nonce: String,
    opaque: String,
    user: &'static str,
    hash: String,
    uri: &'static str,
    nc: &'static str,
    qop: &'static str,
    tail: &'static str,
}

impl Login {
    fn new(auth: &DigestAuth) -> Self {
        let challenge = refusal(auth.request(&mut Fixture::get("/").exchange()));
        let field = challenge.header("www-authenticate").unwrap().to_owned();
        let part = |name: &str| {
            let start = field.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
            field[start..].split('"').next().unwrap().to_owned()
        };
        Self {
            nonce: part("nonce"),
            opaque: part("opaque"),
            user: "user",
            hash: hash("user:traefik:pass"),
            uri: "/a/b?c=d",
            nc: "00000001",
            qop: "auth",
            tail: ", algorithm=MD5",
        }
    }

    fn header(&self) -> String {
        let request = hash(&format!("GET:{}", self.uri));
        let Self {
            nonce,
            opaque,
            user,
            uri,
            nc,
            qop,
            tail,
            ..
        } = self;
        let response = hash(&format!(
            "{}:{nonce}:{nc}:client:{qop}:{request}",
            self.hash
        ));
        format!(
            r#"Digest username="{user}", realm="traefik", nonce="{nonce}", uri="{uri}", qop={qop}, nc={nc}, cnonce="client", response="{response}", opaque="{opaque}"{tail}"#
        )
    }
}

fn refusal(flow: Flow) -> Answer {
    match flow {
        Flow::Respond(response) => Answer::new(*response),
        other => panic!("{other:?}"),
    }
}

fn send(auth: &DigestAuth, header: &str) -> (Flow, Exchange) {
    let mut exchange = Fixture::get("/a/b?c=d")
        .with("authorization", header)
        .exchange();
    (auth.request(&mut exchange), exchange)
}

fn passes(auth: &DigestAuth, login: &Login) -> bool {
    matches!(send(auth, &login.header()).0, Flow::Continue)
}

#[test]
fn a_right_proof_passes_once() {
    let auth = auth();
    let mut login = Login::new(&auth);
    assert!(passes(&auth, &login));
    for (nc, passed, stale) in [
        ("00000001", false, false),
        ("00000003", true, false),
        ("00000002", false, true),
        ("0000000a", true, false),
        ("+b", false, false),
        ("zz", false, false),
        ("", false, false),
    ] {
        login.nc = nc;
        let flow = send(&auth, &login.header()).0;
        assert_eq!(matches!(flow, Flow::Continue), passed, "{nc}");
        if !passed {
            let answer = refusal(flow);
            let challenge = answer.header("www-authenticate").unwrap();
            assert_eq!(challenge.contains(r#", stale="true", "#), stale, "{nc}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    type Change = fn(&mut Login);
    let cases: [(&str, bool, Change); 13] = [
        ("nothing", true, |_| {}),
        ("no algorithm", true, |it| it.tail = ""),
        ("a path before the path", true, |it| it.uri = "/a"),
        ("another path", false, |it| it.uri = "/b"),
        ("an absolute one", true, |it| it.uri = "http://app.test/a/b"),
        ("a longer path", false, |it| it.uri = "/a/b/c"),
        ("a wrong password", false, |it| {
            it.hash = hash("user:traefik:no");
        }),
        ("an unknown user", false, |it| it.user = "nobody"),
        ("an unknown user without a hash", false, |it| {
            (it.user, it.hash) = ("nobody", String::new());
        }),
        ("an unknown user with the stand-in", false, |it| {
            (it.user, it.hash) = ("nobody", DECOY.to_owned());
        }),
        ("a user of another realm", false, |it| {
            (it.user, it.hash) = ("other", hash("other:elsewhere:pass"));
        }),
        ("another algorithm", false, |it| {
            it.tail = ", algorithm=SHA-256";
        }),
        ("another protection", false, |it| it.qop = "auth-int"),
    ];
    for (what, expected, change) in cases {
        let auth = auth();
        let mut login = Login::new(&auth);
        change(&mut login);
        assert_eq!(passes(&auth, &login), expected, "{what}");
    }
    let auth = auth();
    let right = Login::new(&auth).header();
    for wrong in [
        right.replace("Digest", "digest"),
        right.replace("Digest", "Basic"),
        right.replace("opaque=\"", "opaque=\"x"),
        "Digest".to_owned(),
        "Digest x".to_owned(),
    ] {
        assert!(!matches!(send(&auth, &wrong).0, Flow::Continue), "{wrong}");
    }
}

#[test]
fn the_challenge() {
    let auth = auth();
    let answer = refusal(auth.request(&mut Fixture::get("/").exchange()));
    assert_eq!(
        (answer.status(), answer.text()),
        (401, "401 Unauthorized\n".to_owned())
    );
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let challenge = answer.header("www-authenticate").unwrap();
    let form = regex::Regex::new(
        r#"^Digest realm="traefik", nonce="[A-Za-z0-9+/]{32}", opaque="[A-Za-z0-9+/]{16}", algorithm="MD5", qop="auth"$"#,
    );
    assert!(form.unwrap().is_match(challenge), "{challenge}");
}

#[test]
fn a_foreign_nonce_with_the_right_password_is_stale() {
    let elsewhere = auth();
    let auth = auth();
    let mut login = Login::new(&elsewhere);
    login.opaque = Login::new(&auth).opaque;
    let answer = refusal(send(&auth, &login.header()).0);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.contains("stale"), "{challenge}");
    login.hash = hash("user:traefik:no");
    let answer = refusal(send(&auth, &login.header()).0);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(!challenge.contains("stale"), "{challenge}");
}

#[test]
fn a_reload_goes_on_with_the_nonces() {
    let old = auth();
    let mut login = Login::new(&old);
    assert!(passes(&old, &login));
    let mut new = auth();
    new.adopt(&old);
    assert!(!passes(&new, &login), "a repetition stays one");
    login.nc = "00000002";
    assert!(passes(&new, &login));
}

#[test]
fn the_server_and_the_log_learn_who_it_is() {
    let options = format!(
        r#"{{"users":["{}"],"headerField":"X-User","removeHeader":true}}"#,
        entry("user", "traefik")
    );
    let auth = build(&options, "").0.unwrap();
    let header = Login::new(&auth).header();
    let mut exchange = Fixture::get("/a/b?c=d")
        .with("authorization", &header)
        .with("x-user", "evil")
        .exchange();
    assert!(matches!(auth.request(&mut exchange), Flow::Continue));
    let headers = &exchange.request.headers;
    let users: Vec<_> = headers.get_all("x-user").iter().collect();
    assert_eq!(users, ["user"]);
    assert!(!headers.contains_key("authorization"));
    assert_eq!(exchange.user.as_deref(), Some("user"));
    let (_, refused) = send(&auth, &header);
    assert_eq!(refused.user.as_deref(), Some("user"));
}

#[test]
fn users_come_from_a_file_too() {
    let file = format!("# staff\n\n {} \n", entry("user", "traefik"));
    let auth = build(r#"{"usersFile":"/users"}"#, &file).0.unwrap();
    assert!(passes(&auth, &Login::new(&auth)));
    let (auth, findings) = build(r#"{"usersFile":"/users"}"#, "a:b\n");
    assert!(auth.is_none());
    assert!(
        findings[0]
            .to_string()
            .contains("digestAuth.usersFile: expected `name:realm:hash` in line 1"),
        "{findings:?}"
    );
}

#[test]
fn findings() {
    let upper = USER.to_uppercase().replace("USER:TRAEFIK", "user:traefik");
    for (options, usable, expected) in [
        ("{}".to_owned(), true, "users: there is no user"),
        (
            r#"{"users":["a:b"]}"#.to_owned(),
            false,
            "users[0]: expected `name:realm:hash`",
        ),
        (
            r#"{"users":["a:b:c:d"]}"#.to_owned(),
            false,
            "users[0]: expected `name:realm:hash`",
        ),
        (
            format!(r#"{{"users":["{USER}"],"realm":"other"}}"#),
            true,
            "users[0]: user \"user\" cannot pass: the realm is \"other\", not \"traefik\"",
        ),
        (
            format!(r#"{{"users":["{upper}"]}}"#),
            true,
            "users[0]: user \"user\" cannot pass: the hash",
        ),
        (
            format!(r#"{{"users":["{USER}"],"realm":"a\nb"}}"#),
            false,
            "realm: holds",
        ),
        (
            format!(r#"{{"users":["{USER}"],"headerField":"a b"}}"#),
            false,
            "headerField: \"a b\"",
        ),
    ] {
        let (built, findings) = build(&options, "");
        let found = findings
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            findings.len() == 1 && found.contains(&format!("digestAuth.{expected}")),
            "{options}: {findings:?}"
        );
        assert_eq!(built.is_some(), usable, "{options}");
        assert!(!found.contains(&USER[13..]), "{found}");
    }
}
