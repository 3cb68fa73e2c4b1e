//! `portway explain URL`: which router takes a request, why the others do not, and where it goes.

use std::{fmt::Write as _, net::IpAddr, process::ExitCode};

use http::{HeaderName, HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    ask::{api_of, ask_api},
    complain,
    offline::Offline,
    say,
    words::{Words, split},
};
use crate::{
    admin::ExplainRequest,
    explain::{Candidate, Configuration, Explanation, Outcome, Part, ServerState, Step, explain},
};

/// Explains the way of one request.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    match Question::of(arguments).and_then(|question| question.answer()) {
        Ok(text) => say(&text),
        Err(wrong) => {
            complain(&format!("explain: {wrong}"));
            ExitCode::FAILURE
        }
    }
}

/// What is asked, and how to answer.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    request: ExplainRequest,
    /// Where the API of a running instance is.
    api: Option<String>,
    offline: bool,
    all: bool,
    json: bool,
    /// For the loader.
    rest: Vec<String>,
}

impl Question {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let mut words = Words::new(arguments);
        let mut question = Self::new();
        let mut url = None;
        while let Some(word) = words.next() {
            let (name, value) = split(word);
            match name {
                "--header" | "-H" => question
                    .request
                    .headers
                    .push(header(&words.value(name, value)?)?),
                "--method" | "-X" => question.request.method = method(&words.value(name, value)?)?,
                "--client-ip" => {
                    question.request.client_ip = Some(client_ip(&words.value(name, value)?)?)
                }
                "--entrypoint" => question.request.entry_point = Some(words.value(name, value)?),
                // `--api` and `--api=true` are options of `run`.
                "--api" if words.is_url(value) => question.api = Some(words.value(name, value)?),
                "--offline" => question.offline = true,
                "--all" => question.all = true,
                "--json" => question.json = true,
                _ if !word.starts_with('-')
                    && url.is_none()
                    && (words.at_first() || word.contains("://")) =>
                {
                    url = Some(with_scheme(word))
                }
                _ => question.rest.push(word.to_owned()),
            }
        }
        question.request.url =
            url.ok_or("which URL? `portway explain http://app.localhost/api`")?;
        Ok(question)
    }

    fn new() -> Self {
        let request = ExplainRequest {
            url: String::new(),
            method: Method::GET,
            headers: Vec::new(),
            client_ip: None,
            entry_point: None,
        };
        Self {
            request,
            api: None,
            offline: false,
            all: false,
            json: false,
            rest: Vec::new(),
        }
    }

    fn answer(&self) -> Result<String, String> {
        if let Some(api) = self.api.as_ref().filter(|_| !self.offline) {
            let source = format!("as the running instance at {api} sees it");
            return self.show(&self.ask(api)?, &source);
        }
        let offline = Offline::load(&self.rest).map_err(|diagnostics| {
            let lines: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
            format!("the install configuration is wrong\n{}", lines.join("\n"))
        })?;
        let mut source = "from the files; no running instance was asked".to_owned();
        if let Some(api) = api_of(&offline.install).filter(|_| !self.offline) {
            match self.ask(&api) {
                Ok(explanation) => {
                    return self.show(
                        &explanation,
                        &format!("as the running instance at {api} sees it"),
                    );
                }
                Err(why) => {
                    source = format!("from the files, as no running instance answers: {why}")
                }
            }
        }
        let configuration = Configuration {
            install: &offline.install,
            snapshot: &offline.compiled.snapshot,
            written: &offline,
            diagnostics: offline.compiled.diagnostics(),
            live: false,
        };
        self.show(&explain(&configuration, &self.request)?, &source)
    }

    /// Asks a running instance.
    fn ask(&self, api: &str) -> Result<Explanation, String> {
        let question = format!("explain?{}", query(&self.request));
        let failed = |why: String| format!("{api}: {why}");
        let answer = ask_api(api, &question)?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|error| failed(error.to_string())),
            404 => Err(failed("there is no API that explains".to_owned())),
            status => Err(failed(format!(
                "{status} {}",
                String::from_utf8_lossy(&answer.body).trim()
            ))),
        }
    }

    fn show(&self, explanation: &Explanation, source: &str) -> Result<String, String> {
        if self.json {
            return serde_json::to_string_pretty(explanation).map_err(|error| error.to_string());
        }
        let most = if self.all { usize::MAX } else { MOST_ROUTERS };
        Ok(text(explanation, source, most))
    }
}

