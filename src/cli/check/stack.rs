//! `portway check -f docker-compose.yml`: the stack as the proxy in it would see it, every finding where the file can be mended.

use std::path::{Path, PathBuf};

use super::{
    containers::{Reading, labelled},
    hosts::Host,
    state::Entry,
};
use crate::{
    cli::offline::{Container, Offline, Statement},
    compose::{Pair, Project, Service, Source, Text, Wanted},
    config::{
        Diagnostic, Labelled, Loaded, Place, Root, Sources, install::DockerProvider as Options,
        labels::is_label, read_install,
    },
    provider::file::Source as FileSource,
};

/// A stack, and everything there is to say about it.
#[derive(Debug)]
pub(super) struct Stack<'p> {
    pub(super) groups: Vec<Group<'p>>,
    /// The certificate of every host.
    pub(super) hosts: Vec<Host>,
    /// Findings that belong to no label and no option.
    pub(super) rest: Vec<Diagnostic>,
}

/// A service and what was found about it.
#[derive(Debug)]
pub(super) struct Group<'p> {
    pub(super) service: &'p Service,
    /// What its labels belong to, without a swarm and in one.
    owners: [Labelled; 2],
    pub(super) is_edge: bool,
    pub(super) labels: Vec<Entry<'p>>,
    /// Options of the edge.
    pub(super) options: Vec<Entry<'p>>,
    /// About the service as a whole.
    pub(super) findings: Vec<Diagnostic>,
}

impl<'p> Stack<'p> {
    pub(super) fn of(project: &'p Project) -> Self {
        let mut stack = Self {
            groups: Vec::new(),
            hosts: Vec::new(),
            rest: Vec::new(),
        };
        let edges: Vec<Edge<'_>> = project
            .services
            .iter()
            .filter(|service| service.enabled)
            .filter_map(Edge::of)
            .collect();
        let constraints: Vec<String> = edges.iter().map(Edge::constraints).collect();
        let constraints = constraints.concat();
        stack.groups = project
            .services
            .iter()
            .map(|service| Group::of(project, service, (&edges, &constraints)))
            .collect();
        let mut found = project.diagnostics.clone();
        for edge in &edges {
            let (findings, hosts) = edge.findings(project);
            found.extend(findings);
            stack.hosts.extend(hosts);
        }
        if edges.is_empty() && !project.services.is_empty() {
            let offline = Offline::of_labels(statement(project, provider(project), None));
            found.extend_from_slice(offline.compiled.diagnostics());
        }
        found.extend(unstarted(project));
        let remarks = |service| remarks(project, service);
        found.extend(project.services.iter().flat_map(remarks));
        if edges.is_empty() {
            found.extend(misplaced(project, "docker"));
        }
        found.sort_by(|a, b| (&a.place, &a.path, &a.message).cmp(&(&b.place, &b.path, &b.message)));
        found.dedup();
        for finding in found {
            stack.take(finding);
        }
        stack
    }

    /// Puts a finding where it belongs.
    fn take(&mut self, finding: Diagnostic) {
        let mut taken = false;
        for group in &mut self.groups {
            let entries = group.labels.iter_mut().chain(&mut group.options);
            for entry in entries {
                taken |= entry.take(&finding);
            }
        }
        if taken {
            return;
        }
        let mut groups = self.groups.iter_mut();
        match groups.find(|group| group.is_meant(&finding.place)) {
            Some(group) if matches!(finding.place, Place::File { .. }) => {
                group.findings.push(finding);
            }
            Some(group) => group.findings.push(Diagnostic {
                place: group.service.place.clone(),
                ..finding
            }),
            None => self.rest.push(finding),
        }
    }

    /// Everything found.
    pub(super) fn findings(&self) -> impl Iterator<Item = &Diagnostic> {
        let groups = self.groups.iter().flat_map(|group| {
            let entries = group.labels.iter().chain(&group.options);
            let entries = entries.flat_map(|entry| &entry.findings);
            entries.chain(&group.findings)
        });
        groups.chain(&self.rest)
    }
}

