//! Byte streams of both sides: sockets with or without TLS, read and write buffers, coarse timers. Knows no HTTP.

pub mod buffer;
pub mod stream;
pub mod timer;

pub use buffer::{Input, Output};
pub use stream::Stream;
pub use timer::Deadline;
