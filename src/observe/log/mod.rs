//! The program's own log: `tracing` events as lines on standard output or in a file.
//!
//! A line looks as Traefik's, so that what reads one reads the other. Field names are written in camel case, and the five names of
//! objects get the suffix Traefik gives them (`router` becomes `routerName`). Nothing that comes from the network can start a line of
//! its own or move a terminal's cursor.

mod line;
mod rotation;

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tracing::{
    Event, Level, Subscriber, level_filters::LevelFilter, subscriber::SetGlobalDefaultError,
};
use tracing_subscriber::{
    filter::Targets,
    layer::{Context, Layer, SubscriberExt},
    registry::Registry,
};

use self::line::{Look, Style};
pub(super) use self::rotation::Rotation;
use super::{
    Counter, LogQueue, Metrics, WatchedLog,
    sink::{Output, Render, Sink},
};
use crate::config::install::{self, LogLevel};

/// The running log. Lines still queued are written when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Log(Arc<Sink<Vec<u8>>>);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("{path}: {error}")]
    Open { path: String, error: io::Error },
    /// Somebody else has set up a log in this process.
    #[error("a log is running already")]
    Running(#[from] SetGlobalDefaultError),
}

impl Log {
    /// Starts the log of this process, as configured; with `queue` a collector gets its lines too.
    pub fn start(options: &install::Log, queue: Option<LogQueue>) -> Result<Self, LogError> {
        let log = Self::open(options)?;
        tracing::subscriber::set_global_default(log.subscriber(options, queue))?;
        Ok(log)
    }

    /// Waits until every line is written, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        self.0.flush(limit);
    }

    /// Lets the metrics tell how many lines were given up.
    pub fn watch(&self, metrics: &Metrics) {
        metrics.watch_log(WatchedLog::Program, self.dropped());
    }

    fn dropped(&self) -> &Arc<Counter> {
        self.0.dropped()
    }

    fn open(options: &install::Log) -> Result<Self, LogError> {
        let lost = LostLines(look(options));
        let output =
            Output::open(&options.file_path).map(|output| output.rotated(Rotation::new(options)));
        let sink = output.and_then(|output| Sink::start("log", output, QUEUE, lost));
        let sink = sink.map_err(|error| LogError::Open {
            path: options.file_path.clone(),
            error,
        })?;
        Ok(Self(Arc::new(sink)))
    }

    fn subscriber(
        &self,
        options: &install::Log,
        queue: Option<LogQueue>,
    ) -> impl Subscriber + Send + Sync + use<> {
        let level = filter(options.level);
        let layer = Lines {
            look: look(options),
            sink: Arc::clone(&self.0),
            queue,
        };
        // Libraries tell much that only their authors understand.
        let libraries = level.min(LevelFilter::WARN);
        let targets = Targets::new()
            .with_target("portway", level)
            .with_target(FINDINGS, level.max(LevelFilter::WARN))
            .with_default(libraries);
        Registry::default().with(layer.with_filter(targets))
    }
}

/// Writes events down.
struct Lines {
    look: Look,
    sink: Arc<Sink<Vec<u8>>>,
    /// To a collector.
    queue: Option<LogQueue>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = SystemTime::now();
        self.sink.push(self.look.event(event, now));
        if let Some(queue) = &self.queue {
            queue.push(Box::new(line::exported(event, now)));
        }
    }
}

/// Lines come to the writer as they will stand in the file.
struct LostLines(Look);

impl Render for LostLines {
    type Item = Vec<u8>;

    fn render(&mut self, line: &Vec<u8>, out: &mut Vec<u8>) {
        out.extend(line);
    }

    fn lost(&mut self, lines: u64, out: &mut Vec<u8>) {
        let message = format!(
            "{lines} log lines were given up because the log could not be written fast enough"
        );
        out.extend(self.0.message(Level::WARN, &message, SystemTime::now()));
    }
}

fn look(options: &install::Log) -> Look {
    let terminal = options.file_path.is_empty() && io::stdout().is_terminal();
    Look {
        style: match options.format {
            install::LogFormat::Json => Style::Json,
            install::LogFormat::Common if terminal && !options.no_color => Style::Coloured,
            install::LogFormat::Common => Style::Plain,
        },
        caller: options.level <= LogLevel::Debug,
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        // There is nothing above an error here; who asks for less than errors gets silence.
        LogLevel::Fatal | LogLevel::Panic | LogLevel::Disabled => LevelFilter::OFF,
    }
}

/// The target of findings about the configuration. Warnings are written whatever the level: what does not do what it says must be seen
/// once, and the default level would hide it.
pub const FINDINGS: &str = "portway::findings";
/// Lines that may wait for the writer.
const QUEUE: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::Log;
    use crate::config::install::{self, LogFormat, LogLevel};

    /// What the log holds after `events` under the given options.
    fn written(level: LogLevel, format: LogFormat, events: impl FnOnce()) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/portway.log");
        let options = install::Log {
            level,
            format,
            file_path: path.to_str().unwrap().to_owned(),
            ..install::Log::default()
        };
        let log = Log::open(&options).unwrap();
        tracing::subscriber::with_default(log.subscriber(&options, None), events);
        log.flush(Duration::from_secs(5));
        fs::read_to_string(path).unwrap()
    }

    type Messages = &'static [&'static str];

    #[test]
    fn levels_are_honoured_and_libraries_kept_quiet() {
        let events = || {
            tracing::debug!("debug");
            tracing::info!("info");
            tracing::error!("error");
            tracing::info!(target: "h2::codec", "library");
            tracing::warn!(target: "h2::codec", "library trouble");
        };
        let cases: [(LogLevel, Messages); 4] = [
            (
                LogLevel::Debug,
                &["debug", "info", "error", "library trouble"],
            ),
            (LogLevel::Info, &["info", "error", "library trouble"]),
            (LogLevel::Error, &["error"]),
            (LogLevel::Fatal, &[]),
        ];
        for (level, expected) in cases {
            let text = written(level, LogFormat::Json, events);
            let lines = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let messages: Vec<String> = lines
                .map(|line| line["message"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(messages, expected, "{level:?}");
        }
    }

    #[test]
    fn one_event_is_one_line() {
        let text = written(LogLevel::Info, LogFormat::Common, || {
            tracing::error!(host = "a\r\nb", "from\nthe network \x1b[2J");
        });
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.ends_with(" ERR from\\nthe network \\x1b[2J host=\"a\\r\\nb\"\n"),
            "{text}"
        );
    }
}
