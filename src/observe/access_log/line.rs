//! How a line looks: the common log format with and without Traefik's additions, and JSON.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderName, Version, header};

use super::{AccessRecord, CapturedHeaders, TlsRecord};
use crate::{
    config::install::{AccessLogFields, AccessLogFormat, FieldMode},
    observe::{
        LogLine, LogQueue, LogValue,
        clock::{self, Zone, append},
        escape::escape,
        json,
        sink::Render,
    },
};

/// Turns records into lines.
#[derive(Debug)]
pub(super) struct Lines {
    format: AccessLogFormat,
    fields: Fields,
    /// To a collector.
    queue: Option<LogQueue>,
}

impl Lines {
    pub(super) fn new(format: AccessLogFormat, fields: Fields, queue: Option<LogQueue>) -> Self {
        Self {
            format,
            fields,
            queue,
        }
    }

    /// A record as a collector gets it: the line, and what the line of JSON says as fields.
    fn line(&self, record: &AccessRecord, text: &[u8]) -> LogLine {
        let mut json = Vec::with_capacity(1024);
        self.fields.json(record, &mut json, record.started);
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&json).unwrap_or_default();
        let told = |name: &str| !["level", "msg", "time"].contains(&name);
        let fields = fields.into_iter().filter(|(name, _)| told(name));
        LogLine {
            time: record.started,
            level: tracing::Level::INFO,
            text: String::from_utf8_lossy(text).into_owned(),
            fields: fields
                .map(|(name, value)| match &*name {
                    // As Traefik sends them: nanoseconds since 1970.
                    "StartUTC" | "StartLocal" => (name, since_1970(record.started)),
                    _ => (name, value.into()),
                })
                .collect(),
            trace: record.trace,
        }
    }
}

