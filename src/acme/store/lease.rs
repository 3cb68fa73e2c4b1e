//! The lease: which of the edges on one storage orders and writes.
//!
//! It is a file beside the storage. Its holder keeps a lock on it, which ends with the process however that ends, and beats in it, for
//! edges on other machines whose locks we may not see: they take over when it has not beaten for a while. Every change of hands makes the
//! number larger, and who writes with an older number is refused.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Claim;

/// One edge's view of the lease.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
    /// This process.
    holder: String,
    /// The machine it runs on, since that was started.
    machine: String,
    held: Option<Held>,
    /// What somebody else wrote last, and since when it stands there.
    seen: Option<(Record, Instant)>,
}

#[derive(Debug)]
struct Held {
    /// Locked.
    file: File,
    record: Record,
}

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// The fencing number.
    number: u64,
    holder: String,
    /// Empty when the lease was given back.
    machine: String,
    beat: u64,
}

impl Lease {
    pub(super) fn new(path: PathBuf) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let name = rustix::system::uname();
        let name = name.nodename().to_string_lossy().into_owned();
        Self {
            path,
            holder: format!("{name}-{:08x}", fastrand::u32(..)),
            machine: boot.map_or_else(|_| name, |id| id.trim().to_owned()),
            held: None,
            seen: None,
        }
    }

    /// Takes the lease if it is free, and keeps it if it is ours.
    pub(super) fn claim(&mut self, now: Instant) -> io::Result<Claim> {
        if let Some(held) = self.held.take()
            && held.stands(&self.path)
        {
            return Ok(self.keep(held));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        let locked = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Ok(Claim::Theirs(read(&file).holder)),
            // A file system without locks: the beats have to do.
            Err(TryLockError::Error(_)) => false,
        };
        let found = read(&file);
        if !self.is_free(&found, locked, now) || !is_at(&file, &self.path) {
            return Ok(Claim::Theirs(found.holder));
        }
        let record = Record {
            number: found.number + 1,
            holder: self.holder.clone(),
            machine: self.machine.clone(),
            beat: 0,
        };
        write(&file, &record)?;
        file.sync_data()?;
        let number = record.number;
        self.held = Some(Held { file, record });
        Ok(Claim::Ours(number))
    }

    /// Whether the lease is ours and has this number.
    pub(super) fn holds(&self, number: u64) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.record.number == number && held.stands(&self.path))
    }

    fn keep(&mut self, mut held: Held) -> Claim {
        held.record.beat += 1;
        // A full disk stops the beats. If somebody takes over then, the number tells.
        drop(write(&held.file, &held.record));
        let number = held.record.number;
        self.held = Some(held);
        Claim::Ours(number)
    }

    /// Whether nobody holds it. A lock says so for holders on this machine.
    fn is_free(&mut self, found: &Record, locked: bool, now: Instant) -> bool {
        if found.machine.is_empty() || (locked && found.machine == self.machine) {
            return true;
        }
        match &self.seen {
            Some((seen, since)) if seen == found => now - *since >= SILENCE,
            _ => {
                self.seen = Some((found.clone(), now));
                false
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut held) = self.held.take()
            && held.stands(&self.path)
        {
            held.record.machine.clear();
            drop(write(&held.file, &held.record));
        }
    }
}

impl Held {
    /// Whether nobody has taken over, nor moved the file away.
    fn stands(&self, path: &Path) -> bool {
        let found = read(&self.file);
        let ours = found.number == self.record.number && found.holder == self.record.holder;
        ours && is_at(&self.file, path)
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// What stands in the file; nothing if it cannot be read.
fn read(file: &File) -> Record {
    let mut text = [0; LENGTH];
    let read = file.read_at(&mut text, 0).unwrap_or_default();
    serde_json::from_slice(text[..read].trim_ascii()).unwrap_or_default()
}

/// Writes in place, as the lock is on this very file, and always as much, so that no reader finds half of it.
fn write(file: &File, record: &Record) -> io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.resize(LENGTH - 1, b' ');
    text.push(b'\n');
    file.write_all_at(&text, 0)
}

/// More than a record needs: a host name has 64 bytes at most.
const LENGTH: usize = 256;
/// How long a holder on another machine may be silent.
const SILENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(path: &Path, machine: &str) -> Lease {
        let mut lease = Lease::new(path.to_owned());
        machine.clone_into(&mut lease.machine);
        lease
    }

    impl Lease {
        fn number(&mut self, now: Instant) -> Option<u64> {
            match self.claim(now).unwrap() {
                Claim::Ours(number) => Some(number),
                Claim::Theirs(_) => None,
            }
        }

        /// Ends as a process does that is killed.
        fn die(mut self) {
            self.held = None;
        }
    }

    #[test]
    fn one_holds_it_and_every_change_of_hands_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (path, now) = (folder.path().join("lease"), Instant::now());
        let (mut one, mut two) = (lease(&path, "m"), lease(&path, "m"));
        assert_eq!((one.number(now), two.number(now)), (Some(1), None));
        assert_eq!((one.number(now), one.holds(1)), (Some(1), true));
        one.die();
        assert_eq!(two.number(now), Some(2));
        drop(two);
        let mut three = lease(&path, "other");
        assert_eq!(three.number(now), Some(3));
    }

    #[test]
    fn a_holder_on_another_machine_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, start) = (folder.path().join("lease"), Instant::now());
        let (mut one, mut two) = (lease(&path, "m1"), lease(&path, "m2"));
        assert_eq!(one.number(start), Some(1));
        one.die();
        assert_eq!(two.number(start), None);
        assert_eq!(two.number(start + SILENCE / 2), None);
        assert_eq!(two.number(start + SILENCE), Some(2));
    }

    #[test]
    fn who_was_overtaken_holds_it_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (path, now) = (folder.path().join("lease"), Instant::now());
        let mut one = lease(&path, "m1");
        assert_eq!(one.number(now), Some(1));
        // As another machine does that sees no lock.
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let record = Record {
            number: 2,
            holder: "two".to_owned(),
            machine: "m2".to_owned(),
            beat: 0,
        };
        write(&file, &record).unwrap();
        assert!(!one.holds(1));
        assert_eq!(one.number(now), None);
        drop(one);
        assert_eq!(read(&File::open(&path).unwrap()), record);
    }

    #[test]
    fn a_file_that_was_moved_away_is_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let (path, now) = (folder.path().join("lease"), Instant::now());
        let mut one = lease(&path, "m");
        assert_eq!(one.number(now), Some(1));
        std::fs::remove_file(&path).unwrap();
        assert!(!one.holds(1));
        assert_eq!(one.number(now), Some(1));
        assert!(one.holds(1));
    }
}
