//! What `run` would load, loaded and compiled without running it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use crate::{
    acme::{self, Storages},
    compile::{
        Compiled, Input, Workshop, compile,
        files::{Files, Texts},
        needs,
    },
    config::{
        DecodedRouting, Diagnostic, Install, Loaded, Root, Severity, Sources,
        definitions::{Defined, Definitions, Name, Named},
        dns::Variables,
        install, read_install,
        routing::{LoadBalancer, Middleware, Router, Server, TlsOptions},
    },
    control::{merge::merge, resolve, seconds_since_1970},
    explain::Written,
    provider::{
        DockerProvider,
        file::{NAME, Source},
    },
    runtime,
    tls::Staples,
    upstream::{resolve::Addresses, transport::system_roots},
};

/// A configuration that nobody runs.
#[derive(Debug)]
pub(super) struct Offline {
    pub(super) install: Arc<Install>,
    /// As providers wrote it.
    pub(super) wanted: Definitions,
    pub(super) compiled: Compiled,
}

/// What a provider says.
pub(super) type Statement = (Name, DecodedRouting);

/// The container that the configuration is for.
#[derive(Debug)]
pub(super) struct Container<'a> {
    /// What it sees of the files here.
    pub(super) root: Root<'a>,
    pub(super) directory: &'a Path,
}

impl Offline {
    /// Loads everything that `arguments`, the environment and files say. Errors of the install configuration leave nothing to compile.
    pub(super) fn load(arguments: &[String]) -> Result<Self, Vec<Diagnostic>> {
        Self::with_certificates(arguments).map(|(offline, _)| offline)
    }

    /// The same, with what is in the storages of certificates resolvers.
    pub(super) fn with_certificates(
        arguments: &[String],
    ) -> Result<(Self, Storages), Vec<Diagnostic>> {
        let loaded = load(arguments)?;
        let storages = Storages::read(&loaded.install);
        let here = Container {
            root: Root::Here,
            directory: Path::new(""),
        };
        let certificates = ("acme".into(), storages.routing().into());
        Ok((
            Self::in_container(loaded, &here, vec![certificates]),
            storages,
        ))
    }

    /// Loads as much of it as can be read: errors of the install configuration hide nothing of what the routing configuration has.
    pub(super) fn of(arguments: &[String]) -> Self {
        Self::of_install(read_all(arguments))
    }

    fn of_install(loaded: Loaded) -> Self {
        let here = Container {
            root: Root::Here,
            directory: Path::new(""),
        };
        Self::in_container(loaded, &here, Vec::new())
    }

    /// What the proxy of a container would load, beside what other providers say.
    pub(super) fn in_container(
        loaded: Loaded,
        container: &Container<'_>,
        mut statements: Vec<Statement>,
    ) -> Self {
        let Loaded {
            install,
            places,
            diagnostics: mut found,
            environment,
            ..
        } = loaded;
        // Those who change zones are reached over TLS, and setting that up needs it.
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let variables = Variables::new(&environment, container.root);
        found.extend(acme::unusable(&install, &variables));
        let providers = &install.providers;
        let (docker, swarm) = (providers.docker.as_ref(), providers.swarm.as_ref());
        let docker = docker.map(DockerProvider::new);
        let swarm = swarm.map(DockerProvider::of_swarm);
        let wrong = [docker, swarm]
            .into_iter()
            .flatten()
            .filter_map(Result::err);
        found.extend(wrong.map(|wrong| Diagnostic {
            place: places.at(&wrong.path).clone(),
            ..wrong
        }));
        let broken = found.iter().any(Diagnostic::is_error);
        let mut foreign = Vec::new();
        if let Some(provider) = &install.providers.file {
            match Source::new(provider) {
                Ok(source) => match container.source(&source) {
                    Some(source) => statements.push((NAME.into(), read(&source))),
                    None => {
                        let field = match source {
                            Source::File(_) => "providers.file.filename",
                            Source::Directory(_) => "providers.file.directory",
                        };
                        let message = "is not mounted from here, so what it holds is not checked";
                        let place = places.at(field).clone();
                        found.push(Diagnostic::warning(place, field, message));
                        foreign.push(NAME);
                    }
                },
                // The install configuration was found wrong for that already.
                Err(missing) if broken => drop(missing),
                Err(missing) => found.push(missing),
            }
        }
        if install.providers.http.is_some() {
            let field = "providers.http";
            let message = "is not asked here, so what it would say is not checked";
            found.push(Diagnostic::info(places.at(field).clone(), field, message));
            foreign.push("http");
        }
        let mut parts = Parts::of(statements, found);
        let install = match broken && !places.wrote("entryPoints") {
            // What an entry point was meant to be is not known: routers are not blamed for that.
            true => parts.lenient(install),
            false => install,
        };
        parts.assume(|provider| foreign.contains(&provider));
        parts.compile(install, container)
    }