fn since_1970(time: SystemTime) -> LogValue {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    LogValue::Integer(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl Render for Lines {
    type Item = Box<AccessRecord>;

    fn render(&mut self, record: &Box<AccessRecord>, out: &mut Vec<u8>) {
        let start = out.len();
        match self.format {
            AccessLogFormat::Common => self.fields.common(record, out, true),
            AccessLogFormat::GenericClf => self.fields.common(record, out, false),
            AccessLogFormat::Json => self.fields.json(record, out, SystemTime::now()),
        }
        out.push(b'\n');
        if let Some(queue) = &self.queue {
            queue.push(Box::new(self.line(record, &out[start..])));
        }
    }

    fn lost(&mut self, lines: u64, _out: &mut Vec<u8>) {
        tracing::warn!(
            "{lines} access log lines were given up because the log could not be written fast enough; accessLog.bufferingSize sets how many may wait"
        );
    }
}

/// Which fields are written.
#[derive(Debug)]
pub(super) struct Fields {
    kept: [bool; FIELDS.len()],
    query: bool,
}

impl Fields {
    pub(super) fn new(fields: &AccessLogFields) -> Self {
        let modes: BTreeMap<String, FieldMode> = fields
            .names
            .iter()
            .map(|(name, mode)| (name.to_ascii_lowercase(), *mode))
            .collect();
        let kept = FIELDS.map(|name| {
            let mode = modes.get(&name.to_ascii_lowercase());
            match mode.unwrap_or(&fields.default_mode) {
                FieldMode::Keep => true,
                FieldMode::Drop => false,
                // Redacting is for headers; a field keeps its default.
                FieldMode::Redact => fields.default_mode != FieldMode::Drop,
            }
        });
        Self {
            kept,
            query: fields.query_parameters.default_mode != FieldMode::Drop,
        }
    }

    fn keeps(&self, name: &str) -> bool {
        FIELDS
            .binary_search(&name)
            .is_ok_and(|index| self.kept[index])
    }

    /// `HOST - USER [TIME] "METHOD PATH PROTOCOL" STATUS SIZE "REFERER" "AGENT"`, and with `extended` also
    /// `COUNT "ROUTER" "SERVER" MILLISECONDSms`.
    fn common(&self, record: &AccessRecord, out: &mut Vec<u8>, extended: bool) {
        let plain = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
            let shown = self.keeps(name) && !value.is_empty();
            escape(out, if shown { value } else { b"-" }, true);
        };
        plain(out, "ClientHost", &client_host(record));
        out.extend(b" - ");
        plain(
            out,
            "ClientUsername",
            record.user.as_deref().unwrap_or("-").as_bytes(),
        );
        out.extend(b" [");
        if self.keeps("StartUTC") || self.keeps("StartLocal") {
            clock::write_common_log(out, record.started);
        } else {
            out.push(b'-');
        }
        out.extend(b"] \"");
        plain(out, "RequestMethod", record.method.as_str().as_bytes());
        out.push(b' ');
        plain(out, "RequestPath", self.path(record).as_bytes());
        out.push(b' ');
        plain(out, "RequestProtocol", protocol(record.version).as_bytes());
        out.extend(b"\" ");
        plain(
            out,
            "DownstreamStatus",
            record.status.to_string().as_bytes(),
        );
        out.push(b' ');
        plain(
            out,
            "DownstreamContentSize",
            record.response_size.to_string().as_bytes(),
        );
        for name in [header::REFERER, header::USER_AGENT] {
            out.push(b' ');
            quoted(
                out,
                record
                    .request_headers
                    .get(&name)
                    .map(|value| value.as_bytes()),
            );
        }
        if extended {
            self.extension(record, out);
        }
    }

    fn extension(&self, record: &AccessRecord, out: &mut Vec<u8>) {
        let kept = |name: &str| self.keeps(name).then_some(());
        out.push(b' ');
        match kept("RequestCount") {
            Some(()) => append(out, format_args!("{}", record.number)),
            None => out.push(b'-'),
        }
        out.push(b' ');
        let router = kept("RouterName").and(record.router.as_deref());
        quoted(out, router.map(str::as_bytes));
        out.push(b' ');
        let url = kept("ServiceURL").and(record.origin.as_ref());
        quoted(out, url.map(|origin| origin.url.as_bytes()));
        let duration = kept("Duration").map_or(0, |()| record.duration.as_millis());
        append(out, format_args!(" {duration}ms"));
    }

    fn path<'a>(&self, record: &'a AccessRecord) -> &'a str {
        let target = &*record.target;
        match target.split_once('?') {
            Some((path, _)) if !self.query => path,
            _ => target,
        }
    }

    fn json(&self, record: &AccessRecord, out: &mut Vec<u8>, now: SystemTime) {
        let mut object = Object::new(self, out);
        self.json_fields(record, &mut object);
        // Keys are in byte order: capitals, then these.
        object.headers("downstream_", &record.response_headers);
        object.text("entryPointName", record.entry_point.as_bytes());
        object.always("level", b"info");
        object.always("msg", b"");
        if let Some(origin) = &record.origin {
            object.headers("origin_", &origin.headers);
        }
        object.headers("request_", &record.request_headers);
        if let Some(ids) = record.trace {
            object.text("span_id", ids.span.to_string().as_bytes());
        }
        object.key("time");
        object.time(now, Zone::Local, clock::write_seconds);
        if let Some(ids) = record.trace {
            object.text("trace_id", ids.trace.to_string().as_bytes());
        }
        object.out.push(b'}');
    }

    fn json_fields(&self, record: &AccessRecord, object: &mut Object<'_>) {
        let origin = record.origin.as_ref();
        let origin_size = origin.map_or(0, |origin| origin.size);
        let origin_time = origin.map_or(0, |origin| origin.duration.as_nanos());
        let duration = record.duration.as_nanos();
        let (host, port) = split_host(&record.host);
        object.text("ClientAddr", record.peer.to_string().as_bytes());
        object.text("ClientHost", &client_host(record));
        object.text("ClientPort", record.peer.port().to_string().as_bytes());
        object.text(
            "ClientUsername",
            record.user.as_deref().unwrap_or("-").as_bytes(),
        );
        object.number("DownstreamContentSize", record.response_size);
        object.number("DownstreamStatus", record.status);
        object.number("Duration", duration);
        if origin_size != record.response_size && record.response_size > 0 {
            let ratio = origin_size as f64 / record.response_size as f64;
            object.number("GzipRatio", ratio);
        }
        if !record.held.is_zero() {
            object.number("HoldDuration", record.held.as_nanos());
        }
        object.number("OriginContentSize", origin_size);
        object.number("OriginDuration", origin_time);
        object.number("OriginStatus", origin.map_or(0, |origin| origin.status));
        object.number("Overhead", duration.saturating_sub(origin_time));
        object.text("RequestAddr", record.host.as_bytes());
        object.number("RequestContentSize", record.request_size);
        object.number("RequestCount", record.number);
        object.text("RequestHost", host.as_bytes());
        object.text("RequestMethod", record.method.as_str().as_bytes());
        object.text("RequestPath", self.path(record).as_bytes());
        object.text("RequestPort", port.as_bytes());
        object.text("RequestProtocol", protocol(record.version).as_bytes());
        let scheme = record.tls.as_ref().map_or("http", |_| "https");
        object.text("RequestScheme", scheme.as_bytes());
        object.number("RetryAttempts", record.retries);
        if let Some(router) = &record.router {
            object.text("RouterName", router.as_bytes());
        }
        if let Some(origin) = origin {
            object.text("ServiceAddr", authority(&origin.url).as_bytes());
            object.text("ServiceName", origin.service.as_bytes());
            object.text("ServiceURL", origin.url.as_bytes());
        }
        if let Some(ids) = record.trace {
            object.text("SpanId", ids.span.to_string().as_bytes());
        }
        object.moment("StartLocal", record.started, Zone::Local);
        object.moment("StartUTC", record.started, Zone::Utc);
        if let Some(tls) = &record.tls {
            object.tls(tls);
        }
        if let Some(ids) = record.trace {
            object.text("TraceId", ids.trace.to_string().as_bytes());
        }
    }
}

