//! Tells when files may have changed, whatever way they are changed: written in place, renamed over, swapped behind a symbolic
//! link, deleted and made again, or mounted singly into a container.
//!
//! Kernel events only wake the watch up; what counts is a comparison of file stamps. A periodic look covers what gives no events
//! (network and overlay file systems, an exhausted inotify limit).

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::warn;

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One file, which need not exist yet.
    File(PathBuf),
    /// Every file below a directory whose name ends in one of these extensions.
    Tree(PathBuf, &'static [&'static str]),
}

/// Watches a set of files.
#[derive(Debug)]
pub struct Watch {
    targets: Vec<Target>,
    /// What the last look found, and what the last look found that a change was reported for.
    seen: Scan,
    reported: Scan,
    /// Whether an event has come that has not been looked into.
    woken: bool,
    events: mpsc::Receiver<()>,
    /// Whether the last event was that of a file being written: more will follow.
    writing: Arc<AtomicBool>,
    watcher: Option<RecommendedWatcher>,
    /// Paths the watcher watches, each with the identity it had: a path that means another inode now must be watched anew.
    watched: BTreeMap<PathBuf, Identity>,
}

impl Watch {
    /// A watch over `targets`, which have been looked at when this returns.
    pub async fn new(targets: Vec<Target>) -> Self {
        let (sender, events) = mpsc::channel(1);
        let writing = Arc::new(AtomicBool::new(false));
        let being_written = Arc::clone(&writing);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            being_written.store(event.is_ok_and(|event| is_writing(&event)), Relaxed);
            // A full channel already holds the news that something happened.
            sender.try_send(()).ok();
        });
        let watcher = watcher
            .inspect_err(|error| {
                warn!(%error, "file changes are noticed by looking every {RESCAN:?} only");
            })
            .ok();
        let mut watch = Self {
            targets,
            seen: Scan::default(),
            reported: Scan::default(),
            woken: false,
            events,
            writing,
            watcher,
            watched: BTreeMap::new(),
        };
        watch.look().await;
        watch.reported = watch.seen.clone();
        watch
    }

    /// The watched files that exist, in name order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.seen.files.keys().map(PathBuf::as_path)
    }

    /// Watches `targets` instead.
    pub async fn aim(&mut self, targets: Vec<Target>) {
        if self.targets != targets {
            self.targets = targets;
            self.refresh().await;
        }
    }

    /// Looks now, without waiting for an event; what it finds will not be reported again.
    pub async fn refresh(&mut self) {
        self.look().await;
        self.reported = self.seen.clone();
    }

    /// Returns when a change has happened and settled; never while nothing is watched. Cancelling it loses no change.
    pub async fn changed(&mut self) {
        if self.targets.is_empty() {
            return std::future::pending().await;
        }
        loop {
            self.wake().await;
            self.settle().await;
            self.look().await;
            if self.seen.lost_from(&self.reported) {
                self.await_return().await;
                self.look().await;
            }
            self.woken = false;
            if self.seen != self.reported || self.seen.fresh {
                self.reported = self.seen.clone();
                return;
            }
        }
    }

    /// Waits for an event, or for the time to look without one.
    async fn wake(&mut self) {
        if self.woken {
            return;
        }
        if let Ok(None) = timeout(RESCAN, self.events.recv()).await {
            // Without a watcher the channel is closed: only the clock remains.
            tokio::time::sleep(RESCAN).await;
        }
        self.woken = true;
    }

    /// Waits for the events to pause, so that a file is not read while it is being written. A pause is short once the writer has closed
    /// the file, or put it in place by renaming.
    async fn settle(&mut self) {
        let limit = Instant::now() + SETTLE_AT_MOST;
        while Instant::now() < limit {
            let pause = if self.writing.load(Relaxed) {
                SETTLE
            } else {
                SETTLE_CLOSED
            };
            if timeout(pause, self.events.recv()).await.is_err() {
                return;
            }
        }
    }

    /// Gives files that have just vanished a moment to come back: some editors delete and write anew.
    async fn await_return(&mut self) {
        let limit = Instant::now() + RETURN;
        while Instant::now() < limit {
            // A silent pause is as good a reason to look again as an event.
            timeout(SETTLE, self.events.recv()).await.ok();
            if !scan(self.targets.clone()).await.lost_from(&self.reported) {
                return self.settle().await;
            }
        }
    }

    /// Takes the stamps of all files, after making sure that later changes to them will be noticed.
    async fn look(&mut self) {
        let points = scan(self.targets.clone()).await.points;
        self.watch(points);
        // Anything that happened before the watches stood is in this second look.
        self.seen = scan(self.targets.clone()).await;
    }

    fn watch(&mut self, points: BTreeMap<PathBuf, Identity>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        if points == self.watched {
            return;
        }
        for (path, identity) in &self.watched {
            if points.get(path) != Some(identity) {
                // The kernel has dropped the watch of a deleted file by itself.
                watcher.unwatch(path).ok();
            }
        }
        for (path, identity) in &points {
            if self.watched.get(path) == Some(identity) {
                continue;
            }
            if let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) {
                warn!(path = %path.display(), %error, "changes here are noticed by looking every {RESCAN:?} only");
            }
        }
        self.watched = points;
    }
}

