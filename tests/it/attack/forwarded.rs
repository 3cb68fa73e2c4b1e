//! Headers that say who the client is: only we, and those we were told to trust, may set them (28-30).

use serde_json::json;

use super::Stage;
use crate::support::{Backend, Proxy, all_to, backend, proxy, routed};

const CLAIMS: [(&str, &str); 10] = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Server", "evil"),
    ("X-Forwarded-Uri", "/evil"),
    ("X-Forwarded-Method", "DELETE"),
    ("X-Forwarded-Tls-Client-Cert", "evil"),
    ("X-Real-Ip", "6.6.6.6"),
];

async fn trusting(options: serde_json::Value) -> (Proxy, Backend) {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()]))
        .entry_point("web", &json!({"forwardedHeaders": options}))
        .run()
        .await;
    (proxy, server)
}

#[tokio::test]
async fn attack_28_claims_of_strangers_are_replaced() {
    let stage = Stage::new().await;
    let mut call = stage.proxy.client().host("shop.test:8080").get("/x");
    for (name, value) in CLAIMS {
        call = call.header(name, value);
    }
    assert_eq!(call.await.status, 200);
    let seen = stage.server.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.test:8080"));
    assert_eq!(seen.header("x-forwarded-port"), Some("8080"));
    for name in [
        "x-forwarded-prefix",
        "x-forwarded-uri",
        "x-forwarded-method",
        "x-forwarded-tls-client-cert",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_ne!(seen.header("x-forwarded-server"), Some("evil"));
    for (name, _) in CLAIMS {
        assert!(seen.count(name) <= 1, "{name} twice");
    }
}

#[tokio::test]
async fn attack_28_several_lines_of_one_claim() {
    let stage = Stage::new().await;
    stage
        .proxy
        .client()
        .get("/x")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-For", "7.7.7.7")
        .header("x-forwarded-for", "8.8.8.8")
        .await;
    let seen = stage.server.last();
    assert_eq!(
        (
            seen.count("x-forwarded-for"),
            seen.header("x-forwarded-for")
        ),
        (1, Some("127.0.0.1"))
    );
}

#[tokio::test]
async fn trusted_peers_may_speak_for_others() {
    for options in [
        json!({"insecure": true}),
        json!({"trustedIPs": ["127.0.0.0/8"]}),
    ] {
        let (proxy, server) = trusting(options.clone()).await;
        proxy
            .client()
            .get("/x")
            .header("X-Forwarded-For", "9.9.9.9, 8.8.8.8")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "real")
            .header("X-Real-Ip", "9.9.9.9")
            .await;
        let seen = server.last();
        assert_eq!(
            seen.header("x-forwarded-for"),
            Some("9.9.9.9, 8.8.8.8, 127.0.0.1"),
            "{options}"
        );
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.header("x-forwarded-host"), Some("real"));
        assert_eq!(seen.header("x-real-ip"), Some("9.9.9.9"));
        assert_eq!(
            seen.header("x-forwarded-port"),
            Some(proxy.addr("web").port().to_string().as_str())
        );
    }
    let (proxy, server) = trusting(json!({"trustedIPs": ["10.0.0.0/8"]})).await;
    proxy
        .client()
        .get("/x")
        .header("X-Forwarded-For", "9.9.9.9")
        .await;
    assert_eq!(
        server.last().header("x-forwarded-for"),
        Some("127.0.0.1"),
        "a peer outside the list"
    );
    let (proxy, server) = trusting(json!({"insecure": true, "notAppendXForwardedFor": true})).await;
    proxy
        .client()
        .get("/x")
        .header("X-Forwarded-For", "9.9.9.9")
        .await;
    assert_eq!(server.last().header("x-forwarded-for"), Some("9.9.9.9"));
}

