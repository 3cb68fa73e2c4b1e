//! Whether the machine had time for a test.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Runs something until it came out well, or badly on a machine that had time for it; three times at most.
///
/// Where programs wait for a processor most of the time, replicas take longer to start than requests are held, and what fails says
/// nothing about the proxy. On any other machine the first run counts.
pub async fn steady<T, F: Future<Output = T>>(
    run: impl Fn() -> F,
    went_well: impl Fn(&T) -> bool,
) -> T {
    for _ in 1..TRIES {
        let pressure = Pressure::start();
        let outcome = run().await;
        let waited = pressure.waited();
        if went_well(&outcome) || waited < STARVED {
            return outcome;
        }
        eprintln!(
            "something failed, but programs waited for a processor {:.0} % of the time: once more",
            waited * 100.0
        );
        tokio::time::sleep(REST).await;
    }
    run().await
}

const TRIES: u32 = 3;
/// The share of time in which some program waited for a processor.
const STARVED: f64 = 0.6;
const REST: Duration = Duration::from_secs(5);

struct Pressure {
    began: Instant,
    total: Option<Duration>,
}

impl Pressure {
    fn start() -> Self {
        Self {
            began: Instant::now(),
            total: total(),
        }
    }

    /// The share of time in which some program waited; none is taken for none where the kernel does not tell.
    fn waited(&self) -> f64 {
        match (self.total, total()) {
            (Some(before), Some(now)) => {
                now.saturating_sub(before).as_secs_f64() / self.began.elapsed().as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

/// The `some` line of the kernel's pressure stall information.
fn total() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let (_, total) = text.lines().next()?.rsplit_once("total=")?;
    Some(Duration::from_micros(total.parse().ok()?))
}
