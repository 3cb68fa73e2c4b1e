//! `portway certs`: every certificate, until when it is good, and what its resolver is about to do.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    ask::{api_of, ask_api},
    complain, healthcheck,
    offline::Offline,
    say,
    words::{Words, split},
};
use crate::{admin::certificate_objects, compile::catalog};

/// Lists the certificates; one that is expired or cannot be obtained decides how the process ends.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    match Question::of(arguments).and_then(|question| question.answer()) {
        Ok((text, well)) => {
            say(&text);
            match well {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(wrong) => {
            complain(&format!("certs: {wrong}"));
            ExitCode::FAILURE
        }
    }
}

/// How to answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    /// Where the API of a running instance is.
    api: Option<String>,
    offline: bool,
    json: bool,
    /// For the loader.
    rest: Vec<String>,
}

impl Question {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let (mut words, mut question) = (Words::new(arguments), Self::default());
        while let Some(word) = words.next() {
            let (name, value) = split(word);
            match name {
                // `--api` and `--api=true` are options of `run`.
                "--api" if words.is_url(value) => question.api = Some(words.value(name, value)?),
                "--offline" => question.offline = true,
                "--json" => question.json = true,
                _ => question.rest.push(word.to_owned()),
            }
        }
        Ok(question)
    }

    /// What to print, and whether all is well.
    fn answer(&self) -> Result<(String, bool), String> {
        let (objects, source, problems) = self.find()?;
        let certificates = serde_json::from_value::<Vec<Certificate>>(objects.clone().into());
        let certificates = certificates.map_err(|error| error.to_string())?;
        let now = Timestamp::now();
        let well = problems.is_empty() && certificates.iter().all(|one| one.is_well());
        let text = match self.json {
            true => serde_json::to_string_pretty(&objects).map_err(|error| error.to_string())?,
            false => text(&certificates, &source, now),
        };
        for problem in problems {
            complain(&format!("certs: {problem}"));
        }
        Ok((text, well))
    }

    /// The certificates as the API shows them, whence they are known, and what could not be read.
    fn find(&self) -> Result<(Vec<Value>, String, Vec<String>), String> {
        let running = |api: &str| format!("as the running instance at {api} sees them");
        if let Some(api) = self.api.as_ref().filter(|_| !self.offline) {
            return Ok((ask(api)?, running(api), Vec::new()));
        }
        let rest = match self.rest.is_empty() {
            // In a container the options are those of its process.
            true => healthcheck::running_proxy().unwrap_or_default(),
            false => self.rest.clone(),
        };
        let (offline, storages) = Offline::with_certificates(&rest).map_err(|diagnostics| {
            let lines: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
            format!("the install configuration is wrong\n{}", lines.join("\n"))
        })?;
        let mut source = "from the files; no running instance was asked".to_owned();
        if let Some(api) = api_of(&offline.install).filter(|_| !self.offline) {
            match ask(&api) {
                Ok(objects) => return Ok((objects, running(&api), Vec::new())),
                Err(why) => {
                    source = format!("from the files, as no running instance answers: {why}")
                }
            }
        }
        let (snapshot, docker) = (
            &offline.compiled.snapshot,
            &offline.install.providers.docker,
        );
        // What containers ask for is not known here.
        let resolvers = storages.report(snapshot, docker.is_some());
        let objects = certificate_objects(&catalog(snapshot), &resolvers);
        Ok((objects, source, storages.problems))
    }
}

/// Asks a running instance.
fn ask(api: &str) -> Result<Vec<Value>, String> {
    let answer = ask_api(api, &format!("certificates?per_page={EVERY}"))?;
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(|error| format!("{api}: {error}")),
        status => Err(format!("{api}: it answers {status}")),
    }
}

