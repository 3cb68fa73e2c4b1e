//! How an event looks as a line.

use std::{
    fmt::{self, Write},
    time::SystemTime,
};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use crate::observe::{
    LogLine, LogValue,
    clock::{self, Zone, append},
    escape::escape,
    json,
};

/// The look of all lines of a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) style: Style,
    /// Whether to tell where in the program a line comes from.
    pub(super) caller: bool,
}

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Coloured,
    Json,
}

impl Look {
    /// The line of an event.
    pub(super) fn event(self, event: &Event<'_>, now: SystemTime) -> Vec<u8> {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let caller = metadata.file().zip(metadata.line()).filter(|_| self.caller);
        self.line(
            &Entry {
                level: *metadata.level(),
                caller: caller.map(|(file, line)| format!("{file}:{line}")),
                fields,
            },
            now,
        )
    }

    /// The line of a message without fields.
    pub(super) fn message(self, level: Level, message: &str, now: SystemTime) -> Vec<u8> {
        let fields = Fields {
            message: message.to_owned(),
            ..Fields::default()
        };
        let entry = Entry {
            level,
            caller: None,
            fields,
        };
        self.line(&entry, now)
    }

    fn line(self, entry: &Entry, now: SystemTime) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        match self.style {
            Style::Json => entry.json(&mut out, now),
            Style::Plain => entry.common(&mut out, now, Paint(false)),
            Style::Coloured => entry.common(&mut out, now, Paint(true)),
        }
        out.push(b'\n');
        out
    }
}

/// An event as a collector gets it.
pub(super) fn exported(event: &Event<'_>, now: SystemTime) -> LogLine {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let others = fields.others.into_iter();
    LogLine {
        time: now,
        level: *event.metadata().level(),
        text: fields.message,
        fields: others
            .map(|(name, value)| match value {
                Value::Text(text) => (name, LogValue::Text(text)),
                Value::Literal(text) => (name, LogValue::literal(&text)),
            })
            .collect(),
        trace: None,
    }
}

/// What a line tells.
#[derive(Debug)]
struct Entry {
    level: Level,
    caller: Option<String>,
    fields: Fields,
}

impl Entry {
    /// `{"level":"info",FIELDS,"time":"...","caller":"...","message":"..."}`.
    fn json(&self, out: &mut Vec<u8>, now: SystemTime) {
        let level = self.level.as_str().to_ascii_lowercase();
        append(out, format_args!("{{\"level\":\"{level}\""));
        for (name, value) in &self.fields.others {
            out.push(b',');
            json::write_string(out, name.as_bytes());
            out.push(b':');
            match value {
                Value::Text(text) => json::write_string(out, text.as_bytes()),
                Value::Literal(text) => out.extend(text.as_bytes()),
            }
        }
        out.extend(b",\"time\":\"");
        clock::write_seconds(out, now, Zone::Local);
        out.push(b'"');
        if let Some(caller) = &self.caller {
            out.extend(b",\"caller\":");
            json::write_string(out, caller.as_bytes());
        }
        out.extend(b",\"message\":");
        json::write_string(out, self.fields.message.as_bytes());
        out.push(b'}');
    }

    /// `TIME LEVEL MESSAGE key=value`, the error first and the other fields by name.
    fn common(&self, out: &mut Vec<u8>, now: SystemTime, paint: Paint) {
        paint.with(out, "90", |out| clock::write_seconds(out, now, Zone::Local));
        out.push(b' ');
        let (level, colour) = short(self.level);
        paint.with(out, colour, |out| out.extend(level.as_bytes()));
        if let Some(caller) = &self.caller {
            out.push(b' ');
            paint.with(out, "1", |out| escape(out, caller.as_bytes(), false));
            paint.with(out, "36", |out| out.extend(b" >"));
        }
        out.push(b' ');
        let bold = if self.level <= Level::INFO { "1" } else { "" };
        paint.with(out, bold, |out| {
            escape(out, self.fields.message.as_bytes(), false)
        });
        let mut fields: Vec<_> = self.fields.others.iter().collect();
        fields.sort_by_key(|(name, _)| (name != "error", name));
        for (name, value) in fields {
            out.push(b' ');
            paint.with(out, "36", |out| append(out, format_args!("{name}=")));
            let colour = if name == "error" { "31" } else { "" };
            paint.with(out, colour, |out| value.common(out));
        }
    }
}

