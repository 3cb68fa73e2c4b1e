//! A log file that is put aside when it has grown too large: `portway.log` becomes `portway-2026-11-21T08-21-36.250.log`, packed as
//! `.gz` if wanted, and the oldest ones are deleted.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};

use crate::{config::install, observe::clock};

/// When a file is put aside and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::observe) struct Rotation {
    /// In bytes.
    pub(in crate::observe) max_size: u64,
    max_age: Option<Duration>,
    max_backups: Option<usize>,
    compress: bool,
}

impl Rotation {
    pub(super) fn new(options: &install::Log) -> Self {
        let megabytes = if options.max_size == 0 {
            100
        } else {
            options.max_size
        };
        Self {
            max_size: megabytes.saturating_mul(1024 * 1024),
            max_age: (options.max_age > 0)
                .then(|| Duration::from_secs(options.max_age.saturating_mul(24 * 3600))),
            max_backups: usize::try_from(options.max_backups)
                .ok()
                .filter(|backups| *backups > 0),
            compress: options.compress,
        }
    }

    /// Renames the file at `path`, and starts to tidy up beside the running log.
    pub(in crate::observe) fn put_aside(self, path: &Path) -> io::Result<()> {
        let names = Names::of(path);
        let backup = names.backup(SystemTime::now());
        fs::rename(path, &backup)?;
        let tidy = move || {
            if self.compress {
                // Without room for the packed file the plain one stays.
                pack(&backup).ok();
            }
            self.delete_old(&names, SystemTime::now());
        };
        std::thread::Builder::new()
            .name("log-rotation".to_owned())
            .spawn(tidy)?;
        Ok(())
    }

    fn delete_old(self, names: &Names, now: SystemTime) {
        let mut backups = names.backups();
        backups.sort();
        backups.reverse();
        let keep = self.max_backups.unwrap_or(usize::MAX);
        for (number, backup) in backups.iter().enumerate() {
            let modified = fs::metadata(backup).and_then(|metadata| metadata.modified());
            let age = modified
                .ok()
                .and_then(|modified| now.duration_since(modified).ok());
            let too_old = age.zip(self.max_age).is_some_and(|(age, most)| age > most);
            if number >= keep || too_old {
                // Someone else may have been faster.
                fs::remove_file(backup).ok();
            }
        }
    }
}

/// The names that belong to a log file.
#[derive(Debug)]
struct Names {
    directory: PathBuf,
    stem: String,
    extension: String,
}

impl Names {
    fn of(path: &Path) -> Self {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let directory = path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty());
        Self {
            directory: directory.map_or_else(|| ".".into(), Path::to_owned),
            stem: text(path.file_stem()),
            extension: path.extension().map_or_else(String::new, |extension| {
                format!(".{}", extension.to_string_lossy())
            }),
        }
    }

    /// A name for the file put aside at `time`; names sort by time.
    fn backup(&self, time: SystemTime) -> PathBuf {
        let time = clock::clock_text(time).replace(':', "-");
        let (seconds, fraction) = time
            .trim_end_matches('Z')
            .split_once('.')
            .unwrap_or((&time, ""));
        let milliseconds = format!("{fraction:0<3}");
        let name = format!(
            "{}-{}.{}{}",
            self.stem,
            seconds.trim_end_matches('Z'),
            &milliseconds[..3],
            self.extension
        );
        self.directory.join(name)
    }

    fn backups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        let files = entries.filter(|entry| self.is_backup(&entry.file_name().to_string_lossy()));
        files.map(|entry| entry.path()).collect()
    }

    fn is_backup(&self, name: &str) -> bool {
        let name = name.strip_suffix(".gz").unwrap_or(name);
        let time = name
            .strip_prefix(&self.stem)
            .and_then(|rest| rest.strip_prefix('-'));
        let time = time.and_then(|rest| rest.strip_suffix(&self.extension));
        let digits = |letter: char| letter.is_ascii_digit() || matches!(letter, '-' | 'T' | '.');
        time.is_some_and(|time| {
            time.len() == "2026-11-21T08-21-36.250".len() && time.chars().all(digits)
        })
    }
}

fn pack(backup: &Path) -> io::Result<()> {
    let mut packed = backup.as_os_str().to_owned();
    packed.push(".gz");
    let mut encoder = GzEncoder::new(File::create(packed)?, Compression::default());
    io::copy(&mut File::open(backup)?, &mut encoder)?;
    encoder.finish()?;
    fs::remove_file(backup)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use super::{Names, Rotation, pack};
    use crate::config::install;

    #[test]
    fn names_are_told_from_others() {
        let names = Names::of(Path::new("/var/log/portway.log"));
        let time = UNIX_EPOCH + Duration::from_millis(1_795_249_296_050);
        let backup = names.backup(time);
        assert_eq!(
            backup,
            Path::new("/var/log/portway-2026-11-21T08-21-36.050.log")
        );
        let cases = [
            ("portway-2026-11-21T08-21-36.050.log", true),
            ("portway-2026-11-21T08-21-36.050.log.gz", true),
            ("portway.log", false),
            ("portway-important.log", false),
            ("other-2026-11-21T08-21-36.050.log", false),
        ];
        for (name, expected) in cases {
            assert_eq!(names.is_backup(name), expected, "{name}");
        }
        let whole = names.backup(UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(
            whole,
            Path::new("/var/log/portway-1970-01-01T00-00-01.000.log")
        );
    }

    #[test]
    fn the_oldest_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let names = Names::of(&directory.path().join("p.log"));
        for seconds in 1..=4 {
            fs::write(names.backup(UNIX_EPOCH + Duration::from_secs(seconds)), "x").unwrap();
        }
        fs::write(directory.path().join("p.log"), "x").unwrap();
        pack(&names.backup(UNIX_EPOCH + Duration::from_secs(4))).unwrap();
        let mut options = install::Log {
            max_backups: 2,
            ..install::Log::default()
        };
        Rotation::new(&options).delete_old(&names, SystemTime::now());
        let mut left = names.backups();
        left.sort();
        let expected = [
            directory.path().join("p-1970-01-01T00-00-03.000.log"),
            directory.path().join("p-1970-01-01T00-00-04.000.log.gz"),
        ];
        assert_eq!(left, expected);

        options.max_age = 1;
        let in_two_days = SystemTime::now() + Duration::from_secs(2 * 24 * 3600);
        Rotation::new(&options).delete_old(&names, in_two_days);
        assert!(names.backups().is_empty());
        assert!(directory.path().join("p.log").exists());
    }
}