/// A certificate, as far as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Certificate {
    sans: Vec<String>,
    common_name: String,
    #[serde(rename = "issuerCN")]
    issuer: String,
    #[serde(deserialize_with = "time")]
    not_after: Option<Timestamp>,
    /// `enabled`, `warning` or `expired`.
    status: String,
    /// The resolver's word for what is going on; empty for certificates from elsewhere.
    state: String,
    resolver: String,
    challenge: String,
    #[serde(deserialize_with = "time")]
    next_attempt: Option<Timestamp>,
    advised: bool,
    explanation: String,
    failures: u32,
    last_error: String,
    waits_for: String,
}

impl Certificate {
    /// One that nobody asks for may expire in peace.
    fn is_well(&self) -> bool {
        self.state == "unused" || (self.status != "expired" && self.state != "failing")
    }

    fn row(&self, now: Timestamp) -> [String; 6] {
        let or = |text: &str, other: &str| match text {
            "" => other.to_owned(),
            text => text.to_owned(),
        };
        let names = match self.sans.is_empty() {
            true => self.common_name.clone(),
            false => self.sans.join(", "),
        };
        let expires = self.not_after.map(|end| {
            let day = end.strftime("%Y-%m-%d");
            format!("{day} ({})", distance(end, now))
        });
        [
            names,
            or(&self.resolver, "file"),
            or(&self.challenge, "-"),
            or(&self.issuer, "-"),
            expires.unwrap_or_else(|| "-".to_owned()),
            self.word(),
        ]
    }

    fn word(&self) -> String {
        let validity = match self.status.as_str() {
            "expired" => Some("expired"),
            "warning" if self.resolver.is_empty() => Some("expires soon"),
            _ => None,
        };
        let going_on = Some(self.state.as_str()).filter(|state| !state.is_empty());
        match (validity, going_on) {
            (Some(validity), None | Some("valid")) => validity.to_owned(),
            (Some(validity), Some(going_on)) => format!("{validity}, {going_on}"),
            (None, going_on) => going_on.unwrap_or("valid").to_owned(),
        }
    }

    /// What is worth a line of its own.
    fn remarks(&self, now: Timestamp) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.failures > 0 {
            let times = super::offline::counted(self.failures as usize, "attempt");
            remarks.push(format!("{times} failed: {}", self.last_error));
        }
        if let Some(next) = self.next_attempt {
            let when = next.strftime("%Y-%m-%d %H:%M UTC");
            let distance = distance(next, now);
            remarks.push(match self.state.as_str() {
                "valid" if self.advised => {
                    format!("renewal {when} ({distance}), as the authority advises")
                }
                "valid" => format!("renewal {when} ({distance})"),
                "waiting" => format!("waits until {when} ({distance}): {}", self.waits_for),
                _ => format!("next attempt {when} ({distance})"),
            });
        }
        if !self.explanation.is_empty() {
            remarks.push(format!(
                "why the authority wants it replaced: {}",
                self.explanation
            ));
        }
        remarks
    }
}

