//! Finds and loads the install configuration: one file, else the flags, else the environment, as Traefik does.
//!
//! Everything wrong is reported at once. Where Traefik goes on silently (a named file that is not there, a word among the flags),
//! this is an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check;
use super::decode::{decode, did_you_mean};
use super::diagnostic::{About, Diagnostic, Place, Places};
use super::dns::Variables;
use super::env;
use super::flags::{self, Flags};
use super::install::{FieldMode, Install};
use super::removed::take_removed;
use super::routing::INSTALL_SECTIONS;
use super::tree::{Format, Node, Source, Value, parse, read_text};

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The arguments after the command's name.
    pub arguments: &'a [String],
    /// The environment.
    pub environment: &'a [(String, String)],
    /// Paths are relative to this directory.
    pub directory: &'a Path,
    /// Where the files are.
    pub root: Root<'a>,
}

/// Where the files are that an install configuration names.
#[derive(Debug, Clone, Copy)]
pub enum Root<'a> {
    /// Where it says.
    Here,
    /// In a container that sees these files and directories: what it calls them, and what they are called here.
    Mounted(&'a [(PathBuf, PathBuf)]),
}

impl Root<'_> {
    /// What an absolute path of the configuration is called here; nothing for one that is not here.
    pub fn find(&self, path: &Path) -> Option<PathBuf> {
        let Self::Mounted(mounts) = self else {
            return Some(path.to_owned());
        };
        // Of nested mounts the innermost is what one sees.
        let inside = mounts.iter().filter(|(target, _)| path.starts_with(target));
        let (target, here) = inside.max_by_key(|(target, _)| target.components().count())?;
        let rest = path.strip_prefix(target).ok()?;
        Some(match rest.as_os_str().is_empty() {
            true => here.clone(),
            false => here.join(rest),
        })
    }
}

/// The install configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What holds, implicit entry points included.
    pub install: Install,
    /// Where each option was written.
    pub places: Places,
    /// The file it comes from, if it comes from one.
    pub source_file: Option<PathBuf>,
    /// What was found; no errors if it is to be run.
    pub diagnostics: Vec<Diagnostic>,
    /// The environment that it is for: credentials come from there.
    pub environment: Vec<(String, String)>,
}

/// Loads the install configuration; on errors returns everything found.
pub fn load_install(sources: &Sources<'_>) -> Result<Loaded, Vec<Diagnostic>> {
    let loaded = read_install(sources);
    match loaded.diagnostics.iter().any(Diagnostic::is_error) {
        true => Err(loaded.diagnostics),
        false => Ok(loaded),
    }
}

/// Reads as much of the install configuration as can be read. Errors are among the findings; what they are about has its defaults.
pub fn read_install(sources: &Sources<'_>) -> Loaded {
    Search {
        sources,
        system: Path::new("/etc"),
        diagnostics: Vec::new(),
    }
    .load()
}

struct Search<'a> {
    sources: &'a Sources<'a>,
    system: &'a Path,
    diagnostics: Vec<Diagnostic>,
}

/// What kind of source won: they differ in what an unknown section means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    File,
    Flags,
    Environment,
}

