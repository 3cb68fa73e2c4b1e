//! `hedge` of services.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::units::Span;

/// `….loadBalancer.hedge` (Portway).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hedge {
    /// `after`: how long the first server has before a second one is asked, a duration or a percentile such as `p95`. Default `p95`.
    pub after: HedgeAfter,
    /// `maxPercent` of the requests that are sent twice. Default 10.
    pub max_percent: u32,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            after: HedgeAfter::Percentile(95),
            max_percent: 10,
        }
    }
}

/// `….hedge.after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// A fixed time.
    Time(Span),
    /// So many percent of the last answers came earlier.
    Percentile(u8),
}

impl FromStr for HedgeAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percentile = text.strip_prefix(['p', 'P']).map(str::parse);
        match percentile {
            Some(Ok(percent @ 50..=99)) => Ok(Self::Percentile(percent)),
            Some(_) => Err(format!(
                "expected a percentile from p50 to p99, found {text:?}"
            )),
            None => match text.parse::<Span>() {
                Ok(time) if time.positive().is_some() => Ok(Self::Time(time)),
                _ => Err(format!(
                    "expected a duration such as `50ms` or a percentile such as `p95`, found {text:?}"
                )),
            },
        }
    }
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => time.fmt(f),
            Self::Percentile(percent) => write!(f, "p{percent}"),
        }
    }
}

impl<'de> Deserialize<'de> for HedgeAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for HedgeAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_percentiles() {
        for (text, expected) in [
            ("p95", Some("p95")),
            ("P50", Some("p50")),
            ("50ms", Some("50ms")),
            ("2", Some("2s")),
            ("p100", None),
            ("p", None),
            ("0s", None),
            ("-1s", None),
            ("soon", None),
        ] {
            let parsed = text.parse::<HedgeAfter>().ok().map(|it| it.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
