//! Entry points, routers, services and middlewares as the API shows them.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Api,
    list::Item,
    redact::{redact, shown},
};
use crate::{
    config::{Diagnostic, Severity},
    observe::clock_text,
    snapshot::catalog::{ServerEntry, Status},
};

/// How much of an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Under its own path: with its name and what follows from it.
    Full,
    /// In `/api/rawdata`, where the name is the key.
    Raw,
}

impl Api<'_> {
    pub(super) fn entry_points(&self) -> Vec<Item> {
        let names = self.admin.install.entry_points.keys();
        let items = names.filter_map(|name| {
            Some(Item {
                object: self.entry_point(name)?,
                ..Item::new(name)
            })
        });
        items.collect()
    }

    pub(super) fn entry_point(&self, name: &str) -> Option<Value> {
        let mut object = fields(self.admin.install.entry_points.get(name)?);
        object.insert("name".to_owned(), name.into());
        Some(Value::Object(object))
    }

    pub(super) fn routers(&self) -> Vec<Item> {
        let items = self.catalog.routers.iter().filter_map(|(name, entry)| {
            let object = self.router(name, Detail::Full)?;
            let service = object
                .get("service")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let rule = object
                .get("rule")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            Some(Item {
                search: vec![name.to_string(), rule],
                services: vec![qualified(&service, name), service],
                lengths: vec![("entryPoints", entry.entry_points.len())],
                object,
                ..Item::new(name)
            })
        });
        items.collect()
    }

    pub(super) fn router(&self, name: &str, detail: Detail) -> Option<Value> {
        let entry = self.catalog.routers.get(name)?;
        let written_as = entry.written_as.as_deref().unwrap_or(name);
        let written = self
            .catalog
            .routing
            .http
            .routers
            .get(written_as)
            .map(fields)
            .unwrap_or_default();
        let mut object = Map::new();
        put_names(&mut object, "entryPoints", &entry.entry_points);
        put_names(&mut object, "middlewares", &entry.middlewares);
        for option in ["service", "rule", "parentRefs", "ruleSyntax"] {
            if let Some(value) = written.get(option) {
                object.insert(option.to_owned(), value.clone());
            }
        }
        if let Some(syntax) = entry.rule_syntax {
            object.insert("ruleSyntax".to_owned(), syntax.into());
        }
        if entry.priority != 0 {
            object.insert("priority".to_owned(), entry.priority.into());
        }
        if let Some(options) = &entry.tls_options {
            let mut tls = Map::from_iter([("options".to_owned(), Value::from(&**options))]);
            if let Some(Value::Object(written)) = written.get("tls") {
                tls.extend(
                    written
                        .iter()
                        .filter(|(name, _)| *name != "options")
                        .map(|(name, value)| (name.clone(), value.clone())),
                );
            }
            object.insert("tls".to_owned(), Value::Object(tls));
        }
        object.insert("observability".to_owned(), json!(entry.observability));
        put_findings(&mut object, entry.status, &entry.diagnostics);
        put_names(&mut object, "using", &entry.using);
        if detail == Detail::Full {
            put_name(&mut object, name);
            object.insert("priorityStr".to_owned(), entry.priority.to_string().into());
            if !entry.steps.is_empty() {
                let steps = entry.steps.iter().map(|name| self.step(name));
                object.insert("plan".to_owned(), steps.collect());
            }
        }
        put_diagnostics(&mut object, &entry.diagnostics);
        Some(Value::Object(object))
    }

    /// A step of a router's plan, with the options that hold.
    fn step(&self, name: &str) -> Value {
        let written = self.catalog.routing.http.middlewares.get(name);
        let options = written.map(redacted).unwrap_or_default();
        match options.into_iter().next() {
            Some((kind, options)) => {
                json!({"name": name, "type": kind.to_lowercase(), "options": options})
            }
            None => json!({"name": name}),
        }
    }

    pub(super) fn services(&self) -> Vec<Item> {
        let items = self.catalog.services.keys().filter_map(|name| {
            let object = self.service(name, Detail::Full)?;
            let servers = object
                .pointer("/loadBalancer/servers")
                .and_then(Value::as_array);
            Some(Item {
                lengths: vec![("servers", servers.map_or(0, Vec::len))],
                object,
                ..Item::new(name)
            })
        });
        items.collect()
    }

    pub(super) fn service(&self, name: &str, detail: Detail) -> Option<Value> {
        let entry = self.catalog.services.get(name)?;
        let written = self.catalog.routing.http.services.get(name);
        let mut object = written.map(redacted).unwrap_or_default();
        put_findings(&mut object, entry.status, &entry.diagnostics);
        put_names(&mut object, "usedBy", &entry.used_by);
        if detail == Detail::Full {
            put_name(&mut object, name);
            if let Some(service) = written {
                object.insert("type".to_owned(), service.kind.name().to_lowercase().into());
            }
        }
        if !entry.servers.is_empty() {
            object.insert("serverStatus".to_owned(), server_status(&entry.servers));
            let servers = entry.servers.iter().map(server);
            object.insert("servers".to_owned(), servers.collect());
        }
        put_diagnostics(&mut object, &entry.diagnostics);
        Some(Value::Object(object))
    }

    pub(super) fn middlewares(&self) -> Vec<Item> {
        let items = self.catalog.middlewares.keys().filter_map(|name| {
            Some(Item {
                object: self.middleware(name, Detail::Full)?,
                ..Item::new(name)
            })
        });
        items.collect()
    }

    pub(super) fn middleware(&self, name: &str, detail: Detail) -> Option<Value> {
        let entry = self.catalog.middlewares.get(name)?;
        let written = self.catalog.routing.http.middlewares.get(name);
        let mut object = written.map(redacted).unwrap_or_default();
        if let Some(members) = object
            .get_mut("chain")
            .and_then(|it| it.get_mut("middlewares"))
        {
            qualify_all(members, name);
        }
        let kind = object.keys().next().map(|kind| kind.to_lowercase());
        put_findings(&mut object, entry.status, &entry.diagnostics);
        put_names(&mut object, "usedBy", &entry.used_by);
        if !entry.circuits.is_empty() {
            let circuits = entry.circuits.iter();
            let states = circuits.map(|it| (it.router.to_string(), Value::from(it.state())));
            object.insert("circuits".to_owned(), Value::Object(states.collect()));
        }
        if detail == Detail::Full {
            put_name(&mut object, name);
            if let Some(kind) = kind {
                object.insert("type".to_owned(), kind.into());
            }
        }
        put_diagnostics(&mut object, &entry.diagnostics);
        Some(Value::Object(object))
    }
}

