//! Findings about configuration: what is wrong, where it stands, and what to do about it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// One finding about configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where the value was written.
    pub place: Place,
    /// Dotted path of the option, e.g. `http.routers.app.rule`; empty when the whole source is meant.
    pub path: String,
    /// What is wrong, one sentence without a final stop.
    pub message: String,
    /// What to do: a did-you-mean or an instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What kind of finding it is.
    #[serde(skip)]
    pub about: About,
}

impl Diagnostic {
    /// A finding that makes its object unusable.
    pub fn error(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, path, message)
    }

    /// A finding that leaves its object usable, but differently from what the text suggests.
    pub fn warning(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, path, message)
    }

    /// A finding worth knowing that needs no action.
    pub fn info(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, place, path, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what kind of finding it is.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// Whether this finding is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn new(
        severity: Severity,
        place: Place,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            place,
            path: path.into(),
            message: message.into(),
            hint: None,
            about: About::Value,
        }
    }
}

/// `file:line:col: error: http.routers.app.rule: message (hint)`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::Builtin {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// What a finding is about, for reports that keep the kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum About {
    /// What an option is set to.
    #[default]
    Value,
    /// An option that nobody knows.
    UnknownOption,
    /// An option that Traefik knows and this version does not act on.
    Unsupported,
}

/// How bad a finding is; ordered from harmless to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Served, but not as the text suggests.
    Warning,
    /// Not usable.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Where a configured value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Place {
    /// In a file. Line and column count from 1, columns in characters; line 0 means the whole file.
    File {
        /// As the user named it.
        path: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
    },
    /// A command-line flag, as typed, without its value.
    Flag(Arc<str>),
    /// An environment variable.
    Env(Arc<str>),
    /// A label.
    Label {
        /// What has it.
        of: Labelled,
        /// Label key as written; empty when all of it is meant.
        key: Arc<str>,
    },
    /// Nowhere: a default, or built by code.
    #[default]
    Builtin,
}

impl Place {
    /// The file as a whole.
    pub fn whole_file(path: impl Into<Arc<str>>) -> Self {
        Self::File {
            path: path.into(),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0, .. } => f.write_str(path),
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Flag(name) => f.write_str(name),
            Self::Env(name) => write!(f, "${name}"),
            Self::Label { of, key } if key.is_empty() => write!(f, "{of}"),
            Self::Label { of, key } => write!(f, "{of}, label {key}"),
            Self::Builtin => f.write_str("built-in"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that has labels, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Labelled {
    /// A container.
    Container(Arc<str>),
    /// A service of a swarm.
    Service(Arc<str>),
}

impl Labelled {
    /// As a whole.
    pub fn whole(&self) -> Place {
        Place::Label {
            of: self.clone(),
            key: "".into(),
        }
    }
}

impl Default for Labelled {
    fn default() -> Self {
        Self::Container("".into())
    }
}

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// Places of every field below one object, by the field's path relative to it (`servers[0].url`), canonical spelling.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Place of the object itself.
    whole: Place,
    /// Sorted by path.
    fields: Arc<[Field]>,
}

impl Places {
    /// Of an object that was written at one place.
    pub fn of(whole: Place) -> Self {
        Self {
            whole,
            fields: Arc::default(),
        }
    }

    /// Of an object and its fields; relative paths.
    pub fn with_fields(whole: Place, fields: BTreeMap<Box<str>, Place>) -> Self {
        Self {
            whole,
            fields: fields.into_iter().collect(),
        }
    }

    /// Where the object itself was written.
    pub fn whole(&self) -> &Place {
        &self.whole
    }

    /// Where a field was written; the nearest enclosing field when it was not, the object when none was.
    pub fn at(&self, path: &str) -> &Place {
        let mut path = path;
        loop {
            if let Some(place) = self.exact(path) {
                return place;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return &self.whole,
            }
        }
    }

    /// Whether the user wrote this field.
    pub fn wrote(&self, path: &str) -> bool {
        self.exact(path).is_some()
    }

    fn exact(&self, path: &str) -> Option<&Place> {
        self.fields
            .binary_search_by(|(field, _)| field.as_ref().cmp(path))
            .ok()
            .map(|index| &self.fields[index].1)
    }
}

/// A field's path and place.
type Field = (Box<str>, Place);

/// Prints the object's place only: the table is long and rarely what one looks for.
impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Places({}, {} fields)", self.whole, self.fields.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(line: u32, column: u32) -> Place {
        Place::File {
            path: "a.yml".into(),
            line,
            column,
        }
    }

    #[test]
    fn prints_place_severity_path_message_hint() {
        let diagnostic = Diagnostic::error(file(3, 7), "http.routers.app.rul", "unknown option")
            .with_hint("did you mean `rule`?");
        assert_eq!(
            diagnostic.to_string(),
            "a.yml:3:7: error: http.routers.app.rul: unknown option (did you mean `rule`?)"
        );
        let whole = Diagnostic::warning(Place::whole_file("a.yml"), "", "empty");
        assert_eq!(whole.to_string(), "a.yml: warning: empty");
        assert_eq!(
            Diagnostic::info(Place::Builtin, "x", "y").to_string(),
            "info: x: y"
        );
    }

    #[test]
    fn finds_the_nearest_written_place() {
        let fields = [("servers", file(2, 1)), ("servers[0].url", file(3, 9))];
        let places = Places::with_fields(
            file(1, 1),
            fields.into_iter().map(|(k, v)| (k.into(), v)).collect(),
        );
        assert_eq!(places.at("servers[0].url"), &file(3, 9));
        assert_eq!(places.at("servers[1].url"), &file(2, 1));
        assert_eq!(places.at("sticky.cookie"), &file(1, 1));
        assert!(places.wrote("servers"));
        assert!(!places.wrote("servers[0]"));
    }
}