type WriteTime = fn(&mut Vec<u8>, SystemTime, Zone);

/// A JSON object in the making.
struct Object<'a> {
    fields: &'a Fields,
    out: &'a mut Vec<u8>,
    opened: bool,
}

impl<'a> Object<'a> {
    fn new(fields: &'a Fields, out: &'a mut Vec<u8>) -> Self {
        Self {
            fields,
            out,
            opened: false,
        }
    }

    fn tls(&mut self, tls: &TlsRecord) {
        self.text("TLSCipher", tls.cipher.as_bytes());
        if let Some(subject) = &tls.client_subject {
            self.text("TLSClientSubject", subject.as_bytes());
        }
        self.text("TLSVersion", tls.version.as_bytes());
    }

    fn key(&mut self, name: &str) {
        self.out.push(if self.opened { b',' } else { b'{' });
        self.opened = true;
        json::write_string(self.out, name.as_bytes());
        self.out.push(b':');
    }

    fn always(&mut self, name: &str, value: &[u8]) {
        self.key(name);
        json::write_string(self.out, value);
    }

    fn text(&mut self, name: &str, value: &[u8]) {
        if self.fields.keeps(name) {
            self.always(name, value);
        }
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        if self.fields.keeps(name) {
            self.key(name);
            append(self.out, format_args!("{value}"));
        }
    }

    fn moment(&mut self, name: &str, time: SystemTime, zone: Zone) {
        if self.fields.keeps(name) {
            self.key(name);
            self.time(time, zone, clock::write_nanoseconds);
        }
    }

    fn time(&mut self, time: SystemTime, zone: Zone, write: WriteTime) {
        self.out.push(b'"');
        write(self.out, time, zone);
        self.out.push(b'"');
    }

    fn headers(&mut self, prefix: &str, headers: &CapturedHeaders) {
        let mut fields: Vec<_> = headers
            .0
            .iter()
            .map(|(name, value)| (prefix.to_owned() + &canonical(name), value.as_bytes()))
            .collect();
        fields.sort();
        for (name, value) in fields {
            self.always(&name, value);
        }
    }
}

/// `X-Forwarded-For` of a trusted peer as a whole, else the peer's address.
fn client_host(record: &AccessRecord) -> Vec<u8> {
    match &record.forwarded_for {
        Some(value) => value.as_bytes().to_vec(),
        None => record.peer.ip().to_string().into_bytes(),
    }
}

/// Host and port of a `Host` field; `-` where there is none.
fn split_host(host: &str) -> (&str, &str) {
    let (name, port) = match host.rsplit_once(':') {
        // A colon inside of brackets belongs to the address.
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, "-"),
    };
    let name = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    (if name.is_empty() { "-" } else { name }, port)
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// `x-real-ip` as Go spells it: `X-Real-Ip`.
fn canonical(name: &HeaderName) -> String {
    let mut start = true;
    let letters = name.as_str().chars().map(|letter| {
        let letter = if start {
            letter.to_ascii_uppercase()
        } else {
            letter
        };
        start = letter == '-';
        letter
    });
    letters.collect()
}

/// A value in quotes; `"-"` for none. More is escaped than Traefik does, which lets a client write what looks like another line.
fn quoted(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(b'"');
    escape(
        out,
        value.filter(|value| !value.is_empty()).unwrap_or(b"-"),
        true,
    );
    out.push(b'"');
}

/// The fields that can be kept or dropped, in byte order.
const FIELDS: [&str; 37] = [
    "ClientAddr",
    "ClientHost",
    "ClientPort",
    "ClientUsername",
    "DownstreamContentSize",
    "DownstreamStatus",
    "Duration",
    "GzipRatio",
    "HoldDuration",
    "OriginContentSize",
    "OriginDuration",
    "OriginStatus",
    "Overhead",
    "RequestAddr",
    "RequestContentSize",
    "RequestCount",
    "RequestHost",
    "RequestMethod",
    "RequestPath",
    "RequestPort",
    "RequestProtocol",
    "RequestScheme",
    "RetryAttempts",
    "RouterName",
    "ServiceAddr",
    "ServiceName",
    "ServiceURL",
    "SpanId",
    "StartLocal",
    "StartUTC",
    "TLSCipher",
    "TLSClientSubject",
    "TLSVersion",
    "TraceId",
    "entryPointName",
    "span_id",
    "trace_id",
];