impl<'p> Group<'p> {
    /// Whether a place is the service as a whole, or lies in a file that the edge has its configuration from.
    fn is_meant(&self, place: &Place) -> bool {
        let Place::File { path, .. } = place else {
            return self.owners.iter().any(|owner| owner.whole() == *place);
        };
        let mut mounts = self.service.mounts.iter();
        self.is_edge
            && mounts.any(|mount| match &mount.source {
                Source::Host(source) => {
                    Path::new(&**path).starts_with(source) || mount.place == *place
                }
                Source::Elsewhere => mount.place == *place,
            })
    }

    fn of(
        project: &Project,
        service: &'p Service,
        (edges, constraints): (&[Edge<'p>], &str),
    ) -> Self {
        let edge = edges.iter().find(|edge| edge.service.name == service.name);
        let owners = [false, true].map(|swarm| labelled(project, service, swarm));
        let [container, deployed] = &owners;
        let labels = service.labels.iter().map(|pair| (container, pair));
        let labels = labels.chain(service.deploy_labels.iter().map(|pair| (deployed, pair)));
        let labels = labels.filter_map(|(of, pair)| Entry::label(of, pair, constraints));
        let options: Vec<Entry<'p>> = match edge {
            None => Vec::new(),
            Some(_) => {
                let words = [&service.entrypoint, &service.command];
                let words = words.into_iter().flatten().flatten();
                let flags = words.filter_map(|word| Entry::flag(&word.text, &word.place));
                flags
                    .chain(service.environment.iter().filter_map(Entry::variable))
                    .collect()
            }
        };
        Self {
            service,
            is_edge: edge.is_some(),
            labels: labels.collect(),
            owners,
            options,
            findings: Vec::new(),
        }
    }
}

/// What is odd about a service's labels whatever they say.
fn remarks(project: &Project, service: &Service) -> Vec<Diagnostic> {
    let at = |pair: &Pair| Place::Label {
        of: labelled(project, service, false),
        key: pair.name.as_str().into(),
    };
    let named = service
        .labels
        .iter()
        .filter(|pair| pair.name.contains("${"));
    let found = named.map(|pair| {
        let message = "Compose replaces no variables in the names of a mapping";
        let found = Diagnostic::error(at(pair), "", message);
        found.with_hint("write the labels as a list: `- \"NAME=VALUE\"`")
    });
    found.collect()
}

/// Labels of services that stand where `provider` does not look, while there are none where it does.
fn misplaced(project: &Project, provider: &str) -> Vec<Diagnostic> {
    let swarm = provider == "swarm";
    let services = project.services.iter();
    let found = services.filter_map(|service| {
        let (read, unread) = match swarm {
            true => (&service.deploy_labels, &service.labels),
            false => (&service.labels, &service.deploy_labels),
        };
        let ours = |pair: &&Pair| is_label(&pair.name);
        let pair = unread.iter().find(ours)?;
        let place = Place::Label {
            of: labelled(project, service, !swarm),
            key: pair.name.as_str().into(),
        };
        let (message, hint) = match swarm {
            true => (
                "labels outside `deploy` belong to containers, a swarm reads those of its services",
                "move them to `deploy.labels`",
            ),
            false => (
                "labels below `deploy` belong to the Swarm service, its containers do not have them",
                "move them to `labels`, unless the edge reads `providers.swarm`",
            ),
        };
        let finding = match swarm {
            true => Diagnostic::warning(place, "", message),
            false => Diagnostic::info(place, "", message),
        };
        (!read.iter().any(|pair| ours(&pair))).then(|| finding.with_hint(hint))
    });
    found.collect()
}

/// What services say that are not started with the profiles given.
fn unstarted(project: &Project) -> Vec<Diagnostic> {
    let services = project.services.iter().filter(|service| !service.enabled);
    let reading = Reading {
        project,
        options: Default::default(),
        networks: &networks(project),
        swarm: false,
    };
    services
        .flat_map(|service| reading.of(&[service]).diagnostics)
        .collect()
}

/// All networks of a stack: those of a proxy that is elsewhere must be among them.
fn networks(project: &Project) -> Vec<String> {
    let services = project.services.iter();
    services
        .flat_map(|service| service.networks.iter().cloned())
        .collect()
}

/// The provider that reads the labels of a stack whose proxy is elsewhere.
fn provider(project: &Project) -> &'static str {
    let says = |labels: &[Pair]| labels.iter().any(|pair| is_label(&pair.name));
    let mut services = project.services.iter();
    let mut others = project.services.iter();
    match services.any(|service| says(&service.deploy_labels))
        && !others.any(|service| says(&service.labels))
    {
        true => "swarm",
        false => "docker",
    }
}

