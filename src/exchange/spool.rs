//! Keeps a whole body, however large it is: in memory as far as that is allowed, else in a file without a name.

use std::{
    env,
    fs::{self, File, OpenOptions},
    future::Future,
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use rustix::fs::OFlags;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Body, Fault, FaultKind, gather::Whole};

/// How much of a body is kept, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Larger bodies are not kept.
    pub largest: Option<u64>,
    /// Larger bodies are kept in a file.
    pub memory: usize,
}

/// A body that was read to its end, and can be sent as often as is wanted.
#[derive(Debug, Clone)]
pub enum Spool {
    Memory(Whole),
    File(Filed),
}

/// A body in a file, which is gone with the last copy of this.
#[derive(Debug, Clone)]
pub struct Filed {
    file: Arc<File>,
    length: u64,
    trailers: Option<HeaderMap>,
}

/// Why a body is not kept.
#[derive(Debug)]
pub enum Unspooled {
    TooLarge,
    Failed(Fault),
    /// The file could not be made, or not be written.
    Disk(io::Error),
}

/// Makes the file for one body.
pub type Scratch = fn() -> io::Result<File>;

/// What is collected before it is written, and what is read at once.
const BLOCK: usize = 256 * 1024;

impl Body {
    /// Reads the body to its end. Never blocks: files are written on the blocking pool, and the body is not read meanwhile.
    pub async fn spool(mut self, limits: Limits, scratch: Scratch) -> Result<Spool, Unspooled> {
        let too_large = |length: u64| limits.largest.is_some_and(|largest| length > largest);
        if self.length().is_some_and(too_large) {
            return Err(Unspooled::TooLarge);
        }
        let mut keeping = Keeping::new(limits.memory, scratch);
        let mut trailers = None;
        while let Some(frame) = self.frame().await {
            match frame.map(Frame::into_data) {
                Err(fault) => return Err(Unspooled::Failed(fault)),
                Ok(Ok(data)) => {
                    if too_large(keeping.length + data.len() as u64) {
                        return Err(Unspooled::TooLarge);
                    }
                    keeping.add(data).await.map_err(Unspooled::Disk)?;
                }
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            }
        }
        keeping.end(trailers).await.map_err(Unspooled::Disk)
    }
}

impl Spool {
    /// A body to send.
    pub fn body(&self) -> Body {
        match self {
            Self::Memory(whole) => whole.body(),
            Self::File(filed) => Body::stream(Reading {
                filed: filed.clone(),
                at: 0,
                block: None,
            }),
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Memory(whole) if whole.bytes.is_empty())
    }
}

/// A file without a name in the folder for temporary files (`TMPDIR`, else `/tmp`), that only this process can read. Where the file
/// system cannot make one without a name, the name is taken away at once.
pub fn scratch() -> io::Result<File> {
    let folder = env::temp_dir();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let flags = i32::try_from(OFlags::TMPFILE.bits()).unwrap_or_default();
    let unnamed = options.clone().custom_flags(flags).open(&folder);
    unnamed.or_else(|_| {
        let name = format!("portway-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = folder.join(name);
        let file = options.create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    })
}

/// A body on its way into memory or a file.
struct Keeping {
    scratch: Scratch,
    memory: usize,
    /// What is not in the file, or not yet.
    waiting: BytesMut,
    file: Option<File>,
    length: u64,
}

impl Keeping {
    fn new(memory: usize, scratch: Scratch) -> Self {
        Self {
            scratch,
            memory,
            waiting: BytesMut::new(),
            file: None,
            length: 0,
        }
    }

    async fn add(&mut self, data: Bytes) -> io::Result<()> {
        self.length += data.len() as u64;
        self.waiting.extend_from_slice(&data);
        let room = match &self.file {
            Some(_) => BLOCK,
            None => self.memory,
        };
        if self.waiting.len() > room {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what waits. If nobody waits for that any more, the file is gone when it is done.
    async fn flush(&mut self) -> io::Result<()> {
        let (file, scratch) = (self.file.take(), self.scratch);
        let bytes = std::mem::take(&mut self.waiting);
        let written = spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => scratch()?,
            };
            file.write_all(&bytes)?;
            io::Result::Ok(file)
        });
        self.file = Some(written.await.map_err(io::Error::other)??);
        Ok(())
    }

    async fn end(mut self, trailers: Option<HeaderMap>) -> io::Result<Spool> {
        if self.file.is_some() && !self.waiting.is_empty() {
            self.flush().await?;
        }
        Ok(match self.file {
            None => Spool::Memory(Whole::new(self.waiting.freeze(), trailers)),
            Some(file) => Spool::File(Filed {
                file: Arc::new(file),
                length: self.length,
                trailers,
            }),
        })
    }
}

