//! What `run` would load, loaded and compiled without running it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use crate::{
    compile::{Compiled, Input, Workshop, compile, files::Files, needs},
    config::{
        Diagnostic, Install, Loaded, Root, Severity, Sources,
        definitions::Definitions,
        install, load_install,
        routing::{Middleware, Router},
    },
    control::{merge::merge, resolve, seconds_since_1970},
    explain::Written,
    provider::{
        DockerProvider,
        file::{NAME, Source},
    },
    runtime,
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

impl Offline {
    /// Loads everything that `arguments`, the environment and files say. Errors of the install configuration leave nothing to compile.
    pub(super) fn load(arguments: &[String]) -> Result<Self, Vec<Diagnostic>> {
        let loaded = load(arguments)?;
        let sources: Vec<Source> = match &loaded.install.providers.file {
            Some(provider) => vec![Source::new(provider).map_err(|missing| vec![missing])?],
            None => Vec::new(),
        };
        let mut found = loaded.diagnostics;
        if let Some(options) = &loaded.install.providers.docker {
            found.extend(DockerProvider::new(options).err());
        }
        Ok(Self::compile(loaded.install, found, &sources))
    }

    /// Loads routing files under an install configuration that allows whatever they need.
    pub(super) fn load_files(paths: &[PathBuf]) -> Self {
        let sources: Vec<Source> = paths.iter().map(|path| source(path)).collect();
        let mut offline = Self::compile(permissive(&Definitions::default()), Vec::new(), &sources);
        let install = permissive(&offline.wanted);
        if install != *offline.install {
            offline = Self::compile(install, Vec::new(), &sources);
        }
        offline
    }

    fn compile(install: Install, mut found: Vec<Diagnostic>, sources: &[Source]) -> Self {
        let install = Arc::new(install);
        // A second call finds the first one's and changes nothing.
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let mut statements = Vec::new();
        for source in sources {
            // Without a runtime (no file descriptors left) there is nothing to read either.
            let decoded = runtime::control(source.load()).unwrap_or_default();
            found.extend(decoded.diagnostics.iter().cloned());
            statements.push(Definitions::of(&NAME.into(), decoded));
        }
        let (wanted, clashes) = merge(statements.iter());
        found.extend(clashes);
        let files = Files::new(resolve::read(needs::files(&wanted, &install)));
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
                found: &found,
                previous: None,
                workshop: &workshop,
                now: Instant::now(),
                wall_clock: seconds_since_1970(),
            },
        );
        Self {
            install,
            wanted,
            compiled,
        }
    }
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
    let environment: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let directory = std::env::current_dir().unwrap_or_default();
    load_install(&Sources {
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

fn counted(count: usize, what: &str) -> String {
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

/// An install configuration that has every entry point that routers name, and every service of ours.
fn permissive(wanted: &Definitions) -> Install {
    let mut install = Install {
        ping: Some(install::Ping::default()),
        api: Some(install::Api::default()),
        ..Install::default()
    };
    install.metrics.prometheus = Some(install::Prometheus::default());
    let named = wanted
        .routers
        .values()
        .flat_map(|router| router.object.entry_points.iter().cloned());
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
