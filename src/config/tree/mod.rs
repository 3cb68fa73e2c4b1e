//! The one form that files, flags, environment and labels all become before they are typed: a tree of named values with places.

mod flat;
mod source;
mod toml;
mod yaml;

pub(super) use self::flat::{Branch, Repeat, Step, split_path};
pub use self::source::{MAX_FILE_BYTES, read_text};
pub(super) use self::source::{Segment, Source};
use super::diagnostic::{Diagnostic, Place};

/// One named value.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// As written; a list item's index or bracket key.
    pub name: Box<str>,
    /// Where the name was written.
    pub key: Place,
    /// Where the value was written; for a map or list under a key, where the key was.
    pub place: Place,
    /// What it holds.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Nothing, written as such.
    Null,
    /// One value.
    Scalar(Scalar),
    /// The same name given several times (flags): the last wins for a single value, all count for a list.
    Repeated(Vec<Node>),
    /// Items in order.
    List(Vec<Node>),
    /// Named children. `switch` is the node's own value, which flat sources can have beside children (`tls=false`).
    Map {
        /// The children.
        children: Vec<Node>,
        /// The node's own value.
        switch: Option<Scalar>,
    },
}

/// A single value as text.
#[derive(Clone, PartialEq)]
pub struct Scalar {
    /// The text.
    pub text: Box<str>,
    /// How it was written.
    pub style: Style,
}

/// How a single value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bare in a file: may be a number or a boolean.
    Plain,
    /// Quoted, or from a source where everything is text.
    Quoted,
    /// A flag's value given as the next word, which may have been meant as something else.
    NextWord,
    /// A flag without any value.
    Bare,
}

impl Node {
    /// A map without a name.
    pub fn root(children: Vec<Self>) -> Self {
        Self {
            name: "".into(),
            key: Place::Builtin,
            place: Place::Builtin,
            value: Value::map(children),
        }
    }

    /// Named children; none unless it is a map.
    pub fn children(&self) -> &[Self] {
        match &self.value {
            Value::Map { children, .. } => children,
            _ => &[],
        }
    }

    /// The child with this name in any case.
    pub fn child(&self, name: &str) -> Option<&Self> {
        let mut children = self.children().iter();
        children.find(|child| child.name.eq_ignore_ascii_case(name))
    }

    /// The last single value, when it has one.
    pub fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_ref())
    }

    /// The last single value and how it was written.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Repeated(all) => all.last().and_then(Self::scalar),
            _ => None,
        }
    }
}

impl Value {
    /// Children only.
    pub fn map(children: Vec<Node>) -> Self {
        Self::Map {
            children,
            switch: None,
        }
    }

    /// A value from a source where everything is text.
    pub fn text(text: &str) -> Self {
        Self::Scalar(Scalar::new(text, Style::Quoted))
    }

    /// For messages: `a list`, `"web"`.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Scalar(scalar) => format!("{:?}", shorten(&scalar.text)),
            Self::Repeated(all) => all
                .last()
                .map_or_else(|| "nothing".to_owned(), |node| node.value.describe()),
            Self::List(_) => "a list".to_owned(),
            Self::Map { .. } => "options".to_owned(),
        }
    }
}

impl Scalar {
    /// A value.
    pub fn new(text: &str, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.name, self.value)
    }
}

/// Shape only: values may be secrets.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Scalar(_) => f.write_str("value"),
            Self::Repeated(nodes) | Self::List(nodes) => f.debug_list().entries(nodes).finish(),
            Self::Map { children, .. } => f.debug_set().entries(children).finish(),
        }
    }
}

impl std::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} value", self.style)
    }
}

/// A parsed source: its tree unless it could not be read at all, and what was found wrong while reading.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The tree; a map.
    pub root: Option<Node>,
    /// Syntax errors, duplicate keys.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// A source that could not be read.
    pub(super) fn failed(diagnostic: Diagnostic) -> Self {
        Self {
            root: None,
            diagnostics: vec![diagnostic],
        }
    }
}

/// File formats of configuration, told by the file's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.yml`, `.yaml`, and `.json`, which is read as YAML.
    Yaml,
    /// `.toml`.
    Toml,
}

impl Format {
    /// The format for a file name.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "yml" | "yaml" | "json" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// Reads a text into a tree.
pub(super) fn parse(format: Format, source: &Source<'_>) -> Parsed {
    match format {
        Format::Yaml => yaml::parse(source),
        Format::Toml => toml::parse(source),
    }
}

/// Reads a YAML text that is no configuration of ours, with the local tags of its values by their places.
pub fn read_yaml(name: &str, text: &str) -> (Parsed, Vec<(Place, Box<str>)>) {
    yaml::parse_tagged(&Source::new(name, text))
}

/// Long values are cut in messages.
fn shorten(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(60).collect();
    if chars.next().is_some() {
        format!("{start}…")
    } else {
        start
    }
}

/// Deeper nesting is refused: no option lies deeper than a dozen levels, and recursion must stay shallow.
const MAX_DEPTH: usize = 64;
