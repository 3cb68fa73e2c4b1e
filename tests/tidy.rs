//! Holds the documents true: the map and the import table of ARCHITECTURE.md, the options in docs/configuration.md, the links.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = top().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A file of `src/`: the room it belongs to, and its text without comments and tests.
struct Source {
    room: String,
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let src = top().join("src");
    let is_test = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default();
        stem == "tests"
            || stem == "testing"
            || path.components().any(|part| part.as_os_str() == "tests")
    };
    let files = files(&src, "rs")
        .into_iter()
        .map(|path| path.strip_prefix(&src).unwrap().to_owned());
    files
        .filter(|path| !is_test(path))
        .map(|path| Source {
            room: path
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_str()
                .unwrap()
                .trim_end_matches(".rs")
                .to_owned(),
            path: path.display().to_string(),
            code: without_tests(&read(Path::new("src").join(&path))),
        })
        .collect()
}

/// Drops comment lines, and everything from the inline test module on (it is the last item of a file).
fn without_tests(text: &str) -> String {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: Vec<&str> = code.collect();
    let tests = code.windows(2).position(|two| {
        two[0].trim() == "#[cfg(test)]" && two[1].starts_with("mod ") && two[1].ends_with('{')
    });
    code[..tests.unwrap_or(code.len())].join("\n")
}

/// The rooms that `code` names: `crate::room`, and the outermost names of `crate::{...}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut outermost = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    letter if depth == 0 => outermost.push(letter),
                    _ => {}
                }
            }
            rooms.extend(outermost.split(',').filter_map(first_word));
        } else {
            rooms.extend(first_word(rest));
        }
    }
    rooms
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text
        .trim_start()
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

/// A room and the rooms it may name.
type Line = (String, BTreeSet<String>);

/// The import table of ARCHITECTURE.md: what each room may name, in the order of the lines.
fn import_table() -> Vec<Line> {
    let text = read("ARCHITECTURE.md");
    let block = text
        .split("```imports\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("an `imports` block");
    let mut table: Vec<Line> = Vec::new();
    for line in block.lines().rev() {
        let mut words = line.split_whitespace().map(str::to_owned);
        let room = words.next().expect("a room on every line");
        let mut allowed: BTreeSet<String> = words.collect();
        let below: BTreeSet<String> = table.iter().map(|(room, _)| room.clone()).collect();
        if allowed.remove("*") {
            allowed = below;
        } else {
            assert!(
                allowed.is_subset(&below),
                "{room} points upwards: {:?}",
                allowed.difference(&below)
            );
        }
        table.push((room, allowed));
    }
    table.reverse();
    table
}

#[test]
fn imports_follow_the_table() {
    let table: BTreeMap<_, _> = import_table().into_iter().collect();
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.room != "lib" && source.room != "main")
    {
        let Some(allowed) = table.get(&source.room) else {
            wrong.push(format!("{} is a room without a line", source.room));
            continue;
        };
        let named = imports(&source.code).into_iter();
        let forbidden = named.filter(|room| {
            *room != source.room && table.contains_key(room) && !allowed.contains(room)
        });
        wrong.extend(forbidden.map(|room| format!("src/{} names {room}", source.path)));
    }
    assert!(
        wrong.is_empty(),
        "against the import table of ARCHITECTURE.md:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_code_map_names_every_room() {
    let text = read("ARCHITECTURE.md");
    let map = section(&text, "## Code map");
    let entries = fs::read_dir(top().join("src")).unwrap().flatten();
    let rooms: Vec<String> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                format!("{name}/")
            } else {
                name
            }
        })
        .collect();
    let mapped = first_column(map);
    let missing: Vec<_> = rooms
        .iter()
        .filter(|room| !mapped.contains(room.as_str()))
        .collect();
    let gone: Vec<_> = mapped
        .iter()
        .filter(|room| !rooms.iter().any(|known| known == *room))
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "the code map lacks {missing:?} and has {gone:?}, which is not there"
    );
}

