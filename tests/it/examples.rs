//! Every configuration that we hand out is accepted as it stands.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{binary, subject_is_traefik};

fn checked(dir: &Path, file: &str) {
    let output = Command::new(binary())
        .args(["check", &format!("--configFile={file}")])
        .current_dir(dir)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}/{file}: {text}", dir.display());
}

#[test]
fn the_example_configuration_is_good() {
    if !subject_is_traefik() {
        checked(Path::new(env!("CARGO_MANIFEST_DIR")), "config/portway.yml");
    }
}

#[test]
fn the_configuration_of_the_readme_is_good() {
    if subject_is_traefik() {
        return;
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks = readme.split("```yaml\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    let [install, routing] = blocks[..] else {
        panic!("an install and a routing configuration: {blocks:?}")
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("routing")).unwrap();
    std::fs::write(dir.path().join("portway.yml"), install).unwrap();
    std::fs::write(dir.path().join("routing/app.yml"), routing).unwrap();
    checked(dir.path(), "portway.yml");
}

#[test]
fn every_compose_example_is_good() {
    if subject_is_traefik() {
        return;
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let dirs: Vec<PathBuf> = std::fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("portway.yml").exists())
        .collect();
    assert!(dirs.len() >= 2, "{dirs:?}");
    for dir in dirs {
        let make = dir.join("make-certificates");
        if make.exists() {
            assert!(
                Command::new(make).output().unwrap().status.success(),
                "{}: make-certificates",
                dir.display()
            );
        }
        checked(&dir, "portway.yml");
        assert!(
            dir.join("compose.yml").exists() && dir.join("README.md").exists(),
            "{} lacks compose.yml or README.md",
            dir.display()
        );
    }
}

#[test]
fn the_stacks_at_the_top_are_good() {
    if subject_is_traefik() {
        return;
    }
    for file in ["docker-compose.ha.yml", "docker-compose.two-edges.yml"] {
        let output = Command::new(binary())
            .args(["check", "-f", file])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{file}: {text}");
        for label in [
            "traefik.enable",
            "traefik.http.routers.app.rule",
            "traefik.http.services.app.loadbalancer.server.port",
            "traefik.http.services.app.loadbalancer.sticky.cookie",
            "traefik.http.services.app.loadbalancer.healthcheck.path",
        ] {
            assert!(text.contains(label), "{file}: {label} in {text}");
        }
    }
}
