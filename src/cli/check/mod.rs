//! `portway check`: everything that is wrong with a configuration, found by the code that loads it.

mod containers;
mod hosts;
mod report;
pub(super) mod stack;
mod state;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use self::{
    hosts::Host,
    stack::{Arguments, Stack},
};
use super::{
    complain,
    offline::{self, Offline},
    say,
};
use crate::config::Diagnostic;

/// Checks what `run` would load with the same arguments, or the files named.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    match Wanted::of(arguments) {
        Ok(Wanted::Stack(arguments)) => {
            let project = stack::read(&arguments);
            report::print(&Stack::of(&project), arguments.json)
        }
        Ok(wanted) => {
            let (findings, hosts) = wanted.findings();
            let lines = hosts::lines(&hosts);
            if !lines.is_empty() {
                say(&format!("{}\n", lines.join("\n")));
            }
            offline::print(&findings)
        }
        Err(wrong) => {
            complain(&wrong);
            ExitCode::FAILURE
        }
    }
}

/// What is to be checked.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// The install configuration that these arguments lead to, and what it leads to.
    Install(Vec<String>),
    /// Routing files, and install files with what they lead to.
    Files {
        routing: Vec<PathBuf>,
        install: Vec<PathBuf>,
    },
    /// The Compose files of a stack.
    Stack(Arguments),
}

impl Wanted {
    /// Words alone are files.
    fn of(arguments: &[String]) -> Result<Self, String> {
        if let Some(stack) = Arguments::of(arguments)? {
            return Ok(Self::Stack(stack));
        }
        if arguments.first().is_none_or(|first| first.starts_with('-')) {
            return Ok(Self::Install(arguments.to_vec()));
        }
        if let Some(flag) = arguments.iter().find(|argument| argument.starts_with('-')) {
            return Err(format!(
                "check: {flag}: name files, or the options of `run`, not both (`--configFile=FILE` names an install file)"
            ));
        }
        let paths = arguments.iter().map(PathBuf::from);
        let (install, routing) = paths.partition(|path| is_install(path));
        Ok(Self::Files { routing, install })
    }

    /// Everything found, and the certificate of every host.
    fn findings(&self) -> (Vec<Diagnostic>, Vec<Host>) {
        let (mut found, mut hosts) = (Vec::new(), Vec::new());
        let mut load = |arguments: &[String]| {
            let offline = Offline::of(arguments);
            hosts.extend(Host::all(&offline));
            offline.compiled.diagnostics().to_vec()
        };
        match self {
            Self::Stack(_) => {}
            Self::Install(arguments) => found = load(arguments),
            Self::Files { routing, install } => {
                for path in install {
                    let named = format!("--configFile={}", path.display());
                    found.extend(load(&[named]));
                }
                if !routing.is_empty() {
                    found.extend_from_slice(Offline::load_files(routing).compiled.diagnostics());
                }
            }
        }
        (found, hosts)
    }
}

/// Whether a file is an install configuration: it has a section that no routing file has.
pub(super) fn is_install(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else {
        return false;
    };
    let opens = |line: &str| {
        let line = line.trim_start_matches('[').to_ascii_lowercase();
        SECTIONS.iter().any(|section| {
            line.strip_prefix(section)
                .is_some_and(|rest| rest.starts_with([':', '.', ']', '"', ' ']))
        })
    };
    text.lines().any(opens)
}

/// Sections that only an install configuration has, in lower case.
const SECTIONS: [&str; 2] = ["entrypoints", "providers"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_options() {
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        for (line, files) in [
            ("", false),
            ("--configFile=a.yml", false),
            ("--configFile a.yml", false),
            ("a.yml b", true),
        ] {
            let wanted = Wanted::of(&words(line)).unwrap();
            assert_eq!(matches!(wanted, Wanted::Files { .. }), files, "{line}");
        }
        assert!(
            Wanted::of(&words("a.yml --ping"))
                .unwrap_err()
                .contains("--ping")
        );
    }

    #[test]
    fn install_files_are_known_by_their_sections() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, expected) in [
            ("a.yml", "log: {}\nentryPoints:\n  web: {}\n", true),
            ("a.toml", "[entryPoints.web]\naddress = ':80'\n", true),
            ("b.yml", "http:\n  routers:\n    providers: {}\n", false),
            ("c.yml", "# entryPoints: see elsewhere\nhttp: {}\n", false),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_install(&path), expected, "{name}");
        }
        assert!(!is_install(&folder.path().join("missing.yml")));
    }
}