#[tokio::test]
async fn attack_28_the_trusted_chain_is_walked_from_the_right() {
    let server = backend("server").run().await;
    let routing = routed("PathPrefix(`/`)", &[server.url()], "").replace(
        "      service: all\n",
        "      service: all\n      middlewares: [near]\n",
    ) + "  middlewares:\n    near:\n      ipAllowList:\n        sourceRange: [1.1.1.1/32]\n        ipStrategy: {excludedIPs: [10.0.0.0/8]}\n";
    let proxy = proxy(&routing)
        .entry_point(
            "web",
            &json!({"forwardedHeaders": {"trustedIPs": ["127.0.0.1"]}}),
        )
        .run()
        .await;
    for (chain, status) in [
        ("1.1.1.1, 10.0.0.7", 200),
        ("1.1.1.1", 200),
        ("1.1.1.1, 6.6.6.6", 403),
        ("1.1.1.1, 6.6.6.6, 10.0.0.7", 403),
        ("10.0.0.1", 403),
        ("1.1.1.1, garbage", 403),
    ] {
        assert_eq!(
            proxy
                .client()
                .get("/")
                .header("X-Forwarded-For", chain)
                .await
                .status,
            status,
            "{chain}"
        );
    }
}

#[tokio::test]
async fn attack_29_connection_cannot_delete_what_we_set() {
    let server = backend("server").run().await;
    let routing = all_to(&[server.url()]).replace(
        "      service: all\n",
        "      service: all\n      middlewares: [mark]\n",
    ) + "  middlewares:\n    mark:\n      headers:\n        customRequestHeaders: {X-Mark: ours}\n";
    let proxy = proxy(&routing).run().await;
    proxy.client().get("/x").header("Connection", "X-Forwarded-For, X-Real-IP, X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Port, X-Forwarded-Server, Host, X-Private").header("X-Private", "1").await;
    let seen = server.last();
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-server",
        "host",
    ] {
        assert_eq!(seen.count(name), 1, "{name} was deleted through Connection");
    }
    assert_eq!(
        seen.header("x-private"),
        None,
        "what the client names for itself is hop by hop"
    );
    assert!(
        !seen
            .header("connection")
            .unwrap_or_default()
            .to_lowercase()
            .contains("x-"),
        "{seen:?}"
    );
    proxy
        .client()
        .get("/x")
        .header("Connection", "X-Mark")
        .await;
    assert_eq!(
        server.last().header("x-mark"),
        Some("ours"),
        "a field set by a middleware was deleted through Connection"
    );
}

#[tokio::test]
async fn attack_30_aliases_of_trusted_names() {
    let stage = Stage::new().await;
    stage
        .proxy
        .client()
        .get("/x")
        .header("X_Forwarded_For", "6.6.6.6")
        .header("X_Forwarded_Proto", "https")
        .header("X_Real_Ip", "6.6.6.6")
        .header("X-Forwarded_For", "6.6.6.6")
        .await;
    let seen = stage.server.last();
    for name in [
        "x_forwarded_for",
        "x_forwarded_proto",
        "x_real_ip",
        "x-forwarded_for",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let server = backend("server").run().await;
    let delete = proxy(&all_to(&[server.url()]))
        .entry_point("web", &json!({"http": {"aliasHeadersStrategy": "delete"}}))
        .run()
        .await;
    delete
        .client()
        .get("/x")
        .header("X.Forwarded.For", "6.6.6.6")
        .header("X_User", "root")
        .header("X~User", "root")
        .header("X-User", "me")
        .await;
    let seen = server.last();
    assert_eq!(
        (
            seen.header("x.forwarded.for"),
            seen.header("x_user"),
            seen.header("x~user"),
            seen.header("x-user")
        ),
        (None, None, None, Some("me"))
    );
    server.reset();
    let reject = proxy(&all_to(&[server.url()]))
        .entry_point("web", &json!({"http": {"aliasHeadersStrategy": "reject"}}))
        .run()
        .await;
    assert_eq!(
        reject
            .client()
            .get("/x")
            .header("X_User", "root")
            .await
            .status,
        400
    );
    assert_eq!(
        reject
            .client()
            .get("/x")
            .header("X-User", "me")
            .await
            .status,
        200
    );
    assert_eq!(server.hits(), 1);
}
