//! Nothing that comes from a file, the command line or the environment may panic.

use proptest::prelude::*;

use super::parse_routing_file;
use crate::config::tree::{Format, Source, parse};
use crate::config::{env, flags};

/// Pieces that make interesting YAML, TOML and templates when thrown together.
const PIECES: &[&str] = &[
    "http",
    "routers",
    "services",
    "tls",
    "certificates",
    "a",
    "rule",
    ":",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "\n- ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "[[",
    "]]",
    ",",
    "\"",
    "'",
    "`",
    "|",
    ">",
    "&x ",
    "*x",
    "<<: ",
    "!!str ",
    "#",
    "---\n",
    "...\n",
    "\t",
    "=",
    ".",
    "{{",
    "}}",
    " env ",
    " range ",
    " if ",
    " end ",
    " else ",
    "$x",
    ":= ",
    "(",
    ")",
    "é",
    "\u{feff}",
    "\r\n",
    "\\",
    "\\u0000",
    "0",
    "-1",
    "true",
    "null",
    "~",
    "?",
    "@",
    "%YAML 1.2\n",
    "loadBalancer",
    "servers",
    "url",
    "\u{0}",
];

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn routing_files(text in text(), toml in any::<bool>()) {
        let name = if toml { "a.toml" } else { "a.yml" };
        drop(parse_routing_file(name, &text, &|name| Some(name.to_owned())));
    }

    #[test]
    fn arbitrary_text(text in "\\PC{0,200}") {
        for format in [Format::Yaml, Format::Toml] {
            parse(format, &Source::new("a", &text));
        }
        drop(parse_routing_file("a.yml", &format!("{{{{{text}}}}}"), &|_| None));
    }

    #[test]
    fn flags_and_variables(words in proptest::collection::vec("-{0,2}[a-z.=\\[\\] 0-9é]{0,20}", 0..8)) {
        flags::parse(&words);
        let variables: Vec<_> = words.iter().map(|word| (format!("TRAEFIK_{word}"), word.clone())).collect();
        env::parse(&variables);
    }
}
