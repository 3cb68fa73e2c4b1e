//! Which other edges are there: each that does not order keeps a small file beside the storage.
//!
//! It says which answers to challenges the edge gives, so that an authority is told to look only when every edge can answer.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// This edge's file, and those of others.
#[derive(Debug)]
pub(super) struct Presence {
    folder: PathBuf,
    prefix: String,
    own: PathBuf,
}

impl Presence {
    /// Beside the storage at `path`.
    pub(super) fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_else(|| OsStr::new("acme.json"));
        let prefix = format!("{}.edge-", name.to_string_lossy());
        let folder = path.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        let own = folder.join(format!("{prefix}{:016x}", fastrand::u64(..)));
        Self {
            folder,
            prefix,
            own,
        }
    }

    /// Says that this edge is there, and what it has seen.
    pub(super) fn attend(&self, seen: &str) -> io::Result<()> {
        fs::write(&self.own, seen)
    }

    /// This edge is not to be waited for.
    pub(super) fn leave(&self) {
        // Mostly there is none.
        drop(fs::remove_file(&self.own));
    }

    /// What the others have seen. Files that nobody touches any more are removed.
    pub(super) fn others(&self, now: SystemTime) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut seen = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let named = entry
                .file_name()
                .to_string_lossy()
                .starts_with(&self.prefix);
            if !named || path == self.own {
                continue;
            }
            let touched = entry.metadata().and_then(|facts| facts.modified());
            let age = touched.map_or(Duration::MAX, |at| {
                now.duration_since(at).unwrap_or_default()
            });
            if age > GONE {
                drop(fs::remove_file(&path));
            } else {
                seen.extend(fs::read_to_string(&path));
            }
        }
        seen
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.leave();
    }
}

/// After this time without a sign an edge is not waited for. Much longer than the pause between signs, as clocks differ.
const GONE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_seen_until_they_leave_or_fall_silent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.json");
        let (one, two) = (Presence::new(&path), Presence::new(&path));
        let now = SystemTime::now();
        two.attend("3.1").unwrap();
        assert_eq!(one.others(now), ["3.1"]);
        assert_eq!(two.others(now), Vec::<String>::new());
        two.leave();
        assert_eq!(one.others(now), Vec::<String>::new());
        two.attend("3.2").unwrap();
        assert_eq!(one.others(now + GONE * 2), Vec::<String>::new());
        assert!(!two.own.exists());
        two.attend("3.3").unwrap();
        drop(two);
        assert_eq!(one.others(now), Vec::<String>::new());
    }
}
