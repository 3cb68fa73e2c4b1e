//! Byte streams of both sides: sockets with or without TLS, read and write buffers, coarse timers. Knows no HTTP.

pub mod buffer;
pub mod stream;
pub mod timer;

pub use buffer::{Input, Output};
pub use stream::Stream;
pub use timer::Deadline;

/// Lets the other tasks of this worker that are ready run first.
///
/// Used before writing: when many connections are ready at once, all of them read before any of them writes. The peer is then woken
/// once for the burst of writes behind each other instead of going back to sleep between two of them, and waking it is the larger
/// part of what a write costs.
pub async fn after_the_others() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
