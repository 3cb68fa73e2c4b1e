//! The findings about a stack, service by service, for people and as JSON.

use std::{collections::BTreeMap, process::ExitCode};

use serde_json::{Value, json};

use super::{
    hosts::{self, Host},
    stack::{Group, Stack},
    state::{Entry, State},
};
use crate::{
    cli::{offline::counted, say},
    config::{Diagnostic, Severity},
};

/// Prints everything; whether there are errors decides how the process ends.
pub(super) fn print(stack: &Stack<'_>, json: bool) -> ExitCode {
    match json {
        true => say(&as_json(stack).to_string()),
        false => say(&text(stack)),
    };
    match stack.findings().any(Diagnostic::is_error) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn text(stack: &Stack<'_>) -> String {
    let mut lines = Vec::new();
    for group in &stack.groups {
        let entries: Vec<String> = shown(group).flat_map(entry_lines).collect();
        if entries.is_empty() && group.findings.is_empty() && !group.is_edge {
            continue;
        }
        lines.push(heading(group));
        lines.extend(entries.iter().map(|line| format!("  {line}")));
        lines.extend(group.findings.iter().map(|found| format!("  {found}")));
        lines.push(String::new());
    }
    if !stack.rest.is_empty() {
        lines.extend(stack.rest.iter().map(ToString::to_string));
        lines.push(String::new());
    }
    let hosts = hosts::lines(&stack.hosts);
    if !hosts.is_empty() {
        lines.extend(hosts);
        lines.push(String::new());
    }
    let labels = stack.groups.iter().flat_map(|group| &group.labels);
    lines.push(summary("label", labels.filter(|entry| entry.counts())));
    let mut options = stack
        .groups
        .iter()
        .flat_map(|group| &group.options)
        .peekable();
    if options.peek().is_some() {
        lines.push(summary("option", options));
    }
    let count = |severity| {
        let of_it = stack.findings().filter(|found| found.severity == severity);
        of_it.count()
    };
    lines.push(format!(
        "{}, {}",
        counted(count(Severity::Error), "error"),
        counted(count(Severity::Warning), "warning")
    ));
    lines.join("\n")
}

fn heading(group: &Group<'_>) -> String {
    let service = group.service;
    let mut about = Vec::new();
    if group.is_edge {
        about.push("the edge".to_owned());
    }
    if service.replicas != 1 {
        about.push(counted(service.replicas, "replica"));
    }
    if !service.enabled {
        let profiles = service.profiles.join(", ");
        about.push(format!("not started without --profile {profiles}"));
    }
    match about.is_empty() {
        true => format!("{}:", service.name),
        false => format!("{} ({}):", service.name, about.join(", ")),
    }
}

/// What is worth a line, in the order of the files.
fn shown<'g, 'p>(group: &'g Group<'p>) -> impl Iterator<Item = &'g Entry<'p>> {
    let mut entries: Vec<&Entry<'_>> = group
        .options
        .iter()
        .chain(&group.labels)
        .filter(|entry| entry.counts())
        .collect();
    entries.sort_by(|a, b| a.place().cmp(b.place()));
    entries.into_iter()
}

fn entry_lines(entry: &Entry<'_>) -> Vec<String> {
    let start = format!(
        "{}: {}: {}",
        entry.place(),
        entry.state().name(),
        entry.name
    );
    let remarks = entry.remarks();
    match remarks.is_empty() {
        true => vec![start],
        false => remarks
            .iter()
            .map(|remark| format!("{start}: {remark}"))
            .collect(),
    }
}

/// `4 labels: 3 supported, 1 different, 0 not yet supported, 0 unknown`, and how many are wrong if any are.
fn summary<'e, 'p: 'e>(what: &str, entries: impl Iterator<Item = &'e Entry<'p>>) -> String {
    let mut counts: BTreeMap<State, usize> = BTreeMap::new();
    for entry in entries {
        *counts.entry(entry.state()).or_default() += 1;
    }
    let parts: Vec<String> = State::ALL
        .iter()
        .map(|state| (state, counts.get(state).copied().unwrap_or(0)))
        .filter(|(state, count)| **state != State::Wrong || *count > 0)
        .map(|(state, count)| format!("{count} {}", state.name()))
        .collect();
    let all = counted(counts.values().sum(), what);
    format!("{all}: {}", parts.join(", "))
}

fn as_json(stack: &Stack<'_>) -> Value {
    let entries = |entries: &[Entry<'_>]| -> Vec<Value> {
        let counted = entries.iter().filter(|entry| entry.counts());
        counted
            .map(|entry| {
                json!({
                    "name": entry.name,
                    "place": entry.place(),
                    "state": entry.state().name(),
                    "remarks": entry.remarks(),
                })
            })
            .collect()
    };
    let services: Vec<Value> = stack
        .groups
        .iter()
        .map(|group| {
            json!({
                "name": group.service.name,
                "edge": group.is_edge,
                "replicas": group.service.replicas,
                "enabled": group.service.enabled,
                "labels": entries(&group.labels),
                "options": entries(&group.options),
                "findings": group.findings,
            })
        })
        .collect();
    let hosts: Vec<Value> = stack.hosts.iter().map(Host::as_json).collect();
    json!({ "services": services, "certificates": hosts, "findings": stack.rest })
}
