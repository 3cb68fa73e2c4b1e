//! The files of a project, put together: `-f` after `-f`, `include`, `extends`.

use std::path::{Path, PathBuf};

use super::dotenv;
use super::interpolate::Variables;
use super::normal::{Tag, Tags, drop_reset, get, join, merge, normalize, scalar_text};
use crate::config::{
    Diagnostic, Place,
    tree::{Node, Value, read_text, read_yaml},
};

/// Reads the files of a project.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) findings: Vec<Diagnostic>,
    tags: Tags,
    read: usize,
    /// Files that include each other, outermost first.
    including: Vec<PathBuf>,
}

/// A file that is being read, and what it is read with.
struct Site<'a> {
    path: &'a Path,
    base: &'a Path,
}

/// Where a service that extends another looks for it.
struct Around<'a> {
    root: &'a Node,
    /// The files before this one.
    earlier: Option<&'a Node>,
    site: &'a Site<'a>,
}

/// A service, and the file it stands in.
type Link = (PathBuf, String);

impl Reader {
    /// The project that `files` describe together, whose relative paths begin at `base`. Nothing if one of them cannot be read.
    pub(super) fn project(
        &mut self,
        files: &[PathBuf],
        base: &Path,
        variables: &mut Variables,
    ) -> Option<Node> {
        let mut whole: Option<Node> = None;
        for path in files {
            let site = Site { path, base };
            let mut root = self.file(&site, &Place::whole_file(shown(path)), variables)?;
            self.extend_all(&mut root, whole.as_ref(), &site, variables);
            let root = self.with_included(root, &site, variables);
            match &mut whole {
                Some(whole) => merge(whole, root, &self.tags),
                None => whole = Some(root),
            }
        }
        if let Some(whole) = &mut whole {
            drop_reset(whole, &self.tags);
        }
        whole
    }

    /// One file in normal form. `asked` is who wants it.
    fn file(&mut self, site: &Site<'_>, asked: &Place, variables: &mut Variables) -> Option<Node> {
        self.read += 1;
        if self.read > MOST_FILES {
            let message = format!("more than {MOST_FILES} files are read");
            self.fail(asked.clone(), "", message);
            return None;
        }
        let text = self.text(site.path, asked)?;
        let (mut parsed, tags) = read_yaml(&shown(site.path), &text);
        self.tags
            .extend(tags.into_iter().filter_map(|(place, tag)| {
                let tag = match &*tag {
                    "reset" => Tag::Reset,
                    "override" => Tag::Override,
                    _ => return None,
                };
                Some((place, tag))
            }));
        self.findings.append(&mut parsed.diagnostics);
        let mut root = parsed.root?;
        variables.replace_in(&mut root, &mut self.findings);
        normalize(&mut root, site.base);
        Some(root)
    }

    pub(super) fn text(&mut self, path: &Path, asked: &Place) -> Option<String> {
        let size = std::fs::metadata(path).map_or(0, |found| found.len());
        if size > MOST_BYTES {
            let message = format!("is larger than {} MiB", MOST_BYTES / (1024 * 1024));
            let place = Place::whole_file(shown(path));
            let found = Diagnostic::error(place, "", message);
            self.findings.push(found.with_hint("is it a Compose file?"));
            return None;
        }
        let name = shown(path);
        let mut wrong = match read_text(path, &name) {
            Ok(text) => return Some(text),
            Err(wrong) => wrong,
        };
        if *asked != Place::whole_file(name.clone()) {
            wrong.message = format!("{name} {}", wrong.message);
            wrong.place = asked.clone();
        }
        self.findings.push(wrong);
        None
    }

    /// Brings in what `include` names; the including file has the last word.
    fn with_included(
        &mut self,
        mut root: Node,
        site: &Site<'_>,
        variables: &mut Variables,
    ) -> Node {
        let wanted = match get(&root, "include").map(|include| &include.value) {
            Some(Value::List(items)) => items.clone(),
            _ => return root,
        };
        if self.including.iter().any(|open| open == site.path) {
            return root;
        }
        self.including.push(site.path.to_owned());
        let mut whole = Node {
            value: Value::map(Vec::new()),
            ..root.clone()
        };
        for include in &wanted {
            if let Some(included) = self.included(include, site, variables) {
                merge(&mut whole, included, &self.tags);
            }
        }
        self.including.pop();
        if let Value::Map { children, .. } = &mut root.value {
            children.retain(|child| &*child.name != "include");
        }
        merge(&mut whole, root, &self.tags);
        whole
    }

