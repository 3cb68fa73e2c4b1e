//! The contents of files that the configuration names, read beforehand: compile itself does no I/O.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::config::units::FileOrContent;

/// Texts of files by their paths as configured. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files(Arc<Texts>);

/// The text of each file, or why it cannot be had.
pub type Texts = BTreeMap<PathBuf, Text>;

/// The text of a file, or why it cannot be had.
pub type Text = Result<Arc<str>, String>;

impl Files {
    /// The texts, or why they cannot be had.
    pub fn new(texts: Texts) -> Self {
        Self(Arc::new(texts))
    }

    /// The text of a file.
    pub fn text(&self, path: &Path) -> Text {
        match self.0.get(path) {
            Some(text) => text.clone(),
            None => Err(format!("{} was not read", path.display())),
        }
    }

    /// The text that `source` names or holds.
    pub fn content(&self, source: &FileOrContent) -> Text {
        match (source.content(), source.path()) {
            (Some(text), _) => Ok(text.into()),
            (None, Some(path)) => self.text(path),
            (None, None) => Err("is missing".to_owned()),
        }
    }

    /// Whether a file has the same text in both.
    pub fn agree_on(&self, other: &Self, path: &Path) -> bool {
        self.0.get(path) == other.0.get(path)
    }
}
