//! The way a request would take: its entry point, every router with the reason it lost, and what the winner does.
//!
//! A pure function of one configuration, used by `/api/explain` about the running one and by `portway explain` about the files.

mod candidates;
mod doors;
mod parts;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, net::Ipv4Addr, sync::Arc};

use http::{HeaderMap, Uri, header::HOST};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    admin::{ExplainRequest, Explainer, redact},
    config::{
        Diagnostic, Install, Routing,
        routing::{Middleware, Router},
    },
    exchange::path::{normalise, normalise_query},
    rule::{Facts, normalise_host, routing_path},
    service::{Readiness, Server, Service},
    snapshot::{EntryPoint, Group, Route, RouteTarget, Snapshot, catalog::Catalog},
    tls::Refusal,
};

use doors::Chosen;
pub use parts::Part;

/// The configuration that is asked about.
#[derive(Clone, Copy)]
pub struct Configuration<'a> {
    pub install: &'a Install,
    pub snapshot: &'a Snapshot,
    pub written: &'a dyn Written,
    /// What was found wrong with it.
    pub diagnostics: &'a [Diagnostic],
    /// Whether it is in use, so that servers have a state.
    pub live: bool,
}

/// Objects as they were written, by their qualified names.
pub trait Written {
    /// Every router, whether it serves or not, in name order.
    fn routers(&self) -> Vec<(&str, &Router)>;

    /// The middleware of this name.
    fn middleware(&self, name: &str) -> Option<&Middleware>;
}

/// A configuration whose names are qualified.
impl Written for Routing {
    fn routers(&self) -> Vec<(&str, &Router)> {
        let routers = self.http.routers.iter();
        routers
            .map(|(name, router)| (name.as_str(), &router.value))
            .collect()
    }

    fn middleware(&self, name: &str) -> Option<&Middleware> {
        self.http
            .middlewares
            .get(name)
            .map(|middleware| &middleware.value)
    }
}

impl std::fmt::Debug for Configuration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let generation = self.snapshot.generation;
        f.debug_struct("Configuration")
            .field("generation", &generation)
            .finish_non_exhaustive()
    }
}

/// The configuration in use, ready to be asked.
#[derive(Debug)]
pub struct Running<'a> {
    pub install: &'a Install,
    pub snapshot: &'a Snapshot,
    pub catalog: &'a Catalog,
}

impl Explainer for Running<'_> {
    fn explain(&self, request: &ExplainRequest) -> Result<Value, String> {
        let of_routers = self
            .catalog
            .routers
            .values()
            .flat_map(|router| &router.diagnostics);
        let diagnostics: Vec<Diagnostic> = self
            .catalog
            .diagnostics
            .iter()
            .chain(of_routers)
            .cloned()
            .collect();
        let configuration = Configuration {
            install: self.install,
            snapshot: self.snapshot,
            written: &*self.catalog.routing,
            diagnostics: &diagnostics,
            live: true,
        };
        serde_json::to_value(explain(&configuration, request)?).map_err(|error| error.to_string())
    }
}

/// Explains the way of `request`, or says why it makes no sense.
pub fn explain(
    configuration: &Configuration<'_>,
    request: &ExplainRequest,
) -> Result<Explanation, String> {
    let asked = Asked::new(request)?;
    let door = doors::choose(configuration, &asked, request.entry_point.as_deref())?;
    let http = &configuration.install.entry_points[&*door.name].http;
    let path = normalise(asked.path.as_bytes(), http.sanitize_path)
        .map_err(|_| format!("`{}` is no path: it would be answered with 400", asked.path))?;
    let query = asked
        .query
        .as_deref()
        .map(|query| normalise_query(query, http.encode_query_semicolons));
    let matched_path = routing_path(&path);
    let facts = Facts {
        path: &matched_path,
        query: query.as_deref(),
        ..asked.facts()
    };
    let entry_point = &configuration.snapshot.entry_points[door.index];
    let table = if asked.tls {
        &entry_point.secure
    } else {
        &entry_point.plain
    };
    let winner = table
        .find(&facts)
        .and_then(|at| configuration.snapshot.routes.get(at as usize));
    let certificate = asked.tls.then(|| certificate(entry_point, &asked.host));
    let way = winner.map(|route| way(configuration, route));
    Ok(Explanation {
        method: asked.method.clone(),
        url: request.url.clone(),
        host: asked.host.clone(),
        path: matched_path.to_string(),
        generation: configuration.snapshot.generation,
        live: configuration.live,
        routers: candidates::candidates(configuration, (door.index, asked.tls), &facts, winner),
        answer: answer(entry_point, (&asked.host, &path), winner, way.as_ref()),
        entry_point: door,
        way,
        certificate,
    })
}

