//! Ranges of HTTP status codes.

use std::fmt;
use std::str::FromStr;

/// HTTP status codes from one to another, both included: `404` or `500-599`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusRange {
    /// First code.
    pub from: u16,
    /// Last code.
    pub to: u16,
}

impl StatusRange {
    /// Whether the code lies inside.
    pub fn contains(&self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| {
            text.trim()
                .parse::<u16>()
                .ok()
                .filter(|c| (100..1000).contains(c))
        };
        match (code(from), code(to)) {
            (Some(from), Some(to)) if from <= to => Ok(Self { from, to }),
            _ => Err(format!(
                "expected a status code or a range such as `500-599`, found {text:?}"
            )),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}", self.from)
        } else {
            write!(f, "{}-{}", self.from, self.to)
        }
    }
}