impl Search<'_> {
    fn load(mut self) -> Loaded {
        let mut flags = flags::parse(self.sources.arguments);
        self.diagnostics.append(&mut flags.diagnostics);
        let file = self.find_file(&flags);
        let (root, origin) = match &file {
            Some(file) => {
                self.say_what_is_ignored(&flags, &file.name);
                (self.read(file), Origin::File)
            }
            None if !flags.given.is_empty() => {
                self.say_environment_is_ignored("there are flags");
                (Some(flags.root), Origin::Flags)
            }
            None if self.sources.arguments.is_empty() => {
                let mut environment = env::parse(self.sources.environment);
                self.diagnostics.append(&mut environment.diagnostics);
                (Some(environment.root), Origin::Environment)
            }
            None => (None, Origin::Flags),
        };
        let root = root.unwrap_or_else(|| Node::root(Vec::new()));
        self.decode(root, origin, file)
    }

    fn decode(mut self, mut root: Node, origin: Origin, file: Option<Found>) -> Loaded {
        self.diagnostics.extend(take_removed(&mut root));
        let routing_sections = match origin {
            Origin::File => self.take_unknown_sections(&mut root),
            Origin::Flags | Origin::Environment => Vec::new(),
        };
        let decoded = decode::<Install>(&root, "");
        let has_errors = decoded.has_errors();
        let mut install = decoded.value.unwrap_or_default();
        redact_unreadable(&mut install, &decoded.diagnostics);
        self.diagnostics.extend(decoded.diagnostics);
        check::fill_in(&mut install);
        install.add_implicit_entry_points();
        install.places = decoded.places.clone();
        if !has_errors {
            let variables = Variables::new(self.sources.environment, self.sources.root);
            let found = check::check(&mut install, &decoded.places, &variables);
            self.diagnostics.extend(found);
        }
        let file = file.map(|file| file.path);
        if !self.serves_as_routing_file(&install, file.as_deref()) {
            self.diagnostics.extend(routing_sections);
        }
        self.diagnostics.sort_by(|a, b| a.place.cmp(&b.place));
        Loaded {
            install,
            places: decoded.places,
            source_file: file,
            diagnostics: self.diagnostics,
            environment: self.sources.environment.to_vec(),
        }
    }

    fn find_file(&mut self, flags: &Flags) -> Option<Found> {
        let Some((name, place)) = &flags.config_file else {
            return self.default_file();
        };
        let name = self.expand(name);
        let inside = self.sources.directory.join(&name);
        let Some(path) = self.sources.root.find(&inside) else {
            let message = format!("the file `{name}` is not mounted from here and not checked");
            self.diagnostics
                .push(Diagnostic::warning(place.clone(), "configFile", message));
            return None;
        };
        if path.is_file() {
            return Some(self.named(path, name));
        }
        let what = if path.exists() {
            "is not a file"
        } else {
            "does not exist"
        };
        let message = format!("the file `{name}` {what}");
        self.diagnostics
            .push(Diagnostic::error(place.clone(), "configFile", message));
        None
    }

    /// The first that exists of the places where Traefik looks.
    fn default_file(&self) -> Option<Found> {
        let variable = |name: &str| {
            let found = self
                .sources
                .environment
                .iter()
                .find(|(known, _)| known == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let bases = [
            self.system.join("traefik"),
            PathBuf::from(format!("{}/", variable("XDG_CONFIG_HOME"))),
            PathBuf::from(format!("{}/.config", variable("HOME"))),
            PathBuf::from("."),
        ];
        let candidates = bases.iter().flat_map(|base| {
            ["toml", "yaml", "yml"].map(|extension| base.join(format!("traefik.{extension}")))
        });
        candidates
            .filter_map(|name| self.found(&name))
            .find(|found| found.path.is_file())
    }

    fn found(&self, name: &Path) -> Option<Found> {
        let shown = name.strip_prefix(".").unwrap_or(name);
        let path = self.sources.directory.join(shown);
        let path = self.sources.root.find(&path)?;
        Some(self.named(path, shown.display().to_string()))
    }

    /// A file of a container is called what it is called here: that is where it can be mended.
    fn named(&self, path: PathBuf, name: String) -> Found {
        let name = match self.sources.root {
            Root::Here => name,
            Root::Mounted(_) => path.display().to_string(),
        };
        Found { path, name }
    }

    fn read(&mut self, file: &Found) -> Option<Node> {
        let Some(format) = Format::of(&file.path) else {
            let wrong = Diagnostic::error(file.place(), "", "is neither YAML, TOML nor JSON");
            let hint = "name it `.yml`, `.yaml`, `.toml` or `.json`";
            self.diagnostics.push(wrong.with_hint(hint));
            return None;
        };
        let text = match read_text(&file.path, &file.name) {
            Ok(text) => text,
            Err(wrong) => {
                self.diagnostics.push(wrong);
                return None;
            }
        };
        let parsed = parse(format, &Source::new(file.name.as_str(), &text));
        if parsed.root.is_none() && parsed.diagnostics.is_empty() {
            let message = "holds no configuration";
            self.diagnostics
                .push(Diagnostic::error(file.place(), "", message));
        }
        self.diagnostics.extend(parsed.diagnostics);
        parsed.root
    }

    /// `$NAME` and `${NAME}`, from the environment.
    fn expand(&self, text: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let (name, after) = match after.strip_prefix('{').and_then(|a| a.split_once('}')) {
                Some(braced) => braced,
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    after.split_at(end.unwrap_or(after.len()))
                }
            };
            let found = self
                .sources
                .environment
                .iter()
                .find(|(known, _)| known == name);
            expanded.push_str(found.map_or("", |(_, value)| value));
            rest = after;
        }
        expanded + rest
    }

    /// In a file, unknown sections are not errors: Traefik ignores them, and people keep anchors there.
    /// Returns what there is to say about routing sections.
    fn take_unknown_sections(&mut self, root: &mut Node) -> Vec<Diagnostic> {
        let Value::Map { children, .. } = &mut root.value else {
            return Vec::new();
        };
        let mut routing = Vec::new();
        children.retain(|section| {
            let is = |known: &&str| known.eq_ignore_ascii_case(&section.name);
            if INSTALL_SECTIONS.iter().any(&is) {
                return true;
            }
            let place = section.key.clone();
            let name = &*section.name;
            if ["http", "tcp", "udp", "tls"].iter().any(is) {
                let message = "belongs to the routing configuration and is ignored here";
                let ignored = Diagnostic::warning(place, name, message);
                routing.push(ignored.with_hint("move it to a file that `providers.file` reads"));
            } else if !name.starts_with("x-") {
                let mut unknown = Diagnostic::warning(place, name, "unknown section, ignored")
                    .about(About::UnknownOption);
                unknown.hint = did_you_mean(name, INSTALL_SECTIONS);
                self.diagnostics.push(unknown);
            }
            false
        });
        routing
    }

    /// Whether the file provider reads the install file too.
    fn serves_as_routing_file(&self, install: &Install, file: Option<&Path>) -> bool {
        let (Some(provider), Some(file)) = (&install.providers.file, file) else {
            return false;
        };
        let real = |path: &Path| {
            let inside = self.sources.directory.join(path);
            self.sources.root.find(&inside)?.canonicalize().ok()
        };
        let Ok(file) = file.canonicalize() else {
            return false;
        };
        if provider.directory.is_empty() {
            real(Path::new(&provider.filename)) == Some(file)
        } else {
            real(Path::new(&provider.directory))
                .is_some_and(|directory| file.starts_with(directory))
        }
    }

    fn say_what_is_ignored(&mut self, flags: &Flags, file: &str) {
        let why = format!("the file `{file}` is used");
        if let Some(first) = flags.given.first() {
            let message = format!("ignored, because {why}: {}", listed(&flags.given));
            let ignored = Diagnostic::warning(Place::Flag(Arc::clone(first)), "", message);
            let hint = "file, flags and environment do not add up: keep one of them";
            self.diagnostics.push(ignored.with_hint(hint));
        }
        self.say_environment_is_ignored(&why);
    }

    fn say_environment_is_ignored(&mut self, why: &str) {
        let given = env::parse(self.sources.environment).given;
        if let Some(first) = given.first() {
            let message = format!("ignored, because {why}: {}", listed(&given));
            let ignored = Diagnostic::warning(Place::Env(Arc::clone(first)), "", message);
            let hint = "file, flags and environment do not add up: keep one of them";
            self.diagnostics.push(ignored.with_hint(hint));
        }
    }
}

/// A field that was to be treated in a way that cannot be read is better not shown.
fn redact_unreadable(install: &mut Install, found: &[Diagnostic]) {
    let Some(log) = &mut install.access_log else {
        return;
    };
    for path in found.iter().map(|found| found.path.as_str()) {
        let Some(path) = path.strip_prefix("accessLog.fields.") else {
            continue;
        };
        if let Some(name) = path.strip_prefix("headers.names.") {
            let names = &mut log.fields.headers.names;
            names.insert(name.to_owned(), FieldMode::Redact);
        } else if let Some(name) = path.strip_prefix("names.") {
            log.fields.names.insert(name.to_owned(), FieldMode::Redact);
        }
    }
}

/// A configuration file and how to name it to the user.
struct Found {
    path: PathBuf,
    name: String,
}

impl Found {
    fn place(&self) -> Place {
        Place::whole_file(self.name.as_str())
    }
}

/// `--a, --b and 3 more`
fn listed(given: &[Arc<str>]) -> String {
    let shown = given.len().min(MAX_LISTED);
    let names = given[..shown].join(", ");
    match given.len() - shown {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

const MAX_LISTED: usize = 8;

#[cfg(test)]
mod tests;