    /// Loads routing files under an install configuration that allows whatever they need.
    pub(super) fn load_files(paths: &[PathBuf]) -> Self {
        let statements = paths.iter().map(|path| (NAME.into(), read(&source(path))));
        Self::permissive(Parts::of(statements.collect(), Vec::new()))
    }

    /// What a provider says, under an install configuration that allows whatever it needs. What it refers to of other providers is
    /// taken to be there.
    pub(super) fn of_labels(statement: Statement) -> Self {
        let own = Name::clone(&statement.0);
        let mut parts = Parts::of(vec![statement], Vec::new());
        parts.assume(|provider| provider != &*own && provider != "internal");
        Self::permissive(parts)
    }

    fn permissive(parts: Parts) -> Self {
        let mut install = Install {
            ping: Some(install::Ping::default()),
            api: Some(install::Api::default()),
            ..Install::default()
        };
        install.metrics.prometheus = Some(install::Prometheus::default());
        let install = parts.with_resolvers(parts.lenient(install));
        let here = Container {
            root: Root::Here,
            directory: Path::new(""),
        };
        parts.compile(install, &here)
    }
}

impl Container<'_> {
    /// Where its files are here.
    fn source(&self, source: &Source) -> Option<Source> {
        Some(match source {
            Source::File(path) => Source::File(self.find(path)?),
            Source::Directory(path) => Source::Directory(self.find(path)?),
        })
    }

    fn find(&self, path: &Path) -> Option<PathBuf> {
        self.root.find(&self.directory.join(path))
    }

    /// The texts of files, by the names that the container has for them.
    fn read(&self, paths: BTreeSet<PathBuf>) -> Texts {
        let one = |path: PathBuf| {
            let text = match self.find(&path) {
                Some(here) => resolve::read_one(&here),
                None => Err(format!("{} is not mounted from here", path.display())),
            };
            (path, text)
        };
        paths.into_iter().map(one).collect()
    }
}

/// What a configuration is made of before it is compiled.
struct Parts {
    wanted: Definitions,
    found: Vec<Diagnostic>,
}

impl Parts {
    fn of(statements: Vec<Statement>, mut found: Vec<Diagnostic>) -> Self {
        let mut definitions = Vec::new();
        for (provider, decoded) in statements {
            found.extend(decoded.diagnostics.iter().cloned());
            definitions.push(Definitions::of(&provider, decoded));
        }
        let (wanted, clashes) = merge(definitions.iter());
        found.extend(clashes);
        Self { wanted, found }
    }

    /// An install configuration that has every entry point that routers name.
    fn lenient(&self, mut install: Install) -> Install {
        let routers = self.wanted.routers.values();
        let named = routers.flat_map(|router| router.object.entry_points.iter().cloned());
        for (name, port) in named.chain(["web".to_owned()]).zip(1..) {
            let address = format!(":{port}").parse().unwrap_or_default();
            install
                .entry_points
                .entry(name)
                .or_insert_with(|| install::EntryPoint {
                    address,
                    ..Default::default()
                });
        }
        install.add_implicit_entry_points();
        install
    }

