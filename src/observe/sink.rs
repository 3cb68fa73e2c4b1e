//! A file or standard output behind a bounded queue and a thread of its own, so that a slow disk never holds up a request.
//!
//! The thread gathers for a moment before it writes: producers then wake it at most once per [`GATHER`], and many lines share one
//! system call. A line that finds the queue full is given up and counted.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use super::{counter::Counter, log::Rotation};

/// The producers' end of the queue. Lines still queued when it is dropped are written before `drop` returns.
#[derive(Debug)]
pub(super) struct Sink<T> {
    queue: SyncSender<Message<T>>,
    reopen: Arc<AtomicBool>,
    dropped: Arc<Counter>,
}

/// What turns queued items into lines.
pub(super) trait Render: Send + 'static {
    type Item: Send + 'static;

    /// Appends `item` as a line, newline included.
    fn render(&mut self, item: &Self::Item, out: &mut Vec<u8>);

    /// Says that lines were given up; appends to `out` if that is the place for it.
    fn lost(&mut self, lines: u64, out: &mut Vec<u8>);
}

impl<T: Send + 'static> Sink<T> {
    /// Starts the writer thread, which gets `name`.
    pub(super) fn start(
        name: &str,
        output: Output,
        capacity: usize,
        render: impl Render<Item = T>,
    ) -> io::Result<Self> {
        let (queue, receiver) = sync_channel(capacity);
        let reopen = Arc::new(AtomicBool::new(false));
        let dropped = Arc::new(Counter::default());
        let writer = Writer {
            output,
            render,
            buffer: Vec::new(),
            lines: 0,
            reopen: Arc::clone(&reopen),
            dropped: Arc::clone(&dropped),
            reported: 0,
            last_report: None,
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || writer.run(&receiver))?;
        Ok(Self {
            queue,
            reopen,
            dropped,
        })
    }

    /// Queues `item`, or gives it up.
    pub(super) fn push(&self, item: T) {
        if self.queue.try_send(Message::Line(item)).is_err() {
            self.dropped.increment();
        }
    }

    /// How many lines were given up.
    pub(super) fn dropped(&self) -> &Arc<Counter> {
        &self.dropped
    }

    /// Closes the file and opens it again by its name, for log rotation by others.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // If the queue is full the writer is awake anyway.
        drop(self.queue.try_send(Message::Wake));
    }

    /// Waits until everything queued so far is written, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        flush(&self.queue, limit);
    }
}

impl<T> Drop for Sink<T> {
    fn drop(&mut self) {
        // The thread is not joined: it may hang on a pipe that nobody reads, and the process must be able to end.
        flush(&self.queue, LAST_FLUSH);
    }
}

fn flush<T>(queue: &SyncSender<Message<T>>, limit: Duration) {
    let end = Instant::now() + limit;
    let (done, written) = sync_channel(1);
    let mut message = Message::Flush(done);
    while let Err(error) = queue.try_send(message) {
        let TrySendError::Full(refused) = error else {
            return;
        };
        if Instant::now() >= end {
            return;
        }
        message = refused;
        pause(Duration::from_millis(1));
    }
    // Too late or gone: there is nobody to tell.
    written
        .recv_timeout(end.saturating_duration_since(Instant::now()))
        .ok();
}

#[derive(Debug)]
enum Message<T> {
    Line(T),
    Flush(SyncSender<()>),
    Wake,
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Output {
    Stdout,
    File(LogFile),
    /// The lines go elsewhere.
    Nowhere,
}

/// A file with its name.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    rotation: Option<Rotation>,
}