fn time<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(text)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// `in 3 days`, `5 hours ago`.
fn distance(time: Timestamp, now: Timestamp) -> String {
    let seconds = time.as_second() - now.as_second();
    let size = seconds.unsigned_abs();
    let (count, unit) = match size {
        0..60 => return "now".to_owned(),
        60..7_200 => (size / 60, "minute"),
        7_200..172_800 => (size / 3_600, "hour"),
        _ => (size / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    match seconds < 0 {
        true => format!("{count} {unit}{plural} ago"),
        false => format!("in {count} {unit}{plural}"),
    }
}

/// The table for people.
fn text(certificates: &[Certificate], source: &str, now: Timestamp) -> String {
    let mut lines = vec![format!("({source})"), String::new()];
    if certificates.is_empty() {
        lines.push("no certificates: the default one serves every host".to_owned());
        return lines.join("\n");
    }
    let rows: Vec<[String; 6]> = certificates.iter().map(|one| one.row(now)).collect();
    let heading = HEADING.map(str::to_owned);
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows.iter().chain([&heading]).map(|row| &row[column]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    lines.push(line(&heading));
    for (row, certificate) in rows.iter().zip(certificates) {
        lines.push(line(row));
        let remarks = certificate.remarks(now).into_iter();
        lines.extend(remarks.map(|remark| format!("    {remark}")));
    }
    lines.join("\n")
}

const HEADING: [&str; 6] = [
    "NAMES",
    "RESOLVER",
    "CHALLENGE",
    "ISSUER",
    "EXPIRES",
    "STATE",
];
/// More certificates than anybody has.
const EVERY: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn certificate(object: Value) -> Certificate {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn options_of_its_own_are_told_from_those_of_run() {
        let of = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Question::of(&words).unwrap()
        };
        assert_eq!(of(""), Question::default());
        let question = of("--json --api=http://a:1 --configFile=x --offline --api.insecure=true");
        assert_eq!(question.api.as_deref(), Some("http://a:1"));
        assert!(question.json && question.offline);
        assert_eq!(question.rest, ["--configFile=x", "--api.insecure=true"]);
        assert_eq!(of("--api=true").api, None);
    }

    #[test]
    fn distances_are_for_people() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        for (seconds, expected) in [
            (0, "now"),
            (-59, "now"),
            (60, "in 1 minute"),
            (-7_199, "119 minutes ago"),
            (7_200, "in 2 hours"),
            (172_800, "in 2 days"),
            (-864_000, "10 days ago"),
        ] {
            let time = Timestamp::from_second(1_000_000_000 + seconds).unwrap();
            assert_eq!(distance(time, now), expected);
        }
    }

    #[test]
    fn what_is_expired_or_failing_is_not_well() {
        for (object, word, well) in [
            (json!({"status": "enabled"}), "valid", true),
            (json!({"status": "warning"}), "expires soon", true),
            (json!({"status": "expired"}), "expired", false),
            (
                json!({"status": "warning", "resolver": "le", "state": "valid"}),
                "valid",
                true,
            ),
            (
                json!({"status": "warning", "resolver": "le", "state": "ordering"}),
                "ordering",
                true,
            ),
            (
                json!({"status": "warning", "resolver": "le", "state": "failing"}),
                "failing",
                false,
            ),
            (
                json!({"status": "expired", "resolver": "le", "state": "failing"}),
                "expired, failing",
                false,
            ),
            (
                json!({"status": "expired", "resolver": "le", "state": "unused"}),
                "expired, unused",
                true,
            ),
        ] {
            let certificate = certificate(object.clone());
            let found = (certificate.word(), certificate.is_well());
            assert_eq!(found, (word.to_owned(), well), "{object}");
        }
    }

    #[test]
    fn the_table_says_what_is_next() {
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let certificates = [
            certificate(json!({
                "sans": ["a.test", "b.test"], "issuerCN": "R10", "notAfter": "2027-01-20T08:00:00Z",
                "status": "enabled", "resolver": "le", "state": "valid", "challenge": "http-01",
                "nextAttempt": "2026-12-21T08:00:00Z", "advised": true,
            })),
            certificate(json!({
                "sans": ["c.test"], "status": "warning", "resolver": "le", "state": "failing",
                "nextAttempt": "2026-11-21T10:00:00Z", "failures": 2, "lastError": "no address",
            })),
            certificate(json!({
                "sans": ["d.test"], "status": "warning", "resolver": "le", "state": "waiting",
                "nextAttempt": "2026-11-24T08:00:00Z", "waitsFor": "5 in a week",
            })),
        ];
        let expected = "\
(whence)

NAMES           RESOLVER  CHALLENGE  ISSUER  EXPIRES                  STATE
a.test, b.test  le        http-01    R10     2027-01-20 (in 60 days)  valid
    renewal 2026-12-21 08:00 UTC (in 30 days), as the authority advises
c.test          le        -          -       -                        failing
    2 attempts failed: no address
    next attempt 2026-11-21 10:00 UTC (in 2 hours)
d.test          le        -          -       -                        waiting
    waits until 2026-11-24 08:00 UTC (in 3 days): 5 in a week";
        assert_eq!(text(&certificates, "whence", now), expected);
        assert!(text(&[], "whence", now).contains("the default one"));
    }
}
