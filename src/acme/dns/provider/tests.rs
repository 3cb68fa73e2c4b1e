//! Every provider against a small double of its interface: what is asked in which form, and what is made of its answers.

use hickory_resolver::proto::rr::Name;

use super::*;
use crate::{
    acme::{
        dns::fake::{Interface, NameServer, Script},
        solver::Proof,
    },
    config::Root,
};

/// The value of the record that is added and removed.
const VALUE: &str = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";

fn record() -> TxtRecord {
    let name = |text| Name::from_ascii(text).unwrap();
    TxtRecord {
        name: name("_acme-challenge.www.example.test."),
        zone: Some(name("example.test.")),
        value: VALUE.to_owned(),
        proof: Proof {
            name: "www.example.test".to_owned(),
            token: "token".to_owned(),
            authorization: "token.thumb".to_owned(),
        },
    }
}

/// The provider `name`, set up by these variables; `URL` in them is the double's.
fn provider(name: &str, variables: &[(&str, &str)], url: &str) -> Result<Provider, String> {
    let pairs = variables.iter();
    let environment: Vec<(String, String)> = pairs
        .map(|(name, value)| ((*name).to_owned(), value.replace("URL", url)))
        .collect();
    let variables = Variables::new(&environment, Root::Here);
    let known = DnsProvider::find(name).unwrap();
    assert_eq!(known.problem(&variables), None);
    let mut provider = Provider::new(known, &variables)?;
    let wait = Duration::from_millis(1);
    match &mut provider.way {
        Way::Hetzner(way) => way.api.base = url.to_owned(),
        Way::HetznerConsole(way) => way.api.base = url.to_owned(),
        Way::Porkbun(way) => way.api.base = url.to_owned(),
        _ => {}
    }
    match &mut provider.way {
        Way::Cloudflare(way) => way.api.pause = wait,
        Way::DigitalOcean(way) => way.api.pause = wait,
        Way::Hetzner(way) => way.api.pause = wait,
        Way::HetznerConsole(way) => way.api.pause = wait,
        Way::HttpReq(way) => way.api.pause = wait,
        Way::Ovh(way) => way.api.pause = wait,
        Way::Porkbun(way) => way.api.pause = wait,
        Way::Route53(way) => way.api.pause = wait,
        Way::Exec(_) | Way::Rfc2136(_) => {}
    }
    Ok(provider)
}

/// How a provider is set up.
type Pairs = &'static [(&'static str, &'static str)];

/// Adds the record and removes it, and compares what was asked.
async fn transcript(name: &str, variables: Pairs, script: Script, expected: &[&str]) {
    let interface = Interface::start(script);
    let provider = provider(name, variables, &interface.url()).unwrap();
    let mark = provider
        .add(&record())
        .await
        .unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    let removed = provider.remove(&record(), &mark).await;
    assert_eq!(removed, Ok(()), "{name}");
    assert_eq!(interface.lines(), expected, "{name}");
}

const CLOUDFLARE: Pairs = &[
    ("CLOUDFLARE_BASE_URL", "URL"),
    ("CF_DNS_API_TOKEN", "s3cret"),
];
const DIGITALOCEAN: Pairs = &[("DO_API_URL", "URL"), ("DO_AUTH_TOKEN", "s3cret")];
const HETZNER: Pairs = &[
    ("HETZNER_API_TOKEN", "s3cret"),
    ("HETZNER_POLLING_INTERVAL", "1ms"),
];
const CONSOLE: Pairs = &[("HETZNER_API_KEY", "s3cret")];
const HTTPREQ: Pairs = &[
    ("HTTPREQ_ENDPOINT", "URL/hook/"),
    ("HTTPREQ_USERNAME", "me"),
    ("HTTPREQ_PASSWORD", "s3cret"),
];
const OVH: Pairs = &[
    ("OVH_ENDPOINT", "URL"),
    ("OVH_APPLICATION_KEY", "application"),
    ("OVH_APPLICATION_SECRET", "s3cret"),
    ("OVH_CONSUMER_KEY", "consumer"),
];
const PORKBUN: Pairs = &[
    ("PORKBUN_API_KEY", "pk1"),
    ("PORKBUN_SECRET_API_KEY", "s3cret"),
];
const ROUTE53: Pairs = &[
    ("AWS_ENDPOINT_URL", "URL"),
    ("AWS_ACCESS_KEY_ID", "AKID"),
    ("AWS_SECRET_ACCESS_KEY", "s3cret"),
    ("AWS_POLLING_INTERVAL", "1ms"),
];

