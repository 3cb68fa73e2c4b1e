//! Bytes both ways between a client and a server that have switched to another protocol.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::wire::{Input, Output, Stream};

/// One end of a tunnel.
pub(super) trait Side {
    /// The next bytes; none at the end.
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>;
    /// Takes `data` (leaving it empty) and sends it.
    fn poll_write(&self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Nothing more will be written.
    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Passes bytes until both sides are done or one fails; the counts are from the client and from the server.
pub(super) async fn join(client: &impl Side, server: Stream, early: Bytes) -> (u64, u64) {
    let server = Plain(RefCell::new((server, Input::default(), Output::default())));
    let mut up = Direction {
        data: early,
        count: 0,
        state: State::Open,
    };
    let mut down = Direction::default();
    poll_fn(|cx| {
        let first = up.poll(client, &server, cx);
        let second = down.poll(&server, client, cx);
        match (first, second) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(_), Poll::Ready(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    (up.count, down.count)
}

#[derive(Default)]
struct Direction {
    data: Bytes,
    count: u64,
    state: State,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    Closing,
    Closed,
}

impl Direction {
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
                    self.count += self.data.len() as u64;
                    ready!(to.poll_write(&mut self.data, cx))?;
                    self.data = ready!(from.poll_read(cx))?;
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