/// What there is to say about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub method: String,
    pub url: String,
    /// Host and path in the form that rules are matched with.
    pub host: String,
    pub path: String,
    /// Number of the configuration, counted from the start of the process.
    pub generation: u64,
    /// Whether a running instance answers; otherwise servers have no state.
    pub live: bool,
    pub entry_point: Chosen,
    /// Every router, those of the entry point first and in the order of precedence.
    pub routers: Vec<Candidate>,
    /// Where the winner leads; nothing if no router matches.
    pub way: Option<Way>,
    /// For requests over TLS.
    pub certificate: Option<CertificateChoice>,
    /// What becomes of the request, in a sentence.
    pub answer: String,
}

/// A router that might have taken the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub router: String,
    pub rule: String,
    /// Unknown for a router that was refused.
    pub priority: Option<i64>,
    pub outcome: Outcome,
    /// Why it won or lost.
    pub reason: String,
    /// Whether its rule would match, or fails by something other than the host.
    pub near: bool,
}

/// What became of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Takes the request.
    Wins,
    /// Matches too, but comes later.
    Outranked,
    /// Its rule does not match.
    NoMatch,
    /// Serves on the entry point, but only over TLS, or only without.
    OtherScheme,
    /// Serves on other entry points only.
    OtherEntryPoint,
    /// Does not serve because of an error.
    Refused,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    pub router: String,
    /// In the order they run, those of the entry point and the service included.
    pub middlewares: Vec<Step>,
    pub service: String,
    pub sticky: bool,
    pub health_checked: bool,
    pub servers: Vec<ServerState>,
    /// The services that the service is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Whether Portway answers itself.
    pub internal: bool,
}

/// A middleware on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub name: String,
    /// Empty for a middleware that stands in no provider's configuration.
    pub kind: String,
    /// As they hold, secrets left out.
    pub options: Value,
    /// When it answers itself, so that the way ends there. Not tried: it depends on what came before, or on more than is asked here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_answer: Option<String>,
}

/// A server on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerState {
    pub url: String,
    /// Nothing while its host name is not resolved.
    pub address: Option<String>,
    /// `up`, `down` or `waiting`; nothing if no running instance was asked.
    pub state: Option<String>,
    pub reason: String,
}

/// What a client of this host is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateChoice {
    pub names: Vec<String>,
    pub issuer: String,
    /// RFC 3339.
    pub not_after: String,
    /// Whether it is the default one, because none was made for this host.
    pub default: bool,
    /// Name of the TLS options.
    pub options: String,
    /// Why the handshake fails, if it does.
    pub refused: Option<String>,
}

/// A request as rules see it, but for what the entry point does to its path.
struct Asked {
    tls: bool,
    port: u16,
    /// Of the URL, in lower case.
    url_host: String,
    host: String,
    path: String,
    query: Option<String>,
    method: String,
    headers: HeaderMap,
    peer: IpAddr,
}

impl Asked {
    fn new(request: &ExplainRequest) -> Result<Self, String> {
        let not_understood =
            |why: &str| format!("the URL `{}` is not understood: {why}", request.url);
        let url: Uri = request
            .url
            .parse()
            .map_err(|error: http::uri::InvalidUri| not_understood(&error.to_string()))?;
        let tls = match url.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(not_understood("it must begin with http:// or https://")),
        };
        let url_host = url.host().unwrap_or_default().to_ascii_lowercase();
        let mut headers: HeaderMap = request.headers.iter().cloned().collect();
        // As in a request, the host is no header like others.
        let host = headers
            .remove(HOST)
            .and_then(|host| host.to_str().map(str::to_owned).ok());
        Ok(Self {
            tls,
            port: url.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            host: normalise_host(host.as_deref().unwrap_or(&url_host)).into_owned(),
            url_host,
            path: url.path().to_owned(),
            query: url.query().map(str::to_owned),
            method: request.method.to_string(),
            headers,
            peer: request.client_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        })
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
            peer: self.peer,
        }
    }
}

fn way(configuration: &Configuration<'_>, route: &Route) -> Way {
    let service = match &route.target {
        RouteTarget::Service(service) => Some(service),
        RouteTarget::Group(_) | RouteTarget::Internal(_) => None,
    };
    let servers = service.iter().flat_map(|service| &service.servers);
    Way {
        router: route.name.to_string(),
        middlewares: route
            .steps
            .iter()
            .map(|name| step(configuration, name))
            .collect(),
        service: route.service.to_string(),
        sticky: service.is_some_and(|service| service.is_sticky()),
        health_checked: service.is_some_and(|service| service.health_check.is_some()),
        servers: servers
            .map(|server| server_state(server, configuration.live))
            .collect(),
        parts: match &route.target {
            RouteTarget::Group(group) => parts::parts(configuration, group),
            _ => Vec::new(),
        },
        internal: route.internal,
    }
}

fn step(configuration: &Configuration<'_>, name: &str) -> Step {
    let Some(middleware) = configuration.written.middleware(name) else {
        return Step {
            name: name.to_owned(),
            kind: String::new(),
            options: Value::Null,
            may_answer: None,
        };
    };
    let kind = middleware.kind();
    // What has been read from text can be written as JSON.
    let mut written = serde_json::to_value(middleware).unwrap_or_default();
    redact(&mut written);
    let options = written.get_mut(kind).map(Value::take).unwrap_or_default();
    Step {
        name: name.to_owned(),
        kind: kind.to_owned(),
        may_answer: early_answer(kind, &options),
        options,
    }
}

