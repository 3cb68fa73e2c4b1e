//! The last containers known, in a file: what is served when Portway starts while the engine is away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::container::Container;

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    format: u32,
    /// When it was written, for people.
    pub(super) written: String,
    pub(super) containers: Vec<Container>,
}

impl Kept {
    /// Containers as they are now.
    pub(super) fn new(containers: Vec<Container>) -> Self {
        Self {
            format: FORMAT,
            written: Timestamp::now().to_string(),
            containers,
        }
    }

    /// Reads the file; nothing if there is none.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        let kept: Self = serde_json::from_slice(&bytes)?;
        match kept.format {
            FORMAT => Ok(Some(kept)),
            other => Err(io::Error::other(format!(
                "is of format {other}, not {FORMAT}"
            ))),
        }
    }

    /// Writes the file as a whole. Labels may hold password hashes, so that nobody else may read it.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        let mut beside = PathBuf::from(path).into_os_string();
        beside.push(".new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }
}

const FORMAT: u32 = 1;
/// Far more than any engine holds.
const LARGEST: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.json");
        assert!(Kept::read(&path).unwrap().is_none());
        let container = Container {
            name: "web".into(),
            labels: [("a".to_owned(), "ü".to_owned())].into(),
            ..Container::default()
        };
        let kept = Kept::new(vec![container.clone()]);
        kept.write(&path).unwrap();
        kept.write(&path).unwrap();
        assert_eq!(Kept::read(&path).unwrap().unwrap().containers, [container]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.json");
        for text in [
            "",
            "{",
            "[]",
            "{\"format\":99,\"written\":\"\",\"containers\":[]}",
            "\u{0}",
        ] {
            fs::write(&path, text).unwrap();
            assert!(Kept::read(&path).is_err(), "{text}");
        }
        assert!(
            Kept::new(Vec::new())
                .write(Path::new("/nonexistent/x"))
                .is_err()
        );
    }
}
