//! One server: its address, and the state that outlives configuration changes.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytestring::ByteString;
use http::{HeaderValue, StatusCode};

use super::{
    Condition, Transport,
    health::{Failure, Health, HealthChange, HealthReport, PassiveSettings, Readiness},
};
use crate::{
    exchange::{Blame, Fault, FaultKind},
    observe::{ServerMetrics, ServerState, ServerView},
};

/// One address that answers requests. Shared by the snapshots it appears in, so its state survives a reload.
#[derive(Debug)]
pub struct Server {
    pub id: ServerId,
    /// The URL as configured.
    pub name: Arc<str>,
    pub scheme: Scheme,
    /// Host and port as written in the URL: the `Host` field when `passHostHeader` is off.
    pub authority: HeaderValue,
    /// Host name or IP (IPv6 without brackets): the TLS server name unless the transport sets one.
    pub host: ByteString,
    pub port: u16,
    /// Where to connect; `None` while the host name does not resolve (a connect fault).
    pub address: Option<SocketAddr>,
    /// The host's address of the other family, worth a try when `address` refuses.
    pub alternate: Option<SocketAddr>,
    /// Path of the URL, to be put before the request's path when `preserve_path` is set.
    pub path: ByteString,
    pub preserve_path: bool,
    pub transport: Arc<Transport>,
    pub health: Health,
    passive: Option<PassiveSettings>,
    in_flight: Padded<AtomicU32>,
    times: OnceLock<Box<ResponseTimes>>,
    metrics: OnceLock<ServerMetrics>,
    slot: Slot,
}

/// The dense number of a server, free again once the server object is gone: workers keep one pool per number.
///
/// Because numbers are used again, a pool must remember [`Server::serial`] too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServerId(pub u32);

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// What a request to a server came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The head of an answer arrived, `ttfb` after the request was sent.
    Answered {
        status: StatusCode,
        ttfb: Duration,
    },
    Failed(Fault),
}

/// What an outcome says about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Bad(Failure),
    Nothing,
}

impl Outcome {
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::Answered { status, .. } if status.as_u16() < 500 => Verdict::Good,
            Self::Answered { status, .. } => Verdict::Bad(Failure::Status(status.as_u16())),
            // An idle connection that the server closed is no failure: the request goes out again.
            Self::Failed(fault)
                if fault.blame != Blame::Server || fault.kind == FaultKind::StaleConnection =>
            {
                Verdict::Nothing
            }
            Self::Failed(_) => Verdict::Bad(Failure::NoAnswer),
        }
    }
}

/// What a server object is made from.
#[derive(Debug, Clone)]
pub(super) struct ServerParts {
    pub(super) url: ServerUrl,
    pub(super) address: Option<SocketAddr>,
    pub(super) alternate: Option<SocketAddr>,
    pub(super) preserve_path: bool,
    pub(super) transport: Arc<Transport>,
    pub(super) passive: Option<PassiveSettings>,
}

impl Server {
    pub(super) fn new(parts: ServerParts, health: Health, slots: &Slots) -> Self {
        let slot = slots.take();
        Self {
            id: slot.id,
            name: parts.url.text,
            scheme: parts.url.scheme,
            authority: parts.url.authority,
            host: parts.url.host,
            port: parts.url.port,
            address: parts.address,
            alternate: parts.alternate,
            path: parts.url.path,
            preserve_path: parts.preserve_path,
            transport: parts.transport,
            health,
            passive: parts.passive,
            in_flight: Padded(AtomicU32::new(0)),
            times: OnceLock::new(),
            metrics: OnceLock::new(),
            slot,
        }
    }

    /// Says what to count with; the first call counts, for the server stays the same.
    pub fn count_with(self: &Arc<Self>, metrics: impl FnOnce() -> ServerMetrics) {
        self.metrics.get_or_init(|| {
            let metrics = metrics();
            metrics.watch(self);
            metrics
        });
    }

    /// What its connections are counted with.
    pub fn metrics(&self) -> &ServerMetrics {
        self.metrics.get().unwrap_or_else(|| ServerMetrics::off())
    }

    /// Never used twice in the life of the process, unlike [`Server::id`].
    pub fn serial(&self) -> u64 {
        self.slot.serial
    }

    /// Whether the balancer takes this server without hesitation.
    pub fn usable(&self) -> bool {
        self.readiness() == Readiness::Ready
    }

    /// Whether and how willingly the balancer takes this server.
    pub fn readiness(&self) -> Readiness {
        match self.health.readiness() {
            Readiness::Ready if self.address.is_none() => Readiness::Waiting,
            readiness => readiness,
        }
    }

