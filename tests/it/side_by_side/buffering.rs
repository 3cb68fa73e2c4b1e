//! `buffering` beside the real Traefik's.

use super::cases::{Case, Door, Protocol};
use super::outcome::Allowance;
use super::variants::{Variant, compare};

fn get(target: &str) -> Case {
    Case::get("", target)
}

#[tokio::test]
async fn buffering() {
    let options = [
        "maxRequestBodyBytes: 0",
        "maxRequestBodyBytes: 10",
        "maxResponseBodyBytes: 10",
        "memRequestBodyBytes: 3, memResponseBodyBytes: 3",
        "maxRequestBodyBytes: 5, memRequestBodyBytes: 10, maxResponseBodyBytes: 5000, memResponseBodyBytes: 100",
        "maxRequestBodyBytes: -1",
        "retryExpression: 'ResponseCode() == 500 && Attempts() < 3'",
        "retryExpression: 'IsNetworkError() || ResponseCode() >= 400'",
        "retryExpression: 'RequestMethod() != \"POST\" && (ResponseCode() > 299 || Attempts() <= 1)'",
        "retryExpression: 'Attempts() < `2`'",
        "retryExpression: '2 > Attempts()'",
    ];
    let variants: Vec<Variant> = (0..)
        .zip(options)
        .map(|(number, options): (usize, _)| {
            Variant::middleware(
                &format!("buffering-{number}"),
                &format!("buffering: {{{options}}}"),
            )
        })
        .collect();
    let mut cases: Vec<Case> = [
        "/",
        "/large",
        "/chunked",
        "/empty",
        "/unchanged",
        "/missing",
        "/broken",
        "/hop",
        "/packed",
    ]
    .into_iter()
    .map(get)
    .collect();
    for target in ["/x", "/broken", "/missing", "/chunked"] {
        for body in ["12345", "123456", "1234567890a"] {
            cases.push(get(target).method("POST").body(body));
        }
        cases.push(get(target).method("PUT").body("12345"));
    }
    let chunked = |body| {
        get("/x")
            .method("POST")
            .header("Transfer-Encoding", "chunked")
            .body(body)
    };
    cases.push(chunked("5\r\n12345\r\n0\r\n\r\n"));
    cases.push(chunked("b\r\n1234567890a\r\n0\r\n\r\n"));
    cases.push(get("/large").method("HEAD"));
    cases.push(get("/large").through(Door::Secure, Protocol::Http2));
    cases.push(
        get("/x")
            .method("POST")
            .body("12345")
            .through(Door::Secure, Protocol::Http2),
    );
    compare(&variants, &cases, NONE).await;
}

const NONE: &[Allowance] = &[];
