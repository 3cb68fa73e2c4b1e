//! The request target: an escaped path and a query in one shared string.

use bytestring::ByteString;

/// Path and query of a request. Cheap to clone; the path always starts with `/` (or is `*` for `OPTIONS *`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: ByteString,
    /// Where the path ends: the position of `?`, or the length.
    path_end: usize,
}

impl Target {
    /// Splits `text` at its first `?`.
    pub fn new(text: ByteString) -> Self {
        let path_end = memchr::memchr(b'?', text.as_bytes()).unwrap_or(text.len());
        Self { text, path_end }
    }

    /// The escaped path, as it will be sent to the server.
    pub fn path(&self) -> &str {
        &self.text[..self.path_end]
    }

    /// The query without `?`; `None` if there is no `?` at all.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_end + 1..)
    }

    /// Path and query together.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The shared text, for handing on without a copy.
    pub fn text(&self) -> &ByteString {
        &self.text
    }

    /// Replaces the escaped path and keeps the query. An empty path becomes `/`.
    pub fn set_path(&mut self, path: &str) {
        let path = if path.is_empty() { "/" } else { path };
        let text = match self.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        *self = Self {
            path_end: path.len(),
            text: text.into(),
        };
    }

    /// Replaces the query and keeps the path.
    pub fn set_query(&mut self, query: Option<&str>) {
        let text = match query {
            Some(query) => format!("{}?{query}", self.path()),
            None => self.path().to_owned(),
        };
        *self = Self {
            path_end: self.path_end,
            text: text.into(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn parts(text: &'static str) -> (String, Option<String>) {
        let target = Target::new(text.into());
        (target.path().to_owned(), target.query().map(str::to_owned))
    }

    #[test]
    fn splits_at_the_first_question_mark() {
        assert_eq!(parts("/a?b?c"), ("/a".into(), Some("b?c".into())));
        assert_eq!(parts("/a?"), ("/a".into(), Some(String::new())));
        assert_eq!(parts("/a"), ("/a".into(), None));
    }

    #[test]
    fn set_path_keeps_the_query() {
        let mut target = Target::new("/a/b?x=1".into());
        target.set_path("/longer/path");
        assert_eq!(
            (target.path(), target.query()),
            ("/longer/path", Some("x=1"))
        );
        target.set_path("");
        assert_eq!(target.as_str(), "/?x=1");
        target.set_query(None);
        assert_eq!((target.as_str(), target.query()), ("/", None));
    }
}
