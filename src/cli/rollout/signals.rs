//! Ctrl-C, SIGTERM and the end of the terminal, counted: the first one asks for the old state back, any further one does not wait for
//! what is just being done.

use std::{fs, io, thread};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::runtime;

/// How many signals came.
#[derive(Debug, Clone)]
pub(super) struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Counts those of this process from now on.
    pub(super) fn watch() -> io::Result<Self> {
        let (sender, counted) = watch::channel(0);
        // Nobody would see a count before the handlers are in place.
        let (ready, placed) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let watching = runtime::control(async {
                    let handlers = Handlers::place();
                    match handlers {
                        Ok(handlers) => {
                            ready.send(Ok(())).ok();
                            handlers.count(&sender).await;
                        }
                        Err(error) => drop(ready.send(Err(error))),
                    }
                });
                if let Err(error) = watching {
                    ready.send(Err(error)).ok();
                }
            })?;
        placed.recv().map_err(io::Error::other)??;
        Ok(Self(counted))
    }

    #[cfg(test)]
    pub(super) fn of(counted: watch::Receiver<u32>) -> Self {
        Self(counted)
    }

    pub(super) fn count(&self) -> u32 {
        *self.0.borrow()
    }

    /// Whether anybody wants it to end.
    pub(super) fn came(&self) -> bool {
        self.count() > 0
    }

    /// Returns the count when it is above `seen`.
    pub(super) async fn above(&self, seen: u32) -> u32 {
        let mut counted = self.0.clone();
        let count = counted.wait_for(|count| *count > seen).await;
        match count {
            Ok(count) => *count,
            // Nobody counts any more.
            Err(_) => std::future::pending().await,
        }
    }
}

struct Handlers {
    interrupt: Signal,
    terminate: Signal,
    /// None where it is to be ignored.
    hangup: Option<Signal>,
}

impl Handlers {
    fn place() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: match hangup_is_ignored() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    async fn count(self, sender: &watch::Sender<u32>) {
        let Self {
            mut interrupt,
            mut terminate,
            mut hangup,
        } = self;
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hung_up => {}
            }
            sender.send_modify(|count| *count += 1);
        }
    }
}

/// Whether we were started with SIGHUP ignored, as by `nohup`: it is to stay so.
fn hangup_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

fn ignores_hangup(status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_that_was_ignored_stays_so() {
        for (status, expected) in [
            (
                "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n",
                true,
            ),
            (
                "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n",
                false,
            ),
            ("SigIgn:\tnonsense\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), expected, "{status}");
        }
    }
}
