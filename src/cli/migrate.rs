//! `portway migrate`: configuration of Traefik 2 in the form of Traefik 3, as a diff or in its files.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    check::stack::{self, Arguments},
    complain, say,
};
use crate::{
    config::{Diagnostic, Root, Sources, install, read_install, read_text, tree::Format},
    migrate::{Migrated, Migration},
    provider::file::Source,
};

/// Prints what changes, or changes it.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let found = Wanted::of(arguments).and_then(|wanted| {
        let migrated = wanted.migrated()?;
        Ok((wanted, migrated))
    });
    match found {
        Ok((wanted, migrated)) if wanted.write => write_all(&migrated),
        Ok((_, migrated)) => print(&migrated),
        Err(wrong) => {
            complain(&wrong);
            ExitCode::from(TROUBLE)
        }
    }
}

/// What is to be migrated.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    stack: Option<Arguments>,
    files: Vec<PathBuf>,
    write: bool,
}

impl Wanted {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let (write, rest): (Vec<&String>, Vec<&String>) =
            arguments.iter().partition(|word| *word == "--write");
        let rest: Vec<String> = rest.into_iter().cloned().collect();
        let write = !write.is_empty();
        let stack =
            Arguments::of(&rest).map_err(|wrong| wrong.replacen("check:", "migrate:", 1))?;
        if let Some(stack) = stack {
            if stack.json {
                return Err("migrate: there is no --json: the answer is a diff".to_owned());
            }
            return Ok(Self {
                stack: Some(stack),
                write,
                ..Self::default()
            });
        }
        if let Some(flag) = rest.iter().find(|word| word.starts_with('-')) {
            return Err(format!(
                "migrate: {flag}: there are only --write, and -f with --env-file and --profile"
            ));
        }
        if rest.is_empty() {
            let help = "name configuration files, or a Compose file with -f";
            return Err(format!("migrate: {help} (`portway help migrate`)"));
        }
        Ok(Self {
            files: rest.iter().map(PathBuf::from).collect(),
            write,
            stack: None,
        })
    }

    fn migrated(&self) -> Result<Vec<Migrated>, String> {
        let mut migration = Migration::default();
        let mut files: BTreeSet<PathBuf> = BTreeSet::new();
        if let Some(arguments) = &self.stack {
            files.extend(add_stack(&mut migration, arguments)?);
        }
        for path in &self.files {
            let below = all_below(path).map_err(|error| format!("{}: {error}", path.display()))?;
            for path in &below {
                files.extend(routing_of(path));
            }
            files.extend(below);
        }
        for path in &files {
            let name = path.display().to_string();
            let Some(format) = Format::of(path) else {
                let hint = "name it `.yml`, `.yaml`, `.toml` or `.json`";
                return Err(format!("{name}: is neither YAML, TOML nor JSON ({hint})"));
            };
            let text = read_text(path, &name).map_err(|wrong| wrong.to_string())?;
            migration.add_file(&name, &text, format);
        }
        Ok(migration.finish())
    }
}

/// Adds the services of a stack, and gives the files that its proxies read.
fn add_stack(migration: &mut Migration, arguments: &Arguments) -> Result<Vec<PathBuf>, String> {
    let project = stack::read(arguments);
    let wrong = project.diagnostics.iter().filter(|found| found.is_error());
    let wrong: Vec<String> = wrong.map(Diagnostic::to_string).collect();
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let proxies = stack::proxies(&project);
    let read = |name: &str| std::fs::read_to_string(name).ok();
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name.as_str()).collect();
    let is_proxy = |service: &crate::compose::Service| names.contains(&service.name.as_str());
    migration.add_project(&project, &read, &is_proxy);
    let mut files = Vec::new();
    for proxy in &proxies {
        files.extend(proxy.install.clone());
        if let Some(path) = &proxy.routing {
            let below = all_below(path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.extend(below);
        }
    }
    Ok(files)
}

/// The routing files that an install configuration leads to.
fn routing_of(path: &Path) -> Vec<PathBuf> {
    if !super::check::is_install(path) {
        return Vec::new();
    }
    let argument = [format!("--configFile={}", path.display())];
    let loaded = read_install(&Sources {
        arguments: &argument,
        environment: &[],
        directory: Path::new(""),
        root: Root::Here,
    });
    let provider: Option<&install::FileProvider> = loaded.install.providers.file.as_ref();
    let Some(Ok(Source::File(path) | Source::Directory(path))) = provider.map(Source::new) else {
        return Vec::new();
    };
    // What is not here is where the file belongs, not where it is.
    all_below(&path).unwrap_or_default()
}

/// A file, or all configuration files below a directory.
fn all_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        std::fs::metadata(path)?;
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let known = path.extension().and_then(|ending| ending.to_str());
            if path.is_dir() && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if path.is_file() && known.is_some_and(|ending| ENDINGS.contains(&ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn print(all: &[Migrated]) -> ExitCode {
    let mut text = String::new();
    for migrated in all {
        for remark in remarks(migrated) {
            text.extend(["# ", &remark, "\n"]);
        }
        text.push_str(&migrated.diff);
    }
    if !text.is_empty() {
        say(text.trim_end_matches('\n'));
    }
    match all.iter().any(|migrated| !migrated.diff.is_empty()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// `FILE:LINE:COLUMN: OPTION: what there is to say`.
fn remarks(migrated: &Migrated) -> impl Iterator<Item = String> {
    migrated.remarks.iter().map(|remark| {
        let option = match remark.option.as_str() {
            "" => String::new(),
            option => format!("{option}: "),
        };
        let (name, line, column) = (&migrated.name, remark.line, remark.column);
        format!("{name}:{line}:{column}: {option}{}", remark.text)
    })
}

fn write_all(all: &[Migrated]) -> ExitCode {
    for migrated in all {
        for remark in remarks(migrated) {
            say(&remark);
        }
        if migrated.diff.is_empty() {
            continue;
        }
        let path = Path::new(&migrated.name);
        match write(path, &migrated.new) {
            Ok(kept) => say(&format!(
                "{}: written, was {}",
                path.display(),
                kept.display()
            )),
            Err(error) => {
                complain(&format!("{}: {error}", path.display()));
                return ExitCode::from(TROUBLE);
            }
        };
    }
    ExitCode::SUCCESS
}

/// Keeps the old file beside the new one. The file itself stays the same one: a container that has it mounted sees no other.
fn write(path: &Path, text: &str) -> io::Result<PathBuf> {
    let name = |number: usize| {
        let end = if number == 0 {
            String::new()
        } else {
            number.to_string()
        };
        PathBuf::from(format!("{}.bak{end}", path.display()))
    };
    let mut free = (0..MOST_KEPT).map(name).filter(|path| !path.exists());
    let kept = free
        .next()
        .ok_or_else(|| io::Error::other("there are too many .bak files"))?;
    std::fs::copy(path, &kept)?;
    std::fs::write(path, text)?;
    Ok(kept)
}

/// Nothing could be compared, as with `diff`.
const TROUBLE: u8 = 2;
const ENDINGS: [&str; 3] = ["yml", "yaml", "toml"];
const DEEPEST: usize = 16;
const MOST_KEPT: usize = 100;