#[tokio::test]
async fn cloudflare() {
    transcript(
        "cloudflare",
        CLOUDFLARE,
        &[
            ("GET /zones?", "200 OK", r#"{"success":true,"result":[{"id":"z1","name":"example.test"}]}"#),
            ("POST /zones/z1/dns_records", "200 OK", r#"{"success":true,"result":{"id":"r1"}}"#),
            (
                "GET /zones/z1/dns_records?",
                "200 OK",
                r#"{"result":[{"id":"r0","content":"\"other\""},{"id":"r1","content":"\"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ\""}]}"#,
            ),
            ("DELETE /zones/z1/dns_records/r1", "200 OK", r#"{"success":true}"#),
        ],
        &[
            "GET /zones?name=example.test&per_page=50",
            r#"POST /zones/z1/dns_records {"type":"TXT","name":"_acme-challenge.www.example.test","content":"\"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ\"","ttl":120}"#,
            "GET /zones?name=example.test&per_page=50",
            "GET /zones/z1/dns_records?type=TXT&name=_acme-challenge.www.example.test&per_page=100",
            "DELETE /zones/z1/dns_records/r1",
        ],
    )
    .await;
}

#[tokio::test]
async fn cloudflare_knows_tokens_and_the_key_of_an_account() {
    for (variables, zones, records) in [
        (
            &[("CF_DNS_API_TOKEN", "edit"), ("CF_ZONE_API_TOKEN", "read")][..],
            "authorization: Bearer read",
            "authorization: Bearer edit",
        ),
        (
            &[("CLOUDFLARE_DNS_API_TOKEN", "edit\n")],
            "authorization: Bearer edit",
            "authorization: Bearer edit",
        ),
        (
            &[
                ("CLOUDFLARE_EMAIL", "me@a.test"),
                ("CLOUDFLARE_API_KEY", "key"),
                ("CF_DNS_API_TOKEN", "t"),
            ],
            "x-auth-email: me@a.test",
            "x-auth-key: key",
        ),
    ] {
        let interface = Interface::start(&[
            ("GET /zones?", "200 OK", r#"{"result":[{"id":"z1"}]}"#),
            // It is there already, as after a restart.
            (
                "POST ",
                "400 Bad Request",
                r#"{"errors":[{"code":81058,"message":"An identical record already exists."}]}"#,
            ),
        ]);
        let base = [&[("CF_BASE_URL", "URL")], variables].concat();
        let provider = provider("cloudflare", &base, &interface.url()).unwrap();
        assert_eq!(provider.add(&record()).await, Ok(String::new()));
        let seen = interface.seen();
        assert!(seen[0].headers.contains(zones), "{}", seen[0].headers);
        assert!(seen[1].headers.contains(records), "{}", seen[1].headers);
    }
}

#[tokio::test]
async fn digitalocean() {
    transcript(
        "digitalocean",
        DIGITALOCEAN,
        &[
            ("GET /v2/domains/example.test/records?", "200 OK", r#"{"domain_records":[]}"#),
            ("POST /v2/domains/example.test/records", "201 Created", r#"{"domain_record":{"id":7}}"#),
            (
                "GET /v2/domains/example.test/records?",
                "200 OK",
                r#"{"domain_records":[{"id":6,"data":"other"},{"id":7,"data":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"}]}"#,
            ),
            ("DELETE /v2/domains/example.test/records/7", "204 No Content", ""),
        ],
        &[
            "GET /v2/domains/example.test/records?type=TXT&name=_acme-challenge.www.example.test&per_page=200",
            r#"POST /v2/domains/example.test/records {"type":"TXT","name":"_acme-challenge.www","data":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ","ttl":30}"#,
            "GET /v2/domains/example.test/records?type=TXT&name=_acme-challenge.www.example.test&per_page=200",
            "DELETE /v2/domains/example.test/records/7",
        ],
    )
    .await;
}

#[tokio::test]
async fn hetzner() {
    transcript(
        "hetzner",
        HETZNER,
        &[
            ("POST /zones/example.test/rrsets/_acme-challenge.www/TXT/actions/add_records", "201 Created", r#"{"action":{"id":4,"status":"running"}}"#),
            ("GET /actions/4", "200 OK", r#"{"action":{"id":4,"status":"running"}}"#),
            ("GET /actions/4", "200 OK", r#"{"action":{"id":4,"status":"success"}}"#),
            ("POST /zones/example.test/rrsets/_acme-challenge.www/TXT/actions/remove_records", "201 Created", r#"{"action":{"id":5,"status":"success"}}"#),
        ],
        &[
            r#"POST /zones/example.test/rrsets/_acme-challenge.www/TXT/actions/add_records {"ttl":60,"records":[{"value":"\"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ\""}]}"#,
            "GET /actions/4",
            "GET /actions/4",
            r#"POST /zones/example.test/rrsets/_acme-challenge.www/TXT/actions/remove_records {"records":[{"value":"\"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ\""}]}"#,
        ],
    )
    .await;
}

#[tokio::test]
async fn hetzner_console() {
    transcript(
        "hetzner",
        CONSOLE,
        &[
            ("GET /zones?", "200 OK", r#"{"zones":[{"id":"z1","name":"example.test"}]}"#),
            ("GET /records?", "200 OK", r#"{"records":[]}"#),
            ("POST /records", "200 OK", r#"{"record":{"id":"r1"}}"#),
            (
                "GET /records?",
                "200 OK",
                r#"{"records":[{"id":"r0","type":"TXT","name":"_acme-challenge","value":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"},{"id":"r1","type":"TXT","name":"_acme-challenge.www","value":"\"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ\""}]}"#,
            ),
            ("DELETE /records/r1", "200 OK", "{}"),
        ],
        &[
            "GET /zones?name=example.test",
            "GET /records?zone_id=z1",
            r#"POST /records {"zone_id":"z1","type":"TXT","name":"_acme-challenge.www","value":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ","ttl":60}"#,
            "GET /zones?name=example.test",
            "GET /records?zone_id=z1",
            "DELETE /records/r1",
        ],
    )
    .await;
}

#[tokio::test]
async fn ovh() {
    transcript(
        "ovh",
        OVH,
        &[
            ("GET /auth/time", "200 OK", "1457018875"),
            ("POST /domain/zone/example.test/record", "200 OK", r#"{"id":42}"#),
            ("POST /domain/zone/example.test/refresh", "200 OK", "null"),
            ("DELETE /domain/zone/example.test/record/42", "200 OK", "null"),
        ],
        &[
            "GET /auth/time",
            r#"POST /domain/zone/example.test/record {"fieldType":"TXT","subDomain":"_acme-challenge.www","target":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ","ttl":120}"#,
            "GET /auth/time",
            "POST /domain/zone/example.test/refresh",
            "GET /auth/time",
            "DELETE /domain/zone/example.test/record/42",
            "GET /auth/time",
            "POST /domain/zone/example.test/refresh",
        ],
    )
    .await;
}

#[tokio::test]
async fn ovh_knows_three_kinds_of_credentials() {
    const SCRIPT: Script = &[
        ("GET /auth/time", "200 OK", "1457018875"),
        (
            "POST /auth/oauth2/token",
            "200 OK",
            r#"{"access_token":"given"}"#,
        ),
        ("POST /domain/", "200 OK", r#"{"id":42}"#),
    ];
    for (variables, expected) in [
        (
            OVH,
            &[
                "x-ovh-application: application",
                "x-ovh-consumer: consumer",
                "x-ovh-timestamp: 1457018875",
                "x-ovh-signature: $1$",
            ][..],
        ),
        (
            &[
                ("OVH_ENDPOINT", "URL"),
                ("OVH_TOKEN_URL", "URL"),
                ("OVH_CLIENT_ID", "me"),
                ("OVH_CLIENT_SECRET", "s&t"),
            ],
            &["authorization: Bearer given"],
        ),
        (
            &[("OVH_ENDPOINT", "URL"), ("OVH_ACCESS_TOKEN", "token")],
            &["authorization: Bearer token"],
        ),
    ] {
        let interface = Interface::start(SCRIPT);
        let provider = provider("ovh", variables, &interface.url()).unwrap();
        assert_eq!(provider.add(&record()).await, Ok("42".to_owned()));
        let seen = interface.seen();
        let posted = seen
            .iter()
            .find(|one| one.line.ends_with("/record"))
            .unwrap();
        for part in expected {
            assert!(posted.headers.contains(part), "{part}: {}", posted.headers);
        }
        if let Some(token) = seen.iter().find(|one| one.line.ends_with("/token")) {
            assert_eq!(
                token.body,
                "grant_type=client_credentials&scope=all&client_id=me&client_secret=s%26t"
            );
        }
    }
    let wrong = provider(
        "ovh",
        &[("OVH_ENDPOINT", "ovh-xx"), ("OVH_ACCESS_TOKEN", "t")],
        "",
    )
    .unwrap_err();
    assert!(wrong.contains("ovh-xx"), "{wrong}");
}

#[tokio::test]
async fn porkbun() {
    transcript(
        "porkbun",
        PORKBUN,
        &[
            ("POST /dns/retrieveByNameType/example.test/TXT/_acme-challenge.www", "200 OK", r#"{"status":"SUCCESS","records":[]}"#),
            ("POST /dns/create/example.test", "200 OK", r#"{"status":"SUCCESS","id":9}"#),
            (
                "POST /dns/retrieveByNameType/example.test/TXT/_acme-challenge.www",
                "200 OK",
                r#"{"status":"SUCCESS","records":[{"id":"8","content":"other"},{"id":"9","content":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"}]}"#,
            ),
            ("POST /dns/delete/example.test/9", "200 OK", r#"{"status":"SUCCESS"}"#),
        ],
        &[
            r#"POST /dns/retrieveByNameType/example.test/TXT/_acme-challenge.www {"apikey":"pk1","secretapikey":"s3cret"}"#,
            r#"POST /dns/create/example.test {"name":"_acme-challenge.www","type":"TXT","content":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ","ttl":"300","apikey":"pk1","secretapikey":"s3cret"}"#,
            r#"POST /dns/retrieveByNameType/example.test/TXT/_acme-challenge.www {"apikey":"pk1","secretapikey":"s3cret"}"#,
            r#"POST /dns/delete/example.test/9 {"apikey":"pk1","secretapikey":"s3cret"}"#,
        ],
    )
    .await;
}

const ZONES: &str = "<HostedZones><HostedZone><Id>/hostedzone/PRIVATE</Id><Name>example.test.</Name><Config><PrivateZone>true</PrivateZone></Config></HostedZone>\
    <HostedZone><Id>/hostedzone/Z1</Id><Name>example.test.</Name><Config><PrivateZone>false</PrivateZone></Config></HostedZone></HostedZones>";

const ROUTE53_SCRIPT: Script = &[
    ("GET /2013-04-01/hostedzonesbyname", "200 OK", ZONES),
    (
        "GET /2013-04-01/hostedzone/Z1/rrset",
        "200 OK",
        "<ResourceRecordSet><Name>_acme-challenge.www.example.test.</Name><Type>TXT</Type><TTL>77</TTL>\
             <ResourceRecords><ResourceRecord><Value>&quot;other&quot;</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>",
    ),
    (
        "POST /2013-04-01/hostedzone/Z1/rrset/",
        "200 OK",
        "<ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo>",
    ),
    (
        "GET /2013-04-01/change/C1",
        "200 OK",
        "<ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo>",
    ),
    (
        "GET /2013-04-01/change/C1",
        "200 OK",
        "<ChangeInfo><Id>/change/C1</Id><Status>INSYNC</Status></ChangeInfo>",
    ),
    (
        "GET /2013-04-01/hostedzone/Z1/rrset",
        "200 OK",
        "<ResourceRecordSet><Name>_acme-challenge.www.example.test.</Name><Type>TXT</Type><TTL>77</TTL>\
             <ResourceRecords><ResourceRecord><Value>&quot;other&quot;</Value></ResourceRecord>\
             <ResourceRecord><Value>\"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ\"</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>",
    ),
    (
        "GET /2013-04-01/hostedzone/Z1/rrset",
        "200 OK",
        "<ResourceRecordSet><Name>_acme-challenge.www.example.test.</Name><Type>TXT</Type><TTL>55</TTL>\
             <ResourceRecords><ResourceRecord><Value>\"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ\"</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>",
    ),
];

#[tokio::test]
async fn route53_keeps_the_other_values_of_a_name() {
    let interface = Interface::start(ROUTE53_SCRIPT);
    let provider = provider("route53", ROUTE53, &interface.url()).unwrap();
    provider.add(&record()).await.unwrap();
    provider.remove(&record(), "").await.unwrap();
    provider.remove(&record(), "").await.unwrap();
    let seen = interface.seen();
    let changes: Vec<&str> = seen
        .iter()
        .filter(|one| one.line.starts_with("POST"))
        .map(|one| one.body.as_str())
        .collect();
    let parts: [&[&str]; 3] = [
        &[
            "<Action>UPSERT</Action>",
            "<TTL>77</TTL>",
            "<Value>&quot;other&quot;</Value>",
            VALUE,
        ],
        &[
            "<Action>UPSERT</Action>",
            "<TTL>77</TTL>",
            "<Value>&quot;other&quot;</Value>",
        ],
        // What is deleted must be named as it is.
        &["<Action>DELETE</Action>", "<TTL>55</TTL>", VALUE],
    ];
    assert_eq!(changes.len(), parts.len(), "{changes:?}");
    for (change, parts) in changes.iter().zip(parts) {
        for part in parts {
            assert!(change.contains(part), "{part}: {change}");
        }
    }
    assert!(!changes[1].contains(VALUE));
    assert!(
        seen[0]
            .headers
            .contains("authorization: AWS4-HMAC-SHA256 Credential=AKID/"),
        "{}",
        seen[0].headers
    );
    let looks = seen
        .iter()
        .filter(|one| one.line.starts_with("GET /2013-04-01/change/"))
        .count();
    assert_eq!(looks, 2);
}

#[tokio::test]
async fn httpreq_in_both_modes() {
    transcript(
        "httpreq",
        HTTPREQ,
        &[("POST /hook/", "200 OK", "")],
        &[
            r#"POST /hook/present {"fqdn":"_acme-challenge.www.example.test.","value":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"}"#,
            r#"POST /hook/cleanup {"fqdn":"_acme-challenge.www.example.test.","value":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"}"#,
        ],
    )
    .await;
    transcript(
        "httpreq",
        &[("HTTPREQ_ENDPOINT", "URL"), ("HTTPREQ_MODE", "RAW")],
        &[("POST /", "204 No Content", "")],
        &[
            r#"POST /present {"domain":"www.example.test","token":"token","keyAuth":"token.thumb"}"#,
            r#"POST /cleanup {"domain":"www.example.test","token":"token","keyAuth":"token.thumb"}"#,
        ],
    )
    .await;
    for variables in [
        HTTPREQ,
        &[("HTTPREQ_ENDPOINT", "http://me:s3cret@HOST/hook")],
    ] {
        let interface = Interface::start(&[("POST /hook/", "200 OK", "")]);
        let host = interface.url().replace("http://", "");
        let variables: Vec<(&str, String)> = variables
            .iter()
            .map(|(name, value)| (*name, value.replace("HOST", &host)))
            .collect();
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let provider = provider("httpreq", &variables, &interface.url()).unwrap();
        provider.add(&record()).await.unwrap();
        let headers = &interface.seen()[0].headers;
        assert!(
            headers.contains("authorization: Basic bWU6czNjcmV0"),
            "{headers}"
        );
    }
    assert!(provider("httpreq", &[("HTTPREQ_ENDPOINT", "here")], "").is_err());
}

/// A program of one line of shell, with what it was told in a file beside it.
fn program(line: &str) -> (tempfile::TempDir, String) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hook");
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\necho \"$@\" >> {}/told\n{line}\n",
            dir.path().display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[tokio::test]
async fn exec_in_both_modes() {
    let name = "_acme-challenge.www.example.test.";
    for (mode, expected) in [
        ("", format!("present {name} {VALUE}\ncleanup {name} {VALUE}\n")),
        ("RAW", "present -- www.example.test token token.thumb\ncleanup -- www.example.test token token.thumb\n".to_owned()),
    ] {
        let (dir, path) = program("exit 0");
        let provider = provider("exec", &[("EXEC_PATH", &path), ("EXEC_MODE", mode)], "").unwrap();
        let mark = provider.add(&record()).await.unwrap();
        provider.remove(&record(), &mark).await.unwrap();
        let told = std::fs::read_to_string(dir.path().join("told")).unwrap();
        assert_eq!(told, expected);
    }
    let (_dir, path) = program("echo 'no such zone' >&2; exit 3");
    let failing = provider("exec", &[("EXEC_PATH", &path)], "").unwrap();
    let wrong = failing.add(&record()).await.unwrap_err();
    assert!(
        wrong.contains("no such zone") && wrong.contains('3'),
        "{wrong}"
    );
    let missing = provider("exec", &[("EXEC_PATH", "/none/hook")], "").unwrap();
    assert!(
        missing
            .add(&record())
            .await
            .unwrap_err()
            .contains("/none/hook")
    );
}

#[tokio::test]
async fn rfc2136_without_a_key() {
    let server = NameServer::start(&[
        ("example.test.", "SOA", ""),
        ("_acme-challenge.www.example.test.", "TXT", "other"),
    ]);
    let address = server.address().to_string();
    let provider = provider("rfc2136", &[("RFC2136_NAMESERVER", &address)], "").unwrap();
    provider.add(&record()).await.unwrap();
    assert_eq!(
        server.texts("_acme-challenge.www.example.test."),
        ["other", VALUE]
    );
    provider.remove(&record(), "").await.unwrap();
    assert_eq!(server.texts("_acme-challenge.www.example.test."), ["other"]);
}

#[tokio::test]
async fn rfc2136_with_a_key_believes_signed_answers_only() {
    let server = NameServer::start(&[("example.test.", "SOA", "")]);
    let address = server.address().to_string();
    let variables = [
        ("RFC2136_NAMESERVER", address.as_str()),
        ("RFC2136_TSIG_KEY", "portway"),
        ("RFC2136_TSIG_SECRET", "c2VjcmV0"),
        ("RFC2136_TSIG_ALGORITHM", "hmac-sha256."),
    ];
    let signing = provider("rfc2136", &variables, "").unwrap();
    let wrong = signing.add(&record()).await.unwrap_err();
    assert!(wrong.contains("not signed"), "{wrong}");
    for (change, part) in [
        (("RFC2136_TSIG_ALGORITHM", "hmac-md5"), "hmac-md5"),
        (
            ("RFC2136_TSIG_SECRET", ""),
            "RFC2136_TSIG_SECRET is missing",
        ),
        (("RFC2136_TSIG_FILE", "/none"), "/none"),
    ] {
        let mut variables: Vec<(&str, &str)> = variables.to_vec();
        variables.retain(|(name, _)| *name != change.0);
        variables.push(change);
        let wrong = provider("rfc2136", &variables, "").unwrap_err();
        assert!(wrong.contains(part), "{wrong}");
    }
}

/// What interfaces say when something is wrong, and what is made of it.
#[tokio::test]
async fn failures_are_told_apart_and_secrets_kept() {
    const DENIED: Script = &[
        ("GET /auth/time", "200 OK", "1"),
        (
            "",
            "403 Forbidden",
            "{\"message\":\"the token s3cret is wrong\"}",
        ),
    ];
    const BUSY: Script = &[
        ("GET /auth/time", "200 OK", "1"),
        (
            "",
            "429 Too Many Requests\r\nRetry-After: 3600",
            "{\"message\":\"slow down\"}",
        ),
    ];
    const BROKEN: Script = &[
        ("GET /auth/time", "200 OK", "1"),
        ("", "502 Bad Gateway", "down"),
    ];
    for (name, variables) in [
        ("cloudflare", CLOUDFLARE),
        ("digitalocean", DIGITALOCEAN),
        ("hetzner", HETZNER),
        ("hetzner", CONSOLE),
        ("httpreq", HTTPREQ),
        ("ovh", OVH),
        ("porkbun", PORKBUN),
        ("route53", ROUTE53),
    ] {
        for (script, expected, requests) in [
            (DENIED, "credentials are not accepted", 1),
            (BUSY, "left alone for now: slow down", 1),
            (BROKEN, "cannot be reached", 4),
        ] {
            let interface = Interface::start(script);
            let provider = provider(name, variables, &interface.url()).unwrap();
            let wrong = provider.add(&record()).await.unwrap_err();
            assert!(wrong.contains(expected), "{name}: {wrong}");
            assert!(!wrong.contains("s3cret"), "{wrong}");
            let asked = interface.seen();
            let asked = asked
                .iter()
                .filter(|one| !one.line.ends_with("/auth/time"))
                .count();
            assert_eq!(asked, requests, "{name}: {wrong}");
        }
    }
}

#[tokio::test]
async fn who_is_busy_for_a_moment_is_asked_again() {
    let interface = Interface::start(&[
        ("POST /", "429 Too Many Requests\r\nRetry-After: 0", ""),
        ("POST /", "503 Service Unavailable", ""),
        ("POST /", "200 OK", ""),
    ]);
    let provider = provider("httpreq", &[("HTTPREQ_ENDPOINT", "URL")], &interface.url()).unwrap();
    assert_eq!(provider.add(&record()).await, Ok(String::new()));
    assert_eq!(interface.seen().len(), 3);
}

#[tokio::test]
async fn a_zone_that_the_credentials_do_not_reach_is_named() {
    const NONE: Script = &[
        ("GET /zones?name", "200 OK", r#"{"result":[],"zones":[]}"#),
        ("GET /2013", "200 OK", "<HostedZones></HostedZones>"),
        ("GET /auth/time", "200 OK", "1"),
        (
            "POST /dns/",
            "400 Bad Request",
            r#"{"status":"ERROR","message":"Invalid domain."}"#,
        ),
    ];
    for (name, variables) in [
        ("cloudflare", CLOUDFLARE),
        ("digitalocean", DIGITALOCEAN),
        ("hetzner", HETZNER),
        ("hetzner", CONSOLE),
        ("ovh", OVH),
        ("porkbun", PORKBUN),
        ("route53", ROUTE53),
    ] {
        let interface = Interface::start(NONE);
        let provider = provider(name, variables, &interface.url()).unwrap();
        let wrong = provider.add(&record()).await.unwrap_err();
        assert!(
            wrong.contains("there is no zone example.test"),
            "{name}: {wrong}"
        );
    }
}
