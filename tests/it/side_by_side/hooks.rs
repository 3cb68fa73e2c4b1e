//! Variants of the middlewares that look at requests and answers without holding them: contentType, encodedCharacters, digestAuth,
//! circuitBreaker, grpcWeb and passTLSClientCert.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

use super::cases::{Case, Door, Protocol};
use super::middlewares::{get, of};
use super::outcome::{Allowance, Needed};
use super::subject::Subject;
use super::variants::{Both, Variant, compare, routers};
use crate::support::{Identity, Reply, Seen, Trust};

/// Bodies without a type; the path is what they hold, in base64 with `_` for `/`.
fn untyped(seen: &Seen) -> Reply {
    let word = seen.path().rsplit('/').next().unwrap_or_default();
    let bytes = STANDARD.decode(word.replace('_', "/")).unwrap_or_default();
    let status = if seen.path().starts_with("/missing") {
        404
    } else {
        200
    };
    let head = format!(
        "HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n",
        bytes.len()
    );
    let typed = match seen.path().starts_with("/typed") {
        true => "Content-Type: x/y\r\n",
        false => "",
    };
    Reply::raw(format!("{head}{typed}\r\n")).write(bytes)
}

/// Compares all cases on servers of one's own; fails with what differs.
async fn compare_with(
    variants: &[Variant],
    cases: &[Case],
    reply: impl Fn(&Seen) -> Reply + Copy + Send + Sync + 'static,
    allowed: &[Allowance],
) {
    assert!(variants.len() >= 6 && cases.len() >= 6);
    let both = Both::start_with(variants, reply).await;
    let (mut report, mut needed) = (Vec::new(), Needed::default());
    for variant in variants {
        for case in cases {
            report.extend(both.compare((variant, case), allowed, &mut needed).await);
        }
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
    needed.hold_true(allowed);
}

/// Beginnings of bodies of every type.
const BODIES: &[&[u8]] = &[
    b"<!doctype HTML><p>",
    b"  <html>",
    b"<pre>",
    b"<B>",
    b"<!-- x",
    b"<?xml version='1.0'?>",
    b"%PDF-1.7",
    b"%!PS-Adobe-3",
    b"\xfe\xffab",
    b"\xff\xfeab",
    b"\xef\xbb\xbfab",
    b"\0\0\x01\0",
    b"\0\0\x02\0",
    b"BM..",
    b"GIF87a",
    b"RIFF1234WEBPVP8 ",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"FORM1234AIFF",
    b".snd1234",
    b"ID3\x03",
    b"OggS\0\x01",
    b"MThd\0\0\0\x06\0",
    b"RIFF1234AVI x",
    b"RIFF1234WAVEx",
    b"\0\0\0\x14ftypisom\0\0\0\0mp42",
    b"\x1a\x45\xdf\xa3x",
    b"\0\x01\0\0x",
    b"OTTO",
    b"ttcf",
    b"wOFF",
    b"wOF2",
    b"\x1f\x8b\x08\0",
    b"PK\x03\x04",
    b"Rar!\x1a\x07\0x",
    b"Rar!\x1a\x07\x01\0",
    b"\0asm\x01",
    b"{\"a\":1}",
    b"plain",
    b"a\x01b",
    b"\x1b[0m",
    b"\x80\x81",
    b"",
];

fn typing() -> Vec<Variant> {
    vec![
        Variant::middleware("type-0", "contentType: {}"),
        Variant::middleware("type-1", "contentType: {autoDetect: true}"),
        Variant::middleware("type-2", "contentType: {autoDetect: false}"),
        Variant::chain(
            "type-3",
            &[
                "contentType: {}",
                "headers: {customResponseHeaders: {Content-Type: text/mine}}",
            ],
        ),
        Variant::chain(
            "type-4",
            &[
                "headers: {customResponseHeaders: {X-A: '1'}}",
                "contentType: {}",
            ],
        ),
        Variant::chain(
            "type-5",
            &[
                "contentType: {}",
                "redirectRegex: {regex: 'missing', replacement: 'found'}",
            ],
        ),
        Variant::chain(
            "type-6",
            &[
                "compress: {minResponseBodyBytes: 1, encodings: [br]}",
                "contentType: {}",
            ],
        ),
        Variant::http(
            "type-7",
            &format!(
                "  middlewares: {{NAME-0: {{contentType: {{}}}}}}\n  services: {{nobody: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:1'}}]}}}}}}\n{}",
                routers("service: nobody, middlewares: [NAME-0]")
            ),
        ),
    ]
}

#[tokio::test]
async fn content_type() {
    let variants = typing();
    let mut cases: Vec<Case> = BODIES
        .iter()
        .map(|body| get(&format!("/{}", STANDARD.encode(body).replace('/', "_"))))
        .collect();
    let page = STANDARD.encode("<html>");
    for folder in ["typed", "missing"] {
        cases.push(get(&format!("/{folder}/{page}")));
    }
    cases.push(get(&format!("/{page}")).method("HEAD"));
    cases.push(get(&format!("/{page}")).through(Door::Secure, Protocol::Http2));
    compare_with(&variants, &cases, untyped, &[]).await;
}

#[tokio::test]
async fn encoded_characters() {
    let options = [
        "allowEncodedSlash: false",
        "allowEncodedSlash: true",
        "allowEncodedBackSlash: true, allowEncodedNullCharacter: true",
        "allowEncodedSemicolon: true",
        "allowEncodedPercent: true, allowEncodedHash: true",
        "allowEncodedQuestionMark: true",
        "allowEncodedSlash: true, allowEncodedBackSlash: true, allowEncodedNullCharacter: true, allowEncodedSemicolon: true, allowEncodedPercent: true, allowEncodedQuestionMark: true, allowEncodedHash: true",
    ];
    let targets = [
        "/plain",
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/a%00b",
        "/a%3Bb",
        "/a%25b",
        "/a%3Fb",
        "/a%23b",
        "/a%20b",
        "/a?b=%2F%00",
        "/a%252Fb",
        "/%41%2e",
    ];
    let mut cases: Vec<Case> = targets.iter().map(|target| get(target)).collect();
    cases.push(get("/a%2Fb").through(Door::Secure, Protocol::Http2));
    compare(&of("encodedCharacters", &options), &cases, &[]).await;
}

fn hash(text: &str) -> String {
    let digest = Md5::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A user whose password is `hello`.
fn user(name: &str, realm: &str) -> String {
    format!(
        "'{name}:{realm}:{}'",
        hash(&format!("{name}:{realm}:hello"))
    )
}

/// What a client does with a challenge: the parameters of its answer, some of them changed.
#[derive(Clone)]
struct Proof {
    scheme: &'static str,
    user: &'static str,
    realm: &'static str,
    password: &'static str,
    uri: &'static str,
    nc: &'static str,
    qop: &'static str,
    algorithm: &'static str,
    opaque: Option<&'static str>,
}

const RIGHT: Proof = Proof {
    scheme: "Digest",
    user: "user",
    realm: "traefik",
    password: "hello",
    uri: "/a/b?c=d",
    nc: "00000001",
    qop: "auth",
    algorithm: ", algorithm=MD5",
    opaque: None,
};

impl Proof {
    fn answer(&self, challenge: &BTreeMap<String, String>) -> String {
        let Self {
            scheme,
            user,
            realm,
            password,
            uri,
            nc,
            qop,
            algorithm,
            opaque,
        } = self;
        let (nonce, given) = (&challenge["nonce"], &challenge["opaque"]);
        let secret = hash(&format!("{user}:{realm}:{password}"));
        let request = hash(&format!("GET:{uri}"));
        let response = hash(&format!("{secret}:{nonce}:{nc}:mine:{qop}:{request}"));
        let opaque = opaque.unwrap_or(given);
        format!(
            r#"{scheme} username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", nc={nc}, qop={qop}, cnonce="mine", response="{response}", opaque="{opaque}"{algorithm}"#
        )
    }
}

/// The parameters of a challenge.
fn parameters(field: &str) -> BTreeMap<String, String> {
    let pattern = regex::Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let found = pattern.captures_iter(field);
    found
        .map(|it| (it[1].to_owned(), it[2].to_owned()))
        .collect()
}

/// Nonces are nobody's business; everything else of a challenge is compared.
const NONCES: &[Allowance] = &[(0, "nonces are random", |_, difference| {
    let shape = |text: &str| {
        let random = regex::Regex::new(r#"(nonce|opaque)="[^"]+""#).unwrap();
        random.replace_all(text, "$1").into_owned()
    };
    difference.is("header", "www-authenticate")
        && shape(&difference.traefik) == shape(&difference.portway)
})];

fn digest_variants() -> Vec<Variant> {
    let (ours, other) = (user("user", "traefik"), user("other", "elsewhere"));
    let mine = user("user", "my realm");
    let options = [
        format!("users: [{ours}]"),
        format!("users: [{ours}, {other}]"),
        format!("users: [{ours}], headerField: X-WebAuth-User"),
        format!("users: [{ours}], removeHeader: true"),
        format!("users: [{mine}], realm: my realm"),
        format!("users: [{other}]"),
    ];
    of("digestAuth", &options.each_ref().map(|it| &**it))
}

#[tokio::test]
async fn digest_auth_challenges() {
    let says = |value: &str| get("/a").header("Authorization", value);
    let cases = [
        get("/a"),
        says("Digest"),
        says("Digest username=\"user\""),
        says("Basic dXNlcjpoZWxsbw=="),
        says("digest username=\"user\", qop=auth"),
        get("/a").method("POST").body("x"),
        get("/a").through(Door::Secure, Protocol::Http2),
    ];
    compare(&digest_variants(), &cases, NONCES).await;
}

/// What clients answer to one challenge, one request after the other.
fn proofs() -> Vec<Vec<Proof>> {
    let with = |change: fn(&mut Proof)| {
        let mut proof = RIGHT;
        change(&mut proof);
        proof
    };
    let counted = |nc: &'static str| Proof { nc, ..RIGHT };
    let mut proofs = vec![
        vec![RIGHT, RIGHT],
        ["00000001", "00000003", "00000002", "00000003", "a"]
            .map(counted)
            .to_vec(),
        vec![counted("zz")],
    ];
    let changes: [fn(&mut Proof); 13] = [
        |it| it.password = "wrong",
        |it| it.user = "nobody",
        |it| (it.user, it.realm) = ("other", "elsewhere"),
        |it| it.realm = "my realm",
        |it| it.uri = "/a",
        |it| it.uri = "/b",
        |it| it.uri = "",
        |it| it.uri = "http://x/a/b",
        |it| it.qop = "auth-int",
        |it| it.algorithm = "",
        |it| it.algorithm = ", algorithm=SHA-256",
        |it| it.scheme = "digest",
        |it| it.opaque = Some("mine"),
    ];
    proofs.extend(changes.map(|change| vec![with(change)]));
    proofs
}

#[tokio::test]
async fn digest_auth_proofs() {
    let variants = digest_variants();
    let both = Both::start(&variants).await;
    let proofs = proofs();
    let mut report = Vec::new();
    for variant in &variants {
        for proofs in &proofs {
            let (theirs, ours) = (
                login(&both.traefik, variant, proofs).await,
                login(&both.portway, variant, proofs).await,
            );
            if theirs != ours {
                report.push(format!(
                    "{}: {}\n  Traefik {theirs:?}\n  Portway {ours:?}",
                    variant.host(),
                    proofs[0].answer(&parameters("nonce=\"n\" opaque=\"o\""))
                ));
            }
        }
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

/// Asks for a challenge and answers it; of every answer the status and the challenge without what is random in it.
async fn login(subject: &Subject, variant: &Variant, proofs: &[Proof]) -> Vec<String> {
    let client = subject.client(8000).host(&variant.host());
    let first = client.get("/a/b?c=d").await;
    let challenge = parameters(first.header("www-authenticate").unwrap());
    let mut outcomes = Vec::new();
    for proof in proofs {
        let answer = client
            .get("/a/b?c=d")
            .header("Authorization", &proof.answer(&challenge))
            .await;
        let again = answer.header("www-authenticate").map(parameters);
        let again = again.map(|mut parts| {
            parts.remove("nonce");
            parts
        });
        let stale = again.as_ref().and_then(|parts| parts.get("stale"));
        outcomes.push(format!("{} {stale:?} {}", answer.status, again.is_some()));
    }
    outcomes
}

#[tokio::test]
async fn circuit_breaker() {
    // Nothing closes again within the test, so that both are in the same state at every request.
    let long = "fallbackDuration: 10m, checkPeriod: 1ns";
    let options = [
        format!("expression: NetworkErrorRatio() > 0.5, {long}"),
        format!("expression: 'ResponseCodeRatio(500, 600, 0, 600) > 0.25', {long}"),
        format!(
            "expression: 'ResponseCodeRatio(400, 600, 200, 600) >= 0.4', responseCode: 429, {long}"
        ),
        format!(
            "expression: 'ResponseCodeRatio(200, 300, 0, 600) < 0.5', responseCode: 418, {long}"
        ),
        format!("expression: LatencyAtQuantileMS(50.0) > 100000, {long}"),
        format!("expression: LatencyAtQuantileMS(99.9) >= 0, responseCode: 204, {long}"),
        format!(
            "expression: 'ResponseCodeRatio(404, 405, 0, 600) == 0.5 || ResponseCodeRatio(500, 600, 0, 600) != 0.0', responseCode: 599, {long}"
        ),
        format!(
            "expression: 'ResponseCodeRatio(404, 405, 0, 600) > 0.1 && ResponseCodeRatio(500, 501, 0, 600) > 0.1', {long}"
        ),
        "expression: NetworkErrorRatio() > 1".to_owned(),
        "expression: ''".to_owned(),
    ];
    let cases = [
        get("/hello"),
        get("/missing"),
        get("/hello"),
        get("/hello").method("HEAD"),
        get("/broken"),
        get("/hello"),
        get("/broken").method("POST").body("x"),
        get("/hello"),
        get("/large"),
    ];
    compare(
        &of("circuitBreaker", &options.each_ref().map(|it| &**it)),
        &cases,
        &[],
    )
    .await;
}

/// The order of the list is random in Traefik; and what both have told is all that is compared.
const EXPOSED: &[Allowance] = &[
    (
        0,
        "the list of exposed fields has no order",
        |_, difference| {
            let names = |text: &str| {
                let mut names: Vec<String> = text.split(", ").map(str::to_owned).collect();
                names.retain(|name| name != "Content-Length");
                names.sort();
                names
            };
            difference.is("header", "access-control-expose-headers")
                && names(&difference.traefik) == names(&difference.portway)
        },
    ),
    (
        104,
        "Traefik announces a length that its trailers exceed",
        |case, difference| {
            let translated = case.method == "POST" && !case.target.contains("chunked");
            translated
                && (difference.is("header", "content-length")
                    || difference.place == "body"
                        && difference.portway.starts_with(&difference.traefik)
                    || difference.is("status", "") && difference.traefik == "0")
        },
    ),
    (
        0,
        "text may be brought to full groups anywhere",
        |case, difference| {
            let bytes = |text: &str| -> Option<Vec<u8>> {
                let groups = text.as_bytes().chunks(4);
                let groups: Result<Vec<_>, _> = groups.map(|it| STANDARD.decode(it)).collect();
                groups.ok().map(|groups| groups.concat())
            };
            let text = case
                .headers
                .iter()
                .any(|(_, value)| value.contains("-text"));
            let decoded = bytes(&difference.traefik);
            text && difference.place == "body"
                && decoded.is_some()
                && decoded == bytes(&difference.portway)
        },
    ),
    (104, "we ask for trailers", |_, difference| {
        difference.is("server saw", "te")
    }),
];

#[tokio::test]
async fn grpc_web() {
    let options = [
        "allowOrigins: ['*']",
        "allowOrigins: ['https://a.test']",
        "allowOrigins: ['https://b.test', 'https://a.test']",
        "allowOrigins: ['https://b.test']",
        "allowOrigins: ['https://A.test']",
        "allowOrigins: [a.test]",
    ];
    let call = |content_type: &str| {
        get("/chunked")
            .method("POST")
            .header("Content-Type", content_type)
            .header("Origin", "https://a.test")
            .body("aGVsbG8=")
    };
    let ask = |method: &str, fields: &str| {
        get("/hello")
            .method("OPTIONS")
            .header("Origin", "https://a.test")
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", fields)
    };
    let cases = [
        call("application/grpc-web"),
        call("application/grpc-web+proto"),
        call("application/grpc-web-text"),
        call("application/grpc-web-text+proto"),
        call("application/grpc"),
        call("application/grpc-web").method("PUT"),
        get("/chunked")
            .method("POST")
            .header("Content-Type", "application/grpc-web")
            .body("x"),
        get("/missing")
            .method("POST")
            .header("Content-Type", "application/grpc-web")
            .body("x"),
        get("/empty")
            .method("POST")
            .header("Content-Type", "application/grpc-web")
            .body("x"),
        get("/hello"),
        ask("POST", "x-grpc-web"),
        ask("POST", "content-type,X-Grpc-Web, x-user-AGENT"),
        ask("DELETE", "x-grpc-web"),
        ask("GET", "x-grpc-web"),
        ask("POST", "content-type"),
        call("application/grpc-web+proto").through(Door::Secure, Protocol::Http2),
    ];
    compare(&of("grpcWeb", &options), &cases, EXPOSED).await;
}

/// A certificate with these names and alternative names, signed by itself.
fn identity(names: &[(DnType, DnValue)], sans: Vec<SanType>) -> Identity {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in names {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params.subject_alt_names = sans;
    let key = KeyPair::generate().unwrap();
    Identity::of(params.self_signed(&key).unwrap(), key)
}

fn identities() -> Vec<Identity> {
    let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
    let ia5 = |text: &str| text.try_into().unwrap();
    let component = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]);
    let serial = DnType::CustomDnType(vec![2, 5, 4, 5]);
    vec![
        identity(&[(DnType::CommonName, utf8("client"))], Vec::new()),
        identity(
            &[
                (DnType::OrganizationName, utf8("Müller, \"Söhne\"; Co + 1%")),
                (
                    DnType::CountryName,
                    DnValue::PrintableString("DE".try_into().unwrap()),
                ),
                (DnType::StateOrProvinceName, utf8("Hessen")),
                (DnType::LocalityName, utf8("Frankfurt am Main")),
                (DnType::OrganizationalUnitName, utf8("unit")),
                (component, DnValue::Ia5String("test".try_into().unwrap())),
                (serial, DnValue::PrintableString("1234".try_into().unwrap())),
                (
                    DnType::CommonName,
                    DnValue::BmpString("großer client".try_into().unwrap()),
                ),
            ],
            vec![
                SanType::URI(ia5("spiffe://a.test/b?c=d")),
                SanType::IpAddress("192.0.2.1".parse().unwrap()),
                SanType::DnsName(ia5("a.test")),
                SanType::Rfc822Name(ia5("me@a.test")),
                SanType::IpAddress("2001:db8::1:0:0:1".parse().unwrap()),
                SanType::DnsName(ia5("*.b.test")),
            ],
        ),
        identity(&[], vec![SanType::DnsName(ia5("only.test"))]),
        identity(
            &[
                (DnType::CountryName, utf8("")),
                (DnType::CommonName, utf8("x")),
            ],
            Vec::new(),
        ),
    ]
}

#[tokio::test]
async fn pass_tls_client_cert() {
    let names = "country: true, province: true, locality: true, organization: true, commonName: true, serialNumber: true, domainComponent: true";
    let options = [
        "pem: true".to_owned(),
        format!(
            "info: {{notAfter: true, notBefore: true, sans: true, serialNumber: true, subject: {{{names}, organizationalUnit: true}}, issuer: {{{names}}}}}"
        ),
        "info: {subject: {commonName: true}}".to_owned(),
        "info: {sans: true}, pem: true".to_owned(),
        "info: {issuer: {organization: true, country: true}, notBefore: true}".to_owned(),
        "info: {subject: {locality: true}}".to_owned(),
        "info: {serialNumber: false}, pem: false".to_owned(),
    ];
    let mut variants = of("passTLSClientCert", &options.each_ref().map(|it| &**it));
    variants.push(Variant::http("asks", "  middlewares: {NAME: {addPrefix: {prefix: /x}}}\ntls: {options: {default: {clientAuth: {clientAuthType: RequestClientCert}}}}\n"));
    let both = Both::start(&variants).await;
    let mut report = Vec::new();
    for variant in variants.iter().filter(|it| it.host() != "asks.test") {
        for identity in identities().iter().map(Some).chain([None]) {
            let mut told = Vec::new();
            for subject in [&both.traefik, &both.portway] {
                let trust = match identity {
                    Some(identity) => Trust::anyone().identity(identity),
                    None => Trust::anyone(),
                };
                both.servers.iter().for_each(|server| server.reset());
                let client = subject.client(8443).host(&variant.host()).tls(trust);
                let answer = client
                    .get("/")
                    .header("X-Forwarded-Tls-Client-Cert", "forged")
                    .await;
                assert_eq!(answer.status, 200);
                let seen = both.servers[0].seen();
                let header = |name: &str| seen[0].header(name).map(str::to_owned);
                told.push((
                    header("x-forwarded-tls-client-cert"),
                    header("x-forwarded-tls-client-cert-info"),
                ));
            }
            if told[0] != told[1] {
                report.push(format!(
                    "{}\n  Traefik {:?}\n  Portway {:?}",
                    variant.host(),
                    told[0],
                    told[1]
                ));
            }
        }
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}
