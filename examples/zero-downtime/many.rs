//! Three hundred containers with a router each: how soon after its start an edge serves all of them, and in how much memory.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{Proxy, edge::Edge, load::Load, stack::Stack, timings::names};

const CONTAINERS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures every proxy; a table.
pub async fn run(proxies: &[Proxy]) -> io::Result<String> {
    let stack = Stack::new("zero-many", None)?;
    stack.many(CONTAINERS)?;
    stack.compose(&["up", "-d"]).await?;
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for proxy in proxies {
        let begun = Instant::now();
        let edge = Edge::start(&proxy.binary, &stack)?;
        let mut missing: Vec<usize> = (0..CONTAINERS).collect();
        while !missing.is_empty() && begun.elapsed() < PATIENCE {
            let mut still = Vec::new();
            for number in missing {
                let load = Load {
                    host: stack.host_of(number),
                    ..edge.load(1)
                };
                if !load.once().await.is_ok_and(|status| status == 200) {
                    still.push(number);
                }
            }
            missing = still;
        }
        times.push(match missing.len() {
            0 => format!("{:.2} s", begun.elapsed().as_secs_f64()),
            some => format!("{some} not within {} s", PATIENCE.as_secs()),
        });
        sleep(Duration::from_secs(10)).await;
        memories.push(format!(
            "{:.1} MiB",
            memory(edge.pid().unwrap_or_default())?
        ));
        println!("{}: {:?} {:?}", proxy.name, times.last(), memories.last());
        edge.end().await?;
    }
    Ok(format!(
        "\n| {CONTAINERS} containers with a router each | {} |\n|---|{}\n| from the edge's start until all answer | {} |\n| its memory 10 s later | {} |\n",
        names(proxies),
        "---:|".repeat(proxies.len()),
        times.join(" | "),
        memories.join(" | ")
    ))
}

/// Resident memory of a process, in MiB.
fn memory(pid: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kilobytes.unwrap_or_default() / 1024.0)
}