impl Output {
    /// Standard output for an empty path, else the file, created with its directories.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        if path.is_empty() {
            return Ok(Self::Stdout);
        }
        LogFile::open(PathBuf::from(path)).map(Self::File)
    }

    /// The same, put aside when it has grown too large.
    pub(super) fn rotated(mut self, rotation: Rotation) -> Self {
        if let Self::File(file) = &mut self {
            file.rotation = Some(rotation);
        }
        self
    }

    /// Opens the file again. The old file stays in use if that fails.
    fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout | Self::Nowhere => Ok(()),
            Self::File(file) => file.reopen(),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::File(file) => file.write_all(bytes),
            Self::Nowhere => Ok(()),
        }
    }
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = open_file(&path)?;
        Ok(Self {
            size: file.metadata()?.len(),
            path,
            file,
            rotation: None,
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open_file(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if let Some(rotation) = self
            .rotation
            .filter(|rotation| size > rotation.max_size && self.size > 0)
        {
            // A file that cannot be put aside grows on; better than no log.
            let rotated = rotation.put_aside(&self.path).and_then(|()| self.reopen());
            if rotated.is_err() {
                self.size = 0;
            }
        }
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o664)
        .open(path)
}

struct Writer<R: Render> {
    output: Output,
    render: R,
    buffer: Vec<u8>,
    /// Lines in the buffer.
    lines: u64,
    reopen: Arc<AtomicBool>,
    dropped: Arc<Counter>,
    reported: u64,
    last_report: Option<Instant>,
}

impl<R: Render> Writer<R> {
    fn run(mut self, queue: &Receiver<Message<R::Item>>) {
        while let Ok(message) = queue.recv() {
            if matches!(message, Message::Line(_)) {
                pause(GATHER);
            }
            self.take(message);
            for message in queue.try_iter() {
                self.take(message);
            }
            self.report_lost();
            self.write();
        }
        self.report_lost();
        self.write();
    }

    fn take(&mut self, message: Message<R::Item>) {
        if self.reopen.swap(false, Relaxed) {
            self.write();
            if let Err(error) = self.output.reopen() {
                tracing::error!(%error, "log file could not be opened again, the old one stays in use");
            }
        }
        match message {
            Message::Line(item) => {
                self.render.render(&item, &mut self.buffer);
                self.lines += 1;
            }
            Message::Flush(done) => {
                self.report_lost();
                self.write();
                // Whoever asked may have given up waiting.
                done.try_send(()).ok();
            }
            Message::Wake => {}
        }
        if self.buffer.len() >= WRITE_SIZE {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        // A full disk must not stop the proxy; what could not be written is lost and the next lines try again.
        if self.output.write_all(&self.buffer).is_err() {
            self.dropped.add(self.lines);
        }
        self.lines = 0;
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE_SIZE);
    }

    fn report_lost(&mut self) {
        let lost = self.dropped.get();
        let due = self
            .last_report
            .is_none_or(|last| last.elapsed() >= REPORT_INTERVAL);
        if lost > self.reported && due {
            self.render.lost(lost - self.reported, &mut self.buffer);
            self.reported = lost;
            self.last_report = Some(Instant::now());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer thread and a process about to end have nothing else to do"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// How long the writer waits for more after the first line.
const GATHER: Duration = Duration::from_millis(10);
/// How many bytes are gathered at most before they are written.
const WRITE_SIZE: usize = 64 * 1024;
/// How long the end of the process waits for the last lines.
const LAST_FLUSH: Duration = Duration::from_secs(2);
/// How often lost lines are reported at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::mpsc::{Receiver, channel},
        time::Duration,
    };

    use super::{Output, Render, Sink};

    /// Renders numbers, each only when it is told to go on.
    struct Held(Receiver<()>);

    impl Render for Held {
        type Item = u32;

        fn render(&mut self, item: &u32, out: &mut Vec<u8>) {
            self.0.recv().ok();
            out.extend(format!("{item}\n").bytes());
        }

        fn lost(&mut self, lines: u64, out: &mut Vec<u8>) {
            out.extend(format!("lost {lines}\n").bytes());
        }
    }

    #[test]
    fn a_full_queue_loses_lines_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (go_on, held) = channel();
        let output = Output::open(path.to_str().unwrap()).unwrap();
        let sink = Sink::start("test", output, 4, Held(held)).unwrap();
        for number in 0..100 {
            sink.push(number);
        }
        // Four wait in the queue and at most one is in the writer's hands.
        let dropped = sink.dropped().get();
        assert!((95..=96).contains(&dropped), "{dropped}");
        drop(go_on);
        sink.flush(Duration::from_secs(5));
        drop(sink);
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len() as u64, 100 - dropped + 1);
        assert!(
            lines.contains(&format!("lost {dropped}").as_str()),
            "{text}"
        );
        assert_eq!(lines[0], "0");
    }

    #[test]
    fn a_disk_that_refuses_loses_lines_only() {
        let output = Output::open("/dev/full").unwrap();
        let (go_on, held) = channel();
        drop(go_on);
        let sink = Sink::start("test", output, 4, Held(held)).unwrap();
        sink.push(1);
        sink.flush(Duration::from_secs(5));
        assert_eq!(sink.dropped().get(), 1);
    }
}
