//! `/api`: the configuration in use as JSON, in Traefik's shapes with additions at their ends.
//!
//! Only reading is possible. Passwords, password hashes and the like are never shown, which Traefik does.

pub(super) mod certificates;
mod dump;
mod explain;
mod list;
mod objects;
mod query;
pub(super) mod redact;

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

pub use self::explain::{ExplainRequest, Explainer};
use self::{objects::Detail, query::Query};
use super::{Admin, Catalog, Status};
use crate::{
    exchange::{
        Body, RequestHead, Response,
        fault::{not_found, text_response},
    },
    observe::{clock_text, json},
};

/// Answers a request for the API.
pub(super) fn answer(
    admin: &Admin,
    request: &RequestHead,
    catalog: &Catalog,
    explainer: Option<&dyn Explainer>,
) -> Response {
    let Some(path) = below_base(admin, request.target.path()) else {
        return not_found();
    };
    let segments: Option<Vec<String>> = path.split('/').map(decoded).collect();
    let Some(segments) = segments else {
        return not_found();
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let Some(endpoint) = Endpoint::of(&segments) else {
        return not_found();
    };
    if request.method != Method::GET {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let query = Query::parse(request.target.query().unwrap_or_default());
    let answer = Api {
        admin,
        catalog,
        query: &query,
    };
    answer.answer(&endpoint, explainer)
}

/// The path behind `<basePath>/api/`.
fn below_base<'a>(admin: &Admin, path: &'a str) -> Option<&'a str> {
    let base = admin
        .install
        .api
        .as_ref()
        .map_or("/", |api| &*api.base_path);
    path.strip_prefix(base.trim_end_matches('/'))?
        .strip_prefix("/api/")
}

fn decoded(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    Some(text.into_owned())
}

