//! The HTTP provider: asks a URL now and then, and goes on with the last good answer.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use tracing::{info, warn};

use super::{Provider, ReloadSignal, Running, Updates, tls};
use crate::{
    config::{
        DecodedRouting, Diagnostic, Format, MAX_FILE_BYTES, Place, install, parse_routing_text,
        units::Secret,
    },
    fetch::{Answer, Http},
};

/// Reads routing configuration from a URL.
#[derive(Debug)]
pub struct HttpProvider {
    options: install::HttpProvider,
    headers: HeaderMap,
    /// The URL as it may be shown.
    shown: Arc<str>,
    longest: usize,
    reload: ReloadSignal,
}

impl HttpProvider {
    /// A provider as configured, or what is wrong with the options. Asks nobody yet.
    pub fn new(options: &install::HttpProvider, reload: ReloadSignal) -> Result<Self, Diagnostic> {
        let wrong = |option: &str, message: &str| {
            let path = format!("providers.http.{option}");
            Diagnostic::error(Place::Builtin, path, message)
        };
        let endpoint: Uri = options
            .endpoint
            .expose()
            .parse()
            .map_err(|_| wrong("endpoint", "is not a URL"))?;
        let headers = headers(&options.headers, &endpoint)
            .ok_or_else(|| wrong("headers", "cannot be sent"))?;
        let bound = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX);
        let wanted = usize::try_from(options.max_response_body_size).unwrap_or(bound);
        Ok(Self {
            headers,
            shown: shown(&endpoint).into(),
            longest: wanted.min(bound),
            options: options.clone(),
            reload,
        })
    }

    async fn work(mut self, updates: Updates) {
        let mut known = Known::new(Arc::clone(&self.shown));
        let mut failures = 0;
        loop {
            let began = Instant::now();
            match self.ask().await {
                Ok(answer) => {
                    updates.source().synced();
                    if failures > 0 {
                        info!(url = %self.shown, "providers.http.endpoint answers again");
                    }
                    failures = 0;
                    if let Some(decoded) = known.take(&answer)
                        && !updates.send(decoded).await
                    {
                        return;
                    }
                }
                Err(problem) => {
                    if failures == 0 {
                        warn!(url = %self.shown, %problem, "providers.http.endpoint does not answer as it should; what it said last goes on serving");
                    }
                    updates.source().lost(problem);
                    failures += 1;
                }
            }
            let pause = self.pause(failures).saturating_sub(began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.reload.requested() => {}
            }
        }
    }

    /// How long after a request the next one is due.
    fn pause(&self, failures: u32) -> Duration {
        let regular = self.options.poll_interval.positive();
        let regular = regular.unwrap_or(DEFAULT_INTERVAL);
        match failures {
            0 => regular,
            // An endpoint that is asked rarely is to be missed for a short time only.
            _ => FIRST_PAUSE
                .saturating_mul(1 << failures.min(8))
                .min(LONGEST_PAUSE)
                .min(regular.max(FIRST_PAUSE)),
        }
    }

    async fn ask(&self) -> Result<Answer, String> {
        let timeout = self.options.poll_timeout.positive();
        // Certificates are read anew every time, so that they can be renewed.
        let secure = self.options.endpoint.expose().starts_with("https:");
        let mut http = Http::new(RootCertStore::empty(), timeout.unwrap_or(DEFAULT_TIMEOUT));
        if secure {
            let options = self.options.tls.clone().unwrap_or_default();
            let made = tokio::task::spawn_blocking(move || tls::client(&options));
            let made = made.await.map_err(|error| error.to_string())?;
            http = http.over(made.map_err(|error| error.to_string())?);
        }
        let url = self.options.endpoint.expose();
        let answer = http
            .at_most(self.longest)
            .send(Method::GET, url, self.headers.clone(), Bytes::new())
            .await?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            status => Err(format!("answered {status}")),
        }
    }
}

impl Provider for HttpProvider {
    fn name(&self) -> &str {
        NAME
    }

    fn run(self: Box<Self>, updates: Updates) -> Running {
        Box::pin(self.work(updates))
    }
}

/// What the endpoint said.
#[derive(Debug)]
struct Known {
    shown: Arc<str>,
    /// What was read last, good or not.
    last: Option<(Format, Bytes)>,
    good: DecodedRouting,
}

impl Known {
    fn new(shown: Arc<str>) -> Self {
        Self {
            shown,
            last: None,
            good: DecodedRouting::default(),
        }
    }

    /// What is wanted now, if the answer is not the one of before.
    fn take(&mut self, answer: &Answer) -> Option<DecodedRouting> {
        let kind = answer.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let format = match kind.contains("toml") {
            true => Format::Toml,
            false => Format::Yaml,
        };
        let read = (format, answer.body.clone());
        if self.last.as_ref() == Some(&read) {
            return None;
        }
        self.last = Some(read);
        match self.read(format, &answer.body) {
            Ok(decoded) => {
                self.good = decoded;
                Some(self.good.clone())
            }
            Err(problems) => Some(self.going_on(problems)),
        }
    }

