//! `portway rollout` with a false `docker`: what a signal does to the process. The rest is beside the code, and in `tests/zero_downtime`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{binary, eventually, free_port, subject_is_traefik};

const OLD: &str = r#"{"Id": "old", "Name": "/web-1", "State": {"Status": "running", "Health": {"Status": "healthy"}}}"#;
const NEW: &str = r#"{"Id": "new", "Name": "/web-2", "State": {"Status": "running", "Health": {"Status": "healthy"}}}"#;

#[tokio::test]
async fn whoever_ends_a_rollout_gets_the_old_state_back() {
    if subject_is_traefik() {
        return;
    }
    for signal in ["INT", "TERM", "HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("containers")).unwrap();
        std::fs::create_dir(at("next")).unwrap();
        std::fs::write(at("containers/old"), OLD).unwrap();
        std::fs::write(at("next/new"), NEW).unwrap();
        std::fs::write(at("hang"), "").unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rollout");
        let path = format!("{}:{}", fixtures.display(), std::env::var("PATH").unwrap());
        let nobody = format!("http://127.0.0.1:{}", free_port());
        // Whoever runs the tests under `nohup` does not mean this one.
        let rollout = Command::new("env")
            .arg("--default-signal=HUP")
            .arg(binary())
            .args(["rollout", "web", "--api", &nobody])
            .env("PATH", path)
            .env("FALSE_DOCKER", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("`docker compose up` runs", async || {
            at("begun").exists().then_some(())
        })
        .await;
        let pid = rollout.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        // What Docker is at ends first; that everything is ready then does not count any more.
        std::fs::remove_file(at("hang")).unwrap();
        let output = rollout.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{signal}: {said}");
        assert!(said.contains("rollout: interrupted"), "{signal}: {said}");
        assert!(at("containers/old").exists(), "{signal}: {said}");
        assert!(!at("containers/new").exists(), "{signal}: {said}");
    }
}