/// What a look at the targets found.
#[derive(Debug, Clone, Default)]
struct Scan {
    files: BTreeMap<PathBuf, Stamp>,
    /// Directories and files whose events tell of changes.
    points: BTreeMap<PathBuf, Identity>,
    /// Whether a file is so new that it may be written once more within the same tick of the file system's clock.
    fresh: bool,
}

impl Scan {
    fn lost_from(&self, before: &Self) -> bool {
        before
            .files
            .keys()
            .any(|path| !self.files.contains_key(path))
    }
}

/// Freshness is a fact about the clock, not about the files.
impl PartialEq for Scan {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

type Identity = (u64, u64);

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            identity: identity(metadata),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_fresh(&self, now: Duration) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        let nanos = u32::try_from(self.changed.1).unwrap_or(0);
        now.saturating_sub(Duration::new(changed, nanos)) < TICK
    }
}

/// Whether the file is still open for writing after the event, as far as it tells.
fn is_writing(event: &Event) -> bool {
    matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any)
    )
}

/// Scans on the blocking pool: a network file system may hang.
async fn scan(targets: Vec<Target>) -> Scan {
    let scan = tokio::task::spawn_blocking(move || {
        let mut scan = Scan::default();
        let mut visited = BTreeSet::new();
        for target in &targets {
            match target {
                Target::File(path) => scan_file(path, &mut scan),
                Target::Tree(path, extensions) => {
                    add_links(path, 0, &mut scan.points);
                    scan_tree(path, extensions, &mut visited, &mut scan);
                }
            }
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        scan.fresh = scan.files.values().any(|stamp| stamp.is_fresh(now));
        scan
    });
    scan.await.unwrap_or_default()
}

fn scan_file(path: &Path, scan: &mut Scan) {
    add_links(path, 0, &mut scan.points);
    if let Ok(metadata) = fs::metadata(path)
        && !metadata.is_dir()
    {
        // The file itself too: one that is mounted singly is written through another directory.
        scan.points.insert(path.to_owned(), identity(&metadata));
        scan.files.insert(path.to_owned(), Stamp::of(&metadata));
    }
}

fn scan_tree(
    directory: &Path,
    extensions: &[&str],
    visited: &mut BTreeSet<Identity>,
    scan: &mut Scan,
) {
    let Ok(metadata) = fs::metadata(directory) else {
        return;
    };
    if !visited.insert(identity(&metadata)) {
        return;
    }
    scan.points
        .insert(directory.to_owned(), identity(&metadata));
    for path in entries(directory).unwrap_or_default() {
        if path.is_dir() {
            scan_tree(&path, extensions, visited, scan);
        } else if has_extension(&path, extensions) {
            scan_file(&path, scan);
        }
    }
}

/// The entries of a directory that configuration is looked for in. Kubernetes' `..data` machinery is left out: the links
/// beside it lead there. So are editors' lock files (`.#name`).
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(b"..") && !name.starts_with(b".#") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| {
        extensions
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Adds the directory of `path` and the directories of every symbolic link on the way to it.
fn add_links(path: &Path, depth: u8, points: &mut BTreeMap<PathBuf, Identity>) {
    let mut prefix = PathBuf::new();
    for component in path.components() {
        prefix.push(component);
        let Ok(target) = fs::read_link(&prefix) else {
            continue;
        };
        let parent = parent(&prefix);
        add_directory(parent, points);
        if depth < MAX_LINKS {
            add_links(&parent.join(target), depth + 1, points);
        }
    }
    add_directory(parent(path), points);
}

/// Adds the directory, or the nearest one above it that exists: that is where it will appear.
fn add_directory(directory: &Path, points: &mut BTreeMap<PathBuf, Identity>) {
    let mut directory = directory;
    loop {
        if let Ok(metadata) = fs::metadata(directory) {
            points.insert(directory.to_owned(), identity(&metadata));
            return;
        }
        let above = parent(directory);
        if above == directory {
            return;
        }
        directory = above;
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// How often to look even without events.
const RESCAN: Duration = Duration::from_secs(2);
/// Silence that ends a burst of events, while a file is being written and after.
const SETTLE: Duration = Duration::from_millis(15);
const SETTLE_CLOSED: Duration = Duration::from_millis(5);
/// A file that is written without pause is read nevertheless.
const SETTLE_AT_MOST: Duration = Duration::from_millis(200);
/// How long a vanished file is waited for.
const RETURN: Duration = Duration::from_millis(100);
/// Coarser than any file system's clock, with some room for an event's way here.
const TICK: Duration = Duration::from_secs(1);
/// Links to links are followed this deep.
const MAX_LINKS: u8 = 8;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const YAML: &[&str] = &["yml", "yaml", "toml"];

    async fn notices(watch: &mut Watch, what: &str) {
        let waited = timeout(Duration::from_secs(10), watch.changed()).await;
        assert!(waited.is_ok(), "not noticed: {what}");
    }

    fn names(watch: &Watch) -> Vec<String> {
        watch
            .files()
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect()
    }

    #[tokio::test]
    async fn a_tree_is_noticed_whatever_way_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("a.yml"), "1").unwrap();
        fs::write(root.join("ignored.txt"), "1").unwrap();
        fs::write(root.join(".#a.yml"), "1").unwrap();
        let mut watch = Watch::new(vec![Target::Tree(root.to_owned(), YAML)]).await;
        assert_eq!(names(&watch), ["a.yml"]);

        fs::write(root.join("a.yml"), "22").unwrap();
        notices(&mut watch, "written in place").await;
        fs::write(root.join("new"), "333").unwrap();
        fs::rename(root.join("new"), root.join("a.yml")).unwrap();
        notices(&mut watch, "renamed over").await;
        fs::create_dir_all(root.join("sub/deeper")).unwrap();
        fs::write(root.join("sub/deeper/b.toml"), "1").unwrap();
        notices(&mut watch, "a new sub-directory").await;
        assert_eq!(names(&watch), ["a.yml", "b.toml"]);
        fs::write(root.join("sub/deeper/b.toml"), "22").unwrap();
        notices(&mut watch, "written in the new sub-directory").await;
        fs::remove_dir_all(root.join("sub")).unwrap();
        notices(&mut watch, "removed").await;
        assert_eq!(names(&watch), ["a.yml"]);
    }

    #[tokio::test]
    async fn a_swapped_link_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (version, content) in [("..1", "old"), ("..2", "newer")] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("a.yml"), content).unwrap();
        }
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.yml", root.join("a.yml")).unwrap();
        let mut tree = Watch::new(vec![Target::Tree(root.to_owned(), YAML)]).await;
        let mut file = Watch::new(vec![Target::File(root.join("a.yml"))]).await;
        assert_eq!(
            tree.files().count(),
            1,
            "the directories behind the link are not read by themselves"
        );

        symlink("..2", root.join("..swap")).unwrap();
        fs::rename(root.join("..swap"), root.join("..data")).unwrap();
        notices(&mut tree, "the tree behind a link").await;
        notices(&mut file, "the file behind a link").await;
        assert_eq!(fs::read_to_string(root.join("a.yml")).unwrap(), "newer");
    }

    #[tokio::test]
    async fn a_single_file_is_noticed_through_another_name_and_when_it_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("a.yml"), "1").unwrap();
        fs::hard_link(outside.join("a.yml"), inside.join("a.yml")).unwrap();
        let mut watch = Watch::new(vec![Target::File(inside.join("a.yml"))]).await;

        fs::write(outside.join("a.yml"), "22").unwrap();
        notices(&mut watch, "written under another name").await;
        fs::remove_file(inside.join("a.yml")).unwrap();
        fs::write(inside.join("a.yml"), "333").unwrap();
        notices(&mut watch, "deleted and written anew").await;
        assert_eq!(watch.files().count(), 1);
        fs::remove_dir_all(&inside).unwrap();
        notices(&mut watch, "gone with its directory").await;
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("a.yml"), "4").unwrap();
        notices(&mut watch, "back with its directory").await;
    }
}