    fn read(&self, format: Format, body: &Bytes) -> Result<DecodedRouting, Vec<Diagnostic>> {
        let whole = || Place::whole_file(Arc::clone(&self.shown));
        let Ok(text) = std::str::from_utf8(body) else {
            let wrong = Diagnostic::error(whole(), "", "is not UTF-8 text");
            return Err(vec![wrong]);
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() && !self.good.routing.is_empty() {
            let wrong = Diagnostic::warning(whole(), "", "the answer is empty");
            return Err(vec![
                wrong.with_hint("answer `{}` if that is what you want"),
            ]);
        }
        parse_routing_text(&self.shown, text, format)
    }

    /// The last good configuration, with what is wrong with the one in its place.
    fn going_on(&self, mut problems: Vec<Diagnostic>) -> DecodedRouting {
        let mut decoded = self.good.clone();
        if !decoded.routing.is_empty() {
            let message = "the last good answer goes on serving";
            let place = Place::whole_file(Arc::clone(&self.shown));
            problems.push(Diagnostic::info(place, "", message));
        }
        decoded.diagnostics.splice(0..0, problems);
        decoded
    }
}

/// The fields of every request. A user and password in the URL are for us, not for the path.
fn headers(configured: &BTreeMap<String, Secret>, endpoint: &Uri) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let authority = endpoint.authority().map_or("", |it| it.as_str());
    if let Some((user, _)) = authority.rsplit_once('@') {
        let decoded: Vec<u8> = match user.split_once(':') {
            None => [percent_decode_str(user).collect(), vec![b':']].concat(),
            Some((user, password)) => [
                percent_decode_str(user).collect(),
                vec![b':'],
                percent_decode_str(password).collect(),
            ]
            .concat(),
        };
        let basic = format!("Basic {}", STANDARD.encode(decoded));
        headers.insert(AUTHORIZATION, HeaderValue::try_from(basic).ok()?);
    }
    for (name, value) in configured {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        let mut value = HeaderValue::try_from(value.expose()).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

/// A URL without what may be secret: user, password and query.
fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |it| it.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let scheme = url.scheme_str().unwrap_or("http");
    format!("{scheme}://{host}{}", url.path())
}

/// The name that its objects are qualified with.
const NAME: &str = "http";

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: &str, body: &str) -> Answer {
        let kind = HeaderValue::try_from(kind).unwrap();
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, kind)]),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// The routers wanted and the findings.
    fn told(decoded: &DecodedRouting) -> (String, String) {
        let routers = decoded.routing.http.routers.keys().cloned();
        let findings = decoded.diagnostics.iter().map(ToString::to_string);
        (
            routers.collect::<Vec<_>>().join(" "),
            findings.collect::<Vec<_>>().join("\n"),
        )
    }

    #[test]
    fn the_last_good_answer_goes_on() {
        let mut known = Known::new("http://h/c".into());
        let router = |name: &str| {
            format!("http: {{routers: {{{name}: {{rule: 'Path(`/`)', service: s}}}}}}")
        };
        let json = r#"{"http": {"routers": {"j": {"rule": "Path(`/`)", "service": "s"}}}}"#;
        let toml = "[http.routers.t]\nrule = 'Path(`/`)'\nservice = 's'";
        for (kind, body, routers, finding) in [
            ("text/plain", router("a"), "a", ""),
            ("application/json", json.to_owned(), "j", ""),
            ("application/toml", toml.to_owned(), "t", ""),
            ("text/plain", "http: [".to_owned(), "t", "http://h/c:2:"),
            ("text/plain", String::new(), "t", "the answer is empty"),
            ("text/plain", router("{{ env \"HOME\" }}"), "t", "goes on"),
            ("text/plain", "{}".to_owned(), "", ""),
            (
                "text/plain",
                "http: {rooters: {}}".to_owned(),
                "",
                "rooters",
            ),
        ] {
            let decoded = known.take(&answer(kind, &body)).unwrap();
            let (found, findings) = told(&decoded);
            assert_eq!(found, routers, "{body}: {findings}");
            assert!(findings.contains(finding), "{body}: {findings}");
            assert_eq!(findings.is_empty(), finding.is_empty(), "{findings}");
            let again = known.take(&answer(kind, &body));
            assert!(again.is_none(), "{body} is no news");
        }
    }

    #[test]
    fn secrets_of_the_url_are_sent_and_not_shown() {
        let uri: Uri = "https://us%3Aer:p%40ss@h.test:1/a?token=x".parse().unwrap();
        assert_eq!(shown(&uri), "https://h.test:1/a");
        let configured = BTreeMap::from([("X-Token".to_owned(), Secret::from("t"))]);
        let headers = headers(&configured, &uri).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("us:er:p@ss"));
        assert_eq!(headers[AUTHORIZATION], *expected);
        assert_eq!(headers["x-token"], "t");
    }

    #[test]
    fn failures_are_followed_by_growing_pauses() {
        for (interval, failures, seconds) in [
            (5, 0, 5.0),
            (5, 1, 1.0),
            (5, 2, 2.0),
            (5, 9, 5.0),
            (3600, 9, 60.0),
            (3600, u32::MAX, 60.0),
        ] {
            let options = install::HttpProvider {
                endpoint: Secret::from("http://h/"),
                poll_interval: crate::config::units::Span::from_secs(interval),
                ..Default::default()
            };
            let reload = super::super::Reload::default();
            let provider = HttpProvider::new(&options, reload.signal()).unwrap();
            let pause = provider.pause(failures);
            assert_eq!(pause, Duration::from_secs_f64(seconds), "{failures}");
        }
    }
}
