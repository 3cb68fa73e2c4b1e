//! One line per request: which requests get one, and the record it is made from.
//!
//! The request path decides with [`AccessLog::wants`] before it builds an [`AccessRecord`]; lines are formatted on the writer's thread.

mod line;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use self::line::{Fields, Lines};
use super::{
    LogQueue, Metrics, TraceIds, WatchedLog,
    sink::{Output, Sink},
};
use crate::config::{
    install::{AccessLogFilters, FieldMode, HeaderFields},
    units::StatusRange,
};

/// The access log. Cheap to clone; the default is off.
#[derive(Debug, Clone, Default)]
pub struct AccessLog(Option<Arc<Open>>);

impl AccessLog {
    /// Opens the log; with `queue` a collector gets its lines, alone unless `dualOutput` is set. An error means there will be none; it
    /// is no reason not to serve.
    pub fn open(
        options: &crate::config::install::AccessLog,
        metrics: &Metrics,
        queue: Option<LogQueue>,
    ) -> io::Result<Self> {
        let output = match queue.is_some() && !options.dual_output {
            true => Output::Nowhere,
            false => Output::open(&options.file_path)?,
        };
        let lines = Lines::new(options.format, Fields::new(&options.fields), queue);
        // A short queue would lose lines that Traefik, which waits instead, would have written.
        let capacity = usize::try_from(options.buffering_size)
            .map_or(MAX_QUEUE, |size| size.clamp(MIN_QUEUE, MAX_QUEUE));
        let sink = Sink::start("access-log", output, capacity, lines)?;
        metrics.watch_log(WatchedLog::Access, sink.dropped());
        Ok(Self(Some(Arc::new(Open {
            sink,
            requests: AtomicU64::new(0),
            filters: Filters::new(&options.filters),
            headers: HeaderRules::new(&options.fields.headers),
        }))))
    }

    /// Whether there is a log at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Counts a request that may be logged. Its number, if the filters let it through, goes into the record.
    pub fn wants(&self, status: u16, retries: u32, duration: Duration) -> Option<u64> {
        let log = self.0.as_ref()?;
        let number = log.requests.fetch_add(1, Relaxed) + 1;
        log.filters
            .keep(status, retries, duration)
            .then_some(number)
    }

    /// Whether any header field is logged, so that [`AccessLog::capture`] may have something to take.
    pub fn wants_headers(&self) -> bool {
        self.0.as_ref().is_some_and(|log| log.headers.any())
    }

    /// The fields of `headers` that are logged, redacted where configured.
    pub fn capture(&self, headers: &HeaderMap) -> CapturedHeaders {
        match &self.0 {
            Some(log) => log.headers.capture(headers),
            None => CapturedHeaders::default(),
        }
    }

    /// Queues the line of a request. Never waits.
    pub fn write(&self, record: AccessRecord) {
        if let Some(log) = &self.0 {
            log.sink.push(Box::new(record));
        }
    }

    /// Closes the file and opens it again by its name (SIGUSR1).
    pub fn reopen(&self) {
        if let Some(log) = &self.0 {
            log.sink.reopen();
        }
    }

    /// Waits until every line is written, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        if let Some(log) = &self.0 {
            log.sink.flush(limit);
        }
    }
}

/// Everything a line can tell about a request.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// From [`AccessLog::wants`].
    pub number: u64,
    pub started: SystemTime,
    pub duration: Duration,
    pub entry_point: Arc<str>,
    /// The router that took the request.
    pub router: Option<Arc<str>>,
    /// What a server answered, if one was asked.
    pub origin: Option<Origin>,
    /// The client.
    pub peer: SocketAddr,
    /// The `X-Forwarded-For` of a trusted peer.
    pub forwarded_for: Option<HeaderValue>,
    /// The authenticated user.
    pub user: Option<ByteString>,
    /// `Host` as the client sent it.
    pub host: ByteString,
    pub method: Method,
    /// Path and query as they were before any middleware.
    pub target: ByteString,
    pub version: Version,
    /// Bytes of the request body.
    pub request_size: u64,
    /// What the client was told; 0 if nothing.
    pub status: u16,
    /// Bytes of the response body as sent.
    pub response_size: u64,
    /// Attempts after the first one.
    pub retries: u32,
    /// Time the request waited for a usable server.
    pub held: Duration,
    pub tls: Option<TlsRecord>,
    /// The request's trace and span, if it was traced.
    pub trace: Option<TraceIds>,
    pub request_headers: CapturedHeaders,
    pub response_headers: CapturedHeaders,
}

