//! A whole rollout, with a false `docker` and a false Portway.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use super::*;

/// A project whose containers are files.
struct Project {
    folder: tempfile::TempDir,
    signals: watch::Sender<u32>,
}

impl Project {
    /// Containers that are there, and those that `up` brings.
    fn new(now: &[&str], next: &[&str]) -> Self {
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
            signals: watch::channel(0).0,
        };
        for (place, containers) in [("containers", now), ("next", next)] {
            fs::create_dir(project.path(place)).unwrap();
            for line in containers {
                let (id, described) = described(line);
                project.put(&format!("{place}/{id}"), &described);
            }
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn roll(&self, line: &str) -> Result<(), String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let options = Options::of(&words).unwrap();
        let place = format!("FALSE_DOCKER={}", self.folder.path().display());
        let words = [
            "env",
            &place,
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rollout/docker"),
        ];
        let signals = Signals::of(self.signals.subscribe());
        let docker = Docker::new(&words.map(OsStr::new), signals).unwrap();
        Rollout::new(options, docker).roll()
    }

    /// The containers that are left, with their states.
    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = fs::read_dir(self.path("containers"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                let state = ["running", "exited", "restarting", "paused"];
                let state = state
                    .iter()
                    .find(|state| text.contains(&format!("\"{state}\"")));
                format!("{} {}", entry.file_name().display(), state.unwrap())
            })
            .collect();
        left.sort();
        left
    }

    /// What Docker was told to do; questions are left out.
    fn done(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.path("asked")).unwrap_or_default();
        asked
            .lines()
            .filter(|line| ["stop", "rm", "up"].iter().any(|verb| line.contains(verb)))
            .map(str::to_owned)
            .collect()
    }

    fn wait_for(&self, name: &str) {
        while !self.path(name).exists() {
            pause(Duration::from_millis(5));
        }
    }
}

/// `ID ADDRESS STATE [oneoff] [health]`: a container's id and what Docker says of it.
fn described(line: &str) -> (String, String) {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, address, state, more @ ..] = &*words else {
        panic!("{line}");
    };
    let one_off = match more.contains(&"oneoff") {
        true => "True",
        false => "False",
    };
    let health = more.iter().find(|word| word.contains("health"));
    let health = health.map_or(String::new(), |health| {
        format!(r#", "Health": {{"Status": "{health}"}}"#)
    });
    let restarts = u32::from(*state == "restarting");
    let text = format!(
        r#"{{"Id": "{id}", "Name": "/web-{id}", "RestartCount": {restarts}, "State": {{"Status": "{state}"{health}}},
            "Config": {{"Labels": {{"com.docker.compose.oneoff": "{one_off}"}}}},
            "NetworkSettings": {{"Networks": {{"a": {{"IPAddress": "{address}"}}}}}}}}"#
    );
    ((*id).to_owned(), text)
}

/// A Portway's API that answers every question for services with what `answer` says to the how many-th it is, from 0.
fn edge(answer: impl Fn(u32) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                question.extend(byte);
            }
            let body = match question.starts_with(b"GET /api/http/services") {
                true => answer(asked.fetch_add(1, Relaxed)),
                false => String::new(),
            };
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            // Whoever asked may have been interrupted.
            stream.write_all((head + &body).as_bytes()).ok();
        }
    });
    address
}

/// One service with these servers: `ADDRESS STATUS REASON`.
fn services(servers: &[&str]) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            format!(
                r#"{{"url": "http://{}:80", "status": "{}", "reason": "{}"}}"#,
                words[0], words[1], words[2]
            )
        })
        .collect();
    format!(
        r#"[{{"name": "app@docker", "servers": [{}]}}]"#,
        servers.join(",")
    )
}

const OLD: &str = "old 10.0.0.1 running";
const NEW: &str = "new 10.0.0.2 running";
const WELL: [&str; 2] = ["10.0.0.1 UP unchecked", "10.0.0.2 UP unchecked"];

/// For projects where Docker's health is all there is: nobody listens here.
fn alone(project: &Project, more: &str) -> Result<(), String> {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let nobody = {
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        address
    };
    project.roll(&format!("web --api http://{nobody} {more}"))
}

#[test]
fn the_old_one_serves_until_the_new_one_was_reached() {
    let project = Project::new(&[OLD], &[NEW]);
    let (asked, early) = (project.path("asked"), Arc::new(AtomicU32::new(0)));
    let stopped = Arc::clone(&early);
    let api = edge(move |number| {
        // The first two questions are for who is there and what was counted.
        if number > 3 {
            return services(&WELL);
        }
        if fs::read_to_string(&asked).is_ok_and(|asked| asked.contains("stop")) {
            stopped.fetch_add(1, Relaxed);
        }
        services(&["10.0.0.1 UP unchecked", "10.0.0.2 UP not_reached"])
    });
    project.roll(&format!("web --api http://{api}")).unwrap();
    assert_eq!(early.load(Relaxed), 0, "stopped too early");
    assert_eq!(project.left(), ["new running"]);
    let done = project.done();
    assert!(done[0].contains("--scale web=2"), "{done:?}");
    assert_eq!(done[1..], ["stop old", "rm --force --volumes old"]);
}

/// A service that is new with its servers takes them for well: then it is seen from here whether they take connections.
#[test]
fn who_has_no_predecessor_is_tried() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = format!(
        r#"[{{"name": "other@docker", "servers": [{{"url": "http://127.0.0.1:{port}", "status": "UP", "reason": "unchecked"}}]}}]"#
    );
    let project = Project::new(&[OLD], &["new 127.0.0.1 running"]);
    let api = edge(move |_| server.clone());
    drop(listener);
    let line = format!("web --timeout 1s --api http://{api}");
    let failure = project.roll(&line).unwrap_err();
    assert!(failure.contains("does not take connections"), "{failure}");
    assert_eq!(project.left(), ["old running"]);

    let project = Project::new(&[OLD], &["new 127.0.0.1 running"]);
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    project.roll(&line).unwrap();
    assert_eq!(project.left(), ["new running"]);
}

