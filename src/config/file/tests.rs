//! Whole routing files in, objects and diagnostics out.

use super::*;
use crate::config::routing::{EVERY, Kind};

fn read(name: &str, text: &str) -> DecodedRouting {
    let env = |name: &str| (name == "HOST").then(|| "app.test".to_owned());
    parse_routing_file(name, text, &env).expect("a readable file")
}

fn messages(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

const PLANTED: &str = "\
http:
  routers:
    good:
      rule: Host(`{{ env \"HOST\" }}`)
      service: app
    badd:
      rule: Host(`a`)
      servise: app
    good:
      rule: Host(`b`)
    empty:
  services:
    app:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:1
    two:
      loadBalancer: {}
      weighted: {}
    worn:
      loadbalancer:
        healthcheck:
          interval: 10x
          port: 70000
  middlewares:
    auth:
      basicAuth:
        usrs: [a]
    ok:
      ipWhiteList:
        sourceRange: 10.0.0.0/8
    old:
      headers:
        sslRedirect: true
        frameDeny: true
  router: {}
tcp:
  routers:
    db:
      rule: HostSNI(`*`)
tls:
  certificates:
    - certFile: a.pem
      keyFile: a.key
    - certFil: b.pem
  options: []
htp: {}
entryPoints: {}
";

#[test]
fn intervals_that_nobody_waits_for_are_told_of() {
    for (interval, told) in [("", 0), ("0s", 0), ("-1ms", 0), ("100ms", 1), ("3", 1)] {
        let text = format!(
            "http:\n  services:\n    app:\n      loadBalancer:\n        servers: [{{url: http://a}}]\n{}",
            match interval {
                "" => String::new(),
                interval => format!("        responseForwarding: {{flushInterval: {interval}}}\n"),
            }
        );
        let found = messages(&read("r.yml", &text).diagnostics);
        assert_eq!(found.len(), told, "{interval}: {found:?}");
        for message in found {
            assert!(
                message.starts_with("r.yml:6:45: warning: http.services.app.loadBalancer.responseForwarding.flushInterval: has no effect"),
                "{message}"
            );
        }
    }
}

#[test]
fn mistakes_are_isolated_per_object() {
    let decoded = read("r.yml", PLANTED);
    assert_eq!(
        messages(&decoded.diagnostics),
        [
            "r.yml:8:7: error: http.routers.badd.servise: unknown option (did you mean `service`?)",
            "r.yml:9:5: error: http.routers.good: `good` is given twice (the first is at r.yml:3:5)",
            "r.yml:11:5: warning: http.routers.empty: has no value and is ignored (give it options, or remove it)",
            "r.yml:17:5: error: http.services.two: a service has exactly one kind, found `loadBalancer` and `weighted`",
            "r.yml:23:21: error: http.services.worn.loadBalancer.healthCheck.interval: expected a duration such as `30s`, `1m30s` or `500ms`, found \"10x\"",
            "r.yml:24:17: error: http.services.worn.loadBalancer.healthCheck.port: expected a whole number from 0 to 65535, found \"70000\"",
            "r.yml:28:9: error: http.middlewares.auth.basicAuth.usrs: unknown option (did you mean `users`?)",
            "r.yml:30:7: warning: http.middlewares.ok.ipWhiteList: is the old name of `ipAllowList` (rename it to `ipAllowList`)",
            "r.yml:34:22: warning: http.middlewares.old.headers.sslRedirect: has no effect (use the `redirectScheme` middleware or the entry point's redirection)",
            "r.yml:36:3: error: http.router: unknown option (did you mean `routers`?)",
            "r.yml:39:5: warning: tcp.routers.db: is known, but not supported by this version",
            "r.yml:45:7: error: tls.certificates[1].certFil: unknown option (did you mean `certFile`?)",
            "r.yml:46:3: error: tls.options: expected options, found a list",
            "r.yml:47:1: warning: htp: unknown section, ignored (did you mean `http`?)",
            "r.yml:48:1: info: entryPoints: belongs to the install configuration and is ignored here",
        ]
    );
    let broken: Vec<_> = decoded
        .broken
        .iter()
        .map(|(kind, name)| format!("{kind} {name}"))
        .collect();
    assert_eq!(
        broken,
        [
            "router badd",
            "router good",
            "service two",
            "service worn",
            "middleware auth",
            "certificate 1",
            &format!("{} {EVERY}", Kind::TlsOptions),
        ]
    );
    let routing = &decoded.routing;
    assert_eq!(routing.http.services.keys().collect::<Vec<_>>(), ["app"]);
    assert_eq!(
        routing.http.middlewares.keys().collect::<Vec<_>>(),
        ["ok", "old"]
    );
    assert_eq!(routing.tls.certificates.len(), 1);
    assert_eq!(routing.tcp.routers.len(), 1);
}

#[test]
fn places_point_at_the_template_and_toml_too() {
    let yaml = "{{ range $i := until 2 }}\nhttp{{ $i }}: {}{{ end }}\nhttp:\n  routers:\n    a:\n      rule: \"{{ env `HOST` }}\"\n      rul: x\n";
    let decoded = read("t.yaml", yaml);
    assert_eq!(
        messages(&decoded.diagnostics),
        [
            "t.yaml:2:1: warning: http0: unknown section, ignored (did you mean `http`?)",
            "t.yaml:2:1: warning: http1: unknown section, ignored (did you mean `http`?)",
            "t.yaml:7:7: error: http.routers.a.rul: unknown option (did you mean `rule`?)",
        ]
    );
    let toml = "[http.routers.a]\nrule = \"Host(`a`)\"\npriority = \"x\"\n\n[[tls.certificates]]\ncertFile = \"a\"\nkeyfil = \"b\"\n[http.services.s.loadBalancer]\nservers = [{url = \"http://a\"}, {uri = 1}]\n";
    let decoded = read("r.toml", toml);
    assert_eq!(
        messages(&decoded.diagnostics),
        [
            "r.toml:3:12: error: http.routers.a.priority: expected a whole number, found \"x\"",
            "r.toml:7:1: error: tls.certificates[0].keyfil: unknown option (did you mean `keyFile`?)",
            "r.toml:9:33: error: http.services.s.loadBalancer.servers[1].uri: unknown option (did you mean `url`?)",
        ]
    );
}

#[test]
fn places_of_every_field_are_kept() {
    let decoded = read(
        "r.yml",
        "http:\n  routers:\n    a:\n      rule: x\n      tls:\n        domains:\n          - main: m\n",
    );
    let router = &decoded.routing.http.routers["a"];
    assert_eq!(router.place().to_string(), "r.yml:3:5");
    assert_eq!(router.at("rule").to_string(), "r.yml:4:13");
    assert_eq!(router.at("tls.domains[0].main").to_string(), "r.yml:7:19");
    assert_eq!(router.at("service").to_string(), "r.yml:3:5");
}

#[test]
fn a_file_that_does_not_parse_fails_as_a_whole() {
    let env = |_: &str| None;
    let failure = |name: &str, text: &str| {
        let wrong = parse_routing_file(name, text, &env).expect_err(text);
        messages(&wrong).join("\n")
    };
    assert_eq!(
        failure("a.yml", "http:\n\trouters: {}\n"),
        "a.yml:2:2: error: is not valid YAML: tabs disallowed within this context (block indentation) (indent with spaces, not with tabs)"
    );
    assert!(
        failure("a.toml", "[http\nx = 1").starts_with("a.toml:1:6: error: is not valid TOML: "),
        "{}",
        failure("a.toml", "[http\nx = 1")
    );
    assert_eq!(
        failure("a.ini", ""),
        "a.ini: error: is neither YAML nor TOML (name it `.yml`, `.yaml` or `.toml`)"
    );
    assert_eq!(
        failure("a.yml", "- a\n"),
        "a.yml:1:1: error: expected options at the top, found a list"
    );
    assert!(
        failure("a.yml", "http: {{ nope }}")
            .contains("a.yml:1:10: error: template: unknown function `nope`")
    );
}

#[test]
fn billion_laughs_and_deep_nesting_fail_fast() {
    let env = |_: &str| None;
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..20 {
        let items = vec![format!("*a{}", n - 1); 9].join(", ");
        laughs.extend([
            "a",
            &n.to_string(),
            ": &a",
            &n.to_string(),
            " [",
            &items,
            "]\n",
        ]);
    }
    let wrong = messages(&parse_routing_file("a.yml", &laughs, &env).unwrap_err());
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].contains("aliases expand to more than 100000 values"),
        "{wrong:?}"
    );

    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
    ] {
        let wrong = messages(&parse_routing_file("a.yml", &deep, &env).unwrap_err());
        assert_eq!(wrong.len(), 1);
        assert!(
            wrong[0].contains("levels deep") || wrong[0].contains("recursion"),
            "{wrong:?}"
        );
    }
    let toml = format!("a = {}", "[".repeat(100_000));
    assert_eq!(
        parse_routing_file("a.toml", &toml, &env).unwrap_err().len(),
        1
    );
    let wide = format!("[{}]", vec!["a"; 100_000].join("."));
    drop(parse_routing_file("a.toml", &wide, &env));
}

#[test]
fn anchors_and_merge_keys_work() {
    let decoded = read(
        "r.yml",
        "x-base: &base\n  rule: Host(`a`)\n  service: s\nhttp:\n  routers:\n    a:\n      <<: *base\n      service: t\n    b: *base\n",
    );
    let routers = &decoded.routing.http.routers;
    assert_eq!(
        (routers["a"].rule.as_str(), routers["a"].service.as_str()),
        ("Host(`a`)", "t")
    );
    assert_eq!(routers["b"].service, "s");
    assert!(!decoded.has_errors());
}

/// The configured part of what Traefik 3.7's API shows for the same file.
#[test]
fn objects_print_as_in_traefiks_api() {
    let text = include_str!("../../../tests/golden/api/routing.yml");
    let shown: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/golden/api/shown.json")).unwrap();
    let decoded = read("routing.yml", text);
    assert!(
        decoded.diagnostics.is_empty(),
        "{:?}",
        messages(&decoded.diagnostics)
    );
    let ours = serde_json::to_value(&decoded.routing.http).unwrap();
    for section in ["services", "middlewares"] {
        for (name, expected) in shown[section].as_object().unwrap() {
            assert_eq!(&ours[section][name], expected, "{section} {name}");
        }
    }
}
