use std::{fs, os::unix::fs::symlink, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::*;
use crate::{
    observe::Sources,
    provider::{Reload, Update},
};

/// A file provider at work on a directory of its own.
struct Bench {
    directory: tempfile::TempDir,
    received: mpsc::Receiver<Update>,
    reload: Reload,
    task: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    /// Starts with these files, on the directory or on one file in it.
    fn start(files: &[(&str, &str)], filename: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(directory.path(), name, text);
        }
        let root = directory.path().to_str().unwrap().to_owned();
        let mut config = install::FileProvider {
            directory: root.clone(),
            ..install::FileProvider::default()
        };
        if let Some(name) = filename {
            config.filename = format!("{root}/{name}");
            config.directory.clear();
        }
        let reload = Reload::default();
        let provider = Box::new(FileProvider::new(&config, reload.signal()).unwrap());
        let (sender, received) = mpsc::channel(1);
        let running = provider.run(Updates::new("file", sender, &Sources::default()));
        let task = tokio::task::spawn_local(running);
        Self {
            directory,
            received,
            reload,
            task,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write(self.directory.path(), name, text);
    }

    /// Waits for an update with exactly these routers, and gives back what was found wrong.
    #[track_caller]
    fn routers<'b>(&'b mut self, expected: &'b [&str]) -> impl Future<Output = Vec<String>> + 'b {
        let caller = std::panic::Location::caller();
        async move {
            let mut last = Vec::new();
            loop {
                let Ok(Some(update)) = timeout(DEADLINE, self.received.recv()).await else {
                    panic!("{caller}: expected {expected:?}, last was {last:?}");
                };
                last = update
                    .decoded
                    .routing
                    .http
                    .routers
                    .keys()
                    .cloned()
                    .collect();
                if last == expected {
                    return update
                        .decoded
                        .diagnostics
                        .iter()
                        .map(ToString::to_string)
                        .collect();
                }
            }
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(10);

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn router(name: &str) -> String {
    format!("{{http: {{routers: {{{name}: {{rule: Host(`{name}.test`), service: s}}}}}}}}")
}

/// Providers run on the control thread, so their tasks need not be `Send` here either.
async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_directory_is_read_in_name_order_and_the_first_definition_wins() {
    local(async {
        let files = [
            (
                "b.yml",
                "{http: {routers: {x: {rule: Host(`second.test`)}, b: {rule: a}}}}",
            ),
            ("a.toml", "[http.routers.x]\nrule = 'Host(`first.test`)'\n"),
            ("sub/c.yaml", &router("c")),
            ("ignored.json", "{"),
        ];
        let mut bench = Bench::start(&files, None);
        let update = bench.received.recv().await.unwrap();
        let routers = &update.decoded.routing.http.routers;
        assert_eq!(routers.keys().collect::<Vec<_>>(), ["b", "c", "x"]);
        assert_eq!(routers["x"].rule, "Host(`first.test`)");
        let found: Vec<String> = update
            .decoded
            .diagnostics
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("warning: http.routers.x: is already defined")
                && found[0].contains("a.toml:1"),
            "{found:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_its_last_good_content() {
    local(async {
        let mut bench = Bench::start(&[("a.yml", &router("a")), ("b.yml", &router("b"))], None);
        assert_eq!(bench.routers(&["a", "b"]).await, [""; 0]);
        bench.write("a.yml", "http:\n  routers:\n  - \"");
        let found = bench.routers(&["a", "b"]).await;
        assert!(found.iter().any(|line| line.contains("error")), "{found:?}");
        assert!(
            found.iter().any(|line| line.contains("last good content")),
            "{found:?}"
        );
        bench.write("a.yml", "");
        let found = bench.routers(&["a", "b"]).await;
        assert!(
            found.iter().any(|line| line.contains("the file is empty")),
            "{found:?}"
        );
        bench.write("a.yml", &router("c"));
        assert_eq!(bench.routers(&["b", "c"]).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn every_way_of_changing_files_is_seen() {
    local(async {
        let mut bench = Bench::start(&[("a.yml", &router("a"))], None);
        bench.routers(&["a"]).await;
        bench.write("new", &router("renamed"));
        fs::rename(bench.path("new"), bench.path("a.yml")).unwrap();
        bench.routers(&["renamed"]).await;
        bench.write("deep/er/b.yml", &router("sub"));
        bench.routers(&["renamed", "sub"]).await;
        bench.write("deep/er/b.yml", &router("sub2"));
        bench.routers(&["renamed", "sub2"]).await;
        fs::remove_dir_all(bench.path("deep")).unwrap();
        bench.routers(&["renamed"]).await;
        fs::remove_file(bench.path("a.yml")).unwrap();
        bench.routers(&[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_config_map_swap_is_seen() {
    local(async {
        let mut bench = Bench::start(
            &[("..1/a.yml", &router("a")), ("..2/a.yml", &router("b"))],
            None,
        );
        bench.routers(&[]).await;
        symlink("..1", bench.path("..data")).unwrap();
        symlink("..data/a.yml", bench.path("a.yml")).unwrap();
        bench.routers(&["a"]).await;
        symlink("..2", bench.path("..tmp")).unwrap();
        fs::rename(bench.path("..tmp"), bench.path("..data")).unwrap();
        bench.routers(&["b"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_single_file_may_vanish_and_return() {
    local(async {
        let mut bench = Bench::start(
            &[("a.yml", &router("a")), ("other.yml", &router("other"))],
            Some("a.yml"),
        );
        bench.routers(&["a"]).await;
        fs::remove_file(bench.path("a.yml")).unwrap();
        let found = bench.routers(&["a"]).await;
        assert!(
            found.iter().any(|line| line.contains("cannot be read")),
            "{found:?}"
        );
        bench.write("a.yml", &router("b"));
        assert_eq!(bench.routers(&["b"]).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_change_to_nothing_new_is_not_sent_and_a_reload_can_be_asked_for() {
    local(async {
        let mut bench = Bench::start(&[("a.yml", &router("a"))], None);
        bench.routers(&["a"]).await;
        bench.write("a.yml", &router("a"));
        bench.reload.request();
        bench.write("b.yml", &router("b"));
        bench.reload.request();
        let update = timeout(DEADLINE, bench.received.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            update.decoded.routing.http.routers.len(),
            2,
            "the first write changed nothing"
        );
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named() {
    local(async {
        let missing = install::FileProvider {
            directory: "/nonexistent/portway".into(),
            ..install::FileProvider::default()
        };
        let loaded = Source::new(&missing).unwrap().load().await;
        assert!(
            loaded.diagnostics[0].message.contains("cannot be read"),
            "{:?}",
            loaded.diagnostics
        );
        let neither = FileProvider::new(
            &install::FileProvider::default(),
            Reload::default().signal(),
        );
        assert!(neither.unwrap_err().message.contains("neither"));
    })
    .await;
}