/// A body that is read from a file, block by block on the blocking pool.
struct Reading {
    filed: Filed,
    at: u64,
    /// The block that is being read.
    block: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Reading {
    fn left(&self) -> u64 {
        self.filed.length - self.at
    }

    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let (left, at) = (self.left(), self.at);
        let block = self.block.get_or_insert_with(|| {
            let file = Arc::clone(&self.filed.file);
            let size = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
            spawn_blocking(move || {
                let mut bytes = vec![0; size];
                file.read_exact_at(&mut bytes, at)?;
                Ok(Bytes::from(bytes))
            })
        });
        let read = ready!(Pin::new(block).poll(cx));
        self.block = None;
        Poll::Ready(read.map_err(io::Error::other)?)
    }
}

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.left() == 0 {
            let trailers = self.filed.trailers.take();
            return Poll::Ready(trailers.map(Frame::trailers).map(Ok));
        }
        Poll::Ready(Some(match ready!(self.poll_block(cx)) {
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                tracing::error!(%error, "a body that was kept in a file cannot be read");
                Err(Fault::ours(FaultKind::Internal))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0 && self.filed.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.filed.trailers {
            // A length would leave no place for trailers.
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.left()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use http_body_util::StreamBody;

    use super::*;

    fn limits(largest: u64, memory: usize) -> Limits {
        Limits {
            largest: Some(largest).filter(|it| *it > 0),
            memory,
        }
    }

    fn streamed(pieces: &[&'static [u8]], trailers: Option<HeaderMap>) -> Body {
        let data = |piece: &&'static [u8]| Ok(Frame::data(Bytes::from_static(piece)));
        let mut frames: Vec<Result<Frame<Bytes>, Fault>> = pieces.iter().map(data).collect();
        frames.extend(trailers.map(Frame::trailers).map(Ok));
        Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn read(body: Body) -> (Bytes, Option<HeaderMap>) {
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        (collected.to_bytes(), trailers)
    }

    #[tokio::test]
    async fn a_body_is_kept_in_memory_or_a_file_and_sent_again_and_again() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        for memory in [1, 4, 5, 100] {
            for trailers in [None, Some(trailers.clone())] {
                let body = streamed(&[b"ab", b"", b"cde"], trailers.clone());
                let spool = body.spool(limits(5, memory), scratch).await.unwrap();
                assert_eq!(matches!(spool, Spool::File(_)), memory < 5);
                assert!(!spool.is_empty());
                for _ in 0..2 {
                    let body = spool.body();
                    assert_eq!(body.length(), trailers.is_none().then_some(5));
                    assert_eq!(read(body).await, ("abcde".into(), trailers.clone()));
                }
            }
        }
        for body in [Body::Empty, streamed(&[], None)] {
            let spool = body.spool(limits(0, 1), scratch).await.unwrap();
            assert!(spool.is_empty() && spool.body().is_empty());
        }
    }

    #[tokio::test]
    async fn large_bodies_are_written_and_read_in_blocks() {
        static DATA: [u8; 100_000] = [7; 100_000];
        let body = streamed(&[&DATA[..]; 30], None);
        let spool = body.spool(limits(0, 10), scratch).await.unwrap();
        let (bytes, _) = read(spool.body()).await;
        assert!(bytes.len() == 3_000_000 && bytes.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn larger_bodies_are_not_kept() {
        for body in [Body::from("abcdef"), streamed(&[b"abc", b"def"], None)] {
            let spooled = body.spool(limits(5, 2), scratch).await;
            assert!(matches!(spooled, Err(Unspooled::TooLarge)), "{spooled:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told() {
        let full = || OpenOptions::new().write(true).open("/dev/full");
        let spooled = Body::from("abc").spool(limits(0, 1), full).await;
        let Err(Unspooled::Disk(error)) = spooled else {
            panic!("{spooled:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn files_have_no_name_and_are_for_nobody_else() {
        let about = scratch().unwrap().metadata().unwrap();
        assert_eq!((about.nlink(), about.mode() & 0o777), (0, 0o600));
    }
}
