//! A rollout that comes to nothing: what served goes on serving, and nobody notices.

use std::{fs, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    edge::Edge,
    load::Sample,
    portway,
    pressure::steady,
    stack::{IMAGES, LABEL, Stack},
    turn,
};

/// A rollout under way.
struct Rollout {
    child: Child,
    said: BufReader<ChildStdout>,
    text: String,
}

impl Rollout {
    fn start(stack: &Stack, edge: &Edge) -> Self {
        let mut child = Command::new(portway())
            .args(["rollout", "web", "-p", &stack.name, "-f"])
            .arg(stack.file())
            .args(["--api", &format!("http://{}", edge.api)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            said: BufReader::new(child.stdout.take().unwrap()),
            child,
            text: String::new(),
        }
    }

    /// Reads what it says until it says this.
    async fn says(&mut self, word: &str) {
        let read = async {
            let mut line = String::new();
            while !line.contains(word) {
                line.clear();
                if self.said.read_line(&mut line).await.unwrap() == 0 {
                    return false;
                }
                self.text.push_str(&line);
            }
            true
        };
        let read = timeout(LONGEST, read).await;
        assert_eq!(read, Ok(true), "it never says `{word}`: {}", self.text);
    }

    async fn interrupt(&self) {
        let pid = self.child.id().unwrap().to_string();
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", "INT", &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Whether it went well, and everything it said.
    async fn end(mut self) -> (bool, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        let end = async {
            self.said.read_to_string(&mut self.text).await.unwrap();
            stderr.read_to_string(&mut self.text).await.unwrap();
            self.child.wait().await.unwrap().success()
        };
        let well = timeout(LONGEST, end).await;
        let well = well.unwrap_or_else(|_| panic!("it does not end"));
        (well, self.text)
    }
}

/// What came of a rollout.
struct Outcome {
    samples: Vec<Sample>,
    /// The statuses of requests that took their time.
    slow: Vec<String>,
    well: bool,
    said: String,
    before: Vec<String>,
    after: Vec<String>,
    log: String,
}

impl Outcome {
    fn lost_nothing(&self) -> bool {
        self.samples.iter().all(|sample| !sample.failed())
            && self.slow.iter().all(|status| status == "200")
    }

    fn assert_taken_back(&self, reason: &str) {
        let failed: Vec<_> = self
            .samples
            .iter()
            .filter(|sample| sample.failed())
            .take(20)
            .collect();
        let (said, log) = (&self.said, &self.log);
        assert!(
            self.lost_nothing(),
            "{failed:?} {:?}\n{said}\n{log}",
            self.slow
        );
        assert!(self.samples.len() > 200, "{}", self.samples.len());
        assert!(!self.well && said.contains(reason), "{said}");
        assert!(said.contains("the old ones go on serving"), "{said}");
        assert_eq!(self.before, self.after, "{said}");
    }
}

async fn up(name: &str, changed: impl Fn(&str) -> String) -> (Stack, Edge) {
    let stack = Stack::new(name, None).unwrap();
    let text = fs::read_to_string(stack.file()).unwrap();
    fs::write(stack.file(), changed(&text)).unwrap();
    stack.compose(&["up", "-d"]).await.unwrap();
    let edge = Edge::start(portway(), &stack).unwrap();
    edge.serves(3).await.unwrap();
    (stack, edge)
}

/// All containers, running or not.
async fn all(stack: &Stack) -> Vec<String> {
    let project = format!("label=com.docker.compose.project={}", stack.name);
    let ids = ["ps", "-a", "-q", "--no-trunc", "--filter", &project];
    let listed = stack.docker(&ids).await.unwrap();
    let mut ids: Vec<String> = listed.lines().map(str::to_owned).collect();
    ids.sort();
    ids
}

/// Rolls over to a next version, which is written by `next`, and lets `meddle` do something meanwhile.
async fn roll(
    (stack, edge): (Stack, Edge),
    next: impl Fn(&str) -> String,
    meddle: impl AsyncFn(&mut Rollout, &Edge, &Stack) -> Vec<String>,
) -> Outcome {
    let before = all(&stack).await;
    let text = fs::read_to_string(stack.file()).unwrap();
    fs::write(stack.file(), next(&text.replace(IMAGES[0], IMAGES[1]))).unwrap();
    let load = edge.load(PER_SECOND).start();
    sleep(AROUND).await;
    let mut rollout = Rollout::start(&stack, &edge);
    let slow = meddle(&mut rollout, &edge, &stack).await;
    let (well, said) = rollout.end().await;
    sleep(AROUND).await;
    Outcome {
        samples: load.finish().await,
        slow,
        well,
        said,
        before,
        after: all(&stack).await,
        log: edge.log(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_never_gets_well_is_taken_back() {
    let _place = turn().await;
    let outcome = steady(
        || async {
            let sick = "{ test: [CMD, sh, -c, exit 1], interval: 1s, timeout: 2s, retries: 3 }";
            let next = |text: &str| text.replace("{ disable: true }", sick);
            roll(
                up("zero-sick", str::to_owned).await,
                next,
                async |_, _, _| Vec::new(),
            )
            .await
        },
        Outcome::lost_nothing,
    )
    .await;
    outcome.assert_taken_back("is unhealthy");
}

/// One of the new containers serves already when somebody loses patience with the others: what it is at comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_rollout_loses_nothing() {
    let _place = turn().await;
    let outcome = steady(
        || async {
            let place = up("zero-interrupted", |text| {
                text.replace("    labels:\n", "    volumes: [once:/once]\n    labels:\n")
                    + "volumes: { once: {} }\n"
            })
            .await;
            // The first to come gets well, the others never do.
            let once = "{ test: [CMD, sh, -c, '[ -e /tmp/first ] || { mkdir /once/taken && touch /tmp/first; }'], \
                interval: 1s, timeout: 5s, start_period: 300s }";
            let next = |text: &str| text.replace("{ disable: true }", once);
            roll(place, next, interrupt).await
        },
        Outcome::lost_nothing,
    )
    .await;
    outcome.assert_taken_back("interrupted");
    assert!(outcome.said.contains("takes requests"), "{}", outcome.said);
}

async fn interrupt(rollout: &mut Rollout, edge: &Edge, stack: &Stack) -> Vec<String> {
    rollout.says("takes requests").await;
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        let (url, host) = (
            format!("http://{}/wait/4000", edge.address),
            format!("Host: {}", stack.host()),
        );
        slow.spawn(async move {
            let arguments = ["-s", "-o", "/dev/null", "-w", "%{http_code}"];
            let output = Command::new("curl")
                .args(arguments)
                .args(["-X", "POST", "-H", &host, &url])
                .output()
                .await
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
    }
    sleep(AROUND / 2).await;
    rollout.interrupt().await;
    slow.join_all().await
}

/// Nobody says when these are ready, but they are not stopped for as long as nobody takes connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_ones_stay_until_the_new_ones_take_connections() {
    let _place = turn().await;
    let unchecked = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.contains("loadbalancer.healthcheck"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let late = format!("command: [sh, -c, 'sleep {LATE}; exec portway replica']");
    let outcome = steady(
        || async {
            let next = |text: &str| text.replace("command: replica", &late);
            let place = up("zero-late", unchecked).await;
            roll(place, next, async |rollout, _, stack| {
                rollout.says("stopping").await;
                let of = [
                    "ps",
                    "-q",
                    "--filter",
                    &format!("label={LABEL}={}", stack.name),
                    "--filter",
                    &format!("ancestor={}", IMAGES[1]),
                ];
                let fresh = stack.docker(&of).await.unwrap();
                assert_eq!(fresh.lines().count(), 3, "{}", rollout.text);
                for id in fresh.lines() {
                    let log = stack.docker(&["logs", id]).await.unwrap();
                    assert!(log.contains("listens at"), "too early: {}", rollout.text);
                }
                Vec::new()
            })
            .await
        },
        |outcome| outcome.well && outcome.lost_nothing(),
    )
    .await;
    assert!(outcome.well, "{}", outcome.said);
    assert!(outcome.lost_nothing(), "{}\n{}", outcome.said, outcome.log);
}

const PER_SECOND: u32 = 100;
/// Before and after a rollout.
const AROUND: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(180);
/// Requests that are under way when a rollout is interrupted.
const SLOW: usize = 12;
/// Seconds until a container takes connections: long after the slowest machine has started it.
const LATE: u64 = 20;
