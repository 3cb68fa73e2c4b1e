//! `tests/golden/labels/NAME.labels` must decode to `NAME.json`. Set `UPDATE_GOLDEN` to write the latter anew, then read the diff.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/labels");
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "labels"))
        .collect();
    cases.sort();
    cases
}

fn app() -> Labelled {
    Labelled::Container("app-1".into())
}

fn outcome(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let labels = lines.map(|line| line.split_once('=').unwrap_or((line, "")));
    let read = decode_labels(&app(), labels);
    let broken: Vec<_> = read
        .decoded
        .broken
        .iter()
        .map(|(kind, name)| format!("{kind} {name}"))
        .collect();
    let diagnostics: Vec<_> = read
        .decoded
        .diagnostics
        .iter()
        .map(ToString::to_string)
        .collect();
    let whole = json!({
        "routing": read.decoded.routing,
        "servers": read.servers,
        "enable": read.enable,
        "docker": read.docker,
        "swarm": read.swarm,
        "broken": broken,
        "diagnostics": diagnostics,
    });
    serde_json::to_string_pretty(&whole).unwrap() + "\n"
}

#[test]
fn golden() {
    let cases = cases();
    assert!(cases.len() >= 6, "the golden files are gone");
    for case in cases {
        let found = outcome(&fs::read_to_string(&case).unwrap());
        let golden = case.with_extension("json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(found, expected, "{}", case.display());
    }
}

#[test]
fn places_name_container_and_label() {
    let read = decode_labels(
        &app(),
        [
            ("traefik.http.routers.a.rule", "Host(`a`)"),
            ("traefik.http.routers.a.tls", "true"),
        ],
    );
    let router = &read.decoded.routing.http.routers["a"];
    assert_eq!(
        router.at("rule").to_string(),
        "container app-1, label traefik.http.routers.a.rule"
    );
    assert_eq!(
        router.at("tls").to_string(),
        "container app-1, label traefik.http.routers.a.tls"
    );
}

proptest! {
    #[test]
    fn never_panics(
        labels in proptest::collection::vec(
            ("(traefik\\.)?(http|tcp|tls|enable|docker|swarm)?(\\.(routers|services|middlewares|loadbalancer|server|servers|a|tls|0|\\[0\\]|rule|port)(\\[[0-9a]?\\]?)?){0,6}", ".{0,12}"),
            0..12,
        ),
    ) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let read = decode_labels(&app(), labels.iter().copied());
        let again = decode_labels(&app(), labels.iter().rev().copied());
        prop_assert_eq!(read.decoded.routing, again.decoded.routing);
    }
}
