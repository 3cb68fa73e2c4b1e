//! Small value types of the configuration language: durations, addresses, networks, status ranges, secrets.
//!
//! Each parses from the text a user writes ([`FromStr`]) and prints the form Traefik's API prints.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A duration in Go syntax (`1m30s`, `300ms`); a bare integer means seconds. May be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    nanos: i64,
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self { nanos: 0 };

    /// Whole seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Self {
            nanos: secs.saturating_mul(SECOND),
        }
    }

    /// Whole milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self {
            nanos: millis.saturating_mul(MILLISECOND),
        }
    }

    /// Nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// Nanoseconds, negative for a negative span.
    pub const fn nanos(self) -> i64 {
        self.nanos
    }

    /// Whether it is exactly zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// The duration when it is above zero; most options read zero as "no limit".
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.nanos)
            .ok()
            .filter(|&nanos| nanos > 0)
            .map(Duration::from_nanos)
    }

    /// The duration, zero when negative.
    pub fn at_least_zero(self) -> Duration {
        self.positive().unwrap_or_default()
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(secs) = text.parse::<i64>() {
            let nanos = secs.checked_mul(SECOND);
            return nanos
                .map(|nanos| Self { nanos })
                .ok_or_else(|| "the duration is too long".to_owned());
        }
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest.is_empty() {
            return Err(expected_duration(text));
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (nanos, after) = one_unit(rest).ok_or_else(|| expected_duration(text))?;
            total = total.saturating_add(nanos);
            rest = after;
        }
        let total = if negative { -total } else { total };
        let nanos = i64::try_from(total).map_err(|_| "the duration is too long".to_owned())?;
        Ok(Self { nanos })
    }
}

/// Go's form: `1m0s`, `300ms`, `1.5s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        let (unit, size) = match nanos {
            0..1_000 => return write!(f, "{nanos}ns"),
            1_000..1_000_000 => ("µs", 1_000),
            1_000_000..1_000_000_000 => ("ms", 1_000_000),
            _ => return write_seconds(f, nanos),
        };
        write_fraction(f, nanos, size)?;
        f.write_str(unit)
    }
}

/// An entry point's address: `[host]:port[/tcp|/udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// Host or IP to listen on without brackets; empty for all.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Transport protocol of an entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// TCP: HTTP and TCP routers.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Address {
    /// Whether the user gave one.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Every interface, a port chosen by the system.
impl Default for Address {
    fn default() -> Self {
        Self {
            text: String::new(),
            host: String::new(),
            port: 0,
            protocol: Protocol::Tcp,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((address, name)) if name.eq_ignore_ascii_case("tcp") => (address, Protocol::Tcp),
            Some((address, name)) if name.eq_ignore_ascii_case("udp") => (address, Protocol::Udp),
            Some((_, name)) => {
                return Err(format!(
                    "unknown protocol {name:?}: expected `/tcp` or `/udp`"
                ));
            }
        };
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| format!("expected an address such as `:80`, found {text:?}"))?;
        let port = port
            .parse()
            .map_err(|_| format!("expected a port from 0 to 65535, found {port:?}"))?;
        let host = match host.strip_prefix('[') {
            Some(host) => host
                .strip_suffix(']')
                .ok_or_else(|| format!("missing `]` in {text:?}"))?,
            None if host.contains(':') => {
                return Err(format!("an IPv6 address needs brackets: `[{host}]:{port}`"));
            }
            None => host,
        };
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port,
            protocol,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An IP address or a network (`10.0.0.0/8`); an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(pub IpNet);

impl Cidr {
    /// Whether the address lies inside; IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected an IP address or a network such as `10.0.0.0/8`, found {text:?}");
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| wrong())?),
        };
        Ok(Self(unmapped(net)))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

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

/// Text that must not be shown: passwords, password hashes, keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("xxxx")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("xxxx")
    }
}

/// A file path, or the PEM text itself: text that holds `-----BEGIN` is content, anything else a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileOrContent(String);

impl FileOrContent {
    /// The text when it is inline PEM.
    pub fn content(&self) -> Option<&str> {
        self.0.contains("-----BEGIN").then_some(self.0.as_str())
    }

