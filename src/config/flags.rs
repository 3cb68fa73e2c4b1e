//! Command-line flags to a tree: `--a.b=value`, `--a.b value`, `-a.b`, names in any case.

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Place};
use super::tree::{Branch, Node, Repeat, Scalar, Style, split_path};

/// What the command line said.
#[derive(Debug)]
pub(super) struct Flags {
    /// Everything but `configFile`.
    pub(super) root: Node,
    /// `configFile`, and its place.
    pub(super) config_file: Option<(String, Place)>,
    /// The flags in `root`, as typed, in order.
    pub(super) given: Vec<Arc<str>>,
    /// Stray words and malformed names.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Reads the arguments after the command's name.
pub(super) fn parse(arguments: &[String]) -> Flags {
    let mut reader = Reader::default();
    let mut words = arguments.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let Some(flag) = flag(word) else {
            reader.stray(word);
            continue;
        };
        match flag.split_once('=') {
            Some((name, value)) => reader.flag(dashed(word, name), name, value, Style::Quoted),
            None => match words.next_if(|next| is_value(next)) {
                Some(value) => reader.flag(word, flag, value, Style::NextWord),
                None => reader.flag(word, flag, "", Style::Bare),
            },
        }
    }
    Flags {
        root: Node {
            value: reader.tree.into_node().value,
            ..Node::root(Vec::new())
        },
        config_file: reader.config_file,
        given: reader.given,
        diagnostics: reader.diagnostics,
    }
}

#[derive(Default)]
struct Reader {
    tree: Branch,
    config_file: Option<(String, Place)>,
    given: Vec<Arc<str>>,
    diagnostics: Vec<Diagnostic>,
    previous: Option<Arc<str>>,
}

impl Reader {
    fn flag(&mut self, typed: &str, name: &str, value: &str, style: Style) {
        let typed: Arc<str> = typed.into();
        let place = Place::Flag(Arc::clone(&typed));
        self.previous = Some(Arc::clone(&typed));
        if name.eq_ignore_ascii_case("configFile") {
            if style == Style::Bare || value.is_empty() {
                let wrong = Diagnostic::error(place, "configFile", "needs a value: a file");
                self.diagnostics.push(wrong);
            } else {
                self.config_file = Some((value.to_owned(), place));
            }
            return;
        }
        match split_path(name) {
            Ok(path) => {
                let value = Scalar::new(value, style);
                self.tree.insert(&path, value, &place, Repeat::Keep);
                self.given.push(typed);
            }
            Err(wrong) => self.diagnostics.push(Diagnostic::error(place, name, wrong)),
        }
    }

    fn stray(&mut self, word: &str) {
        let place = Place::Flag(word.into());
        let wrong = Diagnostic::error(place, "", "unexpected word among the flags");
        let hint = match &self.previous {
            Some(flag) => {
                format!("after `{flag}`: write lists with commas, quote values with blanks")
            }
            None => "flags begin with `--`".to_owned(),
        };
        self.diagnostics.push(wrong.with_hint(hint));
    }
}

/// The name and value of `--name=value` or `-name=value`.
fn flag(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    let named = name.starts_with(|c: char| c.is_alphabetic());
    named.then_some(name)
}

/// The flag as typed, without its value.
fn dashed<'a>(word: &'a str, name: &str) -> &'a str {
    let dashes = word.len() - word.trim_start_matches('-').len();
    &word[..dashes + name.len()]
}

/// Whether a word can be the value of the flag before it: anything but a flag.
fn is_value(word: &str) -> bool {
    flag(word).is_none() && word != "--"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode;
    use crate::config::install::Install;

    fn read(words: &[&str]) -> (Option<Install>, Vec<String>) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let flags = parse(&words);
        let decoded = decode::<Install>(&flags.root, "");
        let all = flags.diagnostics.into_iter().chain(decoded.diagnostics);
        (decoded.value, all.map(|found| found.to_string()).collect())
    }

    #[test]
    fn all_spellings() {
        let (install, found) = read(&[
            "--entryPoints.web.address=:80",
            "-entrypoints.WEB.asdefault",
            "--entryPoints.tls.address",
            ":443",
            "--ping",
            "--api.insecure",
            "false",
            "--accesslog.filters.statuscodes=200,300-302",
            "--accesslog.filters.statuscodes",
            "404",
            "--log.level=INFO",
            "--log.level=debug",
            "--entryPoints.tls.http.tls.domains[0].main=a.test",
            "--entryPoints.tls.http.tls.domains[0].sans=b.test,c.test",
            "--entryPoints.tls.transport.keepAliveMaxTime",
            "-1",
        ]);
        assert_eq!(found, [""; 0]);
        let install = install.unwrap();
        assert_eq!(
            install.entry_points.keys().collect::<Vec<_>>(),
            ["web", "tls"]
                .map(String::from)
                .iter()
                .rev()
                .collect::<Vec<_>>()
        );
        assert!(install.entry_points["web"].as_default);
        assert_eq!(install.entry_points["tls"].address.port, 443);
        assert!(install.ping.is_some());
        assert!(!install.api.unwrap().insecure);
        assert_eq!(install.access_log.unwrap().filters.status_codes.len(), 3);
        assert_eq!(serde_json::to_value(install.log.level).unwrap(), "DEBUG");
        let tls = install.entry_points["tls"].http.tls.as_ref().unwrap();
        assert_eq!(tls.domains[0].sans, ["b.test", "c.test"]);
    }

    #[test]
    fn stray_words_and_misplaced_values_are_errors() {
        for (words, expected) in [
            (
                &["run", "--ping"][..],
                "run: error: unexpected word among the flags (flags begin with `--`)",
            ),
            (
                &["--log.level=INFO", "x"],
                "x: error: unexpected word among the flags (after `--log.level`: write lists with commas, quote values with blanks)",
            ),
            (
                &["--api.insecure", "web"],
                "--api.insecure: error: api.insecure: expected `true` or `false`, found \"web\"",
            ),
            (
                &["--ping", "web"],
                "--ping: error: ping: takes no value, found the word \"web\"",
            ),
            (
                &["--log.level"],
                "--log.level: warning: log.level: needs a value: a single value; the default is used",
            ),
            (
                &["--entrypoints.web.http.middlewares"],
                "--entrypoints.web.http.middlewares: error: entryPoints.web.http.middlewares: needs a value: a list",
            ),
            (
                &["--a..b=1"],
                "--a..b: error: a..b: an empty name in `a..b`",
            ),
            (
                &["--configFile"],
                "--configFile: error: configFile: needs a value: a file",
            ),
            (
                &["--", "x"],
                "--: error: unexpected word among the flags (flags begin with `--`)",
            ),
            (
                &["--entrypoint.web.address=:80"],
                "--entrypoint.web.address: error: entrypoint: unknown option (did you mean `entryPoints`?)",
            ),
        ] {
            let (_, found) = read(words);
            assert_eq!(found[0], expected);
        }
    }
}
