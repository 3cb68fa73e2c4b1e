//! Fragments of Traefik 2 in, fragments of Traefik 3 out.
#![allow(clippy::too_many_lines, reason = "files, and what becomes of them")]

use super::entry::Edit;
use super::*;

fn file(text: &str, format: Format) -> (String, Vec<String>) {
    let mut migration = Migration::default();
    migration.add_file("a", text, format);
    one(migration, text)
}

fn one(migration: Migration, text: &str) -> (String, Vec<String>) {
    let mut found = migration.finish();
    assert!(found.len() < 2, "{found:?}");
    match found.pop() {
        None => (text.to_owned(), Vec::new()),
        Some(found) => {
            let remarks = found.remarks.iter();
            let said =
                |it: &Remark| format!("{}:{}: {}: {}", it.line, it.column, it.option, it.text);
            (found.new, remarks.map(said).collect())
        }
    }
}

#[track_caller]
fn becomes(format: Format, old: &str, new: &str) {
    let (found, remarks) = file(old, format);
    assert_eq!(found, new, "{remarks:?}");
    assert_eq!(file(new, format).0, new, "a second time");
}

#[test]
fn dynamic_files() {
    becomes(
        Format::Yaml,
        "# ours
http:
  routers:
    a: # the shop
      rule: \"Host(`a.test`, `b.test`) && PathPrefix(`/x`)\"
      ruleSyntax: v2   # old
      service: 's'
    b: {rule: 'Path(`/b/{id:[0-9]+}`)', ruleSyntax: v2, service: s}
    c:
      rule: >-
        Host(`c.test`,
          `d.test`) &&
        Headers(`X-A`, `1`)
      service: s
  middlewares:
    allow:
      ipWhiteList: {sourceRange: [10.0.0.0/8]}   # ours
    head:
      headers:
        sslRedirect: true
        # stays
        stsSeconds: 1
        accessControlAllowOrigin: 'https://a.test'
    gone:
      headers:
        sslRedirect: true
        sslHost: a.test
    strip: {stripPrefix: {prefixes: [/a], forceSlash: false}}
",
        "# ours
http:
  routers:
    a: # the shop
      rule: \"(Host(`a.test`) || Host(`b.test`)) && PathPrefix(`/x`)\"
      service: 's'
    b: {rule: 'PathRegexp(`^/b/[0-9]+$`)', service: s}
    c:
      rule: >-
        (Host(`c.test`) || Host(`d.test`)) &&
        Header(`X-A`, `1`)
      service: s
  middlewares:
    allow:
      ipAllowList: {sourceRange: [10.0.0.0/8]}   # ours
    head:
      headers:
        # stays
        stsSeconds: 1
        accessControlAllowOriginList: ['https://a.test']
    gone:
      headers:
        isDevelopment: true
    strip: {stripPrefix: {prefixes: [/a]}}
",
    );
}

#[test]
fn static_files() {
    becomes(
        Format::Yaml,
        "pilot:
  token: x
core:
  defaultRuleSyntax: v2
experimental:
  http3: true
  plugins: {p: {moduleName: m, version: v}}
entryPoints:
  web:
    address: :80
    enableHTTP3: true
providers:
  docker:
    swarmMode: true
    swarmModeRefreshSeconds: 20
    network: front # ours
tracing:
  jaeger:
    localAgentHostPort: a:1
certificatesResolvers:
  le:
    acme:
      dnsChallenge:
        provider: ovh
        delayBeforeCheck: 5
        resolvers: ['1.1.1.1:53']
        disablePropagationCheck: true
",
        "experimental:
  plugins: {p: {moduleName: m, version: v}}
entryPoints:
  web:
    address: :80
    http3: {}
providers:
  swarm:
    refreshSeconds: 20
    network: front # ours
certificatesResolvers:
  le:
    acme:
      dnsChallenge:
        provider: ovh
        propagation:
          delayBeforeChecks: 5
          disableChecks: true
        resolvers: ['1.1.1.1:53']
",
    );
    becomes(
        Format::Yaml,
        "providers:\n  docker:\n    swarmMode: true\n  file: {watch: true}\n",
        "providers:\n  swarm: {}\n  file: {watch: true}\n",
    );
    becomes(
        Format::Yaml,
        "{\"pilot\": {\"token\": \"x\"}, \"log\": {\"level\": \"INFO\"}}",
        "{\"log\": {\"level\": \"INFO\"}}",
    );
}