    /// The path when it is not inline PEM.
    pub fn path(&self) -> Option<&std::path::Path> {
        let is_path = !self.0.is_empty() && self.content().is_none();
        is_path.then(|| std::path::Path::new(&self.0))
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for FileOrContent {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for FileOrContent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

/// A path as it is; inline PEM, which may be a private key, is not shown.
impl fmt::Display for FileOrContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content() {
            Some(_) => f.write_str("xxxx"),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for FileOrContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Deserialises from the text form (numbers are taken as their text) and serialises to it.
macro_rules! text_serde {
    ($($unit:ty),*) => {$(
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_str(TextVisitor)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

text_serde!(Span, Address, Cidr, StatusRange, Secret, FileOrContent);

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

/// One `1.5h` from the front of the text: its nanoseconds and what follows.
fn one_unit(text: &str) -> Option<(i128, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(end);
    let size = i128::from(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    });
    // More than 18 digits cannot fit in the result, and would overflow below.
    let whole: i128 = match whole.len() {
        0 => 0,
        1..=18 => whole.parse().ok()?,
        _ => return None,
    };
    let fraction = &fraction[..fraction.len().min(18)];
    let part: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some((whole * size + part * size / divisor, after))
}

fn expected_duration(text: &str) -> String {
    let expected = format!("expected a duration such as `30s`, `1m30s` or `500ms`, found {text:?}");
    match spelled_out(text) {
        Some(meant) => format!("{expected}; did you mean `{meant}`?"),
        None => expected,
    }
}

/// What somebody meant who wrote `10 seconds`.
fn spelled_out(text: &str) -> Option<String> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "msec" | "millisecond" | "milliseconds" => "ms",
        _ => return None,
    };
    (!number.is_empty()).then(|| format!("{number}{unit}"))
}

fn write_seconds(f: &mut fmt::Formatter<'_>, nanos: u64) -> fmt::Result {
    let second = SECOND.unsigned_abs();
    let minutes = nanos / (60 * second);
    if minutes >= 60 {
        write!(f, "{}h", minutes / 60)?;
    }
    if minutes >= 1 {
        write!(f, "{}m", minutes % 60)?;
    }
    write_fraction(f, nanos % (60 * second), second)?;
    f.write_str("s")
}

/// `value / size` in decimal without trailing zeros.
fn write_fraction(f: &mut fmt::Formatter<'_>, value: u64, size: u64) -> fmt::Result {
    write!(f, "{}", value / size)?;
    let rest = value % size;
    if rest == 0 {
        return Ok(());
    }
    let width = size.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    write!(f, ".{}", digits.trim_end_matches('0'))
}

/// IPv4-mapped IPv6 networks mean the IPv4 network.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped: Option<std::net::Ipv4Addr> = Ipv6Addr::to_ipv4_mapped(&v6.addr());
    match (mapped, v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => ipnet::Ipv4Net::new(v4, prefix).map_or(net, IpNet::V4),
        _ => net,
    }
}

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words_are_understood_enough_to_suggest_the_right_form() {
        for (text, suggestion) in [
            ("10 seconds", "did you mean `10s`?"),
            ("5min", "did you mean `5m`?"),
            ("soon", "found \"soon\""),
            ("10x", "found \"10x\""),
        ] {
            let said = text.parse::<Span>().unwrap_err();
            assert!(said.ends_with(suggestion), "{said}");
        }
    }

    #[test]
    fn durations_read_and_print_as_go_does() {
        for (text, printed) in [
            ("60", "1m0s"),
            ("180s", "3m0s"),
            ("1h", "1h0m0s"),
            ("1m30s", "1m30s"),
            ("300ms", "300ms"),
            ("1.5s", "1.5s"),
            ("1500us", "1.5ms"),
            ("100ns", "100ns"),
            ("-2", "-2s"),
            ("-1m", "-1m0s"),
            ("0", "0s"),
            ("0s", "0s"),
            (".5h", "30m0s"),
            ("2562047h", "2562047h0m0s"),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.to_string(), printed, "{text}");
        }
        for text in [
            "",
            "-",
            "s",
            "5 s",
            "1x",
            "1.2.3s",
            "1s1",
            "99999999999999h",
            "9e9",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!(Span::from_secs(-1).positive(), None);
        assert_eq!(
            Span::from_millis(5).positive(),
            Some(Duration::from_millis(5))
        );
    }

    #[test]
    fn addresses() {
        let parsed = |text: &str| text.parse::<Address>();
        let udp = parsed(":53/UDP").unwrap();
        assert_eq!(
            (udp.host.as_str(), udp.port, udp.protocol),
            ("", 53, Protocol::Udp)
        );
        let six = parsed("[::1]:443/tcp").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 443));
        assert_eq!(six.to_string(), "[::1]:443/tcp");
        for wrong in [
            "80", ":80/quic", ":99999", "::1:80", "[::1:80", "host", ":http",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks() {
        let inside = |net: &str, ip: &str| {
            net.parse::<Cidr>()
                .expect(net)
                .contains(ip.parse().expect(ip))
        };
        assert!(inside("10.1.2.3/8", "10.200.0.1"));
        assert!(inside("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(inside("::ffff:10.0.0.0/104", "10.3.0.1"));
        assert!(inside("2001:db8::/32", "2001:db8::7"));
        assert!(!inside("10.0.0.1", "10.0.0.2"));
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("localhost".parse::<Cidr>().is_err());
        for text in ["10.0.0.1", "10.1.2.3/8", "fd00::/8"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn status_ranges() {
        let range: StatusRange = "500-599".parse().unwrap();
        assert!(range.contains(500) && range.contains(599) && !range.contains(600));
        assert_eq!("404".parse::<StatusRange>().unwrap().to_string(), "404");
        for wrong in ["", "5xx", "600-500", "99", "-"] {
            assert!(wrong.parse::<StatusRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_and_keys_do_not_print() {
        let key = FileOrContent::from("-----BEGIN PRIVATE KEY-----\nabc");
        assert_eq!(format!("{key:?}"), "xxxx");
        assert!(key.path().is_none() && key.content().is_some());
        let file = FileOrContent::from("/certs/a.pem");
        assert_eq!(format!("{file:?}"), "/certs/a.pem");
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "xxxx");
        assert_eq!(
            serde_json::to_string(&Secret::from("hunter2")).unwrap(),
            "\"xxxx\""
        );
    }
}
