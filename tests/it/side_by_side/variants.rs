//! Variants of the options of one middleware or service, each on a host of its own, run by both programs at the same time.
//!
//! In the text of a variant `NAME` stands for the variant's name, and `127.0.0.1:9001` to `:9005` are the five servers that answer
//! [`super::script`]. A router leads to the service `app`, whose server is the first of them, unless the variant has its own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::cases::Case;
use super::outcome::{ALLOWED, Allowance, Needed};
use super::script::script;
use super::subject::{Subject, traefik};
use crate::support::{Backend, Reply, Seen, backend, binary};

/// One configuration to compare.
#[derive(Clone, Debug)]
pub struct Variant {
    name: String,
    /// What stands below `http:`.
    http: String,
}

impl Variant {
    /// One middleware: `Variant::middleware("plain", "addPrefix: {prefix: /a}")`.
    pub fn middleware(name: &str, options: &str) -> Self {
        Self::chain(name, &[options])
    }

    /// Middlewares in the order they run.
    pub fn chain(name: &str, middlewares: &[&str]) -> Self {
        let names: Vec<String> = (0..middlewares.len())
            .map(|position| format!("NAME-{position}"))
            .collect();
        let mut http = routers(&format!(
            "service: app, middlewares: [{}]",
            names.join(", ")
        ));
        http += "  middlewares:\n";
        for (name, options) in names.iter().zip(middlewares) {
            writeln!(http, "    {name}: {{{options}}}").unwrap();
        }
        Self::http(name, &http)
    }

    /// One service of its own: `Variant::service("two", "NAME: {weighted: ...}, NAME-a: {loadBalancer: ...}")`. The router leads to `NAME`.
    pub fn service(name: &str, services: &str) -> Self {
        let http = routers("service: NAME") + &format!("  services: {{{services}}}\n");
        Self::http(name, &http)
    }

    /// Whatever stands below `http:`, indented by two.
    pub fn http(name: &str, http: &str) -> Self {
        Self {
            name: name.to_owned(),
            http: http.replace("NAME", name),
        }
    }

    /// Where its requests go.
    pub fn host(&self) -> String {
        format!("{}.test", self.name)
    }
}

/// A router for requests without TLS and one for those with.
pub fn routers(rest: &str) -> String {
    format!(
        "  routers:\n    NAME: {{rule: 'Host(`NAME.test`)', entryPoints: [web], {rest}}}\n    NAME-tls: {{rule: 'Host(`NAME.test`)', entryPoints: [websecure], tls: {{}}, {rest}}}\n"
    )
}

/// Both programs on the same variants.
pub struct Both {
    pub servers: Vec<Backend>,
    pub traefik: Subject,
    pub portway: Subject,
    /// Requests for which Traefik had no router.
    unrouted: Cell<usize>,
}

impl Both {
    /// Starts both, with servers that answer [`script`].
    pub async fn start(variants: &[Variant]) -> Self {
        Self::start_with(variants, script).await
    }

    /// Starts both, with servers that answer as `reply` says.
    pub async fn start_with(
        variants: &[Variant],
        reply: impl Fn(&Seen) -> Reply + Copy + Send + Sync + 'static,
    ) -> Self {
        let mut servers = Vec::new();
        for number in 0..5 {
            servers.push(backend(&format!("server{number}")).reply(reply).run().await);
        }
        let write = |to: &Path, ports: &_| write(to, variants, ports);
        let traefik = Subject::start(&traefik(), &servers, write);
        let portway = Subject::start(&binary(), &servers, write);
        traefik.until_live("ready.test", 418).await;
        portway.until_live("ready.test", 418).await;
        Self {
            servers,
            traefik,
            portway,
            unrouted: Cell::default(),
        }
    }

    /// Sends one case to one variant of both and says what differs without a reason.
    pub async fn compare(
        &self,
        (variant, case): (&Variant, &Case),
        allowed: &[Allowance],
        needed: &mut Needed,
    ) -> Option<String> {
        let case = Case {
            host: variant.host(),
            ..case.clone()
        };
        let theirs = self.traefik.play(&case, &self.servers).await;
        if theirs.body == "404 page not found\n" {
            self.unrouted.set(self.unrouted.get() + 1);
        }
        let ours = self.portway.play(&case, &self.servers).await;
        assert!(
            theirs.status != 0 || case.strict,
            "{case}: Traefik gave no answer"
        );
        let found = needed.unexplained(&case, (&theirs, &ours), &[ALLOWED, allowed]);
        (!found.is_empty()).then(|| format!("{case}\n{}", found.join("\n")))
    }
}

/// Sends every case to every variant of both, at least six times six, and fails with all that differs without a reason, and with every
/// reason in `allowed` that nothing needs.
pub async fn compare(variants: &[Variant], cases: &[Case], allowed: &[Allowance]) {
    compare_with(variants, cases, allowed, script).await;
}

/// As [`compare`], with servers that answer as `reply` says.
pub async fn compare_with(
    variants: &[Variant],
    cases: &[Case],
    allowed: &[Allowance],
    reply: impl Fn(&Seen) -> Reply + Copy + Send + Sync + 'static,
) {
    assert!(variants.len() >= 6 && cases.len() >= 6);
    let both = Both::start_with(variants, reply).await;
    let mut report = Vec::new();
    let mut needed = Needed::default();
    for variant in variants {
        for case in cases {
            let found = both.compare((variant, case), allowed, &mut needed).await;
            report.extend(found);
        }
    }
    assert!(
        report.is_empty(),
        "{} of {} requests differ:\n{}",
        report.len(),
        variants.len() * cases.len(),
        report.join("\n")
    );
    let (all, unrouted) = (variants.len() * cases.len(), both.unrouted.get());
    assert!(unrouted * 2 < all, "{unrouted} of {all} had no router");
    needed.hold_true(allowed);
}

const INSTALL: &str = "\
global: {checkNewVersion: false, sendAnonymousUsage: false}
log: {level: INFO}
entryPoints:
  web:
    address: '127.0.0.1:8000'
    forwardedHeaders: {trustedIPs: ['127.0.0.2/32']}
  websecure: {address: '127.0.0.1:8443'}
  traefik: {address: '127.0.0.1:8082'}
providers: {file: {directory: routing}}
api: {insecure: true}
";

const SHARED: &str = "\
http:
  routers:
    ready: {rule: 'Host(`ready.test`)', entryPoints: [web], service: noop@internal}
  services:
    app: {loadBalancer: {servers: [{url: 'http://127.0.0.1:9001'}]}}
";

/// The files of one program.
fn write(to: &Path, variants: &[Variant], ports: &BTreeMap<u16, u16>) {
    let place = |text: &str| {
        ports.iter().fold(text.to_owned(), |text, (from, to)| {
            text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"))
        })
    };
    let put = |name: &str, text: &str| {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, place(text)).unwrap();
    };
    put("config/portway.yml", INSTALL);
    for variant in variants {
        let text = variant.http.replace("service: app", "service: app@file");
        put(
            &format!("routing/{}.yml", variant.name),
            &format!("http:\n{text}"),
        );
    }
    put("routing/shared.yml", SHARED);
}