#[test]
fn toml_files() {
    becomes(
        Format::Toml,
        "# ours
[pilot]
  token = \"x\"

[providers.docker]   # labels
  swarmMode = true
  network = 'front'
  [providers.docker.tls]
    ca = \"/ca\" # file
    caOptional = true

[entryPoints.web]
address = \":80\"

[core]
defaultRuleSyntax = \"v2\"

[certificatesResolvers.le.acme.dnsChallenge]
delayBeforeCheck = 5

[http.middlewares]
a = {ipWhiteList = {sourceRange = [\"10.0.0.0/8\"]}}
[http.middlewares.b.headers]
sslRedirect = true
accessControlAllowOrigin = \"*\"
[http.routers]
  [http.routers.a]
  rule = \"HostRegexp(`{s:[a-z]+}.a.test`)\"
  service = 's'
",
        "# ours

[providers.swarm]   # labels
  network = 'front'
  [providers.swarm.tls]
    ca = \"/ca\" # file

[entryPoints.web]
address = \":80\"


[certificatesResolvers.le.acme.dnsChallenge]
propagation.delayBeforeChecks = 5

[http.middlewares]
a = {ipAllowList = {sourceRange = [\"10.0.0.0/8\"]}}
[http.middlewares.b.headers]
accessControlAllowOriginList = [\"*\"]
[http.routers]
  [http.routers.a]
  rule = 'HostRegexp(`^[a-z]+\\.a\\.test$`)'
  service = 's'
",
    );
}

#[test]
fn what_is_dropped_is_said() {
    let text = "http:
  middlewares:
    a: {headers: {sslRedirect: true, frameDeny: true}}
    b: {headers: {featurePolicy: x}}
  routers:
    r: {rule: 'Query(`=x`)', ruleSyntax: v2}
";
    let (new, remarks) = file(text, Format::Yaml);
    assert!(new.contains("a: {headers: {frameDeny: true}}"), "{new}");
    let starts = [
        "3:19: http.middlewares.a.headers.sslRedirect: has no effect since Traefik 3: to redirect to HTTPS",
        "4:19: http.middlewares.b.headers.featurePolicy: has no effect since Traefik 3: write `permissionsPolicy`",
        "6:9: http.routers.r.rule: stays as it is: column 1: a query without a key",
    ];
    assert_eq!(remarks.len(), starts.len(), "{remarks:?}");
    for (remark, start) in remarks.iter().zip(starts) {
        assert!(remark.starts_with(start), "{remark}");
    }
    let (new, remarks) = file("{{ if x }}\na: b\n{{ end }}\n", Format::Yaml);
    assert_eq!(new, "{{ if x }}\na: b\n{{ end }}\n");
    assert!(remarks[0].contains("template"), "{remarks:?}");
}

/// Whatever a file holds, it is answered.
#[test]
fn no_text_is_too_odd() {
    const WORDS: &[&str] = &[
        "http",
        "routers",
        "middlewares",
        "a",
        "rule",
        "headers",
        "sslRedirect",
        "ipWhiteList",
        "pilot",
        ": ",
        ":",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "'",
        "\"",
        "? ",
        "&x ",
        "*x",
        "<<",
        "# c",
        "|\n   ",
        ">-",
        "=",
        "= ",
        "[[",
        "]]",
        "Host(`a`, `b`)",
        "HostRegexp(`{x:[a}`)",
        "true",
        "é",
        "\r\n",
        "\t",
        "{{",
        "}}",
        "\\",
    ];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap()
    };
    for _ in 0..20_000 {
        let length = 1 + next() % 24;
        let words = (0..length).map(|_| WORDS[next() % WORDS.len()]);
        let text: String = words.collect();
        for format in [Format::Yaml, Format::Toml] {
            let (new, _) = file(&text, format);
            drop(file(&new, format));
        }
    }
}

#[test]
fn diffs_are_those_of_the_text() {
    let text = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14";
    let edits = [(4, 6, "three\n3a\n"), (33, 35, "14\n")].map(|(start, end, text)| Edit {
        range: start..end,
        text: text.to_owned(),
    });
    let found = diff::unified("f", text, &edits[..1]);
    assert_eq!(
        found,
        "--- f\n+++ f\n@@ -1,6 +1,7 @@\n 1\n 2\n-3\n+three\n+3a\n 4\n 5\n 6\n"
    );
    let end = Edit {
        range: text.len() - 2..text.len(),
        text: "x\n".to_owned(),
    };
    assert_eq!(
        diff::unified("f", text, &[edits[0].clone(), end]),
        "--- f\n+++ f\n@@ -1,6 +1,7 @@\n 1\n 2\n-3\n+three\n+3a\n 4\n 5\n 6\n@@ -11,4 +12,4 @@\n 11\n 12\n 13\n-14\n\\ No newline at end of file\n+x\n"
    );
}
