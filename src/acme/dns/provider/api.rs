//! Requests to the interface of a provider: tried again where that helps, with errors that say what to do and tell no secrets.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    acme::client::retry_after,
    config::units::Secret,
    fetch::{Answer, Http},
    upstream::transport::system_roots,
};

/// The interface of a provider.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: Http,
    pub(super) base: String,
    secrets: Vec<Secret>,
    /// How long to wait before the second try.
    pub(super) pause: Duration,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    headers: HeaderMap,
    body: String,
}

/// Why a provider did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It does not answer, or not as it does.
    Unreachable(String),
    /// It does not accept who we say we are.
    Denied(String),
    /// It has too much to do for us.
    Busy(String),
    /// It has no such zone, for us.
    NoZone(String),
    /// It says no, with this status.
    Refused(u16, String),
    /// Something of ours.
    Own(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(text) => write!(f, "cannot be reached: {text}"),
            Self::Denied(text) => write!(f, "the credentials are not accepted: {text}"),
            Self::Busy(text) => write!(f, "asks to be left alone for now: {text}"),
            Self::NoZone(zone) => write!(
                f,
                "there is no zone {zone} that the credentials give access to"
            ),
            Self::Refused(status, text) => write!(f, "refuses with {status}: {text}"),
            Self::Own(text) => f.write_str(text),
        }
    }
}

impl Call {
    /// Adds a header field.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        // A credential with a line end in it is not accepted by anybody.
        if let Ok(mut value) = HeaderValue::from_str(value.trim()) {
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(super) fn body(self, kind: &str, body: String) -> Self {
        let call = self.header("content-type", kind);
        Self { body, ..call }
    }
}

impl Api {
    pub(super) fn new(base: &str, patience: Duration, secrets: &[&Secret]) -> Self {
        let (roots, _) = system_roots();
        Self {
            http: Http::new(roots, patience),
            base: base.trim_end_matches('/').to_owned(),
            secrets: secrets.iter().copied().cloned().collect(),
            pause: Duration::from_secs(1),
        }
    }

    /// The answer to a request at a path, as JSON; null if it is empty.
    pub(super) async fn json(
        &self,
        method: Method,
        path: &str,
        call: Call,
    ) -> Result<Value, Trouble> {
        let text = self.send(method, path, call).await?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        let parsed = serde_json::from_str(&text);
        parsed.map_err(|_| Trouble::Unreachable(format!("{path}: the answer is not JSON")))
    }

    /// The answer to a request at a path. Who has too much to do is asked again.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        call: Call,
    ) -> Result<String, Trouble> {
        let url = format!("{}{path}", self.base);
        let mut pause = self.pause;
        for last in (0..TRIES).rev().map(|left| left == 0) {
            let call = call.clone();
            let sent = self
                .http
                .send(method.clone(), &url, call.headers, call.body.into())
                .await;
            let (trouble, wanted) = match sent {
                Ok(answer) if answer.status.is_success() => {
                    return Ok(String::from_utf8_lossy(&answer.body).into_owned());
                }
                Ok(answer) => {
                    let wanted = retry_after(&answer.headers, SystemTime::now());
                    (self.trouble(&answer), wanted)
                }
                Err(error) => (Trouble::Unreachable(self.clean(&error)), None),
            };
            let wait = wanted.unwrap_or(pause);
            let again = matches!(trouble, Trouble::Busy(_) | Trouble::Unreachable(_));
            if last || !again || wait > LONGEST_PAUSE {
                return Err(trouble);
            }
            sleep(wait).await;
            pause *= 2;
        }
        Err(Trouble::Busy(String::new()))
    }

    fn trouble(&self, answer: &Answer) -> Trouble {
        let text = self.clean(&reason(&answer.body));
        let busy = BUSY_WORDS.iter().any(|word| text.contains(word));
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::LOCKED => Trouble::Busy(text),
            status if status.is_server_error() => Trouble::Unreachable(format!("{status}: {text}")),
            _ if busy => Trouble::Busy(text),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Denied(text),
            status => Trouble::Refused(status.as_u16(), text),
        }
    }

    /// A text without our secrets, and not too long for a log.
    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            let secret = secret.expose().trim();
            if !secret.is_empty() {
                text = text.replace(secret, "***");
            }
        }
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        text.chars().take(LONGEST_REASON).collect()
    }
}

/// What an error says in words, whatever form it has.
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        let mut found = Vec::new();
        words(&value, &mut found);
        if !found.is_empty() {
            return found.join("; ");
        }
    }
    let parts = ["Code", "Message"].map(|tag| element(&text, tag));
    match parts {
        [Some(code), Some(message)] => format!("{code}: {message}"),
        _ => text.trim().to_owned(),
    }
}

/// The messages in an error.
fn words(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|one| words(one, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if WORDS.contains(&name.as_str()) => {
                        found.push(text.clone())
                    }
                    Value::Number(code) if name == "code" => found.push(code.to_string()),
                    Value::Array(_) | Value::Object(_) => words(value, found),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// What is between the first pair of these tags.
pub(super) fn element(text: &str, tag: &str) -> Option<String> {
    elements(text, tag).into_iter().next()
}

/// What is between all pairs of these tags, as it stands there.
pub(super) fn elements(text: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts = text.split(&open).skip(1);
    let inner = parts.filter_map(|part| part.split_once(&close));
    inner.map(|(inner, _)| inner.to_owned()).collect()
}

/// A part of a URL.
pub(super) fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, UNRESERVED).to_string()
}

const UNRESERVED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Under which names interfaces put what went wrong into words.
const WORDS: [&str; 5] = ["message", "error", "code", "error_description", "errorCode"];
/// What interfaces say that have too much to do, whatever the status.
const BUSY_WORDS: [&str; 3] = [
    "Throttling",
    "PriorRequestNotComplete",
    "rate_limit_exceeded",
];
const TRIES: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_REASON: usize = 300;

/// A base64 form of user name and password.
pub(super) fn basic(user: &str, password: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// The header field that says who we are.
pub(super) const AUTHORIZATION: &str = "authorization";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_put_into_words() {
        for (body, expected) in [
            (
                r#"{"success":false,"errors":[{"code":9109,"message":"Invalid access token"}]}"#,
                "9109; Invalid access token",
            ),
            (
                r#"{"error":{"code":"not_found","message":"zone not found"}}"#,
                "not_found; zone not found",
            ),
            (
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
                "AccessDenied: no",
            ),
            ("plain text\n", "plain text"),
            ("{}", "{}"),
            ("", ""),
        ] {
            assert_eq!(reason(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn secrets_are_not_repeated() {
        let api = Api::new(
            "https://api.test",
            Duration::from_secs(1),
            &[&"s3cret".into(), &"".into()],
        );
        assert_eq!(
            api.clean("the token s3cret\r\nis wrong"),
            "the token ***is wrong"
        );
        assert_eq!(api.clean(&"x".repeat(1000)).len(), LONGEST_REASON);
        assert!(!format!("{api:?}").contains("s3cret"));
    }

    #[test]
    fn parts_of_urls_are_escaped() {
        assert_eq!(
            escaped("_acme-challenge.a b/?&"),
            "_acme-challenge.a%20b%2F%3F%26"
        );
    }
}