/// What the labels of all services that are started say.
fn statement(project: &Project, provider: &str, edge: Option<(&Service, &Options)>) -> Statement {
    let all = networks(project);
    let (networks, options) = match edge {
        Some((service, options)) => (&service.networks, options.clone()),
        None => (&all, Options::default()),
    };
    let reading = Reading {
        project,
        options,
        networks,
        swarm: provider == "swarm",
    };
    let services = project.services.iter().filter(|service| service.enabled);
    let services: Vec<&Service> = services.collect();
    (provider.into(), reading.of(&services))
}

/// The proxy of a stack.
struct Edge<'p> {
    service: &'p Service,
    arguments: Vec<String>,
    /// It is started by something else, so that its arguments are not known.
    opaque: Option<&'p Place>,
}

impl<'p> Edge<'p> {
    fn of(service: &'p Service) -> Option<Self> {
        let ours = |text: &Text| is_proxy(Path::new(&text.text));
        let entrypoint = service.entrypoint.as_deref().unwrap_or_default();
        let command = service.command.as_deref().unwrap_or_default();
        let named = is_proxy(Path::new(service.image_name()))
            || entrypoint.first().is_some_and(ours)
            || command.first().is_some_and(ours);
        let flags = command.iter().any(|word| is_option(&word.text));
        let variables = service.environment.iter().any(|pair| {
            let name = pair.name.to_ascii_uppercase();
            VARIABLES.iter().any(|known| name.starts_with(known))
        });
        let mounts = service.mounts.iter().any(|mount| {
            FOLDERS
                .iter()
                .any(|folder| mount.target.starts_with(folder))
        });
        if !named && !flags && !variables && !mounts {
            return None;
        }
        let mut words: Vec<&'p Text> = entrypoint.iter().collect();
        let mut opaque = None;
        match words.first() {
            Some(first) if ours(first) || first.text.ends_with("entrypoint.sh") => {
                words.remove(0);
            }
            Some(first) => opaque = Some(&first.place),
            None => {}
        }
        words.extend(command);
        if words.first().is_some_and(|word| ours(word)) {
            words.remove(0);
        }
        if words.first().is_some_and(|word| word.text == "run") {
            words.remove(0);
        }
        if let Some(first) = words.first().filter(|word| !word.text.starts_with('-')) {
            if !flags && !variables && !mounts {
                // Another subcommand of the image: a demo, a replica.
                return None;
            }
            opaque = Some(&first.place);
        }
        Some(Self {
            service,
            arguments: words.iter().map(|word| word.text.clone()).collect(),
            opaque,
        })
    }

    /// The text in which labels may be named that are nobody else's.
    fn constraints(&self) -> String {
        let variables = self.service.environment.iter();
        let variables = variables.map(|pair| pair.value.as_str());
        let words = self.arguments.iter().map(String::as_str);
        let all = words.chain(variables).filter(|text| text.contains("Label"));
        all.collect()
    }