    fn included(
        &mut self,
        include: &Node,
        site: &Site<'_>,
        variables: &mut Variables,
    ) -> Option<Node> {
        let paths = match texts(include) {
            paths if !paths.is_empty() => paths,
            _ => texts(get(include, "path")?),
        };
        let first = paths.first()?;
        if first.contains("://") || first.starts_with("git@") {
            let message = format!("{first} is elsewhere and not followed");
            let found = Diagnostic::warning(include.place.clone(), "include", message);
            self.findings.push(found);
            return None;
        }
        let files: Vec<PathBuf> = paths.iter().map(|path| join(site.base, path)).collect();
        if let Some(again) = files.iter().find(|file| self.including.contains(file)) {
            let chain: Vec<String> = self.including.iter().map(|path| shown(path)).collect();
            let message = format!(
                "includes itself: {} -> {}",
                chain.join(" -> "),
                shown(again)
            );
            self.fail(include.place.clone(), "include", message);
            return None;
        }
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            let message = format!("there is no file {}", shown(missing));
            self.fail(include.place.clone(), "include", message);
            return None;
        }
        let base = match get(include, "project_directory").and_then(Node::text) {
            Some(directory) => join(site.base, directory),
            None => files[0]
                .parent()
                .unwrap_or_else(|| Path::new(""))
                .to_owned(),
        };
        let mut own = variables.clone();
        let named = get(include, "env_file").map(texts).unwrap_or_default();
        match named.is_empty() {
            true => self.default_variables(&base, &mut own),
            false => {
                for file in named {
                    self.variables(&join(site.base, &file), &include.place, &mut own);
                }
            }
        }
        let project = self.project(&files, &base, &mut own);
        variables.note_unset_of(own);
        project
    }

    /// The variables of `.env` in a directory, if it is there.
    pub(super) fn default_variables(&mut self, base: &Path, variables: &mut Variables) {
        let path = base.join(".env");
        if path.is_file() {
            let place = Place::whole_file(shown(&path));
            self.variables(&path, &place, variables);
        }
    }

    /// The variables of a file, beside those that are set already.
    pub(super) fn variables(&mut self, path: &Path, asked: &Place, variables: &mut Variables) {
        if let Some(text) = self.text(path, asked) {
            let lines = dotenv::parse(&shown(path), &text, variables, &mut self.findings);
            // Within a file the later line counts.
            let lines = lines.into_iter().rev();
            variables.add(lines.map(|line| (line.name, line.value)));
        }
    }

    fn extend_all(
        &mut self,
        root: &mut Node,
        earlier: Option<&Node>,
        site: &Site<'_>,
        variables: &mut Variables,
    ) {
        let names: Vec<String> = services(root)
            .iter()
            .filter(|service| get(service, "extends").is_some())
            .map(|service| service.name.to_string())
            .collect();
        for name in names {
            let Some(service) = find(root, &name).cloned() else {
                continue;
            };
            let mut chain = vec![(site.path.to_owned(), name.clone())];
            let around = Around {
                root,
                earlier,
                site,
            };
            let extended = self.extended(service, &around, &mut chain, variables);
            let services = root_services(root);
            if let Some(old) = services.iter_mut().find(|old| *old.name == *name) {
                *old = extended;
            }
        }
    }

    /// A service on top of what it extends.
    fn extended(
        &mut self,
        mut service: Node,
        around: &Around<'_>,
        chain: &mut Vec<Link>,
        variables: &mut Variables,
    ) -> Node {
        let Some(extends) = take(&mut service, "extends") else {
            return service;
        };
        let named = extends.text().or_else(|| get(&extends, "service")?.text());
        let Some(name) = named.map(str::to_owned) else {
            self.fail(extends.place.clone(), "extends", "names no service");
            return service;
        };
        let file = get(&extends, "file").and_then(Node::text);
        let path = file.map_or_else(
            || around.site.path.to_owned(),
            |file| join(around.site.base, file),
        );
        let link = (path.clone(), name.clone());
        if chain.contains(&link) {
            let names: Vec<&str> = chain.iter().map(|(_, name)| name.as_str()).collect();
            let message = format!("extends itself: {} -> {name}", names.join(" -> "));
            self.fail(extends.place.clone(), "extends", message);
            return service;
        }
        chain.push(link);
        let under = match file {
            Some(_) => self.extended_elsewhere((&path, &name), &extends, chain, variables),
            None => {
                let found = find(around.root, &name).or_else(|| find(around.earlier?, &name));
                found
                    .cloned()
                    .map(|found| self.extended(found, around, chain, variables))
                    .or_else(|| self.no_service(&name, &path, &extends))
            }
        };
        let Some(mut under) = under else {
            return service;
        };
        under.name = service.name.clone();
        under.key = service.key.clone();
        merge(&mut under, service, &self.tags);
        under
    }

    /// A service of another file, on top of what it extends there.
    fn extended_elsewhere(
        &mut self,
        (path, name): (&Path, &str),
        extends: &Node,
        chain: &mut Vec<Link>,
        variables: &mut Variables,
    ) -> Option<Node> {
        let site = Site {
            path,
            base: path.parent().unwrap_or_else(|| Path::new("")),
        };
        let root = self.file(&site, &extends.place, variables)?;
        let Some(found) = find(&root, name).cloned() else {
            return self.no_service(name, path, extends);
        };
        let around = Around {
            root: &root,
            earlier: None,
            site: &site,
        };
        Some(self.extended(found, &around, chain, variables))
    }

    fn no_service(&mut self, name: &str, path: &Path, extends: &Node) -> Option<Node> {
        let message = format!("there is no service `{name}` in {}", shown(path));
        self.fail(extends.place.clone(), "extends", message);
        None
    }

    fn fail(&mut self, place: Place, path: &str, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(place, path, message));
    }
}

/// One text or a list of them.
fn texts(node: &Node) -> Vec<String> {
    match &node.value {
        Value::List(items) => items.iter().filter_map(scalar_text).collect(),
        _ => scalar_text(node).into_iter().collect(),
    }
}

pub(super) fn services(root: &Node) -> &[Node] {
    get(root, "services").map_or(&[], Node::children)
}

fn find<'n>(root: &'n Node, name: &str) -> Option<&'n Node> {
    services(root).iter().find(|service| *service.name == *name)
}

fn root_services(root: &mut Node) -> &mut [Node] {
    let Value::Map { children, .. } = &mut root.value else {
        return &mut [];
    };
    let services = children.iter_mut().find(|child| &*child.name == "services");
    match services.map(|services| &mut services.value) {
        Some(Value::Map { children, .. }) => children,
        _ => &mut [],
    }
}

fn take(node: &mut Node, name: &str) -> Option<Node> {
    let Value::Map { children, .. } = &mut node.value else {
        return None;
    };
    let index = children.iter().position(|child| &*child.name == name)?;
    Some(children.remove(index))
}

/// A path as messages name it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A Compose file of this size was not written for people.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// Files of one project: each may name others.
const MOST_FILES: usize = 200;
