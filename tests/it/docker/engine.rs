//! Containers for one test, on the engine that `tests/engine` makes sure of.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Every container of a test carries this label, with the test's own value.
pub const LABEL: &str = "portway.test";
pub const IMAGE: &str = "portway-test:1";

/// Answers its name over HTTP on port 80, and ends at once when told to.
pub const SERVE: &str =
    "echo $NAME > /www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait";

/// The containers and networks of one test. They are removed when it is dropped.
pub struct Stack {
    pub run: String,
}

impl Stack {
    pub fn new() -> Self {
        static ENGINE: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ENGINE.call_once(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine");
            let status = Command::new(script).status().unwrap();
            assert!(
                status.success(),
                "there is no Docker engine: see tests/engine"
            );
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            run: format!("t{}-{number}", std::process::id()),
        }
    }

    /// Names are the test's own.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    /// Starts a container that serves; `options` are those of `docker run`, separated by white space unless in a list of two.
    pub fn serve(&self, name: &str, labels: &[(&str, &str)], options: &[&str]) {
        self.start(name, labels, options, SERVE);
    }

    /// Starts a container that runs a script of the shell.
    pub fn start(&self, name: &str, labels: &[(&str, &str)], options: &[&str], script: &str) {
        let own = self.name(name);
        let mut command = Command::new("docker");
        command.args(["run", "-d"]);
        command.args(["--name", &own, "--env", &format!("NAME={name}")]);
        command.args(["--label", &format!("{LABEL}={}", self.run)]);
        for (key, value) in labels {
            command.args(["--label", &format!("{key}={value}")]);
        }
        let output = command
            .args(options)
            .args([IMAGE, "sh", "-c", script])
            .output();
        done(&output.unwrap());
    }

    /// `docker VERB OPTIONS NAME`.
    pub fn docker(&self, arguments: &[&str], name: &str) -> String {
        let own = self.name(name);
        done(
            &Command::new("docker")
                .args(arguments)
                .arg(own)
                .output()
                .unwrap(),
        )
    }

    /// A command inside a container.
    pub fn exec(&self, name: &str, script: &str) {
        let own = self.name(name);
        let output = Command::new("docker")
            .args(["exec", &own, "sh", "-c", script])
            .output();
        done(&output.unwrap());
    }

    /// Makes a network, named after the test.
    pub fn network(&self, name: &str) -> String {
        let own = self.name(name);
        let label = format!("{LABEL}={}", self.run);
        let output = Command::new("docker")
            .args(["network", "create", "--label", &label, &own])
            .output();
        done(&output.unwrap());
        own
    }

    pub fn connect(&self, verb: &str, network: &str, container: &str) {
        let own = self.name(container);
        let output = Command::new("docker")
            .args(["network", verb, network, &own])
            .output();
        done(&output.unwrap());
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let filter = format!("label={LABEL}={}", self.run);
        for (list, remove) in [
            (&["ps", "-aq"][..], &["rm", "-fv"][..]),
            (&["network", "ls", "-q"], &["network", "rm"]),
        ] {
            let found = Command::new("docker")
                .args(list)
                .args(["--filter", &filter])
                .output();
            let found = found.map(|output| output.stdout).unwrap_or_default();
            let found = String::from_utf8_lossy(&found).into_owned();
            let found: Vec<&str> = found.split_whitespace().collect();
            for some in found.chunks(50) {
                let mut command = Command::new("docker");
                command.args(remove).args(some).stdout(Stdio::null());
                command.stderr(Stdio::null()).status().ok();
            }
        }
    }
}

fn done(output: &Output) -> String {
    let (out, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "docker: {out}{wrong}");
    out.trim().to_owned()
}