    /// Everything found, and the certificate of every host, when the stack is compiled as this proxy would compile it.
    fn findings(&self, project: &Project) -> (Vec<Diagnostic>, Vec<Host>) {
        if let Some(place) = self.opaque {
            let message = "is another program, which starts the proxy in its own way: what it is told is not checked";
            let found = Diagnostic::warning(place.clone(), "", message);
            let offline = Offline::of_labels(statement(project, "docker", None));
            let mut all = offline.compiled.diagnostics().to_vec();
            all.extend(misplaced(project, "docker"));
            all.push(found);
            return (all, Vec::new());
        }
        let directory = Path::new(&self.service.working_dir);
        let mounts = self.mounts();
        let loaded = self.load(&mounts);
        let mut found = self.missing_mounts();
        found.extend(self.unread(project, &loaded));
        let providers = &loaded.install.providers;
        found.extend(match (&providers.docker, &providers.swarm) {
            (Some(_), None) => misplaced(project, "docker"),
            (None, Some(_)) => misplaced(project, "swarm"),
            _ => Vec::new(),
        });
        let statements = self.statements(project, &loaded);
        let container = Container {
            root: Root::Mounted(&mounts),
            directory,
        };
        let offline = Offline::in_container(loaded, &container, statements);
        found.extend_from_slice(offline.compiled.diagnostics());
        (found, Host::all(&offline))
    }

    /// What it is told.
    fn load(&self, mounts: &[(PathBuf, PathBuf)]) -> Loaded {
        let variables = self.service.environment.iter();
        let environment: Vec<(String, String)> = variables
            .map(|pair| (pair.name.clone(), pair.value.clone()))
            .collect();
        read_install(&Sources {
            arguments: &self.arguments,
            environment: &environment,
            directory: Path::new(&self.service.working_dir),
            root: Root::Mounted(mounts),
        })
    }

    /// What the providers that read labels say.
    fn statements(&self, project: &Project, loaded: &Loaded) -> Vec<Statement> {
        let providers = &loaded.install.providers;
        let mut statements = Vec::new();
        if let Some(options) = &providers.docker {
            let edge = Some((self.service, options));
            statements.push(statement(project, "docker", edge));
        }
        if let Some(options) = &providers.swarm {
            let options = Options::from(options.clone());
            let edge = Some((self.service, &options));
            statements.push(statement(project, "swarm", edge));
        }
        if statements.is_empty() {
            // What they say is worth a look all the same.
            statements.push(statement(project, provider(project), None));
        }
        statements
    }

    /// Labels that nobody reads.
    fn unread(&self, project: &Project, loaded: &Loaded) -> Option<Diagnostic> {
        let providers = &loaded.install.providers;
        let mut services = project.services.iter();
        let says = services.any(|service| {
            let labels = service.labels.iter().chain(&service.deploy_labels);
            labels.into_iter().any(|pair| is_label(&pair.name))
        });
        if providers.docker.is_some() || providers.swarm.is_some() || !says {
            return None;
        }
        let message = "reads no labels: neither `providers.docker` nor `providers.swarm` is on";
        let of = labelled(project, self.service, false);
        Some(Diagnostic::warning(of.whole(), "providers", message))
    }

    /// What the container sees at which path, as far as it is here.
    fn mounts(&self) -> Vec<(PathBuf, PathBuf)> {
        let mounts = self.service.mounts.iter();
        let here = mounts.filter_map(|mount| match &mount.source {
            Source::Host(path) => Some((mount.target.clone(), path.clone())),
            Source::Elsewhere => None,
        });
        here.collect()
    }

    /// Configuration files that are mounted and not there: the engine makes directories of them.
    fn missing_mounts(&self) -> Vec<Diagnostic> {
        let mounts = self.service.mounts.iter();
        let missing = mounts.filter_map(|mount| match &mount.source {
            Source::Host(path) if is_configuration(&mount.target) && !path.exists() => {
                let message = format!("there is no file {}", path.display());
                let found = Diagnostic::error(mount.place.clone(), "volumes", message);
                Some(found.with_hint("the engine makes a directory of what is not there"))
            }
            _ => None,
        });
        missing.collect()
    }
}