fn with_scheme(word: &str) -> String {
    if word.contains("://") {
        word.to_owned()
    } else {
        format!("http://{word}")
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let field = text
        .split_once(':')
        .and_then(|(name, value)| Some((name.trim().parse().ok()?, value.trim().parse().ok()?)));
    field.ok_or_else(|| format!("--header: `{text}` is no header; write 'Name: value'"))
}

fn method(text: &str) -> Result<Method, String> {
    text.parse()
        .map_err(|_| format!("--method: `{text}` is no method"))
}

fn client_ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("--client-ip: `{text}` is no IP address"))
}

fn query(request: &ExplainRequest) -> String {
    // Writing to a string cannot fail.
    let mut query = format!(
        "url={}&method={}",
        encoded(&request.url),
        encoded(request.method.as_str())
    );
    for (name, value) in &request.headers {
        let field = format!("{name}:{}", String::from_utf8_lossy(value.as_bytes()));
        let _written = write!(query, "&header={}", encoded(&field));
    }
    if let Some(ip) = request.client_ip {
        let _written = write!(query, "&clientIp={}", encoded(&ip.to_string()));
    }
    if let Some(name) = &request.entry_point {
        let _written = write!(query, "&entryPoint={}", encoded(name));
    }
    query
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The explanation for people.
fn text(explanation: &Explanation, source: &str, most: usize) -> String {
    let mut text = format!("{} {}\n({source})\n\n", explanation.method, explanation.url);
    let door = &explanation.entry_point;
    line(
        &mut text,
        "Entry point",
        &format!("{} ({}): {}", door.name, door.address, door.reason),
    );
    line(
        &mut text,
        "Matched with",
        &format!("host `{}`, path `{}`", explanation.host, explanation.path),
    );
    if let Some(certificate) = &explanation.certificate {
        let default = if certificate.default {
            "the default one, as none is for this host: "
        } else {
            ""
        };
        let shown = match &certificate.refused {
            Some(why) => format!("none, the handshake is refused: {why}"),
            None => format!(
                "{default}{} (until {}, TLS options `{}`)",
                certificate.names.join(", "),
                certificate.not_after,
                certificate.options
            ),
        };
        line(&mut text, "Certificate", &shown);
    }
    line(&mut text, "Answer", &explanation.answer);
    routers(&mut text, &explanation.routers, most);
    if let Some(way) = &explanation.way {
        if !way.middlewares.is_empty() {
            text.push_str("\nMiddlewares, in the order they run\n");
        }
        for (number, step) in way.middlewares.iter().enumerate() {
            line(&mut text, &format!("  {}.", number + 1), &step_line(step));
            if let Some(answer) = &step.may_answer {
                let said = format!("may answer itself, which is not tried here: {answer}");
                line(&mut text, "", &said);
            }
        }
        let sticky = if way.sticky { ", sticky" } else { "" };
        text.push('\n');
        line(&mut text, "Service", &format!("{}{sticky}", way.service));
        way.servers
            .iter()
            .for_each(|server| line(&mut text, "", &server_line(server, way.health_checked)));
        parts(&mut text, &way.parts, 0);
    }
    text.trim_end().to_owned()
}

fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a string cannot fail.
    let _written = writeln!(text, "{label:14}{value}");
}

/// The services that a service is made of, each further in than the one around it.
fn parts(text: &mut String, within: &[Part], depth: usize) {
    let margin = "  ".repeat(depth);
    for part in within {
        let down = if part.up == Some(false) { ", down" } else { "" };
        let what = format!(
            "{margin}{} {} ({}{down})",
            part.service, part.kind, part.role
        );
        line(text, "", &what);
        for step in &part.middlewares {
            line(text, "", &format!("{margin}  through {}", step_line(step)));
        }
        for server in &part.servers {
            line(
                text,
                "",
                &format!("{margin}  {}", server_line(server, false)),
            );
        }
        parts(text, &part.parts, depth + 1);
    }
}

fn step_line(step: &Step) -> String {
    match step.options.is_null() {
        true => format!("{} {}", step.name, step.kind).trim_end().to_owned(),
        false => format!("{} {} {}", step.name, step.kind, step.options),
    }
}

