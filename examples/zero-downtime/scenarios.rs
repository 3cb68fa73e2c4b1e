//! What is done to a stack while requests come in.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{process::Command, time::sleep};

use crate::{
    edge::Edge,
    engine::Engine,
    load::Sample,
    stack::{Application, IMAGES, Stack, said},
};

/// Requests a second, and how many there are at least.
pub const PER_SECOND: u32 = 200;
pub const AT_LEAST: usize = 5_000;

/// Something that operators do, or that happens to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Restarts,
    Recreate,
    Scale,
    Kill,
    NewImage,
    /// `portway rollout`; with another proxy, what it replaces: a plain `up -d` with the new image.
    Rollout,
    EngineAway,
    NewEdge,
}

impl Scenario {
    pub const ALL: [Self; 8] = [
        Self::Restarts,
        Self::Recreate,
        Self::Scale,
        Self::Kill,
        Self::NewImage,
        Self::Rollout,
        Self::EngineAway,
        Self::NewEdge,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Restarts => "restarts",
            Self::Recreate => "recreate",
            Self::Scale => "scale",
            Self::Kill => "kill",
            Self::NewImage => "image",
            Self::Rollout => "rollout",
            Self::EngineAway => "engine",
            Self::NewEdge => "edge",
        }
    }

    /// What is done, in words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Restarts => "each of 3 replicas restarted in turn",
            Self::Recreate => "`docker compose up -d --force-recreate`",
            Self::Scale => "scaled 3 -> 5 -> 2",
            Self::Kill => "`docker kill` of one replica",
            Self::NewImage => "another image, plain `docker compose up -d`",
            Self::Rollout => "another image, `portway rollout web`",
            Self::EngineAway => "dockerd away for 10 s, containers kept",
            Self::NewEdge => "one of two edges replaced",
        }
    }
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Report {
    pub samples: Vec<Sample>,
    /// When the change began and ended, from the start of the load.
    pub change: (Duration, Duration),
    /// What the edge wrote.
    pub log: String,
}

impl Report {
    pub fn failed(&self) -> usize {
        self.samples.iter().filter(|sample| sample.failed()).count()
    }

    /// What went wrong, each once with its number.
    pub fn failures(&self) -> Vec<(String, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.failed()) {
            let what = match &sample.outcome {
                Ok(status) => status.to_string(),
                Err(wrong) => wrong.clone(),
            };
            *counts.entry(what).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    /// The longest that a request took that was answered well.
    pub fn longest(&self) -> Duration {
        let good = self.samples.iter().filter(|sample| !sample.failed());
        good.map(|sample| sample.took).max().unwrap_or_default()
    }
}

/// Runs a scenario with this proxy in front. `portway` is the program whose `rollout` is used, if the proxy is Portway.
pub async fn run(scenario: Scenario, proxy: &Path, portway: Option<&Path>) -> io::Result<Report> {
    let own = match scenario {
        Scenario::EngineAway => Some(Engine::start().await?),
        _ => None,
    };
    let address = own.as_ref().map(|engine| engine.address.clone());
    let stack = Stack::new(&format!("zero-{}", scenario.name()), address)?;
    if own.is_some() {
        // The image goes from the one engine to the other without being built again.
        said(
            &Command::new("sh")
                .args([
                    "-c",
                    "docker save \"$1\" | docker -H \"$2\" load",
                    "sh",
                    IMAGES[0],
                    stack.engine().unwrap_or_default(),
                ])
                .output()
                .await?,
            &["docker save | docker load"],
        )?;
    }
    stack.compose(&["up", "-d"]).await?;
    let shared = scenario == Scenario::NewEdge;
    let edge = Edge::start_at(proxy, &stack, crate::edge::free()?, shared)?;
    edge.serves(3).await?;
    let mut stage = Stage {
        stack,
        edge: Some(edge),
        engine: own,
        proxy,
        portway,
    };
    let report = stage.perform(scenario).await?;
    drop(stage);
    Ok(report)
}

/// Everything that takes part.
struct Stage<'a> {
    stack: Stack,
    edge: Option<Edge>,
    engine: Option<Engine>,
    proxy: &'a Path,
    portway: Option<&'a Path>,
}