/// The options of a configured object.
fn fields(config: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        // Configured objects are maps with string keys, so there is no other case.
        _ => Map::new(),
    }
}

fn redacted(config: &impl Serialize) -> Map<String, Value> {
    let mut config = Value::Object(fields(config));
    redact(&mut config);
    match config {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn put_names(object: &mut Map<String, Value>, key: &str, names: &[Arc<str>]) {
    if !names.is_empty() {
        let names = names.iter().map(|name| Value::from(&**name));
        object.insert(key.to_owned(), names.collect());
    }
}

/// Name and provider.
fn put_name(object: &mut Map<String, Value>, name: &str) {
    object.insert("name".to_owned(), name.into());
    object.insert("provider".to_owned(), provider(name).into());
}

/// Status, and the messages of what is wrong.
fn put_findings(object: &mut Map<String, Value>, status: Status, diagnostics: &[Diagnostic]) {
    let wrong = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity > Severity::Info);
    let errors: Vec<Value> = wrong
        .map(|diagnostic| diagnostic.message.clone().into())
        .collect();
    if !errors.is_empty() {
        object.insert("error".to_owned(), errors.into());
    }
    object.insert("status".to_owned(), status.as_str().into());
}

/// The findings with their places and hints, which Traefik does not have.
fn put_diagnostics(object: &mut Map<String, Value>, diagnostics: &[Diagnostic]) {
    if !diagnostics.is_empty() {
        object.insert("diagnostics".to_owned(), json!(diagnostics));
    }
}

/// `UP` or `DOWN` by URL. A URL with several addresses is up while one of them is.
fn server_status(servers: &[ServerEntry]) -> Value {
    let mut up: BTreeMap<&str, bool> = BTreeMap::new();
    for server in servers {
        *up.entry(&server.url).or_default() |= server.view.state().up;
    }
    let statuses = up
        .into_iter()
        .map(|(url, up)| (shown(url), Value::from(if up { "UP" } else { "DOWN" })));
    Value::Object(statuses.collect())
}

fn server(server: &ServerEntry) -> Value {
    let state = server.view.state();
    let mut object = json!({
        "url": shown(&server.url),
        "status": if state.up { "UP" } else { "DOWN" },
        "reason": state.reason,
        "since": clock_text(state.since),
        "inFlight": state.in_flight,
    });
    if let Value::Object(fields) = &mut object {
        if let Some(address) = &server.address {
            fields.insert("address".to_owned(), Value::from(&**address));
        }
        if let Some(detail) = state.detail {
            fields.insert("detail".to_owned(), detail.into());
        }
    }
    object
}

fn provider(name: &str) -> &str {
    name.rsplit_once('@').map_or("", |(_, provider)| provider)
}

/// The names in a list, as seen from an object called `name`.
fn qualify_all(names: &mut Value, name: &str) {
    for member in names.as_array_mut().into_iter().flatten() {
        if let Value::String(text) = member {
            *text = qualified(text, name);
        }
    }
}

/// `service` as seen from an object called `name`.
fn qualified(service: &str, name: &str) -> String {
    if service.contains('@') {
        return service.to_owned();
    }
    format!("{service}@{}", provider(name))
}