#[test]
fn a_generation_that_cannot_be_judged_is_taken_back() {
    let project = Project::new(&[OLD], &[NEW]);
    let failure = alone(&project, "").unwrap_err();
    assert!(
        failure.contains("nothing tells when web-new is ready"),
        "{failure}"
    );
    assert_eq!(project.left(), ["old running"]);
    let project = Project::new(&[OLD], &["new 10.0.0.2 running healthy"]);
    alone(&project, "").unwrap();
    assert_eq!(project.left(), ["new running"]);
}

#[test]
fn what_is_taken_back_is_asked_to_end_first() {
    let sick = "sick 10.0.0.3 running unhealthy";
    let well = "well 10.0.0.2 running healthy";
    for (stop_fails, expected) in [
        (false, &["stop sick well", "rm --volumes sick well"][..]),
        (true, &["stop sick well", "rm --force --volumes sick well"]),
    ] {
        let project = Project::new(&[OLD], &[sick, well]);
        if stop_fails {
            project.put("stop-fails", "");
        }
        let failure = alone(&project, "--replicas 2").unwrap_err();
        assert!(failure.contains("web-sick is unhealthy"), "{failure}");
        assert!(failure.contains("the old ones go on serving"), "{failure}");
        assert_eq!(project.done()[1..], *expected);
        assert_eq!(project.left(), ["old running"]);
    }
}

/// Whatever is there before is old, except what `compose run` has started, which is neither.
#[test]
fn strangers_are_left_alone() {
    let new = "new 10.0.0.9 running healthy";
    let other = "other 10.0.0.8 running healthy";
    for (now, next, scale, expected) in [
        (
            &[OLD, "run 10.0.0.5 running oneoff"][..],
            &[new][..],
            2,
            &["new running", "run running"][..],
        ),
        (
            &[OLD, "run 10.0.0.5 exited oneoff"],
            &[new],
            2,
            &["new running", "run exited"],
        ),
        (
            &[OLD, "loop 10.0.0.5 restarting"],
            &[new, other],
            4,
            &["new running", "other running"],
        ),
        (
            &[OLD, "also 10.0.0.5 running", "ended 10.0.0.6 exited"],
            &[new, other],
            5,
            &["new running", "other running"],
        ),
    ] {
        let project = Project::new(now, next);
        alone(&project, "").unwrap();
        let done = project.done();
        assert!(
            done[0].contains(&format!("--scale web={scale} ")),
            "{done:?}"
        );
        assert_eq!(project.left(), expected, "{now:?}");
    }
}

/// Compose starts what had ended; if nothing comes of the new generation, that ends again, and nothing of the old one is removed.
#[test]
fn a_failure_leaves_the_old_ones_as_they_were() {
    let project = Project::new(
        &[OLD, "ended 10.0.0.6 exited", "loop 10.0.0.7 restarting"],
        &["new 10.0.0.9 running unhealthy"],
    );
    let failure = alone(&project, "").unwrap_err();
    assert!(failure.contains("web-new is unhealthy"), "{failure}");
    let expected = ["ended exited", "loop restarting", "old running"];
    assert_eq!(project.left(), expected);

    let project = Project::new(&["ended 10.0.0.6 exited"], &[]);
    let failure = alone(&project, "").unwrap_err();
    assert!(failure.contains("no running container"), "{failure}");
}

#[test]
fn a_failure_of_compose_is_told() {
    let project = Project::new(&[OLD], &["new 10.0.0.9 running healthy"]);
    project.put("up-fails", "port is already allocated");
    let failure = alone(&project, "").unwrap_err();
    assert!(failure.contains("port is already allocated"), "{failure}");
    assert_eq!(project.left(), ["old running"]);
}

/// An interruption counts, even if everything is ready when it is seen.
#[test]
fn the_first_signal_takes_back() {
    let project = Project::new(&[OLD], &["new 10.0.0.9 running healthy"]);
    project.put("hang", "");
    let failure = thread::scope(|scope| {
        scope.spawn(|| {
            project.wait_for("begun");
            project.signals.send_replace(1);
            fs::remove_file(project.path("hang")).unwrap();
        });
        alone(&project, "").unwrap_err()
    });
    assert!(failure.starts_with("interrupted"), "{failure}");
    assert_eq!(project.left(), ["old running"]);
    assert_eq!(project.done()[1..], ["stop new", "rm --volumes new"]);
}

/// What hangs is left at the second signal.
#[test]
fn the_second_signal_does_not_wait() {
    let project = Project::new(&[OLD], &["new 10.0.0.9 running healthy"]);
    project.put("hang", "");
    let failure = thread::scope(|scope| {
        scope.spawn(|| {
            project.wait_for("begun");
            project.signals.send_replace(1);
            project.signals.send_replace(2);
        });
        alone(&project, "").unwrap_err()
    });
    assert!(failure.starts_with("interrupted"), "{failure}");
    assert_eq!(project.left(), ["old running"]);
}

/// Nothing is begun for somebody who does not want it any more.
#[test]
fn a_signal_before_the_start_starts_nothing() {
    let project = Project::new(&[OLD], &["new 10.0.0.9 running healthy"]);
    project.signals.send_replace(1);
    let failure = alone(&project, "").unwrap_err();
    assert!(failure.starts_with("interrupted"), "{failure}");
    assert_eq!(project.done(), [""; 0]);
    assert_eq!(project.left(), ["old running"]);
}
