//! Lines of logs as a collector gets them: with a level and fields instead of a layout.

use std::time::SystemTime;

use super::{Counter, Exported, Queue, trace::TraceIds};

/// One line of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    pub time: SystemTime,
    pub level: tracing::Level,
    pub text: String,
    pub fields: Vec<(String, LogValue)>,
    pub trace: Option<TraceIds>,
}

/// What a field of a line holds.
#[derive(Debug, Clone, PartialEq)]
pub enum LogValue {
    Text(String),
    Integer(i64),
    Number(f64),
    Truth(bool),
}

/// Where lines of a log are queued for a collector.
pub type LogQueue = Queue<Box<LogLine>>;

impl LogValue {
    /// A number or truth value as it was written.
    pub(super) fn literal(text: &str) -> Self {
        let integer = || text.parse().ok().map(Self::Integer);
        let truth = || text.parse().ok().map(Self::Truth);
        let number = || text.parse().ok().map(Self::Number);
        integer()
            .or_else(truth)
            .or_else(number)
            .unwrap_or_else(|| Self::Text(text.to_owned()))
    }
}

impl From<serde_json::Value> for LogValue {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Self::Text(text),
            other => Self::literal(&other.to_string()),
        }
    }
}

impl Exported {
    /// What counts with `dropped` what is given up.
    pub fn counting(dropped: &std::sync::Arc<Counter>) -> Self {
        Self {
            sent: std::sync::Arc::default(),
            dropped: std::sync::Arc::clone(dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LogValue;

    #[test]
    fn literals_are_what_they_say() {
        for (text, expected) in [
            ("17", LogValue::Integer(17)),
            ("-1", LogValue::Integer(-1)),
            ("true", LogValue::Truth(true)),
            ("0.5", LogValue::Number(0.5)),
            ("1ms", LogValue::Text("1ms".to_owned())),
        ] {
            assert_eq!(LogValue::literal(text), expected);
        }
    }
}