    /// `install` with the certificates resolvers that routers name.
    fn with_resolvers(&self, mut install: Install) -> Install {
        let routers = self.wanted.routers.values();
        let tls = routers.filter_map(|router| router.object.tls.as_ref());
        for tls in tls.filter(|tls| !tls.cert_resolver.is_empty()) {
            // One that may do everything.
            let acme = install::AcmeResolver {
                tls_challenge: Some(install::TlsChallenge::default()),
                dns_challenge: Some(install::DnsChallenge::default()),
                ..install::AcmeResolver::default()
            };
            install
                .certificates_resolvers
                .entry(tls.cert_resolver.clone())
                .or_insert_with(|| install::CertificatesResolver {
                    acme: Some(acme),
                    ..Default::default()
                });
        }
        install
    }

    /// Takes objects for granted that routers name of providers whose objects are not known here.
    fn assume(&mut self, is_foreign: impl Fn(&str) -> bool) {
        let foreign = |name: &str| {
            let provider = name.rsplit_once('@').map(|(_, provider)| provider);
            provider.is_some_and(&is_foreign).then(|| Name::from(name))
        };
        let routers: Vec<_> = self.wanted.routers.values().cloned().collect();
        for router in &routers {
            let router = &router.object;
            for name in router.middlewares.iter().filter_map(|name| foreign(name)) {
                let stand_in = Middleware::Compress(Default::default());
                put(&mut self.wanted.middlewares, name, stand_in);
            }
            if let Some(name) = foreign(&router.service) {
                let stand_in = LoadBalancer {
                    servers: vec![Server {
                        url: "http://127.0.0.1:1".to_owned(),
                        ..Server::default()
                    }],
                    ..LoadBalancer::default()
                };
                put(&mut self.wanted.services, name, stand_in.into());
            }
            let options = router.tls.as_ref().map_or("", |tls| &tls.options);
            if let Some(name) = foreign(options) {
                put(&mut self.wanted.tls_options, name, TlsOptions::default());
            }
        }
    }

    fn compile(self, install: Install, container: &Container<'_>) -> Offline {
        let Self { wanted, found } = self;
        let install = Arc::new(install);
        // A second call finds the first one's and changes nothing.
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let files = Files::new(container.read(needs::files(&wanted, &install)));
        let workshop = Workshop {
            system_roots: system_roots().0,
            ..Workshop::default()
        };
        let compiled = compile(
            wanted.clone(),
            &Input {
                install: &install,
                files: &files,
                addresses: &Addresses::default(),
                staples: &Staples::default(),
                found: &found,
                previous: None,
                workshop: &workshop,
                now: Instant::now(),
                wall_clock: seconds_since_1970(),
            },
        );
        Offline {
            install,
            wanted,
            compiled,
        }
    }
}

fn put<T>(named: &mut Named<T>, name: Name, object: T) {
    let provider: Name = name.rsplit('@').next().unwrap_or_default().into();
    named
        .entry(Name::clone(&name))
        .or_insert_with(|| Defined::new(name, provider, object.into()));
}

/// Without a runtime (no file descriptors left) there is nothing to read either.
fn read(source: &Source) -> DecodedRouting {
    runtime::control(source.load()).unwrap_or_default()
}

impl Written for Offline {
    fn routers(&self) -> Vec<(&str, &Router)> {
        let routers = self.wanted.routers.iter();
        routers
            .map(|(name, router)| (&**name, &router.object.value))
            .collect()
    }

    fn middleware(&self, name: &str) -> Option<&Middleware> {
        // Those that we add ourselves are among the compiled ones only.
        let found = self
            .compiled
            .good
            .middlewares
            .get(name)
            .or_else(|| self.wanted.middlewares.get(name));
        found.map(|middleware| &middleware.object.value)
    }
}