/// What can be asked for.
enum Endpoint<'a> {
    Overview,
    Version,
    RawData,
    SupportDump,
    Diagnostics,
    Explain,
    EntryPoints,
    EntryPoint(&'a str),
    Routers,
    Router(&'a str),
    Services,
    Service(&'a str),
    Middlewares,
    Middleware(&'a str),
    Certificates,
    Certificate(&'a str),
    /// A list that is always empty, and what one of its objects is called.
    Nothing,
    NoObject(&'static str, &'a str),
}

impl<'a> Endpoint<'a> {
    fn of(segments: &[&'a str]) -> Option<Self> {
        Some(match *segments {
            [.., ""] => return None,
            ["overview"] => Self::Overview,
            ["version"] => Self::Version,
            ["rawdata"] => Self::RawData,
            ["support-dump"] => Self::SupportDump,
            ["diagnostics"] => Self::Diagnostics,
            ["explain"] => Self::Explain,
            ["entrypoints"] => Self::EntryPoints,
            ["entrypoints", name] => Self::EntryPoint(name),
            ["http", "routers"] => Self::Routers,
            ["http", "routers", name] => Self::Router(name),
            ["http", "services"] => Self::Services,
            ["http", "services", name] => Self::Service(name),
            ["http", "middlewares"] => Self::Middlewares,
            ["http", "middlewares", name] => Self::Middleware(name),
            ["certificates"] => Self::Certificates,
            ["certificates", name] => Self::Certificate(name),
            ["tcp", "routers" | "services" | "middlewares"] | ["udp", "routers" | "services"] => {
                Self::Nothing
            }
            ["tcp" | "udp", "routers", name] => Self::NoObject("router", name),
            ["tcp" | "udp", "services", name] => Self::NoObject("service", name),
            ["tcp", "middlewares", name] => Self::NoObject("middleware", name),
            _ => return None,
        })
    }
}

/// A request being answered.
struct Api<'a> {
    admin: &'a Admin,
    catalog: &'a Catalog,
    query: &'a Query,
}

impl Api<'_> {
    fn answer(&self, endpoint: &Endpoint<'_>, explainer: Option<&dyn Explainer>) -> Response {
        match endpoint {
            Endpoint::Overview => ok(&self.overview()),
            Endpoint::Version => self.version(),
            Endpoint::RawData => ok(&self.raw_data()),
            Endpoint::SupportDump => self.dump(),
            Endpoint::Diagnostics => ok(&self.diagnostics()),
            Endpoint::Explain => match explainer {
                Some(explainer) => explain::answer(self.query, explainer),
                None => not_found(),
            },
            Endpoint::EntryPoints => self.list(self.entry_points()),
            Endpoint::EntryPoint(name) => one(self.entry_point(name), "entry point", name),
            Endpoint::Routers => self.list(self.routers()),
            Endpoint::Router(name) => one(self.router(name, Detail::Full), "router", name),
            Endpoint::Services => self.list(self.services()),
            Endpoint::Service(name) => one(self.service(name, Detail::Full), "service", name),
            Endpoint::Middlewares => self.list(self.middlewares()),
            Endpoint::Middleware(name) => {
                one(self.middleware(name, Detail::Full), "middleware", name)
            }
            Endpoint::Certificates => self.list(self.certificates()),
            Endpoint::Certificate(name) => one(self.certificate(name), "certificate", name),
            Endpoint::Nothing => self.list(Vec::new()),
            Endpoint::NoObject(kind, name) => one(None, kind, name),
        }
    }

    fn overview(&self) -> Value {
        let catalog = self.catalog;
        let nothing = || json!({"total": 0, "warnings": 0, "errors": 0});
        let install = &self.admin.install;
        let metrics = match (&install.metrics.prometheus, &install.metrics.otlp) {
            (Some(_), _) => "Prometheus",
            (None, Some(_)) => "OTLP",
            (None, None) => "",
        };
        let mut overview = json!({
            "http": {
                "routers": counts(catalog.routers.values().map(|entry| entry.status)),
                "services": counts(catalog.services.values().map(|entry| entry.status)),
                "middlewares": counts(catalog.middlewares.values().map(|entry| entry.status)),
            },
            "tcp": {"routers": nothing(), "services": nothing(), "middlewares": nothing()},
            "udp": {"routers": nothing(), "services": nothing()},
            "certificates": counts(catalog.certificates.iter().map(certificates::status)),
            "features": {
                "tracing": if install.tracing.is_some() { "OTLP" } else { "" },
                "metrics": metrics,
                "accessLog": self.admin.install.access_log.is_some(),
            },
            "providers": self.providers(),
        });
        let sources = self.sources();
        if let (false, Some(fields)) = (sources.is_empty(), overview.as_object_mut()) {
            fields.insert("sources".to_owned(), Value::Array(sources));
        }
        let resolvers = self.resolvers();
        if let (false, Some(fields)) = (resolvers.is_empty(), overview.as_object_mut()) {
            fields.insert("resolvers".to_owned(), Value::Array(resolvers));
        }
        overview
    }

    /// How the sources of configuration are that may be away.
    fn sources(&self) -> Vec<Value> {
        let states = self.admin.sources.states().into_iter();
        let told = states.map(|(provider, state)| {
            let mut told = json!({"provider": &*provider, "connected": state.connected});
            if let Some(at) = state.last_sync {
                told["lastSync"] = clock_text(at).into();
            }
            if let Some(problem) = state.problem {
                told["error"] = problem.into();
            }
            told
        });
        told.collect()
    }

    fn providers(&self) -> Vec<&'static str> {
        let providers = &self.admin.install.providers;
        let on = [
            (providers.docker.is_some(), "Docker"),
            (providers.swarm.is_some(), "Swarm"),
            (providers.file.is_some(), "File"),
            (providers.http.is_some(), "HTTP"),
        ];
        on.iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| *name)
            .collect()
    }

    /// Without the final newline of the others, and with another content type: that is how Traefik has it.
    fn version(&self) -> Response {
        let mut version = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Codename": "portway",
            "startDate": clock_text(self.admin.started),
        });
        if let (Some(api), Value::Object(fields)) = (&self.admin.install.api, &mut version) {
            if api.disable_dashboard_ad {
                fields.insert("disableDashboardAd".to_owned(), true.into());
            }
            if !api.dashboard_name.is_empty() {
                fields.insert(
                    "dashboardName".to_owned(),
                    api.dashboard_name.clone().into(),
                );
            }
        }
        let mut response = Response::new(Body::from(bytes::Bytes::from(json::to_vec(&version))));
        let kind = HeaderValue::from_static("application/json; charset=UTF-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn raw_data(&self) -> Value {
        let catalog = self.catalog;
        let routers = objects(catalog.routers.keys(), |name| {
            self.router(name, Detail::Raw)
        });
        let middlewares = objects(catalog.middlewares.keys(), |name| {
            self.middleware(name, Detail::Raw)
        });
        let services = objects(catalog.services.keys(), |name| {
            self.service(name, Detail::Raw)
        });
        let kinds = [
            ("routers", routers),
            ("middlewares", middlewares),
            ("services", services),
        ];
        let present = kinds.into_iter().filter(|(_, objects)| !objects.is_empty());
        present
            .map(|(kind, objects)| (kind.to_owned(), Value::Object(objects)))
            .collect()
    }

    /// Everything found in the configuration, worst first.
    fn diagnostics(&self) -> Value {
        let catalog = self.catalog;
        let mut all: Vec<_> = self
            .admin
            .diagnostics
            .iter()
            .chain(&catalog.diagnostics)
            .collect();
        all.extend(
            catalog
                .routers
                .values()
                .flat_map(|entry| &entry.diagnostics),
        );
        all.extend(
            catalog
                .services
                .values()
                .flat_map(|entry| &entry.diagnostics),
        );
        all.extend(
            catalog
                .middlewares
                .values()
                .flat_map(|entry| &entry.diagnostics),
        );
        all.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then_with(|| (&a.place, &a.path).cmp(&(&b.place, &b.path)))
        });
        // What concerns several objects made from one may be found more than once.
        all.dedup();
        json!({"generation": catalog.generation, "diagnostics": all})
    }
}

/// Objects by name.
fn objects<'a>(
    names: impl Iterator<Item = &'a Arc<str>>,
    object: impl Fn(&str) -> Option<Value>,
) -> Map<String, Value> {
    names
        .filter_map(|name| Some((name.to_string(), object(name)?)))
        .collect()
}

fn counts(statuses: impl Iterator<Item = Status>) -> Value {
    let (mut total, mut warnings, mut errors) = (0, 0, 0);
    for status in statuses {
        total += 1;
        match status {
            Status::Enabled => {}
            Status::Warning => warnings += 1,
            Status::Disabled => errors += 1,
        }
    }
    json!({"total": total, "warnings": warnings, "errors": errors})
}

fn one(object: Option<Value>, kind: &str, name: &str) -> Response {
    match object {
        Some(object) => ok(&object),
        None => error(StatusCode::NOT_FOUND, &format!("{kind} not found: {name}")),
    }
}

fn ok(value: &Value) -> Response {
    let mut response = Response::new(body(value));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An error as JSON that calls itself plain text, as Traefik's does.
fn error(status: StatusCode, message: &str) -> Response {
    let mut response = text_response(status, "");
    *response.body_mut() = body(&json!({"message": message}));
    response
}

fn body(value: &Value) -> Body {
    let mut text = json::to_vec(value);
    text.push(b'\n');
    Body::from(bytes::Bytes::from(text))
}

#[cfg(test)]
mod tests;
