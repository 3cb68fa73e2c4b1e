//! Durations in Go syntax.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;

const MILLISECOND: i64 = 1_000_000;

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
