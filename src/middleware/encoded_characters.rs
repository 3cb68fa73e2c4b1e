//! `encodedCharacters`: refuses paths that hold characters in their encoded form.

use http::StatusCode;

use super::Flow;
use crate::{
    config::routing::AllowedCharacters as Config,
    exchange::{Body, Exchange, Response},
};

/// A set of percent escapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodedCharacters(u8);

impl EncodedCharacters {
    pub const SLASH: Self = Self(1);
    pub const BACKSLASH: Self = Self(1 << 1);
    pub const NULL: Self = Self(1 << 2);
    pub const SEMICOLON: Self = Self(1 << 3);
    pub const PERCENT: Self = Self(1 << 4);
    pub const QUESTION_MARK: Self = Self(1 << 5);
    pub const HASH: Self = Self(1 << 6);

    /// Those that a middleware refuses.
    pub(super) fn build(config: Config) -> Self {
        Self::default()
            .with(Self::SLASH, !config.allow_encoded_slash)
            .with(Self::BACKSLASH, !config.allow_encoded_back_slash)
            .with(Self::NULL, !config.allow_encoded_null_character)
            .with(Self::SEMICOLON, !config.allow_encoded_semicolon)
            .with(Self::PERCENT, !config.allow_encoded_percent)
            .with(Self::QUESTION_MARK, !config.allow_encoded_question_mark)
            .with(Self::HASH, !config.allow_encoded_hash)
    }

    pub(super) fn request(self, exchange: &mut Exchange) -> Flow {
        if !self.occurs_in(exchange.request.target.path()) {
            return Flow::Continue;
        }
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::BAD_REQUEST;
        Flow::respond(response)
    }

    /// Adds the members of `other` if `condition` holds.
    #[must_use]
    pub const fn with(self, other: Self, condition: bool) -> Self {
        if condition {
            Self(self.0 | other.0)
        } else {
            self
        }
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the escaped `path` holds an escape of this set.
    pub fn occurs_in(self, path: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let bytes = path.as_bytes();
        memchr::memchr_iter(b'%', bytes)
            .filter_map(|at| bytes.get(at + 1..at + 3))
            .any(|digits| self.0 & Self::of(digits).0 != 0)
    }

    fn of(digits: &[u8]) -> Self {
        match digits {
            b"2F" | b"2f" => Self::SLASH,
            b"5C" | b"5c" => Self::BACKSLASH,
            b"00" => Self::NULL,
            b"3B" | b"3b" => Self::SEMICOLON,
            b"25" => Self::PERCENT,
            b"3F" | b"3f" => Self::QUESTION_MARK,
            b"23" => Self::HASH,
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EncodedCharacters;
    use crate::middleware::testing::Fixture;

    #[test]
    fn nothing_is_allowed_by_default() {
        for (path, options, refused) in [
            ("/a%2Fb", "{}", true),
            ("/a%2fb", r#"{"allowEncodedSlash":true}"#, false),
            ("/a%5Cb", r#"{"allowEncodedSlash":true}"#, true),
            ("/a%5cb", r#"{"allowEncodedBackSlash":true}"#, false),
            ("/%00", "{}", true),
            ("/%00", r#"{"allowEncodedNullCharacter":true}"#, false),
            ("/%3b", "{}", true),
            ("/%3B", r#"{"allowEncodedSemicolon":true}"#, false),
            ("/%25", "{}", true),
            ("/%25", r#"{"allowEncodedPercent":true}"#, false),
            ("/%3F", "{}", true),
            ("/%3F", r#"{"allowEncodedQuestionMark":true}"#, false),
            ("/%23", "{}", true),
            ("/%23", r#"{"allowEncodedHash":true}"#, false),
            ("/a%20b/c?x=%2F", "{}", false),
        ] {
            let config = format!(r#"{{"encodedCharacters":{options}}}"#);
            let answer = Fixture::get(path).answer(&config);
            let found = answer.map(|answer| (answer.status(), answer.text()));
            assert_eq!(found, refused.then(|| (400, String::new())), "{path}");
        }
    }

    #[test]
    fn denied_escapes_are_found_in_both_cases() {
        let denied = EncodedCharacters::default()
            .with(EncodedCharacters::SLASH, true)
            .with(EncodedCharacters::NULL, true)
            .with(EncodedCharacters::HASH, false);
        for (path, found) in [
            ("/a/b", false),
            ("/a%2Fb", true),
            ("/a%2fb", true),
            ("/%00", true),
            ("/a%23b", false),
            ("/a%20b", false),
            ("/a%2", false),
            ("/%252F", false),
        ] {
            assert_eq!(denied.occurs_in(path), found, "{path}");
        }
        assert!(!EncodedCharacters::default().occurs_in("/%2F"));
    }
}
