//! Text that must not be shown, and text that may be a file.

use std::fmt;
use std::str::FromStr;

/// Text that must not be shown: passwords, password hashes, keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("xxxx")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("xxxx")
    }
}

/// A file path, or the PEM text itself: text that holds `-----BEGIN` is content, anything else a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileOrContent(String);

impl FileOrContent {
    /// The text when it is inline PEM.
    pub fn content(&self) -> Option<&str> {
        self.0.contains("-----BEGIN").then_some(self.0.as_str())
    }

    /// The path when it is not inline PEM.
    pub fn path(&self) -> Option<&std::path::Path> {
        let is_path = !self.0.is_empty() && self.content().is_none();
        is_path.then(|| std::path::Path::new(&self.0))
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for FileOrContent {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for FileOrContent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

/// A path as it is; inline PEM, which may be a private key, is not shown.
impl fmt::Display for FileOrContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content() {
            Some(_) => f.write_str("xxxx"),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for FileOrContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
