//! Worker threads (traffic) and the control thread: the only place a tokio runtime is built.
//!
//! Each worker is one thread with its own runtime and its own sockets, so that a request never changes threads.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::PanicHookInfo;
use std::thread::{self, JoinHandle};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// How the workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many; at least one.
    pub workers: usize,
    /// After how many task polls a worker looks at its sockets again. Lower is fairer, higher is cheaper.
    pub event_interval: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: thread::available_parallelism().map_or(1, usize::from),
            event_interval: 61,
        }
    }
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<usize>,
}

impl Workers {
    /// Starts `worker-0`, `worker-1`, ...; each runs `serve(index)` and whatever that spawns locally, and ends with it.
    pub fn start<F, W>(settings: Settings, serve: F) -> io::Result<Self>
    where
        F: Fn(usize) -> W + Clone + Send + 'static,
        W: Future<Output = ()> + 'static,
    {
        let count = settings.workers.max(1);
        let (sender, ended) = mpsc::channel(count);
        let threads = (0..count).map(|index| {
            let (serve, sender) = (serve.clone(), sender.clone());
            let runtime = runtime(settings.event_interval)?;
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let _report = Report { index, sender };
                    LocalSet::new().block_on(&runtime, async { serve(index).await });
                })
        });
        Ok(Self {
            threads: threads.collect::<Result<_, _>>()?,
            ended,
        })
    }

    /// Waits until a worker ends and returns its index; none when all have. While the process is not draining, that is a failure.
    pub async fn ended(&mut self) -> Option<usize> {
        self.ended.recv().await
    }

    /// How many were started.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether none was started; never so.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Waits for all of them, blocking this thread; the panics of those that did not end well.
    pub fn join(self) -> Vec<Panic> {
        let join = |(index, thread): (usize, JoinHandle<()>)| {
            let payload = thread.join().err()?;
            Some(Panic {
                worker: index,
                message: panic_text(&*payload).to_owned(),
            })
        };
        self.threads
            .into_iter()
            .enumerate()
            .filter_map(join)
            .collect()
    }
}

/// A worker that panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("worker-{worker} panicked: {message}")]
pub struct Panic {
    pub worker: usize,
    pub message: String,
}

/// Says that its worker has ended, however it ended.
struct Report {
    index: usize,
    sender: mpsc::Sender<usize>,
}

impl Drop for Report {
    fn drop(&mut self) {
        // There is room for every worker, and nobody to tell when the other side is gone.
        self.sender.try_send(self.index).ok();
    }
}

/// Runs the control side on the calling thread, with whatever it spawns locally.
pub fn control<C: Future>(future: C) -> io::Result<C::Output> {
    let runtime = runtime(Settings::default().event_interval)?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

fn runtime(event_interval: u32) -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(event_interval.max(1))
        .build()
}

/// Raises the limit of open files as far as the system lets us, and returns it; every connection takes one or two.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Writes every panic to the log, with its place, before whatever happens to the thread or the process.
pub fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if tracing::enabled!(tracing::Level::ERROR) {
            log_panic(info);
        } else {
            before(info);
        }
    }));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let place = info.location().map(ToString::to_string);
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        place = place.as_deref().unwrap_or("unknown"),
        message = panic_text(info.payload()),
        "panic: this is a bug in Portway, please report it"
    );
}

/// The message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use std::sync::{Arc, Mutex};

    fn settings(workers: usize) -> Settings {
        Settings {
            workers,
            ..Settings::default()
        }
    }

    #[test]
    fn workers_have_names_and_local_tasks() {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let record = Arc::clone(&seen);
        let workers = Workers::start(settings(3), move |index| {
            let record = Arc::clone(&record);
            async move {
                let index = Rc::new(index);
                let local = tokio::task::spawn_local(async move { *index });
                let name = thread::current().name().unwrap().to_owned();
                let line = (local.await.unwrap(), name);
                record.lock().unwrap().insert(line);
            }
        });
        assert_eq!(workers.unwrap().join(), []);
        let seen: Vec<_> = seen.lock().unwrap().iter().cloned().collect();
        let expected = [0, 1, 2].map(|index| (index, format!("worker-{index}")));
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_panic_is_reported_and_the_others_go_on() {
        let start = |index: usize| async move {
            assert!(index != 1, "worker {index} fails");
        };
        let mut workers = Workers::start(settings(3), start).unwrap();
        let mut ended = control(async move {
            let mut ended = Vec::new();
            while ended.len() < 3 {
                ended.extend(workers.ended().await);
            }
            (ended, workers.join())
        })
        .unwrap();
        ended.0.sort_unstable();
        assert_eq!(ended.0, [0, 1, 2]);
        assert_eq!(ended.1[0].to_string(), "worker-1 panicked: worker 1 fails");
    }

    #[test]
    fn there_is_at_least_one_worker() {
        assert_eq!(Workers::start(settings(0), |_| async {}).unwrap().len(), 1);
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        let raised = raise_open_files().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(limit.current.unwrap_or(u64::MAX), raised);
    }
}