    /// Whether nothing but its health speaks against it.
    pub(super) fn is_welcome(&self) -> bool {
        self.address.is_some() && self.health.is_welcome()
    }

    /// Whether it is about to go or gone: it takes no new request, and its idle connections are of no use.
    pub fn is_leaving(&self) -> bool {
        self.health.is_leaving()
    }

    /// Says that no configuration names it any more.
    pub fn retire(&self, now: Instant) {
        let gone = Condition::Leaving("no configuration names it any more".into());
        drop(self.health.set_condition(&gone, now));
    }

    /// The share of its turns that it takes while it warms up for `window`.
    pub(super) fn warmth(&self, window: Duration) -> f64 {
        warmth(self.health.ready_for(Instant::now()), window)
    }

    /// Health with its reason.
    pub fn status(&self) -> HealthReport {
        let mut report = self.health.report(Instant::now());
        if report.readiness != Readiness::Down && self.address.is_none() {
            report.readiness = Readiness::Waiting;
            report.cause = "unresolved";
            report.reason = "the host name does not resolve".to_owned();
        }
        report
    }

    /// Counts a request in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.0.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests in flight on all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Relaxed)
    }

    /// Learns from what a request came to. A change of health is handed back to be logged.
    pub fn observe(&self, outcome: Outcome) -> Option<HealthChange> {
        if let (Outcome::Answered { ttfb, .. }, Some(times)) = (outcome, self.times.get()) {
            times.add(ttfb);
        }
        match outcome.verdict() {
            Verdict::Nothing => None,
            Verdict::Good => {
                self.health.request_succeeded();
                None
            }
            Verdict::Bad(failure) => self.health.request_failed(failure, Instant::now),
        }
    }

    /// Starts to measure times to first byte (`leasttime`).
    pub(super) fn measure_times(&self) {
        self.times.get_or_init(Box::default);
    }

    /// The `leasttime` score for a weight of 1: mean time to first byte in milliseconds times requests in flight plus one.
    pub(super) fn time_score(&self) -> f64 {
        let mean = self.times.get().map_or(0.0, |times| times.mean());
        mean * (1.0 + f64::from(self.in_flight()))
    }

    /// Whether this object can stand for `parts` in a new snapshot, connections included.
    pub(super) fn serves(&self, parts: &ServerParts) -> bool {
        self.is_same_server(parts)
            && self.passive == parts.passive
            && self.alternate == parts.alternate
            && Arc::ptr_eq(&self.transport, &parts.transport)
    }

    /// Whether `parts` means the same server, perhaps reached with other settings: its health is worth keeping.
    pub(super) fn is_same_server(&self, parts: &ServerParts) -> bool {
        self.name == parts.url.text
            && self.address == parts.address
            && self.preserve_path == parts.preserve_path
    }
}

impl ServerView for Server {
    fn state(&self) -> ServerState {
        let report = self.status();
        let age = report.since.elapsed();
        ServerState {
            up: report.up(),
            reason: report.cause,
            detail: Some(report.reason).filter(|reason| !reason.is_empty()),
            since: SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH),
            in_flight: u64::from(self.in_flight()),
            checked: report.checked,
        }
    }
}

/// `slowStart`: the share of its turns that a server takes which has been ready for `age`. It grows evenly, from a tenth on, because a
/// server that gets nothing at all never warms up.
fn warmth(age: Duration, window: Duration) -> f64 {
    if age >= window {
        return 1.0;
    }
    (age.as_secs_f64() / window.as_secs_f64()).max(COLD)
}

const COLD: f64 = 0.1;

/// A request in flight.
#[derive(Debug)]
pub struct InFlight(Arc<Server>);

impl InFlight {
    pub fn server(&self) -> &Arc<Server> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.0.fetch_sub(1, Relaxed);
    }
}

/// A server's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    pub text: Arc<str>,
    pub scheme: Scheme,
    pub authority: HeaderValue,
    pub host: ByteString,
    pub port: u16,
    pub path: ByteString,
}

/// Why a server's URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    #[error("no scheme: expected http://, https:// or h2c:// and a host")]
    NoScheme,
    #[error("unknown scheme `{0}`: expected http, https or h2c")]
    Scheme(String),
    #[error("no host")]
    NoHost,
    #[error("`{0}` is not a port")]
    Port(String),
    #[error("`{0}` is not a host")]
    Host(String),
}