#[test]
fn the_invariants_hold() {
    // What only some files may say, and which.
    let only = [
        ("ArcSwap", ["snapshot/cell.rs"].as_slice()),
        ("new_current_thread", &["runtime.rs", "cli/"]),
        ("new_multi_thread", &[]),
    ];
    let mut wrong = Vec::new();
    let sources = sources();
    for source in &sources {
        for (word, places) in only {
            if source.code.contains(word)
                && !places.iter().any(|place| source.path.starts_with(place))
            {
                wrong.push(format!("src/{} says {word}", source.path));
            }
        }
    }
    // Compile does no I/O, reads no clock and starts nothing.
    for source in sources.iter().filter(|source| source.room == "compile") {
        for word in [
            "std::fs",
            "tokio::fs",
            "fs::read",
            "Instant::now",
            "SystemTime::now",
            "spawn",
            ".await",
            "env::var",
        ] {
            if source.code.contains(word) {
                wrong.push(format!("src/{} says {word}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let dependencies = manifest
        .split("\n[dependencies]\n")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .unwrap();
    let taken: BTreeSet<&str> = dependencies
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    let text = read("ARCHITECTURE.md");
    let explained = first_column(section(&text, "## Dependencies"));
    assert_eq!(
        taken, explained,
        "Cargo.toml (left) and the dependencies of ARCHITECTURE.md (right)"
    );
    let sources = sources();
    let unused: Vec<_> = taken
        .iter()
        .map(|name| match *name {
            "md-5" => "md5".to_owned(),
            name => name.replace('-', "_"),
        })
        .filter(|name| !sources.iter().any(|source| says(&source.code, name)))
        .collect();
    assert!(unused.is_empty(), "nobody uses {unused:?}");
}

/// Whether `word` stands in `text` by itself.
fn says(text: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// What stands in backticks in the first column of the tables of `text`.
fn first_column(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| code_spans(line.split('|').nth(1).unwrap()))
        .collect()
}

#[test]
fn every_option_is_documented() {
    let page = read("docs/configuration.md");
    let mut missing = Vec::new();
    for path in files(&top().join("src/config/install"), "rs")
        .into_iter()
        .chain(files(&top().join("src/config/routing"), "rs"))
    {
        for (section_name, option) in options(&read(&path)) {
            let heading = format!("### `{section_name}`");
            let documented = page
                .split(&format!("{heading}\n"))
                .nth(1)
                .and_then(|rest| rest.split("\n## ").next())
                .map(|rest| rest.split("\n### ").next().unwrap_or(rest));
            match documented {
                None => missing.push(format!("the section {heading}")),
                Some(text) if !text.contains(&format!("`{option}`")) => {
                    missing.push(format!("`{option}` in {heading}"))
                }
                Some(_) => {}
            }
        }
    }
    missing.dedup();
    assert!(
        missing.is_empty(),
        "docs/configuration.md lacks\n{}",
        missing.join("\n")
    );
}

/// The options of every section in a file of `config/`: a struct whose documentation starts with the path of its section, and its fields,
/// whose documentation starts with the name of the option.
fn options(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut said: Option<String> = None;
    let mut inside: Option<String> = None;
    for line in text
        .split("#[cfg(test)]")
        .next()
        .unwrap()
        .lines()
        .map(str::trim)
    {
        if let Some(comment) = line.strip_prefix("/// ") {
            said.get_or_insert_with(|| comment.to_owned());
        } else if line.starts_with("pub struct ") {
            let section = said.take().filter(|said| said.starts_with('`'));
            inside = section.map(|said| code_spans(&said)[0].replace("….", "http.services.NAME."));
        } else if line.starts_with("pub enum ") || line == "}" {
            (said, inside) = (None, None);
        } else if let Some(section) = inside.as_ref().filter(|_| line.starts_with("pub ")) {
            let option = said.take().filter(|said| said.starts_with('`'));
            found.extend(option.map(|said| (section.clone(), code_spans(&said)[0].to_owned())));
        } else if line.is_empty() {
            said = None;
        }
    }
    // Objects by name: their sections are those of the objects.
    found.retain(|(section, _)| !matches!(&**section, "http" | "tcp" | "http.services.NAME"));
    found
}

/// What the code knows of Traefik's options and does not act on has its line in docs/compatibility.md, with the reason and what to do
/// instead, and what has a line is not acted on.
#[test]
fn what_is_not_supported_is_listed() {
    let page = read("docs/compatibility.md");
    let listed = first_column(section(&page, "## What is not supported"));
    let listed: BTreeSet<String> = listed
        .into_iter()
        .filter(|option| !option.starts_with('/'))
        .map(str::to_owned)
        .collect();
    let mut known = BTreeSet::new();
    for folder in ["src/config/install", "src/config/routing"] {
        for path in files(&top().join(folder), "rs") {
            known.extend(absent(&read(&path)));
        }
    }
    for file in ["src/config/check.rs", "src/config/resolvers.rs"] {
        known.extend(checked(&read(file)));
    }
    let missing: Vec<&String> = known.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "docs/compatibility.md lacks {missing:?}"
    );
    let stale: Vec<&String> = listed.difference(&known).collect();
    assert!(stale.is_empty(), "these are supported: {stale:?}");
    assert!(known.len() > 25, "{known:?}");
}

/// The options in a file of `config/` that are kept as they were written.
fn absent(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut said, mut inside) = (None, String::new());
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("/// ") {
            said.get_or_insert_with(|| comment.to_owned());
        } else if line.starts_with("pub struct ") {
            let section = said.take().filter(|said: &String| said.starts_with('`'));
            inside = section.map_or_else(String::new, |said| code_spans(&said)[0].to_owned());
        } else if line.starts_with("pub ") && line.contains("Opaque>") {
            let option = said.take().unwrap_or_default();
            let option = code_spans(&option).first().map_or("", |option| option);
            found.extend(match (line.contains("Placed<"), inside.as_str()) {
                // TCP and UDP are not acted on as a whole.
                (true, _) => vec!["tcp".to_owned(), "udp".to_owned()],
                (false, "") => vec![option.to_owned()],
                (false, inside) => vec![format!("{inside}.{option}")],
            });
        } else if line.starts_with("pub ") || line.is_empty() {
            said = None;
        } else if line == "plugin \"plugin\"," {
            found.insert("http.middlewares.NAME.plugin".to_owned());
        }
    }
    found
}

/// The options that a check of the install configuration calls unsupported.
fn checked(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let strings = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let table = text.split("let unsupported = [").nth(1).unwrap_or_default();
    let table = table.split("];").next().unwrap_or_default();
    let fields = table.split('"').skip(1).step_by(2);
    let fields = fields.filter(|text| !text.contains(' '));
    found.extend(fields.map(|field| format!("entryPoints.NAME.{field}")));
    for call in text.split("self.unsupported(").skip(1) {
        let literal = call.starts_with('"').then(|| strings(call)).flatten();
        found.extend(literal);
    }
    let said = "let message = \"is known, but not supported by this version\";";
    for (before, _) in text.match_indices(said).map(|(at, _)| text.split_at(at)) {
        let join = before.rfind("join(path, \"").map(|at| &before[at..]);
        let field = join.and_then(strings).unwrap_or_default();
        found.insert(format!("certificatesResolvers.NAME.acme.{field}"));
    }
    found
}

#[test]
fn options_are_found_in_the_code() {
    let found = options(&read("src/config/install/entrypoint.rs"));
    let has = |section: &str, option: &str| found.iter().any(|(s, o)| s == section && o == option);
    assert!(has("entryPoints.NAME", "allowACMEByPass"));
    assert!(has(
        "entryPoints.NAME.transport.respondingTimeouts",
        "headerTimeout"
    ));
    assert!(found.len() > 50, "{}", found.len());
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for path in documents() {
        let text = read(&path);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            // The plot is there once the benchmark has been run.
            if target.contains("://")
                || target.starts_with('#')
                || target == "benches/peers/results.svg"
            {
                continue;
            }
            let file = target.split('#').next().unwrap();
            if !top().join(path.parent().unwrap()).join(file).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn documents_keep_their_size() {
    for (path, most) in [
        ("ARCHITECTURE.md", 250),
        ("CONTRIBUTING.md", 150),
        ("justfile", 40),
    ] {
        let lines = read(path).lines().count();
        assert!(
            lines <= most,
            "{path} has {lines} lines, {most} are allowed"
        );
    }
}

/// The documents at the top and in `docs/`.
fn documents() -> Vec<PathBuf> {
    let top_level = fs::read_dir(top())
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let top_level = top_level.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let all = top_level
        .chain(files(&top().join("docs"), "md"))
        .chain(files(&top().join("examples"), "md"));
    all.map(|path| path.strip_prefix(top()).unwrap().to_owned())
        .collect()
}

/// From a heading to the next one of its level.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let start = text.find(heading).unwrap_or_else(|| panic!("no {heading}"));
    let rest = &text[start + heading.len()..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// What stands in backticks.
fn code_spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}