/// The install configuration that `run` would have with these arguments.
pub(super) fn load(arguments: &[String]) -> Result<Loaded, Vec<Diagnostic>> {
    let loaded = read_all(arguments);
    match loaded.diagnostics.iter().any(Diagnostic::is_error) {
        true => Err(loaded.diagnostics),
        false => Ok(loaded),
    }
}

/// As much of it as can be read.
fn read_all(arguments: &[String]) -> Loaded {
    let environment: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let directory = std::env::current_dir().unwrap_or_default();
    read_install(&Sources {
        arguments,
        environment: &environment,
        directory: &directory,
        root: Root::Here,
    })
}

/// Prints findings in the order of their places, and how many there are of which kind.
pub(super) fn print(diagnostics: &[Diagnostic]) -> ExitCode {
    let report = report(diagnostics);
    super::say(&report);
    match diagnostics.iter().any(Diagnostic::is_error) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn report(diagnostics: &[Diagnostic]) -> String {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by(|left, right| {
        (&left.place, &left.path, &left.message).cmp(&(&right.place, &right.path, &right.message))
    });
    sorted.dedup();
    let count = |severity| {
        sorted
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut lines: Vec<String> = sorted.iter().map(ToString::to_string).collect();
    lines.push(format!(
        "{}, {}",
        counted(errors, "error"),
        counted(warnings, "warning")
    ));
    lines.join("\n")
}

pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

fn source(path: &Path) -> Source {
    if path.is_dir() {
        Source::Directory(path.to_owned())
    } else {
        Source::File(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;

    fn at(line: u32, column: u32) -> Place {
        Place::File {
            path: "a.yml".into(),
            line,
            column,
        }
    }

    #[test]
    fn findings_come_in_the_order_of_the_file_and_once() {
        let late = Diagnostic::error(at(10, 2), "b", "wrong").with_hint("did you mean `c`?");
        let early = Diagnostic::warning(at(9, 30), "a", "odd");
        let text = report(&[late.clone(), early, late]);
        assert_eq!(
            text,
            "a.yml:9:30: warning: a: odd\na.yml:10:2: error: b: wrong (did you mean `c`?)\n1 error, 1 warning"
        );
        assert_eq!(report(&[]), "0 errors, 0 warnings");
    }

    #[test]
    fn what_a_url_would_say_is_taken_for_granted() {
        let folder = tempfile::tempdir().unwrap();
        let routing = folder.path().join("a.yml");
        let text = "http: {routers: {app: {rule: 'Host(`a`)', service: s@http}}}";
        std::fs::write(&routing, text).unwrap();
        let file = format!("--providers.file.filename={}", routing.display());
        let url = "--providers.http.endpoint=http://127.0.0.1:1/".to_owned();
        let offline = Offline::load(&[file, url]).unwrap();
        let found: Vec<_> = offline
            .compiled
            .diagnostics()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("is not asked here"), "{found:?}");
        assert!(offline.compiled.snapshot.route("app@file").is_some());
    }

    #[test]
    fn routing_files_stand_for_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yml");
        let text = "http:
  routers:
    good: {rule: 'Host(`a`)', service: s, entryPoints: [anything]}
    ours: {rule: 'Path(`/p`)', service: ping@internal}
    bad: {rule: 'Hots(`a`)', service: s}
  services:
    s: {loadBalancer: {servers: [{url: 'http://127.0.0.1:1'}]}}
";
        std::fs::write(&file, text).unwrap();
        for path in [file, folder.path().to_owned()] {
            let offline = Offline::load_files(&[path]);
            let found: Vec<_> = offline
                .compiled
                .diagnostics()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].contains("a.yml:5:") && found[0].contains("Host"),
                "{found:?}"
            );
            assert!(offline.compiled.snapshot.route("good@file").is_some());
            assert!(offline.compiled.snapshot.route("ours@file").is_some());
        }
    }
}
