//! For everybody else: a program that is started, or an interface that is asked, in the forms that lego has defined for them.

use std::{
    ffi::OsStr,
    process::{Output, Stdio},
    time::Duration,
};

use http::{Method, Uri};
use serde_json::json;
use tokio::{process::Command, time::timeout};
use tracing::debug;

use super::{
    Setup, TxtRecord,
    api::{AUTHORIZATION, Api, Call, Trouble, basic},
};
use crate::config::units::Secret;

/// A program: `PROGRAM present|cleanup FQDN VALUE`.
#[derive(Debug)]
pub(super) struct Exec {
    program: String,
    raw: bool,
}

impl Exec {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        Ok(Self {
            program: setup.needed("EXEC_PATH")?,
            raw: setup.text("EXEC_MODE")?.as_deref() == Some(RAW),
        })
    }

    pub(super) async fn run(&self, what: &str, record: &TxtRecord) -> Result<String, Trouble> {
        let proof = &record.proof;
        let name = record.name.to_ascii();
        let arguments: &[&str] = match self.raw {
            true => &[what, "--", &proof.name, &proof.token, &proof.authorization],
            false => &[what, &name, &record.value],
        };
        let program = &self.program;
        let wrong = |text: String| Trouble::Own(format!("{program} {what}: {text}"));
        let run = timeout(LONGEST_RUN, output(program.as_ref(), arguments)).await;
        let run = run.map_err(|_| wrong("it does not end".to_owned()))?;
        let output = run.map_err(|error| wrong(error.to_string()))?;
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        for line in said.iter().flat_map(|text| text.lines()) {
            debug!(program, line, "the program says");
        }
        if output.status.success() {
            return Ok(String::new());
        }
        let last = said.iter().rev().find_map(|text| text.lines().last());
        let last: String = last.unwrap_or_default().chars().take(300).collect();
        Err(wrong(format!("{}: {last}", output.status)))
    }
}

async fn output(program: &OsStr, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
}

/// An interface: `POST ENDPOINT/present` and `POST ENDPOINT/cleanup`.
#[derive(Debug)]
pub(super) struct HttpReq {
    pub(super) api: Api,
    raw: bool,
    account: Option<(String, Secret)>,
}

impl HttpReq {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let endpoint = setup.needed("HTTPREQ_ENDPOINT")?;
        let parsed: Option<Uri> = endpoint.parse().ok();
        let web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        if !parsed.as_ref().is_some_and(web) {
            return Err("HTTPREQ_ENDPOINT is not an http or https URL".to_owned());
        }
        let named = match (
            setup.text("HTTPREQ_USERNAME")?,
            setup.text("HTTPREQ_PASSWORD")?,
        ) {
            (Some(user), Some(password)) => Some((user, Secret::from(password.as_str()))),
            _ => None,
        };
        let authority = parsed.as_ref().and_then(Uri::authority);
        let inline = authority.and_then(|authority| {
            let (user, password) = authority.as_str().rsplit_once('@')?.0.split_once(':')?;
            Some((unescaped(user), Secret::from(unescaped(password).as_str())))
        });
        let account = named.or(inline);
        let secrets: Vec<&Secret> = account.iter().map(|(_, password)| password).collect();
        Ok(Self {
            api: setup.api(&[], &endpoint, &secrets)?,
            raw: setup.text("HTTPREQ_MODE")?.as_deref() == Some(RAW),
            account,
        })
    }

    pub(super) async fn post(&self, what: &str, record: &TxtRecord) -> Result<String, Trouble> {
        let proof = &record.proof;
        let body = match self.raw {
            true => json!({
                "domain": proof.name,
                "token": proof.token,
                "keyAuth": proof.authorization,
            }),
            false => json!({ "fqdn": record.name.to_ascii(), "value": record.value }),
        };
        let mut call = Call::default().json(&body);
        if let Some((user, password)) = &self.account {
            call = call.header(AUTHORIZATION, &basic(user, password.expose()));
        }
        self.api
            .send(Method::POST, &format!("/{what}"), call)
            .await
            .map(|_| String::new())
    }
}

fn unescaped(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// The mode in which a hook computes the value itself.
const RAW: &str = "RAW";
const LONGEST_RUN: Duration = Duration::from_secs(600);
