//! How soon a replica that has started gets its first request, and how soon one that is told to end gets no more.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::sleep;

use crate::{Proxy, edge::Edge, load::Sample, stack::Stack};

const ROUNDS: usize = 20;
const PER_SECOND: u32 = 400;
/// How long each round waits for what it measures.
const LONGEST: Duration = Duration::from_secs(4);

/// Measures every proxy; a table.
pub async fn run(proxies: &[Proxy]) -> io::Result<String> {
    let mut text = format!(
        "\n| over {ROUNDS} rounds | {} |\n|---|{}\n",
        names(proxies),
        "---:|".repeat(proxies.len())
    );
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for proxy in proxies {
        let (start, end) = measure(proxy).await?;
        println!("{}: start {start:?}, end {end:?}", proxy.name);
        starts.push(told(&start));
        ends.push(told(&end));
    }
    text.push_str(&format!(
        "| from `docker start` to the first request: median (worst) | {} |\n",
        starts.join(" | ")
    ));
    text.push_str(&format!(
        "| from `docker kill --signal TERM` to the last new request: median (worst) | {} |\n",
        ends.join(" | ")
    ));
    Ok(text)
}

pub fn names(proxies: &[Proxy]) -> String {
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name).collect();
    names.join(" | ")
}

/// Milliseconds of every round: to the first request of a started replica, to the last one of a stopped replica. One that goes on
/// answers until it is killed for good.
async fn measure(proxy: &Proxy) -> io::Result<(Vec<f64>, Vec<f64>)> {
    let stack = Stack::new("zero-timings", None)?;
    stack.stubborn()?;
    stack.compose(&["up", "-d"]).await?;
    let edge = Edge::start(&proxy.binary, &stack)?;
    edge.serves(3).await?;
    let names = stack.containers().await?;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = &names[round % names.len()];
        let id = stack
            .docker(&["inspect", "-f", "{{.Config.Hostname}}", name])
            .await?;
        let id = id.trim();
        let before = now();
        let running = edge.load(PER_SECOND).start();
        let zero = now();
        sleep(Duration::from_millis(300)).await;
        stack.docker(&["kill", "--signal", "TERM", name]).await?;
        sleep(LONGEST / 2).await;
        let samples = running.finish().await;
        let told = event(&stack, name, "kill", before).await?;
        ends.push(last(&samples, id).map_or(0.0, |at| (zero + at - told).max(0.0) * 1e3));

        stack.docker(&["kill", name]).await?;
        sleep(LONGEST / 2).await;
        let before = now();
        let running = edge.load(PER_SECOND).start();
        let zero = now();
        stack.docker(&["start", name]).await?;
        sleep(LONGEST).await;
        let samples = running.finish().await;
        let started = event(&stack, name, "start", before).await?;
        let first = samples.iter().find(|sample| sample.server == id);
        let first = first.map_or(f64::INFINITY, |sample| {
            zero + (sample.at + sample.took).as_secs_f64()
        });
        starts.push((first - started) * 1e3);
    }
    Ok((starts, ends))
}

/// When the last request was sent that this server answered.
fn last(samples: &[Sample], server: &str) -> Option<f64> {
    let mut own = samples.iter().filter(|sample| sample.server == server);
    own.next_back().map(|sample| sample.at.as_secs_f64())
}

/// When the engine said that this happened to the container.
async fn event(stack: &Stack, name: &str, action: &str, since: f64) -> io::Result<f64> {
    let events = stack
        .docker(&[
            "events",
            "--since",
            &format!("{since:.3}"),
            "--until",
            &format!("{:.3}", now()),
            "--filter",
            &format!("container={name}"),
            "--filter",
            &format!("event={action}"),
            "--format",
            "{{.TimeNano}}",
        ])
        .await?;
    let first = events
        .lines()
        .next()
        .and_then(|line| line.parse::<f64>().ok());
    first
        .map(|nanos| nanos / 1e9)
        .ok_or_else(|| io::Error::other(format!("no {action} of {name}")))
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn told(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    format!("{median:.0} ms ({worst:.0} ms)")
}
