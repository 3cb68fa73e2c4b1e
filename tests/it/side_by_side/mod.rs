//! The files in `config/`, run by the real Traefik and by us at the same time: hundreds of requests go to both, and everything
//! a client or a server can see is compared. What differs on purpose is in [`outcome::ALLOWED`], each with its reason.

mod api;
mod buffering;
mod cases;
mod chains;
mod forward_auth;
mod hooks;
mod kinds;
mod middlewares;
mod outcome;
mod script;
mod subject;
mod variants;

use std::time::Duration;

use crate::support::{Backend, backend, binary};
use outcome::{ALLOWED, Allowance, Needed};
use script::script;
use subject::Subject;
pub use subject::traefik;

/// Replicas take turns, and Traefik shuffles them first.
const REPLICAS: &[Allowance] = &[(0, "which replica is asked", |_, difference| {
    difference.is("server saw", "server")
})];

async fn both() -> (Vec<Backend>, Subject, Subject) {
    let mut servers = Vec::new();
    for number in 0..5 {
        servers.push(
            backend(&format!("server{number}"))
                .reply(script)
                .run()
                .await,
        );
    }
    let traefik = Subject::on_example(&traefik(), &servers).await;
    let portway = Subject::on_example(&binary(), &servers).await;
    (servers, traefik, portway)
}

#[tokio::test]
async fn the_example_files_mean_the_same_to_both() {
    let (servers, traefik, portway) = both().await;
    let cases = cases::all();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let mut report = Vec::new();
    let mut needed = Needed::default();
    for case in &cases {
        if case.target.contains("/api/") {
            // Slower than the rate limit of the example, which has a test of its own.
            tokio::time::sleep(Duration::from_millis(21)).await;
        }
        let (theirs, ours) = (
            traefik.play(case, &servers).await,
            portway.play(case, &servers).await,
        );
        assert!(
            theirs.status != 0 || case.strict,
            "{case}: Traefik gave no answer"
        );
        for outcome in [&theirs, &ours] {
            let reached = outcome.seen.len();
            assert!(reached <= 1, "{case}: reached {reached} servers");
        }
        let found = needed.unexplained(case, (&theirs, &ours), &[ALLOWED, REPLICAS]);
        if !found.is_empty() {
            report.push(format!("{case}\n{}", found.join("\n")));
        }
    }
    assert!(
        report.is_empty(),
        "{} of {} requests differ:\n{}",
        report.len(),
        cases.len(),
        report.join("\n")
    );
    needed.hold_true(ALLOWED);
}

#[tokio::test]
async fn sticky_cookies_are_understood_both_ways() {
    let (servers, traefik, portway) = both().await;
    for (issuer, reader) in [(&traefik, &portway), (&portway, &traefik)] {
        for _ in 0..6 {
            servers.iter().for_each(Backend::reset);
            let issued = issuer.client(8000).host("app.localhost").get("/").await;
            let chosen = servers
                .iter()
                .position(|server| server.seen().iter().any(|seen| seen.path() == "/"))
                .unwrap();
            for _ in 0..3 {
                servers.iter().for_each(Backend::reset);
                let answer = reader
                    .client(8000)
                    .host("app.localhost")
                    .get("/")
                    .header("Cookie", issued.cookie().unwrap())
                    .await;
                assert_eq!(
                    answer.header("set-cookie"),
                    None,
                    "a cookie of the other proxy is as good as our own"
                );
                assert!(
                    servers[chosen].seen().iter().any(|seen| seen.path() == "/"),
                    "the cookie leads to another server"
                );
            }
        }
    }
}

#[tokio::test]
async fn both_refuse_who_asks_too_fast() {
    let (_servers, traefik, portway) = both().await;
    let mut refusals = Vec::new();
    for subject in [&traefik, &portway] {
        let client = subject.client(8000).host("app.localhost");
        let answers = futures_util::future::join_all(
            (0..250).map(|number| client.get(&format!("/api/{number}")).try_send()),
        )
        .await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(
            (100..240).contains(&served),
            "{served} of 250 at once were served"
        );
        let refused = answers.iter().find(|answer| answer.status != 200).unwrap();
        assert!(refused.header("retry-after").is_some() && refused.header("x-retry-in").is_some());
        refusals.push((
            refused.status,
            refused.text(),
            refused.header("content-type").map(str::to_owned),
        ));
    }
    assert_eq!(refusals[0], refusals[1]);
}
