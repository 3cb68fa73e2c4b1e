//! HTTP/2 with a client: every stream is a task of the worker.

mod answer;
mod body;
mod head;
mod streams;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use bytestring::ByteString;
use h2::{
    RecvStream,
    ext::Protocol,
    server::{self, SendResponse},
};
use http::{Request, StatusCode};

use self::{
    answer::{answer, send},
    body::{Patience, body},
    head::{content_length, head},
    streams::switch,
};
use super::{EntryPoint, LAST_CALL, connection::within};
use crate::{
    exchange::{Body, Connection, Exchange, fault},
    proxy::{Journey, Sent, Worker},
    wire::{Deadline, Stream},
};

/// Flow-control window of a request body.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Flow-control window of all request bodies of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Response bytes buffered per stream.
const SEND_BUFFER: usize = 128 * 1024;

/// What the streams of a connection share.
struct Shared {
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    open: Cell<usize>,
}

/// Serves the streams of one connection until it ends.
pub(super) async fn serve(
    stream: Stream,
    entry: Rc<EntryPoint>,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
) {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(entry.max_streams)
        .max_header_list_size(u32::try_from(entry.limits.max_head).unwrap_or(u32::MAX))
        .header_table_size(entry.header_table)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    let deadline = Deadline::new();
    deadline.set(entry.timeouts.header);
    let mut handshake = pin!(builder.handshake::<_, Bytes>(stream));
    let opened = within(&deadline, (&worker, entry.index), handshake.as_mut()).await;
    let Some(Ok(mut h2)) = opened else { return };
    let shared = Rc::new(Shared {
        entry,
        worker,
        connection,
        open: Cell::new(0),
    });
    accept(&mut h2, &shared, &deadline).await;
}

/// Counts a stream down when it is over, however it ends.
struct OpenStream(Rc<Shared>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

async fn accept(
    h2: &mut server::Connection<Stream, Bytes>,
    shared: &Rc<Shared>,
    deadline: &Deadline,
) {
    let (opened, mut requests, mut ending) = (Instant::now(), 0u64, false);
    let timeouts = shared.entry.timeouts;
    deadline.set(timeouts.idle);
    let (mut idle, mut hurried) = (true, false);
    loop {
        let next = poll_fn(|cx| {
            let busy = shared.open.get() > 0;
            if busy == idle {
                idle = !busy;
                hurried = false;
                deadline.set(if idle { timeouts.idle } else { None });
            }
            let draining = shared.worker.is_draining(shared.entry.index);
            if draining && idle && !std::mem::replace(&mut hurried, true) {
                deadline.set(Some(LAST_CALL));
            }
            if !ending
                && (draining
                    || timeouts
                        .connection
                        .is_some_and(|age| opened.elapsed() >= age))
            {
                ending = true;
                h2.graceful_shutdown();
            }
            match h2.poll_accept(cx) {
                Poll::Ready(next) => Poll::Ready(next),
                Poll::Pending => {
                    if deadline.poll_expired(cx).is_ready() && !busy {
                        // A peer that does not answer our farewell is not waited for.
                        if ending {
                            return Poll::Ready(None);
                        }
                        ending = true;
                        deadline.set(timeouts.header);
                        h2.graceful_shutdown();
                        return h2.poll_accept(cx);
                    }
                    Poll::Pending
                }
            }
        });
        let Some(Ok((request, respond))) = next.await else {
            return;
        };
        requests += 1;
        if shared.entry.max_requests > 0 && requests >= shared.entry.max_requests && !ending {
            ending = true;
            h2.graceful_shutdown();
        }
        shared.open.set(shared.open.get() + 1);
        let shared = Rc::clone(shared);
        tokio::task::spawn_local(async move {
            let _open = OpenStream(Rc::clone(&shared));
            serve_stream(&shared, request, respond).await;
        });
    }
}

async fn serve_stream(
    shared: &Rc<Shared>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let respond = Rc::new(RefCell::new(respond));
    let (parts, stream) = request.into_parts();
    let (method, received) = (parts.method.clone(), Rc::new(Cell::new(0)));
    let answering = Rc::new(Cell::new(false));
    let protocol = parts
        .extensions
        .get::<Protocol>()
        .map(|protocol| ByteString::from(protocol.as_str()));
    let head = match head(parts, protocol.as_ref(), shared) {
        Ok(head) => head,
        Err(status) => return refuse(&respond, status),
    };
    let (body, tunnel_in) = if protocol.is_some() {
        (Body::Empty, Some(stream))
    } else {
        let length = content_length(&head.headers);
        let patience = Patience::new(shared, &head.headers, &answering);
        (body(stream, length, &received, patience), None)
    };
    let exchange = Exchange::new(head, body, Rc::clone(&shared.connection));
    let mut journey = Journey::new(&shared.worker, shared.entry.index, exchange);
    let response = answer(&mut journey, &respond).await;
    answering.set(true);
    let (status, outcome) = match (response, journey.tunnel.take(), tunnel_in) {
        (None, ..) => (fault::CLIENT_CLOSED_REQUEST, Err((0, 0))),
        (Some(response), Some(server), Some(client)) => (
            StatusCode::OK,
            Ok(Box::pin(switch(shared, response, server, (client, &respond))).await),
        ),
        (Some(response), ..) => {
            let status = response.status();
            let sent = send(shared, response, &method, &respond).await;
            (
                status,
                sent.map(|sent| (received.get(), sent))
                    .map_err(|sent| (received.get(), sent)),
            )
        }
    };
    let complete = outcome.is_ok();
    let (Ok((received, bytes)) | Err((received, bytes))) = outcome;
    journey.finish(Sent {
        status,
        received,
        bytes,
        complete,
    });
}

fn refuse(respond: &RefCell<SendResponse<Bytes>>, status: StatusCode) {
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    if respond.borrow_mut().send_response(response, true).is_err() {
        tracing::debug!("stream was reset before its refusal");
    }
}
