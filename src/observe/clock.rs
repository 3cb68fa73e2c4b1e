//! Wall-clock time as text, in UTC and in the zone of the machine.

use std::{
    io::Write,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::{Timestamp, Zoned, tz::TimeZone};

/// Where a time is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Utc,
    /// `TZ`, else `/etc/localtime`, read once.
    Local,
}

/// `2026-11-21T08:15:35Z`.
pub(super) fn write_seconds(out: &mut Vec<u8>, time: SystemTime, zone: Zone) {
    let time = at(time, zone);
    write_date(out, &time);
    write_offset(out, &time);
}

/// `2026-11-21T08:15:35.250716Z`: nanoseconds without trailing zeros.
pub(super) fn write_nanoseconds(out: &mut Vec<u8>, time: SystemTime, zone: Zone) {
    let time = at(time, zone);
    write_date(out, &time);
    let nanoseconds = time.subsec_nanosecond();
    if nanoseconds > 0 {
        let digits = format!(".{nanoseconds:09}");
        out.extend(digits.trim_end_matches('0').bytes());
    }
    write_offset(out, &time);
}

/// `time` in UTC, to the nanosecond.
pub(crate) fn clock_text(time: SystemTime) -> String {
    let mut out = Vec::new();
    write_nanoseconds(&mut out, time, Zone::Utc);
    String::from_utf8(out).unwrap_or_default()
}

/// `21/Nov/2026:08:21:23 +0000`, in UTC.
pub(super) fn write_common_log(out: &mut Vec<u8>, time: SystemTime) {
    let time = at(time, Zone::Utc);
    let month = MONTHS[usize::from(time.month().unsigned_abs()).saturating_sub(1) % MONTHS.len()];
    append(
        out,
        format_args!(
            "{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000",
            time.day(),
            time.year(),
            time.hour(),
            time.minute(),
            time.second()
        ),
    );
}

fn at(time: SystemTime, zone: Zone) -> Zoned {
    static LOCAL: OnceLock<TimeZone> = OnceLock::new();
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    // A clock set beyond the year 9999 is shown as 1970 rather than refused.
    let timestamp = Timestamp::new(seconds, since.subsec_nanos().cast_signed());
    let zone = match zone {
        Zone::Utc => TimeZone::UTC,
        Zone::Local => LOCAL.get_or_init(TimeZone::system).clone(),
    };
    timestamp.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone)
}

fn write_date(out: &mut Vec<u8>, time: &Zoned) {
    append(
        out,
        format_args!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        ),
    );
}

fn write_offset(out: &mut Vec<u8>, time: &Zoned) {
    let seconds = time.offset().seconds();
    if seconds == 0 {
        return out.push(b'Z');
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    append(
        out,
        format_args!("{sign}{:02}:{:02}", minutes / 60, minutes % 60),
    );
}

/// Writing to memory cannot fail.
pub(super) fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    drop(out.write_fmt(text));
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Zone, write_common_log, write_nanoseconds, write_seconds};

    fn text(write: impl Fn(&mut Vec<u8>, SystemTime), seconds: u64, nanoseconds: u32) -> String {
        let mut out = Vec::new();
        write(&mut out, UNIX_EPOCH + Duration::new(seconds, nanoseconds));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_go_does() {
        let seconds = |out: &mut Vec<u8>, time| write_seconds(out, time, Zone::Utc);
        let nanoseconds = |out: &mut Vec<u8>, time| write_nanoseconds(out, time, Zone::Utc);
        assert_eq!(text(seconds, 1_795_249_296, 5), "2026-11-21T08:21:36Z");
        let cases = [
            (250_716_000, "2026-11-21T08:21:36.250716Z"),
            (5, "2026-11-21T08:21:36.000000005Z"),
            (0, "2026-11-21T08:21:36Z"),
        ];
        for (fraction, expected) in cases {
            assert_eq!(text(nanoseconds, 1_795_249_296, fraction), expected);
        }
        assert_eq!(
            text(write_common_log, 1_795_249_296, 0),
            "21/Nov/2026:08:21:36 +0000"
        );
        assert_eq!(
            text(write_common_log, u64::MAX >> 1, 0),
            "01/Jan/1970:00:00:00 +0000"
        );
    }
}