fn is_proxy(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name == "traefik" || name == "portway")
}

fn is_option(word: &str) -> bool {
    let lower = word.trim_start_matches('-').to_ascii_lowercase();
    word.starts_with("--") && OPTIONS.iter().any(|option| lower.starts_with(option))
}

fn is_configuration(target: &Path) -> bool {
    let ending = target.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ["yml", "yaml", "toml"].contains(&ending))
}

const OPTIONS: [&str; 4] = [
    "entrypoints.",
    "providers.docker",
    "providers.file.",
    "providers.swarm",
];
const VARIABLES: [&str; 4] = [
    "TRAEFIK_ENTRYPOINTS_",
    "TRAEFIK_PROVIDERS_",
    "PORTWAY_ENTRYPOINTS_",
    "PORTWAY_PROVIDERS_",
];
const FOLDERS: [&str; 2] = ["/etc/traefik", "/etc/portway"];

/// A proxy in a stack, and the files here that it reads.
#[derive(Debug)]
pub(in crate::cli) struct Proxy {
    pub(in crate::cli) name: String,
    pub(in crate::cli) install: Option<PathBuf>,
    /// A file or a directory.
    pub(in crate::cli) routing: Option<PathBuf>,
}

/// The proxies of a stack.
pub(in crate::cli) fn proxies(project: &Project) -> Vec<Proxy> {
    let edges = project.services.iter().filter_map(Edge::of);
    let proxy = |edge: Edge<'_>| {
        let mounts = edge.mounts();
        let loaded = edge.load(&mounts);
        let directory = Path::new(&edge.service.working_dir);
        let routing = loaded.install.providers.file.as_ref().map(FileSource::new);
        let routing = match routing {
            Some(Ok(FileSource::File(path) | FileSource::Directory(path))) => {
                Root::Mounted(&mounts).find(&directory.join(path))
            }
            _ => None,
        };
        Proxy {
            name: edge.service.name.clone(),
            install: loaded.source_file,
            routing: routing.filter(|path| path.exists()),
        }
    };
    edges.map(proxy).collect()
}

/// Reads the files that arguments name.
pub(in crate::cli) fn read(arguments: &Arguments) -> Project {
    let environment: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Project::read(&Wanted {
        files: &arguments.files,
        env_files: &arguments.env_files,
        profiles: &arguments.profiles,
        environment: &environment,
    })
}

/// What `check -f` is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Arguments {
    pub(super) files: Vec<PathBuf>,
    pub(super) env_files: Vec<PathBuf>,
    pub(super) profiles: Vec<String>,
    pub(in crate::cli) json: bool,
}

impl Arguments {
    /// Nothing if no Compose file is named.
    pub(in crate::cli) fn of(words: &[String]) -> Result<Option<Self>, String> {
        let is_file = |word: &String| {
            ["-f", "--file"].contains(&word.as_str())
                || ["-f=", "--file="]
                    .iter()
                    .any(|start| word.starts_with(start))
        };
        if !words.iter().any(is_file) {
            return Ok(None);
        }
        let mut found = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--json" {
                found.json = true;
                continue;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let mut value = || {
                let value = value.clone().or_else(|| words.next().cloned());
                value.ok_or_else(|| format!("check: {name} needs a value"))
            };
            match name {
                "-f" | "--file" => found.files.push(value()?.into()),
                "--env-file" => found.env_files.push(value()?.into()),
                "--profile" => found.profiles.push(value()?),
                _ => {
                    return Err(format!(
                        "check: {word}: with -f there are only --env-file, --profile and --json"
                    ));
                }
            }
        }
        Ok(Some(found))
    }
}
