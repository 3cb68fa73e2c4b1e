//! Documents in files.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::time::Instant;

use super::{Claim, Document, Stamp, Store, lease::Lease, presence::Presence};

/// Keeps documents in files beside each other, readable by their owner only.
#[derive(Debug)]
pub(in crate::acme) struct Files {
    path: PathBuf,
    lease: Mutex<Lease>,
    presence: Presence,
}

impl Files {
    /// Certificates go to `path`, or to where that leads.
    pub(in crate::acme) fn new(path: &Path) -> Self {
        let path = whole(path);
        Self {
            lease: Mutex::new(Lease::new(beside(&path, ".lease"))),
            presence: Presence::new(&path),
            path,
        }
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, document: Document) -> PathBuf {
        match document {
            Document::Certificates => self.path.clone(),
            Document::Memory => beside(&self.path, ".portway"),
            Document::Answers => beside(&self.path, ".answers"),
        }
    }
}

impl Store for Files {
    fn read(&self, document: Document) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(document);
        match fs::read(&path) {
            Ok(text) => {
                protect(&path);
                Ok(Some(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_previous(&self, document: Document) -> Option<Vec<u8>> {
        fs::read(beside(&self.path(document), PREVIOUS)).ok()
    }

    fn stamp(&self, document: Document) -> Option<Stamp> {
        let facts = fs::metadata(self.path(document)).ok()?;
        Some(Stamp {
            file: facts.ino(),
            length: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }

    fn write(&self, document: Document, text: &[u8], fence: Option<u64>) -> io::Result<()> {
        let lease = self.lease();
        if fence.is_some_and(|number| !lease.holds(number)) {
            return Err(io::Error::other("another edge has taken over"));
        }
        let path = self.path(document);
        let previous = (document != Document::Answers).then(|| beside(&path, PREVIOUS));
        match replace(&path, previous.as_deref(), text) {
            // A file that is mounted into a container cannot be replaced, and its folder may be closed to us.
            Err(error) if in_place(&error) => {
                if let (Some(previous), Ok(old)) = (previous, fs::read(&path)) {
                    drop(write_new(&previous, &old));
                }
                let mut file = OpenOptions::new().write(true).truncate(true).open(&path)?;
                file.write_all(text)?;
                file.sync_all()
            }
            outcome => outcome,
        }
    }

    fn set_aside(&self, document: Document, stamp: i64) -> io::Result<String> {
        let path = self.path(document);
        let aside = beside(&path, &format!(".corrupt-{stamp}"));
        match fs::rename(&path, &aside) {
            Err(error) if in_place(&error) => {
                let text = fs::read(&path)?;
                write_new(&aside, &text)?;
            }
            outcome => outcome?,
        }
        Ok(aside.display().to_string())
    }

    fn name(&self, document: Document) -> String {
        self.path(document).display().to_string()
    }

    fn claim(&self) -> io::Result<Claim> {
        let claim = self.lease().claim(Instant::now());
        if matches!(claim, Ok(Claim::Ours(_))) {
            self.presence.leave();
        }
        claim
    }

    fn attend(&self, seen: &str) {
        if let Err(error) = self.presence.attend(seen) {
            tracing::debug!(%error, "the edge that orders does not learn that this one is there");
        }
    }

    fn others(&self) -> Vec<String> {
        self.presence.others(SystemTime::now())
    }
}

/// Writes beside the file, and then lets the name mean the new one. The old one stays as `previous`.
fn replace(path: &Path, previous: Option<&Path>, text: &[u8]) -> io::Result<()> {
    let new = beside(path, ".new");
    write_new(&new, text).inspect_err(|_| drop(fs::remove_file(&new)))?;
    if let Some(previous) = previous
        && fs::remove_file(previous).or_else(absent).is_ok()
    {
        fs::hard_link(path, previous).or_else(absent).or_else(|_| {
            // A file system without links.
            fs::read(path).and_then(|old| write_new(previous, &old))
        })?;
    }
    fs::rename(&new, path).inspect_err(|_| drop(fs::remove_file(&new)))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn absent(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text)?;
    file.sync_all()
}

/// Whether the file may be written although it cannot be replaced.
fn in_place(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(
        error.kind(),
        ResourceBusy | CrossesDevices | PermissionDenied | ReadOnlyFilesystem
    )
}

/// Takes away what others may do with a file that holds private keys.
fn protect(path: &Path) {
    let Ok(facts) = fs::metadata(path) else {
        return;
    };
    if facts.permissions().mode() & 0o077 == 0 {
        return;
    }
    let path_shown = path.display();
    match fs::set_permissions(path, Permissions::from_mode(0o600)) {
        Ok(()) => {
            tracing::warn!(path = %path_shown, "others could read the certificates' private keys: the file's mode is 600 now");
        }
        Err(error) => {
            tracing::error!(path = %path_shown, %error, "others can read the certificates' private keys, and the file's mode cannot be set to 600");
        }
    }
}

/// The one path of a file that may not be there yet.
fn whole(path: &Path) -> PathBuf {
    if let Ok(path) = fs::canonicalize(path) {
        return path;
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = fs::canonicalize(folder.unwrap_or_else(|| Path::new(".")));
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

const PREVIOUS: &str = ".previous";

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn documents_are_replaced_and_the_previous_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.json");
        let files = Files::new(&path);
        let document = Document::Certificates;
        assert_eq!(files.read(document).unwrap(), None);
        for (text, previous) in [("one", None), ("two", Some("one")), ("three", Some("two"))] {
            files.write(document, text.as_bytes(), None).unwrap();
            assert_eq!(files.read(document).unwrap().unwrap(), text.as_bytes());
            let kept = files.read_previous(document);
            assert_eq!(kept.as_deref(), previous.map(str::as_bytes));
        }
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("acme.json.previous")), 0o600);
        assert!(!folder.path().join("acme.json.new").exists());
        let aside = files.set_aside(document, 7).unwrap();
        assert!(aside.ends_with("acme.json.corrupt-7"));
        assert_eq!(fs::read(aside).unwrap(), b"three");
        assert_eq!(files.read(document).unwrap(), None);
    }

    #[test]
    fn keys_are_made_private_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (
            folder.path().join("real.json"),
            folder.path().join("link.json"),
        );
        fs::write(&real, "{}").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let files = Files::new(&link);
        files.read(Document::Certificates).unwrap();
        assert_eq!(mode(&real), 0o600);
        files.write(Document::Certificates, b"new", None).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.json");
        let files = Files::new(&path);
        files.write(Document::Certificates, b"one", None).unwrap();
        // A folder in the place of the new file.
        fs::create_dir(folder.path().join("acme.json.new")).unwrap();
        files
            .write(Document::Certificates, b"two", None)
            .unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn who_does_not_hold_the_lease_does_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.json");
        let (one, two) = (Files::new(&path), Files::new(&path));
        assert_eq!(one.claim().unwrap(), Claim::Ours(1));
        assert!(matches!(two.claim().unwrap(), Claim::Theirs(_)));
        one.write(Document::Memory, b"one", Some(1)).unwrap();
        let before = two.stamp(Document::Memory);
        two.write(Document::Memory, b"two", Some(1)).unwrap_err();
        one.write(Document::Memory, b"two", Some(0)).unwrap_err();
        assert_eq!(two.stamp(Document::Memory), before);
        one.write(Document::Memory, b"two", Some(1)).unwrap();
        assert_ne!(two.stamp(Document::Memory), before);
    }
}