/// When a middleware answers instead of passing a request on.
fn early_answer(kind: &str, options: &Value) -> Option<String> {
    let answer = match kind {
        "basicAuth" | "digestAuth" => "401 without the right credentials",
        "forwardAuth" => "what the authority answers, unless that is 2xx",
        "errors" => "a page of its service, in place of answers with its status codes",
        "ipAllowList" | "ipWhiteList" => "403 to other addresses",
        "rateLimit" => "429 beyond the rate",
        "inFlightReq" => "429 beyond the amount",
        "redirectScheme" | "redirectRegex" => "a redirect, where it applies",
        "encodedCharacters" => "400 to paths with encoded characters",
        "grpcWeb" => "200 to CORS preflight requests of gRPC-Web",
        "buffering" => "413 to larger bodies",
        "circuitBreaker" => "503 while it is open",
        "plugin" => "whatever it likes",
        "headers" => {
            let mut names = options.as_object()?.keys();
            let answers = names.any(|name| name.starts_with("accessControlAllow"));
            return answers.then(|| "200 to CORS preflight requests".to_owned());
        }
        _ => return None,
    };
    let by_address = options.get("ipStrategy").is_some()
        || options.pointer("/sourceCriterion/ipStrategy").is_some();
    Some(match by_address {
        true => format!(
            "{answer}; whom it takes for the client depends on X-Forwarded-For, and on whether the entry point trusts its peer"
        ),
        false => answer.to_owned(),
    })
}

fn server_state(server: &Arc<Server>, live: bool) -> ServerState {
    let report = server.status();
    let state = match report.readiness {
        Readiness::Ready => "up",
        Readiness::Waiting => "waiting",
        Readiness::Down => "down",
    };
    ServerState {
        url: server.name.to_string(),
        address: server.address.map(|address| address.to_string()),
        state: live.then(|| state.to_owned()),
        reason: if live { report.reason } else { String::new() },
    }
}

fn certificate(entry_point: &EntryPoint, host: &str) -> CertificateChoice {
    let certificates = entry_point.tls.certificates();
    let name = Some(host).filter(|host| !host.is_empty() && host.parse::<IpAddr>().is_err());
    let found = certificates.certificate(name, None);
    let facts = found.map(|certificate| certificate.facts());
    let options = entry_point.tls.options_for(host);
    CertificateChoice {
        names: facts.map(|facts| facts.names.clone()).unwrap_or_default(),
        issuer: facts
            .map(|facts| facts.issuer_common_name.clone())
            .unwrap_or_default(),
        not_after: facts.map(|facts| date(facts.not_after)).unwrap_or_default(),
        default: !certificates.covers(name, None),
        options: options.map(ToString::to_string).unwrap_or_default(),
        refused: options.err().map(refusal),
    }
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnrecognizedName => {
            "there is no certificate for this host, and `sniStrict` is on".to_owned()
        }
        Refusal::Options(name) => format!("the TLS options `{name}` cannot be used"),
    }
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.to_string())
        .unwrap_or_default()
}

/// What becomes of a request for this (host, path).
fn answer(
    entry_point: &EntryPoint,
    (host, path): (&str, &str),
    route: Option<&Arc<Route>>,
    way: Option<&Way>,
) -> String {
    let (Some(route), Some(way)) = (route, way) else {
        return "404 page not found: no router matches".to_owned();
    };
    if route.denied.occurs_in(path) {
        return "400: the path holds an escape that the entry point refuses".to_owned();
    }
    if let Some(wanted) = &route.tls_options
        && let Ok(got) = entry_point.tls.options_for(host)
        && got != wanted
    {
        return format!(
            "421: connections for this host have the TLS options `{got}`, the router wants `{wanted}`"
        );
    }
    match &route.target {
        RouteTarget::Internal(_) => format!("Portway answers itself ({})", way.service),
        RouteTarget::Service(service) => from_service(service, way),
        RouteTarget::Group(group) => from_group(group),
    }
}

fn from_service(service: &Service, way: &Way) -> String {
    let name = &service.name;
    match way.servers.len() {
        0 => format!("503: the service {name} has no servers"),
        _ if way
            .servers
            .iter()
            .all(|server| server.state.as_deref() == Some("down")) =>
        {
            format!("503: every server of {name} is down")
        }
        1 => format!("comes from the server of {name}, unless a middleware answers first"),
        several => format!(
            "comes from one of the {several} servers of {name}, unless a middleware answers first"
        ),
    }
}

fn from_group(group: &Group) -> String {
    match group.up() {
        true => format!("comes from a service of {}", group.name),
        false => format!("503: every service of {} is down", group.name),
    }
}
