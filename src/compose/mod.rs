//! Reads Compose files as Compose does: variables, several files, `include`, `extends`, anchors, profiles. Every value keeps the
//! place where it was written. Starts nothing and asks no engine.

mod dotenv;
mod files;
mod interpolate;
mod normal;
mod service;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use self::files::{Reader, services, shown};
use self::interpolate::Variables;
pub use self::service::{Mount, Pair, Service, Source, Text};
use self::service::{Project as Frame, put_missing};
use crate::config::{
    Diagnostic, Place,
    tree::{Node, Value},
};

/// A project: everything that its files say together.
#[derive(Debug, Clone, Default)]
pub struct Project {
    pub name: String,
    /// In the order of the files.
    pub services: Vec<Service>,
    /// What is wrong with the files, as far as Compose would say so too.
    pub diagnostics: Vec<Diagnostic>,
}

/// What to read, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `-f`, in order.
    pub files: &'a [PathBuf],
    /// `--env-file`, in order; `.env` beside the first file if there are none.
    pub env_files: &'a [PathBuf],
    /// `--profile`.
    pub profiles: &'a [String],
    /// The environment of the process.
    pub environment: &'a [(String, String)],
}

impl Project {
    /// Reads a project. What cannot be read is left out and said.
    pub fn read(wanted: &Wanted<'_>) -> Self {
        let mut reader = Reader::default();
        let base = wanted.files.first().and_then(|file| file.parent());
        let base = base.unwrap_or_else(|| Path::new(""));
        let mut variables = Variables::default();
        variables.add(wanted.environment.iter().cloned());
        match wanted.env_files {
            [] => reader.default_variables(base, &mut variables),
            files => {
                // Of two files that set a variable the later counts.
                for file in files.iter().rev() {
                    reader.variables(file, &Place::whole_file(shown(file)), &mut variables);
                }
            }
        }
        let profiles = profiles(wanted.profiles, &variables);
        let root = reader.project(wanted.files, base, &mut variables);
        let name = name(root.as_ref(), base, &variables);
        let mut project = Self {
            name,
            ..Self::default()
        };
        if let Some(root) = root {
            project.take_services(&root, &profiles, &mut reader, &variables);
        }
        reader.findings.extend(variables.findings());
        reader.findings.sort_by(|a, b| a.place.cmp(&b.place));
        reader.findings.dedup();
        project.diagnostics = reader.findings;
        project
    }

    fn take_services(
        &mut self,
        root: &Node,
        profiles: &[String],
        reader: &mut Reader,
        variables: &Variables,
    ) {
        let frame = Frame {
            root,
            name: &self.name,
            profiles,
        };
        let all = services(root);
        if all.is_empty() {
            let place = root.place.clone();
            let found = Diagnostic::error(place, "", "holds no services");
            reader
                .findings
                .push(found.with_hint("is it a Compose file?"));
        }
        self.services = all
            .iter()
            .map(|node| {
                let mut service = Service::of(node, &frame);
                for (option, pairs) in [
                    ("label_file", &mut service.labels),
                    ("env_file", &mut service.environment),
                ] {
                    put_missing(pairs, reader.pairs_of(node, option, variables).into_iter());
                }
                service
            })
            .collect();
    }
}

impl Reader {
    /// What the files say that an option of a service names.
    fn pairs_of(&mut self, service: &Node, option: &str, variables: &Variables) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let named = normal::get(service, option).map(|files| &files.value);
        let Some(Value::List(files)) = named else {
            return pairs;
        };
        for file in files {
            let Some(path) = normal::get(file, "path").and_then(Node::text) else {
                continue;
            };
            let required = normal::get(file, "required").and_then(Node::text) != Some("false");
            let path = PathBuf::from(path);
            if !required && !path.exists() {
                continue;
            }
            let Some(text) = self.text(&path, &file.place) else {
                continue;
            };
            let lines = dotenv::parse(&shown(&path), &text, variables, &mut self.findings);
            pairs.extend(lines.into_iter().map(|line| Pair {
                name: line.name,
                value: line.value,
                key: line.place.clone(),
                place: line.place,
            }));
        }
        pairs
    }
}

fn profiles(wanted: &[String], variables: &Variables) -> Vec<String> {
    if !wanted.is_empty() {
        return wanted.to_vec();
    }
    let named = variables.get("COMPOSE_PROFILES").unwrap_or_default();
    let names = named.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The project's name: the environment's, the file's, the directory's.
fn name(root: Option<&Node>, base: &Path, variables: &Variables) -> String {
    let written = root.and_then(|root| normal::get(root, "name")?.text());
    let name = variables.get("COMPOSE_PROJECT_NAME").or(written);
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let base = if base.as_os_str().is_empty() {
        Path::new(".")
    } else {
        base
    };
    let directory = base.canonicalize().unwrap_or_default();
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = name.to_lowercase().chars().filter(allowed).collect();
    name.trim_start_matches(['_', '-']).to_owned()
}
