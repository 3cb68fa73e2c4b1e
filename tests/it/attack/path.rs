//! Paths written in many ways: what the rule matched is what the server gets (34).

use serde_json::json;

use crate::support::{Backend, Proxy, backend, exchange, proxy};

async fn guarded(options: serde_json::Value) -> (Proxy, Backend, Backend) {
    let (guarded, open) = (backend("guarded").run().await, backend("open").run().await);
    let routing = format!(
        "http:\n  routers:\n    guarded: {{rule: 'PathPrefix(`/admin`)', service: guarded}}\n    open: {{rule: 'PathPrefix(`/`)', service: open, priority: 1}}\n  services:\n    guarded: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n    open: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n",
        guarded.url(),
        open.url()
    );
    let options = if options == json!({}) {
        options
    } else {
        json!({"http": options})
    };
    let proxy = proxy(&routing).entry_point("web", &options).run().await;
    (proxy, guarded, open)
}

/// Sends a raw target and says which server got it and as what, or which status refused it.
async fn ask(proxy: &Proxy, guarded: &Backend, open: &Backend, target: &[u8]) -> String {
    guarded.reset();
    open.reset();
    let request = [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    let answer = exchange(proxy.addr("web"), request).await;
    match (guarded.seen().pop(), open.seen().pop()) {
        (Some(seen), None) => format!("guarded {}", seen.target),
        (None, Some(seen)) => format!("open {}", seen.target),
        _ => answer.status().to_string(),
    }
}

#[tokio::test]
async fn attack_34_paths_match_in_the_form_that_is_forwarded() {
    let (proxy, guarded, open) = guarded(json!({})).await;
    for (target, expected) in [
        (&b"/admin/x"[..], "guarded /admin/x"),
        (b"/x/../admin", "guarded /admin"),
        (b"/x/%2e%2e/admin", "guarded /admin"),
        (b"/x/%2E./admin", "guarded /admin"),
        (b"/%2e/admin", "guarded /admin"),
        (b"/../../admin", "guarded /admin"),
        (b"//admin", "guarded /admin"),
        (b"///admin//x", "guarded /admin/x"),
        (b"/./admin", "guarded /admin"),
        (b"/%61dmin", "guarded /admin"),
        (b"/admin/../public", "open /public"),
        (b"/admin/%2e%2e/public", "open /public"),
        (b"/admin/..;/public", "guarded /admin/..;/public"),
        (b"/public/..;/admin", "open /public/..;/admin"),
        (b"/public;/../admin", "guarded /admin"),
        (b"/public%2f..%2fadmin", "open /public%2F..%2Fadmin"),
        (b"/public/..%2fadmin", "open /public/..%2Fadmin"),
        (b"/%5cadmin", "open /%5Cadmin"),
        (b"/\\admin", "open /%5Cadmin"),
        (b"/..\\admin", "open /..%5Cadmin"),
        (b"/%252e%252e/admin", "open /%252e%252e/admin"),
        (b"/%2561dmin", "open /%2561dmin"),
        (b"/x%00/admin", "open /x%00/admin"),
        (b"/%3fadmin", "open /%3Fadmin"),
        (b"/%23admin", "open /%23admin"),
        (b"/%ff/admin", "open /%FF/admin"),
        (b"/%c0%ae%c0%ae/admin", "open /%C0%AE%C0%AE/admin"),
        (b"/ADMIN", "open /ADMIN"),
        (b"/x?/../admin", "open /x?/../admin"),
        (b"/%zz/admin", "400"),
        (b"/admin%2", "400"),
        (b"/admin%", "400"),
        (b"/admin#x", "400"),
    ] {
        let got = ask(&proxy, &guarded, &open, target).await;
        assert_eq!(got, expected, "{}", String::from_utf8_lossy(target));
    }
}

#[tokio::test]
async fn attack_34_encoded_characters_can_be_denied() {
    let deny = json!({"allowEncodedSlash": false, "allowEncodedBackSlash": false, "allowEncodedNullCharacter": false, "allowEncodedSemicolon": false, "allowEncodedPercent": false, "allowEncodedQuestionMark": false, "allowEncodedHash": false});
    let (proxy, guarded, open) = guarded(json!({"encodedCharacters": deny})).await;
    for target in [
        &b"/x%2fadmin"[..],
        b"/x%2Fadmin",
        b"/x%5cadmin",
        b"/x%00",
        b"/x%3badmin",
        b"/%252e",
        b"/x%3fadmin",
        b"/x%23admin",
        b"/admin/x%2f",
    ] {
        assert_eq!(
            ask(&proxy, &guarded, &open, target).await,
            "400",
            "{}",
            String::from_utf8_lossy(target)
        );
    }
    assert_eq!(
        ask(&proxy, &guarded, &open, b"/x%20y?z=%2f").await,
        "open /x%20y?z=%2f"
    );
}

#[tokio::test]
async fn attack_34_paths_stay_as_they_are_without_sanitising() {
    let (proxy, guarded, open) = guarded(json!({"sanitizePath": false})).await;
    for (target, expected) in [
        (&b"/x/../admin"[..], "open /x/../admin"),
        (b"//admin", "open //admin"),
        (b"/%2e%2e/admin", "open /../admin"),
        (b"/admin/../x", "guarded /admin/../x"),
    ] {
        assert_eq!(
            ask(&proxy, &guarded, &open, target).await,
            expected,
            "{}",
            String::from_utf8_lossy(target)
        );
    }
}

#[tokio::test]
async fn attack_34_over_http2_too() {
    let (proxy, guarded, open) = guarded(json!({})).await;
    for (target, expected) in [
        ("/x/../admin", "guarded /admin"),
        ("/x/%2e%2e/admin", "guarded /admin"),
        ("//admin", "guarded /admin"),
        ("/x%2f..%2fadmin", "open /x%2F..%2Fadmin"),
    ] {
        guarded.reset();
        open.reset();
        let answer = proxy.client().h2().host("a").get(target).await;
        let seen = answer.json();
        assert_eq!(
            format!("{} {}", answer.backend(), seen["target"].as_str().unwrap()),
            expected,
            "{target}"
        );
    }
}
