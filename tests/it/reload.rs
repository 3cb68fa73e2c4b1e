//! Routing files that change: edited, renamed, swapped by symlink, half written, broken, deleted.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Backend, Proxy, ProxyBuilder, all_to, backend, eventually, proxy, routed, subject_is_traefik,
    within,
};

async fn two() -> (Backend, Backend) {
    (backend("one").run().await, backend("two").run().await)
}

async fn answers_from(proxy: &Proxy, name: &str) {
    eventually(&format!("{name} answers"), async || {
        (proxy.client().get("/").await.backend() == name).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_edit_is_live_soon() {
    let (one, two) = two().await;
    let proxy = proxy(&all_to(&[one.url()])).run().await;
    assert_eq!(proxy.client().get("/").await.backend(), "one");
    let mut fastest = Duration::MAX;
    for (name, server) in [("two", &two), ("one", &one), ("two", &two), ("one", &one)] {
        let start = Instant::now();
        proxy.write_routing("main.yml", &all_to(&[server.url()]));
        answers_from(&proxy, name).await;
        fastest = fastest.min(start.elapsed());
    }
    // The machine may be busy now and then, but not each time.
    assert!(
        subject_is_traefik() || fastest < Duration::from_millis(500),
        "an edit took {fastest:?}"
    );
}

#[tokio::test]
async fn editors_that_rename_are_followed() {
    let (one, two) = two().await;
    let proxy = proxy(&all_to(&[one.url()])).run().await;
    for (name, server) in [("two", &two), ("one", &one), ("two", &two)] {
        let temporary = proxy.dir().join("main.yml.tmp");
        std::fs::write(&temporary, all_to(&[server.url()])).unwrap();
        std::fs::rename(&temporary, proxy.routing_path("main.yml")).unwrap();
        answers_from(&proxy, name).await;
    }
    // Some editors move the old file away first.
    std::fs::rename(
        proxy.routing_path("main.yml"),
        proxy.dir().join("main.yml~"),
    )
    .unwrap();
    std::fs::write(proxy.routing_path("main.yml"), all_to(&[one.url()])).unwrap();
    answers_from(&proxy, "one").await;
}

fn with_directory(builder: ProxyBuilder, directory: &std::path::Path) -> ProxyBuilder {
    builder.install(&json!({"providers": {"file": {"directory": directory, "watch": true}}}))
}

#[tokio::test]
async fn mounted_config_maps_swap_by_symlink() {
    let (one, two) = two().await;
    let mount = tempfile::tempdir().unwrap();
    for (generation, server) in [("..v1", &one), ("..v2", &two)] {
        std::fs::create_dir(mount.path().join(generation)).unwrap();
        std::fs::write(
            mount.path().join(generation).join("app.yml"),
            all_to(&[server.url()]),
        )
        .unwrap();
    }
    std::os::unix::fs::symlink("..v1", mount.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/app.yml", mount.path().join("app.yml")).unwrap();
    let proxy = with_directory(
        proxy(&all_to(&["http://127.0.0.1:1".to_owned()])),
        mount.path(),
    )
    .run()
    .await;
    answers_from(&proxy, "one").await;
    for (generation, name) in [("..v2", "two"), ("..v1", "one"), ("..v2", "two")] {
        std::os::unix::fs::symlink(generation, mount.path().join("..next")).unwrap();
        std::fs::rename(mount.path().join("..next"), mount.path().join("..data")).unwrap();
        answers_from(&proxy, name).await;
    }
}

#[tokio::test]
async fn sub_directories_and_single_files_are_watched() {
    let (one, two) = two().await;
    let mount = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(mount.path().join("team/app")).unwrap();
    let path = mount.path().join("team/app/routes.yml");
    std::fs::write(&path, all_to(&[one.url()])).unwrap();
    if !subject_is_traefik() {
        let proxy = with_directory(
            proxy(&all_to(&["http://127.0.0.1:1".to_owned()])),
            mount.path(),
        )
        .run()
        .await;
        answers_from(&proxy, "one").await;
        std::fs::write(&path, all_to(&[two.url()])).unwrap();
        answers_from(&proxy, "two").await;
        std::fs::create_dir_all(mount.path().join("new")).unwrap();
        std::fs::rename(&path, mount.path().join("new/routes.yml")).unwrap();
        std::fs::write(mount.path().join("new/routes.yml"), all_to(&[one.url()])).unwrap();
        answers_from(&proxy, "one").await;
    }
    let single = mount.path().join("single.yml");
    std::fs::write(&single, all_to(&[one.url()])).unwrap();
    let proxy = proxy(&all_to(&["http://127.0.0.1:1".to_owned()]))
        .install(&json!({"providers": {"file": {"filename": single, "watch": true}}}))
        .run()
        .await;
    answers_from(&proxy, "one").await;
    std::fs::write(&single, all_to(&[two.url()])).unwrap();
    answers_from(&proxy, "two").await;
}

#[tokio::test]
async fn toml_files_and_templates_are_read() {
    let one = backend("one").run().await;
    let mount = tempfile::tempdir().unwrap();
    std::fs::write(
        mount.path().join("app.toml"),
        "[http.routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"all\"\n[[http.services.all.loadBalancer.servers]]\nurl = '{{ env \"APP_URL\" }}'\n",
    )
    .unwrap();
    let proxy = with_directory(
        proxy(&all_to(&["http://127.0.0.1:1".to_owned()])),
        mount.path(),
    )
    .env("APP_URL", &one.url())
    .run()
    .await;
    answers_from(&proxy, "one").await;
}

#[tokio::test]
async fn half_written_files_keep_the_last_good_content() {
    let (one, two) = two().await;
    let proxy = proxy(&all_to(&[one.url()])).run().await;
    let whole = all_to(&[two.url()]);
    for length in [0, 5, 30, 60, whole.len() / 2, whole.len() - 12] {
        proxy.write_routing("main.yml", &format!("{}\n  - [broken", &whole[..length]));
        for _ in 0..10 {
            assert_eq!(
                proxy.client().get("/").await.backend(),
                "one",
                "cut after {length} bytes"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    proxy.write_routing("main.yml", &whole);
    answers_from(&proxy, "two").await;
}

#[tokio::test]
async fn a_broken_file_does_not_freeze_the_others() {
    if subject_is_traefik() {
        return;
    }
    let (one, two) = two().await;
    let proxy = proxy(&all_to(&[one.url()])).run().await;
    proxy.write_routing("broken.yml", "http: [\n");
    let extra = routed("Host(`extra.test`)", &[two.url()], "")
        .replace("all:", "extra:")
        .replace("service: all", "service: extra");
    proxy.write_routing("extra.yml", &extra);
    eventually("the new file is live", async || {
        (proxy.client().get("/").host("extra.test").await.backend() == "two").then_some(())
    })
    .await;
    assert_eq!(proxy.client().get("/").await.backend(), "one");
}

#[tokio::test]
async fn a_deleted_file_takes_its_routers_along() {
    let (one, two) = two().await;
    let proxy = proxy(&routed("Host(`one.test`)", &[one.url()], ""))
        .run()
        .await;
    let extra = routed("Host(`two.test`)", &[two.url()], "")
        .replace("all:", "extra:")
        .replace("service: all", "service: extra");
    proxy.write_routing("extra.yml", &extra);
    eventually("the new file is live", async || {
        (proxy.client().get("/").host("two.test").await.status == 200).then_some(())
    })
    .await;
    std::fs::remove_file(proxy.routing_path("extra.yml")).unwrap();
    eventually("its routers are gone", async || {
        (proxy.client().get("/").host("two.test").await.status == 404).then_some(())
    })
    .await;
    assert_eq!(proxy.client().get("/").host("one.test").await.status, 200);
}

#[tokio::test]
async fn broken_objects_are_refused_alone_and_their_last_good_form_serves_on() {
    if subject_is_traefik() {
        return;
    }
    let (one, two) = two().await;
    let text = |rule: &str, url: &str, extra: &str| {
        format!(
            "http:\n  routers:\n    changing: {{rule: '{rule}', service: one}}\n    other: {{rule: 'Host(`other.test`)', service: two}}\n{extra}  services:\n    one: {{loadBalancer: {{servers: [{{url: '{}'}}]}}}}\n    two: {{loadBalancer: {{servers: [{{url: '{url}'}}]}}}}\n",
            one.url()
        )
    };
    let proxy = proxy(&text("Host(`changing.test`)", "http://127.0.0.1:1", ""))
        .run()
        .await;
    assert_eq!(
        proxy.client().get("/").host("changing.test").await.status,
        200
    );
    // The rule of one router breaks while another object changes for good in the same file.
    let broken = text(
        "Hots(`changing.test`)",
        &two.url(),
        "    fresh: {rule: 'Host(`fresh.test`)', service: two}\n    hopeless: {rule: 'Host(', service: two}\n",
    );
    proxy.write_routing("main.yml", &broken);
    eventually("the good change is live", async || {
        (proxy.client().get("/").host("other.test").await.backend() == "two").then_some(())
    })
    .await;
    assert_eq!(
        proxy.client().get("/").host("fresh.test").await.backend(),
        "two"
    );
    assert_eq!(
        proxy
            .client()
            .get("/")
            .host("changing.test")
            .await
            .backend(),
        "one",
        "the last good form serves on"
    );
    let raw = proxy.rawdata().await;
    let router = &raw["routers"]["changing@file"];
    assert!(router["error"].to_string().contains("Hots"), "{router}");
    assert!(raw["routers"]["hopeless@file"]["error"].is_array(), "{raw}");
}

#[tokio::test]
async fn state_of_servers_survives_a_reload() {
    if subject_is_traefik() {
        return;
    }
    let down = backend("down")
        .reply(|_| crate::support::Reply::status(500, "no"))
        .run()
        .await;
    let up = backend("up").run().await;
    let text = |extra: &str| {
        routed(
            "PathPrefix(`/`)",
            &[down.url(), up.url()],
            "        healthCheck: {path: /, interval: 200ms}\n",
        ) + extra
    };
    let proxy = proxy(&text("")).run().await;
    within(
        Duration::from_secs(5),
        "the bad server is out",
        async || {
            let raw = proxy.rawdata().await;
            (raw["services"]["all@file"]["serverStatus"][down.url()] == "DOWN").then_some(())
        },
    )
    .await;
    for round in 0..5 {
        proxy.write_routing(
            "main.yml",
            &text(&format!(
                "  middlewares: {{m{round}: {{addPrefix: {{prefix: /x}}}}}}\n"
            )),
        );
        eventually("the change is live", async || {
            proxy.rawdata().await["middlewares"]
                .get(format!("m{round}@file"))
                .map(|_| ())
        })
        .await;
        for _ in 0..10 {
            assert_eq!(
                proxy.client().get("/").await.backend(),
                "up",
                "reload {round} forgot that a server is down"
            );
        }
    }
}

#[tokio::test]
async fn nothing_that_is_thrown_at_it_stops_the_service() {
    let one = backend("one").run().await;
    let mut proxy = proxy(&all_to(&[one.url()])).run().await;
    let aliases = (0..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let alias = format!("*a{level}");
        text + &format!(
            "a{}: &a{} [{}]\n",
            level + 1,
            level + 1,
            vec![alias; 9].join(",")
        )
    });
    let deep = format!("http: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    for (what, text) in [
        ("deeply aliased", aliases),
        ("deeply nested", deep),
        ("binary", "\0\u{1}\u{2}\u{fffd}".to_owned()),
        ("a list", "- a\n- b\n".to_owned()),
        ("wrong types", "http:\n  routers: 7\n  services: [x]\n".to_owned()),
        ("duplicate keys", "http:\n  routers: {}\nhttp:\n  services: {}\n".to_owned()),
        ("a regex that explodes", "http:\n  routers: {x: {rule: 'PathRegexp(`(a{1000}){1000}`)', service: y}}\n".to_owned()),
        ("a chain that bites its tail", "http:\n  middlewares: {a: {chain: {middlewares: [b]}}, b: {chain: {middlewares: [a]}}}\n  routers: {x: {rule: 'Path(`/x`)', service: y, middlewares: [a]}}\n".to_owned()),
        ("huge", "x".repeat(100 << 20)),
    ] {
        proxy.write_routing("extra.yml", &text);
        for _ in 0..15 {
            assert_eq!(proxy.client().get("/").await.backend(), "one", "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(proxy.is_running(), "{what}");
    }
}

#[tokio::test]
async fn servers_that_are_gone_are_forgotten() {
    if subject_is_traefik() {
        return;
    }
    const WORKERS: usize = 2;
    let mut urls = Vec::new();
    let mut servers = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let server = backend(name).run().await;
        urls.push(server.url());
        servers.push(server);
    }
    let proxy = proxy(&all_to(&urls))
        .install(&json!({"core": {"workers": WORKERS}}))
        .run()
        .await;
    // Every worker has had to do with every server.
    for _ in 0..WORKERS * urls.len() * 10 {
        assert_eq!(proxy.client().get("/").await.status, 200);
    }
    proxy.write_routing("main.yml", &all_to(&urls[..1]));
    within(
        Duration::from_secs(20),
        "the other servers are gone from the metrics",
        async || {
            let page = proxy.metrics().await;
            assert!(page.contains(&urls[0]));
            (!urls[1..].iter().any(|url| page.contains(url))).then_some(())
        },
    )
    .await;
}