impl Stage<'_> {
    async fn perform(&mut self, scenario: Scenario) -> io::Result<Report> {
        let edge = self.edge.as_ref().ok_or_else(nobody)?;
        let mut load = edge.load(PER_SECOND);
        // A server that dies cannot say how far it has come; only clients that say so can have a POST repeated then.
        load.idempotency_key = scenario == Scenario::Kill;
        let running = load.start();
        let started = running.started;
        sleep(BEFORE).await;
        let begun = started.elapsed();
        let changed = self.change(scenario).await;
        let ended = started.elapsed();
        let whole = Duration::from_secs(1) * AT_LEAST as u32 / PER_SECOND + MARGIN;
        let rest = whole.saturating_sub(started.elapsed()).max(AFTER);
        sleep(rest).await;
        let samples = running.finish().await;
        let log = self.edge.as_ref().map(Edge::log).unwrap_or_default();
        changed.map_err(|error| io::Error::other(format!("{error}\n{log}")))?;
        Ok(Report {
            samples,
            change: (begun, ended),
            log,
        })
    }

    async fn change(&mut self, scenario: Scenario) -> io::Result<()> {
        match scenario {
            Scenario::Restarts => self.restarts().await,
            Scenario::Recreate => self.up(&["--force-recreate"]).await,
            Scenario::Scale => {
                self.up(&["--no-recreate", "--scale", "web=5"]).await?;
                sleep(PAUSE).await;
                self.up(&["--no-recreate", "--scale", "web=2"]).await
            }
            Scenario::Kill => {
                let names = self.stack.containers().await?;
                let name = names.first().ok_or_else(nobody)?;
                self.stack.docker(&["kill", name]).await.map(drop)
            }
            Scenario::NewImage => {
                self.new_image()?;
                self.up(&[]).await
            }
            Scenario::Rollout => self.rollout().await,
            Scenario::EngineAway => match &mut self.engine {
                Some(engine) => engine.restart(AWAY).await,
                None => Err(nobody()),
            },
            Scenario::NewEdge => self.replace_edge().await,
        }
    }

    async fn up(&self, arguments: &[&str]) -> io::Result<()> {
        let up = [&["up", "-d"], arguments].concat();
        self.stack.compose(&up).await.map(drop)
    }

    fn new_image(&self) -> io::Result<()> {
        self.stack.write(Application {
            image: IMAGES[1],
            ..Application::default()
        })
    }

    async fn restarts(&self) -> io::Result<()> {
        for name in self.stack.containers().await? {
            self.stack.docker(&["restart", &name]).await?;
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn rollout(&self) -> io::Result<()> {
        self.new_image()?;
        let (Some(portway), Some(edge)) = (self.portway, &self.edge) else {
            return self.up(&[]).await;
        };
        let file = self.stack.file();
        let arguments = [
            "rollout",
            "web",
            "-p",
            &self.stack.name,
            "-f",
            &file.to_string_lossy(),
            "--api",
            &format!("http://{}", edge.api),
        ];
        let output = Command::new(portway).args(arguments).output().await?;
        said(&output, &arguments).map(drop)
    }

    /// A second edge is started; the first one ends, and a third takes its place: as when both are replaced one after the other.
    async fn replace_edge(&mut self) -> io::Result<()> {
        let first = self.edge.take().ok_or_else(nobody)?;
        let address = first.address;
        let second = Edge::start_at(self.proxy, &self.stack, address, true)?;
        ready(&second).await?;
        first.end().await?;
        sleep(PAUSE).await;
        let third = Edge::start_at(self.proxy, &self.stack, address, true)?;
        ready(&third).await?;
        second.end().await?;
        self.edge = Some(third);
        Ok(())
    }
}

/// Waits until an edge that shares its address says that it knows three servers.
async fn ready(edge: &Edge) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let arguments = [
        "-s",
        "-m",
        "2",
        &format!("http://{}/api/http/services/app@docker", edge.api),
    ];
    loop {
        let output = Command::new("curl").args(arguments).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.matches("\"UP\"").count() >= 3 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("no edge: {text}\n{}", edge.log())));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn nobody() -> io::Error {
    io::Error::other("nothing runs")
}

const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(2);
/// What a timer may lose.
const MARGIN: Duration = Duration::from_millis(700);
const AWAY: Duration = Duration::from_secs(10);
