//! The Compose project, by way of the `docker` command: it knows the user's contexts, credentials and plugins.

use std::{
    net::IpAddr,
    os::unix::process::CommandExt as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::options::Options;

/// A Compose service and how to reach it.
#[derive(Debug)]
pub(super) struct Stack {
    service: String,
    compose: Vec<String>,
}

/// A container as Docker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// `running`, `exited`, `restarting`, ...
    status: String,
    /// `starting`, `healthy`, `unhealthy`; none without a `HEALTHCHECK`.
    health: Option<String>,
    restarts: u64,
}

impl Stack {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            service: options.service.clone(),
            compose: options.compose.clone(),
        }
    }

    /// The running containers of the service.
    pub(super) fn containers(&self) -> Result<Vec<Container>, String> {
        let mut containers = self.all_containers()?;
        containers.retain(|container| container.status == "running");
        Ok(containers)
    }

    /// All its containers, those that have ended included.
    pub(super) fn all_containers(&self) -> Result<Vec<Container>, String> {
        let listed = self.compose(&["ps", "--all", "--quiet", &self.service])?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        inspect(&ids)
    }

    /// Starts containers until there are `count`; those that run stay as they are.
    pub(super) fn scale(&self, count: usize) -> Result<(), String> {
        let scale = format!("{}={count}", self.service);
        let up = [
            "up",
            "--detach",
            "--no-deps",
            "--no-recreate",
            "--scale",
            &scale,
            &self.service,
        ];
        self.compose(&up).map(drop)
    }

    /// Asks containers to end and waits for it: for each as long as its `stop_grace_period` allows.
    pub(super) fn stop(&self, containers: &[Container]) -> Result<(), String> {
        docker_with(&["stop"], containers)
    }

    pub(super) fn remove(&self, containers: &[Container]) -> Result<(), String> {
        docker_with(&["rm", "--force", "--volumes"], containers)
    }

    /// The last lines that a container has written, to explain why it failed.
    pub(super) fn last_words(&self, container: &Container) -> Vec<String> {
        let Ok(output) =
            output(Command::new("docker").args(["logs", "--tail", "5", &container.id]))
        else {
            return Vec::new();
        };
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn compose(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        command.arg("compose").args(&self.compose).args(arguments);
        succeed(&mut command)
    }
}

impl Container {
    /// Whether Docker takes it for well.
    pub(super) fn is_ready(&self) -> bool {
        self.status == "running"
            && self
                .health
                .as_deref()
                .is_none_or(|health| health == "healthy")
    }

    /// An error if it will not become ready any more.
    pub(super) fn still_possible(&self) -> Result<(), String> {
        let lost = matches!(&*self.status, "exited" | "dead" | "removing" | "restarting")
            || self.restarts > 0
            || self.health.as_deref() == Some("unhealthy");
        if lost {
            return Err(format!("{} is {}", self.name, self.state()));
        }
        Ok(())
    }

    /// In words.
    pub(super) fn state(&self) -> String {
        match &self.health {
            _ if self.restarts > 0 => format!("{} after {} restarts", self.status, self.restarts),
            Some(health) if self.status == "running" => health.clone(),
            _ => self.status.clone(),
        }
    }

    fn of(described: &Value) -> Option<Self> {
        let text = |at: &str| described.pointer(at).and_then(Value::as_str);
        let networks = described
            .pointer("/NetworkSettings/Networks")
            .and_then(Value::as_object);
        let addresses = networks
            .into_iter()
            .flat_map(|networks| networks.values())
            .flat_map(|network| [network.get("IPAddress"), network.get("GlobalIPv6Address")])
            .filter_map(|address| address?.as_str()?.parse().ok());
        Some(Self {
            id: text("/Id")?.to_owned(),
            name: text("/Name")?.trim_start_matches('/').to_owned(),
            addresses: addresses.collect(),
            status: text("/State/Status")?.to_owned(),
            health: text("/State/Health/Status")
                .filter(|health| *health != "none")
                .map(str::to_owned),
            restarts: described
                .get("RestartCount")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        })
    }
}

/// Describes containers; one that is gone meanwhile is left out.
fn inspect(ids: &[&str]) -> Result<Vec<Container>, String> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let output = output(Command::new("docker").arg("inspect").args(ids))?;
    let described: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!(
            "docker inspect: {error}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })?;
    Ok(described.iter().filter_map(Container::of).collect())
}

fn docker_with(arguments: &[&str], containers: &[Container]) -> Result<(), String> {
    if containers.is_empty() {
        return Ok(());
    }
    let ids = containers.iter().map(|container| &container.id);
    succeed(Command::new("docker").args(arguments).args(ids)).map(drop)
}

/// What a command printed.
pub(super) fn succeed(command: &mut Command) -> Result<String, String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let shown: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    Err(format!(
        "docker {} failed: {}",
        shown.join(" "),
        said.trim()
    ))
}

fn output(command: &mut Command) -> Result<Output, String> {
    // A process group of its own: Ctrl-C is for us, who then tidy up with the same command.
    command
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run `docker`: {error} (is the Docker CLI installed?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: &str, restarts: u64) -> Container {
        let described = format!(
            r#"{{"Id": "1", "Name": "/shop-web-1", "RestartCount": {restarts}, "State": {state},
                "NetworkSettings": {{"Networks": {{"a": {{"IPAddress": "10.0.0.2", "GlobalIPv6Address": ""}}, "b": {{"IPAddress": "10.1.0.2"}}}}}}}}"#
        );
        Container::of(&serde_json::from_str(&described).unwrap()).unwrap()
    }

    #[test]
    fn containers_are_read() {
        let container = container(r#"{"Status": "running"}"#, 0);
        assert_eq!((&*container.name, &*container.id), ("shop-web-1", "1"));
        assert_eq!(
            container.addresses,
            [
                "10.0.0.2".parse::<IpAddr>().unwrap(),
                "10.1.0.2".parse().unwrap()
            ]
        );
    }

    #[test]
    fn readiness_follows_status_and_health() {
        for (state, restarts, ready, possible, words) in [
            (r#"{"Status": "running"}"#, 0, true, true, "running"),
            (
                r#"{"Status": "running", "Health": {"Status": "healthy"}}"#,
                0,
                true,
                true,
                "healthy",
            ),
            (
                r#"{"Status": "running", "Health": {"Status": "none"}}"#,
                0,
                true,
                true,
                "running",
            ),
            (
                r#"{"Status": "running", "Health": {"Status": "starting"}}"#,
                0,
                false,
                true,
                "starting",
            ),
            (
                r#"{"Status": "running", "Health": {"Status": "unhealthy"}}"#,
                0,
                false,
                false,
                "unhealthy",
            ),
            (r#"{"Status": "created"}"#, 0, false, true, "created"),
            (r#"{"Status": "exited"}"#, 0, false, false, "exited"),
            (
                r#"{"Status": "running"}"#,
                2,
                true,
                false,
                "running after 2 restarts",
            ),
        ] {
            let container = container(state, restarts);
            assert_eq!(container.is_ready(), ready, "{state}");
            assert_eq!(container.still_possible().is_ok(), possible, "{state}");
            assert_eq!(container.state(), words, "{state}");
        }
    }
}
