//! Lines of logs in the words of OpenTelemetry.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::any_value::Value,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use prost::Message;
use tracing::Level;

use super::{
    batch::Encode,
    values::{any, attribute, nanoseconds, scope},
};
use crate::observe::{LogLine, LogValue};

/// Turns lines into messages.
#[derive(Debug)]
pub(super) struct Lines(pub(super) Resource);

impl Encode for Lines {
    type Item = Box<LogLine>;

    fn encode(&mut self, items: &[Box<LogLine>]) -> Vec<u8> {
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.0.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope()),
                    log_records: items.iter().map(|line| record(line)).collect(),
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        request.encode_to_vec()
    }
}

fn record(line: &LogLine) -> LogRecord {
    let fields = line.fields.iter();
    let attributes = fields.map(|(name, value)| attribute(name, field(value)));
    let mut record = LogRecord {
        time_unix_nano: nanoseconds(line.time),
        observed_time_unix_nano: nanoseconds(std::time::SystemTime::now()),
        severity_number: severity(line.level).into(),
        severity_text: line.level.as_str().to_ascii_lowercase(),
        body: Some(any(Value::StringValue(line.text.clone()))),
        attributes: attributes.collect(),
        ..LogRecord::default()
    };
    if let Some(ids) = line.trace {
        record.trace_id = ids.trace.0.to_be_bytes().to_vec();
        record.span_id = ids.span.0.to_be_bytes().to_vec();
        record.flags = u32::from(ids.sampled);
    }
    record
}

fn field(value: &LogValue) -> Value {
    match value {
        LogValue::Text(text) => Value::StringValue(text.clone()),
        LogValue::Integer(number) => Value::IntValue(*number),
        LogValue::Number(number) => Value::DoubleValue(*number),
        LogValue::Truth(truth) => Value::BoolValue(*truth),
    }
}

fn severity(level: Level) -> SeverityNumber {
    match level {
        Level::TRACE => SeverityNumber::Trace,
        Level::DEBUG => SeverityNumber::Debug,
        Level::INFO => SeverityNumber::Info,
        Level::WARN => SeverityNumber::Warn,
        Level::ERROR => SeverityNumber::Error,
    }
}
