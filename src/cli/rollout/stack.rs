//! The Compose project, by way of the `docker` command.

use std::{net::IpAddr, rc::Rc};

use serde_json::Value;

use super::{docker::Docker, options::Options};

/// A Compose service and how to reach it.
#[derive(Debug)]
pub(super) struct Stack {
    service: String,
    compose: Vec<String>,
    docker: Rc<Docker>,
}

/// A container as Docker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// Where it takes connections, as far as labels or the image say.
    pub(super) ports: Vec<u16>,
    /// `running`, `exited`, `restarting`, ...
    status: String,
    /// `starting`, `healthy`, `unhealthy`; none without a `HEALTHCHECK`.
    health: Option<String>,
    restarts: u64,
    /// Of `docker compose run`: no replica, whatever it does.
    one_off: bool,
}

impl Stack {
    pub(super) fn new(options: &Options, docker: Rc<Docker>) -> Self {
        Self {
            service: options.service.clone(),
            compose: options.compose.clone(),
            docker,
        }
    }

    /// The replicas of the service, those that have ended included.
    pub(super) fn replicas(&self) -> Result<Vec<Container>, String> {
        let listed = self.compose(&["ps", "--all", "--quiet", &self.service])?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        let mut containers = self.inspect(&ids)?;
        containers.retain(|container| !container.one_off);
        Ok(containers)
    }

    /// What has become of containers; those that are gone are left out.
    pub(super) fn now(&self, containers: &[Container]) -> Result<Vec<Container>, String> {
        let ids: Vec<&str> = containers.iter().map(|container| &*container.id).collect();
        self.inspect(&ids)
    }

    /// Starts containers until there are `count`. Those that run stay as they are; those that have ended count, too, and are started.
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
        self.with(&["stop"], containers)
    }

    /// Removes containers that have ended, with the volumes that are theirs alone.
    pub(super) fn remove(&self, containers: &[Container]) -> Result<(), String> {
        self.with(&["rm", "--volumes"], containers)
    }

    /// The same, whatever they are at.
    pub(super) fn kill(&self, containers: &[Container]) -> Result<(), String> {
        self.with(&["rm", "--force", "--volumes"], containers)
    }

    /// The last lines that a container has written, to explain why it failed.
    pub(super) fn last_words(&self, container: &Container) -> Vec<String> {
        let Ok(output) = self.docker.output(&["logs", "--tail", "5", &container.id]) else {
            return Vec::new();
        };
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn compose(&self, arguments: &[&str]) -> Result<String, String> {
        let mut words = vec!["compose"];
        words.extend(self.compose.iter().map(|word| &**word));
        words.extend(arguments);
        self.docker.succeed(&words)
    }

    fn with(&self, arguments: &[&str], containers: &[Container]) -> Result<(), String> {
        if containers.is_empty() {
            return Ok(());
        }
        let ids = containers.iter().map(|container| &*container.id);
        let words: Vec<&str> = arguments.iter().copied().chain(ids).collect();
        self.docker.succeed(&words).map(drop)
    }

    fn inspect(&self, ids: &[&str]) -> Result<Vec<Container>, String> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let output = self.docker.output(&[&["inspect"][..], ids].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        // One that is gone makes it fail, too; then that is all it complains of.
        let gone = |line: &str| line.to_lowercase().contains("no such");
        if !output.status.success() && (said.is_empty() || !said.lines().all(gone)) {
            return Err(format!("docker inspect failed: {said}"));
        }
        let described: Vec<Value> = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("docker inspect: {error}: {said}"))?;
        Ok(described.iter().filter_map(Container::of).collect())
    }
}

impl Container {
    /// Whether it is there to serve, even if it is between two attempts.
    pub(super) fn lives(&self) -> bool {
        matches!(&*self.status, "running" | "restarting" | "paused")
    }

    /// Whether Docker itself finds out how it is.
    pub(super) fn is_checked(&self) -> bool {
        self.health.is_some()
    }

    /// Whether Docker takes it for well.
    pub(super) fn is_ready(&self) -> bool {
        self.status == "running"
            && self
                .health
                .as_deref()
                .is_none_or(|health| health == "healthy")
    }

    /// Whether nobody can tell from outside how it is.
    pub(super) fn is_mute(&self) -> bool {
        self.status == "running" && !self.is_checked() && self.ports.is_empty()
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
            ports: ports(described),
            one_off: label(described, "com.docker.compose.oneoff") == Some("True"),
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

fn label<'a>(described: &'a Value, name: &str) -> Option<&'a str> {
    described.pointer("/Config/Labels")?.get(name)?.as_str()
}

/// The ports that labels name for Portway, or else the lowest one that the image exposes, which is what Portway takes then.
fn ports(described: &Value) -> Vec<u16> {
    let labels = described
        .pointer("/Config/Labels")
        .and_then(Value::as_object);
    let mut named: Vec<u16> = labels
        .into_iter()
        .flatten()
        .filter(|(name, _)| {
            name.to_ascii_lowercase()
                .ends_with(".loadbalancer.server.port")
        })
        .filter_map(|(_, port)| port.as_str()?.trim().parse().ok())
        .collect();
    if named.is_empty() {
        let exposed = described
            .pointer("/Config/ExposedPorts")
            .and_then(Value::as_object);
        let lowest = exposed
            .into_iter()
            .flat_map(|ports| ports.keys())
            .filter_map(|port| port.strip_suffix("/tcp")?.parse::<u16>().ok())
            .min();
        named.extend(lowest);
    }
    named.sort_unstable();
    named.dedup();
    named
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A running container with these addresses.
    pub(in crate::cli::rollout) fn container_at(addresses: &[&str]) -> Container {
        let mut container = container(r#"{"Status": "running"}"#, 0);
        container.addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        container
    }

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
        assert!(container.ports.is_empty() && !container.one_off);
    }

    #[test]
    fn labels_and_the_image_name_ports() {
        for (config, ports, one_off) in [
            (r#"{}"#, &[][..], false),
            (r#"{"Labels": null, "ExposedPorts": null}"#, &[], false),
            (
                r#"{"ExposedPorts": {"9000/tcp": {}, "8080/tcp": {}, "53/udp": {}}}"#,
                &[8080],
                false,
            ),
            (
                r#"{"ExposedPorts": {"9000/tcp": {}}, "Labels": {"traefik.http.services.a.loadBalancer.server.port": "81",
                    "traefik.http.services.b.loadbalancer.server.port": "80", "com.docker.compose.oneoff": "False"}}"#,
                &[80, 81],
                false,
            ),
            (
                r#"{"Labels": {"com.docker.compose.oneoff": "True"}}"#,
                &[],
                true,
            ),
        ] {
            let described = format!(
                r#"{{"Id": "1", "Name": "/a", "State": {{"Status": "running"}}, "Config": {config}}}"#
            );
            let container = Container::of(&serde_json::from_str(&described).unwrap()).unwrap();
            assert_eq!(container.ports, ports, "{config}");
            assert_eq!(container.one_off, one_off, "{config}");
        }
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
