//! The words of a command line that a subcommand reads itself.

/// The arguments, one after another.
#[derive(Debug)]
pub(super) struct Words<'a> {
    words: &'a [String],
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [String]) -> Self {
        Self { words, at: 0 }
    }

    /// Whether the word that was taken last is the first.
    pub(super) fn at_first(&self) -> bool {
        self.at == 1
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// The value of an option: behind its `=`, or the next word.
    pub(super) fn value(&mut self, name: &str, value: Option<&str>) -> Result<String, String> {
        match value {
            Some(value) => Ok(value.to_owned()),
            None => self
                .next()
                .map(str::to_owned)
                .ok_or_else(|| format!("{name} needs a value")),
        }
    }

    /// Whether the value of an option is a URL.
    pub(super) fn is_url(&self, value: Option<&str>) -> bool {
        let next = || self.words.get(self.at).map(String::as_str);
        value
            .or_else(next)
            .is_some_and(|value| value.contains("://"))
    }
}

/// The name of an option and what stands behind its `=`.
pub(super) fn split(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((name, value)) if word.starts_with('-') => (name, Some(value)),
        _ => (word, None),
    }
}
