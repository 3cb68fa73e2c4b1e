//! Bytes both ways between a client and a server that have switched to another protocol.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::{
    upstream::Tunnel,
    wire::{Deadline, Input, Output, Stream},
};

/// One end of a tunnel.
pub(super) trait Side {
    /// The next bytes; none at the end.
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>;
    /// Takes `data` (leaving it empty) and sends it.
    fn poll_write(&self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Nothing more will be written.
    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Passes bytes until both sides are done or one fails; the counts are of what was passed on from the client and from the server.
///
/// Once one side has closed, the tunnel ends when nothing was passed on for as long as `patience`.
pub(super) async fn join(
    client: &impl Side,
    server: Tunnel,
    early: Bytes,
    patience: Option<Duration>,
) -> (u64, u64) {
    let mut up = Direction::new(early);
    let mut down = Direction::new(server.early);
    let server = Plain(RefCell::new((
        server.stream,
        Input::default(),
        Output::default(),
    )));
    let deadline = Deadline::new();
    let mut passed = None;
    poll_fn(|cx| {
        let first = up.poll(client, &server, cx)?;
        let second = down.poll(&server, client, cx)?;
        if first.is_ready() && second.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if up.state == State::Open && down.state == State::Open {
            return Poll::Pending;
        }
        let now = up.count + down.count;
        if passed != Some(now) {
            passed = Some(now);
            deadline.set(patience);
        }
        deadline.poll_expired(cx).map(io::Result::Ok)
    })
    .await
    // Whichever way it ended, it has.
    .ok();
    (up.count, down.count)
}

struct Direction {
    /// What is being written.
    data: Bytes,
    /// How much of it was read.
    length: u64,
    count: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Closing,
    Closed,
}

impl Direction {
    fn new(data: Bytes) -> Self {
        Self {
            length: data.len() as u64,
            data,
            count: 0,
            state: State::Open,
        }
    }

    fn poll(
        &mut self,
        from: &impl Side,
        to: &impl Side,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Closing => {
                    ready!(to.poll_close(cx))?;
                    self.state = State::Closed;
                }
                State::Open => {
                    ready!(to.poll_write(&mut self.data, cx))?;
                    self.count += std::mem::take(&mut self.length);
                    self.data = ready!(from.poll_read(cx))?;
                    self.length = self.data.len() as u64;
                    if self.data.is_empty() {
                        self.state = State::Closing;
                    }
                }
            }
        }
    }
}

/// The server's side.
struct Plain(RefCell<(Stream, Input, Output)>);

impl Side for Plain {
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let (stream, input, _) = &mut *self.0.borrow_mut();
        ready!(input.poll_fill(stream, cx))?;
        Poll::Ready(Ok(input.bytes.split().freeze()))
    }

    fn poll_write(&self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (stream, _, output) = &mut *self.0.borrow_mut();
        if !data.is_empty() {
            output.push(std::mem::take(data));
        }
        output.poll_flush(stream, cx)
    }

    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().0).poll_shutdown(cx)
    }
}