/// The fields of an event.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(String, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Literal(text)) => self.message = text,
            (name, value) => self.others.push((spelled(name), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // A value that cannot say what it is is shown as far as it came.
        write!(text, "{value:?}").ok();
        self.put(field, Value::Text(text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Literal(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Literal(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Literal(value.to_string()));
    }
}

#[derive(Debug)]
enum Value {
    Text(String),
    /// A number or truth value, written without quotes.
    Literal(String),
}

impl Value {
    /// In quotes only if it would not be one word.
    fn common(&self, out: &mut Vec<u8>) {
        match self {
            Self::Literal(text) => out.extend(text.as_bytes()),
            Self::Text(text) if text.chars().all(is_plain) => out.extend(text.as_bytes()),
            Self::Text(text) => {
                out.push(b'"');
                escape(out, text.as_bytes(), true);
                out.push(b'"');
            }
        }
    }
}

fn is_plain(character: char) -> bool {
    !character.is_control() && !matches!(character, ' ' | '"' | '\\' | '\u{2028}' | '\u{2029}')
}

/// Colours, if there are any.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, out: &mut Vec<u8>, colour: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let painted = self.0 && !colour.is_empty();
        if painted {
            append(out, format_args!("\x1b[{colour}m"));
        }
        write(out);
        if painted {
            out.extend(b"\x1b[0m");
        }
    }
}

fn short(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::TRACE => ("TRC", "34"),
        Level::DEBUG => ("DBG", ""),
        Level::INFO => ("INF", "32"),
        Level::WARN => ("WRN", "33"),
        Level::ERROR => ("ERR", "31"),
    }
}

/// `entry_point` as `entryPointName`, `retry_after` as `retryAfter`.
fn spelled(name: &str) -> String {
    match name {
        "router" | "service" | "middleware" | "provider" => return format!("{name}Name"),
        "entry_point" => return "entryPointName".to_owned(),
        _ => {}
    }
    let mut words = name.split('_');
    let mut spelled = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        spelled.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        spelled.push_str(letters.as_str());
    }
    spelled
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::{Duration, UNIX_EPOCH},
    };

    use tracing::{Event, Subscriber};
    use tracing_subscriber::{
        layer::{Context, Layer, SubscriberExt},
        registry::Registry,
    };

    use super::{Look, Style, spelled};

    struct Catch(Look, Arc<Mutex<String>>);

    impl<S: Subscriber> Layer<S> for Catch {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let now = UNIX_EPOCH + Duration::from_secs(1_795_249_296);
            let line = String::from_utf8(self.0.event(event, now)).unwrap();
            self.1.lock().unwrap().push_str(&line);
        }
    }

    fn lines(style: Style, caller: bool, events: impl FnOnce()) -> String {
        let lines = Arc::default();
        let catch = Catch(Look { style, caller }, Arc::clone(&lines));
        tracing::subscriber::with_default(Registry::default().with(catch), events);
        lines.lock().unwrap().clone()
    }

    fn trouble() {
        let error = std::io::Error::other("no \"such\" thing");
        tracing::error!(router = "a@file", count = 3, ok = true, entry_point = %"web", %error, "cannot <go> on");
    }

    #[test]
    fn lines_look_like_traefiks() {
        let zone = |text: &str| text.replace("2026-11-21T08:21:36Z", "TIME");
        assert_eq!(
            zone(&lines(Style::Json, false, trouble)),
            "{\"level\":\"error\",\"routerName\":\"a@file\",\"count\":3,\"ok\":true,\"entryPointName\":\"web\",\
             \"error\":\"no \\\"such\\\" thing\",\"time\":\"TIME\",\"message\":\"cannot \\u003cgo\\u003e on\"}\n"
        );
        assert_eq!(
            zone(&lines(Style::Plain, false, trouble)),
            "TIME ERR cannot <go> on error=\"no \\\"such\\\" thing\" count=3 entryPointName=web ok=true routerName=a@file\n"
        );
        assert_eq!(
            zone(&lines(Style::Coloured, false, || tracing::info!(
                a = 1,
                "x"
            ))),
            "\x1b[90mTIME\x1b[0m \x1b[32mINF\x1b[0m \x1b[1mx\x1b[0m \x1b[36ma=\x1b[0m1\n"
        );
        let caller = lines(Style::Plain, true, || tracing::info!("x"));
        assert!(caller.contains(" INF src/observe/log/line.rs:"), "{caller}");
        assert!(caller.ends_with(" > x\n"), "{caller}");
    }

    #[test]
    fn names_are_spelled_as_in_traefik() {
        let cases = [
            ("entry_point", "entryPointName"),
            ("router", "routerName"),
            ("retry_after", "retryAfter"),
            ("url", "url"),
        ];
        for (name, expected) in cases {
            assert_eq!(spelled(name), expected);
        }
    }
}
