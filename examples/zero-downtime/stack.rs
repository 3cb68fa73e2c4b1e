//! A Compose project of one application, and the commands that change it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use tokio::process::Command;

/// The images that replicas are made of: the same program under two names, as a new version would be.
pub const IMAGES: [&str; 2] = ["portway-zero-downtime:1", "portway-zero-downtime:2"];
/// The label of everything that is created here; an edge looks at the containers of one stack only.
pub const LABEL: &str = "portway.test";

/// A project, taken down when dropped.
pub struct Stack {
    pub name: String,
    folder: tempfile::TempDir,
    /// Another engine than the usual one.
    engine: Option<String>,
}

/// How the application is told to be.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    pub image: &'static str,
    /// Seconds until a container that was told to stop is killed.
    pub stop_grace: u32,
    /// Whether it has a HEALTHCHECK.
    pub checked: bool,
}

impl Default for Application {
    fn default() -> Self {
        Self {
            image: IMAGES[0],
            stop_grace: 5,
            checked: false,
        }
    }
}

impl Stack {
    /// Writes the Compose file; nothing runs yet.
    pub fn new(name: &str, engine: Option<String>) -> io::Result<Self> {
        let stack = Self {
            name: format!("{name}-{}", std::process::id()),
            folder: tempfile::tempdir()?,
            engine,
        };
        stack.write(Application::default())?;
        Ok(stack)
    }

    pub fn host(&self) -> String {
        format!("{}.localhost", self.name)
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("compose.yml")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn engine(&self) -> Option<&str> {
        self.engine.as_deref()
    }

    /// Says what the application is from the next `up` on.
    pub fn write(&self, application: Application) -> io::Result<()> {
        let Application {
            image,
            stop_grace,
            checked,
        } = application;
        let (name, host) = (&self.name, self.host());
        let check = match checked {
            true => {
                "    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/health'], interval: 1s, timeout: 2s }\n"
            }
            // That of the image asks a proxy.
            false => "    healthcheck: { disable: true }\n",
        };
        let text = format!(
            "services:
  web:
    image: {image}
    command: replica
    stop_grace_period: {stop_grace}s
{check}    labels:
      {LABEL}: {name}
      traefik.enable: 'true'
      traefik.http.routers.app.rule: Host(`{host}`)
      traefik.http.services.app.loadbalancer.server.port: '80'
      traefik.http.services.app.loadbalancer.sticky.cookie: 'true'
      traefik.http.services.app.loadbalancer.healthcheck.path: /health
    deploy: {{ replicas: 3 }}
networks:
  default:
    labels: {{ {LABEL}: {name} }}
"
        );
        fs::write(self.file(), text)
    }

    /// An application that goes on serving when it is told to stop, as many do: its shell keeps the signal to itself.
    pub fn stubborn(&self) -> io::Result<()> {
        let (name, host) = (&self.name, self.host());
        let text = format!(
            "services:
  web:
    image: {}
    command: [sh, -c, 'portway replica; true']
    healthcheck: {{ disable: true }}
    labels:
      {LABEL}: {name}
      traefik.enable: 'true'
      traefik.http.routers.app.rule: Host(`{host}`)
      traefik.http.services.app.loadbalancer.server.port: '80'
      traefik.http.services.app.loadbalancer.healthcheck.path: /health
    deploy: {{ replicas: 3 }}
networks:
  default:
    labels: {{ {LABEL}: {name} }}
",
            IMAGES[0]
        );
        fs::write(self.file(), text)
    }

    /// So many applications of one container, each with a host of its own.
    pub fn many(&self, count: usize) -> io::Result<()> {
        let mut text = "services:\n".to_owned();
        for number in 0..count {
            let host = self.host_of(number);
            text.push_str(&format!(
                "  c{number}:
    image: {}
    entrypoint: [httpd, -f, -p, '80', -h, /etc]
    stop_signal: SIGKILL
    healthcheck: {{ disable: true }}
    labels:
      {LABEL}: {}
      traefik.enable: 'true'
      traefik.http.routers.c{number}.rule: Host(`{host}`)
      traefik.http.routers.c{number}.middlewares: c{number}
      traefik.http.middlewares.c{number}.replacepath.path: /passwd
      traefik.http.services.c{number}.loadbalancer.server.port: '80'
",
                IMAGES[0], self.name
            ));
        }
        text.push_str(&format!(
            "networks:\n  default:\n    labels: {{ {LABEL}: {} }}\n",
            self.name
        ));
        fs::write(self.file(), text)
    }

    /// The host of one of many.
    pub fn host_of(&self, number: usize) -> String {
        format!("c{number}.{}", self.host())
    }

    /// `docker compose ...` in this project.
    pub async fn compose(&self, arguments: &[&str]) -> io::Result<String> {
        let file = self.file();
        let file = file.to_string_lossy();
        let project = ["compose", "-p", &self.name, "-f", &file];
        docker(self.engine(), &[&project, arguments].concat()).await
    }

    pub async fn docker(&self, arguments: &[&str]) -> io::Result<String> {
        docker(self.engine(), arguments).await
    }

    /// The running containers, by name.
    pub async fn containers(&self) -> io::Result<Vec<String>> {
        let filter = format!("label={LABEL}={}", self.name);
        let listed = self
            .docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"])
            .await?;
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("docker");
        if let Some(engine) = &self.engine {
            command.args(["-H", engine]);
        }
        command
            .args(["compose", "-p", &self.name, "-f"])
            .arg(self.file())
            .args(["down", "--timeout", "0", "--volumes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // What cannot be taken down now cannot be later either.
        command.status().ok();
    }
}

/// Runs the Docker CLI; what it printed, or what it said when it failed.
pub async fn docker(engine: Option<&str>, arguments: &[&str]) -> io::Result<String> {
    let mut command = Command::new("docker");
    if let Some(engine) = engine {
        command.args(["-H", engine]);
    }
    said(
        &command
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await?,
        arguments,
    )
}

/// What a program printed, or what it said when it failed.
pub fn said(output: &Output, arguments: &[&str]) -> io::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!(
        "{}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// Makes the images out of a program, which may be dynamic.
pub async fn images(binary: &Path) -> io::Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir()?;
    // What debuggers need makes most of a program that was built for tests.
    let stripped = folder.path().join("portway");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(binary);
    said(&strip.output().await?, &["strip"])?;
    let mut build = Command::new(top.join("docker/build"));
    build.arg(IMAGES[0]).env("PORTWAY_BINARY", &stripped);
    said(&build.output().await?, &["docker/build"])?;
    fs::remove_file(stripped)?;
    // Another label is enough for another image.
    let file = folder.path().join("Dockerfile");
    fs::write(&file, format!("FROM {}\nLABEL version=2\n", IMAGES[0]))?;
    let place = folder.path().to_string_lossy();
    docker(None, &["build", "-q", "-t", IMAGES[1], &place]).await?;
    Ok(())
}