/// The server's part of a request.
#[derive(Debug, Clone)]
pub struct Origin {
    pub service: Arc<str>,
    /// URL of the server as configured.
    pub url: Arc<str>,
    pub duration: Duration,
    pub status: u16,
    /// Bytes of the body as the server sent it.
    pub size: u64,
    pub headers: CapturedHeaders,
}

/// The TLS session of a logged request.
#[derive(Debug, Clone)]
pub struct TlsRecord {
    /// `1.3`.
    pub version: &'static str,
    /// IANA name of the cipher suite.
    pub cipher: &'static str,
    /// Subject of the client's certificate.
    pub client_subject: Option<Arc<str>>,
}

/// Header fields taken for the log.
#[derive(Debug, Clone, Default)]
pub struct CapturedHeaders(Vec<(HeaderName, HeaderValue)>);

impl CapturedHeaders {
    fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut fields = self.0.iter();
        fields
            .find(|(field, _)| field == name)
            .map(|(_, value)| value)
    }
}

#[derive(Debug)]
struct Open {
    sink: Sink<Box<AccessRecord>>,
    requests: AtomicU64,
    filters: Filters,
    headers: HeaderRules,
}

/// Which requests get a line: those that any of the set filters keeps, or all if none is set.
#[derive(Debug)]
struct Filters {
    statuses: Vec<StatusRange>,
    retried: bool,
    longer_than: Option<Duration>,
}

impl Filters {
    fn new(filters: &AccessLogFilters) -> Self {
        Self {
            statuses: filters.status_codes.clone(),
            retried: filters.retry_attempts,
            longer_than: filters.min_duration.positive(),
        }
    }

    fn keep(&self, status: u16, retries: u32, duration: Duration) -> bool {
        let unset = self.statuses.is_empty() && !self.retried && self.longer_than.is_none();
        unset
            || self.statuses.iter().any(|range| range.contains(status))
            || self.retried && retries > 0
            || self.longer_than.is_some_and(|least| duration > least)
    }
}

/// Which header fields are logged, and how.
#[derive(Debug)]
struct HeaderRules {
    default: FieldMode,
    names: BTreeMap<String, FieldMode>,
}

impl HeaderRules {
    fn new(fields: &HeaderFields) -> Self {
        let names = fields.names.iter();
        Self {
            default: fields.default_mode,
            names: names
                .map(|(name, mode)| (name.to_ascii_lowercase(), *mode))
                .collect(),
        }
    }

    fn any(&self) -> bool {
        self.default != FieldMode::Drop || self.names.values().any(|mode| *mode != FieldMode::Drop)
    }

    fn capture(&self, headers: &HeaderMap) -> CapturedHeaders {
        if !self.any() {
            return CapturedHeaders::default();
        }
        let fields = headers.keys().filter_map(|name| {
            let mode = self.names.get(name.as_str()).unwrap_or(&self.default);
            let value = match mode {
                FieldMode::Keep => joined(headers, name)?,
                FieldMode::Redact => HeaderValue::from_static("REDACTED"),
                FieldMode::Drop => return None,
            };
            Some((name.clone(), value))
        });
        CapturedHeaders(fields.collect())
    }
}

/// All values of a field, separated by commas.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_none() {
        return Some(first.clone());
    }
    let values: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    HeaderValue::from_bytes(&values.join(&b","[..])).ok()
}

/// Lines that may wait for the writer, unless `accessLog.bufferingSize` asks for more.
const MIN_QUEUE: usize = 8 * 1024;
const MAX_QUEUE: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