impl ServerUrl {
    /// Takes `text` apart; userinfo, query and fragment are allowed and ignored.
    pub fn parse(text: &str) -> Result<Self, ServerUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(ServerUrlError::NoScheme)?;
        let scheme = Scheme::parse(scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = split_port(authority)?;
        let port = match port {
            "" => scheme.default_port(),
            port => port
                .parse()
                .map_err(|_| ServerUrlError::Port(port.to_owned()))?,
        };
        check_host(host)?;
        let path = tail.split(['?', '#']).next().unwrap_or_default();
        Ok(Self {
            text: text.into(),
            scheme,
            authority: HeaderValue::from_str(authority)
                .map_err(|_| ServerUrlError::Host(authority.to_owned()))?,
            host: host.into(),
            port,
            path: path.into(),
        })
    }

    /// The host if it is an IP address; a name must be resolved.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The URL with `ip` in place of its host: what the sticky value of one address of several is made from.
    pub(super) fn with_ip(&self, ip: IpAddr) -> String {
        let address = SocketAddr::new(ip, self.port);
        format!("{}://{address}{}", self.scheme, self.path)
    }
}

impl Scheme {
    fn parse(text: &str) -> Result<Self, ServerUrlError> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            "h2c" => Ok(Self::H2c),
            "" => Err(ServerUrlError::NoScheme),
            _ => Err(ServerUrlError::Scheme(text.to_owned())),
        }
    }

    /// The port of a URL that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::H2c => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        })
    }
}

/// Splits `[v6]:port` and `name:port`; without a port its text is empty.
fn split_port(authority: &str) -> Result<(&str, &str), ServerUrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest
            .split_once(']')
            .ok_or_else(|| ServerUrlError::Host(authority.to_owned()))?;
        return Ok((host, port.strip_prefix(':').unwrap_or("")));
    }
    Ok(authority.split_once(':').unwrap_or((authority, "")))
}

fn check_host(host: &str) -> Result<(), ServerUrlError> {
    if host.is_empty() {
        return Err(ServerUrlError::NoHost);
    }
    let bad =
        |c: char| c.is_ascii_whitespace() || c.is_ascii_control() || "<>\"`{}\\^|".contains(c);
    if host.contains(bad) {
        return Err(ServerUrlError::Host(host.to_owned()));
    }
    Ok(())
}

/// Hands out server numbers; the lowest free one first, so that per-number tables stay small. One for the process, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Mutex<SlotTable>>);

#[derive(Debug, Default)]
struct SlotTable {
    free: std::collections::BTreeSet<u32>,
    next: u32,
    serial: u64,
}

/// A number taken, given back when dropped.
#[derive(Debug)]
struct Slot {
    id: ServerId,
    serial: u64,
    table: Slots,
}

impl Slots {
    fn take(&self) -> Slot {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = table.free.pop_first().unwrap_or_else(|| {
            table.next += 1;
            table.next - 1
        });
        table.serial += 1;
        Slot {
            id: ServerId(number),
            serial: table.serial,
            table: self.clone(),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.free.insert(self.id.0);
    }
}

/// Keeps a value that every worker writes away from values that every worker reads.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Padded<T>(pub(super) T);

/// The last times to first byte, in whole milliseconds.
#[derive(Debug)]
struct ResponseTimes {
    samples: [AtomicU32; Self::SAMPLES],
    sum: AtomicU64,
    count: AtomicU64,
}

impl ResponseTimes {
    const SAMPLES: usize = 100;

    fn add(&self, time: Duration) {
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let index = self.count.fetch_add(1, Relaxed) % Self::SAMPLES as u64;
        let old = self.samples[index as usize].swap(millis, Relaxed);
        self.sum.fetch_add(u64::from(millis), Relaxed);
        self.sum.fetch_sub(u64::from(old), Relaxed);
    }

    fn mean(&self) -> f64 {
        let count = self.count.load(Relaxed).min(Self::SAMPLES as u64);
        if count == 0 {
            return 0.0;
        }
        self.sum.load(Relaxed) as f64 / count as f64
    }
}

impl Default for ResponseTimes {
    fn default() -> Self {
        Self {
            samples: std::array::from_fn(|_| AtomicU32::new(0)),
            sum: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::warmth;

    #[test]
    fn warmth_grows_evenly_from_a_tenth() {
        for (age, window, share) in [
            (0, 10_000, 0.1),
            (500, 10_000, 0.1),
            (2_500, 10_000, 0.25),
            (9_999, 10_000, 0.9999),
            (10_000, 10_000, 1.0),
            (u64::MAX, 10_000, 1.0),
            (0, 0, 1.0),
        ] {
            let warmth = warmth(Duration::from_millis(age), Duration::from_millis(window));
            assert!((warmth - share).abs() < 1e-9, "{age} of {window}: {warmth}");
        }
    }
}
