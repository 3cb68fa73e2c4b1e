//! A stream that became a tunnel (RFC 8441).

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::header;

use super::Shared;
use crate::{entrypoint::tunnel, exchange::Response, upstream::Tunnel};

/// RFC 8441: the tunnel is the stream; its success is a 200.
pub(super) async fn switch(
    shared: &Shared,
    response: Response,
    server: Tunnel,
    (client, respond): (RecvStream, &RefCell<SendResponse<Bytes>>),
) -> (u64, u64) {
    let mut head = http::Response::new(());
    *head.headers_mut() = response.headers().clone();
    head.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    let Ok(stream) = respond.borrow_mut().send_response(head, false) else {
        return (0, 0);
    };
    let side = Streams {
        input: RefCell::new(client),
        output: RefCell::new(stream),
    };
    let patience = shared.entry.timeouts.half_closed;
    tunnel::join(&side, server, Bytes::new(), patience).await
}

/// The client's side of a tunnel.
struct Streams {
    input: RefCell<RecvStream>,
    output: RefCell<SendStream<Bytes>>,
}

impl tunnel::Side for Streams {
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut input = self.input.borrow_mut();
        match ready!(input.poll_data(cx)) {
            None => Poll::Ready(Ok(Bytes::new())),
            Some(Ok(data)) => {
                // A stream that is closed already needs no window.
                drop(input.flow_control().release_capacity(data.len()));
                Poll::Ready(Ok(data))
            }
            Some(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        }
    }

    fn poll_write(&self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.output.borrow_mut();
        while !data.is_empty() {
            output.reserve_capacity(data.len());
            let room = match output.capacity() {
                0 => match ready!(output.poll_capacity(cx)) {
                    Some(room) => room.map_err(io::Error::other)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => room,
            };
            let piece = data.split_to(room.min(data.len()));
            output.send_data(piece, false).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.output
                .borrow_mut()
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other),
        )
    }
}
