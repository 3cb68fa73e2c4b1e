//! Why a request to an authority came to nothing.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use serde::Deserialize;

use super::http::Answer;

/// Why an order, or a step of it, failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(in crate::acme) enum Failure {
    /// The authority does not answer, or not as one does.
    #[error("the authority cannot be reached: {0}")]
    Unreachable(String),
    /// The authority says no.
    #[error("the authority refuses: {0}")]
    Refused(Box<Problem>),
    /// The authority looked for the answer to a challenge and did not find it.
    #[error("{name} could not be validated: {problem}")]
    NotValidated {
        /// The domain.
        name: String,
        /// What the authority saw.
        problem: Box<Problem>,
    },
    /// It was not the authority.
    #[error("{0}")]
    Own(String),
}

impl Failure {
    /// How long the authority asks to be left alone.
    pub(in crate::acme) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) | Self::NotValidated { problem, .. } => problem.retry_after,
            Self::Unreachable(_) | Self::Own(_) => None,
        }
    }

    /// Whether the authority refuses with this type of problem, e.g. `badNonce`.
    pub(in crate::acme) fn is(&self, kind: &str) -> bool {
        matches!(self, Self::Refused(problem) if problem.is(kind))
    }
}

/// A problem document (RFC 7807), and the `Retry-After` that came with it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(in crate::acme) struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    subproblems: Vec<Self>,
    #[serde(default)]
    identifier: Option<Identifier>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Deserialize)]
struct Identifier {
    value: String,
}

impl Problem {
    /// What an answer that is no success says.
    pub(super) fn of(answer: &Answer) -> Self {
        let mut problem: Self = serde_json::from_slice(&answer.body).unwrap_or_default();
        if problem.kind.is_empty() && problem.detail.is_empty() {
            problem.detail = format!("it answers {}", answer.status);
        }
        problem.retry_after = retry_after(&answer.headers, SystemTime::now());
        problem
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix(URN) == Some(kind)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.strip_prefix(URN).unwrap_or(&self.kind);
        if let Some(identifier) = &self.identifier {
            write!(f, "{}: ", identifier.value)?;
        }
        match (kind, self.detail.as_str()) {
            ("", detail) => f.write_str(detail)?,
            (kind, detail) => write!(f, "{detail} ({kind})")?,
        }
        for problem in &self.subproblems {
            write!(f, "; {problem}")?;
        }
        Ok(())
    }
}

/// The pause that a `Retry-After` asks for.
pub(in crate::acme) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

const URN: &str = "urn:ietf:params:acme:error:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, expected) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Some(0)),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            let found = retry_after(&headers, now);
            assert_eq!(found, expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_problem_says_everything() {
        let text = r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no","subproblems":[
            {"type":"urn:ietf:params:acme:error:caa","detail":"forbidden","identifier":{"type":"dns","value":"a.test"}}]}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert!(problem.is("malformed"));
        assert_eq!(
            problem.to_string(),
            "no (malformed); a.test: forbidden (caa)"
        );
    }
}
