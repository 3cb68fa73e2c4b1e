//! The same changes to the same stack, under the same load, with Traefik and with Portway in front: how many requests fail.
//!
//! See README.md beside this file.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::format_push_string,
    reason = "a program that prints a report"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "connections of a run end with its runtime"
)]
#![allow(
    unreachable_pub,
    missing_debug_implementations,
    reason = "a program has no outside"
)]
#![allow(dead_code, reason = "the tests use what we do not")]

mod edge;
mod engine;
mod load;
mod many;
mod plot;
mod scenarios;
mod stack;
mod timings;

use std::{fs, io, path::PathBuf, process::Command};

use scenarios::{Report, Scenario};

/// A proxy to try.
struct Proxy {
    name: &'static str,
    binary: PathBuf,
}

/// What the command line says.
struct Options {
    proxies: Vec<Proxy>,
    /// Names of scenarios, `timings` and `many`; all if empty.
    only: Vec<String>,
    /// Where results.md and results.svg go.
    folder: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let options = options()?;
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let setup = Command::new(top.join("docker/setup")).status()?;
    if !setup.success() {
        return Err(io::Error::other("docker/setup failed"));
    }
    let portway = options.proxies.iter().find(|proxy| proxy.name == "Portway");
    let portway = portway.ok_or_else(|| io::Error::other("Portway has to be among the proxies"))?;
    stack::images(&portway.binary).await?;
    let mut text = String::new();
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);

    let mut rows = Vec::new();
    for scenario in Scenario::ALL
        .into_iter()
        .filter(|scenario| wanted(scenario.name()))
    {
        let mut reports = Vec::new();
        for proxy in &options.proxies {
            let own = (proxy.name == "Portway").then_some(&*proxy.binary);
            let report = scenarios::run(scenario, &proxy.binary, own).await?;
            println!("{}, {}: {}", scenario.title(), proxy.name, short(&report));
            reports.push(report);
        }
        rows.push((scenario, reports));
    }
    if !rows.is_empty() {
        text.push_str(&table(&options.proxies, &rows));
    }
    if wanted("timings") {
        text.push_str(&timings::run(&options.proxies).await?);
    }
    if wanted("many") {
        text.push_str(&many::run(&options.proxies).await?);
    }
    println!("\n{text}");
    if let Some(folder) = &options.folder {
        fs::write(folder.join("results.md"), &text)?;
        let names: Vec<&str> = options.proxies.iter().map(|proxy| proxy.name).collect();
        fs::write(folder.join("results.svg"), plot::svg(&names, &rows))?;
    }
    Ok(())
}

fn short(report: &Report) -> String {
    let failures: Vec<String> = report
        .failures()
        .into_iter()
        .map(|(what, count)| format!("{count} x {what}"))
        .collect();
    format!(
        "{} requests, {} failed, the longest took {:.1} s {failures:?}",
        report.samples.len(),
        report.failed(),
        report.longest().as_secs_f64()
    )
}

/// Failed requests and the longest wait, side by side.
fn table(proxies: &[Proxy], rows: &[(Scenario, Vec<Report>)]) -> String {
    let mut text = String::from("| what happens |");
    for proxy in proxies {
        text.push_str(&format!(" {0}: failed of | {0}: longest |", proxy.name));
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|---:|".repeat(proxies.len()));
    text.push('\n');
    for (scenario, reports) in rows {
        text.push_str(&format!("| {} |", scenario.title()));
        for report in reports {
            text.push_str(&format!(
                " **{}** of {} | {:.2} s |",
                report.failed(),
                report.samples.len(),
                report.longest().as_secs_f64()
            ));
        }
        text.push('\n');
    }
    text
}

fn options() -> io::Result<Options> {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (mut portway, mut traefik) = (
        Some(top.join("target/release/portway")),
        Some(top.join("target/venv/bin/traefik")),
    );
    let (mut only, mut folder) = (Vec::new(), None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next();
        match (word.as_str(), value) {
            ("--portway", Some(path)) => portway = Some(path.into()),
            ("--traefik", Some(path)) if path == "none" => traefik = None,
            ("--traefik", Some(path)) => traefik = Some(path.into()),
            ("--only", Some(names)) => only = names.split(',').map(str::to_owned).collect(),
            ("--write", Some(path)) => folder = Some(path.into()),
            _ => return Err(io::Error::other(format!("what is {word}? See README.md"))),
        }
    }
    let proxies = [("Traefik", traefik.take()), ("Portway", portway.take())];
    let proxies = proxies
        .into_iter()
        .filter_map(|(name, binary)| {
            Some(Proxy {
                name,
                binary: binary?,
            })
        })
        .collect();
    Ok(Options {
        proxies,
        only,
        folder,
    })
}
