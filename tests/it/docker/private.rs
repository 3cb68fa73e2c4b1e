//! An engine of a test's own, for what must not be done to the usual one: in namespaces of its own, so that neither its networks nor its
//! ports meet those of others, and so that nothing of it outlives it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// An engine. Whatever runs in it ends when it is dropped.
pub struct Engine {
    folder: tempfile::TempDir,
    child: Child,
    /// The cable to it.
    cable: Option<u8>,
}

impl Engine {
    /// Starts one. `image` is taken from the usual engine.
    pub fn start(image: &str) -> Self {
        Self::with(image, &[], |_| {})
    }

    /// Starts one with options, when `prepare` has made what these name. It is told the engine's address.
    pub fn with(image: &str, options: &[&str], prepare: impl FnOnce(Ipv4Addr)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Self {
            child: spawn(folder.path(), options),
            cable: None,
            folder,
        };
        engine.plug_in();
        prepare(engine.ip());
        // Now it may begin.
        drop(engine.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !engine
            .command(&["version"])
            .output()
            .unwrap()
            .status
            .success()
        {
            assert!(
                Instant::now() < deadline && engine.child.try_wait().unwrap().is_none(),
                "the engine does not start:\n{}",
                engine.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let socket = engine.address();
        let load = format!("docker save {image} | docker -H {socket} load");
        done(&Command::new("sh").args(["-c", &load]).output().unwrap());
        engine
    }

    /// Makes it the only manager of a swarm, with a network that containers may join.
    pub fn init(&self) {
        self.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        self.docker(&[
            "network",
            "create",
            "-d",
            "overlay",
            "--attachable",
            NETWORK,
        ]);
    }

    /// What clients and providers are told.
    pub fn address(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    /// `docker ARGUMENTS` there.
    pub fn docker(&self, arguments: &[&str]) -> String {
        done(&self.command(arguments).output().unwrap())
    }

    /// A service on the network; `options` are those of `docker service create`.
    pub fn service(&self, name: &str, options: &[&str], image_and_command: &[&str]) {
        let begin = [
            "service",
            "create",
            "--quiet",
            "--name",
            name,
            "--network",
            NETWORK,
        ];
        self.docker(&[&begin, options, image_and_command].concat());
    }

    /// Runs a program as an edge in a container on the network, with this engine's socket; where its ports 80 and 8080 are.
    pub fn edge(&self, image: &str, program: &Path, options: &[&str]) -> [SocketAddr; 2] {
        let binary = format!("{}:/portway:ro", program.display());
        let socket = format!("{}:/engine:ro", self.folder.path().display());
        let begin = [
            "run",
            "-d",
            "--name",
            "edge",
            "--network",
            NETWORK,
            "-p",
            "80:80",
            "-p",
            "8080:8080",
        ];
        let mounts = [
            "-v",
            &binary,
            "-v",
            &socket,
            "-v",
            LIBRARIES[0],
            "-v",
            LIBRARIES[1],
            "-v",
            LIBRARIES[2],
        ];
        let flags = [
            image,
            "/portway",
            "--entryPoints.web.address=:80",
            "--providers.swarm.endpoint=unix:///engine/docker.sock",
            "--api.insecure=true",
            "--ping=true",
        ];
        self.docker(&[&begin[..], &mounts, &flags, options].concat());
        [80, 8080].map(|port| SocketAddr::from((self.ip(), port)))
    }

    /// Runs a command of ours in the network namespace of a container's process, whose number is that which the engine tells.
    pub fn enter(&self, pid: &str, command: &[&str]) -> String {
        let engine = self.first_process().expect("the engine runs");
        let space = format!("--net=/proc/{engine}/root/proc/{pid}/ns/net");
        let mut enter = Command::new("nsenter");
        done(&enter.arg(space).args(command).output().unwrap())
    }

    /// The engine itself; what was started is the program that makes its namespaces.
    fn first_process(&self) -> Option<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = std::fs::read_to_string(children).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    /// Runs a command in the engine's network namespace.
    fn inside(&self, command: &[&str]) -> String {
        let mut enter = Command::new("nsenter");
        enter.args(["--net", "--target", &self.child.id().to_string()]);
        done(&enter.args(command).output().unwrap())
    }

    /// Connects the engine's network namespace with ours.
    fn plug_in(&mut self) {
        let pid = self.child.id().to_string();
        let space = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        while space(&pid) == space("self") {
            std::thread::sleep(Duration::from_millis(5));
        }
        let number = (1..=250).find(|number| {
            let [near, far] = ends(*number);
            let mut add = Command::new("ip");
            add.args([
                "link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &pid,
            ]);
            // Somebody else has it.
            add.stderr(Stdio::null()).status().unwrap().success()
        });
        let number = number.expect("there are 250 cables");
        self.cable = Some(number);
        let [near, far] = ends(number);
        let here = |arguments: &[&str]| {
            done(&Command::new("ip").args(arguments).output().unwrap());
        };
        here(&[
            "address",
            "add",
            &format!("10.254.{number}.1/30"),
            "dev",
            &near,
        ]);
        here(&["link", "set", &near, "up"]);
        self.inside(&[
            "ip",
            "address",
            "add",
            &format!("10.254.{number}.2/30"),
            "dev",
            &far,
        ]);
        self.inside(&["ip", "link", "set", &far, "up"]);
    }

    /// Where it is reached.
    pub fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 254, self.cable.unwrap_or_default(), 2)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.address()]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It takes its containers along, and what is left ends with the first process of its namespace.
        if let Some(pid) = self.first_process() {
            Command::new("kill").arg(pid).status().ok();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(number) = self.cable {
            let mut remove = Command::new("ip");
            remove.args(["link", "delete", &ends(number)[0]]);
            // It has gone with the namespace already, as a rule.
            remove.stderr(Stdio::null()).status().ok();
        }
    }
}

/// It waits for the end of its input before it becomes the engine, so that its namespaces can be furnished.
fn spawn(folder: &Path, options: &[&str]) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.args(["--propagation", "private"]);
    command.args([
        "sh",
        "-c",
        "cat; ip link set lo up; exec dockerd \"$@\" </dev/null",
        "dockerd",
    ]);
    let socket = format!("unix://{}/docker.sock", folder.display());
    command.args(["--host", &socket]);
    for (option, name) in [
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "pid"),
    ] {
        command.arg(option).arg(folder.join(name));
    }
    command.args(options).stdin(Stdio::piped());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// The names of the two ends of a cable.
fn ends(number: u8) -> [String; 2] {
    [format!("pwswarm{number}"), format!("pwedge{number}")]
}

fn done(output: &Output) -> String {
    let (out, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{wrong}");
    out.trim().to_owned()
}

/// The network that everything is on.
pub const NETWORK: &str = "front";
/// What programs that were built for tests may need; a static one needs none of it.
pub const LIBRARIES: [&str; 3] = ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"];