fn server_line(server: &ServerState, checked: bool) -> String {
    let resolved = server
        .address
        .as_ref()
        .filter(|address| !server.url.contains(address.as_str()));
    let address = resolved
        .map(|address| format!(" ({address})"))
        .unwrap_or_default();
    let state = match &server.state {
        Some(state) if server.reason.is_empty() => state.clone(),
        Some(state) => format!("{state}: {}", server.reason),
        None if checked => "state unknown: health is checked by the running instance".to_owned(),
        None => "no health check".to_owned(),
    };
    format!("{}{address}  {state}", server.url)
}

/// The routers: all if there are few, else those that the host would do for.
fn routers(text: &mut String, routers: &[Candidate], most: usize) {
    if routers.is_empty() {
        text.push_str("\nThere is no router at all.\n");
        return;
    }
    text.push_str("\nRouters, in the order they are asked\n");
    let far = routers.len() > most;
    let shown = routers
        .iter()
        .filter(|candidate| !far || candidate.near)
        .take(most);
    let mut count = 0;
    for candidate in shown {
        count += 1;
        let mark = if candidate.outcome == Outcome::Wins {
            "->"
        } else {
            "  "
        };
        let priority = candidate
            .priority
            .map(|priority| format!("  priority {priority}"))
            .unwrap_or_default();
        let _written = writeln!(
            text,
            "{mark} {}{priority}  {}\n     {}",
            candidate.router, candidate.rule, candidate.reason
        );
    }
    if count < routers.len() {
        let _written = writeln!(
            text,
            "   and {} more (--all lists them)",
            routers.len() - count
        );
    }
}

/// A local instance answers at once, unless it is in trouble.
/// With more routers than that, only those for the host are listed.
const MOST_ROUTERS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn question(line: &[&str]) -> Result<Question, String> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        Question::of(&words)
    }

    #[test]
    fn own_options_are_told_from_those_of_run() {
        for (line, url, rest) in [
            (&["http://a/x"][..], "http://a/x", &[][..]),
            (&["a/x", "--ping"], "http://a/x", &["--ping"]),
            (
                &["--configFile=i.yml", "http://a"],
                "http://a",
                &["--configFile=i.yml"],
            ),
            (
                &["--configFile", "i.yml", "http://a"],
                "http://a",
                &["--configFile", "i.yml"],
            ),
            (
                &["http://a", "--api", "--api.insecure"],
                "http://a",
                &["--api", "--api.insecure"],
            ),
            (&["http://a", "--api=http://b:1", "--json"], "http://a", &[]),
            (
                &["--api", "http://b:1", "http://a", "--method", "POST"],
                "http://a",
                &[],
            ),
        ] {
            let question = question(line).unwrap();
            assert_eq!(
                (question.request.url.as_str(), question.rest.as_slice()),
                (
                    url,
                    rest.iter()
                        .map(|word| (*word).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice()
                ),
                "{line:?}"
            );
        }
        let question = question(&[
            "a",
            "-X",
            "PUT",
            "-H",
            "X-A: b: c",
            "--client-ip=::1",
            "--entrypoint",
            "web",
        ])
        .unwrap();
        assert_eq!(
            query(&question.request),
            "url=http%3A%2F%2Fa&method=PUT&header=x%2Da%3Ab%3A%20c&clientIp=%3A%3A1&entryPoint=web"
        );
    }

    #[test]
    fn wrong_questions_are_told() {
        for (line, word) in [
            (&["--ping"][..], "which URL"),
            (&["a", "--method"], "--method needs a value"),
            (&["a", "--method", "G T"], "`G T`"),
            (&["a", "--header", "nothing"], "`nothing`"),
            (&["a", "--client-ip", "b"], "`b`"),
        ] {
            assert!(question(line).unwrap_err().contains(word), "{line:?}");
        }
    }

    #[test]
    fn many_routers_are_cut_down_to_those_for_the_host() {
        let candidate = |number: usize| Candidate {
            router: format!("r{number}@file"),
            rule: "Host(`a`)".to_owned(),
            priority: Some(9),
            outcome: Outcome::NoMatch,
            reason: "no".to_owned(),
            near: number == 7,
        };
        let all: Vec<_> = (0..100).map(candidate).collect();
        let mut shown = String::new();
        routers(&mut shown, &all, 40);
        assert!(
            shown.contains("r7@file") && !shown.contains("r8@file") && shown.contains("99 more"),
            "{shown}"
        );
        let mut shown = String::new();
        routers(&mut shown, &all[..20], 40);
        assert!(
            shown.contains("r8@file") && !shown.contains("more"),
            "{shown}"
        );
    }
}
